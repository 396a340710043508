/* The only user of cJSON. Its hooks are shared with the application, which may use it too: they are left alone. */
#include <pthread.h>
#include <string.h>
#include <cjson/cJSON.h>
#include "core/library.h"
#include "kms/json.h"

#define LIBRARY    "libcjson.so.1"
#define TREE(json) ((const cJSON *)(json))

/* Not linked but loaded (core/library.h). A tree exists only if that went well. */
static struct {
    pthread_once_t once;
    int ready;
    char fault[160];
    __typeof__(cJSON_ParseWithLength) *parse;
    __typeof__(cJSON_Delete) *delete;
    __typeof__(cJSON_GetObjectItemCaseSensitive) *get;
} cjson = { .once = PTHREAD_ONCE_INIT };

static void load_library(void)
{
    static const KMSENV_SYMBOL wanted[] = {
        { "cJSON_ParseWithLength", &cjson.parse },
        { "cJSON_Delete", &cjson.delete },
        { "cJSON_GetObjectItemCaseSensitive", &cjson.get }
    };

    cjson.ready = kmsenv_library_load(LIBRARY, wanted, sizeof(wanted) / sizeof(wanted[0]),
                                      cjson.fault, sizeof(cjson.fault)) != NULL;
}

/* What cJSON_IsObject() and the like look at. */
static int is_a(const cJSON *node, int type)
{
    return (node->type & 0xff) == type;
}

/* No object has a name twice. The number of values is bounded, so the square of it is too. */
static int names_are_unique(const cJSON *node)
{
    const cJSON *child, *other;

    for (child = node->child; child != NULL; child = child->next) {
        for (other = child->next; is_a(node, cJSON_Object) && other != NULL; other = other->next)
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
    pthread_once(&cjson.once, load_library);
    if (!cjson.ready) {
        kmsenv_error_set(err, KMSENV_R_KMS_UNREACHABLE, LIBRARY ", needed for KMSes in the network, cannot be loaded (%s); "
                         "install the package that has it", cjson.fault);
        return NULL;
    }
    if ((root = cjson.parse(kmsenv_buffer_text(text), text->length)) == NULL) {
        kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "the reply is not JSON, or memory is short");
        return NULL;
    }
    if (names_are_unique(root))
        return (KMSENV_JSON *)root;
    cjson.delete(root);
    kmsenv_error_set(err, KMSENV_R_KMS_REPLY_MALFORMED, "the reply has a JSON object with the same name twice");
    return NULL;
}

void kmsenv_json_free(KMSENV_JSON *root)
{
    if (root != NULL)
        cjson.delete((cJSON *)root);
}

const KMSENV_JSON *kmsenv_json_get(const KMSENV_JSON *json, const char *name)
{
    const cJSON *member;

    if (json == NULL || !is_a(TREE(json), cJSON_Object))
        return NULL;
    member = cjson.get(TREE(json), name);
    return member == NULL || is_a(member, cJSON_NULL) ? NULL : (const KMSENV_JSON *)member;
}

const KMSENV_JSON *kmsenv_json_at(const KMSENV_JSON *json, size_t i)
{
    const cJSON *child;

    if (json == NULL || (!is_a(TREE(json), cJSON_Object) && !is_a(TREE(json), cJSON_Array)))
        return NULL;
    for (child = TREE(json)->child; child != NULL && i > 0; i--)
        child = child->next;
    return (const KMSENV_JSON *)child;
}

const char *kmsenv_json_name(const KMSENV_JSON *json)
{
    return TREE(json)->string;
}

const char *kmsenv_json_text(const KMSENV_JSON *json)
{
    return json == NULL || !is_a(TREE(json), cJSON_String) ? NULL : TREE(json)->valuestring;
}

int kmsenv_json_number(const KMSENV_JSON *json, int64_t *out)
{
    double n;

    if (json == NULL || !is_a(TREE(json), cJSON_Number))
        return 0;
    n = TREE(json)->valuedouble;
    if (!(n >= -9007199254740992.0 && n <= 9007199254740992.0) || (double)(int64_t)n != n)
        return 0;
    *out = (int64_t)n;
    return 1;
}

int kmsenv_json_boolean(const KMSENV_JSON *json, int *out)
{
    if (json == NULL || (!is_a(TREE(json), cJSON_True) && !is_a(TREE(json), cJSON_False)))
        return 0;
    *out = is_a(TREE(json), cJSON_True);
    return 1;
}
