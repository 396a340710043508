#!/usr/bin/python3
"""vsftpd, explicit TLS: reads the key as root, once for all sessions."""
import apps

CONFIG = """listen=YES
background=NO
listen_address=127.0.0.1
listen_port=%(port)d
secure_chroot_dir=%(empty)s
anonymous_enable=NO
local_enable=YES
xferlog_enable=NO
ssl_enable=YES
rsa_cert_file=%(cert)s
rsa_private_key_file=%(key)s
"""


class Vsftpd(apps.ServerCase):
    program = "/usr/sbin/vsftpd"
    starttls = "ftp"
    tells = False
    root = True

    def command(self, place):
        service, = place.services
        values = {"port": service.port, "cert": service.cert, "key": service.key, "empty": place.folder("empty")}
        # It writes its own errors, too, to where a session would be: standard input.
        words = [self.program, place.write("vsftpd.conf", CONFIG % values)]
        return ["sh", "-c", 'exec "$@" 0<>session.log', "-", *words]

    def assert_down(self, place, running):
        super().assert_down(place, running)
        self.assertIn("SSL: cannot load RSA private key", place.logs())


if __name__ == "__main__":
    apps.main()
