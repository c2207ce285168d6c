/* admin/facts.h - all nodes with what is known of them, read from the store for one request.
 * Owner: the handler of a request.   Tests: tests/unit/admin/test_api.c */
#ifndef WEIR_ADMIN_FACTS_H
#define WEIR_ADMIN_FACTS_H

#include "admin/views.h"
#include "cluster/store.h"

struct facts {
    struct node_table *nodes;
    struct node_status *status;   /* by the node's index; id "" where healthd knows nothing */
    struct dial_failures *failed; /* by the node's index; node "" where there are none */
};

MUST_CHECK enum err facts_read(struct store *s, const char *cluster_name, uint64_t now_ms, struct facts *out);
void facts_clear(struct facts *f);
struct view_node facts_view(const struct facts *f, uint32_t i);

#endif
