/* router/shared.h - what the parent and its workers share besides the store: a mapping made before
 * the first fork. Writers: the parent writes the configuration part, each worker its own slot,
 * counted from 0; lines_lost the parent fills and the first worker empties. */
#ifndef WEIR_ROUTER_SHARED_H
#define WEIR_ROUTER_SHARED_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/limits.h"
#include "rtmp/stream_token.h"

enum {
    SHARED_TEXT_MAX = (1 << 20) + 1
}; /* one byte more than is allowed, so that a longer one shows */

struct shared_address { /* of a configured node, resolved by the parent: workers must not wait for a
                           name server */
    char id[NODE_ID_MAX];
    struct sockaddr_storage addr; /* ss_family 0: not resolved */
};

struct shared_slot {
    _Atomic uint64_t beat_ms; /* monotonic; when the worker's loop last turned */
    _Atomic uint32_t ready;   /* the worker serves */
};

struct shared {
    struct shared_slot slots[WORKERS_MAX];
    _Atomic uint64_t config_version; /* odd while the parent writes */
    _Atomic uint32_t stops; /* how often the parent was told to stop */
    _Atomic uint64_t lines_lost; /* of the parent's log, not yet in the first worker's counter */
    uint32_t text_len;
    uint32_t address_count;
    struct signing_keys keys; /* of access.keys, read by the parent */
    struct shared_address addresses[NODES_MAX];
    char text[SHARED_TEXT_MAX]; /* of the configuration in force, checked by the parent */
};

#endif
