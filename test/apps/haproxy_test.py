#!/usr/bin/python3
"""HAProxy, in master-worker mode as Debian's unit has it: the keys are read by root, before chroot. A reload is a new
process image, which asks the KMS again."""
import signal
import socket

import apps
import pki
import process

MAIN = """global
    user haproxy
    group haproxy
    chroot %s
    maxconn 100
    log stdout format raw local0 notice
%sdefaults
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
    api = ""
    root = True

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
        text = MAIN % (place.folder("chroot"), self.api)
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
        """USR2, once more if the master was not ready for signals yet; waits for a line of the log."""
        def has(words):
            return place.logs().count(words) > counted[words]
        counted = {words: place.logs().count(words) for words in (text, "Reloading HAProxy")}
        for _ in range(5):
            running.signal(signal.SIGUSR2)
            if process.wait_until(lambda: has("Reloading HAProxy"), 3):
                break
        self.assertTrue(process.wait_until(lambda: running.process.poll() is not None or has(text), 20), place.logs())
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

    def tell(self, place, text):
        """The answer of the runtime API."""
        with socket.socket(socket.AF_UNIX) as api:
            api.settimeout(20)
            api.connect(place.path("api"))
            api.sendall(text.encode() + b"\n")
            return b"".join(iter(lambda: api.recv(4096), b"")).decode()

    def update(self, place):
        service, = place.services
        name = place.path("bundle0.pem")
        self.tell(place, "abort ssl cert " + name)
        answer = self.tell(place, "set ssl cert %s <<\n%s" % (name, service.bundle()))
        return answer + self.tell(place, "commit ssl cert " + name)

    def test_runtime_update(self):
        """It is read in the chroot, where nothing of a KMS is to be found: with a data key that is remembered, or not at all."""
        for kind in apps.KINDS:
            for cache, words in ((60, "Success!"), (0, "Can't commit")):
                with self.subTest(kms=kind, cache=cache):
                    self.settings = {"sealed-key-cache": cache}
                    place = self.place(kind, ["p256"])
                    self.api = "    stats socket %s mode 600 level admin\n" % place.path("api")
                    with self.start(place) as running:
                        answer = self.update(place)
                        self.assertIn(words, answer)
                        self.assert_serves(place)
                        self.assertIsNone(running.process.poll())


if __name__ == "__main__":
    apps.main()
