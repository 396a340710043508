#!/usr/bin/python3
"""`openssl enc -kms-envelope` as people use it: files, pipes, base64, passphrases, empty and big input,
detached keys, several profiles, and everything that must fail with a status other than 0."""
import hashlib
import os
import random
import subprocess

import common
from common import OPENSSL, Scenario, clean_environment, local_key_file, local_profile, reader

TEXT = b"attack at dawn\n" * 40


class EncCase(Scenario):
    def setUp(self):
        super().setUp()
        self.configuration = self.local_config()

    def enc(self, *arguments, data=TEXT, config=None, **more):
        return self.openssl("enc", "-kms-envelope", *arguments, data=data, config=config or self.configuration, **more)

    def sealed(self, *arguments, data=TEXT, **more):
        run = self.enc("-e", *(arguments or ("-K", "0")), data=data, **more)
        self.assertEqual((run.returncode, run.stderr.replace(b"hex string is too short, padding with zero bytes to length\n", b"")),
                         (0, b""))
        return run.stdout

    def opened(self, message, *arguments, **more):
        run = self.enc("-d", *(arguments or ("-K", "0")), data=message, **more)
        self.assertEqual(run.returncode, 0, run.stderr)
        return run.stdout

    def refused(self, message, *arguments, text=None, **more):
        """Status not 0, the provider's own words on stderr; returns what came out before."""
        run = self.enc("-d", *(arguments or ("-K", "0")), data=message, **more)
        self.assertNotEqual(run.returncode, 0)
        errors = run.stderr.decode()
        self.assertRegex(errors, "error:[0-9A-F]{8}:", "no entry in the error queue")
        if text:
            self.assertRegex(errors, text)
        return run.stdout


class Enc(EncCase):
    def test_round_trips(self):
        for data in (TEXT, b"", b"x", os.urandom(300000)):
            for options in ([], ["-a"], ["-a", "-A"], ["-bufsize", "64"], ["-bufsize", "1"], ["-bufsize", "100000"], ["-nopad"]):
                if options == ["-bufsize", "1"] and len(data) > 1000:
                    continue
                with self.subTest(options=options, size=len(data)):
                    options = ["-K", "0", *options]
                    self.assertEqual(self.opened(self.sealed(*options, data=data), *options), data)

    def test_files(self):
        plain, message, back = self.file("plain", TEXT), os.path.join(self.dir, "message"), os.path.join(self.dir, "back")
        for arguments in (("-e", "-in", plain, "-out", message), ("-d", "-in", message, "-out", back)):
            self.assertEqual(self.enc("-K", "0", *arguments).returncode, 0)
        self.assertEqual(self.read(back), TEXT)
        self.assertEqual(reader.open_message(self.read(message), reader.LocalKey(self.key_file).dek_of(self.read(message))), TEXT)

    def test_header_is_der(self):
        message = self.sealed()
        size = len(reader.Header.parse(message).der)
        run = self.openssl("asn1parse", "-inform", "DER", data=message[:size])
        self.assertEqual(run.returncode, 0)
        for word in (b":kms-envelope", b":local", b":aes-256-gcm"):
            self.assertIn(word, run.stdout)

    def test_passphrase_is_a_second_factor(self):
        password = ["-pass", "pass:correct horse", "-pbkdf2"]
        message = self.sealed(*password)
        self.assertTrue(message.startswith(b"Salted__"))
        self.assertEqual(self.opened(message, *password), TEXT)
        out = self.refused(message, "-pass", "pass:wrong horse", "-pbkdf2", text="wrong data key or wrong caller's key")
        self.assertEqual(out, b"", "a wrong passphrase must be seen before any plaintext comes out")

    def test_caller_key(self):
        key = "00112233445566778899aabbccddeeff" * 2
        message = self.sealed("-K", key)
        self.assertEqual(self.opened(message, "-K", key), TEXT)
        for wrong in ("0", key[:-1] + "e"):
            self.assertEqual(self.refused(message, "-K", wrong, text="wrong caller's key"), b"")
        self.assertEqual(self.refused(self.sealed(), "-K", key, text="wrong caller's key"), b"")

    def test_environment_instead_of_a_file(self):
        environment = {"KMSENV_KMS": "local", "KMSENV_KEY_FILE": self.key_file}
        empty = self.file("empty.cnf")
        providers = ["-provider-path", common.MODULE_DIR, "-provider", "kmsenv", "-provider", "default"]
        self.assert_loaded(empty, environment, *providers)
        run = self.openssl("enc", *providers, "-kms-envelope", "-K", "0", data=TEXT, config=empty, environment=environment)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(self.opened(run.stdout), TEXT)
        back = self.openssl("enc", "-d", *reversed(providers[2:4]), config=empty, environment=environment)
        self.assertNotEqual(back.returncode, 0)

    def test_no_kms_configured(self):
        config = self.config({})
        run = self.enc("-e", "-K", "0", config=config)
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("KMSENV_KMS", run.stderr.decode())

    def test_bad_setting_is_named(self):
        for setting, value, words in (("dek_max_age", "soon", ("dek-max-age", "soon")), ("no_such_thing", "1", ("no-such-thing",)),
                                      ("wraps", "sideways", ("wraps", "inline"))):
            config = self.file("bad.cnf", common.config_text({"main": local_profile(self.key_file)}, {setting: value}))
            run = self.enc("-e", "-K", "0", config=config)
            self.assertNotEqual(run.returncode, 0)
            for word in words:
                self.assertIn(word, run.stderr.decode(), setting)
            digest = self.openssl("dgst", "-sha256", data=b"abc", config=config)
            self.assertEqual(digest.returncode, 0, "a bad setting of ours must not stop other providers")

    def test_order_of_providers(self):
        first = self.config({"main": local_profile(self.key_file)}, first=True)
        self.assertEqual(self.opened(self.sealed(config=first)), TEXT)

    def test_big_input_through_pipes(self):
        size, block = 64 << 20, random.Random(1).randbytes(1 << 20)
        command = [OPENSSL, "enc", "-kms-envelope", "-K", "0"]
        environment = clean_environment(HOME=self.dir, OPENSSL_CONF=self.configuration)
        quiet = {"env": environment, "stderr": subprocess.DEVNULL}
        seal = subprocess.Popen([*command, "-e"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **quiet)
        back = subprocess.Popen([*command, "-d"], stdin=seal.stdout, stdout=subprocess.PIPE, **quiet)
        seal.stdout.close()
        feeder = subprocess.Popen(["/usr/bin/python3", "-c", "import random,sys\nb=random.Random(1).randbytes(1<<20)\n"
                                   "for _ in range(64): sys.stdout.buffer.write(b)"], stdout=seal.stdin)
        seal.stdin.close()
        digest, length = hashlib.sha256(), 0
        while True:
            part = back.stdout.read(1 << 20)
            if not part:
                break
            digest.update(part)
            length += len(part)
        back.stdout.close()
        self.assertEqual([p.wait(60) for p in (feeder, seal, back)], [0, 0, 0])
        wanted = hashlib.sha256()
        for _ in range(64):
            wanted.update(block)
        self.assertEqual((length, digest.digest()), (size, wanted.digest()))

    def test_detached_keys(self):
        keyring, second = os.path.join(self.dir, "keys"), os.path.join(self.dir, "more")
        os.mkdir(keyring)
        os.mkdir(second)
        profile = {"main": local_profile(self.key_file)}
        config = self.config(profile, wraps="detached", keyring=keyring + ":" + second)
        message = self.sealed(config=config)
        key = reader.Header.parse(message).data_key
        self.assertEqual(key.wraps, [])
        files = os.listdir(keyring)
        self.assertEqual(files, [key.id.hex() + ".pem"])
        text = self.read(os.path.join(keyring, files[0])).decode()
        self.assertIn("-----BEGIN KMS DATA KEY-----", text)
        self.assertEqual(self.opened(message, config=config), TEXT)
        os.rename(os.path.join(keyring, files[0]), os.path.join(second, files[0]))
        self.assertEqual(self.opened(message, config=config), TEXT)
        os.unlink(os.path.join(second, files[0]))
        self.assertEqual(self.refused(message, config=config, text=key.id.hex()), b"")
        self.refused(message, text="keyring")

    def test_two_profiles(self):
        files = [local_key_file(os.path.join(self.dir, name)) for name in ("a.pem", "b.pem")]
        both = self.config({"prod": local_profile(files[0]), "escrow": local_profile(files[1])})
        message = self.sealed(config=both)
        self.assertEqual([w.key_id for w in reader.Header.parse(message).data_key.wraps],
                         [reader.LocalKey(path).id for path in files])
        for path in files:
            self.assertEqual(self.opened(message, config=self.config({"one": local_profile(path)})), TEXT)
        self.refused(message, text="no configured profile")
        os.unlink(files[1])
        run = self.enc("-e", "-K", "0", config=both)
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("min-wraps", run.stderr.decode())
        relaxed = self.config({"prod": local_profile(files[0]), "escrow": local_profile(files[1])}, min_wraps=1)
        self.assertEqual(len(reader.Header.parse(self.sealed(config=relaxed)).data_key.wraps), 1)

    def test_rotated_master_key(self):
        message = self.sealed()
        old = self.read(self.key_file).decode()
        newer = local_key_file(os.path.join(self.dir, "newer.pem"))
        block = self.read(newer).decode().replace(reader.LocalKey(newer).id, reader.LocalKey(self.key_file).id)
        self.file("local.pem", old + block.replace("Version: 1", "Version: 2"))
        self.assertEqual(self.opened(message), TEXT)
        second = self.sealed()
        self.assertEqual(reader.Header.parse(second).data_key.wraps[0].ciphertext[:4], b"\0\0\0\2")
        self.file("local.pem", old)
        self.refused(second, text="KMS rejects the wrapped data key|version")

    def test_context(self):
        profile = {**local_profile(self.key_file), "context": "app=billing,env=test"}
        message = self.sealed(config=self.config({"main": profile}))
        self.assertEqual(reader.Header.parse(message).data_key.wraps[0].context, [("app", "billing"), ("env", "test")])
        self.assertEqual(self.opened(message), TEXT)
        altered = message.replace(b"billing", b"bi11ing", 1)
        self.assertEqual(self.refused(altered, text="KMS rejects the wrapped data key"), b"")
        kmsenv = self.tool(self.configuration)
        self.assertEqual(kmsenv.open([message], context="env=test"), [TEXT])
        self.assertEqual(kmsenv.open([message], context="env=prod"), [None])
        self.assertEqual(kmsenv.last["reason"], 25)
        self.assertEqual(kmsenv.open([message], context="env=test,more=x"), [None])
        self.assertEqual(kmsenv.last["reason"], 25)


class Damage(EncCase):
    """Not one changed byte and not one cut goes unnoticed. In one process for every place, and a sample through `openssl enc`."""

    def every_place(self, data, **options):
        kmsenv = self.tool(self.config({"main": local_profile(self.key_file)}, negative_cache=0))
        message = kmsenv.seal([data], **options)[0]
        options.pop("bits", None)
        answer = kmsenv.ask("damage", kmsenv.bundle([message]), **options)
        self.assertEqual((answer["ok"], answer["accepted"]), (True, 0), answer)
        self.assertEqual(answer["tried"], 4 * len(message) + 4)

    def test_every_place_one_segment(self):
        self.every_place(b"hello")
        self.every_place(b"")

    def test_every_place_in_small_updates(self):
        self.every_place(b"hello", chunk=7)

    def test_every_place_with_key_and_aad(self):
        self.every_place(b"hello", key=bytes(range(32)), aad=b"more")

    def test_every_place_two_segments(self):
        self.every_place(os.urandom(4096 + 50), bits=12)

    def test_a_wrap_that_is_not_needed(self):
        """The one place where damage goes unnoticed, by design; it also shows that the search can find something."""
        files = [local_key_file(os.path.join(self.dir, name)) for name in ("a.pem", "b.pem")]
        both = self.tool(self.config({"one": local_profile(files[0]), "two": local_profile(files[1])}))
        message = both.seal([b"hello"])[0]
        wrap = reader.Header.parse(message).data_key.wraps[1]
        answer = both.ask("damage", both.bundle([message]))
        self.assertEqual(answer["ok"], False)
        # per wrap: any change of the ciphertext; kms and keyId as long as they stay ASCII, one of the three changes
        self.assertEqual(answer["accepted"], 2 * (3 * len(wrap.ciphertext) + len(wrap.key_id) + len(wrap.kms)))

    def test_sample_through_enc(self):
        message = self.sealed()
        rng = random.Random(7)
        for position in sorted(rng.sample(range(len(message)), 25)) + [0, len(message) - 1]:
            changed = bytearray(message)
            changed[position] ^= 1 << rng.randrange(8)
            self.refused(bytes(changed))
        for length in sorted(rng.sample(range(1, len(message)), 15)) + [len(message) - 1, len(message) - 17]:
            self.refused(message[:length])
        self.refused(message + b"\0")
        self.refused(b"", text="not a kmsenv message|truncated")
        self.refused(TEXT, text="not a kmsenv message")

    def test_base64_cut_is_noticed(self):
        message = self.sealed("-K", "0", "-a")
        lines = message.splitlines(True)
        self.assertEqual(self.opened(message, "-K", "0", "-a"), TEXT)
        self.refused(b"".join(lines[:-2]), "-K", "0", "-a")


if __name__ == "__main__":
    common.main()
