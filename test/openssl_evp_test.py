"""Harmlessness: OpenSSL's own evp_test, over all its vectors, with this provider active in every
position, must give what it gives without: the same number of tests run, none failed, none skipped more.
Then the vectors of all ciphers and MACs with this provider alone allowed (provider=kmsenv).
(The rest of OpenSSL's test suite: test/harmless.)
"""
import concurrent.futures
import glob
import os
import re
import subprocess
import sys
import tempfile

from scenarios.common import OPENSSL, VERSION, clean_environment, local_key_file

HARNESS = os.environ["KMSENV_TEST_HARNESS"]
MODULE = os.environ["KMSENV_TEST_MODULE"]
EVP_TEST = os.path.join(HARNESS, "build", "test", "evp_test")
DATA = os.path.join(HARNESS, "source", "test", "recipes", "30-test_evp_data")
RESULT = re.compile(r"Completed (\d+) tests with (\d+) errors and (\d+) skipped")
# Files of ciphers by what they are called, and the tests in them, from OpenSSL 3.0 on and where a later series has more.
CIPHERS = {
    "aes_ccm_cavs": {(3, 0): 2865}, "aes_common": {(3, 0): 164, (3, 5): 296}, "aes_cts": {(3, 0): 42}, "aes_gcm_siv": {(3, 5): 50},
    "aes_ocb": {(3, 0): 31}, "aes_siv": {(3, 0): 8, (3, 5): 450}, "aes_stitched": {(3, 0): 12}, "aes_wrap": {(3, 0): 26},
    "aria": {(3, 0): 33}, "camellia": {(3, 0): 87}, "camellia_cts": {(3, 0): 10}, "chacha": {(3, 0): 27}, "des3_common": {(3, 0): 3},
    "sm4": {(3, 0): 5, (3, 5): 13, (4, 0): 14}
}
# The same of MACs. Tests of a MAC "by EVP_PKEY" fail if all must be this provider's: keys and signatures of that kind are the
# default provider's, to which the MAC in them is ours if it is the preferred one.
MACS = {
    "blake": {(3, 0): 41}, "cmac_des": {(3, 0): 2}, "common": {(3, 0): 65, (3, 5): 73}, "poly1305": {(3, 0): 46}, "siphash": {(3, 0): 30},
    "sm3": {(3, 0): 4}
}
BY_PKEY = re.compile(r"^MAC = .* by EVP_PKEY\s*$", re.M)


def of_this_version(numbers):
    return {name: [n for first, n in of_series.items() if first <= VERSION[:2]][-1]
            for name, of_series in numbers.items() if min(of_series) <= VERSION[:2]}


# Those that this provider does not have, and why; all their tests fail, except as many as stated.
OTHERS = {
    "bf": (0, "legacy provider"), "cast5": (0, "legacy provider"), "rc2": (0, "legacy provider"), "rc4": (0, "legacy provider"),
    "rc4_stitched": (0, "legacy provider"), "seed": (0, "legacy provider"), "idea": (0, "not compiled in"),
    "rc5": (0, "not compiled in"), "des": (2, "legacy provider: single DES, whose keys cannot hold a reference; two are Triple DES")
}
# From 3.5 on evp_test takes the properties as an option (as default ones they would forbid it its own random numbers). A
# cipher that it cannot fetch it then takes by name, from whatever the default configuration has: that must be nothing. And
# from 4.0 on it is through with a file at the first one that is not there, and skips a stitched one.
OPTIONS = [] if VERSION < (3, 5) else ["-propquery", "provider=kmsenv"]
EACH_IS_TRIED = VERSION < (4, 0)
# These take a minute each (from OpenSSL 3.5 on) and no part of this provider: once will do, where it is preferred.
SLOW = ("evppkey_slh_dsa_siggen.txt", "evppkey_slh_dsa_keygen.txt")


def config(folder, name, ours, first=False, properties=None, extra=""):
    """Writes a configuration; returns its path. ours: is the provider in it?"""
    lines = ["default = default_sect", "legacy = legacy_sect"]
    if ours:
        lines.insert(0 if first else len(lines), "kmsenv = kmsenv_sect")
    text = "config_diagnostics = 1\nopenssl_conf = init\n[init]\nproviders = providers\nalg_section = algorithms\n"
    text += "[algorithms]\n" + (f"default_properties = {properties}\n" if properties else "")
    text += "[providers]\n" + "\n".join(lines) + "\n[default_sect]\nactivate = 1\n[legacy_sect]\nactivate = 1\n"
    text += f"[kmsenv_sect]\nmodule = {MODULE}\nactivate = 1\nkms = local\nkey-file = {folder}/a.pem\n{extra}"
    path = os.path.join(folder, name + ".cnf")
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return path


def environment(path):
    return clean_environment(OPENSSL_CONF=path)


def is_loaded(path):
    out = subprocess.run([OPENSSL, "list", "-providers"], env=environment(path), capture_output=True,
                         text=True, timeout=60, check=True).stdout
    return re.search(r"^  kmsenv$", out, re.M) is not None


def run(path, data, options=()):
    done = subprocess.run([EVP_TEST, "-config", path, *options, data], env=environment("/dev/null" if options else path),
                          capture_output=True, text=True, timeout=600)
    match = RESULT.search(done.stdout + done.stderr)
    if match is None:
        return f"exit status {done.returncode}: " + (done.stdout + done.stderr)[-500:]
    return tuple(map(int, match.groups()))


def alone(kind, name, data, want):
    """What a file must give with this provider alone, if with all it gives that."""
    number, errors, skipped = want
    if kind == "evpmac" and OPTIONS:
        return want       # they are not for keys
    if kind == "evpmac":
        with open(data, encoding="utf-8") as f:
            return number, errors + len(BY_PKEY.findall(f.read())), skipped
    if name not in OTHERS or not number:
        return want
    if EACH_IS_TRIED:
        return number, number - OTHERS[name][0], skipped
    return (0, 0, number) if name.endswith("_stitched") else (0, 1, skipped)


def strict(path, kind, numbers, files, expected, pool):
    """Complaints about the ciphers (MACs) when every one of them must be this provider's, and how many tests it passes."""
    faults, total = [], 0
    prefix = kind + "_"
    control = {os.path.basename(data)[len(prefix):-len(".txt")]: (data, want) for data, want in zip(files, expected)
               if os.path.basename(data).startswith(prefix)}
    if not set(numbers) <= set(control):
        faults.append(f"strict: no vectors of {sorted(set(numbers) - set(control))}")
    for (name, (data, want)), got in zip(control.items(), pool.map(lambda c: run(path, c[0], OPTIONS), control.values())):
        if not (isinstance(want, tuple) and isinstance(got, tuple)):
            faults.append(f"strict, {prefix}{name}: {got} instead of {want}")
            continue
        number, want = want[0], alone(kind, name, data, want)
        if (kind == "evpmac" or name not in OTHERS) and number != numbers.get(name):
            faults.append(f"strict, {prefix}{name}: {number} tests are there, not {numbers.get(name)}")
        if got != want:
            faults.append(f"strict, {prefix}{name}: {got} instead of {want}")
        total += got[0] - got[1] if name in numbers else 0
    return faults, total


def main():
    files = sorted(glob.glob(os.path.join(DATA, "*.txt")))
    faults = [] if len(files) > 50 else [f"only {len(files)} files of vectors in {DATA}"]
    with tempfile.TemporaryDirectory() as folder:
        local_key_file(os.path.join(folder, "a.pem"))
        base = config(folder, "base", False)
        refs = "key-references = yes\n"
        configs = [config(folder, "last", True),
                   config(folder, "first", True, first=True, extra=refs),
                   config(folder, "preferred", True, properties="?provider=kmsenv", extra=refs)]
        only = config(folder, "only", True, properties=None if OPTIONS else "provider=kmsenv", extra=refs)
        if is_loaded(base):
            faults.append("the provider is loaded where it must not be")
        faults += [f"{path}: the provider is not loaded" for path in configs + [only] if not is_loaded(path)]
        total = 0
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            slow = [pool.submit(run, configs[-1], data) for data in files if os.path.basename(data) in SLOW]
            files = [data for data in files if os.path.basename(data) not in SLOW]
            expected = list(pool.map(lambda data: run(base, data), files))
            for path in configs:
                for data, want, got in zip(files, expected, pool.map(lambda data, p=path: run(p, data), files)):
                    total += got[0] if isinstance(got, tuple) else 0
                    if got != want or not isinstance(got, tuple):
                        faults.append(f"{os.path.basename(path)}, {os.path.basename(data)}: {got} instead of {want}")
            for got in (done.result() for done in slow):
                if not (isinstance(got, tuple) and got[0] > 0 and got[1] == 0):
                    faults.append(f"{SLOW}: {got}")
            ciphers, macs = of_this_version(CIPHERS), of_this_version(MACS)
            complaints, ciphers_alone = strict(only, "evpciph", ciphers, files, expected, pool)
            faults += complaints
            complaints, macs_alone = strict(only, "evpmac", macs, files, expected, pool)
            faults += complaints
        # A harness of a neighbour version may differ from the library in a test or two, with or without us.
        failing = sum(1 for e in expected if not isinstance(e, tuple) or e[1])
        if failing > 2:
            faults.append(f"{failing} of {len(files)} files fail without the provider")
    for line in faults:
        print(line)
    print(f"{len(files)} files, {len(configs)} configurations: {total} tests; {ciphers_alone} of ciphers alone, {macs_alone} of MACs; "
          f"{len(faults)} complaints")
    return 1 if faults or total < 10000 or ciphers_alone < sum(ciphers.values()) or macs_alone < 170 else 0


if __name__ == "__main__":
    sys.exit(main())
