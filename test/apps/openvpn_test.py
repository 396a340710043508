#!/usr/bin/python3
"""OpenVPN, as the server of one peer: reads the key as root, before it becomes user nobody. There is no interface behind
it (dev null); the peer is OpenVPN without kmsenv."""
import os
import signal

import apps
import pki
import process

MAIN = """dev null
proto udp4
ca %(ca)s
cert %(cert)s
key %(key)s
verb 4
"""
SERVER = """local 127.0.0.1
lport %(port)d
tls-server
dh none
remote-cert-tls client
keepalive 1 30
persist-key
user nobody
group nogroup
"""
CLIENT = """remote 127.0.0.1 %(port)d
nobind
tls-client
remote-cert-tls server
verify-x509-name localhost name
"""
READY = "UDPv4 link local (bound)"
CONNECTED = "Initialization Sequence Completed"
# What the peer logs of the certificate.
SHOWN = {"rsa": "peer certificate: 2048 bits RSA", "p256": "peer certificate: 256 bits ECprime256v1", "ed25519": "peer certificate: 256 bits ED25519"}


class OpenVPN(apps.ServerCase):
    program = "/usr/sbin/openvpn"
    root = True

    def config(self, place, name, template, values):
        return place.write(name, (MAIN + template) % {"ca": place.ca, **values})

    def command(self, place):
        service, = place.services
        return [self.program, self.config(place, "server.conf", SERVER, {"port": service.port, "cert": service.cert, "key": service.key})]

    def start(self, place):
        running = self.run_in(place, self.command(place))
        self.assert_logs(running, READY)
        return running

    def assert_logs(self, running, text):
        process.wait_until(lambda: running.process.poll() is not None or text in running.output(), 30)
        self.assertIn(text, running.output())

    def handshake(self, place, service):
        cert, key = self.pki.pair("p256", pki.CLIENT)
        folder = place.folder("client%d" % len(os.listdir(place.dir)))     # with a log of its own
        config = self.config(place, "client.conf", CLIENT, {"port": service.port, "cert": cert, "key": key})
        with process.Running([self.program, config], folder, {"OPENSSL_CONF": "/dev/null"}) as client:
            self.assert_logs(client, CONNECTED)
            self.assertIn("VERIFY OK: depth=0, CN=" + pki.NAME, client.output())
            self.assertIn(SHOWN[service.type], client.output())

    def test_restart_keeps_the_key(self):
        """USR1, as a lost peer causes it, with persist-key."""
        self.check_reload_keeps_the_key(READY, signal.SIGUSR1)


if __name__ == "__main__":
    apps.main()
