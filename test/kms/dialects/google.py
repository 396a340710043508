"""Google Cloud KMS (v1, REST), and the services that give tokens: oauth2 (JWT bearer, refresh token), sts (workload
identity federation), iamcredentials (impersonation), all at one port; and the metadata service.

A bearer token is ya29.IDENTITY.SECRET of a credential in the key store, or a JWT that a service account signed itself: the
secret of the credential of that name is then its public key (PEM). A refresh token is a credential too, whose secret is
CLIENT_ID:CLIENT_SECRET. Keys are named below PREFIX. Checksums are CRC-32C, by a table of this file's own.
"""
import base64
import datetime
import hmac
import json
import os
import re
import urllib.parse

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

from dialects import Dialect
from httpd import Reply
from keystore import BadCiphertext, NoSuchKey

PREFIX = "projects/kmsenv-test/locations/europe-west3/keyRings/test-ring/cryptoKeys/"
KMS_AUDIENCE, OAUTH_AUDIENCE = "https://cloudkms.googleapis.com/", "https://oauth2.googleapis.com/token"
POOL = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/test-pool/providers/test-provider"
SCOPES = {"https://www.googleapis.com/auth/" + name for name in ("cloudkms", "cloud-platform")}
FORM = "application/x-www-form-urlencoded"
ROBOT = "kmsenv-robot@kmsenv-test.iam.gserviceaccount.com"
_KEY = re.compile(re.escape(PREFIX) + r"([A-Za-z0-9_-]{1,63})(?:/cryptoKeyVersions/([0-9]+))?")
_STATES = {"Enabled": "ENABLED", "Disabled": "DISABLED", "PendingDelete": "DESTROY_SCHEDULED", "PendingImport": "PENDING_IMPORT",
           "Archived": "DESTROYED"}

_HTTP = {"RESOURCE_EXHAUSTED": 429, "INTERNAL": 500, "UNAVAILABLE": 503, "UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403, "NOT_FOUND": 404}


class Fault(Exception):
    """An error with a code of google.rpc.Code."""

    def __init__(self, code, message="", reason=None):
        super().__init__(message)
        self.code, self.reason = code, reason


class OAuthFault(Exception):
    pass


def _crc_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC = _crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 255]
    return str(crc ^ 0xFFFFFFFF)


def token_of(identity, secret):
    return "ya29.%s.%s" % (identity, secret)


def _b64url(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def verify_jwt(token, key_of, now, audience):
    """The claims of a JWT that is in order, or Fault. key_of(issuer): PEM of a public key, or None."""
    try:
        head, payload, signature = token.split(".")
        header, claims = json.loads(_b64url(head)), json.loads(_b64url(payload))
        pem = key_of(claims["iss"])
        if header["alg"] != "RS256" or "=" in token or pem is None:
            raise ValueError("header or issuer")
        serialization.load_pem_public_key(pem.encode()).verify(
            _b64url(signature), (head + "." + payload).encode(), padding.PKCS1v15(), hashes.SHA256())
    except (ValueError, KeyError, TypeError, InvalidSignature) as fault:
        raise Fault("UNAUTHENTICATED", "not a JWT of a known account") from fault
    if claims["aud"] != audience or not now - 3660 <= claims["iat"] <= now + 60 or not now < claims["exp"] <= claims["iat"] + 3600:
        raise Fault("UNAUTHENTICATED", "JWT: audience or time")
    return claims


# Ciphertexts: a byte, the version of the key, a nonce, the wrapped bytes

def pack(keys, key_id, version, plaintext, aad):
    head = b"\n" + version.to_bytes(4, "big") + os.urandom(12)
    return head + keys.wrap(key_id, version, head[5:], plaintext, key_id.encode() + b"\0" + aad)


def unpack(keys, key_id, blob, aad):
    if len(blob) < 33 or blob[:1] != b"\n":
        raise BadCiphertext("no ciphertext of this service")
    return keys.unwrap(key_id, int.from_bytes(blob[1:5], "big"), blob[5:17], blob[17:], key_id.encode() + b"\0" + aad)


def _text(data):
    return base64.b64encode(data).decode()


def _replace(name, change):
    def spoil(document):
        if name in document:
            document[name] = change(document[name])
            if name in ("plaintext", "ciphertext") and name + "Crc32c" in document and isinstance(document[name], str):
                try:   # the content is what is wrong, not the checksum
                    document[name + "Crc32c"] = crc32c(base64.b64decode(document[name], validate=True))
                except ValueError:
                    pass
    return spoil


def _drop(name):
    return lambda document: document.pop(name, None)


def _wrong_shape(document):
    document.clear()
    document["result"] = ["unexpected"]


class Google(Dialect):
    name = "google"
    errors = {
        "throttled": ("RESOURCE_EXHAUSTED", "Quota exceeded"),
        "internal": ("INTERNAL", "an internal error"),
        "temporarily-unavailable": ("UNAVAILABLE", "come back later"),
        "expired-token": ("UNAUTHENTICATED", "Request had invalid authentication credentials."),
        "denied": ("PERMISSION_DENIED", "Permission denied on resource"),
        "no-api": ("PERMISSION_DENIED", "the API has not been used before", "SERVICE_DISABLED"),
        "disabled": ("FAILED_PRECONDITION", "is not enabled, current state is: DISABLED."),
        "pending-delete": ("FAILED_PRECONDITION", "is not enabled, current state is: DESTROY_SCHEDULED."),
        "not-found": ("NOT_FOUND", "not found"),
        "bad-ciphertext": ("INVALID_ARGUMENT", "Decryption failed: verify that 'name' refers to the correct CryptoKey."),
        "clock": ("UNAUTHENTICATED", "Request had invalid authentication credentials."),
        "unknown": ("NOBODY_KNOWS", "nobody knows"),
    }
    lacks = {"bad-signature": "a token that is not in order is refused like one that has expired"}
    tampers = {
        "wrong-shape": _wrong_shape,
        "wrong-type": _replace("plaintext", lambda old: 12345),
        "short-plaintext": _replace("plaintext", lambda old: _text(base64.b64decode(old)[:-1])),
        "long-plaintext": _replace("plaintext", lambda old: _text(base64.b64decode(old) + b"x" * 8000)),
        "wrong-plaintext": _replace("plaintext", lambda old: _text(os.urandom(len(base64.b64decode(old))))),
        "bad-base64": _replace("plaintext", lambda old: "?*" + old[2:]),
        "wrong-key-id": _replace("name", lambda old: old.replace("/cryptoKeys/", "/cryptoKeys/x")),
        "missing-plaintext": _drop("plaintext"),
        "missing-ciphertext": _drop("ciphertext"),
        "huge-ciphertext": _replace("ciphertext", lambda old: _text(base64.b64decode(old) * 1000)),
        "wrong-plaintext-sum": _replace("plaintextCrc32c", lambda old: str(int(old) ^ 1)),
        "wrong-ciphertext-sum": _replace("ciphertextCrc32c", lambda old: str(int(old) ^ 1)),
        "missing-plaintext-sum": _drop("plaintextCrc32c"),
        "missing-ciphertext-sum": _drop("ciphertextCrc32c"),
        "unverified-plaintext": _replace("verifiedPlaintextCrc32c", lambda old: False),
        "unverified-aad": _drop("verifiedAdditionalAuthenticatedDataCrc32c"),
    }

    # Replies

    @staticmethod
    def _reply(fields, status=200, **journal):
        return Reply(status, json.dumps(fields).encode(), **journal)

    def error_reply(self, code, message, reason=None):
        status = _HTTP.get(code, 400)
        error = {"code": status, "message": message, "status": code}
        if reason is not None:
            error["details"] = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}]
        return self._reply({"error": error}, status, outcome=code)

    def error(self, kind, request):
        if self.action_of(request) in ("token", "exchange") and kind in ("denied", "expired-token", "clock"):
            reply = self._reply({"error": "invalid_grant", "error_description": "refused"}, 400)
        else:
            reply = self.error_reply(*self.errors[kind])
        reply.outcome = kind
        return reply

    def tamper(self, kind, reply):
        document = json.loads(reply.body)
        self.tampers[kind](document)
        reply.body = json.dumps(document).encode()

    # Requests

    def action_of(self, request):
        path = request.target.partition("?")[0]   # the query tells the gateway how to write the reply
        tail = path.rpartition(":")[2]
        if request.target in ("/token", "/v1/token"):
            return "token" if request.target == "/token" else "exchange"
        if tail == "generateAccessToken":
            return "impersonate"
        if request.target.startswith("/v1/projects/"):
            return tail if tail in ("encrypt", "decrypt") else "get"
        return "?"

    def handle(self, request):
        journal = {}
        try:
            return self._reply(self._handle(request, self.action_of(request), journal), **journal)
        except OAuthFault as fault:
            return self._reply({"error": str(fault), "error_description": "as the test wants it"}, 400, outcome=str(fault))
        except Fault as fault:
            reply = self.error_reply(fault.code, str(fault), fault.reason)
        except NoSuchKey:
            reply = self.error_reply("NOT_FOUND", "no such key")
        except BadCiphertext:
            reply = self.error_reply(*self.errors["bad-ciphertext"])
        reply.key_id, reply.signed_by = journal.get("key_id", ""), journal.get("signed_by", "")
        return reply

    def _handle(self, request, action, journal):
        if action in ("token", "exchange"):
            return getattr(self, "_do_" + action)(self._form(request))
        journal["signed_by"] = identity = self._authenticate(request)
        denied = self.world.keys.credential(identity)["deny"]
        if action in denied or "*" in denied:
            raise Fault("PERMISSION_DENIED", "not allowed", "IAM_PERMISSION_DENIED")
        if request.method != ("GET" if action == "get" else "POST") or action == "?":
            raise Fault("NOT_FOUND", "no such method")
        values = {} if action == "get" else self._values(request)
        if action == "impersonate":
            return self._do_impersonate(request.target, identity, values)
        name = request.target.partition("?")[0][len("/v1/"):]
        match = _KEY.fullmatch(name.rpartition(":")[0] or name)
        if match is None:
            raise Fault("NOT_FOUND", "no such key")
        journal["key_id"] = key = match.group(1)
        project = request.header("x-goog-user-project")
        if project not in ("", "kmsenv-test-quota"):
            raise Fault("PERMISSION_DENIED", "may not use the project", "USER_PROJECT_DENIED")
        return getattr(self, "_do_" + action)(key, int(match.group(2) or 0), values)

    @staticmethod
    def _values(request):
        try:
            values = json.loads(request.body)
        except ValueError as fault:
            raise Fault("INVALID_ARGUMENT", "not JSON") from fault
        if not isinstance(values, dict) or request.header("content-type") != "application/json":
            raise Fault("INVALID_ARGUMENT", "not a JSON object")
        return values

    @staticmethod
    def _form(request):
        if request.header("content-type").split(";")[0] != FORM or request.method != "POST" or request.header("authorization"):
            raise OAuthFault("invalid_request")
        return dict(urllib.parse.parse_qsl(request.body.decode("latin-1")))

    # Tokens

    def _public_key(self, email):
        secret = (self.world.keys.credential(email) or {}).get("secret", "")
        return secret if secret.startswith("-----BEGIN PUBLIC KEY") else None

    def _authenticate(self, request):
        scheme, _, token = request.header("authorization").partition(" ")
        if scheme != "Bearer":
            raise Fault("UNAUTHENTICATED", "no token")
        if token.startswith("eyJ"):
            claims = verify_jwt(token, self._public_key, self.world.clock(), KMS_AUDIENCE)
            if claims.get("sub") != claims["iss"]:
                raise Fault("UNAUTHENTICATED", "JWT: sub")
            return claims["iss"]
        parts = token.split(".")
        credential = self.world.keys.credential(parts[1]) if len(parts) == 3 and parts[0] == "ya29" else None
        if credential is None or not hmac.compare_digest(credential["secret"], parts[2]) \
                or (credential["expires"] is not None and credential["expires"] <= self.world.clock()):
            raise Fault("UNAUTHENTICATED", "no such token")
        return parts[1]

    def _issue(self, prefix):
        """(token, lifetime in seconds)"""
        lifetime = self.world.options["credential-lifetime"]
        identity, secret, _, _ = self.world.keys.issue_temporary(lifetime, prefix)
        return token_of(identity, secret), lifetime

    def _oauth(self, prefix):
        token, lifetime = self._issue(prefix)
        return {"access_token": token, "expires_in": lifetime, "token_type": "Bearer"}

    def _do_token(self, form):
        if form.get("grant_type") == "urn:ietf:params:oauth:grant-type:jwt-bearer":
            try:
                claims = verify_jwt(form.get("assertion", ""), self._public_key, self.world.clock(), OAUTH_AUDIENCE)
            except Fault as fault:
                raise OAuthFault("invalid_grant") from fault
            if claims.get("scope") not in SCOPES:
                raise OAuthFault("invalid_scope")
            return self._oauth("SERVICE")
        credential = self.world.keys.credential(form.get("refresh_token"))
        if form.get("grant_type") != "refresh_token" or credential is None:
            raise OAuthFault("invalid_grant")
        if credential["secret"] != "%s:%s" % (form.get("client_id"), form.get("client_secret")):
            raise OAuthFault("invalid_client")
        return self._oauth("USER")

    def _do_exchange(self, form):
        expected = {"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "audience": POOL,
                    "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
                    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt"}
        if {name: form.get(name) for name in expected} != expected or form.get("scope") not in SCOPES:
            raise OAuthFault("invalid_request")
        if form.get("subject_token") != self.world.options["web-identity-token"]:
            raise OAuthFault("invalid_grant")
        return {**self._oauth("FEDERATED" if form["scope"].endswith("cloud-platform") else "DIRECT"),
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"}

    def _do_impersonate(self, target, identity, values):
        if target != "/v1/projects/-/serviceAccounts/%s:generateAccessToken" % ROBOT:
            raise Fault("NOT_FOUND", "no such account")
        if not identity.startswith(("FEDERATED", "SERVICE", "USER")):
            raise Fault("PERMISSION_DENIED", "no", "IAM_PERMISSION_DENIED")
        if set(values) - {"scope", "lifetime", "delegates"} or not set(values["scope"]) <= SCOPES \
                or not re.fullmatch("[0-9]+s", values.get("lifetime", "")):
            raise Fault("INVALID_ARGUMENT", "scope or lifetime")
        token, lifetime = self._issue("ROBOT")
        end = datetime.datetime.fromtimestamp(self.world.clock() + lifetime, datetime.timezone.utc)
        return {"accessToken": token, "expireTime": end.strftime("%Y-%m-%dT%H:%M:%SZ")}

    def metadata(self, request):
        base = "/computeMetadata/v1/instance/service-accounts/"
        if request.target == "/subject-token":   # of another identity provider
            good = request.header("authorization") == "bearer of-the-machine" and request.header("x-kind") == "test"
            return Reply(body=json.dumps({"value": self.world.options["web-identity-token"]}).encode(), action="subject") if good \
                else Reply(403, b"no", content_type="text/plain", action="subject", outcome="denied")
        if not request.target.startswith(base):
            return None
        if request.method != "GET" or request.header("metadata-flavor") != "Google":
            return Reply(403, b"no", content_type="text/plain", action="token", outcome="denied")
        if request.target not in (base + "default/token", base + ROBOT + "/token"):
            return Reply(404, b"", content_type="text/plain", action="token", outcome="not-found")
        return Reply(body=json.dumps(self._oauth("INSTANCE")).encode(), headers=[("Metadata-Flavor", "Google")], action="token")

    # Keys

    def _use(self, key_id, version):
        """The version to use of a key that may be used; 0 = the primary one, which is the newest."""
        key = self.world.keys.get(key_id)
        if version > len(key["versions"]):
            raise Fault("NOT_FOUND", "no such version")
        if key["state"] != "Enabled":
            raise Fault("FAILED_PRECONDITION", "is not enabled, current state is: " + _STATES[key["state"]])
        return version or len(key["versions"])

    @staticmethod
    def _bytes(values, name, longest):
        """Bytes of a request, if their checksum says the same. None if they are not there."""
        if name not in values:
            return None
        try:
            data = base64.b64decode(values[name], validate=True)
        except (TypeError, ValueError) as fault:
            raise Fault("INVALID_ARGUMENT", name) from fault
        if len(data) > longest or values.get(name + "Crc32c", crc32c(data)) != crc32c(data):
            raise Fault("INVALID_ARGUMENT", name + ": length or checksum")
        return data

    @staticmethod
    def _check_names(values, *names):
        allowed = {name + end for name in (*names, "additionalAuthenticatedData") for end in ("", "Crc32c")}
        if set(values) - allowed or names[0] not in values:
            raise Fault("INVALID_ARGUMENT", "unknown or missing member")

    def _do_encrypt(self, key_id, version, values):
        self._check_names(values, "plaintext")
        version = self._use(key_id, version)
        plaintext, aad = self._bytes(values, "plaintext", 65536), self._bytes(values, "additionalAuthenticatedData", 65536)
        blob = pack(self.world.keys, key_id, version, plaintext, aad or b"")
        reply = {"name": "%s%s/cryptoKeyVersions/%d" % (PREFIX, key_id, version), "ciphertext": _text(blob),
                 "ciphertextCrc32c": crc32c(blob), "protectionLevel": "SOFTWARE"}
        for name in ("plaintext", "additionalAuthenticatedData"):   # false is left out, as in the service's JSON
            if name + "Crc32c" in values:
                reply["verified" + name[0].upper() + name[1:] + "Crc32c"] = True
        return reply

    def _do_decrypt(self, key_id, version, values):
        if version:
            raise Fault("INVALID_ARGUMENT", "a version of a key")
        self._check_names(values, "ciphertext")
        self._use(key_id, 0)
        plaintext = unpack(self.world.keys, key_id, self._bytes(values, "ciphertext", 70000),
                           self._bytes(values, "additionalAuthenticatedData", 65536) or b"")
        return {"plaintext": _text(plaintext), "plaintextCrc32c": crc32c(plaintext), "usedPrimary": True, "protectionLevel": "SOFTWARE"}

    def _do_get(self, key_id, version, values):
        key = self.world.keys.get(key_id)
        number = version or len(key["versions"])
        one = {"name": "%s%s/cryptoKeyVersions/%d" % (PREFIX, key_id, number), "state": _STATES[key["state"]],
               "protectionLevel": "SOFTWARE", "algorithm": "GOOGLE_SYMMETRIC_ENCRYPTION", "createTime": "2023-01-01T00:00:00Z"}
        if version:
            return one
        purpose = key["more"].get("purpose", "ENCRYPT_DECRYPT")
        return {"name": PREFIX + key_id, "purpose": purpose, "createTime": "2023-01-01T00:00:00Z",
                **({"primary": one} if purpose == "ENCRYPT_DECRYPT" else {})}
