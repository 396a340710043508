/*
 * What the gateway of a KMS instance answers, and what a wrap may say of how it was made, as our parsers see it: the
 * first byte chooses the operation, the second the HTTP status, the rest is the body or the extra.
 */
#include <string.h>
#include <openssl/crypto.h>
#include "core/secret.h"
#include "kms/alibaba_instance.h"
#include "kmsenv/reasons.h"
#include "fuzz.h"

#define ROOM 4096
#define KEY  "key-hzz0000000000000fake01"

static void try_reply(uint8_t choice, int status, const uint8_t *body, size_t n)
{
    static const KMSENV_INSTANCE_KIND kinds[] = { KMSENV_INSTANCE_GENERATE, KMSENV_INSTANCE_ENCRYPT, KMSENV_INSTANCE_DECRYPT };
    KMSENV_INSTANCE_ACTION action = { .kind = kinds[choice % 3], .advance = choice & 4, .aad_len = choice & 8 ? 1 : 0 };
    unsigned char *out = kmsenv_secret_zalloc(ROOM);
    KMSENV_INSTANCE_WRAP wrap, again;
    KMSENV_BLOB blob = { 0 };
    KMSENV_RESULT r = { .key_id = choice & 16 ? KEY : NULL, .plaintext = action.kind == KMSENV_INSTANCE_ENCRYPT ? NULL : out,
                        .room = ROOM, .blob = action.kind == KMSENV_INSTANCE_DECRYPT ? NULL : &blob };
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_VERDICT verdict;
    KMSENV_REPLY reply;

    kmsenv_reply_init(&reply);
    reply.status = status;
    kmsenv_buffer_add(&reply.body, body, n);
    verdict = kmsenv_instance_result(&action, &reply, &r, &wrap, &err);
    FUZZ_REQUIRE((verdict == KMSENV_VERDICT_OK) == (err.reason == KMSENV_R_NONE));
    FUZZ_REQUIRE(strlen(err.text) < sizeof(err.text) && strlen(r.request_id) < sizeof(r.request_id));
    if (verdict == KMSENV_VERDICT_OK) {
        FUZZ_REQUIRE(r.plaintext == NULL || (r.plaintext_len > 0 && r.plaintext_len <= ROOM));
        FUZZ_REQUIRE(r.blob == NULL || (blob.ciphertext_len > 0 && blob.ciphertext_len <= KMSENV_CIPHERTEXT_MAX));
        FUZZ_REQUIRE(r.key_id == NULL || strcmp(wrap.key_id, KEY) == 0);
        FUZZ_REQUIRE(kmsenv_instance_wrap_print(&wrap, &blob, &err) && kmsenv_instance_wrap_parse(&again, &blob, &err)
                     && memcmp(&wrap, &again, sizeof(wrap)) == 0);
    }
    kmsenv_blob_reset(&blob);
    kmsenv_reply_reset(&reply);
    kmsenv_secret_free(out);
}

/* There is one text for one meaning. */
static void try_extra(const uint8_t *extra, size_t n)
{
    KMSENV_INSTANCE_WRAP wrap;
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_BLOB blob = { 0 }, back = { 0 };

    if (n == 0 || (blob.extra = OPENSSL_memdup(extra, n)) == NULL)
        return;
    blob.extra_len = n;
    if (kmsenv_instance_wrap_parse(&wrap, &blob, &err)) {
        FUZZ_REQUIRE(kmsenv_instance_wrap_print(&wrap, &back, &err));
        FUZZ_REQUIRE(back.extra_len == n && memcmp(back.extra, extra, n) == 0);
    } else {
        FUZZ_REQUIRE(err.reason == KMSENV_R_KMS_WRAP_REJECTED);
    }
    kmsenv_blob_reset(&blob);
    kmsenv_blob_reset(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int statuses[] = { 200, 200, 200, 200, 302, 400, 403, 429, 500, 503, 101, 0 };

    if (size < 2)
        return 0;
    if (data[0] == 0xff)
        try_extra(data + 2, size - 2);
    else
        try_reply(data[0], statuses[data[1] % (sizeof(statuses) / sizeof(statuses[0]))], data + 2, size - 2);
    return 0;
}
