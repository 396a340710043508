"""Alibaba Cloud KMS (2016-01-20), AssumeRole and AssumeRoleWithOIDC of its STS (2015-04-01), the metadata service
of ECS (both versions) and a credentials URI, as documented by the vendor.

Signatures: ACS3-HMAC-SHA256 in Authorization, or RPC v1 (HMAC-SHA1) in the parameter Signature. Parameters are
taken from the query and from a form body alike. A plaintext is text: what Encrypt gets is what Decrypt returns.
A key that was created with a member "alias" also answers to that; the newest one has it.
"""
import base64
import datetime
import hashlib
import hmac
import json
import os
import re
import urllib.parse
import uuid

from dialects import Dialect
from httpd import Reply
from keystore import BadCiphertext, NoSuchKey

WINDOW = 900
ACCOUNT, REGION = "1000000000000001", "cn-hangzhou"
KMS, STS = "2016-01-20", "2015-04-01"
IMDS_TOKEN = "test-imds-token=="
FORM = "application/x-www-form-urlencoded"
_AUTHORIZATION = re.compile(r"ACS3-HMAC-SHA256 Credential=([^,\s]+),SignedHeaders=([a-z0-9;-]+),Signature=([0-9a-f]{64})")
_TIME = "%Y-%m-%dT%H:%M:%SZ"


class ApiError(Exception):
    def __init__(self, code, message=""):
        super().__init__(message)
        self.code = code


# Signatures

def _parse(text):
    try:
        return urllib.parse.parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), errors="strict")
    except ValueError as fault:
        raise ApiError("ParseRequestParameterException", str(fault)) from fault


def _canonical(pairs):
    return "&".join("%s=%s" % tuple(urllib.parse.quote(part, safe="-_.~") for part in pair) for pair in sorted(pairs))


def _query(request):
    return _parse(request.target.partition("?")[2])


def _form(request):
    return _parse(request.body.decode()) if request.header("content-type") == FORM and request.body else []


def sign_acs3(secret, request, signed):
    headers = {name.lower(): value for name, value in request.headers}
    block = "".join("%s:%s\n" % (name, headers[name].strip()) for name in signed)
    canonical = "\n".join((request.method, request.target.partition("?")[0], _canonical(_query(request)), block, ";".join(signed),
                           hashlib.sha256(request.body).hexdigest()))
    text = "ACS3-HMAC-SHA256\n" + hashlib.sha256(canonical.encode()).hexdigest()
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def sign_rpc(secret, method, pairs):
    text = "%s&%%2F&%s" % (method, urllib.parse.quote(_canonical(pairs), safe="-_.~"))
    return base64.b64encode(hmac.new((secret + "&").encode(), text.encode(), hashlib.sha1).digest()).decode()


def _in_window(stamp, now):
    try:
        when = datetime.datetime.strptime(stamp, _TIME).replace(tzinfo=datetime.timezone.utc).timestamp()
    except ValueError as fault:
        raise ApiError("InvalidTimeStamp.Format", stamp) from fault
    if abs(when - now) > WINDOW:
        raise ApiError("IllegalTimestamp", "the time of the request is out of bounds")


def verify_acs3(request, secret_of, now):
    """(id that signed, token, nonce)"""
    match = _AUTHORIZATION.fullmatch(request.header("authorization"))
    if match is None:
        raise ApiError("IncompleteSignature", "the header Authorization is not well-formed")
    identity, signed, signature = match.groups()
    signed, names = signed.split(";"), [name.lower() for name, _ in request.headers]
    must = {"host", "x-acs-action", "x-acs-version", "x-acs-date", "x-acs-signature-nonce", "x-acs-content-sha256"}
    must |= {name for name in names if name.startswith("x-acs-") or name == "content-type"}
    if signed != sorted(set(signed)) or not must <= set(signed) <= set(names) or len(names) != len(set(names)):
        raise ApiError("IncompleteSignature", "SignedHeaders must be sorted, present, and have " + ", ".join(sorted(must)))
    if request.header("x-acs-content-sha256") != hashlib.sha256(request.body).hexdigest():
        raise ApiError("IncompleteSignature", "x-acs-content-sha256 is not of this body")
    _in_window(request.header("x-acs-date"), now)
    token = request.header("x-acs-security-token")
    if request.header("x-acs-accesskey-id", identity) != identity or (token and not request.header("x-acs-accesskey-id")):
        raise ApiError("IncompleteSignature", "x-acs-accesskey-id is not who signed")
    secret = secret_of(identity)
    if secret is None:
        raise ApiError("InvalidAccessKeyId.NotFound", "Specified access key is not found.")
    if not hmac.compare_digest(sign_acs3(secret, request, signed), signature):
        raise ApiError("SignatureDoesNotMatch", "Specified signature is not matched with our calculation.")
    return identity, token, request.header("x-acs-signature-nonce")


def verify_rpc(request, secret_of, now):
    """The same, of a request that is signed in its parameters."""
    pairs = _query(request) + _form(request)
    values = dict(pairs)
    if len(values) != len(pairs) or values.get("SignatureMethod") != "HMAC-SHA1" or values.get("SignatureVersion") != "1.0" \
            or not values.get("SignatureNonce") or not values.get("Signature"):
        raise ApiError("IncompleteSignature", "a parameter is missing or there twice")
    _in_window(values.get("Timestamp", ""), now)
    secret = secret_of(values.get("AccessKeyId"))
    if secret is None:
        raise ApiError("InvalidAccessKeyId.NotFound", "Specified access key is not found.")
    expected = sign_rpc(secret, request.method, [pair for pair in pairs if pair[0] != "Signature"])
    if not hmac.compare_digest(expected, values["Signature"]):
        raise ApiError("SignatureDoesNotMatch", "Specified signature is not matched with our calculation.")
    return values["AccessKeyId"], values.get("SecurityToken", ""), values["SignatureNonce"]


# Ciphertexts: the key's id (backwards: clients should not look for it), its version, a nonce, the wrapped text

def _aad(head, context):
    return head + json.dumps(context, sort_keys=True).encode()


def pack(keys, key_id, text, context):
    version = keys.newest_version(key_id)
    head = key_id[::-1].encode().ljust(40) + b"%04d" % version + os.urandom(12)
    return head + keys.wrap(key_id, version, head[-12:], text.encode(), _aad(head, context))


def unpack(keys, blob, context, use):
    """(key id, text). use(key id) raises if the key is not to be used."""
    head, body = blob[:56], blob[56:]
    try:
        key_id = head[:40].decode("ascii").rstrip()[::-1]
        use(key_id)
        return key_id, keys.unwrap(key_id, int(head[40:44]), head[44:], body, _aad(head, context)).decode()
    except (BadCiphertext, NoSuchKey, ValueError) as fault:
        raise ApiError("InvalidCiphertext", "not a ciphertext of this service") from fault


_COMMON = {"Action", "Format", "Version", "AccessKeyId", "SecurityToken", "SignatureMethod", "SignatureVersion", "SignatureNonce",
           "Timestamp", "Signature"}
_PARAMETERS = {   # name: is it required?
    "GenerateDataKey": {"KeyId": True, "KeySpec": False, "NumberOfBytes": False, "EncryptionContext": False},
    "Encrypt": {"KeyId": True, "Plaintext": True, "EncryptionContext": False},
    "Decrypt": {"CiphertextBlob": True, "EncryptionContext": False},
    "ReEncrypt": {"CiphertextBlob": True, "DestinationKeyId": True, "SourceEncryptionContext": False, "DestinationEncryptionContext": False},
    "DescribeKey": {"KeyId": True},
}
ACTIONS = set(_PARAMETERS)
_STATES = {"PendingDelete": "PendingDeletion", "Archived": "Unavailable"}
_STATUS = {"Forbidden": 403, "Forbidden.KeyNotFound": 404, "Forbidden.AliasNotFound": 404, "InternalFailure": 500,
           "InvalidAccessKeyId.NotFound": 404, "InvalidSecurityToken.Expired": 403, "NoPermission": 403, "Rejected": 409,
           "Rejected.Throttling": 400, "ServiceUnavailableTemporary": 503}


def _text(data):
    return base64.b64encode(data).decode()


def _blob(text):
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as fault:
        raise ApiError("InvalidCiphertext", "not base64") from fault


def _context(values, name="EncryptionContext"):
    try:
        context = json.loads(values.get(name, "{}"))
    except ValueError as fault:
        raise ApiError("InvalidParameter", name) from fault
    if not isinstance(context, dict) or not all(isinstance(value, str) for value in context.values()):
        raise ApiError("InvalidParameter", name)
    return context


def _iso(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime(_TIME)


def _replace(name, change):
    def spoil(document):
        if name in document:
            document[name] = change(document[name])
    return spoil


def _wrong_shape(document):
    document.clear()
    document["Result"] = ["unexpected"]


class Alibaba(Dialect):
    name = "alibaba"
    errors = {
        "throttled": ("Rejected.Throttling", "QPS Limit Exceeded"),
        "internal": ("InternalFailure", "Internal Failure."),
        "temporarily-unavailable": ("ServiceUnavailableTemporary", "Service Unavailable Temporary."),
        "expired-token": ("InvalidSecurityToken.Expired", "Specified SecurityToken is expired."),
        "denied": ("Forbidden.NoPermission", "This operation is forbidden by permission system."),
        "disabled": ("Rejected.Disabled", "The request was rejected because the key state is Disabled."),
        "pending-delete": ("Rejected.PendingDeletion", "The request was rejected because the key state is PendingDeletion."),
        "not-found": ("Forbidden.KeyNotFound", "The specified Key is not found."),
        "bad-ciphertext": ("InvalidCiphertext", "not a ciphertext of this service"),
        "bad-signature": ("SignatureDoesNotMatch", "Specified signature is not matched with our calculation."),
        "clock": ("IllegalTimestamp", "the time of the request is out of bounds"),
        "unknown": ("Rejected.NobodyKnows", "nobody knows"),
        "invalid-parameter": ("InvalidParameter", "The specified parameter is not valid."),
        "unsupported": ("UnsupportedOperation", "This action is not supported."),
        "no-form": ("MissingParameter", "The parameter is needed but not provided."),
    }
    tampers = {
        "wrong-shape": _wrong_shape,
        "wrong-type": _replace("Plaintext", lambda old: 12345),
        "short-plaintext": _replace("Plaintext", lambda old: _text(base64.b64decode(old)[:-1])),
        "long-plaintext": _replace("Plaintext", lambda old: _text(base64.b64decode(old) + b"x" * 8000)),
        "wrong-plaintext": _replace("Plaintext", lambda old: _text(os.urandom(len(base64.b64decode(old))))),
        "bad-base64": _replace("Plaintext", lambda old: "?*" + old[2:]),
        "wrong-key-id": _replace("KeyId", lambda old: old[:-12] + "ffffffffffff"),
        "missing-plaintext": lambda document: document.pop("Plaintext", None),
        "missing-ciphertext": lambda document: document.pop("CiphertextBlob", None),
        "huge-ciphertext": _replace("CiphertextBlob", lambda old: _text(base64.b64decode(old) * 1000)),
        "asymmetric": lambda document: document["KeyMetadata"].update(KeySpec="RSA_2048"),
        "sign-only": lambda document: document["KeyMetadata"].update(KeyUsage="SIGN/VERIFY"),
    }

    def __init__(self, world):
        super().__init__(world)
        self.nonces = set()

    # Replies

    def _reply(self, fields, status=200, **journal):
        request_id = str(uuid.uuid4())
        return Reply(status, json.dumps({**fields, "RequestId": request_id}).encode(), [("x-acs-request-id", request_id)],
                     request_id=request_id, **journal)

    def error_reply(self, code, message):
        status = _STATUS.get(code) or _STATUS.get(code.partition(".")[0], 400)
        return self._reply({"HostId": "kms.test", "Code": code, "Message": message}, status, outcome=code)

    def error(self, kind, request):
        return self.error_reply(*self.errors[kind])

    def tamper(self, kind, reply):
        document = json.loads(reply.body)
        self.tampers[kind](document)
        reply.body = json.dumps(document).encode()

    # Requests

    def action_of(self, request):
        values = dict(urllib.parse.parse_qsl(request.target.partition("?")[2]) + urllib.parse.parse_qsl(request.body.decode("latin-1")))
        return request.header("x-acs-action") or values.get("Action", "?")

    def handle(self, request):
        journal = {}
        try:
            return self._handle(request, journal)
        except ApiError as fault:
            reply = self.error_reply(fault.code, str(fault))
        reply.key_id, reply.signed_by = journal.get("key_id", ""), journal.get("signed_by", "")
        return reply

    def _authenticate(self, request):
        """(who signed, how: "acs3" or "rpc-v1")"""
        keys, now = self.world.keys, self.world.clock()
        scheme = "acs3" if request.header("authorization") else "rpc-v1"
        verify = verify_acs3 if scheme == "acs3" else verify_rpc
        identity, token, nonce = verify(request, lambda who: (keys.credential(who) or {}).get("secret"), now)
        credential = keys.credential(identity)
        if token != (credential["token"] or ""):
            raise ApiError("InvalidSecurityToken.MismatchWithAccessKey" if token else "MissingSecurityToken")
        if credential["expires"] is not None and credential["expires"] <= now:
            raise ApiError("InvalidSecurityToken.Expired", "Specified SecurityToken is expired.")
        if (identity, nonce) in self.nonces:
            raise ApiError("SignatureNonceUsed", "Specified signature nonce was used already.")
        self.nonces.add((identity, nonce))
        return identity, scheme

    def _handle(self, request, journal):
        values = dict(_query(request) + _form(request))
        action = request.header("x-acs-action") or values.get("Action", "?")
        version = values.get("Version") or request.header("x-acs-version")
        if request.method != "POST" or request.target.partition("?")[0] != "/":
            raise ApiError("UnsupportedHTTPMethod")
        if (action, version) == ("AssumeRoleWithOIDC", STS):
            return self._assume_with_oidc(values)
        identity, scheme = self._authenticate(request)
        journal["signed_by"] = "%s %s %s" % (identity, scheme, "form" if request.body else "query")
        deny = self.world.keys.credential(identity)["deny"]
        if action in deny or "*" in deny:
            raise ApiError("NoPermission" if version == STS else "Forbidden.NoPermission", "forbidden")
        if (action, version) == ("AssumeRole", STS):
            return self._issue_reply(values)
        if version != KMS or action not in _PARAMETERS:
            raise ApiError("InvalidAction.NotFound", action)
        self._check(values, _PARAMETERS[action])
        journal["key_id"] = values.get("KeyId", "")
        return self._reply(getattr(self, "_do_" + action)(values), **journal)

    @staticmethod
    def _check(values, table):
        for name in set(values) - _COMMON - set(table):
            raise ApiError("InvalidParameter", "unknown: " + name)
        for name in (name for name, required in table.items() if required and not values.get(name)):
            raise ApiError("MissingParameter", name)

    # Keys

    def _find(self, name):
        """The bare id of a key, by id, ARN, alias or ARN of an alias."""
        prefix = "acs:kms:%s:%s:" % (REGION, ACCOUNT)
        name = name.removeprefix(prefix).removeprefix("key/")
        if name.startswith("alias/"):
            named = [key for key in self.world.keys.describe_all() if self.world.keys.get(key)["more"].get("alias") == name]
            if not named:
                raise ApiError("Forbidden.AliasNotFound", "The specified Alias is not found.")
            name = named[-1]
        try:
            self.world.keys.get(name)
        except NoSuchKey as fault:
            raise ApiError("Forbidden.KeyNotFound", "The specified Key is not found.") from fault
        return name

    def _use(self, name):
        key_id = self._find(name)
        state = self.world.keys.get(key_id)["state"]
        if state != "Enabled":
            raise ApiError("Rejected." + _STATES.get(state, state), "The request was rejected because of the key state.")
        return key_id

    # Actions

    def _made(self, key_id, text, context, **more):
        return {"KeyId": key_id, "KeyVersionId": "%s-v%d" % (key_id, self.world.keys.newest_version(key_id)),
                "CiphertextBlob": _text(pack(self.world.keys, key_id, text, context)), **more}

    def _do_GenerateDataKey(self, values):
        key_id = self._use(values["KeyId"])
        length = {"AES_128": 16, "AES_256": 32, "": 32}.get(values.get("KeySpec", ""), 0)
        if "NumberOfBytes" in values:
            length = int(values["NumberOfBytes"]) if values["NumberOfBytes"].isdigit() else 0
        if not 1 <= length <= 1024:
            raise ApiError("InvalidParameter", "KeySpec or NumberOfBytes")
        text = _text(os.urandom(length))
        return self._made(key_id, text, _context(values), Plaintext=text)

    def _do_Encrypt(self, values):
        if len(values["Plaintext"]) > 6144:
            raise ApiError("InvalidParameter", "Plaintext")
        return self._made(self._use(values["KeyId"]), values["Plaintext"], _context(values))

    def _do_Decrypt(self, values):
        key_id, text = unpack(self.world.keys, _blob(values["CiphertextBlob"]), _context(values), self._use)
        return {"KeyId": key_id, "KeyVersionId": key_id + "-v1", "Plaintext": text}

    def _do_ReEncrypt(self, values):
        source = _context(values, "SourceEncryptionContext")
        _, text = unpack(self.world.keys, _blob(values["CiphertextBlob"]), source, self._use)
        return self._made(self._use(values["DestinationKeyId"]), text, _context(values, "DestinationEncryptionContext"))

    def _do_DescribeKey(self, values):
        key_id = self._find(values["KeyId"])
        state = self.world.keys.get(key_id)["state"]
        return {"KeyMetadata": {"KeyId": key_id, "Arn": "acs:kms:%s:%s:key/%s" % (REGION, ACCOUNT, key_id),
                                "KeyState": _STATES.get(state, state), "KeyUsage": "ENCRYPT/DECRYPT", "KeySpec": "Aliyun_AES_256",
                                "Origin": "Aliyun_KMS", "ProtectionLevel": "SOFTWARE", "PrimaryKeyVersion": key_id + "-v1"}}

    # Temporary credentials

    def _issue(self):
        identity, secret, token, expires = self.world.keys.issue_temporary(self.world.options["credential-lifetime"], "STS.TEST")
        return {"AccessKeyId": identity, "AccessKeySecret": secret, "SecurityToken": token, "Expiration": _iso(expires)}

    def _issue_reply(self, values):
        if not values.get("RoleArn", "").startswith("acs:ram::") or not values.get("RoleSessionName") \
                or not 900 <= int(values.get("DurationSeconds", "0")) <= 43200:
            raise ApiError("InvalidParameter.RoleArn")
        return self._reply({"AssumedRoleUser": {}, "Credentials": self._issue()})

    def _assume_with_oidc(self, values):
        if values.get("OIDCToken") != self.world.options["web-identity-token"]:
            raise ApiError("AuthenticationFail.OIDCToken.Invalid", "the token does not convince")
        if not values.get("OIDCProviderArn", "").startswith("acs:ram::"):
            raise ApiError("InvalidParameter.OIDCProviderArn")
        return self._issue_reply(values)

    def _role_reply(self):
        return Reply(body=json.dumps({"Code": "Success", **self._issue()}).encode(), action="role")

    def metadata(self, request):
        base, role = "/latest/meta-data/ram/security-credentials/", self.world.options["role"]
        if request.target == "/latest/api/token":
            good = request.method == "PUT" and request.header("x-aliyun-ecs-metadata-token-ttl-seconds").isdigit()
            return Reply(200 if good else 400, IMDS_TOKEN.encode(), content_type="text/plain", action="token")
        if request.target == "/creds?user=kmsenv":
            return self._role_reply()
        if not request.target.startswith(base):
            return None
        version_1 = not request.header("x-aliyun-ecs-metadata-token")
        if request.method != "GET" or request.header("x-aliyun-ecs-metadata-token", IMDS_TOKEN) != IMDS_TOKEN:
            return Reply(403, b"no", content_type="text/plain", action="role", outcome="denied")
        if request.target == base:
            return Reply(body=role.encode(), content_type="text/plain", action="role-name")
        reply = self._role_reply() if request.target == base + role else Reply(404, b"", content_type="text/plain", action="role")
        reply.outcome = "version-1" if version_1 and reply.outcome == "ok" else reply.outcome
        return reply
