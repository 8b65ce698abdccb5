/* SPDX-License-Identifier: GPL-2.0-only */
#include "addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

int tg_addr_parse(const char *text, struct tg_addr *addr)
{
	memset(addr, 0, sizeof(*addr));
	addr->family = strchr(text, ':') ? AF_INET6 : AF_INET;
	return inet_pton(addr->family, text, addr->word) == 1 ? 0 : -EINVAL;
}

char *tg_addr_print(const struct tg_addr *addr, char *text)
{
	if (!inet_ntop(addr->family, addr->word, text, TG_ADDR_TEXT))
		strcpy(text, "?");
	return text;
}

char *tg_endpoint_print(const struct tg_addr *addr, uint16_t port, char *text)
{
	char host[TG_ADDR_TEXT];
	const char *format = addr->family == AF_INET6 ? "[%s]:%u" : "%s:%u";

	snprintf(text, TG_ENDPOINT_TEXT, format, tg_addr_print(addr, host), port);
	return text;
}

bool tg_addr_equal(const struct tg_addr *a, const struct tg_addr *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

size_t tg_addr_size(const struct tg_addr *addr)
{
	return addr->family == AF_INET6 ? 16 : 4;
}

struct tg_addr tg_addr_from_bytes(int family, const void *bytes)
{
	struct tg_addr addr = { .family = family };

	memcpy(addr.word, bytes, tg_addr_size(&addr));
	return addr;
}

socklen_t tg_addr_sockaddr(const struct tg_addr *addr, uint16_t port, struct sockaddr_storage *out)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
	struct sockaddr_in *in4 = (struct sockaddr_in *)out;

	memset(out, 0, sizeof(*out));
	out->ss_family = addr->family;
	if (addr->family == AF_INET6) {
		in6->sin6_port = htons(port);
		memcpy(&in6->sin6_addr, addr->word, 16);
		return sizeof(*in6);
	}
	in4->sin_port = htons(port);
	memcpy(&in4->sin_addr, addr->word, 4);
	return sizeof(*in4);
}
