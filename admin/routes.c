#include "admin/routes.h"

#include <stdio.h>
#include <string.h>

const struct route routes[] = {
    {HTTP_GET, "/api/v1/nodes", SCOPE_READ, api_node_list, "limit cursor state health", BODY_NONE,
     "All nodes with their state, health and load."},
    {HTTP_GET, "/api/v1/nodes/{id}", SCOPE_READ, api_node_get, "", BODY_NONE, "One node."},
    {HTTP_PUT, "/api/v1/nodes/{id}", SCOPE_WRITE, api_node_put, "", BODY_JSON,
     "Creates or replaces a node."},
    {HTTP_PATCH, "/api/v1/nodes/{id}", SCOPE_WRITE, api_node_patch, "", BODY_MERGE_PATCH,
     "Changes some fields of a node (RFC 7396)."},
    {HTTP_DELETE, "/api/v1/nodes/{id}", SCOPE_WRITE, api_node_delete, "force", BODY_NONE,
     "Removes a node."},
    {HTTP_PUT, "/api/v1/nodes/{id}/state", SCOPE_WRITE, api_node_state_put, "", BODY_JSON,
     "Enables, drains or disables a node."},
    {HTTP_GET, "/api/v1/streams", SCOPE_READ, api_stream_list, "limit cursor node", BODY_NONE,
     "Live streams."},
    {HTTP_GET, "/api/v1/streams/{key}", SCOPE_READ, api_stream_get, "", BODY_NONE,
     "One stream that is live, held for its publisher, or found on a node."},
    {HTTP_DELETE, "/api/v1/streams/{key}", SCOPE_WRITE, api_stream_delete, "", BODY_NONE,
     "Ends the publisher of a live stream."},
    {HTTP_POST, "/api/v1/streams/{key}/move", SCOPE_WRITE, api_stream_move, "", BODY_JSON,
     "Moves a stream to another node."},
    {HTTP_GET, "/api/v1/sessions", SCOPE_READ, api_session_list,
     "limit cursor node stream kind client", BODY_NONE, "Publishers and players."},
    {HTTP_GET, "/api/v1/sessions/{id}", SCOPE_READ, api_session_get, "", BODY_NONE, "One session."},
    {HTTP_DELETE, "/api/v1/sessions/{id}", SCOPE_WRITE, api_session_delete, "", BODY_NONE,
     "Ends a session."},
    {HTTP_GET, "/api/v1/lookup", SCOPE_READ, api_lookup, "app name kind vhost", BODY_NONE,
     "Where a stream would go, with each node's score and why the others were skipped."},
    {HTTP_GET, "/api/v1/workers", SCOPE_READ, api_worker_list, "", BODY_NONE,
     "The processes of the cluster."},
    {HTTP_GET, "/api/v1/cluster", SCOPE_READ, api_cluster_get, "", BODY_NONE,
     "The cluster at a glance."},
    {HTTP_GET, "/api/v1/config", SCOPE_READ, api_config_get, "", BODY_NONE,
     "The configuration in force, as YAML."},
    {HTTP_GET, "/api/v1/events", SCOPE_READ, api_event_stream, "after last sessions", BODY_NONE,
     "Changes as they happen (server-sent events)."},
    {HTTP_GET, "/metrics", SCOPE_READ, api_metrics, "", BODY_NONE, "Metrics for Prometheus."},
    {HTTP_GET, "/healthz", SCOPE_NONE, api_healthz, "", BODY_NONE, "Whether this process runs."},
    {HTTP_GET, "/readyz", SCOPE_NONE, api_readyz, "", BODY_NONE,
     "Whether this process can answer: the store can be read."},
    {HTTP_GET, "/openapi.json", SCOPE_NONE, api_openapi, "", BODY_NONE, "This description."},
    {HTTP_GET, "/", SCOPE_NONE, api_dashboard, "", BODY_NONE, "The dashboard."},
};
const size_t route_count = sizeof routes / sizeof routes[0];

/* Whether the target is of the pattern. */
static bool fits(const char *pattern, const struct http_target *t, const char **param)
{
    uint32_t i = 0;
    *param = "";
    while (*pattern == '/' && pattern[1] != '\0') {
        const char *part = pattern + 1;
        const size_t len = strcspn(part, "/");
        if (i == t->segment_count || t->segments[i][0] == '\0')
            return false;
        if (*part == '{')
            *param = t->segments[i];
        else if (strlen(t->segments[i]) != len || strncmp(part, t->segments[i], len) != 0)
            return false;
        pattern = part + len;
        i++;
    }
    return i == t->segment_count;
}

static void add_allowed(char *allow, enum http_method m)
{
    const size_t n = strlen(allow);
    (void)snprintf(allow + n, HTTP_HEADER_MAX - n, "%s%s%s", n ? ", " : "", http_method_name(m),
                   m == HTTP_GET ? ", HEAD" : "");
}

const struct route *routes_find(enum http_method method, const struct http_target *target,
                                const char **param, char *allow)
{
    allow[0] = '\0';
    for (size_t i = 0; i < route_count; i++) {
        if (!fits(routes[i].pattern, target, param))
            continue;
        if (routes[i].method == method) {
            allow[0] = '\0';
            return &routes[i];
        }
        add_allowed(allow, routes[i].method);
    }
    *param = "";
    return NULL;
}

bool route_knows_param(const struct route *r, const char *name)
{
    const size_t len = strlen(name);
    for (const char *p = r->params; *p; p += strspn(p, " ")) {
        const size_t n = strcspn(p, " ");
        if (n == len && strncmp(p, name, n) == 0)
            return true;
        p += n;
    }
    return false;
}
