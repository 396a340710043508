"""Programs that do one thing with a sealed key and end: TLS clients with a certificate, and programs that sign.

    class Example(clients.ClientCase):
        program = "/usr/bin/example"
        script = ("-e", "text of a program")      # or a command() of its own

    if __name__ == "__main__":
        clients.main()
"""
import os
import re

import apps
import pki
import process
from apps import main  # noqa: F401

TO_SERVE = 20
DATA = b"some data to sign"
PEM = re.compile(r"-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----")


class OnceCase(apps.KeyCase):
    """It is done when it ends."""

    def start(self, place):
        running = self.run_in(place, self.command(place))
        self.assertEqual(running.ended(apps.TO_END), 0, place.logs())
        return running

    def der(self, cert):
        """Of the text of a certificate."""
        return self.openssl("x509", "-outform", "DER", config="/dev/null", data=cert).stdout


class ClientCase(OnceCase):
    """A TLS client, which gets the page of self.url and prints it.

    The server is openssl s_server, without kmsenv. It wants a certificate of our CA from every client. Its page says what it
    has seen of the client, its log each message of the handshake.
    """

    role = pki.CLIENT
    script = ()     # what makes an interpreter a client; then come URL, authorities, certificate and key

    def command(self, place):
        service, = place.services
        return [self.program, *self.script, self.url, place.ca, service.cert, service.key]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.port = process.free_port()
        cls.url = "https://127.0.0.1:%d/" % cls.port
        folder = os.path.join(cls.base, "server")
        os.mkdir(folder)
        cert, key = cls.pki.pair("p256", pki.SERVER)
        cls.server = process.Running(["/usr/bin/openssl", "s_server", "-accept", "127.0.0.1:%d" % cls.port, "-cert", cert, "-key", key,
                                      "-CAfile", cls.pki.ca, "-Verify", "1", "-verify_return_error", "-www", "-msg"],
                                     folder, {"OPENSSL_CONF": "/dev/null"})
        cls.addClassCleanup(cls.server.stop)
        if not cls.server.listens(cls.port, TO_SERVE):
            raise AssertionError("the server does not start: " + cls.server.output())

    def setUp(self):
        super().setUp()
        self.seen = len(self.server.output())

    def server_said(self):
        """Since this was asked last."""
        before, self.seen = self.seen, len(self.server.output())
        return self.server.output()[before:self.seen]

    def assert_works(self, place):
        service, = place.services
        page, said = place.logs(), self.server_said()
        self.assertIn("\nPeer signature type: %s\n" % pki.TYPES[service.type].signature, page)
        shown = PEM.search(page[page.index("\nClient certificate\n"):])
        self.assertEqual(self.der(shown.group().encode()), self.der(self.read(service.plain_cert)))
        self.assertRegex(said, r"depth=0 CN = %s\nverify return:1\n" % pki.CLIENT)
        self.assertRegex(said, r"<<< TLS 1\.\d, Handshake \[length \w+\], CertificateVerify\n")

    def assert_down(self, place, running):
        """It ends with an error, and does not try it without its certificate."""
        super().assert_down(place, running)
        self.assertNotIn("ClientHello", self.server_said())

    def test_connects(self):
        self.check()

    def test_connects_with_the_system_s_configuration(self):
        self.check_with_the_systems_configuration()

    def test_without_its_key(self):
        self.check_without_its_key()


class SignCase(OnceCase):
    """A program that loads a key with the functions of its library, and signs place.path("data") with it as "signature"."""

    types = tuple(pki.TYPES)
    script = ()     # then come key, data and signature

    def command(self, place):
        return [self.program, *self.script, place.services[0].key, place.path("data"), place.path("signature")]

    def groups(self):
        return [(name,) for name in self.types]

    def place(self, *arguments, **options):
        place = super().place(*arguments, **options)
        place.write("data", DATA)
        return place

    def assert_works(self, place):
        service, = place.services
        digest = [] if service.type == "ed25519" else ["-digest", "sha256"]
        run = self.openssl("pkeyutl", "-verify", "-certin", "-inkey", service.plain_cert, "-rawin", *digest, "-in", place.path("data"),
                           "-sigfile", place.path("signature"), config="/dev/null")
        self.assertEqual((run.returncode, run.stdout), (0, b"Signature Verified Successfully\n"), run.stderr.decode() + place.logs())

    def assert_down(self, place, running):
        super().assert_down(place, running)
        self.assertFalse(os.path.exists(place.path("signature")))

    def test_signs(self):
        self.check()

    def test_without_its_key(self):
        self.check_without_its_key()
