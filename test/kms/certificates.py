"""The stand-in's own certificate authority and the certificates, good and bad, that it serves.

Everything is made at the first start in a given directory and found again at a restart, so that a
client's copy of ca.pem stays valid. The CA's private key is never written.
"""
import datetime
import ipaddress
import os
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

GOOD = "server"
# The vendors' own clients look for the vendors' names; test/clients leads them here.
VENDORS = ("kms.tencentcloudapi.com", "kms.eu-central-1.amazonaws.com", "kms.cn-hangzhou.aliyuncs.com",
           "cloudkms.googleapis.com", "*.vault.azure.net")
# name of the misbehaviour -> what is wrong with the certificate
BAD = {
    "rogue": "issued by a CA that the client does not trust",
    "wrong-name": "issued by the right CA for another host",
    "expired": "issued by the right CA for this host, expired yesterday",
}


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject, issuer, public_key, first_day, last_day):
    now = datetime.datetime.utcnow()
    return (x509.CertificateBuilder()
            .subject_name(subject).issuer_name(issuer).public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=first_day))
            .not_valid_after(now + datetime.timedelta(days=last_day)))


class Authority:
    """A throw-away CA; its key lives in this object only."""

    def __init__(self, common_name):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = _name(common_name)
        self.certificate = (
            _builder(self.name, self.name, self.key.public_key(), -1, 30)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256()))

    def pem(self):
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, names, first_day=-1, last_day=30):
        """Certificate and key, PEM, for DNS names and IP addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = []
        for name in names:
            try:
                alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
            except ValueError:
                alternatives.append(x509.DNSName(name))
        certificate = (
            _builder(_name("kmsenv test KMS"), self.name, key.public_key(), first_day, last_day)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256()))
        return (certificate.public_bytes(serialization.Encoding.PEM)
                + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                    serialization.NoEncryption()))


def _write(directory, name, data):
    fd = os.open(os.path.join(directory, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as out:
        out.write(data)


def make(directory):
    """Writes ca.pem, server.pem and the bad ones unless they are there already."""
    if all(os.path.exists(os.path.join(directory, n + ".pem")) for n in ("ca", GOOD, *BAD)):
        return
    here = ("127.0.0.1", "localhost", "::1", *VENDORS)
    authority = Authority("kmsenv test CA")
    _write(directory, GOOD + ".pem", authority.issue(here))
    _write(directory, "rogue.pem", Authority("somebody else's CA").issue(here))
    _write(directory, "wrong-name.pem", authority.issue(("other-host.invalid",)))
    _write(directory, "expired.pem", authority.issue(here, -30, -1))
    _write(directory, "ca.pem", authority.pem())


def contexts(directory):
    """One server-side SSLContext per certificate, by name."""
    result = {}
    for name in (GOOD, *BAD):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(os.path.join(directory, name + ".pem"))
        result[name] = context
    return result
