#!/usr/bin/python3
"""Several profiles of several KMSes at once: who is asked, in which order, how often and for how long."""
import os
import time

import common
import dialects
import matrix
from common import TEXT, reader, with_wraps
from matrix import DENIED, DISABLED, MISMATCH, NO_WRAP, REJECTED, ROOM, THROTTLED, TIMEOUT, UNREACHABLE
from routing import HANG, VENDORS, RoutingCase


class Together(RoutingCase):
    def test_any_one_opens(self):
        names = (*VENDORS, "local")
        kmsenv = self.process(*names)
        message = kmsenv.seal([TEXT])[0]
        self.assertIsNotNone(message, kmsenv.last)
        self.assertEqual(self.asked(), {**self.requests("seal", tencent=1), **self.requests("wrap", aws=1, vault=1)})
        self.assertEqual([wrap.kms for wrap in self.wraps(message)], list(names))
        self.reset()
        for name in names:
            self.opens(self.process(name), message, **({} if name == "local" else {name: 1}))

    def test_openssl_enc(self):
        """Two clouds and an escrow, with no other setting, and any one of them opens."""
        names = ("tencent", "aws", "local")
        run = self.openssl("enc", "-kms-envelope", "-K", "0", data=TEXT, config=self.config(self.profiles(*names)))
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(self.asked(), {**self.requests("seal", tencent=1), **self.requests("wrap", aws=1)})
        for name in names:
            back = self.openssl("enc", "-d", "-kms-envelope", "-K", "0", data=run.stdout, config=self.config(self.profiles(name)))
            self.assertEqual((back.returncode, back.stdout), (0, TEXT), back.stderr)
        self.assertEqual(self.asked(), {"tencent": {"GenerateDataKey": 1, "Decrypt": 1}, "aws": {"Encrypt": 1, "Decrypt": 1}})

    def test_the_reader_decides_the_order(self):
        """Whatever the order of the wraps, and whoever made them."""
        message = self.sealed(*VENDORS, "local")
        turned = with_wraps(message, reversed(self.wraps(message)))
        for first in VENDORS:
            others = [name for name in VENDORS if name != first]
            self.opens(self.process(first, *others), message, **{first: 1})
            self.opens(self.process(first, *others), turned, **{first: 1})
        self.opens(self.process("local", *VENDORS), message)
        self.opens(self.process("tencent", "local"), turned, tencent=1)

    def test_chosen_profiles(self):
        kmsenv = self.process(*VENDORS, "local")
        message = kmsenv.seal([TEXT], profile="vault,aws")[0]
        self.assertIsNotNone(message, kmsenv.last)
        self.assertEqual(self.asked(), {**self.requests("seal", vault=1), **self.requests("wrap", aws=1)})
        self.reset()
        self.refuses(self.process("tencent"), message, NO_WRAP, "vault")
        self.opens(self.process("tencent", "aws"), message, aws=1)

    def test_second_profile_of_one_kind(self):
        """Two accounts of one vendor: each wrap goes where its key is."""
        second = self.a_standin("tencent")
        other = second.create_key()
        self.kms["second"], self.backend["second"] = second, self.backend["tencent"]
        pair = ("second", self.backend["tencent"].profile(second, key_id=other))
        message = self.sealed("tencent", pair)
        self.assertEqual([wrap.key_id for wrap in self.wraps(message)], [self.kms["tencent"].key_id, other])
        self.opens(self.process("tencent", pair), message, tencent=1)
        self.opens(self.process(pair, "tencent"), message, second=1)
        self.misbehave("tencent", {"do": "denied"})
        self.opens(self.process("tencent", pair), message, tencent=1, second=1)

    def test_same_key_id_in_two_profiles(self):
        """Then both may be asked for it, and the one that knows it answers."""
        second = self.a_standin("vault")
        self.kms["second"], self.backend["second"] = second, self.backend["vault"]
        pair = ("second", self.backend["vault"].profile(second))
        message = self.sealed(pair)
        self.opens(self.process("vault", pair), message, vault=1, second=1)
        self.opens(self.process(pair, "vault"), message, second=1)

    def test_former_keys(self):
        standin = self.kms["aws"]
        former, last = standin.create_key(), standin.create_key()
        messages = [self.sealed("aws", key_id=key) for key in (former, last, standin.key_id)]
        kmsenv = self.process("aws", decrypt_keys="%s, %s" % (former, last))
        for message in messages:
            self.opens(kmsenv, message, aws=1)
        self.refuses(self.process("aws", decrypt_keys=last), messages[0], NO_WRAP, former)
        # no part of the list is as good as an id in it
        wrap = self.wraps(messages[0])[0]
        for key_id in (former + ", " + last, former[:-1], former + " ", "," + former, former.upper(), "*", former + ","):
            wrap.key_id = key_id
            self.refuses(kmsenv, with_wraps(messages[0], [wrap]), NO_WRAP)


class Everybody(RoutingCase):
    vendors = tuple(sorted(dialects.ALL))

    def test_all_at_once(self):
        names = (*self.vendors, "local")
        message = self.sealed(*names)
        self.assertEqual([wrap.kms for wrap in self.wraps(message)], list(names))
        for name in names:
            self.reset()
            kmsenv = self.process(name)
            self.assertEqual(kmsenv.open([message]), [TEXT], kmsenv.last)
            asked = self.asked()
            self.assertEqual(set(asked), {name} - {"local"})
            for actions in asked.values():
                self.assertEqual(actions[self.backend[name].open[-1]], 1)


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
        self.assertLess(seconds, TIMEOUT)
        self.assertEqual(self.audited(), [("tencent", "decrypt", "KMS unreachable"), ("aws", "decrypt", "ok")])

    def test_a_kms_that_hangs_leaves_time_for_the_next(self):
        self.misbehave("tencent", HANG)
        self.assertLess(self.seconds(self.opens, self.process(*VENDORS), self.message, tencent=1, aws=1), TIMEOUT)
        self.misbehave("aws", HANG)
        self.assertLess(self.seconds(self.opens, self.process(*VENDORS), self.message, tencent=1, aws=1, vault=1), TIMEOUT)

    def test_all_hang_under_one_deadline(self):
        for kms in VENDORS:
            self.misbehave(kms, HANG)
        kmsenv = self.process(*VENDORS)
        seconds = self.seconds(self.refuses, kmsenv, self.message, UNREACHABLE, "3 wraps.*tencent", tencent=1, aws=1, vault=1)
        self.assertLess(seconds, TIMEOUT + ROOM)
        self.assertGreater(seconds, TIMEOUT - 1, "the time was not used")
        started = time.monotonic()
        self.assertEqual(kmsenv.seal([TEXT]), [None])
        self.assertLess(time.monotonic() - started, TIMEOUT + ROOM)
        waited = [line["milliseconds"] for line in (self.audited(), self.lines)[1]]
        self.assertEqual(len(waited), 4)   # three to open; the first wrap that could not be made was enough
        self.assertLess(sum(waited[:3]), (TIMEOUT + 1) * 1000)

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


class Sealing(RoutingCase):
    def seals(self, kmsenv, expected, wraps):
        before = self.asked()
        message = kmsenv.seal([TEXT])[0]
        self.assertIsNotNone(message, kmsenv.last)
        self.check_asked(before, expected)
        self.assertEqual([wrap.kms for wrap in self.wraps(message)], wraps)
        return message

    def does_not(self, kmsenv, reason, words, expected):
        before = self.asked()
        self.assertEqual(kmsenv.seal([TEXT]), [None])
        self.assertEqual((kmsenv.last["reason"], kmsenv.last["entries"]), (reason, 1), kmsenv.last)
        self.assertRegex(kmsenv.last["error"], words)
        self.check_asked(before, expected)

    def test_all_by_default(self):
        """And nobody is asked in vain once that is impossible."""
        kmsenv = self.process(*VENDORS, settings={"negative_cache": 0})
        self.misbehave("aws", {"do": "denied"})
        self.does_not(kmsenv, DENIED, "3 of 3 profiles.*min-wraps.*profile aws", {**self.requests("seal", tencent=1), **self.requests("wrap", aws=1)})
        self.misbehave("tencent", {"do": "denied"})
        self.does_not(kmsenv, DENIED, "profile tencent", self.requests("seal", tencent=1))

    def test_min_wraps(self):
        self.misbehave("aws", {"do": "denied"})
        kmsenv = self.process(*VENDORS, settings={"min_wraps": 2})
        message = self.seals(kmsenv, {**self.requests("seal", tencent=1), **self.requests("wrap", aws=1, vault=1)}, ["tencent", "vault"])
        self.opens(self.process("aws", "vault"), message, vault=1)
        self.misbehave("vault", {"do": "disabled"})
        kmsenv = self.process(*VENDORS, settings={"min_wraps": 2})
        self.does_not(kmsenv, DISABLED, "2 of 3 profiles.*profile vault",
                      {**self.requests("seal", tencent=1), **self.requests("wrap", aws=1), "vault": {"keys": 1}})

    def test_the_first_is_down(self):
        """Then the next one makes the data key, if min-wraps lets it."""
        self.kms["tencent"].stop()
        kmsenv = self.process(*VENDORS, settings={"min_wraps": 2})
        message = self.seals(kmsenv, {**self.requests("seal", aws=1), **self.requests("wrap", vault=1)}, ["aws", "vault"])
        self.opens(self.process("vault"), message, vault=1)
        self.does_not(self.process(*VENDORS), UNREACHABLE, "3 of 3.*profile tencent", {})

    def test_local_comes_first(self):
        self.seals(self.process("local", "vault", "aws"), self.requests("wrap", vault=1, aws=1), ["local", "vault", "aws"])

    def test_one_deadline(self):
        for kms in VENDORS:
            self.misbehave(kms, HANG)
        started = time.monotonic()
        self.does_not(self.process(*VENDORS, "local", settings={"min_wraps": 2}), UNREACHABLE, "profile vault",
                      self.requests("seal", tencent=1, aws=1, vault=1))
        self.assertLess(time.monotonic() - started, TIMEOUT + ROOM)
        message = self.seals(self.process(*VENDORS, "local", settings={"min_wraps": 1}), self.requests("seal", tencent=1, aws=1, vault=1), ["local"])
        self.opens(self.process("local"), message)


if __name__ == "__main__":
    common.main()
