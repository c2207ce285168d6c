#include "router/rest.h"

enum {
    BUSY_EVENTS = 2,          /* as many within relay.coalesce, and waiting for more may pay */
    ENOUGH_EVENTS_PER_MS = 8, /* four in the default of it; more would save little each */
    TRY_EVERY = 40,           /* decisions */
    WAKE_FAR_MS = 500,
    WAKE_STEP_MS = 10,
};

/* relay.coalesce; less where so much goes on that as many events come together in less; not at all
 * where it would bring few together, so that a quiet worker adds no delay. */
static uint64_t rest_for(uint64_t took_us, uint32_t events, uint64_t coalesce_us)
{
    const uint64_t enough = took_us * ENOUGH_EVENTS_PER_MS / 1000;
    if (events == 0 || events * coalesce_us < BUSY_EVENTS * took_us)
        return 0;
    return events > enough ? coalesce_us * enough / events : coalesce_us;
}

static void count(struct rest *r, bool rested, uint64_t sleeps, uint32_t events)
{
    r->sleeps[rested] = (uint32_t)(sleeps * 1000 / events);
    r->counted[rested] = true;
}

/* A rest delays, and a sleep that a timer ends costs more than one that a packet ends: it has to
 * spare a third of them. */
static bool should_rest(struct rest *r)
{
    const bool pays = (uint64_t)r->sleeps[true] * 3 < (uint64_t)r->sleeps[false] * 2;
    if (!r->counted[true] || !r->counted[false])
        return !r->counted[true];
    if (++r->decisions < TRY_EVERY)
        return pays;
    r->decisions = 0;
    return !pays;
}

void rest_decide(struct rest *r, uint64_t now_us, uint64_t sleeps, uint32_t events,
                 uint64_t coalesce_us)
{
    const uint64_t wanted_us = rest_for(now_us - r->since_us, events, coalesce_us);
    if (wanted_us > 0)
        count(r, r->us > 0, sleeps - r->sleeps_before, events);
    r->us = wanted_us > 0 && should_rest(r) ? wanted_us : 0;
    r->since_us = now_us;
    r->sleeps_before = sleeps;
}

uint64_t rest_wake_ms(uint64_t at_ms, uint64_t now_ms)
{
    if (at_ms < now_ms + WAKE_FAR_MS)
        return at_ms;
    return (at_ms + WAKE_STEP_MS - 1) / WAKE_STEP_MS * WAKE_STEP_MS;
}
