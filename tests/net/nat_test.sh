#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Mode nat with real connections: through the VIP to another port and back, whole files both ways,
# right checksums, and everything else that passes the switch left as it was.
. "$(dirname "$0")/lib.sh"

switch4=192.0.2.1 switch6=2001:db8:c::1
sum_of_bulk=

script()
{
	cat <<-'END'
		local tg = require "tidegate"
		tg.instance { seed = "the same flows go to the same backends" }
		tg.port "eth0"
		tg.port "eth1"
		local function at(port, last)
			local list = {}
			for i = 11, last or 13 do
				list[#list + 1] = ("10.0.0.%d:%d"):format(i, port)
				list[#list + 1] = ("[2001:db8:1::%d]:%d"):format(i, port)
			end
			return list
		end
		local check = { "tcp", interval = 0.2, timeout = 0.2, rise = 1, fall = 2 }
		tg.service { name = "web", mode = "nat", check = check, backends = at(8080),
			vip = { "198.51.100.10:80/tcp", "[2001:db8::10]:80/tcp" } }
		tg.service { name = "sink", mode = "nat", check = check, backends = at(9000),
			vip = { "198.51.100.10:99/tcp", "[2001:db8::10]:99/tcp" } }
		tg.service { name = "echo", mode = "nat", backends = at(5353),
			vip = { "198.51.100.10:53/udp", "[2001:db8::10]:53/udp" } }
		tg.service { name = "speed", mode = "nat", backends = { "10.0.0.12:5202", "[2001:db8:1::12]:5202" },
			vip = { "198.51.100.10:5201/tcp", "[2001:db8::10]:5201/tcp" } }
		tg.service { name = "astray", mode = "nat", backends = { "10.0.0.13:80" }, vip = "198.51.100.10:81/tcp" }
	END
}

fetch()		{ on client curl -s -m 3 "$@"; }
sum()		{ sha256sum | cut -d' ' -f1; }
bracket()	{ case $1 in *:*) echo "[$1]" ;; *) echo "$1" ;; esac; }

listen()	# HOST ADDRESS PORT COMMAND…: a TCP server that runs the command for each client
{
	in_background on "$1" ncat -k -l "$2" "$3" --sh-exec "${*:4}"
}

start_sinks_and_echoes()
{
	local b family
	for b in $LAB_BACKENDS; do
		for family in 4 6; do
			in_background on "$b" ncat "-$family" -k -l 9000 --sh-exec 'head -c 100000000 | sha256sum'
			in_background on "$b" ncat "-$family" -u -k -l 5353 --sh-exec "read -r line; echo $b heard \$line"
		done
	done
}

answers()	# URL COUNT -> the names of those that answered, each once
{
	local i
	for ((i = 0; i < $2; i++)); do
		fetch "$1"
	done | sort -u | xargs
}

# --- through the VIP -----------------------------------------------------------------------------

web_answers()
{
	local vip
	for vip in $LAB_VIP4 $LAB_VIP6; do
		check_equal "all backends answer for $vip" "$LAB_BACKENDS" "$(answers "http://$(bracket "$vip")/" 24)"
		check "a backend sees the client's address and its own port, via $vip" \
			grep -Eq "^($LAB_CLIENT4 [0-9]+ 10.0.0.1[123]|$LAB_CLIENT6 [0-9]+ 2001:db8:1::1[123]) 8080 b[123]$" \
			<(fetch "http://$(bracket "$vip")/who")
	done
}

files_go_whole()
{
	local vip
	for vip in $LAB_VIP4 $LAB_VIP6; do
		check_equal "100 MB come whole through $vip" "$sum_of_bulk" \
			"$(fetch -m 30 "http://$(bracket "$vip")/files/bulk" | sum)"
		check_equal "100 MB go whole through $vip" "$sum_of_bulk" \
			"$(on client timeout 30 ncat --no-shutdown "$vip" 99 <"$LAB_DIR/files/bulk" | cut -d' ' -f1)"
	done
}

datagrams_are_answered()
{
	local vip
	for vip in $LAB_VIP4 $LAB_VIP6; do
		check "a datagram to $vip is answered" grep -Eq '^b[123] heard you$' <(ask client "$vip" 53)
	done
}

packets_are_right()
{
	local vip host
	for host in client b1 b2 b3; do
		capture "$host" eth0 "$WORK/$host.pcap" "tcp port 80 or tcp port 8080 or udp port 53 or udp port 5353"
	done
	for vip in $LAB_VIP4 $LAB_VIP6; do
		fetch "http://$(bracket "$vip")/files/small" >"$WORK/small"
		answers "http://$(bracket "$vip")/" 12 >/dev/null
		ask client "$vip" 53 >/dev/null
	done
	captures_end
	for host in client b1 b2 b3; do
		read -r packets wrong < <(judge "$WORK/$host.pcap")
		check_equal "tshark finds all of $packets checksums right on $host" 0 "$wrong"
		check_that "and there were packets to judge on $host" "$packets > 20"
	done
	check_equal "a router's hop is taken on the way there" "63 63" \
		"$(ttls "$WORK/b1.pcap" "ip.src == $LAB_CLIENT4" ip.ttl) $(ttls "$WORK/b1.pcap" "ipv6.src == $LAB_CLIENT6" ipv6.hlim)"
	check_equal "and on the way back" "63 63" \
		"$(ttls "$WORK/client.pcap" "ip.src == $LAB_VIP4" ip.ttl) $(ttls "$WORK/client.pcap" "ipv6.src == $LAB_VIP6" ipv6.hlim)"
}

ttls()		{ tshark -n -r "$1" -Y "$2" -T fields -e "$3" 2>/dev/null | sort -u | xargs; }

# --- beside the VIP ------------------------------------------------------------------------------


direct_is_direct()
{
	local addr port vip
	for vip in $LAB_VIP4 $LAB_VIP6; do
		addr=10.0.0.11
		[ "$vip" = "$LAB_VIP4" ] || addr=2001:db8:1::11
		check_equal "$addr answers as itself on another port" b1 "$(fetch "http://$(bracket "$addr")/")"
		check_equal "$addr answers as itself on the endpoint that serves $vip" b1 "$(fetch "http://$(bracket "$addr"):8080/")"
		port=$(port_to b1 "$vip")
		check_equal "so it does while a transfer from another port through $vip goes on" "b1 300000" "$(both_ways "$addr" "$vip")"
		check_equal "from one client port: through $vip, directly, and through $vip again" "b1 b1 b1" \
			"$(one_port "$port" "$vip" 80) $(one_port "$port" "$addr" 8080) $(one_port "$port" "$vip" 80)"
		check_equal "datagrams from one client port as well" "b1 b1 b1" "$(one_udp_port "$vip" "$addr" | cut -c1-2 | xargs)"
	done
}

both_ways()	# ADDRESS VIP -> who answered directly meanwhile, and how much came through the VIP
{
	fetch --limit-rate 300k "http://$(bracket "$2")/files/small" | wc -c >"$WORK/both" &
	sleep 0.3
	echo "$(fetch "http://$(bracket "$1"):8080/") $(wait $! && cat "$WORK/both")"
}

port_to()	# BACKEND VIP [PROTO] -> a port of the client whose flow the daemon gives to that backend
{
	local source=$LAB_CLIENT4 service=web
	[ "$2" = "$LAB_VIP4" ] || source="[$LAB_CLIENT6]"
	[ "${3-}" != udp ] || service="echo"
	tg eval "(function()
		for port = 21000, 22000 do
			local to = tg.services.$service:lookup('$source:' .. port)
			if to:find '1${1#b}%]?:' then return port end
		end
	end)()"
}

one_port()	# PORT ADDRESS PORT: a request from that port of the client's
{
	on client curl -s -m 4 --local-port "$1" "http://$(bracket "$2"):$3/"
}

one_udp_port()	# VIP ADDRESS
{
	local port
	port=$(port_to b1 "$1" udp)
	ask client "$1" 53 -p "$port"
	ask client "$2" 5353 -p "$port"
	ask client "$1" 53 -p "$port"
}

others_are_left_alone()
{
	local addr
	for addr in 10.0.0.11 2001:db8:1::11 "$LAB_VIP4" "$LAB_VIP6" $switch4 $switch6; do
		check "ping reaches $addr" on client ping -q -c 2 -i 0.1 -W 1 "$addr"
	done
	for addr in $switch4 $switch6 "$LAB_VIP4" "$LAB_VIP6"; do
		check_equal "the switch's own service on $addr answers" switch "$(on client timeout 2 ncat --no-shutdown "$addr" 22 </dev/null)"
	done
	check_equal "the switch reaches a backend's endpoint itself" "b2 b3" \
		"$(on sw curl -s -m 2 http://10.0.0.12:8080/) $(on sw curl -s -m 2 'http://[2001:db8:1::13]:8080/')"
}

lost_replies_are_reported()
{
	check "status is silent while replies return" test -z "$(tg status | grep 'replies = 0')"
	ip -n "tg-$lab_name-b3" route add blackhole "$LAB_CLIENT4"	# its answers take another way
	fetch -m 0.5 "http://$LAB_VIP4:81/"
	check_equal "status says whose requests get no replies" 1 "$(tg status | grep -A2 '^service astray' | grep -c 'requests > 0, replies = 0')"
	check_equal "and of no other service" 1 "$(tg status | grep -c 'requests > 0, replies = 0')"
}

script >"$WORK/nat.lua"
lab_up --backends 3
for vip in "$LAB_VIP4/32" "$LAB_VIP6/128"; do
	ip -n "$LAB_SW" addr add "$vip" dev lo	# as on a router that owns it: other ports and ping reach the switch
done
head -c 100000000 /dev/urandom >"$LAB_DIR/files/bulk"
head -c 300000 "$LAB_DIR/files/bulk" >"$LAB_DIR/files/small"
for host in client $LAB_BACKENDS; do
	on "$host" sysctl -qw net.ipv4.tcp_max_tw_buckets=0	# a port is free again at once
done
sum_of_bulk=$(sum <"$LAB_DIR/files/bulk")
start_sinks_and_echoes
in_background on b2 iperf3 -s -p 5202 >/dev/null 2>&1
in_background on sw ncat -k -l 22 --sh-exec 'echo switch'
daemon_start "$WORK/nat.lua"
check "the backends are up, so the switch hears its own probes' answers" wait_for 5 in_state web up 6
sleep 1
check "and stay so" in_state web up 6
web_answers
files_go_whole
datagrams_are_answered
packets_are_right
iperf_runs 4 "$LAB_VIP4"
iperf_runs 6 "$LAB_VIP6"
direct_is_direct
others_are_left_alone
lost_replies_are_reported
