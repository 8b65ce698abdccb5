#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Mode l2dsr with real connections, the VIPs on the backends' lo: whole files, packets as the client
# sent them, backends that die under load, that are drained, that come back, and what happens
# without any.
. "$(dirname "$0")/lib.sh"

detect_ms=600		# fall × interval + timeout, of the script below
margin_ms=400

script()
{
	cat <<-'END'
		local tg = require "tidegate"
		tg.instance { seed = "the same flows go to the same backends" }
		tg.port "eth0"
		local app = tg.pool {
			name = "app", check = { "http", path = "/healthz", interval = 0.2, timeout = 0.2, rise = 1, fall = 2 },
			backends = { "10.0.0.11", "10.0.0.12", "10.0.0.13", "10.0.0.14",
				"2001:db8:1::11", "2001:db8:1::12", "2001:db8:1::13", "2001:db8:1::14" },
		}
		local check = { "tcp", interval = 0.2, timeout = 0.2, rise = 1, fall = 2 }
		tg.service { name = "web", mode = "l2dsr", backends = app, vip = {
			"198.51.100.10:80/tcp", "198.51.100.12:80/tcp", "[2001:db8::10]:80/tcp", "[2001:db8::12]:80/tcp" } }
		tg.service { name = "dns", mode = "l2dsr", vip = { "198.51.100.10:53/udp", "[2001:db8::10]:53/udp" },
			backends = { "10.0.0.11", "10.0.0.12", "2001:db8:1::11", "2001:db8:1::12" } }
		tg.service { name = "drops", mode = "l2dsr", vip = "198.51.100.20:80/tcp", check = check,
			backends = { "10.0.0.13", "10.0.0.14" } }
		tg.service { name = "passes", mode = "l2dsr", vip = "198.51.100.21:80/tcp", check = check,
			backends = { "10.0.0.13" }, fail = "pass" }
		tg.service { name = "spares", mode = "l2dsr", vip = "198.51.100.22:80/tcp", check = check,
			backends = { "10.0.0.13" }, backup = { "10.0.0.12" }, fail = "backup" }
		tg.service { name = "speed", mode = "l2dsr", vip = { "198.51.100.10:5201/tcp", "[2001:db8::10]:5201/tcp" },
			backends = { "10.0.0.12", "2001:db8:1::12" } }
	END
}

fetch()		{ on client curl -s -m 3 "$@"; }
sum()		{ sha256sum | cut -d' ' -f1; }
bracket()	{ case $1 in *:*) echo "[$1]" ;; *) echo "$1" ;; esac; }
service()	{ tg eval "tg.services.web:$1" >/dev/null; }

answers()	# ADDRESS -> the names of those that answered forty new connections
{
	fetch -Z --parallel-max 8 -H 'Connection: close' "http://$(bracket "$1")/?[1-40]" 2>/dev/null | sort -u | xargs
}

port_to()	# BACKEND FAMILY -> a port of the client whose flow the daemon gives to that backend
{
	local source=$LAB_CLIENT4
	[ "$2" = 4 ] || source="[$LAB_CLIENT6]"
	tg eval "(function()
		for port = 2${2}000, 2${2}999 do
			if tg.services.web:lookup('$source:' .. port):find '1${1#b}\$' then return port end
		end
	end)()"
}

# --- the lab's backends ----------------------------------------------------------------------------

more_vips()	# on each backend's lo, as scripts/lab did for the first ones
{
	local b vip
	for b in $LAB_BACKENDS; do
		for vip in 198.51.100.12 198.51.100.20 198.51.100.21 198.51.100.22; do
			echo "addr add $vip/32 dev lo"
		done | ip -n "tg-$lab_name-$b" -batch -
		ip -n "tg-$lab_name-$b" addr add 2001:db8::12/128 dev lo nodad
	done
}

name_servers()
{
	local b vip
	for b in b1 b2; do
		for vip in $LAB_VIP4 $LAB_VIP6; do
			in_background on "$b" ncat -u -k -l "$vip" 53 --sh-exec "read -r line; echo $b heard \$line"
		done
	done
}

# --- what has to hold ------------------------------------------------------------------------------

all_vips_answer()
{
	local vip
	for vip in $LAB_VIP4 198.51.100.12 $LAB_VIP6 2001:db8::12; do
		check_equal "all backends answer for $vip" "$LAB_BACKENDS" "$(answers "$vip")"
	done
	check_equal "another service has its own backends" "b3 b4" "$(answers 198.51.100.20)"
	check_equal "a backup does not serve beside the others" b3 "$(answers 198.51.100.22)"
	for vip in $LAB_VIP4 $LAB_VIP6; do
		check "a datagram to $vip is answered, from $vip" grep -Eq '^b[12] heard you$' <(ask client "$vip" 53)
		check_equal "100 MB come whole through $vip" "$(sum <"$LAB_DIR/files/bulk")" \
			"$(fetch -m 30 "http://$(bracket "$vip")/files/bulk" | sum)"
	done
}

packets_are_as_sent()
{
	local b packets wrong
	for b in $LAB_BACKENDS; do
		capture "$b" eth0 "$WORK/$b.pcap" "dst $LAB_VIP4 or dst $LAB_VIP6"
	done
	answers "$LAB_VIP4" >/dev/null
	answers "$LAB_VIP6" >/dev/null
	captures_end
	for b in $LAB_BACKENDS; do
		read -r packets wrong < <(judge "$WORK/$b.pcap")
		check_equal "tshark finds all of $packets checksums right on $b" 0 "$wrong"
		check_that "and there were packets to judge on $b" "$packets > 20"
		check_equal "to the VIP, from the client, the TTL unchanged, on $b" \
			"$LAB_CLIENT6 $LAB_VIP6 64 $LAB_CLIENT4 $LAB_VIP4 64" "$(headers "$WORK/$b.pcap")"
	done
}

headers()	# FILE -> source, destination and TTL of its packets, each once
{
	tshark -n -r "$1" -T fields -E separator=' ' -e ip.src -e ip.dst -e ip.ttl -e ipv6.src -e ipv6.dst -e ipv6.hlim 2>/dev/null |
		sort -u | xargs
}

slow()		# BACKEND FAMILY: 40 MB in 5 seconds; prints "BACKEND BYTES"
{
	local vip=$LAB_VIP4
	[ "$2" = 4 ] || vip="[$LAB_VIP6]"
	fetch -m 20 --limit-rate 8M -o /dev/null --local-port "$(port_to "$1" "$2")" \
		-w '%header{x-backend} %{size_download}\n' "http://$vip/files/slow"
}

one_dies()	# while each serves long transfers
{
	local b family pids=() killed took
	for b in $LAB_BACKENDS; do
		for family in 4 6; do
			slow "$b" $family >"$WORK/slow.$b.$family" &
			pids+=($!)
		done
	done
	sleep 1
	killed=$(milliseconds)
	backend_kill b2
	check "a killed backend is found dead" wait_for 5 in_state web down 2
	took=$(($(milliseconds) - killed))
	echo "   $took ms after it was killed"
	check_that "within fall × interval + timeout, and $margin_ms ms for asking" "$took <= $detect_ms + $margin_ms"
	check_equal "new connections go to the others" "b1 b3 b4" "$(answers "$LAB_VIP4")"
	check_equal "over IPv6 as well" "b1 b3 b4" "$(answers "$LAB_VIP6")"
	backend_start b2
	check "it is found alive again" wait_for 3 in_state web up 8
	check_equal "and serves again" "$LAB_BACKENDS" "$(answers "$LAB_VIP4")"
	check_equal "over IPv6 too" "$LAB_BACKENDS" "$(answers "$LAB_VIP6")"
	wait "${pids[@]}"
	for b in b1 b3 b4; do
		check_equal "transfers from $b went on all the while" "$b 40000000 $b 40000000" "$(cat "$WORK/slow.$b".[46] | xargs)"
	done
	check_that "those from b2 broke" "$(awk '{ n += $2 } END { print n + 0 }' "$WORK"/slow.b2.[46]) < 80000000"
}

operators_wishes()
{
	local wish
	for wish in 'drain("10.0.0.12")' 'admin("10.0.0.12", "maint")' 'weight("10.0.0.12", 0)'; do
		service "$wish"
		check_equal "after $wish it gets no new connections" "b1 b3 b4" "$(answers "$LAB_VIP4")"
		check_equal "but over IPv6, where it is another backend" "$LAB_BACKENDS" "$(answers "$LAB_VIP6")"
		service 'admin("10.0.0.12", "ready")'
		service 'weight("10.0.0.12", 1)'
		check_equal "when that is taken back, it does" "$LAB_BACKENDS" "$(answers "$LAB_VIP4")"
	done
}

none_is_left()
{
	ip -n "$LAB_SW" route add 198.51.100.21 via 10.0.0.14	# where the stack sends what XDP passes
	check_equal "with a live backend nothing is passed to the stack" b3 "$(answers 198.51.100.21)"
	backend_kill b3
	check "the only backend is found dead" wait_for 3 in_state passes down 1
	check "by the others too" wait_for 1 in_state spares down 1
	check_equal 'fail = "pass": the stack gets the packets' b4 "$(answers 198.51.100.21)"
	check_equal 'fail = "backup": the backup serves' b2 "$(answers 198.51.100.22)"
	check_equal "while one of two lives, it serves" b4 "$(answers 198.51.100.20)"
	backend_kill b4
	check "both are found dead" wait_for 3 in_state drops down 2
	check_fails 'fail = "drop": no answer at all' 28 on client curl -s -m 0.5 http://198.51.100.20/
	check "which is counted" grep -Eq '^reason no-backend: [1-9]' <(tg status)
	backend_start b3
	check "one is found alive" wait_for 3 in_state drops up 1
	check_equal "and serves again" b3 "$(answers 198.51.100.20)"
	check_equal "instead of the stack" b3 "$(answers 198.51.100.21)"
	check_equal "and of the backup" b3 "$(answers 198.51.100.22)"
}

script >"$WORK/l2dsr.lua"
lab_up --backends 4
more_vips
name_servers
in_background on b2 iperf3 -s >/dev/null 2>&1
head -c 100000000 /dev/urandom >"$LAB_DIR/files/bulk"
head -c 40000000 "$LAB_DIR/files/bulk" >"$LAB_DIR/files/slow"
daemon_start "$WORK/l2dsr.lua"
check "all backends are up" wait_for 5 in_state web up 8
all_vips_answer
packets_are_as_sent
iperf_runs 4 "$LAB_VIP4"
iperf_runs 6 "$LAB_VIP6"
one_dies
operators_wishes
none_is_left
