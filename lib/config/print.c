#include <string.h>

#include "config/config.h"
#include "config/keys.h"
#include "config/value.h"

static const char *last_component(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot ? dot + 1 : path;
}

/* ---- the configuration as YAML ---- */

static void print_item(FILE *out, int indent, const char *prefix, const void *item)
{
    const char *dash = "- ";
    for (size_t i = 0; i < key_row_count; i++) {
        const char *key = key_below(&key_rows[i], prefix);
        if (!key)
            continue;
        char value[VALUE_TEXT_MAX];
        value_print(&key_rows[i], item, value);
        fprintf(out, "%*s%s%s: %s\n", indent, "", dash, key, value);
        dash = "  ";
    }
}

static void print_list(FILE *out, int indent, const struct key_row *row, const struct config *c)
{
    const struct value_list list = value_list_of(row, c);
    fprintf(out, "%*s%s:%s\n", indent, "", last_component(row->path), list.count == 0 ? " []" : "");
    for (size_t i = 0; i < list.count; i++)
        print_item(out, indent + 2, list.prefix, (const char *)list.items + i * list.item_bytes);
}

/* Whether row i begins another section than the row before. */
static bool begins_section(size_t i)
{
    const char *path = key_rows[i].path, *before = i > 0 ? key_rows[i - 1].path : "";
    const size_t len = key_component(path);
    return key_component(before) != len || strncmp(path, before, len) != 0;
}

void config_print(const struct config *c, FILE *out)
{
    for (size_t i = 0; i < key_row_count; i++) {
        const struct key_row *row = &key_rows[i];
        const int indent = strchr(row->path, '.') ? 2 : 0;
        if (strchr(row->path, '['))
            continue;
        if (begins_section(i) && indent > 0)
            fprintf(out, "%.*s:\n", (int)key_component(row->path), row->path);
        if (key_is_map_list(row)) {
            print_list(out, indent, row, c);
            continue;
        }
        char value[VALUE_TEXT_MAX];
        value_print(row, c, value);
        fprintf(out, "%*s%s: %s\n", indent, "", last_component(row->path), value);
    }
}

/* ---- the reference as Markdown ---- */

static const char reference_intro[] =
    "# Configuration\n"
    "\n"
    "One YAML file for the three daemons, which `-c` names; `conf/weir.yaml` is a commented "
    "example. "
    "Every key may be left\n"
    "out, unless its default is given as *required*. `weir-router -t -c FILE` checks a file, "
    "`--print-config` prints\n"
    "every key with its value, SIGHUP reloads: a bad file is refused whole, and the running "
    "configuration stays.\n"
    "\n"
    "* Durations have a unit: `500ms`, `2s`, `5m`, `1h`.\n"
    "* Sizes are in bytes or have a unit: `64KiB`, `4MiB`, `1GiB`. Bandwidths have one: "
    "`500kbit/s`, `8Mbit/s`, `1Gbit/s`.\n"
    "* Whole numbers only, but for factors (`1.25`) and percentages (`50%`).\n"
    "* Unknown and repeated keys are errors, and so are YAML's anchors, aliases and tags.\n"
    "* In the column *Change*, `reload` is a key that SIGHUP takes; `restart` needs a restart of "
    "the daemon.\n";

static void print_default(FILE *out, const struct key_row *row)
{
    if (!row->initial)
        fputs("*required*", out);
    else if (row->initial[0] == '\0')
        fputs("empty", out);
    else
        fprintf(out, "`%s`", row->initial);
}

void config_print_reference(FILE *out)
{
    fputs(reference_intro, out);
    for (size_t i = 0; i < key_row_count; i++) {
        const struct key_row *row = &key_rows[i];
        if (begins_section(i))
            fprintf(out,
                    "\n## %.*s\n\n| Key | Default | Allowed | Change | Meaning |\n| --- | --- | "
                    "--- | --- | --- |\n",
                    (int)key_component(row->path), row->path);
        char allowed[VALUE_HINT_MAX];
        value_allowed(row, allowed);
        fprintf(out, "| `%s` | ", row->path);
        print_default(out, row);
        fprintf(out, " | %s | %s | %s |\n", allowed, row->reloadable ? "reload" : "restart",
                row->help);
    }
}
