#!/usr/bin/python3
"""python3: its module ssl, and the package cryptography, which Debian links to the system's OpenSSL."""
import clients

CLIENT = """import ssl, sys, urllib.request
url, ca, cert, key = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.load_cert_chain(cert, key)
print(urllib.request.urlopen(url, context=context, timeout=15).read().decode())
"""
SIGN = """import sys
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
key, data, out = sys.argv[1:]
more = {"ed25519": (), "p256": (ec.ECDSA(hashes.SHA256()),), "rsa": (padding.PKCS1v15(), hashes.SHA256())}
with open(key, "rb") as pem, open(data, "rb") as text:
    key, text = serialization.load_pem_private_key(pem.read(), None), text.read()
kind = "rsa" if hasattr(key, "key_size") and key.key_size > 1000 else "p256" if hasattr(key, "curve") else "ed25519"
with open(out, "wb") as signature:
    signature.write(key.sign(text, *more[kind]))
"""
PYTHON = "/usr/bin/python3"


class Client(clients.ClientCase):
    program = PYTHON
    script = ("-c", CLIENT)
    tells = False


class Cryptography(clients.SignCase):
    program = PYTHON
    script = ("-c", SIGN)


if __name__ == "__main__":
    clients.main()
