"""The vendors' protocols. A dialect is one module here with a class that has the members of Dialect;
adding it to ALL is all the server needs.

World, given to every dialect: .keys (KeyStore), .clock() (Unix seconds as the stand-in sees them),
.options (settings of the control port, by name).
"""
import importlib

ALL = {"tencent": "Tencent", "vault": "Vault", "aws": "Aws", "google": "Google", "azure": "Azure", "alibaba": "Alibaba",
       "alibaba-instance": "AlibabaInstance"}


# Misbehaviours by neutral names, which the tests of all back ends use. A dialect has every one of them, or says in
# `lacks` why its service cannot do that. It may have more.
ERRORS = ("throttled", "internal", "temporarily-unavailable", "expired-token", "denied", "disabled", "pending-delete",
          "not-found", "bad-ciphertext", "bad-signature", "clock", "unknown")
TAMPERS = ("wrong-shape", "wrong-type", "short-plaintext", "long-plaintext", "wrong-plaintext", "bad-base64", "wrong-key-id",
           "missing-plaintext", "missing-ciphertext", "huge-ciphertext")


class Dialect:
    name = ""
    errors = {}     # neutral name: (the service's own code, message)
    tampers = {}    # neutral name: how to spoil the content of a good reply; one that has nothing to spoil stays as it is
    lacks = {}      # neutral name: why it has no such error or tampering

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
    return getattr(importlib.import_module("dialects." + name.replace("-", "_")), ALL[name])(world)
