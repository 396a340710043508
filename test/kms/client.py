"""A minimal client of the stand-in, for tests of the stand-in and for tests that need to know the
data key in a wrap. Its signer is the stand-in's own."""
import base64
import http.client
import json
import ssl
import time

from dialects import tencent


class Client:
    """Tencent's protocol."""

    def __init__(self, kms, identity=None, secret=None, token=None):
        self.kms = kms
        self.identity, self.secret, self.token = identity or kms.secret_id, secret or kms.secret_key, token
        self.host = "127.0.0.1:%d" % kms.ports["tencent"]
        context = ssl.create_default_context(cafile=kms.ca_file)
        self.connection = http.client.HTTPSConnection(self.host, context=context, timeout=10)

    def raw(self, action, values, stamp=None, piece=None):
        """(reply, its body). piece: send the body in pieces of so many bytes, without its length."""
        body = json.dumps(values).encode()
        stamp = int(time.time() if stamp is None else stamp)
        headers = {"Host": self.host, "Content-Type": "application/json", "X-TC-Action": action,
                   "X-TC-Version": "2019-01-18", "X-TC-Region": "ap-guangzhou", "X-TC-Timestamp": str(stamp)}
        if self.token:
            headers["X-TC-Token"] = self.token
        signature = tencent.sign(self.secret, "POST", "/", {name.lower(): value for name, value in headers.items()},
                                 body, stamp, "kms", ["content-type", "host"])
        headers["Authorization"] = "TC3-HMAC-SHA256 Credential=%s/%s/kms/tc3_request, SignedHeaders=content-type;host, " \
            "Signature=%s" % (self.identity, time.strftime("%Y-%m-%d", time.gmtime(stamp)), signature)
        pieces = [body[at:at + piece] for at in range(0, len(body), piece)] if piece else body
        self.connection.request("POST", "/", pieces, headers, encode_chunked=True)
        reply = self.connection.getresponse()
        return reply, reply.read()

    def call(self, action, stamp=None, **values):
        return json.loads(self.raw(action, values, stamp)[1])["Response"]

    def generate(self, **more):
        return self.call("GenerateDataKey", KeyId=self.kms.key_id, KeySpec="AES_256", **more)

    def dek_of(self, ciphertext, context=""):
        """The plaintext of a CiphertextBlob, as bytes. Counts as a call at the stand-in."""
        values = {"EncryptionContext": context} if context else {}
        return base64.b64decode(self.call("Decrypt", CiphertextBlob=ciphertext.decode(), **values)["Plaintext"])

    def close(self):
        self.connection.close()
