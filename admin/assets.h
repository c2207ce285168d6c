/* admin/assets.h - the files that are built in: the dashboard and the API's description.   Tests: tests/unit/admin/test_assets.c */
#ifndef WEIR_ADMIN_ASSETS_H
#define WEIR_ADMIN_ASSETS_H

#include "admin/http.h"

struct asset {
    const unsigned char *data;
    size_t len;
};
/* Made by the build from admin/openapi.json and admin/dashboard/index.html. */
extern const struct asset asset_openapi, asset_dashboard;

enum { ASSET_POLICY_MAX = 512 };
/* A Content-Security-Policy that allows the page's one inline script and one inline style, by their hashes, and talking to this server; nothing
 * else. page need not be terminated. buf: ASSET_POLICY_MAX. */
void asset_policy(const struct asset *page, char *buf);
/* 200 with ETag, or 304. content_type: a constant. */
void asset_reply(const struct asset *a, const char *content_type, const char *if_none_match, struct http_reply *reply);

#endif
