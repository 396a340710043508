#!/usr/bin/python3
"""How many times the KMS is asked, and when not any more: threads, a million messages, fork, a KMS
that goes away or refuses, refresh ahead, negative cache, breaker. Counts come from the KMS's side."""
import os
import threading
import time

import common
from common import Scenario, reader, tencent_profile

TEXT = b"some data to protect"
UNREACHABLE, DENIED = 60, 62


class KmsCase(Scenario):
    def setUp(self):
        super().setUp()
        self.kms = self.standin()

    def process(self, timeout=4, **settings):
        """A new process under test with these provider settings."""
        return self.tool(self.config({"prod": tencent_profile(self.kms, kms_timeout=timeout)}, **settings))

    def works(self, kmsenv, message=None):
        result = kmsenv.seal([TEXT])[0] if message is None else kmsenv.open([message])[0]
        self.assertIsNotNone(result, kmsenv.last)
        return result

    def fails(self, kmsenv, *reasons, message=None):
        result = kmsenv.seal([TEXT])[0] if message is None else kmsenv.open([message])[0]
        self.assertIsNone(result)
        self.assertIn(kmsenv.last["reason"], reasons, kmsenv.last)
        self.assertEqual(kmsenv.last["entries"], 1)

    def generated(self, outcome=None):
        return self.kms.calls("GenerateDataKey", outcome)

    @staticmethod
    def key_of(message):
        return reader.Header.parse(message).data_key.id

    def messages_of_many_keys(self, count):
        kmsenv = self.process(dek_reuse="no")
        messages = kmsenv.seal([TEXT] * count)
        self.assertEqual(len({self.key_of(m) for m in messages}), count)
        kmsenv.stop()
        self.kms.reset()
        return messages


class Counts(KmsCase):
    def test_many_threads_cold_make_one_call(self):
        kmsenv = self.process()
        self.kms.misbehave({"do": "latency", "ms": 300})
        answer = kmsenv.ask("threads", 64, 20, 100)
        self.assertEqual((answer["ok"], self.generated()), (True, 1), answer)
        counters = kmsenv.counters()
        self.assertEqual((counters["kms-calls"], counters["kms-failures"], counters["messages-sealed"]), (1, 0, 64 * 20))
        self.assertEqual((counters["bytes-sealed"], counters["cache-entries"]), (64 * 20 * 100, 1))
        self.assertEqual(self.kms.handshakes(), 1)

    def test_many_threads_cold_open_one_message(self):
        messages = self.messages_of_many_keys(1)
        kmsenv = self.process()
        self.kms.misbehave({"do": "latency", "ms": 300})
        answer = kmsenv.ask("threads-open", 64, 5, kmsenv.bundle(messages))
        self.assertEqual((answer["ok"], self.kms.calls("Decrypt"), self.kms.calls()), (True, 1, 1), answer)

    def test_many_threads_open_many_keys(self):
        messages = self.messages_of_many_keys(12)
        kmsenv = self.process()
        answer = kmsenv.ask("threads-open", 32, 60, kmsenv.bundle(messages))
        self.assertEqual((answer["ok"], self.kms.calls("Decrypt"), self.kms.calls()), (True, 12, 12), answer)

    def test_failure_is_shared_too(self):
        kmsenv = self.process()
        self.kms.misbehave({"do": "latency", "ms": 300}, {"do": "denied"})
        answer = kmsenv.ask("threads", 32, 3, 10)
        self.assertEqual((answer["failed"], answer["thread_reason"], self.generated()), (96, DENIED, 1), answer)

    def test_a_million_messages_make_one_call(self):
        kmsenv = self.process()
        answer = kmsenv.ask("threads", 8, 125000, 16)
        self.assertEqual((answer["ok"], self.generated()), (True, 1), answer)
        self.assertEqual(kmsenv.counters()["messages-sealed"], 1000000)

    def test_a_million_messages_with_a_limit(self):
        kmsenv = self.process(dek_max_messages=131072)
        answer = kmsenv.ask("threads", 8, 125000, 16)
        self.assertEqual((answer["ok"], self.generated()), (True, 8), answer)   # ceil(1000000 / 131072)

    def test_limit_of_messages_is_exact(self):
        kmsenv = self.process(dek_max_messages=7)
        keys = [self.key_of(m) for m in kmsenv.seal([TEXT] * 22)]
        self.assertEqual([keys.count(key) for key in dict.fromkeys(keys)], [7, 7, 7, 1])
        self.assertEqual(self.generated(), 4)

    def test_limit_of_bytes(self):
        kmsenv = self.process(dek_max_bytes="64K")
        keys = [self.key_of(m) for m in kmsenv.seal([bytes(20000)] * 12)]
        self.assertEqual([keys.count(key) for key in dict.fromkeys(keys)], [4, 4, 4])

    def test_no_reuse(self):
        kmsenv = self.process(dek_reuse="no")
        messages = kmsenv.seal([TEXT] * 15)
        self.assertEqual((len({self.key_of(m) for m in messages}), self.generated()), (15, 15))
        answer = kmsenv.ask("threads", 8, 5, 10)
        self.assertEqual((answer["ok"], self.generated()), (True, 55), answer)

    def test_least_recently_used_goes_first(self):
        a, b, c = self.messages_of_many_keys(3)
        kmsenv = self.process(cache_entries=2)
        for message, calls in ((a, 1), (b, 2), (a, 2), (c, 3), (a, 3), (b, 4)):
            self.works(kmsenv, message)
            self.assertEqual(self.kms.calls("Decrypt"), calls)
        self.assertEqual(kmsenv.counters()["cache-entries"], 2)

    def test_different_contexts_have_different_keys(self):
        kmsenv = self.process()
        first, second, third = (kmsenv.seal([TEXT], context=c)[0] for c in ("a=1", "a=2", "a=1"))
        self.assertEqual(self.key_of(first), self.key_of(third))
        self.assertNotEqual(self.key_of(first), self.key_of(second))
        self.assertEqual(self.generated(), 2)

    def test_no_call_before_the_first_byte(self):
        kmsenv = self.process()
        self.assertTrue(kmsenv.ask("begin")["ok"])
        self.assertTrue(kmsenv.ask("end")["ok"])
        self.assertEqual((self.generated(), kmsenv.counters()["messages-sealed"]), (1, 1))


class Fork(KmsCase):
    def check(self, kmsenv, count=40, **options):
        source, target = kmsenv.bundle([TEXT] * count), kmsenv.path("forked")
        answer = kmsenv.ask("fork", source, target, **options)
        self.assertTrue(answer["ok"], answer)
        sides = [common.read_bundle(target + suffix) for suffix in (".parent", ".child")]
        for messages in sides:
            self.assertEqual(self.process().open(messages), [TEXT] * count)
        headers = [reader.Header.parse(message) for messages in sides for message in messages]
        self.assertEqual(len({header.salt for header in headers}), 2 * count, "parent and child must not share salts")
        return sides

    def test_before_the_first_use(self):
        self.check(self.process())
        self.assertEqual(self.generated(), 2)
        self.assertEqual(self.generated("ok"), 2)

    def test_after_the_first_use(self):
        kmsenv = self.process()
        self.works(kmsenv)
        self.check(kmsenv)
        self.assertEqual(self.generated(), 1, "the child goes on with the cached key")

    def test_both_talk_to_the_kms(self):
        kmsenv = self.process(dek_reuse="no")
        self.works(kmsenv)
        before = self.kms.handshakes()
        self.assertEqual(before, 1)
        self.check(kmsenv, 10)
        self.assertEqual((self.generated(), self.generated("ok")), (21, 21))
        by_connection = {}
        for entry in self.kms.log():
            if entry["action"] == "GenerateDataKey":
                by_connection[entry["connection"]] = by_connection.get(entry["connection"], 0) + 1
        self.assertEqual(sorted(by_connection.values()), [10, 11], "the child must have a connection of its own")
        self.works(kmsenv)
        self.assertEqual(self.kms.handshakes(), 2 + 2, "the parent's connection must survive the child's end")   # 2: check()'s readers

    def test_fork_of_a_fork_free_cache(self):
        """Forking while the KMS is slow: the child does not wait for a thread that it does not have."""
        kmsenv = self.process(dek_max_messages=3)
        self.works(kmsenv)
        self.check(kmsenv, 10)


class Outage(KmsCase):
    def test_grace_is_honoured_and_ends(self):
        kmsenv = self.process(dek_max_age=2, kms_grace=6, timeout=2)
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
        kmsenv = self.process(dek_max_age=1, timeout=2)
        self.works(kmsenv)
        self.kms.stop()
        time.sleep(1.3)
        self.fails(kmsenv, UNREACHABLE)
        self.assertEqual(kmsenv.counters()["grace-uses"], 0)

    def test_throttling_counts_as_unreachable(self):
        kmsenv = self.process(dek_max_age=1, kms_grace=60, timeout=2)
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


class Refresh(KmsCase):
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
        kmsenv = self.process(dek_max_age=10, timeout=1)
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


class NegativeCache(KmsCase):
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


class Breaker(KmsCase):
    def test_opens_and_closes(self):
        kmsenv = self.process(timeout=1)
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


class Shutdown(KmsCase):
    def test_kms_killed_in_the_middle_of_calls(self):
        """No hang, no crash: every message is whole or fails with a reason."""
        kmsenv = self.process(dek_reuse="no", timeout=2)
        kmsenv.send("threads", 8, 40, 10)
        timer = threading.Timer(0.3, self.kms.stop)
        timer.start()
        answer = kmsenv.wait()
        timer.join()
        if answer["failed"]:
            self.assertEqual(answer["thread_reason"], UNREACHABLE, answer)
        self.assertEqual(kmsenv.counters()["messages-sealed"], 320 - answer["failed"])

    def test_unload_with_open_connections(self):
        kmsenv = self.process()
        self.works(kmsenv)
        self.assertTrue(kmsenv.ask("begin")["ok"])
        self.assertTrue(kmsenv.ask("unload")["ok"])
        kmsenv.process.stdin.close()
        self.assertEqual(kmsenv.process.wait(20), 0)
        kmsenv.process.stdin = open(os.devnull, "rb")


if __name__ == "__main__":
    common.main()
