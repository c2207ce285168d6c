/* Any bytes as AMF0 values one after the other. */
#include <stdlib.h>

#include "base/limits.h"
#include "rtmp/amf0.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok)
        abort();
}

/* What was read once reads the same again, and a walk stays within it. */
static void check_value(const struct amf0_value *v)
{
    struct rd r = rd_over(v->raw.p, v->raw.len);
    struct amf0_value again;
    require(amf0_read(&r, &again) == PARSE_OK && r.left == 0 && again.type == v->type);
    r = rd_over(v->raw.p, v->raw.len - 1);
    require(amf0_read(&r, &again) == PARSE_NEED_MORE);

    struct amf0_walk w = amf0_walk_begin(v);
    struct view key;
    struct amf0_value inner;
    size_t sum = 0;
    uint32_t count = 0;
    while (amf0_walk_next(&w, &key, &inner)) {
        sum += key.len + inner.raw.len;
        require(++count <= AMF_PROPERTIES_MAX && sum < v->raw.len);
        require(inner.raw.p > v->raw.p && inner.raw.p + inner.raw.len <= v->raw.p + v->raw.len);
    }
    struct view text;
    double number;
    (void)amf0_get_string(v, "app", &text);
    (void)amf0_get_number(v, "width", &number);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rd r = rd_over(data, size);
    struct amf0_value v;
    while (r.left > 0) {
        const struct rd before = r;
        if (amf0_read(&r, &v) != PARSE_OK) {
            require(r.p == before.p && r.left == before.left && !r.bad);
            break;
        }
        require(v.raw.p == before.p && v.raw.len == before.left - r.left);
        check_value(&v);
    }
    return 0;
}
