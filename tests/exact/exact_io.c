/* A publisher of numbered, checksummed messages and players that look at each one that arrives:
 * many streams and players in one process, for the drills of tests/system/test_rehoming.py.
 *   exact PORT STREAMS PLAYERS SECONDS [key=value ...]
 * gop=MS (2000), bytes=N of a frame (2000), kind=av|a|v, codec=avc|hevc|av1 (with AAC, AAC, Opus),
 * app=NAME (live), name=PREFIX, time=FIRST (1000), drain=MS (3000) from the last message sent to
 * the end, more while something is missing and does come, stagger=MS between players (20), twice=1:
 * two messages at each time, slow=N: the first player of each stream reads N bytes a second until
 * the end, peers=1: a line with what each connection saw, before the last. Begins with "ready" when
 * every player has media; SIGTERM ends it early. The last line is JSON: what was lost, repeated,
 * corrupt, back in time, shifted in time, how many connections ended. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock_io.h"
#include "base/limits.h"
#include "router/node_link.h"

enum {
    FRAME_MS = 40,
    AUDIO_MS = 23,
    TICK_MS = 5,
    HEAD_BYTES = 5, /* of a frame: FLV header and composition time, or FourCC */
    FRAME_MAX = 256 * 1024,
    GAPS_MAX = 65536,
    GAP_SEEN_MS = 50, /* shorter ones are how frames come */
    DRAIN_SILENT = 5, /* times drain=MS without any media: what is missing then is lost */
};

enum { AUDIO = 0, VIDEO, KINDS };

/* First bytes of keyframes, other frames and audio frames; the sequence headers. */
struct codec {
    const char *name;
    uint8_t key[HEAD_BYTES], inter[HEAD_BYTES], audio[HEAD_BYTES];
    uint8_t video_header[12], audio_header[8];
    uint8_t audio_header_len;
};

static const struct codec codecs[] = {
    {.name = "avc",
     .key = {0x17, 1},
     .inter = {0x27, 1},
     .audio = {0xaf, 1},
     .video_header = {0x17, 0, 0, 0, 0, 1, 0x42, 0xc0, 0x1e, 0xff, 0xe0},
     .audio_header = {0xaf, 0, 0x12, 0x10},
     .audio_header_len = 4},
    {.name = "hevc", /* Enhanced RTMP: CodedFramesX */
     .key = {0x93, 'h', 'v', 'c', '1'},
     .inter = {0xa3, 'h', 'v', 'c', '1'},
     .audio = {0xaf, 1},
     .video_header = {0x90, 'h', 'v', 'c', '1', 1, 1, 0x60},
     .audio_header = {0xaf, 0, 0x12, 0x10},
     .audio_header_len = 4},
    {.name = "av1", /* Enhanced RTMP: CodedFrames, for audio too */
     .key = {0x91, 'a', 'v', '0', '1'},
     .inter = {0xa1, 'a', 'v', '0', '1'},
     .audio = {0x91, 'O', 'p', 'u', 's'},
     .video_header = {0x90, 'a', 'v', '0', '1', 0x81, 0x05, 0x0c},
     .audio_header = {0x90, 'O', 'p', 'u', 's', 'O', 'p', 'u'},
     .audio_header_len = 8},
};

struct sent { /* of one stream and kind: the time of each message */
    uint32_t *times;
    uint32_t count, cap;
};

struct peer;
struct stream {
    char name[64];
    struct sent sent[KINDS];
    uint64_t next_ms[KINDS];
    uint32_t time_at_start;
    uint64_t started_ms;
    uint32_t groups;
};

/* What was wrong with what a player received. */
struct faults {
    uint64_t lost;    /* between what it has */
    uint64_t missing; /* behind the last it has */
    uint64_t repeated, corrupt, back, shifted;
};

struct peer {
    struct node_link link;
    struct stream *stream;
    bool player, live, ended;
    struct faults faults;
    int fd;
    unsigned port; /* our own */
    ev_io rd, wr;
    struct block *in;
    bool any[KINDS];
    uint32_t next[KINDS], last_time[KINDS];
    uint64_t media_ms;
    bool slow;
    uint32_t budget; /* bytes it may read now */
};

static struct {
    struct ev_loop *loop;
    struct block_pool blocks;
    struct rtmp_pool pool;
    struct rtmp_chunk_limits limits;
    uint8_t noise[RTMP_HANDSHAKE_BYTES];
    int port;
    uint32_t streams, players, peers;
    uint32_t gop_ms, frame_bytes, first_time, drain_ms, stagger_ms, twice, slow;
    bool kinds[KINDS];
    char app[32], prefix[32];
    struct stream *stream;
    struct peer *peer;
    uint64_t end_ms, media_ms; /* when the last media came to anybody */
    bool stopped, ready;
    const struct codec *codec;
    bool peer_lines;
    uint64_t disconnects, refused, received, ends;
    uint32_t gaps[GAPS_MAX];
    uint32_t gap_count, worst_gap;
} t;

static void die(const char *what)
{
    fprintf(stderr, "exact: %s: %s\n", what, strerror(errno));
    exit(2);
}

/* ---- what is sent, and looked at ---- */

static uint32_t checksum(const uint8_t *p, size_t n)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 16777619u;
    return h;
}

static void put_u32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static uint32_t get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* head, stream, number, filler, checksum of all in front of it */
static size_t make_frame(uint8_t *buf, int kind, bool key, uint32_t stream, uint32_t number)
{
    const size_t len = kind == VIDEO ? t.frame_bytes * (key ? 3 : 1) : 180;
    memset(buf, (int)(number & 0x7f), len);
    memcpy(buf, kind == AUDIO ? t.codec->audio : key ? t.codec->key : t.codec->inter, HEAD_BYTES);
    put_u32(buf + HEAD_BYTES, stream);
    put_u32(buf + HEAD_BYTES + 4, number);
    put_u32(buf + len - 4, checksum(buf, len - 4));
    return len;
}

static void send_bytes(struct peer *p, uint8_t type, uint32_t time, const void *buf, size_t len)
{
    struct rtmp_msg *m = rtmp_msg_from_bytes(&t.pool, type, 1, time, buf, len);
    if (!m || node_link_send(&p->link, m) != ERR_OK)
        die("send");
    rtmp_msg_unref(m);
}

static void send_one(struct peer *p, int kind, uint32_t time)
{
    static uint8_t buf[FRAME_MAX];
    struct stream *st = p->stream;
    struct sent *s = &st->sent[kind];
    const bool key = kind == VIDEO && time - st->time_at_start >= st->groups * t.gop_ms;
    st->groups += key;
    if (s->count == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 1024;
        s->times = realloc(s->times, s->cap * sizeof *s->times);
        if (!s->times)
            die("memory");
    }
    s->times[s->count] = time;
    const size_t len = make_frame(buf, kind, key, (uint32_t)(st - t.stream), s->count++);
    send_bytes(p, kind == VIDEO ? RTMP_VIDEO : RTMP_AUDIO, time, buf, len);
}

static void send_due(struct peer *p, uint64_t now_ms)
{
    struct stream *st = p->stream;
    static const uint32_t every[KINDS] = {[AUDIO] = AUDIO_MS, [VIDEO] = FRAME_MS};
    for (int kind = 0; kind < KINDS; kind++) {
        while (t.kinds[kind] && st->next_ms[kind] <= now_ms) {
            const uint32_t time =
                st->time_at_start + (uint32_t)(st->next_ms[kind] - st->started_ms);
            for (uint32_t i = 0; i <= t.twice; i++)
                send_one(p, kind, time);
            st->next_ms[kind] += every[kind];
        }
    }
}

static void start_stream(struct peer *p)
{
    static const uint8_t meta[] =
        "\x02\x00\x0d@setDataFrame\x02\x00\x0aonMetaData\x08\x00\x00\x00\x01"
        "\x00\x05width\x00\x40\x74\x00\x00\x00\x00\x00\x00\x00\x00\x09";
    struct stream *st = p->stream;
    st->started_ms = st->next_ms[AUDIO] = st->next_ms[VIDEO] = clock_mono_ms();
    st->time_at_start = t.first_time;
    send_bytes(p, RTMP_DATA_AMF0, st->time_at_start, meta, sizeof meta - 1);
    if (t.kinds[VIDEO])
        send_bytes(p, RTMP_VIDEO, st->time_at_start, t.codec->video_header,
                   sizeof t.codec->video_header);
    if (t.kinds[AUDIO])
        send_bytes(p, RTMP_AUDIO, st->time_at_start, t.codec->audio_header,
                   t.codec->audio_header_len);
}

static void note_gap(struct peer *p, uint64_t now_ms)
{
    const uint64_t gap = p->media_ms ? now_ms - p->media_ms : 0;
    p->media_ms = t.media_ms = now_ms;
    if (t.stopped || gap < GAP_SEEN_MS)
        return;
    if (gap > t.worst_gap)
        t.worst_gap = (uint32_t)gap;
    if (t.gap_count < GAPS_MAX)
        t.gaps[t.gap_count++] = (uint32_t)gap;
}

static bool is_header(int kind, const uint8_t *buf, size_t len)
{
    const uint8_t *header = kind == VIDEO ? t.codec->video_header : t.codec->audio_header;
    return len >= 2 && memcmp(buf, header, 2) == 0;
}

static void look_at(struct peer *p, struct rtmp_msg *m, uint64_t now_ms)
{
    static uint8_t buf[FRAME_MAX];
    const int kind = m->type == RTMP_VIDEO ? VIDEO : AUDIO;
    if (m->type != RTMP_VIDEO && m->type != RTMP_AUDIO)
        return;
    const size_t len = rtmp_msg_peek(m, buf, sizeof buf);
    if (is_header(kind, buf, len))
        return;
    const uint32_t number = len > 16 ? get_u32(buf + HEAD_BYTES + 4) : 0;
    const struct sent *s = &p->stream->sent[kind];
    struct faults *f = &p->faults;
    t.received++;
    note_gap(p, now_ms);
    if (len <= 16 || get_u32(buf + len - 4) != checksum(buf, len - 4) ||
        get_u32(buf + HEAD_BYTES) != (uint32_t)(p->stream - t.stream) || number >= s->count) {
        f->corrupt++;
        return;
    }
    if (p->any[kind] && number != p->next[kind]) {
        const bool again = number < p->next[kind];
        fprintf(stderr, "exact: %s player %ld kind %d: %u, expected %u\n", p->stream->name,
                (long)(p - t.peer), kind, number, p->next[kind]);
        if (again)
            f->repeated++;
        else
            f->lost += number - p->next[kind];
    }
    f->shifted += s->times[number] != m->timestamp;
    f->back += p->any[kind] && (int32_t)(m->timestamp - p->last_time[kind]) < 0;
    p->any[kind] = true;
    p->last_time[kind] = m->timestamp;
    if (number >= p->next[kind])
        p->next[kind] = number + 1;
}

/* ---- sockets ---- */

static void end_peer(struct peer *p)
{
    if (p->ended)
        return;
    p->ended = true;
    if (!t.stopped || t.drain_ms) {
        t.disconnects++;
        fprintf(stderr, "exact: %s %s %ld disconnected\n", p->stream->name,
                p->player ? "player" : "publisher", (long)(p - t.peer));
    }
    ev_io_stop(t.loop, &p->rd);
    ev_io_stop(t.loop, &p->wr);
    close(p->fd);
}

static void flush(struct peer *p)
{
    struct iovec iov[64];
    size_t n;
    while (!p->ended && (n = rtmp_chunk_writer_iov(&p->link.link.out, iov, 64, 1 << 18)) > 0) {
        const struct msghdr m = {.msg_iov = iov, .msg_iovlen = n};
        const ssize_t done = sendmsg(p->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (done < 0 && errno == EAGAIN) {
            ev_io_start(t.loop, &p->wr);
            return;
        }
        if (done < 0) {
            end_peer(p);
            return;
        }
        rtmp_chunk_writer_advance(&p->link.link.out, (size_t)done);
    }
    ev_io_stop(t.loop, &p->wr);
}

static void on_event(struct peer *p, struct node_event *ev, uint64_t now_ms)
{
    if (ev->kind == NODE_EV_STARTED) {
        p->link.state = NODE_LIVE;
        if (!p->player && !p->live)
            start_stream(p);
        p->live = true;
    } else if (ev->kind == NODE_EV_REFUSED) {
        t.refused++;
    } else if (ev->kind == NODE_EV_MEDIA && p->player) {
        look_at(p, ev->msg, now_ms);
    } else if (ev->kind == NODE_EV_USER && p->player) {
        uint8_t user[2];
        if (rtmp_msg_peek(ev->msg, user, 2) == 2 && user[1] == RTMP_STREAM_EOF && !t.stopped)
            t.ends++;
    }
    rtmp_msg_unref(ev->msg);
}

static bool read_once(struct peer *p)
{
    if (p->in && p->in->cap - p->in->used < 4096) {
        block_unref(p->in);
        p->in = NULL;
    }
    if (!p->in && !(p->in = block_create(&t.blocks, BLOCK_BYTES)))
        die("memory");
    if (p->in->refs == 1)
        p->in->used = 0;
    size_t room = p->in->cap - p->in->used;
    if (p->slow && room > p->budget)
        room = p->budget;
    if (room == 0) {
        ev_io_stop(t.loop, &p->rd);
        return false;
    }
    const ssize_t n = read(p->fd, p->in->data + p->in->used, room);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0) {
        end_peer(p);
        return false;
    }
    if (p->slow)
        p->budget -= (uint32_t)n;
    struct slice in = {.block = p->in, .off = p->in->used, .len = (uint32_t)n};
    p->in->used += (uint32_t)n;
    struct node_event ev;
    enum parse_result r;
    while ((r = node_link_next(&p->link, &in, &ev)) == PARSE_OK)
        on_event(p, &ev, clock_mono_ms());
    if (r == PARSE_BAD) {
        p->faults.corrupt++;
        end_peer(p);
    }
    return !p->ended;
}

static void on_readable(struct ev_loop *loop, ev_io *w, int events)
{
    (void)loop;
    (void)events;
    struct peer *p = w->data;
    while (read_once(p))
        ;
    flush(p);
}

static void on_writable(struct ev_loop *loop, ev_io *w, int events)
{
    (void)loop;
    (void)events;
    flush(w->data);
}

static struct rtmp_msg *command_of(const struct peer *p)
{
    uint8_t buf[512];
    struct wr w = wr_over(buf, sizeof buf);
    if (p->player)
        rtmp_write_play(&w, 4, p->stream->name, -1000);
    else
        rtmp_write_publish(&w, 4, p->stream->name, "live");
    return rtmp_msg_from_bytes(&t.pool, RTMP_COMMAND_AMF0, 1, 0, buf, w.len);
}

static void open_peer(struct peer *p, struct stream *st, bool player)
{
    const struct sockaddr_in addr = {.sin_family = AF_INET,
                                     .sin_port = htons((uint16_t)t.port),
                                     .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int one = 1;
    char url[64];
    uint8_t connect_buf[512];
    struct wr w = wr_over(connect_buf, sizeof connect_buf);
    *p = (struct peer){.stream = st, .player = player};
    p->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (p->fd < 0 || connect(p->fd, (const struct sockaddr *)&addr, sizeof addr) < 0)
        die("connect");
    struct sockaddr_in own = {0};
    socklen_t own_len = sizeof own;
    if (fcntl(p->fd, F_SETFL, O_NONBLOCK) < 0 ||
        getsockname(p->fd, (struct sockaddr *)&own, &own_len) < 0)
        die("socket");
    p->port = ntohs(own.sin_port);
    setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    snprintf(url, sizeof url, "rtmp://127.0.0.1/%s", t.app);
    rtmp_write_connect(&w, 1, t.app, url, "exact");
    struct rtmp_msg *command = command_of(p);
    node_link_open(&p->link, &t.pool, &t.limits, command);
    rtmp_msg_unref(command);
    const struct node_hello hello = {
        .noise = t.noise, .connect = connect_buf, .connect_len = w.len};
    if (node_link_connected(&p->link, &hello) != ERR_OK)
        die("hello");
    ev_io_init(&p->rd, on_readable, p->fd, EV_READ);
    ev_io_init(&p->wr, on_writable, p->fd, EV_WRITE);
    p->rd.data = p->wr.data = p;
    ev_io_start(t.loop, &p->rd);
    flush(p);
}

/* ---- time ---- */

static void check_ready(void)
{
    for (uint32_t i = 0; i < t.peers; i++) {
        const struct peer *p = &t.peer[i];
        if (p->player && ((t.kinds[VIDEO] && !p->any[VIDEO]) || (t.kinds[AUDIO] && !p->any[AUDIO])))
            return;
    }
    if (t.peers < t.streams * (t.players + 1))
        return;
    t.ready = true;
    puts("ready");
    fflush(stdout);
}

/* A player whose publisher has gone waits for nothing. */
static bool all_arrived(void)
{
    for (uint32_t i = t.streams; i < t.peers; i++) {
        const struct peer *p = &t.peer[i];
        if (p->ended || t.peer[p->stream - t.stream].ended)
            continue;
        for (int kind = 0; kind < KINDS; kind++)
            if (p->any[kind] && p->next[kind] < p->stream->sent[kind].count)
                return false;
    }
    return true;
}

/* On a busy machine what was sent last may be on its way for long, most of all in the middle of a
 * move. */
static bool drained(uint64_t now_ms)
{
    const uint64_t since_ms = t.media_ms > t.end_ms ? t.media_ms : t.end_ms;
    return now_ms >= t.end_ms + t.drain_ms &&
           (all_arrived() || now_ms >= since_ms + (uint64_t)DRAIN_SILENT * t.drain_ms);
}

static void on_tick(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)timer;
    (void)events;
    const uint64_t now = clock_mono_ms();
    static uint64_t next_player_ms;
    if (!t.stopped && now >= t.end_ms) {
        t.stopped = true;
        t.end_ms = now;
    }
    for (uint32_t i = 0; i < t.peers && !t.stopped; i++) {
        struct peer *p = &t.peer[i];
        if (p->player || !p->live || p->ended)
            continue;
        send_due(p, now);
        flush(p);
    }
    for (uint32_t i = 0; i < t.peers && t.slow; i++) {
        struct peer *p = &t.peer[i];
        p->budget += (uint32_t)((uint64_t)t.slow * TICK_MS / 1000);
        p->slow = p->slow && !t.stopped;
        if (!p->ended && !ev_is_active(&p->rd))
            ev_io_start(loop, &p->rd);
    }
    if (t.stopped && drained(now))
        ev_break(loop, EVBREAK_ALL);
    if (t.peers < t.streams * (t.players + 1) && now >= next_player_ms && !t.stopped) {
        const uint32_t i = t.peers++ - t.streams;
        next_player_ms = now + t.stagger_ms;
        open_peer(&t.peer[i + t.streams], &t.stream[i % t.streams], true);
        t.peer[i + t.streams].slow = t.slow != 0 && i < t.streams;
    }
    if (!t.ready)
        check_ready();
}

static void on_term(struct ev_loop *loop, ev_signal *w, int events)
{
    (void)loop;
    (void)w;
    (void)events;
    t.end_ms = 0;
}

static int by_size(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* What was sent and never came. */
static void note_missing(struct peer *p, int kind)
{
    const uint32_t count = p->stream->sent[kind].count;
    if (p->next[kind] >= count)
        return;
    fprintf(stderr, "exact: %s player %ld kind %d: ends at %u of %u\n", p->stream->name,
            (long)(p - t.peer), kind, p->next[kind], count);
    p->faults.missing += count - p->next[kind];
}

static void report_peers(void)
{
    for (uint32_t i = 0; i < t.peers; i++) {
        const struct peer *p = &t.peer[i];
        const struct faults *f = &p->faults;
        printf(
            "%s{\"port\": %u, \"stream\": \"%s\", \"player\": %s, \"ended\": %s, \"lost\": %llu, "
            "\"missing\": %llu, \"repeated\": %llu, \"corrupt\": %llu, \"back\": %llu, "
            "\"shifted\": %llu}",
            i ? ", " : "[", p->port, p->stream->name, p->player ? "true" : "false",
            p->ended ? "true" : "false", (unsigned long long)f->lost,
            (unsigned long long)f->missing, (unsigned long long)f->repeated,
            (unsigned long long)f->corrupt, (unsigned long long)f->back,
            (unsigned long long)f->shifted);
    }
    puts("]");
}

static void report(void)
{
    uint64_t sent = 0, silent = 0;
    struct faults all = {0};
    for (uint32_t i = 0; i < t.peers; i++) {
        struct peer *p = &t.peer[i];
        for (int kind = 0; kind < KINDS; kind++) {
            if (!p->player)
                sent += p->stream->sent[kind].count;
            else if (!p->any[kind])
                silent += t.kinds[kind];
            else
                note_missing(p, kind);
        }
        all.lost += p->faults.lost + p->faults.missing;
        all.repeated += p->faults.repeated;
        all.corrupt += p->faults.corrupt;
        all.back += p->faults.back;
        all.shifted += p->faults.shifted;
    }
    if (t.peer_lines)
        report_peers();
    qsort(t.gaps, t.gap_count, sizeof t.gaps[0], by_size);
    printf("{\"sent\": %llu, \"received\": %llu, \"lost\": %llu, \"repeated\": %llu, \"corrupt\": "
           "%llu, \"back\": %llu, \"shifted\": %llu, \"disconnects\": %llu, \"refused\": %llu, "
           "\"ends\": %llu, \"silent\": %llu, \"gaps\": %u, \"gap_median\": %u, \"gap_worst\": "
           "%u}\n",
           (unsigned long long)sent, (unsigned long long)t.received, (unsigned long long)all.lost,
           (unsigned long long)all.repeated, (unsigned long long)all.corrupt,
           (unsigned long long)all.back, (unsigned long long)all.shifted,
           (unsigned long long)t.disconnects, (unsigned long long)t.refused,
           (unsigned long long)t.ends, (unsigned long long)silent, t.gap_count,
           t.gap_count ? t.gaps[t.gap_count / 2] : 0, t.worst_gap);
    fflush(stdout);
}

static bool find_codec(const char *name)
{
    for (size_t i = 0; i < sizeof codecs / sizeof codecs[0]; i++)
        if (strcmp(codecs[i].name, name) == 0)
            t.codec = &codecs[i];
    return strcmp(t.codec->name, name) == 0;
}

static bool option(const char *arg)
{
    const char *value = strchr(arg, '=');
    if (!value)
        return false;
    const size_t n = (size_t)(value++ - arg);
    const uint32_t number = (uint32_t)strtoul(value, NULL, 10);
    struct {
        const char *name;
        uint32_t *to;
    } numbers[] = {{"gop", &t.gop_ms},     {"bytes", &t.frame_bytes},  {"time", &t.first_time},
                   {"drain", &t.drain_ms}, {"stagger", &t.stagger_ms}, {"twice", &t.twice},
                   {"slow", &t.slow}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (strlen(numbers[i].name) == n && memcmp(arg, numbers[i].name, n) == 0) {
            *numbers[i].to = number;
            return true;
        }
    }
    if (strncmp(arg, "kind=", 5) == 0) {
        t.kinds[AUDIO] = strchr(value, 'a') != NULL;
        t.kinds[VIDEO] = strchr(value, 'v') != NULL;
        return true;
    }
    if (strncmp(arg, "codec=", 6) == 0)
        return find_codec(value);
    if (strcmp(arg, "peers=1") == 0) {
        t.peer_lines = true;
        return true;
    }
    if (strncmp(arg, "app=", 4) == 0) {
        snprintf(t.app, sizeof t.app, "%s", value);
        return true;
    }
    if (strncmp(arg, "name=", 5) == 0) {
        snprintf(t.prefix, sizeof t.prefix, "%s", value);
        return true;
    }
    return false;
}

int main(int argc, char **argv)
{
    t.gop_ms = 2000;
    t.frame_bytes = 2000;
    t.first_time = 1000;
    t.drain_ms = 3000;
    t.stagger_ms = 20;
    t.kinds[AUDIO] = t.kinds[VIDEO] = true;
    t.codec = &codecs[0];
    snprintf(t.app, sizeof t.app, "live");
    snprintf(t.prefix, sizeof t.prefix, "exact");
    for (int i = 5; i < argc; i++)
        if (!option(argv[i]))
            argc = 0;
    if (argc < 5) {
        fputs("usage: exact PORT STREAMS PLAYERS SECONDS [key=value ...]\n", stderr);
        return 2;
    }
    t.port = atoi(argv[1]);
    t.streams = (uint32_t)atoi(argv[2]);
    t.players = (uint32_t)atoi(argv[3]);
    t.end_ms = clock_mono_ms() + 1000 * (uint64_t)atoi(argv[4]);
    t.limits = (struct rtmp_chunk_limits){.message_bytes = 1 << 22,
                                          .unfinished_bytes = 1 << 23,
                                          .chunk_streams = 64,
                                          .chunk_bytes = RTMP_CHUNK_BYTES_MAX};
    block_pool_init(&t.blocks, 0);
    rtmp_pool_init(&t.pool, &t.blocks);
    t.stream = calloc(t.streams, sizeof *t.stream);
    t.peer = calloc(t.streams * (t.players + 1), sizeof *t.peer);
    t.loop = ev_default_loop(0);
    if (!t.stream || !t.peer || !t.loop)
        die("memory");
    for (uint32_t i = 0; i < t.streams; i++) {
        snprintf(t.stream[i].name, sizeof t.stream[i].name, "%s%u", t.prefix, i);
        open_peer(&t.peer[t.peers++], &t.stream[i], false);
    }
    ev_timer tick;
    ev_signal term;
    ev_timer_init(&tick, on_tick, TICK_MS / 1000.0, TICK_MS / 1000.0);
    ev_signal_init(&term, on_term, SIGTERM);
    ev_timer_start(t.loop, &tick);
    ev_signal_start(t.loop, &term);
    ev_run(t.loop, 0);
    report();
    return 0;
}
