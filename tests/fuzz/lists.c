// SPDX-License-Identifier: GPL-2.0-only
/* Deny and allow lists as they were declared, searched one prefix after the other (see fuzz.h). */
#include "fuzz.h"

#include "deny.h"
#include "tidegate_abi.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_PREFIXES 128
#define ICMPV6	      58
#define ND_FIRST      133
#define ND_LAST	      137

struct prefix {
	uint8_t addr[16]; /* IPv4 in the first four */
	int length, class;
	bool v6;
	uint64_t expected, before; /* packets, of an address with counters of its own */
};

static struct {
	struct prefix prefix[MOST_PREFIXES];
	size_t count;
	struct tg_deny_class class[TG_DENY_CLASSES + 1];
	int counters, hosts;
	uint64_t expected[TG_DENY_CLASSES + 1], before[TG_DENY_CLASSES + 1];
} here = { .counters = -1, .hosts = -1 };

static int open_map(const char *maps_dir, const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", maps_dir, name);
	return bpf_obj_get(path);
}

/* What all CPUs have counted in a map; 0 if there is no such entry. */
static uint64_t counted(int map, const void *key)
{
	struct tg_counter values[256];
	uint64_t sum = 0;

	if (map < 0 || bpf_map_lookup_elem(map, key, values))
		return 0;
	for (int cpu = 0; cpu < libbpf_num_possible_cpus(); cpu++)
		sum += values[cpu].packets;
	return sum;
}

static uint64_t packets_of(uint32_t class)
{
	return counted(here.counters, &class);
}

/* As `deny_hosts` knows the address. */
static struct tg_host host_of(const struct prefix *prefix)
{
	struct tg_host host = { { 0, 0, htonl(0xffff), 0 } };

	if (prefix->v6)
		memcpy(&host, prefix->addr, 16);
	else
		memcpy(&host.addr[3], prefix->addr, 4);
	return host;
}

static uint64_t packets_from(const struct prefix *prefix)
{
	struct tg_host host = host_of(prefix);

	return counted(here.hosts, &host);
}

void lists_open(const char *maps_dir)
{
	int classes = open_map(maps_dir, "deny_classes");

	here.counters = open_map(maps_dir, "deny_counters");
	here.hosts = open_map(maps_dir, "deny_hosts");
	for (__u32 i = 1; classes >= 0 && i <= TG_DENY_CLASSES; i++)
		bpf_map_lookup_elem(classes, &i, &here.class[i]);
}

static int class_called(const char *name, size_t length)
{
	for (int i = 1; i <= TG_DENY_CLASSES; i++)
		if (length < TG_NAME_SIZE && !strncmp(here.class[i].name, name, length) &&
			!here.class[i].name[length])
			return i;
	return 0;
}

/* The address of the prefix, with all host bits set or none. */
static void name_end(struct dictionary *words, const struct prefix *prefix, bool last)
{
	char text[INET6_ADDRSTRLEN];
	uint8_t addr[16];

	memcpy(addr, prefix->addr, 16);
	for (int bit = prefix->length; last && bit < (prefix->v6 ? 128 : 32); bit++)
		addr[bit / 8] |= 0x80 >> bit % 8;
	dictionary_add(words, inet_ntop(prefix->v6 ? AF_INET6 : AF_INET, addr, text, sizeof(text)));
}

bool lists_add(struct dictionary *words, const char *text)
{
	const char *equals = strchr(text, '='), *slash = strchr(text, '/');
	struct prefix *prefix = &here.prefix[here.count];
	char addr[INET6_ADDRSTRLEN] = "";

	if (!equals || !slash || slash - equals > INET6_ADDRSTRLEN || here.count == MOST_PREFIXES)
		return false;
	memcpy(addr, equals + 1, slash - equals - 1);
	prefix->v6 = strchr(addr, ':') != NULL;
	prefix->length = atoi(slash + 1);
	prefix->class = class_called(text, equals - text);
	if (!prefix->class || inet_pton(prefix->v6 ? AF_INET6 : AF_INET, addr, prefix->addr) != 1)
		return false;
	here.count++;
	name_end(words, prefix, false);
	name_end(words, prefix, true);
	return true;
}

static bool covers(const struct prefix *prefix, const uint8_t *addr)
{
	int bytes = prefix->length / 8, bits = prefix->length % 8;

	return !memcmp(prefix->addr, addr, bytes) &&
	       (!bits || !((prefix->addr[bytes] ^ addr[bytes]) >> (8 - bits)));
}

static bool denies(int class)
{
	return here.class[class].verdict == TG_DENY_DENY;
}

/* The prefix that decides: the longest, of equally long ones one that allows; or NULL. */
static struct prefix *deciding(const uint8_t *addr, bool v6)
{
	struct prefix *best = NULL;

	for (size_t i = 0; i < here.count; i++) {
		struct prefix *one = &here.prefix[i];

		if (one->v6 == v6 && covers(one, addr) &&
			(!best || one->length > best->length ||
				(one->length == best->length && !denies(one->class))))
			best = one;
	}
	return best;
}

/* Has its address counters of its own, and is it the prefix that decides there? */
static bool has_counters(const struct prefix *prefix)
{
	struct tg_host host = host_of(prefix);
	struct tg_counter values[256];

	return deciding(prefix->addr, prefix->v6) == prefix && here.hosts >= 0 && prefix->length == (prefix->v6 ? 128 : 32) &&
	       !bpf_map_lookup_elem(here.hosts, &host, values);
}

static bool is_discovery(const uint8_t *ip, uint32_t room)
{
	return room > 40 && ip[6] == ICMPV6 && ip[40] >= ND_FIRST && ip[40] <= ND_LAST;
}

struct listed lists_find(const struct bytes *packet)
{
	struct listed none = { 0, false };
	struct prefix *prefix;
	uint32_t l2, header;
	bool v6;

	if (!here.count)
		return none;
	l2 = link_header(packet, &v6);
	header = v6 ? 40 : 20;
	if (!l2 || packet->length < 22 || packet->length < l2 + header)
		return none;
	prefix = deciding(packet->at + l2 + (v6 ? 8 : 12), v6);
	if (!prefix || (v6 && is_discovery(packet->at + l2, packet->length - l2)))
		return none;
	here.expected[prefix->class]++;
	prefix->expected++;
	return (struct listed){ prefix->class, denies(prefix->class) };
}

void lists_begin(void)
{
	memset(here.expected, 0, sizeof(here.expected));
	for (uint32_t i = 1; i <= TG_DENY_CLASSES && here.count; i++)
		here.before[i] = packets_of(i);
	for (size_t i = 0; i < here.count; i++) {
		here.prefix[i].expected = 0;
		here.prefix[i].before = packets_from(&here.prefix[i]);
	}
}

static const char *differ(const char *what, uint64_t counted, uint64_t expected)
{
	static char text[192];

	snprintf(text, sizeof(text), "%s counted %llu packets, and not %llu", what,
		(unsigned long long)counted, (unsigned long long)expected);
	return text;
}

const char *lists_differ(void)
{
	for (uint32_t i = 1; i <= TG_DENY_CLASSES && here.count; i++) {
		uint64_t more = packets_of(i) - here.before[i];

		if (more != here.expected[i])
			return differ(here.class[i].name, more, here.expected[i]);
	}
	for (size_t i = 0; i < here.count; i++) {
		const struct prefix *one = &here.prefix[i];
		uint64_t more = packets_from(one) - one->before;

		if (has_counters(one) && more != one->expected)
			return differ("an address", more, one->expected);
	}
	return NULL;
}

void lists_report(void)
{
	for (uint32_t i = 1; i <= TG_DENY_CLASSES && here.count; i++)
		if (here.class[i].name[0])
			printf("  # list %-22s %llu\n", here.class[i].name,
				(unsigned long long)packets_of(i));
	for (size_t i = 0; i < here.count; i++)
		if (has_counters(&here.prefix[i]))
			printf("  # an address of its own     %llu\n",
				(unsigned long long)packets_from(&here.prefix[i]));
}
