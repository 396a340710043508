#!/usr/bin/python3
"""Programs that know nothing of kmsenv, from Debian's packages and unmodified, with key references."""
import hmac
import os
import subprocess

import common
from by_reference import DATA, PROGRAMS, UNKNOWN, ByReference


class Languages(ByReference):
    def needs(self, program):
        if not os.path.exists(program):
            self.skipTest("%s is not installed" % program)
        return program

    def test_php(self):
        php = self.needs("/usr/bin/php")
        for cipher, length in (("aes-256-gcm", 32), ("aes-192-gcm", 24), ("aes-128-gcm", 16), ("aes-256-ccm", 32), ("aes-256-ocb", 32),
                               ("aes-256-cbc", 32), ("aes-128-ctr", 16), ("aes-256-cfb8", 32), ("aes-256-xts", 64),
                               ("chacha20-poly1305", 32), ("camellia-256-cbc", 32), ("aria-256-ctr", 32), ("sm4-cbc", 16), ("des-ede3-cbc", 24)):
            with self.subTest(cipher):
                self.check(lambda verb, key, c=cipher: [php, os.path.join(PROGRAMS, "crypt.php"), verb, c, key], length)

    def test_ruby(self):
        ruby = self.needs("/usr/bin/ruby")
        for cipher, length in (("aes-256-gcm", 32), ("aes-128-gcm", 16), ("aes-256-ctr", 32), ("aes-256-cbc", 32), ("aes-192-cbc", 24),
                               ("chacha20", 32), ("camellia-128-cbc", 16), ("aria-256-cbc", 32)):
            with self.subTest(cipher):
                self.check(lambda verb, key, c=cipher: [ruby, os.path.join(PROGRAMS, "crypt.rb"), verb, c, key], length)

    def test_python(self):
        for cipher, length in (("AESGCM", 32), ("AESGCM", 16), ("AESCCM", 32), ("AESOCB3", 32), ("ChaCha20Poly1305", 32),
                               ("CBC", 32), ("CTR", 24), ("CFB", 16), ("CFB8", 32), ("OFB", 32), ("ECB", 32), ("CBC", 16), ("Fernet", 16)):
            with self.subTest(cipher, length=length):
                self.check(lambda verb, key, c=cipher: ["/usr/bin/python3", os.path.join(PROGRAMS, "crypt.py"), verb, c, key], length)

    def test_mac(self):
        dek, reference = self.data_key(32)
        programs = {"/usr/bin/python3": ["-c", "import hmac, sys; print(hmac.digest(bytes.fromhex(sys.argv[1]), sys.stdin.buffer.read(), 'sha256').hex())"],
                    "/usr/bin/ruby": ["-ropenssl", "-e", "puts OpenSSL::HMAC.hexdigest('SHA256', [ARGV[0]].pack('H*'), STDIN.binmode.read)"]}
        for program, arguments in programs.items():
            if not os.path.exists(program):
                continue
            got = self.run_it([program, *arguments, reference.hex()], DATA, self.conf)
            self.assertEqual((got.returncode, got.stdout.strip().decode()), (0, hmac.digest(dek, DATA, "sha256").hex()), got.stderr)


class Database(ByReference):
    """sqlcipher takes a raw key, which reaches the cipher unchanged. Its page HMAC has a key that it derives from the same
    bytes itself, and that no cipher sees: with a reference those are the reference's, so a database made by
    reference opens by the same reference, and by the plain key only if the HMAC is off."""

    def sql(self, key, statements, config, hmac=True):
        pragma = "PRAGMA key = \"x'%s'\";%s\n" % (key.hex(), "" if hmac else "PRAGMA cipher_use_hmac = OFF;")
        run = subprocess.run(["/usr/bin/sqlcipher", "-batch", os.path.join(self.dir, "test.db")], input=(pragma + statements).encode(),
                             capture_output=True, timeout=60, env=common.clean_environment(HOME=self.dir, OPENSSL_CONF=config))
        return run.stdout.decode().strip(), run.stderr.decode()

    def test_sqlcipher(self):
        if not os.path.exists("/usr/bin/sqlcipher"):
            self.skipTest("sqlcipher is not installed")
        make, read = "CREATE TABLE t(x TEXT); INSERT INTO t VALUES('the secret text');", "SELECT x FROM t;"
        dek, reference = self.data_key(32)
        for hmac in (True, False):
            with self.subTest(hmac=hmac):
                self.sql(reference, make, self.conf, hmac)
                self.assertNotIn(b"the secret text", self.read(os.path.join(self.dir, "test.db")))
                self.assertEqual(self.sql(reference, read, self.conf, hmac)[0], "the secret text")
                self.assertEqual(self.sql(reference, read, self.plain, hmac)[0], "", "encrypted under the bytes of the reference")
                self.assertEqual(self.sql(dek, read, self.plain, hmac)[0], "" if hmac else "the secret text")
                os.unlink(os.path.join(self.dir, "test.db"))
        # This version does not look whether the cipher failed: it writes zeros. They hold nothing of the data at least.
        self.sql(UNKNOWN.ljust(32, b"\0"), make, self.conf)
        written = self.read(os.path.join(self.dir, "test.db"))
        self.assertNotIn(b"the secret text", written)
        self.assertEqual(self.sql(UNKNOWN.ljust(32, b"\0"), read, self.plain)[0], "", "encrypted under the bytes of the reference")


if __name__ == "__main__":
    common.main()
