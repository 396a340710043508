#!/usr/bin/python3
"""libcurl is not in a process that uses kmsenv until the first call to a KMS over the network, and
never with the local KMS."""
import subprocess
import time

import common
from common import OPENSSL, TEXT, KmsScenario, clean_environment, local_profile, tencent_profile


def mapped(pid, name):
    with open("/proc/%d/maps" % pid, encoding="utf-8") as maps:
        return any(name in line for line in maps)


class Maps(KmsScenario):
    def setUp(self):
        super().setUp()
        self.network = self.config({"prod": tencent_profile(self.kms)})
        self.local = self.local_config()

    def test_in_a_program(self):
        kmsenv = self.tool(self.network)
        self.assertTrue(mapped(kmsenv.pid, "kmsenv.so"))
        self.assertFalse(mapped(kmsenv.pid, "libcurl"))
        self.assertTrue(kmsenv.counters()["ok"])
        self.assertFalse(mapped(kmsenv.pid, "libcurl"))
        self.assertIsNotNone(kmsenv.seal([TEXT])[0], kmsenv.last)
        self.assertTrue(mapped(kmsenv.pid, "libcurl"), "the search must find it once it is there")

    def test_local_never(self):
        kmsenv = self.tool(self.local)
        message = kmsenv.seal([TEXT])[0]
        self.assertEqual(kmsenv.open([message]), [TEXT])
        self.assertTrue(kmsenv.ask("threads", 4, 10, 10)["ok"])
        self.assertTrue(mapped(kmsenv.pid, "kmsenv.so"))
        self.assertFalse(mapped(kmsenv.pid, "libcurl"))

    def test_a_network_profile_that_is_not_used(self):
        config = self.config({"near": local_profile(self.key_file), "far": tencent_profile(self.kms)})
        kmsenv = self.tool(config)
        message = kmsenv.seal([TEXT], profile="near")[0]
        self.assertIsNotNone(message, kmsenv.last)
        self.assertEqual(kmsenv.open([message]), [TEXT])
        self.assertFalse(mapped(kmsenv.pid, "libcurl"))
        self.assertEqual(self.kms.calls(), 0)

    def loaded_by(self, config, *arguments, data=b""):
        """Names of the libraries that `openssl` loads, from the dynamic linker's own report."""
        run = self.openssl(*arguments, config=config, data=data, environment={"LD_DEBUG": "files"})
        self.assertEqual(run.returncode, 0, run.stderr[-300:])
        return {line.split("file=")[1].split()[0] for line in run.stderr.decode(errors="replace").splitlines() if "file=" in line}

    def test_in_openssl(self):
        def has(names, part):
            return any(part in name for name in names)
        enc = ["enc", "-kms-envelope", "-K", "0"]
        self.assertTrue(has(self.loaded_by(self.network, *enc, data=TEXT), "libcurl"), "positive control")
        without = [["version"], ["list", "-providers"], ["list", "-cipher-algorithms"], ["dgst", "-sha256"], ["rand", "-hex", "4"]]
        for config, arguments in [*((self.network, words) for words in without), (self.local, enc)]:
            names = self.loaded_by(config, *arguments, data=TEXT)
            self.assertFalse(has(names, "libcurl"), arguments)
            if arguments != ["version"]:
                self.assertTrue(has(names, "kmsenv.so"), arguments)

    def test_while_openssl_waits_for_input(self):
        process = subprocess.Popen([OPENSSL, "enc", "-kms-envelope", "-K", "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, env=clean_environment(HOME=self.dir, OPENSSL_CONF=self.network))
        try:
            for _ in range(200):
                if mapped(process.pid, "kmsenv.so"):
                    break
                time.sleep(0.05)
            time.sleep(0.3)
            self.assertTrue(mapped(process.pid, "kmsenv.so"))
            self.assertFalse(mapped(process.pid, "libcurl"))
            out, _ = process.communicate(TEXT, timeout=30)
            self.assertEqual((process.returncode, self.kms.calls("GenerateDataKey")), (0, 1))
            self.assertGreater(len(out), len(TEXT))
        finally:
            process.kill()
            process.wait(10)


if __name__ == "__main__":
    common.main()
