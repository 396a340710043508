"""Rows about whole processes. The program `measure` counts; see there why it is not Python."""
import os
import subprocess

CTR = ["enc", "-aes-256-ctr", "-K", "00" * 32, "-iv", "00" * 16]
ENVELOPE = ["enc", "-provider", "kmsenv", "-provider", "default", "-kms-envelope", "-K", "00" * 32]
CMS = ["cms", "-encrypt", "-aes-256-gcm", "-stream", "-binary", "-outform", "DER",
       "-secretkey", "00" * 32, "-secretkeyid", "01"]
VERSION_SLICES, VERSION_RUNS = 10, 4   # a round is that many of each side, in turn
CONFIG = """openssl_conf = init
[init]
providers = providers
[providers]
default = default_sect
%s[default_sect]
activate = 1
"""
CONFIG_KMSENV = """[kmsenv_sect]
activate = 1
module = %s
kms = local
key-file = %s
"""


class Processes:
    def __init__(self, bench):
        self.bench = bench
        self.files = {}
        self.totals = {}

    def measure(self, command, count=1, stdin=None, config=os.devnull, program=None):
        """CPU seconds, wall seconds, peak KiB of one run, of openssl unless another program is named."""
        reading, writing = os.pipe()
        environment = {**self.bench.environment, "OPENSSL_CONF": config}
        try:
            process = subprocess.Popen(
                [os.path.join(self.bench.build, "measure"), str(writing), str(count), *(program or self.bench.openssl), *command],
                stdin=stdin or subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=(writing,), env=environment)
        finally:
            os.close(writing)
        with os.fdopen(reading) as report:
            text = report.read()
        if process.wait(900) != 0:
            raise RuntimeError("%s %s failed" % (" ".join(program or ["openssl"]), " ".join(command[:3])))
        cpu, wall, peak = text.split()
        return float(cpu), float(wall), int(peak)

    # 1 GiB

    def decrypts(self, sealed, plain):
        back = subprocess.Popen([*self.bench.openssl, *ENVELOPE, "-d", "-in", sealed], stdout=subprocess.PIPE,
                                env={**self.bench.environment, "OPENSSL_CONF": os.devnull})
        same = subprocess.run(["cmp", "-", plain], stdin=back.stdout, check=False).returncode == 0
        back.stdout.close()
        return back.wait(300) == 0 and same

    def prepare_files(self):
        if self.files:
            return
        plain, sealed = (os.path.join(self.bench.shm, name) for name in ("plain", "sealed"))
        with open(plain, "wb") as out:
            for _ in range(self.bench.mib):
                out.write(os.urandom(1 << 20))
        parted = plain + ".kms"
        self.measure([*ENVELOPE, "-e", "-in", plain, "-out", sealed])
        self.measure(["seal", plain], program=[self.bench.command])
        grew = os.path.getsize(sealed) - os.path.getsize(plain)
        if not self.decrypts(sealed, plain) or not self.decrypts(parted, plain) or not 100 < grew < 1024:
            raise RuntimeError("what enc -kms-envelope or kmsenv seal wrote does not decrypt to what it was")
        self.files = {"plain": plain, "sealed": sealed, "parted": parted}

    def once(self, kind):
        """CPU and wall seconds."""
        into = ["-out", os.devnull]
        if kind in ("seal", "open"):
            return self.measure([kind, "-o", os.devnull, self.files["plain" if kind == "seal" else "parted"]],
                                program=[self.bench.command])[:2]
        command = {"ctr": [*CTR, "-in", self.files["plain"], *into],
                   "ctr-again": [*CTR, "-in", self.files["plain"], *into],
                   "encrypt": [*ENVELOPE, "-e", "-in", self.files["plain"], *into],
                   "cms": [*CMS, "-in", self.files["plain"], *into],
                   "decrypt": [*ENVELOPE, "-d", "-in", self.files["sealed"], *into]}[kind]
        return self.measure(command)[:2]

    def streams(self, wanted):
        """{row: pairs}, all commands alternated in the same rounds."""
        sides = {"noise-process": ("ctr-again", "ctr"), "enc-ctr": ("encrypt", "ctr"),
                 "enc-cms": ("encrypt", "cms"), "enc-decrypt": ("decrypt", "encrypt"),
                 "seal-cpu": ("seal", "ctr"), "open-cpu": ("open", "ctr"), "seal-wall": ("seal", "ctr"), "open-wall": ("open", "ctr")}
        kinds = sorted({kind for row in wanted for kind in sides[row]})
        self.prepare_files()
        rounds = []
        for kind in kinds:
            self.once(kind)
        for _ in range(self.bench.rounds):
            costs = {kind: (0, 0) for kind in kinds}
            for kind in kinds + kinds[::-1]:       # there and back: a drift hits all of them alike
                costs[kind] = tuple(sum(both) for both in zip(costs[kind], (cost / 2 for cost in self.once(kind))))
            rounds.append(costs)
        which = {row: int(row.endswith("-wall")) for row in wanted}
        return {row: [tuple(costs[side][which[row]] for side in sides[row]) for costs in rounds] for row in wanted}

    # Memory

    def pipeline(self, mib):
        """Peak KiB of encrypting and of decrypting so much, in a pipeline that leaves no file."""
        source = os.path.join(self.bench.shm, "zeros")
        with open(source, "wb") as out:
            out.truncate(mib << 20)          # a hole: takes no memory
        reading, writing = os.pipe()
        environment = {**self.bench.environment, "OPENSSL_CONF": os.devnull}
        plain = subprocess.Popen([*self.bench.openssl, *ENVELOPE, "-e", "-in", source], stdout=writing, env=environment)
        os.close(writing)
        with os.fdopen(reading, "rb") as sealed:
            decrypting = self.measure([*ENVELOPE, "-d"], stdin=sealed)[2]
        if plain.wait(60) != 0:
            raise RuntimeError("encrypting into a pipe failed")
        encrypting = self.measure([*ENVELOPE, "-e", "-in", source])[2]
        os.unlink(source)
        return {"rss-encrypt": encrypting / 1024, "rss-decrypt": decrypting / 1024}

    def memory(self):
        large = 4096 if self.bench.mib >= 1024 else 4 * self.bench.mib
        pairs = {"rss-encrypt": [], "rss-decrypt": []}
        for _ in range(min(3, self.bench.rounds)):
            big, small = self.pipeline(large), self.pipeline(1)
            for row in pairs:
                pairs[row].append((big[row], small[row]))
        return pairs

    # Start of a process

    def version(self, noise):
        """Pairs of CPU milliseconds: with kmsenv, without."""
        configs = []
        for name, kmsenv in (("with", not noise), ("without", False)):
            path = os.path.join(self.bench.directory, name + ".cnf")
            with open(path, "w", encoding="utf-8") as out:
                out.write(CONFIG % ("kmsenv = kmsenv_sect\n" if kmsenv else ""))
                if kmsenv:
                    out.write(CONFIG_KMSENV % (self.bench.module, self.bench.environment["KMSENV_KEY_FILE"]))
            listed = subprocess.run([*self.bench.openssl, "list", "-providers"], capture_output=True, text=True, check=True,
                                    env={**self.bench.environment, "OPENSSL_CONF": path}).stdout
            if ("\n  kmsenv\n" in listed) != kmsenv:
                raise RuntimeError("kmsenv is %s by %s" % ("not loaded" if kmsenv else "loaded", path))
            configs.append(path)
        pairs = []
        for number in range(self.bench.rounds + 1):
            cost = [0, 0]
            for turn in range(2 * VERSION_SLICES):
                side = (turn + turn // 2 + number) % 2          # 0 1 1 0 0 1 1 0 ...
                cost[side] += self.measure(["version"], VERSION_RUNS, config=configs[side])[0] * 1000 / VERSION_SLICES
            pairs.append((cost[0], cost[1]))
        return pairs[1:]
