"""AWS KMS (2014-11-01, JSON 1.1), AssumeRoleWithWebIdentity of its STS (2011-06-15), the instance metadata
service (version 2 only) and the credentials service of containers, as documented by the vendor.

Signature: AWS Signature Version 4. Errors come with HTTP status 400 (500 for faults of the service) and a
member __type. A key that was created with a member "alias" also answers to that; the newest one has it.
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

WINDOW = 300
ACCOUNT = "111122223333"
IMDS_TOKEN, CONTAINER_TOKEN = "test-imds-token==", "test-container-token"
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/\s,]+)/(\d{8})/([a-z0-9-]+)/([a-z0-9]+)/aws4_request, "
    r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})")


class ApiError(Exception):
    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


# Signature

def sign(secret, method, target, headers, body, stamp, region, service):
    """Signature of a request as lower-case hex. headers: {lower-case name: value}, all of them signed; stamp: X-Amz-Date."""
    path, _, query = target.partition("?")
    names = sorted(headers)
    block = "".join("%s:%s\n" % (name, " ".join(headers[name].split())) for name in names)
    canonical = "\n".join((method, path, query, block, ";".join(names), hashlib.sha256(body).hexdigest()))
    scope = (stamp[:8], region, service, "aws4_request")
    text = "\n".join(("AWS4-HMAC-SHA256", stamp, "/".join(scope), hashlib.sha256(canonical.encode()).hexdigest()))
    key = ("AWS4" + secret).encode()
    for part in scope:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def verify(request, secret_of, now, service_name="kms"):
    """(id that signed, region); ApiError if the signature is not in order."""
    match = _AUTHORIZATION.fullmatch(request.header("authorization"))
    if match is None:
        raise ApiError("IncompleteSignature", "the header Authorization is not well-formed")
    identity, date, region, service, signed, signature = match.groups()
    signed = signed.split(";")
    headers = {}
    for name, value in request.headers:
        if name.lower() in headers and name.lower() in signed:
            raise ApiError("InvalidSignatureException", "a signed header is there twice")
        headers[name.lower()] = value
    must = {"host", "x-amz-date", "content-type"} | ({"x-amz-target"} if service_name == "kms" else set()) | ({"x-amz-security-token"} & set(headers))
    if signed != sorted(set(signed)) or not must <= set(signed) <= set(headers):
        raise ApiError("InvalidSignatureException", "SignedHeaders must be sorted, present, and have " + ", ".join(sorted(must)))
    stamp = headers["x-amz-date"]
    if not re.fullmatch(r"\d{8}T\d{6}Z", stamp) or stamp[:8] != date or service != service_name:
        raise ApiError("InvalidSignatureException", "Credential should be scoped to the date, the region and kms")
    when = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc).timestamp()
    if abs(when - now) > WINDOW:
        raise ApiError("InvalidSignatureException", "Signature expired: more than 5 minutes from the server's time")
    secret = secret_of(identity)
    if secret is None:
        raise ApiError("UnrecognizedClientException", "The security token included in the request is invalid.")
    expected = sign(secret, request.method, request.target, {name: headers[name] for name in signed}, request.body, stamp,
                    region, service)
    if not hmac.compare_digest(expected, signature):
        raise ApiError("InvalidSignatureException", "The request signature we calculated does not match")
    return identity, region


# Ciphertexts: a byte of version, the key's id, its version, a nonce, the wrapped bytes

def _context_bytes(context):
    return json.dumps(context, sort_keys=True).encode()


def pack(keys, key_id, plaintext, context):
    version = keys.newest_version(key_id)
    head = b"\1" + key_id.encode().ljust(36, b"\0") + version.to_bytes(4, "big") + os.urandom(12)
    return head + keys.wrap(key_id, version, head[-12:], plaintext, head + _context_bytes(context))


def unpack(keys, blob, context, use):
    """(key id, plaintext). use(key id) raises if the key is not to be used."""
    try:
        if len(blob) < 70 or blob[0] != 1:
            raise BadCiphertext("no ciphertext of this service")
        key_id = blob[1:37].rstrip(b"\0").decode("ascii")
        use(key_id)
        return key_id, keys.unwrap(key_id, int.from_bytes(blob[37:41], "big"), blob[41:53], blob[53:], blob[:53] + _context_bytes(context))
    except (BadCiphertext, UnicodeDecodeError) as fault:
        raise ApiError("InvalidCiphertextException", "") from fault


_CONTEXT = {"EncryptionContext": (False, dict)}
_KEY = {"KeyId": (True, str)}
_PARAMETERS = {
    "GenerateDataKey": {**_KEY, **_CONTEXT, "KeySpec": (False, str), "NumberOfBytes": (False, int)},
    "Encrypt": {**_KEY, **_CONTEXT, "Plaintext": (True, str)},
    "Decrypt": {**_CONTEXT, "KeyId": (False, str), "CiphertextBlob": (True, str)},
    "ReEncrypt": {"CiphertextBlob": (True, str), "SourceKeyId": (False, str), "DestinationKeyId": (True, str),
                  "SourceEncryptionContext": (False, dict), "DestinationEncryptionContext": (False, dict)},
    "DescribeKey": _KEY,
}
_FAULTS = {"KMSInternalException", "DependencyTimeoutException", "KeyUnavailableException"}
_STATES = {"PendingDelete": "PendingDeletion", "Archived": "Unavailable"}


def _bytes(text, what, longest):
    try:
        value = base64.b64decode(text, validate=True)
    except ValueError as fault:
        raise ApiError("SerializationException", what + " is not base64") from fault
    if not 1 <= len(value) <= longest:
        raise ApiError("ValidationException", what + " must have 1 to %d bytes" % longest)
    return value


def _text(data):
    return base64.b64encode(data).decode()


def _iso(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _replace(name, change):
    def spoil(document):
        if name in document:
            document[name] = change(document[name])
    return spoil


def _wrong_shape(document):
    document.clear()
    document["Result"] = ["unexpected"]


class Aws(Dialect):
    name = "aws"
    errors = {
        "throttled": ("ThrottlingException", "Rate exceeded"),
        "internal": ("KMSInternalException", "an internal error"),
        "temporarily-unavailable": ("KeyUnavailableException", "come back later"),
        "expired-token": ("ExpiredTokenException", "The security token included in the request is expired"),
        "denied": ("AccessDeniedException", "User is not authorized to perform this"),
        "disabled": ("DisabledException", "the key is disabled"),
        "pending-delete": ("KMSInvalidStateException", "the key is pending deletion"),
        "not-found": ("NotFoundException", "the key does not exist"),
        "bad-ciphertext": ("InvalidCiphertextException", ""),
        "bad-signature": ("InvalidSignatureException", "The request signature we calculated does not match"),
        "clock": ("InvalidSignatureException", "Signature expired"),
        "unknown": ("NobodyKnowsException", "nobody knows"),
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
    }

    # Replies

    def _reply(self, fields, status=200, **journal):
        request_id = str(uuid.uuid4())
        return Reply(status, json.dumps(fields).encode(), [("x-amzn-RequestId", request_id)], "application/x-amz-json-1.1",
                     request_id=request_id, **journal)

    def error_reply(self, code, message):
        return self._reply({"__type": "com.amazonaws.kms#" + code, **({"message": message} if message else {})},
                           500 if code in _FAULTS else 400, outcome=code)

    def error(self, kind, request):
        return self.error_reply(*self.errors[kind])

    def tamper(self, kind, reply):
        document = json.loads(reply.body)
        self.tampers[kind](document)
        reply.body = json.dumps(document).encode()

    # Requests

    def action_of(self, request):
        if request.header("content-type").startswith("application/x-www-form-urlencoded"):
            return dict(urllib.parse.parse_qsl(request.body.decode("latin-1"))).get("Action", "?")
        return request.header("x-amz-target").partition(".")[2] or "?"

    def handle(self, request):
        if request.header("content-type").startswith("application/x-www-form-urlencoded"):
            return self._assume_role(request)
        journal = {}
        try:
            return self._handle(request, journal)
        except ApiError as fault:
            reply = self.error_reply(fault.code, str(fault))
        reply.key_id, reply.signed_by = journal.get("key_id", ""), journal.get("signed_by", "")
        return reply

    def _handle(self, request, journal):
        service, _, action = request.header("x-amz-target").partition(".")
        if (request.method, request.target, service) != ("POST", "/", "TrentService") or action not in _PARAMETERS \
                or request.header("content-type") != "application/x-amz-json-1.1":
            raise ApiError("UnknownOperationException", "")
        keys, now = self.world.keys, self.world.clock()
        identity, region = verify(request, lambda who: (keys.credential(who) or {}).get("secret"), now)
        journal["signed_by"] = identity
        credential = keys.credential(identity)
        if request.header("x-amz-security-token") != (credential["token"] or ""):
            raise ApiError("UnrecognizedClientException", "The security token included in the request is invalid.")
        if credential["expires"] is not None and credential["expires"] <= now:
            raise ApiError("ExpiredTokenException", "The security token included in the request is expired")
        if action in credential["deny"] or "*" in credential["deny"]:
            raise ApiError("AccessDeniedException", "%s is not authorized to perform kms:%s" % (identity, action))
        values = self._parameters(request.body, _PARAMETERS[action])
        journal["key_id"] = values.get("KeyId", "")
        return self._reply(getattr(self, "_do_" + action)(values, region), **journal)

    @staticmethod
    def _parameters(body, table):
        try:
            values = json.loads(body)
        except ValueError as fault:
            raise ApiError("SerializationException", "the body is not JSON") from fault
        for name, value in values.items():
            if name not in table or type(value) is not table[name][1]:
                raise ApiError("SerializationException", name)
            if isinstance(value, dict) and not all(isinstance(text, str) for text in value.values()):
                raise ApiError("SerializationException", name)
        for name, (required, _) in table.items():
            if required and name not in values:
                raise ApiError("ValidationException", name)
        return values

    # Keys

    @staticmethod
    def _arn(key_id, region):
        return "arn:aws:kms:%s:%s:key/%s" % (region, ACCOUNT, key_id)

    def _find(self, name, region):
        """The bare id of a key, by id, ARN, alias or alias ARN."""
        prefix = "arn:aws:kms:%s:%s:" % (region, ACCOUNT)
        if name.startswith("arn:"):
            if not name.startswith(prefix):
                raise ApiError("NotFoundException", "no such key in " + region)
            name = name[len(prefix):].removeprefix("key/")
        if name.startswith("alias/"):
            named = [key for key in self.world.keys.describe_all() if self.world.keys.get(key)["more"].get("alias") == name]
            name = named[-1] if named else name
        try:
            self.world.keys.get(name)
        except NoSuchKey as fault:
            raise ApiError("NotFoundException", "no such key: " + name) from fault
        return name

    def _use(self, name, region):
        key_id = self._find(name, region)
        state = self.world.keys.get(key_id)["state"]
        if state == "Disabled":
            raise ApiError("DisabledException", name + " is disabled.")
        if state != "Enabled":
            raise ApiError("KMSInvalidStateException", name + " is " + _STATES.get(state, state))
        return key_id

    def _open(self, values, region, wanted, context):
        """(bare key id, plaintext) of a CiphertextBlob, if it was made by the key that is wanted (None: any)."""
        must = None if wanted is None else self._find(wanted, region)

        def use(key_id):
            if must is not None and key_id != must:
                raise ApiError("IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this")
            self._use(key_id, region)
        return unpack(self.world.keys, _bytes(values["CiphertextBlob"], "CiphertextBlob", 6144), context, use)

    # Actions

    def _do_GenerateDataKey(self, values, region):
        key_id = self._use(values["KeyId"], region)
        if ("KeySpec" in values) == ("NumberOfBytes" in values):
            raise ApiError("ValidationException", "exactly one of KeySpec and NumberOfBytes")
        length = values.get("NumberOfBytes", {"AES_128": 16, "AES_256": 32}.get(values.get("KeySpec"), 0))
        if not 1 <= length <= 1024:
            raise ApiError("ValidationException", "NumberOfBytes")
        plaintext = os.urandom(length)
        blob = pack(self.world.keys, key_id, plaintext, values.get("EncryptionContext", {}))
        return {"CiphertextBlob": _text(blob), "Plaintext": _text(plaintext), "KeyId": self._arn(key_id, region), "KeyMaterialId": "ab" * 32}

    def _do_Encrypt(self, values, region):
        key_id = self._use(values["KeyId"], region)
        blob = pack(self.world.keys, key_id, _bytes(values["Plaintext"], "Plaintext", 4096), values.get("EncryptionContext", {}))
        return {"CiphertextBlob": _text(blob), "KeyId": self._arn(key_id, region), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}

    def _do_Decrypt(self, values, region):
        key_id, plaintext = self._open(values, region, values.get("KeyId"), values.get("EncryptionContext", {}))
        return {"Plaintext": _text(plaintext), "KeyId": self._arn(key_id, region), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}

    def _do_ReEncrypt(self, values, region):
        source, plaintext = self._open(values, region, values.get("SourceKeyId"), values.get("SourceEncryptionContext", {}))
        target = self._use(values["DestinationKeyId"], region)
        blob = pack(self.world.keys, target, plaintext, values.get("DestinationEncryptionContext", {}))
        return {"CiphertextBlob": _text(blob), "KeyId": self._arn(target, region), "SourceKeyId": self._arn(source, region),
                "SourceEncryptionAlgorithm": "SYMMETRIC_DEFAULT", "DestinationEncryptionAlgorithm": "SYMMETRIC_DEFAULT"}

    def _do_DescribeKey(self, values, region):
        key_id = self._find(values["KeyId"], region)
        state = self.world.keys.get(key_id)["state"]
        return {"KeyMetadata": {"KeyId": key_id, "Arn": self._arn(key_id, region), "KeyState": _STATES.get(state, state),
                                "Enabled": state == "Enabled", "KeyUsage": "ENCRYPT_DECRYPT", "KeySpec": "SYMMETRIC_DEFAULT",
                                "CreationDate": 1600000000.123}}

    # Temporary credentials

    def _issue(self):
        return self.world.keys.issue_temporary(self.world.options["credential-lifetime"], "ASIATEST")

    def _sts_error(self, code):
        body = "<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code></Error></ErrorResponse>" % code
        return Reply(403, body.encode(), content_type="text/xml", outcome=code)

    def _assume_signed_role(self, request, form):
        """AssumeRole: signed by an identity that is known; its trust policy asks for an external id, if one is set."""
        try:
            identity, _ = verify(request, lambda who: (self.world.keys.credential(who) or {}).get("secret"), self.world.clock(), "sts")
        except ApiError as fault:
            return self._sts_error({"UnrecognizedClientException": "InvalidClientTokenId"}.get(fault.code, "SignatureDoesNotMatch"))
        if request.header("x-amz-security-token") != (self.world.keys.credential(identity)["token"] or ""):
            return self._sts_error("InvalidClientTokenId")
        if not form.get("RoleArn", "").startswith("arn:aws:iam::") or not form.get("RoleSessionName") or form.get("Version") != "2011-06-15":
            return self._sts_error("ValidationError")
        if form["RoleArn"].endswith("/external") and form.get("ExternalId") != "test-external-id":
            return self._sts_error("AccessDenied")
        return self._sts_credentials("AssumeRoleResult")

    def _sts_credentials(self, element):
        identity, secret, token, expires = self._issue()
        body = "<R><%s><Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey>" \
            "<SessionToken>%s</SessionToken><Expiration>%s</Expiration></Credentials></%s></R>"
        return Reply(body=(body % (element, identity, secret, token, _iso(expires), element)).encode(), content_type="text/xml")

    def _assume_role(self, request):
        form = dict(urllib.parse.parse_qsl(request.body.decode("latin-1")))
        if form.get("Action") == "AssumeRole":
            return self._assume_signed_role(request, form)
        if form.get("WebIdentityToken") != self.world.options["web-identity-token"] or form.get("Version") != "2011-06-15" \
                or not form.get("RoleArn") or not form.get("RoleSessionName") or request.header("authorization"):
            body = "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidIdentityToken</Code></Error></ErrorResponse>"
            return Reply(400, body.encode(), content_type="text/xml", outcome="InvalidIdentityToken")
        return self._sts_credentials("AssumeRoleWithWebIdentityResult")

    def _role_reply(self):
        identity, secret, token, expires = self._issue()
        return Reply(body=json.dumps({"Code": "Success", "AccessKeyId": identity, "SecretAccessKey": secret, "Token": token,
                                      "Expiration": _iso(expires)}).encode(), action="role")

    def metadata(self, request):
        base, role = "/latest/meta-data/iam/security-credentials/", self.world.options["role"]
        if request.target == "/latest/api/token":
            good = request.method == "PUT" and request.header("x-aws-ec2-metadata-token-ttl-seconds").isdigit()
            return Reply(200 if good else 400, IMDS_TOKEN.encode(), content_type="text/plain", action="token")
        if request.target == "/v1/credentials":
            good = request.method == "GET" and request.header("authorization") == CONTAINER_TOKEN
            return self._role_reply() if good else Reply(401, b"no", content_type="text/plain", action="role", outcome="denied")
        if not request.target.startswith(base):
            return None
        if request.method != "GET" or request.header("x-aws-ec2-metadata-token") != IMDS_TOKEN:
            return Reply(401, b"no", content_type="text/plain", action="role", outcome="denied")
        if request.target == base:
            return Reply(body=role.encode(), content_type="text/plain", action="role-name")
        return self._role_reply() if request.target == base + role else Reply(404, b"", content_type="text/plain", action="role")
