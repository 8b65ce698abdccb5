#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What a backend is reached by changes under traffic: its MAC, the port that its route leaves by, the
# switch's own port. Requests follow, without a restart of the daemon. Each interruption is printed.
. "$(dirname "$0")/lib.sh"

vip4=198.51.100.11 vip6=2001:db8::11	# of the service in mode nat; l2dsr has the lab's
pulse_urls=("http://198.51.100.10/" "http://[2001:db8::10]/" "http://$vip4/" "http://[$vip6]/")

script()
{
	cat <<-END
		local tg = require "tidegate"
		for _, name in ipairs { "eth0", "eth1", "eth2" } do tg.port(name) end
		tg.service { name = "direct", mode = "l2dsr", vip = { "$LAB_VIP4:80/tcp", "[$LAB_VIP6]:80/tcp" },
			backends = { "10.0.0.11", "2001:db8:1::11" } }
		tg.service { name = "translated", mode = "nat", vip = { "$vip4:80/tcp", "[$vip6]:80/tcp" },
			backends = { "10.0.0.11:8080", "[2001:db8:1::11]:8080" } }
	END
}

announce()	# 0 or 1: does b1 tell its neighbours when its MAC changes?
{
	on b1 sysctl -qw net.ipv4.conf.eth0.arp_notify="$1" net.ipv6.conf.eth0.ndisc_notify="$1"
}

new_mac()	{ ip -n "tg-$lab_name-b1" link set eth0 address "$1"; }

mac_seen()	# of b1, by the daemon
{
	tg eval 'tg.services.direct:backends()[1].next_hop.mac' | tr -d '"'
}

sent_by()	# PORT of the switch: packets that left by it
{
	ip -n "$LAB_SW" -j -s link show "$1" | jq '.[0].stats64.tx.packets'
}

to_second_port()
{
	ip -n "$LAB_SW" route replace 10.0.0.0/24 dev eth2 src 10.0.0.2
	ip -n "$LAB_SW" route add 2001:db8:1::/64 dev eth2 metric 10
}

to_first_port()
{
	ip -n "$LAB_SW" route replace 10.0.0.0/24 dev eth1 src 10.0.0.1
	ip -n "$LAB_SW" route del 2001:db8:1::/64 dev eth2 metric 10
}

# The port that clients come in by: gone with its addresses, then another one of that name.
replug()
{
	ip -n "$LAB_SW" link del eth0
	sleep 0.3
	ip link add name eth0 netns "$LAB_CLIENT" type veth peer name eth0 netns "$LAB_SW"
	set_up "$LAB_CLIENT" eth0 192.0.2.7/24 2001:db8:c::7/64
	set_up "$LAB_SW" eth0 192.0.2.1/24 2001:db8:c::1/64
	ip -n "$LAB_CLIENT" route add default via 192.0.2.1
	ip -n "$LAB_CLIENT" route add default via 2001:db8:c::1
}

# The one that backends are behind: they keep their place, it comes back as another device.
replug_inside()
{
	ip -n "$LAB_SW" link del eth1
	sleep 0.3
	ip link add name eth1 netns "$LAB_SW" type veth peer name up1 netns "$LAB_FABRIC"
	set_up "$LAB_SW" eth1 10.0.0.1/24 2001:db8:1::1/64
	ip -n "$LAB_FABRIC" link set up1 master br0 up gro_max_size 1
	on fabric ethtool -K up1 tx off tso off gro on >/dev/null
	on b1 ip neigh flush dev eth0
}

set_up()	# NETNS PORT IPV4 IPV6: as scripts/lab does
{
	nsenter --net="/run/netns/$1" -- ethtool -K "$2" tx off tso off gro on >/dev/null
	ip -n "$1" link set "$2" up gro_max_size 1
	ip -n "$1" addr add "$3" dev "$2"
	ip -n "$1" addr add "$4" dev "$2" nodad
}

lab_up --backends 2 --second-port
script >"$WORK/nexthop.lua"
daemon_start "$WORK/nexthop.lua"

announce 1
interrupted_by "a backend's announced change of MAC" 1000 new_mac 02:00:00:00:00:a1
check_equal "the daemon sees the new MAC" 02:00:00:00:00:a1 "$(mac_seen)"
announce 0
for table in arp_cache ndisc_cache; do
	ip -n "$LAB_SW" ntable change name $table dev eth1 base_reachable 1000	# not 30 s until it is doubted
done
interrupted_by "a silent change of MAC, neighbours being doubted after 1 s," 6500 new_mac 02:00:00:00:00:a2
check_equal "the daemon sees that MAC too" 02:00:00:00:00:a2 "$(mac_seen)"

before=$(sent_by eth2)
interrupted_by "the route's move to another port" 1000 to_second_port
check_that "packets left by that port" "$(sent_by eth2) > $before + 10"
before=$(sent_by eth1)
interrupted_by "its move back" 1000 to_first_port
check_that "packets left by the first port again" "$(sent_by eth1) > $before + 10"

interrupted_by "the loss of the clients' port, replaced by another after 0.3 s," 3000 replug
check "the datapath is attached to it" on sw sh -c 'ip link show eth0 | grep -q prog/xdp'
interrupted_by "the loss of the backends' port, replaced likewise," 3000 replug_inside
check "the datapath is attached to that as well" on sw sh -c 'ip link show eth1 | grep -q prog/xdp'
check "all that by the same process" kill -0 "$DAEMON"
