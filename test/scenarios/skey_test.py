#!/usr/bin/python3
"""Symmetric key objects through the commands of openssl: skeyutl, enc -skeyopt (both since 3.5), enc -skeyuri and storeutl -skeys
(since 4.0), under a KMS over the network: what comes out, what is asked of the KMS and how often, and one clear error for each thing
that is wrong. What a version of openssl does not have is not tested; that it does not have it is."""
import os
import re
import subprocess
import unittest

import common
from common import local_profile, reader, tencent_profile

MARK = b"kmsenv:\x01"
DATA = b"0123456789abcdef" * 100
IV = "000102030405060708090a0b0c0d0e0f"


def help_of(command):
    run = subprocess.run([common.OPENSSL, command, "-help"], capture_output=True, timeout=60, env=common.clean_environment())
    return run.stdout + run.stderr


HAS_OPTIONS = b" -skeyopt " in help_of("enc")
HAS_URIS = b" -skeyuri " in help_of("enc")
VERSION = tuple(int(n) for n in re.search(rb"OpenSSL (\d+)\.(\d+)", subprocess.run(
    [common.OPENSSL, "version"], capture_output=True, timeout=60, env=common.clean_environment()).stdout).groups())


class SkeyCase(common.KmsScenario):
    def setUp(self):
        super().setUp()
        self.keyring = os.path.join(self.dir, "keys")
        os.mkdir(self.keyring)
        self.conf = self.config({"prod": tencent_profile(self.kms)}, keyring=self.keyring)

    def ok(self, *arguments, data=None, config=None):
        run = self.openssl(*arguments, config=config or self.conf, data=data)
        self.assertEqual(run.returncode, 0, run.stderr)
        return run.stdout

    def refused(self, *arguments, says, data=DATA, config=None, entries=1):
        """Status not 0, no output, and one error of ours that says all of this."""
        run = self.openssl(*arguments, config=config or self.conf, data=data)
        self.assertNotEqual(run.returncode, 0, arguments)
        self.assertEqual(run.stdout, b"")
        errors = run.stderr.decode()
        self.assertEqual(len(re.findall(r"error:[0-9A-F]+:kmsenv:", errors)), entries, errors)
        for words in says:
            self.assertIn(words, errors)

    def new_key(self, bits=256, config=None, *more):
        """The key reference, in hex, of a new data key in the keyring."""
        if HAS_OPTIONS:
            text = self.ok("skeyutl", "-genkey", "-skeymgmt", "kms-envelope", "-skeyopt", "bits:%d" % bits, *more, config=config).decode()
            return re.search(r"identified by ([0-9a-f]{64}) is created\nProvider: kmsenv\n", text).group(1)
        before = set(os.listdir(self.keyring))
        self.ok("genpkey", "-algorithm", "kms-envelope", "-pkeyopt", "bits:%d" % bits, "-pkeyopt", "keyring:yes", config=config)
        (name,) = set(os.listdir(self.keyring)) - before
        return MARK.hex() + name[:-4]

    def enc(self, key, *options, cipher="KMS-AES-256-CBC", data=DATA, config=None):
        iv = ["-iv", IV] if not cipher.startswith("kms-envelope") else []
        return self.ok("enc", "-" + cipher, *key, *iv, *options, data=data, config=config)


class EveryVersion(SkeyCase):
    def test_which(self):
        self.assertEqual((HAS_OPTIONS, HAS_URIS), (VERSION >= (3, 5), VERSION >= (4, 0)))
        if not HAS_OPTIONS:
            run = self.openssl("enc", "-KMS-AES-256-CBC", "-skeyopt", "reference:00", config=self.conf, data=DATA)
            self.assertNotEqual(run.returncode, 0)

    def test_a_reference_as_the_key_has_64_digits_in_uris_too(self):
        reference = self.new_key()
        for uri in (reference, reference[16:], "//" + reference, reference.upper()):
            self.assertIn(b"BEGIN KMS DATA KEY", self.ok("storeutl", "kms-key:" + uri))
        self.assertEqual(self.enc(["-K", reference], "-d", data=self.enc(["-K", reference])), DATA)
        for bad in (reference[:-1], reference + "0", "00" + reference[2:], reference[:32]):
            self.refused("storeutl", "kms-key:" + bad, says=["not a URI of kmsenv"])


class Options(SkeyCase):
    def test_generate(self):
        reference = self.new_key()
        self.assertEqual((self.kms.calls("GenerateDataKey"), self.kms.calls()), (1, 1))
        self.assertEqual(os.listdir(self.keyring), [reference[16:] + ".pem"])
        self.assertTrue(reference.startswith(MARK.hex()))
        self.new_key(128, None, "-skeyopt", "profile:prod", "-skeyopt", "context:app=billing")
        self.assertEqual(self.kms.calls("GenerateDataKey"), 2)
        text = self.ok("skeyutl", "-genkey", "-cipher", "KMS-AES-128-CTR").decode()
        reference = re.search("by ([0-9a-f]{64}) is", text).group(1)
        self.assertIn("(128 bit)", self.ok("storeutl", "-text", "-noout", "kms-key:" + reference).decode())
        managers = self.ok("list", "-skey-managers").decode()
        for name in ("kms-envelope", "kms-envelope-192", "kms-envelope-128", "KMS-AES-256-CBC", "KMS-AES-128-GCM"):
            self.assertRegex(managers, r"[ {]%s[ ,}].*@ kmsenv" % name)
        for name in ("AES", "GENERIC-SECRET"):
            self.assertNotRegex(managers, r"[ {]%s[ ,}].*@ kmsenv" % name)

    def test_generate_refused(self):
        bare = self.config({"prod": tencent_profile(self.kms)})
        generate = ["skeyutl", "-genkey", "-skeymgmt", "kms-envelope"]
        self.refused(*generate, config=bare, says=["set 'keyring'", "keyring:no"])
        self.refused(*generate, "-skeyopt", "bits:100", says=["bits", "128, 192, 256, 512"])
        self.refused(*generate, "-skeyopt", "profile:nobody", says=["nobody"])
        self.assertEqual(self.kms.calls(), 0)
        self.ok(*generate, "-skeyopt", "keyring:no", config=bare)
        self.assertEqual(self.kms.calls("GenerateDataKey"), 1)

    def test_every_way_to_name_a_key(self):
        reference = self.new_key()
        file = os.path.join(self.keyring, reference[16:] + ".pem")
        der = self.ok("asn1parse", "-in", file, "-noout", "-out", "/dev/stdout").hex()
        expected = self.enc(["-K", reference])
        self.kms.reset()
        for n, way in enumerate((["reference:" + reference], ["reference:" + reference[16:]], ["reference:kms-key:" + reference[16:]],
                                 ["file:" + file], ["hexkmsenv.data-key:" + der], ["hexraw-bytes:" + reference])):
            for more in ([], ["-skeymgmt", "kms-envelope"]):
                key = ["-skeyopt", *way, *more]
                self.assertEqual(self.enc(key), expected, way)
                self.assertEqual(self.enc(key, "-d", data=expected), DATA, way)
            self.assertEqual((self.kms.calls("Decrypt"), self.kms.calls()), (4 * n + 4, 4 * n + 4), "one call for a process")

    def test_envelope(self):
        reference = self.new_key()
        key = ["-skeyopt", "reference:" + reference]
        message = self.enc(key, cipher="kms-envelope")
        self.assertEqual(reader.Header.parse(message).data_key.id.hex(), reference[16:])
        for opener in (key, ["-K", "0"], ["-skeyopt", "reference:" + self.new_key()]):
            self.assertEqual(self.enc(opener, "-d", cipher="kms-envelope", data=message), DATA)
        self.refused("enc", "-d", "-kms-envelope", "-K", "11" * 32, data=message, says=["wrong data key or wrong caller's key"])
        small = ["-skeyopt", "reference:" + self.new_key(128)]
        message = self.enc(small, cipher="kms-envelope-128")
        self.assertEqual(self.enc(small, "-d", cipher="kms-envelope-128", data=message), DATA)
        self.refused("enc", "-kms-envelope", *small, says=["16 bytes", "32"])

    def test_wrong_keys(self):
        reference, unknown = self.new_key(), "00" * 24
        self.kms.reset()
        for option, says in (("reference:0011", ["64 hexadecimal digits", "48"]), ("reference:" + unknown, [unknown, "keyring"]),
                             ("file:/nonexistent.pem", ["/nonexistent.pem", "No such file"]),
                             ("hexraw-bytes:" + "11" * 32, ["wrapped by a KMS", "reference"]),
                             ("hexkmsenv.data-key:3003020100", ["malformed"])):
            for cipher in ("KMS-AES-256-CBC", "kms-envelope"):
                self.refused("enc", "-" + cipher, "-iv", IV, "-skeyopt", option, says=says)
        self.refused("enc", "-KMS-AES-128-CBC", "-iv", IV, "-skeyopt", "reference:" + reference, says=[reference, "32 bytes", "key of 16"])
        self.refused("enc", "-kms-envelope", "-skeyopt", "reference:" + reference, "-skeyopt", "reference:" + reference,
                     says=["exactly one"])
        self.refused("enc", "-kms-envelope", "-skeyopt", "reference:" + reference, says=[reference[16:], "set 'keyring'"],
                     config=self.config({"prod": tencent_profile(self.kms)}))
        self.assertEqual(self.kms.calls("GenerateDataKey"), 0)

    def test_kms_down_and_refusing(self):
        reference = self.new_key()
        key = ["-skeyopt", "reference:" + reference]
        self.kms.set_state(self.kms.key_id, "Disabled")
        self.refused("enc", "-KMS-AES-256-CBC", "-iv", IV, *key, says=["KMS key disabled"])
        self.refused("enc", "-kms-envelope", *key, says=["KMS key disabled"])
        self.refused("skeyutl", "-genkey", "-skeymgmt", "kms-envelope", says=["KMS key disabled"])
        self.kms.stop()
        self.refused("enc", "-KMS-AES-256-CBC", "-iv", IV, *key, says=["KMS unreachable"])
        self.refused("skeyutl", "-genkey", "-skeymgmt", "kms-envelope", says=["KMS unreachable"])

    def test_key_references_with_ordinary_names(self):
        local = common.local_key_file(os.path.join(self.dir, "local.pem"))
        text = common.config_text({"main": local_profile(local)}, {"keyring": self.keyring, "key-references": "yes"})
        conf = self.file("preferred.cnf", text.replace("[init]\n", "[init]\nalg_section = algorithms\n", 1)
                         + "[algorithms]\ndefault_properties = ?provider=kmsenv\n")
        self.assert_loaded(conf)
        reference = self.new_key(256, conf)
        plain = ["-skeymgmt", "AES", "-skeyopt", "hexraw-bytes:" + "22" * 32]
        by_bytes = self.enc(["-K", "22" * 32], cipher="aes-256-cbc", config=self.file("none.cnf"))
        self.assertEqual(self.enc(plain, cipher="aes-256-cbc", config=conf), by_bytes)
        for key in (["-skeyopt", "reference:" + reference], ["-skeyopt", "hexraw-bytes:" + reference]):
            self.assertEqual(self.enc(["-skeymgmt", "AES", *key], cipher="aes-256-cbc", config=conf),
                             self.enc(["-K", reference], cipher="KMS-AES-256-CBC", config=conf))
        self.refused("enc", "-aes-256-cbc", "-iv", IV, "-skeymgmt", "AES", "-skeyopt", "hexraw-bytes:" + MARK.hex() + "00" * 24,
                     config=conf, says=["not in the keyring"])


class Uris(SkeyCase):
    def test_uris(self):
        reference = self.new_key()
        expected = self.enc(["-K", reference])
        self.kms.reset()
        for n, uri in enumerate(("kms-key:" + reference[16:], "kms-key:" + reference, "kms-key://" + reference[16:])):
            self.assertEqual(self.enc(["-skeyuri", uri]), expected)
            message = self.enc(["-skeyuri", uri], cipher="kms-envelope")
            self.assertEqual(reader.Header.parse(message).data_key.id.hex(), reference[16:])
            self.assertEqual(self.enc(["-skeyuri", uri], "-d", cipher="kms-envelope", data=message), DATA)
            self.assertEqual((self.kms.calls("Decrypt"), self.kms.calls()), (3 * n + 3, 3 * n + 3))

    def test_storeutl(self):
        references = [self.new_key(), self.new_key(128)]
        self.kms.reset()
        self.assertEqual(self.ok("storeutl", "-skeys", "kms-key:").decode().splitlines(),
                         ["0: Symmetric key", "1: Symmetric key", "Total found: 2"])
        self.assertIn("Total found: 1", self.ok("storeutl", "-skeys", "kms-key:" + references[0]).decode())
        self.assertEqual(self.ok("storeutl", "kms-key:").count(b"BEGIN KMS DATA KEY"), 2, "as private keys without -skeys, as before")
        self.assertEqual(self.ok("storeutl", "-keys", "kms-key:").count(b"BEGIN KMS DATA KEY"), 2)
        run = self.openssl("storeutl", "-skeys", "kms:prod", config=self.conf)
        self.assertNotIn(b"Symmetric", run.stdout)
        self.assertIn(b"kms: is for master keys", run.stderr)
        self.assertEqual(self.kms.calls(), 0)

    def test_wrong_uris(self):
        unknown = "00" * 24
        for cipher in ("KMS-AES-256-CBC", "kms-envelope"):
            self.refused("enc", "-" + cipher, "-iv", IV, "-skeyuri", "kms-key:" + unknown, says=[unknown, "keyring"])
            self.refused("enc", "-" + cipher, "-iv", IV, "-skeyuri", "kms-key:12", says=["not a URI of kmsenv"])
            self.refused("enc", "-" + cipher, "-iv", IV, "-skeyuri", "kms:prod", says=["kms: is for master keys", "kms-key:ID"])
        small = self.new_key(128)
        self.refused("enc", "-KMS-AES-256-CBC", "-iv", IV, "-skeyuri", "kms-key:" + small, says=[small, "16 bytes", "key of 32"])


def load_tests(loader, _tests, _pattern):
    """Not as skips: they would be failures in CI, and there is nothing here that could be installed."""
    cases = [EveryVersion] + [Options] * HAS_OPTIONS + [Uris] * HAS_URIS
    return unittest.TestSuite(loader.loadTestsFromTestCase(case) for case in cases)


if __name__ == "__main__":
    common.main()
