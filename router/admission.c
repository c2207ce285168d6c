#include "router/admission.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CAP = 256, ENTRIES_MAX = 1 << 17, NS_PER_MS = 1000000 };

struct admission_entry {
    uint8_t addr[16];
    bool used;
    uint32_t connections;
    uint64_t credit_ns; /* token bucket as time: the moment from which the address has its full
                           burst again */
};

void admission_init(struct admission *a)
{
    *a = (struct admission){0};
}

void admission_deinit(struct admission *a)
{
    free(a->entries);
    *a = (struct admission){0};
}

static uint32_t share(uint32_t limit, uint32_t workers)
{
    return limit / workers + (limit % workers != 0);
}

void admission_set_limits(struct admission *a, const struct admission_limits *limits,
                          uint32_t workers)
{
    a->limits = (struct admission_limits){
        .connections = share(limits->connections, workers),
        .per_address = share(limits->per_address, workers),
        .rate_per_address = share(limits->rate_per_address, workers),
    };
}

enum close_why admission_connect(struct admission *a)
{
    if (a->limits.connections && a->connections >= a->limits.connections)
        return WHY_LIMIT_CONNECTIONS;
    a->connections++;
    return WHY_NONE;
}

/* One IPv6 customer has a /64 of addresses. */
static void group_of(const uint8_t addr[16], uint8_t out[16])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    memcpy(out, addr, 16);
    if (memcmp(addr, mapped, sizeof mapped) != 0)
        memset(out + 8, 0, 8);
}

static uint32_t slot_of(const uint8_t addr[16], uint32_t cap)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (int i = 0; i < 16; i++)
        h = (h ^ addr[i]) * 0x100000001b3u;
    return (uint32_t)(h ^ h >> 32) & (cap - 1);
}

/* The entry of addr, or the free one where it would go. */
static struct admission_entry *find(struct admission_entry *entries, uint32_t cap,
                                    const uint8_t addr[16])
{
    uint32_t i = slot_of(addr, cap);
    while (entries[i].used && memcmp(entries[i].addr, addr, 16) != 0)
        i = (i + 1) & (cap - 1);
    return &entries[i];
}

static bool idle(const struct admission_entry *e, uint64_t now_ms)
{
    return e->connections == 0 && e->credit_ns <= now_ms * NS_PER_MS;
}

/* Moves what still matters into a table that fits it. */
static enum err rehash(struct admission *a, uint64_t now_ms)
{
    uint32_t live = 0;
    for (uint32_t i = 0; i < a->entry_cap; i++)
        live += a->entries[i].used && !idle(&a->entries[i], now_ms);
    uint32_t cap = FIRST_CAP;
    while (cap < live * 4)
        cap *= 2;
    if (cap > ENTRIES_MAX)
        return ERR_LIMIT;
    struct admission_entry *entries = calloc(cap, sizeof *entries);
    if (!entries)
        return ERR_NO_MEMORY;
    for (uint32_t i = 0; i < a->entry_cap; i++)
        if (a->entries[i].used && !idle(&a->entries[i], now_ms))
            *find(entries, cap, a->entries[i].addr) = a->entries[i];
    free(a->entries);
    a->entries = entries;
    a->entry_cap = cap;
    a->entry_count = live;
    return ERR_OK;
}

/* Spends one connection of the address's rate; the burst is one second's worth. */
static bool spend(struct admission_entry *e, uint32_t rate, uint64_t now_ms)
{
    const uint64_t now_ns = now_ms * NS_PER_MS, second_ns = UINT64_C(1000) * NS_PER_MS;
    const uint64_t cost_ns = second_ns / rate;
    const uint64_t from_ns = e->credit_ns > now_ns ? e->credit_ns : now_ns;
    if (from_ns + cost_ns > now_ns + second_ns)
        return false;
    e->credit_ns = from_ns + cost_ns;
    return true;
}

enum close_why admission_identify(struct admission *a, const uint8_t addr[16], uint64_t now_ms)
{
    if (!a->limits.per_address && !a->limits.rate_per_address)
        return WHY_NONE;
    if (a->entry_count * 2 >= a->entry_cap && rehash(a, now_ms) != ERR_OK)
        return WHY_LIMIT_ADDRESS;
    uint8_t group[16];
    group_of(addr, group);
    struct admission_entry *e = find(a->entries, a->entry_cap, group);
    if (!e->used) {
        memcpy(e->addr, group, sizeof group);
        e->used = true;
        a->entry_count++;
    }
    if (a->limits.per_address && e->connections >= a->limits.per_address)
        return WHY_LIMIT_ADDRESS;
    if (a->limits.rate_per_address && !spend(e, a->limits.rate_per_address, now_ms))
        return WHY_LIMIT_RATE;
    e->connections++;
    return WHY_NONE;
}

void admission_leave(struct admission *a, const uint8_t addr[16])
{
    a->connections--;
    if (!addr || !a->entry_cap)
        return;
    uint8_t group[16];
    group_of(addr, group);
    struct admission_entry *e = find(a->entries, a->entry_cap, group);
    if (e->used && e->connections > 0) /* limits may have been switched on since it came */
        e->connections--;
}
