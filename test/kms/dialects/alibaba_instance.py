"""The dedicated gateway of a KMS instance of Alibaba Cloud (dkms-gcs-0.2), as documented by the vendor: protocol buffers,
signed with the RSA key of a ClientKey.

The "secret" of a credential here is the ClientKey's public key, PEM. Plain operations use the first version of a key
whatever is rotated, Advance ones the newest, and their ciphertext says all that is needed to open it. A key that was
created with a member "alias" also answers to that; the newest one has it. One with "hardware" has no Advance operations.
"""
import base64
import email.utils
import hashlib
import json
import os
import uuid

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from dialects import Dialect
from httpd import Reply
from keystore import BadCiphertext, NoSuchKey

WINDOW = 900
MEDIA_TYPE = "application/x-protobuf"


class ApiError(Exception):
    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


# Protocol buffers: numbers and byte strings is all there is

def _varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def encode(fields):
    """{number: int or bytes or str} in the order of the numbers."""
    out = b""
    for number, value in sorted(fields.items()):
        if isinstance(value, int):
            out += _varint(number << 3) + _varint(value)
        else:
            value = value.encode() if isinstance(value, str) else value
            out += _varint(number << 3 | 2) + _varint(len(value)) + value
    return out


def decode(data):
    """{number: int or bytes}; ValueError if it is not that, or has a field twice."""
    fields, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            if at >= len(data) or shift > 63:
                raise ValueError("cut off")
            byte, at = data[at], at + 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
    while at < len(data):
        tag = number()
        if tag >> 3 == 0 or tag >> 3 in fields or tag & 7 not in (0, 2):
            raise ValueError("tag %d" % tag)
        value = number()
        if tag & 7 == 2:
            if at + value > len(data):
                raise ValueError("cut off")
            value, at = data[at:at + value], at + value
        fields[tag >> 3] = value
    return fields


# Signature

def string_to_sign(method, target, headers):
    """headers: {lower-case name: value}"""
    lines = [method, headers["content-sha256"], headers["content-type"], headers["date"]]
    lines += ["%s:%s" % (name, headers[name].strip()) for name in sorted(headers) if name.startswith("x-kms-")]
    return "\n".join(lines + [target]).encode()


def verify(request, public_key_of, now):
    """The id of the ClientKey that signed; ApiError if the request is not in order. public_key_of(id): PEM or None."""
    headers = {name.lower(): value for name, value in request.headers}
    if len(headers) != len(request.headers):
        raise ApiError("SignatureNotMatch", "a header is there twice")
    if headers.get("x-kms-apiversion") != "dkms-gcs-0.2":
        raise ApiError("InvalidApiVersion", "The ApiVersion is invalid.")
    if headers.get("x-kms-signaturemethod") != "RSA_PKCS1_SHA_256":
        raise ApiError("InvalidParam", "The Param x-kms-signaturemethod is invalid.")
    when = email.utils.parsedate_to_datetime(headers["date"]) if headers.get("date", "").endswith(" GMT") else None
    if when is None or email.utils.format_datetime(when, usegmt=True) != headers["date"]:
        raise ApiError("InvalidParam", "The Param Date is invalid.")
    if abs(when.timestamp() - now) > WINDOW:
        raise ApiError("RequestTimeTooSkewed", "Request time exceeds server time more than 15 minutes.")
    identity = headers.get("x-kms-acccesskeyid")
    if not identity:
        raise ApiError("MissingParameter", "Parameter x-kms-acccesskeyid does not exist in http header or body.")
    pem = public_key_of(identity)
    if pem is None:
        raise ApiError("Unauthorized", "The AccessKey ID does not exist in our records.")
    scheme, _, signature = headers.get("authorization", "").partition(" ")
    try:
        if scheme != "Bearer" or headers.get("accept") != MEDIA_TYPE or headers.get("content-type") != MEDIA_TYPE \
                or headers.get("content-sha256") != hashlib.sha256(request.body).hexdigest().upper():
            raise ValueError
        serialization.load_pem_public_key(pem.encode()).verify(
            base64.b64decode(signature, validate=True), string_to_sign(request.method, request.target, headers),
            padding.PKCS1v15(), hashes.SHA256())
    except (ValueError, InvalidSignature) as fault:
        raise ApiError("SignatureNotMatch", "Signature is not matched.") from fault
    return identity


def make_client_key(identity, password, key=None, legacy=False):
    """(the JSON of a ClientKey file, the public key as PEM)"""
    key = key or rsa.generate_private_key(65537, 2048)
    how = serialization.BestAvailableEncryption(password.encode())
    if legacy:
        how = (serialization.PrivateFormat.PKCS12.encryption_builder().kdf_rounds(2048)
               .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC).hmac_hash(hashes.SHA1()).build(password.encode()))
    data = pkcs12.serialize_key_and_certificates(b"test", key, None, None, how)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return json.dumps({"KeyId": identity, "PrivateKeyData": base64.b64encode(data).decode()}), public.decode()


# Messages: names of the fields by number, for requests and replies

_ENCRYPT = {1: "KeyId", 2: "Plaintext", 3: "Algorithm", 4: "Aad", 5: "Iv", 6: "PaddingMode"}
_DECRYPT = {1: "CiphertextBlob", 2: "KeyId", 3: "Algorithm", 4: "Aad", 5: "Iv", 6: "PaddingMode"}
_GENERATED = {1: "KeyId", 2: "Iv", 3: "Plaintext", 4: "CiphertextBlob", 5: "RequestId", 6: "Algorithm"}
_ENCRYPTED = {1: "KeyId", 2: "CiphertextBlob", 3: "Iv", 4: "RequestId", 5: "Algorithm", 6: "PaddingMode"}
_DECRYPTED = {1: "KeyId", 2: "Plaintext", 3: "RequestId", 4: "Algorithm", 5: "PaddingMode"}
_MESSAGES = {
    "GenerateDataKey": ({1: "KeyId", 2: "Algorithm", 3: "NumberOfBytes", 4: "Aad"}, _GENERATED),
    "AdvanceGenerateDataKey": ({1: "KeyId", 2: "NumberOfBytes", 3: "Aad"}, {**_GENERATED, 7: "KeyVersionId"}),
    "Encrypt": (_ENCRYPT, _ENCRYPTED),
    "AdvanceEncrypt": (_ENCRYPT, {**_ENCRYPTED, 7: "KeyVersionId"}),
    "Decrypt": (_DECRYPT, _DECRYPTED),
    "AdvanceDecrypt": (_DECRYPT, {**_DECRYPTED, 6: "KeyVersionId"}),
}
_ERROR = {1: "StatusCode", 2: "ErrorCode", 3: "ErrorMessage", 4: "RequestId"}
_STATUS = {"SignatureNotMatch": 401, "Unauthorized": 404, "Forbidden.KeyNotFound": 404, "Forbidden.NoPermission": 403,
           "InternalFailure": 500, "ServiceUnavailableTemporary": 503}
_STATES = {"Disabled": "Disabled", "PendingDelete": "PendingDeletion"}


def _pack(shape, values):
    numbers = {name: number for number, name in shape.items()}
    return encode({numbers[name]: value for name, value in values.items() if value})


def unpack_blob(keys, blob, aad, use=lambda key_id: None):
    """(key id, version, IV, plaintext) of the ciphertext of an Advance operation: mark, id, version, IV, the rest."""
    try:
        if len(blob) < 2 or blob[0] != 0xd1 or len(blob) < 2 + blob[1] + 16 + 17:
            raise BadCiphertext("no ciphertext of this service")
        key_id, rest = blob[2:2 + blob[1]].decode("ascii"), blob[2 + blob[1]:]
        version, nonce = int.from_bytes(rest[:4], "big"), rest[4:16]
        use(key_id)
        return key_id, version, nonce, keys.unwrap(key_id, version, nonce, rest[16:], aad)
    except (BadCiphertext, UnicodeDecodeError) as fault:
        raise ApiError("InvalidParam", "The Param CiphertextBlob is invalid.") from fault


def _change(name, change):
    def spoil(values):
        if name in values:
            values[name] = change(values[name])
    return spoil


def _wrong_shape(values):
    values.clear()
    values["KeyId"] = 7


class AlibabaInstance(Dialect):
    name = "alibaba-instance"
    errors = {
        "throttled": ("Rejected.Throttling", "QPS Limit Exceeded"),
        "internal": ("InternalFailure", "Internal Failure"),
        "temporarily-unavailable": ("ServiceUnavailableTemporary", "Service Unavailable Temporary"),
        "expired-token": ("Unauthorized", "The AccessKey ID does not exist in our records."),
        "denied": ("Forbidden.NoPermission", "This operation is forbidden by permission system."),
        "disabled": ("Rejected.Disabled", "the key is disabled"),
        "pending-delete": ("Rejected.PendingDeletion", "the key is pending deletion"),
        "not-found": ("Forbidden.KeyNotFound", "The specified Key is not found."),
        "bad-ciphertext": ("InvalidParam", "The Param CiphertextBlob is invalid."),
        "bad-signature": ("SignatureNotMatch", "Signature is not matched."),
        "clock": ("RequestTimeTooSkewed", "Request time exceeds server time more than 15 minutes."),
        "unknown": ("NobodyKnows.This", "an error that is not documented"),
    }
    tampers = {
        "wrong-shape": _wrong_shape,
        "wrong-type": _change("Plaintext", lambda old: 12345),
        "short-plaintext": _change("Plaintext", lambda old: old[:-1]),
        "long-plaintext": _change("Plaintext", lambda old: old + b"x" * 8000),
        "wrong-plaintext": _change("Plaintext", lambda old: os.urandom(len(old))),
        "wrong-key-id": _change("KeyId", lambda old: old[:-1] + ("f" if old[-1] != "f" else "e")),
        "missing-key-id": lambda values: values.pop("KeyId", None),
        "missing-plaintext": lambda values: values.pop("Plaintext", None),
        "missing-ciphertext": lambda values: values.pop("CiphertextBlob", None),
        "missing-iv": lambda values: values.pop("Iv", None),
        "huge-ciphertext": _change("CiphertextBlob", lambda old: old * 1000),
        "not-authenticated": _change("Algorithm", lambda old: "AES_CBC"),
    }
    lacks = {"bad-base64": "bytes travel as they are, not as base64"}

    # Replies

    def _reply(self, shape, values, status=200, **journal):
        reply = Reply(status, _pack(shape, values), [], MEDIA_TYPE, request_id=values["RequestId"], **journal)
        reply.shape, reply.values = shape, values
        return reply

    def error_reply(self, code, message):
        status = _STATUS.get(code, 400)
        return self._reply(_ERROR, {"StatusCode": status, "ErrorCode": code, "ErrorMessage": message, "RequestId": str(uuid.uuid4())},
                           status, outcome=code)

    def error(self, kind, request):
        return self.error_reply(*self.errors[kind])

    def tamper(self, kind, reply):
        self.tampers[kind](reply.values)
        reply.body = _pack(reply.shape, reply.values)

    # Requests

    def action_of(self, request):
        return request.header("x-kms-apiname") or "?"

    def handle(self, request):
        journal = {}
        try:
            return self._handle(request, journal)
        except ApiError as fault:
            reply = self.error_reply(fault.code, str(fault))
        reply.key_id, reply.signed_by = journal.get("key_id", ""), journal.get("signed_by", "")
        return reply

    def _handle(self, request, journal):
        action, keys, now = self.action_of(request), self.world.keys, self.world.clock()
        if (request.method, request.target) != ("POST", "/") or action not in _MESSAGES:
            raise ApiError("InvalidApiName", "The ApiName is invalid.")
        identity = verify(request, lambda who: (keys.credential(who) or {}).get("secret"), now)
        journal["signed_by"] = identity
        credential = keys.credential(identity)
        if credential["expires"] is not None and credential["expires"] <= now:
            raise ApiError("Unauthorized", "The AccessKey ID does not exist in our records.")
        if action in credential["deny"] or "*" in credential["deny"]:
            raise ApiError("Forbidden.NoPermission", "This operation is forbidden by permission system.")
        values = self._parameters(request.body, _MESSAGES[action][0])
        journal["key_id"] = values.get("KeyId", "")
        advance = action.startswith("Advance")
        result = getattr(self, "_do_" + action.removeprefix("Advance"))(values, advance)
        version = result.pop("version")
        if advance:
            result["KeyVersionId"] = "%s-v%d" % (result["KeyId"], version)
        result.update(RequestId=str(uuid.uuid4()), Algorithm="AES_GCM")
        return self._reply(_MESSAGES[action][1], result, **journal)

    @staticmethod
    def _parameters(body, shape):
        try:
            values = {shape[number]: value for number, value in decode(body).items()}
            for name in ("KeyId", "Algorithm", "PaddingMode"):
                if name in values:
                    values[name] = values[name].decode()
            if not all(isinstance(value, int) == (name == "NumberOfBytes") for name, value in values.items()):
                raise ValueError
        except (ValueError, KeyError, AttributeError) as fault:
            raise ApiError("InvalidParameter", "The specified parameter is not valid.") from fault
        if values.get("Algorithm", "AES_GCM") != "AES_GCM" or len(values.get("Aad", b"")) > 8192:
            raise ApiError("InvalidParameter", "The specified parameter is not valid.")
        return values

    # Keys

    def _use(self, name, advance):
        """The id of a key, by id or alias, if it is to be used."""
        keys = self.world.keys
        if name.startswith("alias/"):
            named = [key for key in keys.describe_all() if keys.get(key)["more"].get("alias") == name]
            name = named[-1] if named else name
        try:
            key = keys.get(name)
        except NoSuchKey as fault:
            raise ApiError("Forbidden.KeyNotFound", "The specified Key is not found.") from fault
        if advance and key["more"].get("hardware"):
            raise ApiError("UnsupportedOperation", "Rejected.UnsupportedOperation")
        if key["state"] != "Enabled":
            raise ApiError("Rejected." + _STATES.get(key["state"], "Unavailable"), "the key is not enabled")
        return name

    def _wrap(self, values, advance, plaintext):
        keys, nonce = self.world.keys, os.urandom(12)
        key_id = self._use(values.get("KeyId", ""), advance)
        version = keys.newest_version(key_id) if advance else 1
        blob = keys.wrap(key_id, version, nonce, plaintext, values.get("Aad", b""))
        if advance:
            blob = b"\xd1" + bytes([len(key_id)]) + key_id.encode() + version.to_bytes(4, "big") + nonce + blob
        return {"KeyId": key_id, "Iv": nonce, "CiphertextBlob": blob, "version": version}

    # Actions

    def _do_GenerateDataKey(self, values, advance):
        if not 1 <= values.get("NumberOfBytes", 0) <= 1024:
            raise ApiError("InvalidParameter", "The specified parameter is not valid.")
        plaintext = os.urandom(values["NumberOfBytes"])
        return {**self._wrap(values, advance, plaintext), "Plaintext": plaintext}

    def _do_Encrypt(self, values, advance):
        if not 1 <= len(values.get("Plaintext", b"")) <= 6144:
            raise ApiError("InvalidParameter", "The specified parameter is not valid.")
        return self._wrap(values, advance, values["Plaintext"])

    def _do_Decrypt(self, values, advance):
        blob, aad, nonce = values.get("CiphertextBlob", b""), values.get("Aad", b""), values.get("Iv", b"")
        if advance and not nonce:
            key_id, version, _, plaintext = unpack_blob(self.world.keys, blob, aad, lambda key: self._use(key, True))
            return {"KeyId": key_id, "Plaintext": plaintext, "version": version}
        key_id = self._use(values.get("KeyId", ""), advance)
        try:
            plaintext = self.world.keys.unwrap(key_id, 1, nonce, blob, aad)
        except (BadCiphertext, ValueError) as fault:
            raise ApiError("InvalidParam", "The Param CiphertextBlob is invalid.") from fault
        return {"KeyId": key_id, "Plaintext": plaintext, "version": 1}
