/*
 * Protocol buffers (proto3), by nanopb: what is generated from a .proto describes the messages, and the fields that are
 * strings or bytes are views into memory of ours. Writing goes straight into a buffer, which may be secret memory, and
 * reading points into the text that was received: nothing that may be secret is ever copied to ordinary memory.
 */
#ifndef KMSENV_KMS_PROTO_H
# define KMSENV_KMS_PROTO_H
# include <stddef.h>
# include "core/buffer.h"
# include "core/error.h"

/* A string or bytes field. Borrowed. */
typedef struct kmsenv_proto_bytes_st {
    const unsigned char *data;         /* NULL = the field is not there */
    size_t length;                     /* a field of length 0 is not written: proto3 does not tell it from none */
} KMSENV_PROTO_BYTES;

struct pb_msgdesc_s;
/* Appends the encoding of a message. fields: "NAME_fields" as generated. A failure shows in out->failed (never without). */
int kmsenv_proto_write(const struct pb_msgdesc_s *fields, const void *message, KMSENV_BUFFER *out);
/*
 * Reads a message, which must be all zeros before; its views point into text. Unknown fields are skipped. Refused (0,
 * without a word of why): what is not well-formed, such a field that is there twice or is a number.
 */
int kmsenv_proto_read(const struct pb_msgdesc_s *fields, const KMSENV_BUFFER *text, void *message);

/* A text as a field; NULL = not there. */
KMSENV_PROTO_BYTES kmsenv_proto_text(const char *text);
/* A field as a word (kms/request.h) for our texts. */
void kmsenv_proto_word(KMSENV_PROTO_BYTES field, char *out, size_t room);

#endif
