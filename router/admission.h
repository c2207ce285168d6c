/* router/admission.h - who may connect, and how many publish and play: connections in total and per
 * client address, those without a stream, sessions per application, and new ones per second of
 * both. Each worker enforces its share: the limits are divided by the number of workers, rounded
 * up. Pure. Owner: the worker.   Tests: tests/unit/router/test_admission.c */
#ifndef WEIR_ROUTER_ADMISSION_H
#define WEIR_ROUTER_ADMISSION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "cluster/close_why.h"
#include "cluster/stream_key.h"
#include "router/meter.h"

struct admission_limits { /* 0: no limit */
    uint32_t connections, per_address, rate_per_address;
    uint32_t sessions_per_app, session_rate_per_app;
    uint32_t unrouted; /* connections that neither publish nor play */
};

struct admission {
    struct admission_limits limits;
    uint32_t connections;
    uint32_t unrouted; /* of them, those that neither publish nor play: the caller counts */
    struct meter addresses, apps; /* used only with such limits */
};

/* An application as it is counted: the first part of the stream's name. */
struct admission_app {
    uint8_t name[METER_NAME_BYTES];
    bool counted;
};

void admission_init(struct admission *a);
void admission_deinit(struct admission *a);
/* limits of the whole router, shared by `workers`. */
void admission_set_limits(struct admission *a, const struct admission_limits *limits,
                          uint32_t workers);

/* A new connection finds no room unless the oldest one without a stream goes. */
bool admission_is_crowded(const struct admission *a);
/* A connection is there: counted in the total. WHY_NONE or WHY_LIMIT_CONNECTIONS (then not
 * counted). */
MUST_CHECK enum close_why admission_connect(struct admission *a);
/* Its client's address is known (after the PROXY header). addr: 16 bytes, v4 mapped; an IPv6 client
 * counts as its /64. WHY_NONE, WHY_LIMIT_ADDRESS or WHY_LIMIT_RATE (then not counted,
 * as where there is no such limit). */
MUST_CHECK enum close_why admission_identify(struct admission *a, const uint8_t addr[16],
                                             uint64_t now_ms, bool *counted);
/* The connection ends; addr NULL: was not counted under one. */
void admission_leave(struct admission *a, const uint8_t addr[16]);

/* It publishes or plays a stream (its name without a vhost). WHY_NONE, WHY_LIMIT_APP or
 * WHY_LIMIT_APP_RATE (then not counted). app: for admission_leave_app(). */
MUST_CHECK enum close_why admission_enter_app(struct admission *a, const struct stream_key *stream,
                                              uint64_t now_ms, struct admission_app *app);
/* It does so no more; may be called again. */
void admission_leave_app(struct admission *a, struct admission_app *app);

#endif
