"""HashiCorp Vault: secrets engine transit, sign-in with AppRole and Kubernetes, renewal of tokens.

A token is hvs.IDENTITY.SECRET of a credential in the key store. Where Vault and OpenBao differ, this is
the stricter Vault: parameters that an operation does not know are ignored without a word, and datakey
and rewrap do not know associated_data. encrypt creates a key that is not there, as the service does
for a token that may. Namespace "kmsenv-test" has the engine at deep/transit, the root at transit.
"""
import base64
import hmac
import json
import os
import re
import uuid

from dialects import Dialect
from httpd import Reply
from keystore import BadCiphertext, NoSuchKey

MOUNTS = {"": "transit", "kmsenv-test": "deep/transit"}
KEY_NAME = re.compile(r"\w([\w.-]*\w)?", re.ASCII)
BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
CIPHERTEXT = re.compile(r"vault:v([1-9][0-9]{0,5}):(.+)")
NO_TOKEN = (403, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")
NO_KEY = (400, "encryption key not found")
TOO_OLD = (400, "ciphertext or signature version is disallowed by policy (too old)")
BAD = (400, "invalid ciphertext: cipher: message authentication failed")


class Fault(Exception):
    def __init__(self, status, message=None):
        super().__init__(message)
        self.status, self.message = status, message


def b64encode(data):
    return base64.b64encode(data).decode()


def b64decode(text, what):
    if not isinstance(text, str) or not BASE64.fullmatch(text):
        raise Fault(400, "failed to base64-decode " + what)
    return base64.b64decode(text)


def token_of(identity, secret):
    return "hvs.%s.%s" % (identity, secret)


class Vault(Dialect):
    name = "vault"
    errors = {
        "throttled": (429, "request path \"transit\": rate limit quota exceeded"),
        "internal": (500, "internal error"),
        "temporarily-unavailable": (503, "Vault is sealed"),
        "behind": (412, "required index state not present"),
        "expired-token": NO_TOKEN,
        "denied": (403, "1 error occurred:\n\t* permission denied\n\n"),
        "disabled": TOO_OLD,
        "pending-delete": (400, "error deleting policy: the key is soft deleted"),
        "not-found": NO_KEY,
        "no-mount": (404, "no handler for route \"transit/\". route entry not found."),
        "bad-ciphertext": BAD,
        "unknown": (400, "nobody knows hvs.leak"),
    }
    lacks = {
        "bad-signature": "requests have a token and no signature",
        "clock": "requests have no time in them",
        "wrong-key-id": "replies with a data key do not name the master key",
    }

    # Replies

    def _reply(self, data=None, auth=None, **journal):
        request_id = str(uuid.uuid4())
        body = {"request_id": request_id, "lease_id": "", "renewable": False, "lease_duration": 0, "data": data,
                "wrap_info": None, "warnings": None, "auth": auth}
        return Reply(body=json.dumps(body).encode(), request_id=request_id, **journal)

    def error_reply(self, code, message):
        texts = [] if message is None else [message]
        return Reply(int(code), json.dumps({"errors": texts}).encode(), outcome="%s" % code)

    def error(self, kind, request):
        reply = self.error_reply(*self.errors[kind])
        reply.outcome = kind
        return reply

    def _change(name, change):
        def spoil(self, document):
            data = document.get("data") or {}
            if name in data:
                data[name] = change(data[name])
        return spoil

    tampers = {
        "wrong-shape": lambda self, document: document.update(data=["unexpected"]),
        "wrong-type": _change("plaintext", lambda old: 12345),
        "bad-base64": _change("plaintext", lambda old: "?*" + old[2:]),
        "short-plaintext": _change("plaintext", lambda old: b64encode(base64.b64decode(old)[:-1])),
        "long-plaintext": _change("plaintext", lambda old: b64encode(base64.b64decode(old) + b"x" * 8000)),
        "wrong-plaintext": _change("plaintext", lambda old: b64encode(os.urandom(len(base64.b64decode(old))))),
        "missing-plaintext": lambda self, document: document["data"].pop("plaintext", None),
        "missing-ciphertext": lambda self, document: document["data"].pop("ciphertext", None),
        "other-ciphertext": _change("ciphertext", lambda old: "bank:" + old),
        "huge-ciphertext": _change("ciphertext", lambda old: old + "A" * 20000),
    }
    del _change

    def tamper(self, kind, reply):
        document = json.loads(reply.body)
        self.tampers[kind](self, document)
        reply.body = json.dumps(document).encode()

    # Requests

    def _route(self, request):
        """(action, rest of the path)"""
        path = request.target[4:] if request.target.startswith("/v1/") else ""
        if path in ("auth/approle/login", "auth/kubernetes/login", "auth/token/renew-self"):
            return path, ""
        mount = MOUNTS.get(request.header("x-vault-namespace").strip("/"))
        if mount is None or not path.startswith(mount + "/"):
            return "?", path
        verb, _, rest = path[len(mount) + 1:].partition("/")
        return (verb, rest) if verb in ("datakey", "encrypt", "decrypt", "rewrap", "keys") else ("?", path)

    def action_of(self, request):
        return self._route(request)[0].replace("auth/", "").replace("/login", "").replace("token/", "")

    def handle(self, request):
        journal = {}
        try:
            return self._handle(request, journal)
        except Fault as fault:
            reply = self.error_reply(fault.status, fault.message)
        except NoSuchKey:
            reply = self.error_reply(*NO_KEY)
        except BadCiphertext:
            reply = self.error_reply(*BAD)
        reply.key_id, reply.signed_by = journal.get("key_id", ""), journal.get("signed_by", "")
        return reply

    def _handle(self, request, journal):
        action, rest = self._route(request)
        if request.method != ("GET" if action == "keys" else "POST"):
            raise Fault(405, "unsupported operation")
        values = self._values(request) if request.method == "POST" else {}
        if action.endswith("/login"):
            return self._login(action, values)
        journal["signed_by"] = identity = self._authenticate(request)
        if action == "?":
            raise Fault(404, "no handler for route \"%s\". route entry not found." % rest)
        denied = self.world.keys.credential(identity)["deny"]
        if action in denied or "*" in denied:
            raise Fault(403, "1 error occurred:\n\t* permission denied\n\n")
        if action == "auth/token/renew-self":
            return self._renew(identity)
        if action == "datakey":
            kind, _, rest = rest.partition("/")
            if kind != "plaintext":
                raise Fault(400, "Invalid path, must be 'plaintext' or 'wrapped'")
        if not KEY_NAME.fullmatch(rest):
            raise Fault(404, "no handler for route")
        journal["key_id"] = rest
        return self._reply(getattr(self, "_do_" + action)(rest, values), **journal)

    @staticmethod
    def _values(request):
        if request.header("content-type").split(";")[0] != "application/json":
            raise Fault(400, "Content-Type")
        try:
            values = json.loads(request.body)
        except ValueError as fault:
            raise Fault(400, "error parsing JSON") from fault
        if not isinstance(values, dict):
            raise Fault(400, "error parsing JSON")
        return values

    # Tokens

    def _authenticate(self, request):
        parts = request.header("x-vault-token").split(".")
        credential = self.world.keys.credential(parts[1]) if len(parts) == 3 and parts[0] == "hvs" else None
        if credential is None or not hmac.compare_digest(credential["secret"].encode(), parts[2].encode()):
            raise Fault(*NO_TOKEN)
        if credential["expires"] is not None and credential["expires"] <= self.world.clock():
            raise Fault(*NO_TOKEN)
        return parts[1]

    @staticmethod
    def _auth(token, lease):
        return {"client_token": token, "accessor": "test", "policies": ["default"], "token_policies": ["default"],
                "metadata": None, "lease_duration": lease, "renewable": True, "entity_id": "", "token_type": "service",
                "orphan": True, "num_uses": 0}

    def _login(self, action, values):
        if action == "auth/approle/login":
            credential = self.world.keys.credential(values.get("role_id"))
            if credential is None or credential["token"] is not None or credential["secret"] != values.get("secret_id"):
                raise Fault(400, "invalid role or secret ID")
        elif (values.get("role"), values.get("jwt")) != (self.world.options["role"], self.world.options["web-identity-token"]):
            raise Fault(403, "permission denied")
        lease = self.world.options["credential-lifetime"]
        identity, secret, _, _ = self.world.keys.issue_temporary(lease, "TOKEN")
        return self._reply(auth=self._auth(token_of(identity, secret), lease))

    def _renew(self, identity):
        credential = self.world.keys.credential(identity)
        if credential["token"] is None:
            raise Fault(400, "lease is not renewable")
        lease = self.world.options["credential-lifetime"]
        self.world.keys.add_credential(identity, credential["secret"], credential["token"], self.world.clock() + lease)
        return self._reply(auth=self._auth(token_of(identity, credential["secret"]), lease), signed_by=identity)

    # Operations

    def _key(self, name):
        key = self.world.keys.get(name)
        if key["state"] != "Enabled":
            raise Fault(*TOO_OLD)
        return key

    def _bound(self, name, values, with_data):
        """What a wrap is bound to, as bytes."""
        context, data = b"", b""
        if self._key(name).get("more", {}).get("derived"):
            if not values.get("context"):
                raise Fault(400, "missing 'context' for key derivation; the key was created using a derived key")
            context = b64decode(values["context"], "context")
        if with_data and values.get("associated_data"):
            data = b64decode(values["associated_data"], "associated_data")
        return len(context).to_bytes(4, "big") + context + data

    def _pack(self, name, plaintext, bound):
        keys = self.world.keys
        version, nonce = keys.newest_version(name), os.urandom(12)
        return {"ciphertext": "vault:v%d:%s" % (version, b64encode(nonce + keys.wrap(name, version, nonce, plaintext, bound))),
                "key_version": version}

    def _unpack(self, name, text, bound):
        match = CIPHERTEXT.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise Fault(400, "invalid ciphertext: no prefix")
        raw = b64decode(match.group(2), "ciphertext")
        if len(raw) < 28:
            raise Fault(400, "invalid ciphertext length")
        return self.world.keys.unwrap(name, int(match.group(1)), raw[:12], raw[12:], bound)

    def _do_datakey(self, name, values):
        bound = self._bound(name, values, False)
        if values.get("bits", 256) not in (128, 256, 512):
            raise Fault(400, "invalid bit length")
        plaintext = os.urandom(values.get("bits", 256) // 8)
        return {"plaintext": b64encode(plaintext), **self._pack(name, plaintext, bound)}

    def _do_encrypt(self, name, values):
        if "plaintext" not in values:
            raise Fault(400, "missing plaintext to encrypt")
        plaintext = b64decode(values["plaintext"], "plaintext")
        self.world.keys.create(name, derived=bool(values.get("context")))
        return self._pack(name, plaintext, self._bound(name, values, True))

    def _do_decrypt(self, name, values):
        return {"plaintext": b64encode(self._unpack(name, values.get("ciphertext"), self._bound(name, values, True)))}

    def _do_rewrap(self, name, values):
        bound = self._bound(name, values, False)
        return self._pack(name, self._unpack(name, values.get("ciphertext"), bound), bound)

    def _do_keys(self, name, values):
        try:
            key = self.world.keys.get(name)
        except NoSuchKey as fault:
            raise Fault(404) from fault
        count = len(key["versions"])
        return {"name": name, "type": "aes256-gcm96", "derived": bool(key.get("more", {}).get("derived")),
                "latest_version": count, "min_decryption_version": 1, "min_encryption_version": 0,
                "soft_deleted": key["state"] == "PendingDelete", "deletion_allowed": False, "exportable": False,
                "keys": {str(n + 1): 1700000000 for n in range(count)}, "supports_encryption": True,
                "supports_decryption": True, "supports_derivation": True, "supports_signing": False}
