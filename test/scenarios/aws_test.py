#!/usr/bin/python3
"""kmsenv against AWS KMS over the network: round trips, everything that can go wrong, credentials. Every row
asserts the outcome, the words of the error, the exact number of calls, and that nothing secret is told."""
import json
import os

import backend_aws
import common
import matrix
from backend_aws import REGION
from common import TEXT
from matrix import CONFIG, CREDENTIALS, REJECTED
from dialects import aws


class AwsCase(matrix.BackendCase):
    backend = backend_aws.Backend()

    def profile(self, **more):
        return self.backend.profile(self.kms, **more)

    def kms_config(self, settings=None, **more):
        return self.config({"prod": self.profile(**more)}, audit_log=self.audit, **(settings or {}))

    def sealed(self, **more):
        message = super().sealed(**more)[0]
        self.kms.reset()
        return message


class Matrix(matrix.Case):
    backend = backend_aws.Backend()


class Wraps(AwsCase):
    def test_openssl_enc(self):
        config = self.kms_config(context="app=billing,env=täst \"q\"")
        run = self.openssl("enc", "-kms-envelope", "-K", "0", data=TEXT * 1000, config=config)
        self.assertEqual(run.returncode, 0, run.stderr)
        back = self.openssl("enc", "-d", "-kms-envelope", "-K", "0", data=run.stdout, config=config)
        self.assertEqual((back.returncode, back.stdout), (0, TEXT * 1000), back.stderr)
        self.assertEqual((self.kms.calls("GenerateDataKey"), self.kms.calls("Decrypt"), self.kms.calls()), (1, 1, 2))
        self.check_no_secret(run.stderr, back.stderr)

    def test_wrong_context_and_tampered_wrap(self):
        message = self.sealed(context="app=billing")
        blob = self.wrap_of(message).ciphertext
        with common.Tool(self.dir, self.kms_config({"negative_cache": 0})) as kmsenv:
            self.assertEqual(kmsenv.open([message.replace(b"billing", b"bi11ing", 1)]), [None])
            self.assertEqual(kmsenv.last["reason"], REJECTED, kmsenv.last)
            for at in (45, 60, len(blob) - 1):
                bad = blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1:]
                self.assertEqual(kmsenv.open([message.replace(blob, bad)]), [None])
                self.assertEqual(kmsenv.last["reason"], REJECTED, kmsenv.last)
            self.assertEqual(kmsenv.open([message]), [TEXT])

    def test_arn_names_key_and_region(self):
        arn = "arn:aws:kms:us-west-2:%s:key/%s" % (aws.ACCOUNT, self.kms.key_id)
        message = self.sealed(key_id=arn, region=None)
        self.assertEqual(self.wrap_of(message).key_id, arn)
        with common.Tool(self.dir, self.kms_config(key_id=arn, region=None)) as kmsenv:
            self.assertEqual(kmsenv.open([message]), [TEXT], kmsenv.last)
        with common.Tool(self.dir, self.kms_config(key_id=arn)) as kmsenv:
            self.assertIsNone(kmsenv.seal([TEXT])[0])
            self.assertEqual(kmsenv.last["reason"], CONFIG)
            self.assertIn("region", kmsenv.last["error"])

    def test_moved_alias_still_opens(self):
        first = self.kms.create_key(alias="alias/app")
        message = self.sealed(key_id="alias/app")
        self.assertEqual(self.wrap_of(message).extra.decode(), "arn:aws:kms:%s:%s:key/%s" % (REGION, aws.ACCOUNT, first))
        self.kms.create_key(alias="alias/app")
        with common.Tool(self.dir, self.kms_config(key_id="alias/app")) as kmsenv:
            self.assertEqual(kmsenv.open([message]), [TEXT], kmsenv.last)
        self.assertEqual(self.kms.calls("Decrypt", "ok"), 1)

    def test_key_is_always_named(self):
        """A blob of another key, that these credentials could open too, is refused."""
        message = self.sealed()
        other = self.sealed(key_id=self.kms.create_key())
        mixed = message.replace(self.wrap_of(message).ciphertext, self.wrap_of(other).ciphertext)
        with common.Tool(self.dir, self.kms_config()) as kmsenv:
            self.assertEqual(kmsenv.open([mixed]), [None])
            self.assertEqual(kmsenv.last["reason"], REJECTED, kmsenv.last)
            self.assertIn("IncorrectKeyException", kmsenv.last["error"])

    def test_wraps_a_key_made_elsewhere(self):
        """As a second profile AWS is asked to Encrypt; alone it can open the message."""
        key_file = common.local_key_file(os.path.join(self.dir, "local.pem"))
        both = self.config({"main": common.local_profile(key_file), "prod": self.profile()})
        with common.Tool(self.dir, both) as kmsenv:
            message = kmsenv.seal([TEXT])[0]
            self.assertIsNotNone(message, kmsenv.last)
        self.assertEqual((self.kms.calls("Encrypt", "ok"), self.kms.calls()), (1, 1))
        with common.Tool(self.dir, self.kms_config()) as kmsenv:
            self.assertEqual(kmsenv.open([message]), [TEXT], kmsenv.last)
        self.assertEqual((self.kms.calls("Decrypt", "ok"), self.kms.calls()), (1, 2))

    def test_rotation_in_the_kms(self):
        message = self.sealed()
        self.kms.rotate(self.kms.key_id)
        with common.Tool(self.dir, self.kms_config()) as kmsenv:
            self.assertEqual(kmsenv.open([message]), [TEXT], kmsenv.last)


class Credentials(AwsCase):
    def profile(self, **more):
        return super().profile(**{"access_key_id": None, "secret_access_key": None, **more})

    def round_trip(self, environment=None, **more):
        with common.Tool(self.dir, self.kms_config(**more), environment) as kmsenv:
            message = kmsenv.seal([TEXT])[0]
            self.assertIsNotNone(message, kmsenv.last)
            self.check_no_secret(kmsenv.stderr())
        with common.Tool(self.dir, self.kms_config(**more), environment) as kmsenv:
            self.assertEqual(kmsenv.open([message]), [TEXT], kmsenv.last)

    def fails(self, reason, words, environment=None, **more):
        with common.Tool(self.dir, self.kms_config(**more), environment) as kmsenv:
            self.assertIsNone(kmsenv.seal([TEXT])[0])
            self.assertEqual(kmsenv.last["reason"], reason, kmsenv.last)
            self.assertRegex(kmsenv.last["error"], words)
            self.check_no_secret(json.dumps(kmsenv.last), kmsenv.stderr())

    def test_environment(self):
        self.round_trip({"AWS_ACCESS_KEY_ID": self.kms.secret_id, "AWS_SECRET_ACCESS_KEY": self.kms.secret_key, "AWS_REGION": REGION},
                        region=None)

    def test_session_token(self):
        self.kms.credentials(id="ASIATESTsession", secret="TESTsecretofsession", token="TESTtoken//of+session==")
        self.secrets += [b"TESTsecretofsession", b"TESTtoken//of+session=="]
        given = {"AWS_ACCESS_KEY_ID": "ASIATESTsession", "AWS_SECRET_ACCESS_KEY": "TESTsecretofsession"}
        self.round_trip({**given, "AWS_SESSION_TOKEN": "TESTtoken//of+session=="})
        self.fails(CREDENTIALS, "UnrecognizedClientException", given)

    def test_files(self):
        text = "aws_access_key_id = %s\naws_secret_access_key = %s\n" % (self.kms.secret_id, self.kms.secret_key)
        os.mkdir(os.path.join(self.dir, ".aws"), 0o700)
        self.file(".aws/credentials", "[default]\n" + text)
        self.file(".aws/config", "[default]\nregion = x\n[profile other]\ns3 =\n  max_queue = 10\n" + text)
        self.round_trip()
        self.round_trip({"AWS_PROFILE": "other"})
        self.round_trip(credentials_section="other")
        self.fails(CREDENTIALS, "third", {"AWS_PROFILE": "third"}, credentials="file")
        self.round_trip({"AWS_SHARED_CREDENTIALS_FILE": self.file("elsewhere", "[default]\n" + text)}, credentials="file")

    def test_assumed_role(self):
        """role_arn of a profile, asked for with the access key of another, or with one of the environment."""
        keys = "aws_access_key_id = %s\naws_secret_access_key = %s\n" % (self.kms.secret_id, self.kms.secret_key)
        role = "role_arn = arn:aws:iam::111122223333:role/%s\n"
        os.mkdir(os.path.join(self.dir, ".aws"), 0o700)
        self.file(".aws/credentials", "[base]\n" + keys + "[wrong]\naws_access_key_id = AKIATEST\naws_secret_access_key = TESTwrong\n")
        self.file(".aws/config", "[profile app]\n" + role % "test" + "source_profile = base\n"
                  "[profile other]\n" + role % "external" + "source_profile = base\nexternal_id = test-external-id\nrole_session_name = me\n"
                  "[profile not]\n" + role % "external" + "source_profile = base\n"
                  "[profile env]\n" + role % "test" + "credential_source = Environment\n"
                  "[profile bad]\n" + role % "test" + "source_profile = wrong\n"
                  "[profile half]\n" + role % "test")
        self.round_trip({"AWS_PROFILE": "app"})
        self.assertEqual(self.kms.calls("AssumeRole", "ok"), 2)
        self.round_trip(credentials_section="other")
        self.round_trip({"AWS_ACCESS_KEY_ID": self.kms.secret_id, "AWS_SECRET_ACCESS_KEY": self.kms.secret_key, "AWS_PROFILE": "env"},
                        credentials="file")
        self.fails(CREDENTIALS, "AccessDenied", {"AWS_PROFILE": "not"})
        self.fails(CREDENTIALS, "InvalidClientTokenId", {"AWS_PROFILE": "bad"})
        self.fails(CREDENTIALS, "source_profile", {"AWS_PROFILE": "half"})

    def test_web_identity(self):
        environment = {"AWS_WEB_IDENTITY_TOKEN_FILE": self.file("token", "test-web-identity-token"),
                       "AWS_ROLE_ARN": "arn:aws:iam::111122223333:role/test"}
        self.round_trip(environment)
        self.assertEqual(self.kms.calls("AssumeRoleWithWebIdentity", "ok"), 2)
        self.file("token", "of-somebody-else")
        self.fails(CREDENTIALS, "InvalidIdentityToken", environment)

    def test_container(self):
        environment = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": self.kms.metadata_endpoint + "/v1/credentials",
                       "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": self.file("token", aws.CONTAINER_TOKEN + "\n")}
        self.round_trip(environment)
        self.fails(CREDENTIALS, "401", {**environment, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": self.file("wrong", "no")})
        self.fails(CREDENTIALS, "plain http", {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://kms.example/v1/credentials"})

    def test_instance_and_expired_token(self):
        config = self.kms_config({"dek_reuse": "no"}, metadata_endpoint=self.kms.metadata_endpoint)
        with common.Tool(self.dir, config) as kmsenv:
            self.assertIsNotNone(kmsenv.seal([TEXT])[0], kmsenv.last)
            self.kms.credentials(expire_temporary=True)
            self.assertIsNotNone(kmsenv.seal([TEXT])[0], kmsenv.last)
        self.assertEqual(self.kms.calls("GenerateDataKey", "ExpiredTokenException"), 1)
        self.assertEqual(self.kms.calls("GenerateDataKey"), 3)
        self.assertEqual(self.kms.counters()["actions"]["metadata"]["role"]["total"], 2)
        self.fails(CREDENTIALS, "AWS_EC2_METADATA_DISABLED", {"AWS_EC2_METADATA_DISABLED": "true"},
                   metadata_endpoint=self.kms.metadata_endpoint)

    def test_none(self):
        self.fails(CREDENTIALS, "AWS_ACCESS_KEY_ID")
        self.assertEqual(self.kms.calls(), 0)

    def test_wrong_secret(self):
        self.secrets.append(b"TESTwrongsecret")
        self.fails(CREDENTIALS, "InvalidSignatureException", access_key_id=self.kms.secret_id, secret_access_key="TESTwrongsecret")
        self.assertEqual(self.kms.calls(), 1)


if __name__ == "__main__":
    common.main()
