"""Harmlessness: OpenSSL's own test suite gives with this provider active what it gives without.

The recipes run against the installed library in four configurations: a control, the provider active last, active
first, and preferred for everything (default_properties) with key-references = yes. In each, the same tests of a
recipe must run, the same be skipped and the same fail as in the control.

usage: harmless_test.py [--all] [RECIPE...]
  RECIPE   as in ./recipes; without any, those listed there
  --all    every recipe of the suite, and how far it is (what test/run --full does)
"""
import concurrent.futures
import os
import re
import subprocess
import sys
import tempfile
import time

import suite

HERE = os.path.dirname(os.path.abspath(__file__))
# It begins like a reference to a data key, of which there is none: refused, or taken for a key like any other.
REFERENCE = b"kmsenv:\x01".ljust(16, b"\0").hex()
# Which tests of these fail changes from run to run without this provider, too: compared as a whole.
UNSTABLE = ["test_sslapi"]
# These try whatever cipher any provider offers, on terms that hold for OpenSSL's own: blocks of at most 64 bytes, and the
# same text for the same key (or the name DES3-WRAP). kms-envelope overruns their buffers: nothing to compare.
OUT_OF_SCOPE = ["test_evp_libctx"]
# What must fail besides, and no more: here a cipher is asked for that is not the default provider's, and there is one.
BY_DESIGN = {
    ("test_evp_fetch_prov", "preferred"): re.compile(
        r' *not ok \d+ - (test_explicit_EVP_CIPHER_fetch_by_\w+( - iteration \d)?|running evp_fetch_prov_test with cipher '
        r'and loaded providers \'default\' using property "provider!=default" is expected to fail)'),
    # A program with a libcrypto of its own in it (static): the module brings another, and errors of the provider inside stay there.
    ("test_evp_extra", "preferred"): re.compile(r" *not ok \d+ - (test_evp_mac_poly1305_no_key|running evp_extra_test)")
}
# More than these few fail in the control: then something is wrong with the installation, and equal results mean little.
CONTROL_MAY_FAIL = 2


def listed():
    """The recipes of ./recipes, each with its programs."""
    with open(os.path.join(HERE, "recipes"), encoding="utf-8") as f:
        lines = [line.split() for line in f if line.strip() and not line.startswith("#")]
    return {words[0]: words[1:] for words in lines}


def check_built():
    missing = [p for programs in listed().values() for p in programs if not os.path.exists(os.path.join(suite.BUILD, p))]
    if missing or not os.path.exists(os.path.join(suite.BUILD, "util/wrap.pl")):
        yield f"{' '.join(missing)}: not built; run: sh test/harmless/programs {suite.HARNESS}"


def openssl(run, configuration, *args):
    return subprocess.run(["/usr/bin/openssl", *args], capture_output=True, timeout=120, check=False, input=b"x" * 16,
                          env={**suite.ENVIRONMENT, "OPENSSL_CONF": os.path.join(run.source, configuration)})


def check_active(run):
    """A wrong path of a module is ignored by OpenSSL: is each configuration what it should be?"""
    for path in suite.CONFIGURATIONS:
        order = re.findall(rb"^  (\w+)$", openssl(run, path, "list", "-providers").stdout, re.M)
        if b"default" not in order or (b"kmsenv" in order) != (run.name != "control"):
            yield f"{run.name}, {path}: the active providers are {order}"
        taken = openssl(run, path, "enc", "-aes-128-ctr", "-K", REFERENCE, "-iv", "0" * 32)
        refused = taken.returncode != 0 and b"kmsenv" in taken.stderr
        if refused != (run.name == "preferred") or not (refused or len(taken.stdout) == 16):
            yield f"{run.name}, {path}: a key that is a reference is {'refused' if refused else 'a key'}"


def is_by_design(recipe, name, control, got):
    more = got.failing - control.failing
    return (recipe, name) in BY_DESIGN and (got.ran, got.skipped) == (control.ran, control.skipped) and more and all(
        BY_DESIGN[recipe, name].fullmatch(line) for line in more)


def compare(recipe, control, got, name):
    if not control.is_whole:
        yield f"{recipe}, control: did not run to its end: {control.text[-500:]}"
    elif recipe in UNSTABLE and (got.passed, got.is_whole) == (control.passed, True):
        return
    elif got.key() != control.key() and not is_by_design(recipe, name, control, got):
        yield f"{recipe}, {name}: {got}; in the control: {control}"
        more = sorted(got.failing - control.failing)
        yield from (f"    {line}" for line in more[:20])
        yield from (f"    | {line}" for line in got.text.splitlines()[-25:])


def all_runs(recipe, runs):
    """A recipe in each configuration, one after the other: it may use a fixed port, and does not meet itself."""
    return {run.name: run.recipe(recipe) for run in runs}


def report(runs, results):
    for run in runs:
        mine = {recipe: result[run.name] for recipe, result in results.items()}
        print(f"{run.name:9}: {len(mine)} recipes, {sum(r.ran for r in mine.values())} tests, "
              f"{sum(r.skipped for r in mine.values())} skipped, {sum(r.seconds for r in mine.values()):.0f} s, "
              f"failing recipes: {' '.join(sorted(n for n, r in mine.items() if not r.passed)) or 'none'}")


def main(args):
    everything = "--all" in args
    recipes = [a for a in args if a != "--all"] or (suite.recipes() if everything else list(listed()))
    recipes = [recipe for recipe in recipes if recipe not in OUT_OF_SCOPE]
    started, results, faults = time.monotonic(), {}, list(check_built())
    with tempfile.TemporaryDirectory(prefix="kmsenv-h", ignore_cleanup_errors=True) as folder, \
            concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = suite.prepare(folder)
        faults += [fault for run in runs for fault in check_active(run)]
        jobs = {} if faults else {pool.submit(all_runs, recipe, runs): recipe for recipe in recipes}
        for done in concurrent.futures.as_completed(jobs):
            recipe, result = jobs[done], done.result()
            results[recipe] = result
            found = [line for run in runs[1:] for line in compare(recipe, result["control"], result[run.name], run.name)]
            faults += found
            if everything:
                print(f"{time.monotonic() - started:5.0f} s  {recipe}: {result['control']}", *found, sep="\n    ", flush=True)
    failing = [recipe for recipe, result in results.items() if not result["control"].passed]
    if len(failing) > CONTROL_MAY_FAIL and not everything:
        faults.append(f"{len(failing)} recipes fail in the control")
    for line in faults:
        print(line)
    report(runs, results)
    return 1 if faults or not results else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
