"""What the tests of `kmsenv rewrap` share."""
import base64
import os
import re
import textwrap

import common
import reader
from cli_common import CliScenario

COUNTS = re.compile(r"(rewrapped|would rewrap) (\d+), unchanged (\d+), failed (\d+), skipped (\d+)\n"
                    r"wraps: re-encrypted in the KMS (\d+), made here (\d+), kept (\d+)\n$")
SEALED = "KMS SEALED KEY"
DATA_KEY = "KMS DATA KEY"
MIB = 1 << 20


def pem(label, der):
    return ("-----BEGIN %s-----\n%s\n-----END %s-----\n"
            % (label, "\n".join(textwrap.wrap(base64.b64encode(der).decode(), 64)), label)).encode()


def unpem(data, label):
    """What is in the blocks of that label."""
    blocks = re.findall(rb"-----BEGIN %s-----\r?\n(.*?)-----END %s-----" % (label.encode(), label.encode()), data, re.S)
    return [base64.b64decode(block) for block in blocks]


def key_in(der):
    """The DataKey in a header or by itself."""
    try:
        return reader.Header.parse(der).data_key
    except reader.FormatError:
        return reader.DataKey.parse(reader.Der(der).enter(reader.SEQUENCE, "DataKey"))


class RewrapScenario(CliScenario):
    def rewrap(self, config, *arguments, status=0, done=0, unchanged=0, failed=0, skipped=0, in_kms=None, here=None, kept=None,
               verb="rewrapped", **more):
        """Runs it, and compares the summary; what was on stdout before, and stderr."""
        run = self.cli("rewrap", *map(str, arguments), environment={"OPENSSL_CONF": config, **more.pop("environment", {})}, **more)
        out, errors = run.stdout.decode(), run.stderr.decode()
        summary = COUNTS.search(out)
        self.assertIsNotNone(summary, (out, errors))
        self.assertEqual((run.returncode, summary[1], *map(int, summary.groups()[1:5])), (status, verb, done, unchanged, failed, skipped),
                         out[-2000:] + errors[-2000:])
        for seen, expected in zip(map(int, summary.groups()[5:]), (in_kms, here, kept)):
            if expected is not None:
                self.assertEqual(seen, expected, out)
        for line in errors.splitlines():
            self.assertTrue(line.startswith("kmsenv: "), line)
        if status == 0:
            self.assertEqual(errors, "")
        return out[:summary.start()], errors

    def enc(self, config, data, *more, decrypt=False):
        run = self.openssl("enc", *(["-d"] if decrypt else []), "-kms-envelope", *(more or ("-K", "0")), data=data, config=config)
        self.assertEqual(run.returncode, 0, run.stderr)
        return run.stdout

    def opens(self, config, message, data=common.TEXT, *more):
        self.assertEqual(self.enc(config, message, *more, decrypt=True), data)

    def state(self, *paths):
        """Everything that must stay the same where nothing was done."""
        found = []
        for path in paths:
            st = os.stat(path)
            found.append((path, st.st_ino, st.st_mode, st.st_mtime_ns, self.read(path) if os.path.isfile(path) else sorted(os.listdir(path))))
        return found


class LocalScenario(RewrapScenario):
    """Profiles main and other, with local key files; self.both has both, self.main and self.other one each."""

    def setUp(self):
        super().setUp()
        self.files = {name: common.local_key_file(self.path(name + ".key")) for name in ("main", "other")}
        self.keys = {name: reader.LocalKey(path) for name, path in self.files.items()}
        profiles = {name: common.local_profile(path) for name, path in self.files.items()}
        self.ring = self.path("ring")
        os.mkdir(self.ring)
        self.both = self.config(profiles, keyring=self.ring)
        self.main, self.other = (self.config({name: profiles[name]}, keyring=self.ring) for name in ("main", "other"))

    def rotate(self, name="main"):
        self.ok("init", "--key-file", self.files[name], "--rotate")
        self.keys[name] = reader.LocalKey(self.files[name])

    def version(self, wrap):
        return int.from_bytes(wrap.ciphertext[:4], "big")

    def message(self, name="message", data=common.TEXT, config=None, *more):
        return self.file(name, self.enc(config or self.main, data, *more))

    def is_under(self, der, *names):
        """Just these wraps, each of them sound, and under the newest version."""
        key = key_in(der)
        self.assertEqual([wrap.key_id for wrap in key.wraps], [self.keys[name].id for name in names])
        for wrap, name in zip(key.wraps, names):
            self.assertEqual(reader.data_key_id(self.keys[name].unwrap(wrap)), key.id)
            self.assertEqual(self.version(wrap), self.keys[name].newest)

    def fill(self, count, name="main"):
        keys = []
        for _ in range(count):
            _, key = self.keys[name].new_data_key()
            keys.append(key.id.hex() + ".pem")
            self.file("ring/" + keys[-1], pem(DATA_KEY, key.encode()))
        return keys

    def ring_is_under(self, keys, *names):
        for key in keys:
            der, = unpem(self.read(os.path.join(self.ring, key)), DATA_KEY)
            self.is_under(der, *names)
            self.assertEqual(key_in(der).id.hex() + ".pem", key)

    def no_leftovers(self, directory=None):
        for name in os.listdir(directory or self.dir):
            self.assertNotRegex(name, r"kmsenv-(new|header)")
