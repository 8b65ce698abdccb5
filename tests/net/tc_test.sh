#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The TC programs on a switch's ports, by TCX and by clsact: what a policy of each direction drops, what is others'
# stays, a killed daemon's attachments go on and are taken over, ports come, go and change, and unload leaves nothing.
. "$(dirname "$0")/lib.sh"

script=$WORK/tc.lua
SW4=192.0.2.1
PINS=/sys/fs/bpf/tidegate/$INSTANCE
OTHER=/sys/fs/bpf/tidegate-$INSTANCE-other	# pins of a program that is not ours

connects()	{ [ "$(on client ncat --recv-only -w 3 "$1" "$2" 2>/dev/null </dev/null)" = hello ]; }
silent()	{ ! on client ncat --recv-only -w 700ms "$1" "$2" 2>/dev/null </dev/null | grep -q hello; }
program()	{ bpftool prog show pinned "$PINS/tc_$1" 2>/dev/null | sed -n '1s/:.*//p'; }
link()		{ bpftool link show pinned "$PINS/$1" 2>/dev/null | sed -nE '1s/^([0-9]+):.* prog ([0-9]+).*/\1 \2/p'; }
# DEVICE DIRECTION: the programs of its filters, in their order.
filters()	{ on sw tc filter show dev "$1" "$2" | sed -nE 's/.* id ([0-9]+) .*/\1/p' | xargs; }
qdisc()		{ on sw tc qdisc show dev "$1" clsact; }
state_of()	{ tg status | sed -n "s/^port $1: //p"; }
is_state()	{ [ "$(state_of "$1")" = "$2" ]; }
counted()	{ tg status --json | jq ".policies.eth0.$1.rules[] | select(.text == \"$2\").packets"; }

policy()	# TC-OPTION [RULE…]: what comes in for 23 and what goes out from 24 is dropped
{
	printf 'local wan = tg.port("eth0", { tc = %s })\n' "$1"
	printf 'wan:policy("ingress", { { "drop", proto = "tcp", dport = 23 }, %s })\n' "${*:2}"
	echo 'wan:policy("egress", { { "drop", proto = "tcp", sport = 24 } })'
}

# What the policies of both directions do, and that no packet meets a program twice.
check_traffic()	# WHEN
{
	check "$1: what no rule drops passes" connects $SW4 22
	check "what comes in is judged" silent $SW4 23
	check "what leaves is judged" silent $SW4 24
}

others_are_there()	{ [ "$(filters eth0 ingress | cut -d' ' -f1) $(filters eth0 egress | cut -d' ' -f1)" = "$other $other" ]; }

lab_up --backends 1
for port in 22 23 24; do in_background on sw ncat -k -l $port --sh-exec 'echo hello'; done
for port in 22 23 24; do check "port $port answers" wait_for 5 connects $SW4 $port; done
mkdir "$OTHER"
trap 'rm -rf "$OTHER"; finish' EXIT
check "there is a program of somebody else" bpftool prog loadall "$(dirname "$TIDEGATE")/bpf/tc.bpf.o" "$OTHER"
other=$(bpftool prog show pinned "$OTHER/tidegate_ingress" | sed -n '1s/:.*//p')
on sw tc qdisc add dev eth0 clsact
for side in ingress egress; do on sw tc filter add dev eth0 $side prio 7 bpf da pinned "$OTHER/tidegate_ingress"; done
check "its filters are there" others_are_there

for how in tcx clsact; do
	echo "# by $how"
	policy "\"$how\"" >"$script"
	check_says "the plan says so" 4 "^\+ port eth0: attach, xdp auto, tc $how\$" \
		"$TIDEGATE" check "$script" --netns "$LAB_SW" --instance "$INSTANCE"
	daemon_start "$script"
	check_equal "status says so" "xdp native, tc $how" "$(state_of eth0)"
	check_traffic "at first"
	check "somebody else's filters are there" others_are_there
	before="$(program ingress) $(program egress)"
	if [ $how = tcx ]; then
		attached="$(link ingress/eth0) $(link egress/eth0)"
		check_equal "links run our programs" "$before" "$(cut -d' ' -f2,4 <<<"$attached")"
		check_equal "no filter does" "$other $other" "$(filters eth0 ingress) $(filters eth0 egress)"
	else
		attached=
		check_equal "filters run our programs, after others'" "$other $(program ingress) $other $(program egress)" \
			"$(filters eth0 ingress) $(filters eth0 egress)"
		check_equal "no link does" "" "$(link ingress/eth0)$(link egress/eth0)"
	fi

	daemon_stop KILL
	check_traffic "with the daemon killed"
	daemon_start "$script"
	check_equal "the next daemon takes over the programs" "$before" "$(program ingress) $(program egress)"
	[ $how != tcx ] || check_equal "and the links" "$attached" "$(link ingress/eth0) $(link egress/eth0)"
	check_fails "it attached nothing" 1 grep -q "attached, TC" <(tail -n 3 "$DAEMON_LOG" | sed -n '/generation 1 is in force/q;p')
	check_equal "it says how they are attached" "tc $how" "$(state_of eth0 | sed 's/.*, //')"
	was=$(counted ingress 'drop tcp dport 23')
	check "its policy holds" silent $SW4 23
	check_that "a packet is counted once" "$(counted ingress 'drop tcp dport 23') - $was < 4"

	policy "\"$how\"" '{ "drop", proto = "tcp", dport = 22 },' >"$script"
	check "a reload changes the policy" tg reload
	check "which holds" silent $SW4 22
	check_that "by other programs" "$(program ingress) != ${before% *}"
	[ $how != tcx ] || check_equal "on the same link" "${attached%% *} $(program ingress)" "$(link ingress/eth0)"
	[ $how != clsact ] || check_equal "by the same filter" "$other $(program ingress)" "$(filters eth0 ingress)"

	echo 'tg.port "eth0"' >"$script"
	check_says "without a policy nothing is attached to TC" 4 '^~ port eth0: detach, tc$' tg check "$script"
	check "a reload" tg reload
	check_equal "detaches" "xdp native" "$(state_of eth0)"
	check_equal "no link is left" "" "$(link ingress/eth0)$(link egress/eth0)"
	check "nothing drops" connects $SW4 23
	check "somebody else's filters are there" others_are_there
	policy "\"$how\"" >"$script"
	check_says "with one again it is attached" 4 "^~ port eth0: attach, tc $how\$" tg check "$script"
	check "a reload" tg reload
	check_traffic "after that"
	check "unload" tg unload
	wait "$DAEMON" 2>/dev/null
	DAEMON=
	check_equal "leaves no pins" "" "$(ls -d "$PINS" 2>/dev/null)"
	check_equal "and somebody else's filters alone" "$other $other" "$(filters eth0 ingress) $(filters eth0 egress)"
	check "nothing drops" connects $SW4 23
done

echo "# a qdisc of our own"
on sw tc qdisc del dev eth0 clsact
policy '"clsact"' >"$script"
daemon_start "$script"
check_traffic "with no clsact before"
daemon_stop KILL
check "unload without a daemon, and from another network namespace" tg unload
check_equal "leaves no filter and no qdisc" "" "$(filters eth0 ingress)$(filters eth0 egress)$(qdisc eth0)"
check_equal "and no pins" "" "$(ls -d "$PINS" 2>/dev/null)"

echo "# from one to the other"
policy '"clsact"' >"$script"
daemon_start "$script"
policy true >"$script"
check_says "the plan tells" 4 '^~ port eth0: tc clsact -> auto$' tg check "$script"
check "a reload takes it as good as any" tg reload
check_equal "as it was" "xdp native, tc clsact" "$(state_of eth0)"
policy '"tcx"' >"$script"
check "one that asks for TCX" tg reload
check_equal "gets it" "xdp native, tc tcx" "$(state_of eth0)"
check_equal "the filters and the qdisc are gone" "" "$(filters eth0 ingress)$(qdisc eth0)"
check_traffic "after that"

echo "# ports that go and come"
# x0 in the switch, x1 with the client.
extra_up()
{
	ip -n "$LAB_SW" link add x0 type veth peer name x1 netns "$LAB_CLIENT"
	ip -n "$LAB_SW" addr add 10.77.0.1/24 dev x0
	ip -n "$LAB_SW" link set x0 up
	ip -n "$LAB_CLIENT" addr add 10.77.0.2/24 dev x1
	ip -n "$LAB_CLIENT" link set x1 up
}
with_extra()	# TC-OPTION
{
	printf 'local x0 = tg.port("x0", { optional = true, xdp = "off", tc = %s })\n' "$1"
	echo 'x0:policy("ingress", { { "drop", proto = "tcp", dport = 23 } })'
}
for how in tcx clsact; do
	{ policy true; with_extra "\"$how\""; } >"$script"
	check "an optional port by $how" tg reload
	check_equal "is not there yet" "not attached" "$(state_of x0)"
	for turn in first second; do
		extra_up
		check "it is attached when it appears a $turn time" wait_for 8 is_state x0 "tc $how"
		check "what no rule drops passes it" wait_for 5 connects 10.77.0.1 22
		check "its policy holds" silent 10.77.0.1 23
		ip -n "$LAB_SW" link del x0
		check "and it goes" wait_for 8 is_state x0 "not attached"
	done
done
check_traffic "on the port beside it"
check_equal "the programs know of the ports that are there alone" 1 \
	"$(bpftool map dump pinned "$PINS/maps/ports" -j | jq length)"

echo "# what can't be"
{ policy true; echo 'tg.port("nowhere0"):policy("ingress", { default = "drop" })'; } >"$script"
check_says "a device that is not there" 3 'tc.lua:4: port nowhere0: no such device in this network namespace' tg reload
policy false >"$script"
check_says "a policy without TC" 1 'port "eth0" has tc = false' tg reload
policy '"both"' >"$script"
check_says "a way that there is not" 1 '"both" given, true, false, "auto", "tcx" or "clsact" expected' tg reload
check_traffic "all the same"
daemon_stop
check "unload without a daemon" tg unload
policy true >"$script"
without()	# CAPABILITIES COMMAND…: in the switch, root but for these
{
	nsenter --net="/run/netns/$LAB_SW" -- setpriv "--bounding-set=$1" "--inh-caps=$1" "${@:2}"
}
check_says "nobody may attach without privilege" 3 "no privilege to load BPF programs" \
	without -bpf,-perfmon,-sys_admin "$TIDEGATE" run "$script" --instance "$INSTANCE"
check_equal "and nothing is left of that" "" "$(ls -d "$PINS" 2>/dev/null)$(filters eth0 ingress)$(qdisc eth0)"
check "nothing drops" connects $SW4 23
