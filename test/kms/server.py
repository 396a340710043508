#!/usr/bin/python3
"""Stand-in for the key management services of cloud vendors, for tests on loopback.

    server.py --dir DIR [--dialect NAME]... [--port N] [--stay]

Prints one line of JSON with the ports when ready, and ends on SIGTERM or when its standard input
ends (unless --stay), so that a killed test leaves nothing behind. DIR receives ca.pem, the servers'
certificates, keys.json and log.jsonl; started again on the same DIR it has the same keys.
"""
import argparse
import json
import os
import signal
import sys
import threading
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import certificates  # noqa: E402
import dialects  # noqa: E402
import misbehave  # noqa: E402
from control import Control  # noqa: E402
from httpd import Listener, Reply  # noqa: E402
from journal import Journal  # noqa: E402
from keystore import KeyStore  # noqa: E402

# Known to the tests; no such account exists.
TEST_KEY_ID = "00000000-1111-11ee-8888-fa4e00000001"
TEST_SECRET_ID = "AKIDtesttesttesttesttesttesttest0001"
TEST_SECRET_KEY = "TESTsecretTESTsecretTESTsecret01"


class World:
    """What dialects may use."""

    def __init__(self, keys):
        self.keys = keys
        self.clock_offset = 0.0
        self.options = {"role": "kmsenv-test-role", "credential-lifetime": 7200,
                        "web-identity-token": "test-web-identity-token"}

    def clock(self):
        return time.time() + self.clock_offset


class Server:
    def __init__(self, directory, names, port=0):
        os.makedirs(directory, mode=0o700, exist_ok=True)
        certificates.make(directory)
        self.contexts = certificates.contexts(directory)
        self.journal = Journal(os.path.join(directory, "log.jsonl"))
        self.world = World(KeyStore(os.path.join(directory, "keys.json")))
        self.world.keys.create(TEST_KEY_ID)
        self.world.keys.add_credential(TEST_SECRET_ID, TEST_SECRET_KEY)
        self.rules = misbehave.Rules()
        self.dialects = [dialects.load(name, self.world) for name in names]
        self.kms_listeners = []
        for dialect in self.dialects:
            self.kms_listeners.append(Listener(dialect.name, self._application(dialect), self.journal,
                                               self._certificate_chooser(dialect), port))
            port = 0
        # where a redirect would lead: it must never see a request
        self.trap = Listener("trap", self._trap, self.journal, lambda: self.contexts[certificates.GOOD])
        self.metadata = Listener("metadata", self._metadata, self.journal)
        self.control = Listener("control", Control(self), Journal(os.devnull))

    def _certificate_chooser(self, dialect):
        def choose():
            rule = self.rules.take_for_connection(dialect.name)
            if rule is None:
                return self.contexts[certificates.GOOD]
            return None if rule["do"] == "refuse" else self.contexts[rule.get("certificate", "rogue")]
        return choose

    def _record(self, listener, request, action, reply, started, rule_offset=0.0):
        if not reply.date_offset:
            reply.date_offset = rule_offset
        self.journal.request(listener, {
            "action": action, "keyId": reply.key_id, "status": reply.status, "outcome": reply.outcome,
            "connection": request.connection, "requestId": reply.request_id, "signedBy": reply.signed_by,
            "milliseconds": round((time.monotonic() - started) * 1000, 1)})
        return reply

    def _application(self, dialect):
        def serve(request):
            started, action = time.monotonic(), dialect.action_of(request)
            try:
                reply = misbehave.answer(self.rules, dialect, action, request, lambda: dialect.handle(request))
            except Exception:  # a fault of the stand-in must be seen as such, not as the client's
                traceback.print_exc()
                reply = Reply(500, b"the stand-in failed", content_type="text/plain", outcome="stand-in-failed")
            return self._record(dialect.name, request, action, reply, started, self.world.clock_offset)
        return serve

    def _metadata(self, request):
        started = time.monotonic()
        for dialect in self.dialects:
            reply = dialect.metadata(request)
            if reply is not None:
                reply = misbehave.answer(self.rules, dialect, "metadata", request, lambda: reply)
                return self._record("metadata", request, reply.action or "metadata", reply, started)
        return self._record("metadata", request, "unknown",
                            Reply(404, b"not found", content_type="text/plain", outcome="not-found"), started)

    def _trap(self, request):
        return self._record("trap", request, request.method + " " + request.target,
                            Reply(200, b"{}", outcome="followed-redirect"), time.monotonic())

    def reset(self):
        self.rules.set([])
        self.world.clock_offset = 0.0
        self.journal.reset()

    def start(self):
        """Listens; returns the ports by name."""
        listeners = [*self.kms_listeners, self.metadata, self.control, self.trap]
        for listener in listeners:
            listener.start()
        return {listener.name: listener.port for listener in listeners}


def _end_with_stdin(stop):
    while sys.stdin.buffer.read(4096):
        pass
    stop.set()


def main():
    parser = argparse.ArgumentParser(description="KMS stand-in for tests, loopback only")
    parser.add_argument("--dir", required=True, help="for certificates, keys and log")
    parser.add_argument("--dialect", action="append", choices=sorted(dialects.ALL), help="default: all")
    parser.add_argument("--port", type=int, default=0, help="TLS port of the first dialect")
    parser.add_argument("--stay", action="store_true", help="do not end with standard input")
    arguments = parser.parse_args()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    server = Server(arguments.dir, arguments.dialect or sorted(dialects.ALL), arguments.port)
    ports = server.start()
    print(json.dumps({"ready": True, "pid": os.getpid(), "ports": ports,
                      "ca": os.path.join(os.path.abspath(arguments.dir), "ca.pem")}), flush=True)
    if not arguments.stay:
        threading.Thread(target=_end_with_stdin, args=(stop,), daemon=True).start()
    stop.wait()
    os._exit(0)   # connection threads may be asleep on purpose


if __name__ == "__main__":
    main()
