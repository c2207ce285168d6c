#include "healthd/check.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const check_names[HEALTH_CHECK_COUNT] = {
    [CHECK_TCP] = "tcp",
    [CHECK_RTMP] = "rtmp",
    [CHECK_STAT] = "stat",
    [CHECK_LOOP] = "loop",
};

const char *health_check_name(enum health_check c)
{
    assert((unsigned)c < HEALTH_CHECK_COUNT);
    return check_names[c];
}

void transcript_init(struct transcript *t, uint64_t now_us)
{
    *t = (struct transcript){.started_us = now_us};
}

/* Drops the oldest steps until need more bytes fit. */
static void make_room(struct transcript *t, size_t need)
{
    static const char cut[] = "...";
    if (t->len + need < sizeof t->text)
        return;
    const size_t skip = t->len + need + sizeof cut - sizeof t->text;
    const char *rest = skip < t->len ? strstr(t->text + skip, "; ") : NULL;
    const size_t kept = rest ? t->len - (size_t)(rest - t->text) : 0;
    if (kept > 0)
        memmove(t->text + sizeof cut - 1, rest, kept);
    memcpy(t->text, cut, sizeof cut - 1);
    t->len = sizeof cut - 1 + kept;
}

void transcript_add(struct transcript *t, uint64_t now_us, const char *format, ...)
{
    char step[TRANSCRIPT_MAX / 2];
    const uint64_t us = now_us > t->started_us ? now_us - t->started_us : 0;
    int n = snprintf(step, sizeof step, "%llu.%llu ", (unsigned long long)(us / 1000),
                     (unsigned long long)(us / 100 % 10));
    va_list args;
    va_start(args, format);
    n += vsnprintf(step + n, sizeof step - (size_t)n, format, args);
    va_end(args);
    const size_t len = (size_t)n < sizeof step ? (size_t)n : sizeof step - 1;
    make_room(t, len + 2);
    if (t->len > 0) {
        memcpy(t->text + t->len, "; ", 2);
        t->len += 2;
    }
    memcpy(t->text + t->len, step, len + 1);
    t->len += len;
}
