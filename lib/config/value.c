#include "config/value.h"

#include <arpa/inet.h>
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "config/number.h"

/* ---- units ---- */

struct unit {
    const char *name;
    uint64_t factor;
};

/* Largest first, so that printing finds the shortest form; the last row ends the table. */
static const struct unit durations[] = {
    {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {NULL, 0}};
static const struct unit delays[] = {{"s", 1000000}, {"ms", 1000}, {"us", 1}, {NULL, 0}};
static const struct unit sizes[] = {
    {"GiB", 1u << 30}, {"MiB", 1u << 20}, {"KiB", 1u << 10}, {"", 1}, {NULL, 0}};
static const struct unit bandwidths[] = {
    {"Gbit/s", 1000000000}, {"Mbit/s", 1000000}, {"kbit/s", 1000}, {"bit/s", 1}, {NULL, 0}};
static const struct unit plain[] = {{"", 1}, {NULL, 0}};

static const struct unit *units_of(enum key_type type)
{
    switch (type) {
    case KEY_DURATION:
        return durations;
    case KEY_DELAY:
        return delays;
    case KEY_SIZE:
        return sizes;
    case KEY_BANDWIDTH:
        return bandwidths;
    case KEY_TEXT:
    case KEY_COUNT:
    case KEY_WORKERS:
    case KEY_FACTOR:
    case KEY_PERCENT:
    case KEY_BOOL:
    case KEY_ENUM:
    case KEY_SET:
    case KEY_CIDRS:
    case KEY_APPS:
    case KEY_NODES:
    case KEY_LISTENS:
    case KEY_RULES:
        break;
    }
    return plain;
}

static enum err amount_parse(const struct unit *units, const char *text, uint64_t *out)
{
    uint64_t v = 0;
    const size_t n = number_parse(text, &v);
    if (n == 0)
        return ERR_INVALID;
    const char *unit = text + n;
    if (v == 0 && *unit == '\0') { /* nothing needs no unit */
        *out = 0;
        return ERR_OK;
    }
    for (; units->name; units++) {
        if (strcmp(units->name, unit) != 0)
            continue;
        if (v > UINT64_MAX / units->factor)
            return ERR_LIMIT;
        *out = v * units->factor;
        return ERR_OK;
    }
    return ERR_INVALID;
}

enum err config_parse_duration(const char *text, uint64_t *ms)
{
    return amount_parse(durations, text, ms);
}

enum { AMOUNT_TEXT_MAX = 32 };

static void amount_print(const struct unit *units, uint64_t v, char *buf)
{
    if (v == 0) {
        snprintf(buf, AMOUNT_TEXT_MAX, "0");
        return;
    }
    while (v % units->factor != 0)
        units++;
    snprintf(buf, AMOUNT_TEXT_MAX, "%" PRIu64 "%s", v / units->factor, units->name);
}

/* ---- numbers with a fraction: held exactly in millionths on their way, so that what is printed
 * reads back equal ---- */

enum { MILLION = 1000000, FRACTION_DIGITS = 6 };

static enum err decimal_parse(const char *text, const char *suffix, uint64_t *millionths)
{
    uint64_t whole = 0, fraction = 0;
    const size_t n = number_parse(text, &whole);
    if (n == 0 || n > FRACTION_DIGITS)
        return ERR_INVALID;
    text += n;
    if (*text == '.') {
        unsigned digits = 0;
        for (text++; *text >= '0' && *text <= '9' && digits < FRACTION_DIGITS; text++, digits++)
            fraction = fraction * 10 + (uint64_t)(*text - '0');
        if (digits == 0)
            return ERR_INVALID;
        for (; digits < FRACTION_DIGITS; digits++)
            fraction *= 10;
    }
    if (strcmp(text, suffix) != 0)
        return ERR_INVALID;
    *millionths = whole * MILLION + fraction;
    return ERR_OK;
}

static void decimal_print(double v, const char *suffix, char *buf)
{
    const uint64_t millionths = (uint64_t)(v * MILLION + 0.5);
    char fraction[16];
    snprintf(fraction, sizeof fraction, ".%06u", (unsigned)(millionths % MILLION));
    size_t len = strlen(fraction);
    while (len > 0 && (fraction[len - 1] == '0' || fraction[len - 1] == '.'))
        fraction[--len] = '\0';
    snprintf(buf, VALUE_TEXT_MAX, "%" PRIu64 "%s%s", millionths / MILLION, fraction, suffix);
}

/* ---- fields ---- */

static void *field(const struct key_row *row, void *base)
{
    return (char *)base + row->offset;
}

static const void *field_const(const struct key_row *row, const void *base)
{
    return (const char *)base + row->offset;
}

static bool in_range(const struct key_row *row, uint64_t v, uint64_t scale)
{
    return (v == 0 && row->zero) || (v >= row->min * scale && v <= row->max * scale);
}

static enum err store_number(const struct key_row *row, void *base, uint64_t v)
{
    if (!in_range(row, v, 1))
        return ERR_LIMIT;
    const uint32_t narrow = (uint32_t)v;
    if (row->size == sizeof narrow) {
        assert(v <= UINT32_MAX);
        memcpy(field(row, base), &narrow, sizeof narrow);
    } else {
        assert(row->size == sizeof v);
        memcpy(field(row, base), &v, sizeof v);
    }
    return ERR_OK;
}

static uint64_t load_number(const struct key_row *row, const void *base)
{
    uint32_t narrow;
    uint64_t wide;
    if (row->size == sizeof wide) {
        memcpy(&wide, field_const(row, base), sizeof wide);
        return wide;
    }
    memcpy(&narrow, field_const(row, base), sizeof narrow);
    return narrow;
}

static enum err store_decimal(const struct key_row *row, void *base, const char *text)
{
    const bool percent = row->type == KEY_PERCENT;
    uint64_t millionths = 0;
    const enum err e = decimal_parse(text, percent ? "%" : "", &millionths);
    if (e != ERR_OK)
        return e;
    if (!in_range(row, millionths, MILLION))
        return ERR_LIMIT;
    const double v = (double)millionths / (percent ? 100.0 * MILLION : 1.0 * MILLION);
    memcpy(field(row, base), &v, sizeof v);
    return ERR_OK;
}

static double load_decimal(const struct key_row *row, const void *base)
{
    double v;
    memcpy(&v, field_const(row, base), sizeof v);
    return v;
}

static enum err store_text(const struct key_row *row, void *base, const char *text)
{
    if (!row->form->valid(text))
        return ERR_INVALID;
    if (strlen(text) >= row->size)
        return ERR_LIMIT;
    memset(field(row, base), 0, row->size);
    memcpy(field(row, base), text, strlen(text));
    return ERR_OK;
}

static enum err store_bool(const struct key_row *row, void *base, const char *text)
{
    const bool v = strcmp(text, "true") == 0;
    if (!v && strcmp(text, "false") != 0)
        return ERR_INVALID;
    memcpy(field(row, base), &v, sizeof v);
    return ERR_OK;
}

static enum err parse_name(const struct key_row *row, const char *text, uint32_t *out)
{
    for (uint32_t i = 0; row->names[i]; i++) {
        if (strcmp(row->names[i], text) == 0) {
            *out = i;
            return ERR_OK;
        }
    }
    return ERR_INVALID;
}

static enum err store_enum(const struct key_row *row, void *base, const char *text)
{
    uint32_t v = 0;
    const enum err e = parse_name(row, text, &v);
    assert(row->size == sizeof v);
    if (e == ERR_OK)
        memcpy(field(row, base), &v, sizeof v);
    return e;
}

static enum err store_set_item(const struct key_row *row, void *base, const char *text)
{
    uint32_t set, bit = 0;
    const enum err e = parse_name(row, text, &bit);
    assert(row->size == sizeof set);
    if (e != ERR_OK)
        return e;
    memcpy(&set, field(row, base), sizeof set);
    set |= 1u << bit;
    memcpy(field(row, base), &set, sizeof set);
    return ERR_OK;
}

static enum err store_cidr(const struct key_row *row, void *base, const char *text)
{
    struct config_cidrs *c = field(row, base);
    if (c->count == CONFIG_CIDRS_MAX)
        return ERR_LIMIT;
    const enum err e = config_parse_cidr(text, &c->list[c->count]);
    if (e == ERR_OK)
        c->count++;
    return e;
}

static enum err store_app(const struct key_row *row, void *base, const char *text)
{
    struct config_apps *apps = field(row, base);
    assert(row->size == sizeof *apps);
    if (apps->count == CONFIG_APPS_MAX || strlen(text) >= APP_MAX)
        return ERR_LIMIT;
    if (!row->form->valid(text))
        return ERR_INVALID;
    snprintf(apps->names[apps->count++], APP_MAX, "%s", text);
    return ERR_OK;
}

enum err value_parse(const struct key_row *row, const char *text, void *base)
{
    uint64_t v = 0;
    enum err e = ERR_INVALID;
    switch (row->type) {
    case KEY_TEXT:
        return store_text(row, base, text);
    case KEY_FACTOR:
    case KEY_PERCENT:
        return store_decimal(row, base, text);
    case KEY_BOOL:
        return store_bool(row, base, text);
    case KEY_ENUM:
        return store_enum(row, base, text);
    case KEY_SET:
        return store_set_item(row, base, text);
    case KEY_CIDRS:
        return store_cidr(row, base, text);
    case KEY_APPS:
        return store_app(row, base, text);
    case KEY_WORKERS:
        if (strcmp(text, "auto") == 0) {
            memset(field(row, base), 0, row->size);
            return ERR_OK;
        }
        /* fall through */
    case KEY_COUNT:
    case KEY_DURATION:
    case KEY_DELAY:
    case KEY_SIZE:
    case KEY_BANDWIDTH:
        e = amount_parse(units_of(row->type), text, &v);
        return e == ERR_OK ? store_number(row, base, v) : e;
    case KEY_NODES:
    case KEY_LISTENS:
    case KEY_RULES:
        break;
    }
    return ERR_INVALID;
}

static bool is_list(const struct key_row *row)
{
    return row->type == KEY_SET || row->type == KEY_CIDRS || row->type == KEY_APPS ||
           key_is_map_list(row);
}

void value_set_defaults(const char *prefix, void *base)
{
    for (size_t i = 0; i < key_row_count; i++) {
        const struct key_row *row = &key_rows[i];
        const char *rest = key_below(row, prefix);
        if (!rest || strchr(rest, '[') || is_list(row) || !row->initial)
            continue;
        const enum err e = value_parse(row, row->initial, base);
        assert(e == ERR_OK);
        (void)e;
    }
}

struct value_list value_list_of(const struct key_row *row, const struct config *c)
{
    if (row->type == KEY_NODES)
        return (struct value_list){"nodes[]", c->nodes, c->node_count, sizeof *c->nodes};
    if (row->type == KEY_RULES)
        return (struct value_list){"access.rules[]", c->access.rules, c->access.rule_count,
                                   sizeof *c->access.rules};
    assert(row->type == KEY_LISTENS);
    return (struct value_list){"router.listen[]", c->router.listen, c->router.listen_count,
                               sizeof *c->router.listen};
}

/* ---- to text ---- */

/* The forms let printable ASCII through only, so two characters need escaping. */
static void text_print(const char *text, char *buf)
{
    size_t n = 0;
    buf[n++] = '"';
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            buf[n++] = '\\';
        buf[n++] = *text;
    }
    buf[n++] = '"';
    buf[n] = '\0';
}

static void cidr_print(const struct config_cidr *c, char *buf)
{
    static const uint8_t v4_prefix[12] = {[10] = 0xff, [11] = 0xff};
    const bool v4 = c->bits >= 96 && memcmp(c->addr, v4_prefix, sizeof v4_prefix) == 0;
    char host[INET6_ADDRSTRLEN];
    inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? c->addr + 12 : c->addr, host, sizeof host);
    snprintf(buf, VALUE_TEXT_MAX, "\"%s/%d\"", host, v4 ? c->bits - 96 : c->bits);
}

static void cidrs_print(const struct config_cidrs *c, char *buf)
{
    size_t n = 0;
    buf[n++] = '[';
    for (uint32_t i = 0; i < c->count; i++) {
        char one[VALUE_TEXT_MAX];
        cidr_print(&c->list[i], one);
        n += (size_t)snprintf(buf + n, VALUE_TEXT_MAX - n, "%s%s", i > 0 ? ", " : "", one);
    }
    buf[n++] = ']';
    buf[n] = '\0';
}

static void apps_print(const struct config_apps *apps, char *buf)
{
    size_t n = 0;
    buf[n++] = '[';
    for (uint32_t i = 0; i < apps->count; i++) {
        if (i > 0) {
            buf[n++] = ',';
            buf[n++] = ' ';
        }
        text_print(apps->names[i], buf + n);
        n += strlen(buf + n);
    }
    buf[n++] = ']';
    buf[n] = '\0';
}

static void set_print(const struct key_row *row, uint64_t set, char *buf)
{
    size_t n = (size_t)snprintf(buf, VALUE_TEXT_MAX, "[");
    for (uint32_t i = 0; row->names[i]; i++) {
        if (set & 1u << i)
            n += (size_t)snprintf(buf + n, VALUE_TEXT_MAX - n, "%s%s", n > 1 ? ", " : "",
                                  row->names[i]);
    }
    snprintf(buf + n, VALUE_TEXT_MAX - n, "]");
}

void value_print(const struct key_row *row, const void *base, char *buf)
{
    bool b;
    buf[0] = '\0';
    switch (row->type) {
    case KEY_TEXT:
        text_print(field_const(row, base), buf);
        return;
    case KEY_FACTOR:
        decimal_print(load_decimal(row, base), "", buf);
        return;
    case KEY_PERCENT:
        decimal_print(load_decimal(row, base) * 100, "%", buf);
        return;
    case KEY_BOOL:
        memcpy(&b, field_const(row, base), sizeof b);
        snprintf(buf, VALUE_TEXT_MAX, "%s", b ? "true" : "false");
        return;
    case KEY_ENUM:
        snprintf(buf, VALUE_TEXT_MAX, "%s", row->names[load_number(row, base)]);
        return;
    case KEY_SET:
        set_print(row, load_number(row, base), buf);
        return;
    case KEY_CIDRS:
        cidrs_print(field_const(row, base), buf);
        return;
    case KEY_APPS:
        apps_print(field_const(row, base), buf);
        return;
    case KEY_WORKERS:
        if (load_number(row, base) == 0) {
            snprintf(buf, VALUE_TEXT_MAX, "auto");
            return;
        }
        /* fall through */
    case KEY_COUNT:
    case KEY_DURATION:
    case KEY_DELAY:
    case KEY_SIZE:
    case KEY_BANDWIDTH:
        amount_print(units_of(row->type), load_number(row, base), buf);
        return;
    case KEY_NODES:
    case KEY_LISTENS:
    case KEY_RULES:
        return;
    }
}

/* ---- in words ---- */

static void names_allowed(const struct key_row *row, const char *intro, char *buf)
{
    size_t n = (size_t)snprintf(buf, VALUE_HINT_MAX, "%s", intro);
    for (size_t i = 0; row->names[i]; i++)
        n +=
            (size_t)snprintf(buf + n, VALUE_HINT_MAX - n, "%s %s", i > 0 ? "," : "", row->names[i]);
}

void value_allowed(const struct key_row *row, char *buf)
{
    char min[AMOUNT_TEXT_MAX], max[AMOUNT_TEXT_MAX];
    const char *zero = row->zero ? "0, or " : "", *percent = row->type == KEY_PERCENT ? "%" : "";
    amount_print(units_of(row->type), row->min, min);
    amount_print(units_of(row->type), row->max, max);
    switch (row->type) {
    case KEY_TEXT:
        snprintf(buf, VALUE_HINT_MAX, "%s", row->form->allowed);
        return;
    case KEY_BOOL:
        snprintf(buf, VALUE_HINT_MAX, "true or false");
        return;
    case KEY_ENUM:
        names_allowed(row, "one of", buf);
        return;
    case KEY_SET:
        names_allowed(row, "a list of one or more of", buf);
        return;
    case KEY_CIDRS:
        snprintf(buf, VALUE_HINT_MAX,
                 "a list of up to %s addresses or ranges such as 10.0.0.0/8 or ::1", max);
        return;
    case KEY_APPS:
        snprintf(buf, VALUE_HINT_MAX, "a list of up to %s names of applications", max);
        return;
    case KEY_NODES:
    case KEY_LISTENS:
    case KEY_RULES:
        snprintf(buf, VALUE_HINT_MAX, "a list of %s to %s maps", min, max);
        return;
    case KEY_WORKERS:
        zero = "auto, or ";
        break;
    case KEY_COUNT:
    case KEY_DURATION:
    case KEY_DELAY:
    case KEY_SIZE:
    case KEY_BANDWIDTH:
    case KEY_FACTOR:
    case KEY_PERCENT:
        break;
    }
    snprintf(buf, VALUE_HINT_MAX, "%s%s%s to %s%s", zero, min, percent, max, percent);
}

/* How a refused text may have been meant, as "; ..."; "" if there is nothing to say. */
static void value_hint(const struct key_row *row, const char *text, char *buf)
{
    uint64_t v;
    const char *const forms[] = {
        [KEY_DURATION] = "a duration needs a unit: 500ms, 2s, 5m, 1h",
        [KEY_DELAY] = "a delay needs a unit: 500us, 2ms",
        [KEY_SIZE] = "a size is in bytes or has a unit: 64KiB, 4MiB, 1GiB",
        [KEY_BANDWIDTH] = "a bandwidth needs a unit: 500kbit/s, 8Mbit/s, 1Gbit/s",
        [KEY_PERCENT] = "a percentage ends in %: 50%",
        [KEY_RULES] = NULL,
    };
    buf[0] = '\0';
    const size_t digits = number_parse(text, &v);
    if (row->type == KEY_DURATION && digits > 0 && text[digits] == '\0')
        snprintf(buf, VALUE_HINT_MAX, "; a duration needs a unit: %.20ss or %.20sms?", text, text);
    else if (forms[row->type])
        snprintf(buf, VALUE_HINT_MAX, "; %s", forms[row->type]);
}

void value_quote(const char *text, char *buf)
{
    buf[log_quote(LOG_LOGFMT, text, strlen(text), buf, VALUE_QUOTED_MAX - 1)] = '\0';
}

void value_refusal(const struct key_row *row, const char *text, enum err e, char *buf)
{
    char quoted[VALUE_QUOTED_MAX], allowed[VALUE_HINT_MAX], hint[VALUE_HINT_MAX] = "";
    if (e == ERR_LIMIT && row->type == KEY_TEXT) {
        snprintf(buf, VALUE_REFUSAL_MAX, "found %zu bytes, allowed: at most %zu", strlen(text),
                 row->size - 1);
        return;
    }
    value_quote(text, quoted);
    value_allowed(row, allowed);
    if (e == ERR_INVALID)
        value_hint(row, text, hint);
    snprintf(buf, VALUE_REFUSAL_MAX, "found %s, allowed: %.360s%.360s", quoted, allowed, hint);
}
