"""kmsenv seal and open when something is wrong: damaged messages, full disks, signals, a KMS that fails; and on a terminal."""
import errno
import fcntl
import os
import pty
import random
import re
import resource
import select
import signal
import struct
import subprocess
import termios
import time
import unittest

import common
import reader
from cli_common import CLI, NOBODY, main
from common import StandIn, tencent_profile
from seal_open_common import FULL, Sealing


class Damage(Sealing):
    def check_refused(self, message, note):
        """No name, an existing file as it was, and no byte too many on standard output."""
        self.file("bad.kms", message)
        self.file("bad", b"precious")
        self.refused("open", "--force", "bad.kms")
        self.assertEqual(self.read(self.path("bad")), b"precious", note)
        os.unlink(self.path("bad"))
        self.refused("open", "bad.kms")
        self.assertEqual(self.names(), ["bad.kms"], note)
        for arguments, data in ((["-o", "-", "bad.kms"], None), ([], message)):
            run = self.run_cli("open", *arguments, data=data)
            self.assertEqual(run.returncode, 1, note)
            self.assertTrue(self.plain.startswith(run.stdout), note)
            self.assertEqual(len(run.stdout) % FULL, 0, note)

    def setUp(self):
        super().setUp()
        self.plain = self.contents(3 * FULL + 10)
        self.message = self.sealed(self.plain, "--segment-bits", "12")
        self.header = len(reader.Header.parse(self.message).der)

    def test_regions(self):
        segment = FULL + 17
        rng = random.Random(4)
        places = [0, 1, 5, self.header // 2, self.header - 40, self.header - 1, self.header, self.header + FULL, self.header + FULL + 1,
                  self.header + segment - 1, self.header + segment, len(self.message) - 27, len(self.message) - 17, len(self.message) - 1]
        for at in places + [rng.randrange(self.header, len(self.message)) for _ in range(10)]:
            damaged = bytearray(self.message)
            damaged[at] ^= 1 << rng.randrange(8)
            self.check_refused(bytes(damaged), "byte %d" % at)

    def test_cut(self):
        for at in (0, 3, self.header - 1, self.header, self.header + 16, self.header + FULL, self.header + FULL + 17,
                   self.header + 2 * (FULL + 17), self.header + 3 * (FULL + 17), self.header + 3 * (FULL + 17) + 17, len(self.message) - 1):
            self.check_refused(self.message[:at], "cut at %d" % at)

    def test_segments_moved(self):
        body = [self.message[at:at + FULL + 17] for at in range(self.header, len(self.message), FULL + 17)]
        header = self.message[:self.header]
        self.assertEqual(len(body), 4)
        for order in ((1, 0, 2, 3), (0, 2, 1, 3), (0, 1, 3), (0, 1, 2, 2, 3), (0, 1, 2, 3, 3), (1, 2, 3), (3,)):
            self.check_refused(header + b"".join(body[i] for i in order), order)
        other = self.sealed(self.plain, "--segment-bits", "12")
        self.check_refused(header + body[0] + other[self.header + FULL + 17:], "segments of another message")
        self.assertEqual(self.done("open", data=header + b"".join(body)), self.plain)

    def test_the_error_says_where(self):
        damaged = bytearray(self.message)
        at = self.header + 2 * (FULL + 17)
        damaged[at + 7] ^= 1
        self.file("bad.kms", bytes(damaged))
        text = self.refused("open", "bad.kms")
        for words in ("bad.kms: ", "segment 2 ", "byte %d " % at):
            self.assertIn(words, text)

    def test_what_came_out_was_verified(self):
        """Segments before the damage, whole; the exit status says that it is not all."""
        damaged = bytearray(self.message)
        damaged[-1] ^= 1
        for threads in ("1", "4"):
            run = self.run_cli("open", "--threads", threads, data=bytes(damaged))
            self.assertEqual(run.returncode, 1)
            self.assertTrue(self.plain[:3 * FULL].startswith(run.stdout))


class Failures(Sealing):
    def test_disk_full(self):
        self.file("big", bytes(3 << 20))

        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        self.assertIn("File too large", self.refused("seal", "big", preexec_fn=limit))
        message = self.sealed(bytes(3 << 20))
        self.assertIn("File too large", self.refused("open", "-o", "out", data=message, preexec_fn=limit))
        for arguments, data in ((["seal", "-o", "/dev/full", "big"], None), (["open", "-o", "/dev/full"], message)):
            self.assertIn("No space left", self.refused(*arguments, data=data))
        for arguments, data in ((["seal"], b"x"), (["open"], message)):
            with open("/dev/full", "wb") as full:
                run = subprocess.run([CLI, *arguments], input=data, stdout=full, stderr=subprocess.PIPE, timeout=60, cwd=self.dir,
                                     env=common.clean_environment(HOME=self.dir, **self.environment))
            self.assertEqual(run.returncode, 1)
            self.assertIn(b"No space left", run.stderr)
        self.assertEqual(self.names(), ["big"])

    def test_reader_that_goes_away(self):
        self.file("big", bytes(8 << 20))
        process = self.start("seal", "-o", "-", "big", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.read(1000)
        process.stdout.close()
        process.stdout = None
        _, text = process.communicate(timeout=60)
        self.assertNotEqual(process.returncode, 0)
        self.assertIn(b"Broken pipe", text)

    def test_closed_descriptors(self):
        """A file that is opened must not become standard output."""
        self.file("a", b"x" * 5000)
        command = [CLI, "seal", "-o", "-", "a"]
        environment = common.clean_environment(HOME=self.dir, **self.environment)
        run = subprocess.run(["/bin/sh", "-c", '"$@" >&-', "sh", *command], cwd=self.dir, env=environment, stderr=subprocess.PIPE, timeout=60)
        self.assertEqual(run.returncode, 1)
        self.assertIn(b"Bad file descriptor", run.stderr)
        run = subprocess.run(["/bin/sh", "-c", '"$@" <&-', "sh", CLI, "seal"], cwd=self.dir, env=environment, capture_output=True, timeout=60)
        self.assertEqual(run.returncode, 1)
        self.assertEqual(self.read(self.path("a")), b"x" * 5000)

    @unittest.skipIf(os.geteuid() != 0, "needs root to become somebody else")
    def test_unreadable(self):
        self.file("a", b"x")
        os.chmod(self.dir, 0o777)
        for name in (self.environment["OPENSSL_CONF"], self.key_file):
            os.chown(name, 65534, 65534)

        self.assertIn("Permission denied", self.refused("seal", "a", **NOBODY))
        self.assertEqual(self.done("open", data=self.done("seal", data=b"mine", **NOBODY), **NOBODY), b"mine")
        self.file("b", b"x")
        os.chmod(self.path("b"), 0o644)
        os.chmod(self.dir, 0o755)
        self.assertIn("Permission denied", self.refused("seal", "b", **NOBODY))
        os.chmod(self.dir, 0o777)
        self.done("seal", "b", **NOBODY)
        self.assertEqual(os.stat(self.path("b.kms")).st_uid, 65534)

    def wait_for(self, condition, what):
        deadline = time.monotonic() + 30
        while not condition():
            self.assertLess(time.monotonic(), deadline, what)
            time.sleep(0.01)

    def test_killed(self):
        """Half a message came in: no signal leaves a file behind, whatever was there before stays."""
        message = self.sealed(self.contents(4 << 20))
        self.file("out", b"precious")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL):
            process = self.start("open", "--force", "-o", "out", stdin=subprocess.PIPE, stderr=subprocess.PIPE)
            process.stdin.write(message[:3 << 20])
            process.stdin.flush()
            descriptors = "/proc/%d/fd" % process.pid        # root's alone: the command may not be looked into
            self.wait_for(lambda: os.geteuid() != 0 or any(self.dir in os.readlink(os.path.join(descriptors, fd))
                                                           for fd in os.listdir(descriptors)), "no file was begun")
            process.send_signal(number)
            self.assertEqual(process.wait(30), -number)
            self.assertEqual(self.names(), ["out"])
            self.assertEqual(self.read(self.path("out")), b"precious")

    def test_name_taken_meanwhile(self):
        """Without --force a file that appeared during the work is not replaced."""
        message = self.sealed(self.contents(1 << 20))
        for arguments, kept in (([], b"theirs"), (["--force"], None)):
            process = self.start("open", *arguments, "-o", "new", stdin=subprocess.PIPE, stderr=subprocess.PIPE)
            process.stdin.write(message[:-5])
            process.stdin.flush()
            time.sleep(0.3)
            self.file("new", b"theirs")
            _, text = process.communicate(message[-5:], timeout=30)
            self.assertEqual(process.returncode, 1 if kept else 0, text)
            self.assertEqual(self.read(self.path("new")), kept or self.contents(1 << 20))
            self.assertEqual(self.names(), ["new"])
            if kept:
                self.assertIn(b"meanwhile", text)
                os.unlink(self.path("new"))

    def test_input_that_changes(self):
        """What was there when sealing began counts; less than that is an error."""
        self.file("log", self.contents(1 << 20))
        os.mkfifo(self.path("fifo"))
        process = self.start("seal", "-o", "fifo", "log")
        with open(self.path("fifo"), "rb") as fifo:
            first = fifo.read(10)
            with open(self.path("log"), "ab") as log:
                log.write(b"more")
            message = first + fifo.read()
        self.assertEqual(process.wait(30), 0)
        self.assertEqual(self.done("open", data=message), self.contents(1 << 20))
        process = self.start("seal", "--threads", "1", "-o", "fifo", "log", stderr=subprocess.PIPE)
        with open(self.path("fifo"), "rb") as fifo:
            fifo.read(10)
            os.truncate(self.path("log"), 1000)
            fifo.read()
        _, text = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 1)
        self.assertIn(b"became shorter", text)

    def half_way(self, *arguments):
        """The process, which waits for a reader in the middle of a large file, and that reader."""
        if not os.path.exists(self.path("fifo")):
            os.mkfifo(self.path("fifo"))
        process = self.start(*arguments, stderr=subprocess.PIPE)
        fifo = open(self.path("fifo"), "rb")
        self.addCleanup(fifo.close)
        first = fifo.read(1 << 17)   # more than the header, which comes before the lease
        kind = subprocess.run(["stat", "-f", "-c", "%T", self.dir], capture_output=True, text=True, check=True).stdout.strip()
        leased = re.search(r"LEASE .* %d " % process.pid, self.read("/proc/locks").decode()) is not None
        self.assertEqual(leased, kind in ("tmpfs", "ext2/ext3", "xfs", "btrfs"), kind)
        return process, fifo, first

    def test_large_input_that_changes(self):
        """It is mapped and not copied, under a lease: who wants to write has not to wait, and gets nothing wrong opened."""
        plain = self.contents(24 << 20)
        self.file("big", plain)
        process, fifo, first = self.half_way("seal", "--threads", "2", "-o", "fifo", "big")
        started = time.monotonic()
        with open(self.path("big"), "ab") as big:
            big.write(b"more")
        self.assertLess(time.monotonic() - started, 10)
        message = first + fifo.read()
        self.assertEqual(process.wait(30), 0)
        self.assertTrue(self.done("open", data=message) == plain)
        process, fifo, first = self.half_way("seal", "--threads", "2", "-o", "fifo", "big")
        started = time.monotonic()
        os.truncate(self.path("big"), 12 << 20)
        self.assertLess(time.monotonic() - started, 10)
        fifo.read()
        self.assertEqual(process.wait(30), 1)
        self.assertIn(b"became shorter", process.stderr.read())
        self.file("big.kms", message)
        process, fifo, first = self.half_way("open", "--threads", "2", "-o", "fifo", "big.kms")
        started = time.monotonic()
        with open(self.path("big.kms"), "r+b") as big:
            big.seek(20 << 20)
            big.write(b"other")
        self.assertLess(time.monotonic() - started, 10)
        opened = first + fifo.read()
        self.assertEqual(process.wait(30), 1)
        self.assertIn(b"was altered", process.stderr.read())
        self.assertTrue(plain.startswith(opened))
        self.assertGreater(len(opened), 1 << 20)

    def test_writer_all_the_time(self):
        """Somebody has it open for writing: there is no lease then, and no difference."""
        plain = self.contents(12 << 20)
        with open(self.path("big"), "wb") as big:
            big.write(plain)
            big.flush()
            self.done("seal", "big")
            with open(self.path("big.kms"), "r+b"):
                self.assertTrue(self.done("open", "-o", "-", "big.kms") == plain)

    def test_kms_that_fails(self):
        with StandIn("tencent") as kms:
            self.use(self.config({"prod": tencent_profile(kms)}))
            self.file("a", b"x")
            self.file("b", b"y")
            self.done("seal", "a", "b")
            self.assertEqual(kms.calls("GenerateDataKey"), 1)
            self.done("open", "-f", "a.kms", "b.kms")
            self.assertEqual(kms.calls("Decrypt"), 1)
            config = self.environment["OPENSSL_CONF"]
        before = self.names()
        self.use(config)
        self.assertIn("a.kms", self.refused("open", "-f", "a.kms"))
        self.refused("seal", "-o", "c.kms", "a")
        self.assertEqual(self.names(), before)
        self.assertEqual(self.read(self.path("a")), b"x")

    def test_no_configuration(self):
        self.environment = {"OPENSSL_CONF": os.devnull}
        self.assertIn("no KMS", self.refused("seal", data=b"x"))


class NamedFiles(Failures):
    """The same on a file system that has no files without names, and no renaming that replaces nothing (NFS, some FUSE)."""
    SHIM = r"""
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <errno.h>
        #include <fcntl.h>
        #include <stdarg.h>
        static int other(const char *name, const char *path, int flags, int mode)
        {
            int (*real)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, name);
            errno = EOPNOTSUPP;
            return (flags & O_TMPFILE) == O_TMPFILE ? -1 : real(path, flags, mode);
        }
        #define OPEN(name) int name(const char *path, int flags, ...) \
            { va_list a; int mode; va_start(a, flags); mode = va_arg(a, int); va_end(a); return other(#name, path, flags, mode); }
        OPEN(open)
        OPEN(open64)
        int renameat2(int a, const char *b, int c, const char *d, unsigned e)
        {
            (void)a, (void)b, (void)c, (void)d, (void)e;
            errno = EINVAL;
            return -1;
        }
        """

    def setUp(self):
        super().setUp()
        self.file("shim.c", self.SHIM)
        shim = self.path("openssl-shim.so")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, self.path("shim.c")], check=True, timeout=60)
        os.unlink(self.path("shim.c"))
        os.chmod(shim, 0o755)
        self.environment["LD_PRELOAD"] = shim

    def use(self, config):
        self.environment = {**getattr(self, "environment", {}), "OPENSSL_CONF": config}

    def names(self):
        return [name for name in super().names() if not name.startswith(".kmsenv-")]

    def begun(self):
        return [name for name in os.listdir(self.dir) if name.startswith(".kmsenv-")]

    def tearDown(self):
        self.assertEqual(self.begun(), self.left)

    left = []

    def test_it_has_a_name(self):
        """Which the others here would not notice if it were not so."""
        process = self.start("open", "-o", "out", stdin=subprocess.PIPE)
        process.stdin.write(self.sealed(self.contents(1 << 20))[:-9])
        process.stdin.flush()
        self.wait_for(self.begun, "no temporary file")
        self.assertEqual(os.stat(self.path(self.begun()[0])).st_mode & 0o7777, 0o600)
        process.terminate()
        self.assertEqual(process.wait(30), -signal.SIGTERM)

    def test_killed(self):
        """SIGKILL is the one that leaves it."""
        super().test_killed()
        self.left = self.begun()
        self.assertEqual(len(self.left), 1)


class Terminal(Sealing):
    def pump(self, process, master, seconds=60):
        """All that the terminal gets, until the process ends."""
        shown, deadline = b"", time.monotonic() + seconds
        while True:
            self.assertLess(time.monotonic(), deadline, shown)
            ready, _, _ = select.select([master], [], [], 0.1)
            try:
                part = os.read(master, 65536) if ready else b""
            except OSError as error:
                self.assertEqual(error.errno, errno.EIO)
                return shown
            shown += part
            if not ready and process.poll() is not None:
                return shown

    def terminal(self, columns=80):
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.addCleanup(os.close, master)
        return master, slave

    def slow_seal(self, *options, columns=80, terminal=True):
        """Standard error of a work of some 1.7 seconds."""
        master, slave = self.terminal(columns)
        process = self.start("seal", *options, "-o", "slow.kms", "-f", stdin=subprocess.PIPE, stderr=slave if terminal else subprocess.PIPE)
        os.close(slave)
        for _ in range(17):
            process.stdin.write(bytes(300000))
            process.stdin.flush()
            time.sleep(0.1)
        process.stdin.close()
        process.stdin = None
        shown = self.pump(process, master) if terminal else process.stderr.read()
        self.assertEqual(process.wait(30), 0)
        self.assertEqual(os.path.getsize(self.path("slow.kms")) > 17 * 300000, True)
        return shown

    def test_progress(self):
        shown = self.slow_seal()
        self.assertRegex(shown, rb"\rstandard input  [\d.]+ MiB  [\d.]+ [KM]iB/s  0:01\x1b\[K")
        self.assertTrue(shown.endswith(b"\r\x1b[K"), shown[-50:])
        lines = shown.split(b"\r")
        self.assertLess(max(len(line) for line in self.slow_seal(columns=30).split(b"\r")), 30 + len(b"\x1b[K"))
        self.assertGreater(len(lines), 3)

    def test_no_progress(self):
        self.assertEqual(self.slow_seal("--quiet"), b"")
        self.assertEqual(self.slow_seal(terminal=False), b"")
        self.assertIn(b"MiB/s", self.slow_seal("--progress", terminal=False))

    def test_nothing_of_short_work(self):
        self.file("a", b"x" * 1000)
        master, slave = self.terminal()
        process = self.start("seal", "a", stderr=slave)
        os.close(slave)
        self.assertEqual(self.pump(process, master), b"")
        self.assertEqual(process.wait(30), 0)

    def test_no_binary_for_a_terminal(self):
        def on_terminal(*arguments):
            master, slave = self.terminal()
            process = self.start(*arguments, stdin=subprocess.DEVNULL, stdout=slave, stderr=subprocess.PIPE)
            os.close(slave)
            shown = self.pump(process, master)
            return process.wait(30), shown, process.stderr.read()
        self.file("text", b"some text\twith\nlines, \xc3\xa4\n")
        self.file("rude", b"some text \x1b]0;title\x07\n")
        self.done("seal", "text", "rude")
        for arguments in (["seal", "-o", "-", "text"], ["open", "-o", "-", "rude.kms"], ["open", "-o", "/dev/tty", "rude.kms"]):
            status, shown, text = on_terminal(*arguments)
            self.assertEqual((status, shown), (1, b""), arguments)
        status, shown, _ = on_terminal("open", "-o", "-", "text.kms")
        self.assertEqual((status, shown.replace(b"\r", b"")), (0, b"some text\twith\nlines, \xc3\xa4\n"))
        status, shown, _ = on_terminal("open", "-o", "-", "--force", "rude.kms")
        self.assertEqual((status, b"\x1b]0;title" in shown), (0, True))
        status, shown, _ = on_terminal("seal", "--force", "-o", "-", "text")
        self.assertEqual((status, b"kms-envelope" in shown), (0, True))


if __name__ == "__main__":
    main()
