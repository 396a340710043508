#!/usr/bin/python3
"""Checks the stand-in itself: its signature verifier against requests that a vendor's SDK has made
(test/vectors/tencent), and its replies against the shapes in those vectors. Runs without a network.

Each signed vector must verify as it is and must fail with any one thing about it changed.
"""
import base64
import copy
import glob
import json
import os
import sys
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
OWN = os.path.join(os.path.dirname(HERE), "vectors")
VECTORS = os.environ.get("KMSENV_TEST_VECTORS") or OWN   # others may have fewer cases than our own
COMPLETE = os.path.realpath(VECTORS) == os.path.realpath(OWN)

import server  # noqa: E402
from cryptography.hazmat.primitives import serialization  # noqa: E402
from dialects import alibaba_instance, tencent  # noqa: E402
from httpd import Request  # noqa: E402
from keystore import KeyStore  # noqa: E402

SECRET_ID, SECRET = "AKIDself", "TESTself"


def vectors(vendor):
    found = []
    for path in sorted(glob.glob(os.path.join(VECTORS, vendor, "*.json"))):
        with open(path, encoding="utf-8") as source:
            found.append(json.load(source))
    return found


def request_of(exchange):
    raw = exchange["request"]
    return Request(raw["method"], raw["target"], [tuple(pair) for pair in raw["headers"]], raw["body_utf8"].encode())


def with_header(request, name, value):
    changed = copy.deepcopy(request)
    changed.headers = [(key, value if key.lower() == name else old) for key, old in changed.headers]
    return changed


def flip(data, position):
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1:]


class TencentSignature(unittest.TestCase):
    def setUp(self):
        self.cases = [case for case in vectors("tencent") if case["auth"] == "TC3-HMAC-SHA256"]
        self.assertGreaterEqual(len(self.cases), 30 if COMPLETE else 1, "vectors are missing in " + VECTORS)

    def check(self, case, request, secret=None, now=None):
        credentials = case["inputs"]["credentials"]
        known = {credentials["secret_id"]: secret or credentials["secret_key"]}
        return tencent.verify(request, known.get, case["time"]["unix"] if now is None else now)

    def refused(self, *arguments, **named):
        with self.assertRaises(tencent.ApiError) as caught:
            self.check(*arguments, **named)
        return caught.exception.code

    def test_vectors_verify(self):
        for case in self.cases:
            with self.subTest(case["name"]):
                request = request_of(case["exchanges"][0])
                self.assertEqual(self.check(case, request), case["inputs"]["credentials"]["secret_id"])

    def test_any_change_is_refused(self):
        for case in self.cases:
            request = request_of(case["exchanges"][0])
            for position in range(len(request.body)):
                changed = copy.copy(request)
                changed.body = flip(request.body, position)
                self.assertEqual(self.refused(case, changed), "AuthFailure.SignatureFailure", case["name"])
            authorization = request.header("authorization")
            for position in range(len(authorization)):
                self.refused(case, with_header(request, "authorization", flip(authorization.encode(), position).decode()))
            stamp = int(request.header("x-tc-timestamp"))
            for name, value in (("host", "other.example"), ("content-type", "text/json"),
                                ("x-tc-timestamp", str(stamp + 1)), ("x-tc-timestamp", str(stamp - 1))):
                self.refused(case, with_header(request, name, value))
            self.assertEqual(self.refused(case, request, secret="FAKEother"), "AuthFailure.SignatureFailure")
            for method, target in (("PUT", "/"), ("POST", "/?a=b"), ("POST", "/x")):
                changed = copy.copy(request)
                changed.method, changed.target = method, target
                self.refused(case, changed)

    def test_window(self):
        case = self.cases[0]
        request, now = request_of(case["exchanges"][0]), case["time"]["unix"]
        for seconds in (-300, 300):
            self.check(case, request, now=now + seconds)
        for seconds in (-301, 301, 86400 * 365):
            self.assertEqual(self.refused(case, request, now=now + seconds), "AuthFailure.SignatureExpire")


class TencentReplies(unittest.TestCase):
    def setUp(self):
        self.world = server.World(KeyStore(None))
        self.world.keys.add_credential(SECRET_ID, SECRET)
        self.dialect = tencent.Tencent(self.world)
        self.key = self.world.keys.create()

    def call(self, action, **values):
        body = json.dumps(values).encode()
        stamp = int(time.time())
        headers = {"host": "127.0.0.1:1", "content-type": "application/json"}
        signed = ["content-type", "host"]
        signature = tencent.sign(SECRET, "POST", "/", headers, body, stamp, "kms", signed)
        date = time.strftime("%Y-%m-%d", time.gmtime(stamp))
        request = Request("POST", "/", [
            *headers.items(), ("X-TC-Action", action), ("X-TC-Version", "2019-01-18"), ("X-TC-Region", "ap-guangzhou"),
            ("X-TC-Timestamp", str(stamp)),
            ("Authorization", "TC3-HMAC-SHA256 Credential=%s/%s/kms/tc3_request, SignedHeaders=%s, Signature=%s"
             % (SECRET_ID, date, ";".join(signed), signature))], body)
        reply = self.dialect.handle(request)
        self.assertEqual(reply.status, 200)
        return json.loads(reply.body)["Response"]

    def code(self, action, **values):
        return self.call(action, **values)["Error"]["Code"]

    def test_shapes_are_those_of_the_vectors(self):
        blob = self.call("GenerateDataKey", KeyId=self.key, KeySpec="AES_256")["CiphertextBlob"]
        arguments = {
            "GenerateDataKey": {"KeyId": self.key, "NumberOfBytes": 32}, "DescribeKey": {"KeyId": self.key},
            "Encrypt": {"KeyId": self.key, "Plaintext": "QUJD"}, "Decrypt": {"CiphertextBlob": blob},
            "ReEncrypt": {"CiphertextBlob": blob}, "GetServiceStatus": {}}
        seen = set()
        for case in vectors("tencent"):
            shape = json.loads(case["exchanges"][0]["response"]["body_utf8"])["Response"] \
                if case["operation"] in arguments else {"Error": None}
            if "Error" in shape:
                continue
            seen.add(case["operation"])
            mine = self.call(case["operation"], **arguments[case["operation"]])
            self.assertLessEqual(set(shape), set(mine), case["name"])
            for name in set(shape) & set(mine):
                self.assertIs(type(shape[name]), type(mine[name]), case["name"] + " " + name)
        self.assertEqual(seen, set(arguments) if COMPLETE else seen & set(arguments))

    def test_wraps_for_real(self):
        context = '{"a":"1"}'
        made = self.call("GenerateDataKey", KeyId=self.key, NumberOfBytes=64, EncryptionContext=context)
        blob = made["CiphertextBlob"]
        self.assertEqual(len(blob.split("-k-")), 3)
        opened = self.call("Decrypt", CiphertextBlob=blob, EncryptionContext=context)
        self.assertEqual((opened["Plaintext"], opened["KeyId"]), (made["Plaintext"], self.key))
        self.assertEqual(self.code("Decrypt", CiphertextBlob=blob), "FailedOperation.DecryptError")
        self.assertEqual(self.code("Decrypt", CiphertextBlob=blob[:-4] + "AAAA", EncryptionContext=context),
                         "FailedOperation.DecryptError")
        self.assertEqual(self.code("Decrypt", CiphertextBlob="AAAA"), "InvalidParameterValue.InvalidCiphertext")

    def test_rotation_and_reencrypt(self):
        old = self.call("Encrypt", KeyId=self.key, Plaintext="QUJD")["CiphertextBlob"]
        self.assertFalse(self.call("ReEncrypt", CiphertextBlob=old)["ReEncrypted"])
        self.world.keys.rotate(self.key)
        new = self.call("ReEncrypt", CiphertextBlob=old)
        self.assertTrue(new["ReEncrypted"])
        for blob in (old, new["CiphertextBlob"]):
            self.assertEqual(self.call("Decrypt", CiphertextBlob=blob)["Plaintext"], "QUJD")
        other = self.world.keys.create()
        moved = self.call("ReEncrypt", CiphertextBlob=old, DestinationKeyId=other)
        self.assertEqual((moved["KeyId"], moved["SourceKeyId"]), (other, self.key))

    def test_refusals(self):
        blob = self.call("Encrypt", KeyId=self.key, Plaintext="QUJD")["CiphertextBlob"]
        big = "A" * 5464   # 4098 bytes
        self.assertEqual(self.code("Encrypt", KeyId=self.key, Plaintext=big), "InvalidParameterValue.InvalidPlaintext")
        self.assertEqual(self.code("Encrypt", KeyId=self.key), "MissingParameter")
        self.assertEqual(self.code("Encrypt", KeyId=self.key, Plaintext="QUJD", X="y"), "UnknownParameter")
        self.assertEqual(self.code("Encrypt", KeyId=self.key, Plaintext="QUJD", EncryptionContext="a=b"),
                         "InvalidParameterValue")
        self.assertEqual(self.code("GenerateDataKey", KeyId=self.key), "InvalidParameter")
        self.assertEqual(self.code("GenerateDataKey", KeyId="nobody", NumberOfBytes=16), "ResourceUnavailable.CmkNotFound")
        self.assertEqual(self.code("Sign", KeyId=self.key), "InvalidAction")
        for state, code in (("Disabled", "CmkDisabled"), ("PendingDelete", "KeyPendingDelete"), ("Archived", "CmkArchived")):
            self.world.keys.set_state(self.key, state)
            self.assertEqual(self.code("Decrypt", CiphertextBlob=blob), "ResourceUnavailable." + code)
        self.world.keys.set_state(self.key, "Enabled")
        self.world.keys.deny(SECRET_ID, ["Decrypt"])
        self.assertEqual(self.code("Decrypt", CiphertextBlob=blob), "UnauthorizedOperation")
        self.world.keys.add_credential(SECRET_ID, SECRET, token="t")
        self.assertEqual(self.code("DescribeKey", KeyId=self.key), "AuthFailure.TokenFailure")

    def test_temporary_credentials(self):
        cases = [case for case in vectors("tencent") if case["operation"].startswith("credentials:")]
        self.assertTrue(cases or not COMPLETE)
        for case in cases:
            request = request_of(case["exchanges"][-1])
            self.world.options.update({"role": case["inputs"].get("role", ""),
                                       "web-identity-token": case["inputs"].get("token_file_content", "")})
            reply = self.dialect.metadata(request) or self.dialect.handle(request)
            shape = json.loads(case["exchanges"][-1]["response"]["body_utf8"])
            mine = json.loads(reply.body)
            self.assertEqual(set(shape.get("Response", shape)), set(mine.get("Response", mine)))


class InstanceSignature(unittest.TestCase):
    """The gateway of a KMS instance of Alibaba Cloud: signatures, and the stand-in's own codec of protocol buffers."""

    def setUp(self):
        self.cases = [case for case in vectors("alibaba-dkms") if "exchanges" in case]   # and not the ClientKeys
        self.assertGreaterEqual(len(self.cases), 19 if COMPLETE else 1, "vectors are missing in " + VECTORS)

    @staticmethod
    def request(case):
        raw = case["exchanges"][0]["request"]
        return Request(raw["method"], raw["target"], [tuple(pair) for pair in raw["headers"]], base64.b64decode(raw["body_base64"]))

    @staticmethod
    def public_key(case):
        with open(os.path.join(VECTORS, "alibaba-dkms", case["inputs"]["private_key_file"]), "rb") as source:
            key = serialization.load_pem_private_key(source.read(), None).public_key()
        return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()

    def code(self, case, request, identity=None, now=None):
        known = {identity or case["inputs"]["client_key_id"]: self.public_key(case)}
        with self.assertRaises(alibaba_instance.ApiError) as caught:
            alibaba_instance.verify(request, known.get, now or case["time"]["unix"])
        return caught.exception.code

    def test_vectors_verify(self):
        for case in self.cases:
            with self.subTest(case["name"]):
                known, request = {case["inputs"]["client_key_id"]: self.public_key(case)}, self.request(case)
                self.assertEqual(alibaba_instance.verify(request, known.get, case["time"]["unix"]), case["inputs"]["client_key_id"])

    def test_any_change_is_refused(self):
        case = self.cases[0]
        request, now = self.request(case), case["time"]["unix"]
        changed = copy.copy(request)
        changed.body = flip(request.body, 3)
        self.assertEqual(self.code(case, changed), "SignatureNotMatch")
        for name, value, code in (
                ("authorization", request.header("authorization")[:-3] + "A==", "SignatureNotMatch"),
                ("content-sha256", request.header("content-sha256").lower(), "SignatureNotMatch"),
                ("x-kms-apiname", "Encrypt", "SignatureNotMatch"), ("date", "yesterday", "InvalidParam"),
                ("x-kms-apiversion", "dkms-gcs-0.1", "InvalidApiVersion"), ("x-kms-acccesskeyid", "", "MissingParameter")):
            self.assertEqual(self.code(case, with_header(request, name, value)), code)
        self.assertEqual(self.code(case, request, identity="nobody"), "Unauthorized")
        self.assertEqual(self.code(case, request, now=now + 901), "RequestTimeTooSkewed")
        self.assertEqual(self.code(case, request, now=now - 901), "RequestTimeTooSkewed")

    def test_codec(self):
        def plain(values):
            return {name: base64.b64decode(value["$base64"]) if isinstance(value, dict) else value for name, value in values.items()}
        for case in self.cases:
            with self.subTest(case["name"]):
                asked, told = alibaba_instance._MESSAGES[case["operation"]]
                told = alibaba_instance._ERROR if "sdk_error" in case else told
                for shape, body, values in (
                        (asked, case["exchanges"][0]["request"]["body_base64"], case["inputs"]["params"]),
                        (told, case["exchanges"][0]["response"]["body_base64"], case["response_fields"])):
                    body, values = base64.b64decode(body), {n: v for n, v in plain(values).items() if not n.startswith("header ")}
                    self.assertEqual(alibaba_instance._pack(shape, values), body)
                    fields = {shape[number]: value for number, value in alibaba_instance.decode(body).items()}
                    self.assertEqual(fields, {n: v.encode() if isinstance(v, str) else v for n, v in values.items()})


if __name__ == "__main__":
    unittest.main()
