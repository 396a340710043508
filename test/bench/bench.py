#!/usr/bin/python3
"""Measures and prints the rows of bars.py. Started by `run`, which builds first.

Everything is measured in pairs, the thing and its yardstick in turn in the same run, because only
such ratios survive a machine that others use too. CPU time throughout, but for threads.
"""
import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "kms")]

import bars  # noqa: E402
from dialects import tencent  # noqa: E402
from processes import Processes  # noqa: E402
from report import Report  # noqa: E402
from standin import StandIn  # noqa: E402

KMS_CALLS = 40        # a slice; see bench_kms.c


def openssl_command(beside):
    """The openssl command, in words. Of one beside the system what its wrapper executes: the wrapper would be measured, too."""
    if beside is None:
        return ["/usr/bin/openssl"]
    with open(os.path.join(beside, "openssl"), encoding="utf-8") as wrapper:
        return shlex.split(re.search(r'(?m)^exec (.*) "\$@"$', wrapper.read()).group(1))


class Bench:
    def __init__(self, arguments):
        self.build = os.path.abspath(arguments.build)
        self.rounds = arguments.rounds or (3 if arguments.quick else 9)
        self.mib = 64 if arguments.quick else 1024
        self.openssl = openssl_command(arguments.beside)
        self.module = os.path.join(self.build, "kmsenv", "kmsenv.so")
        self.command = os.path.join(self.build, "kmsenv", "kmsenv")
        self.directory = tempfile.mkdtemp(prefix="kmsenv-bench-")
        self.shm = tempfile.mkdtemp(prefix="kmsenv-bench-", dir="/dev/shm")
        key_file = os.path.join(self.directory, "key.pem")
        self.environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": self.directory, "no_proxy": "*",
                            "OPENSSL_MODULES": os.path.dirname(self.module),
                            "KMSENV_KMS": "local", "KMSENV_KEY_FILE": key_file, "KMSENV_KEYRING": self.directory}
        subprocess.run([self.command, "init", "--key-file", key_file],
                       check=True, capture_output=True, env=self.environment)

    def close(self):
        shutil.rmtree(self.directory, ignore_errors=True)
        shutil.rmtree(self.shm, ignore_errors=True)

    def program(self, name, *arguments, environment=None):
        """Pairs printed by one of the C programs."""
        environment = {**self.environment, "OPENSSL_CONF": os.devnull, **(environment or {})}
        run = subprocess.run([os.path.join(self.build, name), *map(str, arguments)], stdout=subprocess.PIPE, text=True,
                             timeout=1800, check=True,
                             env={name: value for name, value in environment.items() if value is not None})
        return [tuple(map(float, line.split())) for line in run.stdout.splitlines()]

    def version(self):
        """Of the library; RuntimeError if the openssl command has another."""
        programs = {"bench_evp": [os.path.join(self.build, "bench_evp"), "version"], "openssl": [*self.openssl, "version"]}
        said = {name: subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=self.environment).stdout.strip()
                for name, command in programs.items()}
        if said["openssl"] != "%s (Library: %s)" % (said["bench_evp"], said["bench_evp"]):
            raise RuntimeError("not one OpenSSL: %s" % said)
        return said["bench_evp"]

    def has_cipher(self, name):
        listed = subprocess.run([*self.openssl, "list", "-cipher-algorithms", "-provider", "kmsenv", "-provider", "default"],
                                capture_output=True, text=True, check=True,
                                env={**self.environment, "OPENSSL_CONF": os.devnull}).stdout
        return re.search(r"\b%s\b" % re.escape(name), listed) is not None

    def has_command(self, name):
        listed = subprocess.run([self.command, "--help"], capture_output=True, text=True,
                                check=True, env=self.environment).stdout
        return re.search(r"(?m)^  %s\b" % name, listed) is not None


# What a row's pairs are, by the beginning of its name.

def stream(bench, row):
    parts = row.name.split("-")
    if parts[0] == "noise":
        return bench.program("bench_evp", bench.rounds, "stream", bench.mib, 4096, "encrypt", "hot", "raw")
    update = {"4k": 4096, "64k": 65536}[parts[2]]
    return bench.program("bench_evp", bench.rounds, "stream", bench.mib, update, parts[3], parts[1], "envelope")


def message(bench, row):
    parts = row.name.split("-")
    if parts[0] == "noise":
        return bench.program("bench_evp", bench.rounds, "message", 1024, "encrypt", "reused", "raw")
    return bench.program("bench_evp", bench.rounds, "message", parts[1], parts[3], parts[2], "envelope")


def reference(bench, row):
    _, kind, size = row.name.split("-")
    if kind == "stream":
        return bench.program("bench_evp", bench.rounds, "stream", bench.mib, {"1k": 1024, "4k": 4096}[size], "encrypt", "hot", "reference")
    if kind == "mac":
        return bench.program("bench_evp", bench.rounds, "mac", size, "reference")
    if kind == "object":
        return bench.program("bench_evp", bench.rounds, "message", size, "encrypt", "reused", "object")
    manner = {"rekey": "reused", "fresh": "fresh"}[kind]
    return bench.program("bench_evp", bench.rounds, "message", size, "encrypt", manner, "reference")


def tls(bench, row):
    which = {"tls-noise": ("1.3", "raw"), "tls-loaded": ("1.3", "loaded")}
    version, kind = which.get(row.name, (row.name[4:], "references"))
    environment = {"KMSENV_KEY_REFERENCES": "yes"} if kind == "references" else {"KMSENV_KEYRING": None}
    return bench.program("bench_evp", bench.rounds, "tls", version, kind, environment=environment)


def threads(bench, row):
    which = {"threads-raw": ("raw", "wall"), "threads-envelope": ("envelope", "wall"),
             "threads-raw-cpu": ("raw", "cpu"), "threads-envelope-cpu": ("envelope", "cpu")}
    return bench.program("bench_evp", bench.rounds, "threads", *which[row.name])


def pem(bench, row):
    which = {"pem-noise": ("rsa", "raw"), "pem-rsa": ("rsa", "envelope"), "pem-ec": ("ec", "envelope"),
             "pem-certificate": ("certificate", "envelope"), "pem-keyring": ("certificate", "envelope"), "pem-sealed": ("ec", "sealed")}
    environment = {} if row.name == "pem-keyring" else {"KMSENV_KEYRING": None}
    return bench.program("bench_evp", bench.rounds, "pem", *which[row.name], environment=environment)


def signed_request(kms, directory):
    """Files with the header lines and the body of a GenerateDataKey, good for five minutes."""
    host, stamp = "127.0.0.1:%d" % kms.ports["tencent"], int(time.time())
    body = json.dumps({"KeyId": kms.key_id, "NumberOfBytes": 32}, separators=(",", ":"))
    headers = {"Host": host, "Content-Type": "application/json", "X-TC-Action": "GenerateDataKey",
               "X-TC-Version": "2019-01-18", "X-TC-Region": "ap-guangzhou", "X-TC-Timestamp": str(stamp)}
    signature = tencent.sign(kms.secret_key, "POST", "/", {name.lower(): value for name, value in headers.items()},
                             body.encode(), stamp, "kms", ["content-type", "host"])
    headers["Authorization"] = ("TC3-HMAC-SHA256 Credential=%s/%s/kms/tc3_request, SignedHeaders=content-type;host, "
                                "Signature=%s" % (kms.secret_id, time.strftime("%Y-%m-%d", time.gmtime(stamp)), signature))
    headers["Expect"] = ""
    paths = [os.path.join(directory, name) for name in ("headers", "body")]
    for path, text in zip(paths, ("".join("%s: %s\n" % pair if pair[1] else pair[0] + ":\n" for pair in headers.items()), body)):
        with open(path, "w", encoding="ascii") as out:
            out.write(text)
    return paths


def kms_call(bench, row):
    with StandIn() as kms:
        environment = {"KMSENV_KMS": "tencent", "KMSENV_KEY_FILE": None, "KMSENV_REGION": "ap-guangzhou",
                       "KMSENV_KEY_ID": kms.key_id, "KMSENV_ENDPOINT": kms.endpoint, "KMSENV_CA_FILE": kms.ca_file,
                       "KMSENV_SECRET_ID": kms.secret_id, "KMSENV_SECRET_KEY": kms.secret_key, "KMSENV_DEK_REUSE": "no",
                       "KMSENV_SEALED_KEY_CACHE": "0"}
        return bench.program("bench_kms", bench.rounds, KMS_CALLS, kms.endpoint + "/", kms.ca_file,
                             *signed_request(kms, bench.directory), {"kms-noise": "raw", "kms-warm": "envelope", "kms-unseal": "unseal"}[row.name],
                             environment=environment)


def over(a, b):
    return a / b


def minus(a, b):
    return a - b


def under(a, b):
    return b / a


def gain(a, b):
    return 2 * b / a


def nanoseconds(a, b):
    return "%.0f and %.0f ns" % (a, b) if max(a, b) < 1e5 else "%.1f and %.1f us" % (a / 1e3, b / 1e3)


class Measuring:
    """Rows in order; those that share a run are measured when the first of them is due."""

    def __init__(self, bench, wanted):
        self.bench, self.wanted = bench, wanted
        self.processes = Processes(bench)
        self.done = {}

    def shared(self, row, names, measure):
        if row.name not in self.done:
            self.done.update(measure([name for name in names if name in self.wanted]))
        return self.done[row.name]

    def row(self, row):
        """(pairs, combine, sides) of a row"""
        size = self.bench.mib * (1 << 20)
        if row.name.startswith("tls"):
            return tls(self.bench, row), under, nanoseconds
        if row.name.startswith("reference"):
            combine = minus if row.unit else under
            return reference(self.bench, row), combine, nanoseconds
        if "stream" in row.name:
            return stream(self.bench, row), under, lambda a, b: "%.2f and %.2f GB/s" % (size / a, size / b)
        if "message" in row.name:
            return message(self.bench, row), over, nanoseconds
        if row.name.startswith("threads"):
            return threads(self.bench, row), gain, nanoseconds
        if row.name.startswith("kms"):
            return kms_call(self.bench, row), over, nanoseconds
        if row.name.startswith("pem"):
            return pem(self.bench, row), over, nanoseconds
        if row.name.startswith("version"):
            return self.processes.version(row.name == "version-noise"), minus, lambda a, b: "%.3f and %.3f ms" % (a, b)
        if row.name.startswith("rss"):
            pairs = self.shared(row, ["rss-encrypt", "rss-decrypt"], lambda names: self.processes.memory())
            return pairs, minus, lambda a, b: "%.2f and %.2f MiB" % (a, b)
        names = ["noise-process", "enc-ctr", "enc-cms", "enc-decrypt", "seal-cpu", "open-cpu", "seal-wall", "open-wall"]
        return self.shared(row, names, self.processes.streams), over, lambda a, b: "%.3f and %.3f s" % (a, b)


def cpu_model():
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        match = re.search(r"(?m)^model name\s*:\s*(.*)$", info.read())
    return match.group(1) if match else "unknown"


def parse_arguments():
    parser = argparse.ArgumentParser(prog="test/bench/run")
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--beside", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", action="append", default=[], metavar="ROW")
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    if arguments.rounds is not None and not 1 <= arguments.rounds <= 1000:
        parser.error("--rounds takes 1 to 1000")
    return arguments


def measure_all(bench, rows):
    version = bench.version()
    numbers = tuple(map(int, re.search(r"OpenSSL (\d+)\.(\d+)", version).groups()))
    report = Report(numbers >= (3, 5))
    print("%s; %s, %d CPUs, load %.1f; %d pairs%s" % (version, cpu_model(), os.cpu_count(), os.getloadavg()[0], bench.rounds,
                                                     "" if bench.mib == 1024 else "; %d MiB instead of 1 GiB" % bench.mib))
    print("bars for OpenSSL %s" % ("3.5 and later" if report.new_bars else "3.0"))
    print(report.header())
    measuring = Measuring(bench, {row.name for row in rows})
    faults = 0
    for row in rows:
        if numbers < row.since:
            print("%-28s needs OpenSSL %d.%d" % (row.name, *row.since))
            continue
        try:
            print(report.line(row, *measuring.row(row)), flush=True)
        except (RuntimeError, subprocess.SubprocessError, OSError) as error:
            faults += 1
            print("%-28s could not be measured: %s" % (row.name, error), flush=True)
    return report, faults


def main():
    arguments = parse_arguments()
    rows = [row for row in bars.ROWS if not arguments.only or any(part in row.name for part in arguments.only)]
    if arguments.list or not rows:
        print("\n".join("%-28s %s" % (row.name, row.text) for row in bars.ROWS))
        return 0 if arguments.list else 2
    bench = Bench(arguments)
    try:
        report, faults = measure_all(bench, rows)
        for name, text in bars.ABSENT:
            print("not measured: %s (%s)" % (text, "no row yet" if bench.has_cipher(name) else "not in this build"))
        for name, text in bars.ABSENT_COMMANDS:
            print("not measured: %s (%s)" % (text, "no row yet" if bench.has_command(name) else "not in this build"))
    finally:
        bench.close()
    print("%d rows, %d below their bar, %d not measured; load now %.1f" % (len(rows), report.missed, faults, os.getloadavg()[0]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
