"""Real programs, unmodified from Debian's packages, started with sealed private keys.

A program is a subclass of ServerCase in PROGRAM_test.py: what its configuration is and how it is started. What is checked
of every one is here: it serves with each type of key and each kind of KMS, and so many KMS calls are made for a start; it
does not start without the KMS, and does so in time and without a prompt.

    class Example(apps.ServerCase):
        program = "/usr/sbin/example"

        def command(self, place):
            config = place.write("example.conf", "listen 127.0.0.1:%d\\n..." % place.services[0].port)
            return [self.program, "--foreground", config]

    if __name__ == "__main__":
        apps.main()
"""
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from dataclasses import dataclass

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "scenarios"))

import common  # noqa: E402
from common import main  # noqa: E402,F401
import pki  # noqa: E402
import process  # noqa: E402

KMS_TIMEOUT = 3      # seconds, of the profile of a KMS that does not answer
TO_END = 15          # seconds, in which a program that cannot have its key ends; much of it for a machine under load
KINDS = ("local", "tencent")
UNSEAL = "Decrypt"   # the action of the stand-in that a start costs
AUDIT = "audit.json"
WITHOUT = "openssl_conf = init\n[init]\nproviders = p\n[p]\ndefault = d\n[d]\nactivate = 1\n"   # an openssl.cnf without kmsenv
# How a KMS can be down: what the error says then.
DOWN = {"refuses connections": "KMS unreachable", "never answers": "KMS unreachable", "denies": "KMS access denied"}


@dataclass
class Service:
    """A certificate of ours, its sealed key, and the port where the program is to serve with them."""
    type: str
    port: int
    cert: str
    key: str
    plain_cert: str     # the original of cert

    def bundle(self, key_first=False):
        """Certificate and key as the text of one file."""
        parts = []
        for path in (self.cert, self.key):
            with open(path, encoding="ascii") as source:
                parts.append(source.read())
        return "".join(reversed(parts) if key_first else parts)

    def become(self, other):
        """Puts the contents of another's files in its own."""
        for source, target in ((other.cert, self.cert), (other.key, self.key)):
            shutil.copyfile(source, target)
        self.type, self.plain_cert = other.type, other.plain_cert


class Place:
    """The directory of one start of a program: what it reads, and what it writes."""

    def __init__(self, directory, conf, services, ca):
        self.dir, self.conf, self.services, self.ca = directory, conf, services, ca

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text, mode=0o644):
        common.write_private(self.path(name), text)
        os.chmod(self.path(name), mode)
        return self.path(name)

    def folder(self, name, user=None):
        os.makedirs(self.path(name), exist_ok=True)
        if user:
            shutil.chown(self.path(name), user, user)
        return self.path(name)

    def unsealed(self, outcome="ok"):
        """How often the provider says that it had the KMS unwrap a data key, with that outcome."""
        if not os.path.exists(self.path(AUDIT)):
            return 0
        with open(self.path(AUDIT), encoding="utf-8") as source:
            entries = [json.loads(line) for line in source]
        return sum(entry["operation"] == "decrypt" and entry["outcome"] == outcome for entry in entries)

    def logs(self):
        """The text of all its *.log"""
        text = ""
        for folder, _, files in os.walk(self.dir):
            for name in files:
                if name.endswith(".log"):
                    with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as source:
                        text += source.read()
        return text


class AppCase(common.Scenario):
    """What tests of servers and of clients share: PKI, stand-in, sealed keys, configurations, starting."""

    program = None          # path of the binary
    role = pki.SERVER       # whose certificates
    user = None             # it is started as this user, who then owns its directory
    root = False            # it gives up being root, and so has to begin with it
    system = False          # OPENSSL_CONF does not reach it: our configuration is the system's openssl.cnf, for it alone
    environment = {}
    settings = {}           # of the provider, besides the profile and the audit log
    patience = common.PATIENCE   # kms-timeout, where somebody answers

    @classmethod
    def setUpClass(cls):
        if not os.path.exists(common.MODULE):
            raise AssertionError("no provider at %r: set KMSENV_TEST_MODULE_DIR" % common.MODULE)
        process.adopt_orphans()
        cls.base = tempfile.mkdtemp(prefix="app-")
        cls.addClassCleanup(shutil.rmtree, cls.base, ignore_errors=True)
        os.chmod(cls.base, 0o711)     # for programs that are not root
        # A user who is not root need not reach the build.
        cls.module = shutil.copy(common.MODULE, os.path.join(cls.base, "kmsenv.so"))
        os.chmod(cls.module, 0o644)
        cls.kms = common.StandIn()
        cls.addClassCleanup(cls.kms.__exit__)
        cls.kms.start()
        cls.local_key = common.local_key_file(os.path.join(cls.base, "local.pem"))
        cls.pki = pki.Pki(os.path.join(cls.base, "pki"))
        cls._sealed = {}
        cls._places = iter(range(1, 1 << 20))

    def setUp(self):
        super().setUp()
        self.require_privileges()
        self.kms.reset()
        spare = process.descendants(os.getpid())
        self.addCleanup(process.kill_orphans, spare)

    def require_privileges(self):
        if (self.root or self.user or self.system or self.binds(None)) and not process.is_privileged():
            self.skipTest("needs root and mount namespaces: it changes its user, or sees other files")

    # For subclasses

    def binds(self, place):
        """{path that the program sees: what it is to find there}, besides the system's openssl.cnf. place may be None."""
        return {"/etc/ssl/openssl.cnf": place.conf if place else None} if self.system else {}

    # Configurations

    def profile(self, kind, directory, endpoint=None):
        if kind == "local":
            copy = shutil.copy(self.local_key, os.path.join(directory, "local.pem"))
            os.chmod(copy, 0o600)
            return common.local_profile(copy)
        ca = shutil.copy(self.kms.ca_file, os.path.join(directory, "kms-ca.pem"))
        os.chmod(ca, 0o644)
        files = {name: "file:" + common.write_private(os.path.join(directory, "kms-" + name), getattr(self.kms, name))
                 for name in ("secret_id", "secret_key")}     # every user may read the configuration
        values = common.tencent_profile(self.kms, kms_timeout=KMS_TIMEOUT if endpoint else self.patience, proxy="none", ca_file=ca, **files)
        return {**values, "endpoint": endpoint or self.kms.endpoint}

    def configuration(self, kind, directory, endpoint=None):
        """The text of an openssl.cnf."""
        settings = {"audit_log": os.path.join(directory, AUDIT), **self.settings}
        text = common.config_text({"main": self.profile(kind, directory, endpoint)}, settings)
        return "nodejs_conf = init\n" + text.replace(common.MODULE, self.module)

    def new_folder(self):
        path = os.path.join(self.base, str(next(self._places)))
        os.mkdir(path, 0o755)
        return path

    def sealed_key(self, type_, kind):
        """The sealed PEM of our key of a type; one message for all starts."""
        name = (type_, kind, self.role)
        if name not in self._sealed:
            folder = self.new_folder()
            config = common.write_private(os.path.join(folder, "openssl.cnf"), self.configuration(kind, folder))
            self.assert_loaded(config)
            self._sealed[name] = pki.sealed(self.pki.pair(type_, self.role)[1], config)
        return self._sealed[name]

    def place(self, kind, types, endpoint=None, provider=True):
        """A new directory with everything in it that a program needs to serve with keys of these types."""
        folder = self.new_folder()
        place = Place(folder, None, [], os.path.join(folder, "ca.pem"))
        place.conf = place.write("openssl.cnf", self.configuration(kind, folder, endpoint) if provider else WITHOUT)
        shutil.copy(self.pki.ca, place.ca)
        for number, type_ in enumerate(types):
            plain = self.pki.pair(type_, self.role)[0]
            cert = shutil.copy(plain, place.path("cert%d.pem" % number))
            key = place.write("key%d.pem" % number, self.sealed_key(type_, kind), 0o600)
            place.services.append(Service(type_, process.free_port(), cert, key, plain))
        if provider:
            self.assert_loaded(place.conf)
        return place

    def run_in(self, place, command, daemon=False):
        """Starts a command in its place; it is stopped at the end of the test at the latest."""
        if self.user:
            process.give(place.dir, self.user)
        environment = {**({} if self.system else {"OPENSSL_CONF": place.conf}), **self.environment}
        running = process.Running(command, place.dir, environment, self.user, self.binds(place), daemon=daemon)
        self.addCleanup(running.stop)
        return running

    # Checks

    def unseals(self):
        return self.kms.calls(UNSEAL)

    def assert_from_package(self):
        real = os.path.realpath(self.program)
        names = {real, real.removeprefix("/usr")}     # as packages of Debian 12 have it, before or after the merge of /usr
        owner = [run.stdout.split(":")[0] for run in (subprocess.run(["dpkg", "-S", name], capture_output=True, text=True, timeout=60)
                                                      for name in sorted(names)) if run.returncode == 0]
        self.assertTrue(owner, "%s is of no package" % real)
        changed = subprocess.run(["dpkg", "--verify", owner[0]], capture_output=True, text=True, timeout=120).stdout
        self.assertFalse(names & {line.split()[-1] for line in changed.splitlines()}, "not as in its package: " + changed)
        version = subprocess.run(["dpkg-query", "-W", owner[0]], capture_output=True, text=True, timeout=60, check=True)
        print("%s: %s" % (self.program, version.stdout.strip().replace("\t", " ")))

    def assert_no_trace(self, place):
        """The plain key is in no file of the program's, its logs among them."""
        traces = {trace for service in place.services for trace in self.pki.traces(service.type, self.role)}
        found = 0
        for folder, _, files in os.walk(place.dir):
            for name in files:
                path = os.path.join(folder, name)
                if os.path.isfile(path):
                    data, found = self.read(path), found + 1
                    self.assertFalse([1 for trace in traces if trace in data], "a plain private key is in " + path)
        self.assertGreater(found, 2)

    def test_is_the_package_s(self):
        self.assert_from_package()


class KeyCase(AppCase):
    """A program that loads sealed private keys, as a server or otherwise."""

    several = False         # one start is with several keys
    calls = 1               # KMS calls that a start makes for a key
    tells = True            # what it prints has the reason why the key cannot be had; else only the audit log has it
    down_type = "p256"      # the key that it cannot have then

    def command(self, place):
        """Writes its configuration files; returns the command, in the foreground."""
        raise NotImplementedError

    def start(self, place):
        """The program, which has its keys."""
        raise NotImplementedError

    def assert_works(self, place):
        raise NotImplementedError

    def groups(self):
        """The types of keys of each start."""
        return [tuple(pki.TYPES)] if self.several else [(name,) for name in pki.TYPES]

    def check(self):
        """With each type of key and each kind of KMS."""
        for kind in KINDS:
            for types in self.groups():
                with self.subTest(kms=kind, keys=types):
                    place = self.place(kind, types)
                    before, calls = self.kms.calls(), self.calls * len(set(types))
                    with self.start(place) as running:
                        self.assert_works(place)
                        self.assertEqual(running.prompt(), "")
                    self.assertEqual(place.unsealed(), calls)
                    self.assertEqual(self.kms.calls() - before, calls if kind == "tencent" else 0)
                    self.assert_no_trace(place)

    def check_with_the_systems_configuration(self):
        """As a service of the system has it: no OPENSSL_CONF."""
        if self.system:
            return     # so do all the others
        self.system = True
        self.require_privileges()
        place = self.place("local", ["ed25519"])
        with self.start(place):
            self.assert_works(place)
        self.assertEqual(place.unsealed(), self.calls)

    # Without its key

    def down_place(self, how):
        if how == "denies":
            self.kms.misbehave({"do": "denied", "action": UNSEAL})
            return self.place("tencent", [self.down_type])
        nobody = socket.socket()
        self.addCleanup(nobody.close)
        nobody.bind(("127.0.0.1", 0))
        if how == "never answers":
            nobody.listen(16)
        return self.place("tencent", [self.down_type], "https://127.0.0.1:%d" % nobody.getsockname()[1])

    def assert_down(self, place, running):
        """It does not start."""
        status = running.ended_by(TO_END)
        self.assertIsNotNone(status, "goes on, or hangs:\n" + place.logs())
        self.assertNotEqual(status, 0, place.logs())

    def check_without_its_key(self):
        """Four at the same time: three ways of a KMS to be down, and a sealed key where nothing is said of kmsenv."""
        self.sealed_key(self.down_type, "tencent")
        places = {how: self.down_place(how) for how in DOWN}
        places["no provider"] = self.place("local", [self.down_type], provider=False)
        started = {how: self.run_in(place, self.command(place)) for how, place in places.items()}
        for how, running in started.items():
            with self.subTest(kms=how):
                self.assert_down(places[how], running)
                self.assertEqual(running.prompt(), "")
                if how in DOWN:
                    self.assertGreater(places[how].unsealed(DOWN[how]), 0)
                if self.tells and how in DOWN:
                    self.assertIn(DOWN[how], places[how].logs())
                self.assert_no_trace(places[how])
        self.assertGreater(self.kms.calls(UNSEAL), 0)   # the one that was denied


class ServerCase(KeyCase):
    """A TLS server. several: with each key at a port of its own."""

    http = False            # curl is to get `says` from it
    says = "it works"
    starttls = None         # protocol, as openssl s_client calls it

    def start(self, place):
        """The program, which serves at all its ports."""
        running = self.run_in(place, self.command(place))
        for service in place.services:
            self.assertTrue(running.listens(service.port), "does not serve:\n" + place.logs())
        return running

    def handshake(self, place, service, *arguments):
        """openssl s_client, without kmsenv: the chain is verified, the certificate is ours, the signature of its key."""
        starttls = ["-starttls", self.starttls] if self.starttls else []
        run = self.openssl("s_client", "-connect", "127.0.0.1:%d" % service.port, "-CAfile", place.ca, "-verify_return_error",
                           "-verify_hostname", pki.NAME, "-servername", pki.NAME, *starttls, *arguments, config="/dev/null", data=b"", timeout=30)
        text = run.stdout.decode(errors="replace")
        told = "\n".join(line for line in text.splitlines() if ":" in line)
        self.assertEqual(run.returncode, 0, told + run.stderr.decode(errors="replace") + place.logs())
        self.assertRegex(text, r"(?m)^Verif\w+(?: return code)?: (?:0 \(ok\)|OK)$")
        self.assertIn("\nPeer signature type: %s\n" % pki.TYPES[service.type].signature, text, told)
        shown = self.openssl("x509", "-outform", "DER", config="/dev/null", data=run.stdout).stdout
        self.assertEqual(shown, self.openssl("x509", "-outform", "DER", "-in", service.plain_cert, config="/dev/null").stdout)
        return text

    def connect(self, place, service):
        """A verified connection of this process."""
        plain = socket.create_connection(("127.0.0.1", service.port), 20)
        return ssl.create_default_context(cafile=place.ca).wrap_socket(plain, server_hostname=pki.NAME)

    def get(self, place, service):
        """curl, without kmsenv."""
        run = subprocess.run(["/usr/bin/curl", "-sS", "--fail", "--cacert", place.ca, "https://127.0.0.1:%d/" % service.port],
                             capture_output=True, timeout=30, env=common.clean_environment(OPENSSL_CONF="/dev/null"))
        self.assertEqual((run.returncode, run.stderr), (0, b""), place.logs())
        self.assertIn(self.says.encode(), run.stdout)

    def reload(self, place, running, text, number=signal.SIGHUP):
        """Signals that to it; waits for a new line of its logs."""
        before = place.logs().count(text)
        running.signal(number)
        self.assertTrue(process.wait_until(lambda: place.logs().count(text) > before, 20), place.logs())

    def check_reload_without_kms(self, failed, done):
        """A reload that cannot have the key changes nothing; the next one can. What the log says of them."""
        self.settings = {"sealed-key-cache": 0}
        place = self.place("tencent", ["p256"])
        with self.start(place) as running:
            self.assert_serves(place)
            self.kms.misbehave({"do": "denied"})
            self.reload(place, running, failed)
            self.assertIn("KMS access denied", place.logs())
            self.assert_serves(place)
            self.kms.reset()
            self.reload(place, running, done)
            self.assert_serves(place)
            self.assertEqual(self.unseals(), 1)      # since the reset

    def check_reload_keeps_the_key(self, done, number=signal.SIGHUP):
        self.settings = {"sealed-key-cache": 0}
        place = self.place("tencent", ["p256"])
        with self.start(place) as running:
            self.assert_serves(place)
            self.kms.misbehave({"do": "denied"})
            self.reload(place, running, done, number)
            self.assert_serves(place)
            self.assertEqual(place.unsealed(), 1)

    def assert_serves(self, place):
        for service in place.services:
            self.handshake(place, service)
            if self.http:
                self.get(place, service)

    def assert_works(self, place):
        self.assert_serves(place)

    def test_serves(self):
        self.check()

    def test_serves_with_the_system_s_configuration(self):
        self.check_with_the_systems_configuration()

    def test_without_its_key(self):
        self.check_without_its_key()
