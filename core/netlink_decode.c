/* SPDX-License-Identifier: GPL-2.0-only */
/* rtnetlink messages into plain structs; see netlink.h. */
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/fib_rules.h>
#include <linux/neighbour.h>
#include <net/if_arp.h>
#include <string.h>

#include "netlink.h"

static void copy_text(char *out, size_t room, const struct nlattr *attr)
{
	size_t size = strnlen(mnl_attr_get_payload(attr), mnl_attr_get_payload_len(attr));

	if (size >= room)
		size = room - 1;
	memcpy(out, mnl_attr_get_payload(attr), size);
	out[size] = 0;
}

static bool copy_mac(uint8_t *mac, const struct nlattr *attr)
{
	if (mnl_attr_get_payload_len(attr) != 6)
		return false;
	memcpy(mac, mnl_attr_get_payload(attr), 6);
	return true;
}

/* An address attribute; false if it isn't as long as the family's addresses. */
static bool copy_addr(struct tg_addr *addr, int family, const struct nlattr *attr)
{
	if ((family != AF_INET && family != AF_INET6) ||
		mnl_attr_get_payload_len(attr) != (family == AF_INET6 ? 16 : 4))
		return false;
	*addr = tg_addr_from_bytes(family, mnl_attr_get_payload(attr));
	return true;
}

/* ---- links ---- */

static void link_info(const struct nlattr *info, struct tg_link *link)
{
	const struct nlattr *attr;

	mnl_attr_for_each_nested(attr, info) {
		if (mnl_attr_get_type(attr) == IFLA_INFO_KIND)
			copy_text(link->kind, sizeof(link->kind), attr);
	}
}

static void link_attr(const struct nlattr *attr, struct tg_link *link, bool *elsewhere)
{
	switch (mnl_attr_get_type(attr)) {
	case IFLA_IFNAME:
		copy_text(link->name, sizeof(link->name), attr);
		break;
	case IFLA_ADDRESS:
		copy_mac(link->mac, attr);
		break;
	case IFLA_MTU:
		link->mtu = mnl_attr_get_u32(attr);
		break;
	case IFLA_MASTER:
		link->master = mnl_attr_get_u32(attr);
		break;
	case IFLA_LINK:
		link->lower = mnl_attr_get_u32(attr);
		break;
	case IFLA_LINK_NETNSID:
		*elsewhere = true;
		break;
	case IFLA_CARRIER:
		link->carrier = mnl_attr_get_u8(attr);
		break;
	case IFLA_LINKINFO:
		link_info(attr, link);
		break;
	}
}

bool tg_nl_link(const struct nlmsghdr *message, struct tg_link *link)
{
	const struct ifinfomsg *body = mnl_nlmsg_get_payload(message);
	const struct nlattr *attr;
	bool elsewhere = false;

	if (mnl_nlmsg_get_payload_len(message) < sizeof(*body) || body->ifi_family != AF_UNSPEC)
		return false;
	memset(link, 0, sizeof(*link));
	link->ifindex = body->ifi_index;
	link->up = body->ifi_flags & IFF_UP;
	link->carrier = body->ifi_flags & IFF_RUNNING;
	link->loopback = body->ifi_flags & IFF_LOOPBACK;
	link->ethernet = body->ifi_type == ARPHRD_ETHER;
	mnl_attr_for_each(attr, message, sizeof(*body))
		link_attr(attr, link, &elsewhere);
	if (elsewhere)
		link->lower = 0;
	return true;
}

/* ---- neighbours ---- */

bool tg_nl_neigh(const struct nlmsghdr *message, struct tg_nl_neigh *neigh)
{
	const struct ndmsg *body = mnl_nlmsg_get_payload(message);
	const struct nlattr *attr;
	bool has_addr = false;

	if (mnl_nlmsg_get_payload_len(message) < sizeof(*body) || body->ndm_flags & NTF_PROXY)
		return false;
	memset(neigh, 0, sizeof(*neigh));
	neigh->ifindex = body->ndm_ifindex;
	neigh->state = body->ndm_state;
	mnl_attr_for_each(attr, message, sizeof(*body)) {
		if (mnl_attr_get_type(attr) == NDA_DST)
			has_addr = copy_addr(&neigh->addr, body->ndm_family, attr);
		else if (mnl_attr_get_type(attr) == NDA_LLADDR)
			neigh->has_mac = copy_mac(neigh->mac, attr);
	}
	return has_addr;
}

/* ---- routes ---- */

static void route_metrics(const struct nlattr *metrics, struct tg_nl_route *route)
{
	const struct nlattr *attr;

	mnl_attr_for_each_nested(attr, metrics) {
		if (mnl_attr_get_type(attr) == RTAX_MTU)
			route->mtu = mnl_attr_get_u32(attr);
	}
}

/* A gateway of another family than the route's: IPv4 through IPv6. */
static void route_via(const struct nlattr *attr, struct tg_nl_route *route)
{
	const struct rtvia *via = mnl_attr_get_payload(attr);

	if (mnl_attr_get_payload_len(attr) >= sizeof(*via) + (via->rtvia_family == AF_INET6 ? 16 : 4))
		route->gateway = tg_addr_from_bytes(via->rtvia_family, via->rtvia_addr);
}

static void route_attr(const struct nlattr *attr, int family, struct tg_nl_route *route)
{
	switch (mnl_attr_get_type(attr)) {
	case RTA_DST:
		copy_addr(&route->prefix.addr, family, attr);
		break;
	case RTA_GATEWAY:
		copy_addr(&route->gateway, family, attr);
		break;
	case RTA_VIA:
		route_via(attr, route);
		break;
	case RTA_OIF:
		route->ifindex = mnl_attr_get_u32(attr);
		break;
	case RTA_TABLE:
		route->table = mnl_attr_get_u32(attr);
		break;
	case RTA_PRIORITY:
		route->metric = mnl_attr_get_u32(attr);
		break;
	case RTA_METRICS:
		route_metrics(attr, route);
		break;
	case RTA_MULTIPATH:
	case RTA_ENCAP_TYPE:
		route->plural = true;
		break;
	}
}

bool tg_nl_route(const struct nlmsghdr *message, struct tg_nl_route *route)
{
	const struct rtmsg *body = mnl_nlmsg_get_payload(message);
	const struct nlattr *attr;

	if (message->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(message) < sizeof(*body) ||
		(body->rtm_family != AF_INET && body->rtm_family != AF_INET6))
		return false;
	memset(route, 0, sizeof(*route));
	route->prefix.addr.family = body->rtm_family;
	route->prefix.len = body->rtm_dst_len;
	route->table = body->rtm_table;
	route->type = body->rtm_type;
	route->dead = body->rtm_flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN);
	route->selective = body->rtm_src_len || body->rtm_tos;
	mnl_attr_for_each(attr, message, sizeof(*body))
		route_attr(attr, body->rtm_family, route);
	return true;
}

/* ---- rules ---- */

/* The tables of the rules that every host has, at the priorities they have there. */
static bool default_rule(uint32_t table, uint32_t priority)
{
	return (table == RT_TABLE_LOCAL && priority == 0) ||
	       (table == RT_TABLE_MAIN && priority == 32766) ||
	       (table == RT_TABLE_DEFAULT && priority == 32767);
}

bool tg_nl_rule_is_default(const struct nlmsghdr *message)
{
	const struct fib_rule_hdr *body = mnl_nlmsg_get_payload(message);
	uint32_t table = body->table, priority = 0;
	const struct nlattr *attr;

	if (body->action != FR_ACT_TO_TBL || body->flags & FIB_RULE_INVERT || body->tos)
		return false;
	mnl_attr_for_each(attr, message, sizeof(*body)) {
		switch (mnl_attr_get_type(attr)) {
		case FRA_TABLE:
			table = mnl_attr_get_u32(attr);
			break;
		case FRA_PRIORITY:
			priority = mnl_attr_get_u32(attr);
			break;
		case FRA_PROTOCOL:
			break;
		case FRA_SUPPRESS_PREFIXLEN:
			if (mnl_attr_get_u32(attr) != UINT32_MAX)
				return false;
			break;
		default:	/* it selects packets */
			return false;
		}
	}
	return default_rule(table, priority);
}
