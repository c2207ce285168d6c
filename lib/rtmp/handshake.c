#include "rtmp/handshake.h"

#include <assert.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/wr.h"

enum {
    DIGEST_BYTES = 32,
    DIGEST_OFFSETS = 728, /* the four bytes' sum is taken modulo this */
    DIGEST_LAYOUTS = 2,
    VERSION_OFFSET = 4,
    RANDOM_OFFSET = 8,
    SIGNED_BYTES = RTMP_HANDSHAKE_BYTES - DIGEST_BYTES, /* of C2/S2, before its signature */
};

/* Adobe's published keys. C1/S1 are signed with the text alone, C2/S2 with text and suffix. */
static const char client_key[] = "Genuine Adobe Flash Player 001";
static const char server_key[] = "Genuine Adobe Flash Media Server 001";
static const uint8_t key_suffix[DIGEST_BYTES] = {
    0xf0, 0xee, 0xc2, 0x4a, 0x80, 0x68, 0xbe, 0xe8, 0x2e, 0x00, 0xd0, 0xd1, 0x02, 0x9e, 0x7e, 0x57,
    0x6e, 0xec, 0x5d, 0x2d, 0x29, 0x80, 0x6f, 0xab, 0x93, 0xb8, 0xe6, 0x36, 0xcf, 0xeb, 0x31, 0xae,
};

/* Where the four bytes stand that say where the digest is. */
static const size_t layout_base[DIGEST_LAYOUTS] = {8, 772};

/* ffmpeg checks S1 and S2 only if the first byte is 3 or more, so ours must be. */
static const uint8_t server_version[4] = {0x04, 0x05, 0x00, 0x01};
static const uint8_t client_version[4] = {0x09, 0x00, 0x7c, 0x02};

static const struct {
    const char *prefix;
    enum rtmp_opening opening;
} openings[] = {
    {"PROXY ", RTMP_OPENING_PROXY},  {"\r\n\r\n", RTMP_OPENING_PROXY},
    {"SSH-", RTMP_OPENING_SSH},      {"\x16", RTMP_OPENING_TLS},
    {"GET ", RTMP_OPENING_HTTP},     {"POST ", RTMP_OPENING_HTTP},
    {"PUT ", RTMP_OPENING_HTTP},     {"HEAD ", RTMP_OPENING_HTTP},
    {"OPTIONS ", RTMP_OPENING_HTTP}, {"CONNECT ", RTMP_OPENING_HTTP},
    {"DELETE ", RTMP_OPENING_HTTP},  {"PATCH ", RTMP_OPENING_HTTP},
    {"TRACE ", RTMP_OPENING_HTTP},   {"PRI * HTTP/2", RTMP_OPENING_HTTP},
    {"\x06", RTMP_OPENING_RTMPE},    {"\x08", RTMP_OPENING_RTMPE},
    {"\x09", RTMP_OPENING_RTMPE},
};

const char *rtmp_opening_name(enum rtmp_opening o)
{
    static const char *const names[RTMP_OPENING_COUNT] = {
        [RTMP_OPENING_RTMP] = "rtmp",       [RTMP_OPENING_RTMPE] = "rtmpe",
        [RTMP_OPENING_TLS] = "tls",         [RTMP_OPENING_HTTP] = "http",
        [RTMP_OPENING_SSH] = "ssh",         [RTMP_OPENING_PROXY] = "proxy",
        [RTMP_OPENING_UNKNOWN] = "unknown",
    };
    return names[o];
}

enum rtmp_opening rtmp_opening_detect(const uint8_t *buf, size_t len)
{
    assert(len >= 1);
    if (buf[0] == RTMP_VERSION)
        return RTMP_OPENING_RTMP;
    for (size_t i = 0; i < sizeof openings / sizeof openings[0]; i++) {
        const size_t n = strlen(openings[i].prefix);
        if (memcmp(buf, openings[i].prefix, len < n ? len : n) == 0)
            return openings[i].opening;
    }
    return RTMP_OPENING_UNKNOWN;
}

static enum err hmac(const void *key, size_t key_len, const uint8_t *buf, size_t len, uint8_t *out)
{
    unsigned n = 0;
    if (!HMAC(EVP_sha256(), key, (int)key_len, buf, len, out, &n) || n != DIGEST_BYTES)
        return ERR_NO_MEMORY;
    return ERR_OK;
}

/* The digest's place in a C1 or S1; never beyond RTMP_HANDSHAKE_BYTES - DIGEST_BYTES. */
static size_t digest_offset(const uint8_t *c1, size_t layout)
{
    const size_t base = layout_base[layout];
    const unsigned sum = 0u + c1[base] + c1[base + 1] + c1[base + 2] + c1[base + 3];
    return base + 4 + sum % DIGEST_OFFSETS;
}

/* HMAC of everything but the digest itself. */
static enum err digest_compute(const uint8_t *c1, size_t at, const char *key, uint8_t *out)
{
    uint8_t rest[SIGNED_BYTES];
    memcpy(rest, c1, at);
    memcpy(rest + at, c1 + at + DIGEST_BYTES, SIGNED_BYTES - at);
    return hmac(key, strlen(key), rest, sizeof rest, out);
}

/* ERR_NOT_FOUND: the simple form. */
static enum err digest_find(const uint8_t *c1, const char *key, size_t *layout)
{
    static const uint8_t no_version[4] = {0};
    if (memcmp(c1 + VERSION_OFFSET, no_version, sizeof no_version) == 0)
        return ERR_NOT_FOUND;
    for (size_t i = 0; i < DIGEST_LAYOUTS; i++) {
        const size_t at = digest_offset(c1, i);
        uint8_t digest[DIGEST_BYTES];
        const enum err e = digest_compute(c1, at, key, digest);
        if (e != ERR_OK)
            return e;
        if (memcmp(digest, c1 + at, DIGEST_BYTES) == 0) {
            *layout = i;
            return ERR_OK;
        }
    }
    return ERR_NOT_FOUND;
}

/* The signature at the end of a C2 or S2, keyed from the digest that the peer's S1 or C1 carries.
 */
static enum err sign(const uint8_t *c2, const uint8_t *peer_digest, const char *key, uint8_t *out)
{
    uint8_t long_key[sizeof server_key + sizeof key_suffix];
    struct wr w = wr_over(long_key, sizeof long_key);
    wr_bytes(&w, key, strlen(key));
    wr_bytes(&w, key_suffix, sizeof key_suffix);

    uint8_t derived[DIGEST_BYTES];
    const enum err e = hmac(long_key, w.len, peer_digest, DIGEST_BYTES, derived);
    return e == ERR_OK ? hmac(derived, sizeof derived, c2, SIGNED_BYTES, out) : e;
}

/* C1 or S1 but for the digest. version NULL: the simple form. */
static void fill_hello(uint32_t time_ms, const uint8_t *version, const uint8_t *random, uint8_t *c1)
{
    c1[0] = (uint8_t)(time_ms >> 24);
    c1[1] = (uint8_t)(time_ms >> 16);
    c1[2] = (uint8_t)(time_ms >> 8);
    c1[3] = (uint8_t)time_ms;
    if (version)
        memcpy(c1 + VERSION_OFFSET, version, 4);
    else
        memset(c1 + VERSION_OFFSET, 0, 4);
    memcpy(c1 + RANDOM_OFFSET, random + RANDOM_OFFSET, RTMP_HANDSHAKE_BYTES - RANDOM_OFFSET);
}

static enum err fill_signed_hello(uint32_t time_ms, const uint8_t *version, const uint8_t *random,
                                  const char *key, size_t layout, uint8_t *c1)
{
    fill_hello(time_ms, version, random, c1);
    const size_t at = digest_offset(c1, layout);
    return digest_compute(c1, at, key, c1 + at);
}

void rtmp_handshake_reply_simple(const uint8_t *c1, uint32_t time_ms, const uint8_t *random,
                                 uint8_t *s0s1s2)
{
    s0s1s2[0] = RTMP_VERSION;
    fill_hello(time_ms, NULL, random, s0s1s2 + 1);
    memcpy(s0s1s2 + RTMP_C0C1_BYTES, c1, RTMP_HANDSHAKE_BYTES);
}

enum err rtmp_handshake_reply_digest(const uint8_t *c1, uint32_t time_ms, const uint8_t *random,
                                     uint8_t *s0s1s2)
{
    size_t layout = 0;
    enum err e = digest_find(c1, client_key, &layout);
    if (e != ERR_OK)
        return e == ERR_NOT_FOUND ? ERR_INVALID : e;

    s0s1s2[0] = RTMP_VERSION;
    e = fill_signed_hello(time_ms, server_version, random, server_key, layout, s0s1s2 + 1);
    if (e != ERR_OK)
        return e;
    uint8_t *s2 = s0s1s2 + RTMP_C0C1_BYTES;
    memcpy(s2, random, SIGNED_BYTES);
    return sign(s2, c1 + digest_offset(c1, layout), server_key, s2 + SIGNED_BYTES);
}

void rtmp_handshake_hello_simple(uint32_t time_ms, const uint8_t *random, uint8_t *c0c1)
{
    c0c1[0] = RTMP_VERSION;
    fill_hello(time_ms, NULL, random, c0c1 + 1);
}

enum err rtmp_handshake_hello_digest(uint32_t time_ms, const uint8_t *random, uint8_t *c0c1)
{
    c0c1[0] = RTMP_VERSION;
    return fill_signed_hello(time_ms, client_version, random, client_key, 0, c0c1 + 1);
}

enum err rtmp_handshake_confirm(const uint8_t *s1, const uint8_t *random, uint8_t *c2, bool *digest)
{
    size_t layout = 0;
    enum err e = digest_find(s1, server_key, &layout);
    if (e == ERR_NOT_FOUND) {
        memcpy(c2, s1, RTMP_HANDSHAKE_BYTES);
        *digest = false;
        return ERR_OK;
    }
    if (e != ERR_OK)
        return e;
    memcpy(c2, random, SIGNED_BYTES);
    e = sign(c2, s1 + digest_offset(s1, layout), client_key, c2 + SIGNED_BYTES);
    if (e == ERR_OK)
        *digest = true;
    return e;
}

bool rtmp_handshake_s2_valid(const uint8_t *c1, const uint8_t *s2)
{
    size_t layout = 0;
    uint8_t signature[DIGEST_BYTES];
    return digest_find(c1, client_key, &layout) == ERR_OK &&
           sign(s2, c1 + digest_offset(c1, layout), server_key, signature) == ERR_OK &&
           memcmp(signature, s2 + SIGNED_BYTES, DIGEST_BYTES) == 0;
}
