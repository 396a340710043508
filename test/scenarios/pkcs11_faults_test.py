#!/usr/bin/python3
"""PKCS#11: what every fault of a module becomes, and sharing it: with the rest of the process, with
threads, with children."""
import common
from common import TEXT
from pkcs11_common import (CREDENTIALS, DENIED, MALFORMED, NOT_FOUND, OK, REJECTED, REQUEST, THROTTLED, TOO_LARGE,
                           UNREACHABLE, UNSUPPORTED, TokenCase)

ALREADY = 0x191
SEAL, OPEN = "seal", "open"

# verb, rules, reason (None: it works all the same), words of the error
FAULTS = [
    (SEAL, ["*C_Initialize 0x5"], UNREACHABLE, "C_Initialize: CKR_GENERAL_ERROR"),
    (SEAL, ["C_Initialize 0x0a"], UNSUPPORTED, "several threads"),
    (SEAL, ["C_Initialize 0x191"], None, None),     # said so, but was not: initialised by the second attempt
    (SEAL, ["*C_Initialize 0x191"], UNREACHABLE, "CKR_CRYPTOKI_NOT_INITIALIZED"),
    (SEAL, ["C_OpenSession 0xb1"], THROTTLED, "no session left"),
    (SEAL, ["C_OpenSession 0xb8"], CREDENTIALS, "security officer"),
    (SEAL, ["C_OpenSession 0xe0"], None, None),
    (SEAL, ["*C_OpenSession 0xe1"], UNREACHABLE, "insert"),
    (SEAL, ["*C_OpenSession 0x30"], UNREACHABLE, "CKR_DEVICE_ERROR"),
    (SEAL, ["*C_GetTokenInfo 0xe0"], UNREACHABLE, r"no token .*\(tokens that are there: 0\)"),
    (SEAL, ["C_GetTokenInfo 0x5"] * 4, None, None),
    (SEAL, ["*C_GetTokenInfo 0x5"], UNREACHABLE, "could not be asked: C_GetTokenInfo: CKR_GENERAL_ERROR"),
    (SEAL, ["C_GetSessionInfo 0xb3"], None, None),
    (SEAL, ["*C_GetSessionInfo 0xb3"], UNREACHABLE, "C_GetSessionInfo: CKR_SESSION_HANDLE_INVALID"),
    (SEAL, ["C_Login 0x100"], NOT_FOUND, "without a login"),
    (SEAL, ["C_Login 0x102"], CREDENTIALS, "initialise it"),
    (SEAL, ["C_Login 0x104"], CREDENTIALS, "another user"),
    (SEAL, ["C_Login 0xa2"], CREDENTIALS, "shorter or longer"),
    (SEAL, ["C_FindObjectsInit 0x101"], None, None),
    (SEAL, ["*C_FindObjectsInit 0x101"], CREDENTIALS, "set pin"),
    (SEAL, ["C_FindObjectsInit 0x90"], None, None),
    (SEAL, ["C_EncryptInit 0x68"], DENIED, "CKA_ENCRYPT"),
    (SEAL, ["C_EncryptInit 0x60"], NOT_FOUND, "not there any more"),
    (SEAL, ["C_EncryptInit 0x63"], REQUEST, "AES key"),
    (SEAL, ["C_EncryptInit 0x70"], UNSUPPORTED, "mechanism = "),
    (SEAL, ["*C_EncryptInit 0x71"], REQUEST, "IV"),
    (SEAL, ["C_EncryptInit 0x71"], UNSUPPORTED, "does not say which"),
    (SEAL, ["C_EncryptInit 0xb3"], None, None),
    (SEAL, ["C_EncryptInit 0x190"], None, None),
    (SEAL, ["C_EncryptInit 0x32"], None, None),
    (SEAL, ["C_EncryptInit 0x32"] * 2, None, None),
    (SEAL, ["C_EncryptInit 0x32"] * 3, UNREACHABLE, "CKR_DEVICE_REMOVED"),
    (SEAL, ["C_Encrypt 0x6"], None, None),
    (SEAL, ["*C_Encrypt 0x6"], UNREACHABLE, "CKR_FUNCTION_FAILED"),
    (SEAL, ["C_Login 0x5"], None, None),
    (SEAL, ["C_Encrypt 0x31"], THROTTLED, "memory"),
    (SEAL, ["C_Encrypt 0x21"], TOO_LARGE, "so much data"),
    (SEAL, ["C_Encrypt 0x150"], MALFORMED, "more to return"),
    (SEAL, ["C_Encrypt 0x200"], DENIED, "rejected at the token"),
    (SEAL, ["C_Encrypt 0x80001234"], UNREACHABLE, "0x80001234.*manual"),
    (SEAL, ["C_DecryptInit 0x68"], None, None),
    (SEAL, ["C_Decrypt 0x40"], UNSUPPORTED, "does not open what it has wrapped"),
    (OPEN, ["C_DecryptInit 0x68"], DENIED, "CKA_DECRYPT"),
    (OPEN, ["C_DecryptInit 0x71"], REJECTED, "damaged"),
    (OPEN, ["C_DecryptInit 0xb0"], None, None),
    (OPEN, ["C_Decrypt 0x40"], REJECTED, "CKR_ENCRYPTED_DATA_INVALID.*damaged"),
    (OPEN, ["C_Decrypt 0x42"], REJECTED, "CKR_AEAD_DECRYPT_FAILED.*damaged"),
    (OPEN, ["C_Decrypt 0x5"], REJECTED, "C_Decrypt: 0x5.*damaged"),
    (OPEN, ["*C_Decrypt 0x6", "C_GetSessionInfo 0", "C_GetSessionInfo 0", "*C_GetSessionInfo 0x32"], UNREACHABLE, "CKR_DEVICE_REMOVED"),
    (OPEN, ["C_Decrypt 0x30"], None, None),
]
WRAP_FAULTS = [
    (SEAL, ["C_CreateObject 0xd1"], REQUEST, "use aes-gcm"),
    (SEAL, ["C_WrapKey 0x69"], REQUEST, "use aes-gcm"),
    (SEAL, ["C_WrapKey 0x68"], DENIED, "CKA_WRAP"),
    (SEAL, ["*C_GetMechanismInfo 0x70"], UNSUPPORTED, "CKM_AES_KEY_WRAP_PAD; use"),
    (SEAL, ["C_UnwrapKey 0xb3"], None, None),
    (OPEN, ["C_UnwrapKey 0x110"], REJECTED, "CKR_WRAPPED_KEY_INVALID"),
    (OPEN, ["C_UnwrapKey 0x5"], REJECTED, "C_UnwrapKey: 0x5.*damaged"),
    (OPEN, ["C_UnwrapKey 0xf0"], NOT_FOUND, "not there any more"),
    (OPEN, ["C_UnwrapKey 0x54"], UNSUPPORTED, "function"),
    (OPEN, ["*C_GetAttributeValue 0x11"], REQUEST, "use aes-gcm"),
]


class Faults(TokenCase):
    def rows(self, rows, **more):
        message = self.works(self.process(**more))
        config = self.token_config({"negative_cache": 0}, **more)
        for verb, rules, reason, words in rows:
            with self.subTest(verb=verb, rules=rules):
                self.rule(*rules)
                with common.Tool(self.dir, config, self.environment) as kmsenv:
                    given = message if verb == OPEN else None
                    if reason is None:
                        self.works(kmsenv, given)
                    else:
                        self.fails(kmsenv, reason, words, given)
                    if not any(r.startswith("*") for r in rules):
                        self.assertEqual(self.read(self.rules), b"", "every rule had its effect")
                    created, destroyed = self.calls("C_CreateObject", OK) + self.calls("C_UnwrapKey", OK), self.calls("C_DestroyObject")
                    self.assertEqual(created, destroyed, "a data key stays in the token")
                    self.rule()
                    if not any(r.startswith("C_Login 0xa") for r in rules):   # such a PIN is not tried again
                        self.works(kmsenv, given)

    def test_gcm(self):
        self.rows(FAULTS)

    def test_key_wrapping(self):
        self.rows(WRAP_FAULTS, mechanism="aes-kwp")

    def test_three_attempts(self):
        kmsenv = self.process({"negative_cache": 0})
        self.rule("*C_EncryptInit 0x32")
        self.fails(kmsenv, UNREACHABLE)
        self.assertEqual((self.calls("C_EncryptInit"), self.calls("C_OpenSession")), (3, 3))

    def test_breaker(self):
        kmsenv = self.process(breaker_failures=3)
        self.rule("*C_GetSlotList 0x6")
        for _ in range(3):
            self.fails(kmsenv, UNREACHABLE, "CKR_FUNCTION_FAILED")
        self.fails(kmsenv, UNREACHABLE, "circuit breaker")
        self.assertEqual(self.calls("C_GetSlotList"), 9, "three attempts each, and none for the last")


class Shared(TokenCase):
    """Somebody else in the process uses the same module."""

    def other_does(self, word):
        kmsenv = self.process({"dek_reuse": "no"})
        self.works(kmsenv)
        self.rule("C_GetSessionInfo " + word)
        self.works(kmsenv)
        self.all_rules_used()
        self.works(kmsenv)
        return kmsenv

    def test_another_part_of_the_process_finalises_it(self):
        self.other_does("finalize")
        self.assertEqual((self.calls("C_Initialize", OK), self.calls("C_Login", OK)), (2, 2))

    def test_another_part_closes_all_sessions(self):
        self.other_does("close-all")
        self.assertEqual((self.calls("C_OpenSession", OK), self.calls("C_Login", OK)), (2, 2))

    def test_another_part_logs_out(self):
        self.other_does("logout")
        self.assertEqual((self.calls("C_OpenSession", OK), self.calls("C_Login", OK)), (1, 2))

    def test_between_finding_the_key_and_using_it(self):
        for word in ("finalize", "close-all", "logout"):
            with self.subTest(word=word):
                kmsenv = self.process({"dek_reuse": "no"})
                self.works(kmsenv)
                self.rule("C_EncryptInit " + word)
                result = kmsenv.seal([TEXT])[0]
                self.all_rules_used()
                if result is None:       # the handle of a private object is void once nobody is logged in
                    self.assertEqual((word, kmsenv.last["reason"]), ("logout", NOT_FOUND), kmsenv.last)
                self.works(kmsenv)

    def test_module_is_never_finalised_nor_sessions_closed_at_the_end(self):
        config = self.token_config()
        run = self.openssl("enc", "-kms-envelope", "-K", "0", data=TEXT, config=config, environment=self.environment)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(self.calls("C_CloseSession"), 0)
        kmsenv = self.start(config)
        self.works(kmsenv)
        self.assertTrue(kmsenv.ask("unload")["ok"])
        self.assertEqual(self.calls("C_CloseSession"), 0)

    def test_threads(self):
        kmsenv = self.process({"dek_reuse": "no"})
        answer = kmsenv.ask("threads", 16, 10, 100)
        self.assertTrue(answer["ok"], answer)
        self.assertEqual((self.calls("C_Initialize"), self.calls("C_Login")), (1, 1))
        self.assertGreaterEqual(self.calls("C_Encrypt", OK), 160)
        self.assertLessEqual(self.calls("C_OpenSession"), 16, "no more sessions than threads")
        self.assertEqual(self.calls("C_OpenSession") - self.calls("C_CloseSession"), self.calls("C_OpenSession"))

    def test_threads_by_key_wrapping(self):
        answer = self.process({"dek_reuse": "no"}, mechanism="aes-kwp").ask("threads", 16, 10, 100)
        self.assertTrue(answer["ok"], answer)
        self.assertEqual(self.calls("C_CreateObject", OK) + self.calls("C_UnwrapKey", OK), self.calls("C_DestroyObject", OK))

    def test_more_threads_than_sessions_are_kept(self):
        answer = self.process({"dek_reuse": "no"}).ask("threads", 40, 5, 100)
        self.assertTrue(answer["ok"], answer)
        self.assertEqual(self.calls("C_Login"), 1)
        self.assertLessEqual(self.calls("C_OpenSession") - self.calls("C_CloseSession"), 16)


class Fork(TokenCase):
    def fork(self, kmsenv, count=10):
        source, target = kmsenv.bundle([TEXT] * count), kmsenv.path("forked")
        answer = kmsenv.ask("fork", source, target)
        self.assertTrue(answer["ok"], answer)
        sides = [common.read_bundle(target + suffix) for suffix in (".parent", ".child")]
        opener = self.process()
        for messages in sides:
            self.assertEqual(opener.open(messages), [TEXT] * count)
        wraps = [self.wrap_of(m) for messages in sides for m in messages]
        self.assertEqual(len({w.extra for w in wraps}), 2 * count, "parent and child must not share IVs")

    def test_before_the_first_use(self):
        kmsenv = self.process({"dek_reuse": "no"})
        self.fork(kmsenv)
        self.assertEqual(len(self.pids("C_Initialize") - {str(kmsenv.pid)}), 2, "the child, and the process that opened")

    def test_after_the_first_use(self):
        """SoftHSM takes its state along into the child, and says so."""
        kmsenv = self.process({"dek_reuse": "no"})
        self.works(kmsenv)
        self.forget()
        self.fork(kmsenv)
        self.assertEqual(self.calls("C_Initialize", ALREADY), 1)
        self.assertEqual(self.calls("C_CloseSession"), 0, "the child leaves the parent's sessions alone")

    def test_after_the_first_use_with_a_module_that_wants_to_be_initialised_again(self):
        self.environment["SOFTHSM2_CONF"] = self.softhsm_config("reset.conf", "library.reset_on_fork = true\n")
        kmsenv = self.process({"dek_reuse": "no"})
        self.works(kmsenv)
        self.forget()
        self.fork(kmsenv)
        child = self.pids("C_Initialize") - {str(kmsenv.pid)}
        self.assertEqual((len(child), self.calls("C_Initialize", OK), self.calls("C_Login", OK)), (2, 2, 2))

    def test_through_p11_kit(self):
        kmsenv = self.process({"dek_reuse": "no"}, pkcs11_module=None)
        self.works(kmsenv)
        self.fork(kmsenv)
        self.works(kmsenv)

    def test_again_and_again(self):
        kmsenv = self.process({"dek_reuse": "no"})
        for _ in range(4):
            self.fork(kmsenv, 3)
        self.works(kmsenv)


if __name__ == "__main__":
    common.main()
