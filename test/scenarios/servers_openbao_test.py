#!/usr/bin/python3
"""kmsenv's back end `vault` against OpenBao itself: the engine transit, its keys and their versions, policies,
namespaces, tokens and AppRole.

What OpenBao 2.4 does otherwise than HashiCorp Vault: to a token that it does not know, or that has expired, it says
"permission denied", as it does to one without rights; nothing about an "invalid token". kmsenv reads or signs in anew
in both cases, once, and then says both."""
import base64
import os
import time

import common
from common import TEXT, reader
from servers_common import CREDENTIALS, DENIED, DISABLED, NOT_FOUND, REJECTED, REQUEST, UNREACHABLE, ServerCase, main, servers

def policy(key, directory=os.path.dirname(common.TEST)):
    """The one that conf/ recommends, for this key."""
    with open(os.path.join(directory, "conf", "vault-policy.hcl"), encoding="utf-8") as source:
        return source.read().replace("/backup\"", "/%s\"" % key)


def b64(data):
    return base64.b64encode(data if isinstance(data, bytes) else data.encode()).decode()


class VaultCase(ServerCase):
    server_class = servers.OpenBao

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.api = cls.server.api
        cls.api("POST", "sys/mounts/transit", {"type": "transit"})
        cls.api("POST", "sys/auth/approle", {"type": "approle"})
        cls.numbers = iter(range(1, 1000))

    def setUp(self):
        super().setUp()
        self.told = []
        self.use_new_key()

    def use_new_key(self, **more):
        """A key, with a policy of the same name and a token that has no other."""
        self.key = "key-%d" % next(self.numbers)
        self.api("POST", "transit/keys/" + self.key, more)
        self.api("POST", "sys/policies/acl/" + self.key, {"policy": policy(self.key)})
        self.token = self.new_token(self.key)
        self.told.append(self.token)

    def new_token(self, *policies):
        return self.api("POST", "auth/token/create", {"policies": policies, "no_default_policy": True, "ttl": "10m"})["client_token"]

    def secrets(self):
        return self.told

    def profile(self, **more):
        values = {"kms": "vault", "endpoint": self.server.endpoint, "ca-file": self.server.ca_file, "key-id": self.key,
                  "token": self.token, "kms-timeout": 20}
        return {**values, **{name.replace("_", "-"): value for name, value in more.items()}}

    def decrypt(self, wrap, key=None, **more):
        """By the HTTP API, as an administrator."""
        reply = self.api("POST", "transit/decrypt/" + (key or self.key), {"ciphertext": wrap.ciphertext.decode(), **more})
        return base64.b64decode(reply["plaintext"])

    def keys(self):
        return self.api("LIST", "transit/keys")["keys"]


class Wraps(VaultCase):
    def test_openssl_enc(self):
        for more in ({}, {"context": "app=billing,env=täst"}):
            message = self.enc_round_trip(self.kms_config(**more), 300001)
            self.assertRegex(self.wrap_of(message).ciphertext, rb"^vault:v1:[A-Za-z0-9+/]{80}$")

    def test_the_api_opens_our_wrap(self):
        message = self.sealed(self.kms_config())
        self.assertEqual(reader.open_message(message, self.decrypt(self.wrap_of(message))), TEXT)
        message = self.sealed(self.kms_config(context="env=täst,app=billing"))
        bound = b64('{"app":"billing","env":"täst"}')
        self.assertEqual(reader.open_message(message, self.decrypt(self.wrap_of(message), associated_data=bound)), TEXT)
        with self.assertRaisesRegex(AssertionError, "message authentication failed"):
            self.decrypt(self.wrap_of(message))

    def test_key_encapsulation(self):
        """OpenBao and the master key as a key of openssl understand each other, by the URI and by the public half."""
        made = self.api("POST", "transit/datakey/plaintext/" + self.key, {})
        config = self.kms_config()
        self.assertEqual(self.decapsulated(config, made["ciphertext"].encode()), base64.b64decode(made["plaintext"]))
        for wrapped, secret in self.encapsulations(config):
            self.assertEqual(base64.b64decode(self.api("POST", "transit/decrypt/" + self.key, {"ciphertext": wrapped.decode()})["plaintext"]), secret)

    def test_we_open_wraps_of_the_api(self):
        made = self.api("POST", "transit/datakey/plaintext/" + self.key, {})
        self.opens(self.kms_config(), self.written(base64.b64decode(made["plaintext"]),
                                                   reader.Wrap("vault", self.key, made["ciphertext"].encode())))
        dek = os.urandom(32)
        made = self.api("POST", "transit/encrypt/" + self.key, {"plaintext": b64(dek), "associated_data": b64('{"app":"billing"}')})
        self.opens(self.kms_config(), self.written(dek, reader.Wrap("vault", self.key, made["ciphertext"].encode(),
                                                                    [("app", "billing")])))

    def test_wrong_context_and_altered_wrap(self):
        message = self.sealed(self.kms_config(context="app=billing"))
        self.refused(self.kms_config(), REJECTED, message.replace(b"billing", b"bi11ing", 1))
        blob = self.wrap_of(message).ciphertext
        for at in (30, len(blob) - 4):
            bad = blob[:at] + (b"A" if blob[at:at + 1] != b"A" else b"B") + blob[at + 1:]
            self.refused(self.kms_config(), REJECTED, message.replace(blob, bad))
        self.opens(self.kms_config(), message)

    def test_wrap_of_another_key(self):
        foreign = self.sealed(self.kms_config())
        self.use_new_key()
        message = self.sealed(self.kms_config())
        self.refused(self.kms_config(), REJECTED, message.replace(self.wrap_of(message).ciphertext, self.wrap_of(foreign).ciphertext))

    def test_derived_key(self):
        self.use_new_key(derived=True)
        config = self.kms_config(derived="yes", context="app=billing")
        message = self.enc_round_trip(config, 1000)
        self.opens(config, self.sealed(config))
        dek = self.decrypt(self.wrap_of(message), context=b64('{"app":"billing"}'))
        self.assertEqual(reader.data_key_id(dek), reader.Header.parse(message).data_key.id)
        self.refused(config, REJECTED, message.replace(b"billing", b"bi11ing", 1))
        self.refused(self.kms_config(), REQUEST, None, "derived = yes")
        self.use_new_key()
        self.refused(self.kms_config(derived="yes", context="app=x"), REQUEST, None, "derived = no")

    def test_types_of_keys(self):
        for kind in ("aes128-gcm96", "chacha20-poly1305", "xchacha20-poly1305"):
            self.use_new_key(type=kind)
            for context in (None, "app=billing"):
                config = self.kms_config(context=context)
                self.opens(config, self.sealed(config))
        for kind in ("ed25519", "hmac"):
            self.use_new_key(type=kind, **({"key_size": 32} if kind == "hmac" else {}))
            self.refused(self.kms_config(context="app=billing"), REQUEST)

    def test_second_profile(self):
        local = common.local_profile(common.local_key_file(os.path.join(self.dir, "local.pem")))
        message = self.sealed(self.config({"main": local, "prod": self.profile()}))
        self.assertEqual([wrap.kms for wrap in reader.Header.parse(message).data_key.wraps], ["local", "vault"])
        self.opens(self.kms_config(), message)


class Keys(VaultCase):
    def test_rotation_and_rewrap(self):
        old = self.sealed(self.kms_config())
        self.api("POST", "transit/keys/%s/rotate" % self.key)
        self.opens(self.kms_config(), old)
        new = self.sealed(self.kms_config())
        self.assertRegex(self.wrap_of(new).ciphertext, rb"^vault:v2:")
        anew = self.api("POST", "transit/rewrap/" + self.key, {"ciphertext": self.wrap_of(old).ciphertext.decode()})
        rewrapped = old.replace(self.wrap_of(old).ciphertext, anew["ciphertext"].encode())
        self.api("POST", "transit/keys/%s/config" % self.key, {"min_decryption_version": 2})
        self.refused(self.kms_config(), DISABLED, old, "version of the transit key")
        for message in (new, rewrapped):
            self.opens(self.kms_config(), message)

    def test_rewrap_command(self):
        """With the policy of conf/: in the service if it can, and under the newest version in any case."""
        for derived, context, inside in ((None, None, True), ("yes", "app=billing", True), (None, "app=billing", False)):
            with self.subTest(derived=derived, context=context):
                self.use_new_key(**({"derived": True} if derived else {}))
                config = self.kms_config(derived=derived, context=context)
                old = self.sealed(config)
                self.api("POST", "transit/keys/%s/rotate" % self.key)
                message, summary = self.rewrapped(config, old, *(["--in-kms"] if inside else []))
                self.assertEqual(summary, "wraps: re-encrypted in the KMS %d, made here %d, kept 0" % (inside, not inside))
                self.assertRegex(self.wrap_of(message).ciphertext, rb"^vault:v2:")
                self.api("POST", "transit/keys/%s/config" % self.key, {"min_decryption_version": 2})
                self.refused(config, DISABLED, old)
                self.opens(config, message)

    def test_no_such_key_is_never_made(self):
        """With all rights: OpenBao's encrypt would make the key."""
        before = self.keys()
        root = self.server.root_token
        local = common.local_profile(common.local_key_file(os.path.join(self.dir, "local.pem")))
        for more in ({}, {"context": "app=x"}):
            typo = self.profile(key_id="no-such-key", token=root, **more)
            self.refused(self.config({"prod": typo}), NOT_FOUND, None, "key-id")
            with common.Tool(self.dir, self.config({"main": local, "prod": typo})) as kmsenv:
                self.assertIsNone(kmsenv.seal([TEXT])[0])
                self.assertEqual(kmsenv.last["reason"], NOT_FOUND, kmsenv.last)
        self.refused(self.kms_config(token=root, mount="no/such/mount"), NOT_FOUND, None, "mount")
        self.assertEqual(self.keys(), before)

    def test_states(self):
        message, config = self.sealed(self.kms_config()), self.kms_config()
        self.api("DELETE", "transit/keys/%s/soft-delete" % self.key)
        for subject in (None, message):
            self.refused(config, DISABLED, subject)
        self.api("POST", "transit/keys/%s/soft-delete-restore" % self.key)
        self.opens(config, message)
        self.api("POST", "transit/keys/%s/config" % self.key, {"deletion_allowed": True})
        self.api("DELETE", "transit/keys/" + self.key)
        for subject in (None, message):
            self.refused(config, NOT_FOUND, subject)

    def test_doctor(self):
        status, report = self.doctor(self.kms_config())
        self.assertEqual((status, report["failed"]), (0, 0), report)
        status, report = self.doctor(self.kms_config(key_id="no-such-key"))
        self.assertEqual(status, 1, report)

    def test_namespace(self):
        self.api("POST", "sys/namespaces/team", {})
        headers = {"X-Vault-Token": self.server.root_token, "X-Vault-Namespace": "team"}
        for path, body in (("sys/mounts/deep/transit", {"type": "transit"}), ("deep/transit/keys/" + self.key, {})):
            status, reply = self.server.request("POST", "/v1/" + path, body, headers)
            self.assertIn(status, (200, 204), reply)
        config = self.kms_config(namespace="team", mount="deep/transit", token=self.server.root_token)
        self.enc_round_trip(config, 1000)
        self.refused(self.kms_config(namespace="team", token=self.server.root_token), NOT_FOUND, None, "mount and namespace")
        self.refused(self.kms_config(namespace="nobody", token=self.server.root_token), NOT_FOUND, None, "namespace")


class Tokens(VaultCase):
    def role(self, **more):
        name = "role-%d" % next(self.numbers)
        self.api("POST", "auth/approle/role/" + name, {"token_policies": [self.key], **more})
        role_id = self.api("GET", "auth/approle/role/%s/role-id" % name)["role_id"]
        secret_id = self.api("POST", "auth/approle/role/%s/secret-id" % name, {})["secret_id"]
        self.told.append(secret_id)
        return {"token": None, "role_id": role_id, "secret_id": secret_id}

    def accessors(self):
        return set(self.api("LIST", "auth/token/accessors")["keys"])

    def works(self, kmsenv):
        self.assertIsNotNone(kmsenv.seal([TEXT])[0], kmsenv.last)
        for secret in self.told:
            self.assertNotIn(secret, kmsenv.stderr())

    def test_approle(self):
        config = self.kms_config(**self.role())
        self.opens(config, self.sealed(config))
        self.enc_round_trip(config, 1000)

    def test_approle_refused(self):
        given = self.role()
        self.refused(self.kms_config(**{**given, "secret_id": "TESTwrong"}), CREDENTIALS)
        self.refused(self.kms_config(**{**given, "role_id": "TESTnobody"}), CREDENTIALS)
        self.refused(self.kms_config(**given, approle_mount="nowhere"), CREDENTIALS)
        once = self.role(secret_id_num_uses=1)
        self.sealed(self.kms_config(**once))
        self.refused(self.kms_config(**once), CREDENTIALS)

    def test_expired_token_is_replaced(self):
        """Not renewable beyond 2 seconds: signed in anew."""
        with common.Tool(self.dir, self.kms_config({"dek_reuse": "no"}, **self.role(token_ttl="2s", token_max_ttl="2s"))) as kmsenv:
            self.works(kmsenv)
            time.sleep(3)
            self.works(kmsenv)

    def test_revoked_token_is_replaced(self):
        before = self.accessors()
        with common.Tool(self.dir, self.kms_config({"dek_reuse": "no"}, **self.role())) as kmsenv:
            self.works(kmsenv)
            first = self.accessors() - before
            self.assertEqual(len(first), 1)
            self.api("POST", "auth/token/revoke-accessor", {"accessor": first.pop()})
            self.works(kmsenv)
            self.assertEqual(len(self.accessors() - before), 1)

    def test_token_is_renewed(self):
        before = self.accessors()
        with common.Tool(self.dir, self.kms_config({"dek_reuse": "no"}, **self.role(token_ttl="4s"))) as kmsenv:
            for _ in range(4):
                self.works(kmsenv)
                time.sleep(1.6)
            self.assertEqual(len(self.accessors() - before), 1, "one sign-in must do")

    def test_batch_token_is_not_renewed(self):
        with common.Tool(self.dir, self.kms_config({"dek_reuse": "no"}, **self.role(token_type="batch", token_ttl="2s"))) as kmsenv:
            self.works(kmsenv)
            time.sleep(3)
            self.works(kmsenv)

    def test_wrong_token(self):
        self.refused(self.kms_config(token="s.TESTnobody"), DENIED, None, "2 attempts.*token has expired")

    def test_policy(self):
        """The recommended policy is for one key only, and does not let keys be made."""
        message, mine, token = self.sealed(self.kms_config()), self.key, self.token
        self.use_new_key()
        self.refused(self.kms_config(key_id=mine), DENIED, None, "policy")
        self.refused(self.kms_config(key_id=mine), DENIED, message, "policy")
        status, _ = self.api("POST", "transit/keys/anything", {}, token=token, ok=False)
        self.assertEqual(status, 403)
        status, _ = self.api("POST", "transit/encrypt/anything", {"plaintext": ""}, token=token, ok=False)
        self.assertEqual(status, 403)

    def test_environment(self):
        config = self.kms_config(token=None, endpoint=None)
        environment = {"BAO_TOKEN": self.token, "BAO_ADDR": self.server.endpoint}
        self.opens(config, self.sealed(config, environment), environment)


class Sealed(VaultCase):
    def test_sealed_server(self):
        message, config = self.sealed(self.kms_config()), self.kms_config(kms_timeout=2)
        self.api("PUT", "sys/seal")
        for subject in (None, message):
            self.refused(config, UNREACHABLE, subject, "sealed")


if __name__ == "__main__":
    main("openbao")
