/*
 * Opening. The last 17 bytes seen are held back: they are flag and tag if no more come; and a
 * few more, so that the inner cipher always gets whole blocks. So an update emits at most 15
 * bytes more than it takes in, final as many, and nothing ever has to be queued.
 */
#include <stdint.h>
#include <string.h>
#include <openssl/crypto.h>
#include "envelope/message_local.h"

#define BLOCK       16      /* of AES */
#define DIRECT_MIN  4096    /* below, joining to the held bytes costs less than a second call of the inner cipher */

/* --- the header ----------------------------------------------------------- */

static int get_dek(KMSENV_MESSAGE *m, KMSENV_ERROR *err)
{
    KMSENV_DEK *dek = kmsenv_deks_get_to_decrypt(m->deks, m->request, m->header.data_key, m->header.data_key_len, m->dek, err);

    if (dek == NULL)
        return 0;
    kmsenv_message_set_dek(m, dek);
    m->dek_is_for_sealing = 0;
    if (kmsenv_dek_get_length(dek) < m->header.keylen)
        return kmsenv_error_set(err, KMSENV_R_DATA_KEY_UNSUITABLE, "the message's data key is shorter than its cipher's key");
    return 1;
}

int kmsenv_open_header(KMSENV_MESSAGE *m, KMSENV_ERROR *err)
{
    unsigned char commitment[KMSENV_COMMITMENT_LEN];

    if (!kmsenv_header_parse(m->header_der.data, m->header_der.length, &m->header, err)
            || !get_dek(m, err) || !kmsenv_message_derive(m, commitment, err))
        return 0;
    if (CRYPTO_memcmp(commitment, m->header.commitment, sizeof(commitment)) != 0)
        return kmsenv_error_set(err, KMSENV_R_COMMITMENT_MISMATCH,
                                "wrong key or password given by the caller, or the message's parameters were altered");
    return 1;
}

static int begin(KMSENV_MESSAGE *m, KMSENV_ERROR *err)
{
    return kmsenv_open_header(m, err) && kmsenv_message_start_body(m, err);
}

/* Takes what belongs to the header; *taken says how much that was. Begins the body when it is complete. */
static int take_header(KMSENV_MESSAGE *m, const unsigned char *in, size_t inl, size_t *taken, KMSENV_ERROR *err)
{
    size_t n, total;
    int known;

    for (*taken = 0; *taken < inl && m->state == KMSENV_IN_HEADER; *taken += n) {
        n = m->header_total == 0 ? 1 : m->header_total - m->header_der.length;
        if (n > inl - *taken)
            n = inl - *taken;
        if (!kmsenv_buffer_add(&m->header_der, in + *taken, n))
            return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a message header");
        if (m->header_total == 0) {
            if ((known = kmsenv_header_length(m->header_der.data, m->header_der.length, &total, err)) < 0)
                return 0;
            if (known)
                m->header_total = total;
        } else if (m->header_der.length == m->header_total && !begin(m, err)) {
            return 0;
        }
    }
    return 1;
}

/* --- the body ------------------------------------------------------------- */

/* A full segment is verified as soon as its trailer is complete. */
static int end_full_segment(KMSENV_MESSAGE *m, const unsigned char *trailer, KMSENV_ERROR *err)
{
    unsigned char flag;

    if (!kmsenv_gcm_open_end(m->gcm, trailer, m->index, &flag, err))
        return 0;
    if (flag == KMSENV_FLAG_LAST) {
        m->last_seen = 1;
        return 1;
    }
    m->index++;
    return kmsenv_message_start_segment(m, 0, err);
}

/*
 * How many of the next n bytes are data for sure, if `more` bytes are known to follow them? All
 * that is left of the segment, or whole blocks before what could be the last trailer.
 */
static size_t data_ready(const KMSENV_MESSAGE *m, size_t n, size_t more)
{
    size_t ready = n + more > KMSENV_TRAILER_LEN ? n + more - KMSENV_TRAILER_LEN : 0;

    if (ready > n)
        ready = n;
    return ready >= m->left ? (size_t)m->left : ready - ready % BLOCK;
}

/* Opens what can be opened of n bytes; *used says how many that were, all but KMSENV_HELD_MAX at least. */
static int run(KMSENV_MESSAGE *m, unsigned char *out, size_t *outl, const unsigned char *in, size_t n, size_t more,
               size_t *used, KMSENV_ERROR *err)
{
    size_t ready;

    for (*used = 0;; *used += ready) {
        if (m->last_seen && n - *used + more > 0)
            return kmsenv_error_set(err, KMSENV_R_MESSAGE_DAMAGED, "the message goes on after its last segment");
        if (m->left == 0) {
            ready = KMSENV_TRAILER_LEN;
            if (m->last_seen || n - *used < ready)
                return 1;
            if (!end_full_segment(m, in + *used, err))
                return 0;
            continue;
        }
        if ((ready = data_ready(m, n - *used, more)) == 0)
            return 1;
        if (!kmsenv_gcm_crypt(m->gcm, out + *outl, in + *used, ready, err))
            return 0;
        *outl += ready;
        m->left -= ready;
        m->bytes += ready;
    }
}

static unsigned char *held(const KMSENV_MESSAGE *m)
{
    return m->joint - m->held_len;
}

static void hold(KMSENV_MESSAGE *m, const unsigned char *in, size_t n)
{
    memmove(m->joint - n, in, n);
    m->held_len = n;
}

/* New bytes are copied to a cache line's start: elsewhere that costs more than it saves (measured). */
static int make_buffer(KMSENV_MESSAGE *m, KMSENV_ERROR *err)
{
    if (m->memory != NULL)
        return 1;
    if ((m->memory = OPENSSL_malloc(2 * KMSENV_LINE + KMSENV_CHUNK)) == NULL)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory to open a message");
    m->joint = m->memory + KMSENV_LINE + (KMSENV_LINE - (uintptr_t)m->memory % KMSENV_LINE) % KMSENV_LINE;
    return 1;
}

/*
 * Small pieces are joined to the held bytes in a buffer, which is cheaper than two calls of the
 * inner cipher. So are all pieces when output would run over input not read yet: the number of
 * bytes held is the same after each whole chunk, and output never gets ahead of input.
 */
static int take_buffered(KMSENV_MESSAGE *m, unsigned char *out, size_t *outl, const unsigned char *in, size_t inl, KMSENV_ERROR *err)
{
    size_t n, used;

    for (; inl > 0; in += n, inl -= n) {
        n = inl < KMSENV_CHUNK ? inl : KMSENV_CHUNK;
        memcpy(m->joint, in, n);
        if (!run(m, out, outl, held(m), m->held_len + n, 0, &used, err))
            return 0;
        hold(m, held(m) + used, m->held_len + n - used);
    }
    return 1;
}

/*
 * Large pieces go straight through, after the held bytes and new ones up to 64 together: that
 * leaves 4032 bytes of 4096, which is what the assembly of OpenSSL 3.0 takes in one go.
 */
static int take_direct(KMSENV_MESSAGE *m, unsigned char *out, size_t *outl, const unsigned char *in, size_t inl, KMSENV_ERROR *err)
{
    size_t n, used;

    while (m->held_len > 0 && inl > 0) {
        n = KMSENV_LINE - m->held_len;
        if (n > inl)
            n = inl;
        memcpy(m->joint, in, n);
        in += n;
        inl -= n;
        if (!run(m, out, outl, held(m), m->held_len + n, inl, &used, err))
            return 0;
        hold(m, held(m) + used, m->held_len + n - used);
    }
    if (inl == 0)
        return 1;
    if (!run(m, out, outl, in, inl, 0, &used, err))
        return 0;
    hold(m, in + used, inl - used);
    return 1;
}

/*
 * The same for a piece that neither begins nor ends in sight of a segment's end, which is what most are: all of it but
 * the last 17 to 32 bytes comes out, and nothing is left to find out. What is copied has constant lengths.
 */
static int take_midway(KMSENV_MESSAGE *m, unsigned char *out, size_t *outl, const unsigned char *in, size_t inl, KMSENV_ERROR *err)
{
    size_t first = KMSENV_LINE - m->held_len;
    size_t rest = (inl - first - KMSENV_TRAILER_LEN) / BLOCK * BLOCK;

    memcpy(m->joint, in, KMSENV_LINE);
    if (!kmsenv_gcm_crypt(m->gcm, out, held(m), KMSENV_LINE, err)
            || !kmsenv_gcm_crypt(m->gcm, out + KMSENV_LINE, in + first, rest, err))
        return 0;
    memcpy(m->joint - KMSENV_HELD_MAX, in + inl - KMSENV_HELD_MAX, KMSENV_HELD_MAX);
    m->held_len = inl - first - rest;
    m->left -= KMSENV_LINE + rest;
    m->bytes += KMSENV_LINE + rest;
    *outl = KMSENV_LINE + rest;
    return 1;
}

/* Would direct output run over input not read yet? */
static int overlaps(const unsigned char *out, const unsigned char *in, size_t inl)
{
    return out < in + inl && out + KMSENV_LINE + KMSENV_HELD_MAX > in;
}

int kmsenv_open_update(KMSENV_MESSAGE *m, unsigned char *out, size_t *outl, size_t outsize,
                       const unsigned char *in, size_t inl, KMSENV_ERROR *err)
{
    size_t taken;

    if (inl > 0 && (outsize < inl || outsize - inl < BLOCK))
        return kmsenv_error_set(err, KMSENV_R_OUTPUT_TOO_SMALL, "room for %zu bytes of output of %zu bytes of input", outsize, inl);
    if (m->state == KMSENV_UNSTARTED && inl > 0)
        m->state = KMSENV_IN_HEADER;
    if (m->state == KMSENV_IN_HEADER) {
        if (!take_header(m, in, inl, &taken, err))
            return 0;
        in += taken;
        inl -= taken;
    }
    if (inl == 0)
        return 1;
    if (!make_buffer(m, err))
        return 0;
    if (inl < DIRECT_MIN || overlaps(out, in, inl))
        return take_buffered(m, out, outl, in, inl, err);
    if (m->left > inl + KMSENV_HELD_MAX)
        return take_midway(m, out, outl, in, inl, err);
    return take_direct(m, out, outl, in, inl, err);
}

int kmsenv_open_final(KMSENV_MESSAGE *m, unsigned char *out, size_t *outl, size_t outsize, KMSENV_ERROR *err)
{
    uint64_t full = (uint64_t)1 << m->header.segment_bits;
    unsigned char flag;
    size_t n;

    if (m->state == KMSENV_UNSTARTED || m->state == KMSENV_IN_HEADER)
        return kmsenv_error_set(err, KMSENV_R_MESSAGE_TRUNCATED, "the message ends in its header, after %zu bytes", m->header_der.length);
    if (m->last_seen)
        return 1;
    /* Only the first segment may be without data, and it is never a full one that ends here. */
    if (m->held_len < KMSENV_TRAILER_LEN
            || (m->index > 0 && m->left == full && m->held_len == KMSENV_TRAILER_LEN))
        return kmsenv_error_set(err, KMSENV_R_MESSAGE_TRUNCATED, "the message ends in segment %llu, before its end", (unsigned long long)m->index);
    n = m->held_len - KMSENV_TRAILER_LEN;
    if (n > outsize)
        return kmsenv_error_set(err, KMSENV_R_OUTPUT_TOO_SMALL, "final needs room for %zu bytes and has %zu", n, outsize);
    if (!kmsenv_gcm_crypt(m->gcm, out, held(m), n, err)
            || !kmsenv_gcm_open_end(m->gcm, m->joint - KMSENV_TRAILER_LEN, m->index, &flag, err)
            || (flag != KMSENV_FLAG_LAST && !kmsenv_gcm_damaged(m->index, err))) {
        OPENSSL_cleanse(out, n);
        return 0;
    }
    m->bytes += n;
    *outl = n;
    return 1;
}
