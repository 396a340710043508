"""What the scenarios against servers that nobody here wrote have in common."""
import json
import os
import subprocess
import sys

import common
from common import TEXT, reader

sys.path.append(os.path.join(common.TEST, "servers"))
import servers  # noqa: E402

OK, MISMATCH = 0, 41
UNREACHABLE, THROTTLED, DENIED, DISABLED, NOT_FOUND, REJECTED, CREDENTIALS, MALFORMED, REQUEST = range(60, 69)
CLI = os.environ.get("KMSENV_TEST_CLI") or os.path.join(common.BUILD, "kmsenv")


class ServerCase(common.Scenario):
    """One server for all tests of a class."""

    server_class = None

    @classmethod
    def setUpClass(cls):
        cls.server = cls.server_class()
        cls.addClassCleanup(cls.server.stop)
        cls.server.start()

    def profile(self, **more):
        raise NotImplementedError

    def kms_config(self, settings=None, **more):
        return self.config({"prod": self.profile(**more)}, **(settings or {}))

    def sealed(self, config, environment=None, data=TEXT):
        with common.Tool(self.dir, config, environment) as kmsenv:
            message = kmsenv.seal([data])[0]
            self.assertIsNotNone(message, kmsenv.last)
        return message

    def opens(self, config, message, environment=None, data=TEXT):
        with common.Tool(self.dir, config, environment) as kmsenv:
            self.assertEqual(kmsenv.open([message]), [data], kmsenv.last)

    def refused(self, config, reason, message=None, words=None, environment=None):
        with common.Tool(self.dir, config, environment) as kmsenv:
            result = kmsenv.seal([TEXT])[0] if message is None else kmsenv.open([message])[0]
            self.assertIsNone(result)
            self.assertEqual((kmsenv.last["reason"], kmsenv.last["entries"]), (reason, 1), kmsenv.last)
            self.assertRegex(kmsenv.last["error"], words or "prod")
            for secret in self.secrets():
                self.assertNotIn(secret, json.dumps(kmsenv.last) + kmsenv.stderr())

    def secrets(self):
        return []

    def enc_round_trip(self, config, size):
        """Through the command openssl: byte for byte. Returns the message."""
        data = os.urandom(size)
        run = self.openssl("enc", "-kms-envelope", "-K", "0", data=data, config=config)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertNotIn(data[:64], run.stdout)
        back = self.openssl("enc", "-d", "-kms-envelope", "-K", "0", data=run.stdout, config=config)
        self.assertEqual((back.returncode, back.stdout == data), (0, True), back.stderr)
        return run.stdout

    def key_command(self, config, *arguments, data=None):
        run = self.openssl("pkeyutl", *arguments, data=data, config=config)
        self.assertEqual((run.returncode, run.stderr), (0, b""), run)
        return run.stdout

    def has_encapsulation(self):
        """Has pkeyutl -encap? In 3.0 it can only encrypt and decrypt with such a key, which is the same for the server."""
        return b"-encap" in self.openssl("pkeyutl", "-help").stderr

    def encapsulations(self, config):
        """(wrapped key, secret) by the URI of the profile prod, and by its public half."""
        public = self.file("public.pem", self.openssl("pkey", "-in", "kms:prod", "-pubout", config=config).stdout)
        for key in (("-inkey", "kms:prod"), ("-pubin", "-inkey", public)):
            if self.has_encapsulation():
                path = self.file("secret")
                yield self.key_command(config, "-encap", *key, "-secret", path), self.read(path)
            else:
                yield self.key_command(config, "-encrypt", *key, data=TEXT), TEXT

    def decapsulated(self, config, wrapped):
        return self.key_command(config, "-decap" if self.has_encapsulation() else "-decrypt", "-inkey", "kms:prod", data=wrapped)

    def doctor(self, config, environment=None):
        """(exit status, report) of `kmsenv doctor`."""
        run = subprocess.run([CLI, "doctor", "--json", "--config", config], capture_output=True, timeout=60, cwd=self.dir,
                             env=common.clean_environment(HOME=self.dir, **(environment or {})))
        return run.returncode, json.loads(run.stdout)

    def rewrapped(self, config, message, *arguments):
        """The message, and the line of the summary about its wraps, after `kmsenv rewrap`."""
        path = self.file("rewrapped", message)
        run = subprocess.run([CLI, "rewrap", *arguments, path], capture_output=True, timeout=60, cwd=self.dir,
                             env=common.clean_environment(HOME=self.dir, OPENSSL_CONF=config))
        self.assertEqual((run.returncode, run.stderr), (0, b""), run)
        return self.read(path), run.stdout.decode().splitlines()[1]

    @staticmethod
    def wrap_of(message, index=0):
        return reader.Header.parse(message).data_key.wraps[index]

    @staticmethod
    def written(dek, wrap, data=TEXT):
        """A message by the independent implementation of the format, whose data key somebody else wrapped."""
        return reader.write_message(data, dek, reader.DataKey(reader.data_key_id(dek), len(dek), [wrap]))


def main(*names):
    """Runs the tests; skips all of them, with a line that says why, if one of these servers is not there."""
    reasons = list(filter(None, map(servers.why_not, names)))
    if reasons:
        print("skipped: " + "; ".join(reasons))
        sys.exit(77)
    common.main()
