#!/usr/bin/python3
"""What the tests of programs rely on: that a prompt is seen, a key in plain found, a program that is not its package's
told apart, and nothing left running."""
import os
import sys

import apps
import process

DAEMON = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(600)\nprint('forked', flush=True)\ntime.sleep(600)"


class Base(apps.AppCase):
    program = "/usr/bin/openssl"

    def test_a_prompt_is_seen(self):
        place = self.place("local", ["p256"])
        encrypted = self.openssl("pkcs8", "-topk8", "-in", self.pki.pair("p256")[1], "-passout", "pass:a test", config="/dev/null").stdout
        place.write("key0.pem", encrypted)
        running = self.run_in(place, [self.program, "pkey", "-in", place.services[0].key, "-noout"])
        self.assertTrue(process.wait_until(lambda: "pass phrase" in running.prompt(), 20), running.output())
        self.assertIsNone(running.ended(0))
        self.assertIn(running.pid, process.processes())
        running.stop()
        self.assertNotIn(running.pid, process.processes())

    def test_a_key_in_plain_is_found(self):
        place = self.place("local", ["rsa", "p256", "ed25519"])
        self.assert_no_trace(place)
        for kind in ("rsa", "p256", "ed25519"):
            key = self.pki.pair(kind)[1]
            der = self.openssl("pkcs8", "-topk8", "-nocrypt", "-in", key, "-outform", "DER", config="/dev/null").stdout
            with open(key, "rb") as source:
                forms = {"PEM": source.read(), "DER": b"before" + der + b"after", "text": der.hex().encode()}
            for form, data in forms.items():
                with self.subTest(key=kind, form=form):
                    place.write("dump", data)
                    with self.assertRaises(AssertionError):
                        self.assert_no_trace(place)
            os.unlink(place.path("dump"))

    def test_a_program_of_no_package(self):
        self.program = os.path.join(self.dir, "openssl")
        os.symlink(process.__file__, self.program)
        with self.assertRaises(AssertionError):
            self.assert_from_package()

    def test_nothing_is_left(self):
        place = self.place("local", ["p256"])
        before = process.descendants(os.getpid())
        running = self.run_in(place, [sys.executable, "-c", DAEMON])
        self.assertTrue(process.wait_until(lambda: "forked" in running.output(), 20))
        self.assertTrue(process.wait_until(lambda: len(process.descendants(os.getpid()) - before) >= 2, 20))
        process.kill_orphans(before)
        self.assertEqual(process.descendants(os.getpid()), before)

    def test_other_files_in_place_of_the_systems(self):
        self.system = True
        self.require_privileges()
        place = self.place("local", ["p256"])
        running = self.run_in(place, ["/usr/bin/cat", "/etc/ssl/openssl.cnf"])
        self.assertEqual(running.ended(20), 0, running.output())
        self.assertIn("[kmsenv_sect]", running.output())
        with open("/etc/ssl/openssl.cnf", encoding="utf-8") as system:
            self.assertNotIn("[kmsenv_sect]", system.read())

    def test_another_user_reads_a_sealed_key(self):
        self.user = "www-data"
        self.require_privileges()
        place = self.place("tencent", ["p256"])
        running = self.run_in(place, ["/bin/sh", "-c", "id -un; exec openssl pkey -in %s -noout" % place.services[0].key])
        self.assertEqual((running.ended(20), running.output()), (0, "www-data\n"))
        self.assertEqual((self.unseals(), place.unsealed()), (1, 1))


if __name__ == "__main__":
    apps.main()
