#!/usr/bin/python3
"""kmsenv under Google Cloud KMS: everything that can go wrong there, versions of keys, every way to a token,
and what a hostile file of credentials cannot do. Calls are counted, and nothing secret is told."""
import json
import os
import time

import backend_google
import common
import matrix
from backend_google import ACCOUNT, account_file
from common import TEXT
from matrix import CONFIG, CREDENTIALS, DENIED, NO_WRAP, NOT_FOUND, REJECTED, REQUEST

from dialects.google import POOL, PREFIX, ROBOT, token_of

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
IMPERSONATE = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/%s:generateAccessToken"
SUBJECT = "test-web-identity-token"


class Matrix(matrix.Case):
    backend = backend_google.Backend()


class GoogleCase(matrix.BackendCase):
    backend = backend_google.Backend()

    def google_config(self, settings=None, **more):
        return self.config({"prod": self.backend.profile(self.kms, **more)}, audit_log=self.audit, **(settings or {}))

    def counts(self):
        """{action: requests}"""
        return {name: counts["total"] for name, counts in self.kms.counters()["actions"].get("google", {}).items()}

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
            self.check_no_secret(kmsenv.last, kmsenv.stderr())


class Keys(GoogleCase):
    def test_openssl_enc(self):
        config = self.google_config(context="app=billing,env=täst \"q\"")
        run = self.openssl("enc", "-kms-envelope", "-K", "0", data=TEXT * 1000, config=config)
        self.assertEqual(run.returncode, 0, run.stderr)
        back = self.openssl("enc", "-d", "-kms-envelope", "-K", "0", data=run.stdout, config=config)
        self.assertEqual((back.returncode, back.stdout), (0, TEXT * 1000), back.stderr)
        self.assertEqual(self.counts(), {"encrypt": 1, "decrypt": 1})
        wrap = self.wrap_of(run.stdout)
        self.assertEqual((wrap.kms, wrap.key_id, wrap.extra), ("google", self.kms.key_id, None))
        self.check_no_secret(run.stderr, back.stderr)

    def test_a_version_encrypts_and_the_key_decrypts(self):
        old = self.kms.key_id + "/cryptoKeyVersions/1"
        self.kms.rotate(self.key_name(self.kms.key_id))
        message = self.seal(self.google_config(key_id=old))
        self.assertEqual(self.wrap_of(message).key_id, self.kms.key_id)
        self.assertEqual(self.wrap_of(message).ciphertext[4], 1)
        self.assertEqual(self.wrap_of(self.seal(self.google_config())).ciphertext[4], 2)
        self.opened(self.google_config(), message)
        self.opened(self.google_config(key_id=old), message)
        self.refused(self.google_config(key_id=self.kms.key_id + "/cryptoKeyVersions/9"), NOT_FOUND, "NOT_FOUND")

    def test_key_made_elsewhere(self):
        """As a second profile it wraps the data key of the first; alone it opens the message."""
        key_file = common.local_key_file(os.path.join(self.dir, "local.pem"))
        both = self.config({"main": common.local_profile(key_file), "prod": self.backend.profile(self.kms)})
        message = self.seal(both)
        self.assertEqual(self.counts(), {"encrypt": 1})
        self.opened(self.google_config(), message)
        self.assertEqual(self.counts(), {"encrypt": 1, "decrypt": 1})

    def test_a_wrap_cannot_lead_elsewhere(self):
        """What it names goes into the path of a request: only as the name of a key, even if the configuration lists it."""
        message = self.seal(self.google_config())
        bad = "projects/../../v1/x"
        wrap = self.wrap_of(message)
        other = common.with_wraps(message, [matrix.replace(wrap, key_id=bad)])
        self.kms.reset()
        self.refused(self.google_config(), NO_WRAP, "decrypt-keys", other)
        self.refused(self.google_config(decrypt_keys=bad), REJECTED, "names no key", other)
        self.assertEqual(self.counts(), {})

    def test_quota_project(self):
        message = self.seal(self.google_config(quota_project="kmsenv-test-quota"))
        self.refused(self.google_config(quota_project="somebody-elses"), DENIED, "quota-project", message)
        environment = {"GOOGLE_CLOUD_QUOTA_PROJECT": "somebody-elses"}
        self.refused(self.google_config(), DENIED, "quota-project", message, environment)
        self.opened(self.google_config(quota_project="kmsenv-test-quota"), message, environment)
        named = self.google_config(credentials_file=self.file("named", account_file(quota_project_id="somebody-elses")))
        self.refused(named, DENIED, "quota-project", message)

    def test_settings_that_cannot_be_meant(self):
        for words, more in (("key-id", {"key_id": "kmsenv-test-key"}), ("key-id", {"key_id": self.kms.key_id + "/x"}),
                            ("key-id", {"key_id": self.kms.key_id.replace("europe-west3", "..")}), ("key-id", {"key_id": None}),
                            ("universe-domain", {"universe_domain": "https://evil.example/"}),
                            ("service-account", {"service_account": "../../x"}),
                            ("metadata-endpoint", {"metadata_endpoint": "http://kms.example"}),
                            ("endpoint", {"endpoint": "http://kms.example"}), ("token-endpoint", {"token_endpoint": "http://kms.example"})):
            self.refused(self.google_config(**more), CONFIG, words)
        self.assertEqual(self.counts(), {})


class Tokens(GoogleCase):
    """Every source, each in a process that seals and one that opens."""

    def works(self, config, environment=None):
        self.opened(config, self.seal(config, environment), environment)

    def with_file(self, text, settings=None, **more):
        return self.google_config(settings, credentials_file=self.file("credentials.json", text), **more)

    def test_self_signed(self):
        self.works(self.google_config())
        self.assertEqual(self.counts(), {"encrypt": 1, "decrypt": 1})
        self.assertEqual({entry["signedBy"] for entry in self.kms.log()}, {ACCOUNT})

    def test_exchanged_for_a_scope(self):
        self.works(self.google_config(scope=CLOUD_PLATFORM))
        self.assertEqual(self.counts(), {"token": 2, "encrypt": 1, "decrypt": 1})
        self.refused(self.google_config(scope="https://www.googleapis.com/auth/drive"), CREDENTIALS, "invalid_scope")

    def test_clock_is_corrected_for_an_exchange(self):
        for offset in (3600, -3600):
            self.kms.reset()
            self.kms.control(clock=offset)
            with common.Tool(self.dir, self.google_config({"dek_reuse": "no"}, scope=CLOUD_PLATFORM)) as kmsenv:
                for _ in range(2):
                    self.assertIsNotNone(kmsenv.seal([TEXT])[0], kmsenv.last)
            self.assertEqual(self.counts()["token"], 2)

    def test_places_of_files(self):
        config = self.google_config(credentials_file=None)
        path = self.file("elsewhere.json", account_file())
        self.works(config, {"GOOGLE_APPLICATION_CREDENTIALS": path})
        self.refused(config, CREDENTIALS, "/nonexistent/file", environment={"GOOGLE_APPLICATION_CREDENTIALS": "/nonexistent/file"})
        self.refused(config, CREDENTIALS, "GOOGLE_APPLICATION_CREDENTIALS.*Tried: .*settings.*file.*instance")
        os.makedirs(os.path.join(self.dir, ".config/gcloud"), 0o700)
        self.file(".config/gcloud/application_default_credentials.json", account_file())
        self.works(config)
        os.mkdir(os.path.join(self.dir, "other"), 0o700)
        self.refused(self.google_config(credentials="instance", credentials_file=None), CREDENTIALS, "instance")
        self.file("other/application_default_credentials.json", "{}")
        self.refused(config, CREDENTIALS, "service_account, authorized_user", environment={"CLOUDSDK_CONFIG": self.dir + "/other"})

    def test_given_token(self):
        token = token_of(self.kms.secret_id, self.kms.secret_key)
        config = self.google_config(credentials_file=None, access_token="env:MY_TOKEN")
        self.works(config, {"MY_TOKEN": token})
        self.refused(config, CREDENTIALS, "UNAUTHENTICATED", environment={"MY_TOKEN": token_of(self.kms.secret_id, "TESTwrong")})
        self.assertEqual(self.counts(), {"encrypt": 3, "decrypt": 1})

    def test_user(self):
        self.kms.credentials(id="1//TESTrefresh/~token", secret="client.apps:TESTclientsecret")
        self.secrets += [b"TESTrefresh", b"TESTclientsecret"]
        user = {"type": "authorized_user", "client_id": "client.apps", "client_secret": "TESTclientsecret",
                "refresh_token": "1//TESTrefresh/~token", "quota_project_id": "kmsenv-test-quota"}
        self.works(self.with_file(json.dumps(user)))
        self.assertEqual(self.counts(), {"token": 2, "encrypt": 1, "decrypt": 1})
        self.refused(self.with_file(json.dumps({**user, "refresh_token": "1//revoked"})), CREDENTIALS, "invalid_grant.*revoked")
        self.refused(self.with_file(json.dumps({**user, "client_secret": "TESTwrong"})), CREDENTIALS, "invalid_client")
        self.refused(self.with_file(json.dumps({**user, "client_id": None})), CREDENTIALS, "client_id")
        self.assertEqual(self.kms.calls("token"), 4)

    def test_instance(self):
        instance = {"credentials_file": None, "metadata_endpoint": self.kms.metadata_endpoint}
        self.works(self.google_config(**instance))
        self.works(self.google_config(**instance, service_account=ROBOT))
        host = self.kms.metadata_endpoint.removeprefix("http://")
        self.works(self.google_config(**{**instance, "metadata_endpoint": None}), {"GCE_METADATA_HOST": host})
        self.works(self.google_config(**{**instance, "metadata_endpoint": None}), {"GCE_METADATA_IP": host, "GCE_METADATA_HOST": "x"})
        self.assertEqual(self.kms.counters()["actions"]["metadata"]["token"], {"total": 8, "ok": 8, "outcomes": {"ok": 8}})
        self.refused(self.google_config(**instance, service_account="nobody@x"), CREDENTIALS, "404")
        self.refused(self.google_config(**instance), CREDENTIALS, "NO_GCE_CHECK", environment={"NO_GCE_CHECK": "true"})
        self.refused(self.google_config(**{**instance, "metadata_endpoint": None}), CONFIG, "metadata",
                     environment={"GCE_METADATA_HOST": "kms.example"})

    def test_not_the_metadata_service(self):
        """Anything may answer at such an address: Google's own service says that it is it."""
        self.kms.misbehave(*matrix.always("garbage", action="metadata"))
        self.refused(self.google_config(credentials_file=None, metadata_endpoint=self.kms.metadata_endpoint), CREDENTIALS,
                     "not the metadata service of Google")
        self.assertEqual(self.counts(), {})

    def external(self, source, **more):
        return json.dumps({"type": "external_account", "audience": POOL, "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                           "token_url": "https://sts.googleapis.com/v1/token", "credential_source": source, **more})

    def test_federation(self):
        source = {"file": self.file("subject", SUBJECT + "\n")}
        self.works(self.with_file(self.external(source)))
        self.assertEqual(self.counts(), {"exchange": 2, "encrypt": 1, "decrypt": 1})
        self.kms.reset()
        self.works(self.with_file(self.external(source, service_account_impersonation_url=IMPERSONATE % ROBOT)))
        self.assertEqual(self.counts(), {"exchange": 2, "impersonate": 2, "encrypt": 1, "decrypt": 1})
        self.assertTrue(self.kms.log()[-1]["signedBy"].startswith("ROBOT"))
        json_file = {"file": self.file("subject.json", json.dumps({"a": {"token": SUBJECT}})),
                     "format": {"type": "json", "subject_token_field_name": "token"}}
        self.works(self.with_file(self.external(json_file)))
        self.refused(self.with_file(self.external(source, service_account_impersonation_url=IMPERSONATE % "nobody@x")), CREDENTIALS,
                     "no such service account")
        self.file("subject", "of-somebody-else")
        self.refused(self.with_file(self.external(source)), CREDENTIALS, "token from sts: invalid_grant")

    def test_federation_from_a_url(self):
        source = {"url": self.kms.metadata_endpoint + "/subject-token", "headers": {"Authorization": "bearer of-the-machine", "X-Kind": "test"},
                  "format": {"type": "json", "subject_token_field_name": "value"}}
        self.secrets.append(b"of-the-machine")
        self.works(self.with_file(self.external(source)))
        self.assertEqual(self.kms.counters()["actions"]["metadata"]["subject"]["ok"], 2)
        self.refused(self.with_file(self.external({**source, "headers": {"X-Kind": "test"}})), CREDENTIALS, "403")
        for headers in ({"Host": "other"}, {"transfer-encoding": "chunked"}, {"X": 1}, {"X": "a\r\nb"}, {"X-%d" % n: "x" for n in range(9)}):
            self.refused(self.with_file(self.external({**source, "headers": headers})), REQUEST if headers == {"X": "a\r\nb"} else CREDENTIALS,
                         "header")
        self.refused(self.with_file(self.external({**source, "url": "http://kms.example/x"})), CREDENTIALS, "plain http")

    def test_impersonation_by_a_service_account(self):
        text = json.dumps({"type": "impersonated_service_account", "service_account_impersonation_url": IMPERSONATE % ROBOT,
                           "delegates": ["projects/-/serviceAccounts/x@y"], "source_credentials": json.loads(account_file())})
        self.works(self.with_file(text))
        self.assertEqual(self.counts(), {"token": 2, "impersonate": 2, "encrypt": 1, "decrypt": 1})
        nested = {"type": "impersonated_service_account", "service_account_impersonation_url": IMPERSONATE % ROBOT}
        self.refused(self.with_file(json.dumps({**nested, "source_credentials": nested})), CREDENTIALS, "source_credentials")

    def test_expired_token_is_replaced(self):
        source = {"file": self.file("subject", SUBJECT)}
        with common.Tool(self.dir, self.with_file(self.external(source), {"dek_reuse": "no"})) as kmsenv:
            self.assertIsNotNone(kmsenv.seal([TEXT])[0], kmsenv.last)
            self.kms.credentials(expire_temporary=True)
            self.assertIsNotNone(kmsenv.seal([TEXT])[0], kmsenv.last)
        self.assertEqual(self.counts(), {"exchange": 2, "encrypt": 3})

    def test_token_is_renewed_before_it_expires(self):
        self.kms.control(options={"credential-lifetime": 4})
        with common.Tool(self.dir, self.google_config({"dek_reuse": "no"}, scope=CLOUD_PLATFORM)) as kmsenv:
            self.assertIsNotNone(kmsenv.seal([TEXT])[0], kmsenv.last)
            time.sleep(2.6)
            self.assertIsNotNone(kmsenv.seal([TEXT])[0], kmsenv.last)
        self.assertEqual(self.counts(), {"token": 2, "encrypt": 2})

    def test_deleted_account(self):
        """The key file is read again, in case it was replaced."""
        self.backend.settings(self.kms)
        self.kms.credentials(id=ACCOUNT, secret="gone")
        self.refused(self.google_config(), CREDENTIALS, "UNAUTHENTICATED.*key was deleted")
        self.assertEqual(self.counts(), {"encrypt": 2})
        self.refused(self.google_config(scope=CLOUD_PLATFORM), CREDENTIALS, "oauth2: invalid_grant")

    def test_trouble_of_the_token_services(self):
        config = self.google_config(scope=CLOUD_PLATFORM)
        self.kms.misbehave(*matrix.once("internal", action="token"))
        self.seal(config)
        self.kms.misbehave(*matrix.always("internal", action="token"))
        self.refused(config, matrix.UNREACHABLE, "oauth2.*INTERNAL")
        self.kms.misbehave(*matrix.always("redirect", action="token", location=self.kms.trap_url))
        self.refused(config, matrix.MALFORMED, "redirect")
        self.assertEqual(self.kms.trapped(), 0)
        for kind in ("garbage", "empty"):
            self.kms.misbehave(*matrix.always(kind, action="token"))
            self.refused(config, matrix.MALFORMED, "oauth2.*JSON")


class Hostile(GoogleCase):
    """A file of credentials that was made by somebody else must not send anything anywhere but to Google."""

    def no_request(self, text, words, reason=CREDENTIALS, **more):
        self.kms.reset()
        self.refused(self.google_config(credentials_file=self.file("hostile.json", text), **more), reason, words)
        self.assertEqual((self.counts(), self.kms.counters()["requests"]), ({}, 0))

    def test_hosts(self):
        urls = ("https://evil.example/token", "http://oauth2.googleapis.com/token", "https://oauth2.googleapis.com.evil.example/token",
                "https://evilgoogleapis.com/token", "https://oauth2.googleapis.com:8443/token", "https://a@oauth2.googleapis.com/token",
                "https://storage.googleapis.com/token", "https://oauth2.googleapis.com/upload/storage/v1/b/evil/o",
                "https://www.googleapis.com/upload/storage/v1/b/evil/o", "https://oauth2.googleapis.com/../token", "evil.example",
                "https://oauth2.googleapis.com/token?x=y", self.kms.endpoint + "/token", "https://oauth2-googleapis.com/token")
        for url in urls:
            with self.subTest(url):
                self.no_request(account_file(token_uri=url), "token_uri", scope=CLOUD_PLATFORM)
                user = {"type": "authorized_user", "client_id": "x", "client_secret": "y", "refresh_token": "z", "token_uri": url}
                self.no_request(json.dumps(user), "token_uri")
        for former in ("https://accounts.google.com/o/oauth2/token", "https://www.googleapis.com/oauth2/v4/token"):
            self.refused(self.google_config(credentials_file=self.file("old", account_file(token_uri=former)), scope=CLOUD_PLATFORM),
                         CREDENTIALS, "token from oauth2")   # which does not know that path here

    def external(self, **more):
        return json.dumps({"type": "external_account", "audience": POOL, "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                           "token_url": "https://sts.googleapis.com/v1/token",
                           "credential_source": {"file": self.file("subject", SUBJECT)}, **more})

    def test_federation(self):
        for url in ("https://evil.example/v1/token", "https://sts.googleapis.com/v1/token/x", "https://sts.evil.example/v1/token"):
            self.no_request(self.external(token_url=url), "token_url")
        for source, words in (({"executable": {"command": "/bin/sh -c x"}}, "executables"), ({"environment_id": "aws1"}, "AWS"),
                              ({"certificate": {}}, "certificates"), ({}, "file"), ({"file": "relative"}, "absolute"),
                              ({"file": self.file("lines", "two\nlines")}, "one word"), ({"file": "/nonexistent/subject"}, "/nonexistent")):
            self.no_request(self.external(credential_source=source), words)
        self.no_request(self.external(workforce_pool_user_project="x"), "workforce")
        for url in ("https://evil.example/v1/projects/-/serviceAccounts/x:generateAccessToken",
                    "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/x/../y:generateAccessToken",
                    "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/x:signBlob"):
            self.kms.reset()
            self.refused(self.google_config(credentials_file=self.file("hostile.json", self.external(service_account_impersonation_url=url))),
                         CREDENTIALS, "service_account_impersonation_url")
            self.assertEqual(self.counts(), {"exchange": 1})

    def test_universe(self):
        self.no_request(account_file(universe_domain="evil.example"), "universe-domain")
        self.no_request(account_file(token_uri="https://oauth2.evil.example/token"), "token_uri", scope=CLOUD_PLATFORM)
        self.no_request(account_file(), "universe", universe_domain="cloud.example")
        # a profile says so: the token is for that universe, which the stand-in is not
        self.refused(self.google_config(credentials_file=self.file("other", account_file(universe_domain="cloud.example")),
                                        universe_domain="cloud.example"), CREDENTIALS, "UNAUTHENTICATED")

    def test_files_that_are_none(self):
        for text, words in (("", "empty"), ("{", "not a JSON file"), ("[]", "type"), ('{"type": "gdch_service_account"}', "gdch_service_account"),
                            ('{"type": "service_account"}', "client_email"), ('{"type": 1}', "accepted"),
                            ('{"type": "service_account", "type": "x"}', "not a JSON"), (account_file(private_key="no key"), "private key"),
                            (" " * 70000 + "{}", "larger")):
            self.no_request(text, words)


class Limits(GoogleCase):
    def test_context_at_its_limit(self):
        config = self.google_config({"block_size": 4096}, context="a=" + "x" * 1000)
        self.opened(config, self.seal(config))
        self.refused(self.google_config(context="a=" + "x" * 2000), CONFIG, "context")


if __name__ == "__main__":
    common.main()
