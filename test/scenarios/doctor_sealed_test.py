"""The command: kmsenv doctor finds messages, sealed keys and data keys, and whether the configuration can open them."""
import base64
import json
import os

import common
from cli_common import CliScenario, main


def pem(label, der):
    text = base64.encodebytes(der).replace(b"\n", b"")
    lines = b"".join(text[at:at + 64] + b"\n" for at in range(0, len(text), 64))
    return b"-----BEGIN %s-----\n%s-----END %s-----\n" % (label, lines, label)


class Sealed(CliScenario):
    def setUp(self):
        super().setUp()
        self.mine = self.local_config(keyring=self.path("keyring"))
        os.mkdir(self.path("keyring"))
        other = common.local_key_file(self.path("other.pem"))
        self.others = self.config({"main": common.local_profile(other)}, keyring=self.path("keyring"))
        os.mkdir(self.path("files"))

    def message(self, config, text=common.TEXT, *options):
        run = self.openssl("enc", "-kms-envelope", "-K", "0", *options, config=config, data=text)
        self.assertEqual(run.returncode, 0, run.stderr)
        return run.stdout

    def data_key(self, config):
        run = self.openssl("genpkey", "-algorithm", "kms-envelope", config=config)
        self.assertEqual(run.returncode, 0, run.stderr)
        return run.stdout

    def put(self, name, data):
        return self.file(os.path.join("files", name), data)

    def doctor(self, *arguments, config=None, status=0):
        """{subject: [(outcome, message)]} of what is said about files."""
        run = self.cli("doctor", "--offline", "--json", "--config", config or self.mine, *arguments)
        self.assertEqual((run.returncode, run.stderr), (status, b""), run)
        found = {}
        for check in json.loads(run.stdout)["checks"]:
            self.assertTrue(check["outcome"] != "failed" or check["remedy"], check)
            if check["subject"].startswith("/"):
                found.setdefault(check["subject"], []).append((check["outcome"], check["message"]))
        return found

    def one(self, path, outcome, *words, **more):
        (got, message), = self.doctor(path, status=int(outcome == "failed"), **more)[path]
        self.assertEqual(got, outcome, message)
        for word in words:
            self.assertIn(word, message)

    def test_kinds(self):
        message = self.message(self.mine)
        for name, kind, data in (("message", "message", message), ("key.pem", "sealed key", pem(b"KMS SEALED KEY", message)),
                                 ("dek.pem", "data key", self.data_key(self.mine))):
            path = self.put(name, data)
            self.one(path, "ok", kind, "profile main answers")
            self.one(path, "failed", kind, "no profile answers for key", "kms = local", config=self.others)

    def test_no_kms_is_asked(self):
        """Not without --try: the audit log has a line for each operation."""
        log = self.path("audit.log")
        config = self.local_config(audit_log=log)
        path = self.put("message", self.message(config))
        before = len(self.read(log).splitlines())
        self.one(path, "ok", config=config)
        self.assertEqual(len(self.read(log).splitlines()), before)
        (outcome, message), = self.doctor("--try", path, config=config)[path]
        self.assertEqual(outcome, "ok")
        self.assertIn("was unwrapped in", message)
        self.assertEqual(len(self.read(log).splitlines()), before + 1)

    def test_try(self):
        """A profile that answers for the key, and a wrap that it cannot open."""
        message = self.message(self.mine)
        header = common.reader.Header.parse(message)
        header.data_key.wraps[0].ciphertext = bytes(len(header.data_key.wraps[0].ciphertext))
        path = self.put("message", header.encode() + message[len(header.der):])
        self.one(path, "ok", "profile main answers")
        (outcome, _), = self.doctor("--try", path, status=1)[path]
        self.assertEqual(outcome, "failed")

    def test_try_sealed_keys(self):
        """The private key itself is opened; what is inside must be one."""
        run = self.openssl("genpkey", "-algorithm", "ed25519", "-outform", "DER", config=self.mine)
        path = self.put("key.pem", pem(b"KMS SEALED KEY", self.message(self.mine, run.stdout)))
        (outcome, message), = self.doctor("--try", path)[path]
        self.assertEqual(outcome, "ok")
        self.assertRegex(message, r"^sealed key: opened in \d+ ms$")
        path = self.put("text.pem", pem(b"KMS SEALED KEY", self.message(self.mine)))
        (outcome, _), = self.doctor("--try", path, status=1)[path]
        self.assertEqual(outcome, "failed")

    def test_bundles(self):
        """A certificate before the sealed key, as many programs have it, even a long chain."""
        key, certificate = pem(b"KMS SEALED KEY", self.message(self.mine)), pem(b"CERTIFICATE", os.urandom(3000))
        for count in (1, 2, 7, 30):
            self.one(self.put("bundle%d" % count, certificate * count + key), "ok", "sealed key")
        self.one(self.put("text", b"subject=CN = example\n" + certificate + key), "ok", "sealed key")
        for size in range(3900, 4200, 7):      # a label across the end of a chunk
            path = self.put("cut", pem(b"CERTIFICATE", os.urandom(size * 3 // 4))[:size - 30].rsplit(b"\n", 1)[0] + b"\n-----END CERTIFICATE-----\n" + key)
            self.one(path, "ok", "sealed key")

    def test_not_ours(self):
        for name, data in (("empty", b""), ("text", b"hello\n"), ("der", b"\x30\x82\x01\x00" + bytes(256)), ("cert", pem(b"CERTIFICATE", bytes(99))),
                           ("key", pem(b"PRIVATE KEY", bytes(99)) + pem(b"KMS SEALED KEY", self.message(self.mine)))):
            self.one(self.put(name, data), "note", "not a message")
        self.one(self.path("none"), "failed", "No such file")
        os.mkfifo(self.path("fifo"))
        self.one(self.path("fifo"), "failed", "not a regular file")

    def test_damaged(self):
        message = self.message(self.mine)
        for name, data in (("short", message[:100]), ("version", message.replace(b"\x02\x01\x01", b"\x02\x01\x02", 1)),
                           ("pem", b"-----BEGIN KMS SEALED KEY-----\n!!!!\n-----END KMS SEALED KEY-----\n"),
                           ("open", b"-----BEGIN KMS SEALED KEY-----\nAAAA\n"), ("inside", pem(b"KMS SEALED KEY", message[:60])),
                           ("body", pem(b"KMS SEALED KEY", message[:-len(common.TEXT) - 10])),
                           ("dek", pem(b"KMS DATA KEY", b"\x30\x03\x02\x01\x05"))):
            self.one(self.put(name, data), "failed")

    def test_detached(self):
        """A message without wraps: its data key is in the keyring, or it cannot be opened."""
        config = self.local_config(keyring=self.path("keyring"), wraps="detached")
        path = self.put("message", self.message(config))
        self.one(path, "ok", "profile main answers", config=config)
        (outcome, _), = self.doctor("--try", path, config=config)[path]
        self.assertEqual(outcome, "ok")
        for name in os.listdir(self.path("keyring")):
            os.unlink(os.path.join(self.path("keyring"), name))
        self.one(path, "failed", config=config)

    def test_directories(self):
        message = self.message(self.mine)
        os.makedirs(self.path("files/a/b"))
        for name, data in (("a/b/key.pem", pem(b"KMS SEALED KEY", message)), ("m", message), ("a/text", b"text"), ("x.pem", self.data_key(self.others))):
            self.put(name, data)
        outside = self.file("outside", self.message(self.others))
        os.symlink(outside, self.path("files/link"))
        os.symlink(self.dir, self.path("files/a/up"))
        os.mkfifo(self.path("files/fifo"))
        found = self.doctor(self.path("files"), status=1)
        self.assertEqual({os.path.relpath(p, self.dir): c[0][0] for p, c in found.items()},
                         {"files/a/b/key.pem": "ok", "files/m": "ok", "files/x.pem": "failed", "files": "ok"})
        self.assertIn("of which 3 are", found[self.path("files")][0][1])
        self.assertEqual(self.doctor(self.path("files/link"), status=1)[self.path("files/link")][0][0], "failed", "a link that is named")

    def test_depth(self):
        deep = self.path("files/" + "d/" * 30)
        os.makedirs(deep)
        self.file(deep + "m", self.message(self.others))
        self.assertEqual(list(self.doctor(self.path("files"))), [self.path("files")])

    def test_scan(self):
        """The keyring is looked at, and the usual directories."""
        self.file("keyring/dek.pem", self.data_key(self.others))
        found = self.doctor("--scan", status=1)
        self.assertEqual(found[self.path("keyring/dek.pem")][0][0], "failed")
        self.assertEqual("/etc/ssl" in found, os.path.isdir("/etc/ssl"))
        os.unlink(self.path("keyring/dek.pem"))

    def test_names_from_outside(self):
        path = self.put("a\x1b[2Jb", b"text")
        run = self.cli("doctor", "--offline", "--config", self.mine, path)
        self.assertNotIn(b"\x1b", run.stdout)
        self.assertIn(b"a\\x1b[2Jb", run.stdout)

    def test_broken_configuration(self):
        path = self.put("m", self.message(self.mine))
        os.unlink(self.key_file)
        self.one(path, "failed")
        run = self.cli("doctor", "--offline", "--json", path, environment={"KMSENV_KMS": "nosuch"})
        self.assertEqual(run.returncode, 1)
        self.assertIn("cannot be judged", run.stdout.decode())


if __name__ == "__main__":
    main()
