#include "config/keys.h"

#include <string.h>

#include "config/config.h"

/* ---- what texts may be ---- */

static bool id_valid(const char *text)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    /* ids become parts of paths and URLs, where a leading dot has a meaning */
    return text[0] != '\0' && text[0] != '.' && text[strspn(text, allowed)] == '\0';
}

static bool is_printable_ascii(const char *text)
{
    for (; *text; text++) {
        if (*text < 0x20 || *text > 0x7e)
            return false;
    }
    return true;
}

static bool directory_valid(const char *text)
{
    return text[0] == '/' && is_printable_ascii(text);
}

static bool store_valid(const char *text)
{
    const size_t prefix = sizeof KEY_STORE_PREFIX - 1;
    return strncmp(text, KEY_STORE_PREFIX, prefix) == 0 && directory_valid(text + prefix);
}

static bool listen_address_valid(const char *text)
{
    char host[HOST_MAX];
    uint16_t port = 0;
    return config_split_address(text, 0, host, &port) == ERR_OK && port != 0;
}

static bool node_address_valid(const char *text)
{
    char host[HOST_MAX];
    uint16_t port;
    return config_split_address(text, 1935, host, &port) == ERR_OK && host[0] != '\0';
}

static bool stat_url_valid(const char *text)
{
    static const char scheme[] = "http://";
    if (text[0] == '\0')
        return true;
    if (strncmp(text, scheme, sizeof scheme - 1) != 0 || !is_printable_ascii(text) ||
        strchr(text, ' '))
        return false;
    const char *authority = text + sizeof scheme - 1;
    const size_t len = strcspn(authority, "/?#");
    char address[HOST_MAX];
    if (len >= sizeof address)
        return false;
    memcpy(address, authority, len);
    address[len] = '\0';
    return node_address_valid(address);
}

static bool app_valid(const char *text)
{
    return text[0] != '\0' && text[0] != '/' && is_printable_ascii(text) && !strpbrk(text, " ?");
}

static bool file_valid(const char *text)
{
    return text[0] == '\0' || directory_valid(text);
}

static bool user_valid(const char *text)
{
    return text[0] == '\0' || (id_valid(text) && text[0] != '-');
}

/* As stream keys are written, or it would never fit one. */
static bool rule_app_valid(const char *text)
{
    return app_valid(text) && text[strlen(text) - 1] != '/' && !strstr(text, "//");
}

static const struct key_form id_form = {
    id_valid, "letters, digits, '.', '_' and '-', not beginning with '.'"};
static const struct key_form store_form = {store_valid, "lmdb: and an absolute directory"};
static const struct key_form directory_form = {directory_valid, "an absolute directory"};
static const struct key_form file_form = {file_valid, "an absolute path, or empty"};
static const struct key_form app_form = {app_valid,
                                         "an application's name, without blanks and '?'"};
static const struct key_form user_form = {user_valid, "the name of a user, or empty"};
static const struct key_form rule_app_form = {
    rule_app_valid, "an application's name, in which '*' stands for any characters but '/'"};
static const struct key_form listen_form = {listen_address_valid,
                                            "HOST:PORT, [IPV6]:PORT or *:PORT"};
static const struct key_form node_form = {node_address_valid,
                                          "HOST[:PORT] or [IPV6][:PORT], port 1935 if left out"};
static const struct key_form stat_form = {stat_url_valid, "http://HOST[:PORT]/PATH, or empty"};

/* ---- the rows ---- */

static const char *const send_proxy_names[] = {
    [SEND_PROXY_OFF] = "off", [SEND_PROXY_V1] = "v1", [SEND_PROXY_V2] = "v2", NULL};
static const char *const duplicate_names[] = {
    [DUPLICATE_TAKEOVER] = "takeover",
    [DUPLICATE_REJECT] = "reject",
    [DUPLICATE_TAKEOVER_SAME_CLIENT] = "takeover_same_client",
    NULL,
};
static const char *const share_names[] = {[SHARE_OFF] = "off", [SHARE_ON] = "on", NULL};
static const char *const listen_proxy_names[] = {
    [LISTEN_PROXY_OFF] = "off", [LISTEN_PROXY_REQUIRED] = "required", NULL};
static const char *const check_names[] = {
    [CHECK_TCP] = "tcp", [CHECK_RTMP] = "rtmp", [CHECK_STAT] = "stat", [CHECK_LOOP] = "loop", NULL};
static const char *const access_kind_names[] = {
    [ACCESS_BOTH] = "both", [ACCESS_PUBLISH] = "publish", [ACCESS_PLAY] = "play", NULL};
static const char *const access_action_names[] = {
    [ACCESS_ALLOW] = "allow", [ACCESS_TOKEN] = "token", [ACCESS_DENY] = "deny", NULL};
static const char *const level_names[] = {
    [LOG_ERROR] = "error", [LOG_WARN] = "warn", [LOG_INFO] = "info", [LOG_DEBUG] = "debug", NULL};
static const char *const format_names[] = {[LOG_LOGFMT] = "logfmt", [LOG_JSON] = "json", NULL};

/* Macros because C17 has no enum as wide as the fields. */
#define SECOND_MS UINT64_C(1000)
#define MINUTE_MS (60 * SECOND_MS)
#define HOUR_MS (60 * MINUTE_MS)
#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define KBIT UINT64_C(1000)
/* A macro because offsetof and sizeof take the member's name. */
#define FIELD(structure, member)                                                                   \
    .offset = offsetof(struct structure, member), .size = sizeof(((struct structure *)NULL)->member)

const struct key_row key_rows[] = {
    {.path = "cluster.name",
     .help = "Name of the cluster. It seeds placement: all routers of a cluster have the same.",
     .initial = "weir",
     .type = KEY_TEXT,
     .form = &id_form,
     FIELD(config, cluster_name)},
    {.path = "cluster.store",
     .help = "Where node records are kept; they survive a restart of the machine.",
     .initial = "lmdb:/var/lib/weir",
     .type = KEY_TEXT,
     .form = &store_form,
     FIELD(config, store)},
    {.path = "cluster.live",
     .help = "Where records of live streams and sessions are kept; best on tmpfs.",
     .initial = KEY_LIVE_PARENT KEY_CLUSTER_MARK,
     .type = KEY_TEXT,
     .form = &directory_form,
     FIELD(config, live)},

    {.path = "nodes",
     .help = "The media nodes known from the start; the API can add others.",
     .type = KEY_NODES,
     .reloadable = true,
     .max = NODES_MAX,
     .initial = "[]"},
    {.path = "nodes[].id",
     .help = "Name of the node in the log, the metrics and the API; placement hashes it. Unique.",
     .type = KEY_TEXT,
     .form = &id_form,
     .reloadable = true,
     FIELD(config_node, id)},
    {.path = "nodes[].rtmp",
     .help = "Address for RTMP. Names are resolved at the start and at reload.",
     .type = KEY_TEXT,
     .form = &node_form,
     .reloadable = true,
     FIELD(config_node, rtmp)},
    {.path = "nodes[].stat",
     .help = "Statistics page of the node, which the probes read; empty: none.",
     .initial = "",
     .type = KEY_TEXT,
     .form = &stat_form,
     .reloadable = true,
     FIELD(config_node, stat)},
    {.path = "nodes[].weight",
     .help = "Share of new streams, relative to the other nodes; 0 takes none.",
     .initial = "100",
     .type = KEY_COUNT,
     .max = 1000,
     .reloadable = true,
     FIELD(config_node, weight)},
    {.path = "nodes[].max_streams",
     .help = "Most streams published to the node; 0: no limit.",
     .initial = "0",
     .type = KEY_COUNT,
     .max = 1000000,
     .reloadable = true,
     FIELD(config_node, max_streams)},
    {.path = "nodes[].max_sessions",
     .help = "Most publishers and players on the node; 0: no limit.",
     .initial = "0",
     .type = KEY_COUNT,
     .max = 1000000,
     .reloadable = true,
     FIELD(config_node, max_sessions)},
    {.path = "nodes[].max_bandwidth",
     .help = "New streams are placed elsewhere while the node carries more in either direction; "
             "0: no limit.",
     .initial = "0",
     .type = KEY_BANDWIDTH,
     .zero = true,
     .min = KBIT,
     .max = KBIT * 1000 * 1000 * 1000,
     .reloadable = true,
     FIELD(config_node, max_bandwidth)},
    {.path = "nodes[].send_proxy",
     .help = "PROXY protocol header sent to the node, so that it sees the client's address.",
     .initial = "off",
     .type = KEY_ENUM,
     .names = send_proxy_names,
     .reloadable = true,
     FIELD(config_node, send_proxy)},

    {.path = "placement.max_load_factor",
     .help = "Most streams of a node, as a multiple of its weighted share; 0: no bound.",
     .initial = "1.25",
     .type = KEY_FACTOR,
     .zero = true,
     .min = 1,
     .max = 100,
     .reloadable = true,
     FIELD(config, placement.max_load_factor)},
    {.path = "placement.slow_start",
     .help = "Time over which a node that came up grows from a tenth of its weight to all of it.",
     .initial = "60s",
     .type = KEY_DURATION,
     .max = HOUR_MS,
     .reloadable = true,
     FIELD(config, placement.slow_start_ms)},
    {.path = "placement.panic_threshold",
     .help =
         "With a smaller share of the enabled nodes up, streams are placed on all enabled nodes.",
     .initial = "50%",
     .type = KEY_PERCENT,
     .max = 100,
     .reloadable = true,
     FIELD(config, placement.panic_threshold)},
    {.path = "placement.hold",
     .help = "Time a stream keeps its node after its publisher left.",
     .initial = "30s",
     .type = KEY_DURATION,
     .max = HOUR_MS,
     .reloadable = true,
     FIELD(config, placement.hold_ms)},
    {.path = "placement.duplicate_publish",
     .help = "What a second publisher of a live stream does: replace the first, be refused, or "
             "replace it "
             "only if it has the same publish arguments or address.",
     .initial = "takeover_same_client",
     .type = KEY_ENUM,
     .names = duplicate_names,
     .reloadable = true,
     FIELD(config, placement.duplicate_publish)},
    {.path = "placement.vhost",
     .help = "Whether streams of the same name on different hosts are different streams.",
     .initial = "false",
     .type = KEY_BOOL,
     .reloadable = true,
     FIELD(config, placement.vhost)},

    {.path = "router.id",
     .help = "Name of this router among those of the cluster. No two that run have the same.",
     .initial = "router1",
     .type = KEY_TEXT,
     .form = &id_form,
     FIELD(config, router.id)},
    {.path = "router.workers",
     .help = "Worker processes; auto: one per processor that the router may run on, at most 32.",
     .initial = "auto",
     .type = KEY_WORKERS,
     .min = 1,
     .max = WORKERS_MAX,
     FIELD(config, router.workers)},
    {.path = "router.listen",
     .help = "Where clients connect.",
     .initial = "[{address: 0.0.0.0:1935}]",
     .type = KEY_LISTENS,
     .min = 1,
     .max = LISTENERS_MAX},
    {.path = "router.listen[].address",
     .help = "Address and port.",
     .type = KEY_TEXT,
     .form = &listen_form,
     FIELD(config_listen, address)},
    {.path = "router.listen[].proxy_protocol",
     .help = "required: every connection begins with a PROXY protocol header, as from HAProxy.",
     .initial = "off",
     .type = KEY_ENUM,
     .names = listen_proxy_names,
     FIELD(config_listen, proxy_protocol)},
    {.path = "router.listen[].trust",
     .help = "Who may connect to a listener that requires the PROXY header: addresses or ranges.",
     .initial = "[]",
     .type = KEY_CIDRS,
     .max = CONFIG_CIDRS_MAX,
     FIELD(config_listen, trust)},
    {.path = "router.retries",
     .help = "Further nodes tried for a stream before the client is told of a failure.",
     .initial = "2",
     .type = KEY_COUNT,
     .max = 16,
     .reloadable = true,
     FIELD(config, router.retries)},
    {.path = "router.dial_timeout",
     .help = "Time for connecting to a node, its handshake included.",
     .initial = "2s",
     .type = KEY_DURATION,
     .min = 10,
     .max = 5 * MINUTE_MS,
     .reloadable = true,
     FIELD(config, router.dial_timeout_ms)},
    {.path = "router.answer_timeout",
     .help = "Time for a node's answer to publish or play; its hooks run meanwhile.",
     .initial = "10s",
     .type = KEY_DURATION,
     .min = 10,
     .max = 5 * MINUTE_MS,
     .reloadable = true,
     FIELD(config, router.answer_timeout_ms)},
    {.path = "router.setup_timeout",
     .help = "Time for finding a node for a stream, all tries together.",
     .initial = "20s",
     .type = KEY_DURATION,
     .min = 10,
     .max = 5 * MINUTE_MS,
     .reloadable = true,
     FIELD(config, router.setup_timeout_ms)},
    {.path = "router.handshake_timeout",
     .help = "Time for a client's handshake, from accept on.",
     .initial = "10s",
     .type = KEY_DURATION,
     .min = 10,
     .max = 5 * MINUTE_MS,
     .reloadable = true,
     FIELD(config, router.handshake_timeout_ms)},
    {.path = "router.idle_timeout",
     .help = "Time from a client's handshake to publish or play, and between two publications.",
     .initial = "30s",
     .type = KEY_DURATION,
     .min = SECOND_MS,
     .max = HOUR_MS,
     .reloadable = true,
     FIELD(config, router.idle_timeout_ms)},
    {.path = "router.ping_interval",
     .help = "A client that has been silent so long gets an RTMP ping; up to a quarter sooner, so "
             "that thousands are not asked together.",
     .initial = "30s",
     .type = KEY_DURATION,
     .min = SECOND_MS,
     .max = HOUR_MS,
     .reloadable = true,
     FIELD(config, router.ping_interval_ms)},
    {.path = "router.ping_timeout",
     .help = "A client that has been silent so long is closed; more than `router.ping_interval`.",
     .initial = "90s",
     .type = KEY_DURATION,
     .min = SECOND_MS,
     .max = 2 * HOUR_MS,
     .reloadable = true,
     FIELD(config, router.ping_timeout_ms)},
    {.path = "router.shutdown_grace",
     .help = "Time that sessions have to end by themselves after SIGTERM.",
     .initial = "30s",
     .type = KEY_DURATION,
     .max = 24 * HOUR_MS,
     .reloadable = true,
     FIELD(config, router.shutdown_grace_ms)},

    {.path = "relay.buffer",
     .help =
         "Most bytes that wait in one direction of a session; then the sender is read no further. "
         "Up to twice as many for a player whose stream can be moved.",
     .initial = "4MiB",
     .type = KEY_SIZE,
     .min = 64 * KIB,
     .max = GIB,
     .reloadable = true,
     FIELD(config, relay.buffer_bytes)},
    {.path = "relay.stall_timeout",
     .help = "A player whose buffer stays full so long is closed.",
     .initial = "10s",
     .type = KEY_DURATION,
     .min = 100,
     .max = HOUR_MS,
     .reloadable = true,
     FIELD(config, relay.stall_timeout_ms)},
    {.path = "relay.coalesce",
     .help =
         "On a busy worker, data waits up to so long in the router for more to go with it, where "
         "the worker finds that this spares wake-ups: with many publishers, not with many players "
         "of few streams. Above 8,000 reads a second it is proportionally less. 0: it never waits.",
     .initial = "500us",
     .type = KEY_DELAY,
     .max = 20000,
     .reloadable = true,
     FIELD(config, relay.coalesce_us)},
    {.path = "relay.share_playback",
     .help =
         "`on`: all players of a stream on a worker share one node link, and begin with the last "
         "group of pictures. Players with arguments (`cam1?token=...`) keep their own, and so "
         "does one that pauses or seeks. The node's own hooks see the first player only.",
     .initial = "off",
     .type = KEY_ENUM,
     .names = share_names,
     .reloadable = true,
     FIELD(config, relay.share_playback)},
    {.path = "relay.share_apps",
     .help = "The applications that `relay.share_playback` is for; none named: all.",
     .initial = "[]",
     .type = KEY_APPS,
     .max = CONFIG_APPS_MAX,
     .form = &app_form,
     .reloadable = true,
     FIELD(config, relay.share_apps)},

    {.path = "failover.stall",
     .help = "A node that has neither sent anything nor answered a ping for so long has lost its "
             "streams to another one.",
     .initial = "2s",
     .type = KEY_DURATION,
     .min = 200,
     .max = 5 * MINUTE_MS,
     .reloadable = true,
     FIELD(config, failover.stall_ms)},
    {.path = "failover.reach",
     .help = "The media kept of a live stream go back to a keyframe at least so old; 0 and the "
             "least: `failover.stall` and a second.",
     .initial = "0",
     .type = KEY_DURATION,
     .max = 10 * MINUTE_MS,
     .reloadable = true,
     FIELD(config, failover.reach_ms)},
    {.path = "failover.gop_bytes",
     .help = "Most bytes kept of a live stream; beyond that whole groups of pictures are dropped.",
     .initial = "16MiB",
     .type = KEY_SIZE,
     .min = 256 * KIB,
     .max = GIB,
     .reloadable = true,
     FIELD(config, failover.gop_bytes)},
    {.path = "failover.grace",
     .help = "A stream that moves waits so long for its players to be at the new node; twice "
             "`failover.stall` more where that is known to answer pings.",
     .initial = "500ms",
     .type = KEY_DURATION,
     .min = 10,
     .max = MINUTE_MS,
     .reloadable = true,
     FIELD(config, failover.grace_ms)},
    {.path = "failover.give_up",
     .help = "Clients are held so long while there is no node for them.",
     .initial = "30s",
     .type = KEY_DURATION,
     .min = 100,
     .max = HOUR_MS,
     .reloadable = true,
     FIELD(config, failover.give_up_ms)},
    {.path = "failover.max_moves",
     .help = "A stream that loses more nodes than this within a minute is closed; 0: streams are "
             "not moved, a lost node ends them.",
     .initial = "5",
     .type = KEY_COUNT,
     .max = 1000,
     .reloadable = true,
     FIELD(config, failover.max_moves)},
    {.path = "failover.moves_per_second",
     .help = "Streams that a worker begins to move off a draining node per second.",
     .initial = "64",
     .type = KEY_COUNT,
     .min = 1,
     .max = 10000,
     .reloadable = true,
     FIELD(config, failover.moves_per_second)},

    {.path = "limits.message",
     .help = "Longest RTMP message.",
     .initial = "4MiB",
     .type = KEY_SIZE,
     .min = 64 * KIB,
     .max = 16 * MIB,
     .reloadable = true,
     FIELD(config, limits.message_bytes)},
    {.path = "limits.unfinished",
     .help = "Most bytes of messages begun and not yet complete on one connection; at least "
             "`limits.message`.",
     .initial = "8MiB",
     .type = KEY_SIZE,
     .min = 64 * KIB,
     .max = GIB,
     .reloadable = true,
     FIELD(config, limits.unfinished_bytes)},
    {.path = "limits.chunk",
     .help = "Largest chunk size that a peer may set.",
     .initial = "16777215",
     .type = KEY_SIZE,
     .min = RTMP_DEFAULT_CHUNK_BYTES,
     .max = RTMP_CHUNK_BYTES_MAX,
     .reloadable = true,
     FIELD(config, limits.chunk_bytes)},
    {.path = "limits.unrouted",
     .help = "Most bytes received from a client before publish or play.",
     .initial = "64KiB",
     .type = KEY_SIZE,
     .min = 4 * KIB,
     .max = 16 * MIB,
     .reloadable = true,
     FIELD(config, limits.unrouted_bytes)},
    {.path = "limits.connections",
     .help = "Most client connections of the router, in equal shares for its workers; 0: no limit.",
     .initial = "20000",
     .type = KEY_COUNT,
     .max = 10000000,
     .reloadable = true,
     FIELD(config, limits.connections)},
    {.path = "limits.unrouted_share",
     .help = "Most connections that neither publish nor play yet, as a share of "
             "`limits.connections`; "
             "the oldest of them makes room for the next.",
     .initial = "50%",
     .type = KEY_PERCENT,
     .min = 1,
     .max = 100,
     .reloadable = true,
     FIELD(config, limits.unrouted_share)},
    {.path = "limits.connections_per_address",
     .help = "Most connections from one client address; 0: no limit.",
     .initial = "0",
     .type = KEY_COUNT,
     .max = 10000000,
     .reloadable = true,
     FIELD(config, limits.connections_per_address)},
    {.path = "limits.connection_rate_per_address",
     .help = "New connections per second from one client address; 0: no limit.",
     .initial = "0",
     .type = KEY_COUNT,
     .max = 1000000,
     .reloadable = true,
     FIELD(config, limits.connection_rate_per_address)},
    {.path = "limits.sessions_per_app",
     .help = "Most publishers and players of one application, the first part of a stream's name; "
             "0: no limit.",
     .initial = "0",
     .type = KEY_COUNT,
     .max = 10000000,
     .reloadable = true,
     FIELD(config, limits.sessions_per_app)},
    {.path = "limits.session_rate_per_app",
     .help = "New publishers and players per second of one application; 0: no limit.",
     .initial = "0",
     .type = KEY_COUNT,
     .max = 1000000,
     .reloadable = true,
     FIELD(config, limits.session_rate_per_app)},
    {.path = "limits.memory",
     .help = "Memory for the data of all sessions of the router, in equal shares for its workers; "
             "0: no "
             "limit. From three quarters of it on less is kept for `failover`.",
     .initial = "4GiB",
     .type = KEY_SIZE,
     .zero = true,
     .min = 64 * MIB,
     .max = GIB * 1024 * 16,
     .reloadable = true,
     FIELD(config, limits.memory_bytes)},

    {.path = "access.keys",
     .help = "File of the keys that sign tokens, a line each; the first one makes new ones. Not "
             "readable by everybody. Empty: there are no tokens.",
     .initial = "",
     .type = KEY_TEXT,
     .form = &file_form,
     .reloadable = true,
     FIELD(config, access.keys)},
    {.path = "access.rules",
     .help = "Who may publish and play. The first rule that fits counts; a stream that none fits "
             "is denied. Without rules everything is allowed.",
     .initial = "[]",
     .type = KEY_RULES,
     .max = RULES_MAX,
     .reloadable = true},
    {.path = "access.rules[].app",
     .help = "Application the rule is for, or a longer beginning of the stream's name: `live`, "
             "`live/cam1`, `*`.",
     .type = KEY_TEXT,
     .form = &rule_app_form,
     .reloadable = true,
     FIELD(config_rule, app)},
    {.path = "access.rules[].kind",
     .help = "Whether it is for publishers, for players, or for both.",
     .initial = "both",
     .type = KEY_ENUM,
     .names = access_kind_names,
     .reloadable = true,
     FIELD(config_rule, kind)},
    {.path = "access.rules[].from",
     .help = "Client addresses it is for; none: all.",
     .initial = "[]",
     .type = KEY_CIDRS,
     .max = CONFIG_CIDRS_MAX,
     .reloadable = true,
     FIELD(config_rule, from)},
    {.path = "access.rules[].action",
     .help = "allow, deny, or allow with a valid token of the stream only.",
     .type = KEY_ENUM,
     .names = access_action_names,
     .reloadable = true,
     FIELD(config_rule, action)},

    {.path = "healthd.interval",
     .help = "Time between two rounds of checks of a node; 20 % is left to chance, so that nodes "
             "are not "
             "checked all at once.",
     .initial = "1s",
     .type = KEY_DURATION,
     .min = 100,
     .max = MINUTE_MS,
     .reloadable = true,
     FIELD(config, healthd.interval_ms)},
    {.path = "healthd.timeout",
     .help = "Time that one check has; what takes longer has failed.",
     .initial = "1s",
     .type = KEY_DURATION,
     .min = 10,
     .max = MINUTE_MS,
     .reloadable = true,
     FIELD(config, healthd.timeout_ms)},
    {.path = "healthd.fast_interval",
     .help = "Time between two rounds while the results speak against the verdict; never more than "
             "`healthd.interval`.",
     .initial = "250ms",
     .type = KEY_DURATION,
     .min = 50,
     .max = MINUTE_MS,
     .reloadable = true,
     FIELD(config, healthd.fast_interval_ms)},
    {.path = "healthd.rise",
     .help = "Good rounds in a row that bring a node up.",
     .initial = "2",
     .type = KEY_COUNT,
     .min = 1,
     .max = 100,
     .reloadable = true,
     FIELD(config, healthd.rise)},
    {.path = "healthd.fall",
     .help = "Failed rounds in a row that take a node down; a router that could not connect to it "
             "counts "
             "as one.",
     .initial = "3",
     .type = KEY_COUNT,
     .min = 1,
     .max = 100,
     .reloadable = true,
     FIELD(config, healthd.fall)},
    {.path = "healthd.checks",
     .help =
         "What a round consists of; all must pass. tcp: connects. rtmp: handshake and connect to "
         "`healthd.app`. stat: reads the statistics page, for nodes that have one. loop: publishes "
         "a "
         "clip and plays it back, every `healthd.loop_interval`.",
     .initial = "[tcp, rtmp, stat]",
     .type = KEY_SET,
     .names = check_names,
     .min = 1,
     .max = HEALTH_CHECK_COUNT,
     .reloadable = true,
     FIELD(config, healthd.checks)},
    {.path = "healthd.app",
     .help = "Application that the rtmp check connects to; every node must have it.",
     .initial = "live",
     .type = KEY_TEXT,
     .form = &app_form,
     .reloadable = true,
     FIELD(config, healthd.app)},
    {.path = "healthd.loop_app",
     .help = "Application that the loop check publishes to and plays from; every node must have "
             "it, for "
             "nothing else.",
     .initial = "weir_probe",
     .type = KEY_TEXT,
     .form = &app_form,
     .reloadable = true,
     FIELD(config, healthd.loop_app)},
    {.path = "healthd.loop_interval",
     .help = "Time between two loop checks of a node.",
     .initial = "30s",
     .type = KEY_DURATION,
     .min = SECOND_MS,
     .max = HOUR_MS,
     .reloadable = true,
     FIELD(config, healthd.loop_interval_ms)},
    {.path = "healthd.flap_max",
     .help = "A node that went up or down so often within `healthd.flap_window` is held down for "
             "`healthd.flap_hold`; 0: never.",
     .initial = "5",
     .type = KEY_COUNT,
     .max = 1000,
     .reloadable = true,
     FIELD(config, healthd.flap_max)},
    {.path = "healthd.flap_window",
     .help = "Time over which ups and downs are counted.",
     .initial = "1m",
     .type = KEY_DURATION,
     .min = SECOND_MS,
     .max = 24 * HOUR_MS,
     .reloadable = true,
     FIELD(config, healthd.flap_window_ms)},
    {.path = "healthd.flap_hold",
     .help = "Time that a node which goes up and down too often is held down.",
     .initial = "1m",
     .type = KEY_DURATION,
     .max = 24 * HOUR_MS,
     .reloadable = true,
     FIELD(config, healthd.flap_hold_ms)},
    {.path = "healthd.stuck_after",
     .help = "A node that takes in nothing for so long while the routers send to it is down, "
             "whatever its "
             "checks say; 0: not looked at. Needs the stat check.",
     .initial = "15s",
     .type = KEY_DURATION,
     .zero = true,
     .min = SECOND_MS,
     .max = HOUR_MS,
     .reloadable = true,
     FIELD(config, healthd.stuck_after_ms)},

    {.path = "admin.listen",
     .help = "Address and port of the API, the metrics and the dashboard. Without `admin.tokens` "
             "only a "
             "loopback address.",
     .initial = "127.0.0.1:8090",
     .type = KEY_TEXT,
     .form = &listen_form,
     FIELD(config, admin.listen)},
    {.path = "admin.tokens",
     .help = "File with the hashes of the tokens that the API asks for; empty: it asks for none.",
     .initial = "",
     .type = KEY_TEXT,
     .form = &file_form,
     .reloadable = true,
     FIELD(config, admin.tokens)},
    {.path = "admin.max_connections",
     .help = "Most connections at a time.",
     .initial = "256",
     .type = KEY_COUNT,
     .min = 1,
     .max = 10000,
     FIELD(config, admin.max_connections)},
    {.path = "admin.max_request",
     .help = "Longest body of a request.",
     .initial = "64KiB",
     .type = KEY_SIZE,
     .min = KIB,
     .max = 16 * MIB,
     .reloadable = true,
     FIELD(config, admin.max_request_bytes)},
    {.path = "admin.request_timeout",
     .help = "A connection on which nothing moves for so long is closed.",
     .initial = "10s",
     .type = KEY_DURATION,
     .min = 100,
     .max = 10 * MINUTE_MS,
     FIELD(config, admin.request_timeout_ms)},

    {.path = "process.user",
     .help = "User that a daemon becomes when root has started it, with that one's groups: the "
             "router when it listens, the others at once. Empty: it stays who it is.",
     .initial = "",
     .type = KEY_TEXT,
     .form = &user_form,
     FIELD(config, process.user)},

    {.path = "log.level",
     .help = "The least important lines that are written.",
     .initial = "info",
     .type = KEY_ENUM,
     .names = level_names,
     .reloadable = true,
     FIELD(config, log.level)},
    {.path = "log.format",
     .help = "Form of the lines.",
     .initial = "logfmt",
     .type = KEY_ENUM,
     .names = format_names,
     .reloadable = true,
     FIELD(config, log.format)},
    {.path = "log.stream_names",
     .help = "Whether stream names are shown; else a short hash stands for each. Names are often "
             "secrets.",
     .initial = "false",
     .type = KEY_BOOL,
     .reloadable = true,
     FIELD(config, log.stream_names)},
    {.path = "log.unrouted",
     .help = "Most lines that a worker writes a second, for each reason, about connections that "
             "were refused or ended without a stream; the others are counted in a "
             "`lines_suppressed`.",
     .initial = "10",
     .type = KEY_COUNT,
     .max = 100000,
     .reloadable = true,
     FIELD(config, log.unrouted)},
};
const size_t key_row_count = sizeof key_rows / sizeof key_rows[0];

/* ---- paths ---- */

const char *key_below(const struct key_row *row, const char *prefix)
{
    const size_t len = strlen(prefix);
    if (len == 0)
        return row->path;
    return strncmp(row->path, prefix, len) == 0 && row->path[len] == '.' ? row->path + len + 1
                                                                         : NULL;
}

bool key_is_map_list(const struct key_row *row)
{
    return row->type == KEY_NODES || row->type == KEY_LISTENS || row->type == KEY_RULES;
}

size_t key_component(const char *path)
{
    return strcspn(path, ".[");
}

const struct key_row *key_find(const char *path)
{
    for (size_t i = 0; i < key_row_count; i++) {
        if (strcmp(key_rows[i].path, path) == 0)
            return &key_rows[i];
    }
    return NULL;
}
