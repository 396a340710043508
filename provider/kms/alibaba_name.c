/* Names of keys and hosts of Alibaba Cloud. */
#include <stdio.h>
#include <string.h>
#include "kms/alibaba.h"

#define ARN     "acs:kms:"
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS  "0123456789"

/* What follows "acs:kms:REGION:ACCOUNT:"; the text itself if it is no ARN; NULL if it is half of one. */
static const char *after_account(const char *text)
{
    const char *p = text + strlen(ARN);
    size_t region, account;

    if (strncmp(text, ARN, strlen(ARN)) != 0)
        return text;
    region = strspn(p, LETTERS DIGITS "-");
    if (region == 0 || region >= KMSENV_ALIBABA_REGION_MAX || p[region] != ':')
        return NULL;
    p += region + 1;
    account = strspn(p, DIGITS);
    return account > 0 && p[account] == ':' ? p + account + 1 : NULL;
}

int kmsenv_alibaba_is_alias(const char *key_id)
{
    const char *rest = after_account(key_id);

    return rest != NULL && strncmp(rest, "alias/", 6) == 0;
}

const char *kmsenv_alibaba_bare_id(const char *key_id)
{
    const char *rest = after_account(key_id);

    return rest != NULL && rest != key_id && strncmp(rest, "key/", 4) == 0 ? rest + 4 : key_id;
}

int kmsenv_alibaba_is_key_id(const char *text)
{
    const char *rest = after_account(text), *name;

    if (rest == NULL || strlen(text) > KMSENV_NAME_MAX)
        return 0;
    name = kmsenv_alibaba_is_alias(text) ? rest + 6 : kmsenv_alibaba_bare_id(text);
    if (rest != text && name == text)
        return 0;   /* the ARN of something else */
    return *name != '\0' && strspn(name, LETTERS DIGITS "_-/.") == strlen(name);
}

int kmsenv_alibaba_arn_region(const char *key_id, char *out, size_t room)
{
    const char *p = key_id + strlen(ARN);
    size_t n;

    if (after_account(key_id) == NULL || after_account(key_id) == key_id || (n = strcspn(p, ":")) >= room)
        return 0;
    memcpy(out, p, n);
    out[n] = '\0';
    return 1;
}

int kmsenv_alibaba_endpoint(const char *service, int vpc, const char *region, char *out, size_t room)
{
    int n;

    if (region == NULL)
        n = snprintf(out, room, "https://%s.aliyuncs.com", service);
    else if (*region == '\0' || strlen(region) >= KMSENV_ALIBABA_REGION_MAX || strspn(region, LETTERS DIGITS "-") != strlen(region))
        return 0;
    else
        n = snprintf(out, room, "https://%s%s.%s.aliyuncs.com", service, vpc ? "-vpc" : "", region);
    return n > 0 && (size_t)n < room;
}
