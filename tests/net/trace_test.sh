#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# `tidegate trace` against a running daemon: what it says of packets of each kind, that it says what then
# happens, that nobody notices, and what it says to who asks it wrongly.
. "$(dirname "$0")/lib.sh"

script()
{
	cat <<-'END'
		local tg = require "tidegate"
		tg.instance { seed = "the same flows go to the same backends" }
		tg.port "eth0"
		tg.port "eth1"
		tg.service { name = "web", mode = "l2dsr", vip = { "198.51.100.10:80/tcp", "[2001:db8::10]:80/tcp" },
			backends = { "10.0.0.11", "10.0.0.12", "2001:db8:1::11", "2001:db8:1::12" } }
		tg.service { name = "api", mode = "nat", vip = { "198.51.100.10:81/tcp", "[2001:db8::10]:81/tcp" },
			backends = { "10.0.0.11:8080", "[2001:db8:1::11]:8080" } }
		tg.service { name = "gone", mode = "l2dsr", vip = "198.51.100.10:82/tcp",
			backends = { { "10.0.0.12", weight = 0 } } }
		tg.deny:add("203.0.113.0/24", { list = "scanners" })
		tg.deny:add("203.0.113.9", { list = "hand", count = true })
		tg.allow:add("2001:db8:bad::7", { list = "friends" })
	END
}

resolved()	# are all next hops known?
{
	[ "$(tg eval '(function()
		for _, s in pairs(tg.services) do for _, b in ipairs(s:backends()) do
			if b.next_hop.state ~= "resolved" then return "not yet" end
		end end
		return "all" end)()')" = '"all"' ]
}

says()		# SENTENCE PATTERN… -- ARG…: what trace prints has each of these lines
{
	local sentence=$1 patterns=() pattern missing=
	shift
	while [ "$1" != -- ]; do
		patterns+=("$1")
		shift
	done
	shift
	tg trace "$@" >"$WORK/trace.out" 2>&1 || missing="exit code $?"
	for pattern in "${patterns[@]}"; do
		grep -qE -- "$pattern" "$WORK/trace.out" || missing+=" no line $pattern;"
	done
	if [ -z "$missing" ]; then ok "$sentence"; else not_ok "$sentence" "$missing" "$(cat "$WORK/trace.out")"; fi
}

field()		{ jq -r "$1" "$WORK/trace.json"; }
# but for what hosts send of themselves: ARP, neighbour discovery
packets_seen()	{ tg status --json | jq -c '[(.reasons | del(.["icmp"], .["not-ip"])), [.services[] | [.packets, [.backends[] | [.packets, .reply_packets]]]]]'; }

# --- what becomes of a packet ----------------------------------------------------------------------

each_kind_of_packet()
{
	says "a packet from a prefix that is denied" '^  deny .*203\.0\.113\.7 .*on deny list scanners$' '^verdict drop' \
		-- eth0 'tcp 203.0.113.7:40000 > 198.51.100.10:80 S'
	says "from an address on another list" '^  deny .*203\.0\.113\.9 .*on deny list hand, counted by itself$' \
		-- eth0 'tcp 203.0.113.9:40000 > 198.51.100.10:80 S'
	says "from one that is allowed" '^  deny .*2001:db8:bad::7 .*on allow list friends$' '^verdict redirect' \
		-- eth0 'tcp [2001:db8:bad::7]:40000 > [2001:db8::10]:80 S'
	says "from one on no list" '^  deny .*192\.0\.2\.7 .*on no list' '^verdict redirect' \
		-- eth0 'tcp 192.0.2.7:40000 > 198.51.100.10:80 S'
	says "a SYN for an l2dsr service" \
		'^  vips  .*198\.51\.100\.10:80/tcp .*service web: l2dsr' '^  rings .*home 10\.0\.0\.1[12] \(up\)' \
		'^  backends .*by eth1 to' '^  rewrite .*eth\.dst' '^verdict redirect to eth1$' \
		-- eth0 'tcp 192.0.2.7:40000 > 198.51.100.10:80 S'
	says "the same of IPv6" \
		'^  vips .*\[2001:db8::10\]:80/tcp .*service web' '^  rings .*home 2001:db8:1::1[12] \(up\)' \
		'^verdict redirect to eth1$' -- eth0 'tcp [2001:db8:c::7]:40000 > [2001:db8::10]:80 S'
	says "a SYN for a nat service" \
		'service api: nat' '^  rewrite .*ip\.dst .*198\.51\.100\.10 -> 10\.0\.0\.11' \
		'^  rewrite .*tcp\.dport .*81 -> 8080' '^  rewrite .*ip\.ttl .*64 -> 63' '^verdict redirect to eth1$' \
		'^out: tcp 192\.0\.2\.7:40000 > 10\.0\.0\.11:8080 S' -- eth0 'tcp 192.0.2.7:40000 > 198.51.100.10:81 S'
	says "a backend's answer" \
		'^  vips .*no VIP' '^  reverse .*10\.0\.0\.11:8080/tcp .*198\.51\.100\.10' '^  routes .*192\.0\.2\.7' \
		'^  rewrite .*ip\.src .*10\.0\.0\.11 -> 198\.51\.100\.10' '^verdict redirect to eth0$' \
		-- eth1 'tcp 10.0.0.11:8080 > 192.0.2.7:40000 SA'
	says "an answer to the switch itself" '^verdict pass because: local-reply, ' \
		-- eth1 'tcp 10.0.0.11:8080 > 10.0.0.1:40000 SA'
	says "a port that is no VIP's" '^  vips .*no VIP' '^verdict pass because: not-vip, ' \
		-- eth0 'tcp 192.0.2.7:40000 > 198.51.100.10:83 S'
	says "a service without a live backend" '^  rings .*home none' '^verdict drop because: no-backend, ' \
		-- eth0 'tcp 192.0.2.7:40000 > 198.51.100.10:82 S'
	says "a frame that is not IP" '^verdict pass because: not-ip, ' \
		-- eth0 'eth 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff 0x0806 len 28'
	says "a packet behind a VLAN tag, in words of its own" 'vlan 7' 'service web' \
		-- eth0 tcp 192.0.2.7:40000 '>' 198.51.100.10:80 S vlan 7
	says "a frame's bytes" 'service web' -- eth0 --hex \
		"$("$TIDEGATE" lua <(echo 'print((require "tidegate").packet("tcp 192.0.2.7 > 198.51.100.10:80 A"):hex())'))"
}

a_capture()
{
	cat >"$WORK/write.lua" <<-'END'
		local tg = require "tidegate"
		assert(tg.packet.write_pcap(arg and arg[1] or ..., {
			tg.packet "tcp 192.0.2.7:40000 > 198.51.100.10:80 S", tg.packet "tcp 192.0.2.7:40000 > 198.51.100.10:83 S" }))
	END
	"$TIDEGATE" lua "$WORK/write.lua" "$WORK/two.pcap"
	says "each packet of a capture" '^packet 1$' '^verdict redirect to eth1' '^packet 2$' 'not-vip' \
		-- eth0 --pcap "$WORK/two.pcap"
	editcap -F pcapng "$WORK/two.pcap" "$WORK/two.pcapng"
	says "a capture in the newer format" '^packet 2$' 'service web' -- eth0 --pcap "$WORK/two.pcapng"
	editcap -F pcap -C 0:14 -L -T rawip "$WORK/two.pcap" "$WORK/raw.pcap"
	says "a capture of IP packets" '^packet 2$' 'service web' -- eth0 --pcap "$WORK/raw.pcap"
	editcap -F pcap -s 50 "$WORK/two.pcap" "$WORK/cut.pcap"
	says "a capture that cut its packets" '^packet 1 \(cut by the capture' 'service web' -- eth0 --pcap "$WORK/cut.pcap"
	check_says "a file that is none" 3 'unknown file format|truncated' tg trace eth0 --pcap "$0"
	check_says "a file that is not there" 3 'No such file' tg trace eth0 --pcap "$WORK/nothing.pcap"
}

# --- what it says is what happens -------------------------------------------------------------------

the_flow_goes_there()
{
	local port
	for port in 40001 40002 40003 40004 40005 40006; do
		tg trace --json eth0 "tcp $LAB_CLIENT4:$port > $LAB_VIP4:80 S" >"$WORK/trace.json"
		check_equal "the backend that trace names serves port $port" \
			"$(field '.steps[] | select(.table == "rings") | .home' | sed 's/10\.0\.0\.1/b/')" \
			"$(on client curl -s -m 3 --local-port $port "http://$LAB_VIP4/")"
	done
}

nobody_notices()
{
	local before i
	before=$(packets_seen)
	for ((i = 0; i < 20; i++)); do
		tg trace eth0 "tcp 192.0.2.7:$((40000 + i)) > 198.51.100.10:81 S"
		tg trace eth0 "tcp 192.0.2.7:$((40000 + i)) > 10.0.0.11:8080 S"
	done >/dev/null
	check_equal "no counter moves" "$before" "$(packets_seen)"
	says "no flow is entered" '^  reverse .*10\.0\.0\.11:8080' -- eth0 'tcp 192.0.2.7:40000 > 10.0.0.11:8080 S'
	says "not even a direct one, which its answer shows" '^  lines .*no entry' -- eth1 'tcp 10.0.0.11:8080 > 192.0.2.7:40000 SA'
}

# --- asked wrongly -----------------------------------------------------------------------------------

mistakes()
{
	check_says "an unknown port, and which there are" 2 'no port "eth9" \(ports: eth0, eth1\)' \
		tg trace eth9 'tcp 192.0.2.7 > 198.51.100.10:80'
	check_says "a packet that can't be read, and where" 2 'packet: "sctp".*tcp, udp' tg trace eth0 'sctp 192.0.2.7 > 198.51.100.10:80'
	check_says "a wrong address" 2 '192\.0\.2\.300' tg trace eth0 'tcp 192.0.2.300 > 198.51.100.10:80'
	check_says "digits that are none" 2 'hexadecimal' tg trace eth0 --hex 'zz'
	check_says "a frame too short" 2 '14 bytes at least, this one 5' tg trace eth0 --hex 0102030405
	check_says "no packet" 2 'one packet is needed' tg trace eth0
	check_says "no port" 2 'a port is needed' tg trace
	check_says "a device that is gone" 3 'no such device' gone_device
}

gone_device()
{
	ip -n "tg-$lab_name-sw" link set eth1 name eth7
	tg trace eth1 'tcp 192.0.2.7 > 198.51.100.10:80'
	local code=$?
	ip -n "tg-$lab_name-sw" link set eth7 name eth1
	return $code
}

lab_up --backends 2
script >"$WORK/trace.lua"
daemon_start "$WORK/trace.lua"
on sw ping -c 1 "$LAB_CLIENT4" >/dev/null	# a route to the client, for nat's replies
check "next hops are known" wait_for 10 resolved
each_kind_of_packet
a_capture
nobody_notices
the_flow_goes_there
mistakes
daemon_stop
check_says "no daemon" 3 'no daemon|not running|No such' tg trace eth0 'tcp 192.0.2.7 > 198.51.100.10:80'
