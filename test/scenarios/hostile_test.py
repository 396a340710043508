#!/usr/bin/python3
"""Messages that want us to do things. The wraps of a header are not authenticated, anybody can write them: no message
chooses a host, a file, a module, another key, or how long we are busy with it."""
import os
import time

import common
from common import reader, with_wraps
from matrix import DENIED, NO_WRAP, REJECTED, ROOM, UNREACHABLE
from matrix_rows import TIMEOUT
from routing import HANG, VENDORS, RoutingCase

MALFORMED = 21


class Hostile(RoutingCase):
    def setUp(self):
        super().setUp()
        self.message = self.sealed(*VENDORS, "local")
        self.good = {wrap.kms: wrap for wrap in self.wraps(self.message)}

    def with_wraps(self, *wraps):
        return with_wraps(self.message, wraps)

    def wrap(self, good, **more):
        """The wrap of that KMS, changed."""
        wrap = reader.Wrap(**vars(self.good[good]))
        for name, value in more.items():
            setattr(wrap, name, value)
        return wrap

    def test_key_ids_are_only_compared(self):
        """Neither a host, nor a file, nor another key comes out of one."""
        kmsenv = self.process(*VENDORS, "local")
        trap = self.kms["vault"].trap_url
        secret = common.local_key_file(os.path.join(self.dir, "not-configured.pem"))
        theirs = reader.LocalKey(secret).new_data_key()[1].wraps[0]
        hostile = [trap, trap + "/v1/transit/decrypt/x", "@" + trap[8:], "127.0.0.1:%d" % self.kms["aws"].ports["trap"], secret,
                   "file:" + secret, "env:PATH", "../../auth/token/create", "..%2f..%2fsys%2fseal", "?", "#", "*", ".*", "%00", "%s%n",
                   "arn:aws:kms:us-east-1:999999999999:key/x", "alias/other", "pkcs11:module-path=/tmp/x.so", "é", " ", "a" * 512,
                   *[standin.create_key() for standin in self.kms.values()]]
        for key_id in hostile:
            for kms in (*VENDORS, "local"):
                with self.subTest(key_id, kms=kms):
                    self.refuses(kmsenv, self.with_wraps(self.wrap(kms, key_id=key_id)), NO_WRAP)
        self.refuses(kmsenv, self.with_wraps(theirs), NO_WRAP)
        for kms in VENDORS:   # another vendor's id, configured there
            self.refuses(kmsenv, self.with_wraps(self.wrap("local", key_id=self.kms[kms].key_id)), NO_WRAP)
        self.opens(kmsenv, self.with_wraps(self.wrap("aws", key_id=trap), self.wrap("vault")), vault=1)

    def test_a_wrap_of_one_kms_under_the_name_of_another(self):
        """The stand-ins' keys have the same ids: only the KMS's answer tells."""
        for kms in VENDORS:
            for other in set(VENDORS) - {kms}:
                with self.subTest(kms, other=other):
                    kmsenv = self.process(kms)
                    before = self.asked()
                    self.assertEqual(kmsenv.open([self.with_wraps(self.wrap(kms, ciphertext=self.good[other].ciphertext))]), [None])
                    self.assertEqual(kmsenv.last["reason"], REJECTED, kmsenv.last)
                    now = self.asked()
                    for name in set(VENDORS) - {kms}:
                        self.assertEqual(now.get(name), before.get(name))

    def test_unknown_kinds(self):
        kmsenv = self.process(*VENDORS, "local")
        for kind in ("Tencent", "tencent ", "tencen", "tencentx", "LOCAL", "https", self.kms["aws"].trap_url, common.MODULE,
                     "/tmp/x.so", "../aws", "default", "é", "a" * 512):
            with self.subTest(kind):
                self.refuses(kmsenv, self.with_wraps(self.wrap("tencent", kms=kind)), NO_WRAP)

    def test_not_even_read(self):
        """Names that could break out of a line, and more wraps than there may be."""
        kmsenv = self.process(*VENDORS, "local")
        for more in ({"key_id": ""}, {"kms": ""}, {"key_id": "a\r\nHost: b"}, {"key_id": self.good["aws"].key_id + "\0"},
                     {"kms": "aws\0"}, {"key_id": "\x7f"}, {"key_id": "a" * 513}, {"ciphertext": b""}, {"ciphertext": b"x" * 16385}):
            with self.subTest(more):
                self.refuses(kmsenv, self.with_wraps(self.wrap("aws", **more), self.wrap("vault")), MALFORMED, "of a wrap")
        self.refuses(kmsenv, self.with_wraps(*[self.wrap("vault")] * 17), MALFORMED, "16 wraps")

    def bad(self, kms, number):
        """Different wraps, each well-formed and none good."""
        return self.wrap(kms, context=[("n", str(number))])

    def test_at_most_eight_tries(self):
        for kms in VENDORS:
            kmsenv = self.process(kms)
            self.refuses(kmsenv, self.with_wraps(*[self.bad(kms, n) for n in range(16)]), REJECTED, "8 wraps.*the most", **{kms: 8})
            self.refuses(kmsenv, self.with_wraps(*[self.bad(kms, n) for n in range(8)], self.wrap(kms)), REJECTED, **{kms: 8})
            self.opens(kmsenv, self.with_wraps(*[self.bad(kms, n) for n in range(7)], self.wrap(kms)), **{kms: 8})

    def test_at_most_eight_tries_in_all(self):
        many = [self.bad(kms, n) for n in range(5) for kms in VENDORS]
        kmsenv = self.process(*VENDORS, "local")
        self.refuses(kmsenv, self.with_wraps(*many, self.wrap("local")), REJECTED, "8 wraps", tencent=5, aws=3)
        self.opens(self.process("local", *VENDORS), self.with_wraps(*many, self.wrap("local")))

    def test_eight_tries_that_hang(self):
        """One deadline for them all."""
        self.misbehave("tencent", HANG)
        started = time.monotonic()
        kmsenv = self.process(("tencent", self.profile("tencent", breaker_failures=1000, kms_timeout=TIMEOUT)))
        self.assertEqual(kmsenv.open([self.with_wraps(*[self.bad("tencent", n) for n in range(16)])]), [None])
        self.assertEqual(kmsenv.last["reason"], UNREACHABLE, kmsenv.last)
        self.assertLess(time.monotonic() - started, TIMEOUT + ROOM)

    def test_wraps_of_nobody_are_no_tries(self):
        strangers = [self.wrap("tencent", kms="nobody%d" % n) for n in range(8)] + [self.wrap("aws", key_id="x%d" % n) for n in range(7)]
        kmsenv = self.process(*VENDORS)
        self.opens(kmsenv, self.with_wraps(*strangers, self.wrap("vault")), vault=1)
        self.refuses(kmsenv, self.with_wraps(*strangers), NO_WRAP)

    def test_the_same_wrap_again_and_again(self):
        self.misbehave("vault", {"do": "denied"})
        self.refuses(self.process("vault"), self.with_wraps(*[self.wrap("vault")] * 16), DENIED, "8 wraps", vault=16)

    def test_extra_chooses_no_account_and_no_region(self):
        """AWS: under an alias the message says which key it meant; that is not the reader's profile to leave."""
        standin = self.kms["aws"]
        arn = "arn:aws:kms:eu-central-1:111122223333:"
        standin.create_key(alias="alias/app")
        message = self.sealed("aws", key_id=arn + "alias/app")
        wrap = self.wraps(message)[0]
        kmsenv = self.process("aws", key_id=arn + "alias/app")
        for extra in ("arn:aws:kms:eu-central-1:999999999999:key/x", "arn:aws:kms:us-east-1:111122223333:key/x", arn + "alias/app",
                      "arn:aws:s3:eu-central-1:111122223333:key/x", standin.trap_url, "x", "arn:aws:kms:eu-central-1:111122223333:key/\0"):
            with self.subTest(extra):
                changed = reader.Wrap(wrap.kms, wrap.key_id, wrap.ciphertext, wrap.context, extra.encode())
                self.refuses(kmsenv, with_wraps(message, [changed]), REJECTED)
        self.opens(kmsenv, message, aws=1)


if __name__ == "__main__":
    common.main()
