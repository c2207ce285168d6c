/* router/meter.h - how many there are of each of many things (addresses, applications), and how
 * fast new ones come. A table by name with a count and a token bucket; what is idle is forgotten.
 * Pure.   Owner: admission.   Tests: tests/unit/router/test_admission.c */
#ifndef WEIR_ROUTER_METER_H
#define WEIR_ROUTER_METER_H

#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"

enum { METER_NAME_BYTES = 16 };

struct meter_entry;

struct meter {
    struct meter_entry *entries; /* open addressing; none until the first one is counted */
    uint32_t cap, count;
};

enum meter_result {
    METER_COUNTED = 0,
    METER_MANY,    /* `most` are there; so many names that there is no room count as that too */
    METER_TOO_FAST /* more than `rate` a second */
};

void meter_init(struct meter *m);
void meter_deinit(struct meter *m);
/* One more of that name. most, rate: 0: no limit; the burst is one second's worth. */
MUST_CHECK enum meter_result meter_enter(struct meter *m, const uint8_t name[METER_NAME_BYTES],
                                         uint32_t most, uint32_t rate, uint64_t now_ms);
/* One less; nothing happens if there is none. */
void meter_leave(struct meter *m, const uint8_t name[METER_NAME_BYTES]);

#endif
