#!/usr/bin/python3
"""@google-cloud/kms, kmsenv and the stand-in for Google Cloud KMS."""
import json

import client_common
from client_common import canonical, to_base64

import backend_google
from dialects import google

OWN = "GoogleError"
CODES = {"INVALID_ARGUMENT": 3, "NOT_FOUND": 5, "PERMISSION_DENIED": 7, "RESOURCE_EXHAUSTED": 8, "FAILED_PRECONDITION": 9,
         "UNAUTHENTICATED": 16}


class Google(client_common.ClientCase):
    backend = backend_google.Backend()
    script = "google.mjs"
    hosts = ("cloudkms.googleapis.com",)
    errors = {
        "context": {"classes": (OWN,), "code": CODES["INVALID_ARGUMENT"], "message": "Decryption failed"},
        "disabled": {"classes": (OWN,), "code": CODES["FAILED_PRECONDITION"], "message": "not enabled"},
        "unknown": {"classes": (OWN,), "code": CODES["NOT_FOUND"]},
        "credentials": {"classes": (OWN,), "code": CODES["UNAUTHENTICATED"]},
        "denied": {"classes": (OWN,), "code": CODES["PERMISSION_DENIED"]},
        "no_api": {"classes": (OWN,), "code": CODES["PERMISSION_DENIED"], "reason": "SERVICE_DISABLED"},
        "throttled": {"classes": (OWN,), "code": CODES["RESOURCE_EXHAUSTED"]},
    }

    def setUp(self):
        super().setUp()
        self.key = self.kms.key_id

    @property
    def key_state(self):
        return {"purpose": "ENCRYPT_DECRYPT", "state": "ENABLED", "version": self.key + "/cryptoKeyVersions/1"}

    def settings(self):
        self.backend.settings(self.kms)   # tells the stand-in of the account
        return {"account": json.loads(backend_google.account_file())}

    def wrong_credentials(self):
        return {"account": json.loads(backend_google.account_file(client_email="nobody@kmsenv-test.iam.gserviceaccount.com"))}

    def context(self, pairs):
        return {"aad": to_base64(canonical(pairs).encode())} if pairs else {}

    def fail_no_api(self, client, use):
        self.kms.misbehave({"do": "no-api"})
        return client.answer("decrypt", **use)

    def test_checksums(self):
        """The client's own sums and the service's, of which kmsenv relies on both."""
        client = self.client()
        made = self.ask(client, "encrypt", key=self.key, plaintext=b"123456789", sum=google.crc32c(b"123456789"))
        self.assertEqual((google.crc32c(b"123456789"), made["sum"]), ("3808858755", google.crc32c(made["ciphertext"])))
        self.assertIs(made["verified"], True)
        self.assertEqual(made["key"], self.key + "/cryptoKeyVersions/1")
        back = self.ask(client, "decrypt", **self.request(made))
        self.assertEqual((back["plaintext"], back["sum"]), (b"123456789", "3808858755"))
        reply = client.answer("encrypt", key=self.key, plaintext=b"123456789", sum="1")
        self.assert_error(reply["error"], {"classes": (OWN,), "code": CODES["INVALID_ARGUMENT"]})


if __name__ == "__main__":
    client_common.main()
