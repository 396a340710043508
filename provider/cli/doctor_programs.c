/* What is known about programs: where each reads a private key, as whom, and what it does with the environment. */
#include <stdio.h>
#include <string.h>
#include "cli/doctor_service.h"

#define SYSTEM_CNF "configure kmsenv in the system's openssl.cnf (openssl version -d), which needs no variable"

static const struct {
    const char *name;          /* of --program */
    const char *files;         /* names of its executable, between blanks */
    KMSENV_HABIT habit;
    const char *note, *remedy;
} programs[] = {
    { "apache2", " apache2 apachectl httpd ", KMSENV_HABIT_NONE,
      "reads its configuration, and so its keys, twice at start and once per reload, as root; a KMS that is down keeps it from starting, "
      "with a message about an encrypted key", NULL },
    { "bind9", " named ", KMSENV_HABIT_NONE,
      "reads keys after it became its own user, under an AppArmor profile; it must not be the resolver for the KMS's own host name",
      "let that user read the configuration, the key and the credentials" },
    { "dovecot", " dovecot ", KMSENV_HABIT_CLEARS_ENVIRONMENT,
      "its login processes read the key in a chroot, as dovenull, each for itself: a KMS in the network cannot be reached from there",
      "import_environment = $import_environment OPENSSL_CONF, or the system's openssl.cnf; and: service imap-login { chroot = }" },
    { "exim4", " exim4 exim ", KMSENV_HABIT_NOT_OPENSSL, "Debian's uses GnuTLS", NULL },
    { "haproxy", " haproxy ", KMSENV_HABIT_NONE,
      "reads keys as root before its chroot; `set ssl cert` of the runtime API reads inside of it, where a KMS in the network cannot be reached",
      "reload haproxy instead of using the runtime API, or take `chroot` out" },
    { "java", " java ", KMSENV_HABIT_NOT_OPENSSL, "Java has its own TLS, unless an OpenSSL engine for it is installed", NULL },
    { "lighttpd", " lighttpd ", KMSENV_HABIT_NONE, "reads keys as root before it becomes its own user", NULL },
    { "mosquitto", " mosquitto ", KMSENV_HABIT_NONE, "reads keys as root at start, and as mosquitto when it gets a HUP signal",
      "let both read the configuration and the credentials" },
    { "nginx", " nginx ", KMSENV_HABIT_NONE,
      "reads the key once per server block, as root, and the unit runs nginx -t first; one process asks the KMS once per key", NULL },
    { "node", " node nodejs ", KMSENV_HABIT_NODEJS_CONF,
      "reads the section that nodejs_conf names, not openssl_conf", "add: nodejs_conf = the value of openssl_conf, or run node with --openssl-shared-config" },
    { "openvpn", " openvpn ", KMSENV_HABIT_NONE, "reads keys as root before it becomes its own user; its unit has ProtectHome and LimitNPROC", NULL },
    { "postfix", " master postfix postmulti smtpd ", KMSENV_HABIT_CLEARS_ENVIRONMENT,
      "each smtpd reads the key; if that fails it goes on without STARTTLS; smtpd_tls_chain_files takes no sealed keys",
      "use smtpd_tls_cert_file and smtpd_tls_key_file; import_environment = ... OPENSSL_CONF, or the system's openssl.cnf" },
    { "postgresql", " postgres pg_ctlcluster ", KMSENV_HABIT_NONE,
      "reads keys as postgres; Debian's wrapper takes variables from the cluster's file `environment`",
      "let postgres read the configuration, the key (mode 0600) and the credentials" },
    { "redis", " redis-server redis-check-rdb valkey-server ", KMSENV_HABIT_NONE,
      "reads keys in its main thread: CONFIG SET tls-key-file halts it until the KMS has answered; its unit has a strict sandbox", NULL },
    { "stunnel", " stunnel stunnel4 stunnel3 ", KMSENV_HABIT_NONE, "reads keys as root before its chroot; a reload inside of it fails for any key",
      "restart stunnel instead of reloading it" },
    { "unbound", " unbound ", KMSENV_HABIT_NONE, "reads keys as root before its chroot; it must not be the resolver for the KMS's own host name", NULL },
    { "vsftpd", " vsftpd ", KMSENV_HABIT_NONE, "reads the key once, as root; if that fails it says nothing useful", NULL },
    { "wget", " wget ", KMSENV_HABIT_NOT_OPENSSL, "Debian's uses GnuTLS", NULL },
};
#define COUNT (sizeof(programs) / sizeof(programs[0]))

const char *const *kmsenv_program_names(void)
{
    static const char *names[COUNT + 1];
    size_t i;

    for (i = 0; i < COUNT; i++)
        names[i] = programs[i].name;
    return names;
}

KMSENV_HABIT kmsenv_program_report(const char *name, KMSENV_REPORT *report)
{
    char word[80], subject[96];
    size_t i;

    snprintf(word, sizeof(word), " %s ", name);
    for (i = 0; i < COUNT && strcmp(programs[i].name, name) != 0 && strstr(programs[i].files, word) == NULL; i++)
        ;
    if (i == COUNT)
        return KMSENV_HABIT_UNKNOWN;
    snprintf(subject, sizeof(subject), "program %s", programs[i].name);
    kmsenv_report(report, KMSENV_CHECK_NOTE, subject, programs[i].note, programs[i].remedy);
    if (programs[i].habit == KMSENV_HABIT_CLEARS_ENVIRONMENT)
        kmsenv_report(report, KMSENV_CHECK_NOTE, subject, "its processes start with an empty environment: OPENSSL_CONF and KMSENV_ variables "
                      "of the service do not reach them", SYSTEM_CNF);
    if (programs[i].habit == KMSENV_HABIT_NOT_OPENSSL)
        kmsenv_report(report, KMSENV_CHECK_FAILED, subject, "does not use OpenSSL, and so no provider of it", "choose a build with OpenSSL");
    return programs[i].habit;
}
