/*
 * What a KMS answers, as our parsers see it: the first byte chooses the parser, the second the
 * HTTP status, the rest is the body. Whatever it is, a verdict comes out, with an error unless it
 * is OK, and what an OK promises is there.
 */
#include <string.h>
#include <openssl/crypto.h>
#include "core/secret.h"
#include "kms/tencent.h"
#include "kmsenv/reasons.h"
#include "fuzz.h"

#define ROOM 4096

static const int statuses[] = { 200, 200, 200, 200, 302, 400, 403, 429, 500, 503, 101, 0 };

static void check_verdict(KMSENV_VERDICT verdict, const KMSENV_ERROR *err)
{
    FUZZ_REQUIRE((verdict == KMSENV_VERDICT_OK) == (err->reason == KMSENV_R_NONE));
    FUZZ_REQUIRE(verdict == KMSENV_VERDICT_OK || err->text[0] != '\0');
    FUZZ_REQUIRE(strlen(err->text) < sizeof(err->text));
}

static void try_result(KMSENV_REPLY *reply, int want_plaintext, int want_blob, int want_state)
{
    unsigned char *out = kmsenv_secret_zalloc(ROOM);
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_BLOB blob = { 0 };
    char state[80] = "";
    KMSENV_RESULT r = { .key_id = "00000000-1111-11ee-8888-fa4e00000001",
                                .plaintext = want_plaintext ? out : NULL, .room = ROOM,
                                .blob = want_blob ? &blob : NULL, .state = want_state ? state : NULL, .state_room = sizeof(state) };
    KMSENV_VERDICT verdict = kmsenv_tencent_result(reply, &r, &err);

    check_verdict(verdict, &err);
    FUZZ_REQUIRE(strlen(r.request_id) < sizeof(r.request_id));
    if (verdict == KMSENV_VERDICT_OK) {
        FUZZ_REQUIRE(!want_plaintext || r.plaintext_len <= ROOM);
        FUZZ_REQUIRE(!want_blob || (blob.ciphertext_len > 0 && blob.ciphertext_len <= KMSENV_CIPHERTEXT_MAX));
        FUZZ_REQUIRE(!want_state || strcmp(state, "Enabled") == 0);
    }
    kmsenv_blob_reset(&blob);
    kmsenv_secret_free(out);
}

/* Either kind of temporary credentials. */
static void try_credential(KMSENV_REPLY *reply, int sts)
{
    KMSENV_CREDENTIAL c = { 0 };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_VERDICT verdict;

    if (sts)
        verdict = kmsenv_tencent_sts_credential(reply, &c, &err);
    else
        verdict = kmsenv_tencent_role_credential(reply, &c, &err) ? KMSENV_VERDICT_OK : KMSENV_VERDICT_FINAL;
    check_verdict(verdict, &err);
    if (verdict == KMSENV_VERDICT_OK) {
        FUZZ_REQUIRE(c.id[0] != '\0' && c.secret[0] != '\0' && c.token[0] != '\0' && c.expires > 0);
    }
    OPENSSL_free(c.id);
    kmsenv_secret_free(c.secret);
    kmsenv_secret_free(c.token);
}

static void try_role_name(const KMSENV_REPLY *reply)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    char role[64];

    if (kmsenv_metadata_role(reply, role, sizeof(role), &err))
        FUZZ_REQUIRE(strlen(role) > 0 && strchr(role, '/') == NULL && strchr(role, '%') == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    KMSENV_REPLY reply;

    if (size < 2)
        return 0;
    kmsenv_reply_init(&reply);
    reply.status = statuses[data[1] % (sizeof(statuses) / sizeof(statuses[0]))];
    if (kmsenv_buffer_add(&reply.body, data + 2, size - 2)) {
        switch (data[0] % 8) {
        case 0:
        case 1:
            try_result(&reply, 1, data[0] % 8, 0);
            break;
        case 2:
            try_result(&reply, 0, 1, 0);
            break;
        case 3:
            try_result(&reply, 0, 0, 1);
            break;
        case 4:
        case 5:
            try_credential(&reply, data[0] & 1);
            break;
        case 6:
            try_role_name(&reply);
            break;
        default:
            try_result(&reply, 0, 0, 0);
            break;
        }
    }
    kmsenv_reply_reset(&reply);
    return 0;
}
