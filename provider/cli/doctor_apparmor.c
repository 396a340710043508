/* Does the AppArmor profile of a service's program let the provider at what it needs? A guess, from the text of the profile. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/apparmor.h"
#include "cli/doctor_service.h"

#define PATH_ROOM 4096

static int is_enabled(void)
{
    FILE *file = fopen("/sys/module/apparmor/parameters/enabled", "re");
    int yes = file != NULL && fgetc(file) == 'Y';

    if (file != NULL)
        fclose(file);
    return yes;
}

/* What a need takes, as AppArmor writes it; of a directory, the files in it. */
static const struct { unsigned permissions; const char *letters, *suffix; } needed[] = {
    { KMSENV_AA_READ, "r", "" }, { KMSENV_AA_READ | KMSENV_AA_MAP, "mr", "" }, { KMSENV_AA_READ, "r", "/0.pem" }, { KMSENV_AA_WRITE, "w", "" },
};

/* Profiles are about files, not about the links that lead to them. */
static const char *real_path(const KMSENV_SERVICE *s, const char *path, char out[PATH_ROOM])
{
    char *real = *s->root == '\0' ? realpath(path, NULL) : NULL;

    snprintf(out, PATH_ROOM, "%s", real != NULL ? real : path);
    free(real);
    return out;
}

static int check_one(const KMSENV_SERVICE *s, KMSENV_APPARMOR *aa, size_t i, const char *where, KMSENV_REPORT *report)
{
    KMSENV_NEED_KIND kind = s->needs.need[i].kind;
    char path[PATH_ROOM], file[PATH_ROOM + 16], remedy[PATH_ROOM + 512];

    real_path(s, s->needs.need[i].path, path);
    snprintf(file, sizeof(file), "%s%s", path, needed[kind].suffix);
    if ((kmsenv_apparmor_allows(aa, file) & needed[kind].permissions) == needed[kind].permissions)
        return 1;
    snprintf(remedy, sizeof(remedy), "look at the profile; if it is so, add to /etc/apparmor.d/local/%s: %s%s %s, and reload it: apparmor_parser -r",
             aa->file, path, kind == KMSENV_NEED_DIRECTORY ? "/{,*}" : "", needed[kind].letters);
    kmsenv_reportf(report, KMSENV_CHECK_NOTE, "AppArmor", remedy, "the profile %s seems to allow no \"%s\" on %s (%s)%s", aa->file,
                   needed[kind].letters, file, s->needs.need[i].what, where);
    return 0;
}

void kmsenv_service_check_apparmor(KMSENV_SERVICE *s, KMSENV_REPORT *report)
{
    KMSENV_APPARMOR *aa = calloc(1, sizeof(*aa));
    const char *where;
    size_t i, good = 0;

    if (aa == NULL || *s->program == '\0' || !kmsenv_apparmor_find(aa, s->root, s->program)) {
        if (aa != NULL && *s->program != '\0')
            kmsenv_reportf(report, KMSENV_CHECK_OK, "AppArmor", NULL, "no profile in /etc/apparmor.d is for %s", s->program);
        if (aa != NULL)
            kmsenv_apparmor_reset(aa);
        free(aa);
        return;
    }
    where = aa->incomplete ? "; but files that it includes are not there" : aa->complain ? "; it only complains" : *s->root == '\0' && !is_enabled() ? "; AppArmor is off at present" : "";
    for (i = 0; i < s->needs.count; i++)
        good += (size_t)check_one(s, aa, i, where, report);
    if (s->needs.network && !aa->network)
        kmsenv_reportf(report, KMSENV_CHECK_NOTE, "AppArmor", "look at the profile; if it is so, add: network inet stream, network inet6 stream,",
                       "the profile %s seems to allow no TCP, by which the KMS is reached%s", aa->file, where);
    else if (good == s->needs.count)
        kmsenv_reportf(report, KMSENV_CHECK_OK, "AppArmor", NULL, "the profile %s seems to allow what the provider needs", aa->file);
    kmsenv_apparmor_reset(aa);
    free(aa);
}
