#!/usr/bin/python3
"""A second implementation of the message format, for tests only: written from the description of the
format, sharing no code with the provider. Opens and writes messages given the data key, or
the local master key file.

    reader.py show                                                     < message
    reader.py open  (--dek HEX | --key-file FILE) [--key HEX] [--aad HEX]   < message > data
    reader.py write (--dek HEX --header-from MESSAGE | --key-file FILE [--context NAME=VALUE]...)
                    [--segment-bits N] [--cipher-bits N] [--key HEX] [--aad HEX]  < data > message
"""
import argparse
import base64
import hmac as hmac_module
import os
import re
import sys
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

HEADER_MAX, WRAPS_MAX = 65536, 16
# content of the OBJECT IDENTIFIER -> key bytes (2.16.840.1.101.3.4.1.{6,26,46})
CIPHERS = {bytes.fromhex("60864801650304012e"): 32, bytes.fromhex("60864801650304011a"): 24,
           bytes.fromhex("608648016503040106"): 16}
MORE, LAST = 0, 1
TAG = 16
INTEGER, OCTETS, OID, UTF8, SEQUENCE, CONTEXT, EXTRA = 0x02, 0x04, 0x06, 0x0C, 0x30, 0xA0, 0xA1


class FormatError(Exception):
    """The message is not in order; the text says what."""


# DER

class Der:
    """Reads DER strictly: minimal lengths, nothing left over."""

    def __init__(self, data, position=0):
        self.data, self.position = data, position

    def take(self, tag, what):
        """Content of the next element, which must have this tag."""
        data, at = self.data, self.position
        if len(data) - at < 2:
            raise FormatError(what + ": cut off")
        if data[at] != tag:
            raise FormatError("%s: tag %02x instead of %02x" % (what, data[at], tag))
        length, at = data[at + 1], at + 2
        if length >= 0x80:
            count = length & 0x7F
            if not 1 <= count <= 4 or len(data) - at < count:
                raise FormatError(what + ": length of the length")
            length = int.from_bytes(data[at:at + count], "big")
            if length < 0x80 or data[at] == 0:
                raise FormatError(what + ": length is not minimal")
            at += count
        if length > len(data) - at:
            raise FormatError(what + ": longer than what holds it")
        self.position = at + length
        return data[at:at + length]

    def is_next(self, tag):
        return self.position < len(self.data) and self.data[self.position] == tag

    def enter(self, tag, what):
        return Der(self.take(tag, what))

    def integer(self, what):
        content = self.take(INTEGER, what)
        if not content or content[0] & 0x80 or (len(content) > 1 and content[0] == 0 and not content[1] & 0x80):
            raise FormatError(what + ": not a minimal non-negative integer")
        return int.from_bytes(content, "big")

    def text(self, what):
        try:
            return self.take(UTF8, what).decode("utf-8")
        except UnicodeDecodeError as fault:
            raise FormatError(what + ": not UTF-8") from fault

    def octets(self, what, size=None):
        content = self.take(OCTETS, what)
        if size is not None and len(content) != size:
            raise FormatError("%s: %d bytes instead of %d" % (what, len(content), size))
        return content

    def done(self):
        return self.position == len(self.data)

    def end(self, what):
        if not self.done():
            raise FormatError(what + ": something follows its last element")


def element(tag, *contents):
    content = b"".join(contents)
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def integer(value):
    return element(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def text(value):
    return element(UTF8, value.encode())


# Structures

@dataclass
class Wrap:
    kms: str
    key_id: str
    ciphertext: bytes
    context: list = field(default_factory=list)   # [(name, value)] sorted by the bytes of the name
    extra: bytes = None

    @classmethod
    def parse(cls, der):
        wrap = cls(der.text("kms"), der.text("keyId"), der.octets("ciphertext"))
        if der.is_next(CONTEXT):
            outer = der.enter(CONTEXT, "context")
            pairs = outer.enter(SEQUENCE, "context")
            outer.end("context")
            while not pairs.done():
                pair = pairs.enter(SEQUENCE, "context pair")
                wrap.context.append((pair.text("context name"), pair.text("context value")))
                pair.end("context pair")
            names = [name.encode() for name, _ in wrap.context]
            if not names or names != sorted(set(names)):
                raise FormatError("context: empty, unsorted or repeated")
        if der.is_next(EXTRA):
            outer = der.enter(EXTRA, "extra")
            wrap.extra = outer.octets("extra")
            outer.end("extra")
            if not wrap.extra:
                raise FormatError("extra: empty")
        der.end("Wrap")
        return wrap

    def encode(self):
        parts = [text(self.kms), text(self.key_id), element(OCTETS, self.ciphertext)]
        if self.context:
            pairs = [element(SEQUENCE, text(name), text(value)) for name, value in self.context]
            parts.append(element(CONTEXT, element(SEQUENCE, *pairs)))
        if self.extra:
            parts.append(element(EXTRA, element(OCTETS, self.extra)))
        return element(SEQUENCE, *parts)


@dataclass
class DataKey:
    id: bytes
    length: int
    wraps: list

    @classmethod
    def parse(cls, der):
        key = cls(der.octets("id", 24), der.integer("length"), [])
        if key.length not in (16, 24, 32, 64):
            raise FormatError("length: %d" % key.length)
        wraps = der.enter(SEQUENCE, "wraps")
        while not wraps.done():
            key.wraps.append(Wrap.parse(wraps.enter(SEQUENCE, "Wrap")))
        if len(key.wraps) > WRAPS_MAX:
            raise FormatError("wraps: more than 16")
        der.end("DataKey")
        return key

    def encode(self):
        return element(SEQUENCE, element(OCTETS, self.id), integer(self.length),
                       element(SEQUENCE, *[wrap.encode() for wrap in self.wraps]))


@dataclass
class Header:
    data_key: DataKey
    cipher: bytes            # content of the OID
    salt: bytes
    segment_bits: int
    commitment: bytes
    der: bytes = b""         # the whole header as it was read
    parameters_der: bytes = b""

    @classmethod
    def parse(cls, message):
        """Header at the front of a message."""
        if message[:1] != bytes([SEQUENCE]):
            raise FormatError("MessageHeader: not a SEQUENCE")
        outer = Der(message[:HEADER_MAX])
        der = outer.enter(SEQUENCE, "MessageHeader")
        if der.text("format") != "kms-envelope":
            raise FormatError("format: not kms-envelope")
        if der.integer("version") != 1:
            raise FormatError("version: not 1")
        data_key = DataKey.parse(der.enter(SEQUENCE, "DataKey"))
        start = der.position
        parameters = der.enter(SEQUENCE, "MessageParameters")
        der.end("MessageHeader")
        header = cls(data_key, parameters.take(OID, "cipher"), parameters.octets("salt", 32),
                     parameters.integer("segmentBits"), parameters.octets("commitment", 32),
                     message[:outer.position], der.data[start:])
        parameters.end("MessageParameters")
        if header.cipher not in CIPHERS:
            raise FormatError("cipher: unknown")
        if not 12 <= header.segment_bits <= 35:
            raise FormatError("segmentBits: %d" % header.segment_bits)
        return header

    def encode(self):
        self.parameters_der = element(SEQUENCE, element(OID, self.cipher), element(OCTETS, self.salt),
                                      integer(self.segment_bits), element(OCTETS, self.commitment))
        self.der = element(SEQUENCE, text("kms-envelope"), integer(1), self.data_key.encode(), self.parameters_der)
        return self.der


# Keys

def _hmac(key, data):
    mac = HMAC(key, hashes.SHA256())
    mac.update(data)
    return mac.finalize()


def data_key_id(dek):
    return _hmac(dek, b"kmsenv data key id")[:24]


def derive(dek, caller_key, cipher, segment_bits, salt):
    """(content encryption key, commitment)"""
    info = b"kmsenv message v1" + element(OID, cipher) + bytes([segment_bits]) + salt
    okm = HKDF(hashes.SHA256(), 64, salt=caller_key or bytes(32), info=info).derive(dek)
    return okm[:CIPHERS[cipher]], okm[32:]


# Messages

def open_message(message, dek, caller_key=None, aad=b""):
    """The data, all of it verified. FormatError otherwise."""
    header = Header.parse(message)
    if len(dek) != header.data_key.length or not hmac_module.compare_digest(data_key_id(dek), header.data_key.id):
        raise FormatError("the data key is not the one that the header names")
    key, commitment = derive(dek, caller_key, header.cipher, header.segment_bits, header.salt)
    if not hmac_module.compare_digest(commitment, header.commitment):
        raise FormatError("commitment mismatch: wrong caller's key")
    cipher, size = AESGCM(key), 1 << header.segment_bits
    body, position, index, out = memoryview(message)[len(header.der):], 0, 0, []
    while True:
        segment = body[position:position + size + 1 + TAG]
        if len(segment) < 1 + TAG:
            raise FormatError("truncated: segment %d is missing" % index)
        position += len(segment)
        first = header.parameters_der + aad if index == 0 else b""
        try:
            plain = cipher.decrypt(bytes(8) + index.to_bytes(4, "big"), bytes(segment), first or None)
        except InvalidTag as fault:
            raise FormatError("segment %d: tag mismatch" % index) from fault
        out.append(plain[:-1])
        index += 1
        if plain[-1] == LAST:
            break
        if plain[-1] != MORE or len(plain) != size + 1:
            raise FormatError("segment %d: flag or length" % (index - 1))
    if position != len(body):
        raise FormatError("something follows the last segment")
    if index > 1 and not out[-1]:
        raise FormatError("the last segment is empty")
    return b"".join(out)


def write_message(data, dek, data_key, segment_bits=35, caller_key=None, aad=b"", cipher_bits=256, salt=None):
    """A message. data_key: DataKey, written as it is."""
    cipher = next(oid for oid, length in CIPHERS.items() if length * 8 == cipher_bits)
    salt = salt or os.urandom(32)
    key, commitment = derive(dek, caller_key, cipher, segment_bits, salt)
    header = Header(data_key, cipher, salt, segment_bits, commitment)
    out, gcm, size = [header.encode()], AESGCM(key), 1 << segment_bits
    pieces = [data[at:at + size] for at in range(0, len(data), size)] or [b""]
    for index, piece in enumerate(pieces):
        flag = bytes([LAST if index == len(pieces) - 1 else MORE])
        first = header.parameters_der + aad if index == 0 else b""
        out.append(gcm.encrypt(bytes(8) + index.to_bytes(4, "big"), piece + flag, first or None))
    return b"".join(out)


# The local KMS: a master key file, and wraps made with it

_BLOCK = re.compile(rb"-----BEGIN KMSENV LOCAL MASTER KEY-----\nKey-Id: ([0-9a-f]{32})\nVersion: (\d+)\n"
                    rb"Created: [^\n]+\n\n([A-Za-z0-9+/=]{44})\n-----END KMSENV LOCAL MASTER KEY-----\n")


class LocalKey:
    def __init__(self, path):
        with open(path, "rb") as source:
            blocks = _BLOCK.findall(source.read())
        if not blocks or len({block[0] for block in blocks}) != 1:
            raise FormatError(path + ": not a local master key file")
        self.id = blocks[0][0].decode()
        self.versions = {int(number): base64.b64decode(key) for _, number, key in blocks}
        self.newest = int(blocks[-1][1])

    def _aad(self, version, context):
        aad = b"kmsenv local wrap v1" + version.to_bytes(4, "big") + self.id.encode()
        for pair in sorted((name.encode(), value.encode()) for name, value in context):
            for part in pair:
                aad += len(part).to_bytes(4, "big") + part
        return aad

    def wrap(self, dek, context=()):
        nonce = os.urandom(12)
        sealed = AESGCM(self.versions[self.newest]).encrypt(nonce, dek, self._aad(self.newest, context))
        return Wrap("local", self.id, self.newest.to_bytes(4, "big") + nonce + sealed,
                    sorted(context, key=lambda pair: pair[0].encode()))

    def unwrap(self, wrap):
        version = int.from_bytes(wrap.ciphertext[:4], "big")
        if version not in self.versions:
            raise FormatError("wrap: version %d of the master key is not in the file" % version)
        try:
            return AESGCM(self.versions[version]).decrypt(
                wrap.ciphertext[4:16], wrap.ciphertext[16:], self._aad(version, wrap.context))
        except InvalidTag as fault:
            raise FormatError("wrap: not made with this master key") from fault

    def dek_of(self, message):
        """The data key of a message that has a wrap of this master key."""
        for wrap in Header.parse(message).data_key.wraps:
            if (wrap.kms, wrap.key_id) == ("local", self.id):
                return self.unwrap(wrap)
        raise FormatError("no wrap of this master key in the message")

    def new_data_key(self, length=32, context=()):
        """(data key, DataKey with one wrap)"""
        dek = os.urandom(length)
        return dek, DataKey(data_key_id(dek), length, [self.wrap(dek, list(context))])


# Command line

def show(message):
    header = Header.parse(message)
    lines = ["data key %s, %d bytes" % (header.data_key.id.hex(), header.data_key.length)]
    for wrap in header.data_key.wraps:
        lines.append("  wrap: %s %s, %d bytes%s%s" % (
            wrap.kms, wrap.key_id, len(wrap.ciphertext),
            "".join(", %s=%s" % pair for pair in wrap.context),
            ", %d bytes extra" % len(wrap.extra) if wrap.extra else ""))
    lines.append("AES-%d-GCM, segments of 2^%d, header %d bytes, body %d bytes" % (
        CIPHERS[header.cipher] * 8, header.segment_bits, len(header.der), len(message) - len(header.der)))
    return "\n".join(lines) + "\n"


def _write(arguments, data):
    if arguments.key_file:
        context = [tuple(pair.split("=", 1)) for pair in arguments.context]
        dek, data_key = LocalKey(arguments.key_file).new_data_key(context=context)
    else:
        with open(arguments.header_from, "rb") as source:
            data_key = Header.parse(source.read()).data_key
        dek = arguments.dek
    return write_message(data, dek, data_key, arguments.segment_bits, arguments.key, arguments.aad, arguments.cipher_bits)


def main():
    parser = argparse.ArgumentParser(description="independent reader and writer of kmsenv messages, for tests")
    parser.add_argument("verb", choices=("show", "open", "write"))
    for name in ("--dek", "--key", "--aad"):
        parser.add_argument(name, type=bytes.fromhex, default=b"" if name == "--aad" else None, metavar="HEX")
    parser.add_argument("--key-file", help="local master key file")
    parser.add_argument("--header-from", help="message whose data key is used")
    parser.add_argument("--context", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--segment-bits", type=int, default=35, choices=range(12, 36), metavar="12..35")
    parser.add_argument("--cipher-bits", type=int, default=256, choices=(128, 192, 256))
    arguments = parser.parse_args()
    if arguments.verb != "show" and not arguments.key_file and arguments.dek is None:
        parser.error("--dek or --key-file is required")
    if arguments.verb == "write" and not arguments.key_file and not arguments.header_from:
        parser.error("--header-from or --key-file is required")
    data = sys.stdin.buffer.read()
    try:
        if arguments.verb == "show":
            out = show(data).encode()
        elif arguments.verb == "open":
            dek = arguments.dek or LocalKey(arguments.key_file).dek_of(data)
            out = open_message(data, dek, arguments.key, arguments.aad)
        else:
            out = _write(arguments, data)
    except FormatError as fault:
        sys.exit("reader: %s" % fault)
    sys.stdout.buffer.write(out)


if __name__ == "__main__":
    main()
