/* One file of `kmsenv rewrap`: what is in it, and its data keys. */
#include <string.h>
#include <openssl/crypto.h>
#include "cli/rewrap.h"
#include "envelope/header.h"

#define SALTED     "Salted__"       /* before a message that openssl enc -pass made, with 8 bytes of salt */
#define SALTED_LEN 16

/* The outcome of a file is that of the data key that had the most done to it. */
static void note_outcome(KMSENV_REWRAP_ITEM *item, int outcome)
{
    if (outcome < item->outcome)
        item->outcome = outcome;
}

static void tell_step(KMSENV_REWRAP_ITEM *item, const KMSENV_DATA_KEY *key, const KMSENV_REWRAP_STEP *step)
{
    KMSENV_BUFFER *b = &item->story;

    if (b->length > 0)
        kmsenv_buffer_add_text(b, ", ");
    if (step->kms == NULL)
        kmsenv_buffer_printf(b, "%s:%s kept", key->wrap[step->wrap].kms, key->wrap[step->wrap].blob.key_id);
    else
        kmsenv_buffer_printf(b, "%s %s", kmsenv_kms_profile(step->kms), step->in_kms ? "re-encrypted in the KMS" : "wrapped here");
    item->in_kms += step->kms != NULL && step->in_kms;
    item->here += step->kms != NULL && !step->in_kms;
    item->kept += step->kms == NULL;
}

static void tell(KMSENV_REWRAP_ITEM *item, const char *what)
{
    if (item->story.length > 0)
        kmsenv_buffer_add_text(&item->story, ", ");
    kmsenv_buffer_add_text(&item->story, what);
}

static int has_id(const KMSENV_REWRAP_ITEM *item, const KMSENV_DATA_KEY *key, KMSENV_ERROR *err)
{
    return item->id == NULL || memcmp(item->id, key->id, KMSENV_DEK_ID_LEN) == 0
           || kmsenv_error_set(err, KMSENV_R_DATA_KEY_MISMATCH, "it holds the data key of another id than its name says");
}

int kmsenv_rewrap_data_key(KMSENV_REWRAP_ITEM *item, const unsigned char *der, size_t len, unsigned char **out, size_t *outlen,
                           KMSENV_ERROR *err)
{
    KMSENV_DATA_KEY *key = kmsenv_data_key_parse(der, len, err);
    KMSENV_REWRAP_PLAN plan = { 0 };
    int ok = key != NULL && has_id(item, key, err);
    size_t i;

    *out = NULL;
    if (ok && key->wraps == 0) {
        note_outcome(item, KMSENV_REWRAP_SKIPPED);
        tell(item, "its wrapped data key is in a keyring");
    } else if (ok && (ok = kmsenv_rewrap_plan(item->run->rewrap, key, &plan, err)) && plan.count == 0) {
        note_outcome(item, KMSENV_REWRAP_UNCHANGED);
        tell(item, "wrapped by these profiles already");
    } else if (ok) {
        note_outcome(item, KMSENV_REWRAP_DONE);
        ok = item->run->dry_run || kmsenv_rewrap_perform(item->run->rewrap, key, &plan, out, outlen, err);
        for (i = 0; ok && i < plan.count; i++)
            tell_step(item, key, &plan.step[i]);
    }
    kmsenv_data_key_free(key);
    return ok;
}

/* DER of a data key by itself, the whole file. */
static int rewrap_bare(KMSENV_REWRAP_ITEM *item, size_t n, KMSENV_ERROR *err)
{
    unsigned char *der = OPENSSL_malloc(n), *made = NULL;
    size_t made_len = 0;
    int ok = der != NULL || kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a data key");

    ok = ok && kmsenv_replace_read(&item->file, der, n, 0, err) && kmsenv_rewrap_data_key(item, der, n, &made, &made_len, err);
    if (ok && made != NULL)
        ok = kmsenv_replace_commit(&item->file, made, made_len, n, 0, err);
    OPENSSL_free(der);
    OPENSSL_free(made);
    return ok;
}

int kmsenv_rewrap_file(KMSENV_REWRAP_ITEM *item, KMSENV_ERROR *err)
{
    static const unsigned char format[] = { 0x0c, sizeof(KMSENV_FORMAT_NAME) - 1 };
    unsigned char start[SALTED_LEN + 8 + sizeof(format)] = { 0 };
    uint64_t size = (uint64_t)item->file.st.st_size;
    size_t n = size < sizeof(start) ? (size_t)size : sizeof(start), at, total = 0, head;

    item->outcome = KMSENV_REWRAP_OUTCOMES;
    if (!kmsenv_replace_read(&item->file, start, n, 0, err))
        return 0;
    at = n == sizeof(start) && memcmp(start, SALTED, sizeof(SALTED) - 1) == 0 ? SALTED_LEN : 0;
    if (n < at + 8 || start[at] != 0x30 || kmsenv_header_length(start + at, 8, &total, err) != 1) {
        kmsenv_error_clear(err);
        return kmsenv_rewrap_text(item, err);
    }
    head = start[at + 1] < 0x80 ? 2 : 2 + (start[at + 1] & 0x7f);
    if (memcmp(start + at + head, format, sizeof(format)) != 0 && at == 0 && total == size)
        return rewrap_bare(item, total, err);
    if (at + total > size)
        return kmsenv_error_set(err, KMSENV_R_MESSAGE_TRUNCATED, "its header has %zu bytes, the file only %llu", total,
                                (unsigned long long)size);
    return kmsenv_rewrap_message(item, at, total, err);
}
