"""Azure Key Vault, for the tests of all back ends (matrix.py)."""
import matrix
from matrix import BOTH, OPEN, SEAL, Row, always

from dialects import azure

SEAL_LEN = 40        # what a context adds to the data key that is wrapped
ALGORITHMS = {1: "RSA-OAEP-256", 2: "A256KW"}


class Backend(matrix.Backend):
    kms = "azure"
    seal, open = ("wrapkey",), ("unwrapkey",)
    generates = False
    provider = {"block_size": 1024}    # a wrap of RSA is long
    words = {"no ciphertext": "no value", "no plaintext": "no value", "huge ciphertext": "longer than expected", "long plaintext": "value",
             "wrong type": "value", "bad base64": "value"}
    differs = {
        # as reported of the service, a disabled key still wraps
        ("key really disabled", "seal"): {"reason": matrix.OK, "words": ""},
        "key really waiting for its deletion": {"reason": matrix.NOT_FOUND, "words": "KeyNotFound"},
        # the version that the wrap names is none of the other key's
        "wrap of another key": {"reason": matrix.NOT_FOUND, "words": "KeyNotFound"},
        # the messages are under a context, which is in the wrap
        "short plaintext": {"reason": matrix.REJECTED, "words": "bound to no encryption context"},
        "another plaintext": {"reason": matrix.REJECTED, "words": "bound to no encryption context"},
        # with the stand-in its metadata service is gone, too: tokens must be there already
        "gone": {"warm": True},
        # another token may do
        "HTTP 401": {"calls": 2},
    }
    rows = [
        Row("another version", OPEN, always("other-version"), matrix.MALFORMED, 1, "another key"),
        Row("of another vault", BOTH, always("other-vault"), matrix.MALFORMED, 1, "another key, in the vault not-kmsenv-test.*endpoint"),
        Row("no version", BOTH, always("no-version"), matrix.MALFORMED, 1, "kid"),
        Row("identifier with a version", SEAL, (), matrix.NOT_FOUND, 1, "KeyNotFound", before="no_such_version"),
    ]

    def profile(self, standin, **more):
        given = {"key_id": standin.key_id, **more}
        for name in ("key_id", "decrypt-keys"):
            if given.get(name) and "://" not in given[name]:
                given[name] = azure.key_id_of(given[name])
        return super().profile(standin, **given)

    def settings(self, standin):
        return {"metadata-endpoint": standin.metadata_endpoint, "authority": standin.endpoint}

    def temporary(self, standin):
        return {}, {}

    def secrets(self, standin):
        return [standin.secret_key.encode(), b"TESTsecret", b"ENTRA"]

    def new_key(self, standin):
        return azure.key_id_of(standin.create_key())

    def spoil(self, ciphertext):
        return ciphertext[:-5] + bytes([ciphertext[-5] ^ 1]) + ciphertext[-4:]

    def dek_of(self, keys, wrap):
        name = wrap.key_id.rsplit("/", 1)[1]
        number = azure.version_number(keys.get(name), wrap.extra[1:].hex())
        data = azure.unwrap(keys, name, number, ALGORITHMS[wrap.extra[0]], wrap.ciphertext)
        return data[:-SEAL_LEN] if wrap.context else data
