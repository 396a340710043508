#!/usr/bin/python3
"""Checks the running stand-in over TLS: every misbehaviour does what it says, counts are exact, and
the process ends with its parent. Needs no kmsenv."""
import email.utils
import http.client
import json
import os
import socket
import ssl
import sys
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

from client import Client  # noqa: E402
from dialects import tencent  # noqa: E402
from standin import StandIn  # noqa: E402


class Live(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.kms = StandIn().start()

    @classmethod
    def tearDownClass(cls):
        cls.kms.__exit__()

    def setUp(self):
        self.kms.reset()
        self.client = Client(self.kms)
        self.addCleanup(self.client.connection.close)

    def fails(self, *kinds):
        with self.assertRaises(kinds or (OSError, http.client.HTTPException)):
            self.client.generate()

    def test_counts(self):
        for _ in range(5):
            self.assertIn("Plaintext", self.client.generate())
        self.client.call("Decrypt", CiphertextBlob="x")
        self.assertEqual((self.kms.calls("GenerateDataKey"), self.kms.calls("Decrypt"), self.kms.handshakes()), (5, 1, 1))
        self.assertEqual(self.kms.calls(outcome="InvalidParameterValue.InvalidCiphertext"), 1)
        entry = self.kms.log()[0]
        self.assertEqual((entry["keyId"], entry["signedBy"], entry["connection"] > 0),
                         (self.kms.key_id, self.kms.secret_id, True))

    def test_bodies_in_pieces(self):
        values = {"KeyId": self.kms.key_id, "KeySpec": "AES_256"}
        for piece in (1, 7, 1000):
            reply, body = self.client.raw("GenerateDataKey", values, piece=piece)
            self.assertEqual(reply.status, 200)
            self.assertIn("Plaintext", json.loads(body)["Response"])
        self.assertEqual(self.kms.handshakes(), 1)

    def test_errors_count_and_after(self):
        for kind, (code, _) in tencent.Tencent.errors.items():
            self.kms.misbehave({"do": kind, "count": 1, "after": 1, "action": "GenerateDataKey"})
            self.assertIn("Plaintext", self.client.generate())
            self.assertEqual(self.client.generate()["Error"]["Code"], code)
            self.assertIn("Plaintext", self.client.generate())

    def test_tampering(self):
        """Decrypt always gives the same reply, so that every spoiled one must differ from it."""
        blob = self.client.generate()["CiphertextBlob"]

        def opened():
            reply = self.client.call("Decrypt", CiphertextBlob=blob)
            del reply["RequestId"]
            return reply
        good = opened()
        self.assertEqual(good, opened())
        for kind in set(tencent.Tencent.tampers) - {"missing-ciphertext", "huge-ciphertext"}:
            self.kms.misbehave({"do": kind, "count": 1})
            self.assertNotEqual(good, opened(), kind)
        for kind, length in (("missing-ciphertext", 0), ("huge-ciphertext", len(blob) * 1000)):
            self.kms.misbehave({"do": kind, "count": 1})
            self.assertEqual(len(self.client.generate().get("CiphertextBlob", "")), length)

    def test_transport(self):
        for kind in ("drop-before", "drop-after", "reset", "truncate", "hang"):
            with self.subTest(kind):
                self.kms.misbehave({"do": kind, "count": 1, "ms": 50})
                self.fails()
                self.client.connection.close()
                self.assertIn("Plaintext", self.client.generate())

    def test_http(self):
        for rule, status, length in (({"do": "http", "status": 503, "retry-after": 1}, 503, 16),
                                     ({"do": "redirect", "location": self.kms.trap_url}, 302, 0),
                                     ({"do": "garbage"}, 200, None), ({"do": "empty"}, 200, 0),
                                     ({"do": "oversize"}, 200, (2 << 20) + 26)):
            self.kms.misbehave({**rule, "count": 1})
            reply, body = self.client.raw("DescribeKey", {"KeyId": self.kms.key_id})
            self.assertEqual(reply.status, status)
            self.assertEqual(len(body), len(body) if length is None else length)
            self.assertNotIn(b"KeyMetadata", body)

    def test_latency_and_drip(self):
        self.kms.misbehave({"do": "latency", "ms": 200, "count": 1}, {"do": "throttled", "count": 1})
        started = time.monotonic()
        self.assertIn("Error", self.client.generate())
        self.assertGreater(time.monotonic() - started, 0.19)
        self.kms.misbehave({"do": "drip", "ms": 1, "count": 1})
        self.assertIn("Plaintext", self.client.generate())

    def test_clock(self):
        self.kms.control(clock=3600)
        reply, body = self.client.raw("DescribeKey", {"KeyId": self.kms.key_id})
        self.assertIn(b"AuthFailure.SignatureExpire", body)
        theirs = email.utils.parsedate_to_datetime(reply.getheader("Date")).timestamp()
        self.assertAlmostEqual(theirs, time.time() + 3600, delta=5)
        self.assertIn("KeyMetadata", self.client.call("DescribeKey", stamp=theirs, KeyId=self.kms.key_id))
        self.kms.reset()
        self.kms.misbehave({"do": "clock-skew", "seconds": -7200, "count": 1})
        reply, body = self.client.raw("DescribeKey", {"KeyId": self.kms.key_id})
        self.assertIn(b"AuthFailure.SignatureExpire", body)

    def test_certificates(self):
        for kind in ("rogue", "wrong-name", "expired"):
            self.kms.misbehave({"do": "wrong-certificate", "certificate": kind, "count": 1})
            self.fails(ssl.SSLCertVerificationError)
            self.client.connection.close()
        self.kms.misbehave({"do": "refuse", "count": 1})
        self.fails()
        self.client.connection.close()
        self.assertIn("Plaintext", self.client.generate())
        self.kms.close_connections()
        self.fails()

    def test_temporary_credentials(self):
        def get(path):
            connection = http.client.HTTPConnection("127.0.0.1", self.kms.ports["metadata"], timeout=5)
            connection.request("GET", "/latest/meta-data/cam/security-credentials/" + path)
            try:
                return connection.getresponse().read().decode()
            finally:
                connection.close()
        given = json.loads(get(get("")))
        client = Client(self.kms, given["TmpSecretId"], given["TmpSecretKey"], given["Token"])
        self.assertIn("Plaintext", client.generate())
        self.kms.credentials(expire_temporary=True)
        self.assertEqual(client.generate()["Error"]["Code"], "AuthFailure.TokenFailure")
        client.connection.close()

    def test_restart_keeps_keys_and_port(self):
        made, port = self.client.generate(), self.kms.ports["tencent"]
        self.kms.stop()
        self.client.connection.close()
        self.fails(ConnectionRefusedError)
        self.client.connection.close()
        self.kms.start()
        self.assertEqual(self.kms.ports["tencent"], port)
        self.assertEqual(self.client.call("Decrypt", CiphertextBlob=made["CiphertextBlob"])["Plaintext"], made["Plaintext"])

    def test_ends_with_its_parent(self):
        other = StandIn().start()
        other.process.stdin.close()
        self.assertEqual(other.process.wait(10), 0)
        with self.assertRaises(OSError):
            socket.create_connection(("127.0.0.1", other.ports["control"]), 1)
        other.process.stdin = open(os.devnull, "rb")
        other.__exit__()

    def test_unknown_misbehaviour_is_refused(self):
        with self.assertRaises(ValueError):
            self.kms.misbehave({"do": "explode"})


if __name__ == "__main__":
    unittest.main()
