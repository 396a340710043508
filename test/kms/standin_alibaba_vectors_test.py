#!/usr/bin/python3
"""Checks the stand-in's Alibaba dialect: both signature verifiers against requests that the vendor's SDKs have made
(test/vectors/alibaba), and its replies against the shapes in those vectors. Runs without a network.
"""
import copy
import json
import unittest

import standin_vectors_test as common
from dialects import alibaba
from httpd import Request

VERIFIERS = {"ACS3-HMAC-SHA256": alibaba.verify_acs3, "RPC-HMAC-SHA1": alibaba.verify_rpc}


def first_request(case):
    return common.request_of(case["exchanges"][0])


class Signatures(unittest.TestCase):
    def setUp(self):
        self.cases = [case for case in common.vectors("alibaba") if case["auth"] in VERIFIERS]
        self.assertGreaterEqual(len(self.cases), 90 if common.COMPLETE else 1)

    def check(self, case, request, secret=None, now=None):
        credentials = case["inputs"].get("credentials", case["inputs"])
        known = {credentials["access_key_id"]: secret or credentials["access_key_secret"]}
        return VERIFIERS[case["auth"]](request, known.get, case["time"]["unix"] if now is None else now)

    def refused(self, *arguments, **named):
        with self.assertRaises(alibaba.ApiError) as caught:
            self.check(*arguments, **named)
        return caught.exception.code

    def test_vectors_verify(self):
        for case in self.cases:
            with self.subTest(case["name"]):
                credentials = case["inputs"].get("credentials", case["inputs"])
                identity, token, nonce = self.check(case, first_request(case))
                self.assertEqual((identity, token), (credentials["access_key_id"], credentials.get("security_token") or ""))
                self.assertTrue(nonce)

    def test_any_change_is_refused(self):
        for case in self.cases:
            request = first_request(case)
            self.assertEqual(self.refused(case, request, secret="FAKEother"), "SignatureDoesNotMatch")
            changes = [{"method": "PUT"}, {"target": request.target + ("&" if "?" in request.target else "?") + "Added=1"}]
            if request.body:
                changes.append({"body": request.body.replace(b"=", b"=x", 1)})
            else:
                changes.append({"target": request.target.replace("=", "=x", 1)})
            for change in changes:
                changed = copy.copy(request)
                for name, value in change.items():
                    setattr(changed, name, value)
                self.refused(case, changed)
            if case["auth"] == "ACS3-HMAC-SHA256":
                for name in ("host", "x-acs-action", "x-acs-version", "x-acs-signature-nonce", "x-acs-content-sha256"):
                    self.refused(case, common.with_header(request, name, "other"))
                authorization = request.header("authorization")
                for position in range(case["time"]["unix"] % 5, len(authorization), 5):
                    flipped = common.flip(authorization.encode(), position).decode("latin-1")
                    self.refused(case, common.with_header(request, "authorization", flipped))

    def test_window(self):
        for case in {case["auth"]: case for case in self.cases}.values():
            request, now = first_request(case), case["time"]["unix"]
            for seconds in (-900, 900):
                self.check(case, request, now=now + seconds)
            for seconds in (-901, 901, 86400 * 365):
                self.assertEqual(self.refused(case, request, now=now + seconds), "IllegalTimestamp")


class Replies(unittest.TestCase):
    def setUp(self):
        self.world = common.server.World(common.KeyStore(None))
        self.world.keys.add_credential(common.SECRET_ID, common.SECRET)
        self.dialect = alibaba.Alibaba(self.world)
        self.key = self.world.keys.create()

    def call(self, action, **values):
        """The reply to a request that is signed with RPC v1."""
        stamp = alibaba._iso(self.world.clock())
        pairs = [*values.items(), ("Action", action), ("Version", alibaba.KMS), ("AccessKeyId", common.SECRET_ID), ("Timestamp", stamp),
                 ("SignatureMethod", "HMAC-SHA1"), ("SignatureVersion", "1.0"), ("SignatureNonce", str(len(self.dialect.nonces)))]
        signature = alibaba.sign_rpc(common.SECRET, "POST", pairs)
        body = alibaba.urllib.parse.urlencode([*pairs, ("Signature", signature)])
        return self.dialect.handle(Request("POST", "/", [("host", "h"), ("content-type", alibaba.FORM)], body.encode()))

    def test_shapes_are_those_of_the_vectors(self):
        blob = json.loads(self.call("GenerateDataKey", KeyId=self.key).body)["CiphertextBlob"]
        arguments = {"GenerateDataKey": {"KeyId": self.key, "NumberOfBytes": "24"}, "DescribeKey": {"KeyId": self.key},
                     "Encrypt": {"KeyId": self.key, "Plaintext": "QUJD"}, "Decrypt": {"CiphertextBlob": blob},
                     "ReEncrypt": {"CiphertextBlob": blob, "DestinationKeyId": self.key}}
        seen = set()
        for case in common.vectors("alibaba"):
            response = case["exchanges"][0]["response"]
            if case["operation"] not in arguments or response["status"] != 200:
                continue
            seen.add(case["operation"])
            reply = self.call(case["operation"], **arguments[case["operation"]])
            self.assertEqual(reply.status, 200, reply.body)
            shape, mine = json.loads(response["body_utf8"]), json.loads(reply.body)
            self.assertEqual({name: type(value) for name, value in shape.items()}, {name: type(value) for name, value in mine.items()})
        self.assertEqual(seen, set(arguments) if common.COMPLETE else seen & set(arguments))

    def test_errors_have_the_shape_of_the_vectors(self):
        for case in common.vectors("alibaba"):
            response = case["exchanges"][0]["response"]
            if response["status"] == 200:
                continue
            shape = json.loads(response["body_utf8"])
            mine = json.loads(self.dialect.error_reply(shape["Code"], "m").body)
            self.assertLessEqual(set(mine), set(shape), case["name"])

    def test_temporary_credentials(self):
        for case in common.vectors("alibaba"):
            if case["auth"] != "metadata":
                continue
            self.world.options["role"] = case["inputs"]["role"]
            request = common.with_header(common.request_of(case["exchanges"][-1]), "x-aliyun-ecs-metadata-token", alibaba.IMDS_TOKEN)
            shape = json.loads(case["exchanges"][-1]["response"]["body_utf8"])
            self.assertLessEqual(set(json.loads(self.dialect.metadata(request).body)), set(shape))

    def test_nonce_is_good_once(self):
        self.assertEqual(self.call("DescribeKey", KeyId=self.key).status, 200)
        self.dialect.nonces = {(common.SECRET_ID, "1")}
        self.assertEqual(self.call("DescribeKey", KeyId=self.key).outcome, "SignatureNonceUsed")


if __name__ == "__main__":
    unittest.main()
