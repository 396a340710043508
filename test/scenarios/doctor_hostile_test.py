"""The command: kmsenv doctor, and files that were made to harm it: units, profiles, keys, links, pipes."""
import base64
import json
import os
import resource
import stat
import subprocess

import common
from cli_common import CLI, CliScenario, main
from doctor_service_test import ServiceScenario


class Keys(CliScenario):
    def test_no_pass_phrase_is_asked_for(self):
        """A block of ours says that it is encrypted: it is damaged, and nobody is asked for anything."""
        for label in ("KMS SEALED KEY", "KMS DATA KEY"):
            path = self.file("key.pem", "-----BEGIN %s-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,%s\n\n%s-----END %s-----\n" % (
                label, "00" * 16, base64.b64encode(bytes(48)).decode() + "\n", label))
            asked, answer = os.pipe()
            try:
                run = subprocess.run([CLI, "doctor", "--offline", "--config", self.local_config(), path], stdin=asked, capture_output=True, timeout=20,
                                     start_new_session=True, env=common.clean_environment(HOME=self.dir))
            finally:
                os.close(asked)
                os.close(answer)
            self.assertIn(b"is damaged", run.stdout)
            self.assertEqual(run.stderr, b"")


class Misplaced(ServiceScenario):
    def test_secret_in_the_list_of_providers(self):
        """Where OpenSSL takes its value for the name of a section; it is not shown."""
        with open(self.local_config(), encoding="utf-8") as source:
            text = source.read()
        self.assertIn("\nkmsenv = kmsenv_sect\n", text)
        for name in ("secret-key", "token", "client-secret", "key-file"):
            config = self.file("c.cnf", text.replace("\nkmsenv = kmsenv_sect\n", "\n%s = hunter2\nkmsenv = kmsenv_sect\nagain = kmsenv_sect\n" % name))
            report = self.report("--offline", "--config", config, status=1)
            self.found(report, "failed", name, "list of providers", subject="configuration file")
            self.assertNotIn("hunter2", json.dumps(report))


class Dropins(ServiceScenario):
    def test_names_that_are_more(self):
        """A path with a line feed would be one more setting in what is to be put into a drop-in; others mean something to systemd."""
        for path in ("/home/web/key\\nExecStartPre=/x", "/home/%u/key", "/home/a b", "/home/a:/etc", "/home/a\\\\b"):
            self.unit("Environment=OPENSSL_CONF=/etc/web/openssl.cnf", "ProtectHome=yes")
            self.configure(common.local_profile(path))
            report = self.below(status=1)
            self.found(report, "failed", "ProtectHome")
            self.assertNotIn("dropIn", report, path)
            self.assertNotIn("ReadOnlyPaths", json.dumps(report))


def limit():
    resource.setrlimit(resource.RLIMIT_CPU, (10, 10))      # seconds: of work, however busy the machine is
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))


class Roots(ServiceScenario):
    """Files below another root: what is in them leads nowhere else, and nothing is waited for or read without end."""

    def setUp(self):
        super().setUp()
        self.line = "Environment=OPENSSL_CONF=/etc/web/openssl.cnf"
        self.unit(self.line, "EnvironmentFile=-/etc/default/web", "ProtectHome=yes", "ExecStart=/usr/sbin/web")
        self.configure(common.local_profile("/home/web/key.pem"))

    def home_is_hidden(self):
        return any("ProtectHome" in c["message"] for c in self.below()["checks"])

    def link(self, path, target):
        """Below the root, a link; what was there is moved away."""
        whole = self.root + path
        os.makedirs(os.path.dirname(whole), exist_ok=True)
        if os.path.lexists(whole):
            os.rename(whole, whole + ".moved")
        os.symlink(target, whole)
        return path + ".moved"

    def test_links(self):
        """A link to an absolute path leads to that of the root; so does one of a directory."""
        self.assertTrue(self.home_is_hidden())
        moved = self.link("/etc/web/openssl.cnf", "/etc/web/openssl.cnf.moved")
        self.assertTrue(os.path.exists(self.root + moved))
        self.assertTrue(self.home_is_hidden())
        self.link("/etc/web", "/../../../etc/web.moved")
        self.assertTrue(self.home_is_hidden())
        self.link("/lib", "/usr/../lib.moved/.")
        os.makedirs(self.root + "/usr")
        self.assertTrue(self.home_is_hidden())
        self.put("/usr/share/override.conf", "[Service]\nProtectHome=no\n")
        self.link("/etc/systemd/system/web.service.d/a.conf", "/usr/share/override.conf")
        self.assertFalse(self.home_is_hidden())
        program = self.put("/usr/share/web", "")
        os.chmod(program, stat.S_ISUID | 0o755)
        self.link("/usr/sbin/web", "/usr/share/web")
        self.found(self.below(status=1), "failed", "set-user-ID")

    def test_nothing_outside(self):
        outside = self.file("outside.conf", "[Service]\nProtectHome=no\nEnvironment=OPENSSL_CONF=/nowhere\nOPENSSL_CONF=/nowhere\n")
        up = "/.." * 20
        for target in (outside, ".." + up + outside):
            for path in ("/etc/systemd/system/web.service.d/a.conf", "/etc/default/web", "/etc/systemd/system/web.service"):
                self.link(path, target)
                self.assertTrue(self.home_is_hidden(), (path, target))
                os.unlink(self.root + path)
        self.unit(self.line, "EnvironmentFile=-" + up + outside, "ProtectHome=yes")
        self.assertTrue(self.home_is_hidden())
        self.link("/etc/loop", "/etc/loop")
        self.link("/etc/default/web", "/etc/loop/x")
        self.assertTrue(self.home_is_hidden())
        part = self.file("part.cnf", "[main_sect]\nkey-file = /srv/key.pem\n")
        with open(self.root + "/etc/web/openssl.cnf", "a", encoding="utf-8") as out:
            out.write("\n.include %s%s\n.include %s\n" % (up, part, os.path.relpath(part, self.dir)))
        self.assertTrue(self.home_is_hidden())

    def test_no_files(self):
        """Pipes that nobody writes to, devices without an end, and files that are too large."""
        os.mkfifo(self.root + "/fifo")
        with open(self.root + "/large", "wb") as out:
            out.truncate(1 << 40)
        if os.geteuid() == 0:
            os.mknod(self.root + "/zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        for target in ("/fifo", "/large") + (("/zero",) if os.geteuid() == 0 else ()):
            for path in ("/etc/systemd/system/web.service.d/a.conf", "/etc/default/web", "/etc/apparmor.d/web", "/etc/web/part.cnf"):
                self.link(path, target)
            with open(self.root + "/etc/web/openssl.cnf", "a", encoding="utf-8") as out:
                out.write("\n.include /etc/web/part.cnf\n")
            run = self.cli("doctor", "--root", self.root, "--service", "web", timeout=200, preexec_fn=limit)
            self.assertIn(b"ProtectHome", run.stdout, (target, run))
            for path in ("/lib/systemd/system/web.service", "/etc/web/openssl.cnf"):
                moved = self.link(path, target)
                run = self.cli("doctor", "--root", self.root, "--service", "web", timeout=200, preexec_fn=limit)
                self.assertEqual(run.returncode, 1, run)
                os.rename(self.root + moved, self.root + path)

    def test_no_files_here(self):
        """The same without a root: a unit file that is a pipe, and pipes that a unit names."""
        os.mkfifo(self.path("fifo"))
        run = self.cli("doctor", "--offline", "--service", self.path("fifo"), timeout=20)
        self.assertEqual(run.returncode, 1, run)
        unit = self.file("web.service", "[Service]\nEnvironmentFile=%s\nEnvironment=OPENSSL_CONF=%s\n" % (self.path("fifo"), self.local_config()))
        run = self.cli("doctor", "--offline", "--service", unit, timeout=20)
        self.assertIn(b"fifo cannot be read", run.stdout)


class Profiles(ServiceScenario):
    """Patterns of AppArmor that take very long to match: not longer than a few seconds all together."""

    def setUp(self):
        super().setUp()
        self.unit("ExecStart=/usr/sbin/web", "Environment=OPENSSL_CONF=/etc/web/openssl.cnf")
        self.configure(keyring=":".join("/var/lib/web/%d" % i for i in range(20)))

    def soon(self):
        run = self.cli("doctor", "--root", self.root, "--service", "web", timeout=200, preexec_fn=limit)
        self.assertIn(b"checks, ", run.stdout)

    def bombs(self):
        path = "/" + "{,e}" * 5 + "{,a" + "b" * 7000 + "}" * 1
        return ["/" + "{e,}{**,*}" * 12 + "~", "/" + "**/" * 1000 + "~", "/{,*}" + "{*,**}" * 20 + "{x" + "y" * 7000 + ",}~", path, "/" + "[a-z]**" * 500 + "~",
                "@{X}" * 1500 + "~", "/" + "{a," * 2500 + "~" + "}" * 2500]

    def test_many_rules(self):
        for bomb in self.bombs():
            self.put("/etc/apparmor.d/web", "@{X}={,*,**}\n/usr/sbin/web {\n" + ("  %s r,\n" % bomb) * min(2000, 900000 // len(bomb)) + "}\n")
            self.soon()

    def test_many_heads(self):
        for bomb in self.bombs():
            self.put("/etc/apparmor.d/web", "@{X}={,*,**}\n" + ("%s {\n}\n" % bomb) * (900000 // len(bomb)))
            self.soon()

    def test_many_variables(self):
        self.put("/etc/apparmor.d/web", "@{X}=/\n" + "@{X}+=a\n" * 100000 + "/usr/sbin/web {\n@{X} r,\n}\n")
        self.soon()

    def test_many_files(self):
        one = self.put("/etc/apparmor.d/abstractions/a", "# x\n" * 200000)
        for i in range(398):
            os.link(one, one + str(i))
        for i in range(30):
            self.put("/etc/apparmor.d/%d" % i, "include <abstractions>\n")
        self.soon()


if __name__ == "__main__":
    main()
