#!/usr/bin/python3
"""curl: of a KMS behind HTTPS it is libcurl that is asked from within libcurl."""
import clients


class Curl(clients.ClientCase):
    program = "/usr/bin/curl"
    tells = False
    one_file = False      # certificate and key are in it

    def command(self, place):
        service, = place.services
        files = ["--cert", place.write("both.pem", service.bundle(), 0o600)] if self.one_file else ["--cert", service.cert, "--key", service.key]
        return [self.program, "-sS", "--fail", "--cacert", place.ca, *files, self.url]

    def test_certificate_and_key_in_one_file(self):
        self.one_file = True
        self.check()


if __name__ == "__main__":
    clients.main()
