/* weir-admin: the API, the metrics and the dashboard of a cluster. */
#include <getopt.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/daemon_io.h"
#include "admin/metrics.h"
#include "base/privilege_io.h"

enum { EXIT_USAGE = 2, OPT_NEW_TOKEN = 256, OPT_METRICS };

struct options {
    const char *file, *token_name, *token_scope;
    bool test;
};

static const char usage[] =
    "usage: weir-admin -c FILE [-t]\n"
    "       weir-admin --new-token NAME read|write\n"
    "       weir-admin --print-metrics | -V | -h\n"
    "\n"
    "Serves the API, the metrics and the dashboard of a cluster.\n"
    "\n"
    "  -c, --config FILE      the configuration (YAML), such as /etc/weir/weir.yaml\n"
    "  -t, --test             check the configuration and the file of tokens, say what is wrong, "
    "and exit\n"
    "      --new-token NAME SCOPE\n"
    "                         make a token (scope read or write) and print it and its line for the "
    "file of\n"
    "                         tokens, which keeps only its hash; SIGHUP takes it\n"
    "      --print-metrics    print what every metric means (Markdown), and exit\n"
    "  -V, --version          print the version and exit\n"
    "  -h, --help             print this and exit\n"
    "\n"
    "Signals: HUP reloads the configuration and the tokens (bad ones are refused whole); TERM and "
    "INT end it.\n"
    "Exit codes: 0 fine, 1 failed at run time, 2 bad usage or configuration.\n";

static int misuse(const char *what)
{
    fprintf(stderr, "weir-admin: %s\nTry 'weir-admin --help'.\n", what);
    return EXIT_USAGE;
}

static int new_token(const struct options *o)
{
    uint8_t random[TOKEN_HASH_BYTES];
    char token[TOKEN_TEXT_MAX], line[TOKEN_LINE_MAX];
    enum token_scope scope;
    if (!token_name_valid(o->token_name))
        return misuse("a token's name has letters, digits, '.', '_' and '-', at most 63 of them");
    if (!o->token_scope || token_scope_parse(o->token_scope, &scope) != ERR_OK)
        return misuse("the scope of a token is read or write");
    if (RAND_bytes(random, sizeof random) != 1) {
        fprintf(stderr, "weir-admin: there are no random numbers\n");
        return 1;
    }
    token_make(o->token_name, scope, random, token, line);
    printf("# The token, shown only now:\n# %s\n%s\n", token, line);
    return 0;
}

static int print_metrics(void)
{
    char *text = metrics_reference();
    if (text)
        fputs(text, stdout);
    free(text);
    return text ? 0 : 1;
}

/* -1: go on; otherwise the exit code. */
static int read_options(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {
        {"config", required_argument, NULL, 'c'},
        {"test", no_argument, NULL, 't'},
        {"new-token", required_argument, NULL, OPT_NEW_TOKEN},
        {"print-metrics", no_argument, NULL, OPT_METRICS},
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
        case OPT_NEW_TOKEN:
            o->token_name = optarg;
            break;
        case OPT_METRICS:
            return print_metrics();
        case 'V':
            printf("weir-admin %s\n", WEIR_VERSION);
            return 0;
        case 'h':
            fputs(usage, stdout);
            return 0;
        default:
            return misuse("bad option");
        }
    }
    if (o->token_name && optind < argc)
        o->token_scope = argv[optind++];
    if (optind < argc)
        return misuse("no arguments are taken besides options");
    if (o->token_name)
        return new_token(o);
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
    struct tokens tokens;
    enum err e = config_load_file(o.file, &config, error);
    if (e == ERR_OK)
        e = daemon_read_tokens(config, &tokens, error);
    if (e != ERR_OK) {
        fprintf(stderr, "weir-admin: %s\n", error);
        config_destroy(config);
        return EXIT_USAGE;
    }
    if (!o.test && privilege_drop(config->process.user, error, sizeof error) != ERR_OK) {
        fprintf(stderr, "weir-admin: %s\n", error);
        config_destroy(config);
        return 1;
    }
    if (!o.test)
        return daemon_run(o.file, config);
    printf("weir-admin: %s is valid\n", o.file);
    config_destroy(config);
    return 0;
}
