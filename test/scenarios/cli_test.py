"""The command: kmsenv init, inspect, settings."""
import base64
import json
import os
import re
import resource
import signal
import stat
import subprocess

import common
import reader
from cli_common import CLI, SOURCE, CliScenario, main


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
                          ["doctor", "--try"], ["doctor", "--root", "/"], ["doctor", "--root", "/", "--service", "x", "--scan"], ["doctor", "--profile"], ["settings", "x"], ["settings", "--frob"]):
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


if __name__ == "__main__":
    main()
