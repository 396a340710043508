#!/usr/bin/python3
"""Several KMSes, and some of them are down, slow, throttled or refuse: who is asked next, how often, and for how long."""
import os
import time

import common
import matrix
from common import TEXT, reader, with_wraps
from matrix import DENIED, DISABLED, MISMATCH, REJECTED, ROOM, THROTTLED, UNREACHABLE
from matrix_rows import TIMEOUT
from routing import HANG, VENDORS, RoutingCase


class FallingOver(RoutingCase):
    def setUp(self):
        super().setUp()
        self.message, self.second = self.sealed(*VENDORS, count=2)

    def seconds(self, call, *arguments, **more):
        started = time.monotonic()
        call(*arguments, **more)
        return time.monotonic() - started

    def test_a_kms_that_is_gone(self):
        self.kms["tencent"].stop()
        seconds = self.seconds(self.opens, self.process(*VENDORS), self.message, aws=1)
        self.assertLess(seconds, ROOM)
        self.assertEqual(self.audited(), [("tencent", "decrypt", "KMS unreachable"), ("aws", "decrypt", "ok")])

    def test_a_kms_that_hangs_leaves_time_for_the_next(self):
        timeout = 3 * TIMEOUT
        self.misbehave("tencent", HANG)
        self.assertLess(self.seconds(self.opens, self.process(*VENDORS, kms_timeout=timeout), self.message, tencent=1, aws=1), timeout)
        self.misbehave("aws", HANG)
        self.assertLess(self.seconds(self.opens, self.process(*VENDORS, kms_timeout=timeout), self.message, tencent=1, aws=1, vault=1),
                        timeout)

    def test_all_hang_under_one_deadline(self):
        for kms in VENDORS:
            self.misbehave(kms, HANG)
        kmsenv = self.process(*VENDORS, kms_timeout=TIMEOUT)
        seconds = self.seconds(self.refuses, kmsenv, self.message, UNREACHABLE, "3 wraps.*tencent", tencent=1, aws=1, vault=1)
        self.assertLess(seconds, TIMEOUT + ROOM)
        self.assertGreater(seconds, TIMEOUT - 1, "the time was not used")
        started = time.monotonic()
        self.assertEqual(kmsenv.seal([TEXT]), [None])
        self.assertLess(time.monotonic() - started, TIMEOUT + ROOM)
        waited = [line["milliseconds"] for line in (self.audited(), self.lines)[1]]
        self.assertEqual(len(waited), 4)   # three to open; the first wrap that could not be made was enough
        self.assertLess(sum(waited[:3]), (TIMEOUT + ROOM) * 1000)

    def test_a_denial_is_final_for_its_wrap_only(self):
        self.misbehave("tencent", {"do": "denied"})
        self.opens(self.process(*VENDORS), self.message, tencent=1, aws=1)
        self.assertEqual(self.audited(), [("tencent", "decrypt", "KMS access denied"), ("aws", "decrypt", "ok")])
        for line, kms in zip(self.lines, VENDORS):
            self.assertEqual((line["kms"], line["keyId"], line["attempts"]), (kms, self.kms[kms].key_id, 1))
            self.assertEqual(line["dekId"], reader.Header.parse(self.message).data_key.id.hex())
            self.assertEqual(line["requestId"], self.kms[kms].log()[-1]["requestId"])

    def test_each_refusal(self):
        for kind, outcome in (("disabled", DISABLED), ("not-found", matrix.NOT_FOUND), ("bad-ciphertext", REJECTED),
                              ("expired-token", matrix.CREDENTIALS), ("garbage", matrix.MALFORMED), ("wrong-plaintext", MISMATCH)):
            with self.subTest(kind):
                self.reset()
                self.misbehave("tencent", {"do": kind})
                tries = 2 if kind == "expired-token" else 1
                self.opens(self.process("tencent", "vault"), self.message, tencent=tries, vault=1)
                self.refuses(self.process("tencent"), self.message, outcome, tencent=tries)

    def test_all_deny(self):
        for kms in VENDORS:
            self.misbehave(kms, {"do": "denied"})
        kmsenv = self.process(*VENDORS, settings={"negative_cache": 60})
        # the vault is asked twice: its denial may mean that the token is not valid any more
        self.refuses(kmsenv, self.message, DENIED, "3 wraps.*profile tencent", tencent=1, aws=1, vault=2)
        self.refuses(kmsenv, self.message, DENIED, "3 wraps")
        self.reset()
        self.refuses(kmsenv, self.message, DENIED, "3 wraps")      # for 60 seconds
        self.opens(kmsenv, self.second, tencent=1)                 # another data key: not meant

    def test_one_denies_and_one_is_away(self):
        """What is away may know the answer later: nothing is remembered, and the error says so."""
        self.misbehave("tencent", {"do": "denied"})
        self.kms["aws"].stop()
        kmsenv = self.process("tencent", "aws", settings={"negative_cache": 60})
        self.refuses(kmsenv, self.message, UNREACHABLE, "2 wraps.*aws", tencent=1)
        self.kms["aws"].start()
        self.opens(kmsenv, self.message, tencent=1, aws=1)

    def test_one_throttles_and_the_other_works(self):
        self.misbehave("tencent", {"do": "throttled"})
        kmsenv = self.process(*VENDORS)
        self.opens(kmsenv, self.message, tencent=3, aws=1)
        self.misbehave("aws", {"do": "throttled", "count": 1})
        self.opens(kmsenv, self.second, tencent=3, aws=2)
        self.misbehave("aws", {"do": "throttled"})
        self.refuses(self.process("tencent", "aws"), self.message, THROTTLED, "tencent", tencent=3, aws=3)

    def test_tampered_wraps(self):
        wraps = self.wraps(self.message)
        for wrap in wraps[:2]:
            wrap.ciphertext = self.backend[wrap.kms].spoil(wrap.ciphertext)
        kmsenv = self.process(*VENDORS)
        self.opens(kmsenv, with_wraps(self.message, wraps), tencent=1, aws=1, vault=1)
        wraps[2].ciphertext = self.backend["vault"].spoil(wraps[2].ciphertext)
        self.refuses(kmsenv, with_wraps(self.message, wraps), REJECTED, "3 wraps", tencent=1, aws=1, vault=1)

    def test_wraps_of_another_data_key(self):
        """They open, and to the wrong key: never used."""
        mixed = [self.wraps(self.second)[0], self.wraps(self.message)[1]]
        self.opens(self.process("tencent", "aws"), with_wraps(self.message, mixed), tencent=1, aws=1)
        self.refuses(self.process("tencent"), with_wraps(self.message, mixed), MISMATCH, "data key", tencent=1)

    def test_a_disabled_key_of_one_profile(self):
        """The refusal of one key is not that of the profile, and not of another KMS."""
        other = self.kms["tencent"].create_key()
        theirs = self.sealed("tencent", key_id=other)
        kmsenv = self.process("tencent", decrypt_keys=other, settings={"negative_cache": 60})
        self.kms["tencent"].set_state(other, "Disabled")
        self.refuses(kmsenv, theirs, DISABLED, tencent=1)
        self.refuses(kmsenv, theirs, DISABLED)
        self.opens(kmsenv, self.message, tencent=1)

    def test_the_breaker_of_one_profile(self):
        messages = self.sealed("tencent", "aws", count=4)
        kmsenv = self.process(("tencent", self.profile("tencent", breaker_failures=2, breaker_seconds=2)), "aws")
        self.misbehave("tencent", {"do": "drop-before"})
        for message, tries in zip(messages[:3], (3, 3, 0)):
            self.opens(kmsenv, message, tencent=tries, aws=1)
        self.assertEqual(kmsenv.counters()["breaker-open"], 1)
        self.kms["tencent"].misbehave()
        time.sleep(2.1)
        self.opens(kmsenv, messages[3], tencent=1)

    def test_the_keyring_is_no_other_way(self):
        """Detached wraps are tried by the same rules."""
        ring = os.path.join(self.dir, "ring")
        os.mkdir(ring)
        settings = {"keyring": ring, "wraps": "detached"}
        message = self.process(*VENDORS, settings=settings).seal([TEXT])[0]
        self.reset()
        self.misbehave("tencent", {"do": "denied"})
        self.opens(self.process(*VENDORS, settings=settings), message, tencent=1, aws=1)


if __name__ == "__main__":
    common.main()
