#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Datagrams larger than the MTU, through VIPs and back, as real hosts cut them and put them together:
# whole, from one backend, with checksums that the receiving kernel found right (it drops others).
. "$(dirname "$0")/lib.sh"

script()
{
	cat <<-'END'
		local tg = require "tidegate"
		tg.port "eth0"
		tg.port "eth1"
		local all = { "10.0.0.11", "10.0.0.12", "2001:db8:1::11", "2001:db8:1::12" }
		tg.service { name = "direct", mode = "l2dsr", backends = all,
			vip = { "198.51.100.10:53/udp", "[2001:db8::10]:53/udp" } }
		tg.service { name = "translated", mode = "nat", vip = { "198.51.100.10:54/udp", "[2001:db8::10]:54/udp" },
			backends = { "10.0.0.11:5353", "10.0.0.12:5353", "[2001:db8:1::11]:5353", "[2001:db8:1::12]:5353" } }
	END
}

# Each answers with its name, how long the line was, and the line.
start_echoes()
{
	local b vip answer
	for b in $LAB_BACKENDS; do
		# shellcheck disable=SC2016
		answer='read -r line; echo "'$b' heard ${#line} $line"'
		for vip in $LAB_VIP4 $LAB_VIP6; do
			in_background on "$b" ncat -u -k -l "$vip" 53 --sh-exec "$answer"
		done
		in_background on "$b" ncat -4 -u -k -l 5353 --sh-exec "$answer"
		in_background on "$b" ncat -6 -u -k -l 5353 --sh-exec "$answer"
	done
}

line()		{ head -c "$1" /dev/zero | tr '\0' "${2:-x}"; }

ask_long()	# ADDRESS PORT BYTES [NCAT-OPTION…]: a datagram of that size, prints the answer
{
	local answer="" out in pid
	coproc ASK { exec nsenter --net="/run/netns/tg-$lab_name-client" -- ncat -u "${@:4}" "$1" "$2" 2>/dev/null; }
	out=${ASK[0]} in=${ASK[1]} pid=$ASK_PID
	line "$3" >"$WORK/line"
	echo >>"$WORK/line"
	cat "$WORK/line" >&"$in"
	read -r -t 2 answer <&"$out" && echo "$answer"
	kill "$pid" 2>/dev/null
	wait "$pid" 2>/dev/null
	[ -n "$answer" ]
}

answer_of()	# ADDRESS PORT BYTES -> what it has to be, of one backend or the other
{
	ask_long "$@" >"$WORK/answer"
	[ "$(cut -c3- "$WORK/answer")" = " heard $3 $(line "$3")" ] && grep -q '^b[12] ' "$WORK/answer"
}

# The first answer of a server tells that it listens.
echoes_answer()
{
	wait_for 5 ask_long "$1" "$2" 10
}

reasons()	{ tg status --json | jq ".reasons[\"$1\"]"; }

go_whole()	# WHEN
{
	local vip bytes
	for vip in $LAB_VIP4 $LAB_VIP6; do
		for bytes in 1600 4000 8000; do
			check "a datagram of $bytes bytes to $vip and its answer go whole, l2dsr$1" answer_of "$vip" 53 $bytes
			check "a datagram of $bytes bytes to $vip and its answer go whole, nat$1" answer_of "$vip" 54 $bytes
		done
	done
}

captured()	# HOST FILTER -> packets of it in the host's capture
{
	tshark -n -r "$WORK/$1.pcap" -o ip.defragment:FALSE -o ipv6.defragment:FALSE -Y "$2" 2>/dev/null | wc -l
}

# --- the test ------------------------------------------------------------------------------------

lab_up --backends 2
start_echoes
script >"$WORK/fragments.lua"
daemon_start "$WORK/fragments.lua"

for vip in $LAB_VIP4 $LAB_VIP6; do
	for port in 53 54; do
		check "port $port of $vip answers" echoes_answer "$vip" $port
	done
done
for host in client b1 b2; do
	capture "$host" eth0 "$WORK/$host.pcap" "ip[6:2] & 0x3fff != 0 or ip6[6] == 44"
done
go_whole ""
captures_end
at_backends=$(($(captured b1 "ip.dst == $LAB_VIP4 || ipv6.dst == $LAB_VIP6 || ip.src == $LAB_CLIENT4 || ipv6.src == $LAB_CLIENT6") + \
	$(captured b2 "ip.dst == $LAB_VIP4 || ipv6.dst == $LAB_VIP6 || ip.src == $LAB_CLIENT4 || ipv6.src == $LAB_CLIENT6")))
check_equal "all $(captured client "ip.src == $LAB_CLIENT4 || ipv6.src == $LAB_CLIENT6") fragments that the client sent reached a backend" \
	"$(captured client "ip.src == $LAB_CLIENT4 || ipv6.src == $LAB_CLIENT6")" $at_backends
check_equal "all answers came from the VIPs, fragment for fragment" \
	"$(captured client "ip.dst == $LAB_CLIENT4 || ipv6.dst == $LAB_CLIENT6")" \
	"$(captured client "ip.src == $LAB_VIP4 || ipv6.src == $LAB_VIP6")"
check_that "and there were some" "at_backends >= 2 * 2 * (2 + 3 + 6)"
check_equal "no fragment lost its first one" "0 0" "$(reasons fragment-lost) $(reasons fragment-tiny)"

check "a large ping to the switch itself is answered" on client ping -c 1 -W 2 -s 4000 192.0.2.1
check "and one to a backend, through the switch" on client ping -c 1 -W 2 -s 4000 10.0.0.11
check "and of IPv6" on client ping -c 1 -W 2 -s 4000 2001:db8:1::11
check "a large datagram to nat's backend itself comes back from there" \
	grep -q '^b1 heard 4000 x' <(ask_long 10.0.0.11 5353 4000)
check "and of IPv6" grep -q '^b1 heard 4000 x' <(ask_long 2001:db8:1::11 5353 4000)

daemon_stop KILL
go_whole ", with the daemon killed"
