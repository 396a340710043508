"""The table of everything that can happen between kmsenv and a KMS, the same for all back ends; see matrix.py."""
from dataclasses import dataclass, field

# kms-timeout of the profiles if the KMS does not answer, in seconds; nothing may take longer than that, with some room for a slow
# machine; and what the KMS then does takes longer
TIMEOUT, ROOM, HANG_MS = 4, 20, 60000
# reasons of the provider
OK, CONFIG, NO_WRAP, MISMATCH = 0, 1, 40, 41
UNREACHABLE, THROTTLED, DENIED, DISABLED, NOT_FOUND, REJECTED, CREDENTIALS, MALFORMED, REQUEST, TOO_LARGE, CLOCK = \
    60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 71
SEAL, OPEN, BOTH = ("seal",), ("open",), ("seal", "open")
CONTEXT = "app=billing"
TRAP = "the trap"                    # as location: where no request may ever go
# in no text that anybody can read: base64 of 32 bytes, and what shows a request's credentials
A_SECRET = rb"[A-Za-z0-9+/_-]{43}=|(?i:signature=|authorization:|bearer |hvs\.|-token:)"


@dataclass(frozen=True)
class Row:
    name: str
    verbs: tuple
    rules: tuple = ()                # misbehaviours, see misbehave.py
    reason: int = OK
    calls: int = 1                   # requests of the operation proper
    words: str = None                # regular expression for the error; default: the vendor's code for the misbehaviour
    more: dict = field(default_factory=dict)   # settings of the profile
    before: str = None               # method that changes the Run before the process starts
    during: str = None               # method that changes the stand-in just before the operation
    warm: bool = False               # the process has done the same once before
    audited: int = 1                 # lines of the operation in the audit log

    @property
    def kinds(self):
        return [rule["do"] for rule in self.rules]


def once(kind, **more):
    return ({"do": kind, "count": 1, **more},)


def always(kind, **more):
    return ({"do": kind, **more},)


ROWS = [
    # what must work
    Row("round trip", BOTH),
    Row("round trip under a context", BOTH, more={"context": CONTEXT}),
    Row("twice in one process", BOTH, warm=True),
    Row("rotated in the KMS", BOTH, before="own_key", during="rotate"),
    Row("a former key in decrypt-keys", OPEN, before="former_key"),
    # wraps
    Row("wrong context", OPEN, reason=REJECTED, before="other_context", words="rejects"),
    Row("context taken away", OPEN, reason=REJECTED, before="no_context", words="rejects"),
    Row("tampered wrap", OPEN, reason=REJECTED, before="spoil", words="rejects"),
    Row("wrap cut short", OPEN, reason=REJECTED, before="cut", words="rejects"),
    Row("wrap of another key", OPEN, reason=REJECTED, before="other_key", words="key"),
    Row("key of no profile", OPEN, reason=NO_WRAP, calls=0, before="unknown_key", words="decrypt-keys", audited=0),
    Row("bad ciphertext", OPEN, always("bad-ciphertext"), REJECTED),
    # overload and outages: again, then it works, or the last error after the third try
    Row("throttled once", BOTH, once("throttled"), calls=2),
    Row("throttled twice", BOTH, once("throttled") * 2, calls=3),
    Row("throttled for good", BOTH, always("throttled"), THROTTLED, 3),
    Row("HTTP 429 once", BOTH, once("http", status=429), calls=2),
    Row("HTTP 429, again in a second", BOTH, once("http", status=429, **{"retry-after": 1}), calls=2),
    Row("HTTP 429, again in a minute", BOTH, always("http", status=429, **{"retry-after": 60}), THROTTLED, 1, "429"),
    Row("internal error once", BOTH, once("internal"), calls=2),
    Row("internal error for good", BOTH, always("internal"), UNREACHABLE, 3),
    Row("temporarily unavailable", BOTH, once("temporarily-unavailable"), calls=2),
    Row("HTTP 502 once", BOTH, once("http", status=502), calls=2),
    Row("HTTP 503 once", BOTH, once("http", status=503), calls=2),
    Row("HTTP 500 for good", BOTH, always("http", status=500), UNREACHABLE, 3, "500"),
    Row("throttled, internal error, fine", BOTH, once("throttled") + once("internal"), calls=3),
    Row("dropped once before the work", BOTH, once("drop-before"), calls=2),
    Row("dropped once after the work", BOTH, once("drop-after"), calls=2),
    Row("reset once", BOTH, once("reset"), calls=2),
    Row("truncated once", BOTH, once("truncate"), calls=2),
    Row("dropped for good", BOTH, always("drop-before"), UNREACHABLE, 3, "127.0.0.1"),
    Row("slow but in time", BOTH, always("latency", ms=700)),
    Row("too slow", BOTH, always("hang", ms=HANG_MS), UNREACHABLE, 1, "127.0.0.1|time", {"kms-timeout": TIMEOUT}),
    Row("drips", BOTH, always("drip", ms=1000), UNREACHABLE, 1, "127.0.0.1|time", {"kms-timeout": TIMEOUT}),
    Row("gone", BOTH, (), UNREACHABLE, 0, "127.0.0.1", during="stop"),
    # refusals: said once
    Row("denied", BOTH, always("denied"), DENIED),
    Row("HTTP 403 of a proxy", BOTH, always("http", status=403), DENIED, 1, "403"),
    Row("HTTP 404 of a proxy", BOTH, always("http", status=404), REQUEST, 1, "404"),
    Row("disabled", BOTH, always("disabled"), DISABLED),
    Row("pending deletion", BOTH, always("pending-delete"), DISABLED),
    Row("not found", BOTH, always("not-found"), NOT_FOUND),
    Row("key really disabled", BOTH, (), DISABLED, before="own_key", during="disable", words="disabled"),
    Row("key really waiting for its deletion", BOTH, (), DISABLED, before="own_key", during="let_wait_for_deletion", words="disabled"),
    Row("key really gone", BOTH, (), NOT_FOUND, before="own_key", during="delete", words="not found"),
    Row("unknown error", BOTH, always("unknown"), REQUEST),
    Row("an error that repeats the request", BOTH, always("echo"), REQUEST),
    # credentials and clock
    Row("bad signature", BOTH, always("bad-signature"), CREDENTIALS),
    # the sources are asked again, once
    Row("token refused", BOTH, always("expired-token"), CREDENTIALS, 2),
    Row("HTTP 401", BOTH, always("http", status=401), CREDENTIALS, 1, "401"),
    Row("expired token", BOTH, calls=2, before="temporary", during="expire", warm=True),
    Row("clock behind", BOTH, calls=2, before="clock_behind"),
    Row("clock ahead", BOTH, calls=2, before="clock_ahead"),
    Row("clock corrected for good", BOTH, before="clock_behind", warm=True),
    Row("clock off, Date of no help", BOTH, always("clock-skew", seconds=3600), CLOCK, 2, "clock"),
    # replies that are none
    Row("garbage", BOTH, always("garbage"), MALFORMED, 1, "JSON|reply"),
    Row("empty reply", BOTH, always("empty"), MALFORMED, 1, "JSON|reply|empty"),
    Row("oversize", BOTH, always("oversize"), MALFORMED, 1, "larger than"),
    Row("wrong shape", BOTH, always("wrong-shape"), MALFORMED, 1, "reply"),
    Row("wrong type", BOTH, always("wrong-type"), MALFORMED, 1, "(?i)plaintext|reply"),
    Row("bad base64", BOTH, always("bad-base64"), MALFORMED, 1, "(?i)plaintext|base64"),
    Row("no plaintext", BOTH, always("missing-plaintext"), MALFORMED, 1, "(?i)plaintext"),
    Row("no ciphertext", SEAL, always("missing-ciphertext"), MALFORMED, 1, "(?i)ciphertext"),
    Row("huge ciphertext", SEAL, always("huge-ciphertext"), MALFORMED, 1, "(?i)ciphertext"),
    Row("short plaintext of a new key", SEAL, always("short-plaintext"), MALFORMED, 1, "31"),
    Row("short plaintext", OPEN, always("short-plaintext"), MISMATCH, 1, "31"),
    Row("long plaintext", BOTH, always("long-plaintext"), MALFORMED, 1, "bytes|(?i:plaintext)"),
    Row("another plaintext", OPEN, always("wrong-plaintext"), MISMATCH, 1, "data key"),
    Row("another key id", BOTH, always("wrong-key-id"), MALFORMED, 1, "another key"),
    *(Row("redirect %d" % status, BOTH, always("redirect", status=status, location=TRAP), MALFORMED, 1, "redirect")
      for status in (301, 302, 307, 308)),
    # before a request
    Row("rogue certificate", BOTH, always("wrong-certificate", certificate="rogue"), UNREACHABLE, 0, "certificate|ca-file"),
    Row("certificate of another host", BOTH, always("wrong-certificate", certificate="wrong-name"), UNREACHABLE, 0, "certificate|name"),
    Row("expired certificate", BOTH, always("wrong-certificate", certificate="expired"), UNREACHABLE, 0, "certificate"),
    Row("hung up before TLS", BOTH, always("refuse"), UNREACHABLE, 0, "127.0.0.1"),
]
# of a reply to a request for a new data key
SPOILS_PLAINTEXT = {"wrong-type", "bad-base64", "missing-plaintext", "short-plaintext", "long-plaintext", "wrong-plaintext"}
