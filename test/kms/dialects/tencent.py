"""Tencent Cloud KMS (2019-01-18), the web-identity call of its STS (2018-08-13), and the CVM role
part of its metadata service, as documented by the vendor.

Signature: TC3-HMAC-SHA256. API errors come with HTTP status 200 and an Error member.
"""
import base64
import datetime
import hashlib
import hmac
import json
import os
import re
import uuid

from dialects import Dialect
from httpd import Reply
from keystore import BadCiphertext, NoSuchKey

ALGORITHM = "TC3-HMAC-SHA256"
WINDOW = 300                # seconds a timestamp may be off, either way
PLAINTEXT_MAX = 4096
CONTEXT_MAX = 1024
VERSIONS = {"kms": "2019-01-18", "sts": "2018-08-13"}
_AUTHORIZATION = re.compile(
    r"TC3-HMAC-SHA256 Credential=([^/\s,]+)/(\d{4}-\d\d-\d\d)/([a-z0-9]+)/tc3_request, "
    r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})")


class ApiError(Exception):
    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


# Signature

def sign(secret, method, target, headers, body, timestamp, service, signed):
    """Signature of a request as lower-case hex. headers: {lower-case name: value as sent}."""
    path, _, query = target.partition("?")
    block = "".join("%s:%s\n" % (name, headers[name].lower()) for name in signed)
    canonical = "\n".join((method, path, query, block, ";".join(signed), hashlib.sha256(body).hexdigest()))
    date = datetime.datetime.fromtimestamp(timestamp, datetime.timezone.utc).strftime("%Y-%m-%d")
    text = "\n".join((ALGORITHM, str(timestamp), "%s/%s/tc3_request" % (date, service),
                      hashlib.sha256(canonical.encode()).hexdigest()))
    key = ("TC3" + secret).encode()
    for part in (date, service, "tc3_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def verify(request, secret_of, now):
    """The id that signed the request; ApiError if the signature is not in order.
    secret_of(id) gives the secret, or None for an unknown id."""
    match = _AUTHORIZATION.fullmatch(request.header("authorization"))
    if match is None:
        raise ApiError("AuthFailure.InvalidAuthorization", "the header Authorization is not well-formed")
    identity, date, service, signed, signature = match.groups()
    signed = signed.split(";")
    headers = {}
    for name, value in request.headers:
        if name.lower() in headers and name.lower() in signed:
            raise ApiError("AuthFailure.SignatureFailure", "a signed header is there twice")
        headers[name.lower()] = value
    if signed != sorted(set(signed)) or not {"content-type", "host"} <= set(signed) <= set(headers):
        raise ApiError("AuthFailure.SignatureFailure", "SignedHeaders must be sorted, present, and have content-type and host")
    stamp = headers.get("x-tc-timestamp", "")
    if not re.fullmatch(r"\d{1,12}", stamp):
        raise ApiError("MissingParameter", "X-TC-Timestamp")
    if service != "kms":
        raise ApiError("AuthFailure.SignatureFailure", "the credential scope is not for kms")
    if abs(int(stamp) - now) > WINDOW:
        raise ApiError("AuthFailure.SignatureExpire", "the timestamp is more than 5 minutes from the server's time")
    if datetime.datetime.fromtimestamp(int(stamp), datetime.timezone.utc).strftime("%Y-%m-%d") != date:
        raise ApiError("AuthFailure.SignatureFailure", "the date of the credential scope is not that of the timestamp")
    secret = secret_of(identity)
    if secret is None:
        raise ApiError("AuthFailure.SecretIdNotFound", "the SecretId does not exist")
    expected = sign(secret, request.method, request.target, headers, request.body, int(stamp), service, signed)
    if not hmac.compare_digest(expected, signature):
        raise ApiError("AuthFailure.SignatureFailure", "the signature does not match")
    return identity


# Ciphertexts: three base64 segments joined by "-k-"

_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def _b64decode(text, code, what):
    if not isinstance(text, str) or not _BASE64.fullmatch(text):
        raise ApiError(code, what + " is not base64")
    return base64.b64decode(text)


def _b64encode(data):
    return base64.b64encode(data).decode()


def pack(keys, key_id, plaintext, context):
    version = keys.newest_version(key_id)
    first = key_id.encode().ljust(36, b"\0") + version.to_bytes(4, "big") + os.urandom(24)
    second = os.urandom(12) + b"\0\0\0\1"
    third = keys.wrap(key_id, version, second[:12], plaintext, first + second + context.encode())
    return "-k-".join(map(_b64encode, (first, second, third)))


def unpack(keys, blob, context, use):
    """(key id, version, plaintext). use(key id) raises if the key is not to be used."""
    code = "InvalidParameterValue.InvalidCiphertext"
    parts = blob.split("-k-")
    if len(parts) != 3:
        raise ApiError(code, "CiphertextBlob has not three parts")
    first, second, third = (_b64decode(part, code, "CiphertextBlob") for part in parts)
    if len(first) != 64 or len(second) != 16 or len(third) < 17:
        raise ApiError(code, "CiphertextBlob has parts of wrong length")
    try:
        key_id, version = first[:36].rstrip(b"\0").decode("ascii"), int.from_bytes(first[36:40], "big")
    except UnicodeDecodeError as fault:
        raise ApiError(code, "CiphertextBlob names no key") from fault
    use(key_id)
    try:
        return key_id, version, keys.unwrap(key_id, version, second[:12], third, first + second + context.encode())
    except BadCiphertext as fault:
        raise ApiError("FailedOperation.DecryptError", str(fault)) from fault


# name -> (required, type)
_KEY = {"KeyId": (True, str)}
_CONTEXT = {"EncryptionContext": (False, str)}
_PARAMETERS = {
    "GenerateDataKey": {**_KEY, **_CONTEXT, "KeySpec": (False, str), "NumberOfBytes": (False, int)},
    "Encrypt": {**_KEY, **_CONTEXT, "Plaintext": (True, str)},
    "Decrypt": {**_CONTEXT, "CiphertextBlob": (True, str)},
    "ReEncrypt": {"CiphertextBlob": (True, str), "DestinationKeyId": (False, str),
                  "SourceEncryptionContext": (False, str), "DestinationEncryptionContext": (False, str)},
    "DescribeKey": _KEY,
    "GetServiceStatus": {},
}
_STS_PARAMETERS = {"RoleArn": (True, str), "RoleSessionName": (True, str), "WebIdentityToken": (True, str),
                   "ProviderId": (True, str), "DurationSeconds": (False, int)}
_STATE_ERRORS = {
    "Disabled": ("ResourceUnavailable.CmkDisabled", "the CMK is disabled"),
    "PendingDelete": ("ResourceUnavailable.KeyPendingDelete", "the CMK is waiting for its deletion"),
    "PendingImport": ("ResourceUnavailable.CmkStateNotSupport", "the CMK has no key material yet"),
    "Archived": ("ResourceUnavailable.CmkArchived", "the CMK is archived"),
}


class Tencent(Dialect):
    name = "tencent"
    errors = {
        "throttled": ("RequestLimitExceeded", "your request frequency exceeds the limit"),
        "internal": ("InternalError", "an internal error"),
        "temporarily-unavailable": ("UnsupportedOperation.ServiceTemporaryUnavailable", "come back later"),
        "expired-token": ("AuthFailure.TokenFailure", "the token has expired"),
        "denied": ("UnauthorizedOperation", "you are not authorized to do this"),
        "disabled": _STATE_ERRORS["Disabled"],
        "pending-delete": _STATE_ERRORS["PendingDelete"],
        "not-found": ("ResourceUnavailable.CmkNotFound", "the CMK does not exist"),
        "bad-ciphertext": ("InvalidParameterValue.InvalidCiphertext", "the ciphertext is not valid"),
        "bad-signature": ("AuthFailure.SignatureFailure", "the signature does not match"),
        "clock": ("AuthFailure.SignatureExpire", "the signature has expired"),
        "unknown": ("FailedOperation.NobodyKnows", "nobody knows"),
    }

    # Replies

    def _reply(self, fields, **journal):
        request_id = str(uuid.uuid4())
        body = json.dumps({"Response": {**fields, "RequestId": request_id}}).encode()
        return Reply(body=body, request_id=request_id, **journal)

    def error_reply(self, code, message):
        return self._reply({"Error": {"Code": code, "Message": message}}, outcome=code)

    def error(self, kind, request):
        return self.error_reply(*self.errors[kind])

    def _wrong_shape(self, response):
        keep = response["RequestId"]
        response.clear()
        response.update({"Result": ["unexpected"], "RequestId": keep})

    def _replace(name, change):
        def spoil(self, response):
            if name in response:
                response[name] = change(response[name])
        return spoil

    tampers = {
        "wrong-shape": _wrong_shape,
        "wrong-type": _replace("Plaintext", lambda old: 12345),
        "short-plaintext": _replace("Plaintext", lambda old: _b64encode(base64.b64decode(old)[:-1])),
        "long-plaintext": _replace("Plaintext", lambda old: _b64encode(base64.b64decode(old) + b"x" * 8000)),
        "wrong-plaintext": _replace("Plaintext", lambda old: _b64encode(os.urandom(len(base64.b64decode(old))))),
        "bad-base64": _replace("Plaintext", lambda old: "?*" + old[2:]),
        "wrong-key-id": _replace("KeyId", lambda old: "ffffffff-0000-11ee-8888-000000000000"),
        "missing-plaintext": lambda self, response: response.pop("Plaintext", None),
        "missing-ciphertext": lambda self, response: response.pop("CiphertextBlob", None),
        "huge-ciphertext": _replace("CiphertextBlob", lambda old: old * 1000),
    }
    del _replace

    def tamper(self, kind, reply):
        document = json.loads(reply.body)
        self.tampers[kind](self, document["Response"])
        reply.body = json.dumps(document).encode()

    # Requests

    def action_of(self, request):
        return request.header("x-tc-action") or "?"

    def handle(self, request):
        journal = {}
        try:
            return self._handle(request, journal)
        except ApiError as fault:
            reply = self.error_reply(fault.code, str(fault))
        reply.key_id, reply.signed_by = journal.get("key_id", ""), journal.get("signed_by", "")
        return reply

    def _handle(self, request, journal):
        if request.method != "POST" or request.target != "/":
            raise ApiError("InvalidRequest", "only POST / is served")
        if request.header("content-type").split(";")[0] != "application/json":
            raise ApiError("UnsupportedProtocol", "Content-Type must be application/json")
        action, version = request.header("x-tc-action"), request.header("x-tc-version")
        if version == VERSIONS["sts"] and action == "AssumeRoleWithWebIdentity":
            return self._assume_role(request)
        if version != VERSIONS["kms"]:
            raise ApiError("NoSuchVersion", "X-TC-Version must be " + VERSIONS["kms"])
        if action not in _PARAMETERS:
            raise ApiError("InvalidAction", "X-TC-Action names no action")
        if not re.fullmatch(r"[a-z]{2}-[a-z0-9-]+", request.header("x-tc-region")):
            raise ApiError("MissingParameter", "X-TC-Region")
        journal["signed_by"] = self._authenticate(request, action)
        values = self._parameters(request.body, _PARAMETERS[action])
        journal["key_id"] = values.get("KeyId", "")

        def use(key_id):
            journal["key_id"] = key_id
            self._check_key(key_id, request.header("x-tc-region"))
        return self._reply(getattr(self, "_do_" + action)(values, use), **journal)

    def _authenticate(self, request, action):
        keys, now = self.world.keys, self.world.clock()
        identity = verify(request, lambda who: (keys.credential(who) or {}).get("secret"), now)
        credential = keys.credential(identity)
        token = request.header("x-tc-token")
        if token != (credential["token"] or ""):
            raise ApiError("AuthFailure.TokenFailure", "X-TC-Token does not belong to the SecretId")
        if credential["expires"] is not None and credential["expires"] <= now:
            raise ApiError("AuthFailure.TokenFailure", "the token has expired")
        if action in credential["deny"] or "*" in credential["deny"]:
            raise ApiError("UnauthorizedOperation", "%s may not do kms:%s" % (identity, action))
        return identity

    @staticmethod
    def _parameters(body, table):
        try:
            values = json.loads(body)
        except ValueError as fault:
            raise ApiError("InvalidParameter", "the body is not JSON") from fault
        if not isinstance(values, dict):
            raise ApiError("InvalidParameter", "the body is not an object")
        for name, value in values.items():
            if name not in table:
                raise ApiError("UnknownParameter", name)
            if type(value) is not table[name][1]:
                raise ApiError("InvalidParameter", name + " has the wrong type")
        for name, (required, _) in table.items():
            if required and name not in values:
                raise ApiError("MissingParameter", name)
        return values

    def _check_key(self, key_id, region):
        try:
            key = self.world.keys.get(key_id)
        except NoSuchKey as fault:
            raise ApiError("ResourceUnavailable.CmkNotFound", "no such CMK: " + key_id) from fault
        if key["region"] not in (None, region):
            raise ApiError("ResourceUnavailable.CmkNotFound", "no such CMK in " + region)
        if key["state"] in _STATE_ERRORS:
            raise ApiError(*_STATE_ERRORS[key["state"]])

    @staticmethod
    def _context(values, name="EncryptionContext"):
        text = values.get(name, "")
        if len(text) > CONTEXT_MAX:
            raise ApiError("InvalidParameterValue", name + " is longer than 1024 characters")
        if text:
            try:
                pairs = json.loads(text)
            except ValueError as fault:
                raise ApiError("InvalidParameterValue", name + " is not JSON") from fault
            if not isinstance(pairs, dict) or not all(isinstance(value, str) for value in pairs.values()):
                raise ApiError("InvalidParameterValue", name + " is not an object of strings")
        return text

    # Actions

    def _do_GenerateDataKey(self, values, use):
        use(values["KeyId"])
        spec = {"AES_128": 16, "AES_256": 32}
        if "KeySpec" in values and values["KeySpec"] not in spec:
            raise ApiError("InvalidParameterValue", "KeySpec")
        length = values.get("NumberOfBytes", spec.get(values.get("KeySpec"), 0))
        if not 1 <= length <= 1024:
            raise ApiError("InvalidParameter", "KeySpec or NumberOfBytes of 1 to 1024 is required")
        plaintext = os.urandom(length)
        return {"KeyId": values["KeyId"], "Plaintext": _b64encode(plaintext),
                "CiphertextBlob": pack(self.world.keys, values["KeyId"], plaintext, self._context(values)),
                "DataKeyId": "", "TagCode": 0, "TagMsg": ""}

    def _do_Encrypt(self, values, use):
        use(values["KeyId"])
        code = "InvalidParameterValue.InvalidPlaintext"
        plaintext = _b64decode(values["Plaintext"], code, "Plaintext")
        if not 1 <= len(plaintext) <= PLAINTEXT_MAX:
            raise ApiError(code, "Plaintext must have 1 to 4096 bytes")
        return {"KeyId": values["KeyId"],
                "CiphertextBlob": pack(self.world.keys, values["KeyId"], plaintext, self._context(values))}

    def _do_Decrypt(self, values, use):
        key_id, _, plaintext = unpack(self.world.keys, values["CiphertextBlob"], self._context(values), use)
        return {"KeyId": key_id, "Plaintext": _b64encode(plaintext)}

    def _do_ReEncrypt(self, values, use):
        source = self._context(values, "SourceEncryptionContext")
        destination = self._context(values, "DestinationEncryptionContext")
        keys = self.world.keys
        key_id, version, plaintext = unpack(keys, values["CiphertextBlob"], source, use)
        target = values.get("DestinationKeyId") or key_id
        use(target)
        same = target == key_id and source == destination and version == keys.newest_version(key_id)
        return {"CiphertextBlob": values["CiphertextBlob"] if same else pack(keys, target, plaintext, destination),
                "KeyId": target, "SourceKeyId": key_id, "ReEncrypted": not same}

    def _do_DescribeKey(self, values, use):
        try:
            key = self.world.keys.get(values["KeyId"])
        except NoSuchKey as fault:
            raise ApiError("ResourceUnavailable.CmkNotFound", "no such CMK") from fault
        return {"KeyMetadata": {"KeyId": values["KeyId"], "Alias": "test-key", "KeyState": key["state"],
                                "KeyUsage": "ENCRYPT_DECRYPT", "Type": 2, "Origin": "TENCENT_KMS",
                                "KeyRotationEnabled": len(key["versions"]) > 1}}

    def _do_GetServiceStatus(self, values, use):
        return {"ServiceEnabled": True, "InvalidType": 0, "UserLevel": 0, "ProExpireTime": 0}

    # Temporary credentials

    def _assume_role(self, request):
        if request.header("authorization") != "SKIP":
            raise ApiError("AuthFailure.InvalidAuthorization", "AssumeRoleWithWebIdentity wants Authorization: SKIP")
        values = self._parameters(request.body, _STS_PARAMETERS)
        if values["WebIdentityToken"] != self.world.options["web-identity-token"]:
            raise ApiError("AuthFailure.InvalidIdToken" if values["WebIdentityToken"] else "MissingParameter",
                           "WebIdentityToken is not the one expected")
        identity, secret, token, expires = self.world.keys.issue_temporary(
            self.world.options["credential-lifetime"], "AKIDtest")
        return self._reply({"Credentials": {"Token": token, "TmpSecretId": identity, "TmpSecretKey": secret},
                            "ExpiredTime": expires, "Expiration": _iso(expires)})

    def metadata(self, request):
        base = "/latest/meta-data/cam/security-credentials/"
        if request.method != "GET" or not request.target.startswith(base):
            return None
        role = self.world.options["role"]
        if request.target == base:
            return Reply(body=role.encode(), content_type="text/plain", action="role-name")
        if request.target != base + role:
            return Reply(404, b"not found", content_type="text/plain", action="role", outcome="not-found")
        identity, secret, token, expires = self.world.keys.issue_temporary(
            self.world.options["credential-lifetime"], "AKIDtest")
        return Reply(body=json.dumps({
            "TmpSecretId": identity, "TmpSecretKey": secret, "ExpiredTime": expires, "Expiration": _iso(expires),
            "Token": token, "Code": "Success"}).encode(), action="role")


def _iso(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
