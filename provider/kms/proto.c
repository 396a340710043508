/* The only user of nanopb, besides what its generator makes. */
#include <string.h>
#include <pb_decode.h>
#include <pb_encode.h>
#include "kms/proto.h"
#include "kms/request.h"

/* Where reading is. */
typedef struct cursor_st {
    const unsigned char *at, *end;
} CURSOR;

static bool read_text(pb_istream_t *stream, pb_byte_t *to, size_t n)
{
    CURSOR *c = stream->state;

    if ((size_t)(c->end - c->at) < n)
        return false;
    if (to != NULL)
        memcpy(to, c->at, n);
    c->at += n;
    return true;
}

static bool write_text(pb_ostream_t *stream, const pb_byte_t *from, size_t n)
{
    return kmsenv_buffer_add(stream->state, from, n);
}

/* A string or bytes field that was met. A number comes in a stream of nanopb's own. pb_read() would skip by way of the stack. */
static bool read_field(pb_istream_t *in, KMSENV_PROTO_BYTES *field)
{
    CURSOR *c = in->state;

    if (in->callback != read_text || field->data != NULL || (size_t)(c->end - c->at) < in->bytes_left)
        return false;
    field->data = c->at;
    field->length = in->bytes_left;
    c->at += in->bytes_left;
    in->bytes_left = 0;
    return true;
}

/* What the generated descriptions call for every such field, in both directions. */
bool kmsenv_proto_field(pb_istream_t *in, pb_ostream_t *out, const pb_field_t *description);
bool kmsenv_proto_field(pb_istream_t *in, pb_ostream_t *out, const pb_field_t *description)
{
    KMSENV_PROTO_BYTES *field = description->pData;

    if (description->data_size != sizeof(*field))
        return false;
    if (in != NULL)
        return read_field(in, field);
    return field->length == 0
           || (pb_encode_tag_for_field(out, description) && pb_encode_string(out, field->data, field->length));
}

int kmsenv_proto_write(const pb_msgdesc_t *fields, const void *message, KMSENV_BUFFER *out)
{
    pb_ostream_t stream = { .callback = write_text, .state = out, .max_size = SIZE_MAX };

    if (!pb_encode(&stream, fields, message))
        out->failed = 1;
    return !out->failed;
}

int kmsenv_proto_read(const pb_msgdesc_t *fields, const KMSENV_BUFFER *text, void *message)
{
    static const unsigned char nothing[1] = { 0 };
    const unsigned char *start = text->data == NULL ? nothing : text->data;
    CURSOR cursor = { start, start + text->length };
    pb_istream_t stream = { .callback = read_text, .state = &cursor, .bytes_left = text->length };

    return pb_decode(&stream, fields, message);
}

KMSENV_PROTO_BYTES kmsenv_proto_text(const char *text)
{
    KMSENV_PROTO_BYTES field = { (const unsigned char *)text, text == NULL ? 0 : strlen(text) };

    return field;
}

void kmsenv_proto_word(KMSENV_PROTO_BYTES field, char *out, size_t room)
{
    char text[256];
    size_t n = field.length < sizeof(text) ? field.length : sizeof(text) - 1;

    if (n > 0)
        memcpy(text, field.data, n);
    text[n] = '\0';
    kmsenv_text_word(out, room, text);
}
