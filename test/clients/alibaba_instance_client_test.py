#!/usr/bin/python3
"""alibabacloud-dkms-gcs (Python), kmsenv and the stand-in for a KMS instance of Alibaba Cloud."""
import client_common
from client_common import canonical, to_base64

import backend_alibaba_instance
from backend_alibaba_instance import CLIENT_KEY, PASSWORD
from dialects.alibaba_instance import make_client_key

OWN = "TeaException"


def extra(made, kind):
    """How kmsenv notes what must be known of a wrap besides its ciphertext."""
    parts = (made["key"].encode(), made["algorithm"].encode(), made["iv"])
    return b"\1" + kind + b"".join(bytes([len(part)]) + part for part in parts)


class Advance(client_common.ClientCase):
    backend = backend_alibaba_instance.Backend()
    kind = b"A"
    script = "dkms.py"
    test_describe = None   # the gateway has no such operation
    errors = {
        "context": {"classes": (OWN,), "code": "InvalidParam", "status": 400, "requestId": True},
        "disabled": {"classes": (OWN,), "code": "Rejected.Disabled", "status": 400},
        "unknown": {"classes": (OWN,), "code": "Forbidden.KeyNotFound", "status": 404},
        "credentials": {"classes": (OWN,), "code": "SignatureNotMatch", "status": 401},
        "denied": {"classes": (OWN,), "code": "Forbidden.NoPermission", "status": 403},
        "throttled": {"classes": ("UnretryableException", OWN), "message": "Rejected.Throttling|QPS"},
    }

    def settings(self):
        return {"endpoint": self.kms.endpoint.partition("//")[2], "ca": self.kms.ca_file, "password": PASSWORD,
                "clientKey": self.backend.client_key(self.kms), "plain": self.kind == b"P"}

    def context(self, pairs):
        return {"aad": to_base64(canonical(pairs).encode())} if pairs else {}

    def request(self, made, pairs=()):
        return {**super().request(made, pairs), "iv": made["iv"], "algorithm": made["algorithm"]}

    def stored(self, made, pairs=()):
        wrap = super().stored(made, pairs)
        wrap.extra = extra(made, self.kind)
        return wrap

    def unwrap(self, client, wrap):
        self.assertEqual(wrap.extra[:2], b"\1" + self.kind)
        key, algorithm, iv = self.parts(wrap.extra[2:])
        return client.answer("decrypt", key=key.decode(), ciphertext=wrap.ciphertext, iv=iv, algorithm=algorithm.decode(),
                             **self.context(wrap.context))

    @staticmethod
    def parts(data):
        while data:
            yield data[1:1 + data[0]]
            data = data[1 + data[0]:]

    def fail_unknown(self, client, use):
        return client.answer("generate", key=self.key[:-1] + "f", length=32)

    def wrong_credentials(self):
        """A ClientKey of the right name, but with another key."""
        return {"clientKey": self.file("other.json", make_client_key(CLIENT_KEY, PASSWORD)[0].encode())}


class PlainBackend(backend_alibaba_instance.Backend):
    seal, open = ("GenerateDataKey",), ("Decrypt",)

    def settings(self, standin):
        return {**super().settings(standin), "calls": "plain"}


class Plain(Advance):
    """The operations of an instance of the hardware kind."""
    backend = PlainBackend()
    kind = b"P"
    test_errors = None     # they are the same


if __name__ == "__main__":
    client_common.main()
