#!/usr/bin/python3
"""hvac (Python), kmsenv and the stand-in for Vault's transit engine."""
import client_common
from client_common import PAIRS, TEXT, canonical, reader, setting, to_base64

import backend_vault
from dialects.vault import token_of

OWN = "VaultError"


class Vault(client_common.ClientCase):
    backend = backend_vault.Backend()
    script = "vault.py"
    key_state = {"versions": 1, "kind": "aes256-gcm96"}
    errors = {
        "context": {"classes": (OWN, "InvalidRequest"), "message": "message authentication failed"},
        "disabled": {"classes": (OWN, "InvalidRequest"), "message": "disallowed by policy"},
        "unknown": {"classes": (OWN, "InvalidPath")},
        "credentials": {"classes": (OWN, "Forbidden"), "message": "permission denied"},
        "throttled": {"classes": (OWN, "RateLimitExceeded")},
        "unavailable": {"classes": (OWN, "VaultDown"), "message": "sealed"},
    }

    def settings(self):
        return {"endpoint": self.kms.endpoint, "ca": self.kms.ca_file, "token": token_of(self.kms.secret_id, self.kms.secret_key)}

    def context(self, pairs):
        return {"associated": to_base64(canonical(pairs).encode())} if pairs else {}

    def wrong_credentials(self):
        return {"token": token_of(self.kms.secret_id, "TESTwrongsecret")}

    def fail_unavailable(self, client, use):
        self.kms.misbehave({"do": "temporarily-unavailable"})
        return client.answer("decrypt", **use)

    def test_derived_key(self):
        """A key created with derived=true takes the same text as the context that keys are derived from."""
        self.key = self.kms.create_key("derived", derived=True)
        context = {"context": to_base64(canonical(PAIRS).encode())}
        profile = self.backend.profile(self.kms, key_id=self.key, derived="yes", context=setting(PAIRS))
        kmsenv, client = self.tool(self.config({"prod": profile})), self.client()
        message = kmsenv.seal([TEXT])[0]
        self.assertIsNotNone(message, kmsenv.last)
        key = reader.Header.parse(message).data_key
        dek = self.ask(client, "decrypt", key=self.key, ciphertext=key.wraps[0].ciphertext, **context)["plaintext"]
        self.assertEqual(reader.data_key_id(dek), key.id)
        made = self.ask(client, "generate", key=self.key, length=32, **context)
        wrap = reader.Wrap("vault", self.key, made["ciphertext"], PAIRS)
        key = reader.DataKey(reader.data_key_id(made["plaintext"]), 32, [wrap])
        self.assertEqual(kmsenv.open([reader.write_message(TEXT, made["plaintext"], key)]), [TEXT], kmsenv.last)
        reply = client.answer("generate", key=self.key, length=32)
        self.assert_error(reply["error"], {"classes": (OWN, "InvalidRequest"), "message": "context"})


if __name__ == "__main__":
    client_common.main()
