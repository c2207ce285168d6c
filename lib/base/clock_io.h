/* base/clock_io.h - the clocks. Only *_io.c and main read them; pure code is handed now_ms. */
#ifndef WEIR_BASE_CLOCK_IO_H
#define WEIR_BASE_CLOCK_IO_H

#include <stdint.h>

uint64_t clock_mono_ms(void); /* CLOCK_MONOTONIC: deadlines and durations; the same in all processes of a machine */
uint64_t clock_mono_us(void);
uint64_t clock_thread_us(void); /* CPU time of the calling thread: a system call, which the others are not */
/* How often the calling thread has gone to sleep, since it began: a system call, too. */
uint64_t clock_thread_sleeps(void);
uint64_t clock_wall_ms(void); /* Unix time in milliseconds: log lines and records that people read */

#endif
