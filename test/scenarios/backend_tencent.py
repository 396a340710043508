"""Tencent Cloud KMS, for the tests of all back ends (matrix.py)."""
import matrix
from matrix import OPEN, Row

from dialects import tencent


class Backend(matrix.Backend):
    kms = "tencent"
    seal, open = ("GenerateDataKey",), ("Decrypt",)
    wrap = ("Encrypt",)
    differs = {
        # Decrypt is not told which key; the reply tells
        "wrap of another key": {"reason": matrix.MALFORMED, "words": "another key"},
    }
    rows = [
        Row("key archived", OPEN, (), matrix.DISABLED, before="own_key", during="archive", words="CmkArchived"),
    ]

    def settings(self, standin):
        return {"region": "ap-guangzhou", "secret-id": standin.secret_id, "secret-key": standin.secret_key}

    def temporary(self, standin):
        return {"secret_id": None, "secret_key": None, "metadata_endpoint": standin.metadata_endpoint}, {}

    def dek_of(self, keys, wrap):
        return tencent.unpack(keys, wrap.ciphertext.decode(), matrix.context_text(wrap), lambda key_id: None)[2]
