#include "tests/alloc/alloc_fail.h"

#include <stddef.h>

#include "base/block.h"
#include "rtmp/message.h"

/* The linker's names: -Wl,--wrap=malloc */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *p, size_t size);
char *__real_strdup(const char *s);
struct block *__real_block_create(struct block_pool *pool, uint32_t cap);
struct rtmp_msg *__real_rtmp_msg_create(struct rtmp_pool *pool, uint8_t type, uint32_t msid,
                                        uint32_t timestamp);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *p, size_t size);
char *__wrap_strdup(const char *s);
struct block *__wrap_block_create(struct block_pool *pool, uint32_t cap);
struct rtmp_msg *__wrap_rtmp_msg_create(struct rtmp_pool *pool, uint8_t type, uint32_t msid,
                                        uint32_t timestamp);

static struct { /* malloc() has no argument to carry it */
    uint64_t left;
    bool inside, happened;
} state;

void alloc_fail_set(uint64_t n)
{
    state.left = n;
    state.happened = false;
}

bool alloc_fail_happened(void)
{
    return state.happened;
}

void alloc_fail_enter(void)
{
    state.inside = true;
}

void alloc_fail_leave(void)
{
    state.inside = false;
}

bool alloc_fail_now(void)
{
    if (!state.inside || state.left == 0 || --state.left > 0)
        return false;
    state.happened = true;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return alloc_fail_now() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return alloc_fail_now() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return alloc_fail_now() ? NULL : __real_realloc(p, size);
}

char *__wrap_strdup(const char *s)
{
    return alloc_fail_now() ? NULL : __real_strdup(s);
}

struct block *__wrap_block_create(struct block_pool *pool, uint32_t cap)
{
    return alloc_fail_now() ? NULL : __real_block_create(pool, cap);
}

struct rtmp_msg *__wrap_rtmp_msg_create(struct rtmp_pool *pool, uint8_t type, uint32_t msid,
                                        uint32_t timestamp)
{
    return alloc_fail_now() ? NULL : __real_rtmp_msg_create(pool, type, msid, timestamp);
}
