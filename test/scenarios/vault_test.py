#!/usr/bin/python3
"""kmsenv under Vault's transit engine: round trips, everything that can go wrong there, tokens and
sign-ins. Every row asserts the outcome, the exact number of calls, and that nothing secret is told."""
import os
import time

import backend_vault
import common
import matrix
from common import TEXT
from dialects.vault import token_of
from matrix import CONFIG, CREDENTIALS, DISABLED, NOT_FOUND, REJECTED, REQUEST


class VaultCase(matrix.BackendCase):
    backend = backend_vault.Backend()

    def setUp(self):
        super().setUp()
        self.token = token_of(self.kms.secret_id, self.kms.secret_key)

    def profile(self, **more):
        return self.backend.profile(self.kms, **more)

    def vault_config(self, settings=None, **more):
        return self.config({"prod": self.profile(**more)}, audit_log=self.audit, **(settings or {}))

    def counts(self):
        """{action: requests}"""
        return {name: counts["total"] for name, counts in self.kms.counters()["actions"].get("vault", {}).items()}

    def seal(self, config, environment=None):
        with common.Tool(self.dir, config, environment) as kmsenv:
            message = kmsenv.seal([TEXT])[0]
            self.assertIsNotNone(message, kmsenv.last)
            self.check_no_secret(kmsenv.stderr())
        return message

    def opened(self, config, message, environment=None):
        with common.Tool(self.dir, config, environment) as kmsenv:
            self.assertEqual(kmsenv.open([message]), [TEXT], kmsenv.last)
            self.check_no_secret(kmsenv.stderr())

    def refused(self, config, reason, message=None, words=None, environment=None):
        with common.Tool(self.dir, config, environment) as kmsenv:
            result = kmsenv.seal([TEXT])[0] if message is None else kmsenv.open([message])[0]
            self.assertIsNone(result)
            self.assertEqual((kmsenv.last["reason"], kmsenv.last["entries"]), (reason, 1), kmsenv.last)
            if words:
                self.assertRegex(kmsenv.last["error"], words)
            self.check_no_secret(kmsenv.last, kmsenv.stderr())


class RoundTrip(VaultCase):
    def test_openssl_enc(self):
        config = self.vault_config()
        run = self.openssl("enc", "-kms-envelope", "-K", "0", data=TEXT, config=config)
        self.assertEqual(run.returncode, 0, run.stderr)
        back = self.openssl("enc", "-d", "-kms-envelope", "-K", "0", data=run.stdout, config=config)
        self.assertEqual((back.returncode, back.stdout), (0, TEXT), back.stderr)
        self.assertEqual(self.counts(), {"datakey": 1, "decrypt": 1})
        wrap = self.wrap_of(run.stdout)
        self.assertEqual((wrap.kms, wrap.key_id), ("vault", self.kms.key_id))
        self.assertRegex(wrap.ciphertext, rb"^vault:v1:[A-Za-z0-9+/]{80}$")
        self.check_no_secret(run.stderr, back.stderr)

    def test_context_is_bound(self):
        """The key is looked at, and the data key encrypted: Vault's datakey knows no associated_data."""
        config = self.vault_config({"negative_cache": 0}, context="app=billing,env=täst \"q\"")
        message = self.seal(config)
        self.assertEqual(self.counts(), {"keys": 1, "encrypt": 1})
        self.opened(config, message)
        self.assertEqual(self.kms.calls("decrypt"), 1)
        altered = message.replace(b"billing", b"bi11ing", 1)
        self.assertNotEqual(altered, message)
        self.refused(config, REJECTED, altered)
        self.assertEqual(self.kms.calls("decrypt"), 2)

    def test_derived_key(self):
        key = self.kms.create_key("derived-1", derived=True)
        config = self.vault_config({"negative_cache": 0}, key_id=key, derived="yes", context="app=billing")
        message = self.seal(config)
        self.assertEqual(self.counts(), {"keys": 1, "datakey": 1})
        self.opened(config, message)
        self.refused(config, REJECTED, message.replace(b"billing", b"bi11ing", 1))
        without = self.vault_config(key_id=key, derived="yes")
        self.opened(without, self.seal(without))
        self.refused(self.vault_config(key_id=key), REQUEST, words="derived = yes")
        self.refused(self.vault_config(derived="yes", context="app=x"), REQUEST, words="derived = no")

    def test_tampered_wrap(self):
        config = self.vault_config({"negative_cache": 0})
        message = self.seal(config)
        blob = self.wrap_of(message).ciphertext
        for at, calls in ((0, 0), (30, 1), (len(blob) - 4, 1)):
            self.kms.reset()
            bad = blob[:at] + (b"A" if blob[at:at + 1] != b"A" else b"B") + blob[at + 1:]
            self.refused(config, REJECTED, message.replace(blob, bad))
            self.assertEqual(self.kms.calls(), calls)
        self.opened(config, message)

    def test_rotation_and_second_profile(self):
        """The second profile's wrap is made by encrypt, after a look at the key."""
        key_file = common.local_key_file(os.path.join(self.dir, "first.pem"))
        both = self.config({"first": common.local_profile(key_file), "prod": self.profile()})
        self.kms.rotate(self.kms.key_id)
        message = self.seal(both)
        self.assertEqual(self.counts(), {"keys": 1, "encrypt": 1})
        self.assertRegex(message, rb"vault:v2:")
        self.opened(self.vault_config(), message)

    def test_mistyped_key_is_not_created(self):
        key_file = common.local_key_file(os.path.join(self.dir, "first.pem"))
        for more in ({}, {"context": "app=x"}):
            typo = self.profile(key_id="no-such-key", **more)
            self.refused(self.config({"prod": typo}), NOT_FOUND, words="no-such-key|key-id")
            both = self.config({"first": common.local_profile(key_file), "prod": typo})
            with common.Tool(self.dir, both) as kmsenv:
                self.assertIsNone(kmsenv.seal([TEXT])[0])
        self.assertEqual(self.kms.calls("encrypt"), 0)
        self.assertNotIn("no-such-key", self.kms.ask("GET", "/keys"))

    def test_states(self):
        message, config = self.seal(self.vault_config()), self.vault_config()
        self.kms.set_state(self.kms.key_id, "Disabled")
        self.refused(config, DISABLED, message)
        self.kms.delete_key(self.kms.key_id)
        self.refused(config, NOT_FOUND, message)


class Matrix(matrix.Case):
    backend = backend_vault.Backend()


class Tokens(VaultCase):
    def no_token(self, settings=None, **more):
        return self.vault_config(settings, **{"token": None, **more})

    def approle(self, settings=None, **more):
        return self.no_token(settings, **{"role_id": self.kms.secret_id, "secret_id": self.kms.secret_key, **more})

    def test_environment_and_file(self):
        config = self.no_token()
        for environment in ({"VAULT_TOKEN": self.token}, {"BAO_TOKEN": self.token, "VAULT_TOKEN": "hvs.wrong.one"}):
            self.opened(config, self.seal(config, environment), environment)
        self.file(".vault-token", self.token + "\n")
        self.seal(config)
        os.unlink(os.path.join(self.dir, ".vault-token"))
        self.seal(self.no_token(token_file=self.file("token", self.token)))
        self.seal(self.vault_config(token="env:MY_TOKEN"), {"MY_TOKEN": self.token})
        self.refused(self.no_token(token_file="/nonexistent/token"), CREDENTIALS, words="/nonexistent/token")

    def test_address_and_namespace_from_environment(self):
        config = self.vault_config(endpoint=None)
        for names in (("VAULT_ADDR", "VAULT_NAMESPACE"), ("BAO_ADDR", "BAO_NAMESPACE")):
            self.seal(config, {names[0]: self.kms.endpoint})
            deep = self.vault_config(endpoint=None, mount="deep/transit/")
            self.seal(deep, {names[0]: self.kms.endpoint, names[1]: "kmsenv-test"})
        self.seal(self.vault_config(namespace="kmsenv-test/", mount="deep/transit"))
        self.refused(self.vault_config(namespace="kmsenv-test"), NOT_FOUND, words="namespace")
        self.refused(self.vault_config(mount="deep/transit"), NOT_FOUND, words="mount")

    def test_no_token(self):
        self.refused(self.no_token(), CREDENTIALS, words="VAULT_TOKEN")
        self.assertEqual(self.kms.calls(), 0)

    def test_wrong_token(self):
        self.refused(self.vault_config(token="hvs.nobody.wrong"), CREDENTIALS, words="token")
        self.assertEqual(self.kms.calls(), 2)

    def test_file_is_read_again(self):
        path = self.file("token", self.token)
        self.kms.credentials(id="OLD", secret="TESTold", token="x")
        self.file("token", token_of("OLD", "TESTold"))
        with common.Tool(self.dir, self.no_token({"dek_reuse": "no"}, token_file=path)) as kmsenv:
            self.assertIsNotNone(kmsenv.seal([TEXT])[0], kmsenv.last)
            self.kms.credentials(expire_temporary=True)
            self.file("token", self.token)
            self.assertIsNotNone(kmsenv.seal([TEXT])[0], kmsenv.last)
        self.assertEqual((self.kms.calls("datakey"), self.kms.calls("datakey", "403")), (3, 1))

    def test_approle(self):
        config = self.approle()
        self.opened(config, self.seal(config))
        self.assertEqual(self.counts(), {"approle": 2, "datakey": 1, "decrypt": 1})
        self.assertNotEqual(self.kms.log()[-1]["signedBy"], self.kms.secret_id)

    def test_approle_refused_is_tried_once(self):
        self.refused(self.approle(secret_id="TESTwrong"), CREDENTIALS, words="secret-id")
        self.assertEqual(self.counts(), {"approle": 1})

    def test_kubernetes(self):
        jwt = self.file("jwt", "test-web-identity-token")
        config = self.no_token(kubernetes_role="kmsenv-test-role", jwt_file=jwt)
        self.opened(config, self.seal(config))
        self.assertEqual(self.counts(), {"kubernetes": 2, "datakey": 1, "decrypt": 1})
        self.file("jwt", "of somebody else")
        self.refused(config, CREDENTIALS)
        self.assertEqual(self.kms.calls("kubernetes"), 3)
        self.refused(self.no_token(kubernetes_role="x", jwt_file="/nonexistent/jwt"), CREDENTIALS, words="/nonexistent/jwt")

    def test_expired_token_is_replaced(self):
        with common.Tool(self.dir, self.approle({"dek_reuse": "no"})) as kmsenv:
            self.assertIsNotNone(kmsenv.seal([TEXT])[0], kmsenv.last)
            self.kms.credentials(expire_temporary=True)
            self.assertIsNotNone(kmsenv.seal([TEXT])[0], kmsenv.last)
            self.check_no_secret(kmsenv.stderr())
        # refused, the renewal too, signed in anew, served
        self.assertEqual(self.counts(), {"approle": 2, "renew-self": 1, "datakey": 3})

    def test_token_is_renewed_before_it_expires(self):
        self.kms.control(options={"credential-lifetime": 4})
        with common.Tool(self.dir, self.approle({"dek_reuse": "no"})) as kmsenv:
            self.assertIsNotNone(kmsenv.seal([TEXT])[0], kmsenv.last)
            time.sleep(2.6)
            self.assertIsNotNone(kmsenv.seal([TEXT])[0], kmsenv.last)
        self.assertEqual(self.counts(), {"approle": 1, "renew-self": 1, "datakey": 2})


class Settings(VaultCase):
    def test_bad_settings_are_named(self):
        for name, value in (("key-id", None), ("key-id", "a/b"), ("key-id", ".."), ("mount", "a//b"), ("mount", "../sys"),
                            ("approle-mount", "a b")):
            self.refused(self.vault_config(**{name.replace("-", "_"): value}), CONFIG, words=name)
        self.assertEqual(self.kms.calls(), 0)


if __name__ == "__main__":
    common.main()
