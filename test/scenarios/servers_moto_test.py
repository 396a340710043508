#!/usr/bin/python3
"""kmsenv's back end `aws` against moto, which computes every signature anew, with AWS's own library, and applies the
policies of IAM.

What moto does otherwise than AWS: A disabled key goes on working. A wrap of another key than the one named is
AccessDeniedException; AWS: IncorrectKeyException. A refused signature is XML, not JSON: only its status 403 is read.
"""
import json
import os

import common
from servers_aws import CONTEXT_SETTING, AwsCase, Common
from servers_common import DENIED, REJECTED, main, servers


class OnMoto(Common, AwsCase):
    server_class = servers.Moto

    def altered(self, message, at):
        blob = self.wrap_of(message).ciphertext
        return message.replace(blob, blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1:])

    def test_altered_wrap(self):
        message = self.sealed(self.kms_config())
        for at in (40, 60, -1):
            at %= len(self.wrap_of(message).ciphertext)
            self.refused(self.kms_config(), REJECTED, self.altered(message, at), "InvalidCiphertextException")

    def test_wrap_of_another_key(self):
        message, other = self.sealed(self.kms_config()), self.kms.create_key()["KeyMetadata"]["KeyId"]
        foreign = self.sealed(self.kms_config(key_id=other))
        mixed = message.replace(self.wrap_of(message).ciphertext, self.wrap_of(foreign).ciphertext)
        self.refused(self.kms_config(), DENIED, mixed, "AccessDeniedException")


def allow(action, **more):
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": "*", **more}]})


class Signatures(AwsCase):
    """moto computes every signature anew, with botocore, and applies the policies of IAM."""

    server_class = servers.Moto

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        iam = cls.client("iam")
        cls.users = {}
        with open(os.path.join(os.path.dirname(common.TEST), "conf", "aws-kms-policy.json"), encoding="utf-8") as source:
            recommended = allow(json.load(source)["Statement"][0]["Action"])    # moto knows no resource but "*" here
        for name, policy in (("user", recommended), ("reader", allow("kms:Decrypt")), ("admin", allow("kms:*")), ("stranger", None)):
            iam.create_user(UserName=name)
            if policy:
                iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=policy)
            key = iam.create_access_key(UserName=name)["AccessKey"]
            cls.users[name] = (key["AccessKeyId"], key["SecretAccessKey"])
        iam.create_role(RoleName="pod", AssumeRolePolicyDocument=allow("sts:AssumeRoleWithWebIdentity", Principal="*"))
        iam.put_role_policy(RoleName="pod", PolicyName="p", PolicyDocument=recommended)
        cls.access_key, cls.secret_key = cls.users["admin"]
        cls.kms = cls.client("kms")
        cls.server.check_signatures()

    def setUp(self):
        self.server.check_signatures()
        super().setUp()

    def as_user(self, name, **more):
        return self.kms_config(access_key_id=self.users[name][0], secret_access_key=self.users[name][1], **more)

    def secrets(self):
        return [secret for _, secret in self.users.values()]

    def test_signatures_are_right(self):
        self.enc_round_trip(self.as_user("user"), 5000)
        self.enc_round_trip(self.as_user("user", context=CONTEXT_SETTING), 5000)

    def test_wrong_secret(self):
        self.refused(self.kms_config(secret_access_key="TESTwrong"), DENIED, None, "403")
        self.refused(self.kms_config(access_key_id="AKIATESTnobodywhoever"), DENIED, None, "403")

    def test_policies(self):
        message = self.sealed(self.as_user("user"))
        self.opens(self.as_user("reader"), message)
        self.refused(self.as_user("reader"), DENIED)
        self.refused(self.as_user("stranger"), DENIED, message)

    def test_session_token(self):
        """Credentials of a web identity, from moto's STS: id, secret and token are checked at every call."""
        environment = {"AWS_WEB_IDENTITY_TOKEN_FILE": self.file("token", "test-web-identity-token"),
                       "AWS_ROLE_ARN": "arn:aws:iam::%s:role/pod" % self.key["Arn"].split(":")[4]}
        config = self.kms_config(access_key_id=None, secret_access_key=None, credentials="web-identity")
        for message in (None, self.sealed(self.as_user("user"))):
            self.server.check_signatures(after=1)       # the request to STS is not a signed one
            if message is None:
                self.sealed(config, environment)
            else:
                self.opens(config, message, environment)


if __name__ == "__main__":
    main("moto")
