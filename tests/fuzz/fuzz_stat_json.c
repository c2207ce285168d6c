/* Any bytes as SRS's statistics. */
#include <stdlib.h>
#include <string.h>

#include "healthd/stat_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct stat_report r;
    uint8_t *buf = malloc(size ? size : 1);
    require(buf != NULL);
    memcpy(buf, data, size);
    stat_report_init(&r, "weir_probe");
    const enum err e = stat_json_parse(buf, size, &r);
    require(e == ERR_OK || e == ERR_INVALID);
    require(r.key_count <= r.publishers && strlen(r.version) < sizeof r.version);
    for (uint32_t i = 0; i < r.key_count; i++)
        require(strlen(r.keys[i].text) == r.keys[i].len);
    stat_report_deinit(&r);
    free(buf);
    return 0;
}
