#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Mode nat through routers: the backends are behind gateways, and so are some clients. Gateways die
# and routes move under traffic; requests follow, without a restart of the daemon.
. "$(dirname "$0")/lib.sh"

far4=203.0.113.7 far6=2001:db8:f::7	# a client behind a gateway, which is the other client's host

script()
{
	cat <<-END
		local tg = require "tidegate"
		tg.port "eth0"
		tg.port "eth1"
		tg.service { name = "web", mode = "nat", vip = { "$LAB_VIP4:80/tcp", "[$LAB_VIP6]:80/tcp" },
			backends = { "10.0.1.11:8080", "[2001:db8:2::11]:8080" } }
		tg.service { name = "echo", mode = "nat", vip = { "$LAB_VIP4:53/udp", "[$LAB_VIP6]:53/udp" },
			backends = { "10.0.1.12:5353", "[2001:db8:2::12]:5353" } }
	END
}

far()		{ on client curl -s -m 2 --interface "$1" "$2"; }
hops()		{ tshark -n -r "$WORK/b1.pcap" -Y "$1" -T fields -e "$2" 2>/dev/null | sort -u | xargs; }

received_by()	# HOST DEVICE
{
	ip -n "tg-$lab_name-$1" -j -s link show "$2" | jq '.[0].stats64.rx.packets'
}

by_gateway()	# 1 or 2: both ways, as a routing daemon on each side would set it
{
	ip -n "$LAB_SW" route replace 10.0.1.0/24 via "10.0.0.25$1"
	ip -n "$LAB_SW" route replace 2001:db8:2::/64 via "2001:db8:1::25$1"
	ip -n "tg-$lab_name-b1" route replace default via "10.0.1.$1"
	ip -n "tg-$lab_name-b1" -6 route replace default via "2001:db8:2::$1"
}

gateway_dies()	# the routes are moved as soon as somebody has noticed
{
	ip -n "$LAB_FABRIC" link set gw1 down
	sleep 0.5
	by_gateway 2
}

gateway_returns()
{
	ip -n "$LAB_FABRIC" link set gw1 up
	by_gateway 1
}

second_routes()	# of a worse metric, for the loss of the first
{
	ip -n "$LAB_SW" route add 10.0.1.0/24 via 10.0.0.252 metric 2000
	ip -n "$LAB_SW" route add 2001:db8:2::/64 via 2001:db8:1::252 metric 2000
}

first_routes_go()
{
	ip -n "$LAB_SW" route del 10.0.1.0/24 via 10.0.0.251
	ip -n "$LAB_SW" route del 2001:db8:2::/64 via 2001:db8:1::251
}

far_client_by()	# ADDRESS ADDRESS: of the client's gateway
{
	ip -n "$LAB_SW" route replace 203.0.113.0/24 via "$1"
	ip -n "$LAB_SW" route replace 2001:db8:f::/64 via "$2"
}

second_way_to_client()	# mv0, with a MAC and addresses of its own
{
	on client sysctl -qw net.ipv4.conf.all.arp_ignore=1
	ip -n "$LAB_CLIENT" link add mv0 link eth0 type macvlan mode bridge
	ip -n "$LAB_CLIENT" link set mv0 up
	ip -n "$LAB_CLIENT" addr add 192.0.2.8/24 dev mv0
	ip -n "$LAB_CLIENT" addr add 2001:db8:c::8/64 dev mv0 nodad
}

lab_up --backends 2 --routers
script >"$WORK/gateway.lua"
pulse_urls=("http://$LAB_VIP4/" "http://[$LAB_VIP6]/")
ip -n "$LAB_CLIENT" addr add $far4/32 dev lo
ip -n "$LAB_CLIENT" addr add $far6/128 dev lo nodad
for family in 4 6; do
	# shellcheck disable=SC2016
	in_background on b2 ncat "-$family" -u -k -l 5353 --sh-exec 'read -r line; echo "b2 heard $line"'
done
daemon_start "$WORK/gateway.lua"
far_client_by 192.0.2.7 2001:db8:c::7

capture b1 eth0 "$WORK/b1.pcap" tcp port 8080
capture client eth0 "$WORK/client.pcap" tcp port 80 or udp port 53
check_equal "a backend behind a gateway answers over IPv4" b1 "$(on client curl -s -m 2 "http://$LAB_VIP4/")"
check_equal "and over IPv6" b1 "$(on client curl -s -m 2 "http://[$LAB_VIP6]/")"
check_equal "datagrams go there and back" "b2 heard you b2 heard you" \
	"$(ask client "$LAB_VIP4" 53) $(ask client "$LAB_VIP6" 53)"
check_equal "a client behind a gateway is answered over IPv4" "$far4 8080" "$(far $far4 "http://$LAB_VIP4/who" | cut -d' ' -f1,4)"
check_equal "and over IPv6" "$far6 8080" "$(far $far6 "http://[$LAB_VIP6]/who" | cut -d' ' -f1,4)"
captures_end
for host in b1 client; do
	read -r packets wrong < <(judge "$WORK/$host.pcap")
	check_equal "tshark finds all of $packets checksums right on $host" 0 "$wrong"
	check_that "and there were packets to judge on $host" "packets > 20"
done
check_equal "two hops were taken on the way there, the switch's and the gateway's" "62 62" \
	"$(hops "ip.dst == 10.0.1.11" ip.ttl) $(hops "ipv6.dst == 2001:db8:2::11" ipv6.hlim)"

before=$(received_by gw2 eth0)
interrupted_by "the death of a gateway, routes being moved after 0.5 s," 1500 gateway_dies
check_that "packets go by the other gateway" "$(received_by gw2 eth0) > $before + 10"
before=$(received_by gw1 eth0)
interrupted_by "its return" 1000 gateway_returns
check_that "packets go by it again" "$(received_by gw1 eth0) > $before + 10"

second_routes
before=$(received_by gw2 eth0)
interrupted_by "the loss of the better of two routes" 1000 first_routes_go
check_that "packets go by the worse" "$(received_by gw2 eth0) > $before + 10"

second_way_to_client
far_client_by 192.0.2.8 2001:db8:c::8
before=$(received_by client mv0)
check "a client whose gateway changed is answered over IPv4" wait_for 2 far $far4 "http://$LAB_VIP4/"
check "and over IPv6" wait_for 2 far $far6 "http://[$LAB_VIP6]/"
check_that "by the new gateway" "$(received_by client mv0) >= $before + 8"
check "all that by the same process" kill -0 "$DAEMON"
