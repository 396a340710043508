"""The commands kmsenv seal and open: the same format as openssl enc, keys, names and modes, and parts of a message."""
import os
import stat
import subprocess
import time

import common
import reader
from cli_common import CLI, main
from seal_open_common import ENC, FULL, Sealing

HELD = 1 << 26                       # the largest segment that is held in memory


class Interchange(Sealing):
    SIZES = (0, 1, 16, 4095, 4096, 4097, 8192, 8193, 3 * 4096, 100000, 262143, 262144, 262145, 1 << 20, (1 << 20) + 77)

    def test_sizes_threads_and_ways(self):
        """Through pipes and files, by one thread and by many; openssl enc and the independent reader read it."""
        key = reader.LocalKey(self.key_file)
        for size in self.SIZES:
            data = self.contents(size, size)
            self.file("plain", data)
            for threads in ("1", "2", "8"):
                with self.subTest(size=size, threads=threads):
                    piped = self.sealed(data, "--threads", threads, "--segment-bits", "12")
                    self.assertEqual(reader.open_message(piped, key.dek_of(piped)), data)
                    self.assertEqual(reader.Header.parse(piped).segment_bits, 12)
                    self.assertEqual(self.done("open", "--threads", threads, data=piped), data)
                    self.done("seal", "--force", "--threads", threads, "plain")
                    message = self.read(self.path("plain.kms"))
                    header = reader.Header.parse(message)
                    self.assertEqual((len(message) - len(header.der) - size) // 17, max(1, -(-size >> header.segment_bits)))
                    self.assertEqual(self.enc("-d", message), data)
                    self.done("open", "--threads", threads, "-o", "back", "-f", "plain.kms")
                    self.assertEqual(self.read(self.path("back")), data)
                    self.assertEqual(self.done("open", "-o", "-", "--threads", threads, "plain.kms"), data)
                    self.assertEqual(self.done("open", data=message), data)
        self.assertEqual(self.names(), ["back", "plain", "plain.kms"])

    def test_what_enc_makes(self):
        """One segment of 2^35 bytes at most, or small ones as configured."""
        small = self.config({"main": common.local_profile(self.key_file)}, segment_bits=13)
        for config in (None, small):
            for size in (0, 5, 8192, 8193, 300000):
                data = self.contents(size)
                message = self.enc("-e", data, config)
                self.file("m.kms", message)
                self.assertEqual(self.done("open", data=message), data)
                self.assertEqual(self.done("open", "-o", "-", "m.kms"), data)
                self.done("open", "-f", "m.kms")
                self.assertEqual(self.read(self.path("m")), data)

    def test_segments_that_are_not_held(self):
        """Above 64 MiB: from a file twice, to a file at once, and from a pipe only if that was asked for."""
        size = HELD + 300001
        with open(self.path("plain"), "wb") as out:
            out.write(self.contents(1 << 20) * 65)
            out.truncate(size)
        data = self.read(self.path("plain"))
        self.done("seal", "--segment-bits", "35", "plain")
        message = self.read(self.path("plain.kms"))
        self.assertEqual(reader.Header.parse(message).segment_bits, 35)
        self.assertTrue(self.done("open", "-o", "-", "plain.kms") == data)
        self.done("open", "-o", "back", "plain.kms")
        self.assertTrue(self.read(self.path("back")) == data)
        self.assertIn("--stream", self.refused("open", data=message))
        self.assertTrue(self.done("open", "--stream", data=message) == data)
        self.done("open", "-o", "back", "-f", data=message)
        self.assertTrue(self.read(self.path("back")) == data)
        self.assertEqual(self.done("open", "--range", "67108860-67108870", "plain.kms"), data[67108860:67108871])
        self.assertTrue(self.done("open", data=self.sealed(data, "--segment-bits", "35")[:0] or self.sealed(data)) == data)
        piped = self.sealed(data, "--segment-bits", "30")
        self.assertTrue(self.enc("-d", piped) == data)
        # The very last byte is wrong: nothing of it may come out, but as a stream.
        damaged = bytearray(message)
        damaged[-1] ^= 1
        self.file("bad.kms", bytes(damaged))
        self.assertIn("segment 0", self.refused("open", "-o", "-", "bad.kms"))
        self.refused("open", "bad.kms")
        self.assertIn("segment 0", self.refused("open", "-o", "bad", data=bytes(damaged)))
        self.assertFalse(os.path.exists(self.path("bad")))
        run = self.run_cli("open", "--stream", data=bytes(damaged))
        self.assertEqual((run.returncode, len(run.stdout) > HELD), (1, True))

    def test_several_segments_that_are_not_held(self):
        full, size = 1 << 27, (1 << 27) + 300001
        with open(self.path("plain"), "wb") as out:
            out.truncate(size)
            for at in (0, full - 5, size - 10):
                out.seek(at)
                out.write(b"0123456789")
        plain = self.read(self.path("plain"))
        for threads in ("1", "4"):
            self.done("seal", "-f", "--threads", threads, "--segment-bits", "27", "plain")
            for arguments in (["-o", "-"], ["-f", "-o", "back"]):
                out = self.done("open", "--threads", threads, *arguments, "plain.kms") or self.read(self.path("back"))
                self.assertTrue(out == plain)
            self.assertEqual(self.done("open", "--threads", threads, "--range", "%d-%d" % (full - 5, full + 4), "plain.kms"), b"0123456789")
            self.assertEqual(self.done("open", "--threads", threads, "--range=-10", "plain.kms"), b"0123456789")
        run = subprocess.run([common.OPENSSL, *ENC, "-d", "-in", self.path("plain.kms")], capture_output=True, timeout=120,
                             env=common.clean_environment(**self.environment))
        self.assertTrue(run.stdout == plain)
        with open(self.path("plain.kms"), "r+b") as message:
            message.seek(-20, os.SEEK_END)
            message.write(b"x")
        self.assertIn("segment 1 ", self.refused("open", "-o", "-", "plain.kms"))
        self.assertEqual(self.done("open", "--range", "0-9", "plain.kms"), b"0123456789")

    def test_setting_of_the_segment_size(self):
        self.assertEqual(reader.Header.parse(self.sealed(b"x")).segment_bits, 18)
        self.use(self.config({"main": common.local_profile(self.key_file)}, segment_bits=20))
        self.assertEqual(reader.Header.parse(self.sealed(b"x")).segment_bits, 20)
        self.assertEqual(reader.Header.parse(self.sealed(b"x", "--segment-bits", "16")).segment_bits, 16)

    def test_the_kernels_own_files_and_devices(self):
        self.done("seal", "-o", "zero.kms", "/dev/null")
        self.assertEqual(self.done("open", "-o", "-", "zero.kms"), b"")
        self.done("seal", "-o", "v.kms", "/proc/version")
        self.assertEqual(self.done("open", "-o", "-", "v.kms"), self.read("/proc/version"))
        self.done("open", "-o", "/dev/null", "v.kms")
        self.assertTrue(stat.S_ISCHR(os.stat("/dev/null").st_mode))

    def test_from_where_a_file_stands(self):
        """Standard input may be a file of which others read the start."""
        self.file("f", b"skipped" + b"x" * 5000)
        with open(self.path("f"), "rb") as f:
            os.lseek(f.fileno(), 7, os.SEEK_SET)
            run = subprocess.run([CLI, "seal"], stdin=f, capture_output=True, timeout=60, cwd=self.dir,
                                 env=common.clean_environment(HOME=self.dir, **self.environment))
        message = run.stdout
        self.file("m", b"junk" + message)
        with open(self.path("m"), "rb") as f:
            os.lseek(f.fileno(), 4, os.SEEK_SET)
            run = subprocess.run([CLI, "open"], stdin=f, capture_output=True, timeout=60, cwd=self.dir,
                                 env=common.clean_environment(HOME=self.dir, **self.environment))
        self.assertEqual((run.returncode, run.stdout), (0, b"x" * 5000))

    def test_several_files_use_one_data_key(self):
        for name in "abc":
            self.file(name, name.encode() * 9)
        self.done("seal", "a", "b", "c")
        self.assertEqual(len({reader.Header.parse(self.read(self.path(n + ".kms"))).data_key.id for n in "abc"}), 1)
        for name in "abc":
            os.unlink(self.path(name))
        self.done("open", "a.kms", "b.kms", "c.kms")
        self.assertEqual([self.read(self.path(n)) for n in "abc"], [b"a" * 9, b"b" * 9, b"c" * 9])


class Keys(Sealing):
    def test_profiles_and_context(self):
        other = common.local_key_file(self.path("other.pem"))
        self.use(self.config({"main": common.local_profile(self.key_file), "escrow": common.local_profile(other)}))
        self.assertEqual(len(reader.Header.parse(self.sealed(b"x")).data_key.wraps), 2)
        message = self.sealed(b"x", "--profile", "escrow", "--context", "app=backup,host=a")
        wraps = reader.Header.parse(message).data_key.wraps
        self.assertEqual([(w.key_id, w.context) for w in wraps], [(reader.LocalKey(other).id, [("app", "backup"), ("host", "a")])])
        self.assertEqual(self.done("open", "--context", "app=backup", data=message), b"x")
        self.assertIn("context", self.refused("open", "--context", "app=other", data=message))
        self.assertIn("not configured", self.refused("seal", "--profile", "nobody", data=b"x"))

    def test_second_factor(self):
        secret = self.contents(32)
        self.file("key", secret)
        self.file("key.hex", secret.hex() + "\n")
        message = self.sealed(b"twice", "--key-file", "key")
        self.assertEqual(reader.open_message(message, reader.LocalKey(self.key_file).dek_of(message), secret), b"twice")
        for name in ("key", "key.hex"):
            self.assertEqual(self.done("open", "--key-file", name, data=message), b"twice")
        run = self.openssl("enc", "-d", "-kms-envelope", "-K", secret.hex(), config=self.environment["OPENSSL_CONF"], data=message)
        self.assertEqual(run.stdout, b"twice")
        self.assertIn("wrong key", self.refused("open", data=message))
        for bad in (b"", bytes(32), secret[:31], secret + b"x", b"g" * 64, secret.hex().encode()[:63], b"kmsenv:\1" + secret[:24]):
            self.file("bad", bad)
            self.assertIn("accepted", self.refused("seal", "--key-file", "bad", data=b"x"), bad)
        self.assertIn("cannot be read", self.refused("seal", "--key-file", "absent", data=b"x"))

    def test_given_data_key(self):
        ring = self.path("ring")
        os.mkdir(ring)
        config = self.config({"main": common.local_profile(self.key_file)}, keyring=ring)
        self.use(config)
        message = self.sealed(b"apart", "--detached")
        header = reader.Header.parse(message)
        self.assertEqual(header.data_key.wraps, [])
        name = header.data_key.id.hex()
        self.assertEqual(os.listdir(ring), [name + ".pem"])
        self.assertEqual(self.done("open", data=message), b"apart")
        reference = (b"kmsenv:\1" + header.data_key.id).hex()
        for key in (name, reference, os.path.join(ring, name + ".pem")):
            again = self.sealed(b"again", "--data-key", key)
            self.assertEqual(reader.Header.parse(again).data_key.id, header.data_key.id)
            self.assertEqual(self.done("open", data=again), b"again")
        self.assertIn("00" * 24, self.refused("seal", "--data-key", "00" * 24, data=b"x"))
        self.assertIn("--data-key", self.refused("seal", "--data-key", "nothing", data=b"x"))
        self.assertIn("KMS DATA KEY", self.refused("seal", "--data-key", config, data=b"x"))


class Names(Sealing):
    def test_usage(self):
        self.file("a", b"x")
        for arguments in (["seal", "--frob"], ["seal", "-o", "x", "a", "b"], ["seal", "--threads", "0", "a"], ["seal", "--threads", "65"],
                          ["seal", "--threads", "2x"], ["seal", "--segment-bits", "11"], ["seal", "--segment-bits", "36"], ["seal", "-x"],
                          ["seal", "--range", "0-1"], ["open", "--range", "0-1", "a", "b"], ["open", "--segment-bits", "12"],
                          ["open", "--range", "0-1", "--keep", "a"], ["seal", "-o"],
                          ["seal", "--data-key", "x", "--profile", "y", "a"]):
            with self.subTest(arguments):
                self.refused(*arguments, status=2)
        self.assertEqual(self.names(), ["a"])

    def test_refused(self):
        self.file("a", b"x")
        os.mkdir(self.path("dir"))
        self.file("text.kms", b"no message at all")
        self.file("short.kms", b"\x30")
        self.file("empty.kms", b"")
        self.done("seal", "a")
        self.file("coded.kms", self.openssl("base64", data=self.read(self.path("a.kms"))).stdout)
        self.file("salted.kms", b"Salted__12345678" + self.read(self.path("a.kms")))
        before = self.names()
        for words, arguments in {
                "is a directory": ["seal", "dir"], "dir is a directory": ["seal", "-o", "dir", "a"], "cannot be opened": ["seal", "absent"],
                "exists already": ["seal", "a"], "does not end in .kms": ["open", "a"], "not a kmsenv message": ["open", "text.kms"],
                "short.kms: not a": ["open", "short.kms"], "empty.kms: not a": ["open", "empty.kms"], "base64 -d": ["open", "coded.kms"],
                "passphrase": ["open", "salted.kms"], "nowhere/x: a file cannot": ["seal", "-o", "nowhere/x", "a"],
                "--keep needs a file": ["seal", "--keep", "-o", "-", "a"]}.items():
            with self.subTest(words):
                self.assertIn(words, self.refused(*arguments))
        self.assertIn("--keep needs", self.refused("seal", "--keep", "-o", "new", data=b"x"))
        for name in (".kms", "dir/.kms"):
            self.file(name, self.read(self.path("a.kms")))
            self.assertIn("does not end in .kms", self.refused("open", name))
            os.unlink(self.path(name))
        self.assertEqual(self.names(), before)

    def test_not_onto_itself(self):
        self.file("a", b"x" * 100)
        os.link(self.path("a"), self.path("b"))
        os.symlink("a", self.path("c"))
        for name in ("a", "b", "c"):
            self.assertIn("the input itself", self.refused("seal", "--force", "-o", name, "a"))
        with open(self.path("a"), "ab") as out:
            run = subprocess.run([CLI, "seal", "a"] + ["-o", "-"], stdout=out, stderr=subprocess.PIPE, timeout=60, cwd=self.dir,
                                 env=common.clean_environment(HOME=self.dir, **self.environment))
        self.assertEqual(run.returncode, 1)
        self.assertIn(b"the input itself", run.stderr)
        self.assertEqual(self.read(self.path("a")), b"x" * 100)

    def test_force_replaces_and_follows_links(self):
        self.file("a", b"x")
        self.file("target", b"old")
        os.symlink("target", self.path("link"))
        self.refused("seal", "-o", "link", "a")
        self.assertEqual(self.read(self.path("target")), b"old")
        self.done("seal", "-f", "-o", "link", "a")
        self.assertTrue(os.path.islink(self.path("link")))
        self.assertEqual(self.done("open", "-o", "-", "target"), b"x")
        os.symlink("nowhere", self.path("dangling"))
        self.assertIn("--force", self.refused("seal", "-o", "dangling", "a"))
        self.assertEqual(self.names(), ["a", "dangling", "link", "target"])

    def test_one_bad_file_among_several(self):
        self.file("a", b"1")
        self.file("c", b"3")
        text = self.refused("seal", "a", "absent", "c")
        self.assertEqual(text.count("\n"), 1)
        self.assertEqual(self.names(), ["a", "a.kms", "c", "c.kms"])

    def test_modes_and_times(self):
        def mode(name):
            return stat.S_IMODE(os.stat(self.path(name)).st_mode)

        def run(umask, *arguments):
            return self.done(*arguments, preexec_fn=lambda: os.umask(umask))
        self.file("a", b"x")
        os.chmod(self.path("a"), 0o640)
        os.utime(self.path("a"), ns=(1000000001, 1234567890987654321))
        run(0o027, "seal", "a")
        self.assertEqual(mode("a.kms"), 0o640)
        run(0o022, "seal", "-f", "a")
        self.assertEqual(mode("a.kms"), 0o644)
        for sealed, opened in ((0o600, 0o600), (0o400, 0o600), (0o444, 0o644), (0o666, 0o644)):
            os.chmod(self.path("a.kms"), sealed)
            run(0o022, "open", "-f", "-o", "b", "a.kms")
            self.assertEqual(mode("b"), opened, oct(sealed))
        run(0o022, "seal", "-f", "--keep", "a")
        run(0o022, "open", "-f", "--keep", "-o", "b", "a.kms")
        for name in ("a.kms", "b"):
            self.assertEqual(mode(name), 0o640)
            self.assertEqual(os.stat(self.path(name)).st_mtime_ns, 1234567890987654321)
            self.assertEqual(os.stat(self.path(name)).st_uid, os.stat(self.path("a")).st_uid)


class Ranges(Sealing):
    def setUp(self):
        super().setUp()
        self.plain = self.contents(10 * FULL + 123)
        self.file("m.kms", self.sealed(self.plain, "--segment-bits", "12"))

    def test_parts(self):
        size = len(self.plain)
        for text, expected in (("0-0", self.plain[:1]), ("0-4095", self.plain[:4096]), ("4095-4096", self.plain[4095:4097]),
                               ("5000-20000", self.plain[5000:20001]), ("%d-" % (size - 1), self.plain[-1:]), ("0-", self.plain),
                               ("-1", self.plain[-1:]), ("-5000", self.plain[-5000:]), ("-999999", self.plain), ("8192-", self.plain[8192:]),
                               ("0-%d" % (size - 1), self.plain)):
            for threads in ("1", "3"):
                self.assertEqual(self.done("open", "--range", text, "--threads", threads, "m.kms"), expected, text)
            self.done("open", "--range", text, "-f", "-o", "part", "m.kms")
            self.assertEqual(self.read(self.path("part")), expected, text)

    def test_refused(self):
        size = len(self.plain)
        for text in ("%d-" % size, "0-%d" % size, "99999999999999999999-", "5-4", "-", "--", "-0", "a-b", "1", "1-2-3", " 1-2", "1-+2", "0x1-2", ""):
            self.refused("open", "--range=" + text, "m.kms")
        self.assertIn("needs a file", self.refused("open", "--range", "0-1", data=self.read(self.path("m.kms"))))
        self.file("e.kms", self.sealed(b""))
        self.refused("open", "--range", "0-", "e.kms")

    def test_only_the_segments_that_are_needed(self):
        """All the others are damaged; each one that is needed is verified."""
        message = bytearray(self.read(self.path("m.kms")))
        header = len(reader.Header.parse(bytes(message)).der)
        for number in range(11):
            if number not in (4, 5):
                message[header + number * (FULL + 17) + 3] ^= 1
        self.file("d.kms", bytes(message))
        first, last = 4 * FULL, 6 * FULL - 1
        self.assertEqual(self.done("open", "--range", "%d-%d" % (first, last), "d.kms"), self.plain[first:last + 1])
        self.assertEqual(self.done("open", "--range", "%d-%d" % (first + 9, first + 10), "d.kms"), self.plain[first + 9:first + 11])
        for start, end in ((first - 1, last), (first, last + 1)):
            self.refused("open", "-o", "part", "--range", "%d-%d" % (start, end), "d.kms")
            self.assertFalse(os.path.exists(self.path("part")))

    def test_end_of_a_cut_message(self):
        """Cut between segments, a part before that is still there; but what reaches to the end is found out."""
        message = self.read(self.path("m.kms"))
        header = len(reader.Header.parse(message).der)
        self.file("cut.kms", message[:header + 3 * (FULL + 17)])
        self.assertEqual(self.done("open", "--range", "0-9", "cut.kms"), self.plain[:10])
        for text in ("0-", "-5"):
            self.assertIn("it was cut", self.refused("open", "-o", "part", "--range", text, "cut.kms"))

    def test_far_into_a_large_file(self):
        """The last bytes of a TiB, which nobody could read as a whole here: a message with holes where segments would be."""
        dek, data_key = reader.LocalKey(self.key_file).new_data_key()
        message = reader.write_message(self.plain, dek, data_key, 12)
        header = reader.Header.parse(message)
        number = (1 << 40) // FULL - 1
        key, _ = reader.derive(dek, None, header.cipher, 12, header.salt)
        data = self.contents(FULL, 3)
        sealed = reader.AESGCM(key).encrypt(bytes(8) + number.to_bytes(4, "big"), data + b"\1", None)
        with open(self.path("huge.kms"), "wb") as out:
            out.write(header.der)
            out.seek(len(header.der) + number * (FULL + 17))
            out.write(sealed)
        started = time.monotonic()
        self.assertEqual(self.done("open", "--range", "-10", "huge.kms"), data[-10:])
        self.assertLess(time.monotonic() - started, 30)
        self.refused("open", "--range", "0-0", "huge.kms")


if __name__ == "__main__":
    main()
