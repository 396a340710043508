#!/usr/bin/python3
"""Programs that know nothing of kmsenv, from Debian's packages and unmodified: with key-references = yes and a key
reference where they keep their key they write, byte for byte, what they write with the plain data key; each reads
what the other wrote; and with a reference that means nothing they fail instead of encrypting under its bytes."""
import base64
import os
import select
import subprocess
import time

import common
from common import OPENSSL, reader

PROGRAMS = os.path.join(common.TEST, "programs")
MARK = b"kmsenv:\x01"
DATA = bytes(range(256)) * 8
UNKNOWN = MARK + b"no such data key in here"


class ByReference(common.Scenario):
    def setUp(self):
        super().setUp()
        self.keys = os.path.join(self.dir, "keys")
        os.mkdir(self.keys)
        self.key_file = common.local_key_file(os.path.join(self.dir, "local.pem"))
        self.master = reader.LocalKey(self.key_file)
        text = common.config_text({"main": common.local_profile(self.key_file)}, {"keyring": self.keys, "key-references": "yes"})
        self.conf = self.file("openssl.cnf", text.replace("[init]", "[init]\nalg_section = algorithms\n[algorithms]\n"
                                                          "default_properties = ?provider=kmsenv\n[init]", 1))
        self.assert_loaded(self.conf)
        self.plain = self.file("plain.cnf", "openssl_conf = init\n[init]\nproviders = providers\n[providers]\n"
                                            "default = default_sect\n[default_sect]\nactivate = 1\n")

    def data_key(self, length):
        """(DEK, reference as long as it) of a data key that is in the keyring from now on."""
        dek, key = self.master.new_data_key(length)
        body = base64.encodebytes(key.encode()).decode()
        lines = "".join(body.split())
        pem = "\n".join(lines[i:i + 64] for i in range(0, len(lines), 64))
        self.file(os.path.join("keys", key.id.hex() + ".pem"), "-----BEGIN KMS DATA KEY-----\n%s\n-----END KMS DATA KEY-----\n" % pem)
        return dek, (MARK + key.id).ljust(64, b"\0")[:length]

    def run_it(self, command, data, config):
        return subprocess.run(command, input=data, capture_output=True, timeout=120,
                              env=common.clean_environment(HOME=self.dir, OPENSSL_CONF=config))

    def check(self, command, length, data=DATA):
        """command(verb, hex key) -> argument list."""
        dek, reference = self.data_key(length)
        plain = self.run_it(command("encrypt", dek.hex()), data, self.plain)
        self.assertEqual(plain.returncode, 0, plain.stderr)
        self.assertNotEqual(plain.stdout, data)
        ours = self.run_it(command("encrypt", reference.hex()), data, self.conf)
        self.assertEqual(ours.returncode, 0, ours.stderr)
        self.assertEqual(ours.stdout, plain.stdout, "not what the plain key gives")
        for key, message, config in ((reference, plain.stdout, self.conf), (dek, ours.stdout, self.plain),
                                     (dek, ours.stdout, self.conf)):
            back = self.run_it(command("decrypt", key.hex()), message, config)
            self.assertEqual((back.returncode, back.stdout), (0, data), back.stderr)
        self.refuses(command, length, plain.stdout)

    def refuses(self, command, length, message):
        unknown = UNKNOWN.ljust(64, b"\0")[:length]
        bad = self.run_it(command("encrypt", unknown.hex()), DATA, self.conf)
        self.assertNotEqual(bad.returncode, 0)
        self.assertEqual(bad.stdout, b"")
        self.assertNotIn(unknown, bad.stderr)
        back = self.run_it(command("decrypt", unknown.hex()), message, self.conf)
        self.assertNotEqual(back.returncode, 0)


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

    def test_c(self):
        program = os.path.join(self.dir, "crypt")
        subprocess.run(["cc", "-O2", "-Wall", "-Werror", os.path.join(PROGRAMS, "crypt.c"), "-o", program, "-lcrypto"], check=True, timeout=120)
        for calls in ("legacy", "fetch"):
            with self.subTest(calls):
                self.check(lambda verb, key, c=calls: [program, c, verb, key], 32)


class OpensslCommand(ByReference):
    def key_bits(self, cipher):
        """Bytes of the cipher's key, by the harness's list of names: the digits in the name, or what people know."""
        for part, length in (("xts", 0), ("des-ede3", 24), ("des3", 24), ("des-ede", 16), ("chacha20", 32), ("sm4", 16)):
            if part in cipher:
                return length
        for bits in (128, 192, 256):
            if str(bits) in cipher:
                return bits // 8
        return 0

    def test_enc_every_mode(self):
        listed = self.openssl("enc", "-list", config=self.plain).stdout.decode().split()
        names = sorted({name[1:] for name in listed if name.startswith("-")})
        tried = 0
        for cipher in names:
            length = self.key_bits(cipher)
            if length == 0 or "wrap" in cipher or not self.offered(cipher):
                continue
            with self.subTest(cipher):
                self.check(lambda verb, key, c=cipher: [OPENSSL, "enc", "-e" if verb == "encrypt" else "-d", "-" + c, "-K", key,
                                                        "-iv", "0102030405060708090a0b0c0d0e0f10"], length)
                tried += 1
        self.assertGreaterEqual(tried, 70)

    def offered(self, cipher):
        """Does enc take it, and does the default provider have it?"""
        run = self.openssl("enc", "-" + cipher, "-K", "00", "-iv", "00", config=self.plain, data=b"")
        return run.returncode == 0

    def test_cms(self):
        """Standard CMS: what a reference wrote opens with the plain key and a stock OpenSSL, and the reverse."""
        dek, reference = self.data_key(32)
        clear, sealed, back = (os.path.join(self.dir, name) for name in ("clear", "sealed", "back"))
        self.file("clear", DATA)
        identity = ("-secretkeyid", reader.data_key_id(dek).hex())
        for writes, reads in (((reference, self.conf), (dek, self.plain)), ((dek, self.plain), (reference, self.conf)),
                              ((reference, self.conf), (reference, self.conf))):
            for cipher in ("-aes-256-gcm", "-aes-256-cbc"):
                run = self.openssl("cms", "-encrypt", "-binary", "-in", clear, "-outform", "DER", "-out", sealed, cipher,
                                   "-secretkey", writes[0].hex(), *identity, config=writes[1])
                self.assertEqual(run.returncode, 0, run.stderr)
                run = self.openssl("cms", "-decrypt", "-inform", "DER", "-in", sealed, "-out", back, "-secretkey", reads[0].hex(),
                                   *identity, config=reads[1])
                self.assertEqual(run.returncode, 0, run.stderr)
                self.assertEqual(self.read(back), DATA)
        for path in (sealed, back):
            os.unlink(path)
        unknown = UNKNOWN.ljust(32, b"\0").hex()
        run = self.openssl("cms", "-encrypt", "-binary", "-in", clear, "-outform", "DER", "-out", sealed, "-aes-256-gcm",
                           "-secretkey", unknown, *identity, config=self.conf)
        self.assertNotEqual(run.returncode, 0)
        self.assertIn(b"kmsenv", run.stderr)

    def test_cms_is_standard(self):
        dek, reference = self.data_key(32)
        run = self.openssl("cms", "-encrypt", "-binary", "-outform", "DER", "-aes-256-gcm", "-secretkey", reference.hex(),
                           "-secretkeyid", reader.data_key_id(dek).hex(), config=self.conf, data=DATA)
        shown = self.openssl("cms", "-cmsout", "-print", "-inform", "DER", config=self.plain, data=run.stdout).stdout.decode()
        self.assertIn("id-smime-ct-authEnvelopedData", shown)
        self.assertIn("id-aes256-wrap", shown)
        self.assertNotIn(dek, run.stdout)
        self.assertNotIn(reference[:16], run.stdout)


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


class Tls(ByReference):
    """Servers and clients go on working, and with others, when the ordinary ciphers are ours."""

    def setUp(self):
        super().setUp()
        self.certificate = os.path.join(self.dir, "cert.pem")
        run = self.openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", self.certificate + ".key",
                           "-out", self.certificate, config=self.conf)
        self.assertEqual(run.returncode, 0, run.stderr)

    def suites(self):
        """(option of s_client, suite) for each that works with an RSA certificate."""
        for suite in ("TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_CCM_SHA256"):
            yield ("-tls1_3", "-ciphersuites", suite)
        text = "AESGCM:AESCCM:AES:CHACHA20:ARIA:CAMELLIA:!aNULL:!PSK:!SRP:!aECDSA:!aDSS:@SECLEVEL=0"
        run = self.openssl("ciphers", "-s", "-tls1_2", text, config=self.plain)
        for suite in run.stdout.decode().strip().split(":"):
            yield ("-tls1_2", "-cipher", suite + ":@SECLEVEL=0")

    def server(self, config):
        server = subprocess.Popen([OPENSSL, "s_server", "-accept", "127.0.0.1:0", "-cert", self.certificate, "-key",
                                   self.certificate + ".key", "-cipher", "ALL:@SECLEVEL=0", "-ciphersuites",
                                   "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_CCM_SHA256",
                                   "-rev", "-quiet"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  env=common.clean_environment(HOME=self.dir, OPENSSL_CONF=config))
        self.addCleanup(server.stdout.close)
        self.addCleanup(server.wait, 20)
        self.addCleanup(server.kill)
        return server

    def port_of(self, server):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with open("/proc/net/tcp", encoding="ascii") as table:
                listening = {line.split()[9]: int(line.split()[1].split(":")[1], 16) for line in table if line.split()[3] == "0A"}
            for fd in os.listdir("/proc/%d/fd" % server.pid):
                try:
                    name = os.readlink("/proc/%d/fd/%s" % (server.pid, fd))
                except OSError:
                    continue
                if name.startswith("socket:[") and name[8:-1] in listening:
                    return listening[name[8:-1]]
            time.sleep(0.05)
        self.fail("the server does not listen")

    def said_backwards(self, line, port, suite, config):
        """What the server answers to a line, before the client is stopped."""
        client = subprocess.Popen([OPENSSL, "s_client", "-connect", "127.0.0.1:%d" % port, "-CAfile", self.certificate,
                                   "-verify_return_error", "-quiet", *suite], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL, env=common.clean_environment(HOME=self.dir, OPENSSL_CONF=config))
        try:
            client.stdin.write(line)
            client.stdin.flush()
            ready, _, _ = select.select([client.stdout], [], [], 20)
            return os.read(client.stdout.fileno(), 100) if ready else b"nothing"
        finally:
            client.kill()
            client.communicate(timeout=20)

    def test_every_suite(self):
        suites = list(self.suites())
        self.assertGreaterEqual(len(suites), 30, suites)
        for server_config, client_config in ((self.conf, self.plain), (self.plain, self.conf)):
            port = self.port_of(self.server(server_config))
            for suite in suites:
                with self.subTest(suite, server=server_config):
                    self.assertEqual(self.said_backwards(b"hello\n", port, suite, client_config), b"olleh\n")


if __name__ == "__main__":
    common.main()
