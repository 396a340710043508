/* What the runners of golden request vectors share (the format: vectors/README.md). One runner per vendor. */
#ifndef KMSENV_TEST_VECTORS_H
# define KMSENV_TEST_VECTORS_H
# include <cjson/cJSON.h>
# include "core/crypto.h"
# include "kms/request.h"

/* Runs one vector; 1 if everything it says holds. A failure has been reported by TEST_ macros. */
int vectors_tencent(const cJSON *vector, KMSENV_CRYPTO *crypto);
int vectors_alibaba(const cJSON *vector, KMSENV_CRYPTO *crypto);
int vectors_alibaba_instance(const cJSON *vector, KMSENV_CRYPTO *crypto);
int vectors_aws(const cJSON *vector, KMSENV_CRYPTO *crypto);
int vectors_vault(const cJSON *vector, KMSENV_CRYPTO *crypto);
int vectors_google(const cJSON *vector, KMSENV_CRYPTO *crypto);
int vectors_azure(const cJSON *vector, KMSENV_CRYPTO *crypto);

/* The value at a path of member names, "inputs/params/KeyId"; digits index arrays. NULL if it is not there or null. */
const cJSON *vector_at(const cJSON *json, const char *path);
const char *vector_text(const cJSON *json, const char *path);
/* The value of a header of a captured request; NULL if it has none. */
const char *vector_header(const cJSON *message, const char *name);
/* Another file of a vendor's folder, into out. */
int vector_file(const char *vendor, const char *name, KMSENV_BUFFER *out);
/* A captured response as our transport would hand it over. To be reset. */
int vector_reply(const cJSON *response, KMSENV_REPLY *reply);
/* Our request has the method, target, Host and, parsed as JSON, the body of the captured one. */
int vector_same_request(const KMSENV_REQUEST *ours, const cJSON *captured);
/* Headers that both must have with the same value, or both must not have. names: NULL-terminated. */
int vector_same_headers(const KMSENV_REQUEST *ours, const cJSON *captured, const char *const *names);

#endif
