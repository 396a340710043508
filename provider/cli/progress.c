#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "cli/cli.h"
#include "cli/progress.h"
#include "core/clock.h"

#define SILENT_MS  1000
#define REDRAW_MS  150
#define WIDTH      80        /* if the terminal does not say */
#define WIDTH_MAX  250
#define NAME_MAX_  24        /* columns of a file's name */
#define BAR_MIN    8

void kmsenv_progress_start(KMSENV_PROGRESS *p, int when, uint64_t total, unsigned files)
{
    memset(p, 0, sizeof(*p));
    p->shown = when == KMSENV_PROGRESS_ALWAYS || (when == KMSENV_PROGRESS_AUTO && isatty(STDERR_FILENO));
    p->total = total;
    p->files = files;
    p->started_ms = kmsenv_clock_ms();
}

/* 4 figures and a unit, powers of 1024. */
static const char *bytes_text(double bytes, char out[24])
{
    static const char *const unit[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB" };
    size_t i = 0;

    for (; bytes >= 1000 && i + 1 < sizeof(unit) / sizeof(unit[0]); i++)
        bytes /= 1024;
    snprintf(out, 24, "%.*f %s", i == 0 || bytes >= 99.95 ? 0 : bytes >= 9.995 ? 1 : 2, bytes, unit[i]);
    return out;
}

static const char *time_text(uint64_t seconds, char out[24])
{
    if (seconds >= 3600)
        snprintf(out, 24, "%llu:%02u:%02u", (unsigned long long)(seconds / 3600), (unsigned)(seconds / 60 % 60), (unsigned)(seconds % 60));
    else
        snprintf(out, 24, "%u:%02u", (unsigned)(seconds / 60), (unsigned)(seconds % 60));
    return out;
}

/* What stands right of the bar. */
static void figures(const KMSENV_PROGRESS *p, uint64_t done, uint64_t elapsed_ms, char *out, size_t room)
{
    char amount[24], all[24], rate[24], left[24];
    double per_second = elapsed_ms == 0 ? 0 : (double)done * 1000 / (double)elapsed_ms;

    bytes_text((double)done, amount);
    bytes_text(per_second, rate);
    if (p->total == 0)
        snprintf(out, room, "%s  %s/s  %s", amount, rate, time_text(elapsed_ms / 1000, left));
    else if (per_second < 1 || done > p->total)
        snprintf(out, room, "%s of %s  %s/s", amount, bytes_text((double)p->total, all), rate);
    else
        snprintf(out, room, "%3u%%  %s of %s  %s/s  ETA %s", (unsigned)((double)done * 100 / (double)p->total), amount,
                 bytes_text((double)p->total, all), rate,
                 time_text((uint64_t)((double)(p->total - done) / per_second + 0.5), left));
}

/* The end of a long name says more than its beginning. Bytes that a terminal could take for more than a letter: '?'. */
static size_t put_name(const KMSENV_PROGRESS *p, char *out, size_t room)
{
    const char *name = strrchr(p->name, '/') == NULL ? p->name : strrchr(p->name, '/') + 1;
    size_t len = strlen(name), i, n = 0;

    if (p->files > 1)
        n = (size_t)snprintf(out, room, "%u/%u ", p->file, p->files);
    if (len > NAME_MAX_)
        name += len - NAME_MAX_;
    for (i = 0; name[i] != '\0' && n + 1 < room; i++)
        out[n++] = name[i] < 0x20 || name[i] > 0x7e ? '?' : name[i];
    out[n] = '\0';
    return n;
}

void kmsenv_progress_line(const KMSENV_PROGRESS *p, uint64_t done, uint64_t elapsed_ms, unsigned width, char *out, size_t room)
{
    char right[128], name[64];
    size_t taken, bar, full, i, n;

    figures(p, done, elapsed_ms, right, sizeof(right));
    taken = put_name(p, name, sizeof(name)) + strlen(right) + 6;
    bar = p->total > 0 && taken + BAR_MIN <= width ? width - taken : 0;
    if (bar > 40)
        bar = 40;
    full = bar == 0 ? 0 : done >= p->total ? bar : (size_t)((double)done / (double)p->total * (double)bar);
    n = (size_t)snprintf(out, room, "%s", taken - 6 + 2 <= width ? name : "");
    if (n > 0 && n + 2 < room)
        n += (size_t)snprintf(out + n, room - n, "  ");
    if (bar > 0 && n + bar + 4 < room) {
        out[n++] = '[';
        for (i = 0; i < bar; i++)
            out[n++] = i < full ? '#' : '-';
        n += (size_t)snprintf(out + n, room - n, "]  ");
    }
    snprintf(out + n, room - n, "%s", right);
    if (width < room)
        out[width] = '\0';
}

void kmsenv_progress_draw(KMSENV_PROGRESS *p)
{
    uint64_t now = p->shown ? kmsenv_clock_ms() : 0;
    char line[WIDTH_MAX + 1];
    struct winsize size;
    unsigned width = WIDTH;

    if (!p->shown || now - p->started_ms < SILENT_MS || now - p->drawn_ms < REDRAW_MS || p->name == NULL)
        return;
    p->drawn_ms = now;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        width = size.ws_col;
    if (width > WIDTH_MAX)
        width = WIDTH_MAX;
    /* The last column stays free: some terminals would begin a new line. */
    kmsenv_progress_line(p, p->done, now - p->started_ms, width - 1, line, sizeof(line));
    fprintf(stderr, "\r%s\033[K", line);
    fflush(stderr);
    p->drawn = 1;
}

void kmsenv_progress_clear(KMSENV_PROGRESS *p)
{
    if (!p->drawn)
        return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    p->drawn = 0;
}
