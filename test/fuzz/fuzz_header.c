/*
 * The reader of message headers and of the DataKey inside. What it accepts has one encoding only:
 * written again from what was read, it must be the same bytes.
 */
#include <string.h>
#include <openssl/crypto.h>
#include "dek/data_key.h"
#include "envelope/header.h"
#include "fuzz.h"

static int is_inside(const unsigned char *p, size_t n, const uint8_t *data, size_t size)
{
    return p >= data && n <= size && (size_t)(p - data) <= size - n;
}

static void check_data_key(const unsigned char *der, size_t len)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_DATA_KEY *key = kmsenv_data_key_parse(der, len, &err);
    unsigned char *again = NULL;
    size_t n = 0;

    FUZZ_REQUIRE((key == NULL) == (err.reason != KMSENV_R_NONE));
    if (key == NULL)
        return;
    FUZZ_REQUIRE(kmsenv_dek_length_is_valid(key->length) && key->wraps <= KMSENV_WRAPS_MAX);
    FUZZ_REQUIRE(kmsenv_data_key_encode(key, 0, &again, &n, &err));
    FUZZ_REQUIRE(n == len && memcmp(again, der, n) == 0);
    OPENSSL_free(again);
    kmsenv_data_key_free(key);
}

static void check_header(const KMSENV_HEADER *h, const uint8_t *data, size_t len)
{
    unsigned char again[KMSENV_PARAMETERS_LEN], start[32];
    KMSENV_HEADER built;
    size_t n;

    FUZZ_REQUIRE(is_inside(h->data_key, h->data_key_len, data, len));
    FUZZ_REQUIRE(is_inside(h->parameters, KMSENV_PARAMETERS_LEN, data, len));
    FUZZ_REQUIRE(is_inside(h->cipher_oid, KMSENV_CIPHER_OID_LEN, data, len));
    FUZZ_REQUIRE(is_inside(h->salt, KMSENV_SALT_LEN, data, len));
    FUZZ_REQUIRE(is_inside(h->commitment, KMSENV_COMMITMENT_LEN, data, len));
    FUZZ_REQUIRE(kmsenv_parameters_build(again, h->keylen, h->segment_bits, h->salt));
    kmsenv_parameters_locate(again, &built);
    memcpy(again + (built.commitment - again), h->commitment, KMSENV_COMMITMENT_LEN);
    FUZZ_REQUIRE(memcmp(again, h->parameters, KMSENV_PARAMETERS_LEN) == 0);
    n = kmsenv_header_build_start(start, h->data_key_len);
    FUZZ_REQUIRE(n <= sizeof(start) && kmsenv_header_size(h->data_key_len) == len);
    FUZZ_REQUIRE(h->data_key == data + n && memcmp(start, data, n) == 0);
}

/* The length must be known by the fourth byte, and more bytes must not change the answer. */
static size_t check_length(const uint8_t *data, size_t size)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    size_t n, total = 0, before = 0;
    int status = 0, known = 0;

    for (n = 0; n <= size && n <= 8; n++) {
        status = kmsenv_header_length(data, n, &total, &err);
        FUZZ_REQUIRE(status != 0 || n < 4);
        FUZZ_REQUIRE((status < 0) == (err.reason != KMSENV_R_NONE));
        FUZZ_REQUIRE(!known || status < 0 || total == before);
        if (status < 0)
            return 0;
        known = status;
        before = total;
    }
    FUZZ_REQUIRE(!known || total <= KMSENV_HEADER_MAX + 16);
    return known ? total : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_HEADER header;
    size_t total = check_length(data, size);

    check_data_key(data, size);
    if (total == 0 || total > size)
        return 0;
    if (kmsenv_header_parse(data, total, &header, &err)) {
        check_header(&header, data, total);
        check_data_key(header.data_key, header.data_key_len);
    } else {
        FUZZ_REQUIRE(err.reason != KMSENV_R_NONE);
    }
    return 0;
}
