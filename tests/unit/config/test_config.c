#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/config.h"
#include "config/keys.h"

static struct config *load(const char *text)
{
    char error[CONFIG_ERROR_MAX] = "";
    struct config *c = NULL;
    if (config_load_buffer("weir.yaml", text, strlen(text), &c, error) != ERR_OK)
        fail_msg("%s", error);
    return c;
}

static char *print(const struct config *c)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    assert_non_null(out);
    if (c)
        config_print(c, out);
    else
        config_print_reference(out);
    fclose(out);
    return text;
}

static void test_defaults(void **state)
{
    (void)state;
    static const char *const empties[] = {
        "",          "---\n",
        "{}",        "cluster:\nnodes:\nrouter:\n  listen:\nlog: {}\n",
        "nodes: []", "healthd:\n  checks:\nadmin:\n"};
    for (size_t i = 0; i < sizeof empties / sizeof empties[0]; i++) {
        struct config *c = load(empties[i]);
        assert_string_equal(c->cluster_name, "weir");
        assert_string_equal(c->store, "lmdb:/var/lib/weir");
        assert_string_equal(c->live, "/run/weir/weir");
        assert_int_equal(c->node_count, 0);
        assert_true(c->placement.max_load_factor == 1.25 && c->placement.panic_threshold == 0.5);
        assert_int_equal(c->placement.slow_start_ms, 60000);
        assert_int_equal(c->placement.hold_ms, 30000);
        assert_int_equal(c->placement.duplicate_publish, DUPLICATE_TAKEOVER_SAME_CLIENT);
        assert_false(c->placement.vhost);
        assert_string_equal(c->router.id, "router1");
        assert_int_equal(c->router.workers, 0);
        assert_int_equal(c->router.listen_count, 1);
        assert_string_equal(c->router.listen[0].address, "0.0.0.0:1935");
        assert_int_equal(c->router.listen[0].proxy_protocol, LISTEN_PROXY_OFF);
        assert_int_equal(c->router.retries, 2);
        assert_int_equal(c->router.dial_timeout_ms, 2000);
        assert_int_equal(c->router.answer_timeout_ms, 10000);
        assert_int_equal(c->router.setup_timeout_ms, 20000);
        assert_int_equal(c->router.handshake_timeout_ms, 10000);
        assert_int_equal(c->router.idle_timeout_ms, 30000);
        assert_int_equal(c->router.ping_interval_ms, 30000);
        assert_int_equal(c->router.ping_timeout_ms, 90000);
        assert_int_equal(c->router.shutdown_grace_ms, 30000);
        assert_int_equal(c->relay.buffer_bytes, 4u << 20);
        assert_int_equal(c->relay.stall_timeout_ms, 10000);
        assert_int_equal(c->relay.coalesce_us, 500);
        assert_int_equal(c->failover.stall_ms, 2000);
        assert_int_equal(c->failover.reach_ms, 3000);
        assert_int_equal(c->failover.gop_bytes, 16u << 20);
        assert_int_equal(c->failover.grace_ms, 500);
        assert_int_equal(c->failover.give_up_ms, 30000);
        assert_int_equal(c->failover.max_moves, 5);
        assert_int_equal(c->failover.moves_per_second, 64);
        assert_int_equal(c->limits.message_bytes, 4u << 20);
        assert_int_equal(c->limits.unfinished_bytes, 8u << 20);
        assert_int_equal(c->limits.chunk_bytes, RTMP_CHUNK_BYTES_MAX);
        assert_int_equal(c->limits.unrouted_bytes, 64u << 10);
        assert_int_equal(c->limits.connections, 20000);
        assert_true(c->limits.unrouted_share == 0.5);
        assert_int_equal(c->limits.connections_per_address, 0);
        assert_int_equal(c->limits.connection_rate_per_address, 0);
        assert_int_equal(c->limits.memory_bytes, UINT64_C(4) << 30);
        assert_int_equal(c->healthd.interval_ms, 1000);
        assert_int_equal(c->healthd.timeout_ms, 1000);
        assert_int_equal(c->healthd.fast_interval_ms, 250);
        assert_int_equal(c->healthd.rise, 2);
        assert_int_equal(c->healthd.fall, 3);
        assert_int_equal(c->healthd.checks, 1u << CHECK_TCP | 1u << CHECK_RTMP | 1u << CHECK_STAT);
        assert_string_equal(c->healthd.app, "live");
        assert_string_equal(c->healthd.loop_app, "weir_probe");
        assert_int_equal(c->healthd.loop_interval_ms, 30000);
        assert_int_equal(c->healthd.flap_max, 5);
        assert_int_equal(c->healthd.flap_window_ms, 60000);
        assert_int_equal(c->healthd.flap_hold_ms, 60000);
        assert_int_equal(c->healthd.stuck_after_ms, 15000);
        assert_string_equal(c->admin.listen, "127.0.0.1:8090");
        assert_string_equal(c->admin.tokens, "");
        assert_int_equal(c->admin.max_connections, 256);
        assert_int_equal(c->admin.max_request_bytes, 64u << 10);
        assert_int_equal(c->admin.request_timeout_ms, 10000);
        assert_int_equal(c->log.level, LOG_INFO);
        assert_int_equal(c->log.format, LOG_LOGFMT);
        assert_false(c->log.stream_names);
        assert_int_equal(c->log.unrouted, 10);
        config_destroy(c);
    }
}

static const char full[] =
    "cluster: {name: demo, store: 'lmdb:/srv/a \"b\" \\c', live: /dev/shm/x}\n"
    "nodes:\n"
    "  - {id: n1, rtmp: '10.0.0.11:1936', stat: 'http://10.0.0.11:8080/stat', weight: 0, "
    "max_streams: 5,\n"
    "     max_sessions: 6, max_bandwidth: 8Mbit/s, send_proxy: v2}\n"
    "  - {id: n-2.a_b, rtmp: media}\n"
    "placement: {max_load_factor: 2.000001, slow_start: 0, panic_threshold: 33.3%, hold: 1500ms,\n"
    "            duplicate_publish: reject, vhost: true}\n"
    "router:\n"
    "  id: r2\n"
    "  workers: 3\n"
    "  listen:\n"
    "    - {address: '*:1935'}\n"
    "    - {address: '[::]:1936', proxy_protocol: required, trust: [10.1.2.3/8, '::1', "
    "127.0.0.1]}\n"
    "  dial_timeout: 1m\n"
    "  shutdown_grace: 2h\n"
    "limits: {message: 65536, unfinished: 64KiB, memory: 0, chunk: 128, connections: 0}\n"
    "access:\n"
    "  keys: /etc/weir/stream-keys\n"
    "  rules:\n"
    "    - {app: live, kind: publish, from: [10.0.0.0/8, '2001:db8::/32'], action: allow}\n"
    "    - {app: live/*, kind: play, action: token}\n"
    "    - {app: '*', action: deny}\n"
    "healthd: {interval: 500ms, fall: 1, checks: [loop, tcp, tcp], app: a/b, stuck_after: 0}\n"
    "admin: {listen: '[::]:8443', tokens: /etc/weir/tokens, max_request: 1KiB}\n"
    "log: {level: debug, format: json, stream_names: true}\n";

static void test_values(void **state)
{
    (void)state;
    struct config *c = load(full);
    assert_string_equal(c->cluster_name, "demo");
    assert_string_equal(c->store, "lmdb:/srv/a \"b\" \\c");
    assert_string_equal(c->live, "/dev/shm/x");
    assert_int_equal(c->node_count, 2);
    assert_string_equal(c->nodes[0].id, "n1");
    assert_string_equal(c->nodes[0].stat, "http://10.0.0.11:8080/stat");
    assert_int_equal(c->nodes[0].weight, 0);
    assert_int_equal(c->nodes[0].max_streams, 5);
    assert_int_equal(c->nodes[0].max_sessions, 6);
    assert_int_equal(c->nodes[0].max_bandwidth, 8000000);
    assert_int_equal(c->nodes[0].send_proxy, SEND_PROXY_V2);
    assert_string_equal(c->nodes[1].rtmp, "media");
    assert_int_equal(c->nodes[1].weight, 100);
    assert_string_equal(c->nodes[1].stat, "");
    assert_true(c->placement.max_load_factor == 2.000001 && c->placement.panic_threshold == 0.333);
    assert_int_equal(c->placement.slow_start_ms, 0);
    assert_int_equal(c->placement.hold_ms, 1500);
    assert_true(c->placement.vhost);
    assert_int_equal(c->router.workers, 3);
    assert_int_equal(c->router.listen_count, 2);
    assert_int_equal(c->router.listen[0].trust.count, 0);
    assert_int_equal(c->router.listen[1].proxy_protocol, LISTEN_PROXY_REQUIRED);
    assert_int_equal(c->router.listen[1].trust.count, 3);
    assert_int_equal(c->router.listen[1].trust.list[0].bits, 104);
    assert_int_equal(c->router.dial_timeout_ms, 60000);
    assert_int_equal(c->router.shutdown_grace_ms, 7200000);
    assert_int_equal(c->limits.memory_bytes, 0);
    assert_int_equal(c->limits.chunk_bytes, 128);
    assert_string_equal(c->access.keys, "/etc/weir/stream-keys");
    assert_int_equal(c->access.rule_count, 3);
    assert_string_equal(c->access.rules[0].app, "live");
    assert_int_equal(c->access.rules[0].kind, ACCESS_PUBLISH);
    assert_int_equal(c->access.rules[0].from.count, 2);
    assert_int_equal(c->access.rules[0].action, ACCESS_ALLOW);
    assert_int_equal(c->access.rules[1].kind, ACCESS_PLAY);
    assert_int_equal(c->access.rules[1].action, ACCESS_TOKEN);
    assert_int_equal(c->access.rules[2].kind, ACCESS_BOTH);
    assert_int_equal(c->access.rules[2].from.count, 0);
    assert_int_equal(c->access.rules[2].action, ACCESS_DENY);
    assert_int_equal(c->healthd.interval_ms, 500);
    assert_int_equal(c->healthd.fall, 1);
    assert_int_equal(c->healthd.checks, 1u << CHECK_LOOP | 1u << CHECK_TCP);
    assert_string_equal(c->healthd.app, "a/b");
    assert_int_equal(c->healthd.stuck_after_ms, 0);
    assert_string_equal(c->admin.listen, "[::]:8443");
    assert_string_equal(c->admin.tokens, "/etc/weir/tokens");
    assert_int_equal(c->admin.max_request_bytes, 1024);
    assert_int_equal(c->log.level, LOG_DEBUG);
    assert_true(c->log.stream_names);
    config_destroy(c);
}

/* live follows the name of the cluster, wherever in the text that stands. */
static void test_live_follows_name(void **state)
{
    (void)state;
    struct config *c = load("log: {level: warn}\ncluster: {name: tv}\n");
    assert_string_equal(c->live, "/run/weir/tv");
    config_destroy(c);
}

static void test_print_loads_again(void **state)
{
    (void)state;
    static const char *const texts[] = {"", full};
    for (size_t i = 0; i < 2; i++) {
        struct config *c = load(texts[i]);
        char *text = print(c);
        struct config *again = load(text);
        char *text_again = print(again);
        assert_string_equal(text, text_again);
        assert_int_equal(c->node_count, again->node_count);
        assert_int_equal(c->router.listen_count, again->router.listen_count);
        assert_memory_equal(c->router.listen, again->router.listen,
                            c->router.listen_count * sizeof *c->router.listen);
        assert_memory_equal(&c->placement, &again->placement, sizeof c->placement);
        assert_memory_equal(&c->limits, &again->limits, sizeof c->limits);
        assert_memory_equal(&c->healthd, &again->healthd, sizeof c->healthd);
        assert_memory_equal(&c->admin, &again->admin, sizeof c->admin);
        free(text_again);
        config_destroy(again);
        free(text);
        config_destroy(c);
    }
}

struct refusal {
    const char *text, *starts, *also;
};

static void check_refusals(const struct refusal *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char error[CONFIG_ERROR_MAX] = "";
        struct config *c = NULL;
        assert_int_equal(config_load_buffer("f", cases[i].text, strlen(cases[i].text), &c, error),
                         ERR_INVALID);
        assert_null(c);
        if (strncmp(error, cases[i].starts, strlen(cases[i].starts)) != 0 ||
            !strstr(error, cases[i].also))
            fail_msg("%s\n  gives %s\n  not %s ... %s", cases[i].text, error, cases[i].starts,
                     cases[i].also);
    }
}

static void test_refused_values(void **state)
{
    (void)state;
    static const struct refusal cases[] = {
        {"router: {dial_timeout: 2}", "f:1:24: router.dial_timeout: found 2, allowed: 10ms to 5m",
         "; a duration needs a unit: 2s or 2ms?"},
        {"router: {dial_timeout: 0}", "f:1:24: router.dial_timeout: found 0, allowed: 10ms to 5m",
         ""},
        {"router: {dial_timeout: 1.5s}", "f:1:24: router.dial_timeout: found 1.5s",
         "500ms, 2s, 5m, 1h"},
        {"router: {dial_timeout: 6m}", "f:1:24: router.dial_timeout: found 6m, allowed: 10ms to 5m",
         ""},
        {"router: {dial_timeout: -2s}", "f:1:24: router.dial_timeout: found -2s", ""},
        {"router: {dial_timeout: 18446744073709551615h}", "f:1:24: router.dial_timeout: found",
         "allowed: 10ms"},
        {"relay: {coalesce: 21ms}", "f:1:19: relay.coalesce: found 21ms, allowed: 0 to 20ms", ""},
        {"relay: {coalesce: 1}", "f:1:19: relay.coalesce: found 1, allowed: 0 to 20ms",
         "; a delay needs a unit: 500us, 2ms"},
        {"relay: {buffer: 4MB}", "f:1:17: relay.buffer: found 4MB, allowed: 64KiB to 1GiB",
         "64KiB, 4MiB, 1GiB"},
        {"relay: {buffer: 1}", "f:1:17: relay.buffer: found 1, allowed: 64KiB to 1GiB", ""},
        {"relay:\n  buffer:\n", "f:2:10: relay.buffer: found nothing, allowed: 64KiB", ""},
        {"relay: {buffer: [1]}", "f:1:17: relay.buffer: found a list, allowed: 64KiB", ""},
        {"relay: {buffer: {a: 1}}", "f:1:17: relay.buffer: found a map, allowed: 64KiB", ""},
        {"router: {retries: 17}", "f:1:19: router.retries: found 17, allowed: 0 to 16", ""},
        {"router: {retries: 0x2}", "f:1:19: router.retries: found 0x2, allowed: 0 to 16", ""},
        {"router: {workers: 0}", "f:1:19: router.workers: found 0, allowed: auto, or 1 to 64", ""},
        {"router: {workers: many}", "f:1:19: router.workers: found many, allowed: auto, or 1 to 64",
         ""},
        {"router: {id: 'a b'}", "f:1:14: router.id: found \"a b\", allowed: letters", ""},
        {"router: {id: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}",
         "f:1:14: router.id: found 43 bytes, allowed: at most 31", ""},
        {"cluster: {name: ..}", "f:1:17: cluster.name: found .., allowed: letters", ""},
        {"cluster: {store: /var/lib}", "f:1:18: cluster.store: found /var/lib, allowed: lmdb: and",
         ""},
        {"cluster: {live: run}", "f:1:17: cluster.live: found run, allowed: an absolute", ""},
        {"cluster: {live: \"/a\\nb\"}", "f:1:17: cluster.live: found \"/a\\nb\", allowed", ""},
        {"placement: {vhost: yes}", "f:1:20: placement.vhost: found yes, allowed: true or false",
         ""},
        {"placement: {max_load_factor: 0.5}",
         "f:1:30: placement.max_load_factor: found 0.5, allowed: 0, or 1 to 100", ""},
        {"placement: {max_load_factor: 1e2}", "f:1:30: placement.max_load_factor: found 1e2", ""},
        {"placement: {panic_threshold: 101%}",
         "f:1:30: placement.panic_threshold: found 101%, allowed", ""},
        {"placement: {panic_threshold: 50}",
         "f:1:30: placement.panic_threshold: found 50, allowed: 0% to 100%",
         "; a percentage ends in %"},
        {"placement: {duplicate_publish: kill}",
         "f:1:32: placement.duplicate_publish: found kill, allowed: one of "
         "takeover, reject, takeover_same_client",
         ""},
        {"limits: {chunk: 127}", "f:1:17: limits.chunk: found 127, allowed: 128 to 16777215", ""},
        {"limits: {memory: 1MiB}",
         "f:1:18: limits.memory: found 1MiB, allowed: 0, or 64MiB to 16384GiB", ""},
        {"log: {level: loud}",
         "f:1:14: log.level: found loud, allowed: one of error, warn, info, debug", ""},
        {"nodes: [{id: a, rtmp: b, max_bandwidth: 8M}]",
         "f:1:41: nodes[0].max_bandwidth: found 8M, allowed: 0, or "
         "1kbit/s to 1000Gbit/s",
         "8Mbit/s"},
        {"nodes: [{id: a, rtmp: '*:1935'}]", "f:1:23: nodes[0].rtmp: found *:1935, allowed: HOST",
         ""},
        {"nodes: [{id: a, rtmp: b, stat: 'https://b/'}]",
         "f:1:32: nodes[0].stat: found https://b/, allowed: http://", ""},
        {"router: {listen: [{address: 10.0.0.1}]}",
         "f:1:29: router.listen[0].address: found 10.0.0.1, allowed: HOST:PORT", ""},
        {"router: {listen: [{address: 'a:1', trust: [1.2.3]}]}",
         "f:1:44: router.listen[0].trust: found 1.2.3, allowed:", "10.0.0.0/8"},
        {"router: {listen: [{address: 'a:1', trust: 10.0.0.0/8}]}",
         "f:1:43: router.listen[0].trust: found 10.0.0.0/8, "
         "allowed: a list",
         ""},
        {"healthd: {interval: 90s}", "f:1:21: healthd.interval: found 90s, allowed: 100ms to 1m",
         ""},
        {"healthd: {fast_interval: 0}", "f:1:26: healthd.fast_interval: found 0", ""},
        {"healthd: {rise: 0}", "f:1:17: healthd.rise: found 0, allowed: 1 to 100", ""},
        {"healthd: {checks: tcp}",
         "f:1:19: healthd.checks: found tcp, allowed: a list of one or more of tcp, rtmp, stat, "
         "loop",
         ""},
        {"healthd: {checks: []}", "f:1:19: healthd.checks: found a list of 0, allowed: a list", ""},
        {"healthd: {checks: [tcp, udp]}",
         "f:1:25: healthd.checks: found udp, allowed: a list of one or more of tcp", ""},
        {"healthd: {checks: [tcp, [rtmp]]}", "f:1:25: healthd.checks: found a list, allowed", ""},
        {"healthd: {checks: [tcp, ~]}", "f:1:25: healthd.checks: found nothing, allowed", ""},
        {"healthd: {checks: [tcp, tcp, tcp, tcp, tcp]}",
         "f:1:19: healthd.checks: found a list of 5, allowed", ""},
        {"healthd: {app: ''}", "f:1:16: healthd.app: found \"\", allowed: an application", ""},
        {"healthd: {app: /live}", "f:1:16: healthd.app: found /live, allowed", ""},
        {"healthd: {loop_app: 'a?b'}", "f:1:21: healthd.loop_app: found \"a?b\", allowed", ""},
        {"healthd: {stuck_after: 500ms}",
         "f:1:24: healthd.stuck_after: found 500ms, allowed: 0, or 1s to 1h", ""},
        {"admin: {listen: 8090}", "f:1:17: admin.listen: found 8090, allowed: HOST:PORT", ""},
        {"admin: {tokens: tokens}", "f:1:17: admin.tokens: found tokens, allowed: an absolute", ""},
        {"admin: {max_request: 17MiB}",
         "f:1:22: admin.max_request: found 17MiB, allowed: 1KiB to 16MiB", ""},
        {"admin: {max_connections: 0}", "f:1:26: admin.max_connections: found 0", ""},
    };
    check_refusals(cases, sizeof cases / sizeof cases[0]);
}

static void test_refused_shapes(void **state)
{
    (void)state;
    static const struct refusal cases[] = {
        {"router: {dail_timeout: 2s}",
         "f:1:10: router.dail_timeout: unknown key; did you mean dial_timeout?", ""},
        {"ruoter: {}", "f:1:1: ruoter: unknown key; did you mean router?", ""},
        {"workers: 2", "f:1:1: workers: unknown key; did you mean router.workers?", ""},
        {"failover: {stall: 4s, reach: 4500ms}",
         "f:1:30: failover.reach: found 4500ms, allowed: at least 1s more than failover.stall", ""},
        {"relay: {zzzzzz: 2}",
         "f:1:9: relay.zzzzzz: unknown key; known here: buffer, stall_timeout", ""},
        {"router.workers: 2", "f:1:1: router.workers: unknown key", ""},
        {"nodes[].id: 2", "f:1:1: nodes[].id: unknown key", ""},
        {"\"x\\ny\": 2", "f:1:1: \"x\\ny\": unknown key", ""},
        {"nodes: [{id: a, rtmp: b, wieght: 2}]",
         "f:1:26: nodes[0].wieght: unknown key; did you mean weight?", ""},
        {"log: {level: info}\nlog: {level: warn}",
         "f:2:1: log: found twice, the first time in line 1", ""},
        {"log: {level: info,\n level: warn}",
         "f:2:2: log.level: found twice, the first time in line 1", ""},
        {"router: 5", "f:1:9: router: found 5, allowed: a map", ""},
        {"router: []", "f:1:9: router: found a list, allowed: a map", ""},
        {"- a", "f:1:1: found a list, allowed: a map", ""},
        {"hello", "f:1:1: found hello, allowed: a map", ""},
        {"nodes: {n1: a}", "f:1:8: nodes: found a map, allowed: a list of 0 to 1024", ""},
        {"nodes: [n1]", "f:1:9: nodes[0]: found n1, allowed: a map", ""},
        {"nodes:\n  - id: a\n", "f:2:5: nodes[0]: rtmp is missing: HOST", ""},
        {"nodes:\n  - {}\n", "f:2:5: nodes[0]: id is missing: letters", ""},
        {"nodes:\n  - {id: a, rtmp: b}\n  - {id: a, rtmp: c}\n",
         "f:3:10: nodes[1].id: found a, which nodes[0] in line 2 has already", ""},
        {"router: {listen: []}",
         "f:1:18: router.listen: found a list of 0, allowed: a list of 1 to 16", ""},
        {"router: {listen: [{}]}", "f:1:19: router.listen[0]: address is missing", ""},
        {"router: {listen: [{address: '[::]:1'}, {address: '*:2'}, {address: '[::]:1'}]}",
         "f:1:68: router.listen[2].address: found [::]:1, which router.listen[0] has already", ""},
        {"router: {listen: [{address: '[::]:1'}, {address: '*:1'}]}",
         "f:1:50: router.listen[1].address: found *:1, which with router.listen[0] is listened on "
         "twice",
         ""},
        {"router: {listen: [{address: '127.0.0.1:1'}, {address: '0.0.0.0:1'}]}",
         "f:1:55: router.listen[1].address: found 0.0.0.0:1, which with router.listen[0]", ""},
        {"router: {listen: [{address: '[::1]:1'}, {address: '*:1'}]}",
         "f:1:51: router.listen[1].address: found *:1, which with router.listen[0]", ""},
        {"router: {listen: [{address: 'a:1', proxy_protocol: required}]}",
         "f:1:19: router.listen[0].trust: found nothing; with proxy_protocol: required", ""},
        {"router: {listen: [{address: 'a:1', proxy_protocol: required, trust: []}]}",
         "f:1:69: router.listen[0].trust: found nothing; with proxy_protocol: required", ""},
        {"router: {listen: [{address: 'a:1'}, {address: 'a:2', trust: [10.0.0.0/8]}]}",
         "f:1:61: router.listen[1].trust: has no effect without proxy_protocol: required", ""},
        {"cluster: {store: 'lmdb:/a', live: /a}",
         "f:1:35: cluster.live: found /a, allowed: another directory than cluster.store", ""},
        {"cluster: {name: c, store: 'lmdb:/run/weir/c'}",
         "f:1:27: cluster.live: found /run/weir/c, allowed: another directory", ""},
        {"healthd: {loop_app: live}",
         "f:1:21: healthd.loop_app: found live, allowed: another application than healthd.app", ""},
        {"healthd: {app: weir_probe}",
         "f:1:16: healthd.loop_app: found weir_probe, allowed: another", ""},
        {"access: {rules: [{app: live}]}",
         "f:1:18: access.rules[0]: action is missing: one of allow, token, deny", ""},
        {"access: {rules: [{action: deny}]}", "f:1:18: access.rules[0]: app is missing", ""},
        {"access: {rules: [{app: live/, action: deny}]}",
         "f:1:24: access.rules[0].app: found live/, allowed: an application's name", ""},
        {"access: {rules: [{app: a//b, action: deny}]}",
         "f:1:24: access.rules[0].app: found a//b, allowed: an application's name", ""},
        {"access: {rules: [{app: live, action: deny, from: [10.0.0.0/33]}]}",
         "f:1:51: access.rules[0].from: found 10.0.0.0/33, allowed: a list", ""},
        {"access: {rules: [{app: a, action: deny},\n {app: live, kind: play, action: token}]}",
         "f:2:34: access.rules[1].action: found token, allowed: allow or deny, or name a file of "
         "keys in access.keys",
         ""},
        {"process: {user: 'a b'}",
         "f:1:17: process.user: found \"a b\", allowed: the name of a user, or empty", ""},
        {"access: {keys: stream-keys}",
         "f:1:16: access.keys: found stream-keys, allowed: an absolute path, or empty", ""},
        {"limits: {message: 8MiB, unfinished: 4MiB}",
         "f:1:37: limits.unfinished: found 4MiB, allowed: at least "
         "limits.message, which is 8MiB",
         ""},
        {"limits: {message: 16MiB}",
         "f:1:19: limits.unfinished: found 8MiB, allowed: at least limits.message", ""},
        {"router: {ping_timeout: 30s}",
         "f:1:24: router.ping_timeout: found 30s, allowed: more than "
         "router.ping_interval, which is 30s",
         ""},
        {"admin: {listen: '0.0.0.0:8090'}",
         "f:1:17: admin.listen: found 0.0.0.0:8090, allowed: a loopback address such as "
         "127.0.0.1:8090, or name a token file in admin.tokens",
         ""},
        {"admin: {listen: '*:1', tokens: ''}", "f:1:17: admin.listen: found *:1, allowed", ""},
        {"admin: {listen: 'media.example:1'}", "f:1:17: admin.listen: found media.example:1", ""},
        {"admin: {listen: '128.0.0.1:1'}", "f:1:17: admin.listen: found 128.0.0.1:1", ""},
        {"admin: {token: /x}", "f:1:9: admin.token: unknown key; did you mean tokens?", ""},
        {"a: [1\n", "f:2:1: did not find expected", ""},
        {"log: &x {}\n", "f:1:6: an anchor", ""},
        {"log: {}\n---\n", "f:2:1: a second document", ""},
    };
    check_refusals(cases, sizeof cases / sizeof cases[0]);
}

static void test_duration(void **state)
{
    (void)state;
    uint64_t ms = 7;
    assert_int_equal(config_parse_duration("90s", &ms), ERR_OK);
    assert_int_equal(ms, 90000);
    assert_int_equal(config_parse_duration("24h", &ms), ERR_OK);
    assert_int_equal(ms, 86400000);
    assert_int_equal(config_parse_duration("24", &ms), ERR_INVALID);
    assert_int_equal(config_parse_duration("", &ms), ERR_INVALID);
    assert_int_equal(config_parse_duration("99999999999999999999h", &ms), ERR_INVALID);
    assert_int_equal(config_parse_duration("9999999999999999999h", &ms), ERR_LIMIT);
}

static void test_long_lists(void **state)
{
    (void)state;
    char text[64 * 1024] = "router: {listen: [{address: 'a:1', trust: [";
    size_t n = strlen(text);
    for (int i = 0; i <= CONFIG_CIDRS_MAX; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "10.0.0.%d,", i);
    snprintf(text + n, sizeof text - n, "]}]}");
    const struct refusal trust = {
        text, "f:1:43: router.listen[0].trust: found a list of 17, allowed: a list of up to 16",
        ""};
    check_refusals(&trust, 1);

    snprintf(text, sizeof text, "nodes: [");
    n = strlen(text);
    for (int i = 0; i <= NODES_MAX; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "{id: n%d, rtmp: h%d},", i, i);
    snprintf(text + n, sizeof text - n, "]");
    const struct refusal nodes = {
        text, "f:1:8: nodes: found a list of 1025, allowed: a list of 0 to 1024", ""};
    check_refusals(&nodes, 1);
}

static void test_needs_restart(void **state)
{
    (void)state;
    static const struct {
        const char *to, *key;
    } cases[] = {
        {"", NULL},
        {"log: {level: debug, format: json}\nlimits: {connections: 5}\nnodes: [{id: a, rtmp: b}]",
         NULL},
        {"healthd: {interval: 2s, checks: [loop]}\nadmin: {tokens: /x, max_request: 1MiB}", NULL},
        {"healthd: {checks: [stat, rtmp, tcp]}", NULL},
        {"access: {keys: /x, rules: [{app: live, action: token}]}", NULL},
        {"admin: {listen: '127.0.0.1:8091'}", "admin.listen"},
        {"admin: {max_connections: 5}", "admin.max_connections"},
        {"admin: {request_timeout: 5s}", "admin.request_timeout"},
        {"cluster: {name: other}", "cluster.name"},
        {"cluster: {store: 'lmdb:/x'}", "cluster.store"},
        {"cluster: {live: /x}", "cluster.live"},
        {"router: {id: r2}", "router.id"},
        {"process: {user: weir}", "process.user"},
        {"router: {workers: 2}", "router.workers"},
        {"router: {listen: [{address: '0.0.0.0:1935'}]}", NULL},
        {"router: {listen: [{address: '0.0.0.0:1936'}]}", "router.listen"},
        {"router: {listen: [{address: '0.0.0.0:1935'}, {address: '[::]:1935'}]}", "router.listen"},
        {"router: {listen: [{address: '0.0.0.0:1935', proxy_protocol: required, trust: ['::1']}]}",
         "router.listen"},
    };
    struct config *from = load("");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config *to = load(cases[i].to);
        const char *key = config_needs_restart(from, to);
        if (cases[i].key) {
            assert_non_null(key);
            assert_string_equal(key, cases[i].key);
        } else {
            assert_null(key);
        }
        config_destroy(to);
    }
    config_destroy(from);
}

static void test_needs_restart_of_one(void **state)
{
    (void)state;
    static const struct {
        const char *to, *daemon, *key;
    } cases[] = {
        {"admin: {listen: '127.0.0.1:1'}", "router", NULL},
        {"admin: {listen: '127.0.0.1:1'}", "healthd", NULL},
        {"admin: {listen: '127.0.0.1:1'}", "admin", "admin.listen"},
        {"router: {listen: [{address: '*:1'}]}", "router", "router.listen"},
        {"router: {listen: [{address: '*:1'}], workers: 2}", "admin", NULL},
        {"cluster: {live: /x}", "router", "cluster.live"},
        {"cluster: {live: /x}", "healthd", "cluster.live"},
        {"healthd: {interval: 2s}", "healthd", NULL},
    };
    struct config *from = load("");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config *to = load(cases[i].to);
        const char *key = config_needs_restart_of(cases[i].daemon, from, to);
        assert_string_equal(key ? key : "none", cases[i].key ? cases[i].key : "none");
        config_destroy(to);
    }
    config_destroy(from);
}

static void test_files(void **state)
{
    (void)state;
    char error[CONFIG_ERROR_MAX] = "";
    struct config *c = NULL;
    assert_int_equal(config_load_file("/nonexistent/weir.yaml", &c, error), ERR_IO);
    assert_string_equal(error, "/nonexistent/weir.yaml: cannot be read: No such file or directory");
    assert_int_equal(config_load_file("/", &c, error), ERR_IO);
    assert_null(c);
}

/* The sample says of itself that it holds every key, and defaults but for the nodes. */
static void test_sample(void **state)
{
    (void)state;
    static const char path[] = FIXTURES "/../conf/weir.yaml";
    char error[CONFIG_ERROR_MAX] = "";
    struct config *c = NULL, *defaults = load("");
    if (config_load_file(path, &c, error) != ERR_OK)
        fail_msg("%s", error);
    assert_int_equal(c->node_count, 3);
    c->node_count = 0; /* what remains has to print like the defaults */
    char *text = print(c), *expected = print(defaults);
    assert_string_equal(text, expected);
    free(expected);
    free(text);
    config_destroy(c);
    config_destroy(defaults);

    char sample[16 * 1024];
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    sample[fread(sample, 1, sizeof sample - 1, f)] = '\0';
    fclose(f);
    for (size_t i = 0; i < key_row_count; i++) {
        const char *dot = strrchr(key_rows[i].path, '.');
        char key[64];
        snprintf(key, sizeof key, "%s:", dot ? dot + 1 : key_rows[i].path);
        if (!strstr(sample, key))
            fail_msg("conf/weir.yaml has no %s", key_rows[i].path);
    }
}

/* Run with WEIR_UPDATE_DOCS=1 to write the file anew. */
static void test_reference(void **state)
{
    (void)state;
    static const char path[] = FIXTURES "/../docs/configuration.md";
    char *expected = print(NULL);
    if (getenv("WEIR_UPDATE_DOCS")) {
        FILE *out = fopen(path, "w");
        assert_non_null(out);
        fputs(expected, out);
        fclose(out);
    }
    enum { TEXT_MAX = 64 * 1024 };
    char *text = calloc(1, TEXT_MAX);
    assert_non_null(text);
    FILE *f = fopen(path, "r");
    if (!f)
        fail_msg("docs/configuration.md is missing: run this test with WEIR_UPDATE_DOCS=1");
    (void)fread(text, 1, TEXT_MAX - 1, f);
    fclose(f);
    if (strcmp(text, expected) != 0)
        fail_msg("docs/configuration.md is not what the key table says: run this test with "
                 "WEIR_UPDATE_DOCS=1");
    free(text);
    free(expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_live_follows_name),
        cmocka_unit_test(test_print_loads_again),
        cmocka_unit_test(test_refused_values),
        cmocka_unit_test(test_refused_shapes),
        cmocka_unit_test(test_duration),
        cmocka_unit_test(test_long_lists),
        cmocka_unit_test(test_needs_restart),
        cmocka_unit_test(test_needs_restart_of_one),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_sample),
        cmocka_unit_test(test_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
