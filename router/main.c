/* weir-router: takes RTMP clients and relays each stream to the node that owns it. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "router/access_io.h"
#include "router/explain_io.h"
#include "router/parent_io.h"

enum { EXIT_USAGE = 2, OPT_PRINT = 256, OPT_EXPLAIN, OPT_REFERENCE, OPT_NEW_TOKEN };

struct options {
    const char *file, *explain;
    const char *token_kind, *token_stream, *token_time;
    bool test, print;
};

static const char usage[] =
    "usage: weir-router -c FILE [-t | --print-config | --explain APP/NAME]\n"
    "       weir-router -c FILE --new-token publish|play APP/NAME TIME\n"
    "       weir-router --print-reference | -V | -h\n"
    "\n"
    "Takes RTMP publishers and players on one address and relays each stream to the media node "
    "that owns it.\n"
    "\n"
    "  -c, --config FILE      the configuration (YAML), such as /etc/weir/weir.yaml\n"
    "  -t, --test             check the configuration and the file of keys, say what is wrong, "
    "and exit\n"
    "      --print-config     print every key with the value in force, and exit\n"
    "      --print-reference  print what every key means (Markdown), and exit\n"
    "      --explain APP/NAME print which node the stream would go to and why, node by node, and "
    "exit\n"
    "      --new-token KIND APP/NAME TIME\n"
    "                         print what lets a client publish or play (KIND) that stream for TIME "
    "(90s,\n"
    "                         24h), as it is written behind rtmp://HOST/; signed with the first "
    "key "
    "of the\n"
    "                         file access.keys\n"
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
        {"new-token", required_argument, NULL, OPT_NEW_TOKEN},
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
        case OPT_NEW_TOKEN:
            o->token_kind = optarg;
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
    if (o->token_kind && optind + 1 < argc) {
        o->token_stream = argv[optind++];
        o->token_time = argv[optind++];
    }
    if (o->token_kind && !o->token_time)
        return misuse("--new-token takes a kind, a stream and a time: publish live/cam1 24h");
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
    struct signing_keys keys;
    const bool runs = !o.print && !o.explain && !o.token_kind;
    if (runs && access_keys_read(config, &keys, error) != ERR_OK) {
        fprintf(stderr, "weir-router: %s\n", error);
        config_destroy(config);
        return EXIT_USAGE;
    }
    int result = 0;
    if (o.test)
        printf("weir-router: %s is valid\n", o.file);
    else if (o.print)
        config_print(config, stdout);
    else if (o.explain)
        result = explain_stream(config, o.explain);
    else if (o.token_kind)
        result = access_new_token(config, o.token_kind, o.token_stream, o.token_time);
    else
        return parent_run(o.file, config);
    config_destroy(config);
    return result;
}
