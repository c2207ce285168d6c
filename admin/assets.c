#include "admin/assets.h"

#include <stdio.h>
#include <string.h>

#include "admin/digest.h"

/* Where `what` is in page from `at` on; page->len: nowhere. */
static size_t find(const struct asset *page, size_t at, const char *what)
{
    const size_t n = strlen(what);
    for (; at + n <= page->len; at++) {
        if (memcmp(page->data + at, what, n) == 0)
            return at;
    }
    return page->len;
}

/* " 'sha256-...'" of what is between the tags; " 'none'" without them. */
static void source_of(const struct asset *page, const char *open, const char *close, char *buf,
                      size_t cap)
{
    uint8_t digest[DIGEST_BYTES];
    char text[DIGEST_BASE64_MAX];
    const size_t start = find(page, 0, open) + strlen(open);
    const size_t end = start < page->len ? find(page, start, close) : page->len;
    if (end >= page->len) {
        (void)snprintf(buf, cap, "'none'");
        return;
    }
    digest_sha256(page->data + start, end - start, digest);
    digest_base64(digest, text);
    (void)snprintf(buf, cap, "'sha256-%s'", text);
}

void asset_policy(const struct asset *page, char *buf)
{
    char script[80], style[80];
    source_of(page, "<script>", "</script>", script, sizeof script);
    source_of(page, "<style>", "</style>", style, sizeof style);
    (void)snprintf(buf, ASSET_POLICY_MAX,
                   "default-src 'none'; script-src %s; style-src %s; connect-src 'self'; "
                   "img-src 'self' data:; base-uri 'none'; form-action 'none'; "
                   "frame-ancestors 'none'",
                   script, style);
}

void asset_reply(const struct asset *a, const char *content_type, const char *if_none_match,
                 struct http_reply *reply)
{
    uint8_t digest[DIGEST_BYTES];
    char hex[DIGEST_HEX_MAX];
    digest_sha256(a->data, a->len, digest);
    digest_hex(digest, hex);
    http_reply_empty(reply, 200);
    (void)snprintf(reply->etag, sizeof reply->etag, "\"%.32s\"", hex);
    reply->cache_control = "no-cache";
    if (if_none_match && strstr(if_none_match, reply->etag)) {
        reply->status = 304;
        return;
    }
    reply->content_type = content_type;
    reply->shared = a->data;
    reply->len = a->len;
}
