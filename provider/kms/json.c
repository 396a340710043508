/* The only user of cJSON. Its hooks are shared with the application, which may use it too: they are left alone. */
#include <string.h>
#include <cjson/cJSON.h>
#include "kms/json.h"

#define TREE(json) ((const cJSON *)(json))

/* No object has a name twice. The number of values is bounded, so the square of it is too. */
static int names_are_unique(const cJSON *node)
{
    const cJSON *child, *other;

    for (child = node->child; child != NULL; child = child->next) {
        for (other = child->next; cJSON_IsObject(node) && other != NULL; other = other->next)
            if (strcmp(child->string, other->string) == 0)
                return 0;
        if (!names_are_unique(child))
            return 0;
    }
    return 1;
}

KMSENV_JSON *kmsenv_json_parse(KMSENV_BUFFER *text, KMSENV_JSON_SECRET *secrets, size_t count, KMSENV_ERROR *err)
{
    cJSON *root;

    if (!kmsenv_json_check(text, secrets, count, err))
        return NULL;
    if ((root = cJSON_ParseWithLength(kmsenv_buffer_text(text), text->length)) == NULL) {
        kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "the reply is not JSON, or memory is short");
        return NULL;
    }
    if (names_are_unique(root))
        return (KMSENV_JSON *)root;
    cJSON_Delete(root);
    kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "the reply has a JSON object with the same name twice");
    return NULL;
}

void kmsenv_json_free(KMSENV_JSON *root)
{
    cJSON_Delete((cJSON *)root);
}

const KMSENV_JSON *kmsenv_json_get(const KMSENV_JSON *json, const char *name)
{
    const cJSON *member;

    if (json == NULL || !cJSON_IsObject(TREE(json)))
        return NULL;
    member = cJSON_GetObjectItemCaseSensitive(TREE(json), name);
    return member == NULL || cJSON_IsNull(member) ? NULL : (const KMSENV_JSON *)member;
}

const char *kmsenv_json_text(const KMSENV_JSON *json)
{
    return json == NULL ? NULL : cJSON_GetStringValue((cJSON *)TREE(json));
}

int kmsenv_json_number(const KMSENV_JSON *json, int64_t *out)
{
    double n;

    if (json == NULL || !cJSON_IsNumber(TREE(json)))
        return 0;
    n = TREE(json)->valuedouble;
    if (!(n >= -9007199254740992.0 && n <= 9007199254740992.0) || (double)(int64_t)n != n)
        return 0;
    *out = (int64_t)n;
    return 1;
}
