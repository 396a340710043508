"""Misbehaviour on demand.

A rule is a dictionary:
    do      what to do, see KINDS and the dialects' error and tamper tables
    action  only for this action of the dialect (default: any); "metadata" for the metadata service
    dialect only for this dialect (default: any)
    count   for how many requests, then the rule is gone (default: until cleared)
    after   let this many matching requests pass first
and what the kind needs (ms, status, bytes, seconds, location, certificate, code, message).
The first rule that matches a request applies to it; others stay untouched. `latency` only delays:
the rules after it still apply.
"""
import threading
import time

from httpd import Reply

# what the server itself can do; every dialect adds its errors and tamperings
CONNECTION_KINDS = {
    "wrong-certificate": "certificate: rogue, wrong-name or expired",
    "refuse": "hang up on a new connection before the TLS handshake",
}
KINDS = {
    "latency": "wait ms, then go on",
    "hang": "no reply for ms, then hang up",
    "drop-before": "hang up instead of working",
    "drop-after": "work, then hang up without a reply",
    "reset": "like drop-before, with a TCP reset",
    "truncate": "work, send the head and only `bytes` of the body, hang up",
    "drip": "work, send one byte every ms",
    "http": "reply with HTTP `status`, and the header Retry-After if retry-after is given",
    "garbage": "a reply that is not in the dialect's format",
    "empty": "200 with an empty body",
    "oversize": "a well-formed looking reply of `bytes` (default 2 MiB)",
    "redirect": "HTTP `status` (default 302) with `location`",
    "clock-skew": "reply that the signature has expired, with a Date `seconds` off",
    "error": "the dialect's error with this `code` and `message`",
    "echo": "an error that nobody knows, whose message repeats the whole request",
}


class Rules:
    def __init__(self):
        self._lock = threading.Lock()
        self._rules = []

    def set(self, rules):
        for rule in rules:
            if not isinstance(rule, dict) or "do" not in rule:
                raise ValueError("a rule is an object with a member \"do\"")
        with self._lock:
            self._rules = [dict(rule) for rule in rules]

    def remaining(self):
        with self._lock:
            return [dict(rule) for rule in self._rules]

    def _use(self, rule):
        """Counts one use of a rule that matches; False if it lets this one pass."""
        if rule.get("after", 0) > 0:
            rule["after"] -= 1
            return False
        if rule.get("count") is not None:
            rule["count"] -= 1
            if rule["count"] <= 0:
                self._rules.remove(rule)
        return True

    def take_for_connection(self, dialect):
        with self._lock:
            for rule in list(self._rules):
                if rule["do"] in CONNECTION_KINDS and rule.get("dialect", dialect) == dialect and self._use(rule):
                    return dict(rule)
        return None

    def take(self, dialect, action):
        """(milliseconds to wait, rule or None)"""
        wait = 0
        with self._lock:
            for rule in list(self._rules):
                if (rule["do"] in CONNECTION_KINDS or rule.get("dialect", dialect) != dialect
                        or rule.get("action", action) != action or not self._use(rule)):
                    continue
                if rule["do"] != "latency":
                    return wait, dict(rule)
                wait += rule.get("ms", 1000)
        return wait, None


def _instead(rule, dialect, request):
    """The reply of a kind that replaces the work, or None."""
    kind = rule["do"]
    if kind in ("drop-before", "reset"):
        return Reply(outcome=kind, delivery="reset" if kind == "reset" else "drop")
    if kind == "hang":
        return Reply(outcome=kind, delivery="hang", amount=rule.get("ms", 1000))
    if kind == "http":
        status = rule.get("status", 503)
        headers = [("Retry-After", str(rule["retry-after"]))] if "retry-after" in rule else []
        return Reply(status, b"upstream trouble", headers, "text/plain", outcome="http-%d" % status)
    if kind == "garbage":
        return Reply(body=b"<html><body>captive portal</body></html>", content_type="text/html", outcome=kind)
    if kind == "empty":
        return Reply(outcome=kind)
    if kind == "oversize":
        return Reply(body=b'{"Response":{"Filler":"' + b"A" * rule.get("bytes", 2 << 20) + b'"}}', outcome=kind)
    if kind == "redirect":
        return Reply(rule.get("status", 302), b"", [("Location", rule["location"])], "text/plain", outcome=kind)
    if kind == "clock-skew":
        reply = dialect.error("clock", request)
        reply.date_offset = rule.get("seconds", 3600)
        return reply
    if kind == "error":
        return dialect.error_reply(rule["code"], rule.get("message", "as the test asked"))
    if kind == "echo":
        lines = ["%s %s" % (request.method, request.target), *("%s: %s" % pair for pair in request.headers)]
        return dialect.error_reply(dialect.errors["unknown"][0], " ".join(lines) + " " + request.body.decode("latin-1"))
    if kind in dialect.errors:
        return dialect.error(kind, request)
    return None


def _faulty(rule, reply):
    kind = rule["do"]
    if kind == "drop-after":
        reply.delivery = "drop"
    elif kind == "truncate":
        reply.delivery, reply.amount = "truncate", rule.get("bytes", len(reply.body) // 2)
    elif kind == "drip":
        reply.delivery, reply.amount = "drip", rule.get("ms", 50)
    else:
        return False
    reply.outcome = kind
    return True


def answer(rules, dialect, action, request, work):
    """Runs work() for the request, as well or as badly as the rules say."""
    wait, rule = rules.take(dialect.name, action)
    if wait:
        time.sleep(wait / 1000)
    if rule is None:
        return work()
    reply = _instead(rule, dialect, request)
    if reply is not None:
        return reply
    reply = work()
    if reply.outcome == "ok" and not _faulty(rule, reply):
        if rule["do"] not in dialect.tampers:
            raise ValueError("no misbehaviour is called " + rule["do"])
        dialect.tamper(rule["do"], reply)
        reply.outcome = rule["do"]
    return reply


def check(rules, dialects):
    """ValueError if a rule asks for something nobody can do."""
    known = set(KINDS) | set(CONNECTION_KINDS)
    for dialect in dialects:
        known |= set(dialect.errors) | set(dialect.tampers)
    for rule in rules:
        if rule.get("do") not in known:
            raise ValueError("unknown misbehaviour %r; known: %s" % (rule.get("do"), ", ".join(sorted(known))))
