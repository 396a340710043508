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
            if common.MODULES:
                type(self).for_others = self.with_libraries(self.for_others, folder)
        return self.for_others

    def with_libraries(self, program, folder):
        """The program's own loader and libraries are where its build is (test/run --openssl): copies of them, and what starts it with them."""
        loader = ""
        for path in common.libraries(program):
            copy = shutil.copy(path, folder)
            os.chmod(copy, 0o755)
            if os.path.basename(path) == "loader":
                loader = copy
        self.assertTrue(loader)
        script = os.path.join(folder, "start")
        with open(script, "w", encoding="utf-8") as out:
            out.write('#!/bin/sh\nexec %s --library-path %s %s "$@"\n' % (loader, folder, program))
        os.chmod(script, 0o755)
        return script

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
