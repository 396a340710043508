"""The manual pages: they document everything that the binaries and headers have, nothing that these lack, and `man` shows them
without a warning."""
import json
import os
import re
import subprocess

import common
from cli_common import CLI, SOURCE, CliScenario, main

PAGES = ("kmsenv.1", "kmsenv-provider.7", "kmsenv.cnf.5", "kmsenv-format.5")
MAN = "/usr/bin/man"
_ESCAPES = {"\\-": "-", "\\e": "\\", "\\&": "", "\\(aq": "'", "\\(dq": '"', "\\(ha": "^", "\\(ti": "~", "\\(lq": '"', "\\(rq": '"',
            "\\(bu": "*", "\\:": ""}


def source(*path):
    with open(os.path.join(SOURCE, *path), encoding="utf-8") as file:
        return file.read()


def header(name):
    return source("include", "kmsenv", name)


def plain(troff):
    """What a reader sees of a page, a line of troff as a line. Of requests only headings are left, as "== TEXT"."""
    lines = []
    for line in troff.splitlines():
        if line.startswith("."):
            match = re.match(r'\.S[HS] "?([^"]*)"?$', line)
            line = "== " + match[1] if match else ""
        line = re.sub(r"\\f[BIR]", "", line)
        lines.append(re.sub(r"\\(?:\(..|.)", lambda m: _ESCAPES[m[0]], line))
    return "\n".join(lines) + "\n"


def page(name):
    return plain(source("conf", "man", name))


def section(text, heading):
    """From a heading to the next one of the same page."""
    start = text.index("\n== %s\n" % heading)
    end = text.find("\n== ", start + 1)
    return text[start:end if end > 0 else len(text)]


def tagged(troff):
    """What stands in front of paragraphs, one entry per item: the bold words of the lines after .TP."""
    tags = [line for at, line in enumerate(troff.splitlines()) if at > 0 and troff.splitlines()[at - 1] == ".TP"]
    return [word for tag in tags for word in re.findall(r"\\fB(.*?)\\fR", tag.replace("\\-", "-"))]


class Complete(CliScenario):
    def missing(self, words, text, what):
        """Each of the words is in the text as a word of its own."""
        words = sorted(set(words))
        self.assertTrue(words, what)
        absent = [word for word in words if not re.search(r"(?<![\w.-])%s(?![\w-]|\.\w)" % re.escape(word), text)]
        self.assertEqual(absent, [], "not documented: %s" % what)

    def test_this_test_can_fail(self):
        with self.assertRaisesRegex(AssertionError, "kmsenv.wrap'"):
            self.missing(["kmsenv.wraps", "kmsenv.wrap"], "kmsenv.wraps kmsenv.wrapx", "sample")
        self.assertEqual(plain(".SH \"A B\"\n\\fBa\\-b\\fR \\(lqc\\e\n"), "== A B\na-b \"c\\\n")

    def test_commands(self):
        commands = re.findall(r"(?m)^  ([\w-]+) +\S", self.ok("--help"))
        self.assertIn("doctor", commands)
        text = page("kmsenv.1")
        self.missing(re.findall(r"--\w+", self.ok("--help")), section(text, "OPTIONS"), "options")
        for command in commands:
            about = self.ok(command, "--help")
            mine = section(text, "kmsenv " + command)
            options = set(re.findall(r"(?m)^  (--[\w-]+)", about)) - {"--help"}
            self.assertEqual(set(re.findall(r"(?m)^(--[\w-]+)", mine)), options, command)
            synopsis = about.splitlines()[0].split(command, 1)[1]
            self.missing(re.findall(r"\b[a-z]+\b", re.sub(r"--[\w-]+", "", synopsis)) or [command], mine, command)
            # The synopsis of the page, several lines of it if the command has verbs, says the same.
            lines = re.findall(r"(?m)^kmsenv %s (.*)$" % command, section(text, "SYNOPSIS"))
            self.assertEqual(" | ".join(lines).lower(), synopsis.strip().lower(), command)
        self.assertEqual(re.findall(r"(?m)^== kmsenv ([\w-]+)$", text), commands)

    def test_doctor(self):
        """Which settings of a unit are looked at, and which directories."""
        text, sandbox = section(page("kmsenv.1"), "kmsenv doctor"), source("provider", "cli", "doctor_sandbox.c")
        settings = re.findall(r'\{ "(\w+)", check_\w+ \}', sandbox) + re.findall(r'path_trap\(s, "(\w+)"', sandbox)
        self.assertGreater(len(set(settings)), 15)
        self.assertEqual([name for name in settings if name + "=" not in text], [])
        usual = re.findall(r'"(/[\w/]+)"', source("provider", "cli", "doctor_sealed.c").split(" usual[] = {")[1].split("}")[0])
        self.assertGreater(len(usual), 10)
        self.missing([name.replace("/etc/", "") for name in usual], text, "directories of --scan")

    def test_exit_statuses(self):
        statuses = re.findall(r"KMSENV_EXIT_\w+ = (\d)", source("provider", "cli", "cli.h"))
        self.assertEqual(re.findall(r"(?m)^(\d)$", section(page("kmsenv.1"), "EXIT STATUS")), statuses)

    def test_settings(self):
        troff = source("conf", "man", "kmsenv.cnf.5")
        self.assertEqual(troff, self.ok("settings", "--man"), "make it again: kmsenv settings --man >conf/man/kmsenv.cnf.5")
        groups = json.loads(self.ok("settings", "--json"))
        expected = [s["name"] for group in groups for s in group["settings"]]
        self.assertGreater(len(expected), 15)
        self.assertEqual(tagged(troff), expected)
        flat = " ".join(plain(troff).split())
        for group in groups:
            self.assertIn(" %s %s." % (group["title"].upper(), group["where"].replace("`", "")), flat)
            for s in group["settings"]:
                self.assertIn(" ".join(s["help"].replace("`", "").split()), flat)
                self.assertIn("Accepted: %s." % s["accepted"], flat)
                self.assertIn("Environment: %s." % s["environment"], flat)

    def test_kinds_of_kms(self):
        kinds = re.findall(r"kms = ([\w-]+)", " ".join(g["where"] for g in json.loads(self.ok("settings", "--json"))))
        troff = source("conf", "man", "kmsenv-format.5")
        self.assertEqual(sorted(tagged(troff[troff.index("\n.SH WRAPS"):troff.index('\n.SH "KEY REFERENCES"')])), sorted(kinds))

    def test_reasons(self):
        reasons = re.findall(r'X\((\w+),\s+(\d+), "([^"]+)"\)', header("reasons.h"))
        self.assertEqual(len(reasons), header("reasons.h").count(" X(") - 1)     # but for the comment
        items = re.findall(r"(?m)^(\d+) ([A-Z_]+) \((.*)\)\n(.+)$", page("kmsenv-provider.7"))
        self.assertEqual([(name, number, text) for number, name, text, _ in items], reasons)

    def test_parameters(self):
        defined = dict(re.findall(r'#\s*define (KMSENV_\w+)\s+"([^"]+)"', header("params.h")))
        counters = re.findall(r'X\(\w+,\s+"([^"]+)"', header("params.h"))
        self.assertGreater(min(len(defined), len(counters)), 10)
        text = page("kmsenv-provider.7")
        self.missing(defined.values(), text, "params.h")
        parameters = {text for name, text in defined.items() if "_PARAM_" in name} | set(counters)
        self.assertEqual(parameters - set(tagged(source("conf", "man", "kmsenv-provider.7"))), set(), "parameters without a paragraph")
        mentioned = set(re.findall(r"kmsenv\.[a-z][a-z-]*", text)) - {"kmsenv.so", "kmsenv.cnf"}
        self.assertEqual(mentioned - {*defined.values(), *counters}, set(), "no such parameter")

    def test_members_of_json(self):
        """What programs read: the JSON of commands, and of the audit log."""
        def names(value):
            if isinstance(value, list):
                return {name for one in value for name in names(one)}
            return {name for key, one in value.items() for name in {key} | (names(one) if key != "context" else set())} \
                if isinstance(value, dict) else set()

        log = os.path.join(self.dir, "audit.log")
        config = self.local_config(audit_log=log)
        run = self.openssl("enc", "-kms-envelope", "-K", "0", config=config, data=common.TEXT)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.file("message", run.stdout)
        self.file("salted", b"Salted__12345678" + run.stdout)
        self.file("short", run.stdout[:-20])
        run = self.openssl("genpkey", "-algorithm", "kms-envelope", config=config)
        self.file("dek.pem", run.stdout)
        key = self.file("key.pem", self.openssl("genpkey", "-algorithm", "ed25519").stdout)
        run = self.cli("seal-key", key, "-o", "sealed.pem", environment={"OPENSSL_CONF": config})
        self.assertEqual(run.returncode, 0, run.stderr)
        shown = [json.loads(self.ok("inspect", "--json", name)) for name in ("message", "salted", "short", "dek.pem", "sealed.pem")]
        page_1 = page("kmsenv.1")
        self.missing(names(shown), section(page_1, "kmsenv inspect"), "inspect --json")
        self.missing(names(json.loads(self.ok("settings", "--json"))), section(page_1, "kmsenv settings"), "settings --json")
        report = self.cli("doctor", "--json", "--config", config).stdout
        self.missing(names(json.loads(report)), section(page_1, "kmsenv doctor"), "doctor --json")
        lines = [json.loads(line) for line in self.read(log).decode().splitlines()]
        audit = section(page("kmsenv-provider.7"), "AUDIT LOG")
        self.missing(names(lines), audit, "audit log")
        self.missing([line["operation"] for line in lines], audit, "operations")
        self.missing(re.findall(r'add_\w+\(line, "(\w+)"', source("provider", "kms", "audit.c")), audit, "audit.c")
        self.missing(re.findall(r'operation_begin\(&op, kms, "(\w+)"', source("provider", "kms", "kms.c")), audit, "kms.c")

    def test_algorithms(self):
        """What the built provider offers, as `openssl list` has it."""
        config = self.local_config()
        text, offered = page("kmsenv-provider.7"), {}
        for kind in ("cipher-algorithms", "key-managers", "store-loaders", "asymcipher-algorithms", "kem-algorithms"):
            run = self.openssl("list", "-" + kind, "-provider", "kmsenv", config=config)
            self.assertEqual(run.returncode, 0, run.stderr)
            offered[kind] = [name for line in run.stdout.decode().splitlines() if line.endswith("@ kmsenv")
                             for name in re.findall(r"[\w.-]+", line.rsplit("@", 1)[0].rsplit("IDs:", 1)[-1])]
        ciphers = [name for name in offered.pop("cipher-algorithms") if not name.startswith("KMS-")]
        self.assertEqual(len(ciphers), 4)
        self.missing(ciphers, text, "ciphers")
        for kind, names in offered.items():
            self.missing(names, text, kind)
        self.missing(["%s:" % name for name in offered["store-loaders"]], section(text, "URIS").replace(":", ": "), "URIs")

    def test_format(self):
        """Every number of format.h, with its value; every text of it."""
        text = page("kmsenv-format.5")
        numbers, texts = {}, []
        for name, value in re.findall(r"#\s*define (KMSENV_\w+)[ ]+(\S.*?)\s*(?:/\*.*)?(?m:$)", header("format.h")):
            if value.startswith('"'):
                texts.append(value.strip('"'))
            else:
                numbers[name] = value
        self.assertGreater(min(len(numbers), 4 * len(texts)), 15)
        limits = section(text, "LIMITS")
        self.assertEqual(dict(re.findall(r"(?m)^(KMSENV_\w+) +(\(.*?\)|\S+)", limits)), numbers)
        for word in texts:
            self.assertIn(word, text[:text.index(limits)])
        labels = [word for name, word in re.findall(r'(KMSENV_PEM_\w+)\s+"([^"]+)"', header("format.h"))]
        troff = source("conf", "man", "kmsenv-format.5")
        self.assertEqual(tagged(troff[troff.index('\n.SH "PEM FILES"'):troff.index('\n.SH "SMALL SECRETS"')]), labels)

    def test_names_that_pages_use(self):
        """Options, variables and settings that are spoken of exist."""
        settings = [s for group in json.loads(self.ok("settings", "--json")) for s in group["settings"]]
        known = {s["environment"] for s in settings} | {"KMSENV_", "KMSENV_R_", "KMSENV_KMS"}
        known |= set(re.findall(r"#\s*define (KMSENV_\w+)", header("format.h") + header("params.h")))
        known |= set(re.findall(r"-----BEGIN (KMSENV)", header("format.h"))) | {"KMSENV"}
        names = {s["name"] for s in settings}
        for name in PAGES:
            self.assertEqual(set(re.findall(r"\bKMSENV_[A-Z0-9_]*", page(name))) - known, set(), name)
            said = re.findall(r"\\fB([a-z]+(?:-[a-z]+)*) = [^\\]*\\fR", source("conf", "man", name).replace("\\-", "-"))
            self.assertEqual(set(said) - names, set(), name)
            for other, number in re.findall(r"(?m)\b(kmsenv(?:[-.]\w+)?)\((\d)\)", page(name)):
                self.assertIn("%s.%s" % (other, number), PAGES)

    def test_version(self):
        version = re.match(r"kmsenv (\S+) ", self.ok("--version"))[1]
        for name in PAGES:
            title = source("conf", "man", name).split(".TH ", 1)[1].splitlines()[0]
            self.assertIn('"kmsenv %s"' % version, title, name)
            self.assertTrue(title.startswith(name.rsplit(".", 1)[0].upper().replace("-", "\\-") + " " + name[-1] + " "), title)


class Shown(CliScenario):
    def man(self, path, width=80):
        run = subprocess.run([MAN, "--warnings=w", "-E", "UTF-8", "-P", "cat", "-l", path], capture_output=True, timeout=60,
                             env=common.clean_environment(HOME=self.dir, MANWIDTH=str(width)))
        self.assertEqual(run.returncode, 0, run)
        return run.stdout.decode(), run.stderr.decode()

    def test_warnings_are_seen(self):
        bad = self.file("bad.1", '.TH BAD 1 "" "" ""\n.SH NAME\nbad \\- broken\n.FROB\n')
        self.assertIn("FROB", self.man(bad)[1])

    def test_no_warnings(self):
        for name in PAGES:
            text, warnings = self.man(os.path.join(SOURCE, "conf", "man", name))
            self.assertEqual(warnings, "", name)
            self.assertIn("\nNAME\n", text)
            self.assertIn("\nSEE ALSO\n", text)
            self.assertEqual([line for line in text.splitlines() if len(line) > 80], [], name)

    def test_whatis_finds_them(self):
        for name in PAGES:
            run = subprocess.run(["/usr/bin/lexgrog", os.path.join(SOURCE, "conf", "man", name)], capture_output=True, timeout=60)
            self.assertIn(('"%s - ' % name[:-2]).encode(), run.stdout)

    def test_installed(self):
        run = subprocess.run(["cmake", "--install", common.BUILD], capture_output=True, timeout=120,
                             env=common.clean_environment(DESTDIR=self.dir))
        self.assertEqual(run.returncode, 0, run)
        installed = [os.path.relpath(os.path.join(folder, name), self.dir)
                     for folder, _, names in os.walk(self.dir) for name in names]
        for name in PAGES:
            self.assertTrue(any(path.endswith("/man/man%s/%s" % (name[-1], name)) for path in installed), (name, installed))


if __name__ == "__main__":
    main()
