#include "tests/replay/script.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rtmp/handshake.h"

enum { WORDS_MAX = 8, WORD_MAX = 512, COMMAND_MAX = 1024 };

struct words {
    char word[WORDS_MAX][WORD_MAX];
    int count;
};

static bool split(const char *line, struct words *w)
{
    *w = (struct words){0};
    for (;;) {
        line += strspn(line, " ");
        if (!*line)
            return w->count > 0;
        const size_t n = strcspn(line, " ");
        if (w->count == WORDS_MAX || n >= WORD_MAX)
            return false;
        memcpy(w->word[w->count++], line, n);
        line += n;
    }
}

static bool is(const struct words *w, int i, const char *s)
{
    return i < w->count && strcmp(w->word[i], s) == 0;
}

static uint32_t number(const struct words *w, int i)
{
    return i < w->count ? (uint32_t)strtoul(w->word[i], NULL, 10) : 0;
}

static size_t hex(const char *s, uint8_t *out, size_t cap)
{
    size_t n = 0;
    unsigned byte;
    for (; n < cap && sscanf(s, "%2x", &byte) == 1; s += 2)
        out[n++] = (uint8_t)byte;
    return n;
}

/* ---- what both ends can say ---- */

static int media_type(const char *word)
{
    return strcmp(word, "audio") == 0   ? RTMP_AUDIO
           : strcmp(word, "video") == 0 ? RTMP_VIDEO
           : strcmp(word, "data") == 0  ? RTMP_DATA_AMF0
                                        : -1;
}

/* link -1: the client */
static void say(struct stage *t, int link, uint8_t type, uint32_t msid, uint32_t time_ms,
                const void *payload, size_t len)
{
    if (link < 0)
        stage_client_says(t, type, msid, time_ms, payload, len);
    else
        stage_node_says(t, link, type, msid, time_ms, payload, len);
}

static void say_filler(struct stage *t, int link, uint8_t type, uint32_t time_ms, uint32_t len)
{
    uint8_t *payload = calloc(1, len ? len : 1);
    if (!payload)
        abort();
    say(t, link, type, 1, time_ms, payload, len);
    free(payload);
}

static void say_user(struct stage *t, int link, enum rtmp_user_event event)
{
    uint8_t wire[10];
    struct wr w = wr_over(wire, sizeof wire);
    wr_u16be(&w, (uint32_t)event);
    wr_u32be(&w, 1);
    if (event == RTMP_SET_BUFFER_LENGTH)
        wr_u32be(&w, 3000);
    say(t, link, RTMP_USER_CONTROL, 0, 0, wire, w.len);
}

static uint64_t read_allowance(const struct words *w)
{
    return is(w, 2, "all") ? UINT64_MAX : number(w, 2);
}

static bool say_common(struct stage *t, int link, const struct words *w)
{
    uint8_t raw[WORD_MAX];
    const int media = media_type(w->word[1]);
    if (media >= 0) {
        say_filler(t, link, (uint8_t)media, number(w, 2), number(w, 3));
    } else if (is(w, 1, "type")) {
        say_filler(t, link, (uint8_t)number(w, 2), 0, number(w, 3));
    } else if (is(w, 1, "ping")) {
        say_user(t, link, RTMP_PING_REQUEST);
    } else if (is(w, 1, "raw") && w->count == 3) {
        const size_t n = hex(w->word[2], raw, sizeof raw);
        if (link < 0)
            stage_client_raw(t, raw, n);
        else
            stage_node_raw(t, link, raw, n);
    } else if (is(w, 1, "reads") && w->count == 3) {
        if (link < 0)
            stage_client_reads(t, read_allowance(w));
        else
            stage_node_reads(t, link, read_allowance(w));
    } else {
        return false;
    }
    return true;
}

/* ---- the client ---- */

static void client_hello(struct stage *t)
{
    uint8_t hello[RTMP_C0C1_BYTES + RTMP_HANDSHAKE_BYTES] = {RTMP_VERSION};
    stage_client_raw(t, hello, sizeof hello);
}

static void client_command(struct stage *t, uint32_t msid, const struct wr *w)
{
    if (w->full)
        abort();
    stage_client_says(t, RTMP_COMMAND_AMF0, msid, 0, w->p, w->len);
}

/* tr as ffmpeg numbers them. */
static bool client_commands(struct stage *t, const struct words *words)
{
    uint8_t buf[COMMAND_MAX];
    struct wr w = wr_over(buf, sizeof buf);
    uint32_t msid = 0;
    if (is(words, 1, "connect") && words->count == 3) {
        char url[WORD_MAX + 32];
        snprintf(url, sizeof url, "rtmp://weir/%s", words->word[2]);
        rtmp_write_connect(&w, 1, words->word[2], url, "test");
    } else if (is(words, 1, "create_stream")) {
        rtmp_write_call(&w, "createStream", 2, (struct view){0});
    } else if (is(words, 1, "publish") && words->count == 3) {
        rtmp_write_publish(&w, 3, words->word[2], "live");
        msid = CLIENT_MSID;
    } else if (is(words, 1, "play") && words->count == 3) {
        rtmp_write_play(&w, 3, words->word[2], -1000);
        msid = CLIENT_MSID;
    } else if (is(words, 1, "delete_stream")) {
        rtmp_write_call_number(&w, "deleteStream", 0, CLIENT_MSID);
    } else if (is(words, 1, "call") && words->count == 3) {
        rtmp_write_call(&w, words->word[2], 0, (struct view){0});
        msid = CLIENT_MSID;
    } else {
        return false;
    }
    client_command(t, msid, &w);
    return true;
}

static void client_chunk_size(struct stage *t, uint32_t bytes)
{
    uint8_t wire[4];
    struct wr w = wr_over(wire, sizeof wire);
    wr_u32be(&w, bytes);
    stage_client_says(t, RTMP_SET_CHUNK_SIZE, 0, 0, wire, w.len);
}

static bool client_line(struct stage *t, const struct words *w)
{
    if (is(w, 1, "hello"))
        client_hello(t);
    else if (is(w, 1, "hold"))
        t->holding = true;
    else if (is(w, 1, "send"))
        stage_client_send(t);
    else if (is(w, 1, "buffer"))
        say_user(t, -1, RTMP_SET_BUFFER_LENGTH);
    else if (is(w, 1, "pong"))
        say_user(t, -1, RTMP_PING_RESPONSE);
    else if (is(w, 1, "chunk_size"))
        client_chunk_size(t, number(w, 2));
    else if (is(w, 1, "ended"))
        stage_step(t, &(struct session_event){.kind = SE_CLIENT_ENDED, .why = WHY_CLIENT_CLOSED});
    else if (is(w, 1, "reset"))
        stage_step(t, &(struct session_event){.kind = SE_CLIENT_ENDED, .why = WHY_CLIENT_RESET});
    else
        return client_commands(t, w) || say_common(t, -1, w);
    return true;
}

/* ---- nodes ---- */

static void node_command(struct stage *t, int link, uint32_t msid, const struct wr *w)
{
    if (w->full)
        abort();
    stage_node_says(t, link, RTMP_COMMAND_AMF0, msid, 0, w->p, w->len);
}

static void node_connect_result(struct stage *t, int link)
{
    uint8_t buf[COMMAND_MAX];
    struct wr w = wr_over(buf, sizeof buf);
    rtmp_write_connect_result(&w, 1);
    node_command(t, link, 0, &w);
}

static void node_stream(struct stage *t, int link, uint32_t msid)
{
    uint8_t buf[COMMAND_MAX];
    struct wr w = wr_over(buf, sizeof buf);
    rtmp_write_number_result(&w, 2, msid);
    node_command(t, link, 0, &w);
}

static void node_hello(struct stage *t, int link)
{
    static const uint8_t hello[RTMP_S0S1S2_BYTES] = {RTMP_VERSION};
    stage_node_raw(t, link, hello, sizeof hello);
}

static bool node_commands(struct stage *t, int link, const struct words *words)
{
    uint8_t buf[COMMAND_MAX];
    struct wr w = wr_over(buf, sizeof buf);
    if (is(words, 1, "status") && words->count == 4)
        rtmp_write_on_status(&w, words->word[2], words->word[3], "");
    else if (is(words, 1, "connect_error") && words->count == 3)
        rtmp_write_connect_error(&w, 1, words->word[2], "");
    else
        return false;
    node_command(t, link, 1, &w);
    return true;
}

static bool node_line(struct stage *t, int link, const struct words *w)
{
    if (is(w, 1, "connected"))
        stage_step(t, &(struct session_event){.kind = SE_NODE_CONNECTED,
                                              .link = link,
                                              .node = "10.0.0.1:1935",
                                              .answers_pings = is(w, 2, "pings")});
    else if (is(w, 1, "dialled"))
        stage_step(t, &(struct session_event){.kind = SE_NODE_DIALLED, .link = link});
    else if (is(w, 1, "failed"))
        stage_step(t, &(struct session_event){.kind = SE_NODE_FAILED, .link = link});
    else if (is(w, 1, "ended") || is(w, 1, "reset"))
        stage_step(t, &(struct session_event){
                          .kind = SE_NODE_ENDED, .link = link, .reset = is(w, 1, "reset")});
    else if (is(w, 1, "hello"))
        node_hello(t, link);
    else if (is(w, 1, "connect_result"))
        node_connect_result(t, link);
    else if (is(w, 1, "stream"))
        node_stream(t, link, number(w, 2));
    else if (is(w, 1, "accepts"))
        node_hello(t, link), node_connect_result(t, link), node_stream(t, link, 1);
    else if (is(w, 1, "begin"))
        say_user(t, link, RTMP_STREAM_BEGIN);
    else if (is(w, 1, "eof"))
        say_user(t, link, RTMP_STREAM_EOF);
    else if (is(w, 1, "pong"))
        say_user(t, link, RTMP_PING_RESPONSE);
    else
        return node_commands(t, link, w) || say_common(t, link, w);
    return true;
}

/* ---- the cluster ---- */

static enum close_why why_called(const char *name)
{
    for (int i = 0; i < WHY_COUNT; i++)
        if (strcmp(close_why_name((enum close_why)i), name) == 0)
            return (enum close_why)i;
    abort();
}

static void placed(struct stage *t, const struct words *w)
{
    struct session_event ev = {.kind = SE_PLACED, .node = w->word[1]};
    for (int i = 2; i < w->count; i++) {
        if (is(w, i, "epoch"))
            ev.epoch = number(w, ++i);
        else if (is(w, i, "wait"))
            ev.wait_release = true;
        else if (is(w, i, "took_over"))
            ev.took_over = true;
        else if (is(w, i, "replay")) {
            ev.follow = true;
            ev.time = number(w, ++i);
        } else if (is(w, i, "publication"))
            ev.publication = number(w, ++i);
        else if (is(w, i, "stays"))
            ev.stays = true;
    }
    stage_step(t, &ev);
}

/* follow NODE EPOCH PUBLICATION [planned [stays]] */
static void follow(struct stage *t, const struct words *w)
{
    stage_step(t, &(struct session_event){.kind = SE_STREAM_MOVED,
                                          .node = w->word[1],
                                          .epoch = number(w, 2),
                                          .publication = number(w, 3),
                                          .follow = true,
                                          .time = 0,
                                          .planned = is(w, 4, "planned"),
                                          .stays = is(w, 5, "stays")});
}

/* moved NODE [EPOCH PUBLICATION [stays]] */
static void moved(struct stage *t, const struct words *w)
{
    stage_step(t, &(struct session_event){.kind = SE_STREAM_MOVED,
                                          .node = w->word[1],
                                          .epoch = number(w, 2),
                                          .publication = number(w, 3),
                                          .stays = is(w, 4, "stays")});
}

static enum rehome_cause cause_called(const char *name)
{
    for (int i = 0; i < REHOME_CAUSE_COUNT; i++)
        if (strcmp(rehome_cause_name((enum rehome_cause)i), name) == 0)
            return (enum rehome_cause)i;
    abort();
}

static bool moving_line(struct stage *t, const struct words *w)
{
    if (is(w, 0, "follow") && w->count >= 4)
        follow(t, w);
    else if (is(w, 0, "settled"))
        stage_step(t, &(struct session_event){.kind = SE_STREAM_SETTLED});
    else if (is(w, 0, "claim_moved") && w->count == 2)
        stage_step(t, &(struct session_event){.kind = SE_CLAIM_MOVED,
                                              .full = is(w, 1, "full"),
                                              .epoch = is(w, 1, "full") ? 0 : number(w, 1)});
    else if (is(w, 0, "audience") && w->count == 2)
        stage_step(t, &(struct session_event){.kind = SE_AUDIENCE, .ready = is(w, 1, "ready")});
    else if (is(w, 0, "publisher") && w->count == 2)
        stage_step(t, &(struct session_event){.kind = SE_PUBLISHER, .ready = is(w, 1, "live")});
    else if (is(w, 0, "move") && w->count >= 2)
        stage_step(t, &(struct session_event){.kind = SE_MOVE,
                                              .cause = cause_called(w->word[1]),
                                              .node = w->count > 2 ? w->word[2] : ""});
    else if (is(w, 0, "space") && w->count == 2)
        t->s.link_space_ms = number(w, 1);
    else if (is(w, 0, "others_ended") && w->count == 2)
        for (uint64_t other = 1; other <= 2; other++) /* of that node, too */
            link_ends_note(&t->ends, w->word[1], t->s.id + other, t->now_ms);
    else if (is(w, 0, "suspect"))
        stage_step(t, &(struct session_event){.kind = SE_SUSPECT});
    else
        return is(w, 0, "nothing");
    return true;
}

static bool cluster_line(struct stage *t, const struct words *w)
{
    if (is(w, 0, "placed") && w->count >= 2)
        placed(t, w);
    else if (is(w, 0, "unplaced") && w->count == 2)
        stage_step(t, &(struct session_event){.kind = SE_UNPLACED, .why = why_called(w->word[1])});
    else if (is(w, 0, "released"))
        stage_step(t, &(struct session_event){.kind = SE_RELEASED});
    else if (is(w, 0, "moved") && w->count >= 2)
        moved(t, w);
    else if (is(w, 0, "taken_over"))
        stage_step(t, &(struct session_event){.kind = SE_TAKEN_OVER});
    else if (is(w, 0, "close") && w->count == 2)
        stage_step(t, &(struct session_event){.kind = SE_CLOSE, .why = why_called(w->word[1])});
    else if (is(w, 0, "shared") && stage_may_share(t))
        stage_share(t);
    else
        return moving_line(t, w);
    return true;
}

/* ---- settings ---- */

static bool access_setting(struct stage *t, const struct words *w)
{
    static const char *const actions[] = {
        [ACCESS_ALLOW] = "allow", [ACCESS_TOKEN] = "token", [ACCESS_DENY] = "deny"};
    struct signing_keys *keys = &t->env.access.keys;
    if (is(w, 1, "rule") && w->count == 4 && t->access.rule_count < STAGE_RULES_MAX) {
        struct config_rule *rule = &t->rules[t->access.rule_count++];
        snprintf(rule->app, sizeof rule->app, "%.*s", APP_MAX - 1, w->word[2]);
        for (int i = ACCESS_ALLOW; i <= ACCESS_DENY; i++)
            if (is(w, 3, actions[i]))
                rule->action = (enum access_action)i;
    } else if (is(w, 1, "signing_key") && w->count == 3 && keys->count < SIGNING_KEYS_MAX) {
        char *text = keys->list[keys->count++].text;
        snprintf(text, SIGNING_KEY_BYTES_MAX + 1, "%.*s", SIGNING_KEY_BYTES_MAX, w->word[2]);
    } else {
        return false;
    }
    return true;
}

static bool setting(struct stage *t, const struct words *w)
{
    const uint32_t v = number(w, 2);
    if (t->opened)
        return false;
    if (is(w, 1, "retries"))
        t->router.retries = v;
    else if (is(w, 1, "buffer"))
        t->relay.buffer_bytes = v;
    else if (is(w, 1, "max_moves"))
        t->failover.max_moves = v;
    else if (is(w, 1, "vhost"))
        t->env.vhost = v != 0;
    else if (is(w, 1, "cut"))
        t->cut = v;
    else if (is(w, 1, "memory"))
        t->blocks.max_bytes = v;
    else
        return access_setting(t, w);
    return true;
}

static const char lead_word[] = "lead ";

bool script_do(struct stage *t, const char *line)
{
    struct words w;
    line += strspn(line, " ");
    if (strncmp(line, lead_word, sizeof lead_word - 1) == 0)
        return t->lead && !t->lead->over && script_do(t->lead, line + sizeof lead_word - 1);
    if (!split(line, &w))
        return false;
    if (is(&w, 0, "set"))
        return setting(t, &w);
    if (!t->opened)
        stage_open(t);
    if (is(&w, 0, "client"))
        return !t->player && w.count >= 2 && client_line(t, &w);
    if (is(&w, 0, "node0") || is(&w, 0, "node1"))
        return w.count >= 2 && node_line(t, w.word[0][4] - '0', &w);
    return cluster_line(t, &w);
}

bool script_possible(const struct stage *t, const char *line)
{
    if (strncmp(line, lead_word, sizeof lead_word - 1) == 0)
        return t->lead && !t->lead->over && script_possible(t->lead, line + sizeof lead_word - 1);
    if (strcmp(line, "shared") == 0)
        return stage_may_share(t);
    if (!t->opened || strncmp(line, "client reads", 12) == 0)
        return true;
    if (strncmp(line, "client ", 7) == 0)
        return stage_client_may_speak(t);
    if (t->s.seat.share) /* the cluster speaks to the one that plays for it */
        return strncmp(line, "close ", 6) == 0;
    if (strncmp(line, "node", 4) != 0)
        return true;
    const int link = line[4] - '0';
    const char *verb = line + 6;
    if (strcmp(verb, "dialled") == 0 || strcmp(verb, "connected") == 0 ||
        strcmp(verb, "failed") == 0)
        return t->s.links[link].state == NODE_DIAL;
    if (strncmp(verb, "reads", 5) == 0)
        return t->nodes[link].generation > 0;
    return stage_node_may_speak(t, link);
}
