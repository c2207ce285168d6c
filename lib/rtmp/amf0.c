#include "rtmp/amf0.h"

#include <assert.h>

#include "base/limits.h"

/* A container that is being read. */
struct level {
    bool strict; /* left values and no keys; else keys up to an end marker */
    uint32_t left;
};

static enum parse_result rd_result(const struct rd *r)
{
    return r->bad ? PARSE_NEED_MORE : PARSE_OK;
}

static enum parse_result read_text(struct rd *r, uint32_t len, struct view *out)
{
    if (len > AMF_STRING_MAX)
        return PARSE_BAD;
    *out = rd_view(r, len);
    return rd_result(r);
}

static enum parse_result read_short_text(struct rd *r, struct view *out)
{
    const uint16_t len = rd_u16be(r);
    return r->bad ? PARSE_NEED_MORE : read_text(r, len, out);
}

static enum parse_result read_long_text(struct rd *r, struct view *out)
{
    const uint32_t len = rd_u32be(r);
    return r->bad ? PARSE_NEED_MORE : read_text(r, len, out);
}

static enum parse_result read_strict_count(struct rd *r, struct level *inner)
{
    const uint32_t count = rd_u32be(r);
    if (!r->bad && count > AMF_PROPERTIES_MAX)
        return PARSE_BAD;
    *inner = (struct level){.strict = true, .left = count};
    return rd_result(r);
}

/* The end marker or the next key. */
static enum parse_result read_key(struct rd *r, struct view *key, bool *end)
{
    *end = false;
    const enum parse_result result = read_short_text(r, key);
    if (result != PARSE_OK || key->len > 0)
        return result;
    struct rd ahead = *r; /* an empty key ends the object only in front of the end marker */
    if (rd_u8(&ahead) == AMF0_OBJECT_END) {
        *r = ahead;
        *end = true;
    }
    return rd_result(&ahead);
}

/* A marker and what directly belongs to it. Of a container only the head; *opens says so, *inner
 * how to go on. */
static enum parse_result read_head(struct rd *r, struct amf0_value *v, bool *opens,
                                   struct level *inner)
{
    struct view class_name;
    *v = (struct amf0_value){.type = (enum amf0_type)rd_u8(r)};
    *opens = false;
    *inner = (struct level){.strict = false};
    if (r->bad)
        return PARSE_NEED_MORE;
    switch (v->type) {
    case AMF0_NUMBER:
        v->number = rd_f64be(r);
        return rd_result(r);
    case AMF0_BOOLEAN:
        v->boolean = rd_u8(r) != 0;
        return rd_result(r);
    case AMF0_STRING:
        return read_short_text(r, &v->string);
    case AMF0_LONG_STRING:
    case AMF0_XML:
        return read_long_text(r, &v->string);
    case AMF0_NULL:
    case AMF0_UNDEFINED:
    case AMF0_UNSUPPORTED:
        return PARSE_OK;
    case AMF0_DATE:
        v->number = rd_f64be(r);
        (void)rd_u16be(r); /* time zone: reserved, section 2.13 */
        return rd_result(r);
    case AMF0_OBJECT:
        *opens = true;
        return PARSE_OK;
    case AMF0_TYPED_OBJECT:
        *opens = true;
        return read_short_text(r, &class_name);
    case AMF0_ECMA_ARRAY:
        *opens = true;
        (void)rd_u32be(r); /* senders write 0 or a wrong count: the end marker decides */
        return rd_result(r);
    case AMF0_STRICT_ARRAY:
        *opens = true;
        return read_strict_count(r, inner);
    case AMF0_REFERENCE:
    case AMF0_OBJECT_END:
        break;
    }
    return PARSE_BAD;
}

/* Reads on to the end of the outermost container on the stack. */
static enum parse_result skip_contents(struct rd *r, struct level outermost)
{
    struct level stack[AMF_DEPTH_MAX] = {outermost};
    uint32_t depth = 1;
    uint32_t values = 0;
    while (depth > 0) {
        struct level *const level = &stack[depth - 1];
        bool end = level->strict && level->left == 0;
        if (!level->strict) {
            struct view key;
            const enum parse_result result = read_key(r, &key, &end);
            if (result != PARSE_OK)
                return result;
        }
        if (end) {
            depth--;
            continue;
        }
        if (++values > AMF_PROPERTIES_MAX)
            return PARSE_BAD;
        if (level->strict)
            level->left--;

        struct amf0_value v;
        struct level inner;
        bool opens;
        const enum parse_result result = read_head(r, &v, &opens, &inner);
        if (result != PARSE_OK)
            return result;
        if (opens && depth == AMF_DEPTH_MAX)
            return PARSE_BAD;
        if (opens)
            stack[depth++] = inner;
    }
    return PARSE_OK;
}

enum parse_result amf0_read(struct rd *r, struct amf0_value *out)
{
    struct rd at = *r;
    struct amf0_value v;
    struct level level;
    bool opens;
    enum parse_result result = read_head(&at, &v, &opens, &level);
    if (result == PARSE_OK && opens)
        result = skip_contents(&at, level);
    if (result != PARSE_OK)
        return result;
    v.raw = (struct view){.p = r->p, .len = r->left - at.left};
    *r = at;
    *out = v;
    return PARSE_OK;
}

struct amf0_walk amf0_walk_begin(const struct amf0_value *container)
{
    struct rd r = rd_over(container->raw.p, container->raw.len);
    struct amf0_value v;
    struct level level;
    bool opens;
    if (read_head(&r, &v, &opens, &level) != PARSE_OK || !opens)
        return (struct amf0_walk){.strict = true, .left = 0};
    return (struct amf0_walk){.r = r, .strict = level.strict, .left = level.left};
}

bool amf0_walk_next(struct amf0_walk *w, struct view *key, struct amf0_value *value)
{
    struct rd at = w->r;
    struct view k = {0};
    bool end = w->strict && w->left == 0;
    if (!w->strict && read_key(&at, &k, &end) != PARSE_OK)
        return false;
    if (end || amf0_read(&at, value) != PARSE_OK)
        return false;
    if (w->strict)
        w->left--;
    w->r = at;
    *key = k;
    return true;
}

bool amf0_get(const struct amf0_value *container, const char *key, struct amf0_value *value)
{
    struct amf0_walk w = amf0_walk_begin(container);
    struct view k;
    struct amf0_value v;
    bool found = false;
    while (!w.strict && amf0_walk_next(&w, &k, &v)) {
        if (!view_is(k, key))
            continue;
        *value = v;
        found = true;
    }
    return found;
}

bool amf0_get_string(const struct amf0_value *container, const char *key, struct view *out)
{
    struct amf0_value v;
    if (!amf0_get(container, key, &v) || (v.type != AMF0_STRING && v.type != AMF0_LONG_STRING))
        return false;
    *out = v.string;
    return true;
}

bool amf0_get_number(const struct amf0_value *container, const char *key, double *out)
{
    struct amf0_value v;
    if (!amf0_get(container, key, &v) || v.type != AMF0_NUMBER)
        return false;
    *out = v.number;
    return true;
}

void amf0_write_number(struct wr *w, double v)
{
    wr_u8(w, AMF0_NUMBER);
    wr_f64be(w, v);
}

void amf0_write_boolean(struct wr *w, bool v)
{
    wr_u8(w, AMF0_BOOLEAN);
    wr_u8(w, v ? 1 : 0);
}

void amf0_write_string(struct wr *w, const char *s)
{
    amf0_write_string_view(w, (struct view){.p = (const uint8_t *)s, .len = strlen(s)});
}

void amf0_write_string_view(struct wr *w, struct view s)
{
    if (s.len > UINT16_MAX) {
        assert(s.len <= UINT32_MAX);
        wr_u8(w, AMF0_LONG_STRING);
        wr_u32be(w, (uint32_t)s.len);
    } else {
        wr_u8(w, AMF0_STRING);
        wr_u16be(w, (uint32_t)s.len);
    }
    wr_bytes(w, s.p, s.len);
}

void amf0_write_null(struct wr *w)
{
    wr_u8(w, AMF0_NULL);
}

void amf0_write_object_begin(struct wr *w)
{
    wr_u8(w, AMF0_OBJECT);
}

void amf0_write_ecma_array_begin(struct wr *w, uint32_t count)
{
    wr_u8(w, AMF0_ECMA_ARRAY);
    wr_u32be(w, count);
}

void amf0_write_key(struct wr *w, const char *key)
{
    const size_t n = strlen(key);
    assert(n <= UINT16_MAX);
    wr_u16be(w, (uint32_t)n);
    wr_bytes(w, key, n);
}

void amf0_write_object_end(struct wr *w)
{
    wr_u24be(w, AMF0_OBJECT_END);
}
