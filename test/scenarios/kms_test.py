#!/usr/bin/python3
"""kmsenv against a KMS over the network: configuration, credentials, connections, and what is written about
it. What can go wrong there has its own table, for all back ends: matrix.py."""
import base64
import json
import os
import time

import common
from common import TEXT, KmsScenario, reader, tencent_profile

from client import Client
from matrix import CREDENTIALS, REJECTED, ROOM, UNREACHABLE


class KmsCase(KmsScenario):
    def setUp(self):
        super().setUp()
        self.audit = os.path.join(self.dir, "audit.log")
        self.secrets = [self.kms.secret_key.encode()]

    def profile(self, **more):
        return tencent_profile(self.kms, **more)

    def kms_config(self, settings=None, **more):
        return self.config({"prod": self.profile(**more)}, audit_log=self.audit, **(settings or {}))

    def sealed(self, **more):
        """A message from a process of its own, and the data key in it as the KMS sees it."""
        with common.Tool(self.dir, self.kms_config(**more)) as kmsenv:
            message = kmsenv.seal([TEXT])[0]
            self.assertTrue(kmsenv.last["ok"], kmsenv.last)
        client = Client(self.kms)
        wrap = reader.Header.parse(message).data_key.wraps[0]
        context = json.dumps(dict(wrap.context), separators=(",", ":"), ensure_ascii=False) if wrap.context else ""
        dek = client.dek_of(wrap.ciphertext, context)
        client.close()
        self.secrets += [dek, base64.b64encode(dek), dek.hex().encode()]
        self.kms.reset()
        return message

    def check_no_secret(self, *texts):
        texts = [text if isinstance(text, bytes) else str(text).encode() for text in texts]
        if os.path.exists(self.audit):
            texts.append(self.read(self.audit))
        for text in texts:
            for secret in self.secrets:
                self.assertNotIn(secret, text)


class Wraps(KmsCase):
    def test_encryption_context_reaches_the_kms(self):
        message = self.sealed(context="app=billing,env=täst \"q\"")
        with common.Tool(self.dir, self.kms_config()) as kmsenv:
            self.assertEqual(kmsenv.open([message]), [TEXT])
            altered = message.replace(b"billing", b"bi11ing", 1)
            self.assertNotEqual(altered, message)
            self.assertEqual(kmsenv.open([altered]), [None])
            self.assertEqual(kmsenv.last["reason"], REJECTED)

    def test_tampered_wrap(self):
        message = self.sealed()
        blob = reader.Header.parse(message).data_key.wraps[0].ciphertext
        self.assertEqual(blob.count(b"-k-"), 2)
        with common.Tool(self.dir, self.kms_config({"negative_cache": 0})) as kmsenv:
            for at in (60, len(blob) - 3, blob.index(b"-k-") + 5):
                bad = blob[:at] + (b"A" if blob[at:at + 1] != b"A" else b"B") + blob[at + 1:]
                self.assertEqual(kmsenv.open([message.replace(blob, bad)]), [None])
                self.assertEqual(kmsenv.last["reason"], REJECTED, kmsenv.last)
            self.assertEqual(kmsenv.open([message]), [TEXT])

    def test_another_key_is_not_asked_for(self):
        """A header never makes us ask for a key that is not configured."""
        message = self.sealed()
        other = self.kms.create_key()
        with common.Tool(self.dir, self.kms_config(key_id=other)) as kmsenv:
            self.assertEqual(kmsenv.open([message]), [None])
            self.assertEqual(kmsenv.last["reason"], 40)
            self.assertIn(self.kms.key_id, kmsenv.last["error"])
            self.assertEqual(self.kms.calls(), 0)
        with common.Tool(self.dir, self.kms_config(key_id=other, decrypt_keys=self.kms.key_id)) as kmsenv:
            self.assertEqual(kmsenv.open([message]), [TEXT], kmsenv.last)

    def test_rotation_in_the_kms(self):
        message = self.sealed()
        self.kms.rotate(self.kms.key_id)
        with common.Tool(self.dir, self.kms_config()) as kmsenv:
            self.assertEqual(kmsenv.open([message]), [TEXT])

    def test_reader_opens_and_writes(self):
        message = self.sealed()
        dek = self.secrets[1]
        self.assertEqual(reader.open_message(message, dek), TEXT)
        mine = reader.write_message(b"other" * 3000, dek, reader.Header.parse(message).data_key, 12)
        with common.Tool(self.dir, self.kms_config()) as kmsenv:
            self.assertEqual(kmsenv.open([mine, message]), [b"other" * 3000, TEXT])
        self.assertEqual(self.kms.calls("Decrypt"), 1)

    def test_kms_with_local_escrow(self):
        key_file = common.local_key_file(os.path.join(self.dir, "escrow.pem"))
        both = {"prod": self.profile(), "escrow": common.local_profile(key_file)}
        with common.Tool(self.dir, self.config(both)) as kmsenv:
            message = kmsenv.seal([TEXT])[0]
        self.kms.stop()
        with common.Tool(self.dir, self.config(both)) as kmsenv:
            self.assertEqual(kmsenv.open([message]), [TEXT], kmsenv.last)
            self.assertIsNone(kmsenv.seal([TEXT])[0])
            self.assertEqual(kmsenv.last["reason"], UNREACHABLE)


class Configuration(KmsCase):
    def credentials_environment(self):
        return {"TENCENTCLOUD_SECRET_ID": self.kms.secret_id, "TENCENTCLOUD_SECRET_KEY": self.kms.secret_key}

    def round_trip(self, config, environment=None):
        with common.Tool(self.dir, config, environment) as kmsenv:
            message = kmsenv.seal([TEXT])[0]
            self.assertIsNotNone(message, kmsenv.last)
            self.assertEqual(kmsenv.open([message]), [TEXT])
            self.check_no_secret(kmsenv.stderr())
        self.assertGreater(self.kms.calls("GenerateDataKey", "ok"), 0)
        return message

    def test_only_environment(self):
        environment = {"KMSENV_KMS": "tencent", "KMSENV_REGION": "ap-guangzhou", "KMSENV_ENDPOINT": self.kms.endpoint,
                       "KMSENV_CA_FILE": self.kms.ca_file, "KMSENV_KEY_ID": self.kms.key_id, "KMSENV_AUDIT_LOG": self.audit,
                       **self.credentials_environment()}
        providers = ["-provider-path", common.MODULE_DIR, "-provider", "kmsenv", "-provider", "default"]
        empty = self.file("empty.cnf")
        self.assert_loaded(empty, environment, *providers)
        run = self.openssl("enc", *providers, "-kms-envelope", "-K", "0", data=TEXT, config=empty, environment=environment)
        self.assertEqual(run.returncode, 0, run.stderr)
        back = self.openssl("enc", "-d", *providers, "-kms-envelope", "-K", "0", data=run.stdout, config=empty, environment=environment)
        self.assertEqual((back.returncode, back.stdout), (0, TEXT))
        self.assertEqual((self.kms.calls("GenerateDataKey"), self.kms.calls("Decrypt")), (1, 1))
        self.assertEqual(len(self.read(self.audit).splitlines()), 2)
        self.check_no_secret(run.stderr, back.stderr)

    def test_environment_twin_of_a_secret(self):
        """For a profile without a section of its own."""
        environment = {"KMSENV_" + name.upper().replace("-", "_"): str(value) for name, value in self.profile().items()}
        self.assertIn("KMSENV_SECRET_KEY", environment)
        self.round_trip(self.config({}), environment)

    def test_secret_from_env_and_file(self):
        self.round_trip(self.kms_config(secret_key="env:MY_SECRET"), {"MY_SECRET": self.kms.secret_key})
        self.round_trip(self.kms_config(secret_key="file:" + self.file("secret", self.kms.secret_key + "\n")))

    def test_literal_secret_needs_a_private_file(self):
        config = self.kms_config()
        os.chmod(config, 0o644)
        with common.Tool(self.dir, config, {"OPENSSL_CONF": config}) as kmsenv:
            self.assertIsNone(kmsenv.seal([TEXT])[0])
            self.assertRegex(kmsenv.last["error"], "secret-(id|key).*every user can read")
            self.check_no_secret(kmsenv.last, kmsenv.stderr())
        self.assertEqual(self.kms.calls(), 0)

    def test_vendors_environment(self):
        self.round_trip(self.kms_config(secret_id=None, secret_key=None), self.credentials_environment())

    def test_vendors_file(self):
        os.mkdir(os.path.join(self.dir, ".tencentcloud"), 0o700)
        self.file(".tencentcloud/credentials", "[default]\nsecret_id = %s\nsecret_key = %s\n" % (self.kms.secret_id, self.kms.secret_key))
        self.round_trip(self.kms_config(secret_id=None, secret_key=None))

    def test_instance_role(self):
        config = self.kms_config(secret_id=None, secret_key=None, metadata_endpoint=self.kms.metadata_endpoint)
        self.round_trip(config)
        self.assertNotEqual(self.kms.log()[-1]["signedBy"], self.kms.secret_id)
        self.assertEqual(self.kms.counters()["actions"]["metadata"]["role"]["total"], 1)

    def test_web_identity(self):
        token = self.file("token", "test-web-identity-token")
        environment = {"TKE_REGION": "ap-guangzhou", "TKE_PROVIDER_ID": "test", "TKE_WEB_IDENTITY_TOKEN_FILE": token,
                       "TKE_ROLE_ARN": "qcs::cam::uin/100000000001:roleName/test"}
        self.round_trip(self.kms_config(secret_id=None, secret_key=None, sts_endpoint=self.kms.endpoint,
                                        metadata_endpoint="http://127.0.0.1:1"), environment)
        self.assertEqual(self.kms.calls("AssumeRoleWithWebIdentity", "ok"), 1)
        self.file("token", "of somebody else")
        with common.Tool(self.dir, self.kms_config(secret_id=None, secret_key=None, sts_endpoint=self.kms.endpoint,
                                                   metadata_endpoint="http://127.0.0.1:1"), environment) as kmsenv:
            self.assertIsNone(kmsenv.seal([TEXT])[0])
            self.assertEqual(kmsenv.last["reason"], CREDENTIALS, kmsenv.last)

    def test_expired_token_is_refreshed(self):
        config = self.kms_config({"dek_reuse": "no"}, secret_id=None, secret_key=None,
                                 metadata_endpoint=self.kms.metadata_endpoint)
        with common.Tool(self.dir, config) as kmsenv:
            self.assertIsNotNone(kmsenv.seal([TEXT])[0], kmsenv.last)
            self.kms.credentials(expire_temporary=True)
            self.assertIsNotNone(kmsenv.seal([TEXT])[0], kmsenv.last)
            self.assertEqual(self.kms.calls("GenerateDataKey", "AuthFailure.TokenFailure"), 1)
            self.assertEqual(self.kms.calls("GenerateDataKey"), 3)
            self.assertEqual(self.kms.counters()["actions"]["metadata"]["role"]["total"], 2)

    def test_no_credentials(self):
        with common.Tool(self.dir, self.kms_config(secret_id=None, secret_key=None, metadata_endpoint="http://127.0.0.1:1")) as kmsenv:
            started = time.monotonic()
            self.assertIsNone(kmsenv.seal([TEXT])[0])
            self.assertEqual(kmsenv.last["reason"], CREDENTIALS, kmsenv.last)
            self.assertIn("TENCENTCLOUD_SECRET_ID", kmsenv.last["error"])
            self.assertLess(time.monotonic() - started, ROOM)
        self.assertEqual(self.kms.calls(), 0)

    def test_unknown_secret_id_and_wrong_secret(self):
        for more in ({"secret_id": "AKIDnobody"}, {"secret_key": "TESTwrong"}):
            with common.Tool(self.dir, self.kms_config(**more)) as kmsenv:
                self.assertIsNone(kmsenv.seal([TEXT])[0])
                self.assertEqual(kmsenv.last["reason"], CREDENTIALS, kmsenv.last)
                self.assertNotIn("TESTwrong", kmsenv.last["error"])

    def test_missing_settings_are_named(self):
        for name in ("key-id", "region"):
            with common.Tool(self.dir, self.kms_config(**{name.replace("-", "_"): None})) as kmsenv:
                self.assertIsNone(kmsenv.seal([TEXT])[0])
                self.assertEqual(kmsenv.last["reason"], 1)
                self.assertIn(name, kmsenv.last["error"])

    def test_plain_http_only_to_loopback(self):
        with common.Tool(self.dir, self.kms_config(endpoint="http://kms.example")) as kmsenv:
            self.assertIsNone(kmsenv.seal([TEXT])[0])
            self.assertIn("insecure-http", kmsenv.last["error"])

    def test_system_authorities_do_not_vouch(self):
        with common.Tool(self.dir, self.kms_config(ca_file=None)) as kmsenv:
            self.assertIsNone(kmsenv.seal([TEXT])[0])
            self.assertEqual((kmsenv.last["reason"], self.kms.calls()), (UNREACHABLE, 0))


class Connections(KmsCase):
    def test_one_handshake_for_many_calls(self):
        with common.Tool(self.dir, self.kms_config({"dek_reuse": "no"})) as kmsenv:
            kmsenv.seal([TEXT] * 20)
            self.assertEqual((self.kms.calls("GenerateDataKey"), self.kms.handshakes()), (20, 1))
            self.kms.close_connections()
            time.sleep(0.1)
            self.assertNotIn(None, kmsenv.seal([TEXT] * 3))
            self.assertEqual(self.kms.handshakes(), 2)
            self.assertLessEqual(self.kms.calls("GenerateDataKey"), 24)


class Audit(KmsCase):
    FIELDS = {"time", "operation", "profile", "kms", "keyId", "dekId", "requestId", "attempts", "milliseconds", "outcome", "pid"}

    def lines(self):
        return [json.loads(line) for line in self.read(self.audit).decode().splitlines()]

    def test_lines(self):
        message = self.sealed(context="app=x")
        os.unlink(self.audit)
        with common.Tool(self.dir, self.kms_config({"dek_reuse": "no"})) as kmsenv:
            kmsenv.seal([TEXT, TEXT])
            kmsenv.open([message])
            self.kms.misbehave({"do": "denied"})
            kmsenv.seal([TEXT])
            pid = kmsenv.pid
        lines = self.lines()
        self.assertEqual(len(lines), 4)
        served = {entry["requestId"] for entry in self.kms.log()}
        for line in lines:
            self.assertLessEqual(set(line), self.FIELDS)
            self.assertEqual((line["profile"], line["kms"], line["keyId"], line["pid"]), ("prod", "tencent", self.kms.key_id, pid))
            self.assertIn(line["requestId"], served)
            self.assertRegex(line["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual([line["outcome"] for line in lines], ["ok", "ok", "ok", "KMS access denied"])
        self.assertEqual(lines[2]["dekId"], reader.Header.parse(message).data_key.id.hex())
        self.assertEqual(os.stat(self.audit).st_mode & 0o777, 0o600)
        self.check_no_secret()

    def test_a_log_that_cannot_be_written_stops_nothing(self):
        config = self.config({"prod": self.profile()}, audit_log=os.path.join(self.dir, "no", "such", "folder", "log"))
        with common.Tool(self.dir, config) as kmsenv:
            self.assertIsNotNone(kmsenv.seal([TEXT])[0], kmsenv.last)


if __name__ == "__main__":
    common.main()
