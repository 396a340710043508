"""One table of everything that can happen between kmsenv and a KMS, for all back ends.

A row says what goes wrong and what must come of it: the outcome and its class, the words that name the
cause, the number of requests. Besides, for every row: one error entry, one line in the audit log that
agrees, the profile is named, nothing secret is told anywhere, no redirect is followed, and no operation
takes longer than kms-timeout. A back end is a Backend, in backend_NAME.py; its scenario file has

    class Matrix(matrix.Case):
        backend = backend_NAME.Backend()

What a back end cannot have at all is declared, with the reason: by the stand-in's dialect (`lacks`), or
in `absent`. Rows that only one vendor has are its `rows`.
"""
import base64
import collections
import importlib
import json
import os
import re
import time
from dataclasses import dataclass, field, replace

import common
from common import TEXT, reader

import dialects
from matrix_rows import (  # noqa: F401  (for the back ends)
    A_SECRET, BOTH, CLOCK, CONFIG, CONTEXT, CREDENTIALS, DENIED, DISABLED, MALFORMED, MISMATCH, NOT_FOUND, NO_WRAP, OK, OPEN,
    REJECTED, REQUEST, ROOM, ROWS, Row, SEAL, SPOILS_PLAINTEXT, THROTTLED, TOO_LARGE, TRAP, UNREACHABLE, always, once)
from keystore import KeyStore
from misbehave import CONNECTION_KINDS, KINDS

def context_text(wrap):
    """The context of a wrap as it goes to a KMS: its canonical JSON, "" for none."""
    return json.dumps(dict(wrap.context), separators=(",", ":"), ensure_ascii=False) if wrap.context else ""


class Backend:
    """What the matrix has to know of a back end."""

    kms = ""                 # the setting `kms`, and the stand-in's dialect
    network = True           # else there is no stand-in, and only rows that need none are run
    seal, open = (), ()      # actions of the requests of one operation in their order; the last is the operation proper
    seal_with_context = None   # if that takes other requests
    wrap = None              # to wrap a data key that was made elsewhere, if that is not as seal
    sign_in = ()             # actions of requests that every process makes first
    renewal = {}             # action: requests that a new token costs, at the same port
    generates = True         # the service makes data keys (else seal encrypts one of ours)
    binds_context = True
    words = {}               # row: regular expression for the error
    differs = {}             # row or (row, verb): {field of Row: value}
    absent = {}              # row or (row, verb): why this cannot happen
    rows = []                # further ones
    provider = {}            # settings of the provider besides those of the tests

    def settings(self, standin):
        """The profile's settings besides those that all have."""
        raise NotImplementedError

    def temporary(self, standin):
        """(settings, environment) for credentials that expire; settings with the value None are taken away."""
        raise NotImplementedError

    def dek_of(self, keys, wrap):
        """The data key in a wrap, from the stand-in's key store."""
        raise NotImplementedError

    def secrets(self, standin):
        return [standin.secret_key.encode()]

    def spoil(self, ciphertext):
        """Another one, of the same length."""
        at = len(ciphertext) - 5
        return ciphertext[:at] + (b"A" if ciphertext[at:at + 1] != b"A" else b"B") + ciphertext[at + 1:]

    def key_id(self, name):
        """The key-id of a key of that name in the stand-in."""
        return name

    def key_name(self, key_id):
        """The other way."""
        return key_id

    def new_key(self, standin):
        """The key-id of another key; as long as the usual one."""
        return self.key_id(standin.create_key())

    # no need to change what follows for a KMS in the network

    def start(self, case):
        """The stand-in, or what has its members as far as rows without misbehaviour need them."""
        return case.standin(self.kms)

    def profile(self, standin, **more):
        values = {"kms": self.kms, "endpoint": standin.endpoint, "ca-file": standin.ca_file, "key-id": standin.key_id,
                  **common.PATIENT, **self.settings(standin)}
        return {**values, **{name.replace("_", "-"): value for name, value in more.items()}}

    def requests(self, verb, context=None):
        if verb == "open":
            return self.open
        return self.seal_with_context if context and self.seal_with_context else self.seal

    @property
    def dialect(self):
        return getattr(importlib.import_module("dialects." + self.kms.replace("-", "_")), dialects.ALL[self.kms])

    def why_absent(self, row, verb):
        """None if the row is to be run."""
        declared = self.absent.get(row.name) or self.absent.get((row.name, verb))
        if not self.network and (row.rules or row.before in ("temporary", "clock_behind", "clock_ahead") or row.during == "stop"):
            declared = declared or "nothing of it is in the network"
        if declared:
            return declared
        for kind in row.kinds:
            declared = declared or self.dialect.lacks.get("clock" if kind == "clock-skew" else kind)
            if verb == "seal" and kind in SPOILS_PLAINTEXT and not self.generates:
                declared = declared or "the service makes no data keys: no plaintext in its replies"
        if row.before in ("clock_behind", "clock_ahead"):
            declared = declared or self.dialect.lacks.get("clock")
        if not self.binds_context and (row.before in ("other_context", "no_context") or "context" in row.more):
            declared = declared or "the service binds no context"
        return declared

    def cases(self):
        """Every (row as this back end has it, verb, None or why it is absent)"""
        for row in [*ROWS, *self.rows]:
            for verb in row.verbs:
                change = {**self.differs.get(row.name, {}), **self.differs.get((row.name, verb), {})}
                yield replace(row, **change), verb, self.why_absent(row, verb)

    def words_for(self, row):
        words = self.words.get(row.name) or row.words
        if words is None and row.reason != OK:
            words = re.escape(str(self.dialect.errors["unknown" if row.kinds[-1] == "echo" else row.kinds[-1]][0]))
        return words

    def faults_of_the_description(self):
        """What is wrong with it, as texts."""
        rows = [*ROWS, *self.rows]
        names = {row.name for row in rows}
        pairs = {(row.name, verb) for row in rows for verb in row.verbs}
        faults = ["two rows %s" % name for name, n in collections.Counter(row.name for row in rows).items() if n > 1]
        for table in ("words", "differs", "absent"):
            faults += ["%s names no row: %s" % (table, key) for key in getattr(self, table) if key not in names | pairs]
        faults += ["no reason why absent: %s" % (key,) for key, why in self.absent.items() if len(why) < 15]
        known = {*KINDS, *CONNECTION_KINDS}
        if self.network:
            known |= {*self.dialect.errors, *self.dialect.tampers}
        for row, verb, absent in self.cases():
            if not absent:
                faults += ["%s: the stand-in offers no %s" % (row.name, kind) for kind in row.kinds if kind not in known]
        return faults


@dataclass
class Run:
    """One row with one verb."""
    row: Row
    verb: str
    message: bytes
    key_id: str                   # that the profile has
    more: dict = field(default_factory=dict)
    environment: dict = field(default_factory=dict)


class BackendCase(common.Scenario):
    """Tests with one stand-in, self.kms, for self.backend. What is told and logged is searched for self.secrets."""

    backend = None

    def setUp(self):
        super().setUp()
        self.kms = self.backend.start(self)
        self.kms.key_id = self.backend.key_id(self.kms.key_id)
        self.audit = os.path.join(self.dir, "audit.log")
        self.secrets = list(self.backend.secrets(self.kms))

    def key_name(self, key_id):
        """The stand-in's name of a key."""
        return self.backend.key_name(key_id)

    # Messages

    @staticmethod
    def wrap_of(message):
        return reader.Header.parse(message).data_key.wraps[0]

    def keystore(self):
        return KeyStore(os.path.join(self.kms.directory, "keys.json"))

    def sealed(self, count=1, **more):
        """Messages from a process of their own; their data keys are secrets from now on."""
        with common.Tool(self.dir, self.config({"prod": self.backend.profile(self.kms, **more)}, dek_reuse="no", **self.backend.provider)) as kmsenv:
            messages = kmsenv.seal([TEXT] * count)
            self.assertNotIn(None, messages, kmsenv.last)
        for message in messages:
            dek = self.backend.dek_of(self.keystore(), self.wrap_of(message))
            self.assertEqual(len(dek), 32)
            self.secrets += [dek, base64.b64encode(dek), base64.urlsafe_b64encode(dek).rstrip(b"="), dek.hex().encode()]
        return messages

    def check_no_secret(self, *texts):
        for text in texts:
            text = text if isinstance(text, bytes) else str(text).encode()
            for secret in self.secrets:
                self.assertNotIn(secret, text)
            self.assertNotRegex(text, A_SECRET)


class Case(BackendCase):
    """Runs the table. A scenario file may add to its subclass the methods that rows of its own name."""

    # What a row may ask for, before the process starts

    def own_key(self, run):
        """A key for this row only, and a message of it."""
        run.key_id = self.backend.new_key(self.kms)
        if run.verb == "open":
            run.message = self.sealed(key_id=run.key_id)[0]

    def former_key(self, run):
        run.more["decrypt-keys"], run.key_id = run.key_id, self.backend.new_key(self.kms)

    def unknown_key(self, run):
        run.key_id = self.backend.new_key(self.kms)

    def other_key(self, run):
        """The wrap claims to be of another key, which the profile has."""
        new = self.backend.new_key(self.kms)
        run.message = run.message.replace(self.wrap_of(run.message).key_id.encode(), new.encode())
        run.key_id = new

    def other_context(self, run):
        run.message = run.message.replace(b"billing", b"bi11ing", 1)

    def no_context(self, run):
        header = reader.Header.parse(run.message)
        run.message = common.with_wraps(run.message, [replace(wrap, context=()) for wrap in header.data_key.wraps])

    def spoil(self, run):
        blob = self.wrap_of(run.message).ciphertext
        run.message = run.message.replace(blob, self.backend.spoil(blob))

    def cut(self, run):
        wraps = reader.Header.parse(run.message).data_key.wraps
        run.message = common.with_wraps(run.message, [replace(wrap, ciphertext=wrap.ciphertext[:-4]) for wrap in wraps])

    def temporary(self, run):
        settings, run.environment = self.backend.temporary(self.kms)
        run.more.update({name.replace("_", "-"): value for name, value in settings.items()})

    def clock_behind(self, run):
        self.kms.control(clock=3600)

    def clock_ahead(self, run):
        self.kms.control(clock=-3600)

    # ... and just before the operation

    def rotate(self, run):
        self.kms.rotate(self.key_name(run.key_id))

    def disable(self, run):
        self.kms.set_state(self.key_name(run.key_id), "Disabled")

    def let_wait_for_deletion(self, run):
        self.kms.set_state(self.key_name(run.key_id), "PendingDelete")

    def delete(self, run):
        self.kms.delete_key(self.key_name(run.key_id))

    def expire(self, run):
        self.kms.credentials(expire_temporary=True)

    def stop(self, run):
        self.kms.stop()


    # The table

    def counts(self):
        """{action: requests at the KMS's port}"""
        if self.kms.process is None:   # stopped by the row
            self.kms.start()
        return collections.Counter({name: n["total"] for name, n in self.kms.counters()["actions"].get(self.backend.kms, {}).items()})

    def rules_for(self, row, action):
        """Rules for the operation proper."""
        for rule in row.rules:
            rule = {**rule} if rule["do"] in CONNECTION_KINDS else {"action": action, **rule}
            if rule.get("location") == TRAP:
                rule["location"] = self.kms.trap_url
            yield rule

    def operate(self, run, kmsenv, message):
        return (kmsenv.seal([TEXT]) if run.verb == "seal" else kmsenv.open([message]))[0]

    def run_row(self, run, other):
        row = run.row
        self.kms.reset()
        if row.before:
            getattr(self, row.before)(run)
        profile = self.backend.profile(self.kms, **{"key_id": run.key_id, **run.more})
        if os.path.exists(self.audit):
            os.unlink(self.audit)
        requests = self.backend.requests(run.verb, run.more.get("context"))
        with common.Tool(self.dir, self.config({"prod": profile}, audit_log=self.audit, dek_reuse="no", **self.backend.provider), run.environment) as kmsenv:
            if row.warm:
                self.assertIsNotNone(self.operate(run, kmsenv, other), kmsenv.last)
            before = self.counts()
            if row.rules:
                self.kms.misbehave(*self.rules_for(row, requests[-1]))
            if row.during:
                getattr(self, row.during)(run)
            started = time.monotonic()
            result = self.operate(run, kmsenv, run.message)
            seconds, answer, stderr = time.monotonic() - started, kmsenv.last, kmsenv.stderr()
        seen = self.counts() - before
        audit = self.read(self.audit) if os.path.exists(self.audit) else b""
        self.check_no_secret(answer, stderr, audit)
        self.assertLess(seconds, row.more.get("kms-timeout", 0) + ROOM)
        self.assertEqual(self.kms.trapped(), 0)
        self.check_outcome(run, result, answer)
        self.check_requests(run, requests, seen)
        self.check_audit(run, audit, sum(seen.values()))

    def check_outcome(self, run, result, answer):
        reason = run.row.reason
        self.assertEqual((answer["reason"], answer["entries"]), (reason, 0 if reason == OK else 1), answer)
        if reason != OK:
            self.assertIsNone(result)
        elif run.verb == "open":
            self.assertEqual(result, TEXT)
        else:
            self.assertIsNotNone(result)
        words = self.backend.words_for(run.row)
        if words:
            self.assertRegex(answer["error"], words)
            self.assertTrue(reason == NO_WRAP or "prod" in answer["error"], "the error must name the profile: %s" % answer["error"])

    def check_requests(self, run, requests, seen):
        row = run.row
        if not self.backend.network:
            self.assertEqual(seen, {})
            return
        expected = collections.Counter(requests[:-1] + (() if row.warm else self.backend.sign_in)) if row.calls else collections.Counter()
        expected[requests[-1]] = row.calls
        if row.during == "expire":
            expected.update(self.backend.renewal)
        self.assertEqual(seen, +expected)

    def check_audit(self, run, audit, requests):
        lines = [json.loads(line) for line in audit.decode().splitlines()][1 if run.row.warm else 0:]
        self.assertEqual(len(lines), run.row.audited, lines)
        for line in lines:
            self.assertEqual((line["profile"], line["kms"], line["outcome"] == "ok"),
                             ("prod", self.backend.kms, run.row.reason in (OK, MISMATCH)), line)
            if run.row.calls and self.backend.network:
                self.assertLessEqual(line["attempts"], requests, line)
                self.assertGreaterEqual(line["attempts"], run.row.calls, line)

    def test_matrix(self):
        message, other = self.sealed(2, **({"context": CONTEXT} if self.backend.binds_context else {}))
        for row, verb, absent in self.backend.cases():
            if absent:
                continue
            with self.subTest(row.name, verb=verb):
                self.run_row(Run(row, verb, message, self.kms.key_id, dict(row.more)), other)
