#!/usr/bin/python3
"""kmsenv seal-key and open-key: private keys of every type, from every form that OpenSSL reads; where they are written; what is refused."""
import base64
import hashlib
import json
import os
import re
import stat
import subprocess
import time

import cli_common
import common
from cli_common import CLI
from common import reader
from sealed_common import BEGIN, KEYS, SealedScenario


class Types(SealedScenario):
    def check(self, kind):
        key = self.new_key(kind)
        self.kms.reset()
        run = self.cli("seal-key", key)
        self.assertEqual((run.returncode, run.stderr), (0, b""))
        self.assertEqual((self.kms.calls("GenerateDataKey"), self.kms.calls()), (1, 1), "sealing asks for a data key, and nothing else")
        sealed = self.file("sealed", run.stdout)
        self.kms.reset()
        self.assertEqual(self.pkcs8(sealed), self.read(key))
        self.assertEqual((self.kms.calls("Decrypt"), self.kms.calls()), (1, 1))
        opened = self.cli("open-key", sealed)
        self.assertEqual((opened.returncode, opened.stdout), (0, self.read(key)))
        self.assertEqual(opened.stderr, b"kmsenv: warning: standard output has the private key in plain text now\n")
        der = self.plain("pkey", "-in", key, "-pubout", "-outform", "DER")
        self.assertIn("Public-Key-SHA256: %s\n" % hashlib.sha256(der).hexdigest(), run.stdout.decode())

    def test_every_type(self):
        for kind in [*KEYS, "dsa"]:
            with self.subTest(kind):
                self.check(kind)

    def test_what_is_sealed(self):
        """Read by the other implementation of the format: PKCS#8, and nothing that the program would have to know besides."""
        local = common.local_key_file(self.path("local.pem"))
        config = self.config({"main": common.local_profile(local)})
        key = self.new_key("p-256")
        text = self.read(self.seal(key, config=config))
        self.assertRegex(text, rb"\AKey: EC, prime256v1, 256 bits\nPublic-Key-SHA256: [0-9a-f]{64}\n-----BEGIN KMS SEALED KEY-----\n")
        message = self.decoded(text)
        self.assertEqual(reader.open_message(message, reader.LocalKey(local).dek_of(message)),
                         self.plain("pkcs8", "-topk8", "-nocrypt", "-in", key, "-outform", "DER"))
        self.assertNotEqual(self.decoded(self.read(self.seal(key, config=config)))[:60], message[:60], "a data key of its own")

    @staticmethod
    def decoded(pem):
        return base64.b64decode(pem.split(BEGIN)[1].split(b"-----END")[0])


class Forms(SealedScenario):
    def setUp(self):
        super().setUp()
        self.key = self.new_key("rsa")
        self.pem = self.read(self.key)

    def check(self, data, *arguments, **more):
        """Sealed from a pipe it is the key that it was."""
        run = self.cli("seal-key", *arguments, data=data, **more)
        self.assertEqual((run.returncode, run.stderr), (0, b""), run)
        self.assertEqual(self.pkcs8(self.file("sealed", run.stdout)), self.pem)

    def test_plain_forms(self):
        self.check(self.pem)
        self.check(self.pem, "-")
        self.check(b"Bag Attributes\n    friendlyName: x\n" + self.pem.replace(b"\n", b"\r\n"))
        for form in (["pkey", "-outform", "DER"], ["pkey", "-traditional"], ["rsa", "-outform", "DER", "-traditional"],
                     ["rsa", "-outform", "MSBLOB"]):
            with self.subTest(form):
                self.check(self.plain(*form, "-in", self.key))

    def test_ec_with_parameters_before(self):
        pem = self.plain("ecparam", "-name", "prime256v1", "-genkey")
        self.assertIn(b"BEGIN EC PARAMETERS", pem)
        run = self.cli("seal-key", data=pem)
        self.assertEqual((run.returncode, run.stderr), (0, b""))
        self.assertEqual(self.pkcs8(self.file("sealed", run.stdout)), self.plain("pkey", data=pem))

    def encrypted(self):
        self.certificate(self.key)
        return [self.plain("pkcs8", "-topk8", "-in", self.key, "-passout", "pass:sesame"),
                self.plain("pkcs8", "-topk8", "-in", self.key, "-passout", "pass:sesame", "-outform", "DER"),
                self.plain("rsa", "-aes128", "-traditional", "-in", self.key, "-passout", "pass:sesame"),
                self.plain("pkcs12", "-export", "-inkey", self.key, "-in", self.path("cert.pem"), "-passout", "pass:sesame")]

    def test_pass_phrase_from_a_source(self):
        self.file("pass", "sesame\nsecond line\n")
        for data in self.encrypted():
            self.check(data, "--passin", "env:PASS", environment={"PASS": "sesame"})
            self.check(data, "--passin", "file:pass")
            reading, writing = os.pipe()
            os.write(writing, b"sesame\n")
            os.close(writing)
            self.check(data, "--passin", "fd:%d" % reading, pass_fds=[reading])
            os.close(reading)
            for wrong in ("", "open"):
                self.assertIn("cannot be decrypted", self.fails(1, "seal-key", "--passin", "env:PASS", data=data, environment={"PASS": wrong}))
        self.check(self.plain("pkcs12", "-export", "-inkey", self.key, "-in", self.path("cert.pem"), "-passout", "pass:"))

    def test_pass_phrase_asked_for(self):
        """Standard input is a file and standard output a pipe: the terminal is found all the same, and asked once."""
        for data in self.encrypted():
            with open(self.file("in", data), "rb") as source, open(self.path("out"), "wb") as out:
                status, shown = self.on_terminal([CLI, "seal-key"], [(b"Pass phrase for standard input: ", b"sesame")], stdin=source, stdout=out)
            self.assertEqual((status, shown.replace(b"\r\n", b"")), (0, b"Pass phrase for standard input: "))
            self.assertEqual(self.pkcs8(self.path("out")), self.pem)
        status, shown = self.on_terminal([CLI, "seal-key", "in"], [(b"Pass phrase for in: ", b"wrong")])
        self.assertEqual(status, 1)
        self.assertIn(b"in: cannot be decrypted", shown)

    def test_no_terminal_no_pass_phrase(self):
        run = subprocess.run([CLI, "seal-key", self.file("in", self.encrypted()[0])], stdin=subprocess.DEVNULL, capture_output=True, timeout=30,
                             start_new_session=True, env=common.clean_environment(OPENSSL_CONF=self.conf))
        self.assertEqual((run.returncode, run.stdout), (1, b""))
        self.assertIn(b"needs a pass phrase; where there is no terminal, use --passin", run.stderr)
        self.assertEqual(self.kms.calls(), 0)

    def test_wrong_sources(self):
        data = self.encrypted()[0]
        for source, words in (("pass:sesame", "other users could see"), ("sesame", "env:NAME"), ("env:NO_SUCH", "environment has no"),
                              ("file:nothing", "No such file"), ("fd:x", "number"), ("fd:99", "Bad file descriptor"),
                              ("file:/dev/zero", "less than 1024")):
            text = self.fails(1, "seal-key", "--passin", source, data=data)
            self.assertIn(words, text)
            self.assertNotIn("sesame", text)


class Refused(SealedScenario):
    def test_not_a_private_key(self):
        key, ec = self.new_key("rsa"), self.new_key("p-256", "ec.pem")
        sealed = self.read(self.seal(key))
        public = self.plain("pkey", "-in", key, "-pubout")
        data_key = self.openssl("genpkey", "-algorithm", "kms-envelope", config=self.conf).stdout
        damaged = self.read(key).splitlines(True)
        message = self.openssl("enc", "-kms-envelope", "-K", "0", config=self.conf, data=b"x").stdout
        self.kms.reset()
        for data, words in ((b"", "is empty"), (b"what?", "no private key that OpenSSL can read"), (public, "a public key only"),
                            (self.plain("pkey", "-in", key, "-pubout", "-outform", "DER"), "no private key"),
                            (self.read(self.certificate(key)), "has no private key"), (sealed, "kmsenv rewrap"), (message, "kmsenv rewrap"),
                            (data_key, "is a data key"), (self.read(common.local_key_file(self.path("m.pem"))), "is a local master key"),
                            (self.read(key) + self.read(ec), "more than one private key, at lines 1 and 29"),
                            (self.read(key) + sealed, "more than one private key"), (b"".join(damaged[:-1]), "line 1 has no end"),
                            (b"".join(damaged[:3] + damaged[4:]), "PRIVATE KEY of line 1 is damaged"),
                            (b"-----BEGIN PKCS#11 PROVIDER URI-----\nMAA=\n-----END PKCS#11 PROVIDER URI-----\n", "in a token"),
                            (b"-----BEGIN OPENSSH PRIVATE KEY-----\nMAA=\n-----END OPENSSH PRIVATE KEY-----\n", "ssh-keygen"),
                            (bytes(1 << 21), "more than 1 MiB")):
            with self.subTest(words):
                text = self.fails(1, "seal-key", data=data)
                self.assertIn(words, text)
                self.assertEqual(len(text.splitlines()), 1)
        self.assertIn("No such file", self.fails(1, "seal-key", "nothing"))
        self.assertIn("token", self.fails(1, "seal-key", "pkcs11:object=x"))
        self.assertIn("is not PEM", self.fails(1, "seal-key", "--keep-comment", data=self.plain("pkey", "-in", key, "-outform", "DER")))
        for data, words in ((self.read(key), "is not sealed"), (b"what?", "no PEM block KMS SEALED KEY"), (public, "a public key only")):
            self.assertIn(words, self.fails(1, "open-key", data=data))
        self.assertEqual(self.kms.calls(), 0)

    def test_usage(self):
        for arguments in (["seal-key", "a", "b"], ["seal-key", "-o"], ["seal-key", "--frob"], ["seal-key", "-x"], ["open-key", "a", "b"],
                          ["open-key", "--passout"], ["open-key", "-z"]):
            self.fails(2, *arguments)

    def test_secrets_not_in_messages(self):
        """A damaged key is not shown."""
        data = self.read(self.new_key("ed25519")).replace(b"\n-----END", b"*\n-----END")
        self.assertNotIn(data.splitlines()[1][20:40].decode(), self.fails(1, "seal-key", data=data))


class Output(SealedScenario):
    def setUp(self):
        super().setUp()
        self.key = self.new_key("p-256")

    def test_new_file(self):
        old = os.umask(0)
        try:
            self.assertEqual(self.ok("seal-key", "-o", "sealed", self.key), "")
        finally:
            os.umask(old)
        self.assertEqual(stat.S_IMODE(os.stat(self.path("sealed")).st_mode), 0o600)
        self.assertEqual(self.pkcs8(self.path("sealed")), self.read(self.key))
        before = self.read(self.path("sealed"))
        self.kms.reset()
        self.assertIn("--force", self.fails(1, "seal-key", "-o", "sealed", self.key))
        self.assertEqual((self.read(self.path("sealed")), self.kms.calls()), (before, 0))
        self.ok("seal-key", "--output", "sealed", "--force", self.key)
        self.assertNotEqual(self.read(self.path("sealed")), before)
        self.assertEqual(self.pkcs8(self.path("sealed")), self.read(self.key))
        self.assertEqual([n for n in os.listdir(self.dir) if n.startswith("sealed")], ["sealed"])

    def test_in_place(self):
        pem = self.read(self.key)
        os.symlink("key.pem", self.path("link"))
        self.fails(1, "seal-key", "-o", "link", self.key)
        self.ok("seal-key", "-o", "link", "--force", self.key)
        self.assertTrue(os.path.islink(self.path("link")))
        self.assertEqual(self.pkcs8(self.key), pem)
        self.assertIn(BEGIN, self.read(self.key))

    def test_cannot_be_written(self):
        os.mkdir(self.path("folder"))
        for out, words in (("folder", "is a directory"), ("nowhere/x", "No such file")):
            self.assertIn(words, self.fails(1, "seal-key", "-o", out, self.key))
            self.assertIn(words, self.fails(1, "seal-key", "--force", "-o", out, self.key))
        self.assertEqual(self.kms.calls(), 0, "the output is opened first")
        with open("/dev/full", "wb") as full:
            run = subprocess.run([CLI, "seal-key", self.key], stdout=full, stderr=subprocess.PIPE, timeout=60,
                                 env=common.clean_environment(OPENSSL_CONF=self.conf))
        self.assertEqual(run.returncode, 1)
        self.assertIn(b"No space left", run.stderr)

    def test_what_is_around_the_key(self):
        cert = self.read(self.certificate(self.key))
        before, behind = b"# for nginx\r\n" + cert, b"  trailing\n" + cert + b"no line feed at the end"
        bundle = self.file("bundle.pem", before + self.read(self.key) + behind)
        sealed = self.seal(bundle, "--keep-comment")
        text = self.read(sealed)
        self.assertTrue(text.startswith(before + b"Key: EC, prime256v1, 256 bits\nPublic-Key-SHA256: "))
        self.assertTrue(text.endswith(b"-----END KMS SEALED KEY-----\n" + behind))
        self.assertEqual(self.pkcs8(sealed), self.read(self.key))
        self.assertEqual(self.plain("crl2pkcs7", "-nocrl", "-certfile", sealed), self.plain("crl2pkcs7", "-nocrl", "-certfile", bundle))
        bare = self.read(self.seal(bundle, "--keep-comment", "--no-comment"))
        self.assertTrue(bare.startswith(before + BEGIN))
        opened = self.cli("open-key", "--keep-comment", self.file("bare", bare))
        self.assertEqual(opened.stdout, self.read(bundle))
        self.assertEqual(self.read(self.seal(bundle, "--no-comment"))[:len(BEGIN)], BEGIN)

    def test_open_key(self):
        sealed = self.seal(self.key)
        run = self.cli("open-key", sealed, "-o", "out")
        self.assertEqual((run.returncode, run.stdout, run.stderr), (0, b"", b"kmsenv: warning: out has the private key in plain text now\n"))
        self.assertEqual(stat.S_IMODE(os.stat(self.path("out")).st_mode), 0o600)
        self.assertEqual(self.read(self.path("out")), self.read(self.key))
        self.assertIn("--force", self.fails(1, "open-key", sealed, "-o", "out"))
        status, shown = self.on_terminal([CLI, "open-key", sealed])
        self.assertEqual(status, 2)
        self.assertIn(b"not shown on a terminal", shown)
        self.assertNotIn(b"BEGIN", shown)

    def test_open_key_encrypted(self):
        sealed = self.seal(self.key)
        text = self.ok("open-key", sealed, "--passout", "env:PASS", environment={"PASS": "sesame"})
        self.assertIn("BEGIN ENCRYPTED PRIVATE KEY", text)
        self.assertEqual(self.plain("pkey", "-passin", "pass:sesame", data=text.encode()), self.read(self.key))
        self.assertIn(b":0927C0\n", self.plain("asn1parse", data=text.encode()), "600000 iterations")
        status, shown = self.on_terminal([CLI, "open-key", sealed, "--encrypt", "-o", "out"],
                                         [(b"Pass phrase for the key to be written: ", b"sesame"), (b"Verifying - ", b"sesame")])
        self.assertEqual(status, 0, shown)
        self.assertEqual(self.plain("pkey", "-in", self.path("out"), "-passin", "pass:sesame"), self.read(self.key))


class Kms(SealedScenario):
    def setUp(self):
        super().setUp()
        self.key = self.new_key("ed25519")

    def test_profiles(self):
        """Under two profiles each of them opens the key; the first is asked alone when both can."""
        local = common.local_profile(common.local_key_file(self.path("local.pem")))
        both = self.config({"prod": self.profile, "escrow": local})
        sealed = self.seal(self.key, "--profile", "prod,escrow", config=both)
        found = json.loads(self.ok("inspect", "--json", sealed))
        self.assertEqual([wrap["kms"] for wrap in found["dataKey"]["wraps"]], ["tencent", "local"])
        for config in (both, self.conf, self.config({"escrow": local})):
            self.assertEqual(self.pkcs8(sealed, config), self.read(self.key))
        self.assertEqual(self.kms.calls("Decrypt"), 2)
        self.assertIn("nobody", self.fails(1, "seal-key", "--profile", "nobody", self.key))
        only = self.seal(self.key, "--profile", "escrow", config=both)
        self.assertEqual(self.pkcs8(only, both), self.read(self.key))
        self.assertEqual(self.kms.calls(), 0)

    def test_many_wraps(self):
        """More of them than the block size of the cipher has room for."""
        profiles = {"p%d" % n: {**common.local_profile(common.local_key_file(self.path("l%d.pem" % n))), "context": "n=%s" % ("x" * 400)}
                    for n in range(14)}
        config = self.config(profiles)
        sealed = self.seal(self.key, "--profile", ",".join(profiles), config=config)
        self.assertGreater(len(self.read(sealed)), 8192)
        self.assertEqual(self.pkcs8(sealed, config), self.read(self.key))

    def test_settings(self):
        """Detached wraps, a data key of the configuration, none reused, small segments: programs open what comes of them."""
        keyring = self.path("keys")
        os.mkdir(keyring)
        detached = self.config({"prod": self.profile}, keyring=keyring, wraps="detached")
        sealed = self.seal(self.key, config=detached)
        self.assertEqual(json.loads(self.ok("inspect", "--json", sealed))["dataKey"]["wraps"], [])
        self.assertEqual(self.pkcs8(sealed, detached), self.read(self.key))
        (name,) = os.listdir(keyring)
        for settings in ({"keyring": keyring, "data_key": name[:-4]}, {"dek_reuse": "no"}, {"segment_bits": 12}, {"cache_entries": 1}):
            config = self.config({"prod": self.profile}, **settings)
            sealed = self.seal(self.key, config=config)
            self.assertEqual(self.pkcs8(sealed, config), self.read(self.key), settings)
            self.assertEqual(self.cli("open-key", sealed, config=config).stdout, self.read(self.key))

    def test_context(self):
        sealed = self.seal(self.key, "--context", "app=web,host=a")
        wrap = json.loads(self.ok("inspect", "--json", sealed))["dataKey"]["wraps"][0]
        self.assertEqual(wrap["context"], {"app": "web", "host": "a"})
        self.assertEqual(self.pkcs8(sealed), self.read(self.key))

    def test_failures(self):
        """Nothing is written, and the cause is told."""
        sealed = self.seal(self.key)
        cases = (({"do": "denied"}, "does not allow"), ({"do": "missing-plaintext"}, "plaintext"))
        for rule, words in cases:
            self.kms.misbehave({**rule, "action": "GenerateDataKey", "count": 20}, {**rule, "action": "Decrypt", "count": 20})
            self.assertRegex(self.fails(1, "seal-key", self.key, "-o", "new").lower(), words)
            self.assertRegex(self.fails(1, "open-key", sealed, "-o", "new").lower(), words)
        self.kms.misbehave()
        self.kms.stop()
        self.assertIn("127.0.0.1", self.fails(1, "seal-key", self.key, "-o", "new"))
        self.assertIn("127.0.0.1", self.fails(1, "open-key", sealed, "-o", "new"))
        self.assertIn("no KMS is configured", self.fails(1, "seal-key", self.key, "-o", "new", config=self.config({})))
        self.assertFalse([name for name in os.listdir(self.dir) if name.startswith("new")])

    def test_sealed_something_else(self):
        """A message that is no key is not written out as one."""
        message = self.openssl("enc", "-kms-envelope", "-K", "0", config=self.conf, data=b"just a text").stdout
        pem = self.file("text.pem", BEGIN + base64.encodebytes(message) + b"-----END KMS SEALED KEY-----\n")
        self.assertIn("not a private key", self.fails(1, "open-key", pem))

    def test_no_core_dump(self):
        os.mkfifo(self.path("fifo"))
        process = subprocess.Popen([CLI, "seal-key", self.path("fifo")], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env=common.clean_environment(OPENSSL_CONF=self.conf))
        try:
            limits = ""
            for _ in range(100):
                with open("/proc/%d/limits" % process.pid, encoding="utf-8") as source:
                    limits = source.read()
                if re.search(r"Max core file size +0 +0 ", limits):
                    break
                time.sleep(0.05)
            self.assertRegex(limits, r"Max core file size +0 +0 ")
            with open(self.path("fifo"), "wb") as out:
                out.write(self.read(self.key))
            sealed, errors = process.communicate(timeout=30)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(10)
        self.assertEqual((process.returncode, errors), (0, b""))
        self.assertEqual(self.pkcs8(self.file("sealed", sealed)), self.read(self.key))


class Inspect(SealedScenario):
    def test_sealed_keys(self):
        key = self.new_key("p-256")
        cert = self.read(self.certificate(key))
        sealed = self.read(self.seal(key))
        self.kms.stop()
        path = self.file("bundle", b"some text\n" + cert + sealed + cert)
        found = json.loads(self.ok("inspect", "--json", path))
        header = reader.Header.parse(Types.decoded(sealed))
        self.assertEqual((found["format"], found["block"], found["line"]), ("KMS SEALED KEY", 2, cert.count(b"\n") + 4))
        self.assertEqual(found["comment"], sealed.decode().splitlines()[:2])
        self.assertEqual(found["dataKey"]["id"], header.data_key.id.hex())
        self.assertEqual(found["dataKey"]["wraps"][0]["keyId"], self.kms.key_id)
        self.assertEqual(found["body"], {"bytes": 138 + 17, "segments": 1, "plaintextBytes": 138})
        text = self.ok("inspect", "-", data=cert + sealed)
        for part in ("sealed private key, PEM block 2", "Key: EC, prime256v1, 256 bits", "Public-Key-SHA256: ", header.data_key.id.hex(), self.kms.key_id):
            self.assertIn(part, text)
        two = json.loads(self.ok("inspect", "--json", "-", data=sealed + cert + sealed))
        self.assertEqual([one["block"] for one in two], [1, 3])
        self.assertEqual(self.ok("inspect", "-", data=sealed + cert + sealed).count("sealed private key"), 2)
        shown = self.openssl("asn1parse", config=self.stock, data=sealed).stdout
        self.assertIn(b":kms-envelope", shown)
        self.assertIn(self.kms.key_id.encode(), shown)

    def test_comment(self):
        """Only what stands right above the key, and nothing of it commands the terminal."""
        block = self.read(self.seal(self.new_key("ed25519"), "--no-comment"))
        for text, comment in ((b"", []), (b"Key: x\n", ["Key: x"]), (b"Key: x\n\n", []), (b"Key: x\nother\n", []), (b"my Key: x\n", []),
                              (b"text\nKey: a\nPublic-Key-SHA256: b\r\n", ["Key: a", "Public-Key-SHA256: b"])):
            self.assertEqual(json.loads(self.ok("inspect", "--json", "-", data=text + block))["comment"], comment, text)
        shown = self.ok("inspect", "-", data=b"Key: \x1b[2J\xff\n" + block)
        self.assertIn("Key: \\x1b[2J\\xff\n", shown)
        self.assertIn("\\u001b", self.ok("inspect", "--json", "-", data=b"Key: \x1b[2J\n" + block))

    def test_after_much_else(self):
        key = self.new_key("p-256")
        sealed = self.read(self.seal(key))
        found = json.loads(self.ok("inspect", "--json", "-", data=self.read(self.certificate(key)) * 400 + sealed))
        self.assertEqual(found["block"], 401)

    def test_hostile_text(self):
        """Time that does not grow with the square of it; and blocks that begin in one another."""
        begin, end = b"-----BEGIN X-----\n", b"-----END X-----\n"
        started = time.monotonic()
        for text in (begin, begin + end, begin + b"-----END Y-----\n", end, b"\n", b"-----BEGIN "):
            self.fails(1, "inspect", "-", data=text * ((1 << 20) // len(text)))
            self.fails(1, "seal-key", data=text * (((1 << 20) - 100) // len(text)))
        self.assertLess(time.monotonic() - started, 30)
        sealed = self.read(self.seal(self.new_key("p-256"), "--no-comment"))
        for before, line in ((begin, 2), (begin + b"-----END Y-----\n", 3), (begin + end, 3), (end, 2), (b"\n-----BEGIN KMS SEALED KEYS-----\r\n", 3)):
            found = json.loads(self.ok("inspect", "--json", "-", data=before + sealed))
            self.assertEqual((found["line"], found["body"]["plaintextBytes"]), (line, 138))
        self.assertIn("damaged", self.fails(1, "inspect", "-", data=sealed.replace(b"END KMS SEALED KEY", b"END KMS SEALED KEYS")))
        self.assertIn("damaged", self.fails(1, "inspect", "-", data=sealed[:-40] + sealed))

    def test_damaged(self):
        key = self.new_key("p-256")
        sealed = self.read(self.seal(key))
        cut = Types.decoded(sealed)[:-150]
        for data, words in ((self.read(key), "KMS SEALED KEY"), (sealed[:-10], "damaged"), (sealed.replace(b"MI", b"!!", 1), "damaged"),
                            (BEGIN + base64.encodebytes(cut) + b"-----END KMS SEALED KEY-----\n", "ends after"),
                            (sealed.replace(BEGIN, BEGIN + b"Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,%032d\n\n" % 0), "it has headers"),
                            (self.read(key) + sealed[:-10], "line 8 is damaged")):
            self.assertIn(words, self.fails(1, "inspect", "-", data=data))


if __name__ == "__main__":
    cli_common.main()
