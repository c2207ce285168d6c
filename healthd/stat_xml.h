/* healthd/stat_xml.h - nginx-rtmp's statistics page (rtmp_stat all) as it arrives, also that of
 * nginx-http-flv-module. Tolerant: unknown elements are passed over, missing ones stay zero, any
 * order. A document type or an entity of its own is refused. Owner:  create/destroy; the report is
 * the caller's and may be half filled after an error. Errors: ERR_INVALID: not well-formed;
 * ERR_NO_MEMORY. Tests:  tests/unit/healthd/test_stat_xml.c, tests/fuzz/fuzz_stat_xml.c */
#ifndef WEIR_HEALTHD_STAT_XML_H
#define WEIR_HEALTHD_STAT_XML_H

#include "healthd/stat_report.h"

struct stat_xml; /* opaque */

MUST_CHECK enum err stat_xml_create(struct stat_report *out, struct stat_xml **x);
/* The next piece of the page; changed in place. */
MUST_CHECK enum err stat_xml_feed(struct stat_xml *x, uint8_t *buf, size_t len);
/* The page is over. ERR_INVALID also if it ends too early or says nothing of nginx-rtmp. */
MUST_CHECK enum err stat_xml_finish(struct stat_xml *x);
void stat_xml_destroy(struct stat_xml *x); /* NULL is allowed */

#endif
