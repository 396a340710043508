"""OpenSSL's own test suite, run recipe by recipe under configurations of our own.

run_tests.pl names its configuration itself, and many programs take others out of the source tree: each configuration
gets a tree of symbolic links to the source in which those files are replaced.
"""
import glob
import os
import re
import signal
import subprocess
import time

from scenarios.common import clean_environment, local_key_file

HARNESS = os.environ["KMSENV_TEST_HARNESS"]
MODULE = os.environ["KMSENV_TEST_MODULE"]
SOURCE = os.path.join(HARNESS, "source")
BUILD = os.path.join(HARNESS, "build")
CONFIGURATIONS = ["apps/openssl.cnf", "test/default.cnf", "test/default-and-legacy.cnf"]
ENVIRONMENT = clean_environment(LC_ALL="C")
RECIPE_SECONDS = 900
TEST_LINE = re.compile(r"^( *)(not ok|ok)\b(.*)$")
SKIP = re.compile(r"# *skip", re.I)


def recipes():
    """The names of all, the slowest first."""
    paths = glob.glob(os.path.join(SOURCE, "test/recipes/[0-9][0-9]-test_*.t"))
    names = sorted(os.path.basename(path)[len("00-"):-len(".t")] for path in paths)
    return sorted(names, key=lambda name: not re.match(r"test_(ssl_|store$|cms|cmp_|evp$|enc_|fuzz_(asn1|server|client)$)", name))


class Result:
    """Of a recipe: how many tests ran, subtests included, and which were not ok."""

    def __init__(self, status, text, seconds):
        self.text, self.seconds, self.passed = text, seconds, status == 0
        lines = [match for match in map(TEST_LINE.match, text.splitlines()) if match]
        self.skipped = sum(1 for line in lines if SKIP.search(line[3]))
        self.ran = len(lines) - self.skipped
        self.failing = frozenset(line[0] for line in lines if line[2] == "not ok")
        # Either its tests ran or it says why there are none here.
        self.is_whole = self.ran > 0 or re.search(r"^1\.\.0 # *skip", text, re.I | re.M) is not None

    def key(self):
        return self.passed, self.ran, self.skipped, self.failing

    def __str__(self):
        return f"{'passed' if self.passed else 'FAILED'}, {self.ran} tests, {self.skipped} skipped, {len(self.failing)} not ok"


class Run:
    """The suite in one configuration."""

    def __init__(self, folder, name, edit):
        self.name, self.source, self.work = name, os.path.join(folder, name, "source"), os.path.join(folder, name, "work")
        for inner in ("", "apps", "test"):
            self._link(inner)
        for path in CONFIGURATIONS:
            with open(os.path.join(SOURCE, path), encoding="utf-8") as f:
                text = edit(f.read())
            with open(os.path.join(self.source, path), "w", encoding="utf-8") as f:
                f.write(text)

    def _link(self, inner):
        os.makedirs(os.path.join(self.source, inner), exist_ok=True)
        for entry in os.listdir(os.path.join(SOURCE, inner)):
            path = os.path.join(inner, entry)
            if path not in CONFIGURATIONS + ["apps", "test"]:
                os.symlink(os.path.realpath(os.path.join(SOURCE, path)), os.path.join(self.source, path))

    def recipe(self, name):
        """Runs one; gives its result."""
        work = os.path.join(self.work, name)
        os.makedirs(work)
        tap = os.path.join(work, "tap")
        env = {**ENVIRONMENT, "SRCTOP": self.source, "BLDTOP": BUILD, "EXE_EXT": "", "RESULT_D": work, "TMPDIR": work,
               "HARNESS_TAP_COPY": tap}
        started = time.monotonic()
        process = subprocess.Popen(["/usr/bin/perl", os.path.join(self.source, "test/run_tests.pl"), name], env=env, cwd=work,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   text=True, errors="replace", start_new_session=True)
        try:
            said, _ = process.communicate(timeout=RECIPE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said, _ = process.communicate()
        text = ""
        if os.path.exists(tap):
            with open(tap, encoding="utf-8", errors="replace") as f:
                # First comes the preparation for the FIPS module, which there is none of.
                text = re.sub(r"\A1\.\.0 # *skip.*\n", "", f.read(), flags=re.I)
        return Result(process.returncode, text or said, time.monotonic() - started)


def _edit(text, key_file=None, first=False, extra="", properties=None):
    """One of OpenSSL's configurations with its default provider activated and, if a key file is given, this one added."""
    if not re.search(r"^activate *= *1", text, re.M):
        text = text.replace("[default_sect]\n", "[default_sect]\nactivate = 1\n")
    theirs = re.search(r"^default = default_sect\n(legacy = legacy_sect\n)?", text, re.M)
    if key_file is None:
        return text
    ours = "kmsenv = kmsenv_sect\n"
    text = text[:theirs.start()] + (ours + theirs[0] if first else theirs[0] + ours) + text[theirs.end():]
    text += f"\n[kmsenv_sect]\nmodule = {MODULE}\nactivate = 1\nkms = local\nkey-file = {key_file}\n{extra}"
    if properties:
        text = text.replace("[openssl_init]\n", "[openssl_init]\nalg_section = kmsenv_properties\n", 1)
        text += f"\n[kmsenv_properties]\ndefault_properties = {properties}\n"
    return text


def prepare(folder):
    """The runs, the control first."""
    key = local_key_file(os.path.join(folder, "a.pem"))
    return [Run(folder, "control", _edit),
            Run(folder, "last", lambda text: _edit(text, key)),
            Run(folder, "first", lambda text: _edit(text, key, first=True)),
            Run(folder, "preferred", lambda text: _edit(text, key, extra="key-references = yes\n", properties="?provider=kmsenv"))]
