#!/usr/bin/python3
"""When a data key may still be used and when not any more: a KMS that goes away, comes back, or
refuses; refresh ahead, negative cache, circuit breaker. Counts come from the KMS's side."""
import time

import common
from common import TEXT, KmsScenario

UNREACHABLE, DENIED = 60, 62


class Outage(KmsScenario):
    def test_grace_is_honoured_and_ends(self):
        kmsenv = self.process(dek_max_age=2, kms_grace=6)
        started = time.monotonic()
        message = self.works(kmsenv)
        self.works(kmsenv, message)
        self.kms.stop()
        time.sleep(3)
        self.assertEqual(self.key_of(self.works(kmsenv)), self.key_of(message))
        self.works(kmsenv, message)
        self.assertLess(time.monotonic() - started, 8, "the machine is too slow for this test")
        self.assertGreaterEqual(kmsenv.counters()["grace-uses"], 2)
        time.sleep(max(0, started + 9 - time.monotonic()))
        self.fails(kmsenv, UNREACHABLE)
        self.fails(kmsenv, UNREACHABLE, message=message)
        self.kms.start()
        self.comes_back(kmsenv)

    def comes_back(self, kmsenv):
        for _ in range(60):   # the breaker may keep it away for a while
            if kmsenv.seal([TEXT])[0] is not None:
                return
            time.sleep(1)
        self.fail("kmsenv does not find back to a KMS that works again: %s" % kmsenv.last)

    def test_no_grace_by_default(self):
        kmsenv = self.process(dek_max_age=1)
        self.works(kmsenv)
        self.kms.stop()
        time.sleep(1.3)
        self.fails(kmsenv, UNREACHABLE)
        self.assertEqual(kmsenv.counters()["grace-uses"], 0)

    def test_throttling_counts_as_unreachable(self):
        kmsenv = self.process(dek_max_age=1, kms_grace=60)
        self.works(kmsenv)
        time.sleep(1.3)
        self.kms.misbehave({"do": "throttled"})
        self.works(kmsenv)
        self.assertGreaterEqual(kmsenv.counters()["grace-uses"], 1)

    def test_refusal_ends_use_at_once(self):
        for rule in ("denied", "disabled", "pending-delete", "not-found"):
            with self.subTest(rule):
                kmsenv = self.process(dek_max_age=1, kms_grace=3600, negative_cache=1)
                message = self.works(kmsenv)
                self.works(kmsenv, message)
                time.sleep(1.2)
                self.kms.misbehave({"do": rule})
                self.fails(kmsenv, 62, 63, 64)
                self.fails(kmsenv, 62, 63, 64, message=message)
                # the old key must not come back when the KMS goes away afterwards
                self.kms.misbehave({"do": "drop-before"})
                time.sleep(1.3)
                self.fails(kmsenv, UNREACHABLE)
                self.fails(kmsenv, UNREACHABLE, message=message)
                self.kms.reset()
                kmsenv.stop()

    def test_refusal_within_max_age_is_seen_at_refresh(self):
        kmsenv = self.process(dek_max_age=5, kms_grace=3600)
        self.works(kmsenv)
        time.sleep(4.4)
        self.kms.misbehave({"do": "disabled"})
        kmsenv.seal([TEXT] * 3)
        self.fails(kmsenv, 63)


class Refresh(KmsScenario):
    def test_one_caller_refreshes_ahead(self):
        kmsenv = self.process(dek_max_age=10)
        self.works(kmsenv)
        time.sleep(8.4)
        self.kms.misbehave({"do": "latency", "ms": 700})
        answer = kmsenv.ask("threads", 16, 50, 10)
        self.assertEqual((answer["ok"], self.generated()), (True, 2), answer)

    def test_others_do_not_wait(self):
        """In the refresh window a slow KMS holds up one caller, not those in other threads."""
        kmsenv = self.process(dek_max_age=10, timeout=8)
        self.works(kmsenv)
        time.sleep(8.3)
        self.kms.misbehave({"do": "latency", "ms": 1500})
        before = kmsenv.counters()["messages-sealed"]
        kmsenv.send("threads", 4, 200, 10)
        self.assertTrue(kmsenv.wait()["ok"])
        self.assertEqual((kmsenv.counters()["messages-sealed"] - before, self.generated()), (800, 2))

    def test_outage_in_the_window_is_not_felt(self):
        kmsenv = self.process(dek_max_age=10)
        first = self.works(kmsenv)
        time.sleep(8.2)
        self.kms.misbehave({"do": "internal"})
        for _ in range(3):
            self.assertEqual(self.key_of(self.works(kmsenv)), self.key_of(first))
        self.assertGreater(self.kms.calls("GenerateDataKey"), 1)

    def test_young_key_is_left_alone(self):
        kmsenv = self.process(dek_max_age=10)
        keys = {self.key_of(m) for m in kmsenv.seal([TEXT] * 5)}
        time.sleep(2)
        keys |= {self.key_of(m) for m in kmsenv.seal([TEXT] * 5)}
        self.assertEqual((len(keys), self.generated()), (1, 1))


class NegativeCache(KmsScenario):
    def test_a_refusal_is_remembered_for_a_while(self):
        kmsenv = self.process(negative_cache=2)
        self.kms.misbehave({"do": "denied"})
        for _ in range(10):
            self.fails(kmsenv, DENIED)
        self.assertEqual(self.generated(), 1)
        self.assertEqual(kmsenv.counters()["refusals-cached"], 9)
        self.kms.misbehave()
        time.sleep(2.3)
        self.works(kmsenv)
        self.assertEqual(self.generated(), 2)

    def test_zero_means_ask_every_time(self):
        kmsenv = self.process(negative_cache=0)
        self.kms.misbehave({"do": "denied"})
        for _ in range(4):
            self.fails(kmsenv, DENIED)
        self.assertEqual(self.generated(), 4)

    def test_refusal_of_one_message_does_not_stop_another(self):
        kmsenv = self.process(dek_reuse="no")
        first, second = kmsenv.seal([TEXT] * 2)
        other = self.process()
        self.kms.misbehave({"do": "bad-ciphertext", "count": 1})
        self.fails(other, 65, message=first)
        self.works(other, second)
        self.works(other)
        self.assertEqual(self.kms.calls("Decrypt"), 2)


class Breaker(KmsScenario):
    def test_opens_and_closes(self):
        kmsenv = self.process()
        self.kms.misbehave({"do": "http", "status": 503})
        deadline = time.monotonic() + 40
        while kmsenv.counters()["breaker-open"] == 0:
            self.assertLess(time.monotonic(), deadline, "the breaker never opens")
            self.fails(kmsenv, UNREACHABLE)
        calls = self.generated()
        started = time.monotonic()
        for _ in range(20):
            self.fails(kmsenv, UNREACHABLE)
        self.assertLess(time.monotonic() - started, 2, "an open breaker must answer at once")
        self.assertLessEqual(self.generated() - calls, 3)
        self.kms.misbehave()
        for _ in range(60):
            if kmsenv.seal([TEXT])[0] is not None:
                return
            time.sleep(1)
        self.fail("the breaker never closes")

    def test_refusals_do_not_open_it(self):
        kmsenv = self.process(negative_cache=0)
        self.kms.misbehave({"do": "denied"})
        for _ in range(30):
            self.fails(kmsenv, DENIED)
        self.assertEqual((kmsenv.counters()["breaker-open"], self.generated()), (0, 30))


if __name__ == "__main__":
    common.main()
