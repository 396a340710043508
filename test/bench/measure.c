/*
 * usage: measure FD COUNT COMMAND ARGUMENT...
 * Runs the command COUNT times, one after the other, with this process's standard input, output
 * and errors; then writes to descriptor FD: CPU seconds (user + system) of one run, wall seconds of
 * one run, and the largest resident set in KiB. A small program of its own, because the kernel counts
 * what the parent had resident at fork() as the child's, and Python has more than what is measured.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <fcntl.h>

static double seconds(const struct timeval *t)
{
    return (double)t->tv_sec + (double)t->tv_usec / 1e6;
}

static int run_once(char **argv)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        execvp(argv[0], argv);
        perror(argv[0]);
        _exit(127);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int main(int argc, char **argv)
{
    struct rusage usage;
    struct timespec before, after;
    long i, count = argc > 3 ? strtol(argv[2], NULL, 10) : 0;
    int report = argc > 3 ? (int)strtol(argv[1], NULL, 10) : -1;

    if (count < 1 || fcntl(report, F_SETFD, FD_CLOEXEC) != 0) {
        fprintf(stderr, "usage: measure FD COUNT COMMAND ARGUMENT...\n");
        return 2;
    }
    clock_gettime(CLOCK_MONOTONIC, &before);
    for (i = 0; i < count; i++)
        if (!run_once(argv + 3)) {
            fprintf(stderr, "measure: %s failed\n", argv[3]);
            return 1;
        }
    clock_gettime(CLOCK_MONOTONIC, &after);
    getrusage(RUSAGE_CHILDREN, &usage);
    dprintf(report, "%.9f %.9f %ld\n", (seconds(&usage.ru_utime) + seconds(&usage.ru_stime)) / (double)count,
            ((double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) / 1e9) / (double)count,
            usage.ru_maxrss);
    return 0;
}
