/* base/net_io.h - what this machine's network is like.   Tests: tests/system/test_process.py */
#ifndef WEIR_BASE_NET_IO_H
#define WEIR_BASE_NET_IO_H

/* The host that stands for every address: IPv6's, whose socket takes IPv4 as well (without IPV6_V6ONLY), where the kernel
 * has IPv6. */
const char *net_every_host(void);
struct addrinfo;
/* Of the addresses of a name, the one to listen on: localhost is mostly both, and who is told 127.0.0.1 must find it. */
const struct addrinfo *net_listen_address(const struct addrinfo *found);
/* To be called at the beginning: name servers that do not answer cost a process that looks names up some seconds for each
 * name then, not half a minute. RES_OPTIONS in the environment goes before it. */
void net_resolve_briefly(void);

#endif
