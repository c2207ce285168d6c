/* base/query.h - the arguments behind the '?' of an app, a stream name or a URL: "cam1?a=1&b=2".
 * Encoders write a second '?' where '&' belongs, so both part arguments. Nothing is unescaped.
 * Views point into the text.   Tests: tests/unit/base/test_query.c, tests/fuzz/fuzz_query.c */
#ifndef WEIR_BASE_QUERY_H
#define WEIR_BASE_QUERY_H

#include "base/rd.h"
#include "base/wr.h"

/* What stands before the first '?'. */
struct view query_path(struct view text);
/* The arguments, '?' included; empty if there are none. */
struct view query_args(struct view text);
/* The value of the first argument of that name; empty if there is none, or nothing in it. */
struct view query_get(struct view text, const char *name);
/* text but for the arguments of those names (NULL at the end); never longer than text. */
void query_write_without(struct wr *w, struct view text, const char *const *names);

#endif
