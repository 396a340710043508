#!/usr/bin/python3
"""tencentcloud-sdk-nodejs, kmsenv and the stand-in."""
import client_common

import backend_tencent

OWN = "TencentCloudSDKHttpException"


class Tencent(client_common.ClientCase):
    backend = backend_tencent.Backend()
    script = "tencent.mjs"
    hosts = ("kms.tencentcloudapi.com",)
    key_state = {"state": "Enabled"}
    errors = {
        "context": {"classes": (OWN,), "code": "FailedOperation.DecryptError", "requestId": True},
        "disabled": {"classes": (OWN,), "code": "ResourceUnavailable.CmkDisabled", "requestId": True},
        "unknown": {"classes": (OWN,), "code": "ResourceUnavailable.CmkNotFound"},
        "credentials": {"classes": (OWN,), "code": "AuthFailure.SignatureFailure"},
        "denied": {"classes": (OWN,), "code": "UnauthorizedOperation"},
        "throttled": {"classes": (OWN,), "code": "RequestLimitExceeded"},
    }

    def settings(self):
        return {"region": "ap-guangzhou", "id": self.kms.secret_id, "secret": self.kms.secret_key}

    def context(self, pairs):
        return {"context": client_common.canonical(pairs)} if pairs else {}

    def test_session_token(self):
        self.kms.credentials(id="AKIDTESTsession", secret="TESTsecretofsession", token="TESTtoken//of+session==")
        given = {"id": "AKIDTESTsession", "secret": "TESTsecretofsession"}
        self.new_wrap(self.client(**given, token="TESTtoken//of+session=="))
        reply = self.client(**given).answer("generate", key=self.key, length=32)
        self.assert_error(reply["error"], {"classes": (OWN,), "code": "AuthFailure.TokenFailure"})


if __name__ == "__main__":
    client_common.main()
