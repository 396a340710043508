#!/usr/bin/python3
"""Apache: it reads its configuration twice when it starts, the keys with it."""
import signal

import apps
import process

MODULES = "mpm_event authz_core alias ssl"
MAIN = """ServerRoot %(dir)s
DefaultRuntimeDir %(dir)s
PidFile %(dir)s/httpd.pid
ErrorLog %(dir)s/error.log
LogLevel notice
ServerName localhost
User www-data
Group www-data
%(modules)s
DocumentRoot %(www)s
Alias / %(www)s/page
%(servers)s
"""
SERVER = """Listen 127.0.0.1:%d
<VirtualHost 127.0.0.1:%d>
    SSLEngine on
    SSLCertificateFile %s
    SSLCertificateKeyFile %s
%s</VirtualHost>
"""


class Apache(apps.ServerCase):
    program = "/usr/sbin/apache2"
    several = True
    http = True
    tells = False
    more = ""       # for each virtual host

    def words(self, place, *more):
        servers = [SERVER % (service.port, service.port, service.cert, service.key, self.more) for service in place.services]
        modules = ["LoadModule %s_module /usr/lib/apache2/modules/mod_%s.so" % (name, name) for name in MODULES.split()]
        www = place.folder("www")
        place.write("www/page", self.says)
        config = place.write("apache.conf", MAIN % {"dir": place.dir, "www": www, "modules": "\n".join(modules), "servers": "".join(servers)})
        return [self.program, "-f", config, *more]

    def command(self, place):
        return self.words(place, "-D", "FOREGROUND")

    def test_daemon(self):
        """As Debian's unit has it: it forks between the first time that it reads the keys and the second."""
        place = self.place("tencent", ["p256"])
        self.assertEqual(self.run_in(place, self.words(place, "-k", "start"), daemon=True).ended(20), 0, place.logs())
        self.assertTrue(process.wait_until(lambda: process.is_listening(place.services[0].port), 20), place.logs())
        self.assert_serves(place)
        self.assertEqual((self.unseals(), place.unsealed()), (1, 1))

    def test_key_to_sign_in_with_as_a_proxy(self):
        """SSLProxyMachineCertificateFile is read by labels, ours not among them: Apache warns and goes on without."""
        place = self.place("tencent", ["p256"])
        bundle = place.write("client.pem", place.services[0].bundle(), 0o600)
        self.more = "    SSLProxyEngine on\n    SSLProxyMachineCertificateFile %s\n" % bundle
        with self.start(place):
            self.assert_serves(place)
        self.assertIn("no client certs found for SSL proxy", place.logs())
        self.assertEqual(self.unseals(), 1)

    def test_check_of_the_configuration(self):
        """-t alone does not load keys: a key that cannot be had is seen at the start only."""
        place = self.place("tencent", ["p256"])
        check = self.run_in(place, self.words(place, "-t"))
        self.assertEqual(check.ended(20), 0, place.logs())
        self.assertEqual(self.unseals(), 0)

    def graceful(self, place, running):
        before = place.logs().count("resuming normal operations")
        running.signal(signal.SIGUSR1)
        self.assertTrue(process.wait_until(lambda: running.process.poll() is not None
                                           or place.logs().count("resuming normal operations") > before, 20), place.logs())

    def test_graceful_restart(self):
        place = self.place("tencent", ["p256"])
        with self.start(place) as running:
            self.assert_serves(place)
            self.graceful(place, running)
            self.assert_serves(place)
            self.assertEqual(self.unseals(), 1)      # within sealed-key-cache

    def test_graceful_restart_without_kms(self):
        """Without a remembered data key: two calls for a start; and a restart that cannot read a key is Apache's end, whatever the key."""
        self.settings = {"sealed-key-cache": 0}
        place = self.place("tencent", ["p256"])
        with self.start(place) as running:
            self.assert_serves(place)
            self.assertEqual(self.unseals(), 2)
            self.kms.misbehave({"do": "denied"})
            running.signal(signal.SIGUSR1)
            self.assertNotIn(running.ended(20), (None, 0), place.logs())


if __name__ == "__main__":
    apps.main()
