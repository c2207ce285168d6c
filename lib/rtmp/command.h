/* rtmp/command.h - the commands of RTMP 1.0 section 7.2, bytes to values and back. Input is the
 * payload of a message of type 20 (a type 17's without its leading 0x00: rtmp/link.h takes that
 * off). Views point into the input.
 * Tests: tests/unit/rtmp/test_command.c, tests/fuzz/fuzz_command.c */
#ifndef WEIR_RTMP_COMMAND_H
#define WEIR_RTMP_COMMAND_H

#include "rtmp/amf0.h"

enum rtmp_command_kind {
    RTMP_CMD_CONNECT = 0,
    RTMP_CMD_CREATE_STREAM,
    RTMP_CMD_RELEASE_STREAM,
    RTMP_CMD_FCPUBLISH,
    RTMP_CMD_FCUNPUBLISH,
    RTMP_CMD_FCSUBSCRIBE,
    RTMP_CMD_GET_STREAM_LENGTH,
    RTMP_CMD_PUBLISH,
    RTMP_CMD_PLAY,
    RTMP_CMD_PLAY2,
    RTMP_CMD_PAUSE, /* also pauseRaw */
    RTMP_CMD_SEEK,
    RTMP_CMD_RECEIVE_AUDIO,
    RTMP_CMD_RECEIVE_VIDEO,
    RTMP_CMD_DELETE_STREAM,
    RTMP_CMD_CLOSE_STREAM,
    RTMP_CMD_CHECK_BW, /* _checkbw */
    RTMP_CMD_RESULT,   /* _result */
    RTMP_CMD_ERROR,    /* _error */
    RTMP_CMD_ON_STATUS,
    RTMP_CMD_ON_BW_DONE,
    RTMP_CMD_ON_FCPUBLISH, /* onFCPublish, onFCUnpublish, onFCSubscribe */
    RTMP_CMD_CLOSE,
    RTMP_CMD_OTHER,
};
enum { RTMP_CMD_COUNT = RTMP_CMD_OTHER + 1 };

/* Read as the most generous node reads it: nginx-rtmp ends a name at a NUL and takes "PLAY" for
 * play. */
enum rtmp_command_kind rtmp_command_kind(struct view name);

struct rtmp_command {
    enum rtmp_command_kind kind;
    struct view name;         /* as sent */
    double transaction_id;    /* NaN and infinities read as 0 */
    struct view args;         /* everything behind the transaction id, encoded */
    struct amf0_value object; /* usually an object or null; type AMF0_UNDEFINED if absent */
    struct amf0_value arg[4]; /* the arguments behind it; type AMF0_UNDEFINED if absent */
    uint32_t arg_count;       /* of all arguments, may be over 4 */
};
/* PARSE_BAD: not a command. A payload that ends early is bad too: messages are whole. A missing
 * transaction id (something else than a number in its place) reads as 0. */
MUST_CHECK enum parse_result rtmp_command_parse(const uint8_t *buf, size_t len,
                                                struct rtmp_command *out);

/* connect's object, section 7.2.1.1, with what Enhanced RTMP adds that we look at. */
struct rtmp_connect {
    struct view app, tc_url, flash_ver;
    double object_encoding; /* 0 if absent */
    uint32_t caps_ex;       /* Enhanced RTMP: bit 0 reconnect */
};
void rtmp_connect_read(const struct rtmp_command *c, struct rtmp_connect *out);

/* The connect command for a node, made from the client's: every argument and property as it was, in
 * its order, unknown ones included; transaction id 1, objectEncoding 0 where there is one, tcUrl
 * added where there is none (NULL: nothing). without: names of arguments that are left out of every
 * URL and name in it, NULL at the end; or NULL. Of several apps or tcUrls the last one goes on.
 * ERR_LIMIT: does not fit w. ERR_INVALID: no connect.
 */
MUST_CHECK enum err rtmp_write_connect_forward(struct wr *w, const uint8_t *client_connect,
                                               size_t len, const char *tc_url_if_absent,
                                               const char *const *without);
/* A command whose first argument is a stream name (publish, play, FCUnpublish), so that nodes, which
 * read by position, find the same name as rtmp_command_parse() did: transaction id (0 where the
 * client has left it out), null, the name without some of its arguments (NULL: with all), the rest
 * as it is. Any other command as it is. At most COMMAND_GROWS longer. ERR_INVALID: no command. */
enum { COMMAND_GROWS = 9 }; /* by a number */
MUST_CHECK enum err rtmp_write_command_forward(struct wr *w, const uint8_t *command, size_t len,
                                               const char *const *without);
/* A connect of our own (probes, test clients). */
void rtmp_write_connect(struct wr *w, double tr, const char *app, const char *tc_url,
                        const char *flash_ver);

/* _result of connect: fmsVer, capabilities; level, code NetConnection.Connect.Success, description,
 * objectEncoding 0. */
void rtmp_write_connect_result(struct wr *w, double tr);
/* _error of connect: code e.g. NetConnection.Connect.Rejected. */
void rtmp_write_connect_error(struct wr *w, double tr, const char *code, const char *description);
/* _result with null and a number (createStream, getStreamLength). */
void rtmp_write_number_result(struct wr *w, double tr, double value);
/* _result with null null. */
void rtmp_write_null_result(struct wr *w, double tr);
/* onStatus, section 7.2.2: level "status" or "error". */
void rtmp_write_on_status(struct wr *w, const char *level, const char *code,
                          const char *description);
/* name, tr, null, then the encoded arguments (may be empty). */
void rtmp_write_call(struct wr *w, const char *name, double tr, struct view encoded_args);
/* name, tr, null, string: releaseStream, FCPublish, FCUnpublish ... */
void rtmp_write_call_string(struct wr *w, const char *name, double tr, struct view s);
/* name, tr, null, number: deleteStream */
void rtmp_write_call_number(struct wr *w, const char *name, double tr, double v);
/* publish / play of our own. start: as it goes on the wire; clients send -1000 for live (section
 * 7.2.2.1 says -1). */
void rtmp_write_publish(struct wr *w, double tr, const char *name, const char *type);
void rtmp_write_play(struct wr *w, double tr, const char *name, double start);

/* What an onStatus says. level and code are empty when absent. */
struct rtmp_status {
    struct view level, code, description;
};
void rtmp_status_read(const struct rtmp_command *c, struct rtmp_status *out);

#endif
