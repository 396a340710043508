"""Harmlessness: OpenSSL's own evp_test, over all its vectors, with this provider active in every
position, must give what it gives without: the same number of tests run, none failed, none skipped more.
Then the vectors of all ciphers and MACs with this provider alone allowed (default_properties = provider=kmsenv).
(The rest of OpenSSL's test suite: test/harmless.)
"""
import concurrent.futures
import glob
import os
import re
import subprocess
import sys
import tempfile

from scenarios.common import local_key_file

HARNESS = os.environ["KMSENV_TEST_HARNESS"]
MODULE = os.environ["KMSENV_TEST_MODULE"]
EVP_TEST = os.path.join(HARNESS, "build", "test", "evp_test")
DATA = os.path.join(HARNESS, "source", "test", "recipes", "30-test_evp_data")
RESULT = re.compile(r"Completed (\d+) tests with (\d+) errors and (\d+) skipped")
# Files of ciphers by what they are called, and the tests in them with OpenSSL 3.0; later versions have more.
CIPHERS = {
    "aes_ccm_cavs": 2865, "aes_common": 164, "aes_cts": 42, "aes_ocb": 31, "aes_siv": 8, "aes_stitched": 12, "aes_wrap": 26,
    "aria": 33, "camellia": 87, "camellia_cts": 10, "chacha": 27, "des3_common": 3, "sm4": 5
}
# The same of MACs. Tests of a MAC "by EVP_PKEY" fail: keys and signatures of that kind are the default provider's, to which the
# MAC in them is ours if it is the preferred one.
MACS = {"blake": 41, "cmac_des": 2, "common": 65, "poly1305": 46, "siphash": 30, "sm3": 4}
BY_PKEY = re.compile(r"^MAC = .* by EVP_PKEY\s*$", re.M)
# Those that this provider does not have, and why; all their tests fail, except as many as stated.
OTHERS = {
    "bf": (0, "legacy provider"), "cast5": (0, "legacy provider"), "rc2": (0, "legacy provider"), "rc4": (0, "legacy provider"),
    "rc4_stitched": (0, "legacy provider"), "seed": (0, "legacy provider"), "idea": (0, "not compiled in"),
    "rc5": (0, "not compiled in"), "des": (2, "legacy provider: single DES, whose keys cannot hold a reference; two are Triple DES")
}


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
    return {"PATH": "/usr/bin:/bin", "OPENSSL_CONF": path}


def is_loaded(path):
    out = subprocess.run(["/usr/bin/openssl", "list", "-providers"], env=environment(path), capture_output=True,
                         text=True, timeout=60, check=True).stdout
    return re.search(r"^  kmsenv$", out, re.M) is not None


def run(path, data):
    done = subprocess.run([EVP_TEST, "-config", path, data], env=environment(path), capture_output=True, text=True,
                          timeout=280)
    match = RESULT.search(done.stdout + done.stderr)
    if match is None:
        return f"exit status {done.returncode}: " + (done.stdout + done.stderr)[-500:]
    return tuple(map(int, match.groups()))


def must_fail(kind, name, data, number):
    """How many of the tests in a file cannot be done by this provider alone."""
    if kind == "evpmac":
        with open(data, encoding="utf-8") as f:
            return len(BY_PKEY.findall(f.read()))
    return number - OTHERS[name][0] if name in OTHERS and number else 0


def strict(path, kind, numbers, files, expected, pool):
    """Complaints about the ciphers (MACs) when every one of them must be this provider's, and how many tests it passes."""
    faults, total = [], 0
    prefix = kind + "_"
    control = {os.path.basename(data)[len(prefix):-len(".txt")]: (data, want) for data, want in zip(files, expected)
               if os.path.basename(data).startswith(prefix)}
    exact = subprocess.run(["/usr/bin/openssl", "version"], capture_output=True, text=True, timeout=60, check=True
                           ).stdout.startswith("OpenSSL 3.0.")
    if not set(numbers) <= set(control):
        faults.append(f"strict: no vectors of {sorted(set(numbers) - set(control))}")
    for (name, (data, want)), got in zip(control.items(), pool.map(lambda c: run(path, c[0]), control.values())):
        if not (isinstance(want, tuple) and isinstance(got, tuple)):
            faults.append(f"strict, {prefix}{name}: {got} instead of {want}")
            continue
        number, errors, skipped = want
        errors += must_fail(kind, name, data, number)
        if exact and (kind == "evpmac" or name not in OTHERS) and number != numbers.get(name):
            faults.append(f"strict, {prefix}{name}: {number} tests are there, not {numbers.get(name)}")
        if got != (number, errors, skipped):
            faults.append(f"strict, {prefix}{name}: {got} instead of {(number, errors, skipped)}")
        total += got[0] - got[1]
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
        only = config(folder, "only", True, properties="provider=kmsenv", extra=refs)
        if is_loaded(base):
            faults.append("the provider is loaded where it must not be")
        faults += [f"{path}: the provider is not loaded" for path in configs + [only] if not is_loaded(path)]
        total = 0
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            expected = list(pool.map(lambda data: run(base, data), files))
            for path in configs:
                for data, want, got in zip(files, expected, pool.map(lambda data, p=path: run(p, data), files)):
                    total += got[0] if isinstance(got, tuple) else 0
                    if got != want or not isinstance(got, tuple):
                        faults.append(f"{os.path.basename(path)}, {os.path.basename(data)}: {got} instead of {want}")
            complaints, alone = strict(only, "evpciph", CIPHERS, files, expected, pool)
            faults += complaints
            complaints, macs_alone = strict(only, "evpmac", MACS, files, expected, pool)
            faults += complaints
        # A harness of a neighbour version may differ from the library in a test or two, with or without us.
        failing = sum(1 for e in expected if not isinstance(e, tuple) or e[1])
        if failing > 2:
            faults.append(f"{failing} of {len(files)} files fail without the provider")
    for line in faults:
        print(line)
    print(f"{len(files)} files, {len(configs)} configurations: {total} tests; {alone} of ciphers alone, {macs_alone} of MACs; "
          f"{len(faults)} complaints")
    return 1 if faults or total < 10000 or alone < sum(CIPHERS.values()) or macs_alone < 170 else 0


if __name__ == "__main__":
    sys.exit(main())
