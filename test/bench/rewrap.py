#!/usr/bin/python3
"""How fast `kmsenv rewrap` goes through a keyring under a local master key, and what memory it takes.

  sh test/bench/run --rewrap [--files 100000] [--jobs 1,4] [--directory DIR]

DIR is where the keyring goes: a rewrap syncs every file, so the disk counts. The yardstick
is a program that only replaces as many files of that size, with as many threads, and syncs each.
"""
import argparse
import base64
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

import reader  # noqa: E402


def run(build, command, environment):
    """Wall and CPU seconds, peak MiB, output. Counted by `measure`: Python's own memory would be counted, too."""
    reading, writing = os.pipe()
    started = subprocess.Popen([os.path.join(build, "measure"), str(writing), "1", *command], env=environment,
                               stdout=subprocess.PIPE, text=True, pass_fds=(writing,))
    os.close(writing)
    out = started.stdout.read()
    with os.fdopen(reading) as report:
        text = report.read()
    if started.wait(900) != 0:
        raise SystemExit("%s failed\n%s" % (" ".join(command[:2]), out))
    cpu, wall, peak = text.split()
    return float(wall), float(cpu), int(peak) / 1024, out


def pem_of(key):
    text = base64.b64encode(key.encode()).decode()
    return "-----BEGIN KMS DATA KEY-----\n%s\n-----END KMS DATA KEY-----\n" % "\n".join(textwrap.wrap(text, 64))


def fill(ring, key_file, files):
    local = reader.LocalKey(key_file)
    for _ in range(files):
        _, key = local.new_data_key()
        with open(os.path.join(ring, key.id.hex() + ".pem"), "w", encoding="ascii") as out:
            out.write(pem_of(key))


def replace_all(ring, jobs):
    """The yardstick: seconds to replace every file with its own content, synced."""
    names = os.listdir(ring)

    def some(mine):
        for name in mine:
            path = os.path.join(ring, name)
            with open(path, "rb") as source:
                data = source.read()
            fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            os.write(fd, data)
            os.fsync(fd)
            os.close(fd)
            os.rename(path + ".new", path)

    threads = [threading.Thread(target=some, args=(names[i::jobs],)) for i in range(jobs)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - started


def main():
    parser = argparse.ArgumentParser(prog="test/bench/run --rewrap")
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--files", type=int, default=100000)
    parser.add_argument("--jobs", default="1,4")
    parser.add_argument("--directory")
    arguments = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="kmsenv-bench-", dir=arguments.directory)
    try:
        ring, key_file = os.path.join(directory, "ring"), os.path.join(directory, "key.pem")
        kmsenv = os.path.join(arguments.build, "kmsenv", "kmsenv")
        environment = {"PATH": os.environ["PATH"], "HOME": directory, "OPENSSL_CONF": os.devnull, "LC_ALL": "C.UTF-8",
                       "OPENSSL_MODULES": os.path.dirname(kmsenv), "KMSENV_KMS": "local", "KMSENV_KEY_FILE": key_file, "KMSENV_KEYRING": ring}
        os.mkdir(ring)
        subprocess.run([kmsenv, "init", "--key-file", key_file], check=True, capture_output=True, env=environment)
        fill(ring, key_file, 1)
        one = run(arguments.build, [kmsenv, "rewrap", ring], environment)[2]
        fill(ring, key_file, arguments.files - 1)
        for jobs in map(int, arguments.jobs.split(",")):
            subprocess.run([kmsenv, "init", "--key-file", key_file, "--rotate"], check=True, capture_output=True, env=environment)
            wall, cpu, peak, out = run(arguments.build, [kmsenv, "rewrap", "--jobs", str(jobs), ring], environment)
            if "rewrapped %d, unchanged 0, failed 0, skipped 0" % arguments.files not in out:
                raise SystemExit("not all were rewrapped: " + out)
            yardstick = replace_all(ring, jobs)
            print("%d files, %d jobs: %.0f files/s (wall %.1f s, CPU %.1f s, %.0f us a file); replacing them alone %.0f files/s; "
                  "RSS %.1f MiB, for one file %.1f MiB" % (arguments.files, jobs, arguments.files / wall, wall, cpu,
                                                        1e6 * cpu / arguments.files, arguments.files / yardstick, peak, one), flush=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
