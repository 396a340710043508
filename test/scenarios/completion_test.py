"""Completion in bash: conf/completion/kmsenv, as bash itself would call it, has everything that the command has."""
import os
import re
import subprocess

import common
from cli_common import CLI, SOURCE, CliScenario, main

SCRIPT = os.path.join(SOURCE, "conf", "completion", "kmsenv")
# What readline does: break the line into words, call the function, take what it leaves.
DRIVER = r"""
source "$1" || exit 9
[[ $(complete -p kmsenv) == "complete -o default -F _kmsenv kmsenv" ]] || exit 8
COMP_WORDS=("${@:3}") COMP_CWORD=$2
_kmsenv kmsenv "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
((${#COMPREPLY[@]} == 0)) || printf '%s\n' "${COMPREPLY[@]}"
"""


class Completion(CliScenario):
    def complete(self, *words, at=None, environment=None):
        """The candidates for the last word, or word number `at`."""
        at = len(words) if at is None else at
        run = subprocess.run(["/bin/bash", "--norc", "-c", DRIVER, "bash", SCRIPT, str(at), CLI, *words], capture_output=True,
                             timeout=30, env=common.clean_environment(HOME=self.dir, **(environment or {})), cwd=self.dir)
        self.assertEqual((run.returncode, run.stderr), (0, b""), run)
        return run.stdout.decode().splitlines()

    def answer(self, *words):
        """words or files: whether names of files are completed too."""
        return self.ok("--complete", str(len(words)), "kmsenv", *words).splitlines()[0]

    def commands(self):
        found = re.findall(r"(?m)^  ([\w-]+) +\S", self.ok("--help"))
        self.assertIn("doctor", found)
        return found

    def test_commands(self):
        self.assertEqual(self.complete(""), self.commands())
        self.assertEqual(self.complete("do"), ["doctor"])
        self.assertEqual(sorted(self.complete("--")), ["--help", "--version"])
        self.assertEqual(self.complete("nosuch"), [])
        self.assertEqual(self.complete("nosuch", "--"), [])

    def test_every_option(self):
        for command in self.commands():
            shown = set(re.findall(r"(?m)^  (--[\w-]+)", self.ok(command, "--help")))
            self.assertEqual(set(self.complete(command, "--")), shown, command)
            for option in shown:
                self.assertIn(option, self.complete(command, option[:-1]))
            self.assertEqual(self.complete(command, "--", "--"), [], command)

    def test_values(self):
        """A name of a file, or of a profile, behind every option with a value, and behind its letter."""
        seen = 0
        for command in self.commands():
            values = re.findall(r"(?m)^  --([\w-]+) ([A-Z]\S*?)(?:, -(\w))?(?: |$)", self.ok(command, "--help"))
            seen += len(values)
            for name, value, letter in values:
                kind = self.answer(command, "--" + name, "")
                profiles = name in ("profile", "to", "add")
                self.assertEqual(kind, "words" if profiles or name == "program" else "files", (command, name, value))
                self.assertEqual(self.complete(command, "--" + name, "") == ["default"], profiles, (command, name))
                if letter:
                    self.assertEqual(self.answer(command, "-" + letter, "-"), self.answer(command, "--" + name, "-"), (command, letter))
        self.assertGreater(seen, 5)

    def test_profiles(self):
        one, two = common.local_key_file(self.path("1.pem")), common.local_key_file(self.path("2.pem"))
        config = self.config({"prod": common.local_profile(one), "press": common.local_profile(two)})
        here = {"OPENSSL_CONF": config}
        self.assertEqual(self.complete("doctor", "--profile", "", environment=here), ["prod", "press"])
        self.assertEqual(self.complete("doctor", "--profile", "pro", environment=here), ["prod"])
        self.assertEqual(self.complete("doctor", "--profile", "=", "pre", environment=here), ["press"])
        self.assertEqual(self.complete("doctor", "--profile", "=", environment=here), ["prod", "press"])
        self.assertEqual(self.complete("doctor", "--profile=pre", environment=here), ["--profile=press"])
        self.assertEqual(self.complete("doctor", "--profile", "prod,pre", environment=here), ["prod,press"])
        self.assertEqual(self.complete("doctor", "--profile", "nosuch", environment=here), [])
        for words in (("--config", config), ("--config", "=", config)):
            self.assertEqual(self.complete("doctor", *words, "--profile", "p"), ["prod", "press"])
        self.assertEqual(self.complete("doctor", "--profile", ""), ["default"])
        self.assertEqual(self.complete("doctor", "--profile", "p", environment={"KMSENV_PROFILES": "page, two"}), ["page"])
        self.assertEqual(self.complete("doctor", "--profile", "", environment={"OPENSSL_CONF": self.file("bad", "[")}), ["default"])
        self.assertEqual(self.answer("doctor", "--profile", ""), "words")

    def test_no_key_is_touched(self):
        """Names only: neither the key file nor the audit log."""
        config = self.local_config(audit_log=self.path("audit.log"))
        os.unlink(self.key_file)
        self.assertEqual(self.complete("doctor", "--profile", "", environment={"OPENSSL_CONF": config}), ["main"])
        self.assertFalse(os.path.exists(self.path("audit.log")))

    def test_words_and_files(self):
        self.assertEqual(self.complete("keyring", ""), ["list", "check", "add"])
        self.assertEqual(self.complete("keyring", "ch"), ["check"])
        self.assertEqual((self.complete("keyring", "add", ""), self.answer("keyring", "add", "")), ([], "files"))
        self.assertEqual((self.complete("inspect", ""), self.answer("inspect", "--json", "")), ([], "files"))
        self.assertEqual((self.complete("doctor", "--config", ""), self.answer("doctor", "--config", "--")), ([], "files"))
        self.assertEqual(self.answer("keyring", ""), "words")

    def test_cursor_inside(self):
        self.assertEqual(self.complete("doc", "--json", at=1), ["doctor"])
        self.assertEqual(self.complete("doctor", "--js", "--config", "x", at=2), ["--json"])

    def test_wrong_calls(self):
        for arguments in ((), ("1",), ("0", "kmsenv"), ("-1", "kmsenv", "a"), ("3", "kmsenv", "a"), ("x", "kmsenv")):
            self.assertEqual(self.cli("--complete", *arguments).returncode, 2, arguments)


if __name__ == "__main__":
    main()
