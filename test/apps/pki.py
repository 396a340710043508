"""Certificates and keys for real programs: one CA, and for each type of key a certificate of a server and one of a client."""
import os
import subprocess
from dataclasses import dataclass

from cryptography.hazmat.primitives import serialization

import cli_common
import common

SERVER, CLIENT = "server", "client"
NAME = "localhost"


@dataclass(frozen=True)
class Type:
    new: tuple          # how openssl req makes such a key
    signature: str      # what openssl s_client calls the signature of the handshake
    numbers: tuple      # the secret members of the private key


TYPES = {
    "rsa": Type(("rsa:2048",), "RSA-PSS", ("d", "p", "q")),
    "p256": Type(("ec", "-pkeyopt", "ec_paramgen_curve:P-256"), "ECDSA", ("private_value",)),
    "ed25519": Type(("ed25519",), "ed25519", ()),
}


def _openssl(*arguments):
    """Debian's openssl, without kmsenv and without what the system's openssl.cnf may say."""
    run = subprocess.run([common.OPENSSL, *arguments], capture_output=True, timeout=60,
                         env=common.clean_environment(OPENSSL_CONF="/dev/null"))
    if run.returncode != 0:
        raise AssertionError("openssl %s: %s" % (arguments[0], run.stderr.decode()))
    return run.stdout


class Pki:
    """Everything is in one directory that the programs under test never see; they get copies of what they need."""

    def __init__(self, directory):
        self.directory = directory
        os.mkdir(directory, 0o700)
        self.ca = os.path.join(directory, "ca.pem")
        self._ca_key = os.path.join(directory, "ca.key")
        _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self._ca_key,
                 "-out", self.ca, "-days", "3", "-subj", "/CN=kmsenv test CA of programs")

    def pair(self, kind, role=SERVER):
        """(path of the certificate, path of the plain key, PKCS#8 PEM); made at the first call."""
        cert, key = (os.path.join(self.directory, "%s-%s.%s" % (role, kind, end)) for end in ("pem", "key"))
        if not os.path.exists(cert):
            _openssl("req", "-x509", "-newkey", *TYPES[kind].new, "-nodes", "-keyout", key, "-out", cert, "-days", "2",
                     "-CA", self.ca, "-CAkey", self._ca_key, "-subj", "/CN=" + (NAME if role == SERVER else role),
                     "-addext", "subjectAltName=DNS:%s,IP:127.0.0.1" % NAME, "-addext", "basicConstraints=critical,CA:false",
                     "-addext", "keyUsage=critical,digitalSignature", "-addext", "extendedKeyUsage=%sAuth" % role)
        return cert, key

    def traces(self, kind, role=SERVER):
        """What would betray the key in a file or a log: its secret numbers as bytes and as hexadecimal, its PEM line by line."""
        with open(self.pair(kind, role)[1], "rb") as source:
            pem = source.read()
        key = serialization.load_pem_private_key(pem, None)
        numbers = [getattr(key.private_numbers(), name) for name in TYPES[kind].numbers]
        raw = [n.to_bytes((n.bit_length() + 7) // 8, "big") for n in numbers]
        if not raw:
            raw = [key.private_bytes(serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())]
        lines = [line for line in pem.splitlines() if not line.startswith(b"-----")]
        # The first line of a longer key is mostly public: version, algorithm, beginning of the modulus.
        return [*raw, *(text.hex().encode() for text in raw), *(lines[1:-1] or lines)]


def sealed(key, config):
    """The PEM of a plain key, sealed with the profiles of a configuration."""
    run = subprocess.run([cli_common.CLI, "seal-key", key], capture_output=True, timeout=60, env=common.clean_environment(OPENSSL_CONF=config))
    if run.returncode != 0:
        raise AssertionError("kmsenv seal-key: %s" % run.stderr.decode())
    return run.stdout
