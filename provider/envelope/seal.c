/*
 * Sealing. Output beyond what an update may emit waits in the queue: the header in the first
 * updates, then the trailers of segments. With an empty queue data go straight through.
 */
#include <string.h>
#include <openssl/crypto.h>
#include "envelope/message_local.h"

/* The DEK for this message, most often that of the message before. */
static int get_dek(KMSENV_MESSAGE *m, KMSENV_ERROR *err)
{
    KMSENV_DEK *dek;

    if (m->key_is_reference && !kmsenv_dek_request_has_data_key(m->request)
            && !kmsenv_dek_request_set_data_key(m->request, m->secrets->caller_key, KMSENV_CALLER_KEY_LEN, err))
        return 0;
    if (!m->dek_is_for_sealing)
        kmsenv_message_set_dek(m, NULL);
    dek = kmsenv_deks_get_to_encrypt(m->deks, m->request, m->keylen, m->dek, m->unreported, err);
    m->unreported = 0;
    if (dek == NULL)
        return 0;
    kmsenv_message_set_dek(m, dek);
    m->dek_is_for_sealing = 1;
    return 1;
}

static int header_too_large(const KMSENV_MESSAGE *m, size_t len, KMSENV_ERROR *err)
{
    return kmsenv_error_set(err, KMSENV_R_HEADER_TOO_LARGE,
                            "the header of %zu bytes does not fit the block size of %zu: set block-size = %s, "
                            "wraps = detached, or fewer profiles",
                            len, m->block_size, len + KMSENV_TRAILER_LEN <= 8192 ? "1024, 2048, 4096 or 8192" : "8192 (not enough here)");
}

/* Header with everything but the commitment, which is derived from the rest. */
static int build_header(KMSENV_MESSAGE *m, KMSENV_ERROR *err)
{
    unsigned char start[32], salt[KMSENV_SALT_LEN], parameters[KMSENV_PARAMETERS_LEN];
    const unsigned char *data_key;
    size_t data_key_len, len;

    data_key = kmsenv_dek_get0_der(m->dek, kmsenv_dek_request_is_detached(m->request), &data_key_len);
    len = kmsenv_header_size(data_key_len);
    if (len + KMSENV_TRAILER_LEN > m->block_size)
        return header_too_large(m, len, err);
    if (!kmsenv_crypto_random(m->crypto, salt, sizeof(salt), err)
            || !kmsenv_parameters_build(parameters, m->keylen, m->segment_bits, salt))
        return 0;
    if (!kmsenv_buffer_add(&m->header_der, start, kmsenv_header_build_start(start, data_key_len))
            || !kmsenv_buffer_add(&m->header_der, data_key, data_key_len)
            || !kmsenv_buffer_add(&m->header_der, parameters, sizeof(parameters)))
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for a message header");
    m->header.keylen = m->keylen;
    m->header.segment_bits = m->segment_bits;
    kmsenv_parameters_locate(m->header_der.data + m->header_der.length - KMSENV_PARAMETERS_LEN, &m->header);
    return 1;
}

static int push(KMSENV_MESSAGE *m, const unsigned char *data, size_t n, KMSENV_ERROR *err)
{
    unsigned char *p = kmsenv_queue_extend(&m->queue, n);

    if (p == NULL)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for pending output");
    memcpy(p, data, n);
    return 1;
}

int kmsenv_seal_header(KMSENV_MESSAGE *m, KMSENV_ERROR *err)
{
    return get_dek(m, err)
        && build_header(m, err)
        && kmsenv_message_derive(m, (unsigned char *)m->header.commitment, err);
}

static int begin(KMSENV_MESSAGE *m, KMSENV_ERROR *err)
{
    return kmsenv_seal_header(m, err)
        && kmsenv_message_start_body(m, err)
        && push(m, m->header_der.data, m->header_der.length, err);
}

/* Flag and tag of the current segment. */
static int end_segment(KMSENV_MESSAGE *m, unsigned char flag, KMSENV_ERROR *err)
{
    unsigned char trailer[KMSENV_TRAILER_LEN];

    return kmsenv_gcm_seal_end(m->gcm, flag, trailer, err) && push(m, trailer, sizeof(trailer), err);
}

/* A segment is closed when data for the next one come: the last one must know that it is. */
static int next_segment(KMSENV_MESSAGE *m, KMSENV_ERROR *err)
{
    if (!end_segment(m, KMSENV_FLAG_MORE, err))
        return 0;
    m->index++;
    return kmsenv_message_start_segment(m, 0, err);
}

/*
 * An update drains at most 31 bytes more than it takes in, and final at most block_size. More may
 * not wait after an update, or final could fail when it is too late to do otherwise. The first
 * update has nothing to give: a message of one update grows by block_size at most.
 */
static int check_overrun(const KMSENV_MESSAGE *m, KMSENV_ERROR *err)
{
    if (m->queue.length + KMSENV_TRAILER_LEN <= m->block_size + (m->updates > 1 ? KMSENV_UPDATE_GROWTH : 0))
        return 1;
    return kmsenv_error_set(err, KMSENV_R_QUEUE_OVERRUN,
                            "segments of %u KiB give more output than updates of this size have room for: "
                            "use larger segments (segment-bits), smaller updates, or a larger block-size",
                            1u << (m->header.segment_bits > 10 ? m->header.segment_bits - 10 : 0));
}

/* All input through the queue, at most as much out as was taken in; so in may be out. */
static int through_queue(KMSENV_MESSAGE *m, unsigned char *out, size_t *outl,
                         const unsigned char *in, size_t inl, KMSENV_ERROR *err)
{
    size_t taken = 0, n;
    unsigned char *p;

    while (taken < inl) {
        if (m->left == 0 && (!next_segment(m, err) || !check_overrun(m, err)))
            return 0;
        n = inl - taken;
        if (n > m->left)
            n = (size_t)m->left;
        if (m->queue.length == 0) {
            /* Nothing pending: everything taken is out, so in and out are at the same place. */
            if (!kmsenv_gcm_crypt(m->gcm, out + *outl, in + taken, n, err))
                return 0;
            *outl += n;
        } else {
            if (n > KMSENV_CHUNK)
                n = KMSENV_CHUNK;
            if ((p = kmsenv_queue_extend(&m->queue, n)) == NULL)
                return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for pending output");
            if (!kmsenv_gcm_crypt(m->gcm, p, in + taken, n, err))
                return 0;
            *outl += kmsenv_queue_pull(&m->queue, out + *outl, taken + n - *outl);
        }
        m->left -= n;
        taken += n;
    }
    return 1;
}

int kmsenv_seal_update(KMSENV_MESSAGE *m, unsigned char *out, size_t *outl, size_t outsize,
                       const unsigned char *in, size_t inl, KMSENV_ERROR *err)
{
    size_t limit = inl + KMSENV_UPDATE_GROWTH;

    if (outsize < inl)
        return kmsenv_error_set(err, KMSENV_R_OUTPUT_TOO_SMALL, "room for %zu bytes of output of %zu bytes of input", outsize, inl);
    if (m->state == KMSENV_UNSTARTED && !begin(m, err))
        return 0;
    m->updates++;
    m->bytes += inl;
    if (m->queue.length == 0 && inl <= m->left) {
        m->left -= inl;
        *outl = inl;
        return kmsenv_gcm_crypt(m->gcm, out, in, inl, err);
    }
    if (!through_queue(m, out, outl, in, inl, err))
        return 0;
    if (limit > outsize)
        limit = outsize;
    *outl += kmsenv_queue_pull(&m->queue, out + *outl, limit - *outl);
    return 1;
}

int kmsenv_seal_final(KMSENV_MESSAGE *m, unsigned char *out, size_t *outl, size_t outsize, KMSENV_ERROR *err)
{
    if (m->state == KMSENV_UNSTARTED && !begin(m, err))
        return 0;
    if (m->queue.length + KMSENV_TRAILER_LEN > outsize)
        return kmsenv_error_set(err, KMSENV_R_OUTPUT_TOO_SMALL, "final needs room for %zu bytes and has %zu",
                                m->queue.length + KMSENV_TRAILER_LEN, outsize);
    if (!end_segment(m, KMSENV_FLAG_LAST, err))
        return 0;
    *outl = kmsenv_queue_pull(&m->queue, out, outsize);
    return 1;
}
