/* rtmp/flv_tag.h - what an audio or video payload is: sequence header, keyframe, other. Legacy FLV
 * (Video File Format Specification 10.1, annex E) and Enhanced RTMP v2 (ModEx and multitrack
 * unwrapped). Pure, from the first RTMP_TAG_PEEK_BYTES bytes of the payload.
 * Tests: tests/unit/rtmp/test_flv_tag.c */
#ifndef WEIR_RTMP_FLV_TAG_H
#define WEIR_RTMP_FLV_TAG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct flv_tag {
    bool enhanced;
    bool sequence_header; /* decoder configuration: to be kept and repeated to a new node */
    bool sequence_end;
    bool keyframe;    /* video a decoder can start at; always false for audio */
    bool coded_frame; /* carries media */
    bool side_data;   /* HDR metadata, channel layout: to be kept with the sequence header */
    bool multitrack;
    uint8_t track_id; /* of the first track */
    uint32_t codec;   /* enhanced: FourCC, big endian; else FLV's codec id or sound format */
};
/* Short, empty or unknown payloads give all-false with what is known; never fails. */
struct flv_tag flv_video_inspect(const uint8_t *buf, size_t len);
struct flv_tag flv_audio_inspect(const uint8_t *buf, size_t len);

#endif
