#!/usr/bin/python3
"""@aws-sdk/client-kms, kmsenv and the stand-in."""
import client_common

import backend_aws
from backend_aws import REGION
from dialects.aws import ACCOUNT

OWN = "KMSServiceException"


class Aws(client_common.ClientCase):
    backend = backend_aws.Backend()
    script = "aws.mjs"
    hosts = ("kms.%s.amazonaws.com" % REGION,)
    key_state = {"state": "Enabled", "created": "2020-09-13T12:26:40.123Z"}
    errors = {
        "context": {"classes": (OWN, "InvalidCiphertextException"), "status": 400, "fault": "client", "requestId": True},
        "disabled": {"classes": (OWN, "DisabledException"), "status": 400, "message": "disabled"},
        "unknown": {"classes": (OWN, "NotFoundException"), "status": 400},
        "credentials": {"classes": (OWN,), "name": "InvalidSignatureException", "status": 400},
        "denied": {"classes": (OWN,), "name": "AccessDeniedException", "status": 400},
        "throttled": {"classes": (OWN,), "name": "ThrottlingException", "status": 400},
        "internal": {"classes": (OWN, "KMSInternalException"), "status": 500, "fault": "server"},
        "other_key": {"classes": (OWN, "IncorrectKeyException"), "status": 400},
    }

    def settings(self):
        return {"region": REGION, "id": self.kms.secret_id, "secret": self.kms.secret_key}

    def context(self, pairs):
        return {"context": dict(pairs)} if pairs else {}

    def fail_internal(self, client, use):
        self.kms.misbehave({"do": "internal"})
        return client.answer("decrypt", **use)

    def fail_other_key(self, client, use):
        return client.answer("decrypt", **{**use, "key": self.kms.create_key()})

    def test_session_token(self):
        self.kms.credentials(id="ASIATESTsession", secret="TESTsecretofsession", token="TESTtoken//of+session==")
        given = {"id": "ASIATESTsession", "secret": "TESTsecretofsession"}
        self.new_wrap(self.client(**given, token="TESTtoken//of+session=="))
        reply = self.client(**given).answer("generate", key=self.key, length=32)
        self.assert_error(reply["error"], {"classes": (OWN,), "name": "UnrecognizedClientException"})

    def test_alias(self):
        """The ARN that the client is told is the one that kmsenv stores, and either opens the other's."""
        key_id = self.kms.create_key(alias="alias/app")
        arn = "arn:aws:kms:%s:%s:key/%s" % (REGION, ACCOUNT, key_id)
        client = self.client()
        made = self.ask(client, "generate", key="alias/app", length=32)
        self.assertEqual(made["key"], arn)
        kmsenv = self.tool(self.config({"prod": self.backend.profile(self.kms, key_id="alias/app")}))
        wrap = client_common.reader.Header.parse(kmsenv.seal([b""])[0]).data_key.wraps[0]
        self.assertEqual(wrap.extra.decode(), arn)
        self.ask(client, "decrypt", key=arn, ciphertext=wrap.ciphertext)


if __name__ == "__main__":
    client_common.main()
