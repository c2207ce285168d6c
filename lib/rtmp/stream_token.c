#include "rtmp/stream_token.h"

#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"

enum {
    HMAC_BYTES = STREAM_TOKEN_BYTES / 2,
    EXPIRES_DIGITS_MAX = 12, /* the year 33,000 */
    SIGNED_TEXT_MAX = STREAM_KEY_MAX + 32,
};

/* ---- keys ---- */

/* NULL: taken, or nothing in the line; else what is wrong with it. */
static const char *parse_line(const char *line, size_t len, struct signing_keys *keys)
{
    const char *comment = memchr(line, '#', len);
    if (comment)
        len = (size_t)(comment - line);
    while (len > 0 && (line[len - 1] == ' ' || line[len - 1] == '\t' || line[len - 1] == '\r'))
        len--;
    if (len == 0)
        return NULL;
    for (size_t i = 0; i < len; i++)
        if (line[i] <= 0x20 || line[i] > 0x7e)
            return "a key is printable and has no blanks";
    if (len < SIGNING_KEY_BYTES_MIN || len > SIGNING_KEY_BYTES_MAX)
        return "a key has 32 to 128 characters (openssl rand -hex 32 makes one)";
    if (keys->count == SIGNING_KEYS_MAX)
        return "there are too many keys; 16 are allowed";
    struct signing_key *key = &keys->list[keys->count++];
    memcpy(key->text, line, len);
    key->text[len] = '\0';
    return NULL;
}

enum err signing_keys_parse(const char *text, size_t len, struct signing_keys *out,
                            char error[SIGNING_KEYS_ERROR_MAX])
{
    struct signing_keys keys = {0};
    const char *wrong = NULL;
    unsigned line = 0;
    for (size_t at = 0; at < len && !wrong;) {
        const char *end = memchr(text + at, '\n', len - at);
        const size_t n = end ? (size_t)(end - (text + at)) : len - at;
        line++;
        wrong = parse_line(text + at, n, &keys);
        at += n + 1;
    }
    if (wrong)
        (void)snprintf(error, SIGNING_KEYS_ERROR_MAX, "line %u: %s", line, wrong);
    else if (keys.count == 0)
        (void)snprintf(error, SIGNING_KEYS_ERROR_MAX, "there is no key in it");
    else
        *out = keys;
    const bool good = !wrong && keys.count > 0;
    OPENSSL_cleanse(&keys, sizeof keys);
    return good ? ERR_OK : ERR_INVALID;
}

/* ---- tokens ---- */

enum err stream_token_make(const struct signing_key *key, const char *kind, struct view stream,
                           uint64_t expires_s, char out[STREAM_TOKEN_BYTES + 1])
{
    static const char digits[] = "0123456789abcdef";
    char text[SIGNED_TEXT_MAX];
    uint8_t mac[EVP_MAX_MD_SIZE];
    unsigned mac_len = 0;
    const int n = snprintf(text, sizeof text, "%s %" PRIu64 " %.*s", kind, expires_s,
                           (int)stream.len, (const char *)stream.p);
    if (n < 0 || (size_t)n >= sizeof text)
        return ERR_LIMIT;
    if (!HMAC(EVP_sha256(), key->text, (int)strlen(key->text), (const uint8_t *)text, (size_t)n,
              mac, &mac_len) ||
        mac_len != HMAC_BYTES)
        return ERR_NO_MEMORY;
    for (size_t i = 0; i < HMAC_BYTES; i++) {
        out[2 * i] = digits[mac[i] >> 4];
        out[2 * i + 1] = digits[mac[i] & 15];
    }
    out[STREAM_TOKEN_BYTES] = '\0';
    return ERR_OK;
}

static bool parse_expires(struct view v, uint64_t *out)
{
    uint64_t n = 0;
    if (v.len == 0 || v.len > EXPIRES_DIGITS_MAX)
        return false;
    for (size_t i = 0; i < v.len; i++) {
        if (v.p[i] < '0' || v.p[i] > '9')
            return false;
        n = n * 10 + (v.p[i] - '0');
    }
    *out = n;
    return true;
}

enum stream_token stream_token_check(const struct signing_keys *keys, const char *kind,
                                     struct view stream, struct view token, struct view expires,
                                     uint64_t now_s)
{
    uint64_t expires_s = 0;
    bool good = false;
    if (token.len == 0)
        return STREAM_TOKEN_MISSING;
    if (token.len != STREAM_TOKEN_BYTES || !parse_expires(expires, &expires_s))
        return STREAM_TOKEN_BAD;
    for (uint32_t i = 0; i < keys->count; i++) { /* all of them: the time tells nothing */
        char right[STREAM_TOKEN_BYTES + 1];
        if (stream_token_make(&keys->list[i], kind, stream, expires_s, right) == ERR_OK &&
            CRYPTO_memcmp(right, token.p, STREAM_TOKEN_BYTES) == 0)
            good = true;
    }
    if (!good)
        return STREAM_TOKEN_BAD;
    return now_s < expires_s ? STREAM_TOKEN_GOOD : STREAM_TOKEN_EXPIRED;
}
