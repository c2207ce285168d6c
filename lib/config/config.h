/* config/config.h - the configuration of all three daemons: one YAML file, one key table (config/keys.c).
 * Every key is declared once, as a row: path, type, unit, default, range, reloadable, help. Loading, --print-config and the
 * reference in docs/ come from the rows. Unknown keys are errors.
 * Owner:  main() loads one and frees it last; parts are handed the section they need.
 * Errors: config_load_* fill `error` with "file:line:column: key: what is wrong, what is allowed"; *out changes on ERR_OK only.
 * Units:  durations in ms (coalesce_us: us), sizes in bytes, bandwidth in bit/s.   Tests: tests/unit/config/test_config.c, tests/fuzz/fuzz_config.c */
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

enum { CONFIG_ERROR_MAX = 1024, CONFIG_URL_MAX = 512, CONFIG_PATH_MAX = 256, CONFIG_CIDRS_MAX = 16, CONFIG_USER_MAX = 64 };

enum send_proxy { SEND_PROXY_OFF = 0, SEND_PROXY_V1, SEND_PROXY_V2 };
enum duplicate_publish { DUPLICATE_TAKEOVER = 0, DUPLICATE_REJECT, DUPLICATE_TAKEOVER_SAME_CLIENT };
enum share_playback { SHARE_OFF = 0, SHARE_ON };
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

struct config_cidrs {
    struct config_cidr list[CONFIG_CIDRS_MAX];
    uint32_t count;
};

struct config_listen {
    char address[HOST_MAX]; /* host:port, [v6]:port, *:port */
    enum listen_proxy proxy_protocol;
    struct config_cidrs trust; /* who may send the PROXY header */
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

enum { CONFIG_APPS_MAX = 16 };
struct config_apps { /* names of applications */
    char names[CONFIG_APPS_MAX][APP_MAX];
    uint32_t count;
};

struct config_relay {
    uint64_t buffer_bytes; /* per direction of a session */
    uint64_t stall_timeout_ms;
    uint64_t coalesce_us;  /* on a busy worker, data waits for more to go with it */
    enum share_playback share_playback; /* one node link for all players of a stream on a worker */
    struct config_apps share_apps;      /* none: all */
};

struct config_failover {
    uint64_t stall_ms;         /* silence of a node link, pings unanswered, after which it is lost */
    uint64_t reach_ms;         /* kept media go back to a keyframe at least so old */
    uint64_t gop_bytes;        /* most kept media of a publisher */
    uint64_t grace_ms;         /* wait for the players of other workers */
    uint64_t give_up_ms;       /* clients are held so long when there is no node for them */
    uint32_t max_moves;        /* of a stream within a minute; 0: streams are not moved at all */
    uint32_t moves_per_second; /* planned moves begun per second and worker */
};

enum access_kind { ACCESS_BOTH = 0, ACCESS_PUBLISH, ACCESS_PLAY };
enum access_action { ACCESS_ALLOW = 0, ACCESS_TOKEN, ACCESS_DENY };

struct config_rule { /* who may publish and play; the first one that fits counts */
    char app[APP_MAX]; /* beginning of the stream's name, part by part; '*' stands for any characters but '/' */
    enum access_kind kind;
    struct config_cidrs from; /* none: from anywhere */
    enum access_action action;
};

struct config_access {
    char keys[CONFIG_PATH_MAX]; /* file of the keys that sign tokens; "": none */
    struct config_rule *rules;  /* none: everything is allowed; else what fits none is denied */
    uint32_t rule_count;
};

struct config_limits { /* 0: no limit, where so documented in the key table */
    uint32_t message_bytes;
    uint32_t unfinished_bytes;
    uint32_t chunk_bytes;              /* largest Set Chunk Size taken from a peer */
    uint32_t unrouted_bytes;           /* received before publish or play */
    uint32_t connections;              /* of the whole router; workers share it evenly; so for the next two */
    double unrouted_share;             /* of connections: those that neither publish nor play yet */
    uint32_t connections_per_address;
    uint32_t connection_rate_per_address; /* new connections per second */
    uint32_t sessions_per_app;         /* publishers and players together; shared evenly too */
    uint32_t session_rate_per_app;     /* new ones per second */
    uint64_t memory_bytes;             /* blocks of all sessions of the router */
};

enum health_check { CHECK_TCP = 0, CHECK_RTMP, CHECK_STAT, CHECK_LOOP };
enum { HEALTH_CHECK_COUNT = CHECK_LOOP + 1 };

struct config_healthd {
    uint64_t interval_ms;
    uint64_t timeout_ms;       /* of one check */
    uint64_t fast_interval_ms; /* while a verdict is in the balance; the smaller of this and interval_ms counts */
    uint32_t rise, fall;       /* results in a row that bring a node up, down */
    uint32_t checks;           /* a bit for each: 1u << CHECK_TCP */
    char app[APP_MAX];         /* the rtmp check connects to it */
    char loop_app[APP_MAX];    /* the loop check publishes and plays there; its streams are nobody's */
    uint64_t loop_interval_ms;
    uint32_t flap_max;         /* transitions within flap_window_ms, before the node is held down for flap_hold_ms; 0: never */
    uint64_t flap_window_ms;
    uint64_t flap_hold_ms;
    uint64_t stuck_after_ms;   /* its input stands still for so long while we send to it; 0: not looked at */
};

struct config_admin {
    char listen[HOST_MAX];        /* host:port, [v6]:port, *:port; a loopback address if there are no tokens */
    char tokens[CONFIG_PATH_MAX]; /* file; "": no tokens */
    uint32_t max_connections;
    uint32_t max_request_bytes;   /* of a body */
    uint64_t request_timeout_ms;
};

struct config_log {
    enum log_level level;
    enum log_format format;
    bool stream_names;
    uint32_t unrouted; /* lines a second, worker and reason about sessions that had no stream */
};

struct config_process {
    char user[CONFIG_USER_MAX]; /* "": the one that starts it */
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
    struct config_failover failover;
    struct config_limits limits;
    struct config_access access;
    struct config_healthd healthd;
    struct config_admin admin;
    struct config_process process;
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
/* The same as one daemon sees it ("router", "healthd", "admin"): the sections of the others are no business of its own. */
const char *config_needs_restart_of(const char *daemon, const struct config *from, const struct config *to);

/* One node, key by key, by the rows "nodes[].*" of the key table: for whoever takes nodes from elsewhere than the file. */
/* Every field its default, id and rtmp empty. */
void config_node_init(struct config_node *n);
/* key: "weight"; value: as it would be written in the file, without quotes ("8Mbit/s"). error: CONFIG_ERROR_MAX bytes, "weight: found
 * 5000, allowed: 0 to 1000". ERR_NOT_FOUND: there is no such key; ERR_INVALID: the value is bad; *n changes on ERR_OK only. */
MUST_CHECK enum err config_node_set(struct config_node *n, const char *key, const char *value, char *error);
/* What must hold of the whole: nothing that must be given is missing. ERR_INVALID: error says which key and what it may be. */
MUST_CHECK enum err config_node_check(const struct config_node *n, char *error);

/* "host:port", "[v6]:port", "*:port", "host" -> host without brackets ("*" and "" as "") and port. ERR_INVALID. */
MUST_CHECK enum err config_split_address(const char *text, uint16_t default_port, char host[HOST_MAX], uint16_t *port);
/* Of the same form: nobody outside this machine reaches it. "localhost" is taken at its word; "*" is none. */
bool config_is_loopback(const char *address);
/* "10.0.0.0/8", "::1", ... ERR_INVALID. */
MUST_CHECK enum err config_parse_cidr(const char *text, struct config_cidr *out);
/* addr: 16 bytes, v4 mapped. */
bool config_cidr_contains(const struct config_cidr *c, const uint8_t addr[16]);
bool config_cidrs_contain(const struct config_cidrs *c, const uint8_t addr[16]);
/* "90s", "24h", as durations are written in the file. ERR_INVALID: it is none; ERR_LIMIT: too long. */
MUST_CHECK enum err config_parse_duration(const char *text, uint64_t *ms);

#endif
