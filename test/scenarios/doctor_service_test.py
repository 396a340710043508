"""The command: kmsenv doctor for a service - its unit, user, AppArmor profile and program."""
import json
import os
import re
import shutil
import stat
import subprocess
import time

import common
from cli_common import CLI, CliScenario, main

TENCENT = {"kms": "tencent", "region": "ap-guangzhou", "key-id": "23e80852-1e38-11e9-b129-5cb9019b4b01",
           "endpoint": "http://127.0.0.1:1", "insecure-http": "yes", "secret-id": "env:TEST_SECRET_ID", "secret-key": "env:TEST_SECRET_KEY"}

MODULE = "/usr/lib/kmsenv/kmsenv.so"      # below the root, where nothing is loaded


class ServiceScenario(CliScenario):
    def setUp(self):
        super().setUp()
        self.root = self.path("root")

    def put(self, path, text):
        """A file below the root."""
        whole = self.root + path
        os.makedirs(os.path.dirname(whole), exist_ok=True)
        with open(whole, "w", encoding="utf-8") as out:
            out.write(text)
        return whole

    def unit(self, *lines, name="web.service", section="Service"):
        self.put("/lib/systemd/system/" + name, "[Unit]\nAfter=network-online.target\n[%s]\n%s\n" % (section, "\n".join(lines)))

    def configure(self, profile=None, path="/etc/web/openssl.cnf", **settings):
        text = common.config_text({"main": profile or common.local_profile("/etc/web/key.pem")}, settings)
        self.assertIn(common.MODULE, text)
        self.put(path, text.replace(common.MODULE, MODULE))

    def report(self, *arguments, status=None, environment=None):
        run = self.cli("doctor", "--json", *arguments, environment=environment)
        self.assertEqual(run.stderr, b"", run)
        report = json.loads(run.stdout)
        self.assertEqual(report["failed"], sum(c["outcome"] == "failed" for c in report["checks"]))
        self.assertEqual(run.returncode, 1 if report["failed"] else 0)
        if status is not None:
            self.assertEqual(run.returncode, status, report)
        for check in report["checks"]:
            self.assertTrue(check["outcome"] != "failed" or check["remedy"], check)
        return report

    def below(self, *arguments, **more):
        return self.report("--root", self.root, "--service", "web", *arguments, **more)

    def about(self, report, subject):
        """(outcome, message) of each check of a subject."""
        return [(c["outcome"], c["message"]) for c in report["checks"] if c["subject"] == subject]

    def found(self, report, outcome, *words, subject="service web.service"):
        """One check of that subject and outcome says all the words."""
        checks = [m for o, m in self.about(report, subject) if o == outcome and all(w in m for w in words)]
        self.assertEqual(len(checks), 1, (outcome, words, report))


class Sandbox(ServiceScenario):
    """The settings of a unit, each with what it takes away."""

    def trap(self, *lines, outcome="failed", says=(), dropin=None, profile=None, **settings):
        self.unit("Environment=OPENSSL_CONF=/etc/web/openssl.cnf", "ExecStart=/usr/sbin/web", *lines)
        self.configure(profile, **settings)
        report = self.below(status=int(outcome == "failed"))
        self.found(report, outcome, lines[-1].split("=")[0], *says)
        if dropin is not None:
            self.assertIn("\n" + dropin + "\n", "\n" + report.get("dropIn", "") + "\n")
        return report

    def harmless(self, *lines, profile=None, **settings):
        self.unit("Environment=OPENSSL_CONF=/etc/web/openssl.cnf", "ExecStart=/usr/sbin/web", *lines)
        self.configure(profile, **settings)
        report = self.below(status=0)
        self.assertEqual([o for o, _ in self.about(report, "service web.service")], ["note", "ok"], report)     # its program is not there
        self.assertNotIn("dropIn", report)

    def test_nothing(self):
        self.harmless("NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes", "MemoryDenyWriteExecute=yes",
                      "RestrictAddressFamilies=AF_UNIX", "SystemCallFilter=@system-service", "SystemCallFilter=~@privileged @resources",
                      "CapabilityBoundingSet=~CAP_SYS_ADMIN", "LimitMEMLOCK=8M", "PrivateNetwork=yes", "IPAddressDeny=any")
        self.harmless("RestrictAddressFamilies=AF_INET AF_INET6", "TasksMax=100", "PrivateNetwork=no", profile=TENCENT)

    def test_hidden_paths(self):
        home = common.local_profile("/home/web/key.pem")
        self.trap("ProtectHome=yes", says=("hides /home/web/key.pem (key-file)",), profile=home,
                  dropin="[Service]\nBindReadOnlyPaths=/home/web/key.pem")
        self.trap("ProtectHome=tmpfs", profile=home)
        self.harmless("ProtectHome=no", profile=home)
        self.harmless("ProtectHome=read-only", profile=home)
        self.harmless("BindReadOnlyPaths=/home/web", "ProtectHome=yes", profile=home)
        self.trap("PrivateTmp=disconnected", profile=common.local_profile("/tmp/key.pem"))
        self.trap("PrivateTmp=yes", says=("/var/tmp/key.pem",), profile=common.local_profile("/var/tmp/key.pem"))
        self.trap("InaccessiblePaths=-/srv /etc/web", says=("/etc/web/key.pem",))
        self.trap("TemporaryFileSystem=/etc/web:ro", says=("/etc/web/openssl.cnf (the configuration)",))
        self.trap("NoExecPaths=/", says=(MODULE,))
        self.harmless("ExecPaths=/usr/lib/kmsenv", "NoExecPaths=/")

    def test_names_alike(self):
        """A directory hides what is in it, not what begins like it."""
        self.harmless("InaccessiblePaths=/etc/we /etc/web/key")
        self.harmless("ProtectHome=yes", profile=common.local_profile("/homes/key.pem"))

    def test_written_paths(self):
        log = {"audit_log": "/var/log/web/audit.log"}
        self.trap("ProtectSystem=strict", says=("/var/log/web/audit.log",), dropin="[Service]\nReadWritePaths=/var/log/web", **log)
        self.trap("ReadOnlyPaths=/var", **log)
        self.trap("ProtectSystem=full", audit_log="/etc/web/audit.log")
        self.trap("ProtectHome=read-only", audit_log="/home/web/audit.log")
        self.harmless("ProtectSystem=full", **log)
        self.harmless("ReadWritePaths=/var/log/web", "ProtectSystem=strict", **log)
        self.harmless("LogsDirectory=web", "ProtectSystem=strict", **log)

    def test_network(self):
        self.trap("PrivateNetwork=yes", profile=TENCENT, dropin="[Service]\nPrivateNetwork=no")
        self.trap("RestrictAddressFamilies=AF_UNIX", profile=TENCENT)
        self.trap("RestrictAddressFamilies=~AF_INET AF_INET6", profile=TENCENT)
        self.harmless("RestrictAddressFamilies=~AF_PACKET AF_INET6", profile=TENCENT)
        self.trap("IPAddressDeny=any", profile=TENCENT)
        self.trap("IPAddressAllow=10.0.0.0/8", "IPAddressDeny=any", outcome="note", profile=TENCENT)
        self.trap("SystemCallFilter=~@network-io", profile=TENCENT)
        self.trap("TasksMax=4", outcome="note", profile=TENCENT, dropin="[Service]\nTasksMax=64")

    def test_boot_order(self):
        self.put("/lib/systemd/system/web.service", "[Service]\nEnvironment=OPENSSL_CONF=/etc/web/openssl.cnf\n")
        self.configure(TENCENT)
        report = self.below(status=0)
        self.found(report, "note", "network-online.target")
        self.assertIn("[Unit]\nWants=network-online.target\n", report["dropIn"])
        self.configure()
        self.assertNotIn("dropIn", self.below(status=0))

    def test_memory(self):
        for limit in ("0", "16K", "32768"):
            self.trap("LimitMEMLOCK=" + limit, outcome="note", says=("cannot be locked",), dropin="[Service]\nLimitMEMLOCK=8M")
        self.harmless("LimitMEMLOCK=infinity")
        self.trap("SystemCallFilter=~@privileged @memlock", outcome="note")
        self.trap("SystemCallFilter=@basic-io", outcome="note")

    def test_dynamic_user(self):
        self.unit("Environment=OPENSSL_CONF=/etc/web/openssl.cnf", "DynamicUser=yes", "ProtectHome=no")
        self.configure(common.local_profile("/var/tmp/key.pem"), audit_log="/home/web/audit.log")
        report = self.below(status=1)
        self.found(report, "failed", "PrivateTmp=yes", "/var/tmp/key.pem")
        self.found(report, "failed", "ProtectSystem=strict", "/home/web/audit.log")
        self.found(report, "note", "nobody stands for it")

    def test_specifiers(self):
        """systemd replaces them in most settings."""
        log = {"audit_log": "/var/log/web/a.log"}
        for path in ("/var/log/%p", "%L/%N", "/var/%%/.. %L/web", "/var/log/%n /var/log"):
            self.harmless("ReadWritePaths=" + path, "ProtectSystem=strict", **log)
        for path in ("/var/log/%%p", "/var/log/%n", "/var/log/%i", "%", "%Z"):
            self.trap("ReadWritePaths=" + path, "ProtectSystem=strict", **log)

    def test_others(self):
        self.trap("RootDirectory=/srv/web", outcome="note")
        self.trap("CapabilityBoundingSet=CAP_NET_BIND_SERVICE", outcome="note", says=("belong to root",))
        self.harmless("User=nobody", "CapabilityBoundingSet=CAP_NET_BIND_SERVICE")

    def test_text(self):
        self.unit("Environment=OPENSSL_CONF=/etc/web/openssl.cnf", "ProtectHome=yes")
        self.configure(common.local_profile("/root/key.pem"))
        run = self.cli("doctor", "--root", self.root, "--service", "web")
        self.assertRegex(run.stdout.decode(), r"(?m)^\nFor a drop-in \(systemctl edit web.service\):\n    \[Service\]\n"
                                              r"    BindReadOnlyPaths=/root/key.pem\n\n\d+ checks, 1 failed$")


class Units(ServiceScenario):
    """Where the settings of a unit are."""

    def home_is_hidden(self, name="web"):
        report = self.report("--root", self.root, "--service", name)
        return any("ProtectHome" in c["message"] for c in report["checks"])

    def setUp(self):
        super().setUp()
        self.configure(common.local_profile("/home/web/key.pem"))
        self.line = "Environment=OPENSSL_CONF=/etc/web/openssl.cnf"

    def test_ranks_and_dropins(self):
        self.unit(self.line, "ProtectHome=yes")
        self.assertTrue(self.home_is_hidden())
        self.put("/lib/systemd/system/web.service.d/50.conf", "[Service]\nProtectHome=no\n")
        self.assertFalse(self.home_is_hidden())
        self.put("/etc/systemd/system/web.service.d/50.conf", "[Service]\n")
        self.assertTrue(self.home_is_hidden(), "one in /etc takes the place of that in /lib")
        self.put("/etc/systemd/system/web.service.d/60.conf", "[Service]\nProtectHome=yes\n")
        self.assertTrue(self.home_is_hidden())
        self.put("/etc/systemd/system/web.service.d/50.conf", "[Service]\n")
        self.put("/run/systemd/system/web.service.d/60.conf", "[Service]\nProtectHome=no\n")
        self.assertTrue(self.home_is_hidden(), "the one in /etc hides that in /run")
        self.put("/etc/systemd/system/service.d/70.conf", "[Service]\nProtectHome=no\n")
        self.assertFalse(self.home_is_hidden(), "for all services")
        os.unlink(self.root + "/etc/systemd/system/service.d/70.conf")
        self.put("/etc/systemd/system/web.service", "[Service]\n%s\n" % self.line)
        self.put("/etc/systemd/system/web.service.d/60.conf", "")
        self.assertFalse(self.home_is_hidden())

    def test_templates_and_aliases(self):
        self.unit(self.line, "ProtectHome=yes", name="web@.service")
        self.assertTrue(self.home_is_hidden("web@main"))
        self.unit("Environment=OPENSSL_CONF=/etc/%p/%i.cnf", "ProtectHome=yes", name="web@.service")
        self.assertTrue(self.home_is_hidden("web@openssl"))
        self.unit(self.line, "ProtectHome=yes", name="web@.service")
        self.assertTrue(self.home_is_hidden("web@main.service"))
        self.put("/etc/systemd/system/web@.service.d/a.conf", "[Service]\nProtectHome=no\n")
        self.assertFalse(self.home_is_hidden("web@main"))
        self.unit(self.line)
        self.put("/etc/systemd/system/web.service.d/a.conf", "[Service]\nProtectHome=yes\n")
        os.symlink("/lib/systemd/system/web.service", self.root + "/etc/systemd/system/site.service")
        self.put("/etc/systemd/system/site.service.d/b.conf", "[Service]\nReadOnlyPaths=/x\n")
        shutil.copy(self.root + "/lib/systemd/system/web.service", self.root + "/etc/systemd/system/other.service")
        self.assertFalse(self.home_is_hidden("other"))

    def test_masked(self):
        self.unit(self.line)
        self.report("--root", self.root, "--service", "web", status=0)
        os.makedirs(self.root + "/etc/systemd/system")
        os.symlink("/dev/null", self.root + "/etc/systemd/system/web.service")
        self.found(self.report("--root", self.root, "--service", "web", status=1), "failed", "masked", subject="service")

    def test_syntax(self):
        self.unit("# Environment=OPENSSL_CONF=/nowhere", "  Environment = \"A=b c\" \\", "   'OPENSSL_CONF=/etc/web/openssl.cnf'  ",
                  "; ProtectHome=no", "ProtectHome = on", "Nonsense", "[Install]")
        self.assertTrue(self.home_is_hidden())
        self.unit(self.line, "Environment=", "Environment=X=y")
        report = self.below()
        self.found(report, "failed", "does not load kmsenv")

    def test_environment_files(self):
        self.put("/etc/default/web", "# a comment\nA=1\nOPENSSL_CONF=\"/etc/web/openssl.cnf\"\n")
        self.unit("Environment=OPENSSL_CONF=/nowhere.cnf", "EnvironmentFile=-/etc/default/none", "EnvironmentFile=-/etc/default/web", "ProtectHome=yes")
        self.assertTrue(self.home_is_hidden())
        self.unit("EnvironmentFile=/etc/default/none")
        self.found(self.below(), "note", "/etc/default/none cannot be read")
        self.unit(self.line, "UnsetEnvironment=OPENSSL_CONF")
        self.found(self.below(), "failed", "does not load kmsenv")

    def test_no_such_unit(self):
        for name in ("nosuch", "", "../web", "x" * 300):
            report = self.report("--root", self.root, "--service", name, status=1)
            self.assertEqual(report["checks"][0]["subject"], "service")

    def test_includes_below_the_root(self):
        """An included file is looked for there, too, and is one that the service needs."""
        self.put("/etc/web/openssl.cnf", ".include /srv/kmsenv.d\n")
        self.put("/srv/kmsenv.d/kmsenv.cnf", common.config_text({"main": common.local_profile("/home/web/key.pem")}, {}))
        self.put("/srv/kmsenv.d/readme.txt", "[broken")
        self.unit(self.line, "ProtectHome=yes", "InaccessiblePaths=/srv")
        report = self.below(status=1)
        self.found(report, "failed", "/home/web/key.pem")
        self.found(report, "failed", "/srv/kmsenv.d/kmsenv.cnf (an included file)")

    def test_own_configuration(self):
        """Without a variable it is the system's."""
        self.unit("ProtectHome=yes")
        directory = re.search(rb'OPENSSLDIR: "(.*)"', self.openssl("version", "-d").stdout)[1].decode()
        self.configure(common.local_profile("/home/web/key.pem"), path=directory + "/openssl.cnf")
        self.assertTrue(self.home_is_hidden())

    def test_hostile(self):
        """Whatever is in the file: an answer, and no control characters in it."""
        self.unit(self.line, "ProtectHome=\x1b[31mred", "User=\x07" + "u" * 5000, "ExecStart=" + "x" * 20000, "=", "InaccessiblePaths=" + "/a " * 30000,
                  "Environment=" + "A=b " * 9000)
        run = self.cli("doctor", "--root", self.root, "--service", "web")
        self.assertNotIn(b"\x1b", run.stdout)
        self.assertIn(run.returncode, (0, 1))
        for text in ("x" * 20000 + "\n", "ProtectHome=" + "x" * 20000 + "\n", "x\\\n" * 20000, "x" * 16000 + "\\\n" + "y" * 1000):
            self.put("/lib/systemd/system/web.service", text + self.line + "\nProtectHome=yes\n[Install]\n")
            self.assertTrue(self.home_is_hidden() or "\\" in text, text[:20])
        with open(self.root + "/lib/systemd/system/web.service", "wb") as out:
            out.write(b"[Service]\n" + os.urandom(20000).replace(b"\0", b"\n") + b"\n" + b"\\\n" * 20000)
        self.assertIn(self.cli("doctor", "--root", self.root, "--service", "web").returncode, (0, 1))


class Users(ServiceScenario):
    """As the user of the service; only root can become another one."""

    def test_as_it_runs(self):
        """The unit's environment and configuration count, not ours; its profiles are tried."""
        config = self.local_config()
        unit = self.file("web.service", "[Service]\nExecStart=/usr/sbin/web\nEnvironment=OPENSSL_CONF=%s\n" % config)
        report = self.report("--service", unit, environment={"OPENSSL_CONF": "/nonexistent.cnf", "KMSENV_DEK_MAX_AGE": "often"}, status=0)
        self.found(report, "ok", "made a data key", subject="profile main")
        self.assertEqual(self.about(report, "environment"), [])
        report = self.report("--service", unit, "--offline", status=0)
        self.assertEqual(self.about(report, "profile main"), [])

    def test_variables_of_the_unit(self):
        config = self.config({"main": {**TENCENT, "endpoint": "http://127.0.0.1:1"}})
        unit = "[Service]\nEnvironment=OPENSSL_CONF=%s\nEnvironment=TEST_SECRET_ID=AKIDTESTTESTTEST\n" % config
        both = self.report("--offline", "--service", self.file("a.service", unit + "EnvironmentFile=%s\n" % self.file("env", "TEST_SECRET_KEY=testtest\n")))
        self.assertEqual(both["failed"], 0, both)
        one = self.report("--offline", "--service", self.file("b.service", unit), environment={"TEST_SECRET_KEY": "testtest"}, status=1)
        self.found(one, "failed", "TEST_SECRET_KEY is not set", subject="setting secret-key")

    def test_other_user(self):
        config = self.local_config()
        report = self.report("--user", "nobody", "--config", config)
        if os.geteuid() != 0:
            self.found(report, "note", "checked as you, not as nobody", subject="user")
            return
        self.found(report, "failed", "directory %s, with mode 0700" % self.dir, "closed to this user", subject="configuration file")
        os.chmod(self.dir, 0o711)
        os.chmod(config, 0o644)
        report = self.report("--user", "nobody", "--config", config, status=1)
        self.found(report, "ok", "as nobody", subject="user")
        self.found(report, "ok", "activates kmsenv", subject="configuration file")
        self.assertEqual(len(self.about(report, "setting key-file")), 1)
        self.found(report, "failed", self.key_file, subject="setting key-file")
        os.chown(self.key_file, 65534, 65534)
        module = self.about(report, "module")       # the build may be in a directory that nobody can enter
        self.report("--user", "nobody", "--config", config, status=int(bool(module)))

    def test_users_by_number(self):
        """And it is that user for good: nothing of root is left."""
        config = self.local_config()
        report = self.report("--offline", "--user", str(os.geteuid()), "--config", config, status=0)
        self.found(report, "ok", "as %d" % os.geteuid(), subject="user")
        self.found(self.report("--user", "4294967295", "--config", config, status=1), "failed", "no user", subject="user")
        if os.geteuid() != 0:
            return
        unit = "[Service]\nUser=65534\nGroup=%s\nSupplementaryGroups=12 12345\nEnvironment=OPENSSL_CONF=" + config + "\n"
        self.found(self.report("--offline", "--service", self.file("a.service", unit % "33333")), "ok", "as 65534", subject="user")
        self.found(self.report("--offline", "--service", self.file("a.service", unit % "nosuch"), status=1), "failed", "cannot become 65534", subject="user")
        os.chmod(self.dir, 0o711)
        os.mkfifo(self.path("pipe"), 0o644)      # where it waits, as that user, so that it can be looked at
        unit = "[Service]\nUser=65534\nGroup=33333\nSupplementaryGroups=12 12345\nEnvironment=OPENSSL_CONF=%s\n" % self.path("pipe")
        with subprocess.Popen([CLI, "doctor", "--offline", "--service", self.file("b.service", unit)], stdout=subprocess.DEVNULL) as doctor:
            try:
                self.assertEqual(self.status_of(doctor.pid), {
                    "Uid": "65534 65534 65534 65534", "Gid": "33333 33333 33333 33333", "Groups": "12 12345 33333", "CapPrm": "0" * 16,
                    "CapEff": "0" * 16, "CapAmb": "0" * 16})
            finally:
                doctor.kill()

    @staticmethod
    def status_of(pid):
        """When it is no longer root."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with open("/proc/%d/status" % pid, encoding="utf-8") as lines:
                status = dict(line.split(":", 1) for line in lines)
            if not status["Uid"].startswith("\t0\t"):
                break
            time.sleep(0.02)
        return {name: " ".join(status[name].split()) for name in ("Uid", "Gid", "Groups", "CapPrm", "CapEff", "CapAmb")}

    def test_unreadable_include(self):
        """OpenSSL passes over it without a word."""
        config, part = self.local_config(), self.file("part.cnf", "[other]\na = b\n")
        with open(config, encoding="utf-8") as source:
            text = source.read() + ".include %s\n" % part
        config = self.file("with.cnf", text)
        self.report("--config", config, status=0)
        os.chmod(part, 0o666)
        self.found(self.report("--config", config, status=1), "failed", "mode 0666", subject="configuration file")
        os.unlink(part)
        self.found(self.report("--config", config, status=1), "failed", part, "goes on without it", subject="configuration file")

    def test_relative_configuration(self):
        config = self.local_config()
        os.chmod(config, 0o666)
        self.found(self.report("--offline", "--config", os.path.basename(config), status=1), "failed", config, "mode 0666", subject="configuration file")

    def test_unknown_user(self):
        report = self.report("--user", "no such user", status=1)
        self.found(report, "failed", "no such user", subject="user")

    def test_module_that_others_can_write(self):
        config = self.local_config()
        copy = self.path("kmsenv.so")
        shutil.copy(common.MODULE, copy)
        with open(config, encoding="utf-8") as source:
            text = source.read().replace(common.MODULE, copy)
        config = self.file("copy.cnf", text)
        os.chmod(copy, 0o755)
        self.report("--config", config, status=0)
        os.chmod(copy, 0o777)
        self.found(self.report("--config", config, status=1), "failed", "mode 0777", subject="module")

    def test_section_that_nothing_leads_to(self):
        with open(self.local_config(), encoding="utf-8") as source:
            text = source.read()
        self.assertIn("openssl_conf", text)
        report = self.report("--offline", "--config", self.file("stray.cnf", text.replace("openssl_conf", "openssl_config")), status=1)
        self.found(report, "failed", "does not get to section [kmsenv_sect]", subject="configuration file")


class System(ServiceScenario):
    """OpenSSL's own openssl.cnf, with another file mounted over it: everybody uses that."""

    def system(self, config, *arguments):
        mount = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
        return self.run_mounted(["unshare", "--mount", "sh", "-c", mount, "-", config, self.file_of_openssl()], *arguments)

    def file_of_openssl(self):
        directory = re.search(rb'OPENSSLDIR: "(.*)"', self.openssl("version", "-d").stdout)[1].decode()
        return os.path.realpath(os.path.join(directory, "openssl.cnf"))

    def run_mounted(self, command, *arguments):
        run = subprocess.run([*command, CLI, "doctor", "--offline", "--json", *arguments], capture_output=True, timeout=60, cwd=self.dir,
                             env=common.clean_environment(HOME=self.dir))
        self.assertEqual(run.stderr, b"", run)
        return json.loads(run.stdout)

    def setUp(self):
        super().setUp()
        if subprocess.run(["unshare", "--mount", "true"], capture_output=True, timeout=20).returncode != 0:
            self.skipTest("mounting a file over another one needs root")

    def test_readable_by_all(self):
        config = self.local_config()
        os.chmod(config, 0o644)
        self.assertEqual(len([m for _, m in self.about(self.system(config), "configuration file") if "without kmsenv" in m]), 0)
        os.chmod(config, 0o640)
        report = self.system(config)
        self.assertEqual(report["failed"], 0, report)
        self.found(report, "note", "mode 0640", "go on without kmsenv", subject="configuration file")
        self.assertEqual(len(self.about(self.report("--offline", "--config", config, status=0), "configuration file")), 1, "not the system's")

    def test_node(self):
        """Where it is installed its users expect it to work."""
        config = self.local_config()
        node = [n for n in ("/usr/bin/node", "/usr/bin/nodejs", "/usr/local/bin/node") if os.access(n, os.X_OK)]
        self.assertEqual([o for o, _ in self.about(self.system(config), "node")], ["note"] if node else [])
        with open(config, encoding="utf-8") as source:
            config = self.file("node.cnf", "nodejs_conf = init\n" + source.read())
        self.assertEqual(self.about(self.system(config), "node"), [])


class Programs(ServiceScenario):
    def test_program(self):
        for name in ("postfix", "/usr/lib/postfix/sbin/master"):
            report = self.report("--program", name, "--root", self.root, status=0)
            self.assertIn("import_environment", [c for c in report["checks"] if c["subject"] == "program postfix"][0]["remedy"])
        self.assertEqual(self.report("--program", "wget", "--root", self.root, status=1)["failed"], 1)
        report = self.report("--program", "nosuch", "--root", self.root, status=0)
        self.found(report, "note", "nothing is known of it", "postfix", subject="program nosuch")

    def test_node(self):
        self.configure()
        self.unit("ExecStart=/usr/bin/node server.js", "Environment=OPENSSL_CONF=/etc/web/openssl.cnf")
        self.found(self.below(status=1), "failed", "no line nodejs_conf")
        with open(self.root + "/etc/web/openssl.cnf", encoding="utf-8") as source:
            text = source.read()
        self.put("/etc/web/openssl.cnf", "nodejs_conf = init\n" + text)
        self.below(status=0)

    def test_cleared_environment(self):
        self.configure()
        self.unit("ExecStart=/usr/sbin/dovecot -F", "Environment=OPENSSL_CONF=/etc/web/openssl.cnf")
        self.found(self.below(status=1), "failed", "sets OPENSSL_CONF, which dovecot does not hand on")

    def test_secure_execution(self):
        self.configure()
        program = self.put("/usr/sbin/web", "#!/bin/sh\n")
        lines = ["ExecStart=-/usr/sbin/web --foreground", "Environment=OPENSSL_CONF=/etc/web/openssl.cnf"]
        self.unit(*lines)
        self.below(status=0)
        os.chmod(program, stat.S_ISUID | 0o755)
        self.found(self.below(status=1), "failed", "sets OPENSSL_CONF", "set-user-ID")
        os.chmod(program, 0o755)
        if os.geteuid() == 0:
            os.setxattr(program, "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
            self.found(self.below(status=1), "failed", "file capabilities")

    def test_completion(self):
        names = self.ok("--complete", "3", "kmsenv", "doctor", "--program", "").splitlines()
        self.assertEqual(names[0], "words")
        self.assertIn("postfix", names)


class AppArmor(ServiceScenario):
    def setUp(self):
        super().setUp()
        self.configure()
        self.unit("ExecStart=/usr/sbin/web", "Environment=OPENSSL_CONF=/etc/web/openssl.cnf")
        self.put("/etc/apparmor.d/abstractions/base", "  /usr/lib/** mr,\n")
        self.put("/etc/apparmor.d/tunables/global", "@{ETC}=/etc /usr/etc\n@{HOMES}=@{ETC} /home\n")

    def profile(self, *rules, head="/usr/sbin/web {", name="usr.sbin.web"):
        self.put("/etc/apparmor.d/" + name, "#include <tunables/global>\n%s\n  #include <abstractions/base>\n%s\n}\n" % (
            head, "\n".join("  " + r for r in rules)))

    def lacks(self):
        """The paths that the profile does not allow."""
        checks = self.about(self.below(status=0), "AppArmor")
        self.assertTrue(all(outcome == ("note" if "seems to allow no" in text else "ok") for outcome, text in checks), checks)
        return [re.search(r'no "(\w+)" on (\S+)', text).groups() for outcome, text in checks if outcome == "note"]

    def test_no_profile(self):
        report = self.below(status=0)
        self.found(report, "ok", "no profile", subject="AppArmor")
        self.profile(head="/usr/sbin/other {")
        self.assertEqual(self.lacks(), [])
        self.profile()
        self.assertEqual(self.lacks(), [("r", "/etc/web/openssl.cnf"), ("r", "/etc/web/key.pem")])
        self.put("/etc/apparmor.d/disable/usr.sbin.web", "")
        self.found(self.below(status=0), "ok", "no profile", subject="AppArmor")

    def test_heads(self):
        for head in ("profile web /usr/sbin/web flags=(attach_disconnected) {", "/usr/{,local/}sbin/web {", "/usr/sbin/* {", '"/usr/sbin/web" {'):
            self.profile(head=head)
            self.assertEqual(len(self.lacks()), 2, head)
        self.profile(head="/usr/sbin/web flags=(complain) {")
        self.assertEqual(len([m for _, m in self.about(self.below(), "AppArmor") if "only complains" in m]), 2)

    def test_rules(self):
        enough = (["/etc/web/** r,"], ["/etc/web/{openssl.cnf,key.pem} r,"], ["owner @{ETC}/web/*.{cnf,pem} rw,  # comment"], ["file,"],
                  ["r /etc/web/*,"], ["@{HOMES}/w?b/[a-z]* r,"], ["/etc/web/openssl.cnf r,", "/etc/web/key.pem r,"], ["@{unknown}/key.pem r,", "/etc/web/*.cnf r,"],
                  ["/{,usr/}etc/web/{openssl,{key,x}}.{pem,cnf} r,"])
        for rules in enough:
            self.profile(*rules)
            self.assertEqual(self.lacks(), [], rules)
        for rules in (["/etc/* r,"], ["/etc/web/?? r,"], ["/etc/web/** w,"], ["/etc/web/** r,", "deny /etc/web/** r,"], ["/etc/web r,"], ["network inet stream,"],
                      ["profile child {", "/etc/web/** r,", "}"], ["^hat {", "file,", "}"]):
            self.profile(*rules)
            self.assertEqual(len(self.lacks()), 2, rules)

    def test_local_additions(self):
        self.profile("include if exists <local/usr.sbin.web>")
        self.assertEqual(len(self.lacks()), 2)
        self.put("/etc/apparmor.d/local/usr.sbin.web", "/etc/web/* r,\n")
        self.assertEqual(self.lacks(), [])
        self.profile("#include <nosuch>")
        self.assertIn("includes are not there", self.about(self.below(), "AppArmor")[0][1])

    def test_other_needs(self):
        self.configure(TENCENT, keyring="/var/lib/web", audit_log="/var/log/web.log")
        self.profile("/etc/web/* r,")
        checks = self.about(self.below(status=0), "AppArmor")
        self.assertEqual(len(checks), 3, checks)
        self.profile("/etc/web/* r,", "/var/lib/web/* r,", "/var/log/web.log w,", "network inet stream,")
        self.assertEqual(self.lacks(), [])

    def test_hostile(self):
        """Loops of includes, patterns that explode: bounded, and taken for allowed."""
        self.put("/etc/apparmor.d/loop", "#include <loop>\n#include <loop>\n")
        self.profile("#include <loop>", "/" + "{a,{b," * 40 + " r,", "/" + "**a" * 60 + " r,", "{" * 3000 + " r,", "@{X}" * 900 + " r,", "/etc/[ r,",
                     "/" + "{**,**}" * 20 + "~ r,")
        self.put("/etc/apparmor.d/tunables/global", "@{X}=@{X} @{X}\n@{Y\n")
        self.cli("doctor", "--root", self.root, "--service", "web", timeout=30)


if __name__ == "__main__":
    main()
