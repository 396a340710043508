#!/usr/bin/python3
"""stunnel: reads the keys as root, before chroot and setuid."""
import http.server
import threading

import apps

MAIN = """foreground = yes
pid =
debug = info
chroot = %s
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
        text = MAIN % place.folder("chroot", "stunnel4")
        for number, service in enumerate(place.services):
            text += SERVICE % (number, service.port, self.behind.server_port, service.cert, service.key)
        return [self.program, place.write("stunnel.conf", text)]


if __name__ == "__main__":
    apps.main()
