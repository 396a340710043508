#include <string.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include "cli/pem_text.h"

#define BEGIN     "-----BEGIN "
#define END       "-----END "
#define DASHES    "-----"
#define LEN(s)    (sizeof(s) - 1)
#define PER_LINE  48     /* bytes: 64 characters */

/* Where the line that begins at `at` ends, its line feed included. */
static size_t line_end(const unsigned char *text, size_t n, size_t at)
{
    const unsigned char *feed = memchr(text + at, '\n', n - at);

    return feed == NULL ? n : (size_t)(feed - text) + 1;
}

/* Bytes of the label of a line that is `mark` LABEL "-----"; 0 if it is not. */
static size_t label_of(const unsigned char *line, size_t n, const char *mark, size_t mark_len)
{
    while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r' || line[n - 1] == ' ' || line[n - 1] == '\t'))
        n--;
    if (n <= mark_len + LEN(DASHES) || memcmp(line, mark, mark_len) != 0 || memcmp(line + n - LEN(DASHES), DASHES, LEN(DASHES)) != 0)
        return 0;
    n -= mark_len + LEN(DASHES);
    return n <= KMSENV_PEM_LABEL_MAX && memchr(line + mark_len, '\0', n) == NULL ? n : 0;
}

/* The lines of a text, one after the other, and what kind of line it is. */
typedef struct line_st {
    size_t from, to;
    size_t begin, end;       /* bytes of its label, if it is a BEGIN or an END */
} LINE;

static int next_line(LINE *line, const unsigned char *text, size_t n)
{
    if ((line->from = line->to) >= n)
        return 0;
    line->to = line_end(text, n, line->from);
    line->begin = label_of(text + line->from, line->to - line->from, BEGIN, LEN(BEGIN));
    line->end = label_of(text + line->from, line->to - line->from, END, LEN(END));
    return 1;
}

static size_t count_lines(const unsigned char *text, size_t n)
{
    size_t i, count = 0;

    for (i = 0; i < n; i++)
        count += text[i] == '\n';
    return count;
}

int kmsenv_pem_next(const unsigned char *text, size_t n, size_t *at, KMSENV_PEM_BLOCK *block)
{
    size_t counted = *at == 0 ? 0 : block->start, lines = *at == 0 ? 1 : block->line;
    LINE line = { .to = *at };

    do {
        if (!next_line(&line, text, n)) {
            *at = n;
            return 0;
        }
    } while (line.begin == 0);
    memcpy(block->label, text + line.from + LEN(BEGIN), line.begin);
    block->label[line.begin] = '\0';
    block->start = line.from;
    block->end = 0;
    block->line = lines + count_lines(text + counted, line.from - counted);
    /* Another BEGIN, or the END of something else, ends it as well: so no line is looked at more than twice. */
    while (next_line(&line, text, n) && line.begin == 0 && line.end == 0)
        ;
    if (line.from < n && line.end == strlen(block->label) && memcmp(text + line.from + LEN(END), block->label, line.end) == 0)
        block->end = line.to;
    *at = line.from < n && line.begin == 0 ? line.to : line.from;
    return 1;
}

void kmsenv_pem_add(KMSENV_BUFFER *out, const char *label, const unsigned char *data, size_t n)
{
    unsigned char line[PER_LINE / 3 * 4 + 1];
    size_t piece;
    int len;

    kmsenv_buffer_printf(out, BEGIN "%s" DASHES "\n", label);
    for (; n > 0; data += piece, n -= piece) {
        piece = n < PER_LINE ? n : PER_LINE;
        len = EVP_EncodeBlock(line, data, (int)piece);
        kmsenv_buffer_add(out, line, (size_t)len);
        kmsenv_buffer_add_text(out, "\n");
    }
    OPENSSL_cleanse(line, sizeof(line));
    kmsenv_buffer_printf(out, END "%s" DASHES "\n", label);
}
