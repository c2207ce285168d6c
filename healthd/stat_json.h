/* healthd/stat_json.h - SRS's HTTP API: /api/v1/streams/ and /api/v1/summaries, told apart by their
 * content. Fields of another type than expected count as missing. Errors: ERR_INVALID: no JSON, or
 * neither of the two; ERR_NO_MEMORY. Tests:  tests/unit/healthd/test_stat_json.c,
 * tests/fuzz/fuzz_stat_json.c */
#ifndef WEIR_HEALTHD_STAT_JSON_H
#define WEIR_HEALTHD_STAT_JSON_H

#include "healthd/stat_report.h"

/* Adds to out, which may be half filled after an error. buf is changed in place. */
MUST_CHECK enum err stat_json_parse(uint8_t *buf, size_t len, struct stat_report *out);

#endif
