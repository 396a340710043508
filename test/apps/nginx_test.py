#!/usr/bin/python3
"""nginx: the master reads the keys as root, once for every server block that names one."""
import os
import shutil
import signal

import apps
import pki
import process

BLOCKS = 20
MAIN = """user www-data;
worker_processes 1;
error_log %(log)s notice;
pid %(dir)s/nginx.pid;
events { worker_connections 64; }
http {
    access_log off;
    client_body_temp_path %(dir)s/body;
    proxy_temp_path %(dir)s/proxy;
    fastcgi_temp_path %(dir)s/fastcgi;
    uwsgi_temp_path %(dir)s/uwsgi;
    scgi_temp_path %(dir)s/scgi;
%(servers)s}
"""
SERVER = """    server {
        listen 127.0.0.1:%d ssl;
        server_name %s;
        ssl_certificate %s;
        ssl_certificate_key %s;
        %s
    }
"""
PROXY = """location / {
            proxy_pass https://127.0.0.1:%d;
            proxy_ssl_certificate %s;
            proxy_ssl_certificate_key %s;
        }"""


class Nginx(apps.ServerCase):
    program = "/usr/sbin/nginx"
    several = True
    http = True
    blocks = 1       # for each key
    map = ""
    locations = {}   # port: what its server block has besides

    def inside(self, service):
        return self.locations.get(service.port, 'location / { return 200 "%s"; }' % self.says)

    def config(self, place):
        servers = [SERVER % (service.port, name, service.cert, service.key, self.inside(service)) for service in place.services
                   for name in ["localhost", *("name%d.example" % n for n in range(1, self.blocks))]]
        return place.write("nginx.conf", MAIN % {"dir": place.dir, "log": place.path("error.log"), "servers": self.map + "".join(servers)})

    def words(self, place, *more):
        return [self.program, "-p", place.dir, "-e", place.path("error.log"), "-c", self.config(place), *more]

    def command(self, place):
        return self.words(place, "-g", "daemon off;")

    def reload(self, place, running, text):
        """HUP to one that has served, and so is ready for signals; waits for a line of the log."""
        before = place.logs().count(text)
        running.signal(signal.SIGHUP)
        self.assertTrue(process.wait_until(lambda: place.logs().count(text) > before, 20), place.logs())

    def test_twenty_server_blocks_are_one_call(self):
        self.blocks = BLOCKS
        place = self.place("tencent", ["rsa"])
        with self.start(place):
            self.assertEqual(self.unseals(), 1)
            for n in range(1, BLOCKS):
                self.handshake(place, place.services[0], "-servername", "name%d.example" % n)
            self.assertEqual(self.unseals(), 1)

    def test_twenty_keys_are_twenty_calls_on_one_connection(self):
        place = self.place("tencent", ["p256"] * BLOCKS)
        for service in place.services:     # the same key inside, but each sealed by itself
            self._sealed.clear()
            place.write(os.path.basename(service.key), self.sealed_key("p256", "tencent"), 0o600)
        self.kms.reset()
        with self.start(place):
            self.handshake(place, place.services[0])
            self.handshake(place, place.services[-1])
        self.assertEqual((self.unseals(), self.kms.handshakes()), (BLOCKS, 1))

    def test_check_of_the_configuration_before_the_start(self):
        """As the unit of systemd has it: two processes, two calls."""
        place = self.place("tencent", ["p256"])
        check = self.run_in(place, self.words(place, "-t"))
        self.assertEqual(check.ended(20), 0, place.logs())
        self.assertEqual(self.unseals(), 1)
        with self.start(place):
            self.assert_serves(place)
        self.assertEqual(self.unseals(), 2)

    def test_reload(self):
        place = self.place("tencent", ["p256"])
        with self.start(place) as running:
            self.assert_serves(place)
            self.reload(place, running, "start worker process ")
            self.assert_serves(place)
            self.assertEqual(self.unseals(), 1)      # within sealed-key-cache

    def test_reload_without_kms(self):
        """The configuration that cannot be loaded changes nothing; nor does the wait for it."""
        self.settings, self.patience = {"sealed-key-cache": 0}, apps.KMS_TIMEOUT
        place = self.place("tencent", ["p256"])
        with self.start(place) as running:
            self.assert_serves(place)
            self.kms.misbehave({"do": "hang", "ms": 2000 * apps.KMS_TIMEOUT})
            running.signal(signal.SIGHUP)
            self.assertTrue(process.wait_until(lambda: self.unseals() > 1, 20))
            self.assert_serves(place)
            self.assertNotIn("[emerg]", place.logs())
            self.assertTrue(process.wait_until(lambda: "[emerg]" in place.logs(), 20))
            self.assertIn("KMS unreachable", place.logs())
            self.assert_serves(place)
            self.kms.reset()
            self.reload(place, running, "start worker process ")
            self.assert_serves(place)
            self.assertEqual(self.unseals(), 1)      # since the reset

    def test_daemon(self):
        """As Debian's unit has it: the keys are read, then it forks."""
        self.settings = {"sealed-key-cache": 0}
        place = self.place("tencent", ["p256"])
        self.assertEqual(self.run_in(place, self.words(place), daemon=True).ended(20), 0, place.logs())
        self.assert_serves(place)
        self.assertEqual(self.unseals(), 1)
        with open(place.path("nginx.pid"), encoding="ascii") as source:
            os.kill(int(source.read()), signal.SIGHUP)
        self.assertTrue(process.wait_until(lambda: place.logs().count("start worker process ") > 1, 20), place.logs())
        self.assert_serves(place)
        self.assertEqual((self.unseals(), place.unsealed()), (2, 2))

    def test_key_to_sign_in_with_as_a_proxy(self):
        self.role = pki.CLIENT
        client = self.place("tencent", ["ed25519"]).services[0]
        self.role = pki.SERVER
        place = self.place("tencent", ["p256", "p256"])
        front, behind = place.services
        self.locations = {front.port: PROXY % (behind.port, client.cert, client.key), behind.port: "ssl_verify_client on; "
                          "ssl_client_certificate %s; %s" % (place.ca, self.inside(behind))}
        with self.start(place):
            self.get(place, front)
            with self.assertRaises(AssertionError):      # who does not sign in
                self.get(place, behind)
        self.assertEqual(self.unseals(), 2)

    def test_ordinary_keys_need_no_kms(self):
        place = self.down_place("never answers")
        with open(self.pki.pair("p256")[1], encoding="ascii") as source:
            place.write("key0.pem", source.read(), 0o600)
        with self.start(place):
            self.assert_serves(place)
        self.assertFalse(os.path.exists(place.path("audit.json")))

    def test_key_named_by_a_variable(self):
        """Then the workers read it, in every handshake."""
        self.root = True
        self.require_privileges()
        place = self.place("tencent", ["p256"])
        service, = place.services
        for path in (service.key, *(place.path("kms-" + name) for name in ("secret_id", "secret_key"))):
            shutil.chown(path, "www-data")
        place.write("audit.json", "", 0o666)
        service.key = "$key"
        self.map = "    map $ssl_server_name $key { default %s; }\n" % place.path("key0.pem")
        with self.start(place):
            self.assertEqual(self.unseals(), 0)
            for _ in range(5):
                self.assert_serves(place)
            self.assertEqual((self.unseals(), place.unsealed()), (1, 1))
            self.kms.misbehave({"do": "denied"})
            self.assert_serves(place)          # within sealed-key-cache


if __name__ == "__main__":
    apps.main()
