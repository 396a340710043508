#!/usr/bin/python3
"""MACs by reference with the openssl command: under the names KMS-... always, under their ordinary names with
key-references = yes, and inside what uses MACs (openssl dgst -mac, key derivation). Each gives what the plain data key gives."""
import hashlib
import hmac

import common
from by_reference import DATA, UNKNOWN, ByReference
from common import OPENSSL

IV = "00112233445566778899aabb"
# Name, options, and the lengths of keys that it takes.
MACS = [
    ("HMAC", ["-digest", "SHA256"], (16, 24, 32, 64)),
    ("HMAC", ["-digest", "SHA512"], (32, 64)),
    ("CMAC", ["-cipher", "AES-128-CBC"], (16,)),
    ("CMAC", ["-cipher", "AES-192-CBC"], (24,)),
    ("CMAC", ["-cipher", "AES-256-CBC"], (32,)),
    ("GMAC", ["-cipher", "AES-128-GCM", "-macopt", "hexiv:" + IV], (16,)),
    ("GMAC", ["-cipher", "AES-256-GCM", "-macopt", "hexiv:" + IV], (32,)),
    ("KMAC-128", ["-macopt", "custom:to taste"], (16, 32)),
    ("KMAC-256", ["-macopt", "size:100"], (32, 64)),
    ("BLAKE2BMAC", [], (16, 64)),
    ("BLAKE2SMAC", [], (32,)),
    ("SIPHASH", [], (16,)),
    ("POLY1305", [], (32,)),
]
# Of key derivations, all made of MACs or digests: what they take besides the length of the output.
DERIVATIONS = [
    ("HKDF", "digest:SHA256", "hexkey:0b0b0b0b0b", "hexsalt:000102", "hexinfo:f0f1"),
    ("TLS1-PRF", "digest:SHA256", "hexsecret:0102030405060708", "seed:a seed"),
    ("TLS1-PRF", "digest:MD5-SHA1", "hexsecret:0102030405060708", "seed:a seed"),
    ("TLS13-KDF", "digest:SHA256", "mode:EXTRACT_ONLY", "hexkey:" + "0b" * 32),
    ("PBKDF2", "digest:SHA256", "pass:password", "salt:salt", "iter:2000"),
    ("SSKDF", "mac:HMAC", "digest:SHA256", "hexkey:0b0b0b0b0b", "hexinfo:f0f1", "hexsalt:00"),
    ("SSKDF", "mac:KMAC128", "hexkey:0b0b0b0b0b", "hexinfo:f0f1", "hexsalt:00010203", "maclen:20"),
    ("X963KDF", "digest:SHA256", "hexkey:0b0b0b0b0b", "hexinfo:f0f1"),
    ("KBKDF", "mac:HMAC", "digest:SHA256", "hexkey:" + "0b" * 20, "hexsalt:00"),
    ("KBKDF", "mac:CMAC", "cipher:AES-128-CBC", "hexkey:" + "0b" * 16, "hexsalt:00"),
]


def options(name, values):
    return [word for value in values for word in (name, value)]


class Macs(ByReference):
    def mac(self, name, key, arguments, config):
        return self.run_it([OPENSSL, "mac", "-binary", "-macopt", "hexkey:" + key.hex(), *arguments, name], DATA, config)

    def check_mac(self, name, key, arguments, config, want):
        got = self.mac(name, key, arguments, config)
        self.assertEqual((got.returncode, got.stdout.hex(), got.stderr), (0, want.hex(), b""), f"{name} {arguments} {len(key)}")

    def test_all(self):
        for name, arguments, lengths in MACS:
            for length in lengths:
                dek, reference = self.data_key(length)
                plain = self.mac(name, dek, arguments, self.plain)
                self.assertEqual((plain.returncode, len(plain.stdout) >= 8), (0, True), plain.stderr)
                for offered in ("KMS-" + name, name):
                    self.check_mac(offered, reference, arguments, self.conf, plain.stdout)
                    self.check_mac(offered, dek, arguments, self.conf, plain.stdout)

    def test_hmac_is_what_others_compute(self):
        dek, reference = self.data_key(64)
        self.check_mac("KMS-HMAC", reference, ["-digest", "SHA512"], self.conf, hmac.digest(dek, DATA, "sha512"))

    def test_own_names_need_no_setting(self):
        config = self.file("own.cnf", common.config_text({"main": common.local_profile(self.key_file)}, {"keyring": self.keys}))
        self.assert_loaded(config)
        dek, reference = self.data_key(32)
        self.check_mac("KMS-HMAC", reference, ["-digest", "SHA256"], config, hmac.digest(dek, DATA, "sha256"))
        # without the setting nothing is a reference under an ordinary name
        self.check_mac("HMAC", reference, ["-digest", "SHA256"], config, hmac.digest(reference, DATA, "sha256"))

    def test_what_leads_to_no_key_is_refused(self):
        _, other = self.data_key(16)
        for key, why in ((UNKNOWN.ljust(32, b"\0")[:32], b"not in the keyring"), (other.ljust(32, b"\0"), b"")):
            for name in ("KMS-HMAC", "HMAC"):
                got = self.mac(name, key, ["-digest", "SHA256"], self.conf)
                self.assertNotEqual(got.returncode, 0)
                self.assertEqual(got.stdout, b"")
                self.assertIn(b"kmsenv", got.stderr)
                self.assertIn(why, got.stderr)
                self.assertNotIn(key.hex().encode(), got.stderr.lower())

    def test_dgst(self):
        dek, reference = self.data_key(32)
        for config, key in ((self.plain, dek), (self.conf, dek), (self.conf, reference)):
            got = self.run_it([OPENSSL, "dgst", "-sha384", "-binary", "-mac", "HMAC", "-macopt", "hexkey:" + key.hex()], DATA, config)
            self.assertEqual((got.returncode, got.stdout), (0, hmac.digest(dek, DATA, "sha384")), got.stderr)

    def kdf(self, config, name, *values, keylen=40):
        got = self.run_it([OPENSSL, "kdf", "-keylen", str(keylen), *options("-kdfopt", values), name], b"", config)
        self.assertEqual((got.returncode, len(got.stdout.strip())), (0, 3 * keylen - 1), got.stderr)
        return got.stdout

    def test_key_derivation(self):
        for name, *values in DERIVATIONS:
            keylen = 32 if name == "TLS13-KDF" else 40
            self.assertEqual(self.kdf(self.conf, name, *values, keylen=keylen), self.kdf(self.plain, name, *values, keylen=keylen))

    def test_key_derivation_by_reference(self):
        for length, *values in ((32, "mac:HMAC", "digest:SHA256"), (16, "mac:CMAC", "cipher:AES-128-CBC")):
            dek, reference = self.data_key(length)
            self.assertEqual(self.kdf(self.conf, "KBKDF", "hexkey:" + reference.hex(), "hexsalt:01", *values),
                             self.kdf(self.plain, "KBKDF", "hexkey:" + dek.hex(), "hexsalt:01", *values))

    def test_digests_of_other_providers(self):
        """What the legacy provider has works; of the rest the sentence says what to do."""
        key = hashlib.sha256(b"no reference").digest()
        config = self.file("legacy.cnf", self.read(self.conf).decode().replace(
            "default = ", "legacy = legacy_section\ndefault = ", 1) + "\n[legacy_section]\nactivate = 1\n")
        self.assert_loaded(config)
        plain = self.file("plain_legacy.cnf", self.read(self.plain).decode().replace(
            "default = ", "legacy = legacy_section\ndefault = ", 1) + "\n[legacy_section]\nactivate = 1\n")
        want = self.mac("HMAC", key, ["-digest", "MD4"], plain)
        if want.returncode != 0:
            self.skipTest("there is no legacy provider")
        self.check_mac("HMAC", key, ["-digest", "MD4"], config, want.stdout)
        none = self.mac("HMAC", key, ["-digest", "STREEBOG"], config)
        self.assertNotEqual(none.returncode, 0)
        self.assertIn(b"the digest 'STREEBOG'", none.stderr)
        self.assertIn(b"provider!=kmsenv", none.stderr)


if __name__ == "__main__":
    common.main()
