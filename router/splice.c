#include "router/splice.h"

#include <string.h>

/* How far from the time expected the first message of a link may be and still be of the same clock:
 * behind it when the link was attached late. */
enum { FRAME_MS = 40, CLOCK_EARLY_MS = 1000, CLOCK_LATE_MS = 600000 };
enum { BLIND_MS = 5000 }; /* so long video waits for the first keyframe */

/* ---- state: headers, metadata ---- */

static uint64_t hash_of(const struct rtmp_msg *m)
{
    uint64_t h = 0xcbf29ce484222325u ^ m->len; /* FNV-1a */
    for (uint32_t i = 0; i < m->slice_count; i++) {
        const uint8_t *p = slice_data(&m->slices[i]);
        for (uint32_t n = 0; n < m->slices[i].len; n++)
            h = (h ^ p[n]) * 0x100000001b3u;
    }
    return h;
}

/* True: the player has not got exactly this. */
static bool state_note(struct splice *s, uint32_t key, const struct rtmp_msg *m)
{
    const uint64_t hash = hash_of(m);
    uint32_t i = 0;
    while (i < s->state_count && s->state_keys[i] != key)
        i++;
    if (i == SPLICE_STATES_MAX)
        return true;
    if (i < s->state_count && s->state_hashes[i] == hash)
        return false;
    if (i == s->state_count)
        s->state_count++;
    s->state_keys[i] = key;
    s->state_hashes[i] = hash;
    return true;
}

static void hold(struct splice_feed *f, uint32_t key, struct rtmp_msg *m)
{
    uint32_t i = 0;
    while (i < f->held_count && f->held_keys[i] != key)
        i++;
    if (i == SPLICE_STATES_MAX)
        return;
    if (i < f->held_count)
        rtmp_msg_unref(f->held[i]);
    else
        f->held_count++;
    f->held[i] = rtmp_msg_ref(m);
    f->held_keys[i] = key;
}

struct rtmp_msg *splice_next_state(struct splice *s, struct splice_feed *f,
                                   const struct rtmp_msg *m)
{
    for (uint32_t i = 0; i < f->held_count; i++) {
        struct rtmp_msg *held = f->held[i];
        if (held->type != m->type && held->type != RTMP_DATA_AMF0)
            continue;
        const uint32_t key = f->held_keys[i];
        f->held_count--;
        memmove(&f->held[i], &f->held[i + 1], (f->held_count - i) * sizeof f->held[0]);
        memmove(&f->held_keys[i], &f->held_keys[i + 1],
                (f->held_count - i) * sizeof f->held_keys[0]);
        if (state_note(s, key, held))
            return held;
        rtmp_msg_unref(held);
        i--;
    }
    return NULL;
}

/* ---- frames ---- */

static void count(struct splice_count *c, uint32_t time)
{
    c->at = c->seen && c->time == time ? c->at + 1 : 1;
    c->time = time;
    c->seen = true;
}

/* Data is often stamped 0, whatever the clock. */
static void note_passed(struct splice *s, enum media_class class, uint32_t time)
{
    struct splice_count *p = &s->passed[class];
    const bool steps = p->seen && media_steps_back(p->time, time);
    if (class != CLASS_DATA || time != 0 || p->time == 0)
        count(p, time);
    if (class == CLASS_DATA)
        return;
    if (!s->any || steps || media_before(s->last_time, time))
        s->last_time = time;
    s->any = true;
}

/* The link is on the encoder's new clock, and its next message is news. */
static void follow_step(struct splice *s, struct splice_feed *f, enum media_class class,
                        uint32_t time)
{
    struct splice_count *p = &s->passed[class];
    f->stepped = true;
    s->stepped = f->mode == FEED_SHARED;
    if (!p->seen || !media_steps_back(p->time, time))
        return;
    *p = (struct splice_count){.seen = true, .time = time - 1};
    s->last_time = time;
}

/* A player that has sound only gets no pictures that it cannot decode; unless there seem to be no
 * keyframes. */
static bool lacks_keyframe(struct splice *s, const struct media_info *info, uint32_t time)
{
    if (info->class != CLASS_VIDEO || info->kind == MEDIA_KEYFRAME || !s->any ||
        s->passed[CLASS_VIDEO].seen)
        return false;
    if (!s->blind)
        s->blind_time = time;
    s->blind = true;
    return time - s->blind_time < BLIND_MS;
}

/* The at-th message of its time on the link: is it news to the player? */
static bool is_news(const struct splice *s, enum media_class class, uint32_t time, uint32_t at)
{
    const struct splice_count *p = &s->passed[class];
    if (!p->seen) /* of a type the player never had, what is older than all it has comes too late */
        return !s->any || !media_before(time, s->last_time);
    if (class == CLASS_DATA && p->time == 0 && time != 0)
        return true;
    return media_before(p->time, time) || (p->time == time && at > p->at);
}

/* JOINING: false until the link is beyond what the player has, then all passes. */
static bool passes_joining(struct splice *s, struct splice_feed *f, enum media_class class,
                           uint32_t time)
{
    s->stepped = false;
    if (!f->through[class] && !is_news(s, class, time, f->had[class].at))
        return false;
    f->through[class] = true;
    return true;
}

/* The link has all types since the first video of a time that the player has some of, however rare
 * they are: nodes keep the order of messages, and the replay begins with all of one time. */
static bool spans(const struct splice *s, const struct splice_feed *f)
{
    const struct splice_count *video = &s->passed[CLASS_VIDEO];
    return f->whole && video->seen && !media_before(video->time, f->expected_time);
}

static bool passes_shared(const struct splice *s, struct splice_feed *f, enum media_class class,
                          uint32_t time)
{
    const struct splice_count *p = &s->passed[class];
    if (f->overlap && !f->joined[class])
        f->joined[class] = (p->seen && media_before(time, p->time)) || spans(s, f);
    if (f->overlap && !f->joined[class])
        return false; /* the old link brings it; between the two something may be missing here */
    if (s->stepped && !f->stepped)
        return false; /* the other is ahead, on a clock that cannot be compared */
    return is_news(s, class, time, f->had[class].at);
}

static void note_begin(struct splice_feed *f, enum media_class class, uint32_t time)
{
    const bool expected = time == f->expected_time;
    if (f->expects)
        f->begins = expected;
    if (class == CLASS_VIDEO && !f->had[CLASS_VIDEO].seen)
        f->whole = f->begins && expected;
}

static void forget_times(struct splice *s)
{
    memset(s->passed, 0, sizeof s->passed);
    s->any = s->rebased = s->stepped = s->blind = false;
    s->last_time = 0;
}

/* Nodes that restart the clock for each player (SRS) are known by the first time they give. */
static void check_clock(struct splice *s, struct splice_feed *f, uint32_t time)
{
    const bool first = f->expects;
    f->expects = false;
    if (!first || !s->any)
        return;
    const int32_t off = (int32_t)(time - f->expected_time);
    if (s->rebased || off < -CLOCK_EARLY_MS || off > CLOCK_LATE_MS)
        f->mode = FEED_REBASED;
    else if (media_steps_back(s->last_time, f->expected_time))
        forget_times(s);
}

/* The player goes on a frame later; no type steps back. */
static bool passes_rebased(struct splice *s, struct splice_feed *f, const struct media_info *info,
                           uint32_t time)
{
    const bool start = info->kind == MEDIA_KEYFRAME || !s->passed[CLASS_VIDEO].seen;
    if (!f->began && !start)
        return false;
    if (!f->began)
        f->offset = s->last_time + FRAME_MS - time;
    f->began = s->rebased = true;
    const struct splice_count *p = &s->passed[info->class];
    return !p->seen || !media_before(time + f->offset, p->time);
}

static bool frame_passes(struct splice *s, struct splice_feed *f, const struct media_info *info,
                         uint32_t time)
{
    const enum media_class class = info->class;
    if ((f->mode == FEED_JOINING || f->mode == FEED_SHARED) && lacks_keyframe(s, info, time))
        return false;
    switch (f->mode) {
    case FEED_LIVE:
        return true;
    case FEED_JOINING:
        return passes_joining(s, f, class, time);
    case FEED_REBASED:
        return passes_rebased(s, f, info, time);
    case FEED_SHARED:
        return passes_shared(s, f, class, time);
    }
    return true;
}

/* State is news at once where nothing of the type is repeated any more. Of two links one may be
 * behind: its state comes with its next frame that is news. */
static bool settled(const struct splice_feed *f, enum media_class class)
{
    if (f->mode == FEED_SHARED)
        return false;
    if (f->mode == FEED_LIVE || f->mode == FEED_REBASED)
        return f->mode == FEED_LIVE || f->began;
    return class == CLASS_DATA ? f->through[CLASS_AUDIO] || f->through[CLASS_VIDEO]
                               : f->through[class];
}

bool splice_passes(struct splice *s, struct splice_feed *f, struct rtmp_msg *m)
{
    const struct media_info info = media_inspect(m);
    if (info.kind == MEDIA_EMPTY)
        return f->mode == FEED_LIVE || (f->mode == FEED_JOINING && f->through[info.class]);
    if (info.kind == MEDIA_STATE) {
        if (settled(f, info.class)) {
            (void)state_note(s, info.state_key, m);
            return true;
        }
        hold(f, info.state_key, m);
        return false;
    }
    if (info.class != CLASS_DATA) { /* RtmpSampleAccess has time 0 */
        note_begin(f, info.class, m->timestamp);
        check_clock(s, f, m->timestamp);
        const struct splice_count *had = &f->had[info.class];
        if (f->mode != FEED_REBASED && had->seen && media_steps_back(had->time, m->timestamp))
            follow_step(s, f, info.class, m->timestamp);
    }
    count(&f->had[info.class], m->timestamp);
    if (!frame_passes(s, f, &info, m->timestamp))
        return false;
    const bool first = !s->passed[info.class].seen;
    note_passed(s, info.class, splice_time(f, m));
    if (first) /* those of the same time before it were held back */
        s->passed[info.class].at = f->had[info.class].at;
    return true;
}

/* ---- links come and go ---- */

void splice_feed_reset(struct splice_feed *f, enum splice_mode mode, bool overlap)
{
    for (uint32_t i = 0; i < f->held_count; i++)
        rtmp_msg_unref(f->held[i]);
    *f = (struct splice_feed){.mode = mode, .overlap = overlap};
}

void splice_feed_share(struct splice_feed *f)
{
    if (f->mode != FEED_REBASED) /* its times cannot be compared with another link's */
        f->mode = FEED_SHARED;
    f->overlap = false;
}

bool splice_caught_up(const struct splice *s, const struct splice_feed *f)
{
    bool any = false;
    if (f->mode != FEED_SHARED)
        return f->began;
    for (int c = CLASS_AUDIO; c <= CLASS_VIDEO; c++) {
        if (!s->passed[c].seen)
            continue;
        if (!f->joined[c] && !spans(s, f))
            return false;
        any = true;
    }
    return any;
}

void splice_feed_expect(struct splice_feed *f, uint32_t time)
{
    f->expects = true;
    f->expected_time = time;
}

void splice_feed_alone(struct splice_feed *f)
{
    if (f->mode == FEED_SHARED)
        f->mode = FEED_JOINING;
    f->overlap = false;
}

void splice_forget(struct splice *s)
{
    forget_times(s);
    s->state_count = 0;
}
