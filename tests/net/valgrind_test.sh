#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The daemon's whole life under valgrind, from the first load to a clean end: no invalid access, and
# nothing lost. What valgrind gets wrong is in tests/valgrind.supp; it doesn't know bpf(2)'s batch commands
# either, so that what they read would count as uninitialised (--undef-value-errors=no).
. "$(dirname "$0")/lib.sh"

report=$WORK/valgrind.log
script=$WORK/web.lua

if ! command -v valgrind >/dev/null; then
	skip "the daemon under valgrind" "valgrind is not installed"
	exit
fi

declarations()	# WEIGHT
{
	cat <<-END
	tg.port "eth0"
	tg.port "eth1"
	tg.port("later0", { optional = true })
	tg.check.define("hello", function(target)
	  local c <close> = assert(tg.net.connect(target.addr, target.port))
	  c:write "GET / HTTP/1.0\r\n\r\n"
	  return c:read_line():find "200" ~= nil, "not 200"
	end)
	tg.service { name = "web", mode = "l2dsr", vip = { "$LAB_VIP4:80", "[$LAB_VIP6]:80" },
	  check = { "http", path = "/healthz", interval = 0.2, timeout = 0.1 },
	  backends = { "10.0.0.11", { "10.0.0.12", weight = $1 }, "2001:db8:1::11" } }
	tg.service { name = "hello", vip = "198.51.100.20:80", check = { "hello", interval = 0.3 }, backends = { "10.0.0.12" } }
	ticks = 0
	tg.every(0.05, function() ticks = ticks + 1 end)
	tg.on("backend.*", function(ev) tg.log.info("%s", ev.name) end)
	END
}

logged()	{ grep -q -- "$1" "$DAEMON_LOG"; }
ended()		{ ! kill -0 "$DAEMON"; }
daemon_under_valgrind()	# those who ask it are not
{
	valgrind --log-file="$report" --error-exitcode=99 --leak-check=full --show-leak-kinds=definite,indirect \
		--errors-for-leak-kinds=definite,indirect --undef-value-errors=no --num-callers=20 \
		--suppressions="$ROOT/tests/valgrind.supp" \
		"$TIDEGATE" run "$@" --instance "$INSTANCE" --netns "$LAB_SW" >>"$DAEMON_LOG" 2>&1 &
	DAEMON=$!
}

lab_up --backends 2
declarations 1 >"$script"
daemon_under_valgrind "$script"
check "the daemon starts" wait_for 40 tg status
check "the VIP answers" wait_for 5 on client curl -sf -m 2 "http://$LAB_VIP4/"
check "and the one in nat" wait_for 5 on client curl -sf -m 2 http://198.51.100.20/
declarations 3 >"$script"
check "a reload" tg reload
echo 'tg.service {' >>"$script"
check_fails "a faulty one" 1 tg reload
check_fails "a check" 1 tg check "$script"
declarations 1 >"$script"
check_says "a plan" 4 'weight 3 -> 1' tg check "$script"
check "an addition" tg eval 'assert(tg.services.web:add { "10.0.0.13", weight = 2 })'
check "a drain" tg eval 'assert(tg.services.web:drain("10.0.0.12", { ttl = 0.5 }))'
check "a removal" tg eval 'assert(tg.services.web:remove("10.0.0.13", { now = true }))'
check_fails "an error" 1 tg eval 'error "on purpose"'
check "a lookup" tg eval 'assert(tg.services.web:lookup "192.0.2.7:40000")'
backend_kill b2
check "a death" wait_for 10 logged 'backend.down web 10.0.0.12'
backend_start b2
check "a resurrection" wait_for 10 logged 'backend.up web 10.0.0.12'
tg eval 'tg.sleep(60)' >/dev/null 2>&1 & asking=$!
sleep 1
kill -TERM "$DAEMON"
check "the daemon ends, while somebody waits for its answer" wait_for 20 ended
wait "$DAEMON"
code=$?
DAEMON=
wait $asking
check_equal "with exit code 0, as valgrind found nothing" 0 $code
check_equal "no error" "ERROR SUMMARY: 0 errors from 0 contexts" "$(grep -oE 'ERROR SUMMARY: [0-9]+ errors from [0-9]+ contexts' "$report" | tail -1)"
if [ $checks_failed -gt 0 ]; then
	grep -v '^==[0-9]*== *$' "$report" | head -120 | sed 's/^/  # /'
fi
