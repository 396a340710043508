#!/usr/bin/python3
"""@alicloud/kms20160120 and @alicloud/openapi-client, kmsenv and the stand-in for Alibaba Cloud KMS."""
import re

import client_common

import backend_alibaba
from backend_alibaba import REGION

HOST = "kms.%s.aliyuncs.com" % REGION


class SignedBackend(backend_alibaba.Backend):
    def __init__(self, **settings):
        self.more = settings

    def settings(self, standin):
        return {**super().settings(standin), **self.more}


class Rpc(client_common.ClientCase):
    """The older signature."""
    backend = SignedBackend(signature="hmac-sha1")
    script = "alibaba.mjs"
    hosts = (HOST,)
    key_state = {"state": "Enabled"}
    suffix = "Error"       # that the client adds to the codes of errors
    errors = {
        "context": "InvalidCiphertext", "disabled": "Rejected.Disabled", "unknown": "Forbidden.KeyNotFound",
        "credentials": "SignatureDoesNotMatch", "denied": "Forbidden.NoPermission", "throttled": "Rejected.Throttling"}

    def settings(self):
        return {"region": REGION, "endpoint": HOST, "id": self.kms.secret_id, "secret": self.kms.secret_key}

    def context(self, pairs):
        return {"context": client_common.canonical(pairs)} if pairs else {}

    def assert_error(self, error, expected):
        """These clients have no class of their own for exceptions: what they set in one is what tells."""
        super().assert_error(error, {"code": expected + self.suffix, "message": r"^%s: code: [45]\d\d, .*request ?id: [0-9a-f-]{36}$"
                                     % re.escape(expected + self.suffix)})

    def test_session_token(self):
        self.kms.credentials(id="STS.TESTsession", secret="TESTsecretofsession", token="TESTtoken//of+session==")
        given = {"id": "STS.TESTsession", "secret": "TESTsecretofsession"}
        self.new_wrap(self.client(**given, token="TESTtoken//of+session=="))
        reply = self.client(**given).answer("generate", key=self.key, length=32)
        self.assert_error(reply["error"], "MissingSecurityToken")


class Acs3(Rpc):
    """The signature of today, with parameters in the query as the vendor's clients have them."""
    backend = backend_alibaba.Backend()
    script = "alibaba_acs3.mjs"
    suffix = ""
    parameters = "query"

    def settings(self):
        return {**super().settings(), "parameters": self.parameters}


class Acs3Form(Acs3):
    """... and in the body, as kmsenv has those that are secret."""
    backend = SignedBackend(parameters="form")
    parameters = "body"
    test_errors = test_describe = test_session_token = None   # they are the same


if __name__ == "__main__":
    client_common.main()
