#include "cluster/store_record.h"

#include <assert.h>
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

size_t claim_record_write(const struct claim *c, uint8_t *buf)
{
    struct wr w = record_start(buf);
    wr_key(&w, &c->key);
    wr_text(&w, c->node);
    wr_u8(&w, (uint32_t)c->state);
    wr_worker(&w, &c->worker);
    wr_u64be(&w, c->session);
    wr_u64be(&w, c->epoch);
    wr_u64be(&w, c->since_ms);
    wr_worker(&w, &c->previous);
    wr_u64be(&w, c->previous_epoch);
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
    c.state = (enum claim_state)rd_enum(&r, CLAIM_HINT);
    rd_worker(&r, &c.worker);
    c.session = rd_u64be(&r);
    c.epoch = rd_u64be(&r);
    c.since_ms = rd_u64be(&r);
    rd_worker(&r, &c.previous);
    c.previous_epoch = rd_u64be(&r);
    c.released = rd_enum(&r, 1) != 0;
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
    wr_u64be(&w, p->accepted);
    wr_u64be(&w, p->refused);
    wr_u64be(&w, p->placed);
    wr_u64be(&w, p->retried);
    wr_u64be(&w, p->failed_dials);
    wr_u64be(&w, p->taken_over);
    wr_u64be(&w, p->bytes_in);
    wr_u64be(&w, p->bytes_out);
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
    p.accepted = rd_u64be(&r);
    p.refused = rd_u64be(&r);
    p.placed = rd_u64be(&r);
    p.retried = rd_u64be(&r);
    p.failed_dials = rd_u64be(&r);
    p.taken_over = rd_u64be(&r);
    p.bytes_in = rd_u64be(&r);
    p.bytes_out = rd_u64be(&r);
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

size_t health_record_write(const struct health_record *h, uint8_t *buf)
{
    struct wr w = record_start(buf);
    wr_u8(&w, (uint32_t)h->health);
    wr_u64be(&w, h->since_ms);
    wr_u64be(&w, h->bandwidth);
    return record_end(&w);
}

enum err health_record_parse(const void *buf, size_t len, struct health_record *out)
{
    struct rd r = record_open(buf, len);
    struct health_record h = {.health = (enum node_health)rd_enum(&r, NODE_DOWN)};
    h.since_ms = rd_u64be(&r);
    h.bandwidth = rd_u64be(&r);
    const enum err e = record_close(&r);
    if (e == ERR_OK)
        *out = h;
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
    return record_end(&w);
}

enum err audience_record_parse(const void *buf, size_t len, struct audience_record *out)
{
    struct rd r = record_open(buf, len);
    struct audience_record a = {0};
    rd_worker(&r, &a.worker);
    a.players = rd_u32be(&r);
    const enum err e = record_close(&r);
    if (e == ERR_OK)
        *out = a;
    return e;
}
