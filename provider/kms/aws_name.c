/* How keys and endpoints of AWS KMS are called. */
#include <stdio.h>
#include <string.h>
#include "kms/aws.h"

#define LOWER_DIGITS "abcdefghijklmnopqrstuvwxyz0123456789-"

/* arn:PARTITION:kms:REGION:ACCOUNT:RESOURCE; where the resource begins, NULL if it is none. */
static const char *arn_resource(const char *arn, const char **region)
{
    const char *p = arn;
    int i;

    if (strncmp(arn, "arn:", 4) != 0)
        return NULL;
    for (i = 0; i < 5; i++) {
        p += strcspn(p, ":");
        if (*p++ == '\0')
            return NULL;
        if (i == 1 && strncmp(p, "kms:", 4) != 0)
            return NULL;
        if (i == 2)
            *region = p;
    }
    return p;
}

int kmsenv_aws_is_alias(const char *key_id)
{
    const char *region, *resource = arn_resource(key_id, &region);

    return strncmp(resource == NULL ? key_id : resource, "alias/", 6) == 0;
}

int kmsenv_aws_is_same_account(const char *key_id, const char *other)
{
    const char *region, *resource = arn_resource(key_id, &region), *resource2 = arn_resource(other, &region);

    return resource == NULL || resource2 == NULL
           || (resource - key_id == resource2 - other && memcmp(key_id, other, (size_t)(resource - key_id)) == 0);
}

int kmsenv_aws_is_key_arn(const char *key_id)
{
    const char *region, *resource = arn_resource(key_id, &region);

    return resource != NULL && strncmp(resource, "key/", 4) == 0 && resource[4] != '\0';
}

int kmsenv_aws_arn_region(const char *key_id, char *out, size_t room)
{
    const char *region;
    size_t n;

    if (arn_resource(key_id, &region) == NULL)
        return 0;
    n = strcspn(region, ":");
    if (n == 0 || n >= room || strspn(region, LOWER_DIGITS) != n)
        return 0;
    memcpy(out, region, n);
    out[n] = '\0';
    return 1;
}

int kmsenv_aws_endpoint(const char *service, const char *region, char *out, size_t room)
{
    const char *more = strncmp(region, "cn-", 3) == 0 ? ".cn" : "";
    size_t length = strlen(region);
    int n;

    if (length == 0 || length >= KMSENV_AWS_REGION_MAX || strspn(region, LOWER_DIGITS) != length)
        return 0;
    n = snprintf(out, room, "https://%s.%s.amazonaws.com%s", service, region, more);
    return n > 0 && (size_t)n < room;
}
