/* load/traffic.c - see traffic.h. */
#include "bench/load/traffic.h"

#define XXH_STATIC_LINKING_ONLY /* the size of XXH3_state_t */
#include <xxhash.h>

#include "base/rd.h"
#include "base/wr.h"

enum {
    NOISE_BYTES = 1 << 20,
    AUDIO_BYTES = 370,
    KEY_TIMES = 5, /* a keyframe is so many times a frame between */
    MAGIC = 0x57454952,
    STAMP_BYTES = 4 + 4 + 4 + 8, /* magic, stream, number, time sent */
    HEAD_BYTES = 5 + STAMP_BYTES + 8,
    NS_PER_MS = 1000000,
};

static const uint8_t flv_audio[] = {0xaf, 1};
static const uint8_t flv_inter[] = {0x27, 1, 0, 0, 0};
static const uint8_t flv_key[] = {0x17, 1, 0, 0, 0};

/* Sizes from 3/4 to 5/4 of the mean, which they keep. */
static void pieces_init(struct traffic_piece *pieces, const struct block *noise, uint32_t mean)
{
    for (uint32_t i = 0; i < TRAFFIC_VARIANTS; i++) {
        const uint32_t spread = 192 + (i * 37 % TRAFFIC_VARIANTS) * 2;
        uint32_t len = (uint32_t)((uint64_t)mean * spread / 255);
        if (len > NOISE_BYTES / 2)
            len = NOISE_BYTES / 2;
        const uint32_t off = i * (NOISE_BYTES / 2 / TRAFFIC_VARIANTS);
        pieces[i] = (struct traffic_piece){
            .off = off, .len = len, .hash = XXH3_64bits(noise->data + off, len)};
    }
}

enum err traffic_init(struct traffic *t, struct rtmp_pool *pool, const struct traffic_rate *rate)
{
    struct block *noise = block_create(pool->blocks, NOISE_BYTES);
    if (!noise)
        return ERR_NO_MEMORY;
    noise->used = NOISE_BYTES;
    for (uint32_t i = 0; i + 8 <= NOISE_BYTES; i += 8) {
        const uint64_t h = XXH64(&i, sizeof i, 0);
        memcpy(noise->data + i, &h, 8);
    }
    *t = (struct traffic){.pool = pool, .noise = noise};
    t->every_ns[TRAFFIC_AUDIO] = 1000ull * rate->audio_us * rate->slow_down;
    t->every_ns[TRAFFIC_VIDEO] = 1000ull * NS_PER_MS / rate->fps * rate->slow_down;
    const uint32_t frames = rate->fps * rate->gop_ms / 1000 / rate->slow_down;
    t->frames_per_group = frames ? frames : 1;
    const uint64_t bytes = rate->kbits * 125ull;
    const uint64_t audio = AUDIO_BYTES * (1000000ull / rate->audio_us);
    const uint64_t video = bytes > 2 * audio ? bytes - audio : audio;
    const uint64_t shares = (t->frames_per_group + KEY_TIMES - 1ull) * rate->fps;
    const uint32_t inter = (uint32_t)(video * t->frames_per_group / shares);
    pieces_init(t->audio, noise, AUDIO_BYTES - HEAD_BYTES);
    pieces_init(t->inter, noise, inter);
    pieces_init(t->key, noise, inter * KEY_TIMES);
    return ERR_OK;
}

void traffic_deinit(struct traffic *t)
{
    block_unref(t->noise);
}

void source_begin(struct source *s, const struct traffic *t, uint32_t stream, uint64_t now_ns,
                  uint32_t phase)
{
    *s = (struct source){.stream = stream, .begun_ns = now_ns};
    for (int k = 0; k < TRAFFIC_KINDS; k++)
        s->next_ns[k] = now_ns + (uint64_t)((double)t->every_ns[k] * phase / UINT32_MAX);
    s->next_key = 1 + phase / 7 % t->frames_per_group;
}

static enum traffic_kind next_kind(const struct source *s)
{
    return s->next_ns[TRAFFIC_AUDIO] <= s->next_ns[TRAFFIC_VIDEO] ? TRAFFIC_AUDIO : TRAFFIC_VIDEO;
}

uint64_t source_due_ns(const struct source *s)
{
    return s->next_ns[next_kind(s)];
}

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

/* The body's hash is known beforehand, so a message costs the hash of its head only. */
static uint64_t checksum(const uint8_t *head, size_t len, uint64_t body_hash)
{
    return XXH3_64bits(head, len) + body_hash * 0x9e3779b97f4a7c15u;
}

struct rtmp_msg *source_next(struct source *s, struct traffic *t, uint64_t now_ns)
{
    const enum traffic_kind kind = next_kind(s);
    const uint32_t number = s->number[kind];
    const bool video = kind == TRAFFIC_VIDEO;
    const bool key = video && (number == 0 || number == s->next_key);
    const struct traffic_piece *piece = &(key     ? t->key
                                          : video ? t->inter
                                                  : t->audio)[number % TRAFFIC_VARIANTS];
    struct block *head = block_create(t->pool->blocks, HEAD_BYTES);
    struct rtmp_msg *m = NULL;
    if (!head)
        return NULL;
    struct wr w = wr_over(head->data, HEAD_BYTES);
    if (video)
        wr_bytes(&w, key ? flv_key : flv_inter, sizeof flv_key);
    else
        wr_bytes(&w, flv_audio, sizeof flv_audio);
    wr_u32be(&w, MAGIC);
    wr_u32be(&w, s->stream);
    wr_u32be(&w, number);
    wr_u64be(&w, now_ns);
    wr_u64be(&w, checksum(head->data, w.len, piece->hash));
    head->used = (uint32_t)w.len;
    const uint32_t time = (uint32_t)((s->next_ns[kind] - s->begun_ns) / NS_PER_MS);
    m = rtmp_msg_create(t->pool, video ? RTMP_VIDEO : RTMP_AUDIO, 1, time);
    if (m && (rtmp_msg_append(m, head, 0, head->used) != ERR_OK ||
              rtmp_msg_append(m, t->noise, piece->off, piece->len) != ERR_OK)) {
        rtmp_msg_unref(m);
        m = NULL;
    }
    block_unref(head);
    if (video && number == s->next_key)
        s->next_key += t->frames_per_group;
    s->number[kind]++;
    s->next_ns[kind] += t->every_ns[kind];
    return m;
}

/* Of payload[off, end) */
static uint64_t body_hash(const struct rtmp_msg *m, uint32_t off)
{
    static XXH3_state_t state; /* large, and of no use between calls */
    uint32_t i = 0;
    while (i < m->slice_count && off >= m->slices[i].len)
        off -= m->slices[i++].len;
    if (i + 1 == m->slice_count)
        return XXH3_64bits(slice_data(&m->slices[i]) + off, m->slices[i].len - off);
    XXH3_64bits_reset(&state);
    for (; i < m->slice_count; i++, off = 0)
        XXH3_64bits_update(&state, slice_data(&m->slices[i]) + off, m->slices[i].len - off);
    return XXH3_64bits_digest(&state);
}

void traffic_look(const struct rtmp_msg *m, uint32_t stream, struct arrival *a, struct tally *tally,
                  uint64_t now_ns)
{
    uint8_t head[HEAD_BYTES];
    if (m->type != RTMP_VIDEO && m->type != RTMP_AUDIO)
        return;
    const enum traffic_kind kind = m->type == RTMP_VIDEO ? TRAFFIC_VIDEO : TRAFFIC_AUDIO;
    const uint32_t flv = kind == TRAFFIC_VIDEO ? sizeof flv_key : sizeof flv_audio;
    const size_t got = rtmp_msg_peek(m, head, flv + STAMP_BYTES + 8u);
    if (got >= 2 && head[1] == 0)
        return; /* a sequence header */
    struct rd r = rd_over(head + flv, got > flv ? got - flv : 0);
    const uint32_t magic = rd_u32be(&r), id = rd_u32be(&r), number = rd_u32be(&r);
    const uint64_t sent_ns = rd_u64be(&r), sum = rd_u64be(&r);
    tally->messages++;
    tally->bytes += m->len;
    if (r.bad || magic != MAGIC || id != stream ||
        sum != checksum(head, flv + STAMP_BYTES, body_hash(m, (uint32_t)got))) {
        tally->corrupt++;
        return;
    }
    if (a->any[kind] && number < a->next[kind])
        tally->repeated++;
    else if (a->any[kind])
        tally->lost += number - a->next[kind];
    a->any[kind] = true;
    a->next[kind] = number + 1;
    histogram_add(&tally->latency, now_ns > sent_ns ? (now_ns - sent_ns) / 1000 : 0);
}
