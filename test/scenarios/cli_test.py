"""The command: kmsenv init, inspect, doctor, settings; and the examples in conf/ and README.md."""
import base64
import json
import os
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
import unittest

import common
import reader

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


class Usage(CliScenario):
    COMMANDS = ("init", "inspect", "doctor", "settings")

    def test_help(self):
        for option in ("--help", "-h"):
            text = self.ok(option)
            for command in self.COMMANDS:
                self.assertRegex(text, r"(?m)^  %s " % command)
        for command in self.COMMANDS:
            text = self.ok(command, "--help")
            self.assertTrue(text.startswith("usage: kmsenv %s " % command), text)
            self.assertIn("Exit status: 0 done, 1 failed, 2 wrong usage.", text)

    def test_version(self):
        self.assertRegex(self.ok("--version"), r"^kmsenv \d+\.\d+\.\d+ \(OpenSSL \d")

    def test_wrong_usage(self):
        for arguments in ([], ["frob"], ["--frob"], ["--version", "x"], ["init"], ["init", "--key-file"],
                          ["init", "--key-file", ""], ["init", "--frob"], ["init", "--key-file", "x", "y"],
                          ["init", "--rotate=yes", "--key-file", "x"],
                          ["inspect"], ["inspect", "a", "b"], ["inspect", "--frob", "a"],
                          ["doctor", "x"], ["doctor", "--profile"], ["settings", "x"], ["settings", "--frob"]):
            with self.subTest(arguments):
                self.fails(2, *arguments)
        self.assertEqual(os.listdir(self.dir), [])

    def test_full_disk_is_a_failure(self):
        with open("/dev/full", "wb") as full:
            run = subprocess.run([CLI, "settings"], stdout=full, stderr=subprocess.PIPE, timeout=60)
        self.assertEqual(run.returncode, 1)
        self.assertIn(b"cannot write", run.stderr)


class Init(CliScenario):
    def test_new(self):
        path = self.path("master.pem")
        old = os.umask(0)
        try:
            text = self.ok("init", "--key-file", path)
        finally:
            os.umask(old)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        key = reader.LocalKey(path)
        self.assertEqual(list(key.versions), [1])
        self.assertEqual(len(key.versions[1]), 32)
        self.assertIn(key.id, text)
        self.assertNotIn(base64.b64encode(key.versions[1]).decode(), text)
        self.assertEqual(os.listdir(self.dir), ["master.pem"])
        other = self.path("other.pem")
        self.ok("init", "--key-file", other)
        self.assertNotEqual(reader.LocalKey(other).id, key.id)
        self.assertNotEqual(reader.LocalKey(other).versions[1], key.versions[1])

    def test_never_overwrites(self):
        path = self.path("master.pem")
        for content in (b"", b"precious"):
            self.file("master.pem", content)
            self.assertIn("exists already", self.fails(1, "init", "--key-file", path))
            self.assertEqual(self.read(path), content)
        os.unlink(path)
        os.symlink(self.path("elsewhere"), path)
        self.fails(1, "init", "--key-file", path)
        self.assertFalse(os.path.exists(self.path("elsewhere")))

    def test_cannot_be_made(self):
        self.assertIn("cannot be created", self.fails(1, "init", "--key-file", self.path("no/such/folder/k.pem")))

    def test_out_of_room_leaves_nothing(self):
        def small():
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        path = self.path("master.pem")
        self.assertIn("could not be written", self.fails(1, "init", "--key-file", path, preexec_fn=small))
        self.assertEqual(os.listdir(self.dir), [])
        self.ok("init", "--key-file", path)
        before = self.read(path)
        self.fails(1, "init", "--rotate", "--key-file", path, preexec_fn=small)
        self.assertEqual(self.read(path), before)
        self.assertEqual(os.listdir(self.dir), ["master.pem"])

    def test_rotate(self):
        path = self.path("master.pem")
        link = self.path("link.pem")
        self.ok("init", "--key-file", path)
        os.symlink("master.pem", link)
        first = reader.LocalKey(path)
        for n in (2, 3):
            self.assertIn("version %d" % n, self.ok("init", "--rotate", "--key-file", link))
        self.assertTrue(os.path.islink(link))
        key = reader.LocalKey(path)
        self.assertEqual((key.id, key.newest, key.versions[1]), (first.id, 3, first.versions[1]))
        self.assertEqual(len(set(key.versions.values())), 3)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        self.assertEqual(sorted(os.listdir(self.dir)), ["link.pem", "master.pem"])

    def test_rotate_refuses(self):
        path = self.path("master.pem")
        self.assertIn("kmsenv init --key-file", self.fails(1, "init", "--rotate", "--key-file", path))
        self.file("master.pem", b"garbage\n")
        self.assertIn("line 1", self.fails(1, "init", "--rotate", "--key-file", path))
        self.assertEqual(self.read(path), b"garbage\n")
        os.unlink(path)
        self.ok("init", "--key-file", path)
        os.chmod(path, 0o640)
        before = self.read(path)
        self.assertIn("chmod 600", self.fails(1, "init", "--rotate", "--key-file", path))
        self.assertEqual(self.read(path), before)

    def test_rotations_at_once_lose_no_version(self):
        path = self.path("master.pem")
        self.ok("init", "--key-file", path)
        runs = [subprocess.Popen([CLI, "init", "--rotate", "--key-file", path], stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL) for _ in range(8)]
        done = sum(run.wait(60) == 0 for run in runs)
        self.assertGreaterEqual(done, 1)
        self.assertEqual(sorted(reader.LocalKey(path).versions), list(range(1, done + 2)))
        self.assertEqual(os.listdir(self.dir), ["master.pem"])

    def test_old_messages_open_after_rotation(self):
        config = self.local_config()
        os.unlink(self.key_file)
        self.ok("init", "--key-file", self.key_file)
        messages = []
        for n in range(3):
            run = self.openssl("enc", "-kms-envelope", "-K", "0", config=config, data=b"message %d" % n)
            self.assertEqual(run.returncode, 0, run.stderr)
            messages.append(run.stdout)
            self.ok("init", "--rotate", "--key-file", self.key_file)
        for n, message in enumerate(messages):
            self.assertEqual(reader.Header.parse(message).data_key.wraps[0].ciphertext[:4], (n + 1).to_bytes(4, "big"))
            run = self.openssl("enc", "-d", "-kms-envelope", "-K", "0", config=config, data=message)
            self.assertEqual((run.returncode, run.stdout), (0, b"message %d" % n), run.stderr)


class Inspect(CliScenario):
    def setUp(self):
        super().setUp()
        self.key = reader.LocalKey(common.local_key_file(self.path("k.pem")))

    def message(self, data=b"x" * 10000, context=(("app", "backup"), ("tenant", "\u00e9")), **options):
        dek, self.data_key = self.key.new_data_key(32, context)
        return reader.write_message(data, dek, self.data_key, **options)

    def inspect_json(self, data):
        return json.loads(self.ok("inspect", "--json", self.file("m", data)))

    def test_json(self):
        message = self.message(segment_bits=12, cipher_bits=192)
        header = reader.Header.parse(message)
        found = self.inspect_json(message)
        self.assertEqual(found, {
            "file": self.path("m"), "format": "kms-envelope", "version": 1, "base64": False,
            "headerBytes": len(header.der),
            "dataKey": {"id": self.data_key.id.hex(), "length": 32, "wraps": [
                {"kms": "local", "keyId": self.key.id, "context": {"app": "backup", "tenant": "\u00e9"},
                 "ciphertext": base64.b64encode(self.data_key.wraps[0].ciphertext).decode()}]},
            "parameters": {"cipher": "AES-192-GCM", "segmentBits": 12, "segmentBytes": 4096,
                           "salt": header.salt.hex(), "commitment": header.commitment.hex()},
            "body": {"bytes": 10000 + 3 * 17, "segments": 3, "plaintextBytes": 10000}})

    def test_text(self):
        text = self.ok("inspect", self.file("m", self.message()))
        for part in (self.data_key.id.hex(), self.key.id, "AES-256-GCM", "34359738368 bytes (2^35)", "tenant = \u00e9",
                     "1 segment, 10000 bytes of plaintext"):
            self.assertIn(part, text)

    def test_extra_and_many_wraps(self):
        dek, data_key = self.key.new_data_key()
        data_key.wraps[0].extra = b"\x00\x01"
        data_key.wraps += [reader.Wrap("tencent", "key-%d" % n, b"opaque-k-text") for n in range(15)]
        found = self.inspect_json(reader.write_message(b"", dek, data_key))
        self.assertEqual(found["dataKey"]["wraps"][0]["extra"], "AAE=")
        self.assertEqual([w["keyId"] for w in found["dataKey"]["wraps"][1:]], ["key-%d" % n for n in range(15)])
        self.assertEqual(found["body"], {"bytes": 17, "segments": 1, "plaintextBytes": 0})

    def test_detached(self):
        dek, data_key = self.key.new_data_key()
        data_key.wraps = []
        path = self.file("m", reader.write_message(b"", dek, data_key))
        self.assertIn(data_key.id.hex() + ".pem", self.ok("inspect", path))

    def test_keyring_file(self):
        _, data_key = self.key.new_data_key()
        pem = b"-----BEGIN KMS DATA KEY-----\n%s-----END KMS DATA KEY-----\n" % base64.encodebytes(data_key.encode())
        found = self.inspect_json(pem)
        self.assertEqual((found["format"], found["dataKey"]["id"]), ("KMS DATA KEY", data_key.id.hex()))
        self.assertIn(data_key.id.hex(), self.ok("inspect", self.path("m")))
        self.fails(1, "inspect", self.file("m", pem[:-40]))
        self.assertIn("KMS DATA KEY", self.fails(1, "inspect", self.path("k.pem")))

    def test_coats_of_openssl_enc(self):
        message = self.message()
        plain = self.inspect_json(message)
        salted = self.inspect_json(b"Salted__" + bytes(range(8)) + message)
        self.assertEqual(salted.pop("passphraseSalt"), "0001020304050607")
        self.assertEqual(salted, plain)
        for coat in (b"", b"Salted__" + bytes(range(8))):
            text = base64.encodebytes(coat + message)
            found = self.inspect_json(text)
            self.assertTrue(found.pop("base64"))
            self.assertEqual("passphraseSalt" in found, bool(coat))
            self.assertEqual(found["dataKey"], plain["dataKey"])
            self.assertNotIn("body", found)
            one_line = self.inspect_json(base64.b64encode(coat + message))
            self.assertEqual(one_line["dataKey"], plain["dataKey"])
        self.assertIn("base64", self.ok("inspect", self.path("m")))

    def test_standard_input(self):
        message = self.message()
        self.assertIn("size not known", self.ok("inspect", "-", data=message))
        with open(self.file("m", b"skipped" + message), "rb") as source:
            source.read(7)
            os.lseek(source.fileno(), 7, os.SEEK_SET)
            run = subprocess.run([CLI, "inspect", "--json", "-"], stdin=source, capture_output=True, timeout=60, check=True)
            found = json.loads(run.stdout)
            self.assertEqual(found["body"]["plaintextBytes"], 10000)

    def test_reads_no_further_than_the_header(self):
        message = self.message()
        end, start = os.pipe()
        os.write(start, message)
        run = subprocess.run([CLI, "inspect", "-"], stdin=end, capture_output=True, timeout=60)
        os.close(start)
        self.assertEqual(run.returncode, 0, run.stderr)
        rest = b""
        while part := os.read(end, 65536):
            rest += part
        os.close(end)
        self.assertEqual(rest, message[len(reader.Header.parse(message).der):])

    def test_truncated(self):
        message = self.message(b"", ())
        size = len(reader.Header.parse(message).der)
        for end in range(size):
            self.assertNotIn(b"Sanitizer", self.cli("inspect", self.file("m", message[:end])).stderr)
            self.fails(1, "inspect", self.path("m"))
        self.assertIn("truncated: the header has %d bytes" % size, self.fails(1, "inspect", self.file("m", message[:size - 1])))
        for end in (size, size + 1, size + 16):
            self.assertIn("truncated", self.ok("inspect", self.file("m", message[:end])))
            self.assertIn("truncated", self.inspect_json(message[:end])["body"]["fault"])
        whole = self.message(bytes(8192), segment_bits=12)
        start = len(reader.Header.parse(whole).der)
        for size, good in ((4113, True), (4114, False), (4113 + 17, False), (4113 + 18, True), (2 * 4113, True)):
            self.assertEqual("fault" not in self.inspect_json(whole[:start + size])["body"], good, size)

    def test_garbage(self):
        cases = [b"", b"0", b"\x30", b"\x30\x80", b"\x30\x84\xff\xff\xff\xff", b"\x30\x83\xff\xff\xff" + bytes(100),
                 b"\x30\x83\x01\x00\x00" + bytes(70000), b"\x30\x82\xff\xff" + bytes(70000), b"\x30\x82\x00\x05hello",
                 b"\x30\x82\x01\x00" + bytes(400), b"hello, world\n", b"Salted__", b"Salted__12345678", b"Salted__1",
                 b"MIIBCgwMa21zLWVudmVsb3BlAgE!", b"MIIBCgwM", b"U2FsdGVkX18x", b"-----BEGIN", b"-----BEGIN X-----\n",
                 b"-----BEGIN KMS DATA KEY-----\nAAAA\n-----END KMS DATA KEY-----\n", b"\x7fELF" + bytes(500)]
        for case in cases:
            with self.subTest(case[:20]):
                text = self.fails(1, "inspect", self.file("m", case))
                self.assertIn(self.path("m"), text)
        for case in cases:
            if case:
                self.fails(1, "inspect", "-", data=case)
        self.fails(1, "inspect", self.dir)
        self.assertIn("No such file", self.fails(1, "inspect", self.path("nothing")))

    def test_every_header_byte_changed(self):
        message = bytearray(self.message(b"", ()))
        for at in range(len(reader.Header.parse(bytes(message)).der)):
            message[at] ^= 0x80
            run = self.cli("inspect", "--json", self.file("m", bytes(message)))
            self.assertIn(run.returncode, (0, 1), (at, run))
            if run.returncode == 0:
                json.loads(run.stdout)
            message[at] ^= 0x80

    def test_terminal_is_not_commanded(self):
        # what the parser lets through of these must not reach the terminal as it is
        for name in ("\x1b]0;owned\x07", "a\u202eb", "a\u2028b", "a\x9bb", "\u200bx"):
            dek, data_key = self.key.new_data_key()
            data_key.wraps[0].key_id = name
            path = self.file("m", reader.write_message(b"", dek, data_key))
            run = self.cli("inspect", path)
            for forbidden in ("\x1b", "\x07", "\u202e", "\u2028", "\x9b", "\u200b"):
                self.assertNotIn(forbidden, (run.stdout + run.stderr).decode("utf-8"))
            run = self.cli("inspect", "--json", path)
            self.assertTrue(re.fullmatch(r"[^\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e]*",
                                         (run.stdout + run.stderr).decode("utf-8")), run)
            if run.returncode == 0:
                self.assertEqual(json.loads(run.stdout)["dataKey"]["wraps"][0]["keyId"], name)

    def test_file_name_is_sanitised(self):
        os.rename(self.file("m", self.message()), self.path("m\x1b[2J"))
        for command in (["inspect", "m\x1b[2J"], ["inspect", "nothing\x1b[2J"]):
            run = self.cli(*command)
            self.assertNotIn(b"\x1b", run.stdout + run.stderr)


class Settings(CliScenario):
    def test_page_is_current(self):
        with open(os.path.join(SOURCE, "conf", "settings.md"), encoding="utf-8") as page:
            self.assertEqual(page.read(), self.ok("settings", "--markdown"),
                             "make it again: kmsenv settings --markdown >conf/settings.md")

    def test_forms_agree(self):
        groups = json.loads(self.ok("settings", "--json"))
        settings = [s for group in groups for s in group["settings"]]
        self.assertGreater(len(settings), 15)
        text, markdown = self.ok("settings"), self.ok("settings", "--markdown")
        for s in settings:
            self.assertEqual(s["environment"], "KMSENV_" + s["name"].upper().replace("-", "_"))
            self.assertTrue(s["help"] and s["accepted"], s)
            self.assertRegex(text, r"(?m)^  %s " % re.escape(s["name"]))
            self.assertIn("| `%s` |" % s["name"], markdown)
        for kind in ("local", "tencent"):
            self.assertTrue(any("kms = " + kind in group["where"] for group in groups), kind)
        for name in ("keyring", "dek-max-age", "key-file", "region", "audit-log", "profiles", "block-size"):
            self.assertIn(name, [s["name"] for s in settings])


class Doctor(CliScenario):
    def doctor(self, config, *arguments, environment=None, status=0):
        """The checks of the report, as {subject: [check]}."""
        run = self.cli("doctor", "--json", *(["--config", config] if config else []), *arguments, environment=environment)
        self.assertEqual((run.returncode, run.stderr), (status, b""), run)
        report = json.loads(run.stdout)
        self.assertEqual(report["failed"], sum(c["outcome"] == "failed" for c in report["checks"]))
        self.assertEqual(report["failed"] > 0, status == 1)
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
        self.assertIn("is loaded", found["provider"][0]["message"])

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
        """OpenSSL replaces such a value by the section's contents: nothing of ours can be found then."""
        config = self.local_config()
        for value in ("kms_main", "default"):
            changed = self.rewrite(config, "profiles = main", "profiles = main\ncrypto-provider = " + value)
            self.failed(changed, "section [kmsenv_sect]", "crypto-provider = " + value)

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

    def test_keyring(self):
        os.mkdir(self.path("keys"))
        config = self.local_config(keyring=self.path("keys") + ":" + self.path("none"))
        found = self.failed(config, "setting keyring", self.path("none"))
        self.assertEqual([c["outcome"] for c in found["setting keyring"]], ["ok", "failed"])

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
                                                          PATH=os.path.dirname(CLI) + ":/usr/bin:/bin"))
        self.assertEqual(run.returncode, 0, run.stderr.decode())
        self.assertEqual(self.read(self.path("plain2")), plain)
        self.assertIn(b"wrap 1        local, key ", run.stdout)
        self.assertIn(b"checks, 0 failed", run.stdout)

    def test_c_example(self):
        source = os.path.join(SOURCE, "conf", "example.c")
        program = self.path("example")
        subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-o", program, source, "-lcrypto"], check=True, timeout=120)
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
    if not os.path.exists(CLI):
        sys.exit("no command at %r: set KMSENV_TEST_CLI" % CLI)
    common.main()
