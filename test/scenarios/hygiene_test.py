#!/usr/bin/python3
"""The data key in memory: where it must be while in use, and nowhere when it is not. Searches every
readable page of a living process and a core file of it, for the raw key, its base64 (as the KMS
sends it) and its hexadecimal form; each search is first shown to find what is there."""
import base64
import os
import re
import subprocess

import common
from common import TEXT, KmsScenario, reader, tencent_profile

from client import Client

PIECE = 1 << 24


def regions(pid):
    """(start, end) of readable mappings."""
    with open("/proc/%d/maps" % pid, encoding="utf-8") as maps:
        for line in maps:
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)", line)
            if match.group(3).startswith("r") and match.group(4) not in ("[vvar]", "[vsyscall]"):
                yield int(match.group(1), 16), int(match.group(2), 16)


def search_memory(pid, needles):
    """{name of needle: [addresses]} in all readable memory of a process."""
    found = {name: [] for name in needles}
    with open("/proc/%d/mem" % pid, "rb", buffering=0) as memory:
        for start, end in regions(pid):
            at = start
            while at < end:
                try:
                    data = os.pread(memory.fileno(), min(PIECE, end - at) + 128, at)
                except OSError:
                    data = b""
                for name, needle in needles.items():
                    place = data.find(needle)
                    while place >= 0:
                        found[name].append(at + place)
                        place = data.find(needle, place + 1)
                at += PIECE
    return {name: sorted(set(places)) for name, places in found.items()}


def search_file(path, needles):
    with open(path, "rb") as source:
        data = source.read()
    return {name: data.count(needle) for name, needle in needles.items()}


class Hygiene(KmsScenario):
    def setUp(self):
        super().setUp()
        self.configuration = self.config({"prod": tencent_profile(self.kms, secret_key="env:THE_SECRET")})
        self.environment = {"THE_SECRET": self.kms.secret_key}

    def running(self):
        return self.tool(self.configuration, environment=self.environment)

    def needles(self, message):
        """The forms of a message's data key, learned from the KMS."""
        client = Client(self.kms)
        data_key = reader.Header.parse(message).data_key
        dek = client.dek_of(data_key.wraps[0].ciphertext)
        client.close()
        self.assertEqual(reader.data_key_id(dek), data_key.id)
        encoded = base64.b64encode(dek)
        key, _ = reader.derive(dek, None, reader.Header.parse(message).cipher, 35, reader.Header.parse(message).salt)
        # the last characters of base64 carry few bits; the middle is enough and also found in cut copies
        return {"raw": dek, "half": dek[8:24], "base64": encoded[4:40], "hex": dek.hex().encode(),
                "content key": key}

    def marker(self, message):
        """Something that is not secret and must be found: the key's id."""
        return {"marker": reader.Header.parse(message).data_key.id}

    def core(self, pid):
        path = os.path.join(self.dir, "core")
        run = subprocess.run(["gcore", "-o", path, str(pid)], capture_output=True, timeout=120)
        path += ".%d" % pid
        self.assertTrue(os.path.exists(path), run.stderr)
        return path

    def check_in_use(self, kmsenv, message):
        needles = self.needles(message)
        found = search_memory(kmsenv.pid, {**needles, **self.marker(message)})
        self.assertTrue(found["marker"], "the search finds nothing at all")
        self.assertTrue(found["raw"], "a cached key must be in memory somewhere, or the search is broken")
        self.assertEqual((found["base64"], found["hex"]), ([], []), "only the raw key may be there, and only in secret memory")
        flags = self.flags_of(kmsenv.pid, found["raw"] + found["half"])
        self.assertTrue(all("dd" in f for f in flags.values()), "not in no-dump memory: %s" % flags)
        core = self.core(kmsenv.pid)
        counts = search_file(core, {**needles, **self.marker(message)})
        os.unlink(core)
        self.assertGreater(counts.pop("marker"), 0, "the core file holds nothing")
        self.assertEqual(set(counts.values()), {0}, counts)

    @staticmethod
    def flags_of(pid, addresses):
        """VmFlags of the mappings that hold these addresses."""
        flags, current = {}, []
        with open("/proc/%d/smaps" % pid, encoding="utf-8") as smaps:
            for line in smaps:
                match = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
                if match:
                    start, end = int(match.group(1), 16), int(match.group(2), 16)
                    current = [a for a in addresses if start <= a < end]
                elif line.startswith("VmFlags:"):
                    flags.update({hex(a): line.split()[1:] for a in current})
        return flags

    def check_gone(self, kmsenv, message):
        self.assertTrue(kmsenv.ask("unload")["ok"])
        needles = self.needles(message)
        found = search_memory(kmsenv.pid, needles)
        self.assertEqual({name for name, places in found.items() if places}, set(), found)
        core = self.core(kmsenv.pid)
        self.assertEqual(set(search_file(core, needles).values()), {0})
        # and the search works in this process, in both ways
        present = {"path": kmsenv.path("x").rsplit("/", 1)[0].encode(), "libcrypto": b"libcrypto.so.3"}
        self.assertTrue(all(search_memory(kmsenv.pid, present).values()))
        self.assertTrue(all(search_file(core, present).values()))

    def test_after_sealing(self):
        kmsenv = self.running()
        message = kmsenv.seal([TEXT] * 50)[0]
        self.check_in_use(kmsenv, message)
        self.check_gone(kmsenv, message)

    def test_after_opening(self):
        message = self.running().seal([TEXT])[0]
        kmsenv = self.running()
        self.assertEqual(kmsenv.open([message] * 50), [TEXT] * 50)
        self.check_in_use(kmsenv, message)
        self.check_gone(kmsenv, message)

    def test_after_loading_sealed_keys(self):
        run = self.openssl("genpkey", "-algorithm", "ed25519", "-outform", "DER", config=self.configuration, environment=self.environment)
        message = self.running().seal([run.stdout])[0]
        text = base64.encodebytes(message).replace(b"\n", b"")
        lines = b"".join(text[at:at + 64] + b"\n" for at in range(0, len(text), 64))
        path = self.file("sealed.pem", b"-----BEGIN KMS SEALED KEY-----\n" + lines + b"-----END KMS SEALED KEY-----\n")
        kmsenv = self.running()
        for _ in range(5):
            self.assertTrue(kmsenv.ask("load", path)["ok"])
        self.check_in_use(kmsenv, message)
        self.check_gone(kmsenv, message)

    def test_after_failures_and_threads(self):
        kmsenv = self.running()
        message = kmsenv.seal([TEXT])[0]
        damaged = message[:-1] + bytes([message[-1] ^ 1])
        self.assertEqual(kmsenv.open([damaged, message[:-5], message], chunk=3), [None, None, TEXT])
        self.assertEqual(kmsenv.open([message], key=bytes(range(32))), [None])
        self.assertTrue(kmsenv.ask("threads", 8, 50, 1000)["ok"])
        self.assertTrue(kmsenv.ask("threads-open", 8, 50, kmsenv.bundle([message]))["ok"])
        self.assertTrue(kmsenv.ask("begin")["ok"])
        self.check_gone(kmsenv, message)

    def test_credentials_are_gone_too(self):
        """The secret came in the environment, which we cannot clean: so it is read from a file here."""
        secret = self.file("secret", self.kms.secret_key)
        config = self.config({"prod": tencent_profile(self.kms, secret_key="file:" + secret)})
        kmsenv = self.tool(config)
        message = kmsenv.seal([TEXT])[0]
        needles = {"secret": self.kms.secret_key.encode()}
        core = self.core(kmsenv.pid)
        self.assertEqual(search_file(core, needles), {"secret": 0})
        self.assertTrue(search_memory(kmsenv.pid, self.marker(message))["marker"])
        self.assertTrue(kmsenv.ask("unload")["ok"])
        self.assertEqual(search_memory(kmsenv.pid, needles), {"secret": []})


if __name__ == "__main__":
    common.main()
