#!/usr/bin/python3
"""Several profiles of several KMSes at once: who wraps, who is asked, in which order and how often."""
import time

import common
import dialects
from common import TEXT, with_wraps
from matrix import DENIED, DISABLED, NO_WRAP, ROOM, UNREACHABLE
from matrix_rows import TIMEOUT
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
        asked = self.requests("seal", tencent=1, aws=1, vault=1)
        kmsenv = self.process(*VENDORS, "local", settings={"min_wraps": 2}, kms_timeout=TIMEOUT)
        self.does_not(kmsenv, UNREACHABLE, "profile vault", asked)
        self.assertLess(time.monotonic() - started, TIMEOUT + ROOM)
        kmsenv = self.process(*VENDORS, "local", settings={"min_wraps": 1}, kms_timeout=TIMEOUT)
        message = self.seals(kmsenv, asked, ["local"])
        self.opens(self.process("local"), message)


if __name__ == "__main__":
    common.main()
