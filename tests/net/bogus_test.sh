#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Sources that can't be are dropped with their reason; what only looks like them gets through: address
# detection, discovery, listeners' reports, DHCP.
. "$(dirname "$0")/lib.sh"

lab_up --backends 2

script=$WORK/bogus.lua
cat >"$script" <<-END
	tg.port "eth0"
	tg.service { name = "web", mode = "l2dsr", vip = { "$LAB_VIP4:80", "[$LAB_VIP6]:80", "198.51.100.12:80" },
	  backends = { "10.0.0.11", "10.0.0.12", "2001:db8:1::11", "2001:db8:1::12" } }
	tg.deny:add "192.0.2.66"
END
cat >"$WORK/frames.lua" <<-'END'
	local tg = require "tidegate"
	local mac = ...
	for i = 2, select("#", ...) do
		local p = load("return " .. select(i, ...))()
		p.eth = { dst = mac }
		print(tg.packet(p):hex())
	end
END

answered()	{ on client curl -sf -o /dev/null --connect-timeout 1 -m 2 "http://$1/"; }
reason()	{ tg status --json | jq ".reasons[\"$1\"]"; }
addresses()	{ on client ip -6 address show dev eth0 to "$1" "${@:2}"; }
is_detected()	{ [ -n "$(addresses "$1")" ] && [ -z "$(addresses "$1" tentative)" ]; }
is_duplicate()	{ [ -n "$(addresses "$1" dadfailed)" ]; }
counted()	{ [ "$(reason "$1")" = "$2" ]; }
in_capture()	{ tcpdump -n -r "$WORK/seen.pcap" "$1" 2>/dev/null | wc -l; }
is_captured()	{ [ "$(in_capture "$1")" -ge 1 ]; }

send()		# PACKET…: from the client to the switch, tables as tg.packet takes them
{
	local mac frames
	mac=$(on sw cat /sys/class/net/eth0/address)
	mapfile -t frames < <("$TIDEGATE" lua "$WORK/frames.lua" "$mac" "$@")
	[ ${#frames[@]} -eq $# ] && on client "$ROOT/build/frame" eth0 "${frames[@]}"
}

check_drops()	# REASON PACKET…: each is dropped with it
{
	local before
	before=$(reason "$1")
	check "packets that are $1 are sent" send "${@:2}"
	check "and dropped with that reason" wait_for 5 counted "$1" $((before + $# - 1))
}

on client sysctl -qw net.ipv6.conf.eth0.accept_dad=1 net.ipv6.conf.eth0.dad_transmits=1
daemon_start "$script"
check "a VIP answers" wait_for 5 answered "$LAB_VIP4"
check "and one of IPv6" wait_for 5 answered "[$LAB_VIP6]"
capture sw eth0 "$WORK/seen.pcap"

# --- neighbours ------------------------------------------------------------------------------------

on client ip address add 2001:db8:c::99/64 dev eth0
check "a client detects that an address is its own" wait_for 5 is_detected 2001:db8:c::99
on client ip address add 2001:db8:c::1/64 dev eth0
check "or that it is the switch's" wait_for 5 is_duplicate 2001:db8:c::1
on client ip address del 2001:db8:c::1/64 dev eth0
on client ip neigh flush dev eth0
check "and finds it by ARP" on client ping -n -q -c 1 -W 2 192.0.2.1
check "by neighbour discovery" on client ping -n -q -c 1 -W 2 2001:db8:c::1
local_address=$(on sw ip -o -6 address show dev eth0 scope link | awk '{ sub("/.*", "", $4); print $4; exit }')
check "by its link-local address" on client ping -n -q -c 1 -W 2 "$local_address%eth0"

# --- packets made by hand --------------------------------------------------------------------------

check "packets that only look bogus are sent" send \
	'{ ip = { src = "0.0.0.0", dst = "255.255.255.255" }, udp = { sport = 68, dport = 67 }, payload = 240 }' \
	'{ ip = { src = "0.0.0.0", dst = "224.0.0.1", proto = 2, ttl = 1 }, payload = 8 }' \
	'{ ip = { src = "::", dst = "ff02::16", hop_limit = 1, ext = { { type = "hop", data = "\5\2\0\0\1\0" } } },
		icmp6 = { type = 143, body = ("\0"):rep(44) } }'
check_drops bogus-zero "{ ip = { src = '0.0.0.0', dst = '$LAB_VIP4' }, tcp = { dport = 80 } }" \
	"{ ip = { src = '0.1.2.3', dst = '192.0.2.1' }, udp = { dport = 67 } }" \
	"{ ip = { src = '::', dst = '$LAB_VIP6' }, tcp = { dport = 80 } }"
check_drops bogus-loopback "{ ip = { src = '127.0.0.1', dst = '$LAB_VIP4' }, tcp = { dport = 80 } }" \
	"{ ip = { src = '::1', dst = '2001:db8:c::1' }, udp = { dport = 80 } }"
check_drops bogus-multicast "{ ip = { src = '224.0.0.1', dst = '$LAB_VIP4' }, tcp = { dport = 80 } }" \
	"{ ip = { src = 'ff02::1', dst = '$LAB_VIP6' }, tcp = { dport = 80 } }"
check_drops bogus-broadcast "{ ip = { src = '255.255.255.255', dst = '$LAB_VIP4' }, tcp = { dport = 80 } }"
check_drops bogus-land "{ ip = { src = '$LAB_VIP4', dst = '$LAB_VIP4' }, tcp = { sport = 80, dport = 80 } }" \
	"{ ip = { src = '$LAB_VIP6', dst = '$LAB_VIP6' }, tcp = { sport = 80, dport = 80 } }"
check_drops bogus-vip "{ ip = { src = '$LAB_VIP4', dst = '198.51.100.12' }, tcp = { sport = 80, dport = 80 } }"

check "DHCP reaches the stack" wait_for 5 is_captured 'src 0.0.0.0 and udp dst port 67'
check "so does IGMP" wait_for 5 is_captured 'src 0.0.0.0 and ip proto 2'
check "and a report of listeners" wait_for 5 is_captured 'ip6 src :: and ip6[6] == 0'
captures_end
check_equal "nothing that was dropped is seen there" 0 "$(in_capture \
	'src net 127.0.0.0/8 or src 0.1.2.3 or src net 224.0.0.0/4 or src 255.255.255.255 or ip6 src ::1 or ip6 src ff02::1')"

# --- without services, only lists ------------------------------------------------------------------

sed -i '/tg.service/,/^ *backends/d' "$script"
check "the service goes, a list of IPv4 stays" tg reload
check_drops bogus-loopback "{ ip = { src = '127.0.0.1', dst = '$LAB_VIP4' }, tcp = { dport = 80 } }"
