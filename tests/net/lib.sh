# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# For tests/net/NAME_test.sh: a lab of its own, the daemon in it, checks that are sentences.
#
#   #!/bin/bash
#   . "$(dirname "$0")/lib.sh"
#   lab_up --backends 3                          # LAB_* as `scripts/lab env` names them
#   daemon_start "$WORK/web.lua"                 # in the lab's switch, on an instance of its own
#   check "the VIP answers" on client curl -sf "http://$LAB_VIP4/"
#   check_equal "one backend is left" 1 "$(tg eval '#tg.services.web:backends()')"
#
# Each check prints `ok SENTENCE` or `not ok SENTENCE`. At the end, whatever ends the test, the
# daemon is stopped, its instance unloaded, the lab taken down, and the totals printed; the exit
# code is 0 if all checks held. A test that makes no check has failed.
#
# Variables: ROOT (the source tree), TIDEGATE (the binary), WORK (a directory of the test's own),
# INSTANCE, DAEMON (its process id, empty when there is none), DAEMON_LOG.
set -uo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
TIDEGATE=${TIDEGATE:-$ROOT/build/tidegate}
INSTANCE=$(basename "$0" _test.sh)-$$
WORK=$(mktemp -d /tmp/tidegate-test.XXXXXX)
DAEMON=
DAEMON_LOG=$WORK/daemon.log
lab_name=
checks_passed=0 checks_failed=0 checks_skipped=0
background=() captures=() pulse_urls=()

# --- checks ------------------------------------------------------------------------------------

ok()
{
	checks_passed=$((checks_passed + 1))
	echo "ok $1"
}

not_ok()	# SENTENCE [WHY…]
{
	checks_failed=$((checks_failed + 1))
	echo "not ok $1"
	shift
	[ $# -eq 0 ] || printf '%s\n' "$@" | sed 's/^/  # /'
}

skip()		# SENTENCE REASON
{
	checks_skipped=$((checks_skipped + 1))
	echo "skip $1: $2"
}

check()		# SENTENCE CMD…: holds if the command succeeds
{
	local sentence=$1 code=0
	shift
	"$@" >"$WORK/check.out" 2>&1 || code=$?
	if [ $code -eq 0 ]; then
		ok "$sentence"
	else
		not_ok "$sentence" "exit code $code: $*" "$(tail -n 5 "$WORK/check.out")"
	fi
	return $code
}

check_fails()	# SENTENCE CODE CMD…: holds if the command ends with that exit code; output in $WORK/check.out
{
	local sentence=$1 want=$2 code=0
	shift 2
	"$@" >"$WORK/check.out" 2>&1 || code=$?
	if [ $code -eq "$want" ]; then
		ok "$sentence"
	else
		not_ok "$sentence" "exit code $code, not $want: $*" "$(tail -n 5 "$WORK/check.out")"
	fi
}

check_says()	# SENTENCE CODE PATTERN CMD…: holds if the command ends with that exit code and says that
{
	local sentence=$1 want=$2 pattern=$3 code=0
	shift 3
	"$@" >"$WORK/check.out" 2>&1 || code=$?
	if [ $code -eq "$want" ] && grep -qE -- "$pattern" "$WORK/check.out"; then
		ok "$sentence"
	else
		not_ok "$sentence" "exit code $code, wanted $want and \"$pattern\": $*" "$(tail -n 5 "$WORK/check.out")"
	fi
}

check_equal()	# SENTENCE WANT GOT
{
	if [ "$2" = "$3" ]; then
		ok "$1"
	else
		not_ok "$1" "got $3" "not $2"
	fi
}

check_that()	# SENTENCE EXPRESSION: shell arithmetic, as 'failures == 0'
{
	if (($2)); then
		ok "$1"
	else
		not_ok "$1" "$2 does not hold"
	fi
}

wait_for()	# SECONDS CMD…: until the command succeeds, or not within that time
{
	local deadline=$((${EPOCHREALTIME/[.,]/} + $1 * 1000000))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "${EPOCHREALTIME/[.,]/}" -lt "$deadline" ] || return 1
		sleep 0.05
	done
}

# --- the lab -----------------------------------------------------------------------------------

lab_up()	# OPTION… as for scripts/lab; a lab that can't be made ends the test
{
	lab_name=$INSTANCE
	if ! "$ROOT/scripts/lab" up --name "$lab_name" "$@" >"$WORK/lab.log" 2>&1; then
		not_ok "the lab comes up" "$(cat "$WORK/lab.log")"
		exit 1
	fi
	eval "$("$ROOT/scripts/lab" env --name "$lab_name")"
}

on()		# HOST CMD…
{
	nsenter --net="/run/netns/tg-$lab_name-$1" -- "${@:2}"
}

backend_kill()	{ "$ROOT/scripts/lab" kill --name "$lab_name" "$1"; }
backend_start()	{ "$ROOT/scripts/lab" start --name "$lab_name" "$1"; }

in_background()	# CMD…: ended with the test
{
	"$@" &
	background+=($!)
}

iperf_runs()	# FAMILY ADDRESS: for a second, to an `iperf3 -s` there
{
	check "iperf3 runs over IPv$1" on client iperf3 -c "$2" "-$1" -t 1 -J --logfile "$WORK/iperf.$1"
	echo "   $(jq '.end.sum_received.bits_per_second / 1e6 | floor' "$WORK/iperf.$1") Mbit/s"
	check_that "and something arrives" "$(jq '.end.sum_received.bytes' "$WORK/iperf.$1") > 1000000"
}

# --- the daemon ----------------------------------------------------------------------------------

tg()		# COMMAND ARG…: asks the test's own instance
{
	local command=$1
	shift
	"$TIDEGATE" "$command" "$@" --instance "$INSTANCE"
}

daemon_spawn()	# FILE… [OPTION…], not waiting for it to answer
{
	"$TIDEGATE" run "$@" --instance "$INSTANCE" --netns "$LAB_SW" >>"$DAEMON_LOG" 2>&1 &
	DAEMON=$!
}

daemon_answers()	# or has ended, so that nobody waits for it
{
	tg status || ! kill -0 "$DAEMON"
}

daemon_start()	# as daemon_spawn; a daemon that does not answer ends the test
{
	daemon_spawn "$@"
	if ! wait_for 10 daemon_answers || ! kill -0 "$DAEMON" 2>/dev/null; then
		not_ok "the daemon answers" "$(tail -n 20 "$DAEMON_LOG")"
		exit 1
	fi
}

daemon_stop()	# [SIGNAL]: returns its exit code
{
	local pid=$DAEMON
	[ -n "$pid" ] || return 0
	DAEMON=
	kill "-${1:-TERM}" "$pid" 2>/dev/null
	wait "$pid" 2>/dev/null
}

in_state()	# SERVICE STATE COUNT: so many of its backends are in that state
{
	[ "$(tg eval "(function() local n = 0
		for _, b in ipairs(tg.services.$1:backends()) do if b.state == '$2' then n = n + 1 end end
		return n end)()")" = "$3" ]
}

ask()		# HOST ADDRESS PORT [NCAT-OPTION…]: sends it a datagram from HOST, prints the first one that comes back
{
	local line="" out in pid
	coproc ASK { exec nsenter --net="/run/netns/tg-$lab_name-$1" -- ncat -u "${@:4}" "$2" "$3" 2>/dev/null; }
	out=${ASK[0]} in=${ASK[1]} pid=$ASK_PID
	echo you >&"$in"
	read -r -t 2 line <&"$out" && echo "$line"
	kill "$pid" 2>/dev/null
	wait "$pid" 2>/dev/null
	[ -n "$line" ]
}

milliseconds()	{ echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

# --- interruptions -------------------------------------------------------------------------------

pulse()		# FILE URL…: asks all of them at once, again and again; a line "MILLISECONDS URL" an answer
{
	local file=$1 url now config=$1.config
	shift
	for url; do
		printf 'url = "%s"\noutput = /dev/null\nwrite-out = "%%{http_code} %%{url}\\n"\nmax-time = 0.25\n' "$url"
		[ "$url" = "${!#}" ] || echo next
	done >"$config"
	while :; do
		now=$(milliseconds)
		on client curl -s -Z -K "$config" 2>/dev/null | sed -n "s/^200/$now/p"
		sleep 0.05
	done >"$file"
}

all_pulse()	# FILE SINCE URL…: has each answered after that time, at least three times?
{
	local url
	for url in "${@:3}"; do
		[ "$(awk -v since="$2" -v url="$url" '$1 > since && $2 == url' "$1" | wc -l)" -ge 3 ] || return 1
	done
}

interrupted_by()	# WHAT MILLISECONDS CMD…, under requests to `pulse_urls`: none of them stays unanswered for longer
{
	local what=$1 limit=$2 file=$WORK/pulse pid since
	pulse "$file" "${pulse_urls[@]}" &
	pid=$!
	background+=("$pid")
	check "requests are answered before $what" wait_for 5 all_pulse "$file" 0 "${pulse_urls[@]}"
	since=$(milliseconds)
	"${@:3}"
	check "and after it" wait_for $((limit / 1000 + 3)) all_pulse "$file" "$since" "${pulse_urls[@]}"
	kill "$pid"
	wait "$pid" 2>/dev/null
	awk '{ if ($1 - last[$2] > gap[$2] && last[$2]) gap[$2] = $1 - last[$2]; last[$2] = $1 }
		END { for (url in gap) print gap[url], url }' "$file" | sort -n >"$WORK/gaps"
	sed 's/^\([0-9]*\) /   \1 ms between answers of /' "$WORK/gaps"
	check_that "$what interrupts nobody for more than $limit ms" "$(tail -n 1 "$WORK/gaps" | cut -d' ' -f1) <= limit"
}

# --- captures ------------------------------------------------------------------------------------

capture()	# HOST PORT FILE FILTER…: until captures_end
{
	nsenter --net="/run/netns/tg-$lab_name-$1" -- \
		tcpdump -U --immediate-mode -n -i "$2" -w "$3" "${@:4}" 2>"$3.log" &
	captures+=($!)
	wait_for 5 grep -q listening "$3.log"
}

captures_end()
{
	local pid
	sleep 0.2	# what was captured last is on its way to the file
	for pid in "${captures[@]}"; do
		kill "$pid" && wait "$pid" 2>/dev/null
	done
	captures=()
}

judge()		# FILE -> "PACKETS WRONG": whose checksums tshark judged, and those that are not right
{
	tshark -n -r "$1" -o ip.check_checksum:TRUE -o tcp.check_checksum:TRUE -o udp.check_checksum:TRUE \
		-T fields -e ip.checksum.status -e tcp.checksum.status -e udp.checksum.status -e ipv6.nxt 2>/dev/null |
		awk '{ for (i = 1; i <= 3; i++) if ($i != "" && $i != 1) bad++ }
			$1 == "" && $4 == "" || $2 == "" && $3 == "" { bad++ }
			END { print NR, bad + 0 }' FS='\t'
}

# --- the end -----------------------------------------------------------------------------------

finish()
{
	local code=$? pid
	trap - EXIT
	trap '' INT TERM HUP
	for pid in "${background[@]}" "${captures[@]}"; do
		# shellcheck disable=SC2046
		kill "$pid" $(cat "/proc/$pid/task/$pid/children" 2>/dev/null) 2>/dev/null
	done
	daemon_stop KILL
	if [ -e "/sys/fs/bpf/tidegate/$INSTANCE" ]; then
		tg unload >/dev/null 2>&1
	fi
	[ -z "$lab_name" ] || "$ROOT/scripts/lab" down --name "$lab_name"
	if [ $checks_failed -gt 0 ] && [ -s "$DAEMON_LOG" ]; then
		echo "  # the daemon's log ends:"
		tail -n 30 "$DAEMON_LOG" | sed 's/^/  # /'
	fi
	rm -rf "$WORK"
	if [ $((checks_passed + checks_failed + checks_skipped)) -eq 0 ]; then
		not_ok "some check was made"
	elif [ "$code" -ne 0 ] && [ $checks_failed -eq 0 ]; then
		not_ok "the test runs to its end" "exit code $code"
	fi
	printf '%d passed, %d failed' $checks_passed $checks_failed
	[ $checks_skipped -eq 0 ] || printf ', %d skipped' $checks_skipped
	echo
	exit $((checks_failed > 0))
}

trap finish EXIT
trap 'exit 130' INT TERM HUP
