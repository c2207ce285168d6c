/* cluster/stream_key.h - the canonical name of a stream, whichever way a client split its URL (DESIGN 4.8).
 * app and name without their query strings, joined with '/', slashes collapsed, a trailing "/_definst_" of the app dropped; with a
 * vhost "host/app/name", the host in lower case. Tests: tests/unit/cluster/test_stream_key.c */
#ifndef WEIR_CLUSTER_STREAM_KEY_H
#define WEIR_CLUSTER_STREAM_KEY_H

#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/rd.h"

struct stream_key {
    char text[STREAM_KEY_MAX]; /* NUL-terminated */
    uint16_t len;
};

/* vhost: {NULL, 0} when not configured. ERR_INVALID: nothing left of app or name, or a control byte, NUL, or segment "." or ".." in it;
 * ERR_LIMIT: longer than STREAM_KEY_MAX - 1. */
MUST_CHECK enum err stream_key_make(struct view app, struct view name, struct view vhost, struct stream_key *out);
/* "live/cam1", as an operator types it (--explain, the API): the same canonical form. */
MUST_CHECK enum err stream_key_parse(const char *text, struct stream_key *out);
/* The host that counts as vhost: of "?vhost=" in app, name or tcUrl if given, else of tcUrl; without port. Empty if none. */
struct view stream_key_vhost(struct view tc_url, struct view app, struct view name);
/* What a node takes for the app and the vhost that does not look at connect's app, as SRS: of tcUrl, and for the vhost of the name. */
struct view stream_key_url_app(struct view tc_url);
struct view stream_key_url_vhost(struct view tc_url, struct view name);
uint64_t stream_key_hash(const struct stream_key *k); /* XXH3-64, without a seed */
/* "#" and 8 hex digits: how a stream shows in logs. buf: 10 bytes. */
void stream_key_short(const struct stream_key *k, char buf[10]);

#endif
