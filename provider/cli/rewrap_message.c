/* Messages: another header before the same body. And what an interrupted change of a header in place left. */
#include <string.h>
#include <openssl/crypto.h>
#include "cli/rewrap.h"
#include "envelope/header.h"

#define HEAD_MAX (KMSENV_HEADER_MAX + 16)    /* with what stands before the message, "Salted__" and its salt */

int kmsenv_rewrap_header(KMSENV_REWRAP_ITEM *item, const unsigned char *header, size_t len, unsigned char **out, size_t *outlen,
                         KMSENV_ERROR *err)
{
    unsigned char *der = NULL;
    KMSENV_HEADER parsed;
    size_t der_len = 0, n;

    *out = NULL;
    if (!kmsenv_header_parse(header, len, &parsed, err)
            || !kmsenv_rewrap_data_key(item, parsed.data_key, parsed.data_key_len, &der, &der_len, err))
        return 0;
    if (der == NULL)
        return 1;
    *outlen = kmsenv_header_size(der_len);
    if (*outlen > KMSENV_HEADER_MAX) {
        kmsenv_error_set(err, KMSENV_R_HEADER_TOO_LARGE, "its header would have %zu bytes, of at most %d", *outlen, KMSENV_HEADER_MAX);
    } else if ((*out = OPENSSL_malloc(*outlen)) == NULL) {
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a header");
    } else {
        n = kmsenv_header_build_start(*out, der_len);
        memcpy(*out + n, der, der_len);
        memcpy(*out + n + der_len, parsed.parameters, KMSENV_PARAMETERS_LEN);
    }
    OPENSSL_free(der);
    return *out != NULL;
}

/* Is it a header, whole and sound? */
static int is_header(const unsigned char *p, size_t n)
{
    KMSENV_ERROR ignored = KMSENV_ERROR_INIT;
    KMSENV_DATA_KEY *key = NULL;
    KMSENV_HEADER header;

    if (kmsenv_header_parse(p, n, &header, &ignored))
        key = kmsenv_data_key_parse(header.data_key, header.data_key_len, &ignored);
    kmsenv_data_key_free(key);
    return key != NULL;
}

/*
 * Does the journal belong to this file? Old and new header have the same size, and the same parameters at their end, with
 * the salt that no other message has. `at` is where the message begins, in both.
 */
static int belongs(const unsigned char *journal, const unsigned char *head, size_t n, size_t at)
{
    return n > at + KMSENV_PARAMETERS_LEN && memcmp(journal, head, at) == 0 && is_header(journal + at, n - at)
           && memcmp(journal + n - KMSENV_PARAMETERS_LEN, head + n - KMSENV_PARAMETERS_LEN, KMSENV_PARAMETERS_LEN) == 0;
}

/* A journal that is incomplete or another message's is removed if the file is sound without it. */
static int finish_with(KMSENV_REWRAP_ITEM *item, size_t at, const unsigned char *journal, size_t n, KMSENV_ERROR *err)
{
    unsigned char *head = OPENSSL_malloc(HEAD_MAX);
    size_t have = (uint64_t)item->file.st.st_size < HEAD_MAX ? (size_t)item->file.st.st_size : HEAD_MAX, total = 0;
    int ok = head != NULL || kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a header"), mine;
    KMSENV_ERROR ignored = KMSENV_ERROR_INIT;

    ok = ok && kmsenv_replace_read(&item->file, head, have, 0, err);
    mine = ok && n <= have && belongs(journal, head, n, at);
    if (ok && !mine && !(have > at && kmsenv_header_length(head + at, have - at, &total, &ignored) == 1 && total <= have - at
                         && is_header(head + at, total)))
        ok = kmsenv_error_set(err, KMSENV_R_MESSAGE_DAMAGED, "its header is damaged, and the journal beside it (%s) is no help",
                              KMSENV_REPLACE_JOURNAL);
    if (ok && !item->run->dry_run)
        ok = kmsenv_replace_finish(&item->file, mine ? journal : NULL, n, err);
    OPENSSL_free(head);
    return ok;
}

/* The message's header, as long as it is in the file. */
static int read_header(const KMSENV_REWRAP_ITEM *item, size_t at, size_t n, unsigned char **header, KMSENV_ERROR *err)
{
    if ((*header = OPENSSL_malloc(at + n)) == NULL)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a header");
    return kmsenv_replace_read(&item->file, *header, at + n, 0, err);
}

int kmsenv_rewrap_message(KMSENV_REWRAP_ITEM *item, size_t at, size_t header, KMSENV_ERROR *err)
{
    unsigned char *head = NULL, *made = NULL, *all = NULL, *journal = NULL;
    size_t made_len = 0, journal_len = 0;
    int ok = kmsenv_replace_read_journal(&item->file, HEAD_MAX, &journal, &journal_len, err);

    if (ok && journal != NULL && (ok = finish_with(item, at, journal, journal_len, err)) && !item->run->dry_run)
        ok = fstat(item->file.fd, &item->file.st) == 0;
    if (ok && journal != NULL)
        kmsenv_buffer_add_text(&item->story, item->run->dry_run ? "an interrupted rewrap would be finished first, " :
                               "an interrupted rewrap was finished first, ");
    OPENSSL_free(journal);
    ok = ok && read_header(item, at, header, &head, err) && kmsenv_rewrap_header(item, head + at, header, &made, &made_len, err);
    if (ok && made != NULL) {
        if ((all = OPENSSL_malloc(at + made_len)) == NULL) {
            ok = kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a header");
        } else {
            memcpy(all, head, at);
            memcpy(all + at, made, made_len);
            ok = kmsenv_replace_commit(&item->file, all, at + made_len, at + header, 1, err);
        }
    }
    OPENSSL_free(all);
    OPENSSL_free(made);
    OPENSSL_free(head);
    return ok;
}
