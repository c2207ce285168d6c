/* tests/alloc/preload.c - allocations of a running daemon that fail on demand: preloaded
 * (LD_PRELOAD) into it by tests/system/test_memory.py, which shares a page with it (the file
 * $ALLOC_FAIL). What libc and libev allocate for themselves never fails: libev ends the process
 * then, by design. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t size);

struct control {
    atomic_uint_fast64_t left; /* the allocation that fails is the left-th from now; 0: none */
    atomic_uint_fast64_t failed;
};

static struct control *control; /* malloc() has no argument to carry it */

__attribute__((constructor)) static void attach(void)
{
    const char *path = getenv("ALLOC_FAIL");
    const int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *p = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (p != MAP_FAILED)
        control = p;
}

static bool spared(const void *caller)
{
    Dl_info info;
    if (!dladdr(caller, &info) || !info.dli_fname)
        return true;
    return strstr(info.dli_fname, "libc.so") || strstr(info.dli_fname, "libev.so") ||
           strstr(info.dli_fname, "ld-linux");
}

static bool fails(const void *caller)
{
    if (!control || atomic_load(&control->left) == 0 || spared(caller))
        return false;
    if (atomic_fetch_sub(&control->left, 1) != 1)
        return false;
    atomic_fetch_add(&control->failed, 1);
    return true;
}

void *malloc(size_t size)
{
    return fails(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return fails(__builtin_return_address(0)) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *p, size_t size)
{
    return fails(__builtin_return_address(0)) ? NULL : __libc_realloc(p, size);
}
