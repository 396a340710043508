#!/usr/bin/python3
"""A master key as a key of the command openssl, of whatever version is under test: pkeyutl -encap and -decap (not in 3.0), its
public half, certificates with it, and CMS to them (3.6 on). What older versions do instead is asserted, too."""
import os
import select
import subprocess

import common
from common import local_key_file, local_profile, reader, tencent_profile

from keystore import KeyStore

from dialects import tencent

SECRET = b"0123456789abcdef" * 2


def version():
    said = subprocess.run([common.OPENSSL, "version"], capture_output=True, text=True, timeout=60, check=True).stdout.split()[1]
    return tuple(int(number) for number in said.split("-")[0].split("."))


VERSION = version()
PKEYUTL_HAS_KEM = b"-encap" in subprocess.run([common.OPENSSL, "pkeyutl", "-help"], capture_output=True, timeout=60).stderr
CMS_HAS_KEM = VERSION >= (3, 6)


class Case(common.Scenario):
    def run_openssl(self, *arguments, config=None, data=None):
        return self.openssl(*arguments, config=config or self.conf, data=data)

    def ok(self, *arguments, config=None, data=None):
        run = self.run_openssl(*arguments, config=config, data=data)
        self.assertEqual((run.returncode, run.stderr), (0, b""), run)
        return run.stdout

    def refused(self, words, *arguments, config=None, data=None):
        """With exactly one error of the provider, or (words None) none."""
        run = self.run_openssl(*arguments, config=config, data=data)
        self.assertNotEqual(run.returncode, 0, arguments)
        ours = [line for line in run.stderr.decode().splitlines() if ":kmsenv:" in line and "error:" in line]
        self.assertEqual(len(ours), 0 if words is None else 1, run.stderr)
        if words is not None:
            self.assertRegex(ours[0], words)
        return run

    def path(self, name):
        return os.path.join(self.dir, name)

    def encap(self, *options, key=("-inkey", "kms:prod")):
        """(wrapped key, secret) of pkeyutl -encap."""
        self.ok("pkeyutl", "-encap", *key, *options, "-out", self.path("wrapped"), "-secret", self.path("secret"))
        return self.read(self.path("wrapped")), self.read(self.path("secret"))

    def opened(self, wrapped, *options):
        """By decapsulation, to a file and to standard output; where pkeyutl has none, by decryption, which is the same."""
        if not PKEYUTL_HAS_KEM:
            return self.ok("pkeyutl", "-decrypt", "-inkey", "kms:prod", *options, data=wrapped)
        source = self.file("in", wrapped)
        self.ok("pkeyutl", "-decap", "-inkey", "kms:prod", *options, "-in", source, "-secret", self.path("back"))
        return self.read(self.path("back"))

    def public_key(self, uri="kms:prod", config=None):
        return self.file("public.pem", self.ok("pkey", "-in", uri, "-pubout", config=config))

    def certificate(self, public, name="cert.pem"):
        """From an ordinary CA, for whatever public key."""
        if not os.path.exists(self.path("ca.pem")):
            self.ok("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", self.path("ca.key"))
            request = b"[req]\ndistinguished_name=dn\nx509_extensions=ca\n[dn]\n[ca]\nbasicConstraints=critical,CA:TRUE\n"
            self.ok("req", "-new", "-x509", "-key", self.path("ca.key"), "-subj", "/CN=CA", "-config", self.file("req.cnf", request),
                    "-out", self.path("ca.pem"))
        extensions = self.file("ext", b"keyUsage = critical,keyEncipherment\n")
        self.ok("x509", "-new", "-force_pubkey", public, "-subj", "/CN=prod", "-CA", self.path("ca.pem"), "-CAkey", self.path("ca.key"),
                "-extfile", extensions, "-days", "2", "-out", self.path(name))
        return self.path(name)

    def cms_encrypt(self, *recipients, data=b"some text"):
        arguments = [word for cert in recipients for word in ("-recip", cert)]
        self.ok("cms", "-encrypt", "-binary", "-aes-256-gcm", "-outform", "DER", "-out", self.path("message"), *arguments, data=data)
        return self.path("message")


class Local(Case):
    """With a key file, which the tests open by themselves, too."""

    def setUp(self):
        super().setUp()
        self.key = local_key_file(self.path("local.pem"))
        self.conf = self.config({"prod": local_profile(self.key)})

    def test_encap(self):
        if not PKEYUTL_HAS_KEM:
            self.assertLess(VERSION, (3, 5))
            run = self.refused(None, "pkeyutl", "-encap", "-inkey", "kms:prod", "-secret", self.path("s"))
            self.assertIn(b"-encap", run.stderr)
            return
        seen = set()
        for length in (None, 16, 24, 32, 64):
            options = [] if length is None else ["-pkeyopt", "secret-length:%d" % length]
            wrapped, secret = self.encap(*options)
            self.assertEqual(len(secret), length or 32)
            key = reader.LocalKey(self.key)
            self.assertEqual(key.unwrap(reader.Wrap("local", key.id, wrapped, [])), secret)
            self.assertEqual(self.opened(wrapped), secret)
            self.assertEqual(self.ok("pkeyutl", "-decap", "-inkey", "kms:prod", "-in", self.path("wrapped")), secret)
            self.assertEqual(self.ok("pkeyutl", "-decrypt", "-inkey", "kms:prod", "-in", self.path("wrapped")), secret)
            seen.add(secret)
        self.assertEqual(len(seen), 5)

    def test_decap_of_another_program(self):
        key = reader.LocalKey(self.key)
        for context, options in (([], []), ([("app", "billing")], ["-pkeyopt", "context:app=billing"])):
            for secret in (SECRET, b"x", os.urandom(64), os.urandom(4096)):
                self.assertEqual(self.opened(key.wrap(secret, context).ciphertext, *options), secret)

    def test_wrong_ciphertexts(self):
        key = reader.LocalKey(self.key)
        good, other = key.wrap(SECRET).ciphertext, reader.LocalKey(local_key_file(self.path("other.pem"))).wrap(SECRET).ciphertext
        verb = "-decap" if PKEYUTL_HAS_KEM else "-decrypt"
        for wrong in (good[:-1], good[:20], b"x", good + b"x", other, bytes(20000), good[:-1] + bytes([good[-1] ^ 1])):
            run = self.refused("(?i)local|ciphertext", "pkeyutl", verb, "-inkey", "kms:prod", "-in", self.file("in", wrong))
            self.assertEqual(run.stdout, b"")
            self.assertNotIn(SECRET, run.stderr)
        self.refused("context", "pkeyutl", verb, "-inkey", "kms:prod", "-pkeyopt", "context:a=b", "-in", self.file("in", good))
        self.assertEqual(self.opened(good), SECRET)

    def test_wrong_options(self):
        if not PKEYUTL_HAS_KEM:
            return
        common_part = ("pkeyutl", "-encap", "-inkey", "kms:prod", "-out", self.path("out"), "-secret", self.path("secret"))
        for length in ("0", "17", "65", "256", "18446744073709551615"):
            self.refused("16, 24, 32, 64", *common_part, "-pkeyopt", "secret-length:" + length)
        self.refused("operation", *common_part, "-kemop", "RSASVE")
        self.refused("context", *common_part, "-pkeyopt", "context:nothing")
        self.refused("no profile 'other'", "pkeyutl", "-encap", "-inkey", "kms:other", "-secret", self.path("secret"))
        for name in ("out", "secret"):
            self.assertFalse(os.path.exists(self.path(name)) and self.read(self.path(name)), name)

    def test_looking_at_it(self):
        key_id = reader.LocalKey(self.key).id
        text = "KMS master key:\nKMS: local\nKey id: %s\n" % key_id
        self.assertEqual(self.ok("pkey", "-in", "kms:prod", "-text", "-noout").decode(), text + "Profile: prod\n")
        self.assertEqual(self.ok("pkey", "-in", "kms:prod", "-text_pub", "-noout").decode(), text)
        self.assertIn((text + "Profile: prod\n").encode(), self.ok("storeutl", "-text", "-noout", "kms:prod"))
        public = self.public_key()
        self.assertEqual(self.ok("pkey", "-pubin", "-in", public, "-text", "-noout").decode(), text)
        der = self.ok("pkey", "-in", "kms:prod", "-pubout", "-outform", "DER")
        self.assertEqual(self.ok("pkey", "-pubin", "-inform", "DER", "-pubout", data=der), self.read(public))
        for form in ("PEM", "DER"):
            run = self.refused("never leaves its KMS", "pkey", "-in", "kms:prod", "-outform", form)
            self.assertEqual(run.stdout, b"")

    def test_other_commands_refuse_it(self):
        """What cannot be done with it fails, without a crash."""
        cert, data = self.certificate(self.public_key()), self.file("data", b"x" * 32)
        for command in (("pkeyutl", "-sign", "-inkey", "kms:prod", "-in", data), ("dgst", "-sha256", "-sign", "kms:prod", data),
                        ("pkeyutl", "-derive", "-inkey", "kms:prod", "-peerkey", self.path("public.pem")),
                        ("req", "-new", "-key", "kms:prod", "-subj", "/CN=a"), ("rsa", "-in", "kms:prod"), ("ec", "-in", "kms:prod"),
                        ("pkcs12", "-export", "-in", cert, "-inkey", "kms:prod", "-passout", "pass:a", "-out", self.path("p12")),
                        ("cms", "-sign", "-in", data, "-signer", cert, "-inkey", "kms:prod"),
                        ("smime", "-encrypt", "-aes256", "-in", data, cert)):
            run = self.run_openssl(*command)
            self.assertGreater(run.returncode, 0, command)     # negative: a signal

    def test_public_half(self):
        public = self.public_key()
        cert = self.certificate(public)
        self.assertEqual(self.ok("verify", "-CAfile", self.path("ca.pem"), cert).decode(), cert + ": OK\n")
        self.assertEqual(self.ok("x509", "-in", cert, "-noout", "-pubkey"), self.read(public))
        self.assertIn(b"Key id: " + reader.LocalKey(self.key).id.encode(), self.ok("x509", "-in", cert, "-noout", "-text"))
        for how in (("-pubin", "-inkey", public), ("-certin", "-inkey", cert)):
            self.assertEqual(self.opened(self.ok("pkeyutl", "-encrypt", *how, data=b"password")), b"password")
            if PKEYUTL_HAS_KEM:
                wrapped, secret = self.encap(key=how)
                self.assertEqual(self.opened(wrapped), secret)
            self.assertGreater(self.run_openssl("pkeyutl", "-decrypt", *how, data=b"x").returncode, 0)

    def test_cms(self):
        """The recipient is a master key; it need not be the only one."""
        cert = self.certificate(self.public_key())
        if not CMS_HAS_KEM:
            run = self.run_openssl("cms", "-encrypt", "-binary", "-aes-256-cbc", "-outform", "DER", "-recip", cert, data=b"some text")
            self.assertNotEqual(run.returncode, 0, "CMS with a key encapsulation is news before 3.6: see kmsenv-provider(7)")
            self.assertEqual(run.stdout, b"")
            return
        self.ok("genpkey", "-algorithm", "RSA", "-quiet", "-out", self.path("person.key"))
        self.ok("x509", "-new", "-key", self.path("person.key"), "-subj", "/CN=person", "-extfile", self.file("none"), "-out", self.path("person.pem"))
        message = self.cms_encrypt(cert, self.path("person.pem"))
        for how in (("-recip", cert, "-inkey", "kms:prod"), ("-inkey", "kms:prod"), ("-recip", self.path("person.pem"), "-inkey", self.path("person.key"))):
            self.assertEqual(self.ok("cms", "-decrypt", "-inform", "DER", "-in", message, *how), b"some text")
        shown = self.ok("cms", "-cmsout", "-print", "-noout", "-inform", "DER", "-in", message)
        self.assertIn(b"id-smime-ori-kem", shown)
        data = self.read(message)
        for at in range(len(data) // 3, len(data), len(data) // 17):
            altered = self.file("altered", data[:at] + bytes([data[at] ^ 4]) + data[at + 1:])
            run = self.run_openssl("cms", "-decrypt", "-inform", "DER", "-in", altered, "-recip", cert, "-inkey", "kms:prod")
            self.assertTrue(run.returncode > 0 or (run.returncode, run.stdout) == (0, b"some text"), at)    # what names the recipient is not bound

    def test_key_references_and_cms(self):
        """Key wrapping by this provider's own AES, with its names in front."""
        if not CMS_HAS_KEM:
            return
        cert = self.certificate(self.public_key())
        self.conf = self.config({"prod": local_profile(self.key)}, first=True, key_references="yes")
        message = self.cms_encrypt(cert)
        self.assertEqual(self.ok("cms", "-decrypt", "-inform", "DER", "-in", message, "-inkey", "kms:prod"), b"some text")

    def test_other_keys_are_not_disturbed(self):
        """A key encapsulation of OpenSSL's own, and a hybrid one in TLS, with this provider before the default one."""
        self.conf = self.config({"prod": local_profile(self.key)}, first=True, key_references="yes")
        hybrid = VERSION >= (3, 5)
        if hybrid:
            self.ok("genpkey", "-algorithm", "ML-KEM-768", "-out", self.path("ml.key"))
            wrapped, secret = self.encap(key=("-inkey", self.path("ml.key")))
            self.assertEqual(self.ok("pkeyutl", "-decap", "-inkey", self.path("ml.key"), data=wrapped), secret)
        self.certificate(self.public_key())
        group = "X25519MLKEM768" if hybrid else "X25519"
        server = subprocess.Popen([common.OPENSSL, "s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-cert", self.path("ca.pem"), "-key",
                                   self.path("ca.key"), "-groups", group], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  stdin=subprocess.PIPE, env=common.clean_environment(HOME=self.dir, OPENSSL_CONF=self.conf))
        self.addCleanup(server.communicate, timeout=20)
        self.addCleanup(server.kill)
        said = b""
        while b"ACCEPT 127.0.0.1:" not in said or not said.endswith(b"\n"):
            self.assertTrue(select.select([server.stdout], [], [], 20)[0], said)
            more = os.read(server.stdout.fileno(), 4096)
            self.assertTrue(more, said)
            said += more
        port = said.split(b"ACCEPT 127.0.0.1:")[1].split()[0].decode()
        run = self.run_openssl("s_client", "-connect", "127.0.0.1:" + port, "-CAfile", self.path("ca.pem"), "-groups", group, data=b"Q\n")
        self.assertIn(b"Verify return code: 0 (ok)", run.stdout, run.stderr)
        self.assertIn(group.encode(), run.stdout)


class OverTheNetwork(Case):
    """With a stand-in of a KMS: what it is asked and how often."""

    def setUp(self):
        super().setUp()
        self.kms = self.standin()
        self.profile = tencent_profile(self.kms)
        self.conf = self.config({"prod": self.profile})
        self.keys = KeyStore(os.path.join(self.kms.directory, "keys.json"))

    def calls(self):
        return self.kms.calls("GenerateDataKey"), self.kms.calls("Encrypt"), self.kms.calls("Decrypt"), self.kms.calls()

    def plaintext_of(self, wrapped):
        return tencent.unpack(self.keys, wrapped.decode(), "", lambda key_id: None)[2]

    def test_calls(self):
        public = self.public_key()
        cert = self.certificate(public)
        self.ok("x509", "-in", cert, "-noout", "-text")
        self.ok("pkey", "-in", "kms:prod", "-text", "-noout")
        self.assertEqual(self.calls(), (0, 0, 0, 0))
        made = tencent.pack(self.keys, self.kms.key_id, SECRET, "").encode()      # what the service gives to any client
        self.assertEqual(self.opened(made), SECRET)
        self.assertEqual(self.calls(), (0, 0, 1, 1))
        if PKEYUTL_HAS_KEM:
            self.kms.reset()
            wrapped, secret = self.encap(key=("-certin", "-inkey", cert))
            self.assertEqual(self.calls(), (1, 0, 0, 1))
            self.assertEqual(self.plaintext_of(wrapped), secret)
            self.assertEqual(self.opened(wrapped), secret)
            self.assertEqual(self.calls(), (1, 0, 1, 2))
        if CMS_HAS_KEM:
            self.kms.reset()
            message = self.cms_encrypt(cert)
            self.assertEqual(self.calls(), (1, 0, 0, 1))
            self.assertEqual(self.ok("cms", "-decrypt", "-inform", "DER", "-in", message, "-recip", cert, "-inkey", "kms:prod"), b"some text")
            self.assertEqual(self.calls(), (1, 0, 1, 2))

    def test_profiles_decide(self):
        """Not what a certificate says: another host, another profile's key, another kind of KMS. And not every profile encrypts."""
        other, public = self.kms.create_key(), self.public_key()
        cert = self.certificate(public)
        strange = {"nobody's": self.config({"prod": {**self.profile, "key-id": other}}),
                   "local": self.config({"prod": local_profile(local_key_file(self.path("l.pem")))}),
                   "to decrypt": self.config({"prod": {**self.profile, "key-id": other, "decrypt-keys": self.kms.key_id}})}
        for name, config in strange.items():
            with self.subTest(name):
                self.refused("no profile encrypts under the key", "pkeyutl", "-encrypt", "-certin", "-inkey", cert, config=config, data=b"x")
                if CMS_HAS_KEM:
                    self.refused("no profile encrypts under the key", "cms", "-encrypt", "-recip", cert, config=config, data=b"x")
        self.assertEqual(self.kms.calls(), 0)
        second = self.config({"first": local_profile(self.path("l.pem")), "second": self.profile})     # under any name
        self.assertEqual(self.opened(self.ok("pkeyutl", "-encrypt", "-certin", "-inkey", cert, config=second, data=b"x")), b"x")

    def test_context_of_the_profile(self):
        """Bound on both sides. The message does not say it."""
        bound = self.config({"prod": {**self.profile, "context": "app=billing"}})
        cert = self.certificate(self.public_key())
        if not CMS_HAS_KEM:
            blob = self.ok("pkeyutl", "-encrypt", "-certin", "-inkey", cert, config=bound, data=b"x")
            self.refused("prod", "pkeyutl", "-decrypt", "-inkey", "kms:prod", data=blob)
            return
        plain, self.conf = self.conf, bound
        message = self.cms_encrypt(cert)
        self.assertNotIn(b"billing", self.read(message))
        decrypt = ("cms", "-decrypt", "-inform", "DER", "-in", message, "-recip", cert, "-inkey", "kms:prod")
        self.assertEqual(self.ok(*decrypt), b"some text")
        self.refused("prod", *decrypt, config=plain)

    def test_kms_down(self):
        cert = self.certificate(self.public_key())
        made = self.file("in", tencent.pack(self.keys, self.kms.key_id, SECRET, ""))
        message = self.cms_encrypt(cert) if CMS_HAS_KEM else None
        self.kms.stop()
        if PKEYUTL_HAS_KEM:
            self.refused("prod", "pkeyutl", "-encap", "-inkey", "kms:prod", "-out", self.path("w"), "-secret", self.path("s"))
            self.assertEqual((self.read(self.path("w")), self.read(self.path("s"))), (b"", b""))
            self.refused("prod", "pkeyutl", "-decap", "-inkey", "kms:prod", "-in", made)
        self.refused("prod", "pkeyutl", "-decrypt", "-inkey", "kms:prod", "-in", made)
        if message:
            self.refused("prod", "cms", "-decrypt", "-inform", "DER", "-in", message, "-recip", cert, "-inkey", "kms:prod")
        self.ok("x509", "-in", cert, "-noout", "-text")


if __name__ == "__main__":
    common.main()
