"""The control port: plain HTTP on loopback, JSON both ways.

    GET  /counters      requests by dialect and action, connections and handshakes by dialect
    GET  /log           every request since the last reset
    GET  /control       what is set now
    POST /control       {"misbehave": [rules], "clock": seconds, "options": {...}, "close-connections": true}
    POST /reset         forget log, counters, rules and clock (keys stay)
    GET  /keys
    POST /keys          {"create": id | null, "region": ...} or {"key": id, "state": ... | "rotate": true | "delete": true}
    POST /credentials   {"id", "secret", "token"?, "expires-in"?}, {"id", "deny": [actions]} or {"expire-temporary": true}
"""
import json
import time

import misbehave
from httpd import Reply


def _json(value, status=200):
    return Reply(status, json.dumps(value).encode())


class Control:
    def __init__(self, server):
        self.server = server
        self.routes = {
            ("GET", "/counters"): lambda body: server.journal.counters(),
            ("GET", "/log"): lambda body: server.journal.entries(),
            ("GET", "/control"): lambda body: self._show(),
            ("POST", "/control"): self._control,
            ("POST", "/reset"): lambda body: server.reset(),
            ("GET", "/keys"): lambda body: server.world.keys.describe_all(),
            ("POST", "/keys"): self._keys,
            ("POST", "/credentials"): self._credentials,
        }

    def __call__(self, request):
        route = self.routes.get((request.method, request.target))
        if route is None:
            return _json({"error": "no such path"}, 404)
        try:
            return _json(route(json.loads(request.body or b"{}")) or {"ok": True})
        except (ValueError, KeyError, TypeError) as fault:
            return _json({"error": "%s: %s" % (type(fault).__name__, fault)}, 400)

    def _show(self):
        return {"misbehave": self.server.rules.remaining(), "clock": self.server.world.clock_offset,
                "options": self.server.world.options}

    def _control(self, body):
        server = self.server
        unknown = set(body) - {"misbehave", "clock", "options", "close-connections"}
        if unknown:
            raise ValueError("unknown member " + ", ".join(sorted(unknown)))
        misbehave.check(body.get("misbehave", []), server.dialects)
        for name in body.get("options", {}):
            if name not in server.world.options:
                raise ValueError("unknown option " + name)
        if "misbehave" in body:
            server.rules.set(body["misbehave"])
        server.world.clock_offset = body.get("clock", server.world.clock_offset)
        server.world.options.update(body.get("options", {}))
        if body.get("close-connections"):
            for listener in server.kms_listeners:
                listener.close_connections()
        return None

    def _keys(self, body):
        keys = self.server.world.keys
        if "create" in body:
            more = {name: value for name, value in body.items() if name not in ("create", "region")}
            return {"key": keys.create(body["create"], body.get("region"), **more)}
        key_id = body["key"]
        if "state" in body:
            keys.set_state(key_id, body["state"])
        elif body.get("rotate"):
            keys.rotate(key_id)
        elif body.get("delete"):
            keys.delete(key_id)
        else:
            raise ValueError("state, rotate or delete is required")
        return None

    def _credentials(self, body):
        keys = self.server.world.keys
        if body.get("expire-temporary"):
            keys.expire_temporary()
        elif "deny" in body:
            keys.deny(body["id"], body["deny"])
        else:
            expires = time.time() + body["expires-in"] if "expires-in" in body else None
            keys.add_credential(body["id"], body["secret"], body.get("token"), expires)
        return None
