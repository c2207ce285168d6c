/* config/tree.h - YAML text as a small tree with positions. Only what a configuration needs: one
 * document; no anchors, aliases or tags; keys are plain texts; bounded depth and size. Internal to
 * lib/config.   Owner: the caller frees the tree.   Tests: tests/unit/config/test_tree.c */
#ifndef WEIR_CONFIG_TREE_H
#define WEIR_CONFIG_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"

enum { TREE_TEXT_MAX = 1024 * 1024, TREE_DEPTH_MAX = 16, TREE_NODES_MAX = 65536 };

enum tree_kind { TREE_SCALAR = 0, TREE_LIST, TREE_MAP };

/* From 1 on; line 0: nowhere in the text. */
struct tree_mark {
    uint32_t line, column;
};

struct tree_node {
    enum tree_kind kind;
    struct tree_mark mark;
    struct tree_mark key_mark;
    char *key;  /* in a map, else NULL */
    char *text; /* of a scalar */
    bool null;  /* a scalar that is empty or ~ without quotes */
    uint32_t count;
    struct tree_node *first, *last, *next;
    struct tree_node *made_before; /* all nodes of the tree, for freeing */
};

struct tree {
    struct tree_node *root; /* NULL: the text holds no document */
    struct tree_node *made_last;
    uint32_t made;
    struct tree_mark error_mark;
    char error[256]; /* why it could not be parsed */
};

/* tree is filled in any case; ERR_INVALID: see error and error_mark. */
MUST_CHECK enum err tree_parse(struct tree *tree, const char *text, size_t len);
void tree_deinit(struct tree *tree);

#endif
