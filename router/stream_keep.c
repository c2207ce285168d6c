#include "router/stream_keep.h"

#include <assert.h>
#include <stdlib.h>

enum {
    RING_FIRST = 64,
    ITEM_BYTES = 224, /* what a message weighs besides its blocks */
    FETCH_AHEAD = 4,
    COMPACT_AT_ONCE = 4, /* so all are through before the second half of the budget is full */
};

static struct kept *entry(const struct stream_keep *k, uint64_t n)
{
    return &k->ring[(k->head + (uint32_t)(n - k->first)) & (k->ring_cap - 1)];
}

const struct kept *stream_keep_at(const struct stream_keep *k, uint64_t n)
{
    assert(n >= k->first && n < stream_keep_end(k));
    return entry(k, n);
}

static enum err ring_grow(struct stream_keep *k)
{
    const uint32_t cap = k->ring_cap ? k->ring_cap * 2 : RING_FIRST;
    struct kept *grown = malloc(cap * sizeof *grown);
    if (!grown)
        return ERR_NO_MEMORY;
    for (uint32_t i = 0; i < k->count; i++)
        grown[i] = *entry(k, k->first + i);
    free(k->ring);
    k->ring = grown;
    k->ring_cap = cap;
    k->head = 0;
    return ERR_OK;
}

/* ---- memory ---- */

/* Blocks are counted as long as one of the messages refers to them. */
static void charge(struct stream_keep *k, const struct rtmp_msg *m)
{
    for (uint32_t i = 0; i < m->slice_count; i++) {
        struct block *b = m->slices[i].block;
        if (b->kept++ == 0)
            k->bytes += b->cap;
    }
}

static void discharge(struct stream_keep *k, const struct rtmp_msg *m)
{
    for (uint32_t i = 0; i < m->slice_count; i++) {
        struct block *b = m->slices[i].block;
        assert(b->kept > 0);
        if (--b->kept == 0)
            k->bytes -= b->cap;
    }
}

void stream_keep_clear(struct stream_keep *k)
{
    for (uint64_t n = k->first; n < stream_keep_end(k); n++) {
        discharge(k, entry(k, n)->msg);
        rtmp_msg_unref(entry(k, n)->msg);
    }
    for (uint32_t i = 0; i < k->state_count; i++)
        rtmp_msg_unref(k->states[i]);
    free(k->ring);
    *k = (struct stream_keep){0};
}

/* The same message in memory of its own, so that it holds no more than it needs. NULL: no memory.
 */
static struct rtmp_msg *copy_of(const struct rtmp_msg *m)
{
    struct rtmp_msg *copy = rtmp_msg_create(m->pool, m->type, m->msid, m->timestamp);
    if (!copy || m->len == 0)
        return copy;
    struct block *b = block_create(m->pool->blocks, m->len);
    enum err e = b ? rtmp_msg_append(copy, b, 0, m->len) : ERR_NO_MEMORY;
    if (e == ERR_OK)
        b->used = (uint32_t)rtmp_msg_peek(m, b->data, m->len);
    block_unref(b);
    if (e == ERR_OK)
        return copy;
    rtmp_msg_unref(copy);
    return NULL;
}

/* Blocks hold little of what is kept. */
static bool is_sparse(const struct stream_keep *k)
{
    return k->bytes / 2 > k->payload_bytes + (uint64_t)k->count * ITEM_BYTES;
}

/* What is needed of sparse blocks is copied out, the oldest first, of at most `most` messages: from
 * one message to the next little happens, and no message is copied twice. */
static void compact(struct stream_keep *k, uint32_t most)
{
    if (k->compacted < k->first)
        k->compacted = k->first;
    for (; most > 0 && k->compacted < stream_keep_end(k) && is_sparse(k); most--) {
        struct kept *e = entry(k, k->compacted++);
        struct rtmp_msg *copy = copy_of(e->msg);
        if (!copy)
            continue;
        discharge(k, e->msg);
        rtmp_msg_unref(e->msg);
        e->msg = copy;
        charge(k, e->msg);
    }
}

/* ---- giving up the oldest ---- */

/* i: state_count if there is none. */
static void state_drop(struct stream_keep *k, uint32_t i)
{
    if (i >= k->state_count)
        return;
    rtmp_msg_unref(k->states[i]);
    k->state_count--;
    k->states[i] = k->states[k->state_count];
    k->state_keys[i] = k->state_keys[k->state_count];
}

static void state_put(struct stream_keep *k, struct rtmp_msg *m, uint32_t key)
{
    uint32_t i = 0;
    while (i < k->state_count && k->state_keys[i] != key)
        i++;
    if (m->len > STREAM_STATE_BYTES_MAX) {
        state_drop(k, i);
        return;
    }
    if (i == STREAM_STATES_MAX)
        return;
    struct rtmp_msg *own = copy_of(m);
    if (!own)
        own = rtmp_msg_ref(m);
    if (i < k->state_count)
        rtmp_msg_unref(k->states[i]);
    else
        k->state_count++;
    k->states[i] = own;
    k->state_keys[i] = key;
}

static bool is_video_frame(const struct media_info *i)
{
    return i->class == CLASS_VIDEO && (i->kind == MEDIA_FRAME || i->kind == MEDIA_KEYFRAME);
}

static void pop(struct stream_keep *k)
{
    struct kept *e = entry(k, k->first);
    if (e->info.kind == MEDIA_STATE)
        state_put(k, e->msg, e->info.state_key);
    if (is_video_frame(&e->info))
        k->videos--;
    discharge(k, e->msg);
    k->bytes -= ITEM_BYTES;
    k->payload_bytes -= e->msg->len;
    rtmp_msg_unref(e->msg);
    k->head = (k->head + 1) & (k->ring_cap - 1);
    k->first++;
    k->count--;
    if (k->searched < k->first) {
        k->searched = k->first;
        k->key_at_ms = 0;
    }
}

/* A group has not been touched since it came, and each message has to be waited for. */
static void pop_until(struct stream_keep *k, uint64_t n)
{
    uint64_t fetched = k->first;
    while (k->first < n) {
        for (; fetched < n && fetched < k->first + FETCH_AHEAD; fetched++)
            __builtin_prefetch(entry(k, fetched)->msg);
        pop(k);
    }
}

/* The end: there is none. */
static uint64_t keyframe_from(const struct stream_keep *k, uint64_t n)
{
    while (n < stream_keep_end(k) && entry(k, n)->info.kind != MEDIA_KEYFRAME)
        n++;
    return n;
}

/* Where those at the front end that have one time. Of the time that a player has last all have to
 * stay, or none: they are counted (splice.h). */
static uint64_t same_time_end(struct stream_keep *k)
{
    const uint32_t time = entry(k, k->first)->timestamp;
    if (k->same <= k->first)
        k->same = k->first + 1;
    while (k->same < stream_keep_end(k) && entry(k, k->same)->timestamp == time)
        k->same++;
    return k->same;
}

static uint64_t same_time_begin(const struct stream_keep *k, uint64_t n)
{
    const uint32_t time = entry(k, n)->timestamp;
    while (n > k->first && entry(k, n - 1)->timestamp == time)
        n--;
    return n;
}

static bool is_frame(const struct media_info *i)
{
    return i->class != CLASS_DATA && (i->kind == MEDIA_FRAME || i->kind == MEDIA_KEYFRAME);
}

/* Data and headers are often stamped 0, whatever the frames' clock says. */
static bool is_past(const struct stream_keep *k, uint64_t n)
{
    return !is_frame(&entry(k, n)->info) ||
           media_before(entry(k, n)->timestamp, entry(k, stream_keep_end(k) - 1)->timestamp);
}

static void trim_old(struct stream_keep *k, const struct keep_policy *p, uint64_t now_ms)
{
    const bool counted = p->reach_ms > 0; /* else nobody does */
    if (now_ms < p->reach_ms)
        return;
    const uint64_t old_ms = now_ms - p->reach_ms;
    if (k->videos > 0 && k->key_at_ms > old_ms) /* by far the most often */
        return;
    while (k->count > 0) {
        const bool whole = counted || entry(k, k->first)->info.kind == MEDIA_KEYFRAME;
        const uint64_t front = whole ? same_time_end(k) : k->first + 1; /* pictures in parts */
        const uint64_t key = keyframe_from(k, k->searched > front ? k->searched : front);
        const uint64_t last = front - 1;
        k->searched = key;
        k->key_at_ms = key < stream_keep_end(k) ? entry(k, key)->at_ms : NO_KEYFRAME;
        if (k->key_at_ms <= old_ms && (!counted || is_past(k, key)))
            pop_until(k, counted ? same_time_begin(k, key) : key);
        else if (k->videos == 0 && entry(k, last)->at_ms < old_ms && (!counted || is_past(k, last)))
            pop_until(k, front);
        else
            return;
    }
}

static void give_up(struct stream_keep *k, uint64_t n)
{
    if (n == stream_keep_end(k) && k->videos > 0)
        k->headless = true;
    pop_until(k, n);
}

static void drop_until(struct stream_keep *k, uint64_t n)
{
    k->dropped_groups++;
    k->dropped_messages += n - k->first;
    give_up(k, n);
}

void stream_keep_drop(struct stream_keep *k)
{
    give_up(k, stream_keep_end(k));
}

/* The oldest group goes whole; without a second keyframe everything does, and video waits for the
 * next keyframe: the rest of a group is of no use. */
static void trim_large(struct stream_keep *k, const struct keep_policy *p)
{
    if (k->bytes > p->max_bytes / 2)
        compact(k, COMPACT_AT_ONCE);
    if (k->bytes > p->max_bytes)
        compact(k, k->count);
    while (k->count > 0 && k->bytes > p->max_bytes)
        drop_until(k, keyframe_from(k, k->first + 1));
}

/* Better nothing than a gap: all is dropped if there is no memory for one more. False: there is
 * none at all. */
static bool make_room(struct stream_keep *k)
{
    if (k->count < k->ring_cap || ring_grow(k) == ERR_OK)
        return true;
    drop_until(k, stream_keep_end(k));
    return k->ring_cap > 0;
}

static void append(struct stream_keep *k, struct rtmp_msg *m, const struct media_info *info,
                   uint64_t now_ms)
{
    *entry(k, stream_keep_end(k)) = (struct kept){
        .msg = rtmp_msg_ref(m), .at_ms = now_ms, .info = *info, .timestamp = m->timestamp};
    charge(k, m);
    k->bytes += ITEM_BYTES;
    k->payload_bytes += m->len;
    k->videos += is_video_frame(info);
    k->count++;
    if (k->key_at_ms == NO_KEYFRAME && info->kind == MEDIA_KEYFRAME)
        k->key_at_ms = 0;
}

/* The encoder has begun its clock anew; one of its classes is first. */
static bool steps_back(struct stream_keep *k, const struct rtmp_msg *m,
                       const struct media_info *info)
{
    if (!is_frame(info))
        return false;
    const enum media_class other = info->class == CLASS_AUDIO ? CLASS_VIDEO : CLASS_AUDIO;
    const uint32_t from = k->times[other], time = m->timestamp;
    const bool followed =
        k->timed[other] && !media_steps_back(from, time) && !media_steps_back(time, from);
    const bool steps =
        !followed && k->timed[info->class] && media_steps_back(k->times[info->class], time);
    k->times[info->class] = m->timestamp;
    k->timed[info->class] = true;
    return steps;
}

void stream_keep_push(struct stream_keep *k, struct rtmp_msg *m, const struct keep_policy *p,
                      uint64_t now_ms)
{
    const struct media_info info = media_inspect(m);
    if (steps_back(k, m, &info))
        stream_keep_drop(k);
    const bool room = make_room(k);
    if (info.kind == MEDIA_KEYFRAME)
        k->headless = false;
    if (!room && info.kind == MEDIA_STATE)
        state_put(k, m, info.state_key);
    if (!room && is_video_frame(&info))
        k->headless = true;
    if (!room || (k->headless && is_video_frame(&info))) {
        k->dropped_messages++;
        return;
    }
    append(k, m, &info, now_ms);
    if (!k->held)
        trim_old(k, p, now_ms);
    trim_large(k, p);
}
