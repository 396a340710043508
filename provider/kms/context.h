/*
 * Encryption context: name/value pairs that a KMS binds to a wrap as additional authenticated
 * data. Kept sorted by the bytes of the name, names unique, all UTF-8, so that its canonical
 * JSON form is always the same text.
 */
#ifndef KMSENV_KMS_CONTEXT_H
# define KMSENV_KMS_CONTEXT_H
# include <stddef.h>
# include "core/buffer.h"
# include "core/error.h"
# include "kmsenv/format.h"

typedef struct kmsenv_context_st {
    size_t count;                                /* 0 = no context */
    char *name[KMSENV_CONTEXT_PAIRS_MAX];
    char *value[KMSENV_CONTEXT_PAIRS_MAX];
} KMSENV_CONTEXT;

void kmsenv_context_init(KMSENV_CONTEXT *c);
void kmsenv_context_reset(KMSENV_CONTEXT *c);
int kmsenv_context_copy(KMSENV_CONTEXT *to, const KMSENV_CONTEXT *from);   /* `to` is reset first */
/* Adds a pair (copied) in its place. Errors: empty or repeated name, not UTF-8, control characters, too many, too long. */
int kmsenv_context_add(KMSENV_CONTEXT *c, const char *name, size_t namelen,
                       const char *value, size_t valuelen, KMSENV_ERROR *err);
/* Parses "name=value,name=value" ('\' escapes , = and \) into c, which is reset first. "" is the empty context. */
int kmsenv_context_parse(KMSENV_CONTEXT *c, const char *text, KMSENV_ERROR *err);
int kmsenv_context_equal(const KMSENV_CONTEXT *a, const KMSENV_CONTEXT *b);
/* Is every pair of `part` in `whole`? */
int kmsenv_context_contains(const KMSENV_CONTEXT *whole, const KMSENV_CONTEXT *part);
/* Appends the canonical JSON: one object, names sorted by their bytes, no blanks, UTF-8 unescaped. "{}" if empty. */
int kmsenv_context_json(const KMSENV_CONTEXT *c, KMSENV_BUFFER *out);

/* UTF-8 without control characters? What a name or value must be. */
int kmsenv_context_is_text(const char *text, size_t n);

#endif
