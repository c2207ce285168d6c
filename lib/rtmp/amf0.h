/* rtmp/amf0.h - AMF0 values (AMF 0 specification, 2007), read in place and written into a bounded
 * buffer. Reading: no allocation, no recursion; views point into the input. Limits: AMF_DEPTH_MAX,
 * AMF_PROPERTIES_MAX, AMF_STRING_MAX. References, movieclips, recordsets are bad; typed objects and
 * xml are skipped as values.
 * Tests: tests/unit/rtmp/test_amf0.c, tests/fuzz/fuzz_amf0.c */
#ifndef WEIR_RTMP_AMF0_H
#define WEIR_RTMP_AMF0_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/rd.h"
#include "base/wr.h"

/* the markers, section 2.1 */
enum amf0_type {
    AMF0_NUMBER = 0x00,
    AMF0_BOOLEAN = 0x01,
    AMF0_STRING = 0x02,
    AMF0_OBJECT = 0x03,
    AMF0_NULL = 0x05,
    AMF0_UNDEFINED = 0x06,
    AMF0_REFERENCE = 0x07,
    AMF0_ECMA_ARRAY = 0x08,
    AMF0_OBJECT_END = 0x09,
    AMF0_STRICT_ARRAY = 0x0a,
    AMF0_DATE = 0x0b,
    AMF0_LONG_STRING = 0x0c,
    AMF0_UNSUPPORTED = 0x0d,
    AMF0_XML = 0x0f,
    AMF0_TYPED_OBJECT = 0x10,
};

struct amf0_value {
    enum amf0_type type;
    double number;      /* NUMBER, DATE (ms since 1970) */
    bool boolean;       /* BOOLEAN */
    struct view string; /* STRING, LONG_STRING, XML */
    struct view raw;    /* the whole encoding, marker included: for copying it on untouched */
};

/* The next value with everything in it; containers are walked over and validated, `raw` covers
 * them. PARSE_NEED_MORE: the bytes end inside it. PARSE_BAD: not AMF0, or a limit. r moves on
 * PARSE_OK only. */
MUST_CHECK enum parse_result amf0_read(struct rd *r, struct amf0_value *out);

/* A walk over the properties of an OBJECT, ECMA_ARRAY or TYPED_OBJECT value; elements of a
 * STRICT_ARRAY have an empty key. The value must have come from amf0_read(), so the walk cannot
 * fail. */
struct amf0_walk {
    struct rd r;
    bool strict;
    uint32_t left; /* of a strict array */
};
/* Of any other type: an empty walk. */
struct amf0_walk amf0_walk_begin(const struct amf0_value *container);
bool amf0_walk_next(struct amf0_walk *w, struct view *key, struct amf0_value *value);
/* The property called key; of several the last (as ActionScript has it). */
bool amf0_get(const struct amf0_value *container, const char *key, struct amf0_value *value);
bool amf0_get_string(const struct amf0_value *container, const char *key, struct view *out);
bool amf0_get_number(const struct amf0_value *container, const char *key, double *out);

static inline bool view_is(struct view v, const char *s)
{
    const size_t n = strlen(s);
    return v.len == n && (n == 0 || memcmp(v.p, s, n) == 0);
}

void amf0_write_number(struct wr *w, double v);
void amf0_write_boolean(struct wr *w, bool v);
void amf0_write_string(struct wr *w, const char *s);
/* Longer than 65535 bytes: a long string. */
void amf0_write_string_view(struct wr *w, struct view s);
void amf0_write_null(struct wr *w);
void amf0_write_object_begin(struct wr *w);
void amf0_write_ecma_array_begin(struct wr *w, uint32_t count);
void amf0_write_key(struct wr *w, const char *key);
void amf0_write_object_end(struct wr *w); /* also ends an ECMA array */

#endif
