#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Triggers on the lab: a surge of SYNs starts a mirror within two seconds, the log tells by what, and it ends by itself;
# who makes many connections is banned for a time, and a flood under spoofed addresses bans nobody.
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
daemon_stop

# --- a mirror -----------------------------------------------------------------------------------------

on sw ip link add mirror0 type veth peer name mirror1
on sw ip link set mirror0 up
on sw ip link set mirror1 up
copies()	{ on sw ip -j -s link show dev mirror1 | jq '.[0].stats64.rx.packets'; }
mirror_is()	{ [ "$(lua "tg.mirrors.syns:status().state")" = "$1" ]; }
cat >"$script" <<-END
	local wan = tg.port "eth0"
	tg.port "eth1"
	tg.service { name = "web", mode = "l2dsr", vip = "$LAB_VIP4:80", backends = { "10.0.0.11", "10.0.0.12" } }
	local syns = wan:mirror { name = "syns", to = "mirror0", direction = "ingress",
	  match = { proto = "tcp", flags = "S" } }
	require "triggers.syn_surge" (syns, { port = "eth0", above = 1000, clear = 1, seconds = 20 })
END
daemon_start "$script"
check "the mirror is off" mirror_is off
before=$(copies)
in_background flood 12000 3000
begun=$(milliseconds)
check "a surge of SYNs starts a mirror" wait_for 10 mirror_is started
took=$(since "$begun")
echo "   after $took ms"
check_that "within two seconds" "took < 2000"
check "the log tells the cause" said 'trigger syn-surge: started: ports.eth0.tcp_syn = [1-9][0-9]{3}(\.[0-9])? for 0.5 s'
check "it ends by itself when the surge does" wait_for 15 said 'trigger syn-surge: stopped after [0-9]+ s: calm for 1 s'
check "and the mirror with it" wait_for 2 mirror_is ended
copied=$(($(copies) - before))
echo "   $copied of 12000 SYNs were copied"
check_that "which has copied most of the surge" "copied > 4000 && copied <= 12000"
daemon_stop

# --- auto-ban -----------------------------------------------------------------------------------------

# In nat the switch sees the answers.
on sw sysctl -qw net.ipv4.ip_forward=1
in_background on b1 "$ROOT/build/steady" serve 7000 1
in_background on b2 "$ROOT/build/steady" serve 7000 2
cat >"$script" <<-END
	tg.port "eth0"
	tg.port "eth1"
	tg.service { name = "web", mode = "nat", vip = "$LAB_VIP4:7000", backends = { "10.0.0.11", "10.0.0.12" } }
	require "triggers.auto_ban" { above = 50, rate = 30, ttl = 5, clear = 1 }
END
daemon_start "$script"
ask()		{ on client timeout 20 "$ROOT/build/steady" ask "$LAB_VIP4" 7000 "$1" "$2" >"$WORK/asked" 2>/dev/null; }
answered()	{ ask 1 10 && grep -q 'failed 0 unanswered 0' "$WORK/asked"; }
banned()	{ [ "$(lua "(tg.deny:contains '192.0.2.7')")" = true ]; }
not_banned()	{ ! banned; }

check "a connection is answered" wait_for 5 answered
in_background on client "$ROOT/build/steady" flood eth0 "$switch_mac" "$LAB_VIP4" 7000 12000 3000
check "a flood of SYNs from anybody starts the look-out" wait_for 10 said 'trigger auto-ban: started: tcp_syn = '
sleep 1.5
check "real connections are answered meanwhile" answered
check "it is over when the flood is" wait_for 20 said 'trigger auto-ban: stopped'
check_equal "and nobody was banned" "0 0" "$(lua 'tg.deny:count()') $(grep -c 'is banned' "$DAEMON_LOG")"
ask 2000 200 &
asking=$!
background+=("$asking")
check "who makes many real connections is banned" wait_for 10 said 'auto-ban: 192.0.2.7 is banned for 5 s: [0-9]+ handshakes a second'
check "so its packets are dropped" wait_for 2 banned
check_equal "and nobody else's" 1 "$(lua 'tg.deny:count()')"
kill "$asking" 2>/dev/null
check "for a time" wait_for 20 not_banned
check "then it is answered again" wait_for 10 answered
