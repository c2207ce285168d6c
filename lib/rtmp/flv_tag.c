#include "rtmp/flv_tag.h"

#include "base/rd.h"

enum {
    FRAME_KEY = 1,
    FRAME_GENERATED_KEY = 4,
    FRAME_COMMAND = 5, /* its payload is one byte of seek command, not codec data */

    VIDEO_AVC = 7,
    VIDEO_HEVC = 12, /* 12 and 13: in use beside the standard, laid out like AVC */
    VIDEO_AV1 = 13,
    AUDIO_ENHANCED = 9,
    AUDIO_AAC = 10,

    ENHANCED_VIDEO = 0x80,
};

/* Of Enhanced RTMP; video and audio agree but for those marked. */
enum packet_type {
    PACKET_SEQUENCE_START = 0,
    PACKET_CODED_FRAMES = 1,
    PACKET_SEQUENCE_END = 2,
    PACKET_CODED_FRAMES_X = 3,    /* video: no composition time */
    PACKET_SIDE_DATA = 4,         /* video: metadata; audio: channel layout */
    PACKET_VIDEO_TS_SEQUENCE = 5, /* video: sequence start of AV1 as in MPEG-2 TS */
    PACKET_AUDIO_MULTITRACK = 5,
    PACKET_VIDEO_MULTITRACK = 6,
    PACKET_MODEX = 7,
};

enum { MANY_TRACKS_MANY_CODECS = 2 }; /* multitrack type: each track has its own FourCC */

/* Modifiers stand before what they modify; type: the packet type in front, then the one behind
 * them. */
static void skip_modifiers(struct rd *r, uint8_t *type)
{
    while (*type == PACKET_MODEX && !r->bad) {
        uint32_t size = rd_u8(r) + 1u;
        if (size == 256)
            size = rd_u16be(r) + 1u;
        (void)rd_take(r, size);
        *type = rd_u8(r) & 15;
    }
}

/* From behind the first byte and the modifiers to the body of the first track. False: too short, or
 * nested. */
static bool read_enhanced_head(struct rd *r, uint8_t multitrack_type, uint8_t *type,
                               struct flv_tag *tag)
{
    uint8_t many = 0;
    if (*type == multitrack_type) {
        tag->multitrack = true;
        const uint8_t b = rd_u8(r);
        many = b >> 4;
        *type = b & 15;
        if (*type == multitrack_type || many > MANY_TRACKS_MANY_CODECS)
            return false;
    }
    const uint32_t codec = rd_u32be(r); /* in front of all tracks or of the first: the same place */
    const uint8_t track = tag->multitrack ? rd_u8(r) : 0;
    if (r->bad)
        return false;
    tag->codec = codec;
    tag->track_id = track;
    return true;
}

static struct flv_tag enhanced_video(uint8_t first, struct rd r)
{
    struct flv_tag tag = {.enhanced = true};
    const uint8_t frame = first >> 4 & 7;
    uint8_t type = first & 15;
    skip_modifiers(&r, &type);
    if (frame == FRAME_COMMAND && type != PACKET_SIDE_DATA)
        return tag;
    if (r.bad || !read_enhanced_head(&r, PACKET_VIDEO_MULTITRACK, &type, &tag))
        return tag;
    tag.sequence_header = type == PACKET_SEQUENCE_START || type == PACKET_VIDEO_TS_SEQUENCE;
    tag.sequence_end = type == PACKET_SEQUENCE_END;
    tag.side_data = type == PACKET_SIDE_DATA;
    tag.coded_frame = type == PACKET_CODED_FRAMES || type == PACKET_CODED_FRAMES_X;
    tag.keyframe = tag.coded_frame && frame == FRAME_KEY;
    return tag;
}

static struct flv_tag enhanced_audio(uint8_t first, struct rd r)
{
    struct flv_tag tag = {.enhanced = true};
    uint8_t type = first & 15;
    skip_modifiers(&r, &type);
    if (r.bad || !read_enhanced_head(&r, PACKET_AUDIO_MULTITRACK, &type, &tag))
        return tag;
    tag.sequence_header = type == PACKET_SEQUENCE_START;
    tag.sequence_end = type == PACKET_SEQUENCE_END;
    tag.side_data = type == PACKET_SIDE_DATA;
    tag.coded_frame = type == PACKET_CODED_FRAMES;
    return tag;
}

struct flv_tag flv_video_inspect(const uint8_t *buf, size_t len)
{
    struct rd r = rd_over(buf, len);
    const uint8_t first = rd_u8(&r);
    if (first & ENHANCED_VIDEO)
        return enhanced_video(first, r);
    const uint8_t frame = first >> 4;
    struct flv_tag tag = {.codec = first & 15u};
    const uint8_t packet = rd_u8(&r);
    if (r.bad || frame < FRAME_KEY || frame > FRAME_GENERATED_KEY)
        return tag;
    if (tag.codec == VIDEO_AVC || tag.codec == VIDEO_HEVC || tag.codec == VIDEO_AV1) {
        tag.sequence_header = packet == PACKET_SEQUENCE_START;
        tag.coded_frame = packet == PACKET_CODED_FRAMES;
        tag.sequence_end = packet == PACKET_SEQUENCE_END;
    } else {
        tag.coded_frame = true;
    }
    tag.keyframe = tag.coded_frame && frame == FRAME_KEY;
    return tag;
}

struct flv_tag flv_audio_inspect(const uint8_t *buf, size_t len)
{
    struct rd r = rd_over(buf, len);
    const uint8_t first = rd_u8(&r);
    const uint8_t format = first >> 4;
    if (format == AUDIO_ENHANCED)
        return enhanced_audio(first, r);
    struct flv_tag tag = {.codec = format};
    const uint8_t packet = rd_u8(&r);
    if (r.bad)
        return tag;
    tag.sequence_header = format == AUDIO_AAC && packet == PACKET_SEQUENCE_START;
    tag.coded_frame = format != AUDIO_AAC || packet == PACKET_CODED_FRAMES;
    return tag;
}
