#include "router/share.h"

#include <assert.h>
#include <stdlib.h>

enum {
    QUEUED_MESSAGE_BYTES = 128, /* besides its payload */
    STALE_MS = 5000,            /* what is kept of a stream that has been silent so long is old */
    GROUP_MS = 20000,           /* nobody begins with a group so old, nor waits long for its end */
    BLIND_MS = 5000,
    SEATS_FIRST = 8,
    SEATS_AHEAD = 4,
    CACHE_LINE = 64,
};

void share_init(struct share *sh, uint64_t buffer_bytes, uint64_t keep_bytes)
{
    *sh = (struct share){.buffer_bytes = buffer_bytes, .keep_bytes = keep_bytes};
}

void share_set_limits(struct share *sh, uint64_t buffer_bytes, uint64_t keep_bytes)
{
    sh->buffer_bytes = buffer_bytes;
    sh->keep_bytes = keep_bytes;
}

void share_deinit(struct share *sh)
{
    assert(sh->count == 0);
    free(sh->seats);
    stream_keep_clear(&sh->keep);
}

static bool grow(struct share *sh)
{
    const uint32_t cap = sh->cap ? 2 * sh->cap : SEATS_FIRST;
    struct share_taken *seats = realloc(sh->seats, cap * sizeof *seats);
    if (!seats)
        return false;
    sh->seats = seats;
    sh->cap = cap;
    return true;
}

bool share_take_seat(struct share *sh, struct share_seat *seat, struct rtmp_link *link)
{
    if (sh->count == sh->cap && !grow(sh))
        return false;
    *seat = (struct share_seat){.share = sh, .link = link, .at = sh->count};
    sh->seats[sh->count++] = (struct share_taken){.seat = seat, .link = link};
    return true;
}

void share_leave_seat(struct share_seat *seat)
{
    struct share *sh = seat->share;
    if (!sh)
        return;
    const struct share_taken last = sh->seats[--sh->count];
    sh->seats[seat->at] = last;
    last.seat->at = seat->at;
    *seat = (struct share_seat){0};
}

void share_forget(struct share *sh)
{
    stream_keep_drop(&sh->keep); /* the headers may be the next one's: those come but once */
    sh->keep.timed[CLASS_AUDIO] = sh->keep.timed[CLASS_VIDEO] = false;
}

static void queue(struct share_seat *seat, struct rtmp_msg *m, uint32_t msid, uint32_t timestamp)
{
    if (!seat->failed && rtmp_link_send(seat->link, m, msid, timestamp) != ERR_OK)
        seat->failed = true;
    seat->news = true;
}

static uint64_t queued(const struct share_seat *seat)
{
    const struct rtmp_chunk_writer *out = &seat->link->out;
    return out->queued_bytes + (uint64_t)out->count * QUEUED_MESSAGE_BYTES;
}

/* All that is kept, state first. */
static void begin(struct share *sh, struct share_seat *seat, uint64_t now_ms)
{
    const struct stream_keep *k = &sh->keep;
    const uint32_t from = k->count > 0 ? stream_keep_at(k, k->first)->timestamp : sh->timestamp;
    for (uint32_t i = 0; i < k->state_count; i++)
        queue(seat, k->states[i], k->states[i]->msid, from);
    for (uint64_t n = k->first; n < stream_keep_end(k); n++) {
        struct rtmp_msg *m = stream_keep_at(k, n)->msg;
        queue(seat, m, m->msid, m->timestamp);
    }
    seat->playing = true;
    seat->blind = k->headless;
    seat->blind_ms = now_ms;
    seat->begun_bytes = queued(seat);
}

/* A queue that was full has to go down by half first. */
static bool may_begin(const struct share *sh, const struct share_seat *seat)
{
    const struct stream_keep *k = &sh->keep;
    return seat->open && (k->count > 0 || k->headless) && queued(seat) <= sh->buffer_bytes / 2;
}

/* A long group of pictures at the beginning does not make a queue full. */
static bool is_full(const struct share *sh, struct share_seat *seat)
{
    const uint64_t bytes = queued(seat);
    if (bytes <= sh->buffer_bytes / 2)
        seat->begun_bytes = 0;
    return bytes >= sh->buffer_bytes + seat->begun_bytes;
}

void share_open(struct share_seat *seat, uint64_t now_ms)
{
    struct share *sh = seat->share;
    seat->open = true;
    if (now_ms - sh->heard_ms < STALE_MS && !sh->keep.headless && may_begin(sh, seat))
        begin(sh, seat, now_ms);
}

/* Pictures that nobody can decode who has had no keyframe; unless there seem to be none. */
static bool is_kept_from(const struct share *sh, struct share_seat *seat,
                         const struct media_info *info, uint64_t now_ms)
{
    const bool none = now_ms - sh->key_ms >= GROUP_MS && now_ms - seat->blind_ms >= BLIND_MS;
    if (info->kind == MEDIA_KEYFRAME || none)
        seat->blind = false;
    return seat->blind && info->class == CLASS_VIDEO && info->kind == MEDIA_FRAME;
}

/* A seat that waits takes the next keyframe; where no video is kept, the next message. */
static void push_media(struct share *sh, struct share_seat *seat, struct rtmp_msg *m,
                       const struct media_info *info, uint64_t now_ms)
{
    const bool start = info->kind == MEDIA_KEYFRAME || sh->keep.videos == 0;
    if (!seat->playing) {
        if (!start || !may_begin(sh, seat))
            return;
        begin(sh, seat, now_ms);
        if (sh->keep.count > 0 || info->kind != MEDIA_KEYFRAME)
            return; /* else it could not be kept */
    }
    if (is_full(sh, seat)) {
        seat->playing = false;
        sh->skips++;
        return;
    }
    if (!seat->blind || !is_kept_from(sh, seat, info, now_ms))
        queue(seat, m, m->msid, m->timestamp);
}

/* With the time and the stream id that players see: it is kept so, too. */
static struct rtmp_msg *as_sent(struct rtmp_msg *m, uint32_t msid, uint32_t timestamp)
{
    return m->msid == msid && m->timestamp == timestamp
               ? rtmp_msg_ref(m)
               : rtmp_msg_share(m, m->type, msid, timestamp, 0);
}

/* Hundreds of players are in no near cache when the next message comes: what is needed of some is
 * fetched while others are served. */
static void fetch(const struct share_taken *t)
{
    const char *const out = (const char *)&t->link->out;
    __builtin_prefetch(t->seat, 1);
    for (size_t i = 0; i < sizeof t->link->out; i += CACHE_LINE)
        __builtin_prefetch(out + i, 1);
}

/* What is kept for those who come later must not be what nobody wants to begin with, nor take the
 * memory that everybody needs to go on. */
static void keep(struct share *sh, struct rtmp_msg *m, uint64_t now_ms)
{
    const struct keep_policy newest = {.reach_ms = 0, .max_bytes = sh->keep_bytes};
    struct stream_keep *k = &sh->keep;
    stream_keep_push(k, m, &newest, now_ms);
    const bool is_old = k->videos > 0 && now_ms - stream_keep_at(k, k->first)->at_ms >= GROUP_MS;
    if (is_old || block_pool_is_short(m->pool->blocks))
        stream_keep_drop(k);
}

void share_push(struct share *sh, struct rtmp_msg *m, uint32_t msid, uint32_t timestamp,
                uint64_t now_ms)
{
    const bool media = m->type == RTMP_AUDIO || m->type == RTMP_VIDEO || m->type == RTMP_DATA_AMF0;
    if (!media) { /* is for those, too, who are to have no media now, but not without end */
        for (uint32_t i = 0; i < sh->count; i++) {
            struct share_seat *seat = sh->seats[i].seat;
            if (seat->open && queued(seat) < 2 * (sh->buffer_bytes + seat->begun_bytes))
                queue(seat, m, msid, timestamp);
        }
        return;
    }
    sh->heard_ms = now_ms;
    sh->timestamp = timestamp;
    const struct media_info info = media_inspect(m);
    if (info.kind == MEDIA_KEYFRAME)
        sh->key_ms = now_ms;
    struct rtmp_msg *sent = as_sent(m, msid, timestamp);
    if (sent)
        keep(sh, sent, now_ms);
    else
        stream_keep_drop(&sh->keep); /* no memory: nobody can begin here */
    for (uint32_t i = 0; i < sh->count && i < SEATS_AHEAD; i++)
        fetch(&sh->seats[i]);
    for (uint32_t i = 0; i < sh->count; i++) {
        struct share_seat *seat = sh->seats[i].seat;
        if (i + SEATS_AHEAD < sh->count)
            fetch(&sh->seats[i + SEATS_AHEAD]);
        if (!sent)
            seat->failed = seat->news = true;
        else
            push_media(sh, seat, sent, &info, now_ms);
    }
    rtmp_msg_unref(sent);
}
