/* router/rest.h - how long a worker's loop rests between two turns, so that more is read and sent
 * in each: relay.coalesce on a busy worker, if that spares sleeps. What comes in bursts, as a frame
 * does to all players of a stream, comes together by itself; what comes one by one, as from
 * publishers, does not, and to sleep and wake costs more than to relay. So both are tried and
 * counted, the other way every two seconds. And when a timer that is far off wakes the worker. Pure.
 * Owner: the worker; zero-initialised.   Time: monotonic.   Tests: tests/unit/router/test_rest.c */
#ifndef WEIR_ROUTER_REST_H
#define WEIR_ROUTER_REST_H

#include <stdbool.h>
#include <stdint.h>

struct rest {
    uint64_t us; /* turns begin at least so far apart; 0: at once */
    uint64_t since_us, sleeps_before;
    uint32_t sleeps[2]; /* for a thousand events, without and with a rest, as counted last */
    bool counted[2];
    uint32_t decisions; /* since the other way was tried */
};

/* At every poll. sleeps: of the thread, since it began; events: of sockets of sessions that relay,
 * since the last decision. */
void rest_decide(struct rest *r, uint64_t now_us, uint64_t sleeps, uint32_t events,
                 uint64_t coalesce_us);

/* When to wake for what is due at at_ms: what is far off a little later, together with that of other
 * sessions, since thousands of them would wake the worker as often. */
uint64_t rest_wake_ms(uint64_t at_ms, uint64_t now_ms);

#endif
