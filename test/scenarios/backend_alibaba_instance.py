"""A KMS instance of Alibaba Cloud, for the tests of all back ends (matrix.py)."""
import functools
import json
import os

from cryptography.hazmat.primitives.asymmetric import rsa

import matrix
from common import write_private
from matrix import BOTH, CONTEXT, Row, always

from dialects import alibaba_instance

CLIENT_KEY, PASSWORD = "KAAP.00000000-0000-4000-8000-000000007e57", "TESTpassword-of-ClientKey"


@functools.lru_cache(None)
def _key(identity):
    """Making one takes longer than most tests."""
    return rsa.generate_private_key(65537, 2048)


class Backend(matrix.Backend):
    kms = "alibaba-instance"
    seal, open = ("AdvanceGenerateDataKey",), ("AdvanceDecrypt",)
    rows = [
        Row("no key id", BOTH, always("missing-key-id"), matrix.MALFORMED, 1, "KeyId"),
        Row("an algorithm that binds no context", BOTH, always("not-authenticated"), matrix.REQUEST, 1, "AES_CBC", more={"context": CONTEXT}),
    ]

    def client_key(self, standin, name="clientkey.json", identity=CLIENT_KEY, **credential):
        """Path of a ClientKey file that the stand-in knows; a new one only if it is not there."""
        path = os.path.join(standin.directory, name)
        if not os.path.exists(path):
            text, public = alibaba_instance.make_client_key(identity, PASSWORD, _key(identity))
            write_private(path, text)
            standin.credentials(id=identity, secret=public, **credential)
        return path

    def settings(self, standin):
        return {"client-key-file": self.client_key(standin), "client-key-password": PASSWORD}

    def temporary(self, standin):
        """A ClientKey that is to be replaced by another one, in the same file."""
        path = os.path.join(standin.directory, "temporary.json")
        if os.path.exists(path):
            os.unlink(path)
        return {"client_key_file": self.client_key(standin, "temporary.json", CLIENT_KEY + ".former", token="none")}, {}

    def dek_of(self, keys, wrap):
        return alibaba_instance.unpack_blob(keys, wrap.ciphertext, matrix.context_text(wrap).encode())[3]

    def secrets(self, standin):
        with open(self.client_key(standin), encoding="utf-8") as source:
            return [PASSWORD.encode(), json.load(source)["PrivateKeyData"][:64].encode()]
