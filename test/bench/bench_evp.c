/* Benchmarks inside one process. usage: bench_evp ROUNDS COMMAND ARGUMENT...; the arguments are in the table. */
#include <stdio.h>
#include <string.h>
#include <openssl/crypto.h>
#include "bench.h"

static const struct {
    const char *name, *arguments;
    int count;
    void (*run)(unsigned long rounds, char **argv);
} commands[] = {
    { "stream", "MIB UPDATE encrypt|decrypt hot|arrays envelope|reference|raw", 5, bench_stream },
    { "message", "SIZE encrypt|decrypt reused|renamed|fresh envelope|reference|object|raw", 4, bench_message },
    { "mac", "SIZE reference|raw", 2, bench_mac },
    { "threads", "envelope|raw wall|cpu", 2, bench_threads },
    { "pem", "rsa|ec|certificate envelope|sealed|raw", 2, bench_pem },
    { "tls", "1.2|1.3 references|loaded|raw", 2, bench_tls }
};

int main(int argc, char **argv)
{
    size_t i;

    if (argc == 2 && strcmp(argv[1], "version") == 0) {
        puts(OpenSSL_version(OPENSSL_VERSION));
        return 0;
    }
    for (i = 0; argc > 2 && i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(argv[2], commands[i].name) != 0 || argc != 3 + commands[i].count)
            continue;
        bench_load_provider(NULL);
        commands[i].run(bench_number(argv[1]), argv + 3);
        return 0;
    }
    for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        fprintf(stderr, "usage: bench_evp ROUNDS %s %s\n", commands[i].name, commands[i].arguments);
    return 2;
}
