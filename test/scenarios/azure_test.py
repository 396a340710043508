#!/usr/bin/python3
"""kmsenv under Azure Key Vault and Managed HSM: wraps and what is in them, versions of keys, tokens from
every source. Every test asserts the number of calls, and that nothing secret is told."""
import json
import os
import subprocess
import time
from dataclasses import replace

import backend_azure
import cli_common
import common
import matrix
from common import TEXT
from dialects import azure
from hygiene_test import search_memory
from matrix import CONFIG, CREDENTIALS, DENIED, DISABLED, MISMATCH, NOT_FOUND, OK, REJECTED, REQUEST, UNREACHABLE, once


class Matrix(matrix.Case):
    backend = backend_azure.Backend()

    def no_such_version(self, run):
        run.key_id = azure.key_id_of(self.kms.key_id) + "/" + "0" * 32

    @staticmethod
    def key_name(key_id):
        return key_id.rsplit("/", 1)[1]


class AzureCase(matrix.BackendCase):
    backend = backend_azure.Backend()

    def profile(self, **more):
        return self.backend.profile(self.kms, **more)

    def azure_config(self, settings=None, **more):
        return self.config({"prod": self.profile(**more)}, audit_log=self.audit, **{**self.backend.provider, **(settings or {})})

    def one(self, **more):
        """A message, and its wrap; the calls that it took are forgotten."""
        message = self.sealed(**more)[0]
        self.kms.reset()
        return message, self.wrap_of(message)

    def tried(self, config, reason, message=None, words=None, environment=None):
        """Seals, or opens a message, with a new process: what comes of it."""
        with common.Tool(self.dir, config, environment) as kmsenv:
            result = kmsenv.seal([TEXT])[0] if message is None else kmsenv.open([message])[0]
            answer, stderr = kmsenv.last, kmsenv.stderr()
        self.check_no_secret(answer, stderr)
        self.assertEqual((answer["reason"], answer["entries"]), (reason, int(reason != OK)), answer)
        if reason == OK and message is not None:
            self.assertEqual(result, TEXT)
        if words:
            self.assertRegex(answer["error"], words)
        return result

    def round_trip(self, config, environment=None):
        self.tried(config, OK, self.tried(config, OK, environment=environment), environment=environment)

    def altered(self, message, **changes):
        return common.with_wraps(message, [replace(self.wrap_of(message), **changes)])

    def tokens(self, name="identity"):
        """How many tokens the metadata service has given."""
        return self.kms.counters()["actions"].get("metadata", {}).get(name, {"ok": 0})["ok"]


class Wraps(AzureCase):
    def test_openssl_enc(self):
        config = self.azure_config(context="app=billing,env=täst \"q\"")
        run = self.openssl("enc", "-kms-envelope", "-K", "0", data=TEXT * 1000, config=config)
        self.assertEqual(run.returncode, 0, run.stderr)
        back = self.openssl("enc", "-d", "-kms-envelope", "-K", "0", data=run.stdout, config=config)
        self.assertEqual((back.returncode, back.stdout), (0, TEXT * 1000), back.stderr)
        self.assertEqual((self.kms.calls("wrapkey"), self.kms.calls("unwrapkey"), self.kms.calls(), self.tokens()), (1, 1, 2, 2))
        wrap = self.wrap_of(run.stdout)
        self.assertEqual((wrap.kms, wrap.key_id, len(wrap.ciphertext)), ("azure", azure.key_id_of(self.kms.key_id), 256))
        self.assertEqual((len(wrap.extra), wrap.extra[0]), (17, 1))
        self.check_no_secret(run.stderr, back.stderr)

    def test_without_context_the_data_key_alone_is_wrapped(self):
        for context, size in ((None, 32), ("app=billing", 32 + backend_azure.SEAL_LEN)):
            wrap = self.one(context=context)[1]
            self.assertEqual(len(azure.unwrap(self.keystore(), self.kms.key_id, 1, "RSA-OAEP-256", wrap.ciphertext)), size)

    def test_block_size(self):
        """It follows the kind of wraps by itself; one that is set and too small is told what to set."""
        for name in ("backup-2024", "a-key-with-a-name-of-uncommon-length-for-backups-of-2024"):
            profile = self.profile(key_id=azure.key_id_of(self.kms.create_key(name)))
            config = self.config({"prod": profile})
            self.tried(config, OK, self.tried(config, OK))
            if len(name) > 40:
                self.tried(self.config({"prod": profile}, block_size=512), 8, words="block-size")

    def test_contexts(self):
        message, wrap = self.one(context="app=billing")
        plain = self.one()[0]
        config = self.azure_config()
        for context in ((("app", "bi11ing"),), (), (("app", "billing"), ("x", "y"))):
            self.tried(config, REJECTED, self.altered(message, context=context), "encryption context")
        self.tried(config, REJECTED, self.altered(plain, context=(("app", "billing"),)), "no encryption context")
        self.assertEqual(self.kms.calls("unwrapkey", "ok"), 4)
        self.tried(config, OK, message)

    def test_another_plaintext_without_context(self):
        message, config = self.one()[0], self.azure_config()
        for kind, words in (("short-plaintext", "31"), ("wrong-plaintext", "data key")):
            self.kms.misbehave(*once(kind, action="unwrapkey"))
            self.tried(config, MISMATCH, message, words)

    def test_what_a_wrap_says_leads_nowhere_else(self):
        message, wrap = self.one()
        name, extra = self.kms.key_id, wrap.extra
        elsewhere = "https://127.0.0.1:%d/keys/%s" % (self.kms.ports["trap"], name)
        other_vault = azure.key_id_of(name, "hsm")
        with_version = "%s/%s" % (wrap.key_id, extra[1:].hex())
        config = self.azure_config(**{"decrypt-keys": ", ".join((elsewhere, other_vault, with_version, "plain-name"))})
        for key_id, words in ((elsewhere, "another vault"), (other_vault, "another vault"), (with_version, "names no key"),
                              ("plain-name", "names no key")):
            self.tried(config, REJECTED, self.altered(message, key_id=key_id), words)
        for bad in (None, b"x", extra[:-1], extra + b"0", b"\0" + extra[1:], b"\3" + extra[1:], b"RSA-OAEP-256/../x"):
            self.tried(config, REJECTED, self.altered(message, extra=bad), "extra")
        self.assertEqual((self.kms.calls(), self.kms.trapped(), self.tokens()), (0, 0, 0))
        self.tried(config, NOT_FOUND, self.altered(message, extra=extra[:1] + bytes(16)), "KeyNotFound")
        self.tried(config, REJECTED, self.altered(message, extra=b"\2" + extra[1:]), "BadParameter")
        self.tried(config, OK, message)

    def test_rotation(self):
        first, old = self.one()
        self.kms.rotate(self.kms.key_id)
        second, new = self.one()
        self.assertNotEqual(old.extra, new.extra)
        self.assertEqual(old.key_id, new.key_id)
        config = self.azure_config()
        self.tried(config, OK, first)
        self.tried(config, OK, second)
        self.tried(config, REJECTED, self.altered(first, extra=new.extra))
        pinned = "%s/%s" % (old.key_id, old.extra[1:].hex())
        third, wrap = self.one(key_id=pinned)
        self.assertEqual((wrap.key_id, wrap.extra), (old.key_id, old.extra))
        self.tried(config, OK, third)
        self.tried(self.azure_config(key_id=pinned), OK, second)

    def test_managed_hsm(self):
        name = self.kms.create_key(kty="oct-HSM")
        hsm = {"key_id": azure.key_id_of(name, "hsm"), "algorithm": "A256KW"}
        for context, size in ((None, 40), ("app=billing", 80)):
            message, wrap = self.one(context=context, **hsm)
            self.assertEqual((len(wrap.ciphertext), wrap.extra[0]), (size, 2))
            self.tried(self.azure_config(**hsm), OK, message)
            self.tried(self.azure_config(**hsm), REJECTED, self.altered(message, ciphertext=bytes(size)), "damaged")
        self.assertEqual((self.kms.calls("unwrapkey"), self.kms.calls()), (2, 2))
        self.tried(self.azure_config(**{**hsm, "algorithm": "RSA-OAEP-256"}), REQUEST, words="algorithm")
        self.tried(self.azure_config(algorithm="A256KW"), REQUEST, words="algorithm")
        # a token for vaults is none for an HSM, which says so
        self.tried(self.azure_config(**hsm, resource="https://vault.azure.net"), CREDENTIALS,
                   words="wants one for https://managedhsm.azure.net, given by https://login.microsoftonline.com/" + azure.TENANT)

    def test_wraps_a_key_made_elsewhere(self):
        key_file = common.local_key_file(os.path.join(self.dir, "local.pem"))
        both = self.config({"main": common.local_profile(key_file), "prod": self.profile(context="app=billing")}, block_size=1024)
        message = self.tried(both, OK)
        self.assertEqual((self.kms.calls("wrapkey", "ok"), self.kms.calls()), (1, 1))
        self.tried(self.azure_config(), OK, message)
        self.assertEqual((self.kms.calls("unwrapkey", "ok"), self.kms.calls()), (1, 2))

    def test_denied_for_one_of_two_operations(self):
        message, config = self.one()[0], self.azure_config({"dek_reuse": "no"})
        with common.Tool(self.dir, config) as kmsenv:
            self.assertIsNotNone(kmsenv.seal([TEXT])[0], kmsenv.last)
            self.kms.credentials(id=self.kms.log()[-1]["signedBy"], deny=["unwrapkey"])
            self.assertIsNotNone(kmsenv.seal([TEXT])[0], kmsenv.last)
            self.assertEqual(kmsenv.open([message]), [None])
            self.assertEqual(kmsenv.last["reason"], DENIED, kmsenv.last)
            self.assertRegex(kmsenv.last["error"], "unwrapKey")

    def test_doctor_unwraps(self):
        """A disabled key still wraps: whoever only tries that writes what nobody can read."""
        config = self.azure_config({"dek_reuse": "no"})
        for state, status in (("Enabled", 0), ("Disabled", 1)):
            self.kms.reset()
            self.kms.set_state(self.kms.key_id, state)
            run = subprocess.run([cli_common.CLI, "doctor", "--json", "--config", config], capture_output=True, timeout=60,
                                 env=common.clean_environment(HOME=self.dir))
            self.check_no_secret(run.stdout, run.stderr)
            self.assertEqual(run.returncode, status, run.stdout)
            checks = [check for check in json.loads(run.stdout)["checks"] if check["subject"] == "profile prod"]
            self.assertEqual([check["outcome"] for check in checks], ["failed" if status else "ok"])
            self.assertIn("cannot unwrap" if status else "unwrapped", checks[0]["message"])
            if status:
                self.assertIn("KeyDisabled", checks[0]["message"])
            self.assertEqual((self.kms.calls("wrapkey", "ok"), self.kms.calls("unwrapkey")), (1, 1))


class Operations(AzureCase):
    """Those that no cipher reaches, by kms_tool."""

    def tool_says(self, operation, **more):
        path = os.environ.get("KMSENV_TEST_KMS_TOOL") or os.path.join(common.BUILD, "test", "kms_tool")
        words = ["%s=%s" % pair for pair in self.profile(**more).items() if pair[0] != "kms" and pair[1] is not None]
        run = subprocess.run([path, operation, "azure", *words], capture_output=True, timeout=60, env=common.clean_environment(HOME=self.dir))
        self.assertEqual((run.returncode, run.stderr), (0, b""), run)
        self.check_no_secret(run.stdout)
        return json.loads(run.stdout)

    def test_describe(self):
        self.assertEqual(self.tool_says("describe"), {"ok": True, "reason": OK, "text": "Enabled"})
        self.assertEqual((self.kms.calls("key", "ok"), self.kms.calls()), (1, 1))
        self.assertRegex(self.tool_says("describe", algorithm="A256KW")["text"], "not of the type oct")
        name = self.kms.create_key(ops=["sign", "wrapKey"])
        self.assertRegex(self.tool_says("describe", key_id=azure.key_id_of(name))["text"], "key_ops must have wrapKey and unwrapKey")
        self.kms.set_state(self.kms.key_id, "Disabled")
        answer = self.tool_says("describe")
        self.assertEqual(answer["reason"], DISABLED)
        self.assertRegex(answer["text"], "disabled.*enable it")
        self.kms.delete_key(self.kms.key_id)
        self.assertEqual(self.tool_says("describe")["reason"], NOT_FOUND)


class Tokens(AzureCase):
    """Sources of tokens; the metadata service is not there unless a test says so."""

    def profile(self, **more):
        return super().profile(**{"metadata-endpoint": "http://127.0.0.1:1", **{k.replace("_", "-"): v for k, v in more.items()}})

    def application(self, **more):
        return {"tenant_id": azure.TENANT, "client_id": self.kms.secret_id, "client_secret": self.kms.secret_key, **more}

    def environment(self, **more):
        return {"AZURE_TENANT_ID": azure.TENANT, "AZURE_CLIENT_ID": self.kms.secret_id, "AZURE_CLIENT_SECRET": self.kms.secret_key, **more}

    def test_client_secret(self):
        self.round_trip(self.azure_config(**self.application()))
        self.assertEqual((self.kms.calls("token", "ok"), self.kms.calls()), (2, 4))
        self.round_trip(self.azure_config(**self.application(client_secret="env:MY_SECRET")), {"MY_SECRET": self.kms.secret_key})
        secret = self.file("secret", self.kms.secret_key + "\n")
        self.round_trip(self.azure_config(**self.application(tenant_id=None, client_secret="file:" + secret)),
                        {"AZURE_TENANT_ID": azure.TENANT})

    def test_environment(self):
        config = self.azure_config(authority=None)
        self.round_trip(config, self.environment(AZURE_AUTHORITY_HOST=self.kms.endpoint + "/"))
        self.assertEqual((self.kms.calls("token", "ok"), self.kms.calls()), (2, 4))
        self.tried(config, CREDENTIALS, words="tenant-id", environment=self.environment(AZURE_TENANT_ID=""))
        self.tried(config, CREDENTIALS, words="client-id", environment=self.environment(AZURE_CLIENT_ID=""))
        for tenant in ("../x", "a/b", "a b", ".", "x" * 200):
            self.tried(config, CREDENTIALS, words="AZURE_TENANT_ID", environment=self.environment(AZURE_TENANT_ID=tenant))
        self.assertEqual(self.kms.calls(), 4)

    def test_refused_sign_in(self):
        config = self.azure_config(**self.application(client_secret="TESTwrong"))
        self.secrets.append(b"TESTwrong")
        self.tried(config, CREDENTIALS, words="AADSTS7000215: invalid_client: .*client-secret")
        self.tried(self.azure_config(**self.application(tenant_id="other.example")), CREDENTIALS, words="AADSTS90002: .*tenant-id")
        self.tried(self.azure_config(**self.application(resource="https://other.example")), CREDENTIALS, words="AADSTS70011: .*resource")
        self.assertEqual((self.kms.calls("token"), self.kms.calls()), (3, 3))

    def test_sign_in_is_tried_again(self):
        config = self.azure_config(**self.application())
        for kind, more in (("http", {"status": 429}), ("http", {"status": 503}), ("drop-before", {})):
            self.kms.reset()
            self.kms.misbehave(*once(kind, action="token", **more))
            self.tried(config, OK)
            self.assertEqual((self.kms.calls("token"), self.kms.calls("wrapkey")), (2, 1))
        self.kms.reset()
        self.kms.misbehave({"do": "http", "status": 500, "action": "token"})
        self.tried(config, UNREACHABLE, words="sign-in")
        self.kms.reset()
        self.kms.misbehave({"do": "garbage", "action": "token"})
        self.tried(config, matrix.MALFORMED, words="sign-in")
        self.assertEqual((self.kms.calls("token"), self.kms.calls()), (1, 1))

    def test_workload_identity(self):
        path = self.file("token", "test-web-identity-token\n")
        environment = {"AZURE_TENANT_ID": azure.TENANT, "AZURE_CLIENT_ID": azure.CLIENT, "AZURE_FEDERATED_TOKEN_FILE": path,
                       "AZURE_AUTHORITY_HOST": self.kms.endpoint}
        self.round_trip(self.azure_config(authority=None), environment)
        self.round_trip(self.azure_config(tenant_id=azure.TENANT, client_id=azure.CLIENT, federated_token_file=path))
        self.assertEqual((self.kms.calls("token", "ok"), self.kms.calls()), (4, 8))
        self.file("token", "of somebody else")
        self.secrets.append(b"of somebody else")
        self.tried(self.azure_config(), CREDENTIALS, words="invalid_client", environment=environment)
        self.tried(self.azure_config(), CREDENTIALS, words="/nonexistent/token",
                   environment={**environment, "AZURE_FEDERATED_TOKEN_FILE": "/nonexistent/token"})
        self.assertEqual(self.kms.calls("token"), 5)

    def test_app_service(self):
        environment = {"IDENTITY_ENDPOINT": self.kms.metadata_endpoint + "/msi/token", "IDENTITY_HEADER": azure.APP_HEADER}
        self.secrets.append(azure.APP_HEADER.encode())
        self.round_trip(self.azure_config(), environment)
        self.round_trip(self.azure_config(client_id=azure.CLIENT), environment)
        self.assertEqual((self.tokens("app"), self.kms.calls()), (4, 4))
        self.tried(self.azure_config(), CREDENTIALS, words="401", environment={**environment, "IDENTITY_HEADER": "no"})
        self.tried(self.azure_config(), CREDENTIALS, words="plain http", environment={**environment, "IDENTITY_ENDPOINT": "http://kms.example/"})
        self.assertEqual(self.kms.calls(), 4)

    def test_instance(self):
        self.round_trip(self.azure_config(metadata_endpoint=self.kms.metadata_endpoint))
        self.round_trip(self.azure_config(metadata_endpoint=self.kms.metadata_endpoint), {"AZURE_CLIENT_ID": azure.CLIENT})
        self.assertEqual((self.tokens(), self.kms.calls()), (4, 4))
        self.tried(self.azure_config(metadata_endpoint=self.kms.metadata_endpoint, client_id="someone-else"), CREDENTIALS,
                   words="no such managed identity.*client-id")
        self.kms.misbehave(*once("http", action="metadata", status=410))
        self.tried(self.azure_config(metadata_endpoint=self.kms.metadata_endpoint), OK)
        self.assertEqual(self.tokens(), 5)

    def test_instance_that_is_slow(self):
        """Its connection comes about at once, its answer after longer than a connection may take."""
        self.kms.misbehave(*once("latency", action="metadata", ms=2500))
        self.tried(self.azure_config(metadata_endpoint=self.kms.metadata_endpoint), OK)
        self.assertEqual(self.tokens(), 1)

    def test_none_and_the_one_that_is_chosen(self):
        self.tried(self.azure_config(), CREDENTIALS, words="client-secret.*AZURE_FEDERATED_TOKEN_FILE")
        self.tried(self.azure_config(credentials="workload-identity"), CREDENTIALS, words="AZURE_FEDERATED_TOKEN_FILE not set",
                   environment=self.environment())
        self.assertEqual(self.kms.calls(), 0)

    def test_expired_token_is_replaced(self):
        with common.Tool(self.dir, self.azure_config({"dek_reuse": "no"}, **self.application())) as kmsenv:
            self.assertIsNotNone(kmsenv.seal([TEXT])[0], kmsenv.last)
            self.kms.credentials(expire_temporary=True)
            self.assertIsNotNone(kmsenv.seal([TEXT])[0], kmsenv.last)
            self.check_no_secret(kmsenv.stderr())
        self.assertEqual((self.kms.calls("token"), self.kms.calls("wrapkey"), self.kms.calls("wrapkey", "Unauthorized")), (2, 3, 1))

    def test_token_is_refreshed_before_it_expires(self):
        self.kms.control(options={"credential-lifetime": 4})
        with common.Tool(self.dir, self.azure_config({"dek_reuse": "no"}, **self.application())) as kmsenv:
            self.assertIsNotNone(kmsenv.seal([TEXT])[0], kmsenv.last)
            time.sleep(2.6)
            self.assertIsNotNone(kmsenv.seal([TEXT])[0], kmsenv.last)
        self.assertEqual((self.kms.calls("token", "ok"), self.kms.calls("wrapkey"), self.kms.calls("wrapkey", "ok")), (2, 2, 2))


class Memory(AzureCase):
    """As hygiene_test.py, for what has other forms here: base64url, what a context adds, the client's secret."""

    def needles(self, message):
        wrap = self.wrap_of(message)
        bound = azure.unwrap(self.keystore(), self.kms.key_id, 1, "RSA-OAEP-256", wrap.ciphertext)
        self.assertEqual((bound[:32], len(bound)), (self.backend.dek_of(self.keystore(), wrap), 32 + backend_azure.SEAL_LEN))
        return {"base64url": azure.b64encode(bound)[4:40].encode(), "bound": bound[24:48], "hex": bound[:32].hex().encode(),
                "secret": self.kms.secret_key.encode(), "raw": bound[:32]}

    def test_nothing_is_left(self):
        config = self.azure_config(tenant_id=azure.TENANT, client_id=self.kms.secret_id, context="app=billing",
                                   client_secret="file:" + self.file("secret", self.kms.secret_key))
        message = None
        for verb in ("seal", "open"):
            kmsenv = self.tool(config)
            if verb == "seal":
                message = kmsenv.seal([TEXT])[0]
            self.assertEqual(kmsenv.open([message]), [TEXT], kmsenv.last)
            needles = self.needles(message)
            found = search_memory(kmsenv.pid, needles)
            self.assertTrue(found.pop("raw"), "the search finds nothing at all")
            self.assertEqual({name for name, places in found.items() if places}, set())
            self.assertTrue(kmsenv.ask("unload")["ok"])
            self.assertEqual({name for name, places in search_memory(kmsenv.pid, needles).items() if places}, set())


class Settings(AzureCase):
    def test_bad_settings_are_named(self):
        vault = azure.key_id_of("kek")
        for name, value in (("key-id", None), ("key-id", "https://kek"), ("key-id", vault + "/x"), ("key-id", vault.replace("https", "http")),
                            ("algorithm", "RSA1_5"), ("api-version", "7.4&x=y"), ("resource", "http://vault.azure.net"),
                            ("authority", "http://login.example"), ("metadata-endpoint", "http://metadata.example"), ("endpoint", "a b")):
            self.tried(self.config({"prod": {**self.profile(), name: value}}), CONFIG, words=r"\[(kms_)?prod\].*" + name + "|" + name + r".*\[(kms_)?prod\]")
        self.assertEqual(self.kms.calls(), 0)

    def test_a_vault_of_no_known_cloud(self):
        key_id = "https://vault.example/keys/" + self.kms.key_id
        self.tried(self.azure_config(key_id=key_id, resource=None), CONFIG, words="resource")
        self.tried(self.azure_config(key_id=key_id, resource="https://kms.example", authority=None), CONFIG, words="authority")
        # there is a key of that name, but the reply says that it is another vault's
        self.tried(self.azure_config(key_id=key_id, resource="https://vault.azure.net"), matrix.MALFORMED, words="another key")

    def test_api_version(self):
        self.round_trip(self.azure_config({}, **{"api-version": "7.4"}))
        self.tried(self.azure_config({}, **{"api-version": "1999-01-01"}), REQUEST, words="api-version")


if __name__ == "__main__":
    common.main()
