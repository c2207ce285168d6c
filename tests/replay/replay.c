/* tests/replay/replay.c - runs scenarios through the session machine with a made-up clock.
 * Arguments are scenario files:
 *
 *   # comment
 *   set retries 0
 *   0 client hello               at 0 ms after the start; script.h has the words
 *       client < handshake       what must come of it, line by line
 *   31000 nothing
 *       at 30000                 what comes of a deadline on the way there
 *       state closing idle_timeout
 *
 * At the first difference it says where, what was expected and what came, and exits with 1. With
 * --print before the files it prints them with what comes instead of what they expect. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/replay/script.h"

enum { LINE_MAX_BYTES = 1024 };

struct replay {
    const char *path;
    unsigned line;
    struct stage stage;
    char trace[STAGE_TRACE_MAX];
    char *left; /* of the trace: not yet expected */
    bool print, failed;
};

static void fail(struct replay *r, const char *expected, const char *came)
{
    fprintf(stderr, "%s:%u: expected \"%s\", came \"%s\"\n", r->path, r->line, expected, came);
    r->failed = true;
}

/* The next line of the trace; NULL: there is none. */
static char *next_of_trace(struct replay *r)
{
    char *line = r->left;
    if (!line || !*line)
        return NULL;
    char *end = strchr(line, '\n');
    *end = '\0';
    r->left = end + 1;
    return line;
}

static void expect(struct replay *r, const char *expected)
{
    const char *came = next_of_trace(r);
    if (!came || strcmp(came, expected) != 0)
        fail(r, expected, came ? came : "nothing");
}

static void expect_no_more(struct replay *r)
{
    const char *came = next_of_trace(r);
    if (came)
        fail(r, "nothing", came);
}

static void happen(struct replay *r, const char *line)
{
    char *words = NULL;
    expect_no_more(r);
    if (r->failed)
        return;
    if (isdigit((unsigned char)*line)) {
        const uint64_t at = STAGE_START_MS + strtoull(line, &words, 10);
        if (r->stage.opened)
            stage_run_until(&r->stage, at);
        r->stage.now_ms = at;
        line = words;
    }
    if ((r->stage.over && !strstr(line, "nothing")) || !script_do(&r->stage, line))
        fail(r, "an event that can happen now", line);
    r->left = r->trace;
    stage_take(&r->stage, r->trace);
    for (const char *came; r->print && (came = next_of_trace(r));)
        printf("    %s\n", came);
}

static bool run_file(struct replay *r, FILE *f)
{
    char line[LINE_MAX_BYTES];
    while (!r->failed && fgets(line, sizeof line, f)) {
        r->line++;
        line[strcspn(line, "\n")] = '\0';
        const char *text = line + strspn(line, " ");
        if (r->print && text == line)
            puts(line);
        if (*text == '\0' || *text == '#')
            continue;
        if (text > line && r->print)
            continue;
        if (text > line)
            expect(r, text);
        else
            happen(r, text);
    }
    if (!r->failed)
        expect_no_more(r);
    return !r->failed;
}

static bool run(const char *path, bool print)
{
    static struct replay r;
    FILE *f = fopen(path, "r");
    if (!f) {
        perror(path);
        return false;
    }
    memset(&r, 0, sizeof r);
    r.path = path;
    r.print = print;
    stage_init(&r.stage);
    const bool ok = run_file(&r, f);
    stage_deinit(&r.stage);
    fclose(f);
    return ok;
}

int main(int argc, char **argv)
{
    const bool print = argc > 1 && strcmp(argv[1], "--print") == 0;
    const int first = print ? 2 : 1;
    int failed = 0;
    for (int i = first; i < argc; i++)
        failed += !run(argv[i], print);
    if (argc <= first)
        fprintf(stderr, "usage: %s [--print] SCENARIO...\n", argv[0]);
    return failed > 0 || argc <= first;
}
