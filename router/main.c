/* weir-router: takes RTMP clients and relays each stream to the node that owns it. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "router/explain_io.h"
#include "router/parent_io.h"

enum { EXIT_USAGE = 2, OPT_PRINT = 256, OPT_EXPLAIN, OPT_REFERENCE };

struct options {
    const char *file, *explain;
    bool test, print;
};

static const char usage[] =
    "usage: weir-router -c FILE [-t | --print-config | --explain APP/NAME]\n"
    "       weir-router --print-reference | -V | -h\n"
    "\n"
    "Takes RTMP publishers and players on one address and relays each stream to the media node "
    "that owns it.\n"
    "\n"
    "  -c, --config FILE      the configuration (YAML); see /etc/weir/weir.yaml\n"
    "  -t, --test             check the configuration, say what is wrong, and exit\n"
    "      --print-config     print every key with the value in force, and exit\n"
    "      --print-reference  print what every key means (Markdown), and exit\n"
    "      --explain APP/NAME print which node the stream would go to and why, node by node, and "
    "exit\n"
    "  -V, --version          print the version and exit\n"
    "  -h, --help             print this and exit\n"
    "\n"
    "Signals: HUP reloads the configuration (a bad file is refused whole); TERM and INT stop "
    "accepting, wait\n"
    "router.shutdown_grace for sessions to end, and exit; a second one exits at once.\n"
    "Exit codes: 0 fine, 1 failed at run time, 2 bad usage or configuration.\n";

static int misuse(const char *what)
{
    fprintf(stderr, "weir-router: %s\nTry 'weir-router --help'.\n", what);
    return EXIT_USAGE;
}

/* -1: go on; otherwise the exit code. */
static int read_options(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {
        {"config", required_argument, NULL, 'c'},
        {"test", no_argument, NULL, 't'},
        {"print-config", no_argument, NULL, OPT_PRINT},
        {"print-reference", no_argument, NULL, OPT_REFERENCE},
        {"explain", required_argument, NULL, OPT_EXPLAIN},
        {"version", no_argument, NULL, 'V'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int c;
    while ((c = getopt_long(argc, argv, "c:tVh", longs, NULL)) != -1) {
        switch (c) {
        case 'c':
            o->file = optarg;
            break;
        case 't':
            o->test = true;
            break;
        case OPT_PRINT:
            o->print = true;
            break;
        case OPT_EXPLAIN:
            o->explain = optarg;
            break;
        case OPT_REFERENCE:
            config_print_reference(stdout);
            return 0;
        case 'V':
            printf("weir-router %s\n", WEIR_VERSION);
            return 0;
        case 'h':
            fputs(usage, stdout);
            return 0;
        default:
            return misuse("bad option");
        }
    }
    if (optind < argc)
        return misuse("no arguments are taken besides options");
    return o->file ? -1 : misuse("a configuration is needed: -c FILE");
}

int main(int argc, char **argv)
{
    struct options o = {0};
    const int code = read_options(argc, argv, &o);
    if (code >= 0)
        return code;
    char error[CONFIG_ERROR_MAX] = "";
    struct config *config = NULL;
    if (config_load_file(o.file, &config, error) != ERR_OK) {
        fprintf(stderr, "weir-router: %s\n", error);
        return EXIT_USAGE;
    }
    int result = 0;
    if (o.test)
        printf("weir-router: %s is valid\n", o.file);
    else if (o.print)
        config_print(config, stdout);
    else if (o.explain)
        result = explain_stream(config, o.explain);
    else
        return parent_run(o.file, config);
    config_destroy(config);
    return result;
}
