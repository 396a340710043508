#include <stdlib.h>
#include <string.h>
#include "testutil.h"
#include "kmsenv_der.h"

/* 1 if there is a whole element at `at` before `limit` */
static int look(const unsigned char *p, size_t at, size_t limit, KMSENV_DER *out)
{
    size_t n, len, i;

    if (at + 2 > limit)
        return 0;
    out->at = at;
    len = p[at + 1];
    out->body = at + 2;
    if (len >= 0x80) {
        n = len & 0x7f;
        if (n == 0 || n > 3 || at + 2 + n > limit)
            return 0;
        for (len = 0, i = 0; i < n; i++)
            len = len << 8 | p[at + 2 + i];
        out->body += n;
    }
    out->end = out->body + len;
    return len <= limit - out->body;
}

int kmsenv_der_read(const KMSENV_TEST_BYTES *m, size_t at, KMSENV_DER *out)
{
    return TEST_true(look(m->data, at, m->len, out));
}

size_t kmsenv_der_count(const KMSENV_TEST_BYTES *m, const KMSENV_DER *e)
{
    KMSENV_DER child;
    size_t at, n = 0;

    if ((m->data[e->at] & 0x20) == 0)
        return 0;
    for (at = e->body; at < e->end; at = child.end, n++)
        if (!look(m->data, at, e->end, &child))
            return 0;
    return n;
}

static int find_child(const KMSENV_TEST_BYTES *m, const KMSENV_DER *parent, size_t number, KMSENV_DER *out)
{
    size_t at = parent->body;

    do {
        if (!TEST_true(look(m->data, at, parent->end, out)))
            return 0;
        at = out->end;
    } while (number-- > 0);
    return 1;
}

int kmsenv_der_find(const KMSENV_TEST_BYTES *m, const char *path, KMSENV_DER *out)
{
    KMSENV_DER parent;

    if (!kmsenv_der_read(m, 0, out))
        return 0;
    for (; *path != '\0'; path++) {
        parent = *out;
        if (!find_child(m, &parent, (size_t)(*path - '0'), out))
            return 0;
    }
    return 1;
}

size_t kmsenv_der_head(unsigned char tag, size_t n, unsigned char out[5])
{
    size_t used = 0;

    out[used++] = tag;
    if (n >= 0x80)
        out[used++] = n < 0x100 ? 0x81 : n < 0x10000 ? 0x82 : 0x83;
    if (n >= 0x10000)
        out[used++] = (unsigned char)(n >> 16);
    if (n >= 0x100)
        out[used++] = (unsigned char)(n >> 8);
    out[used++] = (unsigned char)n;
    return used;
}

/* Writes e, with the replacement in it, to out. Returns the number of bytes. */
static size_t rebuild(const KMSENV_TEST_BYTES *m, const KMSENV_DER *e, const char *path,
                      const unsigned char *with, size_t n, unsigned char *out)
{
    unsigned char head[5];
    KMSENV_DER child;
    size_t before, middle, after, h;

    if (*path == '\0') {
        if (n > 0)
            memcpy(out, with, n);
        return n;
    }
    if (!find_child(m, e, (size_t)(*path - '0'), &child))
        return 0;
    before = child.at - e->body;
    after = e->end - child.end;
    middle = rebuild(m, &child, path + 1, with, n, out + 5 + before);
    h = kmsenv_der_head(m->data[e->at], before + middle + after, head);
    memmove(out + h + before, out + 5 + before, middle);
    memcpy(out, head, h);
    memcpy(out + h, m->data + e->body, before);
    memcpy(out + h + before + middle, m->data + child.end, after);
    return h + before + middle + after;
}

int kmsenv_der_replace(const KMSENV_TEST_BYTES *m, const char *path, const unsigned char *with, size_t n,
                       KMSENV_TEST_BYTES *out)
{
    KMSENV_DER root;

    kmsenv_test_bytes_reset(out);
    if (!kmsenv_der_read(m, 0, &root) || !TEST_ptr(out->data = malloc(m->len + n + 64)))
        return 0;
    out->len = rebuild(m, &root, path, with, n, out->data);
    memcpy(out->data + out->len, m->data + root.end, m->len - root.end);
    out->len += m->len - root.end;
    return 1;
}
