#include "healthd/verdict.h"

#include <string.h>

void verdict_init(struct verdict *v, enum node_health health, uint64_t since_ms)
{
    memset(v, 0, sizeof *v);
    v->health = health;
    v->since_ms = since_ms;
}

bool verdict_held(const struct verdict *v, uint64_t now_ms)
{
    return now_ms < v->held_until_ms &&
           v->held_until_ms - now_ms <= v->held_ms; /* else it was set back */
}

bool verdict_in_balance(const struct verdict *v, uint64_t now_ms)
{
    switch (v->health) {
    case NODE_UP:
        return v->bad > 0;
    case NODE_DOWN:
        return v->good > 0 && !verdict_held(v, now_ms);
    case NODE_UNKNOWN:
        break;
    }
    return true;
}

static uint32_t flaps_within(const struct verdict *v, uint64_t window_ms, uint64_t now_ms)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < VERDICT_FLAPS_MAX; i++)
        n += v->flaps[i] != 0 && now_ms - v->flaps[i] < window_ms;
    return n;
}

static void hold(struct verdict *v, uint64_t ms, uint64_t now_ms)
{
    v->held_ms = ms;
    v->held_until_ms = now_ms + ms;
}

static void enter(struct verdict *v, enum node_health next, const struct config_healthd *policy,
                  uint64_t now_ms)
{
    const bool first = v->health == NODE_UNKNOWN; /* not a change of mind */
    v->health = next;
    v->since_ms = now_ms;
    v->good = v->bad = 0;
    v->held_until_ms = 0;
    if (first)
        return;
    v->flaps[v->flap_next] = now_ms;
    v->flap_next = (v->flap_next + 1) % VERDICT_FLAPS_MAX;
    const uint32_t most =
        policy->flap_max < VERDICT_FLAPS_MAX ? policy->flap_max : VERDICT_FLAPS_MAX;
    if (next == NODE_DOWN && most > 0 && flaps_within(v, policy->flap_window_ms, now_ms) >= most)
        hold(v, policy->flap_hold_ms, now_ms);
}

bool verdict_step(struct verdict *v, bool good, const struct config_healthd *policy,
                  uint64_t now_ms)
{
    if (good) {
        v->good += v->good < UINT32_MAX;
        v->bad = 0;
    } else {
        v->bad += v->bad < UINT32_MAX;
        v->good = 0;
    }
    if (v->health != NODE_UP && v->good >= policy->rise && !verdict_held(v, now_ms))
        enter(v, NODE_UP, policy, now_ms);
    else if (v->health != NODE_DOWN && v->bad >= policy->fall)
        enter(v, NODE_DOWN, policy, now_ms);
    else
        return false;
    return true;
}
