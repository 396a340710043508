#!/usr/bin/python3
"""Checks the stand-in's part for Google against what Google's own clients have sent (test/vectors/gcp): its verifier
takes their tokens, and none that was changed; its checksums are theirs; its replies have the shapes of those there."""
import glob
import json
import os
import sys
import unittest

from cryptography.hazmat.primitives import serialization

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
OWN = os.path.join(os.path.dirname(HERE), "vectors")
VECTORS = os.path.join(os.environ.get("KMSENV_TEST_VECTORS") or OWN, "gcp")   # others may have fewer cases than our own
COMPLETE = os.path.realpath(VECTORS) == os.path.realpath(os.path.join(OWN, "gcp"))

import server  # noqa: E402
from dialects import google  # noqa: E402
from httpd import Request  # noqa: E402
from keystore import KeyStore  # noqa: E402


def cases():
    found = []
    for path in sorted(glob.glob(os.path.join(VECTORS, "*.json"))):
        with open(path, encoding="utf-8") as source:
            found.append(json.load(source))
    return [case for case in found if "format" in case]


class Vectors(unittest.TestCase):
    def setUp(self):
        self.cases = cases()
        self.assertTrue(self.cases or not COMPLETE, "no vectors in " + VECTORS)

    def test_tokens(self):
        checked = 0
        for case in self.cases:
            token = case.get("derived", {}).get("jwt")
            if token is None:
                continue
            with open(os.path.join(VECTORS, case["inputs"]["credentials"]["service_account_key_file"]), encoding="utf-8") as source:
                account = json.load(source)
            key = serialization.load_pem_private_key(account["private_key"].encode(), None).public_key()
            pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
            audience = google.KMS_AUDIENCE if case["operation"] == "Encrypt" else account["token_uri"]
            now = case["time"]["unix"]

            def verify(text, now=now, pem=pem, audience=audience, account=account):
                return google.verify_jwt(text, {account["client_email"]: pem}.get, now, audience)
            self.assertEqual(verify(token)["iss"], account["client_email"])
            for at in range(0, len(token) - 1, 7):   # the last character has bits that mean nothing
                self.refused(lambda: verify(token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1:]))
            for more in ({"now": now + 3601}, {"now": now - 61}, {"audience": "https://other/"}):
                self.refused(lambda: verify(token, **more))
            checked += 1
        self.assertTrue(checked > 0 or not COMPLETE)

    def refused(self, work):
        with self.assertRaises(google.Fault):
            work()

    def test_checksums(self):
        checked = 0
        for case in self.cases:
            for exchange in case["exchanges"]:
                for text in (exchange["request"]["body_utf8"], exchange["response"]["body_utf8"]):
                    members = json.loads(text) if text.startswith("{") else {}
                    for name in members:
                        if name + "Crc32c" in members:
                            self.assertEqual(google.crc32c(google.base64.b64decode(members[name])), members[name + "Crc32c"], case["name"])
                            checked += 1
        self.assertTrue(checked > 0 or not COMPLETE)

    def test_shapes_are_those_of_the_vectors(self):
        world = server.World(KeyStore(None))
        world.keys.create("k")
        world.keys.add_credential("ID", "SECRET")
        dialect = google.Google(world)

        def call(target, values=None):
            headers = [("Authorization", "Bearer " + google.token_of("ID", "SECRET")), ("Content-Type", "application/json")]
            reply = dialect.handle(Request("POST" if values else "GET", target, headers, json.dumps(values or {}).encode()))
            self.assertEqual(reply.status, 200, reply.body)
            return json.loads(reply.body)
        name = "/v1/" + google.PREFIX + "k"
        sums = {"plaintextCrc32c": google.crc32c(b"ABC"), "additionalAuthenticatedData": "eA==", "additionalAuthenticatedDataCrc32c": google.crc32c(b"x")}
        wrapped = call(name + ":encrypt", {"plaintext": "QUJD", **sums})
        opened = call(name + ":decrypt", {"ciphertext": wrapped["ciphertext"], "additionalAuthenticatedData": "eA=="})
        self.assertEqual(opened["plaintext"], "QUJD")
        mine = {"Encrypt": wrapped, "Decrypt": opened, "GetCryptoKey": call(name)}
        seen = set()
        for case in self.cases:
            shape = json.loads(case["exchanges"][0]["response"]["body_utf8"])
            if "error" in shape or case["operation"] not in mine:
                continue
            seen.add(case["operation"])
            for member in set(shape) - {"versionTemplate"}:
                self.assertIs(type(mine[case["operation"]].get(member)), type(shape[member]), case["name"] + " " + member)
        self.assertTrue(seen == set(mine) or not COMPLETE)


if __name__ == "__main__":
    unittest.main()
