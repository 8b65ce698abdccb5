/* SPDX-License-Identifier: GPL-2.0-only */
/* What the live tables name, and the addresses and ports that always matter (see fuzz.h). */
#include "fuzz.h"

#include "tidegate_abi.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void add4(struct dictionary *words, __be32 addr)
{
	if (words->addr4_count < FUZZ_MAX_WORDS)
		words->addr4[words->addr4_count++] = addr;
}

static void add6(struct dictionary *words, const __be32 addr[4])
{
	if (words->addr6_count < FUZZ_MAX_WORDS)
		memcpy(words->addr6[words->addr6_count++], addr, 16);
}

static void add_port(struct dictionary *words, __be16 port)
{
	if (words->port_count < FUZZ_MAX_WORDS)
		words->port[words->port_count++] = port;
}

bool dictionary_add(struct dictionary *words, const char *text)
{
	__be32 addr[4];

	if (inet_pton(AF_INET, text, addr) == 1)
		add4(words, addr[0]);
	else if (inet_pton(AF_INET6, text, addr) == 1)
		add6(words, addr);
	else
		return false;
	return true;
}

static void add_aim(
	struct dictionary *words, bool v6, const __be32 *addr, __be16 port, uint8_t proto)
{
	struct aim *aim = &words->aims[v6][words->aim_count[v6]];

	if (words->aim_count[v6] == FUZZ_MAX_WORDS)
		return;
	words->aim_count[v6]++;
	memcpy(aim->addr, addr, v6 ? 16 : 4);
	aim->port = port;
	aim->proto = proto;
}

/* Endpoints of a hash map whose keys are VIP keys; most often of those that come first. */
static void read_endpoints(struct dictionary *words, const char *dir, const char *map, bool v6)
{
	struct tg_vip6_key key6;
	struct tg_vip4_key key4;
	void *key = v6 ? (void *)&key6 : (void *)&key4, *last = NULL;
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, map);
	fd = bpf_obj_get(path);
	while (fd >= 0 && !bpf_map_get_next_key(fd, last, key)) {
		v6 ? add6(words, key6.addr) : add4(words, key4.addr);
		add_port(words, v6 ? key6.port : key4.port);
		if (v6)
			add_aim(words, v6, key6.addr, key6.port, key6.proto);
		else
			add_aim(words, v6, &key4.addr, key4.port, key4.proto);
		last = key;
	}
	if (fd >= 0)
		close(fd);
}

static void read_backends(struct dictionary *words, const char *dir)
{
	struct tg_backend backend;
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/backends", dir);
	fd = bpf_obj_get(path);
	for (__u32 i = 1; fd >= 0 && i < 256; i++) {
		if (bpf_map_lookup_elem(fd, &i, &backend) || !backend.addr[0])
			continue;
		backend.flags &TG_BACKEND_V6 ? add6(words, backend.addr)
					     : add4(words, backend.addr[0]);
		add_port(words, backend.port);
	}
	if (fd >= 0)
		close(fd);
}

void dictionary_read(struct dictionary *words, const char *maps_dir)
{
	static const char *const always[] = { "192.0.2.7", "192.0.2.8", "2001:db8:2::7",
		"2001:db8:2::8", "127.0.0.1", "0.0.0.0", "0.0.0.1", "255.255.255.255", "224.0.0.1",
		"::", "::1", "fe80::1", "ff02::1", "::ffff:192.0.2.7", "8.8.8.8", "2600::1" };
	static const uint16_t ports[] = { 0, 1, 53, 67, 68, 80, 443, 1024, 6080, 40000, 65535 };

	memset(words, 0, sizeof(*words));
	read_endpoints(words, maps_dir, "vips4", false);
	read_endpoints(words, maps_dir, "vips6", true);
	read_endpoints(words, maps_dir, "reverse4", false);
	read_endpoints(words, maps_dir, "reverse6", true);
	read_backends(words, maps_dir);
	words->from4 = words->addr4_count;
	words->from6 = words->addr6_count;
	for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
		dictionary_add(words, always[i]);
	for (size_t i = 0; i < sizeof(ports) / sizeof(ports[0]); i++)
		add_port(words, htons(ports[i]));
}
