#!/usr/bin/python3
"""PostgreSQL: the postmaster reads the key, as user postgres, at its start and at each reload."""
import os
import shutil
import subprocess

import apps
import common
import pki
import process

VERSION = "15"
BIN = "/usr/lib/postgresql/%s/bin/" % VERSION
RELOAD = "received SIGHUP"
SETTINGS = """listen_addresses = '127.0.0.1'
port = %d
unix_socket_directories = '%s'
ssl = on
ssl_cert_file = '%s'
ssl_key_file = '%s'
shared_buffers = 400kB
max_connections = 5
max_wal_senders = 0
max_worker_processes = 0
max_parallel_workers = 0
wal_level = minimal
dynamic_shared_memory_type = mmap
fsync = off
full_page_writes = off
autovacuum = off
"""


class PostgreSQL(apps.ServerCase):
    program = BIN + "postgres"
    user = "postgres"
    starttls = "postgres"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if not process.is_privileged():
            return     # nor do the tests run then
        cls.cluster = os.path.join(cls.base, "cluster")
        os.mkdir(cls.cluster)
        process.give(cls.cluster, cls.user)
        subprocess.run(["setpriv", "--reuid", cls.user, "--regid", cls.user, "--init-groups", BIN + "initdb", "-D", cls.cluster, "--no-sync",
                        "--no-locale", "--encoding=UTF8", "--auth=trust", "--wal-segsize=1", "--no-instructions"],
                       cwd=cls.base, env=common.clean_environment(), stdout=subprocess.DEVNULL, timeout=120, check=True)

    def data(self, place):
        """A copy of the empty cluster."""
        data = shutil.copytree(self.cluster, place.path("data"))
        os.chmod(data, 0o700)
        return data

    def settings_text(self, place):
        service, = place.services
        return SETTINGS % (service.port, place.dir, service.cert, service.key)

    def command(self, place):
        data = self.data(place)
        place.write("data/postgresql.conf", self.settings_text(place))
        return [self.program, "-D", data]

    def assert_serves(self, place):
        super().assert_serves(place)
        service, = place.services
        target = "host=%s hostaddr=127.0.0.1 port=%d user=postgres sslmode=verify-full sslrootcert=%s" % (pki.NAME, service.port, place.ca)
        run = subprocess.run([BIN + "psql", "-XAtc", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", target], capture_output=True,
                             text=True, timeout=30, env=common.clean_environment(OPENSSL_CONF="/dev/null"))
        self.assertEqual((run.returncode, run.stdout, run.stderr), (0, "t\n", ""), place.logs())

    def assert_down(self, place, running):
        super().assert_down(place, running)
        self.assertIn("FATAL:  could not load private key file", place.logs())

    def reload(self, place, running, text=RELOAD):
        """The postmaster takes no connection before it has done it all."""
        super().reload(place, running, text)

    def debian_command(self, place, variables):
        """As the unit of a cluster does it, but for the folder of its configuration."""
        place.folder("etc/%s/main" % VERSION)
        data = self.data(place)
        more = "data_directory = '%s'\nhba_file = '%s/pg_hba.conf'\nident_file = '%s/pg_ident.conf'\nexternal_pid_file = ''\n" % (data, data, data)
        place.write("etc/%s/main/postgresql.conf" % VERSION, self.settings_text(place) + more)
        place.write("etc/%s/main/environment" % VERSION, variables)
        self.environment = {"PG_CLUSTER_CONF_ROOT": place.path("etc")}
        return ["/usr/bin/pg_ctlcluster", "--foreground", VERSION, "main", "start"]

    def test_variable_of_debian_s_cluster(self):
        """pg_ctlcluster keeps no variables but those in the cluster's file `environment`."""
        place = self.place("local", ["p256"])
        with self.run_in(place, self.debian_command(place, "OPENSSL_CONF = '%s'\n" % place.conf)) as running:
            self.assertTrue(running.listens(place.services[0].port), place.logs())
            self.assert_serves(place)
        without = self.place("local", ["p256"])
        self.assert_down(without, self.run_in(without, self.debian_command(without, "")))
        self.assertEqual((place.unsealed(), without.unsealed()), (1, 0))

    def test_reload(self):
        """Another certificate and key, and the first ones again: these are within sealed-key-cache."""
        place = self.place("tencent", ["p256", "ed25519", "p256"])
        service, *others = place.services
        place.services = [service]
        with self.start(place) as running:
            self.assert_serves(place)
            for other in others:
                service.become(other)
                self.reload(place, running)
                self.assert_serves(place)
                self.assertEqual(self.unseals(), 2)

    def test_reload_without_kms(self):
        self.check_reload_without_kms("SSL configuration was not reloaded", RELOAD)


if __name__ == "__main__":
    apps.main()
