#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include "kms/acs.h"
#include "kms/sign.h"

#define PARAMS_MAX 64

int kmsenv_acs_time(int64_t timestamp, char *out, size_t room, KMSENV_ERROR *err)
{
    return kmsenv_sign_time(timestamp, "%Y-%m-%dT%H:%M:%SZ", out, room)
           || kmsenv_error_set(err, KMSENV_R_KMS_CLOCK, "this machine's clock is beyond calendars; set it (NTP)");
}

/* --- canonical form ------------------------------------------------------- */

/* A parameter in the text of all of them. */
typedef struct param_st { const char *text; size_t at, name, n; } PARAM;

typedef struct params_st {
    KMSENV_BUFFER text;              /* name=value, one after the other, encoded anew */
    PARAM param[PARAMS_MAX];
    size_t count;
} PARAMS;

static int by_name(const void *a, const void *b)
{
    const PARAM *x = a, *y = b;
    int c = memcmp(x->text + x->at, y->text + y->at, x->name < y->name ? x->name : y->name);

    if (c == 0 && x->name != y->name)
        c = x->name < y->name ? -1 : 1;
    return c;
}

static int hex_digit(char c)
{
    return isdigit((unsigned char)c) ? c - '0' : isxdigit((unsigned char)c) ? (tolower((unsigned char)c) - 'a') + 10 : -1;
}

/* n encoded characters, encoded anew. 0 if they are not well-formed. */
static int encode_anew(KMSENV_BUFFER *out, const char *p, size_t n)
{
    char c;

    for (; n > 0; p++, n--) {
        c = *p == '+' ? ' ' : *p;
        if (c == '%') {
            if (n < 3 || hex_digit(p[1]) < 0 || hex_digit(p[2]) < 0)
                return 0;
            c = (char)(hex_digit(p[1]) * 16 + hex_digit(p[2]));
            p += 2;
            n -= 2;
        }
        kmsenv_text_encode(out, &c, 1);
    }
    return !out->failed;
}

static int add_param(PARAMS *all, const char *p, size_t n)
{
    const char *equals = memchr(p, '=', n);
    size_t name = equals == NULL ? n : (size_t)(equals - p);
    PARAM *param = &all->param[all->count];

    if (n == 0)
        return 1;
    if (all->count == PARAMS_MAX)
        return 0;
    param->at = all->text.length;
    if (!encode_anew(&all->text, p, name))
        return 0;
    param->name = all->text.length - param->at;
    kmsenv_buffer_add(&all->text, "=", 1);
    if (equals != NULL && !encode_anew(&all->text, equals + 1, n - name - 1))
        return 0;
    param->n = all->text.length - param->at;
    if (param->name != strlen("Signature") || memcmp(all->text.data + param->at, "Signature", param->name) != 0)
        all->count++;
    return 1;
}

static int add_params(PARAMS *all, const char *text)
{
    size_t n;

    for (; *text != '\0'; text += n + (text[n] == '&')) {
        n = strcspn(text, "&");
        if (!add_param(all, text, n))
            return 0;
    }
    return 1;
}

static void write_sorted(PARAMS *all, KMSENV_BUFFER *out)
{
    size_t i;

    for (i = 0; i < all->count; i++)
        all->param[i].text = kmsenv_buffer_text(&all->text);
    qsort(all->param, all->count, sizeof(all->param[0]), by_name);
    for (i = 0; i < all->count; i++) {
        kmsenv_buffer_add(out, "&", i > 0);
        kmsenv_buffer_add(out, all->param[i].text + all->param[i].at, all->param[i].n);
    }
}

int kmsenv_acs_canonical_params(const KMSENV_REQUEST *request, int form, KMSENV_BUFFER *out, KMSENV_ERROR *err)
{
    const char *query = strchr(kmsenv_buffer_text(&request->target), '?');
    PARAMS all;
    int ok;

    all.count = 0;
    kmsenv_buffer_init(&all.text, KMSENV_REQUEST_BODY_MAX, 1);
    ok = add_params(&all, query == NULL ? "" : query + 1)
         && (!form || add_params(&all, kmsenv_buffer_text(&request->body)));
    if (ok)
        write_sorted(&all, out);
    kmsenv_buffer_reset(&all.text);
    return (ok && !out->failed) || kmsenv_error_set(err, KMSENV_R_KMS_INPUT_TOO_LARGE, "the parameters are too large, or too many, "
                                                    "to be signed");
}
