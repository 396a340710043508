"""Master keys and credentials, the part of a KMS that all vendors share.

Keys really wrap: AES-256-GCM under a random key per version. How the pieces are laid out in a
ciphertext is the dialect's business. State survives a restart in one file, because a test that
kills the KMS wants the same keys back.
"""
import base64
import json
import os
import threading
import time
import uuid

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

STATES = ("Enabled", "Disabled", "PendingDelete", "PendingImport", "Archived")


class NoSuchKey(Exception):
    pass


class BadCiphertext(Exception):
    pass


class KeyStore:
    def __init__(self, path):
        self._path = path
        self._lock = threading.RLock()
        self._keys = {}          # id -> {"state", "region", "versions": [base64, ...]}
        self._credentials = {}   # id -> {"secret", "token", "expires", "deny"}
        if path and os.path.exists(path):
            with open(path, encoding="utf-8") as source:
                saved = json.load(source)
            self._keys, self._credentials = saved["keys"], saved["credentials"]

    def _save(self):
        if not self._path:
            return
        temporary = self._path + ".new"
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
            json.dump({"keys": self._keys, "credentials": self._credentials}, out)
        os.replace(temporary, self._path)

    # Master keys

    def create(self, key_id=None, region=None, **more):
        key_id = key_id or str(uuid.uuid4())
        with self._lock:
            if key_id not in self._keys:
                self._keys[key_id] = {"state": "Enabled", "region": region, "versions": [], "more": more}
                self.rotate(key_id)
        return key_id

    def rotate(self, key_id):
        with self._lock:
            self.get(key_id)["versions"].append(base64.b64encode(os.urandom(32)).decode())
            self._save()

    def set_state(self, key_id, state):
        if state not in STATES:
            raise ValueError("state must be one of " + ", ".join(STATES))
        with self._lock:
            self.get(key_id)["state"] = state
            self._save()

    def delete(self, key_id):
        with self._lock:
            self._keys.pop(key_id, None)
            self._save()

    def get(self, key_id):
        with self._lock:
            if key_id not in self._keys:
                raise NoSuchKey(key_id)
            return self._keys[key_id]

    def newest_version(self, key_id):
        return len(self.get(key_id)["versions"])

    def describe_all(self):
        with self._lock:
            return {k: {"state": v["state"], "region": v["region"], "versions": len(v["versions"])}
                    for k, v in self._keys.items()}

    def _aead(self, key_id, version):
        versions = self.get(key_id)["versions"]
        if not 1 <= version <= len(versions):
            raise BadCiphertext("no version %d of this key" % version)
        return AESGCM(base64.b64decode(versions[version - 1]))

    def wrap(self, key_id, version, nonce, plaintext, aad):
        return self._aead(key_id, version).encrypt(nonce, plaintext, aad)

    def unwrap(self, key_id, version, nonce, ciphertext, aad):
        try:
            return self._aead(key_id, version).decrypt(nonce, ciphertext, aad)
        except (InvalidTag, ValueError) as fault:
            raise BadCiphertext("not made by this key, or altered, or another context") from fault

    # Credentials

    def add_credential(self, identity, secret, token=None, expires=None, deny=()):
        with self._lock:
            self._credentials[identity] = {"secret": secret, "token": token, "expires": expires, "deny": list(deny)}
            self._save()

    def issue_temporary(self, lifetime, prefix):
        """A fresh temporary credential: (id, secret, token, expiry as Unix seconds)."""
        tag = uuid.uuid4().hex
        identity, secret, token = prefix + tag[:24], "TESTsecret" + uuid.uuid4().hex, "TESTtoken" + uuid.uuid4().hex
        expires = time.time() + lifetime
        self.add_credential(identity, secret, token, expires)
        return identity, secret, token, int(expires)

    def expire_temporary(self):
        """Ends the life of all temporary credentials now."""
        with self._lock:
            for credential in self._credentials.values():
                if credential["token"] is not None:
                    credential["expires"] = time.time() - 1
            self._save()

    def deny(self, identity, actions):
        with self._lock:
            self._credentials[identity]["deny"] = list(actions)
            self._save()

    def credential(self, identity):
        with self._lock:
            return self._credentials.get(identity)
