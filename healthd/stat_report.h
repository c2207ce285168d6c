/* healthd/stat_report.h - what a node's statistics page says, whichever server wrote it.
 * Owner:  caller; init/deinit.   Errors: ERR_NO_MEMORY; what is beyond STAT_STREAMS_MAX is counted
 * only. */
#ifndef WEIR_HEALTHD_STAT_REPORT_H
#define WEIR_HEALTHD_STAT_REPORT_H

#include "cluster/store.h"

enum {
    STAT_STREAMS_MAX = 16384, /* streams of one node that are remembered: 8 MiB */
    STAT_KEYS_FIRST = 16,
};

struct stat_report {
    const char *ignore_app; /* our own probes publish there: its streams do not count */
    char version[STATUS_VERSION_MAX];
    uint32_t pid;       /* 0: not told */
    uint64_t uptime_ms; /* of that process; with pid only */
    uint64_t apps_hash; /* of the names of its applications, in any order; 0: not told */
    uint64_t bandwidth_in, bandwidth_out; /* bit/s */
    uint32_t clients, publishers;
    uint64_t bytes_in;       /* received by all streams that have a publisher */
    struct stream_key *keys; /* streams that have a publisher */
    uint32_t key_count, key_cap;
};

/* ignore_app outlives r. */
void stat_report_init(struct stat_report *r, const char *ignore_app);
void stat_report_deinit(struct stat_report *r);
/* A stream with a publisher. One whose name makes no stream key is not an error: it is nobody's. */
MUST_CHECK enum err stat_report_add(struct stat_report *r, struct view app, struct view name,
                                    uint64_t bytes_in);
/* An application that the server has; the order does not matter. */
void stat_report_add_app(struct stat_report *r, struct view app);

/* Names on these pages are bytes that peers chose, and neither server makes sure that its page
 * stays well-formed. So both are read as Latin-1, in which every byte is a character; control bytes
 * become DEL, which no stream key may have. */
void stat_clean(uint8_t *buf, size_t len);
/* The bytes behind Latin-1 text that a parser gives as UTF-8; in place, returns the length. A
 * character beyond Latin-1 (a numeric reference) becomes DEL. */
size_t stat_bytes_of_utf8(uint8_t *buf, size_t len);

/* Decimal digits, as both formats write their numbers; what is behind them is ignored (SRS:
 * "12.5"). No digits: 0. Too large: UINT64_MAX. */
uint64_t stat_number(struct view text);

#endif
