/* healthd/rtmp_conn_io.h - an RTMP client (healthd/rtmp_client.h) on a TCP connection, for the rtmp
 * and loop checks. Owner:  a probe; rtmp_conn_close() once for each rtmp_conn_open(). Thread: the
 * process's only thread.   Tests: tests/system/test_healthd.py */
#ifndef WEIR_HEALTHD_RTMP_CONN_IO_H
#define WEIR_HEALTHD_RTMP_CONN_IO_H

#include "healthd/conn_io.h"
#include "healthd/probe_io.h"
#include "healthd/rtmp_client.h"

struct rtmp_conn;
/* False: the probe has ended, and the connection with it. A refusal ends the probe before. */
typedef bool rtmp_conn_handler(struct rtmp_conn *c, enum rtmp_client_event event);

struct rtmp_conn {
    struct conn conn;
    struct rtmp_client client;
    bool ready; /* client is initialised: the TCP connection stands */
    struct probe *probe;
    const char *what; /* "publisher", "player", for the transcript; "" if there is only one */
    const char *app, *name;
    enum rtmp_client_goal goal;
    rtmp_conn_handler *handler;
};

/* app and name outlive the connection. What goes wrong ends the probe. */
void rtmp_conn_open(struct rtmp_conn *c, struct probe *p, enum rtmp_client_goal goal,
                    const char *what, const char *app, const char *name,
                    rtmp_conn_handler *handler);
void rtmp_conn_close(struct rtmp_conn *c); /* also if it was never opened (all zero) */
/* What it waits for, as an operator reads it. */
const char *rtmp_conn_waits_for(const struct rtmp_conn *c);

#endif
