/* Texts that people write: key files, encryption contexts, settings of every type. The first byte of the input chooses. */
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/settings.h"
#include "kms/context.h"
#include "kms/local_key.h"
#include "fuzz.h"

static const KMSENV_SETTING every_type[] = {
    { "text", KMSENV_TEXT, NULL, 0, 0, NULL, "help" }, { "number", KMSENV_NUMBER, NULL, 1, 1000, NULL, "help" },
    { "boolean", KMSENV_BOOLEAN, NULL, 0, 0, NULL, "help" }, { "choice", KMSENV_CHOICE, NULL, 0, 0, "a|bb|ccc", "help" },
    { "seconds", KMSENV_SECONDS, NULL, 0, 31536000, NULL, "help" }, { "size", KMSENV_SIZE, NULL, 1, UINT64_MAX, NULL, "help" },
    { "path", KMSENV_PATH, NULL, 0, 0, NULL, "help" }, { "paths", KMSENV_PATHS, NULL, 0, 0, NULL, "help" },
    { "names", KMSENV_NAMES, NULL, 0, 0, NULL, "help" }, { "secret", KMSENV_SECRET, NULL, 0, 0, NULL, "help" },
    { "pairs", KMSENV_PAIRS, NULL, 0, 0, NULL, "help" }, { NULL, KMSENV_TEXT, NULL, 0, 0, NULL, NULL }
};
#define TYPES (sizeof(every_type) / sizeof(every_type[0]) - 1)

static void try_key_file(const uint8_t *data, size_t size)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_LOCAL_KEY *key;
    char path[64];
    int fd = memfd_create("key", MFD_CLOEXEC);

    FUZZ_REQUIRE(fd >= 0 && fchmod(fd, 0600) == 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    key = kmsenv_local_key_load(path, &err);
    FUZZ_REQUIRE((key == NULL) == (err.reason != KMSENV_R_NONE));
    if (key != NULL) {
        FUZZ_REQUIRE(strlen(kmsenv_local_key_id(key)) == KMSENV_LOCAL_KEY_ID_LEN && kmsenv_local_key_count(key) > 0);
        FUZZ_REQUIRE(kmsenv_local_key_get0(key, kmsenv_local_key_newest(key)) != NULL);
    }
    kmsenv_local_key_free(key);
    close(fd);
}

/* What parses is sorted, bounded, and equal to a copy of itself. */
static void try_context(const char *text)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_CONTEXT c, copy;
    size_t i;

    kmsenv_context_init(&c);
    kmsenv_context_init(&copy);
    if (kmsenv_context_parse(&c, text, &err)) {
        FUZZ_REQUIRE(c.count <= KMSENV_CONTEXT_PAIRS_MAX);
        for (i = 0; i < c.count; i++)
            FUZZ_REQUIRE(c.name[i][0] != '\0' && (i == 0 || strcmp(c.name[i - 1], c.name[i]) < 0));
        FUZZ_REQUIRE(kmsenv_context_copy(&copy, &c) && kmsenv_context_equal(&copy, &c) && kmsenv_context_contains(&c, &copy));
    } else {
        FUZZ_REQUIRE(err.reason != KMSENV_R_NONE && err.text[0] != '\0');
    }
    kmsenv_context_reset(&c);
    kmsenv_context_reset(&copy);
}

static void try_setting(const KMSENV_SETTING *s, const char *text)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_SECTION *section = kmsenv_section_new("fuzz");
    uint64_t n;

    FUZZ_REQUIRE(section != NULL && kmsenv_section_add_table(section, every_type));
    if (kmsenv_section_set(section, s->name, text, &err)) {
        FUZZ_REQUIRE(kmsenv_section_is_set(section, s->name) && strcmp(kmsenv_section_text(section, s->name), text) == 0);
        n = kmsenv_section_number(section, s->name);
        if (s->type == KMSENV_NUMBER || s->type == KMSENV_SECONDS || s->type == KMSENV_SIZE)
            FUZZ_REQUIRE(n >= s->min && n <= s->max);
    } else {
        FUZZ_REQUIRE(err.reason == KMSENV_R_CONFIG_INVALID && strstr(err.text, s->name) != NULL);
        /* A secret is not in the text of its error. */
        FUZZ_REQUIRE(s->type != KMSENV_SECRET || strlen(text) < 12 || strstr(err.text, text) == NULL);
    }
    kmsenv_section_free(section);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text;
    unsigned which;

    if (size == 0)
        return 0;
    which = data[0] % (TYPES + 2);
    FUZZ_REQUIRE((text = malloc(size)) != NULL);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    if (which == 0)
        try_key_file(data + 1, size - 1);
    else if (which == 1)
        try_context(text);
    else
        try_setting(&every_type[which - 2], text);
    free(text);
    return 0;
}
