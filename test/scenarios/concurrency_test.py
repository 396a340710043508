#!/usr/bin/python3
"""How many times the KMS is asked: threads, a million messages, limits, fork, a KMS killed in the
middle. Counts come from the KMS's side."""
import os
import threading

import common
from common import TEXT, KmsScenario, reader

UNREACHABLE, DENIED = 60, 62


class Counts(KmsScenario):
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


class Fork(KmsScenario):
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


class Shutdown(KmsScenario):
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
