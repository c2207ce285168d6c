/* Any bytes as nginx-rtmp's statistics page: what comes out keeps its bounds, and is the same
 * however the page is cut. */
#include <stdlib.h>
#include <string.h>

#include "healthd/stat_xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok)
        abort();
}

static enum err read_page(const uint8_t *data, size_t size, size_t piece, struct stat_report *r)
{
    struct stat_xml *x;
    enum err e = ERR_OK;
    stat_report_init(r, "weir_probe");
    require(stat_xml_create(r, &x) == ERR_OK);
    for (size_t at = 0; at < size && e == ERR_OK; at += piece) {
        const size_t n = size - at < piece ? size - at : piece;
        uint8_t *buf = malloc(n);
        require(buf != NULL);
        memcpy(buf, data + at, n);
        e = stat_xml_feed(x, buf, n);
        free(buf);
    }
    if (e == ERR_OK)
        e = stat_xml_finish(x);
    stat_xml_destroy(x);
    return e;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct stat_report whole, cut;
    const enum err e = read_page(data, size, size + 1, &whole);
    require(e == read_page(data, size, 7, &cut));
    require(whole.key_count <= STAT_STREAMS_MAX && whole.key_count <= whole.publishers);
    require(strlen(whole.version) < sizeof whole.version);
    if (e == ERR_OK) {
        require(whole.key_count == cut.key_count && whole.bytes_in == cut.bytes_in);
        require(whole.apps_hash == cut.apps_hash && whole.clients == cut.clients);
    }
    for (uint32_t i = 0; i < whole.key_count; i++)
        require(strlen(whole.keys[i].text) == whole.keys[i].len);
    stat_report_deinit(&whole);
    stat_report_deinit(&cut);
    return 0;
}
