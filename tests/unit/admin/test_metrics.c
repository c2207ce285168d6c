#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/metrics.h"

enum { NODES = 500, WORKERS = 8, PROCESSES = WORKERS + 2, SERIES_MAX = 20000 };

static uint64_t now_ms = 1769890500123u;

struct fixture {
    struct facts facts;
    struct process_record processes[PROCESSES];
    struct metrics_facts all;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_int_equal(node_table_create("demo", &f->facts.nodes), ERR_OK);
    f->facts.status = calloc(NODES, sizeof *f->facts.status);
    f->facts.failed = calloc(NODES, sizeof *f->facts.failed);
    for (int i = 0; i < NODES; i++) {
        struct node n = {.health = i % 2 ? NODE_UP : NODE_UNKNOWN};
        config_node_init(&n.conf);
        (void)snprintf(n.conf.id, sizeof n.conf.id, "n%03d", i);
        n.conf.max_streams = n.conf.max_sessions = 5;
        n.conf.max_bandwidth = 8000;
        assert_int_equal(node_table_put(f->facts.nodes, &n), ERR_OK);
        f->facts.status[i] =
            (struct node_status){.latency_us = 1500, .checked_ms = now_ms, .bandwidth_in = 80};
        (void)snprintf(f->facts.status[i].id, NODE_ID_MAX, "n%03d", i);
    }
    strcpy(f->facts.status[1].version, "a \"b\" \\ c\nd");
    strcpy(f->facts.status[3].version, "1\xff\xc3 \xc3\xa9\xe2\x82"); /* bytes that are no text */
    f->facts.status[0].stuck = f->facts.status[3].stuck = true;
    for (uint32_t i = 0; i < WORKERS; i++) {
        struct process_record *p = &f->processes[i];
        *p = (struct process_record){.kind = PROCESS_ROUTER,
                                     .id = {.router = "r1", .slot = i},
                                     .beat_ms = now_ms,
                                     .version = "1",
                                     .accepted = 10 + i,
                                     .nodes_version = i == 1 || i == 2 ? 8 : 9};
    }
    f->facts.nodes->version = 9;
    f->processes[1].beat_ms = now_ms - 60000; /* dead, but it has counted */
    f->processes[1].lines_lost = 5;
    f->processes[0].closed[WHY_NO_NODE] = 3;
    process_histogram_add(&f->processes[0].setup[SETUP_DIAL], 300);
    process_histogram_add(&f->processes[0].setup[SETUP_DIAL], 5000000);
    process_histogram_add_gap(&f->processes[0].rehome_gap, 2500000);
    f->processes[WORKERS] = (struct process_record){
        .kind = PROCESS_HEALTHD, .beat_ms = now_ms, .checks = 44, .lines_lost = 7};
    f->processes[WORKERS + 1] = (struct process_record){
        .kind = PROCESS_HEALTHD, .id.slot = HEALTHD_STANDBY_SLOT, .beat_ms = now_ms};
    f->all = (struct metrics_facts){.facts = &f->facts,
                                    .processes = f->processes,
                                    .process_count = PROCESSES,
                                    .now_ms = now_ms};
    static const struct config_placement policy = {.panic_threshold = 0.5};
    census_take(&f->facts, f->processes, PROCESSES, 0, &policy, now_ms, &f->all.cluster.census);
    f->all.cluster.store_up = 1;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    facts_clear(&f->facts);
    free(f);
    return 0;
}

static void test_samples(void **state)
{
    struct fixture *f = *state;
    static const char *const lines[] = {
        "weir_store_up 1",
        "weir_nodes 500",
        "weir_nodes_up 250",
        "weir_workers 7",
        "weir_workers_behind 1",
        "weir_node_up{node=\"n001\"} 1",
        "weir_node_latency_seconds{node=\"n001\"} 0.0015",
        "weir_node_receive_bytes_per_second{node=\"n001\"} 10",
        "weir_node_stuck{node=\"n003\"} 1",
        "weir_node_limit_bytes_per_second{node=\"n000\"} 1000",
        "weir_node_checked_timestamp_seconds{node=\"n000\"} 1769890500.123",
        "weir_node_info{node=\"n001\",source=\"config\",version=\"a \\\"b\\\" \\\\ c\\nd\"} 1",
        "weir_node_info{node=\"n003\",source=\"config\",version=\"1\uFFFD\uFFFD "
        "\u00e9\uFFFD\uFFFD\"} 1",
        "weir_process_info{kind=\"router\",worker=\"r1/0\",version=\"1\"} 1",
        "weir_process_info{kind=\"healthd\",version=\"\"} 1",
        "weir_process_info{kind=\"healthd_standby\",version=\"\"} 1",
        "weir_log_lines_lost_total{kind=\"router\",worker=\"r1/1\"} 5",
        "weir_log_lines_lost_total{kind=\"healthd\"} 7",
        "weir_log_lines_lost_total{kind=\"healthd_standby\"} 0",
        "weir_router_up{worker=\"r1/0\"} 1",
        "weir_router_up{worker=\"r1/1\"} 0",
        "weir_router_connections_total{worker=\"r1/1\"} 11",
        "weir_router_sessions_closed_total{worker=\"r1/0\",reason=\"no_node\"} 3",
        ("weir_router_setup_duration_seconds_bucket{worker=\"r1/0\",phase=\"dial\",le=\"0.00025\"} "
         "0"),
        "weir_router_setup_duration_seconds_bucket{worker=\"r1/0\",phase=\"dial\",le=\"0.0005\"} 1",
        "weir_router_setup_duration_seconds_bucket{worker=\"r1/0\",phase=\"dial\",le=\"2\"} 1",
        "weir_router_setup_duration_seconds_bucket{worker=\"r1/0\",phase=\"dial\",le=\"+Inf\"} 2",
        "weir_router_setup_duration_seconds_sum{worker=\"r1/0\",phase=\"dial\"} 5.0003",
        "weir_router_setup_duration_seconds_count{worker=\"r1/0\",phase=\"dial\"} 2",
        "weir_rehome_gap_seconds_bucket{worker=\"r1/0\",le=\"2\"} 0",
        "weir_rehome_gap_seconds_bucket{worker=\"r1/0\",le=\"3\"} 1",
        "weir_rehome_gap_seconds_bucket{worker=\"r1/0\",le=\"30\"} 1",
        "weir_healthd_checks_total 44",
    };
    size_t len;
    char *text = metrics_write(&f->all, &len);
    assert_non_null(text);
    assert_int_equal(len, strlen(text));
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        char line[256];
        (void)snprintf(line, sizeof line, "\n%s\n", lines[i]);
        if (!strstr(text, line))
            fail_msg("not there: %s", lines[i]);
    }
    assert_null(strstr(text, "weir_node_up{node=\"n000\"}")); /* unknown is neither 1 nor 0 */
    assert_null(strstr(text, "weir_node_stuck{node=\"n000\"}"));
    assert_null(strstr(text, "weir_node_receive_bytes_per_second{node=\"n000\"}"));
    assert_null(strstr(text, "weir_router_sessions{worker=\"r1/1\"}")); /* the dead have none */
    free(text);
}

static int compare_lines(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Of a series that is there twice Prometheus keeps one sample, whichever. */
static void check_once(char **lines, size_t count)
{
    for (size_t i = 0; i < count; i++)
        *strrchr(lines[i], ' ') = '\0';
    qsort(lines, count, sizeof *lines, compare_lines);
    for (size_t i = 1; i < count; i++)
        assert_string_not_equal(lines[i - 1], lines[i]);
}

/* Everything that is said about series, for each of them. */
static void test_rules(void **state)
{
    struct fixture *f = *state;
    static char *lines[SERIES_MAX];
    size_t len, series = 0;
    char *text = metrics_write(&f->all, &len), *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (*line == '#')
            continue;
        assert_true(series < SERIES_MAX);
        lines[series++] = line;
        assert_memory_equal(line, "weir_", 5);
        const bool by_node = strstr(line, "node=\"") != NULL,
                   by_worker = strstr(line, "worker=\"") != NULL;
        if ((by_node && by_worker) || (by_node && strstr(line, "le=\"")))
            fail_msg("%s", line);
    }
    check_once(lines, series);
    free(text);
    printf("%zu series with %d nodes and %d workers\n", series, NODES, WORKERS);
}

static void test_without_store(void **state)
{
    (void)state;
    const struct metrics_facts f = {.cluster = {.requests = 5}};
    size_t len;
    char *text = metrics_write(&f, &len);
    assert_non_null(strstr(text, "\nweir_store_up 0\n"));
    assert_non_null(strstr(text, "\nweir_admin_requests_total 5\n"));
    assert_null(strstr(text, "weir_nodes")); /* unknown is not zero */
    free(text);
}

/* docs/metrics.md has the table as it is. */
static void test_reference(void **state)
{
    (void)state;
    char *text = metrics_reference();
    assert_non_null(text);
    FILE *file = fopen(FIXTURES "/../docs/metrics.md", "r");
    assert_non_null(file);
    char *doc = calloc(1, 65536);
    assert_non_null(doc);
    assert_true(fread(doc, 1, 65535, file) > 0);
    (void)fclose(file);
    if (!strstr(doc, text))
        fail_msg("docs/metrics.md is not what weir-admin --print-metrics says");
    free(doc);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_samples, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rules, setup, teardown),
        cmocka_unit_test(test_without_store),
        cmocka_unit_test(test_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
