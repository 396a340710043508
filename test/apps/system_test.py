#!/usr/bin/python3
"""What holds for all programs with sealed keys: privileged programs, configurations that cannot be read, a module that is
not there, the order of providers, and keys that the KMS client itself needs."""
import json
import os
import shutil
import struct

import apps
import common
import process

import backend_google

SHIM = os.environ.get("KMSENV_TEST_TLS_KEY_SHIM") or os.path.join(common.BUILD, "test", "tls_key_shim.so")
REENTERED = "KMS call from within a KMS call"
# Ways to load a certificate's key, in its file.
PROGRAMS = {
    "openssl": ["/usr/bin/openssl", "pkey", "-noout", "-in"],
    "python3": ["/usr/bin/python3", "-c", "import ssl, sys; ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(sys.argv[1])"],
    "ruby": ["/usr/bin/ruby", "-ropenssl", "-e", "OpenSSL::PKey.read(File.read(ARGV[0]))"],
    "php": ["/usr/bin/php", "-r", "exit(openssl_pkey_get_private('file://' . $argv[1]) ? 0 : 1);"],
}
NET_BIND_SERVICE = 10        # a capability; which one does not matter
_V2, _EFFECTIVE = 0x02000000, 1


def add_capability(path):
    """As setcap cap_net_bind_service=ep does."""
    os.setxattr(path, "security.capability", struct.pack("<5I", _V2 | _EFFECTIVE, 1 << NET_BIND_SERVICE, 0, 0, 0))


class System(apps.AppCase):
    program = "/usr/bin/openssl"

    def place(self, *arguments, **options):
        """sealed, plain: a certificate and its key."""
        place = super().place(*arguments, **options)
        service = place.services[0]
        place.sealed = place.write("sealed.pem", service.bundle(), 0o600)
        plain = [self.read(path) for path in self.pki.pair(service.type)]
        place.plain = place.write("plain.pem", b"".join(plain), 0o600)
        return place

    def load(self, place, key, command=None):
        """Whether it loads, without a prompt."""
        running = self.run_in(place, [*(command or PROGRAMS["openssl"]), key])
        status = running.ended(apps.TO_END)
        self.assertIsNotNone(status, "hangs: " + place.logs())
        self.assertEqual(running.prompt(), "")
        return status == 0

    def assert_all(self, place, sealed):
        """Ordinary keys load in all programs; so do sealed ones, or they do not."""
        for name, command in PROGRAMS.items():
            with self.subTest(program=name):
                self.assertTrue(self.load(place, place.plain, command), place.logs())
                self.assertEqual(self.load(place, place.sealed, command), sealed, place.logs())

    def assert_unknown(self, place):
        """Sealed keys are of an unknown format, and the KMS is not asked."""
        self.assert_all(place, False)
        self.assertIn("unsupported", place.logs())
        self.assertEqual((self.unseals(), place.unsealed()), (0, 0))

    def assert_known(self, place, times=len(PROGRAMS)):
        self.assert_all(place, True)
        self.assertEqual((self.unseals(), place.unsealed()), (times, times))

    # Privileged programs

    def privileged_copy(self):
        """openssl with a file capability, which whoever is not root gets by starting it."""
        copy = shutil.copy("/usr/bin/openssl", os.path.join(self.new_folder(), "openssl"))
        add_capability(copy)
        return [copy, *PROGRAMS["openssl"][1:]]

    def test_a_privileged_program_ignores_the_environment(self):
        self.user = "www-data"
        self.require_privileges()
        place, privileged = self.place("tencent", ["p256"]), self.privileged_copy()
        self.assertTrue(self.load(place, place.sealed), place.logs())
        self.assertEqual(self.unseals(), 1)
        self.assertFalse(self.load(place, place.sealed, privileged), "it has no more privileges than its user")
        self.assertIn("unsupported", place.logs())
        self.assertTrue(self.load(place, place.plain, privileged), place.logs())
        self.assertEqual(self.unseals(), 1)

    def test_a_privileged_program_has_the_systems_configuration(self):
        self.user, self.system = "www-data", True
        self.require_privileges()
        privileged = self.privileged_copy()
        for number, kind in enumerate(apps.KINDS):
            place = self.place(kind, ["p256"])
            self.assertTrue(self.load(place, place.sealed, privileged), place.logs())
            self.assertEqual((place.unsealed(), self.unseals()), (1, number))

    # Configurations

    def test_a_configuration_that_cannot_be_read(self):
        self.user = "www-data"
        self.require_privileges()
        place = self.place("tencent", ["rsa"])
        place.conf = shutil.copy(place.conf, os.path.join(self.new_folder(), "openssl.cnf"))
        os.chmod(place.conf, 0o600)
        self.assert_unknown(place)
        os.chmod(place.conf, 0o644)
        self.assert_known(place)

    def change(self, place, old, new):
        text = self.read(place.conf).decode()
        self.assertEqual(text.count(old), 1, text)
        return place.write("openssl.cnf", text.replace(old, new))

    def swap(self, place):
        """kmsenv before default."""
        names = ["default = default_sect\n", "kmsenv = kmsenv_sect\n"]
        self.change(place, "".join(names), "".join(reversed(names)))

    def test_the_order_of_providers(self):
        for first in (False, True):
            place = self.place("tencent", ["p256"])
            if first:
                self.swap(place)
            with self.subTest(first=first):
                self.kms.reset()
                self.assert_known(place)

    def test_added_to_the_systems_configuration(self):
        """As it is in Debian, our sections after its own, in the file or in another one."""
        self.system = True
        self.require_privileges()
        stock = self.read("/etc/ssl/openssl.cnf").decode()
        for included in (False, True):
            place = self.place("tencent", ["p256"])
            ours = self.read(place.conf).decode().partition("[init]\n")[2].replace("= providers\n[providers]", "= provider_sect\n[provider_sect]")
            ours = "\n[openssl_init]\n" + ours
            place.write("openssl.cnf", stock + (".include %s\n" % place.write("kmsenv.cnf", ours) if included else ours))
            with self.subTest(included=included):
                self.kms.reset()
                self.assert_known(place)

    def test_no_module(self):
        wrong = {"missing": os.path.join(self.base, "nothing.so"), "not a module": self.file("garbage.so", b"garbage"),
                 "no provider": shutil.copy(SHIM, os.path.join(self.base, "shim.so"))}
        for first, (what, path) in enumerate(wrong.items()):
            place = self.place("tencent", ["p256"])
            if first % 2:
                self.swap(place)
            self.change(place, self.module, path)
            with self.subTest(module=what):
                self.assert_unknown(place)

    # The KMS client's own keys

    def tls_key(self, place, number):
        """One of the place's keys is for every TLS connection of the process, those to the KMS among them."""
        self.assertTrue(os.path.exists(SHIM), SHIM)
        self.environment = {"LD_PRELOAD": SHIM, "KMSENV_TEST_TLS_KEY": place.services[number].key}

    def test_the_key_of_the_tls_of_the_kms_client_is_sealed(self):
        """Whether it is the very key that is being unsealed or another one, that request goes on without it."""
        for number, cache in ((0, 300), (1, 300), (0, 0)):
            self.settings = {"sealed-key-cache": cache}
            place = self.place("tencent", ["p256", "ed25519"])
            self.tls_key(place, number)
            with self.subTest(key=number, cache=cache):
                self.kms.reset()
                self.assertTrue(self.load(place, place.sealed), place.logs())
                self.assertEqual(place.logs(), "TLS key: %s\n" % REENTERED)
                self.assertEqual((self.unseals(), place.unsealed()), (1, 1))

    def test_the_key_of_the_tls_of_the_kms_client_under_another_kms(self):
        """A KMS that needs no connection is refused there, too: whatever is not known yet is."""
        place, other = self.place("tencent", ["p256"]), self.place("local", ["ed25519"])
        self.change(place, "profiles = main\n", "profiles = main, other\nother = kms_other\n")
        profile = self.profile("local", place.dir)
        place.write("openssl.cnf", self.read(place.conf).decode() + "[kms_other]\n" + "".join("%s = %s\n" % pair for pair in profile.items()))
        self.assertTrue(self.load(place, other.sealed), place.logs())
        self.environment = {"LD_PRELOAD": SHIM, "KMSENV_TEST_TLS_KEY": other.services[0].key}
        self.assertTrue(self.load(place, place.sealed), place.logs())
        self.assertEqual(place.logs(), "TLS key: %s\n" % REENTERED)

    def test_sealed_keys_among_the_authorities(self):
        """ca-file: only certificates are read there."""
        place = self.place("tencent", ["p256"])
        authorities = place.path("kms-ca.pem")
        text = self.read(place.sealed) + self.read(authorities)
        place.write("kms-ca.pem", text)
        self.assertTrue(self.load(place, place.sealed), place.logs())
        self.assertEqual((self.unseals(), place.unsealed()), (1, 1))

    def test_the_key_of_a_service_account_is_sealed(self):
        """It signs what proves who asks for a key: it cannot be one that must be asked for."""
        place = self.place("tencent", ["rsa"])
        account = place.write("account.json", backend_google.account_file(private_key=self.read(place.services[0].key).decode()), 0o600)
        json.loads(self.read(account))
        google = {"kms": "google", "key-id": "projects/p/locations/l/keyRings/r/cryptoKeys/k", "credentials-file": account,
                  "endpoint": "https://127.0.0.1:%d" % process.free_port()}
        settings = {"audit_log": place.path(apps.AUDIT)}
        text = common.config_text({"account": google, "main": self.profile("tencent", place.dir)}, settings)
        place.write("openssl.cnf", text.replace(common.MODULE, self.module))
        self.assert_loaded(place.conf)
        self.assertTrue(self.load(place, place.sealed), place.logs())
        running = self.run_in(place, ["/usr/bin/openssl", "enc", "-kms-envelope", "-K", "0", "-in", place.conf, "-out", "/dev/null"])
        self.assertNotIn(running.ended(apps.TO_END), (None, 0))
        self.assertIn("the private key cannot be read", place.logs())
        self.assertEqual(self.unseals(), 1)


if __name__ == "__main__":
    apps.main()
