#!/usr/bin/python3
"""stunnel: reads the keys as root, before chroot and setuid."""
import http.server
import signal
import threading

import apps
import process

MAIN = """foreground = yes
pid =
debug = info
"""
CHROOT = """chroot = %s
setuid = stunnel4
setgid = stunnel4
"""
SERVICE = """[at%d]
accept = 127.0.0.1:%d
connect = 127.0.0.1:%d
cert = %s
key = %s
"""


class Page(http.server.BaseHTTPRequestHandler):
    """The service behind it, without TLS."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(Stunnel.says.encode())

    def log_message(self, *_):
        pass


class Stunnel(apps.ServerCase):
    program = "/usr/bin/stunnel4"
    several = True
    http = True
    chroot = True
    root = True

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.behind = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
        thread = threading.Thread(target=cls.behind.serve_forever)
        thread.start()
        cls.addClassCleanup(cls.behind.server_close)
        cls.addClassCleanup(thread.join)
        cls.addClassCleanup(cls.behind.shutdown)

    def command(self, place):
        text = MAIN + (CHROOT % place.folder("chroot", "stunnel4") if self.chroot else "")
        for number, service in enumerate(place.services):
            text += SERVICE % (number, service.port, self.behind.server_port, service.cert, service.key)
        return [self.program, place.write("stunnel.conf", text)]

    def reload(self, place, running, text):
        """HUP; waits for a line of the log."""
        before = place.logs().count(text)
        running.signal(signal.SIGHUP)
        self.assertTrue(process.wait_until(lambda: running.process.poll() is not None or place.logs().count(text) > before, 20))
        self.assertIsNone(running.process.poll(), place.logs())

    def test_reload(self):
        """Without chroot, since in one it does not find its configuration."""
        self.chroot, self.settings = False, {"sealed-key-cache": 0}
        place = self.place("tencent", ["p256"])
        with self.start(place) as running:
            self.assert_serves(place)
            self.reload(place, running, "Configuration successful")
            self.assert_serves(place)
            self.assertEqual(self.unseals(), 2)
            self.kms.misbehave({"do": "denied"})
            self.reload(place, running, "KMS access denied")
            self.assert_serves(place)


if __name__ == "__main__":
    apps.main()
