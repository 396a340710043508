#!/usr/bin/python3
"""The commands of openssl with a sealed private key: each gives what OpenSSL alone accepts as made with the plain one, with one call of
the KMS; and without the KMS each fails at once, with the cause and without a prompt."""
import os
import re
import select
import subprocess
import time

import cli_common
import common
from common import OPENSSL
from sealed_common import TLS_KEYS, SealedScenario

CA_CONF = """[ca]
default_ca = this
[this]
database = index
new_certs_dir = .
serial = serial
default_md = %s
policy = any
default_days = 1
default_crl_days = 1
certificate = cert.pem
private_key = sealed.pem
[any]
commonName = supplied
[req]
distinguished_name = dn
[dn]
"""


class SealedOpenssl(SealedScenario):
    def make(self, kind):
        """key.pem, cert.pem of a new key, sealed.pem; other.pem, other.csr of another one; data; a CA configuration that knows kmsenv."""
        key = self.new_key(kind)
        self.certificate(key)
        sealed = self.cli("seal-key", key, "-o", "sealed.pem", "--force")
        self.assertEqual(sealed.returncode, 0, sealed.stderr)
        other = self.new_key("p-256", "other.pem")
        self.file("other.csr", self.plain("req", "-new", "-key", other, "-subj", "/CN=other"))
        self.file("data", b"some data")
        self.file("digest", bytes(range(32)))
        self.file("index")
        self.file("serial", "1000\n")
        for name in os.listdir(self.dir):
            if name.endswith(".out"):
                os.unlink(self.path(name))
        self.accepted("ocsp", "-issuer", "cert.pem", "-serial", "0x1000", "-no_nonce", "-reqout", "ocsp.req")
        self.digest = "null" if kind.startswith("ed") else "sha256"
        provider = self.read(self.conf).decode()
        self.ca = self.file("ca.cnf", provider.replace("[init]", "oid_file = /dev/null\n[init]", 1) + CA_CONF % self.digest)
        self.kms.reset()

    def run_in(self, *arguments, config=None, **more):
        return subprocess.run([OPENSSL, *arguments], cwd=self.dir, capture_output=True, timeout=60, stdin=subprocess.DEVNULL,
                              env=common.clean_environment(HOME=self.dir, OPENSSL_CONF=config or self.ca), **more)

    def one_call(self, *arguments):
        self.kms.reset()
        run = self.run_in(*arguments)
        self.assertEqual(run.returncode, 0, (arguments, run.stderr))
        self.assertEqual((self.kms.calls("Decrypt"), self.kms.calls()), (1, 1), arguments)
        return run.stdout

    def accepted(self, *arguments):
        """By OpenSSL alone."""
        run = self.run_in(*arguments, config=self.stock)
        self.assertEqual(run.returncode, 0, (arguments, run.stderr))
        return run.stdout

    def commands(self, kind):
        """(arguments of a command with the sealed key, of commands without the provider that accept what it made)"""
        rsa = kind == "rsa"
        old = {"rsa": "rsa", "p-256": "ec"}.get(kind)
        public = ["pkey", "-in", "cert.pub.out", "-pubin", "-noout"]
        yield ["pkey", "-in", "sealed.pem", "-out", "pkey.out"], [["pkey", "-in", "pkey.out", "-check", "-noout"]]
        yield ["pkey", "-in", "sealed.pem", "-text", "-noout"], []
        yield ["pkey", "-in", "sealed.pem", "-pubout", "-out", "cert.pub.out"], [public]
        if old:
            yield [old, "-in", "sealed.pem", "-out", "old.out"], [[old, "-in", "old.out", "-check", "-noout"]]
        yield ["pkcs8", "-topk8", "-in", "sealed.pem", "-passout", "pass:x", "-out", "p8.out"], \
              [["pkey", "-in", "p8.out", "-passin", "pass:x", "-noout"]]
        yield ["req", "-new", "-key", "sealed.pem", "-subj", "/CN=a", "-out", "csr.out"], [["req", "-in", "csr.out", "-verify", "-noout"]]
        yield ["req", "-x509", "-key", "sealed.pem", "-subj", "/CN=localhost", "-out", "x509.out"], \
              [["verify", "-check_ss_sig", "-CAfile", "x509.out", "x509.out"]]
        none = ["-extfile", "/dev/null"]     # 4.0 takes the settings at the beginning of OPENSSL_CONF for extensions
        yield ["x509", "-req", "-in", "other.csr", "-CA", "cert.pem", "-CAkey", "sealed.pem", "-set_serial", "7", "-out", "signed.out", *none], \
              [["verify", "-CAfile", "cert.pem", "signed.out"]]
        yield ["x509", "-in", "cert.pem", "-signkey", "sealed.pem", "-out", "again.out", *none], [["verify", "-CAfile", "again.out", "again.out"]]
        yield ["ca", "-config", "ca.cnf", "-batch", "-notext", "-in", "other.csr", "-out", "ca.out"], [["verify", "-CAfile", "cert.pem", "ca.out"]]
        yield ["ca", "-config", "ca.cnf", "-gencrl", "-out", "crl.out"], [["crl", "-in", "crl.out", "-CAfile", "cert.pem", "-noout"]]
        yield ["ocsp", "-index", "index", "-CA", "cert.pem", "-rsigner", "cert.pem", "-rkey", "sealed.pem", "-reqin", "ocsp.req", "-respout", "ocsp.out"], \
              [["ocsp", "-respin", "ocsp.out", "-reqin", "ocsp.req", "-CAfile", "cert.pem"]]
        yield ["pkcs12", "-export", "-in", "cert.pem", "-inkey", "sealed.pem", "-passout", "pass:x", "-out", "p12.out"], \
              [["pkcs12", "-in", "p12.out", "-passin", "pass:x", "-nodes", "-out", "/dev/null"]]
        if kind == "ed25519":
            yield ["pkeyutl", "-sign", "-rawin", "-inkey", "sealed.pem", "-in", "data", "-out", "raw.out"], \
                  [["pkeyutl", "-verify", "-rawin", "-inkey", "key.pem", "-in", "data", "-sigfile", "raw.out"]]
            return     # OpenSSL 3.0 has neither CMS nor SPKAC with it
        yield ["pkeyutl", "-sign", "-inkey", "sealed.pem", "-in", "digest", "-out", "sig.out"], \
              [["pkeyutl", "-verify", "-inkey", "key.pem", "-in", "digest", "-sigfile", "sig.out"]]
        yield ["cms", "-sign", "-in", "data", "-signer", "cert.pem", "-inkey", "sealed.pem", "-md", "sha512", "-out", "cms.out"], \
              [["cms", "-verify", "-in", "cms.out", "-CAfile", "cert.pem", "-purpose", "any", "-out", "/dev/null"]]
        yield ["spkac", "-key", "sealed.pem", "-digest", "sha256", "-out", "spkac.out"], [["spkac", "-in", "spkac.out", "-verify", "-noout"]]
        yield ["dgst", "-sha256", "-sign", "sealed.pem", "-out", "dgst.out", "data"], \
              [["dgst", "-sha256", "-prverify", "key.pem", "-signature", "dgst.out", "data"]]
        yield ["dgst", "-sha256", "-prverify", "sealed.pem", "-signature", "dgst.out", "data"], []
        if rsa:
            yield ["smime", "-sign", "-in", "data", "-signer", "cert.pem", "-inkey", "sealed.pem", "-out", "smime.out"], \
                  [["smime", "-verify", "-in", "smime.out", "-CAfile", "cert.pem", "-purpose", "any", "-out", "/dev/null"]]
            yield ["ts", "-reply", "-queryfile", "query.out", "-config", "ca.cnf", "-section", "tsa", "-inkey", "sealed.pem", "-out", "ts.out"], \
                  [["ts", "-verify", "-queryfile", "query.out", "-in", "ts.out", "-CAfile", "tsa.pem", "-untrusted", "tsa.pem"]]

    def time_stamping(self):
        """What `openssl ts` needs besides."""
        self.file("tsa.pem", self.plain("req", "-x509", "-key", self.path("key.pem"), "-subj", "/CN=tsa", "-days", "1",
                                        "-addext", "extendedKeyUsage=critical,timeStamping"))
        self.file("tsa.serial", "01\n")
        self.accepted("ts", "-query", "-data", "data", "-no_nonce", "-out", "query.out")
        with open(self.ca, "a", encoding="utf-8") as out:
            out.write("[tsa]\nserial = tsa.serial\nsigner_cert = tsa.pem\nsigner_digest = sha256\ndefault_policy = 1.2.3.4\ndigests = sha256\n"
                      "accuracy = secs:1\nordering = no\ntsa_name = no\ness_cert_id_chain = no\n")

    def test_commands(self):
        for kind in TLS_KEYS:
            self.make(kind)
            if kind == "rsa":
                self.time_stamping()
            for command, checks in self.commands(kind):
                with self.subTest(kind=kind, command=command):
                    self.one_call(*command)
                    for check in checks:
                        self.accepted(*check)
            if kind != "rsa":
                continue
            self.accepted("cms", "-encrypt", "-aes128", "-in", "data", "-out", "for-us.out", "cert.pem")
            self.assertIn(b"some data", self.one_call("cms", "-decrypt", "-in", "for-us.out", "-recip", "cert.pem", "-inkey", "sealed.pem"))
            self.accepted("pkeyutl", "-encrypt", "-inkey", "key.pem", "-in", "data", "-out", "rsa.out")
            self.assertEqual(self.one_call("pkeyutl", "-decrypt", "-inkey", "sealed.pem", "-in", "rsa.out"), b"some data")

    def test_key_agreement(self):
        key, other = self.new_key("x25519"), self.new_key("x25519", "other.pem")
        self.file("other.pub", self.plain("pkey", "-in", other, "-pubout"))
        self.file("key.pub", self.plain("pkey", "-in", key, "-pubout"))
        self.ca = self.conf
        sealed = self.seal(key)
        secret = self.one_call("pkeyutl", "-derive", "-inkey", sealed, "-peerkey", "other.pub")
        self.assertEqual(secret, self.accepted("pkeyutl", "-derive", "-inkey", "other.pem", "-peerkey", "key.pub"))

    def test_public_things_ask_nobody(self):
        self.make("p-256")
        self.file("bundle", self.read(self.path("sealed.pem")) + self.read(self.path("cert.pem")))
        self.kms.stop()
        for command in (["x509", "-in", "bundle", "-noout", "-subject"], ["verify", "-CAfile", "bundle", "cert.pem"],
                        ["crl2pkcs7", "-nocrl", "-certfile", "bundle"], ["storeutl", "-noout", "-certs", "cert.pem"],
                        ["pkey", "-in", "key.pem", "-noout"], ["asn1parse", "-in", "cert.pem"]):
            run = self.run_in(*command)
            self.assertEqual(run.returncode, 0, (command, run.stderr))
        # what is in the bundle, and then that a key cannot be had from it: OpenSSL says so of plain ones, too
        run = self.run_in("storeutl", "-noout", "-text", "-certs", "bundle")
        self.assertIn(b"Total found: 1\n", run.stdout)

    # --- TLS

    def server(self, *arguments, config=None):
        process = subprocess.Popen([OPENSSL, "s_server", "-accept", "127.0.0.1:0", "-naccept", "1", *arguments], cwd=self.dir,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   env=common.clean_environment(HOME=self.dir, OPENSSL_CONF=config or self.conf))

        def end():
            if process.poll() is None:
                process.kill()
            process.wait(10)
            process.stdin.close()
            process.stdout.close()

        self.addCleanup(end)
        text, deadline = b"", time.monotonic() + 20
        while not re.search(rb"ACCEPT 127\.0\.0\.1:(\d+)\n", text):
            ready, _, _ = select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))
            part = os.read(process.stdout.fileno(), 4096) if ready else b""
            self.assertTrue(part, text)
            text += part
        return process, re.search(rb"ACCEPT (\S+)\n", text)[1].decode()

    def client(self, address, *arguments, config=None):
        run = subprocess.run([OPENSSL, "s_client", "-connect", address, "-servername", "localhost", "-verify_return_error",
                              "-verify_hostname", "localhost", "-CAfile", "cert.pem", *arguments], cwd=self.dir, input=b"Q\n",
                             capture_output=True, timeout=30, env=common.clean_environment(HOME=self.dir, OPENSSL_CONF=config or self.stock))
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn(b"Verify return code: 0 (ok)", run.stdout)
        return run.stdout.decode()

    def test_tls(self):
        signature = {"rsa": "RSA-PSS", "p-256": "ECDSA", "ed25519": "ed25519"}
        if common.VERSION >= (3, 5):    # which prints the names of SSL_get0_peer_signature_name(), new there
            signature = {"rsa": "rsa_pss_rsae_sha256", "p-256": "ecdsa_secp256r1_sha256", "ed25519": "ed25519"}
        for kind in TLS_KEYS:
            with self.subTest(kind):
                self.make(kind)
                _, address = self.server("-cert", "cert.pem", "-key", "sealed.pem")
                self.assertRegex(self.client(address), "Peer signature type: " + signature[kind])
                self.assertEqual((self.kms.calls("Decrypt"), self.kms.calls()), (1, 1))
                server, address = self.server("-cert", "cert.pem", "-key", "key.pem", "-CAfile", "cert.pem", "-Verify", "1", "-verify_return_error",
                                              config=self.stock)
                self.client(address, "-cert", "cert.pem", "-key", "sealed.pem", config=self.conf)
                self.assertEqual((self.kms.calls("Decrypt"), self.kms.calls()), (2, 2))
                self.assertRegex(server.communicate(timeout=20)[0].decode(), "Peer signature type: " + signature[kind])

    # --- without the KMS

    def test_failures(self):
        self.make("p-256")
        commands = [command for command, _ in self.commands("p-256") if command[0] != "ca" or "-gencrl" in command]
        commands += [["s_server", "-accept", "127.0.0.1:0", "-cert", "cert.pem", "-key", "sealed.pem"],
                     ["s_client", "-connect", "127.0.0.1:9", "-cert", "cert.pem", "-key", "sealed.pem"]]
        causes = (("denied", "KMS access denied"), ("missing-plaintext", "KMS reply malformed"), ("stopped", "KMS unreachable"))
        for cause, reason in causes:
            if cause == "stopped":
                self.kms.stop()
            else:
                self.kms.misbehave({"do": cause, "action": "Decrypt", "count": 1000})
            for command in commands if cause == "denied" else commands[:1] + commands[-2:]:
                with self.subTest(cause=cause, command=command[0]):
                    started = time.monotonic()
                    run = self.run_in(*command)
                    self.assertNotEqual(run.returncode, 0, run)
                    self.assertIn(reason, run.stderr.decode(), run)
                    self.assertIn("sealed private key: ", run.stderr.decode())
                    self.assertNotIn(b"pass phrase", run.stderr)
                    self.assertLess(time.monotonic() - started, 20)

    def test_asked_once_in_vain(self):
        """OSSL_STORE tries a key twice; a KMS that cannot answer is asked once, with the tries that one call has."""
        self.make("p-256")
        tries = []
        for command in (["enc", "-d", "-kms-envelope", "-K", "0", "-in", "message"], ["pkey", "-in", "sealed.pem", "-noout"]):
            if command[0] == "enc":
                message = self.openssl("enc", "-kms-envelope", "-K", "0", config=self.conf, data=b"x")
                self.file("message", message.stdout)
            self.kms.reset()
            self.kms.misbehave({"do": "internal", "action": "Decrypt", "count": 1000})
            self.assertNotEqual(self.run_in(*command).returncode, 0)
            tries.append(self.kms.calls("Decrypt"))
        self.assertGreater(tries[0], 0)
        self.assertEqual(tries[0], tries[1])

    def test_no_prompt_on_a_terminal(self):
        self.make("rsa")
        self.kms.stop()
        for command in (["pkey", "-in", "sealed.pem", "-noout"], ["dgst", "-sha256", "-sign", "sealed.pem", "data"],
                        ["s_server", "-accept", "127.0.0.1:0", "-cert", "cert.pem", "-key", "sealed.pem"]):
            status, shown = self.on_terminal([OPENSSL, *command])
            self.assertNotEqual(status, 0)
            self.assertIn(b"KMS unreachable", shown)
            self.assertNotIn(b"hrase", shown)
        # nor where the provider is missing
        status, shown = self.on_terminal([OPENSSL, "pkey", "-in", "sealed.pem", "-noout"], config=self.stock)
        self.assertNotEqual(status, 0)
        self.assertIn(b"unsupported", shown)
        self.assertNotIn(b"hrase", shown)

    # --- memory

    def copies(self, pid, needles):
        counts = {}
        core = os.path.join(self.dir, "core")
        run = subprocess.run(["gcore", "-o", core, str(pid)], capture_output=True, timeout=120)
        self.assertTrue(os.path.exists("%s.%d" % (core, pid)), run.stderr)
        data = self.read("%s.%d" % (core, pid))
        os.unlink("%s.%d" % (core, pid))
        for name, needle in needles.items():
            counts[name] = data.count(needle)
        return counts

    def test_core_of_a_server(self):
        """No whole key, and no more of it than a server has that read the plain one."""
        self.make("rsa")
        text = self.accepted("rsa", "-in", "key.pem", "-text", "-noout").decode()
        numbers = {name: bytes.fromhex(re.sub(r"[\s:]", "", value)).lstrip(b"\0")
                   for name, value in re.findall(r"(?m)^(privateExponent|prime1|prime2|exponent1):\n((?:    .*\n)+)", text)}
        self.assertEqual(len(numbers), 4)
        der = self.accepted("pkcs8", "-topk8", "-nocrypt", "-in", "key.pem", "-outform", "DER")
        certificate = self.accepted("x509", "-in", "cert.pem", "-outform", "DER")[40:240]
        needles = {"whole": der, "text": self.read(self.path("key.pem"))[100:160]}
        for name, value in numbers.items():
            needles[name] = value
            needles[name + ", as a number"] = value[::-1]
        found = {}
        for key in ("key.pem", "sealed.pem"):
            server, _ = self.server("-cert", "cert.pem", "-key", key)
            found[key] = self.copies(server.pid, {**needles, "certificate": certificate})
        self.assertGreater(found["sealed.pem"].pop("certificate"), 0, "the search finds nothing at all")
        self.assertTrue(all(found["key.pem"][name + ", as a number"] for name in numbers), "a key in use is in memory somewhere: %s" % found)
        self.assertEqual((found["sealed.pem"]["whole"], found["sealed.pem"]["text"]), (0, 0))
        for name, count in found["sealed.pem"].items():
            self.assertLessEqual(count, found["key.pem"][name], (name, found))


if __name__ == "__main__":
    cli_common.main()
