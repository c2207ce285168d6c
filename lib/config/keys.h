/* config/keys.h - the key table: every configuration key is one row, and everything about a key is
 * in its row. Loading, printing and the reference walk the rows; the order of the rows is the order
 * in print. Internal to lib/config.   Thread: any; the table is constant.   Tests:
 * tests/unit/config/test_config.c */
#ifndef WEIR_CONFIG_KEYS_H
#define WEIR_CONFIG_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum key_type {
    KEY_TEXT = 0,  /* char[] */
    KEY_COUNT,     /* uint32_t */
    KEY_WORKERS,   /* uint32_t; "auto" is 0 */
    KEY_DURATION,  /* uint64_t, ms */
    KEY_DELAY,     /* uint64_t, us */
    KEY_SIZE,      /* uint32_t or uint64_t, bytes */
    KEY_BANDWIDTH, /* uint64_t, bit/s */
    KEY_FACTOR,    /* double */
    KEY_PERCENT,   /* double, 0..1 */
    KEY_BOOL,
    KEY_ENUM,    /* any enum counted from 0 */
    KEY_SET,     /* uint32_t; a list of names, a bit for each */
    KEY_CIDRS,   /* struct config_cidrs; a list of ranges */
    KEY_APPS,    /* struct config_apps; a list of names */
    KEY_NODES,   /* a list of mappings, whose keys are the rows "nodes[].*" */
    KEY_LISTENS, /* the same for "router.listen[].*" */
    KEY_RULES,   /* the same for "access.rules[].*" */
};

/* What a text may be. */
struct key_form {
    bool (*valid)(const char *text);
    const char *allowed;
};

struct key_row {
    const char *path; /* "[]" stands for any item of the list before it */
    const char *help;
    const char *initial; /* the default as it would be written; NULL: must be given */
    enum key_type type;
    bool reloadable; /* taken by SIGHUP; else by a restart only */
    bool zero;       /* 0 is allowed too, below min */
    size_t offset,
        size; /* in struct config, or what an item of the list is held as; none for lists of maps */
    uint64_t min, max;        /* in the unit of the type; factors and percents in whole numbers */
    const char *const *names; /* KEY_ENUM, KEY_SET: by value, NULL at the end */
    const struct key_form *form; /* KEY_TEXT */
};

extern const struct key_row key_rows[];
extern const size_t key_row_count;

#define KEY_STORE_PREFIX "lmdb:"
/* The default of cluster.live: the mark stands for the name of the cluster, known only when all is
 * loaded. */
#define KEY_LIVE_PARENT "/run/weir/"
#define KEY_CLUSTER_MARK "<cluster.name>"

/* The part of row's path behind prefix and its '.', if row is a key of that mapping itself or of
 * one inside it; else NULL. Prefix "" is the whole file. */
const char *key_below(const struct key_row *row, const char *prefix);
/* Length of the first component of a path. */
size_t key_component(const char *path);
/* Its value is a list of mappings. */
bool key_is_map_list(const struct key_row *row);
/* The row with exactly that path, or NULL. */
const struct key_row *key_find(const char *path);

#endif
