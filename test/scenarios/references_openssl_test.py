#!/usr/bin/python3
"""The commands of openssl, and a program linked with libcrypto, with key references."""
import os
import select
import subprocess
import time

import common
from by_reference import DATA, PROGRAMS, UNKNOWN, ByReference
from common import OPENSSL, reader


class Linked(ByReference):
    def test_c(self):
        program = os.path.join(self.dir, "crypt")
        subprocess.run(["cc", "-O2", "-Wall", "-Werror", os.path.join(PROGRAMS, "crypt.c"), "-o", program,
                        *common.LINKING, "-lcrypto"], check=True, timeout=120)
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
