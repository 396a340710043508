"""What the scenarios with sealed private keys share: a KMS over HTTPS, keys of every type, and a terminal."""
import os
import pty
import select
import subprocess
import time

import cli_common
import common
from common import tencent_profile

BEGIN = b"-----BEGIN KMS SEALED KEY-----\n"
# name: arguments of genpkey. All that the default provider makes.
KEYS = {
    "rsa": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    "rsa-pss": ["-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt", "rsa_pss_keygen_md:sha256"],
    "multi-prime": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt", "rsa_keygen_primes:3"],
    "p-256": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "p-384": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
    "explicit": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"],
    "secp256k1": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"],
    "ed25519": ["-algorithm", "ED25519"],
    "ed448": ["-algorithm", "ED448"],
    "x25519": ["-algorithm", "X25519"],
    "x448": ["-algorithm", "X448"],
    "dh": ["-algorithm", "DH", "-pkeyopt", "group:ffdhe2048"],
    "sm2": ["-algorithm", "SM2"],
}
TLS_KEYS = ("rsa", "p-256", "ed25519")


class SealedScenario(cli_common.CliScenario):
    """self.kms; self.conf, a configuration with it; self.stock, one of OpenSSL alone."""

    def setUp(self):
        super().setUp()
        self.kms = self.standin()
        self.profile = tencent_profile(self.kms)
        self.conf = self.config({"prod": self.profile})
        self.stock = self.file("stock.cnf", "openssl_conf = init\n[init]\n[req]\ndistinguished_name = dn\n[dn]\n")

    def cli(self, *arguments, environment=None, config=None, **more):
        return super().cli(*arguments, environment={"OPENSSL_CONF": config or self.conf, **(environment or {})}, **more)

    def plain(self, *arguments, data=None):
        """OpenSSL without the provider."""
        run = self.openssl(*arguments, config=self.stock, data=data)
        self.assertEqual(run.returncode, 0, run.stderr)
        return run.stdout

    def new_key(self, kind, name="key.pem"):
        if kind == "dsa":
            parameters = self.file("dsa.param", self.plain("genpkey", "-genparam", "-algorithm", "DSA", "-pkeyopt", "dsa_paramgen_bits:1024"))
            pem = self.plain("genpkey", "-paramfile", parameters)
        else:
            pem = self.plain("genpkey", *KEYS[kind])
        return self.file(name, pem)

    def seal(self, path, *arguments, config=None, **more):
        """The sealed key of a file, with the KMS's counters at 0 afterwards."""
        run = self.cli("seal-key", path, *arguments, config=config, **more)
        self.assertEqual((run.returncode, run.stderr), (0, b""), run)
        self.kms.reset()
        return self.file(os.path.basename(path) + ".sealed", run.stdout)

    def pkcs8(self, path, config=None):
        """What OpenSSL with the provider makes of a key file."""
        run = self.openssl("pkey", "-in", path, config=config or self.conf)
        self.assertEqual(run.returncode, 0, run.stderr)
        return run.stdout

    def certificate(self, key, subject="/CN=localhost", name="cert.pem"):
        return self.file(name, self.plain("req", "-x509", "-key", key, "-subj", subject, "-days", "2",
                                          "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:TRUE"))

    def on_terminal(self, arguments, answers=(), config=None, timeout=30, stdin=None, stdout=None):
        """Runs a command that has a terminal: (exit status, all that the terminal showed). answers: (prompt, line) pairs."""
        master, slave = pty.openpty()

        def controlling():
            os.setsid()
            os.close(os.open(os.ttyname(slave), os.O_RDWR))   # the first terminal that is opened becomes the controlling one

        process = subprocess.Popen(arguments, stdin=slave if stdin is None else stdin, stdout=slave if stdout is None else stdout,
                                   stderr=slave, cwd=self.dir, preexec_fn=controlling,
                                   env=common.clean_environment(HOME=self.dir, OPENSSL_CONF=config or self.conf))
        os.close(slave)
        shown, left, end = b"", list(answers), time.monotonic() + timeout
        try:
            while time.monotonic() < end:
                ready, _, _ = select.select([master], [], [], 0.2)
                try:
                    part = os.read(master, 4096) if ready else b""
                except OSError:
                    part = None   # nobody has the terminal open any more
                shown += part or b""
                if left and left[0][0] in shown:
                    time.sleep(0.05)   # it turns the echo off after the prompt
                    os.write(master, left.pop(0)[1] + b"\n")
                if part is None or (not part and process.poll() is not None):
                    break
            process.wait(max(0.1, end - time.monotonic()))
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(10)
            os.close(master)
        self.assertEqual(left, [], "not asked for: %r" % shown)
        return process.returncode, shown
