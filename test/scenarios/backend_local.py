"""The local key file, for the tests of all back ends (matrix.py)."""
import base64
import os

import common
import matrix
from common import reader

KEY_FILE = 80


class KeyFiles:
    """Key files in a folder, with those members of a stand-in that the matrix uses."""

    process = True

    def __init__(self, directory):
        self.directory = directory
        self.key_id = self.create_key()

    def path(self, key_id):
        return os.path.join(self.directory, key_id + ".pem")

    def create_key(self):
        path = common.local_key_file(os.path.join(self.directory, "new.pem"))
        key_id = reader.LocalKey(path).id
        os.rename(path, self.path(key_id))
        return key_id

    def rotate(self, key_id):
        with open(self.path(key_id), "a", encoding="ascii") as out:
            out.write("-----BEGIN KMSENV LOCAL MASTER KEY-----\nKey-Id: %s\nVersion: 2\nCreated: 2024-01-02T00:00:00Z\n\n%s\n"
                      "-----END KMSENV LOCAL MASTER KEY-----\n" % (key_id, base64.b64encode(os.urandom(32)).decode()))

    def delete_key(self, key_id):
        os.unlink(self.path(key_id))

    def reset(self):
        pass

    def counters(self):
        return {"actions": {}}

    def trapped(self):
        return 0


class Backend(matrix.Backend):
    kms = "local"
    network = False
    absent = {
        "a former key in decrypt-keys": "a profile has one key file; former versions of its key are in it, too",
        "key really disabled": "a key file knows no such state",
        "key really waiting for its deletion": "a key file knows no such state",
    }
    differs = {
        "key really gone": {"reason": KEY_FILE, "words": r"\.pem"},
        ("key really gone", "open"): {"audited": 0},   # whether the wrap is of this profile is not known without the file
    }

    def start(self, case):
        self.files = KeyFiles(case.dir)
        return self.files

    def profile(self, standin, **more):
        more = dict(more)
        values = {"kms": "local", "key-file": standin.path(more.pop("key_id", standin.key_id))}
        return {**values, **{name.replace("_", "-"): value for name, value in more.items()}}

    def secrets(self, standin):
        return [base64.b64encode(key) for key in reader.LocalKey(standin.path(standin.key_id)).versions.values()]

    def dek_of(self, keys, wrap):
        return reader.LocalKey(self.files.path(wrap.key_id)).unwrap(wrap)

    def spoil(self, ciphertext):
        return ciphertext[:-5] + bytes([ciphertext[-5] ^ 1]) + ciphertext[-4:]
