/* admin/routes.h - the table of routes: dispatch, 404 and 405 with Allow, the query parameters a route knows, and the comparison with
 * admin/openapi.json all come from it.   Tests: tests/unit/admin/test_routes.c */
#ifndef WEIR_ADMIN_ROUTES_H
#define WEIR_ADMIN_ROUTES_H

#include "admin/api.h"

enum route_body { BODY_NONE = 0, BODY_JSON, BODY_MERGE_PATCH };

struct route {
    enum http_method method;
    const char *pattern; /* "/api/v1/nodes/{id}": a {part} stands for any one segment that is not empty */
    enum token_scope scope;
    api_handler *handler;
    const char *params; /* names of query parameters, separated by spaces */
    enum route_body body;
    const char *help;
};

extern const struct route routes[];
extern const size_t route_count;

/* NULL: there is no such path, or it knows other methods, listed in allow ("GET, HEAD, PUT"; HTTP_HEADER_MAX), which is
 * "" otherwise. *param: the path's {part}, or "". */
const struct route *routes_find(enum http_method method, const struct http_target *target, const char **param, char *allow);
bool route_knows_param(const struct route *r, const char *name);

#endif
