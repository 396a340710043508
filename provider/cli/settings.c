#include <ctype.h>
#include <string.h>
#include "cli/cli.h"
#include "core/settings.h"
#include "dek/deks.h"
#include "entry/config.h"
#include "kms/http.h"
#include "kms/kms.h"

#define ENVIRONMENT_MAX 64
#define ACCEPTS_MAX     512

enum { MARKDOWN = 1, JSON, MAN };

/* How one form of output shows the tables. A group is one table of settings, with where it applies. */
typedef struct form_st {
    void (*begin)(void);
    void (*group)(const char *title, const char *where);
    void (*setting)(const KMSENV_SETTING *s);
    void (*end_group)(void);
    void (*end)(void);
} FORM;

const char *kmsenv_cli_environment(const char *setting, char *out, size_t room)
{
    size_t i;

    snprintf(out, room, "KMSENV_%s", setting);
    for (i = 0; out[i] != '\0'; i++)
        out[i] = out[i] == '-' ? '_' : (char)toupper((unsigned char)out[i]);
    return out;
}

static const char *environment_name(const KMSENV_SETTING *s, char out[ENVIRONMENT_MAX])
{
    return kmsenv_cli_environment(s->name, out, ENVIRONMENT_MAX);
}

static const char *accepts(const KMSENV_SETTING *s, char out[ACCEPTS_MAX])
{
    return kmsenv_setting_accepts(s, out, ACCEPTS_MAX);
}

/* --- plain text ----------------------------------------------------------- */

static void nothing(void)
{
}

static void text_group(const char *title, const char *where)
{
    printf("%s (%s)\n", title, where);
}

static void text_setting(const KMSENV_SETTING *s)
{
    char buffer[ACCEPTS_MAX];

    printf("  %-22s %s\n", s->name, s->help);
    printf("  %-22s accepted: %s", "", accepts(s, buffer));
    if (s->initial != NULL)
        printf("; default: %s", s->initial);
    putchar('\n');
}

static void text_end_group(void)
{
    putchar('\n');
}

/* --- Markdown ------------------------------------------------------------- */

/* A cell of a table: a bar would end it, even inside of a code span; a backslash counts only outside of one. */
static void cell(const char *text)
{
    int code = 0;

    for (; *text != '\0'; text++) {
        code ^= *text == '`';
        if (*text == '|' || (*text == '\\' && !code))
            putchar('\\');
        putchar(*text);
    }
}

static void markdown_begin(void)
{
    fputs("# Settings\n"
          "\n"
          "Made by `kmsenv settings --markdown` from the tables the provider itself reads; do not edit.\n"
          "\n"
          "A setting stands in the provider's section of `openssl.cnf` or in the section of a profile. Each has an\n"
          "environment variable of the same meaning, which set-user-ID programs ignore; it wins over the provider's\n"
          "section, and does not reach the sections of profiles that are named in `profiles`. An unknown or malformed\n"
          "setting is an error that names the section, the setting and what is accepted.\n", stdout);
}

static void markdown_group(const char *title, const char *where)
{
    printf("\n## %s\n\n%s.\n\n| setting | meaning | accepted | default | environment |\n|---|---|---|---|---|\n",
           title, where);
}

static void markdown_setting(const KMSENV_SETTING *s)
{
    char buffer[ACCEPTS_MAX], name[ENVIRONMENT_MAX];

    printf("| `%s` | ", s->name);
    cell(s->help);
    fputs(" | ", stdout);
    cell(accepts(s, buffer));
    fputs(" | ", stdout);
    if (s->initial != NULL && *s->initial != '\0') {
        putchar('`');
        cell(s->initial);
        putchar('`');
    }
    printf(" | `%s` |\n", environment_name(s, name));
}

/* --- JSON ----------------------------------------------------------------- */

/* Commas go between elements: whether one came before, per level. */
static int json_more[2];

static void json_separate(int level)
{
    if (json_more[level]++)
        putchar(',');
}

static void json_text(const char *name, const char *text)
{
    printf("\"%s\":", name);
    if (text == NULL)
        fputs("null", stdout);
    else
        kmsenv_cli_print_json(stdout, text, strlen(text));
}

static void json_begin(void)
{
    json_more[0] = 0;
    putchar('[');
}

static void json_group(const char *title, const char *where)
{
    json_separate(0);
    json_more[1] = 0;
    fputs("\n{", stdout);
    json_text("title", title);
    putchar(',');
    json_text("where", where);
    fputs(",\"settings\":[", stdout);
}

static void json_setting(const KMSENV_SETTING *s)
{
    char buffer[ACCEPTS_MAX], name[ENVIRONMENT_MAX];

    json_separate(1);
    fputs("\n  {", stdout);
    json_text("name", s->name);
    putchar(',');
    json_text("help", s->help);
    putchar(',');
    json_text("accepted", accepts(s, buffer));
    putchar(',');
    json_text("default", s->initial);
    putchar(',');
    json_text("environment", environment_name(s, name));
    putchar('}');
}

static void json_end_group(void)
{
    fputs("]}", stdout);
}

static void json_end(void)
{
    fputs("\n]\n", stdout);
}

/* --- manual page ---------------------------------------------------------- */

/* Text as troff takes it, at the beginning of a line too; a run of it in backquotes is bold. */
static void troff(const char *text)
{
    static const struct { char c; const char *as; } special[] = {
        { '\\', "\\e" }, { '-', "\\-" }, { '\'', "\\(aq" }, { '"', "\\(dq" }, { '^', "\\(ha" }, { '~', "\\(ti" },
        { '/', "/\\:" }, { '|', "|\\:" }     /* where a long name may be broken */
    };
    size_t i, count = sizeof(special) / sizeof(special[0]);
    int bold = 0;

    if (*text == '.')
        fputs("\\&", stdout);
    for (; *text != '\0'; text++) {
        for (i = 0; i < count && special[i].c != *text; i++)
            ;
        if (i < count)
            fputs(special[i].as, stdout);
        else if (*text == '`')
            fputs((bold = !bold) ? "\\fB" : "\\fR", stdout);
        else
            putchar(*text);
    }
}

static void man_begin(void)
{
    fputs(".\\\" Made by `kmsenv settings --man` from the tables the provider itself reads; do not edit.\n"
          ".TH KMSENV.CNF 5 \"\" \"kmsenv " KMSENV_VERSION "\" \"kmsenv\"\n"
          ".if n .ad l\n"
          ".nh\n.nr HY 0\n"
          ".SH NAME\n"
          "kmsenv.cnf \\- settings of the kmsenv provider in openssl.cnf\n"
          ".SH DESCRIPTION\n"
          "A setting is a line \\fIname\\fR = \\fIvalue\\fR in the provider\\(aqs section of \\fIopenssl.cnf\\fR (\\fBconfig\\fR(5)) or in\n"
          "the section of a profile.\n"
          "A profile stands for one master key of one KMS.\n"
          "With the setting \\fBprofiles\\fR each profile that it names has a line \\fIprofile\\fR = \\fIsection\\fR in the\n"
          "provider\\(aqs section, and its settings in that section; the first profile that can makes a data key, the others wrap it,\n"
          "and any of them unwraps it.\n"
          "Without \\fBprofiles\\fR the provider\\(aqs section is itself the section of one profile, named \\fBdefault\\fR.\n"
          ".PP\n"
          "Each setting has an environment variable of the same meaning.\n"
          "It wins over the provider\\(aqs section, and does not reach the sections of profiles that are named in \\fBprofiles\\fR.\n"
          "A variable that is empty counts as not set.\n"
          "Set\\-user\\-ID programs ignore these variables.\n"
          ".PP\n"
          "An unknown or malformed setting is an error that names the section, the setting and what is accepted.\n"
          "It does not keep the program from starting: it is reported at the first use of the provider, and by\n"
          "\\fBkmsenv doctor\\fR.\n", stdout);
}

static void man_group(const char *title, const char *where)
{
    char heading[ENVIRONMENT_MAX];
    size_t i;

    snprintf(heading, sizeof(heading), "%s", title);
    for (i = 0; heading[i] != '\0'; i++)
        heading[i] = (char)toupper((unsigned char)heading[i]);
    fputs(".SH \"", stdout);
    troff(heading);
    fputs("\"\n", stdout);
    troff(where);
    fputs(".\n", stdout);
}

static void man_setting(const KMSENV_SETTING *s)
{
    char buffer[ACCEPTS_MAX], name[ENVIRONMENT_MAX];

    fputs(".TP\n\\fB", stdout);
    troff(s->name);
    fputs("\\fR\n", stdout);
    troff(s->help);
    fputs("\n.br\nAccepted: ", stdout);
    troff(accepts(s, buffer));
    fputs(".\n.br\n", stdout);
    if (s->initial != NULL && *s->initial != '\0') {
        fputs("Default: \\fB", stdout);
        troff(s->initial);
        fputs("\\fR.\n.br\n", stdout);
    }
    printf("Environment: \\fB%s\\fR.\n", environment_name(s, name));
}

static void man_end(void)
{
    fputs(".SH \"SEE ALSO\"\n"
          "\\fBkmsenv\\fR(1), \\fBkmsenv\\-format\\fR(5), \\fBkmsenv\\-provider\\fR(7), \\fBconfig\\fR(5)\n", stdout);
}

/* -------------------------------------------------------------------------- */

static const FORM text_form = { nothing, text_group, text_setting, text_end_group, nothing };
static const FORM markdown_form = { markdown_begin, markdown_group, markdown_setting, nothing, nothing };
static const FORM json_form = { json_begin, json_group, json_setting, json_end_group, json_end };
static const FORM man_form = { man_begin, man_group, man_setting, nothing, man_end };

static void show_table(const FORM *form, const char *title, const char *where, const KMSENV_SETTING *s)
{
    form->group(title, where);
    for (; s != NULL && s->name != NULL; s++)
        form->setting(s);
    form->end_group();
}

static void show_all(const FORM *form)
{
    const KMSENV_KMS_METHOD *const *m;
    char where[128];

    form->begin();
    show_table(form, "Provider", "In the section of the provider", kmsenv_provider_settings);
    show_table(form, "Data keys", "In the section of the provider", kmsenv_deks_settings);
    show_table(form, "Every profile", "In the section of a profile, whatever its `kms`", kmsenv_profile_settings);
    show_table(form, "Profiles over the network", "In the section of a profile whose KMS is reached over HTTP",
               kmsenv_http_settings);
    for (m = kmsenv_kms_methods(); *m != NULL; m++) {
        snprintf(where, sizeof(where), "In the section of a profile with `kms = %s`", (*m)->name);
        show_table(form, (*m)->title, where, (*m)->settings);
    }
    form->end();
}

static int run(int argc, char **argv)
{
    const KMSENV_COMMAND *self = &kmsenv_command_settings;
    static const FORM *const forms[] = { &text_form, &markdown_form, &json_form, &man_form };
    const FORM *form = &text_form;
    int option, status;

    while ((option = kmsenv_cli_option(self, argc, argv, &status)) != -1)
        form = forms[option];
    if (status != -1)
        return status;
    if (optind < argc)
        return kmsenv_cli_usage(self, "settings: '%s' is one argument too many", argv[optind]);
    show_all(form);
    return kmsenv_cli_finish(KMSENV_EXIT_OK);
}

static const struct option options[] = {
    { "markdown", no_argument, NULL, MARKDOWN },
    { "json", no_argument, NULL, JSON },
    { "man", no_argument, NULL, MAN },
    { NULL, 0, NULL, 0 }
};

const KMSENV_COMMAND kmsenv_command_settings = {
    .name = "settings",
    .synopsis = "[--markdown | --json | --man]",
    .summary = "List every setting of openssl.cnf that the provider knows",
    .help = "  --markdown          as conf/settings.md\n"
            "  --json              as JSON, for programs\n"
            "  --man               as the manual page kmsenv.cnf(5)\n",
    .options = options,
    .run = run
};
