/*
 * What Google Cloud answers, and files of credentials, as our parsers see them: the first byte chooses the parser, the
 * second the HTTP status, the rest is the text. A URL or name that is taken has the form that it must have.
 */
#include <string.h>
#include <openssl/crypto.h>
#include "core/secret.h"
#include "kms/google.h"
#include "kmsenv/reasons.h"
#include "fuzz.h"

#define ROOM 4096
#define KEY  "projects/fake-project/locations/global/keyRings/fake-ring/cryptoKeys/fake-key"

static const int statuses[] = { 200, 200, 200, 200, 302, 400, 401, 403, 404, 429, 500, 503 };

static void check_verdict(KMSENV_VERDICT verdict, const KMSENV_ERROR *err)
{
    FUZZ_REQUIRE((verdict == KMSENV_VERDICT_OK) == (err->reason == KMSENV_R_NONE));
    FUZZ_REQUIRE(verdict == KMSENV_VERDICT_OK || err->text[0] != '\0');
}

static void try_result(KMSENV_REPLY *reply, int decrypts, int encrypts)
{
    static const unsigned char some[] = "x";
    const KMSENV_GOOGLE_OPERATION op = { .verb = decrypts ? "decrypt" : encrypts ? "encrypt" : NULL, .name = KEY,
                                         .plaintext = encrypts ? some : NULL, .plaintext_len = 1,
                                         .ciphertext = decrypts ? some : NULL, .ciphertext_len = 1, .checksums = reply->status != 200 };
    unsigned char *out = kmsenv_secret_zalloc(ROOM);
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_BLOB blob = { 0 };
    char state[40] = "";
    KMSENV_RESULT r = { .key_id = KEY, .plaintext = decrypts ? out : NULL, .room = ROOM, .blob = encrypts ? &blob : NULL,
                        .state = decrypts || encrypts ? NULL : state, .state_room = sizeof(state) };
    KMSENV_VERDICT verdict = kmsenv_google_result(reply, &op, 0, &r, &err);

    check_verdict(verdict, &err);
    if (verdict == KMSENV_VERDICT_OK) {
        FUZZ_REQUIRE(!decrypts || r.plaintext_len <= ROOM);
        FUZZ_REQUIRE(!encrypts || (blob.ciphertext_len > 0 && blob.ciphertext_len <= KMSENV_CIPHERTEXT_MAX));
        FUZZ_REQUIRE(r.state == NULL || strcmp(state, "ENABLED") == 0);
    } else if (verdict == KMSENV_VERDICT_RETRY) {
        FUZZ_REQUIRE(blob.ciphertext == NULL);
    }
    kmsenv_blob_reset(&blob);
    kmsenv_secret_free(out);
}

static void try_token(KMSENV_REPLY *reply)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_GOOGLE_TOKEN token;
    KMSENV_VERDICT verdict;

    kmsenv_google_token_init(&token);
    verdict = kmsenv_google_token_result(reply, 1700000000, &token, &err);
    check_verdict(verdict, &err);
    FUZZ_REQUIRE((verdict == KMSENV_VERDICT_OK) == (token.text.length > 0));
    FUZZ_REQUIRE(verdict != KMSENV_VERDICT_OK || (token.expires > 1700000000 && token.expires <= 1700086400));
    kmsenv_google_token_reset(&token);
}

static void try_file(KMSENV_BUFFER *text)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_GOOGLE_FILE file;

    if (kmsenv_google_file_parse(&file, text, &err))
        FUZZ_REQUIRE(file.json != NULL && !file.private_key.failed);
    else
        FUZZ_REQUIRE(err.reason != KMSENV_R_NONE);
    kmsenv_google_file_reset(&file);
}

static void try_text(const char *text)
{
    static const char *const services[] = { "oauth2", "sts", "iamcredentials" };
    size_t i, n = kmsenv_google_key_length(text);
    KMSENV_ENDPOINT host;
    KMSENV_ERROR err;
    const char *path;

    FUZZ_REQUIRE(n == 0 || (strncmp(text, "projects/", 9) == 0 && strpbrk(text, "?#%@\\ ") == NULL && strstr(text, "..") == NULL
                            && (text[n] == '\0' || text[n] == '/')));
    for (i = 0; i < 3; i++) {
        if (!kmsenv_google_service_url(text, services[i], KMSENV_GOOGLE_UNIVERSE, "url", &host, &path, &err))
            continue;
        FUZZ_REQUIRE(host.tls && host.port == 443 && path[0] == '/' && strpbrk(path, "?#% \\") == NULL && strstr(path, "..") == NULL);
        n = strlen(host.host);
        FUZZ_REQUIRE((n > 15 && strcmp(host.host + n - 15, ".googleapis.com") == 0) || strcmp(host.host, "accounts.google.com") == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    KMSENV_REPLY reply;

    if (size < 2)
        return 0;
    kmsenv_reply_init(&reply);
    reply.status = statuses[data[1] % (sizeof(statuses) / sizeof(statuses[0]))];
    if (kmsenv_buffer_add(&reply.body, data + 2, size - 2)) {
        switch (data[0] % 6) {
        case 0:
        case 1:
        case 2:
            try_result(&reply, data[0] % 6 == 1, data[0] % 6 == 2);
            break;
        case 3:
            try_token(&reply);
            break;
        case 4:
            try_file(&reply.body);
            break;
        default:
            try_text(kmsenv_buffer_text(&reply.body));
            break;
        }
    }
    kmsenv_reply_reset(&reply);
    return 0;
}
