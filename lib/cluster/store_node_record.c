#include "cluster/store_record.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "config/json_text.h"

static const char *const source_names[] = {[NODE_FROM_CONFIG] = "config", [NODE_FROM_API] = "api"};
static const char *const proxy_names[] = {
    [SEND_PROXY_OFF] = "off", [SEND_PROXY_V1] = "v1", [SEND_PROXY_V2] = "v2"};

/* The resolved address as text and port; "" when there is none. */
static uint16_t addr_write(const struct sockaddr_storage *addr, char text[INET6_ADDRSTRLEN])
{
    text[0] = '\0';
    if (addr->ss_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, addr, sizeof v4);
        (void)inet_ntop(AF_INET, &v4.sin_addr, text, INET6_ADDRSTRLEN);
        return ntohs(v4.sin_port);
    }
    if (addr->ss_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, addr, sizeof v6);
        (void)inet_ntop(AF_INET6, &v6.sin6_addr, text, INET6_ADDRSTRLEN);
        return ntohs(v6.sin6_port);
    }
    return 0;
}

static void addr_parse(const char *text, uint16_t port, struct sockaddr_storage *out)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
        memcpy(out, &v4, sizeof v4);
    else if (inet_pton(AF_INET6, text, &v6.sin6_addr) == 1)
        memcpy(out, &v6, sizeof v6);
}

enum err node_record_write(const struct node *n, char **text)
{
    char addr[INET6_ADDRSTRLEN];
    const int port = addr_write(&n->addr, addr);
    json_t *o = json_pack(
        "{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:b, s:s, s:i}", "id", n->conf.id,
        "rtmp", n->conf.rtmp, "stat", n->conf.stat, "weight", (json_int_t)n->conf.weight,
        "max_streams", (json_int_t)n->conf.max_streams, "max_sessions",
        (json_int_t)n->conf.max_sessions, "max_bandwidth", (json_int_t)n->conf.max_bandwidth,
        "send_proxy", proxy_names[n->conf.send_proxy], "state", node_admin_name(n->admin), "source",
        source_names[n->source], "leaving", (int)n->leaving, "address", addr, "port", port);
    if (!o)
        return ERR_INVALID; /* a text that is not UTF-8 */
    char *made = json_text(o);
    json_decref(o);
    if (!made)
        return ERR_NO_MEMORY;
    *text = made;
    return ERR_OK;
}

static bool text_get(const json_t *o, const char *key, char *out, size_t cap)
{
    const char *s = json_string_value(json_object_get(o, key));
    if (!s || strlen(s) >= cap)
        return false;
    memcpy(out, s, strlen(s) + 1);
    return true;
}

static bool number_get(const json_t *o, const char *key, uint64_t max, uint64_t *out)
{
    const json_t *v = json_object_get(o, key);
    const json_int_t i = json_integer_value(v);
    if (!json_is_integer(v) || i < 0 || (uint64_t)i > max)
        return false;
    *out = (uint64_t)i;
    return true;
}

static bool u32_get(const json_t *o, const char *key, uint32_t *out)
{
    uint64_t v;
    if (!number_get(o, key, UINT32_MAX, &v))
        return false;
    *out = (uint32_t)v;
    return true;
}

static bool name_get(const json_t *o, const char *key, const char *const *names, size_t count,
                     unsigned *out)
{
    const char *s = json_string_value(json_object_get(o, key));
    for (size_t i = 0; s && i < count; i++) {
        if (strcmp(s, names[i]) == 0) {
            *out = (unsigned)i;
            return true;
        }
    }
    return false;
}

static bool node_from_json(const json_t *o, struct node *n)
{
    char state[16], addr[INET6_ADDRSTRLEN];
    uint64_t port;
    unsigned source, proxy;
    const json_t *leaving = json_object_get(o, "leaving");
    const bool whole =
        text_get(o, "id", n->conf.id, sizeof n->conf.id) &&
        text_get(o, "rtmp", n->conf.rtmp, sizeof n->conf.rtmp) &&
        text_get(o, "stat", n->conf.stat, sizeof n->conf.stat) &&
        u32_get(o, "weight", &n->conf.weight) && u32_get(o, "max_streams", &n->conf.max_streams) &&
        u32_get(o, "max_sessions", &n->conf.max_sessions) &&
        number_get(o, "max_bandwidth", INT64_MAX, &n->conf.max_bandwidth) &&
        name_get(o, "send_proxy", proxy_names, sizeof proxy_names / sizeof proxy_names[0],
                 &proxy) &&
        text_get(o, "state", state, sizeof state) && node_admin_parse(state, &n->admin) == ERR_OK &&
        name_get(o, "source", source_names, sizeof source_names / sizeof source_names[0],
                 &source) &&
        json_is_boolean(leaving) && text_get(o, "address", addr, sizeof addr) &&
        number_get(o, "port", UINT16_MAX, &port);
    if (!whole)
        return false;
    n->conf.send_proxy = (enum send_proxy)proxy;
    n->source = (enum node_source)source;
    n->leaving = json_is_true(leaving);
    addr_parse(addr, (uint16_t)port, &n->addr);
    return true;
}

enum err node_record_parse(const void *buf, size_t len, struct node *out)
{
    json_t *o = json_text_parse(buf, len, 0, NULL);
    struct node n = {.health = NODE_UNKNOWN};
    const bool good = o && node_from_json(o, &n);
    json_decref(o);
    if (!good)
        return ERR_CORRUPT;
    *out = n;
    return ERR_OK;
}
