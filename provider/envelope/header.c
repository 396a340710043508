#include <string.h>
#include "envelope/header.h"

#define AT_OID         2
#define AT_OID_LAST    (AT_OID + KMSENV_CIPHER_OID_LEN - 1)
#define AT_SALT        15
#define AT_BITS        49
#define AT_COMMITMENT  52

/* MessageParameters with zeros where values go. The last byte of the OID names the key size: 6, 26 or 46 (NIST aes 6/26/46). */
static const unsigned char parameters_pattern[KMSENV_PARAMETERS_LEN] = {
    0x30, KMSENV_PARAMETERS_LEN - 2,
    0x06, 9, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0,
    0x04, KMSENV_SALT_LEN, [AT_BITS - 2] = 0x02, 1,
    [AT_COMMITMENT - 2] = 0x04, KMSENV_COMMITMENT_LEN
};

static const struct { size_t keylen; unsigned char oid_last; } key_size[] = { { 16, 6 }, { 24, 26 }, { 32, 46 } };
#define KEY_SIZES (sizeof(key_size) / sizeof(key_size[0]))

/* format and version, as they stand between the outer SEQUENCE's length and the DataKey */
static const unsigned char format_pattern[] = {
    0x0c, sizeof(KMSENV_FORMAT_NAME) - 1, 'k', 'm', 's', '-', 'e', 'n', 'v', 'e', 'l', 'o', 'p', 'e',
    0x02, 1, KMSENV_FORMAT_VERSION
};
#define FORMAT_LEN sizeof(format_pattern)
#define NAME_LEN   (FORMAT_LEN - 3)      /* of it, the name */

static int malformed(KMSENV_ERROR *err, const char *what)
{
    kmsenv_error_set(err, KMSENV_R_MESSAGE_MALFORMED, "message header malformed: %s", what);
    return -1;
}

/* --- a SEQUENCE's tag and length, in DER and below 2^24 -------------------- */

/* 1 with *head bytes of tag and length and *total bytes with the contents; 0 too few bytes; -1 not DER of a SEQUENCE. */
static int sequence_length(const unsigned char *p, size_t n, size_t *head, size_t *total)
{
    size_t length, octets, i;

    if (n >= 1 && p[0] != 0x30)
        return -1;
    if (n < 2)
        return 0;
    if (p[1] < 0x80) {
        *head = 2;
        *total = 2 + p[1];
        return 1;
    }
    octets = p[1] & 0x7f;
    if (octets < 1 || octets > 3)
        return -1;
    if (n < 2 + octets)
        return 0;
    for (length = 0, i = 0; i < octets; i++)
        length = length << 8 | p[2 + i];
    if (length < 0x80 || (octets > 1 && length >> (8 * (octets - 1)) == 0))
        return -1;       /* not the shortest form */
    *head = 2 + octets;
    *total = *head + length;
    return 1;
}

/* Tag and length for contents of that many bytes (below 2^24); returns the bytes written. */
static size_t put_sequence(unsigned char *out, size_t length)
{
    size_t octets = length < 0x80 ? 0 : length < 0x100 ? 1 : length < 0x10000 ? 2 : 3, i;

    out[0] = 0x30;
    if (octets == 0) {
        out[1] = (unsigned char)length;
        return 2;
    }
    out[1] = (unsigned char)(0x80 | octets);
    for (i = 0; i < octets; i++)
        out[2 + i] = (unsigned char)(length >> (8 * (octets - 1 - i)));
    return 2 + octets;
}

/* --- reading -------------------------------------------------------------- */

int kmsenv_header_length(const unsigned char *p, size_t n, size_t *total, KMSENV_ERROR *err)
{
    size_t head;
    int r = sequence_length(p, n, &head, total);

    /* A length of three bytes is beyond KMSENV_HEADER_MAX, whatever they are: four bytes suffice to tell. */
    if (r < 0 || (n >= 2 && p[1] == 0x83)) {
        kmsenv_error_set(err, KMSENV_R_NOT_AN_ENVELOPE, "not a kmsenv message: it does not start with a DER SEQUENCE of at most 65536 bytes");
        return -1;
    }
    if (r > 0 && *total > KMSENV_HEADER_MAX)
        return malformed(err, "longer than 65536 bytes");
    return r;
}

static int check_format(const unsigned char *p, size_t n, KMSENV_ERROR *err)
{
    if (n < FORMAT_LEN || memcmp(p, format_pattern, NAME_LEN) != 0) {
        kmsenv_error_set(err, KMSENV_R_NOT_AN_ENVELOPE, "not a kmsenv message: the format name \"%s\" is missing", KMSENV_FORMAT_NAME);
        return -1;
    }
    if (memcmp(p, format_pattern, FORMAT_LEN) != 0)
        return malformed(err, "version is not 1, the only one this program reads");
    return 1;
}

static int check_parameters(const unsigned char *p, KMSENV_HEADER *out, KMSENV_ERROR *err)
{
    unsigned char expected[KMSENV_PARAMETERS_LEN];
    size_t i;

    for (i = 0; i < KEY_SIZES && key_size[i].oid_last != p[AT_OID_LAST]; i++)
        ;
    if (i == KEY_SIZES)
        return malformed(err, "cipher is not AES-GCM with a key of 128, 192 or 256 bits");
    if (!kmsenv_parameters_build(expected, key_size[i].keylen, p[AT_BITS], p + AT_SALT))
        return malformed(err, "segmentBits is not 12 to 35");
    if (memcmp(p, expected, AT_COMMITMENT) != 0)
        return malformed(err, "parameters are not in the expected form");
    out->keylen = key_size[i].keylen;
    out->segment_bits = p[AT_BITS];
    kmsenv_parameters_locate(p, out);
    return 1;
}

int kmsenv_header_parse(const unsigned char *p, size_t len, KMSENV_HEADER *out, KMSENV_ERROR *err)
{
    size_t head, total, key_head, key_total;

    if (sequence_length(p, len, &head, &total) != 1 || total != len)
        return malformed(err, "outer length") > 0;
    if (check_format(p + head, len - head, err) < 0)
        return 0;
    p += head + FORMAT_LEN;
    len -= head + FORMAT_LEN;
    if (sequence_length(p, len, &key_head, &key_total) != 1 || key_total > len
            || len - key_total != KMSENV_PARAMETERS_LEN)
        return malformed(err, "length of the data key") > 0;
    out->data_key = p;
    out->data_key_len = key_total;
    return check_parameters(p + key_total, out, err) > 0;
}

/* --- writing -------------------------------------------------------------- */

int kmsenv_parameters_build(unsigned char *out, size_t keylen, unsigned segment_bits, const unsigned char salt[KMSENV_SALT_LEN])
{
    size_t i;

    for (i = 0; i < KEY_SIZES && key_size[i].keylen != keylen; i++)
        ;
    if (i == KEY_SIZES || segment_bits < KMSENV_SEGMENT_BITS_MIN || segment_bits > KMSENV_SEGMENT_BITS_MAX)
        return 0;
    memcpy(out, parameters_pattern, KMSENV_PARAMETERS_LEN);
    out[AT_OID_LAST] = key_size[i].oid_last;
    memcpy(out + AT_SALT, salt, KMSENV_SALT_LEN);
    out[AT_BITS] = (unsigned char)segment_bits;
    return 1;
}

void kmsenv_parameters_locate(const unsigned char *parameters, KMSENV_HEADER *out)
{
    out->parameters = parameters;
    out->cipher_oid = parameters + AT_OID;
    out->salt = parameters + AT_SALT;
    out->commitment = parameters + AT_COMMITMENT;
}

size_t kmsenv_header_size(size_t data_key_len)
{
    unsigned char start[8];
    size_t contents = FORMAT_LEN + data_key_len + KMSENV_PARAMETERS_LEN;

    return put_sequence(start, contents) + contents;
}

size_t kmsenv_header_build_start(unsigned char *out, size_t data_key_len)
{
    size_t n = put_sequence(out, FORMAT_LEN + data_key_len + KMSENV_PARAMETERS_LEN);

    memcpy(out + n, format_pattern, FORMAT_LEN);
    return n + FORMAT_LEN;
}
