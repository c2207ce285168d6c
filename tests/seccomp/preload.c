/* tests/seccomp/preload.c - the system call filter of conf/systemd without systemd: preloaded
 * (LD_PRELOAD) into a daemon by tests/system/test_systemd.py, which writes allowed.h. Any other
 * call kills the process. */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static const unsigned allowed[] = {
#include "allowed.h" /* a number and a comma a line */
};
enum { ALLOWED = sizeof allowed / sizeof allowed[0] };

__attribute__((constructor)) static void confine(void)
{
    static struct sock_filter code[2 * ALLOWED + 2];
    struct sock_filter *p = code;
    *p++ =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < ALLOWED; i++) {
        *p++ = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed[i], 0, 1);
        *p++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    *p++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    const struct sock_fprog program = {.len = (unsigned short)(p - code), .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        abort();
}
