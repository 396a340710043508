/*
 * Azure Key Vault: what it answers, what is unwrapped, and what a wrap says. The first byte chooses the
 * parser, the second the HTTP status, the rest is the text. Whatever it is, a verdict comes out, with an error
 * unless it is OK, and what an OK promises is there.
 */
#include <string.h>
#include <openssl/crypto.h>
#include "core/secret.h"
#include "kms/azure.h"
#include "kmsenv/reasons.h"
#include "fuzz.h"

#define ROOM 4096

static const int statuses[] = { 200, 200, 200, 200, 302, 400, 401, 403, 429, 500, 503, 0 };

static void check_verdict(KMSENV_VERDICT verdict, const KMSENV_ERROR *err)
{
    FUZZ_REQUIRE((verdict == KMSENV_VERDICT_OK) == (err->reason == KMSENV_R_NONE));
    FUZZ_REQUIRE(verdict == KMSENV_VERDICT_OK || err->text[0] != '\0');
    FUZZ_REQUIRE(strlen(err->text) < sizeof(err->text));
}

static void try_result(KMSENV_REPLY *reply, const char *verb)
{
    unsigned char *out = kmsenv_secret_zalloc(ROOM);
    int opens = verb != NULL && strcmp(verb, "unwrapkey") == 0, wraps = verb != NULL && !opens;
    char state[80] = "";
    KMSENV_AZURE_KEY key;
    const KMSENV_AZURE_ACTION action = { .verb = verb, .key = &key, .algorithm = "RSA-OAEP-256" };
    KMSENV_BLOB blob = { 0 };
    KMSENV_RESULT r = { .plaintext = opens ? out : NULL, .room = ROOM, .blob = wraps ? &blob : NULL,
                        .state = verb == NULL ? state : NULL, .state_room = sizeof(state) };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_VERDICT verdict;

    FUZZ_REQUIRE(kmsenv_azure_key_parse(&key, "https://kmsenv-fake.vault.azure.net/keys/fake-kek"));
    verdict = kmsenv_azure_result(reply, &action, 1700000000, &r, &err);
    check_verdict(verdict, &err);
    FUZZ_REQUIRE(strlen(r.request_id) < sizeof(r.request_id));
    if (verdict == KMSENV_VERDICT_OK) {
        FUZZ_REQUIRE(!opens || (r.plaintext_len > 0 && r.plaintext_len <= ROOM));
        FUZZ_REQUIRE(!wraps || (blob.ciphertext_len > 0 && blob.ciphertext_len <= KMSENV_CIPHERTEXT_MAX
                                && blob.extra_len == KMSENV_AZURE_EXTRA_LEN));
        FUZZ_REQUIRE(verb != NULL || strcmp(state, "Enabled") == 0);
    }
    kmsenv_blob_reset(&blob);
    kmsenv_secret_free(out);
}

static void try_token(KMSENV_REPLY *reply)
{
    KMSENV_CREDENTIAL c = { 0 };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_VERDICT verdict = kmsenv_azure_login_result(reply, 1700000000, &c, &err);

    check_verdict(verdict, &err);
    if (verdict == KMSENV_VERDICT_OK)
        FUZZ_REQUIRE(c.token[0] != '\0' && c.expires > 1700000000);
    OPENSSL_free(c.id);
    kmsenv_secret_free(c.token);
}

/* What a header can say of a wrap: identifier, `extra`. */
static void try_wrap(const uint8_t *data, size_t size)
{
    char *text = OPENSSL_strndup((const char *)data, size), version[KMSENV_AZURE_VERSION_LEN + 1], *slash;
    unsigned char extra[KMSENV_AZURE_EXTRA_LEN];
    const KMSENV_AZURE_ALGORITHM *algorithm;
    KMSENV_AZURE_KEY key;

    if (text != NULL && kmsenv_azure_key_parse(&key, text)) {
        slash = strchr(text + strlen("https://"), '/');
        FUZZ_REQUIRE(slash != NULL && strchr(key.name, '/') == NULL && strchr(key.name, '.') == NULL && key.name[0] != '\0');
        FUZZ_REQUIRE(key.version[0] == '\0' || strlen(key.version) == KMSENV_AZURE_VERSION_LEN);
    }
    if (kmsenv_azure_extra_parse(data, size, &algorithm, version)) {
        kmsenv_azure_extra_make(extra, algorithm, version);
        FUZZ_REQUIRE(size == sizeof(extra) && memcmp(extra, data, size) == 0);
    }
    OPENSSL_free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const verbs[] = { "wrapkey", "unwrapkey", NULL };
    KMSENV_REPLY reply;

    if (size < 2)
        return 0;
    kmsenv_reply_init(&reply);
    reply.status = statuses[data[1] % (sizeof(statuses) / sizeof(statuses[0]))];
    if (kmsenv_buffer_add(&reply.body, data + 2, size - 2)) {
        if (data[0] % 5 < 3)
            try_result(&reply, verbs[data[0] % 5]);
        else if (data[0] % 5 == 3)
            try_token(&reply);
        else
            try_wrap(data + 2, size - 2);
    }
    kmsenv_reply_reset(&reply);
    return 0;
}
