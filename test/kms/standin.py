"""For tests in Python: starts the stand-in as a process of its own and talks to its control port.

    with StandIn() as kms:
        kms.endpoint, kms.ca_file, kms.key_id, kms.secret_id, kms.secret_key
        kms.misbehave({"do": "throttled", "action": "Decrypt", "count": 1})
        kms.calls("Decrypt")
"""
import http.client
import json
import os
import select
import shutil
import subprocess
import tempfile

from server import TEST_KEY_ID, TEST_SECRET_ID, TEST_SECRET_KEY

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else "python3"


class StandIn:
    key_id, secret_id, secret_key = TEST_KEY_ID, TEST_SECRET_ID, TEST_SECRET_KEY

    def __init__(self, dialect="tencent", directory=None):
        self.dialect = dialect
        self._own_directory = directory is None
        self.directory = directory or tempfile.mkdtemp(prefix="kmsenv-standin-")
        self.ports = {}
        self.process = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()
        if self._own_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def start(self):
        port = self.ports.get(self.dialect, 0)   # the same again after a stop
        self.process = subprocess.Popen(
            [PYTHON, os.path.join(HERE, "server.py"), "--dir", self.directory, "--dialect", self.dialect,
             "--port", str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        ready, _, _ = select.select([self.process.stdout], [], [], 30)
        line = self.process.stdout.readline() if ready else b""
        if not line:
            self.stop()
            raise RuntimeError("the KMS stand-in did not start")
        self.ports = json.loads(line)["ports"]
        return self

    def stop(self):
        """Ends the process; clients see a refused connection. start() brings it back with the same keys and port."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait(10)
        self.process.stdin.close()
        self.process.stdout.close()
        self.process = None

    @property
    def endpoint(self):
        return "https://127.0.0.1:%d" % self.ports[self.dialect]

    @property
    def metadata_endpoint(self):
        return "http://127.0.0.1:%d" % self.ports["metadata"]

    @property
    def trap_url(self):
        return "https://127.0.0.1:%d/followed" % self.ports["trap"]

    @property
    def ca_file(self):
        return os.path.join(self.directory, "ca.pem")

    # Control

    def ask(self, method, path, value=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["control"], timeout=20)
        try:
            connection.request(method, path, None if value is None else json.dumps(value))
            reply = connection.getresponse()
            body = json.loads(reply.read())
        finally:
            connection.close()
        if reply.status != 200:
            raise ValueError("control: " + body.get("error", str(reply.status)))
        return body

    def control(self, **members):
        """Members of POST /control; '_' in names becomes '-'."""
        self.ask("POST", "/control", {name.replace("_", "-"): value for name, value in members.items()})

    def misbehave(self, *rules):
        self.control(misbehave=list(rules))

    def close_connections(self):
        self.control(close_connections=True)

    def reset(self):
        self.ask("POST", "/reset")

    def counters(self):
        return self.ask("GET", "/counters")

    def log(self):
        return self.ask("GET", "/log")

    def calls(self, action=None, outcome=None):
        """How many requests reached the KMS port, by action and outcome ("ok" or an error)."""
        actions = self.counters()["actions"].get(self.dialect, {})
        chosen = [counts for name, counts in actions.items() if action in (None, name)]
        return sum(counts["total"] if outcome is None else counts["outcomes"].get(outcome, 0) for counts in chosen)

    def handshakes(self):
        return self.counters()["connections"].get(self.dialect, {}).get("handshakes", 0)

    def trapped(self):
        """Requests that followed a redirect: must stay 0."""
        return sum(counts["total"] for counts in self.counters()["actions"].get("trap", {}).values())

    # Keys

    def create_key(self, key_id=None, **more):
        return self.ask("POST", "/keys", {"create": key_id, **more})["key"]

    def set_state(self, key_id, state):
        self.ask("POST", "/keys", {"key": key_id, "state": state})

    def rotate(self, key_id):
        self.ask("POST", "/keys", {"key": key_id, "rotate": True})

    def delete_key(self, key_id):
        self.ask("POST", "/keys", {"key": key_id, "delete": True})

    def credentials(self, **members):
        self.ask("POST", "/credentials", {name.replace("_", "-"): value for name, value in members.items()})
