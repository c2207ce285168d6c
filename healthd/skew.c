#include "healthd/skew.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

static const char *const names[] = {
    [SKEW_NONE] = "none",
    [SKEW_VERSION] = "version",
    [SKEW_APPLICATIONS] = "applications",
};

const char *skew_name(enum skew s)
{
    assert((unsigned)s <= SKEW_APPLICATIONS);
    return names[s];
}

static bool same_version(const struct skew_node *a, const struct skew_node *b)
{
    return strcmp(a->version, b->version) == 0;
}

static bool same_apps(const struct skew_node *a, const struct skew_node *b)
{
    return a->apps_hash == b->apps_hash;
}

/* The node that most of the others of `among` are like; NULL: there is none. A million comparisons
 * at 1,024 nodes, and only when something changed. */
static const struct skew_node *
most(const struct skew_node *nodes, uint32_t count,
     bool (*among)(const struct skew_node *n, const struct skew_node *model),
     const struct skew_node *model,
     bool (*same)(const struct skew_node *a, const struct skew_node *b))
{
    const struct skew_node *best = NULL;
    uint32_t best_like = 0;
    for (uint32_t i = 0; i < count && best_like <= count / 2; i++) {
        uint32_t like = 0;
        if (!among(&nodes[i], model))
            continue;
        for (uint32_t k = 0; k < count; k++)
            like += among(&nodes[k], model) && same(&nodes[i], &nodes[k]);
        if (like > best_like) {
            best = &nodes[i];
            best_like = like;
        }
    }
    return best;
}

static bool version_known(const struct skew_node *n, const struct skew_node *model)
{
    (void)model;
    return n->version[0] != '\0';
}

static bool apps_known(const struct skew_node *n, const struct skew_node *model)
{
    return n->apps_hash != 0 && same_version(n, model);
}

const char *skew_find(struct skew_node *nodes, uint32_t count)
{
    const struct skew_node *right = most(nodes, count, version_known, NULL, same_version);
    for (uint32_t i = 0; i < count; i++)
        nodes[i].skew = SKEW_NONE;
    if (!right)
        return "";
    const struct skew_node *apps = most(nodes, count, apps_known, right, same_apps);
    for (uint32_t i = 0; i < count; i++) {
        if (!version_known(&nodes[i], NULL))
            continue;
        if (!same_version(&nodes[i], right))
            nodes[i].skew = SKEW_VERSION;
        else if (apps && apps_known(&nodes[i], right) && !same_apps(&nodes[i], apps))
            nodes[i].skew = SKEW_APPLICATIONS;
    }
    return right->version;
}
