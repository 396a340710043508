"""What the tests of the command `kmsenv` share."""
import os
import shutil
import subprocess
import tempfile

import common

CLI = os.environ.get("KMSENV_TEST_CLI") or os.path.join(common.BUILD, "kmsenv")
SOURCE = os.environ.get("KMSENV_TEST_SOURCE") or os.path.dirname(common.TEST)
NOBODY = {"user": 65534, "group": 65534, "extra_groups": []}    # for cli(), if we are root


class CliScenario(common.Scenario):
    def program(self, user):
        """The command, as that user can run it: who is not us may not reach the build."""
        if user is None:
            return CLI
        if "for_others" not in vars(type(self)):      # not that of a class that ours is made from, which is gone by now
            folder = tempfile.mkdtemp()
            type(self).addClassCleanup(shutil.rmtree, folder, ignore_errors=True)
            os.chmod(folder, 0o755)
            type(self).for_others = shutil.copy(CLI, folder)
            os.chmod(self.for_others, 0o755)
        return self.for_others

    def cli(self, *arguments, data=None, environment=None, timeout=60, **more):
        return subprocess.run([self.program(more.get("user")), *arguments], input=data, capture_output=True, timeout=timeout, cwd=self.dir,
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
