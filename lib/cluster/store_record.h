/* cluster/store_record.h - the store's binary records: big-endian fields, texts as length and
 * bytes, a version byte first. Pure: no I/O, no allocation. _write gives the length (buf:
 * STORE_RECORD_MAX); _parse gives ERR_CORRUPT for what _write of this version did not write. Tests:
 * tests/unit/cluster/test_store_record.c */
#ifndef WEIR_CLUSTER_STORE_RECORD_H
#define WEIR_CLUSTER_STORE_RECORD_H

#include "cluster/store.h"

enum { STORE_RECORD_MAX = 2048 };

/* What a node carries now. */
struct load_record {
    uint32_t streams, sessions;
};

struct audience_record {
    struct worker_id worker;
    uint32_t players;
    uint64_t epoch; /* of the last move that all of them have followed */
    bool cut;       /* and left the old node */
};

/* A stream that a node said it has. */
struct found_record {
    struct stream_key key;
    char node[NODE_ID_MAX];
    uint64_t since_ms, seen_ms; /* first and last time, without a gap between */
};

struct lease_record {
    uint64_t holder;
    uint64_t renewed_ms;
};

size_t claim_record_write(const struct claim *c, uint8_t *buf);
MUST_CHECK enum err claim_record_parse(const void *buf, size_t len, struct claim *out);
size_t session_record_write(const struct session_record *s, uint8_t *buf);
MUST_CHECK enum err session_record_parse(const void *buf, size_t len, struct session_record *out);
size_t process_record_write(const struct process_record *p, uint8_t *buf);
MUST_CHECK enum err process_record_parse(const void *buf, size_t len, struct process_record *out);
size_t event_record_write(const struct store_event *e, uint8_t *buf);
MUST_CHECK enum err event_record_parse(const void *buf, size_t len, struct store_event *out);
size_t status_record_write(const struct node_status *st, uint8_t *buf);
MUST_CHECK enum err status_record_parse(const void *buf, size_t len, struct node_status *out);
size_t dial_record_write(const struct dial_failures *f, uint8_t *buf);
MUST_CHECK enum err dial_record_parse(const void *buf, size_t len, struct dial_failures *out);
size_t found_record_write(const struct found_record *f, uint8_t *buf);
MUST_CHECK enum err found_record_parse(const void *buf, size_t len, struct found_record *out);
size_t lease_record_write(const struct lease_record *l, uint8_t *buf);
MUST_CHECK enum err lease_record_parse(const void *buf, size_t len, struct lease_record *out);
size_t command_record_write(const struct store_command *c, uint8_t *buf);
MUST_CHECK enum err command_record_parse(const void *buf, size_t len, struct store_command *out);
size_t load_record_write(const struct load_record *l, uint8_t *buf);
MUST_CHECK enum err load_record_parse(const void *buf, size_t len, struct load_record *out);
size_t audience_record_write(const struct audience_record *a, uint8_t *buf);
MUST_CHECK enum err audience_record_parse(const void *buf, size_t len, struct audience_record *out);

/* The durable record of a node: JSON, so that it can grow fields and people can read it. What is
 * measured (health, loads) is not in it. The caller frees the text with free(). */
MUST_CHECK enum err node_record_write(const struct node *n, char **text);
MUST_CHECK enum err node_record_parse(const void *buf, size_t len, struct node *out);

#endif
