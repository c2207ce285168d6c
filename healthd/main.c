/* weir-healthd: probes the media nodes and tells routers which are up. */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/privilege_io.h"
#include "config/config.h"
#include "healthd/healthd_io.h"

enum { EXIT_USAGE = 2 };

static const char usage[] =
    "usage: weir-healthd -c FILE [-t]\n"
    "       weir-healthd -V | -h\n"
    "\n"
    "Checks every media node of the cluster, again and again, and tells the routers which are up, "
    "what "
    "they carry\n"
    "and which streams are live on them. Of several on one store one works, the others wait.\n"
    "\n"
    "  -c, --config FILE      the configuration (YAML), such as /etc/weir/weir.yaml\n"
    "  -t, --test             check the configuration, say what is wrong, and exit\n"
    "  -V, --version          print the version and exit\n"
    "  -h, --help             print this and exit\n"
    "\n"
    "Signals: HUP reloads the configuration (a bad file is refused whole); TERM and INT end it.\n"
    "Exit codes: 0 fine, 1 failed at run time, 2 bad usage or configuration.\n";

static int misuse(const char *what)
{
    fprintf(stderr, "weir-healthd: %s\nTry 'weir-healthd --help'.\n", what);
    return EXIT_USAGE;
}

/* -1: go on; otherwise the exit code. */
static int read_options(int argc, char **argv, const char **file, bool *test)
{
    static const struct option longs[] = {
        {"config", required_argument, NULL, 'c'},
        {"test", no_argument, NULL, 't'},
        {"version", no_argument, NULL, 'V'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int c;
    while ((c = getopt_long(argc, argv, "c:tVh", longs, NULL)) != -1) {
        switch (c) {
        case 'c':
            *file = optarg;
            break;
        case 't':
            *test = true;
            break;
        case 'V':
            printf("weir-healthd %s\n", WEIR_VERSION);
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
    return *file ? -1 : misuse("a configuration is needed: -c FILE");
}

int main(int argc, char **argv)
{
    const char *file = NULL;
    bool test = false;
    const int code = read_options(argc, argv, &file, &test);
    if (code >= 0)
        return code;
    char error[CONFIG_ERROR_MAX] = "";
    struct config *config = NULL;
    if (config_load_file(file, &config, error) != ERR_OK) {
        fprintf(stderr, "weir-healthd: %s\n", error);
        return EXIT_USAGE;
    }
    if (!test && privilege_drop(config->process.user, error, sizeof error) != ERR_OK) {
        fprintf(stderr, "weir-healthd: %s\n", error);
        config_destroy(config);
        return 1;
    }
    if (!test)
        return healthd_run(file, config);
    printf("weir-healthd: %s is valid\n", file);
    config_destroy(config);
    return 0;
}
