"""What kmsenv's back end `aws` and the servers of AWS's API that nobody here wrote are asked. AWS's own client (boto3,
which comes with moto) looks at what kmsenv wrote, and writes what kmsenv reads."""
import os
import sys

import common
from common import TEXT, reader
from servers_common import NOT_FOUND, REJECTED, ServerCase, servers

REGION = "eu-central-1"
CONTEXT = {"app": "billing", "täst": "\"q\" \\ ü"}
CONTEXT_SETTING = "app=billing,täst=\\\"q\\\" \\\\\\\\ ü"   # escaped for OpenSSL's configuration files, and for kmsenv


def boto3():
    """AWS's own library, out of the environment that moto runs in."""
    folder = servers.Moto().program("venv", "lib", "python%d.%d" % sys.version_info[:2], "site-packages")
    if folder not in sys.path:
        sys.path.append(folder)
    import boto3 as library
    return library


class AwsCase(ServerCase):
    access_key, secret_key = "AKIATESTkmsenvserver", "TESTsecretOfKmsenvServers"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.kms = cls.client("kms")

    @classmethod
    def client(cls, service, key=None, secret=None, token=None):
        return boto3().client(service, region_name=REGION, endpoint_url=cls.server.endpoint, verify=cls.server.ca_file,
                              aws_access_key_id=key or cls.access_key, aws_secret_access_key=secret or cls.secret_key,
                              aws_session_token=token)

    def setUp(self):
        super().setUp()
        self.key = self.kms.create_key()["KeyMetadata"]

    def profile(self, **more):
        values = {"kms": "aws", "region": REGION, "endpoint": self.server.endpoint, "ca-file": self.server.ca_file,
                  "key-id": self.key["KeyId"], "access-key-id": self.access_key, "secret-access-key": self.secret_key,
                  "kms-timeout": 20, "sts-endpoint": self.server.endpoint, "metadata-endpoint": "http://127.0.0.1:1"}
        return {**values, **{name.replace("_", "-"): value for name, value in more.items()}}

    def secrets(self):
        return [self.secret_key]

    def keys(self):
        return sorted(key["KeyId"] for key in self.kms.list_keys(Limit=1000)["Keys"])


class Common:
    """What every server of AWS's API is asked."""

    reencrypts = True

    def test_openssl_enc(self):
        for more in ({}, {"context": CONTEXT_SETTING}, {"key_id": self.key["Arn"], "region": None}):
            message = self.enc_round_trip(self.kms_config(**more), 300001)
            self.assertEqual(dict(self.wrap_of(message).context), CONTEXT if "context" in more else {})

    def test_boto3_opens_our_wrap(self):
        for setting, context in ((None, {}), (CONTEXT_SETTING, CONTEXT)):
            message = self.sealed(self.kms_config(context=setting))
            wrap = self.wrap_of(message)
            reply = self.kms.decrypt(CiphertextBlob=wrap.ciphertext, EncryptionContext=context, KeyId=wrap.key_id)
            self.assertEqual(reader.open_message(message, reply["Plaintext"]), TEXT)
            with self.assertRaises(self.kms.exceptions.InvalidCiphertextException):
                self.kms.decrypt(CiphertextBlob=wrap.ciphertext, EncryptionContext={**context, "app": "other"})

    def test_we_open_wraps_of_boto3(self):
        context = sorted(CONTEXT.items(), key=lambda pair: pair[0].encode())
        made = self.kms.generate_data_key(KeyId=self.key["KeyId"], NumberOfBytes=32, EncryptionContext=CONTEXT)
        dek = os.urandom(32)
        encrypted = self.kms.encrypt(KeyId=self.key["Arn"], Plaintext=dek, EncryptionContext=CONTEXT)
        config = self.kms_config(context=CONTEXT_SETTING)
        for key, blob in ((made["Plaintext"], made["CiphertextBlob"]), (dek, encrypted["CiphertextBlob"])):
            self.opens(config, self.written(key, reader.Wrap("aws", self.key["KeyId"], blob, context)))

    def test_key_encapsulation(self):
        """boto3 and the master key as a key of openssl understand each other, by the URI and by the public half."""
        made = self.kms.generate_data_key(KeyId=self.key["KeyId"], NumberOfBytes=32)
        config = self.kms_config()
        self.assertEqual(self.decapsulated(config, made["CiphertextBlob"]), made["Plaintext"])
        for wrapped, secret in self.encapsulations(config):
            self.assertEqual(self.kms.decrypt(CiphertextBlob=wrapped, KeyId=self.key["KeyId"])["Plaintext"], secret)

    def test_second_profile(self):
        """A key made elsewhere: AWS is asked to Encrypt it, and alone can open the message."""
        local = common.local_profile(common.local_key_file(os.path.join(self.dir, "local.pem")))
        message = self.sealed(self.config({"main": local, "prod": self.profile()}))
        self.assertEqual([wrap.kms for wrap in reader.Header.parse(message).data_key.wraps], ["local", "aws"])
        self.opens(self.kms_config(), message)
        self.assertEqual(self.kms.decrypt(CiphertextBlob=self.wrap_of(message, 1).ciphertext)["KeyId"], self.key["Arn"])

    def test_wrong_context(self):
        message = self.sealed(self.kms_config(context="app=billing"))
        self.refused(self.kms_config(), REJECTED, message.replace(b"billing", b"bi11ing", 1), "InvalidCiphertextException")
        self.opens(self.kms_config(), message)

    def test_alias(self):
        self.kms.create_alias(AliasName="alias/app-" + self.key["KeyId"], TargetKeyId=self.key["KeyId"])
        config = self.kms_config(key_id="alias/app-" + self.key["KeyId"])
        message = self.sealed(config)
        self.assertEqual(self.wrap_of(message).extra.decode(), self.key["Arn"])
        other = self.kms.create_key()["KeyMetadata"]
        self.kms.update_alias(AliasName="alias/app-" + self.key["KeyId"], TargetKeyId=other["KeyId"])
        self.opens(config, message)                                # the key that the alias meant then
        self.assertEqual(self.wrap_of(self.sealed(config)).extra.decode(), other["Arn"])

    def test_rewrap(self):
        """From one key to another and under the same one, in the service if it can; boto3 opens what came of it."""
        other = self.kms.create_key()["KeyMetadata"]
        for setting, context in ((None, {}), (CONTEXT_SETTING, CONTEXT)):
            old = self.sealed(self.kms_config(context=setting))
            both = self.config({"old": self.profile(), "new": self.profile(key_id=other["Arn"])})
            for arguments, key in ((("--to", "new"), other["Arn"]), ((), self.key["KeyId"])):
                message, summary = self.rewrapped(both, old, *(["--in-kms"] if self.reencrypts else []), *arguments)
                self.assertEqual(summary, "wraps: re-encrypted in the KMS %d, made here %d, kept 0" % (self.reencrypts, not self.reencrypts))
                wrap = self.wrap_of(message)
                self.assertEqual((wrap.key_id, dict(wrap.context)), (key, context))
                self.assertNotEqual(wrap.ciphertext, self.wrap_of(old).ciphertext)
                reply = self.kms.decrypt(CiphertextBlob=wrap.ciphertext, EncryptionContext=context, KeyId=key)
                self.assertEqual(reader.open_message(message, reply["Plaintext"]), TEXT)

    def test_no_such_key(self):
        before = self.keys()
        nobody = "11111111-2222-3333-4444-555555555555"
        for key in (nobody, "alias/nobody", self.key["Arn"].replace(self.key["KeyId"], nobody)):
            self.refused(self.kms_config(key_id=key), NOT_FOUND, None, "NotFoundException")
        message = self.sealed(self.kms_config()).replace(self.key["KeyId"].encode(), nobody.encode())
        self.refused(self.kms_config(key_id=nobody), NOT_FOUND, message, "NotFoundException")
        self.assertEqual(self.keys(), before)

    def test_web_identity(self):
        environment = {"AWS_WEB_IDENTITY_TOKEN_FILE": self.file("token", "test-web-identity-token"),
                       "AWS_ROLE_ARN": "arn:aws:iam::%s:role/test" % self.key["Arn"].split(":")[4], "AWS_ROLE_SESSION_NAME": "kmsenv"}
        config = self.kms_config(access_key_id=None, secret_access_key=None, credentials="web-identity")
        self.opens(config, self.sealed(config, environment), environment)

    def test_doctor(self):
        status, report = self.doctor(self.kms_config())
        self.assertEqual((status, report["failed"]), (0, 0), report)
        status, report = self.doctor(self.kms_config(key_id="alias/nobody"))
        self.assertEqual(status, 1, report)
