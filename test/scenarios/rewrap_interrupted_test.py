"""kmsenv rewrap that dies in the middle of its work, and what the next one makes of that."""
import os
import sys

import common
import reader
from cli_common import main
from common import TEXT
from rewrap_common import MIB, LocalScenario

SHIM = os.environ.get("KMSENV_TEST_EXIT_SHIM") or os.path.join(common.BUILD, "test", "exit_shim.so")
DIED = 99


class Interrupted(LocalScenario):
    """A power cut before each change to the file system, and in the middle of each write."""

    def run_until_done(self, make, arguments, config, clone="no"):
        """make(): a fresh file's path and data. For each point of death: what is there is sound, or made so by the next rewrap."""
        for point in range(1, 60):
            path, data = make()
            original = self.read(path)
            run = self.cli("rewrap", *arguments, path, environment={"OPENSSL_CONF": config, "LD_PRELOAD": SHIM, "EXIT_SHIM_AT": str(point),
                                                                     "EXIT_SHIM_CLONE": clone})
            if run.returncode == 0:
                self.assertGreater(point, 6)
                return point
            self.assertEqual(run.returncode, DIED, run.stderr)
            self.check(path, data, original, config, arguments, point)
        self.fail("it never ends")

    def check(self, path, data, original, config, arguments, point):
        with self.subTest(point=point):
            now = self.read(path)
            journal = path + ".kmsenv-header"
            if now != original and os.path.exists(journal) and self.torn(now, config):
                self.torn_seen += 1
            else:
                self.opens(config, now, data)
            run = self.cli("rewrap", *arguments, path, environment={"OPENSSL_CONF": config})
            self.assertEqual((run.returncode, run.stderr), (0, b""), run)
            self.opens(config, self.read(path), data)
            self.assertEqual(reader.Header.parse(self.read(path)).parameters_der, reader.Header.parse(original).parameters_der)
            self.no_leftovers()

    def torn(self, message, config):
        return self.openssl("enc", "-d", "-kms-envelope", "-K", "0", data=message, config=config).returncode != 0

    def fresh(self, data):
        message = self.enc(self.main, data)

        def make():
            for name in os.listdir(self.dir):
                if name.startswith("message"):
                    os.unlink(self.path(name))
            return self.file("message", message), data

        self.torn_seen = 0
        return make

    def test_new_file(self):
        self.run_until_done(self.fresh(os.urandom(3 * MIB)), ("--add", "other"), self.both)
        self.assertEqual(self.torn_seen, 0)

    def test_in_place(self):
        make = self.fresh(os.urandom(2 * MIB))
        self.rotate()
        self.run_until_done(make, (), self.main)
        self.assertEqual(self.torn_seen, 1)

    def test_cloned(self):
        """Where blocks can be shared it is a new file, which shares them, and no journal."""
        make = self.fresh(os.urandom(2 * MIB))
        self.rotate()
        path, data = make()
        inode = os.stat(path).st_ino
        self.rewrap(self.main, path, done=1, environment={"LD_PRELOAD": SHIM, "EXIT_SHIM_CLONE": "yes"})
        self.assertNotEqual(os.stat(path).st_ino, inode)
        self.is_under(self.read(path), "main")
        self.opens(self.main, self.read(path), data)
        self.run_until_done(make, (), self.main, clone="yes")
        self.assertEqual(self.torn_seen, 0)

    def test_journals(self):
        """One that is not this message's, or not whole, must do no harm."""
        message = self.enc(self.main, os.urandom(2 * MIB))
        other = self.enc(self.main, b"other")
        own = reader.Header.parse(message).der
        for name, journal in (("empty", b""), ("half", own[:100]), ("other", reader.Header.parse(other).der), ("junk", os.urandom(200)),
                              ("long", own + b"x")):
            with self.subTest(name):
                path = self.file("message", message)
                self.file("message.kmsenv-header", journal)
                self.rewrap(self.both, "--to", "other", path, done=1)
                self.assertEqual(self.read(path)[len(reader.Header.parse(self.read(path)).der):], message[len(own):])
                self.is_under(self.read(path), "other")
                self.no_leftovers()

    def test_damaged_and_no_help(self):
        message = bytearray(self.enc(self.main, TEXT))
        message[30] ^= 1
        message[60] ^= 0x80
        message[80:90] = b"\xff" * 10
        path = self.file("message", bytes(message))
        self.file("message.kmsenv-header", b"x")
        before = self.state(path, self.path("message.kmsenv-header"))
        self.rewrap(self.both, "--to", "other", path, status=1, failed=1)
        self.assertEqual(self.state(path, self.path("message.kmsenv-header")), before)

    def test_dry_run_touches_no_journal(self):
        message = self.enc(self.main, TEXT)
        path = self.file("message", message)
        self.file("message.kmsenv-header", reader.Header.parse(message).der)
        before = self.state(path, self.path("message.kmsenv-header"))
        out, _ = self.rewrap(self.both, "--dry-run", "--verbose", "--to", "other", path, done=1, verb="would rewrap")
        self.assertIn("interrupted rewrap would be finished first", out)
        self.assertEqual(self.state(path, self.path("message.kmsenv-header")), before)


if __name__ == "__main__":
    if not os.path.exists(SHIM):
        sys.exit("no shim at %r: set KMSENV_TEST_EXIT_SHIM" % SHIM)
    main()
