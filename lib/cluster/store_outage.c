#include "cluster/store_outage.h"

bool store_outage_failed(struct store_outage *o, uint64_t now_ms)
{
    const bool begins = !o->on;
    *o = (struct store_outage){.on = true, .failed_ms = now_ms};
    return begins;
}

bool store_outage_worked(struct store_outage *o, uint64_t now_ms)
{
    if (!o->on || now_ms - o->failed_ms < STORE_QUIET_MS)
        return false;
    o->on = false;
    return true;
}
