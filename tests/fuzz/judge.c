/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What may become of a packet (see fuzz.h). Written apart from the datapath, after the RFCs: it reads
 * both packets from the wire's point of view and compares. A packet that leaves is well-formed where
 * the one that came was: each length fits the one around it, and each checksum that was right is right.
 */
#include "fuzz.h"

#include <arpa/inet.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <string.h>

#define ICMPV6	     58
#define MOST_HEADERS 16

enum sum { SUM_NONE, SUM_RIGHT, SUM_WRONG };

/* An IP packet as its headers describe it. */
struct view {
	const uint8_t *ip;
	uint32_t room;	 /* bytes there are from `ip` on */
	uint32_t length; /* as the header says */
	uint32_t l4;	 /* offset of what is no extension header */
	uint8_t proto;
	bool v6, sound; /* sound: every length fits */
	bool fragment, later;
	enum sum ip_sum, l4_sum;
};

static uint16_t get16(const uint8_t *at)
{
	return at[0] << 8 | at[1];
}

static uint32_t add_up(const uint8_t *at, uint32_t length)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < length; i++)
		sum += i & 1 ? at[i] : at[i] << 8;
	return sum;
}

static bool is_all_ones(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum == 0xffff;
}

static enum sum right_if(bool right)
{
	return right ? SUM_RIGHT : SUM_WRONG;
}

/* The checksum behind the IP header, where the whole of it is there. */
static enum sum transport_sum(const struct view *v)
{
	const uint8_t *l4 = v->ip + v->l4;
	uint32_t length = v->length - v->l4;
	uint32_t pseudo = add_up(v->ip + (v->v6 ? 8 : 12), v->v6 ? 32 : 8) + v->proto + length;

	if (v->fragment)
		return SUM_NONE;
	switch (v->proto) {
	case IPPROTO_TCP:
		return length < 20 ? SUM_NONE : right_if(is_all_ones(pseudo + add_up(l4, length)));
	case IPPROTO_UDP:
		if (length < 8 || !get16(l4 + 6))
			return SUM_NONE;
		return right_if(is_all_ones(pseudo + add_up(l4, length)));
	case IPPROTO_ICMP:
		return v->v6 || length < 8 ? SUM_NONE : right_if(is_all_ones(add_up(l4, length)));
	case ICMPV6:
		if (!v->v6 || length < 8)
			return SUM_NONE;
		return right_if(is_all_ones(pseudo + add_up(l4, length)));
	default:
		return SUM_NONE;
	}
}

static void look_at_ipv4(struct view *v)
{
	uint16_t field;

	if (v->room < 20 || v->ip[0] >> 4 != 4)
		return;
	v->l4 = (v->ip[0] & 15) * 4;
	v->length = get16(v->ip + 2);
	field = get16(v->ip + 6);
	v->fragment = field & 0x3fff;
	v->later = field & 0x1fff;
	v->proto = v->ip[9];
	v->sound = v->l4 >= 20 && v->length >= v->l4 && v->length <= v->room;
	if (v->sound)
		v->ip_sum = right_if(is_all_ones(add_up(v->ip, v->l4)));
}

/* Is it an extension header whose successor can be found? Its size then, else 0. */
static uint32_t extension_size(uint8_t proto, const uint8_t *at)
{
	switch (proto) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_DSTOPTS:
	case IPPROTO_ROUTING:
		return (at[1] + 1) * 8;
	case IPPROTO_FRAGMENT:
		return 8;
	case IPPROTO_AH:
		return (at[1] + 2) * 4;
	default:
		return 0;
	}
}

static void look_at_ipv6(struct view *v)
{
	uint32_t size;

	if (v->room < 40 || v->ip[0] >> 4 != 6)
		return;
	v->length = 40 + get16(v->ip + 4);
	v->proto = v->ip[6];
	v->l4 = 40;
	if (v->length > v->room)
		return;
	for (int i = 0; i < MOST_HEADERS && v->l4 + 8 <= v->length; i++) {
		const uint8_t *at = v->ip + v->l4;

		size = extension_size(v->proto, at);
		if (!size)
			break;
		if (v->proto == IPPROTO_FRAGMENT && get16(at + 2) & 0xfff9)
			v->fragment = true;
		if (v->proto == IPPROTO_FRAGMENT && get16(at + 2) & 0xfff8) {
			v->later = true;
			v->l4 += size;
			break;
		}
		v->proto = at[0];
		v->l4 += size;
	}
	v->sound = v->l4 <= v->length;
}

static struct view look_at(const uint8_t *ip, uint32_t room, bool v6)
{
	struct view v = { .ip = ip, .room = room, .v6 = v6 };

	v6 ? look_at_ipv6(&v) : look_at_ipv4(&v);
	if (v.sound)
		v.l4_sum = transport_sum(&v);
	return v;
}

/* Bytes before the IP packet, EtherType included; 0 if there is none. `v6` says which. */
uint32_t link_header(const struct bytes *packet, bool *v6)
{
	uint32_t at = 12;

	for (int tags = 0; tags <= 2 && at + 2 <= packet->length; tags++, at += 4) {
		uint16_t type = get16(packet->at + at);

		*v6 = type == ETH_P_IPV6;
		if (type == ETH_P_IP || type == ETH_P_IPV6)
			return at + 2;
		if (type != ETH_P_8021Q && type != ETH_P_8021AD)
			return 0;
	}
	return 0;
}

static bool same(const uint8_t *a, const uint8_t *b, uint32_t length)
{
	return !memcmp(a, b, length);
}

/* --- the ways to leave -------------------------------------------------------------------------- */

static const char *judge_sums(const struct view *in, const struct view *out)
{
	if (in->ip_sum != out->ip_sum)
		return "the IPv4 header's checksum was right and is not, or the other way round";
	if (in->l4_sum != out->l4_sum && in->l4_sum != SUM_WRONG)
		return "the transport checksum is not what it was";
	if (in->l4_sum == SUM_WRONG && out->l4_sum == SUM_RIGHT)
		return "a wrong transport checksum was put right";
	return NULL;
}

/* How much at the head of the transport may change: ports and checksum, or a quoted packet. */
static uint32_t mutable_head(const struct view *v)
{
	if (v->later)
		return 0;
	switch (v->proto) {
	case IPPROTO_TCP:
		return 18;
	case IPPROTO_UDP:
		return 8;
	default:
		return v->length - v->l4;
	}
}

/* Of the same length: another MAC, or another endpoint too. */
static const char *judge_rewritten(const struct view *in, const struct view *out)
{
	uint32_t skip, flow = in->v6 ? 8 : 12;
	const char *wrong;

	if (!out->sound || in->length != out->length || in->l4 != out->l4 ||
		in->proto != out->proto)
		return "lengths or protocols have changed";
	wrong = judge_sums(in, out);
	if (wrong)
		return wrong;
	if (in->v6 ? !same(in->ip, out->ip, 7) : !same(in->ip, out->ip, 8))
		return "the head of the IP header has changed";
	if (!same(in->ip + flow + (in->v6 ? 32 : 8), out->ip + flow + (in->v6 ? 32 : 8),
		    in->l4 - flow - (in->v6 ? 32 : 8)))
		return "options or extension headers have changed";
	skip = in->l4 + mutable_head(in);
	if (skip < in->length && !same(in->ip + skip, out->ip + skip, in->length - skip))
		return "the payload has changed";
	return NULL;
}

/* What the datapath answers itself: an ICMP error to the sender, quoting the packet. */
static const char *judge_answer(const struct view *in, const struct view *out)
{
	uint32_t quoted = out->length - out->l4 - 8;
	uint32_t size = in->v6 ? 16 : 4, source = in->v6 ? 8 : 12;

	if (!same(out->ip + source + size, in->ip + source, size))
		return "an ICMP error does not go to the sender";
	if (!in->v6 && out->ip_sum != SUM_RIGHT)
		return "an ICMP error's header checksum is wrong";
	if (out->l4_sum != SUM_RIGHT)
		return "an ICMP error's checksum is wrong";
	if (out->length < out->l4 + 8 || quoted > in->length ||
		!same(out->ip + out->l4 + 8, in->ip, quoted))
		return "an ICMP error does not quote the packet";
	return NULL;
}

#define LARGEST_OUTER 48 /* bytes: IPv6 and UDP */

static bool is_answer(const struct view *in, const struct view *out)
{
	const uint8_t *icmp = out->ip + out->l4;

	if (!out->sound || in->v6 != out->v6 || out->length < out->l4 + 8)
		return false;
	if (in->v6)
		return out->proto == ICMPV6 && icmp[0] == 2 && in->length > 1280;
	return out->proto == IPPROTO_ICMP && icmp[0] == 3 && icmp[1] == 4 &&
	       in->length + LARGEST_OUTER > 576;
}

/* Where the packet inside a tunnel's packet begins; 0 if there is none. */
static uint32_t inner_offset(const struct view *out, bool v6)
{
	const uint8_t *gue = out->ip + out->l4 + 8;
	uint8_t want = v6 ? IPPROTO_IPV6 : IPPROTO_IPIP;

	if (out->proto == want)
		return out->l4;
	/* GUE's variant 1: no header, the IP version says what follows */
	if (out->proto == IPPROTO_UDP && out->length > out->l4 + 8 && gue[0] >> 4 == (v6 ? 6 : 4))
		return out->l4 + 8;
	return 0;
}

static const char *judge_tunnelled(const struct view *in, const struct view *out)
{
	uint32_t at = inner_offset(out, in->v6);

	if (!out->sound || !at)
		return "it has grown, and is no tunnel's packet";
	if (!out->v6 && out->ip_sum != SUM_RIGHT)
		return "the outer header's checksum is wrong";
	if (out->proto == IPPROTO_UDP && get16(out->ip + out->l4 + 4) != out->length - out->l4)
		return "the outer UDP length is wrong";
	/* It is made from the inner packet's, and vouches for its header, too. */
	if (out->l4_sum == SUM_WRONG && in->l4_sum == SUM_RIGHT &&
		(in->v6 || in->ip_sum == SUM_RIGHT))
		return "the outer UDP checksum is wrong";
	if (out->length - at != in->length || !same(out->ip + at, in->ip, in->length))
		return "the inner packet is not the one that came";
	return NULL;
}

static const char *judge_left(const struct bytes *before, const struct bytes *after)
{
	bool in_v6 = false, out_v6 = false;
	uint32_t l2 = link_header(before, &in_v6), out_l2 = link_header(after, &out_v6);
	struct view in, out;

	if (!l2)
		return "it is no IP packet, and left";
	if (out_l2 != l2 || !same(before->at + 12, after->at + 12, l2 - 14))
		return "the VLAN tags have changed";
	in = look_at(before->at + l2, before->length - l2, in_v6);
	out = look_at(after->at + l2, after->length - l2, out_v6);
	if (!in.sound)
		return "its lengths contradict each other, and it left";
	if (is_answer(&in, &out) && out.proto != in.proto)
		return judge_answer(&in, &out);
	if (after->length == before->length && in_v6 == out_v6)
		return judge_rewritten(&in, &out);
	return judge_tunnelled(&in, &out);
}

const char *judge(const struct bytes *in, const struct bytes *out, uint32_t verdict)
{
	bool unchanged = in->length == out->length && same(in->at, out->at, in->length);

	switch (verdict) {
	case XDP_DROP:
		return NULL;
	case XDP_PASS:
		return unchanged ? NULL : judge_left(in, out);
	case XDP_TX:
	case XDP_REDIRECT:
		return judge_left(in, out);
	default:
		return "the verdict is none of drop, pass, tx and redirect";
	}
}
