/*
 * JSON, both ways. Text of ours is written straight into a buffer, which may be secret memory.
 * Text of others is checked to the last byte before anything looks at it; string members that
 * hold secrets are moved into secret memory and blotted out of the text first, so that the
 * parser's tree, in ordinary memory, never has them.
 */
#ifndef KMSENV_KMS_JSON_H
# define KMSENV_KMS_JSON_H
# include <stddef.h>
# include <stdint.h>
# include "core/buffer.h"
# include "core/error.h"

/* --- writing (json_write.c); failures show in the buffer's `failed` ------- */

/* Opens an object, as the member `name` or as an element or whole text (NULL). Commas put themselves. */
void kmsenv_json_open(KMSENV_BUFFER *b, const char *name);
void kmsenv_json_close(KMSENV_BUFFER *b);
/* Likewise a list; what is added to it has no name (NULL). */
void kmsenv_json_open_list(KMSENV_BUFFER *b, const char *name);
void kmsenv_json_close_list(KMSENV_BUFFER *b);
/* A string member. Escapes what JSON says must be, nothing more: UTF-8 stays as it is. */
void kmsenv_json_add_text(KMSENV_BUFFER *b, const char *name, const char *text);
void kmsenv_json_add_bytes(KMSENV_BUFFER *b, const char *name, const void *text, size_t n);
void kmsenv_json_add_base64(KMSENV_BUFFER *b, const char *name, const void *data, size_t n);
void kmsenv_json_add_number(KMSENV_BUFFER *b, const char *name, int64_t number);

/* --- checking and taking out (json_lex.c) --------------------------------- */

# define KMSENV_JSON_DEPTH_MAX  16
# define KMSENV_JSON_VALUES_MAX 2000

/* A string member to take out of a text, wherever in it it is. null counts as absent. */
typedef struct kmsenv_json_secret_st {
    const char *name;
    KMSENV_BUFFER *value;      /* initialised by the caller, secret; receives the decoded string */
    int found;
} KMSENV_JSON_SECRET;

/* Is it well-formed UTF-8? NUL is a character like any other. */
int kmsenv_json_is_utf8(const void *text, size_t n);
/*
 * Checks that text is one JSON value and nothing else: strict grammar, well-formed UTF-8, no NUL in
 * strings, at most KMSENV_JSON_DEPTH_MAX deep and KMSENV_JSON_VALUES_MAX values; takes the
 * secrets out. A member to take that is there twice or is not a string is an error. Error: KMS_REPLY_MALFORMED.
 */
int kmsenv_json_check(KMSENV_BUFFER *text, KMSENV_JSON_SECRET *secrets, size_t count, KMSENV_ERROR *err);

/* --- parts of a text (json_span.c) ---------------------------------------- */

/*
 * For texts that hold secrets in several places, of which only one is wanted: what is cut out can be
 * parsed by itself. The text must have passed kmsenv_json_check(); a span is borrowed from it.
 */
typedef struct kmsenv_json_span_st { const char *text; size_t length; } KMSENV_JSON_SPAN;
/* The value of the first member of an object with that name (which is not decoded); the i-th element of an array. 0 if there is none. */
int kmsenv_json_span_member(KMSENV_JSON_SPAN object, const char *name, KMSENV_JSON_SPAN *out);
int kmsenv_json_span_element(KMSENV_JSON_SPAN array, size_t i, KMSENV_JSON_SPAN *out);

/* --- reading (json.c) ----------------------------------------------------- */

typedef struct kmsenv_json_st KMSENV_JSON;   /* a value in a parsed text */

/* kmsenv_json_check(), then the tree. An object with a name twice is an error. NULL with err on failure. */
KMSENV_JSON *kmsenv_json_parse(KMSENV_BUFFER *text, KMSENV_JSON_SECRET *secrets, size_t count, KMSENV_ERROR *err);
void kmsenv_json_free(KMSENV_JSON *root);
/* Member of an object, by exact name. NULL if there is none, if it is null, or if json is no object (or NULL). Borrowed. */
const KMSENV_JSON *kmsenv_json_get(const KMSENV_JSON *json, const char *name);
/* The i-th element of a list, or member of an object whatever its name; NULL if there are not so many, or json is neither. */
const KMSENV_JSON *kmsenv_json_at(const KMSENV_JSON *json, size_t i);
/* The name of a member. */
const char *kmsenv_json_name(const KMSENV_JSON *json);
/* The string; NULL if json is no string (or NULL). Borrowed. */
const char *kmsenv_json_text(const KMSENV_JSON *json);
/* A whole number within +-2^53. 0 if json is none. */
int kmsenv_json_number(const KMSENV_JSON *json, int64_t *out);
/* true or false, as 1 or 0. 0 if json is neither. */
int kmsenv_json_boolean(const KMSENV_JSON *json, int *out);

#endif
