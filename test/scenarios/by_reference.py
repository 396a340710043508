"""What the tests of programs share that know nothing of kmsenv: with key-references = yes and a key reference where they
keep their key they write, byte for byte, what they write with the plain data key; each reads what the other wrote;
and with a reference that means nothing they fail instead of encrypting under its bytes."""
import base64
import os
import subprocess

import common
from common import reader

PROGRAMS = os.path.join(common.TEST, "programs")
MARK = b"kmsenv:\x01"
DATA = bytes(range(256)) * 8
UNKNOWN = MARK + b"no such data key in here"


class ByReference(common.Scenario):
    def setUp(self):
        super().setUp()
        self.keys = os.path.join(self.dir, "keys")
        os.mkdir(self.keys)
        self.key_file = common.local_key_file(os.path.join(self.dir, "local.pem"))
        self.master = reader.LocalKey(self.key_file)
        text = common.config_text({"main": common.local_profile(self.key_file)}, {"keyring": self.keys, "key-references": "yes"})
        self.conf = self.file("openssl.cnf", text.replace("[init]", "[init]\nalg_section = algorithms\n[algorithms]\n"
                                                          "default_properties = ?provider=kmsenv\n[init]", 1))
        self.assert_loaded(self.conf)
        self.plain = self.file("plain.cnf", "openssl_conf = init\n[init]\nproviders = providers\n[providers]\n"
                                            "default = default_sect\n[default_sect]\nactivate = 1\n")

    def data_key(self, length):
        """(DEK, reference as long as it) of a data key that is in the keyring from now on."""
        dek, key = self.master.new_data_key(length)
        body = base64.encodebytes(key.encode()).decode()
        lines = "".join(body.split())
        pem = "\n".join(lines[i:i + 64] for i in range(0, len(lines), 64))
        self.file(os.path.join("keys", key.id.hex() + ".pem"), "-----BEGIN KMS DATA KEY-----\n%s\n-----END KMS DATA KEY-----\n" % pem)
        return dek, (MARK + key.id).ljust(64, b"\0")[:length]

    def run_it(self, command, data, config):
        return subprocess.run(command, input=data, capture_output=True, timeout=120,
                              env=common.clean_environment(HOME=self.dir, OPENSSL_CONF=config))

    def check(self, command, length, data=DATA):
        """command(verb, hex key) -> argument list."""
        dek, reference = self.data_key(length)
        plain = self.run_it(command("encrypt", dek.hex()), data, self.plain)
        self.assertEqual(plain.returncode, 0, plain.stderr)
        self.assertNotEqual(plain.stdout, data)
        ours = self.run_it(command("encrypt", reference.hex()), data, self.conf)
        self.assertEqual(ours.returncode, 0, ours.stderr)
        self.assertEqual(ours.stdout, plain.stdout, "not what the plain key gives")
        for key, message, config in ((reference, plain.stdout, self.conf), (dek, ours.stdout, self.plain),
                                     (dek, ours.stdout, self.conf)):
            back = self.run_it(command("decrypt", key.hex()), message, config)
            self.assertEqual((back.returncode, back.stdout), (0, data), back.stderr)
        self.refuses(command, length, plain.stdout)

    def refuses(self, command, length, message):
        unknown = UNKNOWN.ljust(64, b"\0")[:length]
        bad = self.run_it(command("encrypt", unknown.hex()), DATA, self.conf)
        self.assertNotEqual(bad.returncode, 0)
        self.assertEqual(bad.stdout, b"")
        self.assertNotIn(unknown, bad.stderr)
        back = self.run_it(command("decrypt", unknown.hex()), message, self.conf)
        self.assertNotEqual(back.returncode, 0)
