#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Policies with real traffic, IPv4 and IPv6, to the switch itself and through it: a filter without state, default
# drop with rules that accept, reject, rules that are switched, sets of addresses, counters over reloads and
# restarts, mistakes that change nothing, reloads that lose nothing, the failsafe.
. "$(dirname "$0")/lib.sh"

script=$WORK/policy.lua
SW4=192.0.2.1 SW6=2001:db8:c::1	# the switch, to the client
families="4 6"

# --- who is answered ---------------------------------------------------------------------------------

sw_of()		{ if [ "$1" = 4 ]; then echo $SW4; else echo $SW6; fi; }
backend_of()	{ if [ "$1" = 4 ]; then echo 10.0.0.11; else echo 2001:db8:1::11; fi; }
url_of()	{ if [ "$1" = 4 ]; then echo "http://10.0.0.11$2/"; else echo "http://[2001:db8:1::11]$2/"; fi; }

connects()	{ [ "$(on client ncat --recv-only -w 3 "${@:3}" "$1" "$2" 2>/dev/null </dev/null)" = hello ]; }
silent()	{ ! on client ncat -w 700ms "${@:3}" "$1" "$2" >"$WORK/silent" 2>&1 </dev/null && ! grep -q refused "$WORK/silent"; }
refused()	{ ! on client ncat -w 3 "$1" "$2" >"$WORK/refused" 2>&1 </dev/null && grep -q refused "$WORK/refused"; }
http()		{ on client curl -sf -o /dev/null -m 3 "$(url_of "$1" "${2-}")"; }
no_http()	{ ! on client curl -sf -o /dev/null -m 0.7 "$(url_of "$1" "${2-}")"; }
pings()		{ on client ping -q -c 1 -W 3 "$1" >/dev/null; }
no_ping()	{ ! on client ping -q -c 1 -W 0.7 "$1" >/dev/null; }
asks()		{ [ "$(ask client "$1" 53)" = heard ]; }
lua()		{ tg eval "$1" | tr -d '"'; }
rule()		{ lua "tg.ports.eth0:rule('$1'):status().$2"; }
# The packets of the rule with that text, in ingress.
counted()	{ tg status --json | jq ".policies.eth0.ingress.rules[] | select(.text == \"$1\").packets"; }

load_script()	# LUA…: puts it in force
{
	printf '%s\n' "$@" >"$script"
	check "it is loaded" tg reload
}

# --- begin ------------------------------------------------------------------------------------------

lab_up --backends 1
for port in 22 23 80 113; do in_background on sw ncat -k -l $port --sh-exec 'echo hello'; done
in_background on b1 ncat -k -l 23 --sh-exec 'echo hello'
for family in $families; do in_background on sw ncat "-$family" -u -k -l 53 --sh-exec 'read -r line; echo heard'; done
for family in $families; do
	check "without a policy telnet passes over IPv$family" wait_for 5 connects "$(sw_of "$family")" 23
	wait_for 5 asks "$(sw_of "$family")"
done

echo "# a filter without state"
check_says "check plans it" 4 '^\+ policy eth0 ingress: default accept, 1 rules$' \
	"$TIDEGATE" check "$ROOT/scripts/policies/telnet.lua" --netns "$LAB_SW" --instance "$INSTANCE"
cp "$ROOT/scripts/policies/telnet.lua" "$script"
daemon_start "$script"
for family in $families; do
	check "telnet to the switch is dropped over IPv$family" silent "$(sw_of "$family")" 23
	check "and through it" silent "$(backend_of "$family")" 23
	check "other ports pass" connects "$(sw_of "$family")" 22
	check "HTTP passes" http "$family"
	check "UDP passes" asks "$(sw_of "$family")"
	check "ping passes" pings "$(backend_of "$family")"
done
check_that "the rule counts what it drops" "$(counted 'drop tcp port 23') >= 4"
check_says "trace names it, and its line" 0 "drop by drop tcp port 23 \(.*policy.lua:10\)" \
	tg trace eth0 "tcp 192.0.2.7:40000 > $SW4:23 S"
check_says "status tells it" 0 'drop tcp port 23 +[1-9][0-9]* packets +[1-9][0-9]* bytes +[0-9]+ s ago' tg status

echo "# default drop"
DROP='local wan = tg.port "eth0"
tg.set("staff"):add "192.0.2.99"
wan:policy("ingress", {
  default = "drop",
  { "accept", proto = "tcp", dport = 80 },
  { "accept", proto = "udp", dport = 53, src = { "192.0.2.0/24", "2001:db8:c::/64" }, name = "dns" },
  { "accept", proto = "tcp", dport = 22, src = "@staff", name = "ssh" },
  { "accept", proto = { "icmp", "icmp6" }, icmp_type = "echo-request" },
  { "reject", proto = "tcp", dport = 113 },
})'
load_script "$DROP"
for family in $families; do
	check "HTTP passes the default over IPv$family" http "$family"
	check "UDP passes by its source" asks "$(sw_of "$family")"
	check "ping passes by its type" pings "$(backend_of "$family")"
	check "telnet is dropped" silent "$(sw_of "$family")" 23
	check "another port of the backend, too" no_http "$family" :8080
	check "who is not on the set is dropped" silent "$(sw_of "$family")" 22
	check "what is rejected is refused at once" refused "$(sw_of "$family")" 113
	check "through the switch, too" refused "$(backend_of "$family")" 113
done
check_that "the default counts" "$(counted drop) > 0"
check_that "a rule tells when it decided last" "$(date +%s) - $(rule dns 'last // 1 | 0') < 60"

echo "# rules are switched"
dns_before=$(rule dns packets)
check "an operator switches a rule off" tg eval 'assert(tg.ports.eth0:rule("dns"):enable(false, { reason = "attack" }))'
for family in $families; do check "it does not decide any more" eval "! asks $(sw_of "$family")"; done
check "nothing else changes" http 4
check_says "status says who did it" 0 'dns, disabled by uid 0' tg status
printf '\n' >>"$script"
check "a reload" tg reload
check_equal "leaves it switched off" "false attack" "$(rule dns enabled) $(rule dns reason)"
daemon_stop
daemon_start "$script"
check_equal "and so does a restart" "false attack" "$(rule dns enabled) $(rule dns reason)"
check_equal "its counter waits" "$dns_before" "$(rule dns packets)"
check "it is switched on" tg eval 'assert(tg.ports.eth0:rule("dns"):enable(true))'
for family in $families; do check "and decides" asks "$(sw_of "$family")"; done
check_fails "a rule that is not there can't be" 1 tg eval 'assert(tg.ports.eth0:rule("dnss"):enable(true))'

echo "# sets"
check "an operator adds the client for six seconds" tg eval 'assert(tg.set("staff"):add("192.0.2.7", { ttl = 6 }))'
check "it may log in" connects $SW4 22
check "over IPv6 it may not" silent $SW6 22
check "then it may not any more" wait_for 15 silent $SW4 22
check "a network is added" tg eval 'assert(tg.set("staff"):add "2001:db8:c::/64")'
check "and may log in" connects $SW6 22
check_equal "the set knows its entry" "2001:db8:c::/64 operator" \
	"$(lua '(function() local _, e = tg.set("staff"):contains "2001:db8:c::7" return e.prefix .. " " .. e.owner end)()')"
in_background "$TIDEGATE" capture eth0 -w "$WORK/staff.pcapng" -c 3 src=@staff proto=icmp \
	--instance "$INSTANCE"
capture_pid=${background[-1]}
check "a capture asks the set" wait_for 5 eval 'tg status | grep -q "^capture"'
on client ping -q -c 3 -i 0.05 $SW4 >/dev/null
check "which changes while it is at work" tg eval 'assert(tg.set("staff"):add("192.0.2.7", { ttl = 300 }))'
on client ping -q -c 3 -i 0.05 -s 100 $SW4 >/dev/null
check "it ends" wait "$capture_pid"
check_equal "and has what came since" "3 142" \
	"$(tshark -n -r "$WORK/staff.pcapng" -T fields -e frame.len 2>/dev/null | uniq -c | awk '{ print $1, $2 }')"
check "the client is removed" tg eval 'assert(tg.set("staff"):remove "192.0.2.7")'
daemon_stop
check "with the daemon stopped, too" connects $SW6 22
daemon_start "$script"
check "and after a restart" connects $SW6 22
check "it is removed" tg eval 'assert(tg.set("staff"):remove "2001:db8:c::/64")'
check "and may not log in" silent $SW6 22
check_fails "nothing would change now" 0 tg check "$script"

echo "# counters"
http_before=$(counted 'accept tcp dport 80') dns_before=$(rule dns packets) ident_before=$(counted 'reject tcp dport 113')
check_that "they went on over the restarts" "$http_before > 0 && $dns_before > 0 && $ident_before >= 4"
sed 's/dport = 53,/dport = { 53, 5353 },/; s/"reject", proto = "tcp"/"reject", proto = { "tcp", "udp" }/' "$script" >"$WORK/changed.lua"
cp "$WORK/changed.lua" "$script"
check_says "the plan names a rule that changed" 4 \
	'^~ rule eth0 ingress 2 \(dns\): accept udp src .* dport 53 -> accept udp src .* dport 53,5353$' tg check "$script"
check_equal "and the others, that come and go" "+ rule eth0 ingress 5: reject tcp,udp dport 113
- rule eth0 ingress 5: reject tcp dport 113" "$(grep -E '^[+-]' "$WORK/check.out")"
check "a reload" tg reload
check_that "does not touch the counters of a rule that stays" "$(counted 'accept tcp dport 80') >= $http_before"
check_that "nor of one with a name" "$(rule dns packets) >= $dns_before"
check_equal "a rule with another text counts from nothing" 0 "$(counted 'reject tcp,udp dport 113')"

echo "# mistakes"
cp "$script" "$WORK/good.lua"
sed 's/"accept", proto = "tcp", dport = 80/"accept", proto = "tcp", dport = "80-79"/' "$WORK/good.lua" >"$script"
check_says "a faulty file is refused at its line" 1 ':5: .*rule 1.dport: "80-79": the range is reversed' tg reload
sed 's/@staff/@stuff/' "$WORK/good.lua" >"$script"
check_says "an unknown set" 1 ':7: policy eth0 ingress: rule 3 \(ssh\): there is no set "stuff"' tg reload
check "and nothing changes" http 4
check_that "not the counters either" "$(counted 'accept tcp dport 80') > $http_before"
cp "$WORK/good.lua" "$script"
check_fails "as check tells" 0 tg check "$script"
{ sed 's/dport = 80 }/dport = 8080 }/' "$WORK/good.lua"; echo 'tg.port("lo", { xdp = "native" })'; } >"$script"
check_says "a port that can't be had as it is asked for is refused, after the policies were loaded" 3 'port lo|lo:' tg reload
check "which are what they were" http 4
check "not what the file says" no_http 4 :8080
cp "$WORK/good.lua" "$script"

echo "# the kernel's flows"
echo 'tg.port("eth0"):policy("ingress", { default = "drop", stateful = "conntrack" })' >"$WORK/conntrack.lua"
says()		{ "$TIDEGATE" check "$WORK/conntrack.lua" --netns "$LAB_SW" --instance "$INSTANCE-none"; }
check_says "check says where nothing tracks connections" 4 'track connections of IPv4 and IPv6, so none will be known' says
on sw nft 'add table ip t; add chain ip t c { type filter hook input priority 0; }; add rule ip t c ct state new accept'
check_says "of which family" 4 'track connections of IPv6, so none will be known' says
on sw nft 'add table ip6 t; add chain ip6 t c { type filter hook input priority 0; }; add rule ip6 t c ct state new accept'
check_equal "and nothing where a rule makes the kernel do it" "" "$(says | grep warning)"
on sw nft 'delete table ip t; delete table ip6 t'

echo "# balanced traffic"
VIP='tg.port "eth1"
tg.service { name = "web", mode = "nat", vip = { "198.51.100.80:80", "[2001:db8::80]:80" },
  backends = { "10.0.0.11:8080", "[2001:db8:1::11]:8080" } }'
vip()		{ on client curl -sf -o /dev/null -m "${2:-3}" "http://$1/"; }
load_script "$DROP" "$VIP"
for address in 198.51.100.80 "[2001:db8::80]"; do check "$address answers" vip "$address"; done
load_script "${DROP/'dport = 80'/'dport = 81'}" "$VIP"
for address in 198.51.100.80 "[2001:db8::80]"; do check "the policy drops what is for $address" eval "! vip '$address' 0.7"; done
load_script "$DROP"

echo "# reloads and restarts under load"
# Everything that the client sends passes both policies; only a rule for what nobody sends comes and goes.
printf '%s\n' "$DROP" >"$script"
check "a reload" tg reload
in_background exec nsenter --net="/run/netns/$LAB_CLIENT" -- ping -n -q -i 0.002 -W 2 $SW4 >"$WORK/ping.4" 2>&1
ping4=${background[-1]}
in_background exec nsenter --net="/run/netns/$LAB_CLIENT" -- ping -n -q -i 0.002 -W 2 2001:db8:1::11 >"$WORK/ping.6" 2>&1
ping6=${background[-1]}
sleep 0.3
reloads=0
for i in $(seq 10); do
	extra=$([ $((i % 2)) = 0 ] || echo '{ "drop", proto = "udp", dport = 9 },')
	echo "${DROP/'default = "drop",'/"default = \"drop\", $extra"}" >"$script"
	tg reload >/dev/null && reloads=$((reloads + 1))
done
check_equal "ten reloads succeed" 10 $reloads
for _ in 1 2; do
	daemon_stop KILL
	daemon_start "$script"
done
sleep 0.3
kill -INT "$ping4" "$ping6"
wait "$ping4" "$ping6" 2>/dev/null
for family in $families; do
	sent=$(sed -nE 's/^([0-9]+) packets transmitted, .*/\1/p' "$WORK/ping.$family")
	got=$(sed -nE 's/.*transmitted, ([0-9]+) received.*/\1/p' "$WORK/ping.$family")
	echo "   $sent sent, $got answered"
	check_that "no packet is lost over IPv$family" "${sent:-0} > 100 && sent - ${got:-0} <= 1"	# one is on its way
done

echo "# the edge"
in_background on client ncat -k -l 7070 --sh-exec 'echo hello'
cp "$ROOT/scripts/policies/edge.lua" "$script"
check "scripts/policies/edge.lua is loaded" tg reload
for family in $families; do
	check "the web is open over IPv$family" http "$family"
	check "ping, too" pings "$(backend_of "$family")"
	check "ident is refused" refused "$(backend_of "$family")" 113
	check "what nobody asked for is dropped" no_http "$family" :8080
	check "logins are the staff's" silent "$(sw_of "$family")" 22
	client=$LAB_CLIENT4
	[ "$family" = 4 ] || client=$LAB_CLIENT6
	check_equal "answers to what went out come back" hello \
		"$(on b1 ncat --recv-only -w 3 "$client" 7070 </dev/null 2>/dev/null)"
done
on b1 ip addr add 203.0.113.9/32 dev lo
check "a source that is not ours does not leave" eval "! on b1 ping -q -c 1 -W 0.7 -I 203.0.113.9 $LAB_CLIENT4"
check_that "but is counted" "$(tg status --json | jq '.policies.eth0.egress.rules[] | select(.default).packets') > 0"

echo "# the failsafe"
daemon_stop
check "all is unloaded" tg unload
NONE='tg.port("eth0"):policy("ingress", { default = "drop" })'
printf '%s\n' "$NONE" >"$script"
mkfifo "$WORK/login"
in_background on sw ncat -k -l 2222 --sh-exec cat
login()		# a session that stays, as ssh's
{
	coproc SESSION { exec nsenter --net="/run/netns/$LAB_CLIENT" -- ncat -p 50022 $SW4 2222 2>/dev/null; }
	login_out=${SESSION[0]} login_in=${SESSION[1]} login_pid=$SESSION_PID
}
speaks()	{ local line=""; echo "$1" >&"$login_in" && read -r -t "${2:-3}" line <&"$login_out" && [ "$line" = "$1" ]; }
wait_for 5 on client ncat -z $SW4 2222
login
check "there is a session" speaks hello
export SSH_CONNECTION="192.0.2.7 50022 192.0.2.1 2222"
check_says "check tells what the policy would do to it" 4 \
	'would cut off tcp 192.0.2.7:50022 > 192.0.2.1:2222, the SSH session .*; kept by the failsafe$' \
	"$TIDEGATE" check "$script" --netns "$LAB_SW" --instance "$INSTANCE"
daemon_start "$script"
check "the session goes on" speaks again
check "another can't begin" silent $SW4 2222
check "nor anything else" no_ping $SW4
check_says "status counts what it lets pass" 0 '^ +failsafe +accept tcp src 192.0.2.7 .* [1-9][0-9]* packets' tg status
check_says "the log tells of it" 0 'kept by the failsafe' cat "$DAEMON_LOG"
printf 'tg.port("eth0"):policy("ingress", { default = "drop", failsafe = { "2001:db8:c::7", "tcp 192.0.2.1:22" } })' >"$script"
check "what is named is kept" tg reload
check "a service" connects $SW4 22
check "an address" connects $SW6 23
check "and still the session" speaks third
check "nothing else" silent $SW4 23
printf 'tg.port("eth0"):policy("ingress", { default = "drop", failsafe = false })' >"$script"
check_says "by force it is not kept" 4 'it cuts off tcp 192.0.2.7:50022 .*: failsafe = false$' tg check "$script"
check "the policy is loaded by force" tg reload
check "and cuts the session off" eval '! speaks silence 1'
kill "$login_pid"

echo "# what is gone"
load_script 'tg.port "eth0"'
check "without a policy all passes again" connects $SW4 23
check_equal "and none is shown" "{}" "$(tg status --json | jq -c .policies)"
load_script "$DROP"
check "telnet is dropped" silent $SW4 23
daemon_stop
check "with the daemon stopped, too" silent $SW4 23
echo 'tg.port "eth0"' >"$script"
daemon_start "$script"
check "a daemon whose files have no policy removes what it found" connects $SW4 23
