#!/usr/bin/python3
"""Data keys and master keys under a KMS over the network, through the commands of openssl and kmsenv: what is asked of the
KMS and how often, what happens when it is down, and that no key is ever told."""
import base64
import glob
import os
import re
import subprocess

import backend_tencent
import common
from common import reader, tencent_profile

from keystore import KeyStore

MARK = b"kmsenv:\x01"
DATA = b"0123456789abcdef" * 100


class Keys(common.KmsScenario):
    def setUp(self):
        super().setUp()
        self.keyring = os.path.join(self.dir, "keys")
        os.mkdir(self.keyring)
        self.conf = self.config({"prod": tencent_profile(self.kms)}, keyring=self.keyring, key_references="yes")

    def ok(self, *arguments, data=None, config=None):
        run = self.openssl(*arguments, config=config or self.conf, data=data)
        self.assertEqual(run.returncode, 0, run.stderr)
        return run.stdout

    def kmsenv(self, *arguments):
        return subprocess.run([os.environ["KMSENV_TEST_CLI"], *arguments], capture_output=True, timeout=60,
                              env=common.clean_environment(HOME=self.dir, OPENSSL_CONF=self.conf))

    def new_key(self, bits=256, *more):
        """(id, reference for a key of that size) of a new data key in the keyring."""
        before = set(os.listdir(self.keyring))
        self.ok("genpkey", "-algorithm", "kms-envelope", "-pkeyopt", "bits:%d" % bits, "-pkeyopt", "keyring:yes", *more,
                "-out", os.path.join(self.dir, "dek.pem"))
        (name,) = set(os.listdir(self.keyring)) - before
        key = bytes.fromhex(name[:-4])
        return key, (MARK + key).ljust(64, b"\0")[:bits // 8]

    def enc(self, reference, cipher="-KMS-AES-256-CTR", data=DATA, config=None):
        return self.openssl("enc", cipher, "-K", reference.hex(), "-iv", "00" * 16, config=config or self.conf, data=data)

    def test_genpkey(self):
        key, _ = self.new_key()
        self.assertEqual((self.kms.calls("GenerateDataKey"), self.kms.calls()), (1, 1))
        pem = self.read(os.path.join(self.dir, "dek.pem"))
        self.assertEqual(pem, self.read(os.path.join(self.keyring, key.hex() + ".pem")))
        self.assertTrue(pem.startswith(b"-----BEGIN KMS DATA KEY-----\n"))
        self.assertEqual(oct(os.stat(glob.glob(self.keyring + "/*.pem")[0]).st_mode & 0o777), "0o644")
        text = self.ok("pkey", "-in", os.path.join(self.dir, "dek.pem"), "-text", "-noout").decode()
        self.assertIn("Id: " + key.hex(), text)
        self.assertIn("Reference (key of 32 bytes): " + (MARK + key).hex(), text)
        self.assertIn("KMS: tencent", text)
        self.assertIn("Key id: " + self.kms.key_id, text)
        self.assertEqual(self.kms.calls(), 1, "looking at a key must ask nobody")

    def test_sizes_and_context(self):
        for bits in (128, 192, 256, 512):
            key, _ = self.new_key(bits, "-pkeyopt", "context:app=billing")
            text = self.ok("storeutl", "-text", "-noout", "kms-key:" + key.hex()).decode()
            self.assertIn("(%d bit)" % bits, text)
            self.assertIn("Context: app=billing", text)
        listed = self.kmsenv("keyring", "list")
        self.assertEqual((listed.returncode, len(listed.stdout.splitlines())), (0, 4), listed.stderr)
        self.assertEqual(self.kms.calls(), 4)
        checked = self.kmsenv("keyring", "check")
        self.assertEqual((checked.returncode, checked.stdout.count(b"  ok\n")), (0, 4), checked.stderr)
        self.assertEqual((self.kms.calls("Decrypt"), self.kms.calls()), (4, 8))

    def test_by_reference(self):
        _, reference = self.new_key()
        self.kms.reset()
        sealed = self.enc(reference)
        self.assertEqual(sealed.returncode, 0, sealed.stderr)
        self.assertEqual((self.kms.calls("Decrypt"), self.kms.calls()), (1, 1))
        as_bytes = self.ok("enc", "-aes-256-ctr", "-K", reference.hex(), "-iv", "00" * 16, data=DATA,
                           config=self.file("plain.cnf", "openssl_conf = init\n[init]\n"))
        self.assertNotEqual(sealed.stdout, as_bytes)
        self.assertEqual(self.ok("enc", "-d", "-KMS-AES-256-CTR", "-K", reference.hex(), "-iv", "00" * 16, data=sealed.stdout), DATA)

    def test_one_call_for_many_messages(self):
        """enc -KMS-... once is one process; the tool is one process with many messages under a data key from configuration."""
        key, _ = self.new_key()
        self.kms.reset()
        kmsenv = self.tool(self.config({"prod": tencent_profile(self.kms)}, keyring=self.keyring, data_key=key.hex()))
        messages = kmsenv.seal([DATA] * 500)
        self.assertNotIn(None, messages)
        self.assertEqual({reader.Header.parse(message).data_key.id for message in messages}, {key})
        self.assertEqual(kmsenv.open(messages), [DATA] * 500)
        self.assertEqual((self.kms.calls("Decrypt"), self.kms.calls()), (1, 1))

    def test_data_key_of_configuration_is_checked(self):
        for value, words in (("00", "48 hexadecimal"), ("0" * 48, "not in the keyring")):
            kmsenv = self.tool(self.config({"prod": tencent_profile(self.kms)}, keyring=self.keyring, data_key=value))
            self.assertEqual(kmsenv.seal([DATA]), [None])
            self.assertIn(words, kmsenv.last["error"])
        self.assertEqual(self.kms.calls(), 0)

    def test_down_and_denied(self):
        _, reference = self.new_key()
        for what, words in ((lambda: self.kms.misbehave({"do": "denied"}), b"access denied"),
                            (lambda: self.kms.misbehave({"do": "disabled"}), b"disabled"), (self.kms.stop, b"unreachable")):
            what()
            for cipher in ("-KMS-AES-256-CTR", "-aes-256-cbc"):
                config = self.conf if cipher.startswith("-KMS") else self.config(
                    {"prod": tencent_profile(self.kms)}, first=True, keyring=self.keyring, key_references="yes")
                run = self.enc(reference, cipher, config=config)
                self.assertNotEqual(run.returncode, 0)
                self.assertEqual(run.stdout, b"", "something was encrypted, under what?")
                self.assertRegex(run.stderr, b"(?i)" + words)
                self.assertEqual(len(re.findall(b"kmsenv:", run.stderr.replace(b"kmsenv::", b"", 1))), 1, run.stderr)

    def test_inner_provider(self):
        """Whatever the setting crypto-provider says, kmsenv itself included: an error, never a reference used as a key."""
        _, reference = self.new_key()
        config = self.config({"prod": tencent_profile(self.kms)}, first=True, keyring=self.keyring, key_references="yes")
        module = os.environ["KMSENV_TEST_MODULE"]
        for name in ("kmsenv", module, "no-such-provider", os.path.join(self.dir, "x.so")):
            run = subprocess.run([common.OPENSSL, "enc", "-aes-256-ctr", "-K", reference.hex(), "-iv", "00" * 16], input=DATA,
                                 capture_output=True, timeout=60, env=common.clean_environment(
                                     OPENSSL_CONF=config, KMSENV_CRYPTO_PROVIDER=name, OPENSSL_MODULES=os.path.dirname(module)))
            self.assertEqual((run.returncode, run.stdout), (1, b""), run.stderr)
            self.assertIn(b"setting crypto-provider", run.stderr)

    def test_wrong_keyring(self):
        key, reference = self.new_key()
        path = os.path.join(self.keyring, key.hex() + ".pem")
        good = self.read(path)
        other, _ = self.new_key()
        for content, words in ((b"", b"not a regular file"), (b"nothing", b"does not start"), (good[:-60], b"does not start"),
                               (self.read(os.path.join(self.keyring, other.hex() + ".pem")), b"another id")):
            os.unlink(path)
            self.file(os.path.join("keys", key.hex() + ".pem"), content)
            run = self.enc(reference)
            self.assertNotEqual(run.returncode, 0)
            self.assertIn(words, run.stderr)
            self.assertIn(path.encode(), run.stderr)
        os.unlink(path)
        os.mkfifo(path)
        self.assertIn(b"not a regular file", self.enc(reference).stderr)
        os.unlink(path)
        self.assertIn(b"not in the keyring", self.enc(reference).stderr)

    def test_two_directories_and_short_references(self):
        key, reference = self.new_key(128)
        second = os.path.join(self.dir, "second")
        os.mkdir(second)
        both = self.config({"prod": tencent_profile(self.kms)}, keyring=second + ":" + self.keyring)
        for cipher, length in (("-KMS-AES-128-CTR", 16), ("-KMS-AES-128-CBC", 16)):
            run = self.enc((MARK + key)[:length], cipher, config=both)
            self.assertEqual(run.returncode, 0, run.stderr)
        twin = key[:8] + bytes(16)
        os.link(os.path.join(self.keyring, key.hex() + ".pem"), os.path.join(second, twin.hex() + ".pem"))
        run = self.enc(reference, "-KMS-AES-128-CTR", config=both)
        self.assertNotEqual(run.returncode, 0)
        self.assertIn(b"two data keys", run.stderr)

    def test_keyring_add(self):
        self.ok("genpkey", "-algorithm", "kms-envelope", "-out", os.path.join(self.dir, "one.pem"))
        self.assertEqual(os.listdir(self.keyring), [])
        run = self.kmsenv("keyring", "add", os.path.join(self.dir, "one.pem"), os.path.join(self.dir, "none.pem"))
        self.assertEqual(run.returncode, 1)
        self.assertIn(b"none.pem", run.stderr)
        (name,) = os.listdir(self.keyring)
        self.assertEqual(self.read(os.path.join(self.keyring, name)), self.read(os.path.join(self.dir, "one.pem")))
        self.assertEqual(self.kmsenv("keyring", "add", os.path.join(self.dir, "one.pem")).returncode, 0, "twice is no fault")

    def test_direct(self):
        """pkeyutl: one call each, the output is the KMS's own."""
        self.kms.reset()
        blob = self.ok("pkeyutl", "-encrypt", "-inkey", "kms:prod", "-pkeyopt", "context:app=billing", data=b"password123")
        self.assertEqual((self.kms.calls("Encrypt"), self.kms.calls()), (1, 1))
        self.assertNotIn(b"password123", blob)
        self.assertEqual(self.ok("pkeyutl", "-decrypt", "-inkey", "kms:prod", "-pkeyopt", "context:app=billing", data=blob), b"password123")
        wrong = self.openssl("pkeyutl", "-decrypt", "-inkey", "kms:prod", config=self.conf, data=blob)
        self.assertNotEqual(wrong.returncode, 0)
        self.assertIn(b"kmsenv", wrong.stderr)
        self.kms.reset()
        large = self.openssl("pkeyutl", "-encrypt", "-inkey", "kms:prod", config=self.conf, data=bytes(5000))
        self.assertNotEqual(large.returncode, 0)
        self.assertIn(b"kms-envelope", large.stderr)
        self.assertEqual(self.kms.calls(), 0)

    def test_keys_are_not_told(self):
        """Not by any command, in any output or log, nor is anything of it in the keyring."""
        key, reference = self.new_key()
        pem = self.read(os.path.join(self.keyring, key.hex() + ".pem"))
        wraps = reader.DataKey.parse(reader.Der(base64.b64decode("".join(pem.decode().split("\n")[1:-2]))).enter(0x30, "DataKey")).wraps
        dek = backend_tencent.Backend().dek_of(KeyStore(os.path.join(self.kms.directory, "keys.json")), wraps[0])
        self.assertEqual(reader.data_key_id(dek), key)
        run = self.enc(reference)
        path = os.path.join(self.dir, "dek.pem")
        told = run.stderr + run.stdout + pem + self.ok("pkey", "-in", path, "-text") + self.ok("pkey", "-in", path, "-outform", "DER")
        told += self.kmsenv("keyring", "list").stdout + self.kmsenv("keyring", "check").stdout
        for secret in (dek, base64.b64encode(dek), dek.hex().encode(), self.kms.secret_key.encode()):
            self.assertNotIn(secret, told)


if __name__ == "__main__":
    common.main()
