#include "router/media.h"

#include <string.h>

#include "base/limits.h"
#include "rtmp/flv_tag.h"

/* AMF0 string at the front of the payload */
static bool opens_with(const uint8_t *buf, size_t len, const char *name)
{
    const size_t n = strlen(name);
    return len >= 3 + n && buf[0] == 2 && (size_t)(buf[1] << 8 | buf[2]) == n &&
           memcmp(buf + 3, name, n) == 0;
}

static uint32_t state_key(uint8_t type, uint8_t form, uint8_t track)
{
    return (uint32_t)type << 16 | (uint32_t)form << 8 | track;
}

#define SET_DATA_FRAME "@setDataFrame"

static struct media_info inspect_data(const uint8_t *buf, size_t len)
{
    struct media_info info = {.kind = MEDIA_FRAME, .class = CLASS_DATA};
    const bool prefixed = opens_with(buf, len, SET_DATA_FRAME);
    const size_t skip = prefixed ? 3 + sizeof SET_DATA_FRAME - 1 : 0;
    /* encoders put the same before events, too */
    if (opens_with(buf + skip, len - skip, "onMetaData")) {
        info.kind = MEDIA_STATE;
        info.state_key = state_key(RTMP_DATA_AMF0, prefixed, 0);
    }
    return info;
}

struct media_info media_inspect(const struct rtmp_msg *m)
{
    uint8_t buf[RTMP_TAG_PEEK_BYTES];
    const size_t len = rtmp_msg_peek(m, buf, sizeof buf);
    if (m->type != RTMP_AUDIO && m->type != RTMP_VIDEO)
        return inspect_data(buf, len);
    const bool video = m->type == RTMP_VIDEO;
    struct media_info info = {.kind = MEDIA_FRAME, .class = video ? CLASS_VIDEO : CLASS_AUDIO};
    const struct flv_tag tag = video ? flv_video_inspect(buf, len) : flv_audio_inspect(buf, len);
    if (m->len == 0) {
        info.kind = MEDIA_EMPTY;
    } else if (tag.sequence_header || tag.side_data) {
        info.kind = MEDIA_STATE;
        info.state_key = state_key(m->type, tag.side_data, tag.multitrack ? tag.track_id : 0);
    } else if (tag.keyframe && (!tag.multitrack || tag.track_id == 0)) {
        /* the other tracks have theirs when they like, and few players look at them */
        info.kind = MEDIA_KEYFRAME;
    }
    return info;
}
