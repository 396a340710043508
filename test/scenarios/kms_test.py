#!/usr/bin/python3
"""kmsenv against a KMS over the network: configuration, the matrix of everything that can go wrong
there, credentials, and what is written about it. Every row asserts the outcome, the words of the
error, the exact number of calls, and that nothing secret is told."""
import base64
import json
import os
import time

import common
from common import TEXT, KmsScenario, reader, tencent_profile

from client import Client

# kms-timeout of the profiles here, in seconds; no case may take longer than that, with some room for a slow machine
TIMEOUT, ROOM = 4, 3
OK = 0
THROTTLED, UNREACHABLE, DENIED, DISABLED, NOT_FOUND, REJECTED, CREDENTIALS, MALFORMED, REQUEST, CLOCK, MISMATCH = \
    61, 60, 62, 63, 64, 65, 66, 67, 68, 71, 41


def once(kind, **more):
    return [{"do": kind, "count": 1, **more}]


def always(kind, **more):
    return [{"do": kind, **more}]


# name, verbs, rules, expected reason, calls that reach the KMS, regular expression for the error
SEAL, OPEN, BOTH = ("seal",), ("open",), ("seal", "open")
MATRIX = [
    ("throttled once", BOTH, once("throttled"), OK, 2, None),
    ("throttled twice", BOTH, [*once("throttled"), *once("throttled")], OK, 3, None),
    ("throttled for good", BOTH, always("throttled"), THROTTLED, 3, "RequestLimitExceeded"),
    ("internal error once", BOTH, once("internal"), OK, 2, None),
    ("internal error for good", BOTH, always("internal"), UNREACHABLE, 3, "InternalError"),
    ("temporarily unavailable", BOTH, once("temporarily-unavailable"), OK, 2, None),
    ("HTTP 503 once", BOTH, once("http", status=503), OK, 2, None),
    ("HTTP 500 for good", BOTH, always("http", status=500), UNREACHABLE, 3, "500"),
    ("HTTP 429 once", BOTH, once("http", status=429), OK, 2, None),
    ("HTTP 403", BOTH, always("http", status=403), (MALFORMED, DENIED, REQUEST), 1, "403"),
    ("dropped once before the work", BOTH, once("drop-before"), OK, 2, None),
    ("dropped once after the work", BOTH, once("drop-after"), OK, 2, None),
    ("reset once", BOTH, once("reset"), OK, 2, None),
    ("truncated once", BOTH, once("truncate"), OK, 2, None),
    ("dropped for good", BOTH, always("drop-before"), UNREACHABLE, 3, "127.0.0.1"),
    ("slow but in time", BOTH, always("latency", ms=700), OK, 1, None),
    ("too slow", BOTH, always("hang", ms=15000), UNREACHABLE, None, "127.0.0.1|time"),
    ("drips", BOTH, always("drip", ms=100), UNREACHABLE, None, "127.0.0.1|time"),
    ("denied", BOTH, always("denied"), DENIED, 1, "UnauthorizedOperation"),
    ("disabled", BOTH, always("disabled"), DISABLED, 1, "CmkDisabled"),
    ("pending delete", BOTH, always("pending-delete"), DISABLED, 1, "KeyPendingDelete"),
    ("not found", BOTH, always("not-found"), NOT_FOUND, 1, "CmkNotFound"),
    ("bad ciphertext", OPEN, always("bad-ciphertext"), REJECTED, 1, "InvalidCiphertext"),
    ("bad signature", BOTH, always("bad-signature"), CREDENTIALS, 1, "SignatureFailure"),
    ("unknown error", BOTH, always("error", code="FailedOperation.NobodyKnows"), REQUEST, 1, "FailedOperation.NobodyKnows"),
    ("clock off, Date of no help", BOTH, always("clock-skew", seconds=3600), CLOCK, 2, "clock"),
    ("garbage", BOTH, always("garbage"), MALFORMED, 1, "JSON|reply"),
    ("empty reply", BOTH, always("empty"), MALFORMED, 1, "JSON|reply|empty"),
    ("oversize", BOTH, always("oversize"), MALFORMED, 1, "large|long|bytes|exceed"),
    ("wrong shape", BOTH, always("wrong-shape"), MALFORMED, 1, "reply"),
    ("wrong type", BOTH, always("wrong-type"), MALFORMED, 1, "Plaintext|reply"),
    ("bad base64", BOTH, always("bad-base64"), MALFORMED, 1, "Plaintext|base64"),
    ("no plaintext", BOTH, always("missing-plaintext"), MALFORMED, 1, "Plaintext"),
    ("no ciphertext", SEAL, always("missing-ciphertext"), MALFORMED, 1, "CiphertextBlob"),
    ("huge ciphertext", SEAL, always("huge-ciphertext"), MALFORMED, 1, "CiphertextBlob"),
    ("short plaintext", SEAL, always("short-plaintext"), MALFORMED, 1, "31|bytes"),
    ("short plaintext", OPEN, always("short-plaintext"), (MISMATCH, MALFORMED), 1, "31|bytes"),
    ("long plaintext", BOTH, always("long-plaintext"), (MALFORMED, MISMATCH), 1, "bytes|Plaintext"),
    ("another plaintext", OPEN, always("wrong-plaintext"), MISMATCH, 1, "data key"),
    ("another key id", OPEN, always("wrong-key-id"), (REJECTED, MALFORMED), 1, "key"),
    ("rogue certificate", BOTH, always("wrong-certificate", certificate="rogue"), UNREACHABLE, 0, "certificate|ca-file"),
    ("certificate of another host", BOTH, always("wrong-certificate", certificate="wrong-name"), UNREACHABLE, 0, "certificate|name"),
    ("expired certificate", BOTH, always("wrong-certificate", certificate="expired"), UNREACHABLE, 0, "certificate"),
    ("hung up before TLS", BOTH, always("refuse"), UNREACHABLE, 0, "127.0.0.1"),
]


class KmsCase(KmsScenario):
    def setUp(self):
        super().setUp()
        self.audit = os.path.join(self.dir, "audit.log")
        self.secrets = [self.kms.secret_key.encode()]

    def profile(self, **more):
        return tencent_profile(self.kms, kms_timeout=TIMEOUT, **more)

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


class Matrix(KmsCase):
    def run_case(self, config, message, verb, rules):
        self.kms.reset()
        self.kms.misbehave(*rules)
        with common.Tool(self.dir, config) as kmsenv:
            started = time.monotonic()
            result = kmsenv.seal([TEXT]) if verb == "seal" else kmsenv.open([message])
            seconds = time.monotonic() - started
            answer, stderr = kmsenv.last, kmsenv.stderr()
        self.check_no_secret(answer, stderr)
        return result[0], answer, seconds

    def test_matrix(self):
        message, config = self.sealed(), self.kms_config()
        for name, verbs, rules, reasons, calls, words in MATRIX:
            for verb in verbs:
                with self.subTest(name, verb=verb):
                    result, answer, seconds = self.run_case(config, message, verb, rules)
                    reasons = reasons if isinstance(reasons, tuple) else (reasons,)
                    self.assertIn(answer["reason"], reasons, answer)
                    self.assertEqual(answer["entries"], 0 if reasons == (OK,) else 1, answer)
                    self.assertEqual(result is not None, reasons == (OK,), answer)
                    if verb == "open" and result is not None:
                        self.assertEqual(result, TEXT)
                    if words:
                        self.assertRegex(answer["error"], words)
                        self.assertIn("prod", answer["error"], "the error must name the profile")
                    action = "GenerateDataKey" if verb == "seal" else "Decrypt"
                    if calls is not None:
                        self.assertEqual((self.kms.calls(action), self.kms.calls()), (calls, calls))
                    else:
                        self.assertLessEqual(self.kms.calls(), 3)
                    self.assertLess(seconds, TIMEOUT + ROOM)

    def test_redirect_is_not_followed(self):
        message, config = self.sealed(), self.kms_config()
        for verb in BOTH:
            for status in (301, 302, 307, 308):
                result, answer, _ = self.run_case(config, message, verb,
                                                  always("redirect", status=status, location=self.kms.trap_url))
                self.assertIsNone(result)
                self.assertIn(answer["reason"], (MALFORMED, REQUEST, UNREACHABLE))
                self.assertRegex(answer["error"], "redirect|%d" % status)
                self.assertEqual((self.kms.trapped(), self.kms.calls()), (0, 1))

    def test_clock_is_corrected(self):
        message, config = self.sealed(), self.kms_config()
        for offset in (3600, -3600):
            self.kms.reset()
            self.kms.control(clock=offset)
            with common.Tool(self.dir, config) as kmsenv:
                self.assertEqual(kmsenv.open([message]), [TEXT], kmsenv.last)
                self.assertEqual(self.kms.calls("Decrypt"), 2)
                self.assertIsNotNone(kmsenv.seal([TEXT])[0])
                self.assertEqual(self.kms.calls("GenerateDataKey"), 1, "the correction must be remembered")

    def test_states_of_a_real_key(self):
        message, config = self.sealed(), self.kms_config()
        for state, reason in (("Disabled", DISABLED), ("PendingDelete", DISABLED), ("Archived", DISABLED)):
            self.kms.set_state(self.kms.key_id, state)
            result, answer, _ = self.run_case(config, message, "open", [])
            self.assertEqual((result, answer["reason"]), (None, reason), state)
        self.kms.delete_key(self.kms.key_id)
        result, answer, _ = self.run_case(config, message, "open", [])
        self.assertEqual((result, answer["reason"]), (None, NOT_FOUND))


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
            self.assertLess(time.monotonic() - started, TIMEOUT + ROOM)
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
