/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Packets as the datapath knows them, and as it should never meet them (see fuzz.h). A packet is
 * built from its Ethernet header inwards, lengths and checksums are put right on the way out, and
 * then, in one of three, something is broken.
 */
#include "fuzz.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <string.h>

#define ICMPV6	58
#define DEEPEST 2 /* packets in packets */

struct maker {
	struct rng rng;
	const struct dictionary *words;
	struct bytes *out;
	bool v6;     /* the outermost packet is */
	bool broken; /* here and there a field lies */
	int depth;
	const struct aim
		*aim; /* where the packet goes to, or where the quoted one came from; or NULL */
};

enum side { SOURCE, DEST };

void rng_seed(struct rng *rng, uint64_t seed)
{
	rng->state = (seed + 1) * 0x9e3779b97f4a7c15ull | 1;
	for (int i = 0; i < 3; i++)
		rng_next(rng);
}

uint64_t rng_next(struct rng *rng)
{
	rng->state ^= rng->state >> 12;
	rng->state ^= rng->state << 25;
	rng->state ^= rng->state >> 27;
	return rng->state * 0x2545f4914f6cdd1dull;
}

uint32_t rng_below(struct rng *rng, uint32_t limit)
{
	return (rng_next(rng) >> 32) * limit >> 32;
}

bool rng_once_in(struct rng *rng, uint32_t times)
{
	return rng_below(rng, times) == 0;
}

/* --- pieces ------------------------------------------------------------------------------------ */

static uint32_t below(struct maker *m, uint32_t limit)
{
	return rng_below(&m->rng, limit);
}

static bool once_in(struct maker *m, uint32_t times)
{
	return rng_below(&m->rng, times) == 0;
}

/* Room at the packet's end, zero; a place to throw away where it is full. */
static void *put(struct maker *m, uint32_t size)
{
	static uint8_t nowhere[FUZZ_MAX_PACKET];
	uint8_t *at = m->out->at + m->out->length;

	if (m->out->length + size > FUZZ_MAX_PACKET)
		return memset(nowhere, 0, size);
	m->out->length += size;
	return memset(at, 0, size);
}

static void put_random(struct maker *m, uint32_t size)
{
	uint8_t *at = put(m, size);

	for (uint32_t i = 0; i < size; i += 8) {
		uint64_t random = rng_next(&m->rng);

		memcpy(at + i, &random, size - i < 8 ? size - i : 8);
	}
}

/* Most often one of the dictionary's first words, which are VIPs. */
static uint32_t word_of(struct maker *m, uint32_t count)
{
	return once_in(m, 2) ? below(m, count < 8 ? count : 8) : below(m, count);
}

/* An address: of who sends, most often one from `from` on, which are no endpoint's. */
static uint32_t address_word(struct maker *m, enum side side, uint32_t from, uint32_t count)
{
	if (side == SOURCE && !m->depth && from < count && !once_in(m, 3))
		return from + below(m, count - from);
	return word_of(m, count);
}

/* Is this side of the packet the one that is aimed? A quoted packet is on its way back. */
static bool is_aimed(const struct maker *m, enum side side)
{
	return m->aim && side == (m->depth ? SOURCE : DEST);
}

static __be32 address4(struct maker *m, enum side side)
{
	if (is_aimed(m, side))
		return m->aim->addr[0];
	if (once_in(m, 8))
		return rng_next(&m->rng);
	return m->words->addr4[address_word(m, side, m->words->from4, m->words->addr4_count)];
}

static void address6(struct maker *m, enum side side, void *out)
{
	uint64_t random[2] = { rng_next(&m->rng), rng_next(&m->rng) };

	if (is_aimed(m, side))
		memcpy(out, m->aim->addr, 16);
	else if (once_in(m, 8))
		memcpy(out, random, 16);
	else
		memcpy(out,
			m->words->addr6[address_word(m, side, m->words->from6, m->words->addr6_count)],
			16);
}

static __be16 a_port(struct maker *m, enum side side)
{
	if (is_aimed(m, side) && m->aim->port)
		return m->aim->port;
	if (once_in(m, 6))
		return rng_next(&m->rng);
	return m->words->port[word_of(m, m->words->port_count)];
}

static uint32_t payload_size(struct maker *m)
{
	switch (below(m, 16)) {
	case 0:
		return 0;
	case 1:
		return 1300 + below(m, 300);
	case 2:
		return once_in(m, 16) ? 3000 + below(m, 5000) : below(m, 600);
	default:
		return below(m, 64);
	}
}

/* --- checksums ----------------------------------------------------------------------------------- */

static uint32_t sum_of(const uint8_t *at, uint32_t length, uint32_t sum)
{
	for (uint32_t i = 0; i + 1 < length; i += 2)
		sum += at[i] << 8 | at[i + 1];
	if (length & 1)
		sum += at[length - 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* Over the pseudo header and everything from `l4` on. */
static uint16_t transport_sum(struct maker *m, uint32_t l3, uint32_t l4, bool v6, uint8_t proto)
{
	const uint8_t *ip = m->out->at + l3;
	uint32_t length = m->out->length - l4;
	uint32_t sum = sum_of(ip + (v6 ? 8 : 12), v6 ? 32 : 8, proto + length);

	return htons(~sum_of(m->out->at + l4, length, sum));
}

static void set16(struct maker *m, uint32_t at, uint16_t value)
{
	if (at + 2 <= m->out->length)
		memcpy(m->out->at + at, &value, 2);
}

/* Right; now and then wrong, or none. */
static void set_checksum(struct maker *m, uint32_t at, uint16_t right)
{
	if (m->broken && once_in(m, 6))
		right = once_in(m, 2) ? 0 : rng_next(&m->rng);
	set16(m, at, right);
}

/* --- transport ------------------------------------------------------------------------------------- */

static void put_tcp(struct maker *m)
{
	static const uint8_t flags[] = { 0x02, 0x02, 0x10, 0x18, 0x12, 0x11, 0x04, 0x14, 0x00,
		0x3f };
	struct tcphdr *tcp = put(m, sizeof(*tcp));
	uint32_t options = once_in(m, 3) ? below(m, 11) : 0;

	tcp->source = a_port(m, SOURCE);
	tcp->dest = a_port(m, DEST);
	tcp->seq = rng_next(&m->rng);
	tcp->doff = 5 + options;
	((uint8_t *)tcp)[13] = flags[below(m, sizeof(flags))];
	put_random(m, options * 4);
	put_random(m, payload_size(m));
}

/* QUIC's invariants (RFC 8999): a long or a short header, whatever is behind it. */
static void put_quic(struct maker *m)
{
	uint8_t *first = put(m, 1), *at;

	*first = 0x40 | below(m, 64) | (once_in(m, 2) ? 0x80 : 0);
	if (*first & 0x80) {
		at = put(m, 5);
		at[3] = once_in(m, 8) ? below(m, 256) : 1;
		at[4] = once_in(m, 4) ? below(m, 256) : below(m, 21);
		put_random(m, at[4] % 32);
	} else {
		put_random(m, below(m, 24));
	}
	put_random(m, below(m, 64));
}

static void put_udp(struct maker *m)
{
	uint32_t start = m->out->length;
	struct udphdr *udp = put(m, sizeof(*udp));

	udp->source = a_port(m, SOURCE);
	udp->dest = a_port(m, DEST);
	if (once_in(m, 3))
		put_quic(m);
	else
		put_random(m, payload_size(m));
	set16(m, start + 4, htons(m->out->length - start));
	if (m->broken && once_in(m, 6))
		set16(m, start + 4, rng_next(&m->rng));
}

static void put_ip(struct maker *m, bool v6);

static void put_icmp(struct maker *m, bool v6)
{
	static const uint8_t types4[] = { 3, 3, 3, 11, 12, 4, 8, 0, 5 };
	static const uint8_t types6[] = { 1, 2, 2, 3, 4, 128, 129, 135, 136 };
	uint8_t *icmp = put(m, 8);
	uint32_t kind = below(m, 9), quoted, start;

	icmp[0] = v6 ? types6[kind] : types4[kind];
	icmp[1] = below(m, 8);
	icmp[6] = once_in(m, 2) ? 0x05 : 0;
	if (m->depth >= DEEPEST || kind >= 6) {
		put_random(m, payload_size(m));
		return;
	}
	start = m->out->length;
	m->depth++;
	put_ip(m, v6 != once_in(m, 64));
	m->depth--;
	quoted = m->out->length - start;
	if (once_in(m, 2) && quoted > 28) /* RFC 792: the header and 8 bytes */
		m->out->length = start + (v6 ? 48 : 28) + (once_in(m, 4) ? below(m, 20) : 0);
	if (m->out->length > start + quoted || m->out->length > FUZZ_MAX_PACKET)
		m->out->length = start + quoted;
}

static const struct {
	uint8_t proto;
	uint32_t check; /* where its checksum lies */
} kinds[] = { { IPPROTO_TCP, 16 }, { IPPROTO_UDP, 6 }, { IPPROTO_ICMP, 2 }, { ICMPV6, 2 } };

static uint8_t a_protocol(struct maker *m, bool v6)
{
	switch (below(m, 16)) {
	case 0 ... 7:
		return m->aim && m->aim->proto ? m->aim->proto : IPPROTO_TCP;
	case 8 ... 11:
		return IPPROTO_UDP;
	case 12 ... 13:
		return v6 ? ICMPV6 : IPPROTO_ICMP;
	case 14:
		return once_in(m, 2) ? IPPROTO_IPIP : IPPROTO_IPV6;
	default:
		return rng_next(&m->rng);
	}
}

static void put_transport(struct maker *m, uint8_t proto, uint32_t l3, bool v6)
{
	uint32_t l4 = m->out->length;

	switch (proto) {
	case IPPROTO_TCP:
		put_tcp(m);
		break;
	case IPPROTO_UDP:
		put_udp(m);
		break;
	case IPPROTO_ICMP:
	case ICMPV6:
		put_icmp(m, proto == ICMPV6);
		break;
	case IPPROTO_IPIP:
	case IPPROTO_IPV6:
		if (m->depth >= DEEPEST)
			break;
		m->depth++;
		put_ip(m, proto == IPPROTO_IPV6);
		m->depth--;
		return;
	default:
		put_random(m, payload_size(m));
		return;
	}
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		uint16_t sum;

		if (kinds[i].proto != proto)
			continue;
		set16(m, l4 + kinds[i].check, 0);
		sum = proto == IPPROTO_ICMP
			      ? htons(~sum_of(m->out->at + l4, m->out->length - l4, 0))
			      : transport_sum(m, l3, l4, v6, proto);
		if (proto == IPPROTO_UDP && (!sum || (!v6 && once_in(m, 8))))
			sum = sum ? 0 : 0xffff;
		set_checksum(m, l4 + kinds[i].check, sum);
	}
}

/* --- IP ------------------------------------------------------------------------------------------ */

static uint16_t fragment_field(struct maker *m)
{
	switch (below(m, 24)) {
	case 0:
		return 0x2000; /* a first one */
	case 1:
		return 0x2000 | below(m, 200);
	case 2:
		return below(m, 8); /* the last */
	default:
		return 0;
	}
}

static uint8_t a_ttl(struct maker *m)
{
	return once_in(m, 12) ? below(m, 3) : 64;
}

static void put_ipv4(struct maker *m)
{
	uint32_t l3 = m->out->length, options = once_in(m, 6) ? below(m, 11) : 0, header;
	struct iphdr *ip = put(m, sizeof(*ip));
	uint8_t proto = a_protocol(m, false);

	ip->version = 4;
	ip->ihl = 5 + options;
	ip->tos = once_in(m, 4) ? below(m, 256) : 0;
	ip->id = htons(below(m, 64));
	ip->frag_off = htons(fragment_field(m) | (once_in(m, 2) ? 0x4000 : 0));
	ip->ttl = a_ttl(m);
	ip->protocol = proto;
	ip->saddr = address4(m, SOURCE);
	ip->daddr = address4(m, DEST);
	put_random(m, options * 4);
	header = m->out->length - l3;
	put_transport(m, proto, l3, false);
	if (l3 + header > m->out->length)
		return;
	ip = (void *)(m->out->at + l3);
	ip->tot_len = htons(m->out->length - l3);
	if (m->broken && once_in(m, 6))
		ip->tot_len = rng_next(&m->rng);
	if (m->broken && once_in(m, 12))
		ip->ihl = below(m, 16);
	set_checksum(m, l3 + 10, htons(~sum_of(m->out->at + l3, header, 0)));
}

/* A chain of extension headers; returns what comes behind. `next` is where its number goes. */
static void put_extensions(struct maker *m, uint8_t proto, uint32_t next)
{
	static const uint8_t numbers[] = { IPPROTO_HOPOPTS, IPPROTO_DSTOPTS, IPPROTO_ROUTING,
		IPPROTO_FRAGMENT, IPPROTO_AH };
	uint32_t count = once_in(m, 5) ? 1 + below(m, 9) : 0;

	while (count-- > 0) {
		uint8_t number = numbers[below(m, sizeof(numbers))];
		uint32_t at = m->out->length, more = once_in(m, 4) ? below(m, 4) : 0;
		uint8_t *header = put(m, 8);

		m->out->at[next] = number;
		next = at < FUZZ_MAX_PACKET ? at : next;
		if (number == IPPROTO_FRAGMENT) {
			uint16_t field = fragment_field(m), word;

			word = htons((field & 0x1fff) << 3 | field >> 13);
			memcpy(header + 2, &word, 2);
			header[7] = below(m, 64);
			continue;
		}
		header[1] = number == IPPROTO_AH ? more * 2 : more;
		header[3] = number == IPPROTO_ROUTING && once_in(m, 3) ? below(m, 4) : 0;
		put_random(m, more * 8);
	}
	m->out->at[next] = proto;
}

static void put_ipv6(struct maker *m)
{
	uint32_t l3 = m->out->length;
	struct ipv6hdr *ip = put(m, sizeof(*ip));
	uint8_t proto = a_protocol(m, true);
	uint16_t length;

	if (l3 + sizeof(*ip) > m->out->length)
		return;
	ip->version = 6;
	ip->priority = once_in(m, 4) ? below(m, 16) : 0;
	ip->flow_lbl[2] = below(m, 256);
	ip->hop_limit = a_ttl(m);
	address6(m, SOURCE, &ip->saddr);
	address6(m, DEST, &ip->daddr);
	put_extensions(m, proto, l3 + 6);
	put_transport(m, proto, l3, true);
	length = htons(m->out->length - l3 - sizeof(*ip));
	if (m->broken && once_in(m, 6))
		length = rng_next(&m->rng);
	set16(m, l3 + 4, length);
	if (m->broken && once_in(m, 16))
		m->out->at[l3] = rng_next(&m->rng);
}

static void put_ip(struct maker *m, bool v6)
{
	const struct aim *aim = m->aim;

	if (m->depth && aim && v6 != m->v6)
		m->aim = NULL;
	v6 ? put_ipv6(m) : put_ipv4(m);
	m->aim = aim;
}

/* --- the frame ----------------------------------------------------------------------------------- */

static void put_ethernet(struct maker *m, bool v6)
{
	static const uint16_t tags[] = { ETH_P_8021Q, ETH_P_8021AD };
	uint32_t count = once_in(m, 4) ? 1 + below(m, 3) : 0;
	uint16_t type = htons(v6 ? ETH_P_IPV6 : ETH_P_IP), tag;

	put_random(m, 12);
	while (count-- > 0) {
		tag = htons(tags[below(m, 2)]);
		memcpy(put(m, 2), &tag, 2);
		put_random(m, 2);
	}
	if (m->broken && once_in(m, 12))
		type = once_in(m, 2) ? htons(ETH_P_ARP) : rng_next(&m->rng);
	memcpy(put(m, 2), &type, 2);
}

/* Cuts it, appends to it, or flips bits. */
static void spoil(struct maker *m)
{
	struct bytes *out = m->out;

	if (once_in(m, 4))
		out->length = below(m, out->length + 1);
	if (once_in(m, 4))
		put_random(m, 1 + below(m, 46));
	for (uint32_t flips = once_in(m, 3) ? 1 + below(m, 4) : 0; flips > 0 && out->length;
		flips--)
		out->at[below(m, out->length < 100 ? out->length : 100)] ^= 1 << below(m, 8);
}

void generate(struct bytes *packet, const struct dictionary *words, uint64_t seed, uint64_t number)
{
	struct maker m = { .words = words, .out = packet };
	size_t aims;

	rng_seed(&m.rng, seed * 0x100000001b3ull + number);
	m.broken = once_in(&m, 3);
	m.v6 = once_in(&m, 2);
	aims = words->aim_count[m.v6];
	if (aims && once_in(&m, 2))
		m.aim = &words->aims[m.v6][below(&m, aims)];
	packet->length = 0;
	put_ethernet(&m, m.v6);
	put_ip(&m, m.v6);
	if (m.broken)
		spoil(&m);
	if (packet->length < ETH_HLEN) /* the kernel refuses to run less */
		put(&m, ETH_HLEN - packet->length);
}
