#include "cluster/close_why.h"

#include <assert.h>

static const char *const names[WHY_COUNT] = {
    [WHY_NONE] = "none",
    [WHY_CLIENT_CLOSED] = "client_closed",
    [WHY_CLIENT_RESET] = "client_reset",
    [WHY_CLIENT_SILENT] = "client_silent",
    [WHY_RTMPE] = "rtmpe",
    [WHY_TLS] = "tls",
    [WHY_HTTP] = "http",
    [WHY_SSH] = "ssh",
    [WHY_PROXY_UNEXPECTED] = "proxy_unexpected",
    [WHY_VERSION_BAD] = "version_bad",
    [WHY_PROXY_BAD] = "proxy_bad",
    [WHY_PROXY_UNTRUSTED] = "proxy_untrusted",
    [WHY_PROXY_LOCAL] = "proxy_local",
    [WHY_HANDSHAKE_TIMEOUT] = "handshake_timeout",
    [WHY_IDLE_TIMEOUT] = "idle_timeout",
    [WHY_CHUNK_BAD] = "chunk_bad",
    [WHY_MESSAGE_LONG] = "message_long",
    [WHY_COMMAND_BAD] = "command_bad",
    [WHY_NAME_BAD] = "name_bad",
    [WHY_UNROUTED_BYTES] = "unrouted_bytes",
    [WHY_ACCESS_DENIED] = "access_denied",
    [WHY_TOKEN_MISSING] = "token_missing",
    [WHY_TOKEN_BAD] = "token_bad",
    [WHY_TOKEN_EXPIRED] = "token_expired",
    [WHY_DUPLICATE] = "duplicate",
    [WHY_NO_NODE] = "no_node",
    [WHY_NODE_REFUSED] = "node_refused",
    [WHY_NODE_LOST] = "node_lost",
    [WHY_NODE_STALLED] = "node_stalled",
    [WHY_NODE_BAD] = "node_bad",
    [WHY_MAX_MOVES] = "max_moves",
    [WHY_TAKEN_OVER] = "taken_over",
    [WHY_STALLED] = "stalled",
    [WHY_LIMIT_CONNECTIONS] = "limit_connections",
    [WHY_LIMIT_ADDRESS] = "limit_address",
    [WHY_LIMIT_RATE] = "limit_rate",
    [WHY_LIMIT_APP] = "limit_app",
    [WHY_LIMIT_APP_RATE] = "limit_app_rate",
    [WHY_LIMIT_MEMORY] = "limit_memory",
    [WHY_KICKED] = "kicked",
    [WHY_SHUTDOWN] = "shutdown",
    [WHY_LIMIT_UNROUTED] = "limit_unrouted",
};

const char *close_why_name(enum close_why why)
{
    assert((unsigned)why < WHY_COUNT);
    return names[why];
}
