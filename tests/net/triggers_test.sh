#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Triggers on the lab: a surge of SYNs is noticed within two seconds, the log tells by what, and it ends by itself.
. "$(dirname "$0")/lib.sh"

script=$WORK/triggers.lua

flood()		# COUNT RATE: SYNs from random sources, for the VIP
{
	on client "$ROOT/build/steady" flood eth0 "$switch_mac" "$LAB_VIP4" 80 "$1" "$2"
}

said()		{ grep -qE "$1" "$DAEMON_LOG"; }
above()		{ [ "$(lua "math.floor($1)")" -gt "$2" ]; }	# EXPRESSION NUMBER
is_on()		{ [[ $(lua state) == "on: ports.eth0.tcp_syn = "* ]]; }
since()		{ echo $(($(milliseconds) - $1)); }
lua()		{ tg eval "$1" | tr -d '"'; }

lab_up --backends 2
switch_mac=$(on sw cat /sys/class/net/eth0/address)
cat >"$script" <<-END
	tg.port "eth0"
	tg.port "eth1"
	tg.service { name = "web", mode = "l2dsr", vip = "$LAB_VIP4:80", backends = { "10.0.0.11", "10.0.0.12" } }
	tg.trigger {
	  name = "surge", every = 0.25, hold = 0.5, clear = 1, max = 60,
	  when = function(r) return r.ports.eth0.tcp_syn > 1000 end,
	  start = function(r, cause) state = "on: " .. cause end, stop = function(why) state = "off: " .. why end,
	}
	tg.trigger {
	  name = "short", every = 0.25, hold = 0, clear = 1, max = 1, starts = 1,
	  when = function(r) return r.tcp_syn > 1000 end, start = function() end,
	}
END
daemon_start "$script"

# --- rates ------------------------------------------------------------------------------------------

check_equal "nothing is on" false "$(lua 'tg.triggers.surge:status().on')"
check "a request is answered" on client curl -sf -o /dev/null "http://$LAB_VIP4/"
in_background flood 12000 3000
begun=$(milliseconds)
check "a surge of SYNs starts a trigger" wait_for 10 said 'trigger surge: started: ports.eth0.tcp_syn = '
took=$(since "$begun")
echo "   after $took ms"
# from the first SYN, with a daemon that has two loaded processors to share: its own delay is at most 1.25 s
check_that "within two seconds" "took < 2000"
check "the log tells the cause" said 'started: ports.eth0.tcp_syn = [1-9][0-9]{3}(\.[0-9])? for 0.5 s'
check "and so does its start" wait_for 2 is_on
check "tg.rates tells the same of all ports" above 'tg.rates().tcp_syn' 1000
check "what XDP forwards leaves by the other port" above 'tg.rates().ports.eth1.egress.tcp_syn' 1000
check "it ends by itself when the surge does" wait_for 15 said 'trigger surge: stopped after [0-9]+ s: calm for 1 s'
check_equal "and its stop has run" "off: clear" "$(lua state)"
check "one that lasts for longer than it may has ended before" said 'trigger short: stopped after 1 s: on for 1 s, its longest'
check_says "the status shows both" 0 'trigger surge: calm since .* started 1 times' tg status
check_equal "the surge was SYNs of one port" 0 "$(lua 'math.floor(tg.rates().ports.eth1.tcp_syn)')"

# --- the end of a generation --------------------------------------------------------------------------

in_background flood 12000 3000
check "it starts anew" wait_for 10 above 'tg.triggers.surge:status().starts' 1
check "another surge within the hour is refused to the one that may start once" \
	said 'trigger short: not started: it was 1 times within the last hour'
sed -i 's/> 1000 end,$/> 900000 end,/' "$script"
check "a reload" tg reload
check "stops what is on" wait_for 5 said 'trigger surge: stopped after [0-9]+ s: its generation ends'
