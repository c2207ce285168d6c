/* tests/replay/alloc.c - runs scenarios with allocation n failing, for each n until a run needs
 * fewer. What the scenario expects is not looked at: replay.c does that. Whatever fails, the
 * session either closes with limit_memory, having given up its claim and told the client what it
 * could, or goes on as usual, or with less kept for the next node; and nothing is leaked
 * (stage_deinit() looks, and LeakSanitizer). Arguments are scenario files. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/alloc/alloc_fail.h"
#include "tests/replay/script.h"

enum { LINES_MAX = 256, TEXT_MAX = 64 * 1024, TRACE_MAX = 256 * 1024, END_WITHIN_MS = 300 * 1000 };

struct scenario {
    char text[TEXT_MAX];
    const char *lines[LINES_MAX];
    int count;
};

struct outcome {
    enum close_why why;
    bool failed, gave_up; /* the allocation failed; the claim was released */
    bool kept_less; /* what was kept for another node, or for who comes to a shared link, had to be
                       dropped */
    size_t len;
    char trace[TRACE_MAX];
};

static bool load(struct scenario *sc, const char *path)
{
    FILE *f = fopen(path, "r");
    if (!f)
        return false;
    const size_t n = fread(sc->text, 1, sizeof sc->text - 1, f);
    fclose(f);
    sc->text[n] = '\0';
    sc->count = 0;
    for (char *at = sc->text; *at && sc->count < LINES_MAX;) {
        char *line = at;
        at += strcspn(at, "\n");
        if (*at)
            *at++ = '\0';
        if (*line && *line != '#' && *line != ' ')
            sc->lines[sc->count++] = line;
    }
    return sc->count > 0 && n < sizeof sc->text - 1;
}

static void take_trace(struct stage *t, struct outcome *o)
{
    if (o->len + t->trace_len >= sizeof o->trace)
        abort();
    memcpy(o->trace + o->len, t->trace, t->trace_len);
    o->len += t->trace_len;
    o->trace[o->len] = '\0';
    t->trace_len = 0;
}

static void happen(struct stage *t, const char *line)
{
    char *words = NULL;
    if (isdigit((unsigned char)*line)) {
        const uint64_t at = STAGE_START_MS + strtoull(line, &words, 10);
        if (t->opened)
            stage_run_until(t, at);
        t->now_ms = at;
        line = words + strspn(words, " ");
    }
    if (!t->over && script_possible(t, line) && !script_do(t, line))
        abort();
}

static void run(const struct scenario *sc, uint64_t n, struct outcome *o)
{
    static struct stage t;
    *o = (struct outcome){0};
    stage_init(&t);
    alloc_fail_set(n);
    for (int i = 0; i < sc->count && !t.over; i++) {
        happen(&t, sc->lines[i]);
        take_trace(&t, o);
        o->kept_less = o->kept_less || t.s.rehome.keep.dropped_messages > 0 ||
                       (t.lead && t.lead->share.keep.dropped_messages > 0);
    }
    o->failed = alloc_fail_happened();
    alloc_fail_set(0);
    if (!t.over)
        stage_step(&t, &(struct session_event){.kind = SE_CLOSE, .why = WHY_SHUTDOWN});
    stage_run_until(&t, t.now_ms + END_WITHIN_MS);
    take_trace(&t, o);
    o->why = t.s.why;
    o->gave_up = stage_is_over(&t) && !t.s.placed;
    stage_deinit(&t);
}

static bool begins(const char *line, const char *const openings[])
{
    for (size_t i = 0; openings[i]; i++)
        if (strncmp(line, openings[i], strlen(openings[i])) == 0)
            return true;
    return false;
}

/* What may be missing: a last word to the client, and what could not be kept for another node. */
static bool may_miss(const char *line)
{
    static const char *const openings[] = {"client < error ", "shutdown",      "node0 < audio ",
                                           "node0 < video ",  "node0 < data ", "node1 < audio ",
                                           "node1 < video ",  "node1 < data ", NULL};
    return begins(line, openings);
}

/* The next line that counts: when a tick came, and which of two endings was first, does not. */
static const char *counting(const char *line)
{
    static const char *const openings[] = {"at ", "hang_up ", NULL};
    while (*line && begins(line, openings))
        line += strcspn(line, "\n") + 1;
    return line;
}

static const char *after(const char *line)
{
    return counting(line + strcspn(line, "\n") + 1);
}

static bool survived(const struct outcome *o, const struct outcome *usual)
{
    if (o->kept_less && !usual->kept_less) /* the replay is another, and what comes of it */
        return o->why == usual->why;
    const char *came = counting(o->trace);
    for (const char *line = counting(usual->trace); *line; line = after(line)) {
        if (strncmp(came, line, strcspn(line, "\n") + 1) == 0)
            came = after(came);
        else if (!may_miss(line))
            return false;
    }
    return o->why == usual->why && *came == '\0';
}

static int try_all(const char *path)
{
    static struct scenario sc;
    static struct outcome usual, o;
    uint64_t n = 0, kept = 0;
    if (!load(&sc, path)) {
        fprintf(stderr, "%s: cannot be read, or is too long\n", path);
        return 1;
    }
    run(&sc, 0, &usual);
    for (;;) {
        run(&sc, ++n, &o);
        if (!o.failed)
            break;
        if (o.gave_up && (o.why == WHY_LIMIT_MEMORY || survived(&o, &usual))) {
            kept += o.why != WHY_LIMIT_MEMORY;
            continue;
        }
        fprintf(stderr, "%s: allocation %llu fails: closed %s, usually %s; what happened:\n%s",
                path, (unsigned long long)n, close_why_name(o.why), close_why_name(usual.why),
                o.trace);
        return 1;
    }
    printf("%s: %llu allocations failed, %llu of them unnoticed\n", path, (unsigned long long)n - 1,
           (unsigned long long)kept);
    return 0;
}

int main(int argc, char **argv)
{
    int failed = argc < 2;
    for (int i = 1; i < argc; i++)
        failed += try_all(argv[i]);
    return failed > 0;
}
