#!/usr/bin/python3
"""kmsenv against Alibaba Cloud KMS over the network: round trips, both signatures, everything that can go wrong, the
example in conf/, memory. Calls are counted, and nothing secret is told. Credentials: alibaba_credentials_test.py."""
import base64
import json
import os
import subprocess
import urllib.parse
from dataclasses import replace

import backend_alibaba
import cli_common
import common
import matrix
from backend_alibaba import REGION
from common import TEXT, reader
from hygiene_test import search_memory
from matrix import CONFIG, REJECTED, REQUEST
from dialects import alibaba


class AlibabaCase(matrix.BackendCase):
    backend = backend_alibaba.Backend()

    def profile(self, **more):
        return self.backend.profile(self.kms, **more)

    def kms_config(self, settings=None, **more):
        return self.config({"prod": self.profile(**more)}, audit_log=self.audit, **(settings or {}))

    def sealed(self, **more):
        message = super().sealed(**more)[0]
        self.kms.reset()
        return message

    def opens(self, message, environment=None, **more):
        with common.Tool(self.dir, self.kms_config(**more), environment) as kmsenv:
            self.assertEqual(kmsenv.open([message]), [TEXT], kmsenv.last)
            self.check_no_secret(kmsenv.stderr())

    def fails(self, reason, words, environment=None, **more):
        with common.Tool(self.dir, self.kms_config(**more), environment) as kmsenv:
            self.assertIsNone(kmsenv.seal([TEXT])[0])
            self.assertEqual(kmsenv.last["reason"], reason, kmsenv.last)
            self.assertRegex(kmsenv.last["error"], words)
            self.check_no_secret(json.dumps(kmsenv.last), kmsenv.stderr())

    def signed_as(self):
        """How the requests so far were signed, and where their parameters were."""
        return [entry["signedBy"].partition(" ")[2] for entry in self.kms.log() if entry["listener"] == "alibaba"]


class Matrix(matrix.Case):
    backend = backend_alibaba.Backend()


class Wraps(AlibabaCase):
    def test_openssl_enc(self):
        config = self.kms_config(context="app=billing,env=täst \"q\" + it's (a) *star*~ & more")
        for cipher in ("kms-envelope", "kms-envelope-192", "kms-envelope-128"):
            self.kms.reset()
            run = self.openssl("enc", "-" + cipher, "-K", "0", data=TEXT * 1000, config=config)
            self.assertEqual(run.returncode, 0, run.stderr)
            back = self.openssl("enc", "-d", "-" + cipher, "-K", "0", data=run.stdout, config=config)
            self.assertEqual((back.returncode, back.stdout), (0, TEXT * 1000), back.stderr)
            self.assertEqual((self.kms.calls("GenerateDataKey", "ok"), self.kms.calls("Decrypt", "ok"), self.kms.calls()), (1, 1, 2))
            self.check_no_secret(run.stderr, back.stderr)

    def test_both_signatures_in_every_place(self):
        for signature, name in (("acs3-hmac-sha256", "acs3"), ("hmac-sha1", "rpc-v1")):
            for place, where in (("query", "query"), ("form", "form"), ("auto", "query")):
                with self.subTest(signature, parameters=place):
                    self.kms.reset()
                    more = {"signature": signature, "parameters": place, "context": "a=b c,it's=(1)+*~"}
                    with common.Tool(self.dir, self.kms_config(**more)) as kmsenv:
                        message = kmsenv.seal([TEXT])[0]
                        self.assertIsNotNone(message, kmsenv.last)
                    self.opens(message, **more)
                    self.assertEqual(self.signed_as(), ["%s %s" % (name, where)] * 2)

    def test_wrong_context_and_tampered_wrap(self):
        message = self.sealed(context="app=billing")
        blob = self.wrap_of(message).ciphertext
        with common.Tool(self.dir, self.kms_config({"negative_cache": 0})) as kmsenv:
            self.assertEqual(kmsenv.open([message.replace(b"billing", b"bi11ing", 1)]), [None])
            self.assertEqual(kmsenv.last["reason"], REJECTED, kmsenv.last)
            for at in (50, 60, len(blob) - 1):
                bad = blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1:]
                self.assertEqual(kmsenv.open([message.replace(blob, bad)]), [None])
                self.assertEqual(kmsenv.last["reason"], REJECTED, kmsenv.last)
            self.assertEqual(kmsenv.open([message]), [TEXT])

    def test_arn_names_key_and_region(self):
        arn = "acs:kms:%s:%s:key/%s" % (REGION, alibaba.ACCOUNT, self.kms.key_id)
        message = self.sealed(key_id=arn, region=None)
        self.assertEqual(self.wrap_of(message).key_id, arn)
        self.opens(message, key_id=arn, region=None)
        self.fails(CONFIG, "region", key_id=arn, region="cn-shanghai", endpoint=None)

    def test_moved_alias_still_opens(self):
        first = self.kms.create_key(alias="alias/app")
        message = self.sealed(key_id="alias/app")
        self.assertEqual(self.wrap_of(message).extra.decode(), first)
        second = self.kms.create_key(alias="alias/app")
        self.opens(message, key_id="alias/app")
        self.assertEqual(self.kms.calls("Decrypt", "ok"), 1)
        other = common.with_wraps(message, [replace(self.wrap_of(message), extra=second.encode())])
        with common.Tool(self.dir, self.kms_config(key_id="alias/app")) as kmsenv:
            self.assertEqual(kmsenv.open([other]), [None])
            self.assertIn("another key", kmsenv.last["error"])

    def test_wraps_a_key_made_elsewhere(self):
        """As a second profile Alibaba is asked to Encrypt; alone it can open the message. The key is never in a URL."""
        key_file = common.local_key_file(os.path.join(self.dir, "local.pem"))
        for place, where in (("auto", "form"), ("form", "form"), ("query", "query")):
            self.kms.reset()
            both = self.config({"main": common.local_profile(key_file), "prod": self.profile(parameters=place)})
            with common.Tool(self.dir, both) as kmsenv:
                message = kmsenv.seal([TEXT])[0]
                self.assertIsNotNone(message, kmsenv.last)
            self.assertEqual((self.kms.calls("Encrypt", "ok"), self.kms.calls(), self.signed_as()), (1, 1, ["acs3 " + where]))
            self.opens(message)
            self.assertEqual((self.kms.calls("Decrypt", "ok"), self.kms.calls()), (1, 2))

    def test_gateway_that_reads_no_body(self):
        key_file = common.local_key_file(os.path.join(self.dir, "local.pem"))
        both = self.config({"main": common.local_profile(key_file), "prod": self.profile()})
        self.kms.misbehave({"do": "no-form"})
        with common.Tool(self.dir, both) as kmsenv:
            self.assertIsNone(kmsenv.seal([TEXT])[0])
            self.assertEqual(kmsenv.last["reason"], REQUEST, kmsenv.last)
            self.assertIn("parameters = query", kmsenv.last["error"])

    def test_rotation_in_the_kms(self):
        message = self.sealed()
        self.kms.rotate(self.kms.key_id)
        self.opens(message)

    def test_nonce_is_never_used_twice(self):
        self.kms.misbehave({"do": "drop-after", "count": 1})
        with common.Tool(self.dir, self.kms_config({"dek_reuse": "no"})) as kmsenv:
            self.assertNotIn(None, kmsenv.seal([TEXT] * 20), kmsenv.last)
        self.assertEqual((self.kms.calls("GenerateDataKey", "ok"), self.kms.calls()), (20, 21))

    def test_settings_that_contradict(self):
        for words, more in (
                ("only one", {"network": "vpc"}), ("only one", {"instance": "kst-test"}),
                ("only one", {"instance": "kst-test", "network": "vpc", "endpoint": None}),
                ("region", {"region": None, "endpoint": None}), ("region", {"region": "cn.hangzhou/", "endpoint": None}),
                ("key-id", {"key_id": "acs:kms:cn-hangzhou:key"}), ("key-id", {"key_id": "acs:ram::1:role/x"}),
                ("key-id", {"key_id": "a key"}), ("key-id", {"key_id": None}), ("instance", {"instance": "a/b c", "endpoint": None}),
                ("signature", {"signature": "md5"}), ("parameters", {"parameters": "header"})):
            with self.subTest(str(more)):
                self.fails(CONFIG, words, **more)
        self.assertEqual(self.kms.calls(), 0)


class Example(AlibabaCase):
    """conf/kmsenv-alibaba.cnf, with what is commented out, and no more than its policy allows."""

    def setUp(self):
        super().setUp()
        with open(os.path.join(cli_common.SOURCE, "conf", "kmsenv-alibaba.cnf"), encoding="utf-8") as source:
            self.text = source.read()
        with open(os.path.join(cli_common.SOURCE, "conf", "alibaba-ram-policy.json"), encoding="utf-8") as source:
            statement, = json.load(source)["Statement"]
        self.allowed = {action.removeprefix("kms:") for action in statement["Action"]}

    def example(self, **replace_more):
        for old, new in {"module   = kmsenv.so": "module   = " + common.MODULE, "/var/log/kmsenv-audit.log": self.audit,
                         "/etc/kmsenv/escrow.pem": common.local_key_file(os.path.join(self.dir, "escrow.pem")),
                         "key-hzz0000000000000example": self.kms.key_id,
                         "region = cn-hangzhou": "region = cn-hangzhou\nendpoint = %s\nca-file = %s" % (self.kms.endpoint, self.kms.ca_file),
                         "#context": "context", "#access-key-id     =": "access-key-id =", "#access-key-secret =": "access-key-secret =",
                         "/etc/kmsenv/alibaba-access-key-secret": self.file("secret", self.kms.secret_key), **replace_more}.items():
            self.assertIn(old, self.text)
            self.text = self.text.replace(old, new)
        path = self.file("kmsenv-alibaba.cnf", self.text)
        self.assert_loaded(path)
        return path

    def test_works_with_what_its_policy_allows(self):
        self.assertEqual(self.allowed, {"GenerateDataKey", "Decrypt"})
        self.kms.credentials(id=self.kms.secret_id, deny=sorted(alibaba.ACTIONS - self.allowed))
        config, environment = self.example(), {"BACKUP_ACCESS_KEY_ID": self.kms.secret_id}
        run = self.openssl("enc", "-kms-envelope", "-K", "0", data=TEXT, config=config, environment=environment)
        back = self.openssl("enc", "-d", "-kms-envelope", "-K", "0", data=run.stdout, config=config, environment=environment)
        self.assertEqual((back.returncode, back.stdout), (0, TEXT), run.stderr + back.stderr)
        self.assertEqual(self.kms.counters()["actions"]["alibaba"].keys(), self.allowed)

    def test_doctor_has_nothing_to_say(self):
        run = subprocess.run([cli_common.CLI, "doctor", "--json", "--config", self.example()], capture_output=True, timeout=60,
                             env=common.clean_environment(HOME=self.dir, BACKUP_ACCESS_KEY_ID=self.kms.secret_id), cwd=self.dir)
        failed = [check for check in json.loads(run.stdout)["checks"] if check["outcome"] == "failed"]
        self.assertEqual(failed, [], run.stdout.decode() + run.stderr.decode())
        self.check_no_secret(run.stdout, run.stderr)


class Memory(AlibabaCase):
    """What travels in bodies, URLs and headers leaves no copies behind. Each search is first shown to find what is there."""

    def needles_of(self, message):
        dek = self.backend.dek_of(self.keystore(), self.wrap_of_alibaba(message))
        text = base64.b64encode(dek).decode()
        return {"key": dek, "base64": text[4:40].encode(), "encoded": urllib.parse.quote(text, safe="")[4:40].encode()}

    @staticmethod
    def wrap_of_alibaba(message):
        return next(wrap for wrap in reader.Header.parse(message).data_key.wraps if wrap.kms == "alibaba")

    def check(self, config, needles):
        with common.Tool(self.dir, config) as kmsenv:
            message = kmsenv.seal([TEXT])[0]
            self.assertIsNotNone(message, kmsenv.last)
            needles = {**needles, **self.needles_of(message)}
            found = search_memory(kmsenv.pid, {**needles, "marker": reader.Header.parse(message).data_key.id})
            self.assertTrue(found["marker"] and found["key"], "the search finds nothing")
            self.assertEqual((found["base64"], found["encoded"]), ([], []))
            self.assertTrue(kmsenv.ask("unload")["ok"])
            found = search_memory(kmsenv.pid, needles)
            self.assertEqual({name for name, places in found.items() if places}, set(), found)
        return message

    def test_encrypt_of_a_key_with_a_token(self):
        """The token goes into a header, or with the older signature into the body; the key always into the body."""
        self.kms.credentials(id="STS.TESTsession", secret="TESTsecretofsession", token="TESTtokenofsession==&")
        key_file = common.local_key_file(os.path.join(self.dir, "local.pem"))
        given = {"access_key_id": "STS.TESTsession", "access_key_secret": "file:" + self.file("secret", "TESTsecretofsession"),
                 "security_token": "file:" + self.file("token", "TESTtokenofsession==&")}
        needles = {"secret": b"TESTsecretofsession", "token": b"TESTtokenofsession=", "encoded token": b"TESTtokenofsession%3D"}
        for signature in ("acs3-hmac-sha256", "hmac-sha1"):
            with self.subTest(signature):
                profile = self.profile(signature=signature, **given)
                self.check(self.config({"main": common.local_profile(key_file), "prod": profile}), needles)
                self.check(self.config({"prod": profile}), needles)

    def test_credentials_of_a_role(self):
        needles = {"temporary": b"TESTsecret", "token": b"TESTtoken"}
        self.check(self.kms_config(access_key_id=None, access_key_secret=None, metadata_endpoint=self.kms.metadata_endpoint), needles)
        self.assertEqual(self.kms.calls(), 1)


if __name__ == "__main__":
    common.main()
