#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The Lua VM hangs in C; meanwhile a backend dies. Probing goes on without it: the backend leaves the
# ring in time, and comes back in time, while nobody can ask the daemon anything.
. "$(dirname "$0")/lib.sh"

export TIDEGATE_TEST_HOOKS=1
hang_ms=4500		# less than what the watchdog allows
detect_ms=600		# fall × interval + timeout, of the script below
margin_ms=400		# killing takes its time as well

script()
{
	cat <<-END
		local tg = require "tidegate"
		tg.port "eth0"
		tg.service { name = "web", mode = "l2dsr", vip = { "$LAB_VIP4:80/tcp", "[$LAB_VIP6]:80/tcp" },
			check = { "http", path = "/healthz", interval = 0.2, timeout = 0.2, rise = 1, fall = 2 },
			backends = { "10.0.0.11", "10.0.0.12", "10.0.0.13", "2001:db8:1::11", "2001:db8:1::12", "2001:db8:1::13" } }
		downs, seconds = 0, nil
		function hang_for(given) seconds = given end
		tg.every(0.05, function()
			local given = seconds
			seconds = nil
			if given then tg._test.hang(given) end
		end)
		tg.on("backend.down", function() downs = downs + 1 end)
	END
}

requests()	# FILE MILLISECONDS: until then, lines "MILLISECONDS EXIT BACKEND", every request a new connection
{
	local now
	while now=$(milliseconds) && [ "$now" -lt "$2" ]; do
		on client curl -s -Z --parallel-max 12 -m 0.3 -o /dev/null -o /dev/null -H 'Connection: close' \
			-w "$now %{exitcode} %header{x-backend}\n" "http://$LAB_VIP4/?[1-6]" "http://[$LAB_VIP6]/?[1-6]"
		sleep 0.05
	done >"$1" 2>/dev/null
}

lab_up --backends 3
script >"$WORK/hung.lua"
daemon_start "$WORK/hung.lua"
check "all backends are up" wait_for 5 in_state web up 6
sleep 0.5
tg eval "hang_for($hang_ms / 1000)"
sleep 0.1
hung=$(milliseconds)
backend_kill b2
killed=$(milliseconds)
requests "$WORK/requests" $((hung + 2200))
backend_start b2
started=$(milliseconds)
requests "$WORK/back" $((hung + hang_ms - 800))
check_fails "nobody could ask the daemon all that time" 124 timeout 0.4 "$TIDEGATE" eval 1 --instance "$INSTANCE"
last=$(awk '$2 != 0 { last = $1 } END { print last }' "$WORK/requests")
echo "   $(wc -l <"$WORK/requests") requests, of which $(awk '$2 != 0' "$WORK/requests" | wc -l) failed, the last one $((${last:-$killed} - killed)) ms after the kill"
check_that "the death was felt" "${last:-0} > 0"
check_that "no new connection failed after fall × interval + timeout" "${last:-$killed} - $killed <= $detect_ms + $margin_ms"
check_that "and many were made" "$(awk -v t=$((killed + detect_ms + margin_ms)) '$1 > t' "$WORK/requests" | wc -l) >= 60"
first=$(awk '$3 == "b2" { print $1; exit }' "$WORK/back")
check_that "the backend serves again soon after it is back, ${first:+$((first - started)) ms}" \
	"${first:-0} > 0 && ${first:-0} - $started <= $detect_ms + $margin_ms"
check "then the daemon answers again, without having started anew" wait_for 3 tg status
check_equal "and its handlers are told what happened meanwhile" 2 "$(tg eval 'downs')"
check "it did not start anew" test "$(grep -c 'is in force' "$DAEMON_LOG")" = 1
