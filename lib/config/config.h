/* config/config.h - the configuration of all three daemons: one YAML file, one key table (config/keys.c).
 * Every key is declared once, as a row: path, type, unit, default, range, reloadable, help. Loading, --print-config and the
 * reference in docs/ come from the rows. Unknown keys are errors.
 * Owner:  main() loads one and frees it last; parts are handed the section they need.
 * Errors: config_load_* fill `error` with "file:line:column: key: what is wrong, what is allowed"; *out changes on ERR_OK only.
 * Units:  durations in ms, sizes in bytes, bandwidth in bit/s.   Tests: tests/unit/config/test_config.c, tests/fuzz/fuzz_config.c */
#ifndef WEIR_CONFIG_CONFIG_H
#define WEIR_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/log.h"

enum { CONFIG_ERROR_MAX = 1024, CONFIG_URL_MAX = 512, CONFIG_PATH_MAX = 256, CONFIG_TRUST_MAX = 16 };

enum send_proxy { SEND_PROXY_OFF = 0, SEND_PROXY_V1, SEND_PROXY_V2 };
enum duplicate_publish { DUPLICATE_TAKEOVER = 0, DUPLICATE_REJECT, DUPLICATE_TAKEOVER_SAME_CLIENT };
enum listen_proxy { LISTEN_PROXY_OFF = 0, LISTEN_PROXY_REQUIRED };

struct config_node {
    char id[NODE_ID_MAX];     /* letters, digits, '.', '_', '-'; unique */
    char rtmp[HOST_MAX];      /* host:port, [v6]:port; port 1935 if absent */
    char stat[CONFIG_URL_MAX]; /* http URL of the statistics page; "" if none */
    uint32_t weight;          /* 0..1000; 0 takes no new stream */
    uint32_t max_streams;     /* 0: no limit; so for the next two */
    uint32_t max_sessions;
    uint64_t max_bandwidth;   /* bit/s */
    enum send_proxy send_proxy;
};

/* An address range; v4 is held as v4-mapped v6. */
struct config_cidr {
    uint8_t addr[16];
    uint8_t bits; /* of 128 */
};

struct config_listen {
    char address[HOST_MAX]; /* host:port, [v6]:port, *:port */
    enum listen_proxy proxy_protocol;
    struct config_cidr trust[CONFIG_TRUST_MAX]; /* who may send the PROXY header */
    uint32_t trust_count;
};

struct config_placement {
    double max_load_factor; /* of the weighted share; 0: no bound */
    uint64_t slow_start_ms;
    double panic_threshold; /* 0..1 */
    uint64_t hold_ms;
    enum duplicate_publish duplicate_publish;
    bool vhost;
};

struct config_router {
    char id[ROUTER_ID_MAX];
    uint32_t workers; /* 0: auto, one per processor */
    struct config_listen *listen;
    uint32_t listen_count;
    uint32_t retries;              /* further nodes tried before the client is told */
    uint64_t dial_timeout_ms;      /* TCP connect and the node's handshake */
    uint64_t answer_timeout_ms;    /* publish or play sent, until the node's answer (its hooks run meanwhile) */
    uint64_t setup_timeout_ms;     /* the whole search for a node, all tries together */
    uint64_t handshake_timeout_ms; /* accept to C2 */
    uint64_t idle_timeout_ms;      /* C2 to publish or play, and between publications */
    uint64_t ping_interval_ms;     /* RTMP ping to a client that has been silent so long */
    uint64_t ping_timeout_ms;      /* silence after which it is closed */
    uint64_t shutdown_grace_ms;
};

struct config_relay {
    uint64_t buffer_bytes; /* per direction of a session */
    uint64_t stall_timeout_ms;
};

struct config_limits { /* 0: no limit, where so documented in the key table */
    uint32_t message_bytes;
    uint32_t unfinished_bytes;
    uint32_t chunk_bytes;              /* largest Set Chunk Size taken from a peer */
    uint32_t unrouted_bytes;           /* received before publish or play */
    uint32_t connections;              /* of the whole router; workers share it evenly; so for the next two */
    uint32_t connections_per_address;
    uint32_t connection_rate_per_address; /* new connections per second */
    uint64_t memory_bytes;             /* blocks of all sessions of the router */
};

struct config_log {
    enum log_level level;
    enum log_format format;
    bool stream_names;
};

struct config {
    char cluster_name[CLUSTER_NAME_MAX];
    char store[CONFIG_PATH_MAX]; /* lmdb:DIR */
    char live[CONFIG_PATH_MAX];  /* directory; /run/weir/<cluster.name> if not given */
    struct config_node *nodes;
    uint32_t node_count;
    struct config_placement placement;
    struct config_router router;
    struct config_relay relay;
    struct config_limits limits;
    struct config_log log;
};

/* name stands in error texts. error: CONFIG_ERROR_MAX bytes. ERR_INVALID: the text is bad; ERR_IO: cannot be read. */
MUST_CHECK enum err config_load_file(const char *path, struct config **out, char *error);
MUST_CHECK enum err config_load_buffer(const char *name, const char *text, size_t len, struct config **out, char *error);
void config_destroy(struct config *c); /* NULL is allowed */

/* Every key with its value, as YAML that config_load_buffer() takes (--print-config). */
void config_print(const struct config *c, FILE *out);
/* The key reference in Markdown (docs/configuration.md), from the rows alone. */
void config_print_reference(FILE *out);
/* First key that differs between the two and is not reloadable; NULL: the change can be taken while running. */
const char *config_needs_restart(const struct config *from, const struct config *to);

/* "host:port", "[v6]:port", "*:port", "host" -> host without brackets ("*" and "" as "") and port. ERR_INVALID. */
MUST_CHECK enum err config_split_address(const char *text, uint16_t default_port, char host[HOST_MAX], uint16_t *port);
/* "10.0.0.0/8", "::1", ... ERR_INVALID. */
MUST_CHECK enum err config_parse_cidr(const char *text, struct config_cidr *out);
/* addr: 16 bytes, v4 mapped. */
bool config_cidr_contains(const struct config_cidr *c, const uint8_t addr[16]);

#endif
