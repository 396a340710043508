"""HashiCorp Vault and OpenBao, for the tests of all back ends (matrix.py)."""
import base64

import matrix
from matrix import BOTH, OPEN, SEAL, Row, always, once

from dialects.vault import token_of


class Backend(matrix.Backend):
    kms = "vault"
    seal, open = ("datakey",), ("decrypt",)
    wrap = ("keys", "encrypt")
    seal_with_context = ("keys", "encrypt")   # a datakey cannot be bound to a context; encrypt would make a key that is not there
    renewal = {"renew-self": 1, "approle": 1}
    words = {"token refused": "token", "denied": "permission denied", "disabled": "min_decryption_version", "pending deletion": "restore it",
             "not found": "key-id", "bad ciphertext": "damaged", "key really disabled": "min_decryption_version",
             "key really gone": "key-id"}
    rows = [
        Row("behind once", BOTH, once("behind"), calls=2),
        Row("sealed for good", BOTH, always("temporarily-unavailable"), matrix.UNREACHABLE, 3, "unseal"),
        Row("no mount", BOTH, always("no-mount"), matrix.NOT_FOUND, 1, "mount"),
        Row("no ciphertext of transit", SEAL, always("other-ciphertext"), matrix.MALFORMED, 1, "vault:v1"),
    ]
    differs = {
        # a token that is not valid any more may be refused like this, too: the sources are asked for a newer one
        "denied": {"calls": 2},
    }

    def settings(self, standin):
        return {"token": token_of(standin.secret_id, standin.secret_key)}

    def temporary(self, standin):
        return {"token": None, "role_id": standin.secret_id, "secret_id": standin.secret_key}, {}

    def spoil(self, ciphertext):
        return ciphertext[:-4] + (b"A" if ciphertext[-4:-3] != b"A" else b"B") + ciphertext[-3:]

    def dek_of(self, keys, wrap):
        _, version, text = wrap.ciphertext.decode().split(":")
        raw, data = base64.b64decode(text), b""
        if wrap.context:
            data = matrix.context_text(wrap).encode()
        return keys.unwrap(wrap.key_id, int(version[1:]), raw[:12], raw[12:], bytes(4) + data)
