#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Backends behind a bridge of the switch, by which native XDP can't send: in nat the kernel forwards, else it is
# refused: the packets are dropped for a reason, and the log says why. By the port below all is well.
. "$(dirname "$0")/lib.sh"

vip4=198.51.100.11 vip6=2001:db8::11	# of the service in mode nat; l2dsr has the lab's

script()
{
	cat <<-END
		local tg = require "tidegate"
		for _, name in ipairs { "eth0", "eth1" } do tg.port(name) end
		tg.service { name = "direct", mode = "l2dsr", vip = { "$LAB_VIP4:80/tcp", "[$LAB_VIP6]:80/tcp" },
			backends = { "10.0.0.11", "2001:db8:1::11" } }
		tg.service { name = "translated", mode = "nat", vip = { "$vip4:80/tcp", "[$vip6]:80/tcp" },
			backends = { "10.0.0.11:8080", "[2001:db8:1::11]:8080" } }
	END
}

addresses()	# ACTION DEVICE
{
	ip -n "$LAB_SW" addr "$1" 10.0.0.1/24 dev "$2"
	ip -n "$LAB_SW" addr "$1" 2001:db8:1::1/64 dev "$2" nodad
}

to_bridge()
{
	ip -n "$LAB_SW" link add br0 type bridge mcast_snooping 0
	ip -n "$LAB_SW" link set br0 up
	addresses del eth1
	ip -n "$LAB_SW" link set eth1 master br0
	addresses add br0
}

to_port()
{
	ip -n "$LAB_SW" link del br0
	addresses add eth1
}

fetch()		{ on client curl -sf -o /dev/null -m 2 "http://$1/"; }
reason()	{ tg status --json | jq ".reasons[\"$1\"]"; }
refusals()	{ grep -c "service $1: backend $2 is reached by a device of kind bridge, .*: $3" "$DAEMON_LOG"; }
kind()		{ tg eval "(function() local h = tg.services.$1:backends()[1].next_hop return h.kind .. ' ' .. tostring(h.native) end)()"; }
is_by()		{ [ "$(kind direct)" = "\"$1\"" ]; }

lab_up --backends 1
to_bridge
script >"$WORK/bridge.lua"
daemon_start "$WORK/bridge.lua"

check "the backend is behind the bridge" wait_for 5 is_by "bridge false"
for vip in "$vip4" "[$vip6]"; do
	check "nat: the kernel forwards to it, of $vip" wait_for 5 fetch "$vip"
done
check_that "which is counted" "$(reason nat-by-stack) >= 2"
check "and said in the log" wait_for 5 refusals translated 10.0.0.11 "the kernel forwards its packets"
before=$(reason no-port)
for vip in "$LAB_VIP4" "[$LAB_VIP6]"; do
	check_fails "l2dsr: it is not reached, of $vip" 28 fetch "$vip"
done
check_that "packets are dropped for that reason" "$(reason no-port) >= $before + 2"
for backend in 10.0.0.11 2001:db8:1::11; do
	check_equal "and the log says so, once, of $backend" 1 "$(refusals direct $backend "its packets are dropped; route it by the port below")"
done

to_port
check "it is reached by the port" wait_for 15 is_by "veth true"
for vip in "$LAB_VIP4" "[$LAB_VIP6]" "$vip4" "[$vip6]"; do
	check "then it answers, of $vip" wait_for 10 fetch "$vip"
done

# Generic XDP sends by a bridge, too.
daemon_stop
tg unload >/dev/null
to_bridge
sed -i 's/tg.port(name)/tg.port(name, { xdp = "generic" })/' "$WORK/bridge.lua"
daemon_start "$WORK/bridge.lua"
for vip in "$LAB_VIP4" "[$LAB_VIP6]" "$vip4" "[$vip6]"; do
	check "with generic XDP it is reached by the bridge, of $vip" wait_for 10 fetch "$vip"
done
