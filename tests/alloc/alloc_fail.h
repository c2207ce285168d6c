/* tests/alloc/alloc_fail.h - allocations that fail on demand: the n-th of those made while the code
 * under test runs. What links the alloc_fail library has its malloc, calloc, realloc and strdup go
 * through here, and block_create() and rtmp_msg_create() too: blocks and messages mostly come from
 * free lists, and must be able to fail there.
 * Thread: the process's only thread. */
#ifndef WEIR_TESTS_ALLOC_FAIL_H
#define WEIR_TESTS_ALLOC_FAIL_H

#include <stdbool.h>
#include <stdint.h>

/* From now on the n-th allocation fails, once; 0: none does. */
void alloc_fail_set(uint64_t n);
/* It has failed since. */
bool alloc_fail_happened(void);
/* Only between enter and leave are allocations counted: the test's own never fail. */
void alloc_fail_enter(void);
void alloc_fail_leave(void);
/* One allocation more, by a library that is wrapped elsewhere: true: it is the one that fails. */
bool alloc_fail_now(void);

#endif
