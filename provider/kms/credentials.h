/*
 * Credentials: where a vendor's clients usually find them, one source after the other, kept
 * until shortly before they expire. The sources themselves are the vendor's
 * (kms/tencent_credentials.c); what they read with is shared: settings, environment, INI and
 * token files (credentials_file.c), instance metadata (credentials_metadata.c).
 */
#ifndef KMSENV_KMS_CREDENTIALS_H
# define KMSENV_KMS_CREDENTIALS_H
# include <stdint.h>
# include "core/buffer.h"
# include "core/error.h"
# include "core/settings.h"
# include "core/signer.h"
# include "kms/endpoint.h"
# include "kms/http.h"

/* One set. Immutable once it is given out. */
typedef struct kmsenv_credential_st {
    char *id;            /* the part that is not secret, "" if the vendor has none */
    char *secret;        /* secret memory; NULL if the vendor has only a token */
    char *token;         /* secret memory; NULL if none */
    KMSENV_SIGNER *signer;  /* a private key, freed with the set; NULL if the vendor has none. A source may set it. */
    int64_t expires;     /* Unix seconds; 0 = never */
    int64_t refresh;     /* Unix seconds from which a new set is wanted; set by credentials.c */
    int references;
} KMSENV_CREDENTIAL;

/* For sources: fills a set (copies). secret, token may be NULL. */
int kmsenv_credential_set(KMSENV_CREDENTIAL *c, const char *id, const char *secret, const char *token, int64_t expires,
                          KMSENV_ERROR *err);
/* Frees what that filled, for sets that are needed on the way to another one. */
void kmsenv_credential_reset(KMSENV_CREDENTIAL *c);

enum { KMSENV_SOURCE_ABSENT = -1, KMSENV_SOURCE_FAILED = 0, KMSENV_SOURCE_FOUND = 1 };

/* A source. ABSENT: nothing is set up here, try the next one; err says what was looked for. FAILED: set up, but wrong. */
typedef struct kmsenv_credential_source_st {
    const char *name;    /* value of the setting `credentials` */
    int (*load)(void *arg, int64_t now, uint64_t deadline_ms, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err);
} KMSENV_CREDENTIAL_SOURCE;

typedef struct kmsenv_credentials_st KMSENV_CREDENTIALS;

/* chain ends with a NULL name; which: "auto", or the one source to use. remedy: what to do if there are none. All borrowed. */
KMSENV_CREDENTIALS *kmsenv_credentials_new(const KMSENV_CREDENTIAL_SOURCE *chain, const char *which, const char *remedy,
                                           void *arg);
void kmsenv_credentials_free(KMSENV_CREDENTIALS *c);
/*
 * The credentials, to be given back with kmsenv_credential_release(). Loads or refreshes them if
 * need be: one thread does, the others go on with the old set while it is valid, and wait if it
 * is not. rejected: a set that the KMS no longer accepts, so that another one is wanted; or NULL.
 * now: the time as the KMS sees it.
 */
KMSENV_CREDENTIAL *kmsenv_credentials_get1(KMSENV_CREDENTIALS *c, const KMSENV_CREDENTIAL *rejected, int64_t now,
                                           uint64_t deadline_ms, KMSENV_ERROR *err);
void kmsenv_credential_release(KMSENV_CREDENTIALS *c, KMSENV_CREDENTIAL *credential);
/* The KMS refused this set for good: the next get1 reads the sources again, for they may have been corrected by then. */
void kmsenv_credentials_forget(KMSENV_CREDENTIALS *c, const KMSENV_CREDENTIAL *credential);

/* --- credentials_set.c: sets of id, secret and token, which several vendors have --- */

/* The texts of a set while they are read; secret memory. Lengths are bounded (256, 1024, 8192 bytes). */
typedef struct kmsenv_credential_texts_st { KMSENV_BUFFER id, secret, token; } KMSENV_CREDENTIAL_TEXTS;
void kmsenv_credential_texts_init(KMSENV_CREDENTIAL_TEXTS *t);
void kmsenv_credential_texts_reset(KMSENV_CREDENTIAL_TEXTS *t);
int kmsenv_credential_texts_set(const KMSENV_CREDENTIAL_TEXTS *t, int64_t expires, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err);

/* What the three are called in some place. token may be NULL. */
typedef struct kmsenv_credential_names_st { const char *id, *secret, *token; } KMSENV_CREDENTIAL_NAMES;
/* FOUND, ABSENT (neither id nor secret), or FAILED (only one of the two, or unreadable). */
int kmsenv_credentials_from_settings(const KMSENV_SECTION *section, const KMSENV_CREDENTIAL_NAMES *names, KMSENV_CREDENTIAL *out,
                                     KMSENV_ERROR *err);
int kmsenv_credentials_from_env(const KMSENV_CREDENTIAL_NAMES *names, KMSENV_CREDENTIAL *out, KMSENV_ERROR *err);
/* A section of the INI file at path; ABSENT also if there is no such file. Errors name the path. */
int kmsenv_credentials_from_ini(const char *path, const char *section, const KMSENV_CREDENTIAL_NAMES *names,
                                KMSENV_CREDENTIAL *out, KMSENV_ERROR *err);

/* --- credentials_file.c --------------------------------------------------- */

/* An environment variable, NULL if unset, empty, or not to be trusted (setuid). Borrowed. */
const char *kmsenv_credentials_env(const char *name);
/* The value of a SECRET setting, resolved (env:NAME, file:PATH, literal), into out. */
int kmsenv_credentials_setting(const KMSENV_SECTION *section, const char *name, KMSENV_BUFFER *out, KMSENV_ERROR *err);
/* A whole regular file of 1 byte to out->limit, blanks and line breaks at its end removed. ABSENT if there is no such file. */
int kmsenv_credentials_file(const char *path, KMSENV_BUFFER *out, KMSENV_ERROR *err);
/* "HOME/tail" of the user of the process. 0 if there is no home. */
int kmsenv_credentials_home(const char *tail, char *out, size_t room);
/*
 * A value of an INI file: [section], key = value or key: value, '#' and ';' comment lines, keys without case. FOUND,
 * ABSENT (no such section or key; out is empty), or FAILED: malformed, or the key is there twice.
 */
int kmsenv_credentials_ini(const KMSENV_BUFFER *text, const char *section, const char *key, KMSENV_BUFFER *out,
                           KMSENV_ERROR *err);

/* --- credentials_metadata.c ----------------------------------------------- */

/* Checks a metadata endpoint: plain http to the vendor's host or to loopback, nothing else. */
int kmsenv_metadata_endpoint(KMSENV_ENDPOINT *e, const char *text, const char *vendor_host, KMSENV_ERROR *err);
/* The request: GET of a path below the endpoint's, past any proxy. */
int kmsenv_metadata_request(const KMSENV_ENDPOINT *e, const char *path, KMSENV_REQUEST *request, KMSENV_ERROR *err);
/* Sends such a request. ABSENT if nobody answers, or the path is not there (404). */
int kmsenv_metadata_send(KMSENV_HTTP *http, const KMSENV_ENDPOINT *e, const KMSENV_REQUEST *request, uint64_t deadline_ms,
                         KMSENV_REPLY *reply, KMSENV_ERROR *err);
/* Both in one. */
int kmsenv_metadata_get(KMSENV_HTTP *http, const KMSENV_ENDPOINT *e, const char *path, uint64_t deadline_ms,
                        KMSENV_REPLY *reply, KMSENV_ERROR *err);
/* The name of a role that is the whole reply, into out. */
int kmsenv_metadata_role(const KMSENV_REPLY *reply, char *out, size_t room, KMSENV_ERROR *err);

#endif
