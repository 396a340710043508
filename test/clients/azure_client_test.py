#!/usr/bin/python3
"""@azure/keyvault-keys, kmsenv and the stand-in for Azure Key Vault."""
import hashlib

import client_common
from client_common import canonical, reader

import backend_azure
from dialects import azure

ALGORITHM, NUMBER = "RSA-OAEP-256", b"\1"
OWN = "RestError"


def seal(pairs):
    """What kmsenv wraps after a data key that is bound to a context: the service binds none."""
    return b"kmsenv:c" + hashlib.sha256(canonical(pairs).encode()).digest() if pairs else b""


class Azure(client_common.ClientCase):
    backend = backend_azure.Backend()
    script = "azure.mjs"
    hosts = (azure.HOSTS["vault"],)
    errors = {
        "bad_ciphertext": {"classes": (OWN,), "code": "BadParameter", "status": 400},
        "disabled": {"classes": (OWN,), "code": "Forbidden", "status": 403, "message": "disabled"},
        "unknown": {"classes": (OWN,), "code": "KeyNotFound", "status": 404},
        "credentials": {"classes": (OWN,), "code": "Unauthorized", "status": 401},
        "denied": {"classes": (OWN,), "code": "Forbidden", "status": 403},
        "throttled": {"classes": (OWN,), "code": "Throttled", "status": 429},
    }

    def setUp(self):
        super().setUp()
        self.key = azure.key_id_of(self.kms.key_id)

    def settings(self):
        audience = azure.AUDIENCES["vault"]
        return {"tenant": azure.TENANT, "scope": audience + "/.default",
                "token": azure.token_of(self.kms.secret_id, self.kms.secret_key, audience)}

    def wrong_credentials(self):
        return {"token": azure.token_of(self.kms.secret_id, "TESTwrongsecret", azure.AUDIENCES["vault"])}

    def context(self, pairs):
        return {"algorithm": ALGORITHM}

    def client_contexts(self):
        return ((),)

    def new_wrap(self, client, pairs=(), length=32):
        dek = client_common.os.urandom(length)
        return {**self.ask(client, "encrypt", key=self.key, plaintext=dek + seal(pairs), **self.context(pairs)), "plaintext": dek}

    def request(self, made, pairs=()):
        return {**super().request(made, pairs), "key": made["key"]}

    def stored(self, made, pairs=()):
        key, _, version = made["key"].rpartition("/")
        self.assertEqual(key, self.key)
        return reader.Wrap("azure", key, made["ciphertext"], sorted(pairs), NUMBER + bytes.fromhex(version))

    def unwrap(self, client, wrap):
        self.assertEqual((wrap.key_id, wrap.extra[:1]), (self.key, NUMBER))
        reply = client.answer("decrypt", key="%s/%s" % (wrap.key_id, wrap.extra[1:].hex()), ciphertext=wrap.ciphertext, **self.context(()))
        end = seal(wrap.context)
        self.assertTrue(reply.get("plaintext", b"").endswith(end), reply)
        return {**reply, "plaintext": reply["plaintext"][:len(reply["plaintext"]) - len(end)]}

    def test_describe(self):
        found = self.ask(self.client(), "describe", key=self.key)
        self.assertRegex(found.pop("key"), self.key + "/[0-9a-f]{32}$")
        self.assertEqual(found, {"kind": "RSA", "enabled": True})

    def test_a_disabled_key_still_wraps(self):
        """... as reported of the service; so the stand-in, and the client thinks nothing of it."""
        client = self.client()
        made = self.new_wrap(client)
        self.kms.set_state(self.kms.key_id, "Disabled")
        self.assertNotIn("error", client.answer("encrypt", key=made["key"], plaintext=bytes(32), **self.context(())))

    def fail_bad_ciphertext(self, client, use):
        ciphertext = use["ciphertext"]
        return client.answer("decrypt", **{**use, "ciphertext": ciphertext[:-1] + bytes([ciphertext[-1] ^ 1])})


if __name__ == "__main__":
    client_common.main()
