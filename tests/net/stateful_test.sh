#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# stateful = true, and "conntrack", with real traffic of both families: two ports that drop by default, the client
# behind one, routers and backends behind the other. What either may begin works: sessions, HTTP, datagrams, pings,
# fragments, errors about them, path MTU; what nobody asked for does not come in. Sessions live through reloads and
# the daemon's death. Then: what becomes of them when the policy changes.
. "$(dirname "$0")/lib.sh"

script=$WORK/stateful.lua
families="4 6"
sessions=()

sw_of()		{ if [ "$1" = 4 ]; then echo 192.0.2.1; else echo 2001:db8:c::1; fi; }
client_of()	{ if [ "$1" = 4 ]; then echo 192.0.2.7; else echo 2001:db8:c::7; fi; }
backend_of()	{ if [ "$1" = 4 ]; then echo 10.0.1.11; else echo 2001:db8:2::11; fi; }
url_of()	{ if [ "$1" = 4 ]; then echo "http://10.0.1.11$2"; else echo "http://[2001:db8:2::11]$2"; fi; }

# --- traffic -----------------------------------------------------------------------------------------

connects()	{ [ "$(on "$1" ncat --recv-only -w 3 "$2" "$3" 2>/dev/null </dev/null)" = hello ]; }	# HOST ADDRESS PORT
silent()	{ ! on "$1" ncat -w 700ms "${@:4}" "$2" "$3" >"$WORK/silent" 2>&1 </dev/null && ! grep -q refused "$WORK/silent"; }
asks()		{ [ "$(ask "$1" "$2" "$3")" = heard ]; }			# HOST ADDRESS PORT
unasked()	{ ! asks "$@"; }
pings()		{ on "$1" ping -q -c 2 -i 0.2 -W 3 "${@:3}" "$2"; }		# HOST ADDRESS [OPTION…]
no_ping()	{ ! on "$1" ping -q -c 1 -W 0.7 "$2"; }
http()		{ on client curl -sf -o /dev/null -m 5 "$(url_of "$1" "$2")"; }
# How many errors the client has been sent: unreachable (5 in /proc/net/snmp), time exceeded (6).
# shellcheck disable=SC2016	# awk's
errors()	{ on client awk -v n="$1" -v six="$2" '$1 == "Icmp:" && $2 ~ /^[0-9]/ { sum += $n } $1 == six { sum += $2 } END { print sum }' /proc/net/snmp /proc/net/snmp6; }
unreachable()	{ errors 5 Icmp6InDestUnreachs; }
exceeded()	{ errors 6 Icmp6InTimeExcds; }
refused()	# ADDRESS PORT: that nobody listens there is heard
{
	local before
	before=$(unreachable)
	on client ncat -u -w 1 "$1" "$2" <<<you >/dev/null 2>&1
	[ "$(unreachable)" -gt "$before" ]
}
mtu_to()	{ on client ip route get "$1" | sed -n 's/.* mtu \([0-9]*\).*/\1/p'; }

# A session of lines to a port 22, which says each line again. One stays open: NAME HOST ADDRESS.
session()
{
	mkfifo "$WORK/$1.in"
	: >"$WORK/$1.out"
	on "$2" ncat "$3" 22 <"$WORK/$1.in" >"$WORK/$1.out" 2>/dev/null &
	background+=($!)
	exec {fd}>"$WORK/$1.in"
	sessions+=("$1:$fd")
}
lives()		# NAME: it says a line again
{
	local entry line=$RANDOM
	for entry in "${sessions[@]}"; do
		[ "${entry%:*}" = "$1" ] && echo "$line" >&"${entry#*:}"
	done
	wait_for 4 grep -qx "$line" "$WORK/$1.out"
}
all_live()	{ local entry; for entry in "${sessions[@]}"; do lives "${entry%:*}" || return 1; done; }

load_script()	# STATEFUL [OPTION, [RULE…]]: the client may begin these, the backends those
{
	cat >"$script" <<-END
		local mode, more = $1, { ${2-} }
		local echo = { "echo-request", mode == "conntrack" and "echo-reply" or nil }
		local function policy(rules)
		  rules.default, rules.stateful = "drop", mode
		  for key, value in pairs(more) do rules[key] = value end
		  return rules
		end
		tg.port("eth0"):policy("ingress", policy {
		  { "accept", proto = "tcp", dport = ${3-"{ 22, 80 }"}, flags = "S", name = "in" },
		  { "accept", proto = "udp", dport = { 53, 54 }, name = "dns" },
		  { "accept", proto = { "icmp", "icmp6" }, icmp_type = echo },
		})
		tg.port("eth1"):policy("ingress", policy {
		  { "accept", proto = "tcp", dport = 2222, flags = "S" },
		  { "accept", proto = "udp", dport = 5353 },
		  { "accept", proto = { "icmp", "icmp6" }, icmp_type = echo },
		})
	END
}

# --- begin -----------------------------------------------------------------------------------------------

lab_up --backends 1 --routers
for host in sw b1; do
	# shellcheck disable=SC2016	# the host's shell's
	in_background on $host ncat -k -l 22 --sh-exec 'while read -r line; do echo "$line"; done'
	for family in $families; do in_background on $host ncat "-$family" -u -k -l 53 --sh-exec 'read -r line; echo heard'; done
	in_background on $host ncat -k -l 8022 --sh-exec 'echo hello'
done
for port in 2222 2223; do in_background on client ncat -k -l $port --sh-exec 'echo hello'; done
for family in $families; do
	in_background on client ncat "-$family" -u -k -l 5353 --sh-exec 'read -r line; echo heard'
	check "the backend is there over IPv$family" wait_for 5 connects client "$(backend_of "$family")" 8022
	wait_for 5 connects b1 "$(client_of "$family")" 2223
done

works()		# FAMILY MODE: what either side may begin
{
	local family=$1 b1 sw client
	b1=$(backend_of "$family") sw=$(sw_of "$family") client=$(client_of "$family")
	session "sw$family-$2" client "$sw"
	session "b1$family-$2" client "$b1"
	check "sessions open over IPv$family" all_live
	check "HTTP" http "$family" /
	check "a datagram is answered" asks client "$b1" 53
	check "by the switch, too" asks client "$sw" 53
	check "ping" pings client "$b1"
	check "ping of packets in fragments" pings client "$b1" -s 3000
	check "the backend may connect to the client" connects b1 "$client" 2222
	check "and ask it" asks b1 "$client" 5353
	check "and ping it" pings b1 "$client"
	check "that a port is closed is heard" refused "$b1" 54
	check "what the client may not begin is dropped" silent client "$b1" 8022
	check "at the switch, too" silent client "$sw" 8022
	check "datagrams, too" unasked client "$b1" 55
	check "what the backend may not begin is dropped" silent b1 "$client" 2223
	check "the switch itself may not be reached by the backend" silent b1 "$sw" 22
}

ttl_ends()	# FAMILY: what a router says of a connection whose packets don't get there comes in
{
	local before
	before=$(exceeded)
	on client sysctl -qw net.ipv4.ip_default_ttl=2 net.ipv6.conf.eth0.hop_limit=2
	on client ncat -w 1 "$(backend_of "$1")" 80 </dev/null >/dev/null 2>&1
	on client sysctl -qw net.ipv4.ip_default_ttl=64 net.ipv6.conf.eth0.hop_limit=64
	[ "$(exceeded)" -gt "$before" ]
}

# A link behind the router carries less: it says so to the client, who must hear it.
narrow()	# FAMILY: sends much over it
{
	head -c 20000 /dev/zero | tr '\0' x | fold -w 1000 >"$WORK/much"
	tail -n 1 "$WORK/much" >"$WORK/last"
	on client ncat --send-only -w 3 "$(backend_of "$1")" 22 <"$WORK/much" >/dev/null 2>&1
	[ "$(mtu_to "$(backend_of "$1")")" = 1300 ]
}

try_mode()	# MODE (as a word) LUA
{
	echo "# stateful = $2"
	sessions=()
	load_script "$2"
	if [ -z "$DAEMON" ]; then
		daemon_start "$script"
	else
		check "it is loaded" tg reload
	fi
	for family in $families; do works "$family" "$1"; done
	for family in $families; do check "what a router says of a flow comes in, over IPv$family" ttl_ends "$family"; done
	on gw1 ip link set eth1 mtu 1300 2>/dev/null
	for family in $families; do check "a smaller path is heard of, over IPv$family" narrow "$family"; done
	on gw1 ip link set eth1 mtu 1500 2>/dev/null
	for family in $families; do on client ip "-$family" route flush cache 2>/dev/null; done
	printf '\n' >>"$script"
	check "a reload" tg reload
	check "leaves sessions alone" all_live
	daemon_stop KILL
	check "and so does the daemon's death" all_live
	check "flows begin without it" http 4 /
	daemon_start "$script"
	check "and its return" all_live
}

try_mode own true
on sw nft add table inet tracks
for hook in forward input output; do
	on sw nft add chain inet tracks $hook "{ type filter hook $hook priority 0; }"
	on sw nft add rule inet tracks $hook ct state established counter
done
try_mode conntrack '"conntrack"'

echo "# a policy that changes"
sessions=()
load_script true 'existing = "keep"'
check "it is loaded" tg reload
for family in $families; do session "kept$family" client "$(backend_of "$family")"; done
check "sessions open" all_live
load_script true 'existing = "keep"' 80
check "a policy that lets no more of them in" tg reload
check "keeps those that are there" all_live
check "and lets no more in" silent client "$(backend_of 4)" 22
load_script true 'existing = "recheck"' '{ 22, 80 }'
check "one that judges them anew" tg reload
check "leaves those alone that it would let in" all_live
load_script true 'existing = "recheck"' 80
check "when it no longer would" tg reload
check "it cuts them" eval '! lives kept4 && ! lives kept6'
check_that "and counts them" "$(tg status --json | jq .tracks.counters.cut) >= 2"
check "others are let in" http 6 /

echo "# a trace"
before=$(tg status --json | jq .tracks.counters.begun)
check_says "shows that there is no flow yet" 0 'flows .*192.0.2.7:40000' tg trace eth0 "tcp 192.0.2.7:40000 > 10.0.1.11:80 S"
check_equal "and begins none" 0 "$(tg eval "(tg.flows:count { src = '192.0.2.7', sport = 40000 })")"
check_that "nor counts one" "$(tg status --json | jq .tracks.counters.begun) - $before < 50"
check "a flow" asks client "$(backend_of 4)" 53
port=$(tg eval '(function() for f in tg.flows:pairs { src = "192.0.2.7", proto = "udp", dport = 53 } do return f.sport end end)()')
check_says "shows a flow, its state and the rule that let it in" 0 'flows .* fits' \
	tg trace eth0 "udp 192.0.2.7:$port > 10.0.1.11:53"

echo "# what is told of flows"
cat >>"$script" <<-END
	tg.instance { flow_events = 1 }
	tg.on("flow.*", function(ev)
	  tg.log.info("%s %s %s > %s %s %s", ev.name, ev.proto, ev.src, ev.dst, ev.reason or "", ev.reply_packets or "")
	end)
END
check "flow_events asks for it" tg reload
check "a flow" asks client "$(backend_of 4)" 53
check "is told when it begins" wait_for 5 grep -q "flow.new udp 192.0.2.7 > 10.0.1.11" "$DAEMON_LOG"
check_that "it is killed" "$(tg eval '(tg.flows:kill { src = "192.0.2.7", proto = "udp", dport = 53 })') >= 1"
check "and is told to have ended" wait_for 5 grep -q "flow.end udp 192.0.2.7 > 10.0.1.11 killed 1" "$DAEMON_LOG"
