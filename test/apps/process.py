"""Programs as processes: with a terminal of their own, so that a prompt is seen; if they need it as another user and with
other files in place of the system's; and none of theirs is left behind, even if they leave their group and session."""
import ctypes
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import time

import common

_PR_SET_CHILD_SUBREAPER = 36
_MOUNT = 'while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit 125; shift 2; done; shift; exec "$@"'
_used_ports = set()


def adopt_orphans():
    """From now on whatever a child leaves behind becomes a child of this process, not of init."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def is_privileged():
    """May it start programs as other users, and with other files in place of the system's?"""
    return os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"], capture_output=True, timeout=20).returncode == 0


def processes():
    """{pid: pid of the parent} of all processes that are not zombies."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name, encoding="latin-1") as source:
                    state, parent = source.read().rpartition(")")[2].split()[:2]
            except OSError:   # it has ended
                continue
            if state not in "ZX":
                found[int(name)] = int(parent)
    return found


def descendants(root):
    parents, found = processes(), {root}
    while True:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        if not more:
            return found - {root}
        found |= more


def kill(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def kill_orphans(spare):
    """Ends all descendants of this process but those in `spare`."""
    def left():
        for pid in descendants(os.getpid()) - spare:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:   # not a child, but one of its
                pass
        return descendants(os.getpid()) - spare
    if not wait_until(lambda: kill(left()) or not left(), 10):
        raise AssertionError("processes cannot be ended: %s" % left())


def wait_until(condition, seconds):
    """What the condition gave at last: it becomes true, or the time is over."""
    end = time.monotonic() + seconds
    while True:
        result = condition()
        if result or time.monotonic() > end:
            return result
        time.sleep(0.05)


def free_port():
    """A port of 127.0.0.1 that nobody listens at; not one of those that the system gives to outgoing connections."""
    while True:
        port = random.randrange(10240, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _used_ports:
            _used_ports.add(port)
            return port


def is_listening(port):
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Running:
    """One started program. Its output is in `log`; its standard input is its controlling terminal.

    binds: {path that it sees: what it finds there}; needs root, as does `user`.
    daemon: it forks and ends. Then its terminal does not control it: the end of who began with it would hang it up for the child.
    """

    def __init__(self, command, directory, environment, user=None, binds=None, log="output.log", daemon=False):
        self.log = os.path.join(directory, log)
        words = ["setsid"] if daemon else ["setsid", "--ctty"]
        if binds:
            words += ["unshare", "--mount", "sh", "-c", _MOUNT, "-"]
            words += [word for seen, found in binds.items() for word in (found, seen)] + ["--"]
        if user:
            words += ["setpriv", "--reuid", user, "--regid", user, "--init-groups"]
        self.terminal, terminal = os.openpty()
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen([*words, *command], stdin=terminal, stdout=out, stderr=out, cwd=directory,
                                            env=common.clean_environment(HOME=directory, **environment))
        os.close(terminal)
        self.pid = self.process.pid
        self.started = time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def output(self):
        with open(self.log, encoding="utf-8", errors="replace") as source:
            return source.read()

    def prompt(self):
        """What it wrote to its terminal, which should be nothing."""
        text = b""
        while select.select([self.terminal], [], [], 0)[0]:
            try:
                part = os.read(self.terminal, 4096)
            except OSError:   # nobody has it open any more
                break
            if not part:
                break
            text += part
        return text.decode(errors="replace")

    def ended(self, seconds):
        """Its exit status, None if it goes on for so long."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def ended_by(self, seconds):
        """The same, counted from its start."""
        return self.ended(max(0, self.started + seconds - time.monotonic()))

    def listens(self, port, seconds=30):
        """Does it begin to accept connections? The wait ends when the program does."""
        wait_until(lambda: self.process.poll() is not None or is_listening(port), seconds)
        return self.process.poll() is None and is_listening(port)

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self):
        """Asks it to end; kills what is left of it after that."""
        if self.terminal is None:
            return
        mine = descendants(self.pid)
        if self.process.poll() is None:
            self.process.terminate()
            if self.ended(5) is None:
                mine |= descendants(self.pid)
                self.process.kill()
                self.process.wait(10)
        kill(pid for pid in mine if pid in descendants(os.getpid()))
        os.close(self.terminal)
        self.terminal = None


def give(path, user):
    """Makes a directory and all in it another user's."""
    for folder, _, files in os.walk(path):
        for name in [folder, *(os.path.join(folder, name) for name in files)]:
            shutil.chown(name, user, user)
