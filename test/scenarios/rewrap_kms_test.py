"""kmsenv rewrap with the KMSes of all vendors: who is asked for what, and where the data key stays in the KMS."""
import collections
import json
import os
import unittest

import common
import dialects
from cli_common import main
from common import TEXT, reader
from pkcs11_common import SOFTHSM, TokenCase
from rewrap_common import DATA_KEY, RewrapScenario, key_in, pem, unpem
from routing import RoutingCase

REENCRYPTS = {"tencent": "ReEncrypt", "alibaba": "ReEncrypt", "aws": "ReEncrypt"}   # from any key of the account
ALL = tuple(sorted(dialects.ALL))


class KmsScenario(RewrapScenario, RoutingCase):
    def settings(self, *names, **more):
        """A configuration with these profiles, which says nothing of the audit log."""
        return self.config(self.profiles(*names), **{**self.provider, **more})

    provider = {"block_size": 2048}     # wraps of RSA are long

    def message(self, config, name="message", data=TEXT):
        path = self.file(name, self.enc(config, data))
        self.reset()
        return path

    def asked_since_reset(self):
        """{kms: {action: requests}} but for signing in."""
        found = {}
        for kms, actions in self.asked().items():
            operations = {action: count for action, count in actions.items() if action not in ("token", "oauth", "approle", "renew-self")}
            if operations:
                found[kms] = operations
        return found

    def wraps_of(self, path):
        return key_in(self.read(path)).wraps


class OneVendor:
    """For each: another master key in the same profile, another profile, the newest version."""

    ENCRYPTS = {"tencent": ("Encrypt",), "aws": ("Encrypt",), "alibaba": ("Encrypt",), "alibaba-instance": ("AdvanceEncrypt",)}

    def setUp(self):
        super().setUp()
        self.vendor, = self.vendors
        self.backend_here, self.here = self.backend[self.vendor], self.kms[self.vendor]
        self.reencrypts = self.vendor in REENCRYPTS
        path = self.message(self.settings(self.vendor))
        self.old_key, self.new_key = self.wraps_of(path)[0].key_id, self.backend_here.new_key(self.here)
        self.before = self.read(path)

    def name_of(self, key_id):
        return key_id.rsplit("/", 1)[1] if self.vendor == "azure" else self.backend_here.key_name(key_id)

    def by_decrypting(self):
        """What a data key costs that comes here, and is wrapped by the KMS again."""
        backend = self.backend_here
        again = backend.wrap or (self.ENCRYPTS[self.vendor] if backend.generates else backend.seal)
        return dict(collections.Counter([*backend.open, *again]))

    def check(self, path, after):
        """Done as it should be, and with the old master key gone it opens as before."""
        self.assertEqual(self.asked_since_reset(),
                         {self.vendor: {REENCRYPTS[self.vendor]: 1} if self.reencrypts else self.by_decrypting()})
        wrap, = self.wraps_of(path)
        self.assertEqual((wrap.kms, wrap.key_id), (self.vendor, self.new_key))
        message = self.read(path)
        self.assertEqual(message[len(reader.Header.parse(message).der):], self.before[len(reader.Header.parse(self.before).der):])
        self.here.delete_key(self.name_of(self.old_key))
        self.opens(after, message)

    def test_another_master_key(self):
        """The profile has a new key-id, and the old one in decrypt-keys."""
        path = self.file("message", self.before)
        config = self.settings((self.vendor, self.profile(self.vendor, key_id=self.new_key, decrypt_keys=self.old_key)))
        out, _ = self.rewrap(config, "--verbose", path, done=1, in_kms=int(self.reencrypts), here=int(not self.reencrypts), kept=0)
        self.assertIn("%s %s" % (self.vendor, "re-encrypted in the KMS" if self.reencrypts else "wrapped here"), out)
        self.check(path, self.settings((self.vendor, self.profile(self.vendor, key_id=self.new_key))))

    def test_another_profile(self):
        path = self.file("message", self.before)
        after = self.settings(("new", self.profile(self.vendor, key_id=self.new_key)))
        config = self.settings(("old", self.profile(self.vendor)), ("new", self.profile(self.vendor, key_id=self.new_key)))
        self.rewrap(config, "--to", "new", path, done=1, in_kms=int(self.reencrypts), here=int(not self.reencrypts), kept=0)
        self.check(path, after)
        # and what is so already costs nothing
        self.reset()
        self.rewrap(after, "--to", "new", path, unchanged=1)
        self.assertEqual(self.asked(), {})

    def test_newest_version(self):
        config, path = self.settings(self.vendor), self.file("message", self.before)
        old, = self.wraps_of(path)
        self.here.rotate(self.name_of(self.old_key))
        inside = self.reencrypts or self.vendor == "vault"
        self.rewrap(config, path, done=1, in_kms=int(inside), here=int(not inside))
        expected = {"rewrap": 1} if self.vendor == "vault" else {REENCRYPTS[self.vendor]: 1} if inside else self.by_decrypting()
        self.assertEqual(self.asked_since_reset(), {self.vendor: expected})
        new, = self.wraps_of(path)
        self.assertEqual(new.key_id, old.key_id)
        self.assertNotEqual(new.ciphertext, old.ciphertext)
        self.opens(config, self.read(path))

    def test_context_and_verification(self):
        """The context stays bound; a wrap that is to be checked is opened once more."""
        path = self.message(self.settings(("old", self.profile(self.vendor, context="app=billing,env=prod"))))
        config = self.settings(("old", self.profile(self.vendor)), ("new", self.profile(self.vendor, key_id=self.new_key)))
        self.rewrap(config, "--to", "new", "--verify", path, done=1)
        wrap, = self.wraps_of(path)
        self.assertEqual([tuple(pair) for pair in wrap.context], [("app", "billing"), ("env", "prod")])
        self.assertEqual(self.asked_since_reset()[self.vendor][self.backend_here.open[-1]], 1 if self.reencrypts else 2)
        tool = self.tool(config)
        self.assertEqual(tool.open([self.read(path)], context="app=billing"), [TEXT], tool.last)
        self.assertEqual(tool.open([self.read(path)], context="app=other"), [None])


for _kms in ALL:
    globals()["Vendor_" + _kms.replace("-", "_")] = type("Vendor_" + _kms.replace("-", "_"), (OneVendor, KmsScenario), {"vendors": (_kms,)})


class Together(KmsScenario):
    """Profiles of several vendors."""

    def test_from_one_to_another(self):
        path = self.message(self.settings("tencent", "local"))
        self.rewrap(self.settings("tencent", "vault"), "--to", "vault", path, done=1, in_kms=0, here=1)
        self.assertEqual(self.asked_since_reset(), {"tencent": {"Decrypt": 1}, "vault": {"keys": 1, "encrypt": 1}})
        self.assertEqual([wrap.kms for wrap in self.wraps_of(path)], ["vault"])
        self.kms["tencent"].stop()
        self.opens(self.settings("vault"), self.read(path))

    def test_escrow_added_later(self):
        path = self.message(self.settings("aws"))
        before = self.wraps_of(path)[0].encode()
        self.rewrap(self.settings("aws", "local"), "--add", "local", path, done=1, here=1, kept=1)
        self.assertEqual(self.asked_since_reset(), {"aws": {"Decrypt": 1}})
        wraps = self.wraps_of(path)
        self.assertEqual(([wrap.kms for wrap in wraps], wraps[0].encode()), (["aws", "local"], before))
        self.opens(self.settings("local"), self.read(path))
        self.rewrap(self.settings("aws", "local"), "--add", "local", path, unchanged=1)

    def test_rescue_by_escrow(self):
        """The old master key is gone: the data key comes from the wrap that still opens."""
        path = self.message(self.settings("aws", "local"))
        old_key = self.kms["aws"].key_id
        new_key = self.backend["aws"].new_key(self.kms["aws"])
        self.kms["aws"].delete_key(self.backend["aws"].key_name(old_key))
        config = self.settings(("aws", self.profile("aws", key_id=new_key, decrypt_keys=old_key)), "local")
        before = self.state(path)
        _, errors = self.rewrap(self.settings(("aws", self.profile("aws", key_id=new_key, decrypt_keys=old_key))), "--to", "aws", path,
                                status=1, failed=1)
        self.assertRegex(errors, "does not re-encrypt it.*KMS key not found")
        self.assertEqual(self.state(path), before)
        self.rewrap(config, "--to", "aws,local", path, done=1, in_kms=0, here=2)
        self.opens(self.settings(("aws", self.profile("aws", key_id=new_key))), self.read(path))

    def test_all_renewed(self):
        names = ("tencent", "aws", "vault", "local")
        path = self.message(self.settings(*names))
        self.rewrap(self.settings(*names), path, done=1, in_kms=3, here=1, kept=0)
        self.assertEqual(self.asked_since_reset(), {"tencent": {"ReEncrypt": 1}, "aws": {"ReEncrypt": 1}, "vault": {"rewrap": 1}})
        for name in names:
            self.opens(self.settings(name), self.read(path))

    def test_dry_run_asks_nobody(self):
        path = self.message(self.settings("tencent", "aws"))
        before = self.state(path)
        out, _ = self.rewrap(self.settings("tencent", "aws", "vault"), "--dry-run", "--verbose", "--to", "tencent,vault", path, done=1,
                             in_kms=1, here=1, verb="would rewrap")
        self.assertIn("tencent re-encrypted in the KMS, vault wrapped here", out)
        self.assertEqual((self.asked(), self.state(path)), ({}, before))

    def test_all_or_nothing(self):
        path = self.message(self.settings("tencent", "aws"))
        self.misbehave("aws", {"do": "denied"})
        config = self.settings("tencent", "aws")
        before = self.state(path)
        _, errors = self.rewrap(config, "--to", "tencent,aws", "--force", path, status=1, failed=1)
        self.assertRegex(errors, "message: .*profile aws")
        self.assertEqual(self.state(path), before)


class Refusals(KmsScenario):
    vendors = ("tencent", "aws")

    def setUp(self):
        super().setUp()
        self.new_key = self.backend["aws"].new_key(self.kms["aws"])
        self.old = self.settings("aws")
        self.config_of_both = self.settings("aws", ("new", self.profile("aws", key_id=self.new_key)))

    def keyring(self, config, count):
        """Files of so many data keys under the KMS."""
        ring = os.path.join(self.dir, "ring")
        os.mkdir(ring)
        self.ring = self.config(self.profiles(*config), dek_reuse="no", wraps="detached", keyring=ring)
        with common.Tool(self.dir, self.ring) as kmsenv:
            self.assertNotIn(None, kmsenv.seal([TEXT] * count), kmsenv.last)
        self.assertEqual(len(os.listdir(ring)), count)
        self.reset()
        return ring

    def under(self, ring):
        """How many files there are for each master key."""
        found = collections.Counter()
        for name in os.listdir(ring):
            der, = unpem(self.read(os.path.join(ring, name)), DATA_KEY)
            found.update(wrap.key_id for wrap in key_in(der).wraps)
        return found

    def test_may_not_reencrypt(self):
        """A service that refuses is asked once; and not at all for what must stay there."""
        ring = self.keyring(("aws",), 5)
        self.misbehave("aws", {"do": "denied", "action": "ReEncrypt"})
        _, errors = self.rewrap(self.config_of_both, "--in-kms", "--jobs", "1", "--to", "new", ring, status=1, failed=5)
        self.assertEqual(self.asked_since_reset(), {"aws": {"ReEncrypt": 5}})
        self.assertIn("AccessDenied", errors)
        self.assertEqual(self.under(ring), {self.kms["aws"].key_id: 5})
        self.reset()
        self.misbehave("aws", {"do": "denied", "action": "ReEncrypt"})
        self.rewrap(self.config_of_both, "--jobs", "1", "--to", "new", ring, done=5, in_kms=0, here=5)
        self.assertEqual(self.asked_since_reset(), {"aws": {"ReEncrypt": 1, "Decrypt": 5, "Encrypt": 5}})
        self.assertEqual(self.under(ring), {self.new_key: 5})

    def test_keyring_in_the_kms(self):
        """No data key comes here, with an identity that may only re-encrypt."""
        ring = self.keyring(("aws",), 40)
        self.misbehave("aws", *({"do": "denied", "action": action} for action in ("Decrypt", "Encrypt", "GenerateDataKey")))
        self.rewrap(self.config_of_both, "--in-kms", "--to", "new", ring, done=40, in_kms=40, here=0)
        self.assertEqual(self.asked_since_reset(), {"aws": {"ReEncrypt": 40}})
        self.assertEqual(self.under(ring), {self.new_key: 40})
        self.rewrap(self.config_of_both, "--in-kms", "--to", "new", ring, unchanged=40)

    def test_one_of_many_fails(self):
        ring = self.keyring(("aws",), 12)
        self.misbehave("aws", {"do": "bad-ciphertext", "action": "ReEncrypt", "count": 1, "after": 3},
                       {"do": "bad-ciphertext", "action": "Decrypt"})
        _, errors = self.rewrap(self.config_of_both, "--jobs", "1", "--to", "new", ring, status=1, done=11, failed=1)
        self.assertEqual(len(errors.splitlines()), 1)
        self.assertEqual(self.under(ring), {self.new_key: 11, self.kms["aws"].key_id: 1})
        self.reset()
        self.rewrap(self.config_of_both, "--to", "new", ring, done=1, unchanged=11)

    def test_kms_down_ends_the_run(self):
        """With what was done kept, and the rest for later."""
        ring = self.keyring(("aws",), 60)
        self.misbehave("aws", {"do": "http", "status": 503, "action": "ReEncrypt", "after": 20})
        run = self.cli("rewrap", "--jobs", "2", "--to", "new", ring, environment={"OPENSSL_CONF": self.config_of_both})
        errors = run.stderr.decode().splitlines()
        self.assertEqual(run.returncode, 1)
        self.assertRegex(errors[-1], "stopped, because 10 files in a row")
        self.assertTrue(10 <= len(errors) - 1 <= 12, errors)
        done = self.under(ring)[self.new_key]
        self.assertIn(b"rewrapped %d, unchanged 0, failed %d, skipped 0" % (done, len(errors) - 1), run.stdout)
        self.assertEqual(done, 20)
        self.reset()
        self.rewrap(self.config_of_both, "--to", "new", ring, done=40, unchanged=20)

    def test_wrap_of_another_key(self):
        """The wrap names a master key that is configured, and is under another: nobody is to be made to re-encrypt that."""
        for kms in self.vendors:
            with self.subTest(kms):
                standin, backend = self.kms[kms], self.backend[kms]
                foreign = backend.new_key(standin)
                new_key = backend.new_key(standin)
                path = self.message(self.settings((kms, self.profile(kms, key_id=foreign))), "foreign-" + kms)
                message = self.read(path)
                wrap, = key_in(message).wraps
                wrap.key_id = standin.key_id
                path = self.file("lies-" + kms, common.with_wraps(message, [wrap]))
                config = self.settings(kms, ("new", self.profile(kms, key_id=new_key)))
                before = self.state(path)
                _, errors = self.rewrap(config, "--to", "new", path, status=1, failed=1)
                self.assertRegex(errors, "another key|under another KMS key")
                self.assertEqual(self.state(path), before)

    def test_verification_finds_what_the_service_did(self):
        path = self.message(self.old)
        before = self.state(path)
        self.misbehave("aws", {"do": "wrong-plaintext", "action": "Decrypt"})
        _, errors = self.rewrap(self.config_of_both, "--verify", "--to", "new", path, status=1, failed=1)
        self.assertRegex(errors, "the new wrap does not open: .*another data key")
        self.assertEqual(self.state(path), before)

    def test_audit(self):
        path = self.message(self.old)
        log = os.path.join(self.dir, "log")
        config = self.settings("aws", ("new", self.profile("aws", key_id=self.new_key)), audit_log=log)
        self.rewrap(config, "--to", "new", path, done=1)
        line, = [json.loads(line) for line in self.read(log).decode().splitlines()]
        self.assertEqual((line["operation"], line["profile"], line["keyId"], line["dekId"], line["outcome"]),
                         ("reencrypt", "new", self.kms["aws"].key_id, key_in(self.read(path)).id.hex(), "ok"))

    def test_data_key_of_somebody_else(self):
        """A wrap in a keyring that is of another data key stays out of the new file when the data key is seen, or checked."""
        keys = []
        for _ in range(2):
            path = self.message(self.settings("aws", dek_reuse="no"), "m")
            keys.append(key_in(self.read(path)))
        keys[0].wraps = keys[1].wraps
        path = self.file("mixed.pem", pem(DATA_KEY, keys[0].encode()))
        before = self.state(path)
        for arguments in (("--to", "local"), ("--to", "new", "--verify")):
            config = self.settings("aws", "local", ("new", self.profile("aws", key_id=self.new_key)))
            _, errors = self.rewrap(config, *arguments, path, status=1, failed=1)
            self.assertRegex(errors, "another data key")
            self.assertEqual(self.state(path), before)


@unittest.skipUnless(os.path.exists(SOFTHSM), "SoftHSM is not installed")
class Token(RewrapScenario, TokenCase):
    def test_another_key(self):
        """In the same token, by its label and by its id."""
        self.make_key("prod", "next", "02")
        profiles = {"old": self.profile(), "new": self.profile(key_id="pkcs11:token=prod;object=next")}
        old, both = self.config({"old": profiles["old"]}), self.config(profiles)
        message, = self.start(old).seal([TEXT])
        path = self.file("message", message)
        self.rewrap(both, "--to", "new", path, done=1, in_kms=0, here=1, environment=self.environment)
        self.delete_key("prod", "01")
        tool = self.start(self.config({"new": profiles["new"]}))
        self.assertEqual(tool.open([self.read(path)]), [TEXT], tool.last)
        self.rewrap(both, "--to", "new", path, unchanged=1, environment=self.environment)
        self.rewrap(both, "--jobs", "4", path, done=1, here=1, environment=self.environment)


if __name__ == "__main__":
    main()
