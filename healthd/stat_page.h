/* healthd/stat_page.h - a statistics page, of whichever server: bytes as they arrive into a report.
 * What begins with '<' is nginx-rtmp's XML and read at once; what begins with '{' is SRS's JSON and
 * read at the end. Owner:  init/deinit; the report is the caller's.   Errors: ERR_INVALID,
 * ERR_NO_MEMORY, ERR_LIMIT. Tests:  tests/unit/healthd/test_stat_page.c */
#ifndef WEIR_HEALTHD_STAT_PAGE_H
#define WEIR_HEALTHD_STAT_PAGE_H

#include "healthd/stat_report.h"
#include "healthd/stat_xml.h"

struct stat_page {
    struct stat_report *out;
    struct stat_xml *xml; /* of an XML page */
    uint8_t *json;        /* of a JSON page: all of it */
    size_t json_len, json_cap;
};

void stat_page_init(struct stat_page *p, struct stat_report *out);
void stat_page_deinit(struct stat_page *p);
/* The next bytes; changed in place. */
MUST_CHECK enum err stat_page_feed(struct stat_page *p, uint8_t *buf, size_t len);
MUST_CHECK enum err stat_page_finish(struct stat_page *p);

/* SRS tells streams and its own state on two pages. The second one's target for the first's; NULL:
 * one page is all. A target that names neither ("/api/v1") is turned into the first. target:
 * CONFIG_URL_MAX bytes. */
const char *stat_page_second(char *target);

#endif
