#!/usr/bin/python3
"""Every place that credentials of Alibaba Cloud come from, their renewal, and what is said if they are none."""
import json
import os
import time

import common
from alibaba_test import AlibabaCase
from backend_alibaba import REGION
from matrix import CONFIG, CREDENTIALS, DENIED

ROLE_ARN, PROVIDER_ARN = "acs:ram::1000000000000001:role/test", "acs:ram::1000000000000001:oidc-provider/test"


class Credentials(AlibabaCase):
    def profile(self, **more):
        return super().profile(**{"access_key_id": None, "access_key_secret": None, **more})

    def round_trip(self, environment=None, **more):
        with common.Tool(self.dir, self.kms_config(**more), environment) as kmsenv:
            message = kmsenv.seal([common.TEXT])[0]
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
            self.assertIsNotNone(kmsenv.seal([common.TEXT])[0], kmsenv.last)
            self.kms.credentials(expire_temporary=True)
            self.assertIsNotNone(kmsenv.seal([common.TEXT])[0], kmsenv.last)
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
            self.assertIsNotNone(kmsenv.seal([common.TEXT])[0], kmsenv.last)
            self.kms.control(options={"credential-lifetime": 7200})
            time.sleep(3)
            self.assertIsNotNone(kmsenv.seal([common.TEXT])[0], kmsenv.last)
        self.assertEqual((self.kms.calls("GenerateDataKey", "ok"), self.kms.calls(), self.asked("role")["total"]), (2, 2, 2))

    def test_ecs_version_1_of_the_service(self):
        endpoint = {"metadata_endpoint": self.kms.metadata_endpoint}
        for status in (404, 403):
            self.kms.reset()
            self.kms.misbehave({"do": "http", "status": status, "action": "metadata", "count": 1})
            with common.Tool(self.dir, self.kms_config(**endpoint)) as kmsenv:
                self.assertIsNotNone(kmsenv.seal([common.TEXT])[0], kmsenv.last)
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
