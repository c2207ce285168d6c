/* router/worker_io.h - one worker: one process, one thread, one event loop, with everything its
 * sessions share. Owner: worker_run() makes it and frees it.   Used by the other *_io.c files of a
 * worker only. */
#ifndef WEIR_ROUTER_WORKER_IO_H
#define WEIR_ROUTER_WORKER_IO_H

#include <ev.h>

#include "base/clock_io.h"
#include "base/run_clock.h"
#include "cluster/store.h"
#include "cluster/store_outage.h"
#include "router/admission.h"
#include "router/listen_io.h"
#include "router/rest.h"
#include "router/session.h"
#include "router/setups.h"
#include "router/shared.h"
#include "router/stream_index.h"

struct session_conn;

enum {
    RUN_BATCH = 16,               /* sessions whose data leave together, at most */
    RUN_BATCH_BYTES = 128 * 1024, /* what they have read: still in the cache when it is sent */
};

struct worker_listener {
    ev_io watcher;
    struct worker *worker;
    uint32_t index; /* of config.router.listen */
    int fd;
    /* its own copy: listeners do not change at a reload */
    struct config_listen conf;
};

struct worker {
    struct ev_loop *loop;
    struct config *config; /* owned; replaced at a reload */
    struct session_env env;
    struct link_ends ends;
    struct run_clock clock; /* of all sessions; see worker_now_ms() */
    uint64_t lost_ms;       /* of it, that has been logged */
    struct log log;
    struct block_pool blocks;
    struct rtmp_pool messages;
    struct block *spare; /* the next read goes here if its link holds no block */

    struct worker_id id;
    uint32_t worker_count, index; /* of them, from 0 */
    uint32_t first_slot;          /* id.slot of the first one */
    struct shared *shared;
    const int *doorbells; /* eventfds, by index */

    struct store *store; /* NULL: could not be opened */
    struct store_outage outage;
    bool store_missed; /* something may not have been written since the last reconcile() */
    bool missed_more;  /* which had no time for all of it */
    struct node_table *nodes;
    bool panic;
    double moves_allowed;          /* planned moves that may begin now */
    uint64_t moves_until_ms;       /* something has changed: look for streams to move until then */
    uint64_t moves_rest_until_ms;  /* there were none to move */
    struct closing *lingers; /* connections to nodes that are being closed (linger_io.c) */
    uint32_t linger_count;
    struct session_conn *moves_at; /* the player that is looked at next; NULL: the first one */
    uint64_t moves_version;        /* of the node list when that was looked at */
    uint64_t change_seq;
    bool reading_changes;
    bool absent; /* without a heartbeat for so long that others may have taken us for dead, and what
                    we have in the store away */
    uint64_t beat_ms, beating_since_ms; /* monotonic: the last one written, and without a gap */
    bool recheck_due; /* a claim could not be read: those of all our streams are to be asked for */
    uint64_t next_session_id;
    uint32_t session_ids_left;
    struct process_record process; /* heartbeat and counters */

    struct admission admission;
    struct stream_index streams;
    ev_idle tell;                                      /* while there is STREAM_TELL to do */
    uint64_t tell_until_us;                            /* monotonic; the rest in the next turn */
    struct stream_index shares;                        /* struct shared_stream */
    struct session_conn *deliver_first, *deliver_last; /* have something to be sent */
    ev_idle deliver;                                   /* while there are any */
    bool delivering;
    struct session_conn *conns;                          /* doubly linked list */
    struct session_conn *unrouted_first, *unrouted_last; /* those without a stream, oldest first */
    struct session_conn *refresh_at;                     /* whose counters are written next */
    uint32_t refresh_waits;                              /* turns without a refresh */
    struct session_conn *dead;                           /* freed at the end of the loop turn */
    struct setups setups;
    uint32_t conn_count;
    struct session_conn *soon[RUN_BATCH]; /* have read something that is to be sent in this turn */
    uint32_t soon_count, soon_bytes;
    uint32_t relay_events; /* of sockets of sessions that relay, since the last poll */
    bool setting_up;       /* in this turn there was news for a session that does not relay yet */
    struct rest rest;

    struct worker_listener listeners[LISTENERS_MAX];
    uint32_t listener_count;
    ev_timer poll, second, accept_pause, grace;
    ev_io doorbell;
    ev_signal hup, term;
    ev_prepare turn_end;
    ev_check turn_begin;
    uint64_t turn_began_us;
    uint64_t cpu_us, cpu_at_us; /* CPU time of the thread as asked last, and when; 0: not asked */
    uint64_t cpu_asked_until_us;
    uint32_t turn_max_us; /* since the last heartbeat, by wall clock */
    uint32_t ticks;
    bool hints_left;        /* more of them are due to go than went the last time */
    bool dead_left;         /* so are records of dead workers */
    uint64_t clock_set_ms;  /* worker_now_ms() when the wall clock was set, or we stood still */
    uint64_t clock_step_ms; /* by how much, if it was set forward; of several in turn the longest */
    bool stopping;
    int exit_code;
    uint32_t unrouted_lines[WHY_COUNT]; /* wanted this second, by reason: log.unrouted of them go */
};

/* The time of sessions, and of all that a peer has only so long for. */
static inline uint64_t worker_now_ms(struct worker *w)
{
    return run_clock_ms(&w->clock, clock_mono_ms());
}

/* The time to read claims at: Unix ms, but for some seconds after the clock was set forward the
 * time that it was before. A worker that has not yet told the store of its new time would seem
 * dead, and its streams be looked for elsewhere. */
uint64_t worker_claims_ms(struct worker *w);

/* Never returns before the worker is done; the exit code. Takes over `config`. log_fd: the
 * parent's, opened before privileges were dropped. */
int worker_run(struct config *config, const struct listen_set *set, struct shared *shared,
               const int *doorbells, uint32_t index, uint32_t first_slot, uint32_t worker_count,
               int log_fd);

/* The outcome of a store call: counts and logs failures (cluster/store_outage.h); true if it
 * worked. */
bool worker_store_ok(struct worker *w, enum err e, const char *what);
/* Wakes the workers in the bit set (slots). */
void worker_ring(struct worker *w, uint64_t slots);
uint64_t worker_session_id(struct worker *w);
/* Whether there may be another line about somebody who had no stream. */
bool worker_may_log(struct worker *w, enum close_why why);
/* Refusals before there is a session: counted, and logged if there may be a line. */
void worker_log_refused(struct worker *w, enum close_why why, const char *client);
/* The same, and counted by reason: nobody else does that where there is no session. */
void worker_refuse(struct worker *w, enum close_why why, const char *client);
/* The stream as it may stand in a log line. buf: STREAM_KEY_MAX. */
const char *worker_stream_text(const struct worker *w, const struct stream_key *key, char *buf);

#endif
