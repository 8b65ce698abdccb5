#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# QUIC by connection ID, with clients that move to other ports while the ring changes: in l2dsr and in
# nat, IPv4 and IPv6. Both ends are tests/helpers/quic_peer.lua.
. "$(dirname "$0")/lib.sh"

nat_vip=198.51.100.30

script()	# WEIGHT-OF-b1 EXTRA-BACKEND
{
	cat <<-END
		tg.port "eth0"
		tg.port "eth1"
		local check = { "tcp", port = 80, interval = 0.2, timeout = 0.2, rise = 1, fall = 2 }
		local servers = { { "10.0.0.11", weight = $1 }, { "10.0.0.12", quic_id = 4711 }, "10.0.0.13", $2
		  { "2001:db8:1::11", weight = $1 }, { "2001:db8:1::12", quic_id = 4711 }, { "2001:db8:1::13", quic_id = 13 } }
		tg.service { name = "h3", mode = "l2dsr", vip = { "$LAB_VIP4:443/udp", "[$LAB_VIP6]:443/udp" },
		  quic = true, check = check, backends = servers }
		tg.service { name = "plain", mode = "l2dsr", vip = { "$LAB_VIP4:444/udp", "[$LAB_VIP6]:444/udp" },
		  check = check, backends = servers }
		tg.service { name = "nat", mode = "nat", vip = "$nat_vip:443/udp", quic = { offset = 1, length = 2 },
		  backends = { { "10.0.0.11:4433", weight = $1 }, { "10.0.0.12:4433", quic_id = 4711 }, "10.0.0.13:4433" } }
	END
}

peer()		{ on "$1" "$TIDEGATE" lua tests/helpers/quic_peer.lua "${@:2}"; }

server_id()	# BACKEND FAMILY
{
	case $1-$2 in
	b1-4) echo 11 ;; b2-*) echo 4711 ;; b1-6) echo 17 ;; b3-*) echo 13 ;; b4-*) echo 14 ;;
	esac
}

start_servers()
{
	local b port
	for b in $LAB_BACKENDS; do
		for port in 443 444; do
			in_background peer "$b" serve "$LAB_VIP4" $port "$b" "$(server_id "$b" 4)"
			in_background peer "$b" serve "$LAB_VIP6" $port "$b" "$(server_id "$b" 6)"
		done
		in_background peer "$b" serve 0.0.0.0 4433 "$b" "$(server_id "$b" 4)"
	done
}

servers_answer()
{
	local b
	for b in $LAB_BACKENDS; do
		on "$b" ss -Hlun | awk '{ print $4 }' | grep -cE ':(443|444|4433)$' | grep -qx 5 || return 1
	done
}

begin()		# NAME VIP PORT: forty connections to it, in $WORK/NAME
{
	# shellcheck disable=SC2046
	peer client begin "$2" "$3" $(seq 20000 20039) >"$WORK/$1"
}

moved()		# NAME VIP PORT BY -> how many of its connections were answered by another than before, or by none
{
	peer client move "$2" "$3" "$4" <"$WORK/$1" >"$WORK/$1.moved"
	paste "$WORK/$1" "$WORK/$1.moved" | awk '$2 != $5' | wc -l
}

names()		{ awk '{ print $2 }' "$1" | sort -u | xargs; }

# VIPs by name: l2dsr's, nat's
vips()		{ printf 'h3-4 %s\nh3-6 %s\nnat %s\n' "$LAB_VIP4" "$LAB_VIP6" "$nat_vip"; }

connections_begin()
{
	local name vip
	while read -r name vip; do
		begin "$name" "$vip" 443
		check_equal "connections to $name reach every backend" "b1 b2 b3" "$(names "$WORK/$name")"
	done < <(vips)
	begin plain "$LAB_VIP4" 444
}

all_stay()	# SENTENCE BY
{
	local name vip
	while read -r name vip; do
		check_equal "$1, $name" 0 "$(moved "$name" "$vip" 443 "$2")"
	done < <(vips)
}

reload_with()	{ script "$@" >"$WORK/quic.lua" && tg reload >/dev/null; }

ring_changes()
{
	check "another weight is put in force" reload_with 9 ""
	all_stay "clients that move while the ring changes stay on their server" 2000
	check "a backend joins" reload_with 1 '{ "10.0.0.14", quic_id = 14 },'
	check "and another drains" tg eval 'tg.services.h3:drain("10.0.0.12") and tg.services.h3:drain("2001:db8:1::12")'
	all_stay "those of a backend that drains stay, too" 3000
	check "it is ready again" tg eval 'tg.services.h3:admin("10.0.0.12", "ready") and
		tg.services.h3:admin("2001:db8:1::12", "ready")'
}

daemon_comes_back()
{
	daemon_stop KILL
	all_stay "without a daemon all stay" 4000
	daemon_start "$WORK/quic.lua"
	check "the next daemon has nothing to change" tg check "$WORK/quic.lua"
	all_stay "and with the next one" 5000
}

server_dies()
{
	backend_kill b1
	check "a backend whose check fails is down" wait_for 5 in_state h3 down 2
	peer client move "$LAB_VIP4" 443 6000 <"$WORK/h3-4" >"$WORK/after"
	check_equal "its connections are answered by others" "b2 b3 b4" "$(names "$WORK/after")"
	check_equal "and those of the others stay" 0 \
		"$(paste "$WORK/h3-4" "$WORK/after" | awk '$2 != "b1" && $2 != $5' | wc -l)"
	backend_start b1
	check "it comes back" wait_for 5 in_state h3 down 0
	all_stay "and has its connections again" 7000
}

lab_up --backends 4
cd "$ROOT" || exit 1
start_servers
check "the servers listen" wait_for 10 servers_answer
script 1 "" >"$WORK/quic.lua"
daemon_start "$WORK/quic.lua"
check "all backends are up" wait_for 5 in_state h3 up 6
check "status shows server IDs" grep -q "10.0.0.12 .* quic id 4711" <(tg status)
check_equal "backends() too: an address's last bytes, if none is given" 11 "$(tg eval 'tg.services.h3:backends()[1].quic_id')"
connections_begin
all_stay "clients that move to other ports stay on their server" 1000
check_that "without quic some don't" "$(moved plain "$LAB_VIP4" 444 1000) > 10"
ring_changes
daemon_comes_back
server_dies
