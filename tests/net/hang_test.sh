#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Scripts that misbehave in a running daemon: it stops what can be stopped; for a C call that does not
# come back it starts anew, with the script's declarations but without its tasks.
. "$(dirname "$0")/lib.sh"

LAB_SW=$INSTANCE	# lib.sh starts the daemon there; a namespace is all it takes
QUARANTINE=/run/tidegate/$INSTANCE.quarantine
export TIDEGATE_TEST_HOOKS=1

cleanup()
{
	daemon_stop KILL
	tg unload >/dev/null 2>&1
	rm -f "/run/tidegate/$INSTANCE".*
	ip netns del "$LAB_SW" 2>/dev/null
	finish
}
trap cleanup EXIT
logged()	{ grep -qE -- "$1" "$DAEMON_LOG"; }
ticks()		{ tg eval 'ticks'; }
goes_on()	{ local before; before=$(ticks); wait_for 2 still_ticks "$before"; }
still_ticks()	{ [ "$(ticks)" -gt "$1" ]; }
service_is_there()	{ tg status | grep '^service web:'; }

ip netns add "$LAB_SW"
ip -n "$LAB_SW" link set lo up
ip -n "$LAB_SW" link add port0 type veth peer name port1
ip -n "$LAB_SW" addr add 10.9.0.1/24 dev port0
ip -n "$LAB_SW" link set port0 up
ip -n "$LAB_SW" link set port1 up

cat >"$WORK/a.lua" <<'LUA'
ticks = 0
tg.every(0.05, function() ticks = ticks + 1 end)
LUA
cat >"$WORK/b.lua" <<'LUA'
tg.service { name = "web", mode = "l2dsr", vip = "198.51.100.10:80/tcp", backends = { "10.9.0.2" } }
tg.every(1, function() while true do end end, { name = "spins" })
tg.every(1, function() while true do pcall(function() while true do end end) end end, { name = "hides" })
tg.every(1, function() return ("x"):rep(1 << 30) end, { name = "greedy" })
tg.every(1, function() return (("a"):rep(40)):find(("a?"):rep(40) .. ("a"):rep(41)) end, { name = "backtracks" })
LUA
daemon_start "$WORK/a.lua" "$WORK/b.lua" --no-attach

for name in spins hides backtracks; do
	check "$name is stopped, with its place" wait_for 6 logged "task $name failed: .*b.lua:[0-9]+.*: stopped after 500 ms"
done
check "a string of 1 GiB is refused, naming the call" wait_for 4 \
	logged 'task greedy failed: not enough memory \(cap 64 MiB\) at .*b.lua:4 \(in rep\)'
check "the other script goes on" goes_on

cat >"$WORK/b.lua" <<'LUA'
tg.service { name = "web", mode = "l2dsr", vip = "198.51.100.10:80/tcp", backends = { "10.9.0.2" } }
tg.after(0.2, function() tg._test.hang(60) end)
LUA
check "a script that will hang is loaded" tg reload
check "a hung C call is named on stderr, with its script" wait_for 9 \
	logged "task .*b.lua:2 of .*b.lua has not come back for [0-9.]+ s from a call that can't be stopped"
check "the daemon, the same process, answers again" wait_for 5 tg status
check "the script is in quarantine" grep -q " task $WORK/b.lua\$" "$QUARANTINE"
check "which is said aloud" logged 'b.lua is in quarantine until it changes'
check "its service is still there" service_is_there
check "the other script goes on" goes_on
sleep 1
check "the task that hung was not started" kill -0 "$DAEMON"

sed -i 's/tg._test.hang(60)/print "harmless"/' "$WORK/b.lua"
check "a changed script is loaded in full" tg reload
check "and its tasks run" wait_for 3 logged 'harmless'
