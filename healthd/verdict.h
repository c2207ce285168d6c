/* healthd/verdict.h - one round of checks in, one verdict out: rise and fall, flap damping. Pure.
 * A node nobody has judged yet is UNKNOWN and gets its first verdict from the same rise and fall.
 * Units:  times are Unix time in ms, handed in.   Tests: tests/unit/healthd/test_verdict.c */
#ifndef WEIR_HEALTHD_VERDICT_H
#define WEIR_HEALTHD_VERDICT_H

#include "cluster/node_table.h"

enum {
    VERDICT_FLAPS_MAX = 64
}; /* transitions remembered: a larger healthd.flap_max counts as this */

struct verdict {
    enum node_health health;
    uint64_t since_ms;  /* of health */
    uint32_t good, bad; /* results in a row */
    /* Flapping: stays down until then, whatever the checks say, but no longer than held_ms; 0: not
     * held */
    uint64_t held_until_ms, held_ms;
    uint64_t flaps[VERDICT_FLAPS_MAX]; /* when it went up or down last, a ring */
    uint32_t flap_next;
};

/* Goes on with what was stored; NODE_UNKNOWN, 0 for a new node. */
void verdict_init(struct verdict *v, enum node_health health, uint64_t since_ms);
/* True if the health changed. */
MUST_CHECK bool verdict_step(struct verdict *v, bool good, const struct config_healthd *policy,
                             uint64_t now_ms);
/* The last result spoke against the verdict, or there is none yet: check again soon. */
bool verdict_in_balance(const struct verdict *v, uint64_t now_ms);
bool verdict_held(const struct verdict *v, uint64_t now_ms);

#endif
