/* Any bytes as a command; a connect is also forwarded, and forwarding twice gives what forwarding
 * once does. */
#include <stdlib.h>

#include "base/limits.h"
#include "base/query.h"
#include "rtmp/command.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok)
        abort();
}

static void check_forward(const uint8_t *data, size_t size)
{
    static const char tc_url[] = "rtmp://127.0.0.1:1935/live";
    enum { ADDED_MAX = 64 }; /* a transaction id and a tcUrl */
    const size_t cap = size + ADDED_MAX;
    uint8_t *once = malloc(cap), *twice = malloc(cap);
    require(once && twice);
    struct wr w1 = wr_over(once, cap), w2 = wr_over(twice, cap);
    require(rtmp_write_connect_forward(&w1, data, size, tc_url, NULL) == ERR_OK);

    struct rtmp_command c;
    const enum parse_result result = rtmp_command_parse(once, w1.len, &c);
    if (result == PARSE_OK) {
        require(c.kind == RTMP_CMD_CONNECT && c.transaction_id == 1);
        require(rtmp_write_connect_forward(&w2, once, w1.len, tc_url, NULL) == ERR_OK);
        require(w2.len == w1.len && memcmp(once, twice, w1.len) == 0);
    } else {
        require(size >=
                AMF_PROPERTIES_MAX); /* only one property more than the limit is not read again */
    }
    free(twice);
    free(once);
}

/* What is left out is not there, and the rest is a command as before, the name in its place. */
static void check_command_forward(const uint8_t *data, size_t size, enum rtmp_command_kind kind)
{
    static const char *const names[] = {"token", "expires", NULL};
    uint8_t *out = malloc(size + COMMAND_GROWS);
    require(out);
    struct wr w = wr_over(out, size + COMMAND_GROWS);
    require(rtmp_write_command_forward(&w, data, size, names) == ERR_OK);
    struct rtmp_command c;
    struct amf0_value by_position[3];
    require(rtmp_command_parse(out, w.len, &c) == PARSE_OK && c.kind == kind);
    require(c.arg[0].type != AMF0_STRING || query_get(c.arg[0].string, "token").len == 0);
    struct rd r = rd_over(out, w.len);
    for (int i = 0; i < 3 && c.arg[0].type == AMF0_STRING; i++)
        require(amf0_read(&r, &by_position[i]) == PARSE_OK);
    require(c.arg[0].type != AMF0_STRING ||
            (by_position[1].type == AMF0_NUMBER && by_position[2].type == AMF0_NULL &&
             r.p == c.arg[0].raw.p));
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rtmp_command c;
    if (rtmp_command_parse(data, size, &c) != PARSE_OK)
        return 0;
    require(c.kind <= RTMP_CMD_OTHER);
    require(c.args.p >= data && c.args.p + c.args.len == data + size);
    require(c.object.raw.len <= c.args.len);
    struct rtmp_connect connect;
    struct rtmp_status status;
    rtmp_connect_read(&c, &connect);
    rtmp_status_read(&c, &status);
    require(connect.app.len <= AMF_STRING_MAX && status.code.len <= AMF_STRING_MAX);
    check_command_forward(data, size, c.kind);
    if (c.kind == RTMP_CMD_CONNECT)
        check_forward(data, size);
    return 0;
}
