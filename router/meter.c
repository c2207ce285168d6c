#include "router/meter.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CAP = 256, ENTRIES_MAX = 1 << 17, NS_PER_MS = 1000000 };

struct meter_entry {
    uint8_t name[METER_NAME_BYTES];
    bool used;
    uint32_t count;
    uint64_t credit_ns; /* token bucket as time: the moment from which it has its full burst again
                         */
};

void meter_init(struct meter *m)
{
    *m = (struct meter){0};
}

void meter_deinit(struct meter *m)
{
    free(m->entries);
    *m = (struct meter){0};
}

static uint32_t slot_of(const uint8_t *name, uint32_t cap)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (int i = 0; i < METER_NAME_BYTES; i++)
        h = (h ^ name[i]) * 0x100000001b3u;
    return (uint32_t)(h ^ h >> 32) & (cap - 1);
}

/* The entry of that name, or the free one where it would go. */
static struct meter_entry *find(struct meter_entry *entries, uint32_t cap, const uint8_t *name)
{
    uint32_t i = slot_of(name, cap);
    while (entries[i].used && memcmp(entries[i].name, name, METER_NAME_BYTES) != 0)
        i = (i + 1) & (cap - 1);
    return &entries[i];
}

static bool idle(const struct meter_entry *e, uint64_t now_ms)
{
    return e->count == 0 && e->credit_ns <= now_ms * NS_PER_MS;
}

/* Moves what still matters into a table that fits it. */
static enum err rehash(struct meter *m, uint64_t now_ms)
{
    uint32_t live = 0;
    for (uint32_t i = 0; i < m->cap; i++)
        live += m->entries[i].used && !idle(&m->entries[i], now_ms);
    uint32_t cap = FIRST_CAP;
    while (cap < live * 4 && cap < ENTRIES_MAX)
        cap *= 2;
    if (live > ENTRIES_MAX / 4 * 3)
        return ERR_LIMIT;
    struct meter_entry *entries = calloc(cap, sizeof *entries);
    if (!entries)
        return ERR_NO_MEMORY;
    for (uint32_t i = 0; i < m->cap; i++)
        if (m->entries[i].used && !idle(&m->entries[i], now_ms))
            *find(entries, cap, m->entries[i].name) = m->entries[i];
    free(m->entries);
    m->entries = entries;
    m->cap = cap;
    m->count = live;
    return ERR_OK;
}

/* The largest table is filled further: what it can be emptied of is looked for seldom. */
static bool is_crowded(const struct meter *m)
{
    return m->cap < ENTRIES_MAX ? m->count * 2 >= m->cap : m->count >= m->cap / 8 * 7;
}

/* Spends one of the rate. */
static bool spend(struct meter_entry *e, uint32_t rate, uint64_t now_ms)
{
    const uint64_t now_ns = now_ms * NS_PER_MS, second_ns = UINT64_C(1000) * NS_PER_MS;
    const uint64_t cost_ns = second_ns / rate;
    const uint64_t from_ns = e->credit_ns > now_ns ? e->credit_ns : now_ns;
    if (from_ns + cost_ns > now_ns + second_ns)
        return false;
    e->credit_ns = from_ns + cost_ns;
    return true;
}

enum meter_result meter_enter(struct meter *m, const uint8_t name[METER_NAME_BYTES], uint32_t most,
                              uint32_t rate, uint64_t now_ms)
{
    struct meter_entry *e = m->cap ? find(m->entries, m->cap, name) : NULL;
    if (!e || (!e->used && is_crowded(m))) {
        if (rehash(m, now_ms) != ERR_OK)
            return METER_MANY;
        e = find(m->entries, m->cap, name);
    }
    if (!e->used) {
        memcpy(e->name, name, METER_NAME_BYTES);
        e->used = true;
        m->count++;
    }
    if (most && e->count >= most)
        return METER_MANY;
    if (rate && !spend(e, rate, now_ms))
        return METER_TOO_FAST;
    e->count++;
    return METER_COUNTED;
}

void meter_leave(struct meter *m, const uint8_t name[METER_NAME_BYTES])
{
    if (!m->cap)
        return;
    struct meter_entry *e = find(m->entries, m->cap, name);
    if (e->used && e->count > 0)
        e->count--;
}
