#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# `check` and `doctor` say, by mode, what a service needs of the network around it, and what of that is there.
. "$(dirname "$0")/lib.sh"

script=$WORK/web.lua
write()		# MODE BACKENDS
{
	cat >"$script" <<-END
		tg.port "eth0"
		tg.port "eth1"
		tg.service { name = "web", mode = "$1", vip = { "$LAB_VIP4:80", "[$LAB_VIP6]:80" }, backends = { $2 } }
	END
}
needs()		# STATE -> what the plan says of that state
{
	"$TIDEGATE" check "$script" --instance "$INSTANCE" --netns "$LAB_SW" | sed -n "s/^  $1 \+//p" >"$WORK/needs"
}
says()		{ grep -qE -- "$1" "$WORK/needs"; }
knows_all()	{ [ "$(tg eval "(function() for _, b in ipairs(tg.services.web:backends()) do
	if b.next_hop.state ~= 'resolved' then return false end end return true end)()")" = true ]; }

lab_up --backends 3 --routers

# --- before there is a daemon ------------------------------------------------------------------------

write l2dsr '"10.0.0.11", "2001:db8:1::11"'
needs "do"
check "l2dsr: backends get the VIPs" says "on each backend: ip addr add $LAB_VIP4/32 dev lo; ip addr add $LAB_VIP6/128 dev lo"
check "and hide them from ARP" says 'arp_ignore=1 net.ipv4.conf.all.arp_announce=2'

write ipip '"10.0.1.11", "2001:db8:2::11"'
needs "do"
check "ipip: backends take packets out" says "ip addr add $LAB_VIP4/32 dev lo; .*tidegate decap DEV"
check "and don't drop clients by rp_filter" says 'rp_filter=2'

write nat '"10.0.0.11", "2001:db8:1::11"'
on sw sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=1
needs no
check "nat: IPv4 is not forwarded, and how it would be" says 'IPv4 is not forwarded: sysctl -w net.ipv4.ip_forward=1'
needs yes
check "IPv6 is" says 'IPv6 is forwarded'
on sw sysctl -qw net.ipv4.ip_forward=1
needs yes
check "then IPv4, too" says 'IPv4 is forwarded'
needs unknown
check "who answers ARP for the VIP is not seen" says "VIP $LAB_VIP4 has to be routed .* ip addr add $LAB_VIP4/32 dev lo"
ip -n "$LAB_SW" addr add "$LAB_VIP4/32" dev lo
needs yes
check "unless it is the switch" says "VIP $LAB_VIP4 is an address of this switch"

write gue '"10.99.0.11"'
ip -n "$LAB_SW" route add unreachable 10.99.0.0/16
needs no
check "a backend that can't be reached is named" says 'backend 10.99.0.11: its next hop is not known: unreachable'

write ipip '"10.88.0.11"'
ip -n "$LAB_SW" link add br0 type bridge
ip -n "$LAB_SW" link add br0p type veth peer name br0q	# a bridge has a carrier by its ports
ip -n "$LAB_SW" link set br0p up master br0
ip -n "$LAB_SW" link set br0q up
ip -n "$LAB_SW" addr add 10.88.0.1/24 dev br0
ip -n "$LAB_SW" link set br0 up
ip -n "$LAB_SW" neigh replace 10.88.0.11 lladdr 02:00:00:00:00:77 dev br0
no_way()	{ needs no; says 'backend 10.88.0.11: .* of kind bridge, which native XDP'; }

check "a bridge is no way for native XDP" wait_for 3 no_way
ip -n "$LAB_SW" link del br0
ip -n "$LAB_SW" link del br0p

# --- beside one ----------------------------------------------------------------------------------------

write gue '"10.0.1.11", "10.0.1.12", "2001:db8:2::11"'
daemon_start "$script"
check "the ways to the backends are known" wait_for 5 knows_all
tg doctor eth0 --netns "$LAB_SW" >"$WORK/needs" 2>&1
check "doctor says what the services need that run" says '^service web needs, in gue:'
check "what fits by IPv4" says '^  no +backend 10.0.1.11, 10.0.1.12: packets of more than 1472 bytes .*MTU 1500, less 28 for gue.* takes 1528'
check "and by IPv6" says '^  no +backend 2001:db8:2::11: packets of more than 1452 bytes .*less 48 for gue'
"$TIDEGATE" doctor eth0 --netns "$LAB_SW" --instance "$INSTANCE-none" >"$WORK/needs" 2>&1
check "without a daemon it says so" says 'services are not looked at: no daemon runs'
check_fails "a service that stays as it is needs nothing new" 1 grep -q needs <(tg check "$script")
sed -i 's/"10.0.1.12"/"10.0.1.13"/' "$script"
check "one that changes does" grep -q '^service web needs, in gue:' <(tg check "$script")
check_equal "for programs too" "web gue yes" \
	"$(tg check --json "$script" | jq -r '.needs[0] | "\(.service) \(.mode) \(.needs[0].state)"')"
