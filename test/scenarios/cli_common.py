"""What the tests of the command `kmsenv` share."""
import os
import subprocess

import common

CLI = os.environ.get("KMSENV_TEST_CLI") or os.path.join(common.BUILD, "kmsenv")
SOURCE = os.environ.get("KMSENV_TEST_SOURCE") or os.path.dirname(common.TEST)


class CliScenario(common.Scenario):
    def cli(self, *arguments, data=None, environment=None, timeout=60, **more):
        return subprocess.run([CLI, *arguments], input=data, capture_output=True, timeout=timeout, cwd=self.dir,
                              env=common.clean_environment(HOME=self.dir, **(environment or {})), **more)

    def ok(self, *arguments, **more):
        run = self.cli(*arguments, **more)
        self.assertEqual((run.returncode, run.stderr), (0, b""), run)
        return run.stdout.decode()

    def fails(self, status, *arguments, **more):
        """Nothing on stdout, every line of stderr ours. Returns stderr."""
        run = self.cli(*arguments, **more)
        self.assertEqual((run.returncode, run.stdout), (status, b""), run)
        lines = run.stderr.decode().splitlines()
        self.assertTrue(lines)
        for line in lines:
            self.assertTrue(line.startswith("kmsenv: "), line)
        return run.stderr.decode()

    def path(self, name):
        return os.path.join(self.dir, name)


def main():
    if not os.path.exists(CLI):
        raise SystemExit("no command at %r: set KMSENV_TEST_CLI" % CLI)
    common.main()
