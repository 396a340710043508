"""The rules that keep the rooms apart, checked over the whole tree and over the built module.

Each rule is a function that yields complaints. Before the tree is checked, every rule is fed a
sample that breaks it and must complain: a rule that cannot fail is itself a failure.
"""
import json
import os
import re
import subprocess
import sys
import tempfile

SOURCE = os.environ.get("KMSENV_TEST_SOURCE") or os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODULE = os.environ.get("KMSENV_TEST_MODULE")

# Who may include whom. include/kmsenv/ is open to all, and a room to itself.
MAY_INCLUDE = {
    "core": {"compat"},
    "compat": set(),
    "kms": {"core", "compat"},
    "dek": {"kms", "core", "compat"},
    "envelope": {"dek", "core", "compat"},
    "ops": {"envelope", "dek", "core", "compat"},
    "entry": {"ops", "envelope", "dek", "kms", "core", "compat"},
    "cli": {"entry", "ops", "envelope", "dek", "kms", "core", "compat"},
}

# What may be said only in certain files of provider/: (what, pattern, files, rooms it does not bind).
ONLY_IN = [
    ("curl", r'#\s*include\s*<curl/|\bcurl_easy_\w+\s*\(', r"kms/http\.c", ()),
    ("cJSON", r'#\s*include\s*<cjson/|\bcJSON_\w+\s*\(', r"kms/json\.c", ()),
    ("nanopb", r'#\s*include\s*[<"]pb\w*\.h|\bpb_(en|de)code\w*\s*\(', r"kms/proto\.c", ()),
    ("PKCS#11", r'#\s*include\s*[<"](p11-kit/|kms/pkcs11\.h)|\bCK_[A-Z]\w+|->\s*C_[A-Z]\w+\s*\(', r"kms/pkcs11\w*\.[ch]", ()),
    ("getenv", r"\b(secure_)?getenv\s*\(", r"entry/config\.c|kms/credentials\w*\.c", ("cli",)),
    ("EVP fetch", r"\bEVP_(CIPHER|MD|MAC|KDF|RAND|KEYMGMT|SIGNATURE|KEM|ASYM_CIPHER)_fetch\s*\(|\bEVP_Q_\w+\s*\(",
     r"core/crypto\.c", ("cli",)),
    ("dlopen", r"\bdlopen\s*\(", r"core/library\.c", ()),
    ("version #if", r"#\s*(if|elif).*\bOPENSSL_VERSION_", r"compat/.*", ()),
    ("error upcall", r"\bOSSL_FUNC_core_(new|vset)_error\b|\bERR_raise(_data)?\s*\(|\bERR_put_error\s*\(",
     r"core/error\.c", ("cli",)),
    ("thread primitive", r"\bpthread_(mutex|cond|rwlock|spin)_\w+\s*\(|\bCRYPTO_THREAD_\w+\s*\(|\bpthread_atfork\s*\(",
     r"core/lock\.c", ("cli",)),
    ("dispatch type", r"\bOSSL_DISPATCH\b|core_dispatch\.h", r"(core|ops|entry|compat)/.*", ()),
    ("unbounded text function", r"\b(strcpy|strcat|sprintf|vsprintf|gets|alloca|strtok)\s*\(", r"(?!)", ()),
]

FILE_LINES = 600
FUNCTION_LINES = 60
CODE = (".c", ".h", ".py", ".sh")
# Written so that they do not match themselves.
MARKS = re.compile(r"\b(TO[D]O|FIX[M]E|X[X]X)\b|\bnot [i]mplemented\b|\bun[i]mplemented\b")
MACHINE = re.compile(r"(?<![\w.])/(wor[k]|far[m])/"
                     r"|https?://[a-z.-]*(debia[n]|np[m]|pyp[i]|pytho[n]|golan[g]|mave[n]|crate[s])[a-z.]*/")
SKIP_DIRS = re.compile(r"^(\.git|build.*|__pycache__)$")


def tree(root):
    """Relative paths of the project's files."""
    for folder, dirs, files in os.walk(root):
        dirs[:] = sorted(d for d in dirs if not SKIP_DIRS.match(d))
        for name in sorted(set(files) - {".git"}):     # a file in a linked work tree
            yield os.path.relpath(os.path.join(folder, name), root)


def text_of(root, path):
    with open(os.path.join(root, path), "rb") as f:
        data = f.read()
    return None if b"\0" in data else data.decode("utf-8", "replace")


def without_comments(text):
    """C text with comments blanked and line numbers kept; string literals stay."""
    def blank(match):
        piece = match.group(0)
        return piece if piece[0] in "\"'" else re.sub(r"[^\n]", " ", piece)
    return re.sub(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|/\*.*?\*/|//[^\n]*', blank, text, flags=re.S)


def without_strings(text):
    return re.sub(r'"(?:\\.|[^"\\\n])*"', '""', text)


def provider_files(root):
    for path in tree(root):
        if path.startswith("provider/") and path.endswith((".c", ".h")):
            room, name = path.split("/", 2)[1:]
            yield path, room, room + "/" + name, without_comments(text_of(root, path))


def line_of(text, at):
    return text.count("\n", 0, at) + 1


def rule_layers(root):
    for path, room, _, text in provider_files(root):
        if room not in MAY_INCLUDE:
            yield f"{path}: no such room: '{room}'"
            continue
        for match in re.finditer(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', text, re.M):
            target = match.group(2)
            where = f"{path}:{line_of(text, match.start())}"
            other = target.split("/")[0]
            if ".." in target.split("/"):
                yield f"{where}: includes are relative to provider/ and include/, not '{target}'"
            elif match.group(1) == '"' and "/" not in target:
                yield f"{where}: say the room: '{target}'"
            elif other in MAY_INCLUDE and other != room and other not in MAY_INCLUDE[room]:
                yield f"{where}: {room} must not include {target}"


def rule_only_in(root):
    for path, room, short, text in provider_files(root):
        code = re.sub(r'(?m)^(?![ \t]*#[ \t]*include).*$', lambda m: without_strings(m.group(0)), text)
        for what, pattern, files, free in ONLY_IN:
            if room in free or re.fullmatch(files, short):
                continue
            for match in re.finditer(pattern, code):
                yield f"{path}:{line_of(code, match.start())}: {what} has no place here, only in {files}"


def rule_sizes(root):
    for path in tree(root):
        if not path.endswith(CODE) or path.startswith("test/vectors/"):
            continue
        lines = text_of(root, path).split("\n")
        if len(lines) - 1 > FILE_LINES:
            yield f"{path}: {len(lines) - 1} lines, at most {FILE_LINES}"
        if path.endswith(".c"):
            start = None
            for number, line in enumerate(lines, 1):
                if line.startswith("{"):
                    start = number
                elif line.startswith("}") and start is not None:
                    if number - start - 1 > FUNCTION_LINES:
                        yield f"{path}:{start}: a function of {number - start - 1} lines, at most {FUNCTION_LINES}"
                    start = None


def rule_marks(root):
    for path in tree(root):
        text = text_of(root, path)
        if text is None or path.endswith(".md") or path.startswith("test/vectors/"):
            continue
        for match in MARKS.finditer(text):
            yield f"{path}:{line_of(text, match.start())}: unfinished: '{match.group(0)}'"


def rule_machine(root):
    for path in tree(root):
        text = text_of(root, path)
        if text is None:
            continue
        for match in MACHINE.finditer(text):
            yield f"{path}:{line_of(text, match.start())}: a path or host of one machine: '{match.group(0)}'"


def rule_private_keys(root):
    begin = re.compile(r"BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{20}")
    for path in tree(root):
        text = text_of(root, path)
        if text is not None and not path.startswith("test/") and begin.search(text):
            yield f"{path}: a private key outside test/"


def rule_guards(root):
    for path in tree(root):
        if path.endswith(".h") and path.startswith(("provider/", "include/")):
            parts = path.split("/")[1:]
            parts = parts if parts[0] == "kmsenv" else ["kmsenv"] + parts
            guard = re.sub(r"\W", "_", "_".join(parts)).upper()
            if not re.search(rf"^#\s*ifndef {guard}$", text_of(root, path), re.M):
                yield f"{path}: its include guard is not {guard}"


def rule_vectors(root):
    """Every folder that the vectors' README lists is there, and every file is one case, whole."""
    base = os.path.join(root, "test", "vectors")
    readme = os.path.join(base, "README.md")
    if not os.path.exists(readme):
        yield "test/vectors/README.md is missing"
        return
    with open(readme, encoding="utf-8") as f:
        listed = set(re.findall(r"^\| `([\w-]+)/` \|", f.read(), re.M))
    if not listed:
        yield "test/vectors/README.md lists no folder"
    for folder in sorted(listed):
        cases = [p for p in tree(os.path.join(base, folder)) if re.match(r"\d\d-.*\.json$", p)] \
            if os.path.isdir(os.path.join(base, folder)) else []
        if not cases:
            yield f"test/vectors/{folder}: no cases"
        for name in cases:
            try:
                with open(os.path.join(base, folder, name), encoding="utf-8") as f:
                    case = json.load(f)
                if case["format"] != "kmsenv-golden-1" or not case["exchanges"]:
                    yield f"test/vectors/{folder}/{name}: not a golden case"
            except (ValueError, KeyError, TypeError) as e:
                yield f"test/vectors/{folder}/{name}: {e!r}"


TREE_RULES = [rule_layers, rule_only_in, rule_sizes, rule_marks, rule_machine, rule_private_keys, rule_guards,
              rule_vectors]


def complaints_about_symbols(nm_output):
    names = [line.split()[-1].split("@")[0] for line in nm_output.splitlines() if line.strip()]
    if names != ["OSSL_provider_init"]:
        yield f"the module must export OSSL_provider_init and nothing else, not: {' '.join(names)}"


def complaints_about_needed(readelf_output):
    needed = re.findall(r"\(NEEDED\).*\[(.*?)\]", readelf_output)
    if not needed:
        yield "readelf shows no NEEDED entry at all"
    for name in needed:
        if not re.match(r"(libc|libcrypto|ld-linux[\w-]*|libm|libpthread|libdl)\.so", name):
            yield f"the module must not be linked with {name}"
    for flag in ("NODELETE", "NOW"):
        if not re.search(rf"FLAGS.*\b{flag}\b", readelf_output):
            yield f"the module is not linked with -z {flag.lower()}"


# For every rule: a path, a content that breaks it, and a word of the complaint.
BAD = [
    ("provider/ops/bad.c", '#include "kms/kms.h"\n', "ops must not include"),
    ("provider/core/bad.c", '#include "dek/cache.h"\n', "core must not include"),
    ("provider/kms/bad.c", '# include <envelope/header.h>\n', "kms must not include"),
    ("provider/kms/bad.c", '#include "../core/error.h"\n', "relative"),
    ("provider/attic/bad.c", "int x;\n", "no such room"),
    ("provider/dek/bad.c", "#include <curl/curl.h>\n", "curl has no place"),
    ("provider/kms/bad.c", "int f(void)\n{\n    return cJSON_IsTrue(0);\n}\n", "cJSON has no place"),
    ("provider/kms/bad.c", "#include <pb_decode.h>\n", "nanopb has no place"),
    ("provider/kms/bad.c", '#include "kms/pkcs11.h"\n', "PKCS#11 has no place"),
    ("provider/entry/bad.c", "#include <p11-kit/pkcs11.h>\n", "PKCS#11 has no place"),
    ("provider/dek/bad.c", "int f(X *x)\n{\n    return x->C_Login(1);\n}\n", "PKCS#11 has no place"),
    ("provider/core/bad.c", 'const char *f(void)\n{\n    return getenv("X");\n}\n', "getenv has no place"),
    ("provider/ops/bad.c", "void *f(void)\n{\n    return EVP_CIPHER_fetch(0, 0, 0);\n}\n", "EVP fetch"),
    ("provider/kms/bad.c", "void *f(void)\n{\n    return dlopen(0, 0);\n}\n", "dlopen"),
    ("provider/dek/bad.c", "#if OPENSSL_VERSION_NUMBER >= 0x30500000L\n#endif\n", "version #if"),
    ("provider/ops/bad.c", "void f(void)\n{\n    ERR_raise(1, 2);\n}\n", "error upcall"),
    ("provider/dek/bad.c", "void f(void)\n{\n    pthread_mutex_lock(0);\n}\n", "thread primitive"),
    ("provider/kms/bad.c", "static const OSSL_DISPATCH x[1];\n", "dispatch type"),
    ("provider/cli/bad.c", "void f(char *x)\n{\n    strcpy(x, x);\n}\n", "unbounded text"),
    ("provider/core/bad.c", "int x;\n" * 601, "601 lines"),
    ("test/bad.c", "void f(void)\n{\n" + "    f();\n" * 61 + "}\n", "function of 61 lines"),
    ("provider/core/bad.c", "/* TO" "DO: later */\n", "unfinished"),
    ("conf/bad.sh", "cd /wor" "k/main\n", "one machine"),
    ("conf/bad", "fetch https://deb.debia" "n.org/x\n", "one machine"),
    ("conf/bad.pem", "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEAxxxx\n", "private key outside"),
    ("provider/core/bad.h", "#ifndef BAD_H\n#endif\n", "include guard"),
    ("test/vectors/README.md", "no table\n", "lists no folder"),
    ("test/vectors/README.md", "| `azure/` | x |\n", "no cases"),
]
GOOD_VECTORS = {"test/vectors/README.md": "| `aws/` | x |\n",
                "test/vectors/aws/01-a.json": '{"format": "kmsenv-golden-1", "exchanges": [1]}'}
GOOD = {"provider/dek/good.c": '#include <string.h>\n#include "kms/kms.h"\n#include "kmsenv/params.h"\n'
                               '/* getenv("X") and curl_easy_init() in words only */\n'
                               'const char *good(void)\n{\n    return "use dlopen() in library.c";\n}\n',
        "provider/kms/good.h": "#ifndef KMSENV_KMS_GOOD_H\n#endif\n",
        "include/kmsenv/good.h": "#ifndef KMSENV_GOOD_H\n#endif\n"}


def check_tree(root):
    return [c for rule in TREE_RULES for c in rule(root)]


def check_sample(files):
    with tempfile.TemporaryDirectory() as root:
        for path, content in files.items():
            os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="utf-8") as f:
                f.write(content)
        return check_tree(root)


def self_check():
    faults = []
    found = check_sample({**GOOD_VECTORS, **GOOD})
    if found:
        faults.append(f"a good sample is refused: {found}")
    for path, content, word in BAD:
        found = check_sample({**GOOD_VECTORS, path: content})
        if not any(word in c for c in found):
            faults.append(f"a bad sample passes: {path} should draw '{word}', drew {found}")
    broken = check_sample({**GOOD_VECTORS, "test/vectors/aws/02-b.json": "{"})
    if not any("02-b.json" in c for c in broken):
        faults.append("a broken vector passes")
    if not list(complaints_about_symbols("00 T OSSL_provider_init\n00 T kmsenv_kms_new\n")) \
            or not list(complaints_about_symbols("")):
        faults.append("a module that exports too much or nothing passes")
    lib = " 0x1 (NEEDED) Shared library: [libcurl.so.4]\n 0x1e (FLAGS) BIND_NOW\n"
    if len(list(complaints_about_needed(lib))) < 2 or not list(complaints_about_needed("")):
        faults.append("a module linked with libcurl passes")
    return faults


def check_module(module):
    run = lambda *argv: subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    return (list(complaints_about_symbols(run("nm", "-D", "--defined-only", module)))
            + list(complaints_about_needed(run("readelf", "-d", "-W", module))))


def main():
    faults = self_check()
    found = check_tree(SOURCE)
    if not any(p.startswith("provider/entry/") for p in tree(SOURCE)):
        found.append(f"{SOURCE} is not the source folder")
    if not MODULE or not os.path.exists(MODULE):
        found.append("KMSENV_TEST_MODULE does not name the built module")
    else:
        found += check_module(MODULE)
    for line in faults + found:
        print(line)
    print(f"{len(BAD) + 5} samples, {len(TREE_RULES) + 2} rules, {len(faults) + len(found)} complaints")
    return 1 if faults or found else 0


if __name__ == "__main__":
    sys.exit(main())
