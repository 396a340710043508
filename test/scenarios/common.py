"""What the scenario tests share: where the provider is, configuration files, running `openssl` and
envelope_tool in a clean environment.

Each test program runs alone:  KMSENV_TEST_MODULE_DIR=<build> python3 test/scenarios/NAME_test.py
"""
import atexit
import base64
import json
import os
import re
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
TEST = os.path.dirname(HERE)
for folder in (TEST, os.path.join(TEST, "kms")):
    if folder not in sys.path:
        sys.path.insert(0, folder)

import reader  # noqa: E402,F401  (for the scenarios)
from standin import StandIn  # noqa: E402,F401

TEXT = b"some data to protect"
# How long profiles wait for a KMS, in seconds: a busy machine takes seconds for what takes milliseconds. For a KMS that does not
# answer a test sets its own kms-timeout.
PATIENCE = 30
PATIENT = {"kms-timeout": PATIENCE, "connect-timeout": PATIENCE}
OPENSSL = os.environ.get("KMSENV_TEST_OPENSSL", "/usr/bin/openssl")


def _version():
    said = os.environ.get("KMSENV_TEST_OPENSSL_VERSION") or subprocess.run(
        [OPENSSL, "version"], capture_output=True, text=True, timeout=60, check=True).stdout.split()[1]
    return tuple(int(number) for number in said.split("-")[0].split("."))


VERSION = _version()     # of OpenSSL: what is expected can differ
MODULES = os.environ.get("KMSENV_TEST_OPENSSL_MODULES")     # where OpenSSL's own are, if not in their usual place
LINKING = os.environ.get("KMSENV_TEST_LINKING", "").split()   # words for cc, before "-lcrypto"
BUILD = os.environ.get("KMSENV_TEST_BUILD") or os.environ.get("KMSENV_BUILD", "")
MODULE_DIR = os.environ.get("KMSENV_TEST_MODULE_DIR") or os.environ.get("KMSENV_MODULE_DIR") or BUILD
MODULE = os.path.join(MODULE_DIR, "kmsenv.so")
_FAILED = 0xFFFFFFFF


def _tool_path():
    """envelope_tool: from the build, or compiled here once per program."""
    given = os.environ.get("KMSENV_TEST_TOOL") or os.path.join(BUILD, "test", "envelope_tool")
    if os.path.exists(given):
        return given
    folder = tempfile.mkdtemp(prefix="kmsenv-tool-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    out = os.path.join(folder, "envelope_tool")
    subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-I", os.path.join(TEST, "..", "include"),
                    os.path.join(TEST, "tools", "envelope_tool.c"), os.path.join(TEST, "tools", "message.c"),
                    "-o", out, *LINKING, "-lcrypto", "-lpthread"], check=True, timeout=120)
    return out


_tool = None


def tool_path():
    global _tool
    if _tool is None:
        _tool = _tool_path()
    return _tool


def clean_environment(**more):
    """Nothing of the caller's reaches the program under test."""
    base = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent", "no_proxy": "*"}
    if MODULES:
        base["OPENSSL_MODULES"] = MODULES
    return {**base, **{name: value for name, value in more.items() if value is not None}}


def libraries(program):
    """The files of the libraries of a program, and of its loader, as that resolves them."""
    run = subprocess.run([program], capture_output=True, timeout=60, check=True, env=clean_environment(LD_TRACE_LOADED_OBJECTS="1"))
    return re.findall(r"^\s*(?:\S+ => )?(/\S+)", run.stdout.decode(), re.M)


def write_private(path, data):
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        out.write(data if isinstance(data, bytes) else data.encode())
    return path


def local_key_file(path, versions=1):
    """A new local master key file, in the format that the provider documents."""
    key_id = os.urandom(16).hex()
    blocks = ["-----BEGIN KMSENV LOCAL MASTER KEY-----\nKey-Id: %s\nVersion: %d\nCreated: 2024-01-01T00:00:00Z\n\n%s\n"
              "-----END KMSENV LOCAL MASTER KEY-----\n" % (key_id, n + 1, base64.b64encode(os.urandom(32)).decode())
              for n in range(versions)]
    return write_private(path, "".join(blocks))


def local_profile(key_file):
    return {"kms": "local", "key-file": key_file}


def tencent_profile(kms, **more):
    return {"kms": "tencent", "region": "ap-guangzhou", "endpoint": kms.endpoint, "ca-file": kms.ca_file,
            "key-id": kms.key_id, "secret-id": kms.secret_id, "secret-key": kms.secret_key, **PATIENT,
            **{name.replace("_", "-"): value for name, value in more.items()}}


def config_text(profiles, settings, first=False):
    """profiles: {name: {setting: value}}. first: kmsenv before default."""
    order = ["kmsenv = kmsenv_sect", "default = default_sect"]
    # extensions: without it `openssl x509` takes the lines before the first section for extensions of a certificate, from
    # OpenSSL 4.0 on (apps/x509.c; CHANGES: "attempts to find extension settings in the default configuration file").
    lines = ["openssl_conf = init", "extensions = no_extensions", "[no_extensions]", "[init]", "providers = providers", "[providers]",
             *(order if first else reversed(order)), "[default_sect]", "activate = 1",
             "[kmsenv_sect]", "module = " + MODULE, "activate = 1"]
    if profiles:
        lines.append("profiles = " + ", ".join(profiles))
    lines += ["%s = %s" % (name.replace("_", "-"), value) for name, value in settings.items()]
    lines += ["%s = kms_%s" % (name, name) for name in profiles]
    for name, values in profiles.items():
        lines.append("[kms_%s]" % name)
        lines += ["%s = %s" % pair for pair in values.items() if pair[1] is not None]
    return "\n".join(lines) + "\n"


class Tool:
    """envelope_tool as a process that waits for commands."""

    def __init__(self, directory, config, environment=None, timeout=120):
        self.directory, self.timeout = directory, timeout
        self.log = open(os.path.join(directory, "tool.stderr"), "w+b")
        self.process = subprocess.Popen(
            [tool_path(), config], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, bufsize=0,
            env=clean_environment(HOME=directory, **(environment or {})))
        self._number = 0
        try:
            self.first = self._answer()
        except AssertionError:
            self.stop()
            raise
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.process.kill()
        self.process.wait(20)
        self.process.stdin.close()
        self.process.stdout.close()
        self.log.close()

    def stderr(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def _answer(self):
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self.process.stdout], [], [], self.timeout)
            part = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not part:
                raise AssertionError("envelope_tool %s: %s" % ("ended" if ready else "does not answer", self.stderr()))
            line += part
        return json.loads(line)

    def send(self, command, *words, **options):
        """Without waiting for the answer; see wait()."""
        words = [command, *map(str, words)]
        words += ["%s=%s" % (name.replace("_", "-"), value.hex() if isinstance(value, bytes) else value)
                  for name, value in options.items() if value is not None]
        self.process.stdin.write((" ".join(words) + "\n").encode())

    def wait(self):
        return self._answer()

    def ask(self, command, *words, **options):
        self.send(command, *words, **options)
        return self._answer()

    def path(self, name):
        self._number += 1
        return os.path.join(self.directory, "%d.%d.%s" % (self.process.pid, self._number, name))

    def bundle(self, records):
        path = self.path("in")
        with open(path, "wb") as out:
            for record in records:
                out.write(struct.pack(">I", len(record)) + record)
        return path

    def _many(self, verb, records, options):
        source, target = self.bundle(records), self.path("out")
        self.last = self.ask(verb, source, target, **options)
        results = read_bundle(target)
        os.unlink(source)
        os.unlink(target)
        return results

    def seal(self, records, **options):
        """Messages for records; None for one that failed. The answer is in .last."""
        return self._many("seal", records, options)

    def open(self, records, **options):
        return self._many("open", records, options)

    def counters(self):
        return self.ask("counters")


def read_bundle(path):
    with open(path, "rb") as source:
        data = source.read()
    records, at = [], 0
    while at < len(data):
        length, at = struct.unpack_from(">I", data, at)[0], at + 4
        if length == _FAILED:
            records.append(None)
            continue
        records.append(data[at:at + length])
        at += length
    return records


def with_wraps(message, wraps):
    """The message with other wraps in its header: they are not authenticated."""
    header = reader.Header.parse(message)
    body, header.data_key.wraps = message[len(header.der):], list(wraps)
    return header.encode() + body


class Scenario(unittest.TestCase):
    """A test with a folder of its own, self.dir."""

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="kmsenv-scenario-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self._numbers = iter(range(1, 1 << 20))

    def file(self, name, data=b""):
        return write_private(os.path.join(self.dir, name), data)

    def read(self, path):
        with open(path, "rb") as source:
            return source.read()

    def config(self, profiles, first=False, **settings):
        """A configuration file that loads kmsenv and default; with kmsenv really in it."""
        path = self.file("openssl-%d.cnf" % next(self._numbers), config_text(profiles, settings, first))
        self.assert_loaded(path)
        return path

    def local_config(self, **settings):
        """One local profile with a new key file (self.key_file)."""
        self.key_file = local_key_file(os.path.join(self.dir, "local.pem"))
        return self.config({"main": local_profile(self.key_file)}, **settings)

    def openssl(self, *arguments, config=None, data=None, environment=None, timeout=120):
        return subprocess.run([OPENSSL, *arguments], input=data, capture_output=True, timeout=timeout,
                              env=clean_environment(HOME=self.dir, OPENSSL_CONF=config, **(environment or {})))

    def assert_loaded(self, config, environment=None, *more):
        self.assertTrue(os.path.exists(MODULE), "no provider at %r: set KMSENV_TEST_MODULE_DIR" % MODULE)
        run = self.openssl("list", "-providers", *more, config=config, environment=environment)
        self.assertRegex(run.stdout.decode(), r"(?m)^  kmsenv$", run.stderr.decode())

    def tool(self, config, **more):
        """A running envelope_tool, stopped at the end of the test."""
        tool = Tool(self.dir, config, **more)
        self.addCleanup(tool.stop)
        return tool

    def standin(self, dialect="tencent"):
        kms = StandIn(dialect)
        self.addCleanup(kms.__exit__)
        return kms.start()


class KmsScenario(Scenario):
    """A stand-in KMS, self.kms, and processes that use it."""

    def setUp(self):
        super().setUp()
        self.kms = self.standin()

    def process(self, timeout=PATIENCE, **settings):
        """A new process under test with these provider settings."""
        return self.tool(self.config({"prod": tencent_profile(self.kms, kms_timeout=timeout)}, **settings))

    def works(self, kmsenv, message=None):
        result = kmsenv.seal([TEXT])[0] if message is None else kmsenv.open([message])[0]
        self.assertIsNotNone(result, kmsenv.last)
        return result

    def fails(self, kmsenv, *reasons, message=None):
        result = kmsenv.seal([TEXT])[0] if message is None else kmsenv.open([message])[0]
        self.assertIsNone(result)
        self.assertIn(kmsenv.last["reason"], reasons, kmsenv.last)
        self.assertEqual(kmsenv.last["entries"], 1)

    def generated(self, outcome=None):
        return self.kms.calls("GenerateDataKey", outcome)

    @staticmethod
    def key_of(message):
        return reader.Header.parse(message).data_key.id

    def messages_of_many_keys(self, count):
        kmsenv = self.process(dek_reuse="no")
        messages = kmsenv.seal([TEXT] * count)
        self.assertEqual(len({self.key_of(m) for m in messages}), count)
        kmsenv.stop()
        self.kms.reset()
        return messages


def main():
    """A test that was skipped is not passed: exit status 77, which the runner counts as a skip, and CI as a failure."""
    result = unittest.main(exit=False).result
    if not result.wasSuccessful():
        sys.exit(1)
    for test, why in result.skipped:
        print("skipped: %s: %s" % (test, why))
    sys.exit(77 if result.skipped else 0)
