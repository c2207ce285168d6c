/* admin/node_input.h - a node as a client writes it. The rules of each field are the rows "nodes[].*" of the key table, so that the API takes
 * what the file takes; only the names have units here (max_bandwidth_bps).   Tests: tests/unit/admin/test_node_input.c */
#ifndef WEIR_ADMIN_NODE_INPUT_H
#define WEIR_ADMIN_NODE_INPUT_H

#include "admin/http.h"
#include "cluster/node_table.h"

enum node_input_mode {
    NODE_INPUT_PUT = 0, /* what is not given has its default */
    NODE_INPUT_PATCH,   /* RFC 7396: what is not given stays; null: the default */
};

/* Applies body to *n, whose id is set; n is unusable when there are errors. */
void node_input_apply(const json_t *body, enum node_input_mode mode, struct node *n, struct http_field_errors *errors);
/* {"state": "drain"} */
void node_input_state(const json_t *body, enum node_admin *out, struct http_field_errors *errors);

#endif
