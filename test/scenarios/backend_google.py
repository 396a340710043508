"""Google Cloud KMS, for the tests of all back ends (matrix.py): under a service account that signs its own tokens."""
import json
import os

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

import common
import matrix
from matrix import BOTH, MALFORMED, OPEN, SEAL, Row, always, once

from dialects import google

ACCOUNT = "kmsenv-test@kmsenv-test.iam.gserviceaccount.com"
_key = None


def private_key():
    """The PEM of a key that lives as long as this process."""
    global _key
    if _key is None:
        _key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return _key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()


def public_key():
    private_key()
    return _key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def account_file(**more):
    """The text of a service account's key file."""
    return json.dumps({"type": "service_account", "project_id": "kmsenv-test", "private_key_id": "ab" * 20, "private_key": private_key(),
                       "client_email": ACCOUNT, "token_uri": google.OAUTH_AUDIENCE, "universe_domain": "googleapis.com", **more})


class Backend(matrix.Backend):
    kms = "google"
    seal, open = ("encrypt",), ("decrypt",)
    generates = False
    absent = {("another key id", "open"): "the reply to decrypt does not name the key"}
    words = {"key really disabled": "not enabled", "key really waiting for its deletion": "not enabled", "key really gone": "key-id"}
    differs = {
        # the token of a wrong time is refused once more; then it is signed anew, by the right time
        "clock behind": {"calls": 3},
        "clock ahead": {"calls": 3},
        # once our time is the Date's, it is no longer the clock
        "clock off, Date of no help": {"reason": matrix.CREDENTIALS, "calls": 3, "words": "UNAUTHENTICATED"},
    }
    rows = [
        Row("API not enabled", BOTH, always("no-api"), matrix.DENIED, words="API is not enabled"),
        # damage on the way: again
        Row("ciphertext damaged once", SEAL, once("wrong-ciphertext-sum"), calls=2),
        Row("ciphertext damaged for good", SEAL, always("wrong-ciphertext-sum"), MALFORMED, 3, "ciphertextCrc32c"),
        Row("no checksum of the ciphertext", SEAL, always("missing-ciphertext-sum"), MALFORMED, 3, "ciphertextCrc32c"),
        Row("plaintext damaged once", OPEN, once("wrong-plaintext-sum"), calls=2),
        Row("plaintext damaged for good", OPEN, always("wrong-plaintext-sum"), MALFORMED, 3, "plaintextCrc32c"),
        Row("no checksum of the plaintext", OPEN, always("missing-plaintext-sum"), MALFORMED, 3, "plaintextCrc32c"),
        Row("plaintext not verified", SEAL, always("unverified-plaintext"), MALFORMED, 3, "verifiedPlaintextCrc32c"),
        Row("plaintext not verified once", SEAL, once("unverified-plaintext"), calls=2),
        Row("context not verified", SEAL, always("unverified-aad"), MALFORMED, 3, "verifiedAdditional", more={"context": matrix.CONTEXT}),
    ]

    def settings(self, standin):
        path = os.path.join(standin.directory, "service-account.json")
        if not os.path.exists(path):
            common.write_private(path, account_file())
            standin.credentials(id=ACCOUNT, secret=public_key())
        return {"credentials-file": path, "token-endpoint": standin.endpoint, "metadata-endpoint": "http://127.0.0.1:1"}

    def temporary(self, standin):
        return {"credentials_file": None, "metadata_endpoint": standin.metadata_endpoint}, {}

    def dek_of(self, keys, wrap):
        return google.unpack(keys, wrap.key_id.removeprefix(google.PREFIX), wrap.ciphertext, matrix.context_text(wrap).encode())

    def secrets(self, standin):
        return [standin.secret_key.encode(), *(line.encode() for line in private_key().splitlines()[1:-1])]

    def key_id(self, name):
        return google.PREFIX + name

    def key_name(self, key_id):
        return key_id.removeprefix(google.PREFIX)
