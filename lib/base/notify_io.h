/* base/notify_io.h - tells systemd how the process is doing (sd_notify): READY=1, RELOADING=1,
 * STOPPING=1, STATUS=... Errors: none; without $NOTIFY_SOCKET, or when nobody listens there,
 * nothing happens. Source: sd_notify(3).   Tests: tests/unit/base/test_notify.c */
#ifndef WEIR_BASE_NOTIFY_IO_H
#define WEIR_BASE_NOTIFY_IO_H

/* state: one or more NAME=value, separated by newlines. */
void notify_send(const char *state);

#endif
