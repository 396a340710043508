"""Harmlessness: OpenSSL's own evp_test, over all its vectors, with this provider active in every
position, must give what it gives without: the same number of tests run, none failed, none skipped more.
"""
import concurrent.futures
import glob
import os
import re
import subprocess
import sys
import tempfile

HARNESS = os.environ["KMSENV_TEST_HARNESS"]
MODULE = os.environ["KMSENV_TEST_MODULE"]
EVP_TEST = os.path.join(HARNESS, "build", "test", "evp_test")
DATA = os.path.join(HARNESS, "source", "test", "recipes", "30-test_evp_data")
RESULT = re.compile(r"Completed (\d+) tests with (\d+) errors and (\d+) skipped")
KEY = """-----BEGIN KMSENV LOCAL MASTER KEY-----
Key-Id: 000102030405060708090a0b0c0d0e0f
Version: 1
Created: 2024-01-01T00:00:00Z

dGVzdCBrZXkgQSB0ZXN0IGtleSBBIHRlc3Qga2V5IEE=
-----END KMSENV LOCAL MASTER KEY-----
"""


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


def has_key_references():
    cli = os.environ.get("KMSENV_TEST_CLI")
    out = subprocess.run([cli, "settings"], capture_output=True, text=True, timeout=60, check=True).stdout if cli else ""
    return "key-references" in out


def main():
    files = sorted(glob.glob(os.path.join(DATA, "*.txt")))
    faults = [] if len(files) > 50 else [f"only {len(files)} files of vectors in {DATA}"]
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "a.pem"), "w", encoding="utf-8", opener=lambda p, f: os.open(p, f, 0o600)) as f:
            f.write(KEY)
        base = config(folder, "base", False)
        refs = "key-references = yes\n" if has_key_references() else ""
        configs = [config(folder, "last", True),
                   config(folder, "first", True, first=True, extra=refs),
                   config(folder, "preferred", True, properties="?provider=kmsenv", extra=refs)]
        if is_loaded(base):
            faults.append("the provider is loaded where it must not be")
        faults += [f"{path}: the provider is not loaded" for path in configs if not is_loaded(path)]
        total = 0
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            expected = list(pool.map(lambda data: run(base, data), files))
            for path in configs:
                for data, want, got in zip(files, expected, pool.map(lambda data, p=path: run(p, data), files)):
                    total += got[0] if isinstance(got, tuple) else 0
                    if got != want or not isinstance(got, tuple):
                        faults.append(f"{os.path.basename(path)}, {os.path.basename(data)}: {got} instead of {want}")
        # A harness of a neighbour version may differ from the library in a test or two, with or without us.
        failing = sum(1 for e in expected if not isinstance(e, tuple) or e[1])
        if failing > 2:
            faults.append(f"{failing} of {len(files)} files fail without the provider")
    for line in faults:
        print(line)
    print(f"{len(files)} files, {len(configs)} configurations, key references {'on' if refs else 'not offered'}: "
          f"{total} tests, {len(faults)} complaints")
    return 1 if faults or total < 10000 else 0


if __name__ == "__main__":
    sys.exit(main())
