"""What the tests of kmsenv seal and open share."""
import os
import random
import subprocess

import common
from cli_common import CLI, CliScenario

ENC = ("enc", "-kms-envelope", "-K", "0")
FULL = 1 << 12                       # the smallest segment


class Sealing(CliScenario):
    def setUp(self):
        super().setUp()
        self.use(self.local_config())

    def use(self, config):
        self.environment = {"OPENSSL_CONF": config}

    def run_cli(self, *arguments, **more):
        return self.cli(*arguments, environment={**self.environment, **more.pop("environment", {})}, **more)

    def done(self, *arguments, **more):
        """Nothing is said on success. Returns stdout."""
        run = self.run_cli(*arguments, **more)
        self.assertEqual((run.returncode, run.stderr), (0, b""), run)
        return run.stdout

    def refused(self, *arguments, status=1, stdout=b"", **more):
        """Nothing but errors of ours. Returns stderr."""
        run = self.run_cli(*arguments, **more)
        self.assertEqual((run.returncode, run.stdout), (status, stdout), run)
        lines = run.stderr.decode().splitlines()
        self.assertTrue(lines and all(line.startswith("kmsenv: ") for line in lines), run.stderr)
        return run.stderr.decode()

    def start(self, *arguments, **more):
        process = subprocess.Popen([CLI, *arguments], cwd=self.dir, env=common.clean_environment(HOME=self.dir, **self.environment),
                                   **more)
        self.addCleanup(self.end, process)
        return process

    @staticmethod
    def end(process):
        if process.poll() is None:
            process.kill()
        process.communicate()

    def names(self):
        """Of the files that seal and open made."""
        return sorted(name for name in os.listdir(self.dir) if not name.startswith(("openssl-", "local.pem")))

    def contents(self, size, seed=1):
        return random.Random(seed).randbytes(size)

    def sealed(self, data, *options):
        return self.done("seal", *options, data=data)

    def enc(self, way, data, config=None):
        run = self.openssl(*ENC, way, config=config or self.environment["OPENSSL_CONF"], data=data)
        self.assertEqual(run.returncode, 0, run.stderr)
        return run.stdout
