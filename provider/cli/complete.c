/*
 * What fits at the cursor of a command line, for conf/completion/kmsenv. Everything comes from the tables that the
 * commands themselves read, so that nothing has to be kept in step with them. Nothing is written, no KMS is asked.
 *
 *   kmsenv --complete NUMBER WORD...     the words of the line, and which of them the cursor is in
 *
 * The answer is a line "words" (nothing else fits) or "files" (a name of a file would do as well), then a candidate a line.
 */
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "cli/complete.h"
#include "cli/installation.h"

/* The line as it is, and the word to complete in it. */
typedef struct line_st {
    const KMSENV_COMMAND *command;
    char **word;
    int count, at;
    const char *lead;           /* what stands before the word and is to be repeated: "--option=" where the shell does not split there */
    size_t lead_len;
    const char *typed;          /* what there is of the word, without the lead */
} LINE;

static void offer(const LINE *line, const char *candidate)
{
    if (strncmp(candidate, line->typed, strlen(line->typed)) == 0)
        printf("%.*s%s\n", (int)line->lead_len, line->lead, candidate);
}

static void offer_options(const LINE *line)
{
    const struct option *o;
    char text[64];

    for (o = line->command->options; o->name != NULL; o++) {
        snprintf(text, sizeof(text), "--%s", o->name);
        offer(line, text);
    }
    offer(line, "--help");
}

/* The configuration that the command would use: the one named on the line, or else OpenSSL's. */
static const char *config_of(const LINE *line)
{
    int i;

    for (i = 2; i + 1 < line->count; i++)
        if (i + 1 < line->at && strcmp(line->word[i], "--config") == 0)
            return line->word[i + (strcmp(line->word[i + 1], "=") == 0 ? 2 : 1)];
    return NULL;
}

/* Names of profiles, also after a comma: several may be given. */
static void offer_profiles(const LINE *line)
{
    const char *comma = strrchr(line->typed, ',');
    size_t before = comma == NULL ? 0 : (size_t)(comma + 1 - line->typed), i;
    char name[KMSENV_PROFILE_NAME_MAX], text[256];
    KMSENV_INSTALLATION in;

    kmsenv_installation_open(&in, "", config_of(line), NULL);
    for (i = 0; kmsenv_list_item(in.profiles == NULL ? "default" : in.profiles, i, name, sizeof(name)); i++) {
        snprintf(text, sizeof(text), "%.*s%s", (int)before, line->typed, name);
        offer(line, text);
    }
    kmsenv_installation_reset(&in);
}

/* The option that a word is and that takes a value: --name, or a letter that is its value in the table. */
static const struct option *find_option(const LINE *line, const char *word, size_t len)
{
    const struct option *o;

    for (o = line->command->options; o->name != NULL; o++)
        if (o->has_arg != no_argument
                && (len > 2 && strncmp(word, "--", 2) == 0 ? strlen(o->name) == len - 2 && strncmp(o->name, word + 2, len - 2) == 0
                                                           : len == 2 && word[0] == '-' && word[1] >= 'a' && word[1] == o->val))
            return o;
    return NULL;
}

/* The option whose value the cursor is in, NULL if it is none. The shell may have split "--option=value" into three words. */
static const struct option *option_at(LINE *line)
{
    const char *word = line->typed, *before = line->word[line->at - 1];
    const char *equals = strncmp(word, "--", 2) == 0 ? strchr(word, '=') : NULL;

    if (equals != NULL) {
        line->lead = word;
        line->lead_len = (size_t)(equals + 1 - word);
        line->typed = equals + 1;
        return find_option(line, word, (size_t)(equals - word));
    }
    if (strcmp(word, "=") == 0)
        line->typed = "";
    else if (strcmp(before, "=") == 0 && line->at > 2)
        before = line->word[line->at - 2];
    return find_option(line, before, strlen(before));
}

/* How many operands come before the cursor. *ended: is there a "--", so that no options follow? */
static int count_operands(const LINE *line, int *ended)
{
    int i, n = 0;

    *ended = 0;
    for (i = 2; i < line->at; i++) {
        if (!*ended && strcmp(line->word[i], "--") == 0)
            *ended = 1;
        else if (*ended || line->word[i][0] != '-' || line->word[i][1] == '\0')
            n++;
        else if (find_option(line, line->word[i], strlen(line->word[i])) != NULL)
            i += i + 1 < line->at && strcmp(line->word[i + 1], "=") == 0 ? 2 : 1;
    }
    return n;
}

static void offer_words(const LINE *line, const char *option, int operand)
{
    const char *const *words = line->command->words == NULL ? NULL : line->command->words(option, operand);

    puts(words == NULL ? "files" : "words");
    for (; words != NULL && *words != NULL; words++)
        offer(line, *words);
}

static void complete_argument(LINE *line)
{
    static const char *const profiles[] = { "profile", "to", "add" };
    const struct option *option = option_at(line);
    size_t i;
    int ended, operands;

    for (i = 0; option != NULL && i < sizeof(profiles) / sizeof(profiles[0]); i++) {
        if (strcmp(option->name, profiles[i]) == 0) {
            puts("words");
            offer_profiles(line);
            return;
        }
    }
    operands = count_operands(line, &ended);
    if (option == NULL && !ended && line->typed[0] == '-') {
        puts("words");
        offer_options(line);
    } else {
        offer_words(line, option == NULL ? NULL : option->name, operands);
    }
}

static void complete_command(const LINE *line, const KMSENV_COMMAND *const *commands)
{
    puts("words");
    for (; *commands != NULL; commands++)
        offer(line, (*commands)->name);
    if (line->typed[0] == '-') {
        offer(line, "--help");
        offer(line, "--version");
    }
}

int kmsenv_cli_complete(const KMSENV_COMMAND *const *commands, int argc, char **argv)
{
    LINE line = { .word = argv + 1, .count = argc - 1, .at = argc > 1 ? atoi(argv[0]) : 0, .lead = "" };
    const KMSENV_COMMAND *const *c;

    if (line.at < 1 || line.at > line.count)
        return KMSENV_EXIT_USAGE;
    line.typed = line.at == line.count ? "" : line.word[line.at];
    if (line.at == 1) {
        complete_command(&line, commands);
        return kmsenv_cli_finish(KMSENV_EXIT_OK);
    }
    for (c = commands; *c != NULL && strcmp((*c)->name, line.word[1]) != 0; c++)
        ;
    if ((line.command = *c) == NULL)
        puts("words");
    else
        complete_argument(&line);
    return kmsenv_cli_finish(KMSENV_EXIT_OK);
}
