#include "base/run_clock.h"

uint64_t run_clock_ms(struct run_clock *c, uint64_t mono_ms)
{
    const uint64_t step = mono_ms - c->mono_ms;
    if (c->mono_ms == 0)
        c->run_ms = mono_ms;
    else
        c->run_ms += step < c->step_ms ? step : c->step_ms;
    c->mono_ms = mono_ms;
    return c->run_ms;
}

uint64_t run_clock_lost_ms(const struct run_clock *c)
{
    return c->mono_ms - c->run_ms;
}
