"""Alibaba Cloud KMS, for the tests of all back ends (matrix.py)."""
import base64

import matrix

from dialects import alibaba

REGION = alibaba.REGION


class Backend(matrix.Backend):
    kms = "alibaba"
    seal, open = ("GenerateDataKey",), ("Decrypt",)
    differs = {
        # Decrypt names no key: the service opens the wrap, and says with which
        "wrap of another key": {"reason": matrix.MALFORMED, "words": "another key"},
    }
    rows = [matrix.Row("Decrypt says no more than that a parameter is wrong", matrix.OPEN, matrix.always("invalid-parameter"),
                       matrix.REJECTED)]

    def settings(self, standin):
        return {"region": REGION, "access-key-id": standin.secret_id, "access-key-secret": standin.secret_key,
                "sts-endpoint": standin.endpoint, "metadata-endpoint": "http://127.0.0.1:1"}

    def temporary(self, standin):
        return {"access_key_id": None, "access_key_secret": None, "metadata_endpoint": standin.metadata_endpoint}, {}

    def dek_of(self, keys, wrap):
        return base64.b64decode(alibaba.unpack(keys, wrap.ciphertext, dict(wrap.context), lambda key_id: None)[1])
