"""kmsenv rewrap under local master keys: kinds of files, what stays as it was, what cannot be done."""
import fcntl
import os
import resource
import signal
import stat
import subprocess
import time

import common
import reader
from cli_common import CLI, NOBODY, main
from common import TEXT
from rewrap_common import DATA_KEY, MIB, SEALED, LocalScenario, key_in, pem, unpem

CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nMIIBtestTESTtest\n-----END CERTIFICATE-----\n"
PLAIN_KEY = b"-----BEGIN TEST KEY-----\nTESTtestTEST\n-----END TEST KEY-----\n"


class Kinds(LocalScenario):
    def body_is_kept(self, path, before, *names, prefix=0):
        after = self.read(path)
        old, new = reader.Header.parse(before[prefix:]), reader.Header.parse(after[prefix:])
        self.assertEqual(after[:prefix], before[:prefix])
        self.assertEqual(after[prefix + len(new.der):], before[prefix + len(old.der):])
        self.assertEqual((new.parameters_der, new.data_key.id), (old.parameters_der, old.data_key.id))
        self.assertNotEqual(new.data_key.wraps, old.data_key.wraps)
        self.is_under(new.der, *names)

    def test_message(self):
        """Of no byte, of a few, of some MiB: the body is what it was, and opens with the new profile alone."""
        for size in (0, 17, 5 * MIB + 1):
            with self.subTest(size=size):
                data = os.urandom(size)
                path = self.message("message-%d" % size, data)
                os.chmod(path, 0o640)
                before = self.read(path)
                self.rewrap(self.both, "--to", "other", path, done=1, in_kms=0, here=1, kept=0)
                self.body_is_kept(path, before, "other")
                self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o640)
                self.opens(self.other, self.read(path), data)
                run = self.openssl("enc", "-d", "-kms-envelope", "-K", "0", data=self.read(path), config=self.main)
                self.assertNotEqual(run.returncode, 0)
                self.no_leftovers()

    def test_renewal(self):
        """Header of the same size, small and large."""
        for size in (17, 3 * MIB):
            data = os.urandom(size)
            path = self.message("message", data)
            self.rotate()
            before = self.read(path)
            self.rewrap(self.main, path, done=1, here=1)
            self.body_is_kept(path, before, "main")
            self.assertEqual(os.path.getsize(path), len(before))
            self.opens(self.main, self.read(path), data)
            self.no_leftovers()

    def test_larger_and_smaller(self):
        path = self.message(data=os.urandom(2 * MIB))
        for arguments, names in ((("--add", "other"), ("main", "other")), (("--to", "other,main"), ("other", "main")),
                                 (("--to", "other", "--to", "main", "--force"), ("other", "main")), (("--to", "main"), ("main",))):
            with self.subTest(arguments):
                before = self.read(path)
                done = not (arguments[:1] == ("--to",) and arguments[1] == "other,main")     # the order does not matter
                self.rewrap(self.both, *arguments, path, done=int(done), unchanged=int(not done))
                if done:
                    self.body_is_kept(path, before, *names)

    def test_passphrase(self):
        """The prefix and the salt of -pass stay in front."""
        secret = ("-pass", "pass:TESTtest", "-pbkdf2")
        path = self.message("salted", TEXT, self.main, *secret)
        before = self.read(path)
        self.assertEqual(before[:8], b"Salted__")
        self.rewrap(self.both, "--to", "other", path, done=1)
        self.body_is_kept(path, before, "other", prefix=16)
        self.opens(self.other, self.read(path), TEXT, *secret)

    def test_caller_reads_it_under_the_same_context(self):
        tool = self.tool(self.main)
        message, = tool.seal([TEXT], context="app=billing")
        path = self.file("bound", message)
        self.rewrap(self.both, "--to", "other", path, done=1)
        wrap, = key_in(self.read(path)).wraps
        self.assertEqual(list(map(tuple, wrap.context)), [("app", "billing")])
        tool = self.tool(self.other)
        self.assertEqual(tool.open([self.read(path)], context="app=billing"), [TEXT], tool.last)
        self.assertEqual(tool.open([self.read(path)], context="app=other"), [None])

    def test_detached(self):
        config = self.config({"main": common.local_profile(self.files["main"])}, keyring=self.ring, wraps="detached")
        path = self.message(config=config)
        before = self.state(path)
        out, _ = self.rewrap(self.both, "--verbose", "--to", "other", path, skipped=1)
        self.assertRegex(out, "message: skipped: .*keyring")
        self.assertEqual(self.state(path), before)
        self.rewrap(self.both, "--to", "other", self.ring, done=1)
        self.opens(self.other, self.read(path))

    def test_data_key(self):
        for form in ("PEM", "DER"):
            run = self.openssl("genpkey", "-algorithm", "kms-envelope", "-outform", form, config=self.main)
            path = self.file("dek", run.stdout)
            self.rewrap(self.both, "--to", "other", path, done=1)
            der = unpem(self.read(path), DATA_KEY)[0] if form == "PEM" else self.read(path)
            self.is_under(der, "other")
            if form == "PEM":
                self.assertEqual(self.read(path), pem(DATA_KEY, der))

    def test_text_around(self):
        """Blocks of others, sealed keys, blank lines, no line feed at the end, line ends of another system: all of it stays."""
        _, key = self.keys["main"].new_data_key()
        sealed = self.enc(self.main, b"a key in PKCS#8, as it were")
        for name, parts, feed in (("lf", [b"# text\n\n", b"more\n\n", CERTIFICATE, PLAIN_KEY, b"the end"], b"\n"),
                                  ("crlf", [b"a\n", b"b\n", CERTIFICATE, b"", b""], b"\r\n")):
            with self.subTest(name):
                def text(data_key, message, parts=parts, feed=feed):
                    return b"".join([parts[0], pem(DATA_KEY, data_key), parts[1], parts[2], pem(SEALED, message), parts[3],
                                     parts[4]]).replace(b"\n", feed)
                before = text(key.encode(), sealed)
                path = self.file("text.pem", before)
                os.chmod(path, 0o440)
                self.rewrap(self.both, "--to", "other", path, done=1, here=2)
                after = self.read(path)
                data_key, message = unpem(after, DATA_KEY)[0], unpem(after, SEALED)[0]
                self.assertEqual(after, text(data_key, message))
                self.is_under(data_key, "other")
                self.is_under(message, "other")
                self.opens(self.other, message, b"a key in PKCS#8, as it were")
                self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o440)
                os.unlink(path)

    def test_sealed_key(self):
        """It loads as the same private key, under the new profile alone."""
        key = self.openssl("genpkey", "-algorithm", "ED25519", "-outform", "DER").stdout
        public = self.openssl("pkey", "-inform", "DER", "-pubout", data=key).stdout
        self.assertIn(b"PUBLIC KEY", public)
        path = self.file("sealed.pem", CERTIFICATE + pem(SEALED, self.enc(self.main, key)))
        self.rewrap(self.both, "--to", "other", path, done=1, here=1)
        self.assertEqual(self.openssl("pkey", "-in", path, "-pubout", config=self.other).stdout, public)
        self.assertNotEqual(self.openssl("pkey", "-in", path, "-pubout", config=self.main).returncode, 0)
        self.assertTrue(self.read(path).startswith(CERTIFICATE))

    def test_no_kind_of_ours(self):
        message = self.read(self.message())
        for name, data, words in (("empty", b"", "neither a message nor"), ("text", b"some text\n", "neither a message nor"),
                                  ("certificate", CERTIFICATE, "neither a message nor"), ("der", b"\x30\x03\x02\x01\x05", "neither|malformed"),
                                  ("base64", self.enc(self.main, TEXT, "-K", "0", "-a"), "base64"),
                                  ("short", message[:100], "header has|malformed"), ("large", bytes(5 * MIB), "too large"),
                                  ("no-end", pem(SEALED, message)[:-20], "damaged"), ("cut", pem(SEALED, message[:99]), "line 1.*cut off"),
                                  ("headers", pem(DATA_KEY, b"x").replace(b"KEY-----\n", b"KEY-----\nA: b\n\n", 1), "headers"),
                                  ("other", pem(DATA_KEY, b"\x30\x03\x02\x01\x05"), "line 1, KMS DATA KEY: .*malformed"),
                                  ("damaged", message[:30] + b"\xff" + message[31:], "another data key")):
            with self.subTest(name):
                path = self.file(name, data)
                before = self.state(path, self.dir)
                _, errors = self.rewrap(self.both, "--to", "other", path, status=1, failed=1)
                self.assertRegex(errors, "%s: .*(%s)" % (name, words))
                self.assertEqual(self.state(path, self.dir), before)

    def test_one_bad_block_spoils_the_file(self):
        """All of a file or nothing."""
        _, good = self.keys["main"].new_data_key()
        path = self.file("two.pem", pem(DATA_KEY, good.encode()) + pem(DATA_KEY, b"\x30\x00"))
        before = self.state(path)
        self.rewrap(self.both, "--to", "other", path, status=1, failed=1)
        self.assertEqual(self.state(path), before)


class Plans(LocalScenario):
    def test_dry_run(self):
        path, keys = self.message(data=os.urandom(2 * MIB)), self.fill(3)
        before = self.state(path, self.ring, self.dir, *(os.path.join(self.ring, key) for key in keys))
        out, _ = self.rewrap(self.both, "--dry-run", "--verbose", "--to", "other", path, self.ring, done=4, here=4, verb="would rewrap")
        self.assertEqual(out.count("would be rewrapped: other wrapped here"), 4)
        self.assertEqual(self.state(path, self.ring, self.dir, *(os.path.join(self.ring, key) for key in keys)), before)

    def test_again(self):
        """A run can be repeated, and does only what is left."""
        keys = self.fill(5)
        self.rewrap(self.both, "--to", "other", os.path.join(self.ring, keys[0]), done=1)
        self.rewrap(self.both, "--to", "other", self.ring, done=4, unchanged=1)
        before = self.state(*(os.path.join(self.ring, key) for key in keys))
        out, _ = self.rewrap(self.both, "--verbose", "--to", "other", self.ring, unchanged=5)
        self.assertEqual(out.count(": unchanged: "), 5)
        self.assertEqual(self.state(*(os.path.join(self.ring, key) for key in keys)), before)
        self.rewrap(self.both, "--to", "other", "--force", self.ring, done=5)
        self.ring_is_under(keys, "other")

    def test_wraps_of_others_are_kept(self):
        """Renewal is for the wraps that somebody here answers for; a file without one is a failure."""
        path = self.message(config=self.both)
        self.rotate("main")
        self.rotate("other")
        old = key_in(self.read(path)).wraps
        out, _ = self.rewrap(self.main, "--verbose", path, done=1, here=1, kept=1)
        self.assertRegex(out, "local:%s kept" % self.keys["other"].id)
        new = key_in(self.read(path)).wraps
        self.assertEqual((self.version(new[0]), new[1].encode()), (2, old[1].encode()))
        self.rewrap(self.both, "--to", "main", path, done=1)
        before = self.state(path)
        _, errors = self.rewrap(self.other, path, status=1, failed=1)
        self.assertIn("no configured profile answers", errors)
        self.assertEqual(self.state(path), before)

    def test_verify(self):
        path = self.message()
        audit = self.path("audit.log")
        config = self.config({name: common.local_profile(path) for name, path in self.files.items()}, audit_log=audit)
        self.rewrap(config, "--to", "other", "--verify", path, done=1)
        self.assertEqual(self.read(audit).count(b'"operation":"decrypt"'), 2)
        self.opens(self.other, self.read(path))

    def test_one_profile_fails(self):
        """All the wraps or none."""
        path = self.message()
        before = self.state(path)
        os.rename(self.files["other"], self.path("elsewhere"))
        _, errors = self.rewrap(self.both, "--to", "main,other", "--force", path, status=1, failed=1)
        self.assertIn("other.key", errors)
        self.assertEqual(self.state(path), before)

    def test_in_kms(self):
        """A local key is in this process."""
        path = self.message()
        before = self.state(path)
        _, errors = self.rewrap(self.main, "--in-kms", path, status=1, failed=1)
        self.assertRegex(errors, "profile main: .*not to leave the KMS")
        self.assertEqual(self.state(path), before)

    def test_usage(self):
        for arguments in ([], ["--to"], ["--to", "main", "--add", "other", "x"], ["--add", "main", "--to", "other", "x"], ["--rate", "0", "x"],
                          ["--rate", "-1", "x"], ["--rate", "1.5", "x"], ["--rate", "1000001", "x"], ["--jobs", "0", "x"], ["--jobs", "65", "x"],
                          ["--jobs", "", "x"], ["--verify", "--in-kms", "x"], ["--frob", "x"], ["--force=yes", "x"]):
            with self.subTest(arguments):
                self.fails(2, "rewrap", *arguments, environment={"OPENSSL_CONF": self.both})

    def test_wrong_profiles(self):
        path = self.message()
        for names in ("none", "", "main,none", "main,main"):
            self.assertRegex(self.fails(1, "rewrap", "--to", names, path, environment={"OPENSSL_CONF": self.both}), "profile")
        self.assertIn("no KMS is configured", self.fails(1, "rewrap", path, environment={"OPENSSL_CONF": self.config({})}))

    def test_pace(self):
        """Two operations a file: the last of them begins no sooner than this."""
        keys = self.fill(6)
        started = time.monotonic()
        self.rewrap(self.main, "--rate", "20", "--jobs", "3", self.ring, done=6)
        self.assertGreaterEqual(time.monotonic() - started, 11 / 20)
        self.ring_is_under(keys, "main")


class Keyring(LocalScenario):
    def test_two_thousand(self):
        """And what else is in such a directory: not touched, but counted."""
        keys = self.fill(2000)
        self.rotate()
        good = keys[0][:-4]
        for name in (good.upper() + ".pem" if good.upper() != good else "A.pem", good + ".pem.bak", good + ".PEM", "0" + good + ".pem", good, "notes"):
            self.file("ring/" + name, b"something else")
        os.mkdir(os.path.join(self.ring, "folder"))
        others = [os.path.join(self.ring, name) for name in os.listdir(self.ring) if name not in keys]
        before = self.state(*others)
        self.assertEqual(len(others), 7)
        self.rewrap(self.main, "--jobs", "8", self.ring, done=2000, here=2000, skipped=7)
        self.assertEqual(self.state(*others), before)
        self.ring_is_under(keys, "main")
        self.assertEqual(len(os.listdir(self.ring)), 2007)

    def test_bad_files(self):
        keys = self.fill(8)
        paths = [os.path.join(self.ring, key) for key in keys]
        data = self.read(paths[0])
        outside = self.file("outside.pem", self.read(paths[6]))
        self.file("ring/" + keys[0], data[:-40])                                # damaged
        self.file("ring/" + keys[1], self.read(paths[2]))                       # of another id
        os.unlink(paths[3])
        os.mkdir(paths[3])                                                      # no file
        os.unlink(paths[4])
        os.mkfifo(paths[4])                                                     # nobody writes to it
        os.unlink(paths[5])
        os.symlink("/nonexistent", paths[5])
        os.unlink(paths[6])
        os.symlink("../outside.pem", paths[6])
        before = self.state(*paths[:2])
        _, errors = self.rewrap(self.both, "--to", "other", self.ring, status=1, done=3, failed=5)
        self.assertEqual(len(errors.splitlines()), 5)
        self.assertEqual(self.state(*paths[:2]), before)
        self.ring_is_under([keys[2], keys[7]], "other")
        self.assertTrue(os.path.islink(paths[6]))
        self.is_under(unpem(self.read(outside), DATA_KEY)[0], "other")

    def test_empty_and_missing(self):
        self.rewrap(self.main, self.ring)
        _, errors = self.rewrap(self.main, self.path("none"), self.ring, status=1, failed=1)
        self.assertIn("No such file", errors)

    def test_no_key_file_ends_the_run(self):
        """What would be the same for every file is said a few times, not a million times."""
        self.fill(100)
        os.unlink(self.files["main"])
        run = self.cli("rewrap", "--jobs", "1", self.ring, environment={"OPENSSL_CONF": self.main})
        lines = run.stderr.decode().splitlines()
        self.assertEqual((run.returncode, len(lines)), (1, 11), lines)
        self.assertIn("stopped, because 10 files in a row", lines[-1])

    def test_stopped_by_a_signal(self):
        keys = self.fill(300)
        before = {key: self.read(os.path.join(self.ring, key)) for key in keys}
        process = subprocess.Popen([CLI, "rewrap", "--to", "other", "--rate", "50", self.ring], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env=common.clean_environment(HOME=self.dir, OPENSSL_CONF=self.both))
        self.addCleanup(process.kill)
        deadline = time.monotonic() + 30
        while all(self.read(os.path.join(self.ring, key)) == data for key, data in before.items()) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 1, errors)
        self.assertIn(b"stopped by a signal", errors)
        self.no_leftovers(self.ring)
        changed = [key for key in keys if self.read(os.path.join(self.ring, key)) != before[key]]
        self.assertTrue(0 < len(changed) < 300)
        self.assertIn(b"rewrapped %d, unchanged 0, failed 0" % len(changed), out)
        self.ring_is_under(changed, "other")
        self.rewrap(self.both, "--to", "other", self.ring, done=300 - len(changed), unchanged=len(changed))

    def test_two_at_once(self):
        """Each file ends up as one of them wanted it; where they meet, one says so."""
        keys = self.fill(300)
        run = [subprocess.Popen([CLI, "rewrap", "--force", "--to", name, self.ring], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env=common.clean_environment(HOME=self.dir, OPENSSL_CONF=self.both)) for name in ("main", "other")]
        for process in run:
            _, errors = process.communicate(timeout=60)
            for line in errors.splitlines():
                self.assertRegex(line, b"another kmsenv rewrap is at work|changed meanwhile|replaced again")
        self.no_leftovers(self.ring)
        for key in keys:
            der, = unpem(self.read(os.path.join(self.ring, key)), DATA_KEY)
            self.is_under(der, "main" if key_in(der).wraps[0].key_id == self.keys["main"].id else "other")


class FileSystem(LocalScenario):
    def as_nobody(self):
        """How to run without root's rights, which would make every test of permissions pass."""
        if os.geteuid() != 0:
            return {}
        for folder, _, names in os.walk(self.dir):
            for name in [folder, *(os.path.join(folder, name) for name in names)]:
                os.chown(name, 65534, 65534)
        return NOBODY

    def test_read_only_directory(self):
        keys = self.fill(3)
        path = self.message()
        nobody = self.as_nobody()
        os.chmod(self.ring, 0o555)
        os.chmod(self.dir, 0o555)
        self.addCleanup(os.chmod, self.dir, 0o755)
        self.addCleanup(os.chmod, self.ring, 0o755)
        before = self.state(path, *(os.path.join(self.ring, key) for key in keys))
        _, errors = self.rewrap(self.both, "--to", "other", self.ring, status=1, **nobody)
        self.assertRegex(errors, "ring: the directory cannot be written: Permission denied")
        _, errors = self.rewrap(self.both, "--to", "other", path, status=1, failed=1, **nobody)
        self.assertRegex(errors, "message: cannot create a new file beside it: Permission denied")
        self.assertEqual(self.state(path, *(os.path.join(self.ring, key) for key in keys)), before)

    def test_unreadable(self):
        keys = self.fill(3)
        nobody = self.as_nobody()
        os.chmod(os.path.join(self.ring, keys[0]), 0)
        _, errors = self.rewrap(self.both, "--to", "other", self.ring, status=1, done=2, failed=1, **nobody)
        self.assertRegex(errors, "%s: cannot be opened: Permission denied" % keys[0])
        self.ring_is_under(keys[1:], "other")

    def test_full_disk(self):
        """As far as it went is removed."""
        path = self.message(data=os.urandom(3 * MIB))
        before = self.state(path)

        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, 2 * MIB))

        _, errors = self.rewrap(self.both, "--add", "other", path, status=1, failed=1, preexec_fn=limit)
        self.assertRegex(errors, "message: cannot write the new file: File too large")
        self.assertEqual(self.state(path), before)
        self.no_leftovers()

    def test_links(self):
        path = self.message()
        before = self.read(path)
        os.symlink("message", self.path("link"))
        os.mkdir(self.path("there"))
        os.symlink("../link", self.path("there/far"))
        self.rewrap(self.both, "--to", "other", self.path("there/far"), done=1)
        self.assertTrue(os.path.islink(self.path("link")))
        self.assertNotEqual(self.read(path), before)
        self.opens(self.other, self.read(path))
        os.link(path, self.path("second"))
        state = self.state(path)
        _, errors = self.rewrap(self.both, "--add", "main", path, status=1, failed=1)
        self.assertIn("2 hard links", errors)
        self.assertEqual(self.state(path), state)
        # a header of the same size needs no other file
        self.rotate("other")
        self.rewrap(self.other, path, done=1)
        self.assertEqual(os.stat(path).st_ino, os.stat(self.path("second")).st_ino)
        self.is_under(self.read(path), "other")
        self.no_leftovers()

    def test_attributes(self):
        path = self.message(data=os.urandom(100))
        given = b"kept"
        try:
            os.setxattr(path, "user.kmsenv-test", given)
        except OSError:
            given = None            # a file system without them
        os.chmod(path, 0o604)
        if os.geteuid() == 0:
            os.chown(path, 12345, 23456)
        before = os.stat(path)
        self.rewrap(self.both, "--to", "other", path, done=1)
        after = os.stat(path)
        self.assertEqual((after.st_mode, after.st_uid, after.st_gid), (before.st_mode, before.st_uid, before.st_gid))
        if given is not None:
            self.assertEqual(os.getxattr(path, "user.kmsenv-test"), given)

    def test_somebody_else_is_at_work(self):
        path = self.message()
        before = self.state(path)
        with open(path, "rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            _, errors = self.rewrap(self.both, "--to", "other", path, status=1, failed=1)
        self.assertIn("another kmsenv rewrap is at work", errors)
        self.assertEqual(self.state(path), before)
        self.rewrap(self.both, "--to", "other", path, done=1)

    def test_what_a_killed_one_left(self):
        path = self.message()
        self.file("message.kmsenv-new", b"half a file")
        self.rewrap(self.both, "--to", "other", path, done=1)
        self.opens(self.other, self.read(path))
        self.no_leftovers()


if __name__ == "__main__":
    main()
