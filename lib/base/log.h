/* base/log.h - log lines on a descriptor, one write(2) each: logfmt or the same keys as JSON.
 *   ts=2026-01-31T20:15:00.123Z level=info event=stream_placed sid=4f21 app=live stream=#9c1e node=n3 reason=hash
 * Events are stable noun_verb names; keys come from enum log_key. Whatever a peer gave passes log_quote(): control bytes, quotes
 * and non-UTF-8 are escaped and the value is cut at LOG_VALUE_MAX, so that no peer can forge a line. Never tokens.
 * Owner:  main() makes one per process.   Errors: a line that cannot be written is dropped, counted and told of as soon as one can be.
 * Tests:  tests/unit/base/test_log.c */
#ifndef WEIR_BASE_LOG_H
#define WEIR_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_ERROR = 0, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum { LOG_LEVEL_COUNT = LOG_DEBUG + 1 };
enum log_format { LOG_LOGFMT = 0, LOG_JSON };

enum log_event {
    EV_ROUTER_STARTED = 0,
    EV_ROUTER_STOPPING,
    EV_ROUTER_STOPPED,
    EV_WORKER_STARTED,
    EV_WORKER_EXITED,   /* the parent saw it end */
    EV_WORKER_HUNG,     /* its loop stood still; the parent kills it */
    EV_WORKER_STOOD_STILL, /* its loop did not turn for a while, and goes on */
    EV_WORKER_CLEANED,  /* a new worker took over its predecessor's records */
    EV_CONFIG_RELOADED,
    EV_CONFIG_REFUSED,
    EV_NODES_CHANGED,   /* a new node list is in force */
    EV_NODE_UNRESOLVED, /* its host name has no address */
    EV_PANIC_ENTERED,   /* too few nodes are up: place on all */
    EV_PANIC_LEFT,
    EV_STORE_FAILED,    /* cannot be reached: go on with what we know */
    EV_STORE_RECOVERED,
    EV_STREAM_PLACED,
    EV_STREAM_RETRIED,  /* this node failed before the client was told: next one */
    EV_STREAM_TAKEN_OVER,
    EV_PLAYER_MOVED,    /* a waiting player attached to the node where its stream turned up */
    EV_STREAM_MOVING,   /* a live stream leaves its node; reason: why */
    EV_STREAM_MOVED,    /* and goes on at another one, ms later */
    EV_PLAYER_REHOMED,  /* a player has media from there, ms after the last */
    EV_SESSION_CLOSED,  /* the one closing line of a session */
    EV_CONNECTION_REFUSED, /* limits, PROXY header: before there was a session */
    EV_LINES_SUPPRESSED,   /* so many of the two for that reason within a second, over log.unrouted */
    EV_LINES_LOST, /* so many that whoever reads the log had left no room for */
    EV_HEALTHD_STARTED,
    EV_HEALTHD_STOPPED,
    EV_HEALTHD_ACTIVE,  /* it has the lease: its verdicts count */
    EV_HEALTHD_STANDBY, /* another one has it */
    EV_CHECKS_IMPOSSIBLE, /* for what this machine lacks; verdicts stay as they are */
    EV_NODE_VERDICT,    /* a node's health changed */
    EV_NODE_SKEW,       /* it differs from most others in version or applications, or no longer does */
    EV_NODE_RELOADED,   /* a new generation of its server process */
    EV_ADMIN_STARTED,
    EV_ADMIN_STOPPED,
    EV_API_CHANGE, /* somebody changed something through the API: the audit line */
    EV_API_DENIED, /* a bad token; at most one line a second */
};
enum { LOG_EVENT_COUNT = EV_API_DENIED + 1 };

enum log_key {
    K_SID = 0, /* session id */
    K_WORKER,
    K_PID,
    K_CLIENT, /* address the client's, behind HAProxy from the PROXY header */
    K_APP,
    K_STREAM, /* "#" and 8 hex digits, or the stream key with log.stream_names */
    K_KIND,   /* publish, play */
    K_NODE,
    K_ADDRESS,
    K_REASON,
    K_WHY, /* enum close_why */
    K_DETAIL,
    K_STATE,
    K_MS,
    K_SETUP_MS,
    K_DURATION_MS,
    K_BYTES_IN,  /* from the client */
    K_BYTES_OUT, /* to the client */
    K_TRIES,
    K_REHOMES,
    K_EPOCH,
    K_COUNT,
    K_VERSION,
    K_FILE,
    K_ERROR,
    K_SIGNAL,
    K_STATUS, /* exit status */
    K_CODE,   /* an RTMP status code */
    K_FLASH_VER,
    K_NODES,
    K_WORKERS,
    K_PREVIOUS, /* the value before */
    K_LATENCY_US,
    K_SESSIONS,
    K_USER,      /* name of the API token */
    K_METHOD,
    K_PATH,      /* of the route: never with a stream's name */
    K_FORWARDED, /* X-Forwarded-For */
};
enum { LOG_KEY_COUNT = K_FORWARDED + 1 };

struct log {
    int fd;
    enum log_level level; /* the highest that is written */
    enum log_format format;
    bool stream_names;
    int worker; /* -1: no worker= in the lines */
    uint64_t lines, dropped;
    uint64_t dropped_said;    /* of them, by EV_LINES_LOST */
    uint64_t dropped_counted; /* of them, by log_count_lost() */
};

struct log_field {
    enum log_key key;
    enum { LOG_F_TEXT, LOG_F_U64, LOG_F_I64 } type;
    const char *text;
    size_t len;
    uint64_t u;
    int64_t i;
};

static inline struct log_field log_text_n(enum log_key k, const void *s, size_t len)
{
    return (struct log_field){.key = k, .type = LOG_F_TEXT, .text = s, .len = len};
}
struct log_field log_text(enum log_key k, const char *s); /* NULL reads as "" */
static inline struct log_field log_u64(enum log_key k, uint64_t v)
{
    return (struct log_field){.key = k, .type = LOG_F_U64, .u = v};
}
static inline struct log_field log_i64(enum log_key k, int64_t v)
{
    return (struct log_field){.key = k, .type = LOG_F_I64, .i = v};
}

void log_init(struct log *l, int fd, enum log_level level, enum log_format format);
/* fd's pipe, opened a second time so that no write to it waits, though others have it too; fd itself where that cannot be or
 * it is no pipe: sockets are never waited for, files need not be. For the process's life, across fork. */
int log_open(int fd);
/* Fields with an empty text are left out. */
void log_write(struct log *l, enum log_level level, enum log_event event, const struct log_field *f, size_t n);
/* A macro because the field count has to be taken from the list. */
#define LOG(l, level, event, ...)                                                                  \
    log_write(l, level, event, (const struct log_field[]){__VA_ARGS__},                            \
              sizeof((const struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field))

/* Lines lost since it was asked last, for a process's counter. */
uint64_t log_count_lost(struct log *l);
/* The line without writing it (now_ms: Unix time); returns its length, newline included. buf: LOG_LINE_MAX. */
size_t log_format_line(const struct log *l, uint64_t now_ms, enum log_level level, enum log_event event,
                       const struct log_field *f, size_t n, char *buf);
/* Text for a line in the log's format: bare if it needs no quotes. Returns the length; never over cap. */
size_t log_quote(enum log_format format, const char *s, size_t len, char *buf, size_t cap);
const char *log_level_name(enum log_level level);
const char *log_event_name(enum log_event e);
const char *log_key_name(enum log_key k);

#endif
