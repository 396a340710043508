#include <limits.h>
#include <string.h>
#include <openssl/crypto.h>
#include "core/secret.h"
#include "envelope/message_local.h"
#include "envelope/schedule.h"

/* --- life ----------------------------------------------------------------- */

KMSENV_MESSAGE *kmsenv_message_new(KMSENV_DEKS *deks, KMSENV_CRYPTO *crypto, KMSENV_COUNTERS *counters,
                                   size_t keylen, size_t block_size, unsigned segment_bits)
{
    KMSENV_MESSAGE *m = OPENSSL_zalloc(sizeof(*m));

    if (m == NULL)
        return NULL;
    m->deks = deks;
    m->crypto = crypto;
    m->counters = counters;
    m->keylen = keylen;
    m->block_size = block_size;
    m->segment_bits = segment_bits;
    m->state = KMSENV_BROKEN;
    kmsenv_buffer_init(&m->aad, KMSENV_AAD_MAX, 0);
    kmsenv_buffer_init(&m->header_der, KMSENV_HEADER_MAX, 0);
    kmsenv_queue_init(&m->queue);
    m->secrets = kmsenv_secret_zalloc(sizeof(*m->secrets));
    m->request = kmsenv_dek_request_new(deks);
    m->gcm = EVP_CIPHER_CTX_new();
    m->scratch = EVP_MD_CTX_new();
    if (m->scratch == NULL || m->secrets == NULL || m->request == NULL || m->gcm == NULL) {
        kmsenv_message_free(m);
        return NULL;
    }
    return m;
}

void kmsenv_message_set_dek(KMSENV_MESSAGE *m, KMSENV_DEK *dek)
{
    if (dek == m->dek)
        return;
    if (m->unreported > 0)
        kmsenv_dek_take_bytes(m->dek, m->unreported);
    m->unreported = 0;
    kmsenv_dek_free(m->dek);
    m->dek = dek;
}

void kmsenv_message_free(KMSENV_MESSAGE *m)
{
    if (m == NULL)
        return;
    kmsenv_message_set_dek(m, NULL);
    EVP_MD_CTX_free(m->scratch);
    EVP_CIPHER_CTX_free(m->gcm);
    kmsenv_secret_free(m->secrets);
    kmsenv_dek_request_free(m->request);
    kmsenv_buffer_reset(&m->aad);
    kmsenv_buffer_reset(&m->header_der);
    kmsenv_queue_free(&m->queue);
    OPENSSL_free(m->memory);
    OPENSSL_free(m);
}

KMSENV_MESSAGE *kmsenv_message_dup(const KMSENV_MESSAGE *m, KMSENV_ERROR *err)
{
    KMSENV_MESSAGE *copy;

    if (m->state == KMSENV_IN_BODY) {
        kmsenv_error_set(err, KMSENV_R_WRONG_STATE, "a context cannot be copied after its output has started");
        return NULL;
    }
    copy = kmsenv_message_new(m->deks, m->crypto, m->counters, m->keylen, m->block_size, m->segment_bits);
    if (copy != NULL) {
        kmsenv_dek_request_free(copy->request);
        copy->request = kmsenv_dek_request_dup(m->request);
        copy->state = m->state;
        copy->sealing = m->sealing;
        copy->dek_is_for_sealing = m->dek_is_for_sealing;
        copy->key_is_reference = m->key_is_reference;
        *copy->secrets = *m->secrets;
        copy->header_total = m->header_total;
        if (m->dek != NULL && kmsenv_dek_up_ref(m->dek))
            copy->dek = m->dek;
    }
    if (copy == NULL || copy->request == NULL
            || !kmsenv_buffer_add(&copy->aad, m->aad.data, m->aad.length)
            || !kmsenv_buffer_add(&copy->header_der, m->header_der.data, m->header_der.length)) {
        kmsenv_message_free(copy);
        kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory to copy a context");
        return NULL;
    }
    return copy;
}

/* --- before data ---------------------------------------------------------- */

/* A reference is looked up when a message is sealed under it, not here: opening does not need it. */
static int set_caller_key(KMSENV_MESSAGE *m, const unsigned char *key, KMSENV_ERROR *err)
{
    if (m->key_is_reference && !kmsenv_dek_request_set_data_key(m->request, NULL, 0, err))
        return 0;
    m->key_is_reference = kmsenv_reference_is(key, KMSENV_CALLER_KEY_LEN);
    memcpy(m->secrets->caller_key, key, KMSENV_CALLER_KEY_LEN);
    return 1;
}

/* A data key stays what it is when the same one is given again: its DER is not taken apart for each message. */
int kmsenv_message_init_data_key(KMSENV_MESSAGE *m, int sealing, const unsigned char *reference, const unsigned char *der, size_t len,
                                 KMSENV_ERROR *err)
{
    int same = m->key_is_reference && memcmp(m->secrets->caller_key, reference, KMSENV_CALLER_KEY_LEN) == 0
               && kmsenv_dek_request_is_data_key(m->request, der, len);

    if (!kmsenv_message_init(m, sealing, same ? NULL : reference, err))
        return 0;
    if (same || kmsenv_dek_request_set_data_key(m->request, der, len, err))
        return 1;
    m->state = KMSENV_BROKEN;
    return 0;
}

int kmsenv_message_init(KMSENV_MESSAGE *m, int sealing, const unsigned char *caller_key, KMSENV_ERROR *err)
{
    m->state = KMSENV_BROKEN;
    m->sealing = sealing;
    m->aad.length = 0;
    m->header_der.length = 0;
    kmsenv_queue_clear(&m->queue);
    m->left = m->index = m->bytes = m->updates = 0;
    m->held_len = m->header_total = 0;
    m->last_seen = 0;
    if (caller_key != NULL && !set_caller_key(m, caller_key, err))
        return 0;
    m->state = KMSENV_UNSTARTED;
    return 1;
}

KMSENV_DEK_REQUEST *kmsenv_message_get0_request(KMSENV_MESSAGE *m)
{
    return m->request;
}

int kmsenv_message_is_in_body(const KMSENV_MESSAGE *m)
{
    return m->state == KMSENV_IN_BODY;
}

int kmsenv_message_is_unstarted(const KMSENV_MESSAGE *m)
{
    return m->state == KMSENV_UNSTARTED;
}

int kmsenv_message_set_segment_bits(KMSENV_MESSAGE *m, uint64_t bits, KMSENV_ERROR *err)
{
    if (bits < KMSENV_SEGMENT_BITS_MIN || bits > KMSENV_SEGMENT_BITS_MAX)
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "segment size is not 2^12 to 2^35 bytes: segment-bits accepts 12 to 35");
    m->segment_bits = (unsigned)bits;
    return 1;
}

int kmsenv_message_aad(KMSENV_MESSAGE *m, const unsigned char *aad, size_t len, KMSENV_ERROR *err)
{
    if (m->state != KMSENV_UNSTARTED)
        return kmsenv_error_set(err, KMSENV_R_WRONG_STATE, "additional authenticated data must come after init and before the data");
    if (len > KMSENV_AAD_MAX - m->aad.length)
        return kmsenv_error_set(err, KMSENV_R_INPUT_TOO_LARGE, "more than %d bytes of additional authenticated data", KMSENV_AAD_MAX);
    return kmsenv_buffer_add(&m->aad, aad, len)
        || kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for additional authenticated data");
}

/* --- what sealing and opening share ---------------------------------------- */

int kmsenv_message_derive(KMSENV_MESSAGE *m, unsigned char commitment[KMSENV_COMMITMENT_LEN], KMSENV_ERROR *err)
{
    const unsigned char *key = m->key_is_reference ? NULL : m->secrets->caller_key;
    const KMSENV_HMAC *prk;
    KMSENV_HMAC *own;
    int ok;

    if (!kmsenv_dek_get_prk(m->dek, key, &prk, &own, err))
        return 0;
    ok = kmsenv_schedule_derive(prk, m->scratch, &m->header, m->secrets->cek, commitment, err);
    kmsenv_hmac_free(own);
    return ok;
}

int kmsenv_message_start_segment(KMSENV_MESSAGE *m, int first, KMSENV_ERROR *err)
{
    const EVP_CIPHER *cipher = NULL;

    if (first && m->gcm_keylen != m->header.keylen) {
        cipher = kmsenv_crypto_get0_gcm(m->crypto, m->header.keylen);
        m->gcm_keylen = m->header.keylen;
    }
    m->left = (uint64_t)1 << m->header.segment_bits;
    return kmsenv_gcm_start(m->gcm, cipher, first ? m->secrets->cek : NULL, m->index, m->sealing, err);
}

int kmsenv_message_authenticate(const KMSENV_MESSAGE *m, EVP_CIPHER_CTX *gcm, KMSENV_ERROR *err)
{
    return kmsenv_gcm_aad(gcm, m->header.parameters, KMSENV_PARAMETERS_LEN, err)
        && kmsenv_gcm_aad(gcm, m->aad.data, m->aad.length, err);
}

int kmsenv_message_start_body(KMSENV_MESSAGE *m, KMSENV_ERROR *err)
{
    int ok = kmsenv_message_start_segment(m, 1, err);

    OPENSSL_cleanse(m->secrets->cek, sizeof(m->secrets->cek));
    if (!ok || !kmsenv_message_authenticate(m, m->gcm, err))
        return 0;
    m->state = KMSENV_IN_BODY;
    return 1;
}

/* --- data ----------------------------------------------------------------- */

static int check_buffers(const unsigned char *out, const unsigned char *in, size_t inl, KMSENV_ERROR *err)
{
    /* A caller asked for less than a block can pass a negative length, which arrives as a huge one. */
    if (inl > INT_MAX)
        return kmsenv_error_set(err, KMSENV_R_INPUT_TOO_LARGE,
                                "an update of more than 2^31 - 1 bytes (or a negative length: a read smaller than the block size?)");
    if (inl > 0 && in < out && out < in + inl)
        return kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "the output buffer begins inside the input buffer");
    return 1;
}

static int check_state(const KMSENV_MESSAGE *m, KMSENV_ERROR *err)
{
    if (m->state == KMSENV_DONE)
        return kmsenv_error_set(err, KMSENV_R_WRONG_STATE, "the message is complete: init the context for another one");
    if (m->state == KMSENV_BROKEN)
        return kmsenv_error_set(err, KMSENV_R_WRONG_STATE, "the context was not initialised, or an operation on it failed before: init it");
    return 1;
}

int kmsenv_message_update(KMSENV_MESSAGE *m, unsigned char *out, size_t *outl, size_t outsize,
                          const unsigned char *in, size_t inl, KMSENV_ERROR *err)
{
    int ok;

    *outl = 0;
    if (!check_state(m, err))
        return 0;
    ok = check_buffers(out, in, inl, err)
        && (m->sealing ? kmsenv_seal_update(m, out, outl, outsize, in, inl, err)
                       : kmsenv_open_update(m, out, outl, outsize, in, inl, err));
    if (!ok)
        m->state = KMSENV_BROKEN;
    return ok;
}

int kmsenv_message_final(KMSENV_MESSAGE *m, unsigned char *out, size_t *outl, size_t outsize, KMSENV_ERROR *err)
{
    int ok;

    *outl = 0;
    if (!check_state(m, err))
        return 0;
    ok = m->sealing ? kmsenv_seal_final(m, out, outl, outsize, err) : kmsenv_open_final(m, out, outl, outsize, err);
    m->state = ok ? KMSENV_DONE : KMSENV_BROKEN;
    if (!ok)
        return 0;
    kmsenv_count(m->counters, m->sealing ? KMSENV_COUNTER_MESSAGES_SEALED : KMSENV_COUNTER_MESSAGES_OPENED, 1);
    kmsenv_count(m->counters, m->sealing ? KMSENV_COUNTER_BYTES_SEALED : KMSENV_COUNTER_BYTES_OPENED, m->bytes);
    if (m->sealing)
        m->unreported += m->bytes;
    return 1;
}

/* --- what became known ---------------------------------------------------- */

static int header_is_known(const KMSENV_MESSAGE *m)
{
    return (m->state == KMSENV_IN_BODY || m->state == KMSENV_DONE) && m->header_der.length > 0;
}

const unsigned char *kmsenv_message_get0_header(const KMSENV_MESSAGE *m, size_t *len)
{
    *len = m->header_der.length;
    return header_is_known(m) ? m->header_der.data : NULL;
}

const unsigned char *kmsenv_message_get0_data_key_id(const KMSENV_MESSAGE *m)
{
    return header_is_known(m) ? kmsenv_dek_get0_id(m->dek) : NULL;
}
