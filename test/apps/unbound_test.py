#!/usr/bin/python3
"""Unbound, DNS over TLS: reads the key as root, before it becomes user unbound."""
import socket
import struct

import apps

CONFIG = """server:
    interface: 127.0.0.1@%(port)d
    tls-port: %(port)d
    tls-service-pem: %(cert)s
    tls-service-key: %(key)s
    username: unbound
    chroot: "%(dir)s"
    directory: %(dir)s
    pidfile: ""
    logfile: ""
    use-syslog: no
    verbosity: 1
    num-threads: 1
    outgoing-range: 16
    local-data: "%(name)s. A %(address)s"
remote-control:
    control-enable: no
"""
NAME, ADDRESS = "sealed.example", "127.0.0.7"


class Unbound(apps.ServerCase):
    program = "/usr/sbin/unbound"
    root = True

    def command(self, place):
        service, = place.services
        values = {"port": service.port, "cert": service.cert, "key": service.key, "dir": place.dir, "name": NAME, "address": ADDRESS}
        return [self.program, "-d", "-c", place.write("unbound.conf", CONFIG % values)]

    def assert_serves(self, place):
        super().assert_serves(place)
        service, = place.services
        name = b"".join(bytes([len(label)]) + label.encode() for label in NAME.split(".")) + b"\0"
        query = struct.pack(">6H", 0x1234, 0x0100, 1, 0, 0, 0) + name + struct.pack(">2H", 1, 1)
        with self.connect(place, service) as connection:
            connection.sendall(struct.pack(">H", len(query)) + query)
            answer = connection.makefile("rb")
            length, = struct.unpack(">H", answer.read(2))
            self.assertTrue(answer.read(length).endswith(socket.inet_aton(ADDRESS)))

    def test_reload_keeps_the_key(self):
        """HUP has it read its configuration again, not the key."""
        self.check_reload_keeps_the_key("start of service")


if __name__ == "__main__":
    apps.main()
