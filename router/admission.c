#include "router/admission.h"

#include <string.h>

void admission_init(struct admission *a)
{
    *a = (struct admission){0};
}

void admission_deinit(struct admission *a)
{
    meter_deinit(&a->addresses);
    meter_deinit(&a->apps);
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
        .sessions_per_app = share(limits->sessions_per_app, workers),
        .session_rate_per_app = share(limits->session_rate_per_app, workers),
        .unrouted = share(limits->unrouted, workers),
    };
}

bool admission_is_crowded(const struct admission *a)
{
    const struct admission_limits *l = &a->limits;
    const bool full = l->connections && a->connections >= l->connections;
    return a->unrouted > 0 && (full || (l->unrouted && a->unrouted >= l->unrouted));
}

enum close_why admission_connect(struct admission *a)
{
    if (a->limits.connections && a->connections >= a->limits.connections)
        return WHY_LIMIT_CONNECTIONS;
    a->connections++;
    return WHY_NONE;
}

/* One IPv6 customer has a /64 of addresses. */
static void group_of(const uint8_t addr[16], uint8_t out[METER_NAME_BYTES])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    memcpy(out, addr, 16);
    if (memcmp(addr, mapped, sizeof mapped) != 0)
        memset(out + 8, 0, 8);
}

enum close_why admission_identify(struct admission *a, const uint8_t addr[16], uint64_t now_ms,
                                  bool *counted)
{
    const struct admission_limits *l = &a->limits;
    uint8_t group[METER_NAME_BYTES];
    *counted = false;
    if (!l->per_address && !l->rate_per_address)
        return WHY_NONE;
    group_of(addr, group);
    switch (meter_enter(&a->addresses, group, l->per_address, l->rate_per_address, now_ms)) {
    case METER_COUNTED:
        *counted = true;
        break;
    case METER_MANY:
        return WHY_LIMIT_ADDRESS;
    case METER_TOO_FAST:
        return WHY_LIMIT_RATE;
    }
    return WHY_NONE;
}

void admission_leave(struct admission *a, const uint8_t addr[16])
{
    uint8_t group[METER_NAME_BYTES];
    a->connections--;
    if (!addr)
        return;
    group_of(addr, group);
    meter_leave(&a->addresses, group);
}

enum close_why admission_enter_app(struct admission *a, const struct stream_key *stream,
                                   uint64_t now_ms, struct admission_app *app)
{
    const struct admission_limits *l = &a->limits;
    *app = (struct admission_app){0};
    if (!l->sessions_per_app && !l->session_rate_per_app)
        return WHY_NONE;
    struct stream_key first = {.len = (uint16_t)strcspn(stream->text, "/")};
    memcpy(first.text, stream->text, first.len);
    const uint64_t hash = stream_key_hash(&first);
    memcpy(app->name, &hash, sizeof hash);
    switch (
        meter_enter(&a->apps, app->name, l->sessions_per_app, l->session_rate_per_app, now_ms)) {
    case METER_COUNTED:
        app->counted = true;
        break;
    case METER_MANY:
        return WHY_LIMIT_APP;
    case METER_TOO_FAST:
        return WHY_LIMIT_APP_RATE;
    }
    return WHY_NONE;
}

void admission_leave_app(struct admission *a, struct admission_app *app)
{
    if (app->counted)
        meter_leave(&a->apps, app->name);
    app->counted = false;
}
