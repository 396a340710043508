/*
 * Opening. The last 17 bytes seen are held back: they are flag and tag if no more come. So an
 * update emits at most 17 bytes more than it takes in, and nothing ever has to be queued.
 */
#include <string.h>
#include <openssl/crypto.h>
#include "envelope/message_local.h"

/* --- the header ----------------------------------------------------------- */

static int get_dek(KMSENV_MESSAGE *m, KMSENV_ERROR *err)
{
    KMSENV_DEK *dek = kmsenv_deks_get_to_decrypt(m->deks, m->request, m->header.data_key, m->header.data_key_len, err);

    if (dek == NULL)
        return 0;
    kmsenv_dek_free(m->dek);
    m->dek = dek;
    if (kmsenv_dek_get_length(dek) < m->header.keylen)
        return kmsenv_error_set(err, KMSENV_R_DATA_KEY_UNSUITABLE, "the message's data key is shorter than its cipher's key");
    return 1;
}

static int begin(KMSENV_MESSAGE *m, KMSENV_ERROR *err)
{
    unsigned char commitment[KMSENV_COMMITMENT_LEN];

    if (!kmsenv_header_parse(m->header_der.data, m->header_der.length, &m->header, err)
            || !get_dek(m, err) || !kmsenv_message_derive(m, commitment, err))
        return 0;
    if (CRYPTO_memcmp(commitment, m->header.commitment, sizeof(commitment)) != 0)
        return kmsenv_error_set(err, KMSENV_R_COMMITMENT_MISMATCH,
                                "wrong key or password given by the caller, or the message's parameters were altered");
    return kmsenv_message_start_body(m, err);
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

static int damaged(const KMSENV_MESSAGE *m, KMSENV_ERROR *err)
{
    return kmsenv_error_set(err, KMSENV_R_MESSAGE_DAMAGED,
                            "segment %llu of the message was altered, or other additional data were authenticated with it",
                            (unsigned long long)m->index);
}

/* Verifies the segment that ends with the held bytes and returns its flag in *flag. */
static int end_segment(KMSENV_MESSAGE *m, unsigned char *flag, KMSENV_ERROR *err)
{
    int len;

    if (!kmsenv_message_crypt(m, flag, m->held, 1, err))
        return 0;
    if (!EVP_CIPHER_CTX_ctrl(m->gcm, EVP_CTRL_AEAD_SET_TAG, KMSENV_TAG_LEN, m->held + 1)
            || !EVP_DecryptFinal_ex(m->gcm, m->held, &len))
        return damaged(m, err);
    m->held_len = 0;
    if (*flag != KMSENV_FLAG_MORE && *flag != KMSENV_FLAG_LAST)
        return damaged(m, err);
    return 1;
}

/* A full segment is verified as soon as its trailer is complete. */
static int end_full_segment(KMSENV_MESSAGE *m, KMSENV_ERROR *err)
{
    unsigned char flag;

    if (!end_segment(m, &flag, err))
        return 0;
    if (flag == KMSENV_FLAG_LAST) {
        m->last_seen = 1;
        return 1;
    }
    m->index++;
    return kmsenv_message_start_segment(m, 0, err);
}

/* Decrypts n data bytes of held || in, from the front, and takes them away there. */
static int decrypt(KMSENV_MESSAGE *m, unsigned char *out, const unsigned char **in, size_t *inl, size_t n, KMSENV_ERROR *err)
{
    size_t from_held = n < m->held_len ? n : m->held_len;

    if (from_held > 0) {
        if (!kmsenv_message_crypt(m, out, m->held, from_held, err))
            return 0;
        m->held_len -= from_held;
        memmove(m->held, m->held + from_held, m->held_len);
    }
    if (!kmsenv_message_crypt(m, out + from_held, *in, n - from_held, err))
        return 0;
    *in += n - from_held;
    *inl -= n - from_held;
    m->left -= n;
    m->bytes += n;
    return 1;
}

/* out may not overlap the input in a way that decrypt() would write what it has yet to read. */
static int take_body(KMSENV_MESSAGE *m, unsigned char *out, size_t *outl, const unsigned char *in, size_t inl, KMSENV_ERROR *err)
{
    size_t n;

    while (inl > 0) {
        if (m->last_seen)
            return kmsenv_error_set(err, KMSENV_R_MESSAGE_DAMAGED, "the message goes on after its last segment");
        if (m->held_len + inl > KMSENV_TRAILER_LEN && m->left > 0) {
            n = m->held_len + inl - KMSENV_TRAILER_LEN;
            if (n > m->left)
                n = (size_t)m->left;
            if (!decrypt(m, out + *outl, &in, &inl, n, err))
                return 0;
            *outl += n;
        }
        n = KMSENV_TRAILER_LEN - m->held_len;
        if (n > inl)
            n = inl;
        memcpy(m->held + m->held_len, in, n);
        m->held_len += n;
        in += n;
        inl -= n;
        if (m->left == 0 && m->held_len == KMSENV_TRAILER_LEN && !end_full_segment(m, err))
            return 0;
    }
    return 1;
}

/* In place, output would run over input not read yet: pieces of it go through a buffer. */
static int take_body_in_place(KMSENV_MESSAGE *m, unsigned char *out, size_t *outl, const unsigned char *in, size_t inl, KMSENV_ERROR *err)
{
    size_t n;

    if (m->bounce == NULL && (m->bounce = OPENSSL_malloc(KMSENV_CHUNK)) == NULL)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory to decrypt in place");
    for (; inl > 0; in += n, inl -= n) {
        n = inl < KMSENV_CHUNK ? inl : KMSENV_CHUNK;
        memcpy(m->bounce, in, n);
        if (!take_body(m, out, outl, m->bounce, n, err))
            return 0;
    }
    return 1;
}

int kmsenv_open_update(KMSENV_MESSAGE *m, unsigned char *out, size_t *outl, size_t outsize,
                       const unsigned char *in, size_t inl, KMSENV_ERROR *err)
{
    const unsigned char *end = in + inl;
    size_t taken;

    if (inl > 0 && (outsize < inl || outsize - inl < m->held_len))
        return kmsenv_error_set(err, KMSENV_R_OUTPUT_TOO_SMALL, "room for %zu bytes of output of %zu bytes of input", outsize, inl);
    if (m->state == KMSENV_UNSTARTED && inl > 0)
        m->state = KMSENV_IN_HEADER;
    if (m->state == KMSENV_IN_HEADER) {
        if (!take_header(m, in, inl, &taken, err))
            return 0;
        in += taken;
        inl -= taken;
    }
    if (inl > 0 && out < end && out + m->held_len > in)
        return take_body_in_place(m, out, outl, in, inl, err);
    return take_body(m, out, outl, in, inl, err);
}

int kmsenv_open_final(KMSENV_MESSAGE *m, KMSENV_ERROR *err)
{
    unsigned char flag;

    if (m->state == KMSENV_UNSTARTED || m->state == KMSENV_IN_HEADER)
        return kmsenv_error_set(err, KMSENV_R_MESSAGE_TRUNCATED, "the message ends in its header, after %zu bytes", m->header_der.length);
    if (m->last_seen)
        return 1;
    if (m->held_len < KMSENV_TRAILER_LEN || (m->index > 0 && m->left == (uint64_t)1 << m->header.segment_bits))
        return kmsenv_error_set(err, KMSENV_R_MESSAGE_TRUNCATED, "the message ends in segment %llu, before its end", (unsigned long long)m->index);
    if (!end_segment(m, &flag, err))
        return 0;
    if (flag != KMSENV_FLAG_LAST)
        return damaged(m, err);
    return 1;
}
