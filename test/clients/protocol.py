"""What the vendors' Python clients have in common: the protocol of protocol.mjs.

These clients take the address of the KMS as a setting, so nothing is redirected. KMSENV_CLIENT is
{"endpoint", "ca", ...} and what else a client asks for.
"""
import base64
import json
import os
import socket
import sys

settings = json.loads(os.environ["KMSENV_CLIENT"])
_connect = socket.socket.connect


def _connect_here(self, address):
    if self.family != socket.AF_UNIX and address[0] != "127.0.0.1":
        raise OSError("a test must not connect to %s" % (address,))
    return _connect(self, address)


socket.socket.connect = _connect_here


def from_base64(text):
    return base64.b64decode(text)


def to_base64(data):
    return base64.b64encode(data).decode()


def _data(fault):
    return getattr(fault, "data", None) or {}   # where the exceptions of Alibaba's SDKs have it


def _error_of(fault):
    classes = [kind.__name__ for kind in type(fault).__mro__ if issubclass(kind, Exception)]
    return {"classes": classes, "name": classes[0], "code": getattr(fault, "code", None), "message": str(fault),
            "status": _data(fault).get("httpCode"), "requestId": _data(fault).get("requestId")}


def serve(**operations):
    """Answers requests until the input ends. operations: name=function of the request."""
    out = sys.stdout
    sys.stdout = sys.stderr   # standard output belongs to the protocol
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = operations[request["op"]](request)
        except Exception as fault:   # whatever the client raises is the answer
            reply = {"error": _error_of(fault)}
        print(json.dumps(reply), file=out, flush=True)
