/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * IP addresses and endpoints as values: parsed from and printed as the canonical text that scripts
 * see ("10.0.0.1", "2001:db8::1", "10.0.0.1:80", "[2001:db8::1]:80").
 */
#ifndef TG_ADDR_H
#define TG_ADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define TG_ADDR_TEXT     INET6_ADDRSTRLEN
#define TG_ENDPOINT_TEXT (INET6_ADDRSTRLEN + 8)

struct tg_addr {
	uint8_t family;		/* AF_INET or AF_INET6 */
	uint8_t pad[3];		/* zero, so that addresses compare with memcmp */
	uint32_t word[4];	/* network order; IPv4 in word[0], the others zero */
};

/* Both parse functions return 0, or -EINVAL for anything that is not exactly one address. */
int tg_addr_parse(const char *text, struct tg_addr *addr);
/* Writes the canonical text; `text` has room for TG_ADDR_TEXT. Returns `text`. */
char *tg_addr_print(const struct tg_addr *addr, char *text);
/* "10.0.0.1:80" or "[2001:db8::1]:80"; `port` in host order; room for TG_ENDPOINT_TEXT. */
char *tg_endpoint_print(const struct tg_addr *addr, uint16_t port, char *text);

bool tg_addr_equal(const struct tg_addr *a, const struct tg_addr *b);
/* The length of the address in bytes: 4 or 16. */
size_t tg_addr_size(const struct tg_addr *addr);
struct tg_addr tg_addr_from_bytes(int family, const void *bytes);
/* Fills a sockaddr for connect(); returns its length. `port` in host order. */
socklen_t tg_addr_sockaddr(const struct tg_addr *addr, uint16_t port, struct sockaddr_storage *out);

#endif
