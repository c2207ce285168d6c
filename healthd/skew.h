/* healthd/skew.h - which nodes differ from most others in version or in the applications they
 * serve: a cluster is only consistent when every node runs the same of both. Pure.   Tests:
 * tests/unit/healthd/test_skew.c */
#ifndef WEIR_HEALTHD_SKEW_H
#define WEIR_HEALTHD_SKEW_H

#include <stdbool.h>
#include <stdint.h>

enum skew { SKEW_NONE = 0, SKEW_VERSION, SKEW_APPLICATIONS };
const char *skew_name(enum skew s); /* "none", "version", "applications" */

struct skew_node {
    const char *version; /* "": not known, and left out of it */
    uint64_t apps_hash;  /* 0: not known */
    enum skew skew;      /* the answer */
};
/* The most frequent version is the right one, of several the first in the list; among its nodes so
 * with the applications. Returns that version, "" if none is known. */
const char *skew_find(struct skew_node *nodes, uint32_t count);

#endif
