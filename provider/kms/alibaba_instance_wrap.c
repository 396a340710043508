#include <string.h>
#include "kms/alibaba_instance.h"
#include "kms/result.h"

#define VERSION 1

int kmsenv_instance_is_alias(const char *key_id)
{
    return strncmp(key_id, "alias/", 6) == 0;
}

/* --- writing -------------------------------------------------------------- */

static void put(KMSENV_BUFFER *out, const void *data, size_t n)
{
    unsigned char length = (unsigned char)n;

    kmsenv_buffer_add(out, &length, 1);
    kmsenv_buffer_add(out, data, n);
}

int kmsenv_instance_wrap_print(const KMSENV_INSTANCE_WRAP *wrap, KMSENV_BLOB *blob, KMSENV_ERROR *err)
{
    const unsigned char head[2] = { VERSION, wrap->advance ? 'A' : 'P' };
    KMSENV_BUFFER out;
    int ok;

    kmsenv_buffer_init(&out, 256, 0);
    kmsenv_buffer_add(&out, head, sizeof(head));
    put(&out, wrap->key_id, strlen(wrap->key_id));
    put(&out, wrap->algorithm, strlen(wrap->algorithm));
    put(&out, wrap->iv, wrap->iv_len);
    ok = out.failed ? kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a wrapped data key")
                    : kmsenv_blob_extra(blob, out.data, out.length, err);
    kmsenv_buffer_reset(&out);
    return ok;
}

/* --- reading -------------------------------------------------------------- */

typedef struct rest_st { const unsigned char *p; size_t n; } REST;

/* The next piece, of min..max bytes. */
static int take(REST *rest, void *out, size_t min, size_t max, size_t *len)
{
    size_t n = rest->n == 0 ? 0 : rest->p[0];

    if (rest->n < 1 + n || n < min || n > max)
        return 0;
    memcpy(out, rest->p + 1, n);
    rest->p += 1 + n;
    rest->n -= 1 + n;
    *len = n;
    return 1;
}

/* A piece that is a word: letters, digits, '.', '_' and '-'. */
static int take_word(REST *rest, char *out, size_t min, size_t room)
{
    char text[256];
    size_t n;

    if (!take(rest, text, min, room - 1, &n))
        return 0;
    text[n] = '\0';
    kmsenv_text_word(out, room, text);
    return strlen(out) == n;
}

int kmsenv_instance_wrap_parse(KMSENV_INSTANCE_WRAP *wrap, const KMSENV_BLOB *blob, KMSENV_ERROR *err)
{
    REST rest = { blob->extra, blob->extra_len };

    memset(wrap, 0, sizeof(*wrap));
    if (rest.n < 2 || rest.p[0] != VERSION || (rest.p[1] != 'A' && rest.p[1] != 'P'))
        return kmsenv_error_set(err, KMSENV_R_KMS_WRAP_REJECTED, "the wrapped data key does not say how it was made: it is damaged, "
                                "or of a newer version of this provider");
    wrap->advance = rest.p[1] == 'A';
    rest.p += 2;
    rest.n -= 2;
    if (!take_word(&rest, wrap->key_id, 1, sizeof(wrap->key_id)) || !take_word(&rest, wrap->algorithm, 0, sizeof(wrap->algorithm))
        || !take(&rest, wrap->iv, 0, sizeof(wrap->iv), &wrap->iv_len) || rest.n != 0)
        return kmsenv_error_set(err, KMSENV_R_KMS_WRAP_REJECTED, "the wrapped data key is damaged: its key id, algorithm or IV is not "
                                "as it should be");
    if (blob->key_id == NULL || kmsenv_instance_is_alias(blob->key_id) || strcmp(blob->key_id, wrap->key_id) == 0)
        return 1;
    return kmsenv_error_set(err, KMSENV_R_KMS_WRAP_REJECTED, "the wrapped data key is damaged: it names two keys");
}
