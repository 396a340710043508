"""The vendors' protocols. A dialect is one module here with a class that has the members of Dialect;
adding it to ALL is all the server needs.

World, given to every dialect: .keys (KeyStore), .clock() (Unix seconds as the stand-in sees them),
.options (settings of the control port, by name).
"""
import importlib

ALL = {"tencent": "Tencent", "vault": "Vault", "aws": "Aws"}


class Dialect:
    name = ""
    # misbehaviours by neutral names that every dialect translates into its own error codes:
    # throttled, internal, expired-token, denied, disabled, not-found, bad-ciphertext, clock
    errors = {}
    # ways to spoil the content of a good reply: wrong-shape, short-plaintext, long-plaintext, bad-base64,
    # wrong-key-id, missing-field, wrong-plaintext
    tampers = {}

    def __init__(self, world):
        self.world = world

    def action_of(self, request):
        """The action a request asks for, for rules and counters; never fails."""
        raise NotImplementedError

    def handle(self, request):
        """Reply to a request at the TLS port; authenticates it first."""
        raise NotImplementedError

    def metadata(self, request):
        """Reply of the instance's metadata service, or None if the path is not this dialect's."""
        return None

    def error(self, kind, request):
        """Reply for a neutral error name."""
        raise NotImplementedError

    def error_reply(self, code, message):
        """Reply with the dialect's own error code."""
        raise NotImplementedError

    def tamper(self, kind, reply):
        """Spoils the content of a good reply in place."""
        raise NotImplementedError


def load(name, world):
    return getattr(importlib.import_module("dialects." + name), ALL[name])(world)
