"""The rows of the benchmark and their bars. Figures are A over B unless the row says otherwise."""
import collections

# bar: (for OpenSSL before 3.5, from 3.5 on), None = information only. better: which side of the bar is good.
# unit: of a difference; a ratio has none. noise: the row that shows what the machine does by itself.
# since: the first OpenSSL that has it.
Row = collections.namedtuple("Row", "name text bar better unit noise since", defaults=(None, "less", "", None, (3, 0)))

AT_MOST, AT_LEAST = "less", "more"


def _stream_rows():
    for manner, bar in (("hot", (0.95, 0.90)), ("arrays", None)):
        for size, label in ((4096, "4K"), (65536, "64K")):
            for way in ("encrypt", "decrypt"):
                yield Row("stream-%s-%s-%s" % (manner, label.lower(), way),
                          "1 GiB message, %s updates, %s%s: GB/s over raw AES-256-GCM"
                          % (label, way, "" if manner == "hot" else ", 1 GiB arrays"),
                          bar, AT_LEAST, noise="noise-stream")


def _message_rows():
    for size, manner, bar in ((1024, "reused", (4, 6)), (64, "reused", None), (16384, "reused", None),
                              (1024, "fresh", None), (1024, "renamed", None)):
        for way in ("encrypt", "decrypt"):
            yield Row("message-%d-%s-%s" % (size, manner, way),
                      "%d B message, cached DEK, %s, %s: ns over raw AES-256-GCM" % (size, _MANNER[manner], way),
                      bar, noise="noise-message")


_MANNER = {"reused": "one context", "fresh": "fresh EVP_CIPHER_CTX", "renamed": "one context, init names the cipher"}

ROWS = [
    Row("noise-stream", "A/A: raw stream over raw stream"),
    *_stream_rows(),
    Row("noise-message", "A/A: raw 1 KiB message over raw 1 KiB message"),
    *_message_rows(),
    Row("reference-stream-1k", "by reference, 1 KiB updates: GB/s over raw AES-256-GCM", (0.99, 0.99), AT_LEAST, noise="noise-stream"),
    Row("reference-stream-4k", "by reference, 4 KiB updates: GB/s over raw AES-256-GCM", (0.99, 0.99), AT_LEAST, noise="noise-stream"),
    Row("reference-rekey-1024", "by reference, re-keyed for each 1 KiB: ns of raw over ours", (0.99, 0.99), AT_LEAST, noise="noise-message"),
    Row("reference-rekey-64", "by reference, re-keyed for each 64 B: ns more than raw", (160, 160), unit="ns", noise="noise-message"),
    Row("reference-fresh-1024", "by reference, a new context for each 1 KiB: ns of raw over ours", None, AT_LEAST, noise="noise-message"),
    Row("reference-object-1024", "by reference, re-keyed for each 1 KiB with a key object (EVP_SKEY): ns of raw over ours", None, AT_LEAST, noise="noise-message", since=(3, 5)),
    Row("reference-mac-1024", "HMAC-SHA-256 by reference, re-keyed for each 1 KiB: ns of plain over ours", None, AT_LEAST, noise="noise-message"),
    Row("tls-noise", "A/A: TLS 1.3 handshakes"),
    Row("tls-loaded", "TLS 1.3 handshakes per CPU second, with kmsenv active over without it", None, AT_LEAST, noise="tls-noise"),
    Row("tls-1.3", "TLS 1.3 handshakes per CPU second, ordinary ciphers from kmsenv over without it", (0.98, 0.98), AT_LEAST, noise="tls-noise"),
    Row("tls-1.2", "TLS 1.2 handshakes per CPU second, ordinary ciphers from kmsenv over without it", (0.98, 0.98), AT_LEAST, noise="tls-noise"),
    Row("threads-raw", "machine's own limit: raw 1 KiB messages, two threads over one, by wall", None, AT_LEAST),
    Row("threads-envelope", "1 KiB messages: two threads over one, by wall", (1.85, 1.85), AT_LEAST, noise="threads-raw"),
    Row("threads-raw-cpu", "raw, by thread-CPU of a message: blind to a busy machine", None, AT_LEAST),
    Row("threads-envelope-cpu", "envelope, by thread-CPU of a message", None, AT_LEAST),
    Row("kms-noise", "A/A: bare keep-alive POST over the same", None),
    Row("kms-unseal", "sealed P-256 key loaded, the KMS asked each time, over a bare keep-alive POST, by wall", None, noise="kms-noise"),
    Row("kms-warm", "warm KMS call over a bare libcurl keep-alive POST, CPU", (1.5, 1.5), noise="kms-noise"),
    Row("noise-process", "A/A: enc -aes-256-ctr over the same, CPU"),
    Row("enc-ctr", "1 GiB: enc -kms-envelope over enc -aes-256-ctr, CPU", (1.30, 0.90), noise="noise-process"),
    Row("enc-cms", "1 GiB: enc -kms-envelope over cms -encrypt -aes-256-gcm -stream, CPU", (0.78, 0.70), noise="noise-process"),
    Row("enc-decrypt", "1 GiB: decrypt over own encrypt, CPU", (1.10, 1.10), noise="noise-process"),
    Row("seal-cpu", "1 GiB: kmsenv seal over enc -aes-256-ctr, CPU", (0.85, 0.60), noise="noise-process"),
    Row("open-cpu", "1 GiB: kmsenv open over enc -aes-256-ctr, CPU", (0.85, 0.60), noise="noise-process"),
    Row("seal-wall", "1 GiB: kmsenv seal over enc -aes-256-ctr, wall, two CPUs that nobody else uses", (0.55, 0.40)),
    Row("open-wall", "1 GiB: kmsenv open over enc -aes-256-ctr, wall, two CPUs that nobody else uses", (0.55, 0.40)),
    Row("rss-encrypt", "peak RSS, encrypt: 4 GiB minus 1 MiB", (1, 1), unit="MiB"),
    Row("rss-decrypt", "peak RSS, decrypt: 4 GiB minus 1 MiB", (1, 1), unit="MiB"),
    Row("version-noise", "A/A: openssl version without kmsenv minus the same, CPU", unit="ms"),
    Row("version", "openssl version with kmsenv active minus without, CPU", (0.3, 0.3), unit="ms", noise="version-noise"),
    Row("pem-noise", "A/A: 1000 RSA keys over the same"),
    Row("pem-rsa", "1000 PEM keys (RSA-2048) loaded with kmsenv active over without", (1.15, 1.10), noise="pem-noise"),
    Row("pem-ec", "1000 PEM keys (P-256) loaded with kmsenv active over without", (1.15, 1.10), noise="pem-noise"),
    Row("pem-certificate", "1000 certificates (RSA-2048) read with kmsenv active over without", None, noise="pem-noise"),
    Row("pem-keyring", "the same, with a keyring: then there are ciphers by reference", None, noise="pem-noise"),
    Row("pem-sealed", "sealed P-256 keys loaded within sealed-key-cache over ordinary ones", None, noise="pem-noise"),
]

# In design, and not there to be measured yet: said in the report, so that a short table is not taken for a full one.
ABSENT = []
ABSENT_COMMANDS = []
