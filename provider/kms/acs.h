/*
 * The signatures of Alibaba Cloud's RPC-style APIs: ACS3-HMAC-SHA256 and, older, RPC v1 with HMAC-SHA1. Both
 * are made over a request that is complete otherwise: its parameters are read back, decoded and encoded
 * anew, as the service does it.
 */
#ifndef KMSENV_KMS_ACS_H
# define KMSENV_KMS_ACS_H
# include <stdint.h>
# include "core/crypto.h"
# include "kms/request.h"

/* Who signs. */
typedef struct kmsenv_acs_signer_st {
    KMSENV_CRYPTO *crypto;
    const char *id, *secret;
} KMSENV_ACS_SIGNER;

/* --- acs_params.c --------------------------------------------------------- */

/* "2023-11-14T22:13:20Z", 21 bytes. 0 if the time is beyond calendars, with err. */
int kmsenv_acs_time(int64_t timestamp, char *out, size_t room, KMSENV_ERROR *err);
/*
 * The parameters of a request in canonical form: those of the query and, if form is set, of the body; without
 * Signature; sorted. They may hold secrets: out should be in secret memory.
 */
int kmsenv_acs_canonical_params(const KMSENV_REQUEST *request, int form, KMSENV_BUFFER *out, KMSENV_ERROR *err);

/* --- acs3.c --------------------------------------------------------------- */

/* The parts, for themselves. signed_headers gets the names as in SignedHeaders: Host, Content-Type and all x-acs-* there are. */
int kmsenv_acs3_canonical(KMSENV_CRYPTO *crypto, const KMSENV_REQUEST *request, KMSENV_BUFFER *signed_headers,
                          KMSENV_BUFFER *out, KMSENV_ERROR *err);
int kmsenv_acs3_string_to_sign(KMSENV_CRYPTO *crypto, const KMSENV_BUFFER *canonical, KMSENV_BUFFER *out, KMSENV_ERROR *err);
/* The whole: adds x-acs-content-sha256, unless it is there, and Authorization. */
int kmsenv_acs3_sign(const KMSENV_ACS_SIGNER *signer, KMSENV_REQUEST *request, KMSENV_ERROR *err);

/* --- acs_rpc.c ------------------------------------------------------------ */

/* canonical: of query and body together. out may hold secrets. */
int kmsenv_acs_rpc_string_to_sign(const char *method, const KMSENV_BUFFER *canonical, KMSENV_BUFFER *out, KMSENV_ERROR *err);
/* The whole: adds the parameter Signature, to the query if there is one, otherwise to the body. */
int kmsenv_acs_rpc_sign(const KMSENV_ACS_SIGNER *signer, KMSENV_REQUEST *request, KMSENV_ERROR *err);

#endif
