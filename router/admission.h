/* router/admission.h - who may connect: connections in total, per client address, and new ones per
 * second and address. Each worker enforces its share: the limits are divided by the number of
 * workers, rounded up. Pure.   Owner: the worker.   Tests: tests/unit/router/test_admission.c */
#ifndef WEIR_ROUTER_ADMISSION_H
#define WEIR_ROUTER_ADMISSION_H

#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "cluster/close_why.h"

struct admission_limits { /* 0: no limit */
    uint32_t connections, per_address, rate_per_address;
};

struct admission_entry;

struct admission {
    struct admission_limits limits;
    uint32_t connections;
    struct admission_entry *entries; /* open addressing; used only with limits per address */
    uint32_t entry_cap, entry_count;
};

void admission_init(struct admission *a);
void admission_deinit(struct admission *a);
/* limits of the whole router, shared by `workers`. */
void admission_set_limits(struct admission *a, const struct admission_limits *limits,
                          uint32_t workers);

/* A connection is there: counted in the total. WHY_NONE or WHY_LIMIT_CONNECTIONS (then not
 * counted). */
MUST_CHECK enum close_why admission_connect(struct admission *a);
/* Its client's address is known (after the PROXY header). addr: 16 bytes, v4 mapped; an IPv6 client
 * counts as its /64. WHY_NONE, WHY_LIMIT_ADDRESS or WHY_LIMIT_RATE (then not counted). */
MUST_CHECK enum close_why admission_identify(struct admission *a, const uint8_t addr[16],
                                             uint64_t now_ms);
/* The connection ends; addr NULL: was not (successfully) identified. */
void admission_leave(struct admission *a, const uint8_t addr[16]);

#endif
