/* healthd/check.h - what one check of one node found, with the transcript of what was said: each
 * step with its milliseconds since the start. Pure.   Tests: tests/unit/healthd/test_check.c */
#ifndef WEIR_HEALTHD_CHECK_H
#define WEIR_HEALTHD_CHECK_H

#include "cluster/store.h"

enum { TRANSCRIPT_MAX = LOG_VALUE_MAX }; /* it is one value of a log line */

struct transcript {
    uint64_t started_us;
    size_t len;
    char text[TRANSCRIPT_MAX];
};

struct check_result {
    enum health_check check;
    bool good;
    bool ours; /* it failed for what this machine lacks, and says nothing of the node */
    char reason[STATUS_REASON_MAX]; /* "rtmp: no handshake within 1000 ms"; "" if good */
    uint32_t latency_us;            /* from the start to the last answer */
    struct transcript transcript;
};

/* "tcp", "rtmp", "stat", "loop" */
const char *health_check_name(enum health_check c);
void transcript_init(struct transcript *t, uint64_t now_us);
/* Appends "; 0.4 connected". The last step always fits: earlier ones give way. */
void transcript_add(struct transcript *t, uint64_t now_us, const char *format, ...)
    PRINTF_LIKE(3, 4);

#endif
