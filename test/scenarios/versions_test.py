#!/usr/bin/python3
"""Every program that the tests run uses the OpenSSL that they are to run with (test/run --openssl), and no other. (The
provider in a process: openssl_version_test.c.)"""
import glob
import os
import re
import subprocess

import common

VERSION = os.environ["KMSENV_TEST_OPENSSL_VERSION"]
LIBCRYPTO = os.path.realpath(os.environ["KMSENV_TEST_LIBCRYPTO"])
HARNESS = os.environ["KMSENV_TEST_HARNESS"]
CLI = os.environ["KMSENV_TEST_CLI"]


class Versions(common.Scenario):
    def said(self, *command):
        return subprocess.run(command, capture_output=True, timeout=60, check=True, env=common.clean_environment()).stdout.decode()

    def test_commands(self):
        said = self.said(common.OPENSSL, "version")
        self.assertEqual(re.findall(r"OpenSSL (\S+) ", said), [VERSION, VERSION], said)    # the command's, and its library's
        self.assertIn("(OpenSSL %s " % VERSION, self.said(CLI, "--version"))

    def test_programs(self):
        """As the dynamic linker resolves them."""
        built = glob.glob(os.path.join(common.BUILD, "test", "*_test")) + glob.glob(os.path.join(common.BUILD, "test", "*_tool"))
        harness = [os.path.join(HARNESS, "build", "test", name) for name in ("evp_test", "evp_skey_test")]
        programs = [CLI, *built, *filter(os.path.exists, harness)]
        self.assertGreater(len(programs), 30)
        for program in programs:
            with self.subTest(program):
                found = [path for path in common.libraries(program) if "/libcrypto" in path]
                self.assertEqual([os.path.realpath(path) for path in found], [LIBCRYPTO])

    def test_in_a_process(self):
        """The command with the provider in it."""
        process = subprocess.Popen([common.OPENSSL, "enc", "-kms-envelope", "-K", "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, env=common.clean_environment(HOME=self.dir, OPENSSL_CONF=self.local_config()))
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        process.stdin.write(b"x" * 100000)
        process.stdin.flush()
        self.assertTrue(process.stdout.read(1))
        with open("/proc/%d/maps" % process.pid, encoding="utf-8") as maps:
            names = set(re.findall(r"(/\S*/(?:libcrypto|kmsenv)\S*)$", maps.read(), re.M))
        self.assertEqual(names, {LIBCRYPTO, os.path.realpath(common.MODULE)})


if __name__ == "__main__":
    common.main()
