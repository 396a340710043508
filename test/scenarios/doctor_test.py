"""The command: kmsenv doctor; and the examples in conf/ and README.md, which it has to find in order."""
import json
import os
import re
import resource
import socket
import subprocess

import common
from cli_common import CLI, SOURCE, CliScenario, main


class Doctor(CliScenario):
    def doctor(self, config, *arguments, environment=None, status=0):
        """The checks of the report, as {subject: [check]}."""
        run = self.cli("doctor", "--json", *(["--config", config] if config else []), *arguments, environment=environment)
        self.assertEqual((run.returncode, run.stderr), (run.returncode if status is None else status, b""), run)
        report = json.loads(run.stdout)
        self.assertEqual(report["failed"], sum(c["outcome"] == "failed" for c in report["checks"]))
        self.assertEqual(report["failed"] > 0, run.returncode == 1)
        found = {}
        for check in report["checks"]:
            found.setdefault(check["subject"], []).append(check)
        return found

    def failed(self, config, subject, *words, **more):
        """Exactly one subject fails (and what follows from it), saying the words, with a remedy."""
        found = self.doctor(config, status=1, **more)
        checks = [c for c in found.get(subject, []) if c["outcome"] == "failed"]
        self.assertTrue(checks, (subject, found))
        for word in words:
            self.assertIn(word, " ".join(c["message"] for c in checks))
        for check in checks:
            self.assertTrue(check["remedy"], check)
        return found

    def rewrite(self, config, old, new):
        with open(config, encoding="utf-8") as source:
            text = source.read()
        self.assertIn(old, text)
        return self.file("changed.cnf", text.replace(old, new))

    def test_good(self):
        config = self.local_config(audit_log=self.path("audit.log"))
        for arguments in (["--config", config], []):
            text = self.ok("doctor", *arguments, environment={"OPENSSL_CONF": config})
            self.assertRegex(text, r"(?m)^ok +provider: kmsenv \d")
            self.assertRegex(text, r"(?m)^ok +profile main: made a data key in \d+ ms, unwrapped it in \d+ ms$")
            self.assertRegex(text, r"(?m)^\d+ checks, 0 failed$")
            self.assertNotIn("FAILED", text)
        with open(self.path("audit.log"), encoding="utf-8") as log:
            lines = [json.loads(line) for line in log]
        self.assertEqual([line["operation"] for line in lines].count("decrypt"), 2, lines)
        found = self.doctor(config)
        self.assertRegex(found["provider"][0]["message"], r"is loaded into OpenSSL \d+\.\d+\.\d+ and offers kms-envelope$")

    def test_two_profiles(self):
        one, two = common.local_key_file(self.path("1.pem")), common.local_key_file(self.path("2.pem"))
        config = self.config({"a": common.local_profile(one), "b": common.local_profile(two)})
        found = self.doctor(config)
        self.assertEqual([found["profile " + p][0]["outcome"] for p in "ab"], ["ok", "ok"])
        self.assertNotIn("profile a", self.doctor(config, "--profile", "b"))
        os.unlink(two)
        found = self.failed(config, "profile b", two)
        self.assertEqual(found["profile a"][0]["outcome"], "ok")

    def test_environment_only(self):
        key = common.local_key_file(self.path("k.pem"))
        environment = {"KMSENV_KMS": "local", "KMSENV_KEY_FILE": key, "OPENSSL_MODULES": common.MODULE_DIR}
        found = self.doctor(self.file("empty.cnf", ""), environment=environment)
        self.assertEqual(found["profile default"][0]["outcome"], "ok")
        self.failed(self.file("empty.cnf", ""), "profile default", environment={"OPENSSL_MODULES": common.MODULE_DIR})

    def test_missing_key_file(self):
        config = self.local_config()
        os.unlink(self.key_file)
        self.failed(config, "setting key-file", self.key_file, "kmsenv init --key-file")
        self.failed(config, "profile main", self.key_file)

    def test_key_file_open_to_others(self):
        config = self.local_config()
        os.chmod(self.key_file, 0o644)
        self.failed(config, "setting key-file", "mode 0644", "chmod 600 " + self.key_file)
        self.failed(config, "profile main", "mode 0644")

    def test_setting_misspelt(self):
        config = self.rewrite(self.local_config(), "key-file =", "keyfile =")
        self.failed(config, "section [kms_main]", "unknown setting 'keyfile'", "key-file")
        config = self.local_config(dek_max_age="often")
        self.failed(config, "section [kmsenv_sect]", "dek-max-age", "often")

    def test_value_that_is_a_section(self):
        """OpenSSL hides such a value from the provider, which must not go on without it; one leads in a circle."""
        config = self.local_config()
        changed = self.rewrite(config, "profiles = main", "profiles = main\ncrypto-provider = kms_main")
        self.failed(changed, "profile main", "'kms_main'", "crypto-provider")
        changed = self.rewrite(config, "profiles = main", "profiles = main\ncrypto-provider = default")
        self.failed(changed, "section [kmsenv_sect]", "'crypto-provider' is the name of a section")

    def test_unknown_kms(self):
        config = self.rewrite(self.local_config(), "kms = local", "kms = lokal")
        self.failed(config, "section [kms_main]", "lokal", "local", "tencent")

    def test_default_provider_missing(self):
        config = self.rewrite(self.local_config(), "[default_sect]\nactivate = 1", "[default_sect]\nactivate_not = 1")
        self.failed(config, "default provider", "not activated")

    def test_listed_provider_without_section(self):
        config = self.rewrite(self.local_config(), "[providers]\n", "[providers]\nlegacy = nowhere\n")
        self.failed(config, "configuration file", "no section [nowhere]")

    def test_not_activated(self):
        config = self.rewrite(self.local_config(), ".so\nactivate = 1", ".so\nactivate = 0")
        self.failed(config, "configuration file", "does not activate kmsenv")

    def test_wrong_module_path(self):
        config = self.rewrite(self.local_config(), common.MODULE, "/nonexistent/kmsenv.so")
        self.failed(config, "provider", "/nonexistent/kmsenv.so")

    def test_unreadable_configuration(self):
        self.failed(self.path("nothing.cnf"), "configuration file", "nothing.cnf")
        self.failed(self.file("bad.cnf", "[unclosed\n"), "configuration file", "line 1")

    def test_configuration_open_to_others(self):
        config = self.local_config()
        os.chmod(config, 0o622)
        self.failed(config, "configuration file", "mode 0622")

    def test_unknown_profile(self):
        config = self.local_config()
        run = self.cli("doctor", "--config", config, "--profile", "nosuch")
        self.assertEqual(run.returncode, 1, run)
        self.assertRegex(run.stdout.decode(), r"(?m)^FAILED +profile nosuch: .*nosuch")

    def test_profile_without_section(self):
        config = self.rewrite(self.local_config(), "main = kms_main", "main = kms_elsewhere")
        self.failed(config, "profile main", "not there")

    def test_unreachable_kms(self):
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))     # bound, not listening: nobody else gets the port meanwhile
            endpoint = "http://127.0.0.1:%d" % closed.getsockname()[1]
            config = self.config({"main": {
                "kms": "tencent", "region": "ap-guangzhou", "key-id": "23e80852-1e38-11e9-b129-5cb9019b4b01",
                "endpoint": endpoint, "insecure-http": "yes", "secret-id": "AKIDTESTTESTTEST", "secret-key": "testtesttest"}})
            found = self.failed(config, "profile main", "127.0.0.1")
        self.assertIn("network", found["profile main"][0]["remedy"])

    def test_tencent(self):
        """Against the stand-in: two instances of the provider, so the KMS is asked to make and to unwrap."""
        kms = self.standin()
        config = self.config({"prod": common.tencent_profile(kms)}, audit_log=self.path("audit.log"))
        self.assertEqual(self.doctor(config)["profile prod"][0]["outcome"], "ok")
        with open(self.path("audit.log"), encoding="utf-8") as log:
            self.assertEqual([json.loads(line)["operation"] for line in log], ["generate", "decrypt"])
        wrong = self.config({"prod": common.tencent_profile(kms, secret_key="wrongwrongwrong")})
        found = self.failed(wrong, "profile prod")
        self.assertNotIn("wrongwrongwrong", json.dumps(found))

    def test_secrets(self):
        secret = self.file("secret", "testtesttest")
        profile = {"kms": "tencent", "region": "ap-guangzhou", "key-id": "23e80852-1e38-11e9-b129-5cb9019b4b01",
                   "endpoint": "http://127.0.0.1:1", "insecure-http": "yes",
                   "secret-id": "env:NOT_SET_ANYWHERE", "secret-key": "file:" + secret}
        config = self.config({"main": profile})
        os.chmod(secret, 0o644)
        self.failed(config, "setting secret-key", "mode 0644")
        self.failed(config, "setting secret-id", "NOT_SET_ANYWHERE")
        config = self.config({"main": {**profile, "secret-id": "AKIDTESTTESTTEST", "secret-key": "literalsecret"}})
        os.chmod(config, 0o644)
        run = self.cli("doctor", "--config", config)
        self.assertRegex(run.stdout.decode(), r"(?m)^FAILED +setting secret-key: .*mode 0644")
        self.assertNotIn(b"literalsecret", run.stdout + run.stderr)

    def test_credentials_of_others(self):
        for setting, kind in (("credentials-file", "aws"), ("token-file", "vault")):
            file = self.file(setting, "x")
            profile = {"kms": kind, "key-id": "k", setting: file, **({"region": "eu-central-1"} if kind == "aws" else {"endpoint": "https://127.0.0.1:1"})}
            config = self.config({"main": profile})
            for mode, outcomes in ((0o640, []), (0o644, ["note"])):
                os.chmod(file, mode)
                found = self.doctor(config, "--offline", status=None).get("setting " + setting, [])
                self.assertEqual([c["outcome"] for c in found], outcomes)
            os.unlink(file)
            self.assertEqual([c["outcome"] for c in self.doctor(config, "--offline", status=1)["setting " + setting]], ["failed"])

    def test_keyring_of_a_group(self):
        os.mkdir(self.path("keys"))
        config = self.local_config(keyring=self.path("keys"))
        for mode, outcome in ((0o750, "ok"), (0o770, "note"), (0o777, "failed"), (0o1777, "ok")):
            os.chmod(self.path("keys"), mode)
            self.assertEqual([c["outcome"] for c in self.doctor(config, "--offline", status=int(outcome == "failed"))["setting keyring"]], [outcome])

    def test_keyring(self):
        os.mkdir(self.path("keys"))
        config = self.local_config(keyring=self.path("keys") + ":" + self.path("none"))
        found = self.failed(config, "setting keyring", self.path("none"))
        self.assertEqual([c["outcome"] for c in found["setting keyring"]], ["ok", "failed"])

    def test_key_references(self):
        """Offered under the ordinary names, but who asks for those may get another provider's: a reference would be a key there."""
        properties = "[init]\nalg_section = algs\n[algs]\ndefault_properties = ?provider=kmsenv\n[init]\n"
        for first in (True, False):
            config = self.local_config(first=first, key_references="yes")
            self.failed(config, "key references", "AES-256-GCM", "default", "used as a key")
            self.assertNotIn("key references", self.doctor(self.rewrite(config, "key-references = yes", "key-references = no")))
            chosen = self.rewrite(config, "[init]\n", properties)
            self.assertEqual(self.doctor(chosen)["key references"][0]["outcome"], "ok")

    def test_audit_log(self):
        self.failed(self.local_config(audit_log=self.path("none/audit.log")), "setting audit-log", "none/audit.log")

    def test_environment_wins(self):
        config = self.local_config()
        found = self.doctor(config, environment={"KMSENV_DEK_MAX_AGE": "10"})
        self.assertEqual([(c["outcome"], "KMSENV_DEK_MAX_AGE" in c["message"]) for c in found["environment"]], [("note", True)])
        self.failed(config, "environment", "KMSENV_DEK_MAX_AGE", "often", environment={"KMSENV_DEK_MAX_AGE": "often"})

    def test_properties_that_hide_us(self):
        config = self.rewrite(self.local_config(), "[init]\n", "[init]\nalg_section = algs\n[algs]\ndefault_properties = fips=yes\n[init]\n")
        found = self.failed(config, "provider", "kms-envelope")
        self.assertIn("default_properties", found["provider"][0]["remedy"])

    def test_memory_that_cannot_be_locked(self):
        config = self.local_config()
        run = self.cli("doctor", "--config", config,
                       preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0)))
        self.assertEqual(run.returncode, 0, run)
        if os.geteuid() != 0:      # root locks whatever the limit
            self.assertRegex(run.stdout.decode(), r"(?m)^note +secret memory: \d+ bytes could not be locked")
        self.assertRegex(run.stdout.decode(), r"(?m)^(note|ok) +secret memory: ")


class Examples(CliScenario):
    def with_key(self, name, **replace):
        """An example of conf/ that leads to key files and a log of this test, with the built module."""
        with open(os.path.join(SOURCE, "conf", name), encoding="utf-8") as source:
            text = source.read()
        for old, new in {"module   = kmsenv.so": "module   = " + common.MODULE, **replace}.items():
            self.assertIn(old, text)
            text = text.replace(old, new)
        path = self.file(name, text)
        self.assert_loaded(path)
        return path

    def test_local(self):
        key = self.path("m.pem")
        self.ok("init", "--key-file", key)
        config = self.with_key("kmsenv-local.cnf", **{"/etc/kmsenv/master.pem": key})
        self.ok("doctor", "--config", config)

    def test_tencent(self):
        """Everything in it is understood, up to the network and credentials, which are not there."""
        key = self.path("m.pem")
        self.ok("init", "--key-file", key)
        config = self.with_key("kmsenv-tencent.cnf", **{
            "/etc/kmsenv/escrow.pem": key, "/var/log/kmsenv-audit.log": self.path("audit.log"),
            "region = ap-guangzhou": "region = ap-guangzhou\nendpoint = http://127.0.0.1:1\ninsecure-http = yes",
            "#context": "context", "#secret-id  = env:BACKUP_SECRET_ID": "secret-id = AKIDTESTTESTTEST",
            "#secret-key = file:/etc/kmsenv/tencent-secret-key": "secret-key = testtesttest"})
        run = self.cli("doctor", "--json", "--config", config)
        failed = [c["subject"] for c in json.loads(run.stdout)["checks"] if c["outcome"] == "failed"]
        self.assertEqual(failed, ["profile prod"], run.stdout.decode())
        with open(os.path.join(SOURCE, "conf", "tencent-cam-policy.json"), encoding="utf-8") as policy:
            statement, = json.load(policy)["statement"]
        self.assertEqual(statement["action"], ["kms:GenerateDataKey", "kms:Decrypt"])

    def test_readme_by_hand(self):
        """The commands of the section "By hand", after building, as they stand there."""
        with open(os.path.join(SOURCE, "README.md"), encoding="utf-8") as readme:
            section = readme.read().split("\n## By hand\n")[1].split("\n## ")[0]
        commands = re.findall(r"(?m)^    (.+)$", section)
        self.assertEqual(sum("openssl enc" in c for c in commands), 2, commands)
        script = "\n".join(c for c in commands if "cmake" not in c)
        plain = os.urandom(100000)
        self.file("plain", plain)
        run = subprocess.run(["sh", "-eux", "-c", script], cwd=self.dir, capture_output=True, timeout=120,
                             env=common.clean_environment(HOME=self.dir, OPENSSL_MODULES=common.MODULE_DIR,
                                                          PATH=":".join(map(os.path.dirname, (CLI, common.OPENSSL, "/usr/bin/", "/bin/")))))
        self.assertEqual(run.returncode, 0, run.stderr.decode())
        self.assertEqual(self.read(self.path("plain2")), plain)
        self.assertIn(b"wrap 1        local, key ", run.stdout)
        self.assertIn(b"checks, 0 failed", run.stdout)

    def test_c_example(self):
        source = os.path.join(SOURCE, "conf", "example.c")
        program = self.path("example")
        subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-o", program, source, *common.LINKING, "-lcrypto"], check=True, timeout=120)
        with open(source, encoding="utf-8") as code, open(os.path.join(SOURCE, "README.md"), encoding="utf-8") as readme:
            self.assertIn("```c\n%s```\n" % code.read(), readme.read())

        def run(word, data, config):
            return subprocess.run([program, word], input=data, capture_output=True, timeout=60,
                                  env=common.clean_environment(OPENSSL_CONF=config))
        config = self.local_config()
        for data in (b"", b"hello", os.urandom(300000)):
            sealed = run("encrypt", data, config)
            self.assertEqual((sealed.returncode, sealed.stderr), (0, b""))
            self.assertNotIn(data[:4096] or b"\0\0\0\0", sealed.stdout)
            opened = run("decrypt", sealed.stdout, config)
            self.assertEqual((opened.returncode, opened.stdout, opened.stderr), (0, data, b""))
        damaged = run("decrypt", sealed.stdout[:-1], config)
        self.assertEqual(damaged.returncode, 1)
        self.assertRegex(damaged.stderr.decode(), r"^example: [a-z ]+: .+")
        os.unlink(self.key_file)
        refused = run("encrypt", b"x", config)
        self.assertEqual((refused.returncode, refused.stdout), (1, b""))
        self.assertIn("local key file unusable", refused.stderr.decode())
        self.assertIn("kmsenv init --key-file", refused.stderr.decode())


if __name__ == "__main__":
    main()
