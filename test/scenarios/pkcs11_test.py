#!/usr/bin/python3
"""kmsenv with the master key in a PKCS#11 token: round trips by both mechanisms, what a wrap may and
may not say, keys and tokens that are not there, IVs of tokens' own, and the login."""
import os
import re
import shutil
import subprocess

import common
from cli_common import CLI
from common import TEXT, reader
from pkcs11_common import (CREDENTIALS, NO_WRAP, NOT_FOUND, OK, PIN, REJECTED, UNREACHABLE, UNSUPPORTED, URI, WRONG,
                           TokenCase)

PIN_INCORRECT, PIN_LOCKED = 0xa0, 0xa4
LOGIN_REQUIRED, TOKEN_INITIALIZED, FINAL_TRY, LOCKED = "0x4", "0x400", "0x20000", "0x40000"


class RoundTrip(TokenCase):
    def enc(self, config, environment=None):
        environment = {**self.environment, **(environment or {})}
        run = self.openssl("enc", "-kms-envelope", "-K", "0", data=TEXT, config=config, environment=environment)
        self.assertEqual(run.returncode, 0, run.stderr)
        back = self.openssl("enc", "-d", "-kms-envelope", "-K", "0", data=run.stdout, config=config, environment=environment)
        self.assertEqual((back.returncode, back.stdout), (0, TEXT), back.stderr)
        self.check_no_secret(run.stderr, back.stderr)
        return self.wrap_of(run.stdout)

    def test_openssl_enc(self):
        wrap = self.enc(self.token_config())
        self.assertEqual((wrap.kms, wrap.key_id), ("pkcs11", "pkcs11:token=prod;object=backup;id=%01"))
        self.assertEqual((len(wrap.ciphertext), wrap.extra[0], len(wrap.extra)), (32 + 16, 1, 13))
        self.assertEqual((self.calls("C_Initialize"), self.calls("C_Login", OK), self.calls("C_Encrypt")), (2, 2, 1))
        self.assertEqual(self.calls("C_Decrypt"), 2, "the first wrap of a process is opened again")

    def test_openssl_enc_by_key_wrapping(self):
        wrap = self.enc(self.token_config(mechanism="aes-kwp"))
        self.assertEqual((len(wrap.ciphertext), wrap.extra), (32 + 8, b"\x03"))
        self.assertEqual((self.calls("C_WrapKey", OK), self.calls("C_UnwrapKey", OK), self.calls("C_DestroyObject", OK)), (1, 2, 3))
        wrap = self.enc(self.token_config(mechanism="aes-kwp"), {"PKCS11_SHIM_KWP": "1"})
        self.assertEqual((len(wrap.ciphertext), wrap.extra), (32 + 8, b"\x02"))

    def test_through_p11_kit(self):
        config = self.token_config(pkcs11_module=None)
        self.assertEqual(self.enc(config).key_id, "pkcs11:token=prod;object=backup;id=%01")
        self.assertEqual(self.calls("C_Login"), 0, "the shim is not among the modules of the system")

    def test_one_mechanism_opens_what_the_other_made(self):
        messages = [self.works(self.process(mechanism=m)) for m in ("aes-gcm", "aes-kwp")]
        for mechanism in ("aes-gcm", "aes-kwp"):
            kmsenv = self.process(mechanism=mechanism)
            self.assertEqual(kmsenv.open(messages), [TEXT, TEXT], kmsenv.last)

    def test_second_profile_wraps_the_key_of_the_first(self):
        key_file = common.local_key_file(os.path.join(self.dir, "local.pem"))
        config = self.config({"escrow": common.local_profile(key_file), "prod": self.profile()})
        message = self.works(self.start(config))
        self.assertEqual([w.kms for w in reader.Header.parse(message).data_key.wraps], ["local", "pkcs11"])
        self.works(self.process(), message)

    def test_fallback_to_a_local_profile(self):
        key_file = common.local_key_file(os.path.join(self.dir, "local.pem"))
        profiles = {"prod": self.profile(breaker_failures=100), "escrow": common.local_profile(key_file)}
        kmsenv = self.start(self.config(profiles))
        message = self.works(kmsenv)
        fresh = self.start(self.config(profiles))
        self.rule("*C_GetSlotList 0xe0")
        self.works(fresh, message)
        self.fails(fresh, UNREACHABLE, "CKR_TOKEN_NOT_PRESENT.*insert")
        lenient = self.start(self.config({"escrow": profiles["escrow"], "prod": profiles["prod"]}, min_wraps=1))
        self.assertEqual([w.kms for w in reader.Header.parse(self.works(lenient)).data_key.wraps], ["local"])


class Context(TokenCase):
    def test_context_is_bound(self):
        message = self.works(self.process(context="app=billing,env=täst"))
        self.assertEqual(self.wrap_of(message).context, [("app", "billing"), ("env", "täst")])
        self.works(self.process(), message)
        kmsenv = self.process({"negative_cache": 0})

        def other(wrap):
            wrap.context = [("app", "bi11ing"), ("env", "täst")]
        self.fails(kmsenv, REJECTED, "context", self.altered(message, other))

        def none(wrap):
            wrap.context = []
        self.fails(kmsenv, REJECTED, "context", self.altered(message, none))
        self.works(kmsenv, message)
        self.assertEqual(self.calls("C_Login"), 3, "a wrap that does not open costs no session and no login")

    def test_key_wrapping_binds_no_context(self):
        run = self.openssl("enc", "-kms-envelope", "-K", "0", data=TEXT, environment=self.environment,
                           config=self.token_config(mechanism="aes-kwp", context="app=billing"))
        self.assertNotEqual(run.returncode, 0)
        self.assertRegex(run.stderr.decode(), "aes-kwp cannot bind an encryption context")
        kmsenv = self.process(mechanism="aes-kwp")
        self.assertIsNone(kmsenv.seal([TEXT], context="app=billing")[0])
        self.assertEqual(kmsenv.last["reason"], UNSUPPORTED, kmsenv.last)
        self.assertRegex(kmsenv.last["error"], "cannot bind an encryption context")
        message = self.works(kmsenv)

        def pretend(wrap):
            wrap.context = [("app", "billing")]
        self.fails(self.process(), UNSUPPORTED, "cannot bind", self.altered(message, pretend))
        self.assertEqual(self.calls("C_UnwrapKey"), 1, "of the proof only")


class Wraps(TokenCase):
    def test_damaged(self):
        def flip(name, at):
            def change(wrap):
                data = bytearray(getattr(wrap, name))
                data[at] ^= 1
                setattr(wrap, name, bytes(data))
            return change

        def put(name, value):
            return lambda wrap: setattr(wrap, name, value(getattr(wrap, name)))
        gcm, kwp = self.works(self.process()), self.works(self.process(mechanism="aes-kwp"))
        kmsenv = self.process({"negative_cache": 0}, breaker_failures=1)
        for message, change in (
                (gcm, flip("ciphertext", 0)), (gcm, flip("ciphertext", -1)), (gcm, flip("extra", 1)), (gcm, flip("extra", 12)),
                (gcm, flip("extra", 0)), (gcm, put("extra", lambda e: None)), (gcm, put("extra", lambda e: e[:12])),
                (gcm, put("extra", lambda e: e[:1])), (gcm, put("extra", lambda e: e + bytes(5))),
                (gcm, put("extra", lambda e: b"\x03")), (gcm, put("extra", lambda e: b"\x04" + e[1:])),
                (gcm, put("ciphertext", lambda c: c[:16])), (gcm, put("ciphertext", lambda c: c[:-1])),
                (gcm, put("ciphertext", lambda c: c[:1])), (gcm, put("ciphertext", lambda c: c + bytes(9000))),
                (kwp, flip("ciphertext", 3)), (kwp, put("ciphertext", lambda c: c[:8])), (kwp, put("ciphertext", lambda c: c[:-1])),
                (kwp, put("extra", lambda e: e + b"\0")), (kwp, put("ciphertext", lambda c: c + bytes(8)))):
            self.fails(kmsenv, REJECTED, "", self.altered(message, change))
        self.works(kmsenv, gcm)
        self.works(kmsenv, kwp)
        self.assertEqual(self.calls("C_Login"), 3)

    def test_a_wrap_chooses_no_token_module_or_pin(self):
        self.make_token("other")
        self.make_key("other", "backup", "01")
        message = self.works(self.process())
        kmsenv = self.process({"negative_cache": 0})
        self.forget()
        for uri in ("pkcs11:token=other;object=backup;id=%01", "pkcs11:object=backup;id=%01", "pkcs11:token=prod;id=%01",
                    "pkcs11:token=prod;object=backup;id=%01?pin-value=" + PIN,
                    "pkcs11:token=prod;object=backup?pin-source=file:/etc/passwd",
                    "pkcs11:token=prod;object=backup;id=%01?module-path=/lib/evil.so", "pkcs11:token=prod;object=backup;slot-id=0",
                    "pkcs11:token=prod;object=backup;type=private", "pkcs11:token=prod;object=backup;object=backup",
                    "pkcs11:token=prod;object=other", "pkcs11:", "backup", "pkcs11:token=prod;object=backup;id=%0"):
            with self.subTest(uri=uri):
                self.fails(kmsenv, NO_WRAP, "no configured profile", self.altered(message, lambda w, u=uri: setattr(w, "key_id", u)))
        self.assertFalse(os.path.exists(self.log), "the token was not asked")
        for uri in ("pkcs11:id=%01;object=backup;type=secret-key;token=%70rod", "pkcs11:object=%62ackup;token=prod"):
            self.works(self.process(), self.altered(message, lambda w, u=uri: setattr(w, "key_id", u)))

    def test_another_key_of_the_configured_label(self):
        message = self.works(self.process())
        self.make_key("prod", "backup", "02")
        self.works(self.process(), message)
        self.fails(self.process(), REJECTED, "", self.altered(message, lambda w: setattr(w, "key_id", w.key_id[:-1] + "2")))
        self.fails(self.process(), NOT_FOUND, "", self.altered(message, lambda w: setattr(w, "key_id", w.key_id[:-1] + "3")))


class Keys(TokenCase):
    def test_two_keys_of_one_label(self):
        old = self.works(self.process())
        self.make_key("prod", "backup", "02")
        self.fails(self.process(), NOT_FOUND, "several AES keys.*add id=")
        kmsenv = self.process(key_id=URI + ";id=%02")
        new = self.works(kmsenv)
        self.assertEqual(self.wrap_of(new).key_id, "pkcs11:token=prod;object=backup;id=%02")
        self.fails(kmsenv, NO_WRAP, "decrypt-keys", old)
        both = self.process(key_id=URI + ";id=%02", decrypt_keys="pkcs11:token=prod;object=gone, pkcs11:token=prod;id=%01")
        self.assertEqual(both.open([old, new]), [TEXT, TEXT], both.last)

    def test_by_id_whatever_the_label(self):
        self.make_key("prod", "a label; with, signs %", "0a0b")
        message = self.works(self.process(key_id="pkcs11:token=prod;id=%0A%0B"))
        self.assertEqual(self.wrap_of(message).key_id, "pkcs11:token=prod;object=a%20label%3B%20with%2C%20signs%20%25;id=%0A%0B")
        self.works(self.process(key_id="pkcs11:object=a%20label%3b%20with%2c%20signs%20%25;token=prod"), message)

    def test_missing_key(self):
        message = self.works(self.process())
        self.fails(self.process(key_id="pkcs11:token=prod;object=nothing"), NOT_FOUND, "no such AES key")
        kmsenv = self.process({"dek_reuse": "no", "negative_cache": 0})
        self.works(kmsenv)
        self.delete_key("prod", "01")
        self.fails(kmsenv, NOT_FOUND, "no such AES key")
        self.fails(self.process(), NOT_FOUND, "no such AES key", message)

    def test_missing_token(self):
        self.fails(self.process(key_id="pkcs11:token=nowhere;object=backup"), UNREACHABLE, "no token is as key-id says")
        self.assertEqual(self.calls("C_Login"), 0)

    def test_two_tokens_of_one_label(self):
        self.make_token("prod")
        self.make_key("prod", "second", "02")   # in whichever pkcs11-tool takes
        self.fails(self.process(), NOT_FOUND, "2 tokens.*serial")
        self.assertEqual(self.calls("C_Login"), 0)
        serials = sorted(line.split(":")[1].strip() for line in self.command("softhsm2-util", "--show-slots").splitlines()
                         if "Serial number" in line and line.split(":")[1].strip())
        self.assertEqual(len(serials), 2)
        outcomes = []
        for serial in serials:
            kmsenv = self.process(key_id="pkcs11:serial=%s;object=backup" % serial)
            outcomes.append(kmsenv.seal([TEXT])[0])
        self.assertEqual(sum(outcome is not None for outcome in outcomes), 1)
        message = [outcome for outcome in outcomes if outcome][0]
        self.assertEqual(self.wrap_of(message).key_id, "pkcs11:token=prod;object=backup;id=%01", "a serial goes with the device")

    def test_missing_module(self):
        kmsenv = self.process(pkcs11_module="/nonexistent/module.so")
        self.fails(kmsenv, UNREACHABLE, "/nonexistent/module.so cannot be loaded.*pkcs11-module")
        self.fails(self.process(pkcs11_module="/usr/lib/x86_64-linux-gnu/libcrypto.so.3"), UNREACHABLE, "C_GetFunctionList")

    def test_settings_that_are_refused(self):
        for more, words in (
                ({"key_id": None}, "key-id.*required"), ({"key_id": "backup"}, "pkcs11:"), ({"key_id": "pkcs11:object=backup"}, "token"),
                ({"key_id": "pkcs11:token=prod"}, "key"), ({"key_id": URI + ";slot-id=1"}, "slot"),
                ({"key_id": URI + "?pin-value=" + PIN}, "set pin = "), ({"key_id": URI + "?pin-source=/etc/pin"}, "pin = file"),
                ({"key_id": URI + "?module-path=/x.so"}, "pkcs11-module"), ({"key_id": URI + ";colour=red"}, "not known"),
                ({"pkcs11_module": "softhsm.so"}, "absolute path"), ({"mechanism": "rsa"}, r"aes-gcm\|aes-kwp"),
                ({"decrypt_keys": "pkcs11:token=other;object=backup"}, "profile of its own"),
                ({"decrypt_keys": URI + "?pin-value=" + PIN}, "set pin = ")):
            with self.subTest(more=more):
                run = self.openssl("enc", "-kms-envelope", "-K", "0", data=TEXT, config=self.token_config(**more),
                                   environment=self.environment)
                self.assertNotEqual(run.returncode, 0)
                self.assertRegex(run.stderr.decode(), words)
                self.check_no_secret(run.stderr)
        self.assertFalse(os.path.exists(self.log))


class Ivs(TokenCase):
    def iv_case(self, mode, lengths):
        message = self.works(self.process(environment={"PKCS11_SHIM_IV": mode}))
        wrap = self.wrap_of(message)
        self.assertEqual((len(wrap.ciphertext), len(wrap.extra)), lengths)
        self.assertNotEqual(wrap.extra[1:], bytes(len(wrap.extra) - 1))
        self.works(self.process(), message)

    def test_token_overwrites_the_iv(self):
        self.iv_case("replace", (48, 13))

    def test_token_takes_zeros_only(self):
        self.iv_case("zeros", (48, 13))
        self.assertEqual((self.calls("C_EncryptInit", 0x71), self.calls("C_EncryptInit", OK)), (1, 1))

    def test_token_appends_the_iv(self):
        self.iv_case("append", (48, 17))

    def test_token_hides_the_iv(self):
        """What could never be opened again is not given out."""
        self.fails(self.process(environment={"PKCS11_SHIM_IV": "hide"}), UNSUPPORTED, "does not open what it has wrapped")

    def test_ivs_do_not_repeat(self):
        kmsenv = self.process({"dek_reuse": "no"})
        ivs = [self.wrap_of(m).extra for m in kmsenv.seal([TEXT] * 20)]
        self.assertEqual(len(set(ivs)), 20)


class Login(TokenCase):
    def test_once_for_many_operations(self):
        kmsenv = self.process({"dek_reuse": "no"})
        messages = kmsenv.seal([TEXT] * 10)
        self.assertNotIn(None, messages)
        self.assertEqual((self.calls("C_Initialize"), self.calls("C_Login"), self.calls("C_OpenSession")), (1, 1, 1))

    def test_wrong_pin_is_shown_once(self):
        message = self.works(self.process())
        self.forget()
        self.file("pin", WRONG)
        kmsenv = self.process({"negative_cache": 0, "dek_reuse": "no"})
        self.fails(kmsenv, CREDENTIALS, "CKR_PIN_INCORRECT")
        for _ in range(5):
            self.fails(kmsenv, CREDENTIALS, "not tried again.*CKR_PIN_INCORRECT")
            self.fails(kmsenv, CREDENTIALS, "not tried again", message)
        answer = kmsenv.ask("threads", 16, 3, 100)
        self.assertEqual((answer["failed"], answer["thread_reason"]), (48, CREDENTIALS), answer)
        self.assertFalse(kmsenv.ask("fork", kmsenv.bundle([TEXT] * 3), kmsenv.path("out"))["ok"])
        self.assertEqual((self.calls("C_Login"), self.calls("C_Login", PIN_INCORRECT)), (1, 1))
        self.file("pin", PIN)
        self.works(kmsenv, message)
        self.assertEqual((self.calls("C_Login"), self.calls("C_Login", OK)), (2, 1), "a corrected PIN is tried")

    def test_wrong_pin_with_threads_from_the_start(self):
        self.file("pin", WRONG)
        answer = self.process({"negative_cache": 0}).ask("threads", 16, 3, 100)
        self.assertEqual((answer["failed"], answer["thread_reason"]), (48, CREDENTIALS), answer)
        self.assertEqual(self.calls("C_Login"), 1)

    def test_two_profiles_with_one_wrong_pin(self):
        self.file("pin", WRONG)
        self.make_key("prod", "second", "02")
        second = self.profile(key_id="pkcs11:token=prod;id=%02")
        kmsenv = self.start(self.config({"prod": self.profile(), "second": second}, negative_cache=0))
        self.fails(kmsenv, CREDENTIALS)
        self.assertIsNone(kmsenv.seal([TEXT], profile="second")[0])
        self.assertEqual(self.calls("C_Login"), 1)

    def test_locked_pin_is_remembered(self):
        self.rule("C_Login 0xa4")
        kmsenv = self.process({"negative_cache": 0})
        self.fails(kmsenv, CREDENTIALS, "CKR_PIN_LOCKED.*security officer")
        self.fails(kmsenv, CREDENTIALS, "not tried again.*CKR_PIN_LOCKED")
        self.assertEqual((self.calls("C_Login"), self.calls("C_Login", PIN_LOCKED)), (1, 1))

    def test_what_the_token_says_of_its_pin(self):
        for flags, words in ((FINAL_TRY, "one more wrong PIN would lock"), (LOCKED, "PIN is locked")):
            self.fails(self.process(environment={"PKCS11_SHIM_FLAGS": flags}), CREDENTIALS, words)
        self.assertEqual(self.calls("C_Login"), 0)

    def test_a_passing_fault_of_the_login_is_no_refusal(self):
        self.rule("C_Login 0x30")
        kmsenv = self.process()
        self.works(kmsenv)
        self.assertEqual(self.calls("C_Login"), 2)

    def test_wrong_pin_by_another_name(self):
        """A module that does not say so, but counts."""
        self.file("pin", WRONG)
        kmsenv = self.process({"negative_cache": 0}, environment={"PKCS11_SHIM_VAGUE": "1"})
        self.fails(kmsenv, CREDENTIALS, "not tried again.*CKR_FUNCTION_FAILED")
        self.fails(kmsenv, CREDENTIALS, "not tried again.*CKR_FUNCTION_FAILED")
        self.assertEqual(self.calls("C_Login"), 1)

    def test_no_pin(self):
        self.fails(self.process(pin=None), NOT_FOUND, "without a login; set pin")
        self.make_key("prod", "public", "05", private=False)
        kmsenv = self.process(pin=None, key_id="pkcs11:token=prod;object=public")
        self.works(kmsenv, self.works(kmsenv))
        self.assertEqual(self.calls("C_Login"), 0)

    def test_token_that_wants_no_login(self):
        self.make_key("prod", "public", "05", private=False)
        kmsenv = self.process(key_id="pkcs11:token=prod;object=public", environment={"PKCS11_SHIM_FLAGS": "~" + LOGIN_REQUIRED})
        self.works(kmsenv, self.works(kmsenv))
        self.assertEqual(self.calls("C_Login"), 0)

    def test_token_that_is_not_initialised(self):
        kmsenv = self.process(environment={"PKCS11_SHIM_FLAGS": "~" + TOKEN_INITIALIZED})
        self.fails(kmsenv, UNREACHABLE, "no token is as key-id says")
        self.assertEqual(self.calls("C_Login"), 0)

    def test_sources_of_the_pin(self):
        self.works(self.process(pin=PIN))
        self.works(self.process(pin="env:TOKEN_PIN", environment={"TOKEN_PIN": PIN}))
        self.fails(self.process(pin="env:TOKEN_PIN"), CREDENTIALS, "TOKEN_PIN is not set")
        self.fails(self.process(pin="file:/nonexistent/pin"), CREDENTIALS, "/nonexistent/pin")
        self.assertEqual(self.calls("C_Login"), 2)

    def test_pin_that_can_no_longer_be_read(self):
        """By a server that gave up its privileges after its start."""
        kmsenv = self.process({"dek_reuse": "no"})
        self.works(kmsenv)
        os.unlink(self.pin_file)
        self.rule("C_GetSessionInfo logout")
        self.works(kmsenv)
        self.assertEqual(self.calls("C_Login", OK), 2)


class Example(TokenCase):
    def test_example(self):
        """The commands at its top make a token and a key; with these it works as it stands."""
        with open(os.path.join(common.TEST, "..", "conf", "kmsenv-pkcs11.cnf"), encoding="utf-8") as source:
            text = source.read()
        commands = re.findall(r"(?m)^#   (\w.+?(?:\\\n#.+)?)$", text)
        self.assertEqual([c.split()[0] for c in commands], ["softhsm2-util", "pkcs11-tool"])
        shutil.rmtree(os.path.join(self.dir, "tokens"))
        os.mkdir(os.path.join(self.dir, "tokens"))
        for command in commands:
            self.command(*command.replace("\\\n#", " ").split())
        key = common.local_key_file(os.path.join(self.dir, "local.pem"))
        for old, new in (("module   = kmsenv.so", "module   = " + common.MODULE), ("/etc/kmsenv/escrow.pem", key),
                         ("/var/log/kmsenv-audit.log", self.audit), ("/etc/kmsenv/token-pin", self.file("example-pin", "1234")),
                         ("#decrypt-keys", "decrypt-keys"), ("#context", "context")):
            self.assertIn(old, text)
            text = text.replace(old, new)
        config = self.file("kmsenv-pkcs11.cnf", text)
        self.assert_loaded(config)
        run = subprocess.run([CLI, "doctor", "--config", config], capture_output=True, timeout=60,
                             env=common.clean_environment(HOME=self.dir, **self.environment))
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        self.assertRegex(run.stdout.decode(), r"profile prod: made a data key.*\n.*profile escrow")


if __name__ == "__main__":
    common.main()
