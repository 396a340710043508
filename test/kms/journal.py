"""What happened: one JSON line per request or connection, and counters over them.

Tests assert exact numbers of calls and TLS handshakes, so an entry is complete before the
reply's first byte leaves. Entries never hold plaintext, tokens or signatures.
"""
import json
import threading
import time


class Journal:
    def __init__(self, path):
        self._file = open(path, "a", buffering=1, encoding="utf-8")
        self._lock = threading.Lock()
        self._clear()

    def _clear(self):
        self._entries = []
        self._connections = {}   # listener -> {"accepted", "handshakes", "resumed", "failed_handshakes"}
        self._actions = {}       # listener -> action -> {"total", "ok", "outcomes": {}}

    def reset(self):
        with self._lock:
            self._clear()
            self._write({"event": "reset"})

    def _write(self, entry):
        entry["time"] = round(time.time(), 3)
        self._file.write(json.dumps(entry, sort_keys=True) + "\n")

    def connection(self, listener, what, number, **more):
        """what: accepted, handshakes, resumed, failed_handshakes."""
        with self._lock:
            counts = self._connections.setdefault(
                listener, {"accepted": 0, "handshakes": 0, "resumed": 0, "failed_handshakes": 0})
            counts[what] += 1
            self._write({"event": what, "listener": listener, "connection": number, **more})

    def request(self, listener, entry):
        with self._lock:
            counts = self._actions.setdefault(listener, {}).setdefault(
                entry["action"], {"total": 0, "ok": 0, "outcomes": {}})
            counts["total"] += 1
            counts["ok"] += entry["outcome"] == "ok"
            counts["outcomes"][entry["outcome"]] = counts["outcomes"].get(entry["outcome"], 0) + 1
            entry = {"event": "request", "listener": listener, "n": len(self._entries) + 1, **entry}
            self._entries.append(entry)
            self._write(entry)

    def counters(self):
        with self._lock:
            return json.loads(json.dumps({"requests": len(self._entries), "actions": self._actions,
                                          "connections": self._connections}))

    def entries(self):
        with self._lock:
            return list(self._entries)
