#!/usr/bin/python3
"""Postfix: each smtpd process reads the key, as root, before its chroot. The master gives its processes only those variables
that import_environment names. Without its key Postfix starts all the same, and has no TLS."""
import os
import smtplib
import subprocess

import apps
import process

MAIN = """compatibility_level = 3.6
queue_directory = %(dir)s/spool
data_directory = %(dir)s/data
maillog_file = %(dir)s/mail.log
maillog_file_prefixes = %(dir)s
myhostname = localhost.example
mydestination =
alias_maps =
local_recipient_maps =
inet_protocols = ipv4
inet_interfaces = 127.0.0.1
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_tls_security_level = %(level)s
notify_classes =
smtpd_tls_loglevel = 1
"""
SERVICES = """postlog unix-dgram n - n - 1 postlogd
tlsmgr unix - - y 1000? 1 tlsmgr
"""
SMTPD = """127.0.0.1:%d inet n - y - %d smtpd
"""
FOLDERS = {"etc": None, "data": "postfix", "spool": None, "spool/pid": None, "spool/private": "postfix", "spool/public": "postfix"}
KEY = """    -o smtpd_tls_cert_file=%s
    -o smtpd_tls_key_file=%s
"""
CHAIN = "    -o smtpd_tls_chain_files=%s\n"


class Postfix(apps.ServerCase):
    program = "/usr/sbin/postfix"
    several = True
    root = True
    starttls = "smtp"
    level = "may"
    imports = "OPENSSL_CONF"
    processes = 1          # smtpd

    def key_settings(self, service):
        return KEY % (service.cert, service.key)

    def import_setting(self):
        """To what Postfix imports in any case it adds our variable."""
        default = subprocess.run(["/usr/sbin/postconf", "-hd", "import_environment"], capture_output=True, text=True, timeout=20, check=True)
        return "import_environment = %s %s\n" % (default.stdout.strip(), self.imports)

    def command(self, place):
        for name, owner in FOLDERS.items():
            place.folder(name, owner)
        place.write("etc/main.cf", MAIN % {"dir": place.dir, "level": self.level} + self.import_setting())
        place.write("etc/master.cf", SERVICES + "".join(SMTPD % (service.port, self.processes) + self.key_settings(service)
                                                    for service in place.services))
        os.utime(place.path("etc/main.cf"), (0, 0))     # Postfix waits until nobody can still be writing it
        return [self.program, "-c", place.path("etc"), "start-fg"]

    def assert_logs(self, place, text):
        self.assertTrue(process.wait_until(lambda: text in place.logs(), 20), place.logs())

    def client(self, place):
        client = smtplib.SMTP("127.0.0.1", place.services[0].port, timeout=apps.TO_END)
        self.assertEqual(client.ehlo()[0], 250)
        return client

    def assert_down(self, place, running):
        """It does start, and has no TLS, although it says STARTTLS."""
        self.assertTrue(running.listens(place.services[0].port), place.logs())
        with self.client(place) as client:
            answer = client.docmd("STARTTLS")
        self.assertEqual(answer, (454, b"4.7.0 TLS not available due to local problem"), place.logs())
        self.assert_logs(place, "disabling TLS support")
        self.assertIsNone(running.ended(0))

    def test_where_tls_is_a_must_there_is_no_mail_without_the_key(self):
        self.level = "encrypt"
        place = self.down_place("denies")
        with self.run_in(place, self.command(place)) as running:
            self.assert_down(place, running)
            with self.client(place) as client:
                self.assertEqual(client.mail("somebody@localhost.example"), (530, b"5.7.0 Must issue a STARTTLS command first"))

    def test_each_process_reads_the_key(self):
        self.processes = 2
        place = self.place("tencent", ["p256"])
        with self.start(place):
            with self.client(place):
                self.assert_serves(place)     # the second
                self.assertEqual(self.unseals(), 2)
            self.assert_serves(place)
            self.assertEqual(self.unseals(), 2)

    def test_variable_that_is_not_imported(self):
        self.imports = ""
        place = self.place("local", ["p256"])
        with self.run_in(place, self.command(place)) as running:
            self.assert_down(place, running)
            self.assertEqual(place.unsealed(), 0)

    def test_chain_files_are_not_supported(self):
        """Postfix takes them apart itself, and knows no such PEM."""
        self.key_settings = lambda service: CHAIN % place.write("chain.pem", service.bundle(key_first=True), 0o600)
        place = self.place("local", ["p256"])
        with self.run_in(place, self.command(place)) as running:
            self.assert_down(place, running)
            self.assert_logs(place, "ignoring PEM type: KMS SEALED KEY")
            self.assertEqual(place.unsealed(), 0)


if __name__ == "__main__":
    apps.main()
