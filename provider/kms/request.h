/*
 * A request and its reply as values: builders and signers make a KMSENV_REQUEST, the transport
 * (kms/http.h) turns it into a KMSENV_REPLY, parsers read that. Neither side knows the other,
 * so both can be tested without a network.
 */
#ifndef KMSENV_KMS_REQUEST_H
# define KMSENV_KMS_REQUEST_H
# include <stdint.h>
# include "core/buffer.h"
# include "core/error.h"

# define KMSENV_REQUEST_HEADERS_MAX 24
# define KMSENV_REQUEST_BODY_MAX    (256 * 1024)
# define KMSENV_REPLY_BODY_MAX      (1024 * 1024)
# define KMSENV_REPLY_HEADERS_MAX   (32 * 1024)

typedef struct kmsenv_request_st {
    const char *method;                        /* static text: "POST" */
    KMSENV_BUFFER target;                      /* raw request-target, begins with '/' */
    char *header[KMSENV_REQUEST_HEADERS_MAX];  /* "Name: value", in secret memory; Host is one of them */
    size_t headers;
    KMSENV_BUFFER body;                        /* secret memory */
    int secret;                                /* the body holds a secret: the transport must not leave copies of it behind */
    int direct;                                /* never through a proxy */
    uint64_t connect_ms;                       /* for the connection, if that is less than `connect-timeout`; 0 = no limit of its own */
} KMSENV_REQUEST;

void kmsenv_request_init(KMSENV_REQUEST *r, const char *method);
void kmsenv_request_reset(KMSENV_REQUEST *r);
/* Adds a header. Refuses names and values that could break out of their line (REQUEST_REJECTED, the value is not shown). */
int kmsenv_request_add_header(KMSENV_REQUEST *r, const char *name, const char *value, KMSENV_ERROR *err);
/* The value of a header, the name compared without case; NULL if there is none. */
const char *kmsenv_request_header(const KMSENV_REQUEST *r, const char *name);
/* A field of a body that is a form (application/x-www-form-urlencoded), or of a query behind its '?'; with the '&' between two of them. */
void kmsenv_form_add(KMSENV_BUFFER *body, const char *name, const char *value);
/* One check at the end of building: no add to target or body may have failed (KMS_INPUT_TOO_LARGE). */
int kmsenv_request_check(const KMSENV_REQUEST *r, KMSENV_ERROR *err);

typedef struct kmsenv_reply_st {
    int status;                                /* HTTP status */
    KMSENV_BUFFER headers;                     /* "Name: value\r\n", those of the last header block only */
    KMSENV_BUFFER body;                        /* secret memory */
    int transient;                             /* no reply came, and another attempt may fare better */
} KMSENV_REPLY;

void kmsenv_reply_init(KMSENV_REPLY *r);
void kmsenv_reply_reset(KMSENV_REPLY *r);
/* The value of a header, printable characters only, cut to room. 0 if there is none (out is ""). */
int kmsenv_reply_header(const KMSENV_REPLY *r, const char *name, char *out, size_t room);
/* The time in the Date header as Unix seconds; 0 if it is missing or malformed. */
int64_t kmsenv_reply_date(const KMSENV_REPLY *r);

/* Copies what is printable ASCII of n bytes, cut to room; anything else becomes '?'. For texts of others in our logs. */
void kmsenv_text_printable(char *out, size_t room, const char *text, size_t n);
/* The leading letters, digits, '.', '_' and '-' of a text, cut to room: a code, an id. text may be NULL. For texts of others in our errors. */
void kmsenv_text_word(char *out, size_t room, const char *text);
/* Adds n bytes percent-encoded (RFC 3986): letters, digits and "-._~" stay, all others become %XX. For queries, forms, paths. */
void kmsenv_text_encode(KMSENV_BUFFER *out, const void *text, size_t n);
/* "2023-11-14T23:13:20Z", perhaps with a fraction, as Unix seconds. text may be NULL. 0 if it is something else. */
int kmsenv_text_time(const char *text, int64_t *out);

#endif
