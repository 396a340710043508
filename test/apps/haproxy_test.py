#!/usr/bin/python3
"""HAProxy, in master-worker mode as Debian's unit has it: the keys are read by root, before chroot. A reload is a new
process image, which asks the KMS again."""
import signal

import apps
import pki
import process

MAIN = """global
    user haproxy
    group haproxy
    chroot %s
    maxconn 100
    log stdout format raw local0 notice
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
"""
FRONTEND = """frontend at%d
    bind 127.0.0.1:%d ssl crt %s
    http-request return status 200 content-type text/plain string "%s"
"""


class HAProxy(apps.ServerCase):
    program = "/usr/sbin/haproxy"
    http = True
    tells = False

    def groups(self):
        """In one process each key as its file can be: after the certificate, before it, in a file of its own."""
        return [tuple(pki.TYPES) * 3]

    def crt(self, place, number, service):
        form = number // len(pki.TYPES)
        if form < 2:
            return place.write("bundle%d.pem" % number, service.bundle(key_first=form == 1), 0o600)
        with open(service.key, encoding="ascii") as source:
            place.write("cert%d.pem.key" % number, source.read(), 0o600)
        return service.cert

    def words(self, place, *more):
        text = MAIN % place.folder("chroot")
        for number, service in enumerate(place.services):
            text += FRONTEND % (number, service.port, self.crt(place, number, service), self.says)
        return [self.program, *more, "-f", place.write("haproxy.cfg", text)]

    def command(self, place):
        return self.words(place, "-W", "-db")

    def test_check_of_the_configuration(self):
        place = self.place("tencent", ["p256"])
        check = self.run_in(place, self.words(place, "-c"))
        self.assertEqual(check.ended(20), 0, place.logs())
        self.assertEqual(self.unseals(), 1)

    def reload(self, place, running, text):
        """USR2; waits for a line of the log."""
        before = place.logs().count(text)
        running.signal(signal.SIGUSR2)
        self.assertTrue(process.wait_until(lambda: running.process.poll() is not None or place.logs().count(text) > before, 20),
                        place.logs())
        self.assertIsNone(running.process.poll(), place.logs())

    def test_reload(self):
        place = self.place("tencent", ["p256"])
        with self.start(place) as running:
            self.reload(place, running, "Loading success")
            self.assert_serves(place)
            self.assertEqual(self.unseals(), 2)
            self.kms.misbehave({"do": "denied"})
            self.reload(place, running, "Loading failure")
            self.assert_serves(place)      # the old worker


if __name__ == "__main__":
    apps.main()
