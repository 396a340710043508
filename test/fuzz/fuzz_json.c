/* The reader of a KMS's replies. What it accepts is one JSON value; secrets are gone from the text that is left. */
#include <string.h>
#include "core/buffer.h"
#include "kms/json.h"
#include "kmsenv/reasons.h"
#include "fuzz.h"

static void look_around(const KMSENV_JSON *root)
{
    const KMSENV_JSON *member = kmsenv_json_get(kmsenv_json_get(root, "Response"), "Error");
    const char *text = kmsenv_json_text(kmsenv_json_get(member, "Code"));
    int64_t number;

    if (text != NULL)
        FUZZ_REQUIRE(strlen(text) < 1 << 20);
    if (kmsenv_json_number(kmsenv_json_get(root, "status"), &number))
        FUZZ_REQUIRE(number <= 9007199254740992 && number >= -9007199254740992);
}

/* What is cut out of a text that is in order lies in it, and is in order too. */
static void look_at_part(const KMSENV_BUFFER *text, KMSENV_JSON_SPAN span)
{
    KMSENV_BUFFER part;

    FUZZ_REQUIRE(span.text >= (const char *)text->data && span.text + span.length <= (const char *)text->data + text->length);
    kmsenv_buffer_init(&part, 1 << 20, 1);
    FUZZ_REQUIRE(kmsenv_buffer_add(&part, span.text, span.length) && kmsenv_json_check(&part, NULL, 0, NULL));
    kmsenv_buffer_reset(&part);
}

static void look_at_parts(const KMSENV_BUFFER *text)
{
    static const char *const name[] = { "Response", "Plaintext", "a", "" };
    KMSENV_JSON_SPAN all = { (const char *)text->data, text->length }, member, element;
    size_t i, k;

    for (i = 0; i < sizeof(name) / sizeof(name[0]); i++) {
        if (!kmsenv_json_span_member(all, name[i], &member))
            continue;
        look_at_part(text, member);
        for (k = 0; k < 3 && kmsenv_json_span_element(member, k, &element); k++)
            look_at_part(text, element);
    }
    if (kmsenv_json_span_element(all, 1, &element))
        look_at_part(text, element);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_BUFFER text, plain;
    KMSENV_JSON_SECRET secret = { "Plaintext", &plain, 0 };
    KMSENV_JSON *root;

    kmsenv_buffer_init(&text, 1 << 20, 1);
    kmsenv_buffer_init(&plain, 1 << 20, 1);
    if (kmsenv_buffer_add(&text, data, size)) {
        root = kmsenv_json_parse(&text, &secret, 1, &err);
        FUZZ_REQUIRE((root == NULL) == (err.reason != KMSENV_R_NONE));
        if (root != NULL)
            look_around(root);
        if (root != NULL)
            look_at_parts(&text);
        FUZZ_REQUIRE(root == NULL || !secret.found || !plain.failed);
        /* Where the secret stood, the tree has something else. */
        if (root != NULL && secret.found && plain.length > 0 && kmsenv_json_text(kmsenv_json_get(root, "Plaintext")) != NULL)
            FUZZ_REQUIRE(strcmp(kmsenv_json_text(kmsenv_json_get(root, "Plaintext")), kmsenv_buffer_text(&plain)) != 0
                         || strspn(kmsenv_buffer_text(&plain), " *x") == plain.length);
        kmsenv_json_free(root);
    }
    kmsenv_buffer_reset(&text);
    kmsenv_buffer_reset(&plain);
    return 0;
}
