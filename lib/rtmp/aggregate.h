/* rtmp/aggregate.h - the inner messages of an aggregate message (type 22), RTMP 1.0 section 7.1.6.
 * Tag: type(1) size(3) time(3 + 1 high) stream(3) data previous size(4). A message's time is the
 * outer time plus (its tag's time minus the first tag's). Payload is shared, not copied.
 * Tests:  tests/unit/rtmp/test_aggregate.c */
#ifndef WEIR_RTMP_AGGREGATE_H
#define WEIR_RTMP_AGGREGATE_H

#include "base/err.h"
#include "rtmp/message.h"

struct rtmp_aggregate { /* a walk over one aggregate; zero it and set msg (not referenced) */
    const struct rtmp_msg *msg;
    uint32_t off;
    uint32_t first_time;
    uint32_t tags;
};

/* PARSE_OK: *out is the next inner message, one reference is the caller's. PARSE_NEED_MORE: no
 * more. PARSE_BAD: a tag's size leads beyond the end, or more than RTMP_AGGREGATE_TAGS_MAX tags, or
 * no memory. A missing last "previous size" is tolerated (some encoders leave it out). An inner
 * aggregate is bad. */
MUST_CHECK enum parse_result rtmp_aggregate_next(struct rtmp_aggregate *a, struct rtmp_msg **out);

#endif
