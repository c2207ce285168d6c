#include "rtmp/proxy_header.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/rd.h"
#include "base/wr.h"

enum {
    V2_HEAD_BYTES = 16,
    V2_VERSION = 2, /* high nibble of the byte behind the signature */
    V2_LOCAL = 0,   /* commands: its low nibble */
    V2_PROXY = 1,
    V2_TCP4 = 0x11, /* families and transports */
    V2_TCP6 = 0x21,
    V2_FAMILY_MAX = 3,
    V2_TRANSPORT_MAX = 2,
    V2_TCP4_BYTES = 12,
    V2_TCP6_BYTES = 36,
    V1_FIELDS = 6, /* "PROXY", protocol, two addresses, two ports */
};

static const uint8_t v2_signature[] = {'\r', '\n', '\r', '\n', 0,   '\r',
                                       '\n', 'Q',  'U',  'I',  'T', '\n'};
static const char v1_start[] = "PROXY ";
static const char v1_unknown[] = "PROXY UNKNOWN";

/* addr: in_addr or in6_addr, as family says */
static void set_address(struct sockaddr_storage *out, int family, const void *addr, uint16_t port)
{
    memset(out, 0, sizeof *out);
    if (family == AF_INET) {
        struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons(port)};
        memcpy(&in4.sin_addr, addr, sizeof in4.sin_addr);
        memcpy(out, &in4, sizeof in4);
    } else {
        struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
        memcpy(&in6.sin6_addr, addr, sizeof in6.sin6_addr);
        memcpy(out, &in6, sizeof in6);
    }
}

static bool view_starts(struct view v, const char *s)
{
    const size_t n = strlen(s);
    return v.len >= n && memcmp(v.p, s, n) == 0;
}

static bool view_equals(struct view v, const char *s)
{
    return v.len == strlen(s) && view_starts(v, s);
}

/* Exactly V1_FIELDS fields with one space between. */
static bool v1_split(struct view line, struct view *fields)
{
    size_t n = 0;
    size_t start = 0;
    for (size_t i = 0; i <= line.len; i++) {
        if (i < line.len && line.p[i] != ' ')
            continue;
        if (n == V1_FIELDS || i == start)
            return false;
        fields[n++] = (struct view){.p = line.p + start, .len = i - start};
        start = i + 1;
    }
    return n == V1_FIELDS;
}

/* 0..65535 without leading zeros, section 2.1 */
static bool v1_port(struct view v, uint16_t *out)
{
    uint32_t port = 0;
    if (v.len == 0 || v.len > 5 || (v.p[0] == '0' && v.len > 1))
        return false;
    for (size_t i = 0; i < v.len; i++) {
        if (v.p[i] < '0' || v.p[i] > '9')
            return false;
        port = port * 10 + (uint32_t)(v.p[i] - '0');
    }
    *out = (uint16_t)port;
    return port <= UINT16_MAX;
}

static bool v1_address(int family, struct view host, struct view port, struct sockaddr_storage *out)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr addr; /* holds an in_addr as well */
    uint16_t number = 0;
    if (host.len >= sizeof text || memchr(host.p, '\0', host.len) || !v1_port(port, &number))
        return false;
    memcpy(text, host.p, host.len);
    text[host.len] = '\0';
    if (inet_pton(family, text, &addr) != 1)
        return false;
    set_address(out, family, &addr, number);
    return true;
}

/* The line without its CRLF. */
static enum parse_result v1_parse_line(struct view line, struct proxy_header *out)
{
    struct proxy_header h = {.version = 1};
    if (view_equals(line, v1_unknown) || view_starts(line, "PROXY UNKNOWN ")) {
        h.local = true; /* the rest of the line is to be ignored */
        *out = h;
        return PARSE_OK;
    }
    struct view f[V1_FIELDS];
    if (!v1_split(line, f))
        return PARSE_BAD;
    const bool tcp6 = view_equals(f[1], "TCP6");
    if (!tcp6 && !view_equals(f[1], "TCP4"))
        return PARSE_BAD;
    const int family = tcp6 ? AF_INET6 : AF_INET;
    if (!v1_address(family, f[2], f[4], &h.src) || !v1_address(family, f[3], f[5], &h.dst))
        return PARSE_BAD;
    *out = h;
    return PARSE_OK;
}

static enum parse_result v1_parse(const uint8_t *buf, size_t len, struct proxy_header *out,
                                  size_t *used)
{
    const size_t look = len < PROXY_V1_MAX ? len : PROXY_V1_MAX;
    const uint8_t *cr = memchr(buf, '\r', look);
    if (!cr || (size_t)(cr - buf) + 2 > look) /* both CR and LF have to be there */
        return look == PROXY_V1_MAX ? PARSE_BAD : PARSE_NEED_MORE;
    const size_t text = (size_t)(cr - buf);
    if (cr[1] != '\n' || v1_parse_line((struct view){.p = buf, .len = text}, out) != PARSE_OK)
        return PARSE_BAD;
    *used = text + 2;
    return PARSE_OK;
}

/* body: addresses and TLVs. What is neither TCP over IPv4 nor over IPv6 tells no address that we
 * could use. */
static enum parse_result v2_parse_addresses(uint8_t protocol, struct rd body,
                                            struct proxy_header *h)
{
    const int family = protocol == V2_TCP4 ? AF_INET : AF_INET6;
    const size_t addr_len = protocol == V2_TCP4 ? sizeof(struct in_addr) : sizeof(struct in6_addr);
    if (protocol >> 4 > V2_FAMILY_MAX || (protocol & 15) > V2_TRANSPORT_MAX)
        return PARSE_BAD;
    if (protocol != V2_TCP4 && protocol != V2_TCP6) {
        h->local = true;
        return PARSE_OK;
    }
    const uint8_t *src = rd_take(&body, addr_len);
    const uint8_t *dst = rd_take(&body, addr_len);
    const uint16_t src_port = rd_u16be(&body);
    const uint16_t dst_port = rd_u16be(&body);
    if (body.bad)
        return PARSE_BAD;
    set_address(&h->src, family, src, src_port);
    set_address(&h->dst, family, dst, dst_port);
    return PARSE_OK;
}

static enum parse_result v2_parse(const uint8_t *buf, size_t len, struct proxy_header *out,
                                  size_t *used)
{
    struct rd r = rd_over(buf, len);
    (void)rd_take(&r, sizeof v2_signature);
    const uint8_t version_command = rd_u8(&r);
    if (r.bad)
        return PARSE_NEED_MORE;
    const uint8_t command = version_command & 15;
    if (version_command >> 4 != V2_VERSION || (command != V2_LOCAL && command != V2_PROXY))
        return PARSE_BAD;
    const uint8_t protocol = rd_u8(&r);
    const uint16_t body_len = rd_u16be(&r);
    if (r.bad)
        return PARSE_NEED_MORE;
    if (V2_HEAD_BYTES + body_len > PROXY_V2_MAX)
        return PARSE_BAD;
    const struct view body = rd_view(&r, body_len);
    if (r.bad)
        return PARSE_NEED_MORE;

    struct proxy_header h = {.version = 2, .local = command == V2_LOCAL};
    if (!h.local && v2_parse_addresses(protocol, rd_over(body.p, body.len), &h) != PARSE_OK)
        return PARSE_BAD;
    *out = h;
    *used = V2_HEAD_BYTES + (size_t)body_len;
    return PARSE_OK;
}

enum parse_result proxy_header_parse(const uint8_t *buf, size_t len, struct proxy_header *out,
                                     size_t *used)
{
    const size_t v1_len = sizeof v1_start - 1;
    if (len == 0)
        return PARSE_NEED_MORE;
    if (memcmp(buf, v1_start, len < v1_len ? len : v1_len) == 0)
        return len < v1_len ? PARSE_NEED_MORE : v1_parse(buf, len, out, used);
    const size_t v2_len = sizeof v2_signature;
    if (memcmp(buf, v2_signature, len < v2_len ? len : v2_len) == 0)
        return v2_parse(buf, len, out, used);
    return PARSE_BAD;
}

/* What goes into a header: addresses in network order, IPv4-mapped ones as IPv4. */
struct endpoint {
    int family; /* AF_INET, AF_INET6; else AF_UNSPEC */
    uint8_t addr[sizeof(struct in6_addr)];
    uint16_t port;
};

static struct endpoint endpoint_of(const struct sockaddr *sa)
{
    struct endpoint e = {.family = AF_UNSPEC};
    if (sa->sa_family == AF_INET) {
        struct sockaddr_in in4;
        memcpy(&in4, sa, sizeof in4);
        e.family = AF_INET;
        e.port = ntohs(in4.sin_port);
        memcpy(e.addr, &in4.sin_addr, sizeof in4.sin_addr);
    } else if (sa->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, sa, sizeof in6);
        const bool mapped = IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr);
        const size_t skip = mapped ? sizeof in6.sin6_addr - sizeof(struct in_addr) : 0;
        e.family = mapped ? AF_INET : AF_INET6;
        e.port = ntohs(in6.sin6_port);
        memcpy(e.addr, in6.sin6_addr.s6_addr + skip, sizeof in6.sin6_addr - skip);
    }
    return e;
}

static size_t v1_write(const struct endpoint *src, const struct endpoint *dst, uint8_t *buf,
                       size_t cap)
{
    char line[PROXY_V1_MAX + 1], src_text[INET6_ADDRSTRLEN], dst_text[INET6_ADDRSTRLEN];
    int n;
    if (src->family != dst->family || src->family == AF_UNSPEC ||
        !inet_ntop(src->family, src->addr, src_text, sizeof src_text) ||
        !inet_ntop(dst->family, dst->addr, dst_text, sizeof dst_text))
        n = snprintf(line, sizeof line, "%s\r\n", v1_unknown);
    else
        n = snprintf(line, sizeof line, "PROXY TCP%c %s %s %u %u\r\n",
                     src->family == AF_INET ? '4' : '6', src_text, dst_text, (unsigned)src->port,
                     (unsigned)dst->port);
    assert(n > 0 && (size_t)n < sizeof line && (size_t)n <= cap);
    memcpy(buf, line, (size_t)n);
    return (size_t)n;
}

static size_t v2_write(const struct endpoint *src, const struct endpoint *dst, uint8_t *buf,
                       size_t cap)
{
    struct wr w = wr_over(buf, cap);
    const bool known = src->family == dst->family && src->family != AF_UNSPEC;
    const bool ipv4 = src->family == AF_INET;
    const size_t addr_len = ipv4 ? sizeof(struct in_addr) : sizeof(struct in6_addr);
    wr_bytes(&w, v2_signature, sizeof v2_signature);
    wr_u8(&w, V2_VERSION << 4 | (known ? V2_PROXY : V2_LOCAL));
    if (known) {
        wr_u8(&w, ipv4 ? V2_TCP4 : V2_TCP6);
        wr_u16be(&w, ipv4 ? V2_TCP4_BYTES : V2_TCP6_BYTES);
        wr_bytes(&w, src->addr, addr_len);
        wr_bytes(&w, dst->addr, addr_len);
        wr_u16be(&w, src->port);
        wr_u16be(&w, dst->port);
    } else {
        wr_u8(&w, 0);
        wr_u16be(&w, 0);
    }
    assert(!w.full);
    return w.len;
}

size_t proxy_header_write(int version, const struct sockaddr *src, const struct sockaddr *dst,
                          uint8_t *buf, size_t cap)
{
    assert(version == 1 || version == 2);
    assert(cap > PROXY_V1_MAX);
    const struct endpoint s = endpoint_of(src), d = endpoint_of(dst);
    return version == 1 ? v1_write(&s, &d, buf, cap) : v2_write(&s, &d, buf, cap);
}
