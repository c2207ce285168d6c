/* config/number.h - the one reader of decimal digits in the configuration.   Tests:
 * tests/unit/config/test_address.c */
#ifndef WEIR_CONFIG_NUMBER_H
#define WEIR_CONFIG_NUMBER_H

#include <stddef.h>
#include <stdint.h>

/* Digits at the start of text -> *out; returns how many there are. 0: none, a leading zero, or
 * above UINT64_MAX. */
static inline size_t number_parse(const char *text, uint64_t *out)
{
    size_t n = 0;
    uint64_t v = 0;
    for (; text[n] >= '0' && text[n] <= '9'; n++) {
        const uint64_t digit = (uint64_t)(text[n] - '0');
        if (v > (UINT64_MAX - digit) / 10 || (n == 1 && v == 0))
            return 0;
        v = v * 10 + digit;
    }
    if (n > 0)
        *out = v;
    return n;
}

#endif
