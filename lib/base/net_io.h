/* base/net_io.h - what this machine's network is like.   Tests: tests/system/test_process.py */
#ifndef WEIR_BASE_NET_IO_H
#define WEIR_BASE_NET_IO_H

/* The host that stands for every address: IPv6's, whose socket takes IPv4 as well (without IPV6_V6ONLY), where the kernel
 * has IPv6. */
const char *net_every_host(void);

#endif
