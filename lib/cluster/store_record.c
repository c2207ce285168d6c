#include "cluster/store_record.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "base/rd.h"
#include "base/wr.h"

enum { RECORD_VERSION = 1 };

static void wr_u64be(struct wr *w, uint64_t v)
{
    wr_u32be(w, (uint32_t)(v >> 32));
    wr_u32be(w, (uint32_t)v);
}

static uint64_t rd_u64be(struct rd *r)
{
    const uint64_t high = rd_u32be(r);
    return high << 32 | rd_u32be(r);
}

static void wr_text(struct wr *w, const char *s)
{
    const size_t len = strlen(s);
    wr_u16be(w, (uint32_t)len);
    wr_bytes(w, s, len);
}

static size_t rd_text(struct rd *r, char *out, size_t cap)
{
    const size_t len = rd_u16be(r);
    const uint8_t *p = len < cap ? rd_take(r, len) : NULL;
    if (!p) {
        r->bad = true;
        return 0;
    }
    memcpy(out, p, len);
    out[len] = '\0';
    return len;
}

/* An enum's value; anything above `last` is not ours. */
static unsigned rd_enum(struct rd *r, unsigned last)
{
    const unsigned v = rd_u8(r);
    if (v > last)
        r->bad = true;
    return v;
}

static void wr_key(struct wr *w, const struct stream_key *k)
{
    wr_text(w, k->text);
}

static void rd_key(struct rd *r, struct stream_key *k)
{
    k->len = (uint16_t)rd_text(r, k->text, sizeof k->text);
}

static void wr_worker(struct wr *w, const struct worker_id *id)
{
    wr_text(w, id->router);
    wr_u32be(w, id->slot);
}

static void rd_worker(struct rd *r, struct worker_id *id)
{
    rd_text(r, id->router, sizeof id->router);
    id->slot = rd_u32be(r);
}

static struct wr record_start(uint8_t *buf)
{
    struct wr w = wr_over(buf, STORE_RECORD_MAX);
    wr_u8(&w, RECORD_VERSION);
    return w;
}

static size_t record_end(const struct wr *w)
{
    assert(!w->full); /* every text has a bound, and all together fit */
    return w->len;
}

static struct rd record_open(const void *buf, size_t len)
{
    struct rd r = rd_over(buf, len);
    if (rd_u8(&r) != RECORD_VERSION)
        r.bad = true;
    return r;
}

static enum err record_close(const struct rd *r)
{
    return r->bad || r->left != 0 ? ERR_CORRUPT : ERR_OK;
}

/* A claim that stays is written as one taken over from itself, which says nothing to a version that
 * does not know of it; whom it was taken over from is over by then. */
static uint64_t written_previous(const struct claim *c)
{
    return c->stays ? c->epoch : c->previous_epoch;
}

size_t claim_record_write(const struct claim *c, uint8_t *buf)
{
    struct wr w = record_start(buf);
    wr_key(&w, &c->key);
    wr_text(&w, c->node);
    wr_text(&w, c->next);
    wr_u8(&w, c->planned);
    wr_u32be(&w, c->replay_time);
    wr_u8(&w, (uint32_t)c->state);
    wr_worker(&w, &c->worker);
    wr_u64be(&w, c->session);
    wr_u64be(&w, c->epoch);
    wr_u64be(&w, c->publication);
    wr_u64be(&w, c->since_ms);
    wr_worker(&w, &c->previous);
    wr_u64be(&w, written_previous(c));
    wr_u8(&w, c->released);
    wr_bytes(&w, c->client_addr, sizeof c->client_addr);
    wr_u64be(&w, c->args_hash);
    return record_end(&w);
}

enum err claim_record_parse(const void *buf, size_t len, struct claim *out)
{
    struct rd r = record_open(buf, len);
    struct claim c = {0};
    rd_key(&r, &c.key);
    rd_text(&r, c.node, sizeof c.node);
    rd_text(&r, c.next, sizeof c.next);
    c.planned = rd_enum(&r, 1) != 0;
    c.replay_time = rd_u32be(&r);
    c.state = (enum claim_state)rd_enum(&r, CLAIM_HINT);
    rd_worker(&r, &c.worker);
    c.session = rd_u64be(&r);
    c.epoch = rd_u64be(&r);
    c.publication = rd_u64be(&r);
    c.since_ms = rd_u64be(&r);
    rd_worker(&r, &c.previous);
    c.previous_epoch = rd_u64be(&r);
    c.released = rd_enum(&r, 1) != 0;
    c.stays = c.previous_epoch != 0 && c.previous_epoch == c.epoch;
    if (c.stays)
        c.previous_epoch = 0;
    const uint8_t *addr = rd_take(&r, sizeof c.client_addr);
    if (addr)
        memcpy(c.client_addr, addr, sizeof c.client_addr);
    c.args_hash = rd_u64be(&r);
    const enum err e = record_close(&r);
    if (e == ERR_OK)
        *out = c;
    return e;
}

size_t session_record_write(const struct session_record *s, uint8_t *buf)
{
    struct wr w = record_start(buf);
    wr_u64be(&w, s->id);
    wr_u8(&w, (uint32_t)s->kind);
    wr_worker(&w, &s->worker);
    wr_key(&w, &s->key);
    wr_text(&w, s->client);
    wr_text(&w, s->node);
    wr_u64be(&w, s->started_ms);
    wr_u64be(&w, s->bytes_in);
    wr_u64be(&w, s->bytes_out);
    wr_u64be(&w, s->bitrate);
    wr_u32be(&w, s->rehomes);
    return record_end(&w);
}

enum err session_record_parse(const void *buf, size_t len, struct session_record *out)
{
    struct rd r = record_open(buf, len);
    struct session_record s = {0};
    s.id = rd_u64be(&r);
    s.kind = (enum session_kind)rd_enum(&r, SESSION_PLAY);
    rd_worker(&r, &s.worker);
    rd_key(&r, &s.key);
    rd_text(&r, s.client, sizeof s.client);
    rd_text(&r, s.node, sizeof s.node);
    s.started_ms = rd_u64be(&r);
    s.bytes_in = rd_u64be(&r);
    s.bytes_out = rd_u64be(&r);
    s.bitrate = rd_u64be(&r);
    s.rehomes = rd_u32be(&r);
    const enum err e = record_close(&r);
    if (e == ERR_OK)
        *out = s;
    return e;
}

static void wr_histogram(struct wr *w, const struct process_histogram *h)
{
    for (size_t i = 0; i < PROCESS_HISTOGRAM_BUCKETS; i++)
        wr_u64be(w, h->bucket[i]);
    wr_u64be(w, h->count);
    wr_u64be(w, h->sum_us);
}

static void rd_histogram(struct rd *r, struct process_histogram *h)
{
    for (size_t i = 0; i < PROCESS_HISTOGRAM_BUCKETS; i++)
        h->bucket[i] = rd_u64be(r);
    h->count = rd_u64be(r);
    h->sum_us = rd_u64be(r);
}

/* The totals in the order of the record. */
enum { PROCESS_TOTALS = 23 };
static const size_t process_totals[PROCESS_TOTALS] = {
    offsetof(struct process_record, accepted),
    offsetof(struct process_record, refused),
    offsetof(struct process_record, placed),
    offsetof(struct process_record, retried),
    offsetof(struct process_record, failed_dials),
    offsetof(struct process_record, taken_over),
    offsetof(struct process_record, players_moved),
    offsetof(struct process_record, bytes_in),
    offsetof(struct process_record, bytes_out),
    offsetof(struct process_record, store_errors),
    offsetof(struct process_record, checks),
    offsetof(struct process_record, check_failures),
    offsetof(struct process_record, transitions),
    offsetof(struct process_record, requests),
    offsetof(struct process_record, rehome_failed),
    offsetof(struct process_record, rehomed_players),
    offsetof(struct process_record, rehome_dropped),
    offsetof(struct process_record, kept_cuts),
    offsetof(struct process_record, kept_bytes),
    offsetof(struct process_record, kept_stream_bytes),
    offsetof(struct process_record, shared_links),
    offsetof(struct process_record, share_skips),
    offsetof(struct process_record, lines_lost),
};

size_t process_record_write(const struct process_record *p, uint8_t *buf)
{
    struct wr w = record_start(buf);
    wr_u8(&w, (uint32_t)p->kind);
    wr_worker(&w, &p->id);
    wr_u32be(&w, p->pid);
    wr_text(&w, p->version);
    wr_u64be(&w, p->started_ms);
    wr_u64be(&w, p->beat_ms);
    wr_u32be(&w, p->sessions);
    wr_u32be(&w, p->publishers);
    wr_u32be(&w, p->players);
    for (size_t i = 0; i < PROCESS_TOTALS; i++) {
        uint64_t v;
        memcpy(&v, (const char *)p + process_totals[i], sizeof v);
        wr_u64be(&w, v);
    }
    for (size_t i = 0; i < PROCESS_CLOSED_COUNT; i++)
        wr_u64be(&w, p->closed[i]);
    for (size_t i = 0; i < REHOME_CAUSE_COUNT; i++)
        wr_u64be(&w, p->rehomed[i]);
    for (size_t i = 0; i < SETUP_PHASE_COUNT; i++)
        wr_histogram(&w, &p->setup[i]);
    wr_histogram(&w, &p->rehome_gap);
    wr_u64be(&w, p->memory_bytes);
    wr_u32be(&w, p->loop_turn_max_us);
    wr_histogram(&w, &p->loop_turns);
    wr_u64be(&w, p->nodes_version);
    return record_end(&w);
}

enum err process_record_parse(const void *buf, size_t len, struct process_record *out)
{
    struct rd r = record_open(buf, len);
    struct process_record p = {0};
    p.kind = (enum process_kind)rd_enum(&r, PROCESS_ADMIN);
    rd_worker(&r, &p.id);
    p.pid = rd_u32be(&r);
    rd_text(&r, p.version, sizeof p.version);
    p.started_ms = rd_u64be(&r);
    p.beat_ms = rd_u64be(&r);
    p.sessions = rd_u32be(&r);
    p.publishers = rd_u32be(&r);
    p.players = rd_u32be(&r);
    for (size_t i = 0; i < PROCESS_TOTALS; i++) {
        const uint64_t v = rd_u64be(&r);
        memcpy((char *)&p + process_totals[i], &v, sizeof v);
    }
    for (size_t i = 0; i < PROCESS_CLOSED_COUNT; i++)
        p.closed[i] = rd_u64be(&r);
    for (size_t i = 0; i < REHOME_CAUSE_COUNT; i++)
        p.rehomed[i] = rd_u64be(&r);
    for (size_t i = 0; i < SETUP_PHASE_COUNT; i++)
        rd_histogram(&r, &p.setup[i]);
    rd_histogram(&r, &p.rehome_gap);
    p.memory_bytes = rd_u64be(&r);
    p.loop_turn_max_us = rd_u32be(&r);
    rd_histogram(&r, &p.loop_turns);
    p.nodes_version = rd_u64be(&r);
    const enum err e = record_close(&r);
    if (e == ERR_OK)
        *out = p;
    return e;
}

size_t event_record_write(const struct store_event *e, uint8_t *buf)
{
    struct wr w = record_start(buf);
    wr_u64be(&w, e->id);
    wr_u64be(&w, e->time_ms);
    wr_text(&w, e->kind);
    wr_text(&w, e->subject);
    wr_text(&w, e->node);
    return record_end(&w);
}

enum err event_record_parse(const void *buf, size_t len, struct store_event *out)
{
    struct rd r = record_open(buf, len);
    struct store_event v = {0};
    v.id = rd_u64be(&r);
    v.time_ms = rd_u64be(&r);
    rd_text(&r, v.kind, sizeof v.kind);
    rd_text(&r, v.subject, sizeof v.subject);
    rd_text(&r, v.node, sizeof v.node);
    const enum err e = record_close(&r);
    if (e == ERR_OK)
        *out = v;
    return e;
}

size_t status_record_write(const struct node_status *st, uint8_t *buf)
{
    struct wr w = record_start(buf);
    wr_u8(&w, (uint32_t)st->health);
    wr_text(&w, st->id);
    wr_u64be(&w, st->since_ms);
    wr_u64be(&w, st->checked_ms);
    wr_text(&w, st->reason);
    wr_u32be(&w, st->latency_us);
    wr_u64be(&w, st->bandwidth_in);
    wr_u64be(&w, st->bandwidth_out);
    wr_u32be(&w, st->clients);
    wr_u32be(&w, st->publishers);
    wr_text(&w, st->version);
    wr_u32be(&w, st->pid);
    wr_u64be(&w, st->process_started_ms);
    wr_u32be(&w, st->generations);
    wr_u8(&w, st->skewed);
    wr_u8(&w, st->stuck);
    wr_u8(&w, st->flapping);
    wr_u64be(&w, st->checks);
    wr_u64be(&w, st->failures);
    wr_u64be(&w, st->transitions);
    return record_end(&w);
}

enum err status_record_parse(const void *buf, size_t len, struct node_status *out)
{
    struct rd r = record_open(buf, len);
    struct node_status st = {.health = (enum node_health)rd_enum(&r, NODE_DOWN)};
    rd_text(&r, st.id, sizeof st.id);
    st.since_ms = rd_u64be(&r);
    st.checked_ms = rd_u64be(&r);
    rd_text(&r, st.reason, sizeof st.reason);
    st.latency_us = rd_u32be(&r);
    st.bandwidth_in = rd_u64be(&r);
    st.bandwidth_out = rd_u64be(&r);
    st.clients = rd_u32be(&r);
    st.publishers = rd_u32be(&r);
    rd_text(&r, st.version, sizeof st.version);
    st.pid = rd_u32be(&r);
    st.process_started_ms = rd_u64be(&r);
    st.generations = rd_u32be(&r);
    st.skewed = rd_enum(&r, 1) != 0;
    st.stuck = rd_enum(&r, 1) != 0;
    st.flapping = rd_enum(&r, 1) != 0;
    st.checks = rd_u64be(&r);
    st.failures = rd_u64be(&r);
    st.transitions = rd_u64be(&r);
    const enum err e = record_close(&r);
    if (e == ERR_OK)
        *out = st;
    return e;
}

size_t dial_record_write(const struct dial_failures *f, uint8_t *buf)
{
    struct wr w = record_start(buf);
    wr_text(&w, f->node);
    wr_u64be(&w, f->count);
    wr_u64be(&w, f->last_ms);
    return record_end(&w);
}

enum err dial_record_parse(const void *buf, size_t len, struct dial_failures *out)
{
    struct rd r = record_open(buf, len);
    struct dial_failures f = {0};
    rd_text(&r, f.node, sizeof f.node);
    f.count = rd_u64be(&r);
    f.last_ms = rd_u64be(&r);
    const enum err e = record_close(&r);
    if (e == ERR_OK)
        *out = f;
    return e;
}

size_t found_record_write(const struct found_record *f, uint8_t *buf)
{
    struct wr w = record_start(buf);
    wr_key(&w, &f->key);
    wr_text(&w, f->node);
    wr_u64be(&w, f->since_ms);
    wr_u64be(&w, f->seen_ms);
    return record_end(&w);
}

enum err found_record_parse(const void *buf, size_t len, struct found_record *out)
{
    struct rd r = record_open(buf, len);
    struct found_record f = {0};
    rd_key(&r, &f.key);
    rd_text(&r, f.node, sizeof f.node);
    f.since_ms = rd_u64be(&r);
    f.seen_ms = rd_u64be(&r);
    const enum err e = record_close(&r);
    if (e == ERR_OK)
        *out = f;
    return e;
}

size_t lease_record_write(const struct lease_record *l, uint8_t *buf)
{
    struct wr w = record_start(buf);
    wr_u64be(&w, l->holder);
    wr_u64be(&w, l->renewed_ms);
    return record_end(&w);
}

enum err lease_record_parse(const void *buf, size_t len, struct lease_record *out)
{
    struct rd r = record_open(buf, len);
    struct lease_record l = {.holder = rd_u64be(&r)};
    l.renewed_ms = rd_u64be(&r);
    const enum err e = record_close(&r);
    if (e == ERR_OK)
        *out = l;
    return e;
}

size_t command_record_write(const struct store_command *c, uint8_t *buf)
{
    struct wr w = record_start(buf);
    wr_u64be(&w, c->id);
    wr_u8(&w, (uint32_t)c->kind);
    wr_worker(&w, &c->worker);
    wr_u64be(&w, c->session);
    wr_text(&w, c->node);
    wr_u64be(&w, c->posted_ms);
    wr_u64be(&w, c->deadline_ms);
    wr_u8(&w, (uint32_t)c->state);
    wr_text(&w, c->result);
    return record_end(&w);
}

enum err command_record_parse(const void *buf, size_t len, struct store_command *out)
{
    struct rd r = record_open(buf, len);
    struct store_command c = {.id = rd_u64be(&r)};
    c.kind = (enum command_kind)rd_enum(&r, COMMAND_MOVE);
    rd_worker(&r, &c.worker);
    c.session = rd_u64be(&r);
    rd_text(&r, c.node, sizeof c.node);
    c.posted_ms = rd_u64be(&r);
    c.deadline_ms = rd_u64be(&r);
    c.state = (enum command_state)rd_enum(&r, COMMAND_FAILED);
    rd_text(&r, c.result, sizeof c.result);
    const enum err e = record_close(&r);
    if (e == ERR_OK)
        *out = c;
    return e;
}

size_t load_record_write(const struct load_record *l, uint8_t *buf)
{
    struct wr w = record_start(buf);
    wr_u32be(&w, l->streams);
    wr_u32be(&w, l->sessions);
    return record_end(&w);
}

enum err load_record_parse(const void *buf, size_t len, struct load_record *out)
{
    struct rd r = record_open(buf, len);
    struct load_record l = {.streams = rd_u32be(&r)};
    l.sessions = rd_u32be(&r);
    const enum err e = record_close(&r);
    if (e == ERR_OK)
        *out = l;
    return e;
}

size_t audience_record_write(const struct audience_record *a, uint8_t *buf)
{
    struct wr w = record_start(buf);
    wr_worker(&w, &a->worker);
    wr_u32be(&w, a->players);
    wr_u64be(&w, a->epoch);
    wr_u8(&w, a->cut);
    return record_end(&w);
}

enum err audience_record_parse(const void *buf, size_t len, struct audience_record *out)
{
    struct rd r = record_open(buf, len);
    struct audience_record a = {0};
    rd_worker(&r, &a.worker);
    a.players = rd_u32be(&r);
    a.epoch = rd_u64be(&r);
    a.cut = rd_enum(&r, 1) != 0;
    const enum err e = record_close(&r);
    if (e == ERR_OK)
        *out = a;
    return e;
}
