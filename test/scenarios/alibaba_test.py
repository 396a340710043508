#!/usr/bin/python3
"""kmsenv against Alibaba Cloud KMS over the network: round trips, both signatures, everything that can go wrong, and
every place that credentials come from. Calls are counted, and nothing secret is told."""
import base64
import json
import os
import subprocess
import time
import urllib.parse
from dataclasses import replace

import backend_alibaba
import cli_common
import common
import matrix
from backend_alibaba import REGION
from common import TEXT, reader
from hygiene_test import search_memory
from matrix import CONFIG, CREDENTIALS, DENIED, REJECTED, REQUEST
from dialects import alibaba

ROLE_ARN, PROVIDER_ARN = "acs:ram::1000000000000001:role/test", "acs:ram::1000000000000001:oidc-provider/test"


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


class Credentials(AlibabaCase):
    def profile(self, **more):
        return super().profile(**{"access_key_id": None, "access_key_secret": None, **more})

    def round_trip(self, environment=None, **more):
        with common.Tool(self.dir, self.kms_config(**more), environment) as kmsenv:
            message = kmsenv.seal([TEXT])[0]
            self.assertIsNotNone(message, kmsenv.last)
            self.check_no_secret(kmsenv.stderr())
        self.opens(message, environment, **more)

    def key(self, **more):
        return {"access_key_id": self.kms.secret_id, "access_key_secret": self.kms.secret_key, **more}

    def cli(self, *profiles, current="default"):
        os.makedirs(os.path.join(self.dir, ".aliyun"), 0o700, exist_ok=True)
        self.file(".aliyun/config.json", json.dumps({"current": current, "profiles": profiles, "meta_path": ""}))

    def ini(self, text):
        os.makedirs(os.path.join(self.dir, ".alibabacloud"), 0o700, exist_ok=True)
        return self.file(".alibabacloud/credentials", text)

    def session(self):
        self.kms.credentials(id="STS.TESTsession", secret="TESTsecretofsession", token="TESTtoken//of  +session==&")
        self.secrets += [b"TESTsecretofsession", b"TESTtoken//of  +session=="]
        return {"ALIBABA_CLOUD_ACCESS_KEY_ID": "STS.TESTsession", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "TESTsecretofsession",
                "ALIBABA_CLOUD_SECURITY_TOKEN": "TESTtoken//of  +session==&"}

    def asked(self, action):
        return self.kms.counters()["actions"].get("metadata", {}).get(action, {"total": 0, "outcomes": {}})

    def test_settings_and_environment(self):
        self.round_trip(access_key_id="env:OWN_ID", access_key_secret="file:" + self.file("secret", self.kms.secret_key + "\n"),
                        environment={"OWN_ID": self.kms.secret_id})
        environment = {"ALIBABA_CLOUD_ACCESS_KEY_ID": self.kms.secret_id, "ALIBABA_CLOUD_ACCESS_KEY_SECRET": self.kms.secret_key}
        self.round_trip({**environment, "ALIBABA_CLOUD_REGION_ID": REGION}, region=None)
        del environment["ALIBABA_CLOUD_ACCESS_KEY_SECRET"]
        self.fails(CREDENTIALS, "only one of", environment)

    def test_security_token_with_both_signatures(self):
        given = self.session()
        self.round_trip(given)
        self.assertEqual(self.signed_as(), ["acs3 query"] * 2)
        self.kms.reset()
        self.round_trip(given, signature="hmac-sha1")
        self.assertEqual(self.signed_as(), ["rpc-v1 form"] * 2, "a token does not belong into a URL")
        del given["ALIBABA_CLOUD_SECURITY_TOKEN"]
        self.fails(CREDENTIALS, "MissingSecurityToken", given)

    def test_oidc(self):
        environment = {"ALIBABA_CLOUD_ROLE_ARN": ROLE_ARN, "ALIBABA_CLOUD_OIDC_PROVIDER_ARN": PROVIDER_ARN,
                       "ALIBABA_CLOUD_OIDC_TOKEN_FILE": self.file("token", "test-web-identity-token")}
        self.round_trip(environment)
        self.assertEqual((self.kms.calls("AssumeRoleWithOIDC", "ok"), self.kms.calls()), (2, 4))
        self.file("token", "of-somebody-else")
        self.fails(CREDENTIALS, "AssumeRoleWithOIDC: AuthenticationFail", environment)
        self.fails(CREDENTIALS, "OIDC_PROVIDER_ARN", {**environment, "ALIBABA_CLOUD_OIDC_PROVIDER_ARN": None}, credentials="oidc")
        self.kms.misbehave({"do": "http", "status": 403, "action": "AssumeRoleWithOIDC"})
        self.fails(CREDENTIALS, "403", environment)

    def test_cli_profiles(self):
        given = self.session()
        self.cli({"name": "default", "mode": "AK", **self.key(sts_token=""), "language": "en"},
                 {"name": "token", "mode": "StsToken", "access_key_id": given["ALIBABA_CLOUD_ACCESS_KEY_ID"],
                  "access_key_secret": given["ALIBABA_CLOUD_ACCESS_KEY_SECRET"], "sts_token": given["ALIBABA_CLOUD_SECURITY_TOKEN"]},
                 {"name": "half", "mode": "AK", "access_key_id": "LTAITEST"},
                 {"name": "browser", "mode": "Unheard"})
        self.round_trip()
        self.round_trip({"ALIBABA_CLOUD_PROFILE": "token"})
        self.round_trip(credentials_section="token", credentials="cli")
        self.fails(CREDENTIALS, "access_key_secret", {"ALIBABA_CLOUD_PROFILE": "half"})
        self.fails(CREDENTIALS, "known: AK", {"ALIBABA_CLOUD_PROFILE": "browser"})
        self.fails(CREDENTIALS, "no profile nobody", {"ALIBABA_CLOUD_PROFILE": "nobody"}, credentials="cli")
        self.fails(CREDENTIALS, "CLI_PROFILE_DISABLED", {"ALIBABA_CLOUD_CLI_PROFILE_DISABLED": "true"}, credentials="cli")
        self.fails(CREDENTIALS, "not valid JSON", credentials="cli", cli_config_file=self.file("broken.json", '{"profiles": ['))
        self.fails(CREDENTIALS, "does not exist", cli_config_file=os.path.join(self.dir, "none.json"))
        elsewhere = self.file("elsewhere.json", json.dumps({"current": "x", "profiles": [{"name": "x", "mode": "AK", **self.key()}]}))
        self.round_trip(cli_config_file=elsewhere, credentials_section="x")

    def test_cli_profiles_with_roles(self):
        role = {"ram_role_arn": ROLE_ARN, "ram_session_name": "of-the-test", "expired_seconds": 900}
        self.cli({"name": "role", "mode": "RamRoleArn", **self.key(), **role},
                 {"name": "ecs", "mode": "EcsRamRole", "ram_role_name": "kmsenv-test-role"},
                 {"name": "by-role", "mode": "ChainableRamRoleArn", "source_profile": "role", **role},
                 {"name": "by-itself", "mode": "ChainableRamRoleArn", "source_profile": "by-itself", **role},
                 {"name": "oidc", "mode": "OIDC", "oidc_provider_arn": PROVIDER_ARN, **role,
                  "oidc_token_file": self.file("token", "test-web-identity-token")},
                 {"name": "no-role", "mode": "RamRoleArn", **self.key()}, current="role")
        for name, assumed in ((None, 1), ("by-role", 2), ("ecs", 0)):
            self.kms.reset()
            self.round_trip({"ALIBABA_CLOUD_PROFILE": name}, metadata_endpoint=self.kms.metadata_endpoint)
            self.assertEqual((self.kms.calls("AssumeRole", "ok"), self.kms.calls()), (2 * assumed, 2 * assumed + 2), name)
        self.kms.reset()
        self.round_trip({"ALIBABA_CLOUD_PROFILE": "oidc"})
        self.assertEqual(self.kms.calls("AssumeRoleWithOIDC", "ok"), 2)
        self.fails(CREDENTIALS, "by way of", {"ALIBABA_CLOUD_PROFILE": "by-itself"})
        self.fails(CREDENTIALS, "ARN of the role", {"ALIBABA_CLOUD_PROFILE": "no-role"})
        self.kms.credentials(id=self.kms.secret_id, deny=["AssumeRole"])
        self.fails(CREDENTIALS, "AssumeRole: NoPermission")

    def test_cli_sessions_that_the_tool_renews(self):
        given = self.session()
        stored = {"access_key_id": given["ALIBABA_CLOUD_ACCESS_KEY_ID"], "access_key_secret": given["ALIBABA_CLOUD_ACCESS_KEY_SECRET"],
                  "sts_token": given["ALIBABA_CLOUD_SECURITY_TOKEN"], "oauth_refresh_token": "TESTrefresh"}
        self.secrets.append(b"TESTrefresh")
        for mode in ("OAuth", "CloudSSO", "External"):
            self.cli({"name": "default", "mode": mode, **stored, "sts_expiration": int(time.time()) + 3600})
            self.round_trip()
            self.cli({"name": "default", "mode": mode, **stored, "sts_expiration": int(time.time()) - 1})
            self.fails(CREDENTIALS, "mode %s: .*aliyun" % mode)

    def test_ini_profiles(self):
        key = "access_key_id = %s\naccess_key_secret = %s\n" % (self.kms.secret_id, self.kms.secret_key)
        given = self.session()
        path = self.ini("[default]\nenable = true\ntype = access_key\n" + key
                        + "[role]\ntype = ram_role_arn\nrole_arn = %s\nrole_session_name = x\npolicy = {\"Version\": \"1\"}\n" % ROLE_ARN + key
                        + "[ecs]\ntype = ecs_ram_role\nrole_name = kmsenv-test-role\n"
                        + "[sts]\ntype = sts\naccess_key_id = STS.TESTsession\naccess_key_secret = TESTsecretofsession\n"
                        + "security_token = %s\n" % given["ALIBABA_CLOUD_SECURITY_TOKEN"]
                        + "[oidc]\ntype = oidc_role_arn\nrole_arn = %s\noidc_provider_arn = %s\noidc_token_file_path = %s\n"
                        % (ROLE_ARN, PROVIDER_ARN, self.file("token", "test-web-identity-token"))
                        + "[odd]\ntype = rsa_key_pair\n")
        self.round_trip()
        for name, calls in (("role", 4), ("ecs", 2), ("sts", 2), ("oidc", 4)):
            self.kms.reset()
            self.round_trip({"ALIBABA_CLOUD_PROFILE": name}, metadata_endpoint=self.kms.metadata_endpoint)
            self.assertEqual(self.kms.calls(), calls, name)
        os.rename(path, path + ".moved")
        self.round_trip({"ALIBABA_CLOUD_CREDENTIALS_FILE": path + ".moved"}, credentials="file")
        os.rename(path + ".moved", path)
        self.round_trip(credentials_file=path, credentials_section="sts")
        self.fails(CREDENTIALS, "known: access_key", credentials_section="odd")
        self.fails(CREDENTIALS, "third", credentials_section="third", credentials="file")

    def test_cli_before_ini(self):
        self.cli({"name": "default", "mode": "AK", **self.key()})
        self.ini("[default]\ntype = access_key\naccess_key_id = LTAITESTnobody\naccess_key_secret = TESTnosecret\n")
        self.round_trip()
        self.fails(CREDENTIALS, "InvalidAccessKeyId", {"ALIBABA_CLOUD_CLI_PROFILE_DISABLED": "True"})

    def test_ecs_and_expired_token(self):
        config = self.kms_config({"dek_reuse": "no"}, metadata_endpoint=self.kms.metadata_endpoint)
        with common.Tool(self.dir, config) as kmsenv:
            self.assertIsNotNone(kmsenv.seal([TEXT])[0], kmsenv.last)
            self.kms.credentials(expire_temporary=True)
            self.assertIsNotNone(kmsenv.seal([TEXT])[0], kmsenv.last)
        self.assertEqual(self.kms.calls("GenerateDataKey", "InvalidSecurityToken.Expired"), 1)
        self.assertEqual(self.kms.calls(), 3)
        self.assertEqual([self.asked(what)["total"] for what in ("token", "role-name", "role")], [2, 2, 2])
        self.fails(CREDENTIALS, "ECS_METADATA_DISABLED", {"ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true"},
                   metadata_endpoint=self.kms.metadata_endpoint)
        for environment, more in (({"ALIBABA_CLOUD_ECS_METADATA": "kmsenv-test-role"}, {}), ({}, {"ecs_role": "kmsenv-test-role"})):
            self.kms.reset()
            self.round_trip(environment, metadata_endpoint=self.kms.metadata_endpoint, **more)
            self.assertEqual([self.asked(what)["total"] for what in ("token", "role-name", "role")], [2, 0, 2])
        self.fails(CREDENTIALS, "404|credentials", metadata_endpoint=self.kms.metadata_endpoint, ecs_role="another-role")

    def test_ecs_renews_before_expiry(self):
        self.kms.control(options={"credential-lifetime": 4})
        config = self.kms_config({"dek_reuse": "no"}, metadata_endpoint=self.kms.metadata_endpoint)
        with common.Tool(self.dir, config) as kmsenv:
            self.assertIsNotNone(kmsenv.seal([TEXT])[0], kmsenv.last)
            self.kms.control(options={"credential-lifetime": 7200})
            time.sleep(3)
            self.assertIsNotNone(kmsenv.seal([TEXT])[0], kmsenv.last)
        self.assertEqual((self.kms.calls("GenerateDataKey", "ok"), self.kms.calls(), self.asked("role")["total"]), (2, 2, 2))

    def test_ecs_version_1_of_the_service(self):
        endpoint = {"metadata_endpoint": self.kms.metadata_endpoint}
        for status in (404, 403):
            self.kms.reset()
            self.kms.misbehave({"do": "http", "status": status, "action": "metadata", "count": 1})
            with common.Tool(self.dir, self.kms_config(**endpoint)) as kmsenv:
                self.assertIsNotNone(kmsenv.seal([TEXT])[0], kmsenv.last)
            self.assertEqual(self.asked("role")["outcomes"], {"version-1": 1})
        self.kms.reset()
        self.kms.misbehave({"do": "http", "status": 403, "action": "metadata", "count": 1})
        self.fails(CREDENTIALS, "403", {"ALIBABA_CLOUD_IMDSV1_DISABLED": "true"}, **endpoint)
        self.assertEqual(self.asked("role")["total"], 0)

    def test_uri(self):
        uri = {"ALIBABA_CLOUD_CREDENTIALS_URI": self.kms.metadata_endpoint + "/creds?user=kmsenv"}
        self.round_trip(uri)
        self.assertEqual((self.asked("role")["total"], self.kms.calls()), (2, 2))
        self.fails(CREDENTIALS, "404", {"ALIBABA_CLOUD_CREDENTIALS_URI": self.kms.metadata_endpoint + "/creds"})
        self.fails(CONFIG, "plain http", {"ALIBABA_CLOUD_CREDENTIALS_URI": "http://kms.example/creds"})

    def test_none(self):
        self.fails(CREDENTIALS, "access-key-id.*ALIBABA_CLOUD_ACCESS_KEY_ID.*OIDC.*aliyun/config.*alibabacloud/cred.*127.0.0.1.*CREDENTIALS_URI")
        self.assertEqual(self.kms.calls(), 0)

    def test_wrong_secret_and_denied(self):
        self.secrets.append(b"TESTwrongsecret")
        for signature in ("acs3-hmac-sha256", "hmac-sha1"):
            self.fails(CREDENTIALS, "SignatureDoesNotMatch", access_key_id=self.kms.secret_id, access_key_secret="TESTwrongsecret",
                       signature=signature)
        self.assertEqual(self.kms.calls(), 2)
        self.kms.credentials(id=self.kms.secret_id, deny=["GenerateDataKey"])
        self.fails(DENIED, "Forbidden.NoPermission", access_key_id=self.kms.secret_id, access_key_secret=self.kms.secret_key)


if __name__ == "__main__":
    common.main()
