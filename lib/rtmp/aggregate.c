/* rtmp/aggregate.c - see aggregate.h. */
#include "rtmp/aggregate.h"

#include "base/limits.h"
#include "base/rd.h"

enum { TAG_HEADER_BYTES = 11, PREVIOUS_SIZE_BYTES = 4 };

enum parse_result rtmp_aggregate_next(struct rtmp_aggregate *a, struct rtmp_msg **out)
{
    const struct rtmp_msg *outer = a->msg;
    if (a->off == outer->len)
        return PARSE_NEED_MORE;
    uint8_t header[TAG_HEADER_BYTES];
    struct rd r = rd_over(header, rtmp_msg_copy(outer, a->off, header, sizeof header));
    const uint8_t type = rd_u8(&r);
    const uint32_t size = rd_u24be(&r);
    const uint32_t time_low = rd_u24be(&r);
    const uint32_t time = (uint32_t)rd_u8(&r) << 24 | time_low;
    rd_take(&r, 3); /* the tag's stream id: always 0, the outer one counts */
    if (r.bad || type == RTMP_AGGREGATE || a->tags == RTMP_AGGREGATE_TAGS_MAX)
        return PARSE_BAD;
    const uint32_t data = a->off + TAG_HEADER_BYTES;
    if (size > outer->len - data)
        return PARSE_BAD;
    const uint32_t first_time = a->tags == 0 ? time : a->first_time;
    struct rtmp_msg *m =
        rtmp_msg_create(outer->pool, type, outer->msid, outer->timestamp + (time - first_time));
    if (!m)
        return PARSE_BAD;
    m->csid = outer->csid;
    if (rtmp_msg_append_part(m, outer, data, size) != ERR_OK) {
        rtmp_msg_unref(m);
        return PARSE_BAD;
    }
    const uint32_t rest = outer->len - data - size;
    a->off = data + size + (rest < PREVIOUS_SIZE_BYTES ? rest : PREVIOUS_SIZE_BYTES);
    a->first_time = first_time;
    a->tags++;
    *out = m;
    return PARSE_OK;
}
