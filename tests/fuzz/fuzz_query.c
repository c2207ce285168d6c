/* Arguments of a name: what is found in it lies in it; what is left without some has none of them,
 * is no longer, and stays as it is a second time. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/query.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"token", "expires", NULL};
    const struct view text = {.p = data, .len = size};
    const struct view value = query_get(text, "token");
    require(value.len == 0 || (value.p >= data && value.p + value.len <= data + size));
    require(query_path(text).len + query_args(text).len == size);

    uint8_t *once = malloc(size + 1), *twice = malloc(size + 1);
    require(once && twice);
    struct wr w1 = wr_over(once, size);
    query_write_without(&w1, text, names);
    require(!w1.full);
    const struct view rest = {.p = once, .len = w1.len};
    require(query_get(rest, "token").len == 0 && query_get(rest, "expires").len == 0);
    struct wr w2 = wr_over(twice, size);
    query_write_without(&w2, rest, names);
    require(w2.len == w1.len && (w1.len == 0 || memcmp(once, twice, w1.len) == 0));
    free(once);
    free(twice);
    return 0;
}
