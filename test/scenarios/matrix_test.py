#!/usr/bin/python3
"""Is the table of everything that can go wrong (matrix.py) run for every back end that the provider
has? Every row is either run for it, or declared as impossible with the reason."""
import importlib
import os
import re
import unittest

import common
import matrix

import dialects

# in the matrix without a stand-in; those that have tests of their own only
OFFLINE, OWN = {"local"}, {"pkcs11"}


def module_name(kind, kms):
    return kind % kms.replace("-", "_")


class Declared(unittest.TestCase):
    def for_each(self, check):
        for kms in sorted({*dialects.ALL, *OFFLINE}):
            with self.subTest(kms):
                check(kms, importlib.import_module(module_name("backend_%s", kms)).Backend())

    def test_every_kms_of_the_provider_is_in_the_matrix(self):
        path = os.path.join(common.TEST, "..", "provider", "kms", "registry.c")
        with open(path, encoding="utf-8") as source:
            methods = re.findall(r"^    &kmsenv_kms_(\w+),$", source.read(), re.M)
        self.assertGreaterEqual(len(methods), 4)
        self.assertEqual({name.replace("_", "-") for name in methods} - OWN, {*dialects.ALL, *OFFLINE})

    def test_every_row_is_run_or_declared(self):
        def check(kms, backend):
            self.assertEqual(backend.kms, kms)
            self.assertEqual(backend.faults_of_the_description(), [])
            cases = list(backend.cases())
            run = {(row.name, verb) for row, verb, absent in cases if not absent}
            declared = {(row.name, verb): absent for row, verb, absent in cases if absent}
            self.assertEqual(run | set(declared), {(row.name, verb) for row in [*matrix.ROWS, *backend.rows] for verb in row.verbs})
            self.assertFalse(run & set(declared))
            for case, why in declared.items():
                self.assertGreaterEqual(len(why), 15, case)
            self.assertGreater(len(run), 90 if backend.network else 10, declared)
        self.for_each(check)

    def test_every_scenario_file_runs_it(self):
        def check(kms, backend):
            module = importlib.import_module(module_name("%s_test", kms))
            users = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, matrix.Case)]
            self.assertEqual([type(user.backend) for user in users if user.backend is not None], [type(backend)])
        self.for_each(check)

    def test_every_dialect_knows_the_neutral_misbehaviours(self):
        def check(kms, backend):
            if not backend.network:
                return
            dialect = backend.dialect
            self.assertEqual(set(dialects.ERRORS) - set(dialect.errors) - set(dialect.lacks), set())
            self.assertEqual(set(dialects.TAMPERS) - set(dialect.tampers) - set(dialect.lacks), set())
            self.assertEqual(set(dialect.lacks) & (set(dialect.errors) | set(dialect.tampers)), set())
            self.assertEqual(set(dialect.lacks) - set(dialects.ERRORS) - set(dialects.TAMPERS), set())
        self.for_each(check)


if __name__ == "__main__":
    common.main()
