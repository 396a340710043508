"""What tests with several KMSes at once share: a stand-in for each of some vendors, all of their requests counted,
also those that must not come."""
import collections
import importlib
import json
import os

import common
from common import TEXT, reader
from matrix_rows import HANG_MS

VENDORS = ("tencent", "aws", "vault")
HANG = {"do": "hang", "ms": HANG_MS}


def backend_of(kms):
    return importlib.import_module("backend_" + kms.replace("-", "_")).Backend()


class RoutingCase(common.Scenario):
    vendors = VENDORS

    def setUp(self):
        super().setUp()
        self.audit = os.path.join(self.dir, "audit.log")
        self.backend = {kms: backend_of(kms) for kms in self.vendors}
        self.kms = {kms: self.a_standin(kms) for kms in self.vendors}
        self.key_file = common.local_key_file(os.path.join(self.dir, "local.pem"))

    def a_standin(self, kms):
        standin = self.standin(kms)
        standin.key_id = self.backend[kms].key_id(standin.key_id)
        return standin

    # Configurations: a profile has the name of its KMS, unless given as a pair (name, profile)

    def profile(self, kms, **more):
        if kms == "local":
            return common.local_profile(self.key_file)
        return self.backend[kms].profile(self.kms[kms], **more)

    def profiles(self, *names, **more):
        return {name if isinstance(name, str) else name[0]: self.profile(name, **more) if isinstance(name, str) else name[1]
                for name in names}

    def process(self, *names, settings=None, **more):
        """A tool with these profiles that is stopped at the end of the test."""
        return self.tool(self.config(self.profiles(*names, **more), audit_log=self.audit, **(settings or {})))

    def sealed(self, *names, count=1, **more):
        """Messages from a process of its own; what it asked for is forgotten."""
        with common.Tool(self.dir, self.config(self.profiles(*names, **more), dek_reuse="no")) as kmsenv:
            messages = kmsenv.seal([TEXT] * count)
            self.assertNotIn(None, messages, kmsenv.last)
        self.reset()
        return messages if count > 1 else messages[0]

    def reset(self):
        for standin in self.kms.values():
            if standin.process is not None:
                standin.reset()

    def misbehave(self, kms, *rules):
        self.kms[kms].misbehave(*rules)

    # What came of it

    def asked(self):
        """{kms: {action: requests}} without those that were not asked."""
        found = {}
        for kms, standin in self.kms.items():
            if standin.process is None:
                continue
            counters = standin.counters()["actions"]
            self.assertEqual(standin.trapped(), 0)
            self.assertEqual(set(counters) - {standin.dialect, "metadata"}, set(), "not the KMS's port")
            if standin.dialect in counters:
                found[kms] = {action: counts["total"] for action, counts in counters[standin.dialect].items()}
        return found

    def requests(self, verb, **times):
        """What asked() gives for so many operations: opened=, sealed= or wrapped= by KMS."""
        found = {}
        for kms, count in times.items():
            actions = getattr(self.backend[kms], verb) or self.backend[kms].seal
            if count:
                found[kms] = {action: count if action == actions[-1] else 1 for action in actions}
        return found

    def opens(self, kmsenv, message, **asked):
        """asked: how many requests to unwrap each KMS sees."""
        before = self.asked()
        self.assertEqual(kmsenv.open([message]), [TEXT], kmsenv.last)
        self.assertEqual(kmsenv.last["entries"], 0)
        self.check_asked(before, self.requests("open", **asked))

    def refuses(self, kmsenv, message, reason, words="profile", **asked):
        before = self.asked()
        self.assertEqual(kmsenv.open([message]), [None])
        self.assertEqual((kmsenv.last["reason"], kmsenv.last["entries"]), (reason, 1), kmsenv.last)
        self.assertRegex(kmsenv.last["error"], words)
        self.check_asked(before, self.requests("open", **asked))

    def check_asked(self, before, expected):
        now = self.asked()
        seen = {kms: dict(collections.Counter(actions) - collections.Counter(before.get(kms, {}))) for kms, actions in now.items()}
        self.assertEqual({kms: actions for kms, actions in seen.items() if actions}, expected)

    def audited(self):
        """[(profile, outcome, key id)] since the last time."""
        lines = [json.loads(line) for line in self.read(self.audit).decode().splitlines()] if os.path.exists(self.audit) else []
        self.lines = lines
        if os.path.exists(self.audit):
            os.unlink(self.audit)
        return [(line["profile"], line["operation"], line["outcome"]) for line in lines]

    def wraps(self, message):
        return reader.Header.parse(message).data_key.wraps
