#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "config/config.h"
#include "config/number.h"

enum { V4_PREFIX_BITS = 96 };
static const uint8_t v4_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static bool is_v6(const char *text, size_t len)
{
    char copy[INET6_ADDRSTRLEN];
    struct in6_addr addr;
    if (len >= sizeof copy)
        return false;
    memcpy(copy, text, len);
    copy[len] = '\0';
    return inet_pton(AF_INET6, copy, &addr) == 1;
}

/* A name or an IPv4 address: letters, digits, '.', '-' and, as container names have it, '_'. */
static bool is_host(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const char c = text[i];
        const bool word =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!word && c != '.' && c != '-' && c != '_')
            return false;
    }
    return true;
}

static bool parse_port(const char *text, uint16_t *port)
{
    uint64_t v = 0;
    const size_t n = number_parse(text, &v);
    if (n == 0 || text[n] != '\0' || v == 0 || v > UINT16_MAX)
        return false;
    *port = (uint16_t)v;
    return true;
}

enum err config_split_address(const char *text, uint16_t default_port, char host[HOST_MAX],
                              uint16_t *port)
{
    const char *start = text;
    size_t len;
    if (text[0] == '[') {
        const char *end = strchr(text, ']');
        if (!end || !is_v6(text + 1, (size_t)(end - text - 1)))
            return ERR_INVALID;
        start = text + 1;
        len = (size_t)(end - start);
        text = end + 1;
    } else {
        len = strcspn(text, ":");
        text += len;
        if (len == 1 && *start == '*')
            len = 0;
        else if (!is_host(start, len) || (len == 0 && *text == '\0'))
            return ERR_INVALID;
    }
    uint16_t number = default_port;
    if (len >= HOST_MAX || (*text != '\0' && (*text != ':' || !parse_port(text + 1, &number))))
        return ERR_INVALID;
    memcpy(host, start, len);
    host[len] = '\0';
    *port = number;
    return ERR_OK;
}

enum err config_parse_cidr(const char *text, struct config_cidr *out)
{
    char host[INET6_ADDRSTRLEN];
    struct config_cidr c = {.bits = 128};
    const size_t len = strcspn(text, "/");
    if (len >= sizeof host)
        return ERR_INVALID;
    memcpy(host, text, len);
    host[len] = '\0';

    uint8_t skipped = 0; /* bits of the v4-mapped prefix, which the text does not count */
    if (inet_pton(AF_INET, host, c.addr + sizeof v4_prefix) == 1) {
        memcpy(c.addr, v4_prefix, sizeof v4_prefix);
        skipped = V4_PREFIX_BITS;
    } else if (inet_pton(AF_INET6, host, c.addr) != 1) {
        return ERR_INVALID;
    }
    if (text[len] == '/') {
        uint64_t bits = 0;
        const size_t n = number_parse(text + len + 1, &bits);
        if (n == 0 || text[len + 1 + n] != '\0' || bits > 128u - skipped)
            return ERR_INVALID;
        c.bits = (uint8_t)(bits + skipped);
    }
    for (unsigned bit = c.bits; bit < 128; bit++) /* equal ranges compare equal */
        c.addr[bit / 8] &= (uint8_t) ~(0x80u >> bit % 8);
    *out = c;
    return ERR_OK;
}

bool config_is_loopback(const char *address)
{
    static const char *const ranges[] = {"127.0.0.0/8", "::1"};
    char host[HOST_MAX];
    uint16_t port = 0;
    struct config_cidr addr, range;
    if (config_split_address(address, 0, host, &port) != ERR_OK)
        return false;
    if (strcmp(host, "localhost") == 0)
        return true;
    if (config_parse_cidr(host, &addr) != ERR_OK)
        return false;
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        if (config_parse_cidr(ranges[i], &range) == ERR_OK &&
            config_cidr_contains(&range, addr.addr))
            return true;
    }
    return false;
}

bool config_cidr_contains(const struct config_cidr *c, const uint8_t addr[16])
{
    const size_t whole = c->bits / 8;
    if (memcmp(c->addr, addr, whole) != 0)
        return false;
    const unsigned rest = c->bits % 8;
    return rest == 0 || ((c->addr[whole] ^ addr[whole]) & (0xff00u >> rest) & 0xffu) == 0;
}

bool config_cidrs_contain(const struct config_cidrs *c, const uint8_t addr[16])
{
    for (uint32_t i = 0; i < c->count; i++)
        if (config_cidr_contains(&c->list[i], addr))
            return true;
    return false;
}
