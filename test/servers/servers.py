"""Starts servers that nobody here wrote, each as a process of its own on a free port of loopback, with TLS:

    moto, MiniStack  AWS KMS, STS (moto: and IAM, with signatures checked)
    OpenBao          the engine transit, AppRole

`install` (next to this) fetches them; why_not() tells if one could not be had.
"""
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time

import certificates

BUILD = os.environ.get("KMSENV_TEST_BUILD") or os.environ.get("KMSENV_BUILD") or tempfile.gettempdir()
HOME = os.environ.get("KMSENV_TEST_SERVERS") or os.path.join(BUILD, "servers")
STARTS_WITHIN = 90      # seconds; there may be much else going on
ATTEMPTS = 3            # somebody else may take the port in between


def why_not(name):
    """None if the server is installed, else a line that says why it is not."""
    folder = os.path.join(HOME, name)
    if os.path.exists(os.path.join(folder, "installed")):
        return None
    try:
        with open(os.path.join(folder, "unavailable"), encoding="utf-8", errors="replace") as source:
            return "%s cannot be had here: %s" % (name, source.read().strip())
    except OSError:
        return "%s is not installed: sh test/servers/install %s %s" % (name, HOME, name)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A process, its port and its folder. Subclasses say how it is started and when it is ready."""

    name = None
    ready_path = "/"

    def __init__(self):
        self.process = self.log = self.directory = self.port = None

    # For subclasses

    def command(self):
        raise NotImplementedError

    def environment(self):
        return {}

    def prepare(self):
        certificates.make(self.directory)

    @property
    def ca_file(self):
        return os.path.join(self.directory, "ca.pem")

    # For tests

    @property
    def endpoint(self):
        return "https://127.0.0.1:%d" % self.port

    def program(self, *path):
        return os.path.join(HOME, self.name, *path)

    def start(self):
        for attempt in range(ATTEMPTS):
            self.directory = tempfile.mkdtemp(prefix="kmsenv-%s-" % self.name)
            self.port = free_port()
            self.prepare()
            self._spawn()
            if self._wait():
                return self
            said = self.tail()
            self.stop()
        raise AssertionError("%s does not start: %s" % (self.name, said))

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait(20)
            self.process = None
            self.log.close()
        if self.directory is not None:
            shutil.rmtree(self.directory, ignore_errors=True)
            self.directory = None

    def tail(self):
        with open(self.log.name, "rb") as source:
            return source.read()[-2000:].decode(errors="replace")

    def request(self, method, path, body=None, headers=None):
        """(status, reply as JSON or bytes), by Python's own client."""
        context = ssl.create_default_context(cafile=self.ca_file)
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=context)
        try:
            if not isinstance(body, (bytes, str, type(None))):
                body = json.dumps(body)
            connection.request(method, path, body, headers or {})
            reply = connection.getresponse()
            data = reply.read()
        finally:
            connection.close()
        try:
            return reply.status, json.loads(data)
        except ValueError:
            return reply.status, data

    def _spawn(self):
        logs = os.path.join(BUILD, "server-logs")
        os.makedirs(logs, exist_ok=True)
        self.log = open(os.path.join(logs, "%s-%d.log" % (self.name, os.getpid())), "w+b")
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": self.directory, "TMPDIR": self.directory,
                       "PYTHONDONTWRITEBYTECODE": "1", "no_proxy": "*", **self.environment()}
        # setpriv: it ends with this process, however that ends.
        self.process = subprocess.Popen(
            ["/usr/bin/setpriv", "--pdeathsig", "KILL", *self.command()], stdin=subprocess.DEVNULL, stdout=self.log,
            stderr=self.log, cwd=self.directory, env=environment)

    def _wait(self):
        until = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < until and self.process.poll() is None:
            try:
                if self.request("GET", self.ready_path)[0] < 500:
                    return True
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.1)
        return False


class Moto(Server):
    name = "moto"
    ready_path = "/moto-api/data.json"

    def command(self):
        pem = os.path.join(self.directory, "server.pem")
        return [self.program("venv", "bin", "python"), self.program("venv", "bin", "moto_server"), "-H", "127.0.0.1",
                "-p", str(self.port), "-c", pem, "-k", pem]

    def check_signatures(self, after=0):
        """moto checks signatures and IAM policies, as AWS does, once this many requests are through."""
        status, reply = self.request("POST", "/moto-api/reset-auth", str(after))
        if status != 200:
            raise AssertionError(reply)


class MiniStack(Server):
    name = "ministack"
    ready_path = "/_ministack/health"

    def command(self):
        # Not its own main(): with TLS that takes port 443, too.
        pem = os.path.join(self.directory, "server.pem")
        return [self.program("venv", "bin", "python"), self.program("venv", "bin", "hypercorn"), "ministack.app:app",
                "--workers", "0", "--bind", "127.0.0.1:%d" % self.port, "--certfile", pem, "--keyfile", pem]

    def environment(self):
        return {"SERVICES": "kms,sts,iam", "GATEWAY_PORT": str(self.port), "MINISTACK_HOST": "127.0.0.1",
                "DOCKER_HOST": "unix:///nonexistent", "SFTP_ENABLED": "0"}


class OpenBao(Server):
    name = "openbao"
    ready_path = "/v1/sys/health"
    root_token = "test-root-token"

    def command(self):
        return [self.program("openbao"), "127.0.0.1:%d" % self.port, os.path.join(self.directory, "server.pem"), self.root_token]

    def api(self, method, path, body=None, token=root_token, ok=True):
        """A request to the HTTP API as an administrator; the member data, or auth, of the reply."""
        status, reply = self.request(method, "/v1/" + path, body, {"X-Vault-Token": token} if token else {})
        if ok and status not in (200, 204):
            raise AssertionError("%s %s: %d %s" % (method, path, status, reply))
        if not ok:
            return status, reply
        return None if status == 204 else reply.get("data") or reply.get("auth")
