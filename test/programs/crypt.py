"""crypt.py encrypt|decrypt CIPHER HEXKEY: standard input to standard output through the package cryptography, with a fixed IV."""
import base64
import sys

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, AESOCB3, ChaCha20Poly1305

verb, name, key = sys.argv[1], sys.argv[2], bytes.fromhex(sys.argv[3])
data = sys.stdin.buffer.read()
IV = b"iviviviviviviviv"
AEAD = {"AESGCM": (AESGCM, 12), "AESCCM": (AESCCM, 12), "AESOCB3": (AESOCB3, 12), "ChaCha20Poly1305": (ChaCha20Poly1305, 12)}
MODES = {"CBC": modes.CBC, "CTR": modes.CTR, "OFB": modes.OFB, "CFB": modes.CFB, "CFB8": modes.CFB8}

if name in AEAD:
    kind, n = AEAD[name]
    out = getattr(kind(key), verb)(IV[:n], data, b"aad")
elif name == "Fernet":      # half of the key is for HMAC, the other half for AES-128-CBC
    fernet = Fernet(base64.urlsafe_b64encode(bytes(16) + key))
    out = fernet._encrypt_from_parts(data, 1700000000, IV) if verb == "encrypt" else fernet.decrypt(data)
else:
    mode = modes.ECB() if name == "ECB" else MODES[name](IV)
    context = getattr(Cipher(algorithms.AES(key), mode), verb + "or")()
    out = context.update(data) + context.finalize()
sys.stdout.buffer.write(out)
