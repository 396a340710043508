#!/usr/bin/python3
"""Mosquitto: reads the keys as root before it becomes user mosquitto, and at a HUP again as that user."""
import os

import apps
import process

MAIN = """user mosquitto
allow_anonymous true
persistence false
log_dest stderr
log_type all
"""
LISTENER = """listener %d 127.0.0.1
certfile %s
keyfile %s
"""
CONNECT = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01k"     # version 3.1.1, clean session, client identifier k
CONNACK = b"\x20\x02\x00\x00"
RELOAD, FAILED = "Reloading config.", "Error: Unable to load server key file"


class Mosquitto(apps.ServerCase):
    program = "/usr/sbin/mosquitto"
    several = True
    root = True

    def command(self, place):
        text = MAIN + "".join(LISTENER % (service.port, service.cert, service.key) for service in place.services)
        config = place.write("mosquitto.conf", text)
        process.give(place.dir, "mosquitto")
        return [self.program, "-c", config]

    def assert_serves(self, place):
        super().assert_serves(place)
        for service in place.services:
            with self.connect(place, service) as connection:
                connection.sendall(CONNECT)
                self.assertEqual(connection.recv(4), CONNACK)

    def reload(self, place, running, text=RELOAD):
        """It takes no connection before it has done it all."""
        super().reload(place, running, text)

    def test_reload(self):
        """With another certificate and key, which user mosquitto may read; then only root may."""
        place = self.place("tencent", ["p256", "ed25519"])
        service, second = place.services
        place.services = [service]
        with self.start(place) as running:
            self.assert_serves(place)
            service.become(second)
            self.reload(place, running)
            self.handshake(place, service, "-sigalgs", "ed25519")     # it has not forgotten the certificate of the other type
            os.chown(service.key, 0, 0)
            self.reload(place, running, FAILED)
            self.assertIn("Permission denied", place.logs())
            self.handshake(place, service, "-sigalgs", "ed25519")
            self.assertEqual(self.unseals(), 2)

    def test_reload_without_kms(self):
        self.check_reload_without_kms(FAILED, RELOAD)


if __name__ == "__main__":
    apps.main()
