#include "config/tree.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

/* One pass over the events of a document. */
struct builder {
    struct tree *tree;
    struct tree_node *open[TREE_DEPTH_MAX]; /* lists and maps not yet ended */
    unsigned depth;
    char *key; /* of the map on top: read, its value not yet */
    struct tree_mark key_mark;
    unsigned documents;
};

static struct tree_mark mark_of(const yaml_mark_t *m)
{
    return (struct tree_mark){.line = (uint32_t)m->line + 1, .column = (uint32_t)m->column + 1};
}

PRINTF_LIKE(3, 4)
static enum err refuse(struct tree *t, struct tree_mark mark, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(t->error, sizeof t->error, fmt, args);
    va_end(args);
    t->error_mark = mark;
    return ERR_INVALID;
}

/* NULL: *err tells why. */
static struct tree_node *add_node(struct builder *b, enum tree_kind kind, struct tree_mark mark,
                                  enum err *err)
{
    struct tree *t = b->tree;
    if (t->made == TREE_NODES_MAX) {
        *err = refuse(t, mark, "more than %d values", TREE_NODES_MAX);
        return NULL;
    }
    struct tree_node *n = calloc(1, sizeof *n);
    if (!n) {
        *err = ERR_NO_MEMORY;
        return NULL;
    }
    n->kind = kind;
    n->mark = mark;
    n->key = b->key;
    n->key_mark = b->key_mark;
    b->key = NULL;
    n->made_before = t->made_last;
    t->made_last = n;
    t->made++;
    if (b->depth == 0) {
        t->root = n;
        return n;
    }
    struct tree_node *parent = b->open[b->depth - 1];
    assert(parent);
    *(parent->last ? &parent->last->next : &parent->first) = n;
    parent->last = n;
    parent->count++;
    return n;
}

static bool wants_key(const struct builder *b)
{
    const struct tree_node *top = b->depth > 0 ? b->open[b->depth - 1] : NULL;
    return top && top->kind == TREE_MAP && !b->key;
}

static bool is_null(const yaml_event_t *e)
{
    const char *text = (const char *)e->data.scalar.value;
    return e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (text[0] == '\0' || strcmp(text, "~") == 0 || strcmp(text, "null") == 0);
}

static enum err take_scalar(struct builder *b, const yaml_event_t *e, struct tree_mark mark)
{
    const char *text = (const char *)e->data.scalar.value;
    if (strlen(text) != e->data.scalar.length)
        return refuse(b->tree, mark, "a NUL character, which no value may hold");
    char *copy = strdup(text);
    if (!copy)
        return ERR_NO_MEMORY;
    if (wants_key(b)) {
        b->key = copy;
        b->key_mark = mark;
        return ERR_OK;
    }
    enum err err = ERR_OK;
    struct tree_node *n = add_node(b, TREE_SCALAR, mark, &err);
    if (!n) {
        free(copy);
        return err;
    }
    n->text = copy;
    n->null = is_null(e);
    return ERR_OK;
}

static enum err open_collection(struct builder *b, enum tree_kind kind, struct tree_mark mark)
{
    if (wants_key(b))
        return refuse(b->tree, mark, "a list or map in place of a key");
    if (b->depth == TREE_DEPTH_MAX)
        return refuse(b->tree, mark, "nested deeper than %d levels", TREE_DEPTH_MAX);
    enum err err = ERR_OK;
    struct tree_node *n = add_node(b, kind, mark, &err);
    if (n)
        b->open[b->depth++] = n;
    return err;
}

/* Anchors let a few bytes stand for many, tags ask for types there are none of. */
static enum err refuse_extras(struct tree *t, struct tree_mark mark, const yaml_char_t *anchor,
                              const yaml_char_t *tag)
{
    if (anchor)
        return refuse(t, mark, "an anchor (&), which is not allowed here");
    if (tag)
        return refuse(t, mark, "a tag (!), which is not allowed here");
    return ERR_OK;
}

static enum err take_event(struct builder *b, const yaml_event_t *e)
{
    const struct tree_mark mark = mark_of(&e->start_mark);
    enum err err = ERR_OK;
    switch (e->type) {
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_END_EVENT:
        return ERR_OK;
    case YAML_DOCUMENT_START_EVENT:
        return b->documents++ == 0
                   ? ERR_OK
                   : refuse(b->tree, mark, "a second document; only one is allowed");
    case YAML_ALIAS_EVENT:
        return refuse(
            b->tree, mark,
            "an alias (*), which is not allowed here; quote the text if it begins with *");
    case YAML_SCALAR_EVENT:
        err = refuse_extras(b->tree, mark, e->data.scalar.anchor, e->data.scalar.tag);
        return err == ERR_OK ? take_scalar(b, e, mark) : err;
    case YAML_SEQUENCE_START_EVENT:
        err =
            refuse_extras(b->tree, mark, e->data.sequence_start.anchor, e->data.sequence_start.tag);
        return err == ERR_OK ? open_collection(b, TREE_LIST, mark) : err;
    case YAML_MAPPING_START_EVENT:
        err = refuse_extras(b->tree, mark, e->data.mapping_start.anchor, e->data.mapping_start.tag);
        return err == ERR_OK ? open_collection(b, TREE_MAP, mark) : err;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        b->depth--;
        return ERR_OK;
    }
    return ERR_OK;
}

/* libyaml tells of bytes that are not text by their offset only. */
static struct tree_mark mark_at(const char *text, size_t len, size_t offset)
{
    struct tree_mark m = {.line = 1, .column = 1};
    for (size_t i = 0; i < len && i < offset; i++) {
        m.column++;
        if (text[i] == '\n')
            m = (struct tree_mark){.line = m.line + 1, .column = 1};
    }
    return m;
}

static enum err parser_error(struct tree *t, const yaml_parser_t *p, const char *text, size_t len)
{
    if (p->error == YAML_MEMORY_ERROR)
        return ERR_NO_MEMORY;
    const char *problem = p->problem ? p->problem : "not YAML";
    if (p->error == YAML_READER_ERROR)
        return refuse(t, mark_at(text, len, p->problem_offset), "%s", problem);
    if (p->context)
        return refuse(t, mark_of(&p->problem_mark), "%s (%s at line %zu)", problem, p->context,
                      p->context_mark.line + 1);
    return refuse(t, mark_of(&p->problem_mark), "%s", problem);
}

enum err tree_parse(struct tree *tree, const char *text, size_t len)
{
    *tree = (struct tree){.root = NULL};
    if (len > TREE_TEXT_MAX)
        return refuse(tree, (struct tree_mark){0}, "longer than 1 MiB");
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        return ERR_NO_MEMORY;
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);

    struct builder b = {.tree = tree};
    enum err err = ERR_OK;
    bool more = true;
    while (more && err == ERR_OK) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            err = parser_error(tree, &parser, text, len);
            break;
        }
        more = event.type != YAML_STREAM_END_EVENT;
        err = take_event(&b, &event);
        yaml_event_delete(&event);
    }
    free(b.key);
    yaml_parser_delete(&parser);
    return err;
}

void tree_deinit(struct tree *tree)
{
    for (struct tree_node *n = tree->made_last; n;) {
        struct tree_node *before = n->made_before;
        free(n->key);
        free(n->text);
        free(n);
        n = before;
    }
    *tree = (struct tree){.root = NULL};
}
