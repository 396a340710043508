"""AWS KMS, for the tests of all back ends (matrix.py)."""
import matrix

from dialects import aws

REGION = "eu-central-1"


class Backend(matrix.Backend):
    kms = "aws"
    seal, open = ("GenerateDataKey",), ("Decrypt",)
    wrap = ("Encrypt",)
    differs = {
        # once our time is the Date's, it is no longer the clock
        "clock off, Date of no help": {"reason": matrix.CREDENTIALS, "words": "InvalidSignatureException"},
    }

    def settings(self, standin):
        return {"region": REGION, "access-key-id": standin.secret_id, "secret-access-key": standin.secret_key,
                "sts-endpoint": standin.endpoint, "metadata-endpoint": "http://127.0.0.1:1"}

    def temporary(self, standin):
        return {"access_key_id": None, "secret_access_key": None, "metadata_endpoint": standin.metadata_endpoint}, {}

    def dek_of(self, keys, wrap):
        return aws.unpack(keys, wrap.ciphertext, dict(wrap.context), lambda key_id: None)[1]
