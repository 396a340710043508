#!/usr/bin/python3
"""The format, both ways: what kmsenv writes is read by an independent implementation (test/reader.py)
and the other way round, for sizes 0 to 70000 and one to many segments."""
import os
import random

import common
from common import Scenario, reader
from reader import OCTETS, OID, SEQUENCE, UTF8, element, integer, text

SMALL = list(range(0, 601))
# around every multiple of 4096 up to 70000
EDGES = [near for size in range(4096, 70001, 4096) for near in range(size - 18, size + 19)]
BLOCK = 512   # the default of `block-size`
AAD = b"caller's aad \x00\xff"


def sizes(seed):
    rng = random.Random(seed)
    return SMALL + EDGES + [rng.randrange(601, 70001) for _ in range(60)]


def contents(lengths, seed=b"x"):
    rng = random.Random(seed)
    block = rng.randbytes(140000)
    return [block[length % 997:length % 997 + length] for length in lengths]


def padded(tag, content, octets):
    """An element with its length in so many octets: more than DER wants."""
    return bytes([tag, 0x80 | octets]) + len(content).to_bytes(octets, "big") + content


class ReaderCase(Scenario):
    def setUp(self):
        super().setUp()
        self.configuration = self.local_config()
        self.key = reader.LocalKey(self.key_file)
        self.kmsenv = self.tool(self.configuration)


class Reader(ReaderCase):
    def check_sealed(self, records, caller_key=None, aad=b"", **options):
        options.update({name: value for name, value in (("key", caller_key), ("aad", aad)) if value})
        messages = self.kmsenv.seal(records, **options)
        self.assertTrue(self.kmsenv.last["ok"], self.kmsenv.last)
        self.assertEqual(len(messages), len(records))
        for record, message in zip(records, messages):
            dek = self.key.dek_of(message)
            self.assertEqual(reader.open_message(message, dek, caller_key, aad), record, len(record))
        return messages

    def check_written(self, records, caller_key=None, aad=b"", bits=35, cipher_bits=256, **options):
        options.update({name: value for name, value in (("key", caller_key), ("aad", aad)) if value})
        dek, data_key = self.key.new_data_key()
        messages = [reader.write_message(record, dek, data_key, bits, caller_key, aad, cipher_bits) for record in records]
        opened = self.kmsenv.open(messages, **options)
        self.assertTrue(self.kmsenv.last["ok"], self.kmsenv.last)
        self.assertEqual([len(one) for one in opened], [len(record) for record in records])
        self.assertEqual(opened, records)
        return messages

    def test_one_segment_sealed_by_kmsenv(self):
        records = contents(sizes(1))
        messages = self.check_sealed(records)
        self.assertEqual(len({len(m) - len(r) for m, r in zip(messages, records)}), 1,
                         "expansion of a message of one segment must be constant")

    def test_one_segment_written_by_reader(self):
        self.check_written(contents(sizes(2)))

    def test_segments_sealed_by_kmsenv(self):
        for bits in (12, 13, 16):
            for chunk in (None, 1000, 4096):
                lengths = sizes(bits) if chunk is None else EDGES[::5] + SMALL[::50] + [2 << bits]
                if chunk is None:
                    lengths = [length for length in lengths if self.growth(length, bits) <= BLOCK]
                with self.subTest(bits=bits, chunk=chunk):
                    messages = self.check_sealed(contents(lengths), bits=bits, chunk=chunk)
                    for length, message in zip(lengths, messages):
                        header = reader.Header.parse(message)
                        segments = max(1, -(-length // (1 << bits)))
                        self.assertEqual(header.segment_bits, bits)
                        self.assertEqual(len(message), len(header.der) + length + 17 * segments)

    def growth(self, length, bits):
        """Bytes that a message is longer than its data."""
        if not hasattr(self, "header_length"):
            self.header_length = len(reader.Header.parse(self.kmsenv.seal([b""])[0]).der)
        return self.header_length + 17 * max(1, -(-length // (1 << bits)))

    def test_one_update_that_grows_too_much(self):
        """The message of one update and final may grow by a block: what needs more fails clearly, with the remedy."""
        for length in [near for size in range(4096, 70001, 4096) for near in (size - 1, size, size + 1)] + [300000]:
            message = self.kmsenv.seal([bytes(length)], bits=12)[0]
            self.assertEqual(message is not None, self.growth(length, 12) <= BLOCK, length)
            if message is None:
                self.assertEqual((self.kmsenv.last["reason"], self.kmsenv.last["entries"]), (9, 1))
                for remedy in ("segment-bits", "smaller updates", "block-size"):
                    self.assertIn(remedy, self.kmsenv.last["error"])

    def test_segments_written_by_reader(self):
        for bits in (12, 13, 16):
            with self.subTest(bits=bits):
                self.check_written(contents(sizes(bits + 100)), bits=bits)
                self.check_written(contents(EDGES[::4]), bits=bits, chunk=777)

    def test_single_bytes_into_kmsenv(self):
        records = contents([0, 1, 31, 32, 33, 500, 4095, 4096, 4097, 8193])
        self.check_written(records, bits=12, chunk=1)
        self.check_sealed(records, bits=12, chunk=1)

    def test_caller_key_and_aad(self):
        records = contents([0, 1, 600, 4096, 9000])
        caller_key = bytes(range(32))
        for key, aad in ((caller_key, b""), (None, AAD), (caller_key, AAD), (None, os.urandom(70000)[:15000])):
            messages = self.check_sealed(records, key, aad, bits=12)
            self.check_written(records, key, aad, bits=12)
            for wrong_key, wrong_aad in ((bytes(31) + b"\1", aad), (key, aad + b"x")):
                with self.assertRaises(reader.FormatError):
                    reader.open_message(messages[1], self.key.dek_of(messages[1]), wrong_key, wrong_aad)
                self.assertEqual(self.kmsenv.open(messages[:2], key=wrong_key, aad=wrong_aad or None), [None, None])

    def test_zero_caller_key_is_none(self):
        messages = self.check_sealed(contents([100]), bytes(32))
        self.assertEqual(self.kmsenv.open(messages), contents([100]))

    def test_cipher_sizes(self):
        for bits in (128, 192, 256):
            name = "kms-envelope" if bits == 256 else "kms-envelope-%d" % bits
            messages = self.check_sealed(contents([0, 5, 5000]), cipher=name, bits=12)
            self.assertEqual({reader.CIPHERS[reader.Header.parse(m).cipher] * 8 for m in messages}, {bits})
            self.check_written(contents([0, 5, 5000]), cipher=name, bits=12, cipher_bits=bits)

    def test_data_key_lengths_and_context(self):
        """Any length that is not shorter than the cipher's key."""
        for length in (16, 24, 32, 64):
            dek, data_key = self.key.new_data_key(length, [("app", "x"), ("env", "täst")])
            for bits in (128, 192, 256):
                opened = self.kmsenv.open([reader.write_message(b"hello", dek, data_key, cipher_bits=bits)])
                self.assertEqual(opened, [b"hello" if length * 8 >= bits else None], (length, bits, self.kmsenv.last))
                self.assertEqual(self.kmsenv.last["reason"], 0 if length * 8 >= bits else 43)

    def test_header_is_what_the_reader_would_write(self):
        for message in self.kmsenv.seal(contents([0, 10]), context="b=2,a=1"):
            header = reader.Header.parse(message)
            self.assertEqual(header.encode(), header.der)
            self.assertEqual(header.data_key.wraps[0].context, [("a", "1"), ("b", "2")])

    def test_malformed_by_the_readers_hand(self):
        """Well-authenticated messages that break a rule of the format."""
        dek, data_key = self.key.new_data_key()
        good = reader.write_message(b"A" * 5000, dek, data_key, 12)
        header = reader.Header.parse(good)
        body = good[len(header.der):]
        segment = 4096 + 17
        key, _ = reader.derive(dek, None, header.cipher, 12, header.salt)
        gcm = reader.AESGCM(key)

        def sealed(index, plain):
            return gcm.encrypt(bytes(8) + index.to_bytes(4, "big"), plain, header.parameters_der if index == 0 else None)
        first_last = sealed(0, b"A" * 4096 + b"\1")
        cases = {
            "segments swapped": body[segment:] + body[:segment],
            "last segment missing": body[:segment],
            "last segment twice": body + body[segment:],
            "empty last segment after a full one": body[:segment] + sealed(1, b"\1"),
            "flag says last, more follows": first_last + body[segment:],
            "flag is 2": body[:segment] + sealed(1, b"A" * 904 + b"\2"),
            "short segment says more": sealed(0, b"A" * 100 + b"\0"),
            "second segment short and says more": body[:segment] + sealed(1, b"A" * 904 + b"\0"),
            "no flag": body[:segment] + sealed(1, b""),
            "nothing": b"",
        }
        self.assertEqual(self.kmsenv.open([header.der + first_last, good]), [b"A" * 4096, b"A" * 5000])
        for name, damaged in cases.items():
            with self.subTest(name):
                with self.assertRaises(reader.FormatError):
                    reader.open_message(header.der + damaged, dek)
                self.assertEqual(self.kmsenv.open([header.der + damaged]), [None])
                self.assertGreater(self.kmsenv.last["reason"], 0)
                self.assertEqual(self.kmsenv.last["entries"], 1, "exactly one error entry of the provider")


class Der(ReaderCase):
    """Headers that are not exactly as they must be, around a body that is in order."""

    def setUp(self):
        super().setUp()
        self.dek, self.data_key = self.key.new_data_key()
        good = reader.write_message(b"hello", self.dek, self.data_key)
        self.header = reader.Header.parse(good)
        self.body = good[len(self.header.der):]
        self.wrap = self.data_key.wraps[0].encode()
        self.id, self.length = element(OCTETS, self.data_key.id), integer(32)
        self.wraps = element(SEQUENCE, self.wrap)
        self.start = [text("kms-envelope"), integer(1)]

    def whole(self, *parts):
        return element(SEQUENCE, *parts) + self.body

    def keyed(self, *parts):
        return self.whole(*self.start, element(SEQUENCE, *parts), self.header.parameters_der)

    def check_refused(self, cases):
        for case, message in cases.items():
            with self.subTest(case):
                with self.assertRaises(reader.FormatError):
                    reader.open_message(message, self.dek)
                self.assertEqual(self.kmsenv.open([message]), [None])
                self.assertIn(self.kmsenv.last["reason"], (20, 21, 22))
                self.assertEqual(self.kmsenv.last["entries"], 1)

    def test_most_wraps(self):
        self.assertEqual(self.kmsenv.open([self.keyed(self.id, self.length, element(SEQUENCE, *[self.wrap] * 16))]), [b"hello"])

    def test_contents(self):
        key, parameters = self.data_key.encode(), self.header.parameters_der
        big = [reader.Wrap("x", "y", bytes(16000)).encode()] * 5
        self.check_refused({
            "version 2": self.whole(self.start[0], integer(2), key, parameters),
            "version in two octets": self.whole(self.start[0], b"\x02\x02\x00\x01", key, parameters),
            "other format": self.whole(text("kms-envelopf"), integer(1), key, parameters),
            "something more": self.whole(*self.start, key, parameters, integer(1)),
            "17 wraps": self.keyed(self.id, self.length, element(SEQUENCE, *[self.wrap] * 17)),
            "length 33": self.keyed(self.id, integer(33), self.wraps),
            "length padded": self.keyed(self.id, b"\x02\x02\x00\x20", self.wraps),
            "short id": self.keyed(element(OCTETS, self.data_key.id[:-1]), self.length, self.wraps),
            "header over 64 KiB": self.keyed(self.id, self.length, element(SEQUENCE, self.wrap, *big)),
        })

    def test_lengths(self):
        key, header = self.data_key.encode(), self.header
        content = b"".join(self.start) + key + header.parameters_der
        salted = [element(SEQUENCE, element(OID, header.cipher), padded(OCTETS, header.salt, n), integer(header.segment_bits),
                          element(OCTETS, header.commitment)) for n in (1, 2)]
        cases = {"indefinite length": b"\x30\x80" + content + b"\0\0" + self.body,
                 "format's length": self.whole(padded(UTF8, b"kms-envelope", 1), integer(1), key, header.parameters_der)}
        for octets in range((len(content).bit_length() + 7) // 8 + 1, 6):
            cases["outer length in %d octets" % octets] = padded(SEQUENCE, content, octets) + self.body
        for octets in (1, 2, 3):
            cases["id's length in %d octets" % octets] = self.keyed(padded(OCTETS, self.data_key.id, octets), self.length, self.wraps)
            cases["parameters' length in %d octets" % octets] = self.whole(
                *self.start, key, padded(SEQUENCE, header.parameters_der[2:], octets))
        for octets, parameters in enumerate(salted, 1):
            cases["salt's length in %d octets" % octets] = self.whole(*self.start, key, parameters)
        self.check_refused(cases)


if __name__ == "__main__":
    common.main()
