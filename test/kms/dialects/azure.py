"""Azure Key Vault and Managed HSM: wrapKey, unwrapKey, getKey, sign-in, managed identities.

Vault and Managed HSM are one server here: a key of type oct-HSM is in the HSM, any other in the vault,
and its identifier and the tokens for it are those of its place. As reported of the service, a disabled
key still wraps.

A token is made by the stand-in and checked here alone: IDENTITY.AUDIENCE.MAC, of a credential in the
key store, for one audience.
"""
import base64
import functools
import hashlib
import hmac
import json
import os
import re
import urllib.parse
import uuid

from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from dialects import Dialect
from httpd import Reply
from keystore import NoSuchKey

TENANT = "00000000-0000-0000-0000-00000000fa4e"
CLIENT = "11111111-1111-1111-1111-11111111fa4e"      # with a federated credential, and of the managed identity
APP_HEADER = "test-identity-header"
HOSTS = {"vault": "kmsenv-test.vault.azure.net", "hsm": "kmsenv-test.managedhsm.azure.net"}
AUDIENCES = {"vault": "https://vault.azure.net", "hsm": "https://managedhsm.azure.net"}
API_VERSIONS = ("2025-07-01", "7.6", "7.5", "7.4")
PATH = re.compile(r"/keys/([0-9A-Za-z-]{1,127})(?:/([0-9a-f]{32}))?(?:/(wrapkey|unwrapkey))?/?")
LOGIN = re.compile(r"/([^/]+)/oauth2/v2\.0/token")
BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
STATUSES = {"Unauthorized": 401, "Forbidden": 403, "ForbiddenByPolicy": 403, "KeyDisabled": 403, "KeyNotFound": 404,
            "Throttled": 429, "InternalServerError": 500, "ServiceUnavailable": 503}
RSA_PAIR = "rsa_pair"           # no name that a key can have


class Fault(Exception):
    def __init__(self, code, message="", place="vault"):
        super().__init__(message)
        self.code, self.message, self.place = code, message, place


def b64encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def b64decode(text):
    if not isinstance(text, str) or not BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        raise Fault("BadParameter", "Content of 'value' is not base64url.")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def place_of(key):
    return "hsm" if key["more"].get("kty") == "oct-HSM" else "vault"


def key_id_of(name, place="vault"):
    """The identifier of a key without its version."""
    return "https://%s/keys/%s" % (HOSTS[place], name)


# Versions are named by what is in them

def version_name(key, number):
    return hashlib.sha256(key["versions"][number - 1].encode()).hexdigest()[:32]


def version_number(key, name):
    for number in range(1, len(key["versions"]) + 1):
        if version_name(key, number) == name:
            return number
    raise Fault("KeyNotFound", "no such version")


def rsa_pair(keys):
    """The RSA pair of all keys: made once, for that can take a machine that is busy longer than a request may."""
    if RSA_PAIR not in keys.describe_all():
        pem = rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        keys.create(RSA_PAIR, pem=pem.decode())
    return _loaded(keys.get(RSA_PAIR)["more"]["pem"])


@functools.lru_cache(2)
def _loaded(pem):
    return serialization.load_pem_private_key(pem.encode(), None)   # checks the key, and takes its time for it


def oaep(key, number):
    """With a label, which makes keys and versions open nothing of each other."""
    return padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=version_name(key, number).encode())


def wrap(keys, key_id, number, algorithm, data):
    key = keys.get(key_id)
    if place_of(key) == "hsm" and algorithm == "A256KW":
        return keywrap.aes_key_wrap(base64.b64decode(key["versions"][number - 1]), data)
    if place_of(key) == "vault" and algorithm == "RSA-OAEP-256":
        return rsa_pair(keys).public_key().encrypt(data, oaep(key, number))
    raise Fault("BadParameter", "the algorithm does not go with the key")


def unwrap(keys, key_id, number, algorithm, data):
    key = keys.get(key_id)
    try:
        if place_of(key) == "hsm" and algorithm == "A256KW":
            return keywrap.aes_key_unwrap(base64.b64decode(key["versions"][number - 1]), data)
        if place_of(key) == "vault" and algorithm == "RSA-OAEP-256":
            return rsa_pair(keys).decrypt(data, oaep(key, number))
    except (ValueError, keywrap.InvalidUnwrap) as fault:
        raise Fault("BadParameter", "The parameter is incorrect.") from fault
    raise Fault("BadParameter", "the algorithm does not go with the key")


# Tokens

def _mac(secret, identity, audience):
    return hmac.new(secret.encode(), ("%s for %s" % (identity, audience)).encode(), "sha256").hexdigest()


def token_of(identity, secret, audience):
    return "%s.%s.%s" % (identity, b64encode(audience.encode()), _mac(secret, identity, audience))


def identity_of(text, audience, find, now):
    """Whose token it is; None if it is not good for this audience now. find(identity): a credential, or None."""
    parts = text.split(".")
    credential = find(parts[0]) if len(parts) == 3 else None
    if credential is None or not hmac.compare_digest(parts[2].encode(), _mac(credential["secret"], parts[0], audience).encode()):
        return None
    return parts[0] if credential["expires"] is None or credential["expires"] > now else None


def _change(change, name="value"):
    def spoil(document):
        if name in document:
            document[name] = change(document[name])
    return spoil


def _wrong_shape(document):
    document.clear()
    document["unexpected"] = True


class Azure(Dialect):
    name = "azure"
    errors = {
        "throttled": ("Throttled", "Request was not processed because too many requests were received."),
        "internal": ("InternalServerError", "internal error"),
        "temporarily-unavailable": ("ServiceUnavailable", "the service is unavailable"),
        "expired-token": ("Unauthorized", "AKV10022: Invalid audience, or the token has expired."),
        "denied": ("ForbiddenByPolicy", "The user, group or application does not have keys permission"),
        "disabled": ("KeyDisabled", "Operation unwrapKey is not allowed on a disabled key."),
        "not-found": ("KeyNotFound", "A key with that name was not found in this key vault."),
        "bad-ciphertext": ("BadParameter", "The parameter is incorrect."),
        "unknown": ("NobodyKnows", "nobody knows"),
    }
    lacks = {
        "bad-signature": "requests have a token and no signature",
        "clock": "requests have no time in them",
        "pending-delete": "a key that is deleted is not found",
    }
    tampers = {
        "wrong-shape": _wrong_shape,
        "wrong-type": _change(lambda old: 12345),
        "bad-base64": _change(lambda old: "?*" + old[2:]),
        "short-plaintext": _change(lambda old: b64encode(b64decode(old)[:-1])),
        "long-plaintext": _change(lambda old: b64encode(b64decode(old) + b"x" * 8000)),
        "wrong-plaintext": _change(lambda old: b64encode(os.urandom(len(b64decode(old))))),
        "missing-plaintext": lambda document: document.pop("value", None),
        "missing-ciphertext": lambda document: document.pop("value", None),
        "huge-ciphertext": _change(lambda old: old + "A" * 24000),
        "wrong-key-id": _change(lambda old: old.replace("/keys/", "/keys/not-"), "kid"),
        "other-version": _change(lambda old: old[:-32] + "0" * 32, "kid"),
        "other-vault": _change(lambda old: old.replace("https://", "https://not-"), "kid"),
        "no-version": _change(lambda old: old[:-33], "kid"),
    }

    def __init__(self, world):
        super().__init__(world)
        rsa_pair(world.keys)

    # Replies

    @staticmethod
    def _reply(document, **journal):
        request_id = str(uuid.uuid4())
        return Reply(body=json.dumps(document).encode(), headers=[("x-ms-request-id", request_id)], request_id=request_id, **journal)

    def error_reply(self, code, message, place="vault"):
        error = {"code": code, "message": message}
        if code in ("ForbiddenByPolicy", "KeyDisabled"):
            error = {"code": "Forbidden", "message": message, "innererror": {"code": code}}
        reply = self._reply({"error": error}, outcome=code)
        reply.status = STATUSES.get(code, 400)
        if reply.status == 401:
            reply.headers.append(("WWW-Authenticate", 'Bearer authorization="https://login.microsoftonline.com/%s", resource="%s"'
                                  % (TENANT, AUDIENCES[place])))
        return reply

    def error(self, kind, request):
        reply = self.error_reply(*self.errors[kind])
        reply.outcome = kind
        return reply

    def tamper(self, kind, reply):
        document = json.loads(reply.body)
        self.tampers[kind](document)
        reply.body = json.dumps(document).encode()

    # Requests

    def action_of(self, request):
        path = request.target.split("?")[0]
        match = PATH.fullmatch(path)
        if match:
            return match.group(3) or "key"
        return "token" if LOGIN.fullmatch(path) else "?"

    def handle(self, request):
        path, _, query = request.target.partition("?")
        if LOGIN.fullmatch(path):
            return self._login(LOGIN.fullmatch(path).group(1), request)
        journal = {}
        try:
            return self._handle(request, PATH.fullmatch(path), dict(urllib.parse.parse_qsl(query)), journal)
        except Fault as fault:
            reply = self.error_reply(fault.code, fault.message, fault.place)
        except NoSuchKey:
            reply = self.error_reply("KeyNotFound", "A key with that name was not found in this key vault.")
        reply.key_id, reply.signed_by = journal.get("key_id", ""), journal.get("signed_by", "")
        return reply

    def _handle(self, request, match, query, journal):
        if match is None or query.get("api-version") not in API_VERSIONS:
            raise Fault("BadParameter", "no such path or version of the API")
        name, version, verb = match.groups()
        if request.method != ("POST" if verb else "GET"):
            raise Fault("BadParameter", "method")
        known = name in self.world.keys.describe_all()
        place = place_of(self.world.keys.get(name)) if known else "vault"
        journal["key_id"] = name
        journal["signed_by"] = self._authenticate(request, verb or "key", place)
        key = self.world.keys.get(name)
        if key["state"] not in ("Enabled", "Disabled"):      # a deleted key is there only for those who restore it
            raise NoSuchKey(name)
        number = version_number(key, version) if version else len(key["versions"])
        kid = "%s/%s" % (key_id_of(name, place), version_name(key, number))
        if not verb:
            return self._reply(self._describe(key, kid), **journal)
        if verb == "unwrapkey" and not version:
            raise Fault("BadParameter", "a version is required")
        if verb == "unwrapkey" and key["state"] == "Disabled":
            raise Fault("KeyDisabled", "Operation unwrapKey is not allowed on a disabled key.")
        return self._reply({"kid": kid, "value": b64encode(self._work(request, verb, name, number))}, **journal)

    def _authenticate(self, request, action, place):
        kind, _, token = request.header("authorization").partition(" ")
        identity = identity_of(token, AUDIENCES[place], self.world.keys.credential, self.world.clock()) if kind == "Bearer" else None
        if identity is None:
            raise Fault("Unauthorized", "AKV10000: Request is missing a good token.", place)
        if action in self.world.keys.credential(identity)["deny"]:
            raise Fault("ForbiddenByPolicy", "no permission for " + action)
        return identity

    def _work(self, request, verb, name, number):
        if request.header("content-type").split(";")[0] != "application/json":
            raise Fault("BadParameter", "Content-Type")
        try:
            values = json.loads(request.body)
        except ValueError as fault:
            raise Fault("BadParameter", "the body is not JSON") from fault
        if not isinstance(values, dict) or set(values) != {"alg", "value"}:
            raise Fault("BadParameter", "alg and value are required")
        do = wrap if verb == "wrapkey" else unwrap
        try:
            return do(self.world.keys, name, number, values["alg"], b64decode(values["value"]))
        except ValueError as fault:
            raise Fault("BadParameter", "the value is too long") from fault

    @staticmethod
    def _describe(key, kid):
        more = key["more"]
        return {"key": {"kid": kid, "kty": more.get("kty", "RSA"), "key_ops": more.get("ops", ["wrapKey", "unwrapKey"])},
                "attributes": {"enabled": key["state"] == "Enabled", "created": 1690000000, "updated": 1690000000}}

    # Tokens

    def _issue(self, audience, **form):
        identity, secret, _, expires = self.world.keys.issue_temporary(self.world.options["credential-lifetime"], "ENTRA")
        life = expires - int(self.world.clock())
        token = token_of(identity, secret, audience)
        return self._reply({"token_type": "Bearer", "access_token": token, **{name: make(life, expires) for name, make in form.items()}})

    @staticmethod
    def _refused(status, error, number):
        body = {"error": error, "error_description": "%s: told TESTsecret to nobody." % number, "error_codes": [int(number[6:])]}
        return Reply(status, json.dumps(body).encode(), outcome=error)

    def _login(self, tenant, request):
        form = dict(urllib.parse.parse_qsl(request.body.decode("latin-1")))
        credential = self.world.keys.credential(form.get("client_id"))
        if request.method != "POST" or request.header("content-type").split(";")[0] != "application/x-www-form-urlencoded" \
                or form.get("grant_type") != "client_credentials":
            return self._refused(400, "invalid_request", "AADSTS900144")
        if tenant != TENANT:
            return self._refused(400, "invalid_request", "AADSTS90002")
        audience = form.get("scope", "").removesuffix("/.default")
        if audience not in AUDIENCES.values():
            return self._refused(400, "invalid_scope", "AADSTS70011")
        if "client_assertion" in form:
            good = form["client_assertion"] == self.world.options["web-identity-token"] and form.get("client_id") == CLIENT \
                and form.get("client_assertion_type") == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        else:
            good = credential is not None and credential["token"] is None and credential["secret"] == form.get("client_secret")
        if not good:
            return self._refused(401, "invalid_client", "AADSTS7000215")
        return self._issue(audience, expires_in=lambda life, expires: life, ext_expires_in=lambda life, expires: life)

    def metadata(self, request):
        path, _, text = request.target.partition("?")
        query = dict(urllib.parse.parse_qsl(text))
        app = path == "/msi/token"
        if path != "/metadata/identity/oauth2/token" and not app:
            return None
        good = request.header("x-identity-header") == APP_HEADER if app else request.header("metadata") == "true"
        if not good or request.method != "GET" or query.get("api-version") != ("2019-08-01" if app else "2018-02-01"):
            return Reply(401 if app else 400, b"no", content_type="text/plain", action="identity", outcome="denied")
        if query.get("resource") not in AUDIENCES.values() or query.get("client_id", CLIENT) != CLIENT:
            return Reply(400, b'{"error":"invalid_request","error_description":"Identity not found"}', action="identity",
                         outcome="not-found")
        # App Service says only when a token ends
        times = {"expires_on": lambda life, expires: str(expires)}
        if not app:
            times["expires_in"] = lambda life, expires: str(life)
        reply = self._issue(query["resource"], **times)
        reply.action = "app" if app else "identity"
        return reply
