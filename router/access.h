/* router/access.h - who may publish and play what: the rules of access.rules, and the tokens that
 * some of them ask for. Asked once per publish or play, before a node is looked for; what is live
 * is not asked again, whatever moves it and whatever a reload changes. Pure.
 * Tests: tests/unit/router/test_access.c */
#ifndef WEIR_ROUTER_ACCESS_H
#define WEIR_ROUTER_ACCESS_H

#include "cluster/close_why.h"
#include "cluster/store.h"
#include "config/config.h"
#include "rtmp/stream_token.h"

struct access {
    const struct config_access *config;
    struct signing_keys keys;
};

struct access_request {
    enum session_kind kind;
    const struct stream_key *key;  /* of the stream; what a token is for */
    struct view vhost;             /* that the key was made with; empty: none */
    struct view app, tc_url, name; /* as the client gave them */
    const uint8_t *addr;           /* 16 bytes, v4 mapped */
    uint64_t now_s;                /* Unix time */
};

/* The arguments that tokens travel in, with NULL at the end. */
extern const char *const access_args[];

/* "publish", "play": in the text that is signed. */
const char *access_kind_name(enum session_kind kind);
/* WHY_NONE, WHY_ACCESS_DENIED, WHY_TOKEN_MISSING, WHY_TOKEN_BAD or WHY_TOKEN_EXPIRED.
 * *token: a rule asked for one. */
MUST_CHECK enum close_why access_check(const struct access *a, const struct access_request *r,
                                       bool *token);

#endif
