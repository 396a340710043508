#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include "core/secret.h"
#include "kms/request.h"

#define TARGET_MAX       8192
#define HEADER_VALUE_MAX 16384   /* session tokens are the long ones: a few KiB */

void kmsenv_request_init(KMSENV_REQUEST *r, const char *method)
{
    memset(r, 0, sizeof(*r));
    r->method = method;
    kmsenv_buffer_init(&r->target, TARGET_MAX, 0);
    kmsenv_buffer_init(&r->body, KMSENV_REQUEST_BODY_MAX, 1);
}

void kmsenv_request_reset(KMSENV_REQUEST *r)
{
    while (r->headers > 0)
        kmsenv_secret_free(r->header[--r->headers]);
    kmsenv_buffer_reset(&r->target);
    kmsenv_buffer_reset(&r->body);
}

static int is_token(const char *name)
{
    const char *p;

    for (p = name; *p != '\0'; p++)
        if (!isalnum((unsigned char)*p) && *p != '-')
            return 0;
    return p != name;
}

/* Printable, also beyond ASCII; no line breaks, no blanks at the ends (they would not be signed as they are sent). */
static int is_value(const char *value, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++)
        if ((unsigned char)value[i] < 0x20 || value[i] == 0x7f)
            return 0;
    return n > 0 && n <= HEADER_VALUE_MAX && value[0] != ' ' && value[n - 1] != ' ';
}

int kmsenv_request_add_header(KMSENV_REQUEST *r, const char *name, const char *value, KMSENV_ERROR *err)
{
    size_t namelen = strlen(name), n = strlen(value);
    char *line;

    if (!is_token(name) || !is_value(value, n))
        return kmsenv_error_set(err, KMSENV_R_KMS_REQUEST_REJECTED, "the value for the request header %.40s is empty, longer "
                                "than %d bytes, or holds a blank at an end or a control character: check the setting or "
                                "credential it is made from", name, HEADER_VALUE_MAX);
    if (r->headers == KMSENV_REQUEST_HEADERS_MAX || (line = kmsenv_secret_zalloc(namelen + n + 3)) == NULL)
        return kmsenv_error_set(err, KMSENV_R_OUT_OF_MEMORY, "no memory for the request header %.40s", name);
    memcpy(line, name, namelen);
    memcpy(line + namelen, ": ", 2);
    memcpy(line + namelen + 2, value, n);
    r->header[r->headers++] = line;
    return 1;
}

const char *kmsenv_request_header(const KMSENV_REQUEST *r, const char *name)
{
    size_t i, n = strlen(name);

    for (i = 0; i < r->headers; i++)
        if (strncasecmp(r->header[i], name, n) == 0 && r->header[i][n] == ':')
            return r->header[i] + n + 2;
    return NULL;
}

void kmsenv_form_add(KMSENV_BUFFER *body, const char *name, const char *value)
{
    int first = body->length == 0 || body->data[body->length - 1] == '?';

    kmsenv_buffer_printf(body, "%s%s=", first ? "" : "&", name);
    kmsenv_text_encode(body, value, strlen(value));
}

int kmsenv_request_check(const KMSENV_REQUEST *r, KMSENV_ERROR *err)
{
    if (!r->body.failed && !r->target.failed && r->target.length > 0)
        return 1;
    return kmsenv_error_set(err, KMSENV_R_KMS_INPUT_TOO_LARGE, "the request to the KMS would exceed %d bytes, or memory is short",
                            KMSENV_REQUEST_BODY_MAX);
}

void kmsenv_reply_init(KMSENV_REPLY *r)
{
    memset(r, 0, sizeof(*r));
    kmsenv_buffer_init(&r->headers, KMSENV_REPLY_HEADERS_MAX, 0);
    kmsenv_buffer_init(&r->body, KMSENV_REPLY_BODY_MAX, 1);
}

void kmsenv_reply_reset(KMSENV_REPLY *r)
{
    kmsenv_buffer_reset(&r->headers);
    kmsenv_buffer_reset(&r->body);
    r->status = 0;
    r->transient = 0;
}

void kmsenv_text_printable(char *out, size_t room, const char *text, size_t n)
{
    size_t i;

    for (i = 0; i < n && i + 1 < room; i++)
        out[i] = text[i] >= 0x20 && text[i] < 0x7f ? text[i] : '?';
    out[i] = '\0';
}

void kmsenv_text_word(char *out, size_t room, const char *text)
{
    size_t i;

    for (i = 0; text != NULL && text[i] != '\0' && i + 1 < room
                && (isalnum((unsigned char)text[i]) || strchr("._-", text[i]) != NULL); i++)
        out[i] = text[i];
    out[i] = '\0';
}

void kmsenv_text_encode(KMSENV_BUFFER *out, const void *text, size_t n)
{
    static const char digit[] = "0123456789ABCDEF";
    const unsigned char *p = text;
    char escape[3] = "%";

    for (; n > 0; p++, n--) {
        if ((*p < 0x80 && isalnum(*p)) || (*p != '\0' && strchr("-._~", *p) != NULL)) {
            kmsenv_buffer_add(out, p, 1);
            continue;
        }
        escape[1] = digit[*p >> 4];
        escape[2] = digit[*p & 15];
        kmsenv_buffer_add(out, escape, 3);
    }
}

int kmsenv_text_time(const char *text, int64_t *out)
{
    struct tm tm = { 0 };
    const char *end = text == NULL ? NULL : strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);

    if (end != NULL && *end == '.')
        end += 1 + strspn(end + 1, "0123456789");
    if (end == NULL || strcmp(end, "Z") != 0)
        return 0;
    *out = (int64_t)timegm(&tm);
    return *out > 0;
}

int kmsenv_reply_header(const KMSENV_REPLY *r, const char *name, char *out, size_t room)
{
    const char *line = kmsenv_buffer_text(&r->headers), *end;
    size_t n = strlen(name);

    for (; (end = strstr(line, "\r\n")) != NULL; line = end + 2) {
        if (strncasecmp(line, name, n) != 0 || line[n] != ':')
            continue;
        for (line += n + 1; line < end && (*line == ' ' || *line == '\t'); line++)
            ;
        kmsenv_text_printable(out, room, line, (size_t)(end - line));
        return 1;
    }
    out[0] = '\0';
    return 0;
}

int64_t kmsenv_reply_date(const KMSENV_REPLY *r)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    int day, year, hour, minute, second;
    char text[40], month[4];
    const char *m;
    struct tm tm;

    if (!kmsenv_reply_header(r, "Date", text, sizeof(text))
        || sscanf(text, "%*3[A-Za-z], %2d %3[A-Za-z] %4d %2d:%2d:%2d GMT", &day, month, &year, &hour, &minute, &second) != 6
        || strlen(month) != 3 || (m = strstr(months, month)) == NULL || (m - months) % 3 != 0 || year < 1970)
        return 0;
    memset(&tm, 0, sizeof(tm));
    tm.tm_mday = day;
    tm.tm_mon = (int)(m - months) / 3;
    tm.tm_year = year - 1900;
    tm.tm_hour = hour;
    tm.tm_min = minute;
    tm.tm_sec = second;
    return (int64_t)timegm(&tm);
}
