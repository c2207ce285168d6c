/* Any bytes as a PROXY header; what is accepted is exactly as long as said, and can be written
 * again. */
#include <stdlib.h>

#include "rtmp/proxy_header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy_header h, again;
    size_t used = 0, used_again = 0;
    const enum parse_result result = proxy_header_parse(data, size, &h, &used);
    if (result != PARSE_OK) {
        require(result == PARSE_BAD || size < PROXY_V2_MAX);
        return 0;
    }
    require(used <= size && used <= PROXY_V2_MAX);
    require(proxy_header_parse(data, used, &again, &used_again) == PARSE_OK && used_again == used);
    require(proxy_header_parse(data, used - 1, &again, &used_again) == PARSE_NEED_MORE);

    uint8_t buf[PROXY_V1_MAX + 1];
    const size_t len = proxy_header_write(h.version, (const struct sockaddr *)&h.src,
                                          (const struct sockaddr *)&h.dst, buf, sizeof buf);
    require(proxy_header_parse(buf, len, &again, &used_again) == PARSE_OK && used_again == len);
    require(again.version == h.version);
    require(!h.local ||
            again.local); /* not the other way round: ::ffff:1.2.3.4 to ::1 has no common family */
    return 0;
}
