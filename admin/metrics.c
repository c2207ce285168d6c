#include "admin/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

enum metric_kind { METRIC_GAUGE = 0, METRIC_COUNTER, METRIC_HISTOGRAM };

/* What there is one sample of. */
enum metric_per {
    PER_CLUSTER = 0,
    PER_NODE,        /* a node that is known */
    PER_WORKER,      /* a router's worker, dead ones too: counters never fall */
    PER_LIVE_WORKER, /* one with a fresh heartbeat: what only the living have */
    PER_HEALTHD,
    PER_PROCESS,          /* a worker or another daemon, dead ones too */
    PER_REASON,           /* a worker and a reason for which sessions were closed */
    PER_CAUSE,            /* a worker and a cause for which streams were moved */
    PER_WORKER_HISTOGRAM, /* a worker, and each bucket of its histogram */
    PER_PHASE,            /* a worker and a phase of set-up */
    PER_NODE_INFO,
    PER_PROCESS_INFO,
};

/* What a node's samples are taken from. */
struct metrics_node {
    uint64_t up, enabled, draining, weight, streams, sessions;
    uint64_t max_streams, max_sessions, max_bandwidth;
    uint64_t latency_us, in_bps, out_bps, clients, checked_ms;
    uint64_t checks, failures, transitions, generations, dial_failures, skewed, stuck, flapping;
};

static const uint64_t absent = UINT64_MAX; /* no sample */

struct metric {
    const char *name;
    enum metric_kind kind;
    enum metric_per per;
    const char *help;
    size_t offset, size;       /* in metrics_cluster, metrics_node or process_record */
    double per_unit;           /* the field's unit in one base unit; 0: it has the base unit */
    const uint32_t *bounds_us; /* of a histogram; NULL: process_histogram_bounds_us */
};

/* A macro because offsetof and sizeof take the member's name. */
#define FIELD(structure, member)                                                                   \
    .offset = offsetof(struct structure, member), .size = sizeof(((struct structure *)NULL)->member)
/* Macros because C17 takes no const object in a constant initialiser. */
#define MS_PER_S 1e3
#define US_PER_S 1e6
#define BITS_PER_BYTE 8

static const struct metric metrics[] = {
    {.name = "weir_store_up",
     .kind = METRIC_GAUGE,
     .per = PER_CLUSTER,
     .help = "1 if the store can be read; else only the metrics of this process are given.",
     FIELD(metrics_cluster, store_up)},
    {.name = "weir_nodes",
     .kind = METRIC_GAUGE,
     .per = PER_CLUSTER,
     .help = "Nodes known.",
     FIELD(metrics_cluster, census.nodes)},
    {.name = "weir_nodes_enabled",
     .kind = METRIC_GAUGE,
     .per = PER_CLUSTER,
     .help = "Nodes that the operator enabled.",
     FIELD(metrics_cluster, census.nodes_enabled)},
    {.name = "weir_nodes_drain",
     .kind = METRIC_GAUGE,
     .per = PER_CLUSTER,
     .help = "Nodes that are drained.",
     FIELD(metrics_cluster, census.nodes_drain)},
    {.name = "weir_nodes_disabled",
     .kind = METRIC_GAUGE,
     .per = PER_CLUSTER,
     .help = "Nodes that are disabled.",
     FIELD(metrics_cluster, census.nodes_disabled)},
    {.name = "weir_nodes_up",
     .kind = METRIC_GAUGE,
     .per = PER_CLUSTER,
     .help = "Nodes that are up.",
     FIELD(metrics_cluster, census.nodes_up)},
    {.name = "weir_nodes_down",
     .kind = METRIC_GAUGE,
     .per = PER_CLUSTER,
     .help = "Nodes that are down.",
     FIELD(metrics_cluster, census.nodes_down)},
    {.name = "weir_nodes_unknown",
     .kind = METRIC_GAUGE,
     .per = PER_CLUSTER,
     .help = "Nodes of which nothing is known, as without a running weir-healthd.",
     FIELD(metrics_cluster, census.nodes_unknown)},
    {.name = "weir_panic",
     .kind = METRIC_GAUGE,
     .per = PER_CLUSTER,
     .help = "1 if so few nodes are up that streams are placed on all enabled nodes.",
     FIELD(metrics_cluster, panic)},
    {.name = "weir_streams",
     .kind = METRIC_GAUGE,
     .per = PER_CLUSTER,
     .help = "Live streams.",
     FIELD(metrics_cluster, census.streams)},
    {.name = "weir_publishers",
     .kind = METRIC_GAUGE,
     .per = PER_CLUSTER,
     .help = "Publishers connected.",
     FIELD(metrics_cluster, census.publishers)},
    {.name = "weir_players",
     .kind = METRIC_GAUGE,
     .per = PER_CLUSTER,
     .help = "Players connected.",
     FIELD(metrics_cluster, census.players)},
    {.name = "weir_routers",
     .kind = METRIC_GAUGE,
     .per = PER_CLUSTER,
     .help = "Routers with a fresh heartbeat.",
     FIELD(metrics_cluster, census.routers)},
    {.name = "weir_workers",
     .kind = METRIC_GAUGE,
     .per = PER_CLUSTER,
     .help = "Router workers with a fresh heartbeat.",
     FIELD(metrics_cluster, census.workers)},
    {.name = "weir_workers_behind",
     .kind = METRIC_GAUGE,
     .per = PER_CLUSTER,
     .help =
         "Of these, workers that do not act on the latest node list; a change takes them 100 ms.",
     FIELD(metrics_cluster, census.workers_behind)},
    {.name = "weir_healthds",
     .kind = METRIC_GAUGE,
     .per = PER_CLUSTER,
     .help = "Health daemons with a fresh heartbeat; one works, the others stand by.",
     FIELD(metrics_cluster, census.healthds)},
    {.name = "weir_process_info",
     .kind = METRIC_GAUGE,
     .per = PER_PROCESS_INFO,
     .help = "Version of each living process: always 1."},
    {.name = "weir_log_lines_lost_total",
     .kind = METRIC_COUNTER,
     .per = PER_PROCESS,
     .help = "Log lines that were not written because whoever reads the log was too slow; those of "
             "a router's parent are its first worker's.",
     FIELD(process_record, lines_lost)},
    {.name = "weir_node_info",
     .kind = METRIC_GAUGE,
     .per = PER_NODE_INFO,
     .help = "What a node is and runs: always 1."},
    {.name = "weir_node_up",
     .kind = METRIC_GAUGE,
     .per = PER_NODE,
     .help = "1 if the node is up, 0 if it is down; no sample while that is unknown.",
     FIELD(metrics_node, up)},
    {.name = "weir_node_enabled",
     .kind = METRIC_GAUGE,
     .per = PER_NODE,
     .help = "1 if the operator enabled the node.",
     FIELD(metrics_node, enabled)},
    {.name = "weir_node_draining",
     .kind = METRIC_GAUGE,
     .per = PER_NODE,
     .help = "1 if the node is drained.",
     FIELD(metrics_node, draining)},
    {.name = "weir_node_weight",
     .kind = METRIC_GAUGE,
     .per = PER_NODE,
     .help = "Share of new streams, relative to other nodes.",
     FIELD(metrics_node, weight)},
    {.name = "weir_node_streams",
     .kind = METRIC_GAUGE,
     .per = PER_NODE,
     .help = "Streams published to the node.",
     FIELD(metrics_node, streams)},
    {.name = "weir_node_sessions",
     .kind = METRIC_GAUGE,
     .per = PER_NODE,
     .help = "Publishers and players on the node.",
     FIELD(metrics_node, sessions)},
    {.name = "weir_node_streams_limit",
     .kind = METRIC_GAUGE,
     .per = PER_NODE,
     .help = "Most streams of the node; no sample without a limit.",
     FIELD(metrics_node, max_streams)},
    {.name = "weir_node_sessions_limit",
     .kind = METRIC_GAUGE,
     .per = PER_NODE,
     .help = "Most sessions of the node; no sample without a limit.",
     FIELD(metrics_node, max_sessions)},
    {.name = "weir_node_limit_bytes_per_second",
     .kind = METRIC_GAUGE,
     .per = PER_NODE,
     .help = "Bandwidth above which the node takes no new streams; no sample without a limit.",
     FIELD(metrics_node, max_bandwidth),
     .per_unit = BITS_PER_BYTE},
    {.name = "weir_node_latency_seconds",
     .kind = METRIC_GAUGE,
     .per = PER_NODE,
     .help = "How long the last good RTMP check of the node took.",
     FIELD(metrics_node, latency_us),
     .per_unit = US_PER_S},
    {.name = "weir_node_receive_bytes_per_second",
     .kind = METRIC_GAUGE,
     .per = PER_NODE,
     .help = "What the node says it receives.",
     FIELD(metrics_node, in_bps),
     .per_unit = BITS_PER_BYTE},
    {.name = "weir_node_transmit_bytes_per_second",
     .kind = METRIC_GAUGE,
     .per = PER_NODE,
     .help = "What the node says it sends.",
     FIELD(metrics_node, out_bps),
     .per_unit = BITS_PER_BYTE},
    {.name = "weir_node_clients",
     .kind = METRIC_GAUGE,
     .per = PER_NODE,
     .help = "Connections that the node says it has, those past the routers included.",
     FIELD(metrics_node, clients)},
    {.name = "weir_node_checked_timestamp_seconds",
     .kind = METRIC_GAUGE,
     .per = PER_NODE,
     .help = "When the last round of checks of the node ended.",
     FIELD(metrics_node, checked_ms),
     .per_unit = MS_PER_S},
    {.name = "weir_node_checks_total",
     .kind = METRIC_COUNTER,
     .per = PER_NODE,
     .help = "Rounds of checks of the node, and connections to it that routers could not make.",
     FIELD(metrics_node, checks)},
    {.name = "weir_node_check_failures_total",
     .kind = METRIC_COUNTER,
     .per = PER_NODE,
     .help = "Checks of the node that failed.",
     FIELD(metrics_node, failures)},
    {.name = "weir_node_transitions_total",
     .kind = METRIC_COUNTER,
     .per = PER_NODE,
     .help = "Changes between up and down.",
     FIELD(metrics_node, transitions)},
    {.name = "weir_node_generations_total",
     .kind = METRIC_COUNTER,
     .per = PER_NODE,
     .help = "Server processes seen on the node: each reload or restart adds one.",
     FIELD(metrics_node, generations)},
    {.name = "weir_node_dial_failures_total",
     .kind = METRIC_COUNTER,
     .per = PER_NODE,
     .help = "Connections to the node that routers could not make.",
     FIELD(metrics_node, dial_failures)},
    {.name = "weir_node_skewed",
     .kind = METRIC_GAUGE,
     .per = PER_NODE,
     .help = "1 if the node differs from the others in version or configuration.",
     FIELD(metrics_node, skewed)},
    {.name = "weir_node_stuck",
     .kind = METRIC_GAUGE,
     .per = PER_NODE,
     .help = "1 if the node takes data and makes nothing of it.",
     FIELD(metrics_node, stuck)},
    {.name = "weir_node_flapping",
     .kind = METRIC_GAUGE,
     .per = PER_NODE,
     .help = "1 if the node is held down because it came and went too often.",
     FIELD(metrics_node, flapping)},
    {.name = "weir_router_up",
     .kind = METRIC_GAUGE,
     .per = PER_WORKER,
     .help = "1 if the worker has a fresh heartbeat."},
    {.name = "weir_router_sessions",
     .kind = METRIC_GAUGE,
     .per = PER_LIVE_WORKER,
     .help = "Client connections.",
     FIELD(process_record, sessions)},
    {.name = "weir_router_publishers",
     .kind = METRIC_GAUGE,
     .per = PER_LIVE_WORKER,
     .help = "Publishers.",
     FIELD(process_record, publishers)},
    {.name = "weir_router_players",
     .kind = METRIC_GAUGE,
     .per = PER_LIVE_WORKER,
     .help = "Players.",
     FIELD(process_record, players)},
    {.name = "weir_router_memory_bytes",
     .kind = METRIC_GAUGE,
     .per = PER_LIVE_WORKER,
     .help = "Memory in use for the data of sessions.",
     FIELD(process_record, memory_bytes)},
    {.name = "weir_router_loop_turn_max_seconds",
     .kind = METRIC_GAUGE,
     .per = PER_LIVE_WORKER,
     .help = "Longest turn of the event loop in the last second, by wall clock.",
     FIELD(process_record, loop_turn_max_us),
     .per_unit = US_PER_S},
    {.name = "weir_router_loop_turn_seconds",
     .kind = METRIC_HISTOGRAM,
     .per = PER_WORKER_HISTOGRAM,
     .help = "CPU time of the event loop's turns, for those under 2.5 ms and the first longer one "
             "in 10 s the wall clock: nothing else happens on the worker meanwhile.",
     FIELD(process_record, loop_turns)},
    {.name = "weir_router_shared_links",
     .kind = METRIC_GAUGE,
     .per = PER_LIVE_WORKER,
     .help = "Node links that players may share (relay.share_playback).",
     FIELD(process_record, shared_links)},
    {.name = "weir_router_share_skips_total",
     .kind = METRIC_COUNTER,
     .per = PER_WORKER,
     .help = "How often a player of a shared link was too slow and was skipped to a keyframe.",
     FIELD(process_record, share_skips)},
    {.name = "weir_router_connections_total",
     .kind = METRIC_COUNTER,
     .per = PER_WORKER,
     .help = "Connections accepted.",
     FIELD(process_record, accepted)},
    {.name = "weir_router_refused_total",
     .kind = METRIC_COUNTER,
     .per = PER_WORKER,
     .help = "Connections refused before there was a session.",
     FIELD(process_record, refused)},
    {.name = "weir_router_placements_total",
     .kind = METRIC_COUNTER,
     .per = PER_WORKER,
     .help = "Sessions placed on a node.",
     FIELD(process_record, placed)},
    {.name = "weir_router_retries_total",
     .kind = METRIC_COUNTER,
     .per = PER_WORKER,
     .help = "Nodes that failed before the client was told, so that another one was tried.",
     FIELD(process_record, retried)},
    {.name = "weir_router_dial_failures_total",
     .kind = METRIC_COUNTER,
     .per = PER_WORKER,
     .help = "Connections to nodes that could not be made.",
     FIELD(process_record, failed_dials)},
    {.name = "weir_router_takeovers_total",
     .kind = METRIC_COUNTER,
     .per = PER_WORKER,
     .help = "Live streams taken over by a second publisher.",
     FIELD(process_record, taken_over)},
    {.name = "weir_router_players_moved_total",
     .kind = METRIC_COUNTER,
     .per = PER_WORKER,
     .help = "Waiting players attached to the node where their stream turned up.",
     FIELD(process_record, players_moved)},
    {.name = "weir_router_receive_bytes_total",
     .kind = METRIC_COUNTER,
     .per = PER_WORKER,
     .help = "Bytes received from clients.",
     FIELD(process_record, bytes_in)},
    {.name = "weir_router_transmit_bytes_total",
     .kind = METRIC_COUNTER,
     .per = PER_WORKER,
     .help = "Bytes sent to clients.",
     FIELD(process_record, bytes_out)},
    {.name = "weir_router_store_errors_total",
     .kind = METRIC_COUNTER,
     .per = PER_WORKER,
     .help = "Calls of the store that failed.",
     FIELD(process_record, store_errors)},
    {.name = "weir_router_sessions_closed_total",
     .kind = METRIC_COUNTER,
     .per = PER_REASON,
     .help = "Sessions and connections closed, by reason."},
    {.name = "weir_router_setup_duration_seconds",
     .kind = METRIC_HISTOGRAM,
     .per = PER_PHASE,
     .help = "How long sessions waited until their stream started, by phase."},
    {.name = "weir_rehome_moves_total",
     .kind = METRIC_COUNTER,
     .per = PER_CAUSE,
     .help = "Live streams moved to another node, by reason."},
    {.name = "weir_rehome_failures_total",
     .kind = METRIC_COUNTER,
     .per = PER_WORKER,
     .help = "Publishers that were closed because no node could be found for their live stream.",
     FIELD(process_record, rehome_failed)},
    {.name = "weir_rehome_players_total",
     .kind = METRIC_COUNTER,
     .per = PER_WORKER,
     .help = "Players that followed a stream that was moved.",
     FIELD(process_record, rehomed_players)},
    {.name = "weir_rehome_dropped_messages_total",
     .kind = METRIC_COUNTER,
     .per = PER_WORKER,
     .help = "Messages given up beyond failover.gop_bytes while there was no node.",
     FIELD(process_record, rehome_dropped)},
    {.name = "weir_rehome_kept_bytes",
     .kind = METRIC_GAUGE,
     .per = PER_LIVE_WORKER,
     .help = "Media kept for the moving of live streams.",
     FIELD(process_record, kept_bytes)},
    {.name = "weir_rehome_kept_stream_max_bytes",
     .kind = METRIC_GAUGE,
     .per = PER_LIVE_WORKER,
     .help =
         "Media kept of the live stream of which most is kept; never more than failover.gop_bytes.",
     FIELD(process_record, kept_stream_bytes)},
    {.name = "weir_rehome_kept_cuts_total",
     .kind = METRIC_COUNTER,
     .per = PER_WORKER,
     .help = "Groups of pictures no longer kept beyond failover.gop_bytes, or because memory was "
             "short: "
             "players of such a stream would miss something if its node died.",
     FIELD(process_record, kept_cuts)},
    {.name = "weir_rehome_gap_seconds",
     .kind = METRIC_HISTOGRAM,
     .per = PER_WORKER_HISTOGRAM,
     .help = "How long a player was without media while its stream was moved.",
     FIELD(process_record, rehome_gap),
     .bounds_us = process_gap_bounds_us},
    {.name = "weir_healthd_checks_total",
     .kind = METRIC_COUNTER,
     .per = PER_HEALTHD,
     .help = "Checks of all nodes, each of a round counted.",
     FIELD(process_record, checks)},
    {.name = "weir_healthd_check_failures_total",
     .kind = METRIC_COUNTER,
     .per = PER_HEALTHD,
     .help = "Checks of all nodes that failed.",
     FIELD(process_record, check_failures)},
    {.name = "weir_healthd_transitions_total",
     .kind = METRIC_COUNTER,
     .per = PER_HEALTHD,
     .help = "Changes between up and down, of all nodes.",
     FIELD(process_record, transitions)},
    {.name = "weir_admin_requests_total",
     .kind = METRIC_COUNTER,
     .per = PER_CLUSTER,
     .help = "API requests.",
     FIELD(metrics_cluster, requests)},
    {.name = "weir_admin_connections",
     .kind = METRIC_GAUGE,
     .per = PER_CLUSTER,
     .help = "Connections to the API.",
     FIELD(metrics_cluster, connections)},
    {.name = "weir_admin_event_streams",
     .kind = METRIC_GAUGE,
     .per = PER_CLUSTER,
     .help = "Clients that follow events.",
     FIELD(metrics_cluster, event_streams)},
};
enum { METRIC_COUNT = sizeof metrics / sizeof metrics[0] };

/* ---- values ---- */

static uint64_t field_of(const struct metric *m, const void *base)
{
    uint32_t narrow;
    uint64_t wide;
    if (m->size == sizeof narrow) {
        memcpy(&narrow, (const char *)base + m->offset, sizeof narrow);
        return narrow;
    }
    memcpy(&wide, (const char *)base + m->offset, sizeof wide);
    return wide;
}

/* labels: "" or "{...}" */
static void write_sample(FILE *out, const struct metric *m, const char *labels, uint64_t value)
{
    if (value == absent)
        return;
    if (m->per_unit > 0)
        fprintf(out, "%s%s %.15g\n", m->name, labels, (double)value / m->per_unit);
    else
        fprintf(out, "%s%s %" PRIu64 "\n", m->name, labels, value);
}

/* Ids cannot hold what would need it, versions that nodes tell us can. */
static void escape_label(const char *text, char *buf, size_t cap)
{
    static const char unknown[] = "\xef\xbf\xbd"; /* U+FFFD */
    size_t len = 0, left = strlen(text);
    while (left > 0 && len + 5 < cap) {
        uint32_t point;
        const size_t n = utf8_parse((const uint8_t *)text, left, &point);
        const size_t used = n ? n : 1;
        if (*text == '\\' || *text == '"' || *text == '\n')
            buf[len++] = '\\';
        if (*text == '\n') {
            buf[len++] = 'n';
        } else {
            memcpy(buf + len, n ? text : unknown, n ? n : sizeof unknown - 1);
            len += n ? n : sizeof unknown - 1;
        }
        text += used;
        left -= used;
    }
    buf[len] = '\0';
}

enum { LABELS_MAX = 512 };

static void worker_label(const struct process_record *p, char *buf)
{
    char worker[VIEW_WORKER_MAX];
    view_worker_text(&p->id, worker);
    (void)snprintf(buf, LABELS_MAX, "worker=\"%s\"", worker);
}

/* ---- per node ---- */

static uint64_t limit_or_absent(uint64_t limit)
{
    return limit ? limit : absent;
}

static void gather_node(const struct facts *f, uint32_t i, struct metrics_node *out)
{
    const struct node *n = &f->nodes->nodes[i];
    const struct node_status *s = &f->status[i];
    /* without a healthd that says otherwise what it said last would stay for ever */
    const bool known = s->id[0] != '\0' && n->health != NODE_UNKNOWN;
    *out = (struct metrics_node){
        .up = n->health == NODE_UNKNOWN ? absent : n->health == NODE_UP,
        .enabled = n->admin == NODE_ENABLED,
        .draining = n->admin == NODE_DRAIN,
        .weight = n->conf.weight,
        .streams = n->streams,
        .sessions = n->sessions,
        .max_streams = limit_or_absent(n->conf.max_streams),
        .max_sessions = limit_or_absent(n->conf.max_sessions),
        .max_bandwidth = limit_or_absent(n->conf.max_bandwidth),
        .latency_us = known ? limit_or_absent(s->latency_us) : absent,
        .in_bps = known ? s->bandwidth_in : absent,
        .out_bps = known ? s->bandwidth_out : absent,
        .clients = known ? s->clients : absent,
        .checked_ms = limit_or_absent(s->checked_ms),
        .checks = s->checks,
        .failures = s->failures,
        .transitions = s->transitions,
        .generations = s->generations,
        .dial_failures = f->failed[i].count,
        .skewed = known ? s->skewed : absent,
        .stuck = known ? s->stuck : absent,
        .flapping = known ? s->flapping : absent,
    };
}

static void write_nodes(FILE *out, const struct metric *m, const struct metrics_facts *f,
                        const struct metrics_node *gathered)
{
    char labels[LABELS_MAX];
    for (uint32_t i = 0; i < f->facts->nodes->count; i++) {
        (void)snprintf(labels, sizeof labels, "{node=\"%s\"}", f->facts->nodes->nodes[i].conf.id);
        write_sample(out, m, labels, field_of(m, &gathered[i]));
    }
}

static void write_node_infos(FILE *out, const struct metric *m, const struct metrics_facts *f)
{
    char labels[LABELS_MAX], version[3 * STATUS_VERSION_MAX + 8];
    for (uint32_t i = 0; i < f->facts->nodes->count; i++) {
        const struct node *n = &f->facts->nodes->nodes[i];
        escape_label(f->facts->status[i].version, version, sizeof version);
        (void)snprintf(labels, sizeof labels, "{node=\"%s\",source=\"%s\",version=\"%s\"}",
                       n->conf.id, n->source == NODE_FROM_API ? "api" : "config", version);
        write_sample(out, m, labels, 1);
    }
}

/* ---- per process ---- */

static const char *kind_name(const struct process_record *p)
{
    static const char *const names[] = {
        [PROCESS_ROUTER] = "router", [PROCESS_HEALTHD] = "healthd", [PROCESS_ADMIN] = "admin"};
    return census_stands_by(p) ? "healthd_standby" : names[p->kind];
}

/* kind, and which of a router's workers. */
static void process_label(const struct process_record *p, char *buf)
{
    char worker[LABELS_MAX] = "";
    if (p->kind == PROCESS_ROUTER)
        worker_label(p, worker);
    (void)snprintf(buf, LABELS_MAX, "kind=\"%s\"%s%.128s", kind_name(p), worker[0] ? "," : "",
                   worker);
}

static void write_process_info(FILE *out, const struct metric *m, const struct process_record *p)
{
    char labels[LABELS_MAX], process[LABELS_MAX], version[2 * sizeof p->version];
    process_label(p, process);
    escape_label(p->version, version, sizeof version);
    (void)snprintf(labels, sizeof labels, "{%.256s,version=\"%s\"}", process, version);
    write_sample(out, m, labels, 1);
}

static void write_counted(FILE *out, const struct metric *m, const struct process_record *p)
{
    char labels[LABELS_MAX], process[LABELS_MAX];
    process_label(p, process);
    (void)snprintf(labels, sizeof labels, "{%.256s}", process);
    write_sample(out, m, labels, field_of(m, p));
}

static void write_reasons(FILE *out, const struct metric *m, const struct process_record *p)
{
    char labels[LABELS_MAX], worker[LABELS_MAX];
    worker_label(p, worker);
    for (unsigned why = WHY_NONE + 1; why < WHY_COUNT; why++) {
        (void)snprintf(labels, sizeof labels, "{%.128s,reason=\"%s\"}", worker,
                       close_why_name((enum close_why)why));
        write_sample(out, m, labels, p->closed[why]);
    }
}

static void write_causes(FILE *out, const struct metric *m, const struct process_record *p)
{
    char labels[LABELS_MAX], worker[LABELS_MAX];
    worker_label(p, worker);
    for (unsigned cause = 0; cause < REHOME_CAUSE_COUNT; cause++) {
        (void)snprintf(labels, sizeof labels, "{%.128s,reason=\"%s\"}", worker,
                       rehome_cause_name((enum rehome_cause)cause));
        write_sample(out, m, labels, p->rehomed[cause]);
    }
}

/* labels: without braces */
static void write_histogram(FILE *out, const struct metric *m, const char *labels,
                            const struct process_histogram *h)
{
    const uint32_t *bounds_us = m->bounds_us ? m->bounds_us : process_histogram_bounds_us;
    uint64_t below = 0;
    for (unsigned i = 0; i < PROCESS_HISTOGRAM_BUCKETS; i++) {
        below += h->bucket[i];
        fprintf(out, "%s_bucket{%s,le=\"%g\"} %" PRIu64 "\n", m->name, labels,
                bounds_us[i] / US_PER_S, below);
    }
    fprintf(out, "%s_bucket{%s,le=\"+Inf\"} %" PRIu64 "\n", m->name, labels, h->count);
    fprintf(out, "%s_sum{%s} %.15g\n", m->name, labels, (double)h->sum_us / US_PER_S);
    fprintf(out, "%s_count{%s} %" PRIu64 "\n", m->name, labels, h->count);
}

static void write_worker_histogram(FILE *out, const struct metric *m,
                                   const struct process_record *p)
{
    char worker[LABELS_MAX];
    worker_label(p, worker);
    write_histogram(out, m, worker,
                    (const struct process_histogram *)(const void *)((const char *)p + m->offset));
}

static void write_phases(FILE *out, const struct metric *m, const struct process_record *p)
{
    char labels[LABELS_MAX], worker[LABELS_MAX];
    worker_label(p, worker);
    for (unsigned phase = 0; phase < SETUP_PHASE_COUNT; phase++) {
        (void)snprintf(labels, sizeof labels, "%.128s,phase=\"%s\"", worker,
                       setup_phase_name((enum setup_phase)phase));
        write_histogram(out, m, labels, &p->setup[phase]);
    }
}

static void write_worker(FILE *out, const struct metric *m, const struct process_record *p,
                         bool alive)
{
    char labels[LABELS_MAX], worker[LABELS_MAX];
    worker_label(p, worker);
    (void)snprintf(labels, sizeof labels, "{%.128s}", worker);
    write_sample(out, m, labels,
                 m->size ? field_of(m, p) : alive); /* without a field: weir_router_up */
}

static void write_process(FILE *out, const struct metric *m, const struct process_record *p,
                          uint64_t now_ms)
{
    const bool alive = census_alive(p, now_ms), router = p->kind == PROCESS_ROUTER;
    if (m->per == PER_PROCESS_INFO && alive)
        write_process_info(out, m, p);
    else if (m->per == PER_PROCESS)
        write_counted(out, m, p);
    else if (m->per == PER_HEALTHD && p->kind == PROCESS_HEALTHD && !census_stands_by(p))
        write_sample(out, m, "", field_of(m, p));
    else if (m->per == PER_REASON && router)
        write_reasons(out, m, p);
    else if (m->per == PER_PHASE && router)
        write_phases(out, m, p);
    else if (m->per == PER_CAUSE && router)
        write_causes(out, m, p);
    else if (m->per == PER_WORKER_HISTOGRAM && router)
        write_worker_histogram(out, m, p);
    else if (router && (m->per == PER_WORKER || (m->per == PER_LIVE_WORKER && alive)))
        write_worker(out, m, p, alive);
}

/* ---- all ---- */

static const char *kind_of(const struct metric *m)
{
    static const char *const names[] = {
        [METRIC_GAUGE] = "gauge", [METRIC_COUNTER] = "counter", [METRIC_HISTOGRAM] = "histogram"};
    return names[m->kind];
}

static void write_metric(FILE *out, const struct metric *m, const struct metrics_facts *f,
                         const struct metrics_node *gathered)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", m->name, m->help, m->name, kind_of(m));
    if (m->per == PER_CLUSTER)
        write_sample(out, m, "", field_of(m, &f->cluster));
    else if (m->per == PER_NODE)
        write_nodes(out, m, f, gathered);
    else if (m->per == PER_NODE_INFO)
        write_node_infos(out, m, f);
    for (uint32_t i = 0; i < f->process_count; i++)
        write_process(out, m, &f->processes[i], f->now_ms);
}

/* Of this process alone, known without the store. */
static bool is_own(const struct metric *m)
{
    return m->per == PER_CLUSTER && m->offset >= offsetof(struct metrics_cluster, store_up);
}

static void write_all(FILE *out, const struct metrics_facts *f, const struct metrics_node *gathered)
{
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        if (f->facts || is_own(&metrics[i]))
            write_metric(out, &metrics[i], f, gathered);
    }
}

char *metrics_write(const struct metrics_facts *f, size_t *len)
{
    const uint32_t count = f->facts ? f->facts->nodes->count : 0;
    struct metrics_node *gathered = calloc(count + 1u, sizeof *gathered);
    char *text = NULL;
    FILE *out = gathered ? open_memstream(&text, len) : NULL;
    if (out) {
        for (uint32_t i = 0; i < count; i++)
            gather_node(f->facts, i, &gathered[i]);
        write_all(out, f, gathered);
        if (fclose(out) != 0) {
            free(text);
            text = NULL;
        }
    }
    free(gathered);
    return text;
}

char *metrics_reference(void)
{
    static const char *const labels[] = {
        [PER_CLUSTER] = "",
        [PER_NODE] = "node",
        [PER_WORKER] = "worker",
        [PER_LIVE_WORKER] = "worker",
        [PER_HEALTHD] = "",
        [PER_PROCESS] = "kind, worker",
        [PER_REASON] = "worker, reason",
        [PER_CAUSE] = "worker, reason",
        [PER_WORKER_HISTOGRAM] = "worker",
        [PER_PHASE] = "worker, phase",
        [PER_NODE_INFO] = "node, source, version",
        [PER_PROCESS_INFO] = "kind, worker, version",
    };
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    if (!out)
        return NULL;
    fprintf(out, "| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n");
    for (size_t i = 0; i < METRIC_COUNT; i++)
        fprintf(out, "| `%s` | %s | %s | %s |\n", metrics[i].name, kind_of(&metrics[i]),
                labels[metrics[i].per], metrics[i].help);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
