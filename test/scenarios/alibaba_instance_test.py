#!/usr/bin/python3
"""kmsenv under a KMS instance of Alibaba Cloud (dedicated gateway) over the network: round trips, everything that can go
wrong, both kinds of operations, ClientKeys. Outcomes, words of errors, exact numbers of calls, and that nothing secret is told."""
import base64
import json
import os
import subprocess

from cryptography.hazmat.primitives.serialization import pkcs12

import backend_alibaba_instance
import common
import hygiene_test
import matrix
from backend_alibaba_instance import CLIENT_KEY, PASSWORD
from common import TEXT
from dialects import alibaba_instance
from matrix import CONFIG, CREDENTIALS, DENIED, DISABLED, NOT_FOUND, REJECTED, REQUEST


class InstanceCase(matrix.BackendCase):
    backend = backend_alibaba_instance.Backend()

    def profile(self, **more):
        return self.backend.profile(self.kms, **more)

    def kms_config(self, settings=None, **more):
        return self.config({"prod": self.profile(**more)}, audit_log=self.audit, **(settings or {}))

    def counts(self):
        """{action: requests}"""
        return {name: counts["total"] for name, counts in self.kms.counters()["actions"].get("alibaba-instance", {}).items()}

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

    def refused(self, config, reason, words, message=None, environment=None):
        with common.Tool(self.dir, config, environment) as kmsenv:
            result = kmsenv.seal([TEXT])[0] if message is None else kmsenv.open([message])[0]
            self.assertIsNone(result)
            self.assertEqual((kmsenv.last["reason"], kmsenv.last["entries"]), (reason, 1), kmsenv.last)
            self.assertRegex(kmsenv.last["error"], words)
            self.check_no_secret(json.dumps(kmsenv.last), kmsenv.stderr())

    def version_of(self, message):
        wrap = self.wrap_of(message)
        return alibaba_instance.unpack_blob(self.keystore(), wrap.ciphertext, matrix.context_text(wrap).encode())[1]


class Matrix(matrix.Case):
    backend = backend_alibaba_instance.Backend()

    def expire(self, run):
        """A ClientKey has no successor but the one that somebody puts in its place."""
        super().expire(run)
        path = run.more["client-key-file"]
        os.unlink(path)
        self.backend.client_key(self.kms, os.path.basename(path), CLIENT_KEY + ".new")


class Wraps(InstanceCase):
    def test_openssl_enc(self):
        config = self.kms_config(context="app=billing,env=täst \"q\"")
        run = self.openssl("enc", "-kms-envelope", "-K", "0", data=TEXT * 1000, config=config)
        self.assertEqual(run.returncode, 0, run.stderr)
        back = self.openssl("enc", "-d", "-kms-envelope", "-K", "0", data=run.stdout, config=config)
        self.assertEqual((back.returncode, back.stdout), (0, TEXT * 1000), back.stderr)
        self.assertEqual(self.counts(), {"AdvanceGenerateDataKey": 1, "AdvanceDecrypt": 1})
        wrap = self.wrap_of(run.stdout)
        self.assertEqual((wrap.kms, wrap.key_id), ("alibaba-instance", self.kms.key_id))
        self.check_no_secret(run.stderr, back.stderr)

    def test_extra_says_how_it_was_made(self):
        key = self.kms.key_id.encode()
        for calls, mark in (("advance", b"A"), ("plain", b"P")):
            extra = self.wrap_of(self.seal(self.kms_config(calls=calls))).extra
            head = b"\1" + mark + bytes([len(key)]) + key + b"\7AES_GCM\14"
            self.assertEqual((extra[:len(head)], len(extra)), (head, len(head) + 12))

    def test_rotation_reaches_new_data_keys(self):
        config = self.kms_config()
        old = self.seal(config)
        self.kms.rotate(self.kms.key_id)
        new = self.seal(config)
        self.assertEqual((self.version_of(old), self.version_of(new)), (1, 2))
        self.opened(config, old)
        self.opened(config, new)

    def test_plain_calls(self):
        """On request: the first version for ever. What is opened is opened as it was made."""
        self.kms.rotate(self.kms.key_id)
        plain, advance = self.kms_config(calls="plain", context="app=x"), self.kms_config()
        message = self.seal(plain)
        self.assertEqual(self.counts(), {"GenerateDataKey": 1})
        self.assertEqual(len(self.wrap_of(message).ciphertext), 48)
        self.opened(plain, message)
        self.opened(advance, message)
        self.assertEqual(self.counts(), {"GenerateDataKey": 1, "Decrypt": 2})
        self.opened(plain, self.seal(advance))
        self.assertEqual(self.counts(), {"GenerateDataKey": 1, "Decrypt": 2, "AdvanceGenerateDataKey": 1, "AdvanceDecrypt": 1})
        wrap = self.wrap_of(message)
        for at in range(2 + 1 + len(self.kms.key_id), len(wrap.extra), 5):   # algorithm and IV
            bad = wrap.extra[:at] + bytes([wrap.extra[at] ^ 1]) + wrap.extra[at + 1:]
            self.refused(plain, REJECTED, "damaged|rejects|not accept", message.replace(wrap.extra, bad))
        self.refused(plain, REJECTED, "damaged", message.replace(b"app", b"apq", 1))

    def test_hardware_instance(self):
        """Has no Advance operations; the error says what to do."""
        key = self.kms.create_key(hardware=True)
        self.refused(self.kms_config(key_id=key), REQUEST, "UnsupportedOperation.*calls = advance")
        config = self.kms_config(key_id=key, calls="plain")
        self.opened(config, self.seal(config))

    def test_moved_alias_still_opens(self):
        first = self.kms.create_key(alias="alias/team/app")
        config = {calls: self.kms_config(key_id="alias/team/app", calls=calls) for calls in ("advance", "plain")}
        messages = {calls: self.seal(config[calls]) for calls in config}
        for message in messages.values():
            self.assertIn(first.encode(), self.wrap_of(message).extra)
        second = self.kms.create_key(alias="alias/team/app")
        for calls in config:
            self.opened(config[calls], messages[calls])
            self.assertIn(second.encode(), self.wrap_of(self.seal(config[calls])).extra)

    def test_key_is_checked(self):
        """A ciphertext of another key, which these credentials could open too, is refused; so is a wrap that names two."""
        message, other = self.seal(self.kms_config()), self.seal(self.kms_config(key_id=self.kms.create_key()))
        mixed = message.replace(self.wrap_of(message).ciphertext, self.wrap_of(other).ciphertext)
        self.refused(self.kms_config(), matrix.MALFORMED, "another key", mixed)
        calls = self.kms.calls()
        two = message.replace(self.wrap_of(message).extra, self.wrap_of(other).extra)
        self.refused(self.kms_config(), REJECTED, "two keys", two)
        self.refused(self.kms_config(), REJECTED, "newer version", message.replace(b"\1A\44", b"\2A\44"))
        self.assertEqual(self.kms.calls(), calls)

    def test_wraps_a_key_made_elsewhere(self):
        """As a second profile it is asked to encrypt; alone it can open the message."""
        key_file = common.local_key_file(os.path.join(self.dir, "local.pem"))
        for calls, action in (("advance", "AdvanceEncrypt"), ("plain", "Encrypt")):
            self.kms.reset()
            both = self.config({"main": common.local_profile(key_file), "prod": self.profile(calls=calls)})
            message = self.seal(both)
            self.assertEqual(self.counts(), {action: 1})
            self.opened(self.kms_config(), message)
            self.assertEqual(self.counts(), {action: 1, action.replace("En", "De"): 1})


class Operations(InstanceCase):
    """Those that no cipher reaches."""

    def tool_says(self, operation, **more):
        words = ["%s=%s" % pair for pair in self.profile(**more).items() if pair[0] != "kms"]
        path = os.environ.get("KMSENV_TEST_KMS_TOOL") or os.path.join(common.BUILD, "test", "kms_tool")
        run = subprocess.run([path, operation, "alibaba-instance", *words], capture_output=True, timeout=60,
                             env=common.clean_environment(HOME=self.dir))
        self.assertEqual((run.returncode, run.stderr), (0, b""), run)
        self.check_no_secret(run.stdout)
        return json.loads(run.stdout)

    def test_describe_tries_the_key(self):
        for calls, prefix in (("advance", "Advance"), ("plain", "")):
            self.kms.reset()
            self.assertEqual(self.tool_says("describe", calls=calls), {"ok": True, "reason": 0, "text": "Enabled"})
            self.assertEqual(self.counts(), {prefix + "GenerateDataKey": 1, prefix + "Decrypt": 1})
        self.kms.reset()
        self.kms.misbehave({"do": "wrong-plaintext", "action": "AdvanceDecrypt"})
        self.assertRegex(self.tool_says("describe")["text"], "another data key")
        self.kms.reset()
        self.kms.set_state(self.kms.key_id, "Disabled")
        self.assertEqual(self.tool_says("describe")["reason"], DISABLED)
        self.assertEqual(self.counts(), {"AdvanceGenerateDataKey": 1})


class Limits(InstanceCase):
    def test_settings(self):
        bad = [({"key_id": "key 1"}, "key-id"), ({"key_id": "alias/"}, "key-id"), ({"key_id": "acs:kms:r:1:key/x"}, "key-id"),
               ({"key_id": "a/b"}, "key-id"), ({"calls": "both"}, "advance.plain"), ({"instance_id": "kst-1"}, "leave one"),
               ({"endpoint": None}, "instance-id"), ({"endpoint": None, "instance_id": "kst-1.example/"}, "instance-id"),
               ({"endpoint": "http://kms.example"}, "insecure-http")]
        for more, words in bad:
            with self.subTest(more):
                self.refused(self.kms_config(**more), CONFIG, words)
        self.assertEqual(self.kms.calls(), 0)

    def test_gateway_of_an_instance(self):
        """The host is made from the id; it does not exist here."""
        config = self.kms_config(endpoint=None, instance_id="kst-hzz0000000000000test", proxy="http://127.0.0.1:1", kms_timeout=1)
        self.refused(config, matrix.UNREACHABLE, "proxy|kst-hzz0000000000000test.cryptoservice.kms.aliyuncs.com")

    def test_long_context(self):
        self.refused(self.kms_config(context="app=" + "x" * 1100), CONFIG, "1024|context")
        self.assertEqual(self.kms.calls(), 0)

    def test_states(self):
        message, config = self.seal(self.kms_config()), self.kms_config()
        for state, reason in (("Disabled", DISABLED), ("PendingDelete", DISABLED), ("Archived", DISABLED)):
            self.kms.set_state(self.kms.key_id, state)
            self.refused(config, reason, "enable it", message)
        self.kms.delete_key(self.kms.key_id)
        self.refused(config, NOT_FOUND, "check key-id", message)


class ClientKeys(InstanceCase):
    def refused_key(self, words, environment=None, calls=0, reason=CREDENTIALS, **more):
        self.kms.reset()
        self.refused(self.kms_config(**more), reason, words, environment=environment)
        self.assertEqual(self.kms.calls(), calls)

    def test_password(self):
        path = self.file("password.txt", PASSWORD + "\n")
        given = {"CLIENT_KEY_PASSWORD": PASSWORD}
        for environment, setting in ((None, "file:" + path), ({"MINE": PASSWORD}, "env:MINE"), (given, None),
                                     ({"CLIENT_KEY_PASSWORD": "another"}, PASSWORD)):
            config = self.kms_config(client_key_password=setting)
            self.opened(config, self.seal(config, environment), environment)
        self.secrets.append(b"TESTwrong")
        self.refused_key("password is wrong", client_key_password="TESTwrong")
        self.refused_key("password is wrong", {"CLIENT_KEY_PASSWORD": "TESTwrong"}, client_key_password=None)
        self.refused_key("CLIENT_KEY_PASSWORD", client_key_password=None)
        self.refused_key("does not exist", client_key_password="file:/nonexistent")
        self.refused_key("MINE", client_key_password="env:MINE")

    def test_files(self):
        self.refused_key("client-key-file", client_key_file=None)
        self.refused_key("does not exist", client_key_file=os.path.join(self.dir, "nobody.json"))
        self.refused_key("not JSON", client_key_file=self.file("a.json", "PK\3\4"))
        self.refused_key("no KeyId", client_key_file=self.file("b.json", '{"PrivateKeyData": "AAAA"}'))
        self.refused_key("no PrivateKeyData", client_key_file=self.file("c.json", '{"KeyId": "KAAP.x"}'))
        self.refused_key("not base64", client_key_file=self.file("d.json", '{"KeyId": "KAAP.x", "PrivateKeyData": "*"}'))

    def test_legacy_encoding(self):
        """As older ClientKeys are; and as those of the vectors, whose certificate is under RC2, which OpenSSL has in its legacy
        provider: not needed for the key."""
        text, public = alibaba_instance.make_client_key("KAAP.legacy", PASSWORD, legacy=True)
        self.kms.credentials(id="KAAP.legacy", secret=public)
        config = self.kms_config(client_key_file=self.file("legacy.json", text))
        self.opened(config, self.seal(config))
        rc2 = os.path.join(common.TEST, "vectors", "alibaba-dkms", "clientkey-legacy.json")
        self.refused_key("ClientKey is unknown", calls=2, client_key_file=rc2, client_key_password="Fake-Passw0rd_For-Tests")
        self.refused_key("ClientKey is unknown", {"OPENSSL_MODULES": self.dir}, calls=2, client_key_file=rc2,
                         client_key_password="Fake-Passw0rd_For-Tests")
        self.refused_key("legacy provider.*OPENSSL_MODULES", {"OPENSSL_MODULES": self.dir}, client_key_file=rc2)

    def test_refusals(self):
        other, public = alibaba_instance.make_client_key(CLIENT_KEY, PASSWORD)   # the same id with another key
        self.refused_key("SignatureNotMatch", calls=1, client_key_file=self.file("other.json", other))
        text, _ = alibaba_instance.make_client_key("KAAP.unknown", PASSWORD)
        self.refused_key("Unauthorized.*ClientKey", calls=2, client_key_file=self.file("unknown.json", text))
        self.kms.credentials(id=CLIENT_KEY, deny=["AdvanceGenerateDataKey"])
        self.refused_key("Forbidden.NoPermission.*policy", calls=1, reason=DENIED)

    def test_replaced_while_running(self):
        """A ClientKey that was deleted is looked for anew, in the same file, and only then."""
        path = self.backend.client_key(self.kms, "rotating.json", CLIENT_KEY + ".1", token="none")
        with common.Tool(self.dir, self.kms_config({"dek_reuse": "no"}, client_key_file=path)) as kmsenv:
            self.assertEqual([m is not None for m in kmsenv.seal([TEXT] * 3)], [True] * 3, kmsenv.last)
            os.unlink(path)
            self.assertIsNotNone(kmsenv.seal([TEXT])[0], "the file is read once")
            self.backend.client_key(self.kms, "rotating.json", CLIENT_KEY + ".2")
            self.kms.credentials(expire_temporary=True)
            self.assertEqual([m is not None for m in kmsenv.seal([TEXT] * 2)], [True] * 2, kmsenv.last)
        self.assertEqual((self.kms.calls(None, "ok"), self.kms.calls(None, "Unauthorized")), (6, 1))
        signers = [entry["signedBy"] for entry in self.kms.log() if entry["outcome"] == "ok"]
        self.assertEqual(signers, [CLIENT_KEY + ".1"] * 4 + [CLIENT_KEY + ".2"] * 2)


class Memory(InstanceCase):
    """Replies are not JSON here, and are read in place: where does what is secret in them, and in a ClientKey, stay?"""

    def needles(self, message):
        dek = self.backend.dek_of(self.keystore(), self.wrap_of(message))
        return {"raw": dek, "half": dek[8:24], "hex": dek.hex().encode()}

    def test_data_key(self):
        config = self.kms_config()
        message = self.seal(config)
        for work in (lambda tool: tool.open([message] * 20), lambda tool: tool.seal([TEXT] * 20)):
            kmsenv = self.tool(config)
            results = work(kmsenv)
            self.assertNotIn(None, results, kmsenv.last)
            sealed = message if results[0] == TEXT else results[0]
            needles = self.needles(sealed)
            found = hygiene_test.search_memory(kmsenv.pid, {**needles, "marker": common.reader.Header.parse(sealed).data_key.id})
            self.assertTrue(found["raw"] and found["marker"], "a cached key must be in memory somewhere")
            flags = hygiene_test.Hygiene.flags_of(kmsenv.pid, found["raw"] + found["half"] + found["hex"])
            self.assertTrue(all("dd" in f for f in flags.values()), "not in no-dump memory: %s" % flags)
            self.assertTrue(kmsenv.ask("unload")["ok"])
            self.assertEqual(hygiene_test.search_memory(kmsenv.pid, needles), {name: [] for name in needles})

    def test_client_key(self):
        """The private key is libcrypto's while it is in use; the password and the file's text are gone by then."""
        password = self.file("password", PASSWORD)
        with open(self.backend.client_key(self.kms), encoding="utf-8") as source:
            data = json.load(source)["PrivateKeyData"]
        key = pkcs12.load_pkcs12(base64.b64decode(data), PASSWORD.encode()).key.private_numbers()
        kmsenv = self.tool(self.kms_config(client_key_password="file:" + password))
        self.assertIsNotNone(kmsenv.seal([TEXT])[0], kmsenv.last)
        # without what else begins like them in this test; two characters to one is how PKCS#12 has passwords
        needles = {"password": PASSWORD.encode(), "wide password": PASSWORD.encode("utf-16-be"), "text": data[400:464].encode(),
                   "DER": key.p.to_bytes(128, "big")}
        self.assertEqual(hygiene_test.search_memory(kmsenv.pid, needles), {name: [] for name in needles})
        limbs = {"prime": key.p.to_bytes(128, "little"), "exponent": key.d.to_bytes(256, "little")}
        self.assertTrue(hygiene_test.search_memory(kmsenv.pid, limbs)["prime"], "the search is broken")
        self.assertTrue(kmsenv.ask("unload")["ok"])
        self.assertEqual(hygiene_test.search_memory(kmsenv.pid, {**needles, **limbs}), {name: [] for name in {**needles, **limbs}})


if __name__ == "__main__":
    common.main()
