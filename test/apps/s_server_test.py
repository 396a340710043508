#!/usr/bin/python3
"""openssl s_server."""
import apps


class SServer(apps.ServerCase):
    program = "/usr/bin/openssl"
    http = True
    says = "s_server"

    def command(self, place):
        service, = place.services
        return [self.program, "s_server", "-accept", "127.0.0.1:%d" % service.port, "-cert", service.cert, "-key", service.key, "-www"]


if __name__ == "__main__":
    apps.main()
