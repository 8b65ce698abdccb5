/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Why a packet got its verdict; index into `reasons` (per CPU). Each list is X(symbol, "name in
 * scripts"). What is forwarded is counted per service and per backend.
 */
#ifndef TIDEGATE_REASONS_H
#define TIDEGATE_REASONS_H

#define TG_PASS_REASONS(X)                                                                         \
	X(NOT_IP, "not-ip")                 /* ARP and other EtherTypes */                         \
	X(NOT_VIP, "not-vip")               /* no service here */                                  \
	X(FRAGMENT, "fragment")             /* of no flow of ours */                               \
	X(ICMP, "icmp")                     /* no error */                                         \
	X(ICMP_QUOTE, "icmp-quote")         /* an error that does not say which flow it is about */ \
	X(OTHER_PROTOCOL, "other-protocol") /* neither TCP nor UDP nor ICMP */                     \
	X(TRUNCATED, "truncated")           /* shorter than its headers say */                     \
	X(BAD_HEADER, "bad-header")         /* version, ihl or lengths that contradict */          \
	X(EXTENSION, "extension")           /* IPv6 extension headers beyond the bound */          \
	X(TTL_EXPIRED, "ttl-expired")       /* to be answered by the stack */                      \
	X(FAIL_PASS, "no-backend-pass")     /* no live backend, fail = "pass" */                   \
	X(LOCAL_REPLY, "local-reply")       /* a backend answers the switch itself */              \
	X(DIRECT_FLOW, "direct-flow")       /* a backend answers a direct flow */                  \
	X(NAT_STACK, "nat-by-stack")        /* translated; the stack resolves and forwards */      \
	X(TOO_BIG, "too-big")               /* larger than the egress port's MTU: the stack answers */ \
	X(LINES_FULL, "lines-full")         /* a direct flow that found no free entry: see lines.h */ \
	X(REFUSED_BY_TC, "refused-by-tc")   /* for a VIP: TC tells its sender no, or shows it to a tap */
#define TG_DROP_REASONS(X)                                                                         \
	X(FAIL_DROP, "no-backend")      /* no live backend, fail = "drop" */                       \
	X(UNRESOLVED, "unresolved")     /* the backend's next hop is not known */                  \
	X(NO_RING, "no-ring")           /* a VIP without its ring: never in a sound state */       \
	X(NO_PORT, "no-port")           /* the egress port is not in `tx_ports` */                 \
	X(NO_HEADROOM, "no-headroom")   /* ipip, gue: no room for the outer header */              \
	X(TOO_BIG_ANSWERED, "too-big-answered") /* for the tunnel: an ICMP error went back */      \
	X(TOO_BIG_DROPPED, "too-big-dropped")   /* likewise, and not to be answered: too_big.h */  \
	X(SUPER_PACKET, "super-packet") /* too big, and larger than its own port's MTU */             \
	X(DENIED, "denied")             /* the source is on a deny list */                         \
	X(BOGUS_ZERO, "bogus-zero")     /* source 0.0.0.0/8 (DHCP and IGMP apart) or :: (ICMPv6 apart) */ \
	X(BOGUS_LOOPBACK, "bogus-loopback")   /* source 127.0.0.0/8 or ::1 */                      \
	X(BOGUS_MULTICAST, "bogus-multicast") /* source 224.0.0.0/4 or ff00::/8 */                 \
	X(BOGUS_BROADCAST, "bogus-broadcast") /* source 255.255.255.255 */                         \
	X(BOGUS_LAND, "bogus-land")     /* the source is the destination */                        \
	X(BOGUS_VIP, "bogus-vip")       /* for a VIP, and the source is one's address, too */ \
	X(FRAGMENT_LOST, "fragment-lost") /* to a VIP's address, and the first one did not come */ \
	X(FRAGMENT_TINY, "fragment-tiny") /* likewise, cut within TCP's or UDP's header */ \
	X(POLICY_DROP, "policy-drop")     /* by a rule of the port's policy, or its default */     \
	X(POLICY_REJECT, "policy-reject") /* likewise, and its sender was told */

enum tg_reason {
	TG_REASON_NONE, /* go on to the next step */
#define TG_REASON_ENUM(symbol, name) TG_REASON_##symbol,
	TG_PASS_REASONS(TG_REASON_ENUM)
	TG_REASON_PASS_LAST, /* a mark between passes and drops */
	TG_DROP_REASONS(TG_REASON_ENUM)
	TG_REASON_FORWARD, /* rewritten: XDP_TX or a redirect */
	TG_REASON_COUNT
#undef TG_REASON_ENUM
};

#endif
