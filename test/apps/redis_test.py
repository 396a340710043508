#!/usr/bin/python3
"""Redis: as user redis from the beginning; a key can be changed while it runs."""
import subprocess

import apps
import common
import process


class Redis(apps.ServerCase):
    program = "/usr/bin/redis-server"
    user = "redis"

    def command(self, place):
        service, = place.services
        settings = {"bind": "127.0.0.1", "port": "0", "tls-port": service.port, "tls-cert-file": service.cert, "tls-key-file": service.key,
                    "tls-ca-cert-file": place.ca, "tls-auth-clients": "no", "dir": place.dir, "appendonly": "no"}
        config = place.write("redis.conf", 'save ""\n' + "".join("%s %s\n" % setting for setting in settings.items()))
        return [self.program, config]

    def ask(self, place, *words):
        """What it answers to a command of redis-cli, without kmsenv."""
        run = subprocess.run(["/usr/bin/redis-cli", "-h", "127.0.0.1", "-p", str(place.services[0].port), "--tls", "--cacert", place.ca, *words],
                             capture_output=True, text=True, timeout=30, env=common.clean_environment(OPENSSL_CONF="/dev/null"))
        self.assertEqual((run.returncode, run.stderr), (0, ""), place.logs())
        return run.stdout.strip()

    def set_key(self, place, service):
        return self.ask(place, "CONFIG", "SET", "tls-cert-file", service.cert, "tls-key-file", service.key)

    def test_another_key_while_it_runs(self):
        self.settings = {"negative-cache": 0}
        place = self.place("tencent", ["p256", "ed25519"])
        first, second = place.services
        second.port = first.port
        place.services = [first]
        with self.start(place):
            self.assertEqual(self.ask(place, "PING"), "PONG")
            self.kms.misbehave({"do": "denied"})
            self.assertIn("Unable to update TLS configuration", self.set_key(place, second))
            self.assertIn("KMS access denied", place.logs())
            self.assert_serves(place)       # with the key of before
            self.kms.reset()
            # The failure is remembered for a moment.
            self.assertTrue(process.wait_until(lambda: self.set_key(place, second) == "OK", 20), place.logs())
            self.handshake(place, second)
            self.assertEqual(self.set_key(place, first), "OK")
            self.assert_serves(place)
            self.assertEqual(self.unseals(), 1)      # since the reset: the first key was within sealed-key-cache


if __name__ == "__main__":
    apps.main()
