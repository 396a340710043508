"""What the tests of the vendors' own clients share.

Each client (a process that speaks the protocol of protocol.mjs) and kmsenv meet at the stand-in: what
one wraps the other opens, and the errors of the stand-in arrive as the exceptions of the vendor. So the
stand-in's dialect is the vendor's, and so is what kmsenv sends and stores.

KMSENV_TEST_CLIENTS is the folder that test/clients/install made.
"""
import base64
import json
import os
import re
import select
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "scenarios"))

import common  # noqa: E402
import matrix  # noqa: E402
from common import TEXT, reader  # noqa: E402

FOLDER = os.environ.get("KMSENV_TEST_CLIENTS", "")
ROOM = 1024     # for a header with a wrap of any vendor
PAIRS = [("app", "billing"), ("env", "täst \"q\" \\ /, a=b")]


def to_base64(data):
    return base64.b64encode(data).decode()


def canonical(pairs):
    """The text under which kmsenv gives a context to a vendor that takes one text."""
    return matrix.context_text(reader.Wrap("", "", b"", sorted(pairs)))


def setting(pairs):
    """A context in kmsenv's notation, in the notation of a configuration file of OpenSSL's; None if there is none."""
    text = ",".join("=".join(re.sub(r"[\\,=]", r"\\\g<0>", part) for part in pair) for pair in pairs)
    return re.sub(r'[\\"]', r"\\\g<0>", text) or None


class Client:
    """A vendor's client as a process that answers."""

    def __init__(self, script, directory, ca_file, settings, timeout=60):
        self.timeout = timeout
        self.log = open(os.path.join(directory, script + ".stderr"), "a+b")
        self.process = subprocess.Popen(
            self._command(script, directory), cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
            bufsize=0, env=common.clean_environment(HOME=directory, NODE_EXTRA_CA_CERTS=ca_file, KMSENV_CLIENT=json.dumps(settings),
                                                    PYTHONDONTWRITEBYTECODE="1"))

    @staticmethod
    def _command(script, directory):
        if script.endswith(".py"):
            return [os.path.join(FOLDER, "python", "bin", "python"), os.path.join(HERE, script)]
        # Modules are looked for where the script is, and they are not in the source folder.
        if not os.path.exists(os.path.join(directory, "node_modules")):
            os.symlink(os.path.join(FOLDER, "node_modules"), os.path.join(directory, "node_modules"))
        for name in ("protocol.mjs", script):
            shutil.copy(os.path.join(HERE, name), directory)
        return [os.path.join(FOLDER, "node"), os.path.join(directory, script)]

    def stop(self):
        self.process.kill()
        self.process.wait(20)
        self.process.stdin.close()
        self.process.stdout.close()
        self.log.close()

    def answer(self, operation, **values):
        request = {"op": operation, **{name: to_base64(v) if isinstance(v, bytes) else v for name, v in values.items()}}
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self.process.stdout], [], [], self.timeout)
            part = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not part:
                self.log.seek(0)
                raise AssertionError("the client %s: %s" % ("ended" if ready else "does not answer",
                                                            self.log.read().decode(errors="replace")))
            line += part
        reply = json.loads(line)
        for name in ("plaintext", "ciphertext", "iv"):
            if reply.get(name) is not None:
                reply[name] = base64.b64decode(reply[name])
        return reply


class ClientCase(matrix.BackendCase):
    """Tests for every vendor; one class per vendor says what differs."""

    script = ""
    hosts = ()             # the vendor's names, where the client finds the stand-in
    key_state = {}         # what describe must say
    errors = {}            # what goes wrong, a method fail_NAME: what the client must raise

    def setUp(self):
        super().setUp()
        self.key = self.kms.key_id   # as the client knows it

    def settings(self):
        """What the script finds in KMSENV_CLIENT."""
        raise NotImplementedError

    def context(self, pairs):
        """Members of a request that give the client the context that kmsenv stores as these pairs."""
        raise NotImplementedError

    def generates(self, pairs):
        """Does the service make data keys under this context?"""
        return self.backend.generates and not (pairs and self.backend.seal_with_context)

    def client(self, **more):
        port = self.kms.ports[self.backend.kms]
        settings = {"hosts": {host: port for host in self.hosts}, **self.settings(), **more}
        client = Client(self.script, self.dir, self.kms.ca_file, settings)
        self.addCleanup(client.stop)
        return client

    def ask(self, client, operation, **values):
        reply = client.answer(operation, **values)
        self.assertNotIn("error", reply)
        return reply

    def new_wrap(self, client, pairs=(), length=32):
        """A data key, wrapped by the vendor's client: its reply, with the plaintext."""
        context = self.context(pairs)
        if not self.generates(pairs):
            dek = os.urandom(length)
            return {**self.ask(client, "encrypt", key=self.key, plaintext=dek, **context), "plaintext": dek}
        made = self.ask(client, "generate", key=self.key, length=length, **context)
        self.assertEqual(len(made["plaintext"]), length)
        return made

    def request(self, made, pairs=()):
        """What the client must be told to open what it wrapped."""
        return {"key": self.key, "ciphertext": made["ciphertext"], **self.context(pairs)}

    def stored(self, made, pairs=()):
        """The Wrap under which kmsenv keeps what the client wrapped."""
        return reader.Wrap(self.backend.kms, self.kms.key_id, made["ciphertext"], sorted(pairs))

    def unwrap(self, client, wrap):
        """What the client makes of a wrap of kmsenv's."""
        return client.answer("decrypt", key=self.key, ciphertext=wrap.ciphertext, **self.context(wrap.context))

    def data_key(self, client, pairs=(), length=32):
        """(DEK, DataKey) of a wrap that the client made."""
        made = self.new_wrap(client, pairs, length)
        return made["plaintext"], reader.DataKey(reader.data_key_id(made["plaintext"]), length, [self.stored(made, pairs)])

    def contexts(self):
        return ((), PAIRS) if self.backend.binds_context else ((),)

    def client_contexts(self):
        """... that the client itself binds a wrap to"""
        return self.contexts()

    def kmsenv(self, pairs=(), **settings):
        return self.tool(self.config({"prod": self.backend.profile(self.kms, context=setting(pairs))}, block_size=ROOM, **settings))

    # Tests

    def test_round_trip(self):
        client, contexts = self.client(), self.client_contexts()
        for pairs in contexts:
            made = self.new_wrap(client, pairs)
            dek = made["plaintext"]
            self.assertNotIn(dek, made["ciphertext"])
            self.assertEqual(self.ask(client, "decrypt", **self.request(made, pairs))["plaintext"], dek)
            made = self.ask(client, "encrypt", key=self.key, plaintext=dek, **self.context(pairs))
            self.assertEqual(self.ask(client, "decrypt", **self.request(made, pairs))["plaintext"], dek)
        self.assertEqual(self.kms.calls(self.backend.open[-1], "ok"), 2 * len(contexts))
        if self.backend.generates:
            self.assertEqual(self.kms.calls(self.backend.seal[-1], "ok"), sum(map(self.generates, contexts)))

    def test_describe(self):
        self.assertEqual(self.ask(self.client(), "describe", key=self.key), {"key": self.key, **self.key_state})

    def test_client_opens_what_kmsenv_wrapped(self):
        client = self.client()
        for pairs in self.contexts():
            kmsenv = self.kmsenv(pairs)
            message = kmsenv.seal([TEXT])[0]
            self.assertIsNotNone(message, kmsenv.last)
            key = reader.Header.parse(message).data_key
            self.assertEqual([(wrap.kms, wrap.context) for wrap in key.wraps], [(self.backend.kms, sorted(pairs))])
            reply = self.unwrap(client, key.wraps[0])
            self.assertNotIn("error", reply)
            self.assertEqual(reader.data_key_id(reply["plaintext"]), key.id)
            self.assertEqual(reader.open_message(message, reply["plaintext"]), TEXT)

    def test_client_opens_what_kmsenv_encrypted(self):
        """As a second profile, kmsenv has the KMS encrypt a data key made elsewhere."""
        local = common.local_profile(common.local_key_file(os.path.join(self.dir, "local.pem")))
        kmsenv = self.tool(self.config({"main": local, "prod": self.backend.profile(self.kms)}, block_size=ROOM))
        message = kmsenv.seal([TEXT])[0]
        self.assertIsNotNone(message, kmsenv.last)
        key = reader.Header.parse(message).data_key
        reply = self.unwrap(self.client(), key.wraps[1])
        self.assertNotIn("error", reply)
        self.assertEqual(reader.data_key_id(reply["plaintext"]), key.id)

    def test_kmsenv_opens_what_the_client_wrapped(self):
        client = self.client()
        for pairs in self.contexts():
            dek, key = self.data_key(client, pairs)
            message = reader.write_message(TEXT, dek, key)
            kmsenv = self.kmsenv()
            before = self.kms.calls(self.backend.open[-1], "ok")
            self.assertEqual(kmsenv.open([message]), [TEXT], kmsenv.last)
            self.assertEqual(self.kms.calls(self.backend.open[-1], "ok"), before + 1)

    def test_kmsenv_seals_with_a_key_of_the_client(self):
        """Given as a parameter, and found in a keyring."""
        client = self.client()
        keyring = os.path.join(self.dir, "keys")
        os.mkdir(keyring)
        for pairs in self.contexts():
            dek, key = self.data_key(client, pairs)
            kmsenv = self.kmsenv(pairs, keyring=keyring, wraps="detached")
            message = kmsenv.seal([TEXT], data_key=key.encode())[0]
            self.assertIsNotNone(message, kmsenv.last)
            self.assertEqual(reader.Header.parse(message).data_key.id, key.id)
            self.assertEqual(reader.open_message(message, dek), TEXT)
            kmsenv.stop()
            detached = reader.DataKey(key.id, key.length, [])
            pem = "-----BEGIN KMS DATA KEY-----\n%s-----END KMS DATA KEY-----\n" % base64.encodebytes(key.encode()).decode()
            common.write_private(os.path.join(keyring, key.id.hex() + ".pem"), pem)
            kmsenv = self.kmsenv(pairs, keyring=keyring)
            message = reader.write_message(TEXT, dek, detached)
            self.assertEqual(kmsenv.open([message]), [TEXT], kmsenv.last)

    def test_errors(self):
        """The replies of the stand-in are read by the client as its own service's."""
        good = self.client()
        use = self.request(self.new_wrap(good))
        for what, expected in self.errors.items():
            with self.subTest(what):
                self.kms.misbehave()
                reply = getattr(self, "fail_" + what)(good, use)
                self.kms.set_state(self.key_name(self.kms.key_id), "Enabled")
                self.assertIn("error", reply)
                self.assert_error(reply["error"], expected)
        self.kms.misbehave()
        self.ask(good, "decrypt", **use)

    def assert_error(self, error, expected):
        for name, value in expected.items():
            if name == "classes":
                self.assertLessEqual(set(value), set(error["classes"]), error)
            elif name == "message":
                self.assertRegex(error["message"], value)
            elif name == "requestId":
                self.assertRegex(error["requestId"], r"^[0-9a-fA-F-]{32,36}$", error)
            else:
                self.assertEqual(error.get(name), value, error)

    def fail_context(self, client, use):
        return client.answer("decrypt", **{**use, **self.context([("app", "other")])})

    def fail_disabled(self, client, use):
        self.kms.set_state(self.key_name(self.kms.key_id), "Disabled")
        return client.answer("decrypt", **use)

    def fail_unknown(self, client, use):
        return client.answer("describe", key=self.key[:-1] + "f")

    def fail_credentials(self, client, use):
        return self.client(**self.wrong_credentials()).answer("decrypt", **use)

    def wrong_credentials(self):
        return {"secret": "TESTwrongsecret"}

    def fail_denied(self, client, use):
        self.kms.misbehave({"do": "denied"})
        return client.answer("decrypt", **use)

    def fail_throttled(self, client, use):
        self.kms.misbehave({"do": "throttled"})
        return client.answer("decrypt", **use)


def main():
    if not os.path.exists(os.path.join(FOLDER, "installed")):
        print("skipped: the vendors' clients are not installed; sh test/clients/install DIR, and KMSENV_TEST_CLIENTS=DIR")
        sys.exit(77)
    common.main()
