"""Tokens of SoftHSM in a folder of the test's own, behind the shim that writes down what is called (tools/pkcs11_shim.c)."""
import os
import re
import subprocess

import common
from common import TEXT, reader

SOFTHSM = "/usr/lib/softhsm/libsofthsm2.so"
SHIM = os.environ.get("KMSENV_TEST_PKCS11_SHIM") or os.path.join(common.BUILD, "test", "pkcs11_shim.so")
PIN, WRONG, SO_PIN = "kmsenv-test-pin", "kmsenv-wrong-pin", "kmsenv-test-so-pin"
OK = 0
CONFIG, UNREACHABLE, THROTTLED, DENIED, DISABLED, NOT_FOUND, REJECTED, CREDENTIALS, MALFORMED, REQUEST, TOO_LARGE, UNSUPPORTED = \
    1, 60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 72
NO_WRAP = 40
URI = "pkcs11:token=prod;object=backup"


class TokenCase(common.Scenario):
    """A token, prod, with an AES key, backup."""

    def setUp(self):
        super().setUp()
        tokens = os.path.join(self.dir, "tokens")
        os.mkdir(tokens)
        self.log, self.rules = os.path.join(self.dir, "calls"), os.path.join(self.dir, "rules")
        self.audit = os.path.join(self.dir, "audit.log")
        self.pin_file = self.file("pin", PIN + "\n")
        self.environment = {
            "SOFTHSM2_CONF": self.softhsm_config("softhsm2.conf"), "PKCS11_SHIM_MODULE": SOFTHSM,
            "PKCS11_SHIM_LOG": self.log, "PKCS11_SHIM_RULES": self.rules}
        self.make_token("prod")
        self.make_key("prod", "backup", "01")

    def softhsm_config(self, name, more=""):
        return self.file(name, "directories.tokendir = %s/tokens\nobjectstore.backend = file\nlog.level = ERROR\n%s" % (self.dir, more))

    def command(self, *words):
        run = subprocess.run(words, capture_output=True, timeout=60,
                             env=common.clean_environment(HOME=self.dir, SOFTHSM2_CONF=self.environment["SOFTHSM2_CONF"]))
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        return run.stdout.decode()

    def make_token(self, label):
        self.command("softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", SO_PIN, "--pin", PIN)

    def make_key(self, token, label, key_id, private=True):
        self.command("pkcs11-tool", "--module", SOFTHSM, "--token-label", token, "--login", "--pin", PIN, "--keygen",
                     "--key-type", "AES:32", "--label", label, "--id", key_id, *(["--private"] if private else []))

    def delete_key(self, token, key_id):
        self.command("pkcs11-tool", "--module", SOFTHSM, "--token-label", token, "--login", "--pin", PIN, "--delete-object",
                     "--type", "secrkey", "--id", key_id)

    # --- the provider

    def profile(self, **more):
        values = {"kms": "pkcs11", "key-id": URI, "pkcs11-module": SHIM, "pin": "file:" + self.pin_file}
        return {**values, **{name.replace("_", "-"): value for name, value in more.items()}}

    def token_config(self, settings=None, **more):
        return self.config({"prod": self.profile(**more)}, audit_log=self.audit, **(settings or {}))

    def start(self, config, **environment):
        return self.tool(config, environment={**self.environment, **environment})

    def process(self, settings=None, environment=None, **more):
        return self.start(self.token_config(settings, **more), **(environment or {}))

    def check_no_secret(self, *texts):
        texts = [text if isinstance(text, bytes) else str(text).encode() for text in texts]
        if os.path.exists(self.audit):
            texts.append(self.read(self.audit))
        for text in texts:
            for secret in (PIN, WRONG, SO_PIN):
                self.assertNotIn(secret.encode(), text)

    def works(self, kmsenv, message=None):
        result = kmsenv.seal([TEXT])[0] if message is None else kmsenv.open([message])[0]
        self.assertIsNotNone(result, kmsenv.last)
        self.assertEqual(kmsenv.last["entries"], 0)
        if message is not None:
            self.assertEqual(result, TEXT)
        self.check_no_secret(kmsenv.stderr())
        return result

    def fails(self, kmsenv, reason, words="", message=None):
        result = kmsenv.seal([TEXT])[0] if message is None else kmsenv.open([message])[0]
        self.assertIsNone(result)
        self.assertEqual((kmsenv.last["reason"], kmsenv.last["entries"]), (reason, 1), kmsenv.last)
        if words:
            self.assertRegex(kmsenv.last["error"], words)
        self.check_no_secret(kmsenv.last, kmsenv.stderr())

    # --- what the module saw

    def calls(self, function, rv=None):
        """How often it was called, [and returned rv]."""
        if not os.path.exists(self.log):
            return 0
        return len(re.findall(r"(?m)^\d+ %s %s$" % (function, r"\S+" if rv is None else hex(rv)), self.read(self.log).decode()))

    def pids(self, function):
        return {line.split()[0] for line in self.read(self.log).decode().splitlines() if line.split()[1] == function}

    def forget(self):
        if os.path.exists(self.log):
            os.unlink(self.log)

    def rule(self, *lines):
        self.file("rules", "".join(line + "\n" for line in lines))

    def all_rules_used(self):
        self.assertEqual(self.read(self.rules), b"")

    # --- messages

    @staticmethod
    def wrap_of(message, which=0):
        return reader.Header.parse(message).data_key.wraps[which]

    @staticmethod
    def altered(message, change, which=0):
        """The message with change(wrap) made to one of its wraps; its body stays as it is."""
        wraps = reader.Header.parse(message).data_key.wraps
        change(wraps[which])
        return common.with_wraps(message, wraps)
