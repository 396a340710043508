/* What the sandbox of a systemd service keeps from the provider: each setting of the unit with what it takes away. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/doctor_service.h"
#include "core/settings.h"

#define PATH_ROOM 4096

/* Does the list name a directory of which path is in? Prefixes "-" and "+" are systemd's, and so is what follows a colon. */
static int list_has(const char *list, const char *path)
{
    char word[PATH_ROOM], *top;

    while (list != NULL && kmsenv_unit_word(&list, word, sizeof(word))) {
        top = word + strspn(word, "-+");
        top[strcspn(top, ":")] = '\0';
        if (kmsenv_path_is_below(path, top))
            return 1;
    }
    return 0;
}

static int unit_has(const KMSENV_SERVICE *s, const char *setting, const char *path)
{
    return list_has(kmsenv_unit_get(&s->unit, setting), path);
}

/* Paths that a unit has by a name below a directory: StateDirectory=x is /var/lib/x. */
static int own_directory_has(const KMSENV_SERVICE *s, const char *path)
{
    static const struct { const char *setting, *top; } own[] = {
        { "RuntimeDirectory", "/run" }, { "StateDirectory", "/var/lib" }, { "CacheDirectory", "/var/cache" },
        { "LogsDirectory", "/var/log" },
    };
    char word[256], top[512];
    const char *rest;
    size_t i;

    for (i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        rest = kmsenv_unit_get(&s->unit, own[i].setting);
        while (rest != NULL && kmsenv_unit_word(&rest, word, sizeof(word))) {
            snprintf(top, sizeof(top), "%s/%s", own[i].top, word);
            if (kmsenv_path_is_below(path, top))
                return 1;
        }
    }
    return 0;
}

static int is_bound(const KMSENV_SERVICE *s, const char *path)
{
    return unit_has(s, "BindPaths", path) || unit_has(s, "BindReadOnlyPaths", path);
}

/* May it stand in a unit as it is? A line feed would begin another setting, a blank or a colon another path. */
static int is_plain(const char *path)
{
    for (; *path != '\0'; path++)
        if ((unsigned char)*path <= ' ' || *path == 0x7f || strchr("%:\"'\\", *path) != NULL)
            return 0;
    return 1;
}

/* One finding about a path. fix: the line for the drop-in, a printf format with the path in it. */
static void path_trap(KMSENV_SERVICE *s, const char *setting, size_t i, const char *effect, const char *fix, KMSENV_REPORT *report)
{
    char line[PATH_ROOM + 64], remedy[PATH_ROOM + 128];
    const char *path = s->needs.need[i].path, *slash = strrchr(path, '/');
    int dir = s->needs.need[i].kind == KMSENV_NEED_APPEND && slash != path;     /* the file may not be there yet */

    snprintf(line, sizeof(line), "%s=%.*s", fix, dir ? (int)(slash - path) : (int)strlen(path), path);
    if (is_plain(path)) {
        kmsenv_service_add_dropin(s, line);
        snprintf(remedy, sizeof(remedy), "move the file, or in a drop-in: %s", line);
    } else {
        snprintf(remedy, sizeof(remedy), "give the file a name without blanks and special characters, and move it");
    }
    kmsenv_reportf(report, KMSENV_CHECK_FAILED, s->subject, remedy, "%s=%s %s %s (%s)", setting, kmsenv_unit_get(&s->unit, setting),
                   effect, path, s->needs.need[i].what);
}

/* --- hidden and read-only paths ------------------------------------------- */

static int is_home(const char *path)
{
    return kmsenv_path_is_below(path, "/home") || kmsenv_path_is_below(path, "/root") || kmsenv_path_is_below(path, "/run/user");
}

/* Has the service a directory of its own there? */
static int is_private_tmp(const KMSENV_SERVICE *s, const char *path)
{
    const char *value = kmsenv_unit_get(&s->unit, "PrivateTmp");

    return value != NULL && (kmsenv_unit_is_on(&s->unit, "PrivateTmp") || strcmp(value, "disconnected") == 0)
        && (kmsenv_path_is_below(path, "/tmp") || kmsenv_path_is_below(path, "/var/tmp"));
}

static void check_hidden(KMSENV_SERVICE *s, size_t i, KMSENV_REPORT *report)
{
    const char *path = s->needs.need[i].path, *home = kmsenv_unit_get(&s->unit, "ProtectHome");

    if (is_bound(s, path))
        return;
    if (home != NULL && strcmp(home, "read-only") != 0 && (kmsenv_unit_is_on(&s->unit, "ProtectHome") || strcmp(home, "tmpfs") == 0)
            && is_home(path))
        path_trap(s, "ProtectHome", i, "hides", "BindReadOnlyPaths", report);
    else if (is_private_tmp(s, path))
        path_trap(s, "PrivateTmp", i, "puts an empty directory over", "BindReadOnlyPaths", report);
    else if (unit_has(s, "InaccessiblePaths", path))
        path_trap(s, "InaccessiblePaths", i, "hides", "BindReadOnlyPaths", report);
    else if (unit_has(s, "TemporaryFileSystem", path))
        path_trap(s, "TemporaryFileSystem", i, "puts an empty directory over", "BindReadOnlyPaths", report);
    else if (s->needs.need[i].kind == KMSENV_NEED_MODULE && unit_has(s, "NoExecPaths", path) && !unit_has(s, "ExecPaths", path))
        path_trap(s, "NoExecPaths", i, "does not let anybody map", "ExecPaths", report);
}

static int is_read_only_system(const char *level, const char *path)
{
    int yes = 0;

    if (level == NULL)
        return 0;
    if (strcmp(level, "strict") == 0)
        return !kmsenv_path_is_below(path, "/dev") && !kmsenv_path_is_below(path, "/proc") && !kmsenv_path_is_below(path, "/sys");
    if (strcmp(level, "full") == 0 && kmsenv_path_is_below(path, "/etc"))
        return 1;
    return (strcmp(level, "full") == 0 || (kmsenv_setting_boolean(level, &yes) && yes))
        && (kmsenv_path_is_below(path, "/usr") || kmsenv_path_is_below(path, "/boot") || kmsenv_path_is_below(path, "/efi"));
}

/* The audit log; a keyring is written by who makes detached data keys, and only read by the others. */
static void check_written(KMSENV_SERVICE *s, size_t i, KMSENV_REPORT *report)
{
    const char *path = s->needs.need[i].path, *home = kmsenv_unit_get(&s->unit, "ProtectHome");

    if (s->needs.need[i].kind != KMSENV_NEED_APPEND || is_private_tmp(s, path) || unit_has(s, "ReadWritePaths", path)
            || own_directory_has(s, path) || unit_has(s, "BindPaths", path))
        return;
    if (is_read_only_system(kmsenv_unit_get(&s->unit, "ProtectSystem"), path))
        path_trap(s, "ProtectSystem", i, "makes read-only", "ReadWritePaths", report);
    else if (home != NULL && strcmp(home, "read-only") == 0 && is_home(path))
        path_trap(s, "ProtectHome", i, "makes read-only", "ReadWritePaths", report);
    else if (unit_has(s, "ReadOnlyPaths", path))
        path_trap(s, "ReadOnlyPaths", i, "makes read-only", "ReadWritePaths", report);
}

/* --- everything else ------------------------------------------------------ */

/* line: for the drop-in, NULL = none. */
static void trap(KMSENV_SERVICE *s, KMSENV_OUTCOME outcome, const char *setting, const char *effect, const char *line,
                 const char *remedy, KMSENV_REPORT *report)
{
    if (line != NULL)
        kmsenv_service_add_dropin(s, line);
    kmsenv_reportf(report, outcome, s->subject, remedy, "%s=%s: %s", setting, kmsenv_unit_get(&s->unit, setting), effect);
}

static int has_word(const char *list, const char *word)
{
    char one[256];

    while (list != NULL && kmsenv_unit_word(&list, one, sizeof(one)))
        if (strcmp(one, word) == 0)
            return 1;
    return 0;
}

static void check_root(KMSENV_SERVICE *s, const char *setting, const char *value, KMSENV_REPORT *report)
{
    if (strcmp(value, "/") != 0)
        trap(s, KMSENV_CHECK_NOTE, setting, "every path of the configuration, the module, libcurl, the CA certificates and "
             "/etc/resolv.conf are looked for in there", NULL,
             "put them there, or bind them: BindReadOnlyPaths=; then: kmsenv doctor --root that directory --service", report);
}

static void check_network(KMSENV_SERVICE *s, const char *setting, const char *value, KMSENV_REPORT *report)
{
    (void)value;
    if (s->needs.network && kmsenv_unit_is_on(&s->unit, setting))
        trap(s, KMSENV_CHECK_FAILED, setting, "the KMS cannot be reached", "PrivateNetwork=no", "in a drop-in: PrivateNetwork=no", report);
}

/* Is a word of such a list left to the service? A list either names what may be used, or, all with "~", what may not. */
static int is_allowed(const char *list, const char *word)
{
    char denied[64];

    snprintf(denied, sizeof(denied), "~%s", word);
    return !has_word(list, denied) && (*list == '~' || has_word(list, word));
}

static void check_families(KMSENV_SERVICE *s, const char *setting, const char *value, KMSENV_REPORT *report)
{
    if (s->needs.network && !is_allowed(value, "AF_INET") && !is_allowed(value, "AF_INET6"))
        trap(s, KMSENV_CHECK_FAILED, setting, "the KMS cannot be reached", "RestrictAddressFamilies=AF_INET AF_INET6",
             "in a drop-in: RestrictAddressFamilies=AF_INET AF_INET6", report);
}

static void check_addresses(KMSENV_SERVICE *s, const char *setting, const char *value, KMSENV_REPORT *report)
{
    if (!s->needs.network || has_word(kmsenv_unit_get(&s->unit, "IPAddressAllow"), "any"))
        return;
    trap(s, has_word(value, "any") && kmsenv_unit_get(&s->unit, "IPAddressAllow") == NULL ? KMSENV_CHECK_FAILED : KMSENV_CHECK_NOTE, setting,
         "the KMS, the metadata service of the instance and the name servers may be among what is denied", NULL,
         "in a drop-in: IPAddressAllow= with their addresses (169.254.169.254 for most instances' metadata)", report);
}

static void check_memlock(KMSENV_SERVICE *s, const char *setting, const char *value, KMSENV_REPORT *report)
{
    char *end;
    uint64_t limit = strtoull(value, &end, 10);

    if (strchr("KMGTPE", *end) != NULL && *end != '\0')
        limit <<= *end == 'K' ? 10 : 20;
    if (end != value && limit < 65536)
        trap(s, KMSENV_CHECK_NOTE, setting, "secret memory cannot be locked, and may be swapped", "LimitMEMLOCK=8M",
             "in a drop-in: LimitMEMLOCK=8M", report);
}

/* Each request to a KMS runs on a short-lived thread of its own. */
static void check_tasks(KMSENV_SERVICE *s, const char *setting, const char *value, KMSENV_REPORT *report)
{
    char *end, line[64];
    unsigned long limit = strtoul(value, &end, 10);

    if (s->needs.network && end != value && *end == '\0' && limit < 16) {
        snprintf(line, sizeof(line), "%s=64", setting);
        trap(s, KMSENV_CHECK_NOTE, setting, "each request to a KMS takes a thread for its duration, and may find none left", line,
             "raise the limit", report);
    }
}

/* Only what the list says of the sets and calls themselves: what other sets contain is not known here. */
static void check_filter(KMSENV_SERVICE *s, const char *setting, const char *value, KMSENV_REPORT *report)
{
    static const char *const network[] = { "~@network-io", "~socket", "~connect", "~@process", "~clone", "~clone3", NULL };
    int named = has_word(value, "@system-service") || has_word(value, "@memlock") || has_word(value, "mlock");
    size_t i;

    if (has_word(value, "~@memlock") || has_word(value, "~mlock") || (*value != '~' && !named))
        trap(s, KMSENV_CHECK_NOTE, setting, "mlock is not allowed, unless another set has it: secret memory cannot be locked, and "
             "without SystemCallErrorNumber= the process is killed", "SystemCallFilter=@memlock", "in a drop-in: SystemCallFilter=@memlock", report);
    for (i = 0; s->needs.network && network[i] != NULL; i++) {
        if (has_word(value, network[i])) {
            trap(s, KMSENV_CHECK_FAILED, setting, "requests to the KMS cannot be made, and without SystemCallErrorNumber= the process is killed",
                 "SystemCallFilter=@network-io @process", "in a drop-in: SystemCallFilter=@network-io @process", report);
            return;
        }
    }
}

/* Root without these capabilities is a user like any other. */
static void check_capabilities(KMSENV_SERVICE *s, const char *setting, const char *value, KMSENV_REPORT *report)
{
    if (strcmp(s->user, "root") == 0 && !is_allowed(value, "CAP_DAC_OVERRIDE") && !is_allowed(value, "CAP_DAC_READ_SEARCH"))
        trap(s, KMSENV_CHECK_NOTE, setting, "root cannot read files of other owners there: key files, credentials and their directories "
             "must belong to root", NULL, "chown them to root, or add CAP_DAC_READ_SEARCH", report);
}

static void check_devices(KMSENV_SERVICE *s, const char *setting, const char *value, KMSENV_REPORT *report)
{
    (void)value;
    if (s->needs.pkcs11 && kmsenv_unit_is_on(&s->unit, setting))
        trap(s, KMSENV_CHECK_NOTE, setting, "a PKCS#11 token that is a device cannot be used", NULL,
             "in a drop-in, if it is one: PrivateDevices=no and DeviceAllow= with the device", report);
}

static const struct {
    const char *setting;
    void (*check)(KMSENV_SERVICE *s, const char *setting, const char *value, KMSENV_REPORT *report);
} traps[] = {
    { "RootDirectory", check_root }, { "RootImage", check_root }, { "PrivateNetwork", check_network },
    { "RestrictAddressFamilies", check_families }, { "IPAddressDeny", check_addresses }, { "LimitMEMLOCK", check_memlock },
    { "LimitNPROC", check_tasks }, { "TasksMax", check_tasks }, { "SystemCallFilter", check_filter },
    { "CapabilityBoundingSet", check_capabilities }, { "PrivateDevices", check_devices },
};

void kmsenv_service_check_sandbox(KMSENV_SERVICE *s, KMSENV_REPORT *report)
{
    size_t i, before = report->checks;
    const char *value;

    for (i = 0; i < s->needs.count; i++) {
        check_hidden(s, i, report);
        check_written(s, i, report);
    }
    for (i = 0; i < sizeof(traps) / sizeof(traps[0]); i++)
        if ((value = kmsenv_unit_get(&s->unit, traps[i].setting)) != NULL)
            traps[i].check(s, traps[i].setting, value, report);
    if (s->needs.network && !has_word(kmsenv_unit_get(&s->unit, "After"), "network-online.target")) {
        kmsenv_service_add_dropin(s, "[Unit]\nWants=network-online.target\nAfter=network-online.target");
        kmsenv_report(report, KMSENV_CHECK_NOTE, s->subject, "After= does not name network-online.target: at boot it may start before "
                      "the KMS can be reached", "in a drop-in: Wants= and After=network-online.target");
    }
    if (report->checks == before)
        kmsenv_report(report, KMSENV_CHECK_OK, s->subject, "nothing in the unit keeps the provider from what it needs", NULL);
}
