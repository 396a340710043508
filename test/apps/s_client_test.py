#!/usr/bin/python3
"""openssl s_client, and openssl as it signs."""
import clients


class SClient(clients.ClientCase):
    program = "/usr/bin/openssl"

    def command(self, place):
        service, = place.services
        return ["sh", "-c", 'printf "GET / HTTP/1.0\\r\\n\\r\\n" | "$@"', "-", self.program, "s_client", "-connect", "127.0.0.1:%d" % self.port,
                "-CAfile", place.ca, "-verify_return_error", "-quiet", "-cert", service.cert, "-key", service.key]

    def test_the_server_wants_a_certificate(self):
        run = self.openssl("s_client", "-connect", "127.0.0.1:%d" % self.port, "-CAfile", self.pki.ca, "-quiet", config="/dev/null",
                           data=b"GET / HTTP/1.0\r\n\r\n", timeout=30)
        said = self.server_said()
        self.assertNotIn(b"Peer signature", run.stdout)
        self.assertIn("ClientHello", said)
        self.assertIn("peer did not return a certificate", said)


class Pkeyutl(clients.SignCase):
    program = "/usr/bin/openssl"

    def command(self, place):
        service, = place.services
        digest = [] if service.type == "ed25519" else ["-digest", "sha256"]
        return [self.program, "pkeyutl", "-sign", "-inkey", service.key, "-rawin", *digest, "-in", place.path("data"), "-out", place.path("signature")]


if __name__ == "__main__":
    clients.main()
