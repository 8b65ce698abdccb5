# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
# What the benchmarks of whole paths share (path.sh, rules.sh; both are measured by path_bench.c): three network
# namespaces, $GEN that sends, $BARE that does what we are measured against, and $sw with a daemon on an
# instance of its own; all gone at the end. The caller says what the daemon runs:
#
#	. tests/bench/lib/path.sh; path_up NAME "$@"
#	… >"$dir/path.lua"; path_daemon
#	path_measure NAME ACTION ADDRESS

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
build=${BUILD:-$root/build}
dir=$(mktemp -d "/tmp/tidegate-path.XXXXXX")
daemon=
json=/dev/null

path_down()
{
	if [ -n "$daemon" ]; then
		kill "$daemon" 2>/dev/null && wait "$daemon" 2>/dev/null
		"$build/tidegate" unload --instance "$instance" >/dev/null 2>&1
	fi
	ip netns del "$GEN" 2>/dev/null
	ip netns del "$BARE" 2>/dev/null
	ip netns del "$sw" 2>/dev/null
	rm -rf "$dir"
}

path_up()	# NAME [--json FILE]
{
	local ns
	if [ "${2-}" = --json ]; then json=$3; fi
	instance=$1-$$ sw=tg$1$$-sw
	export GEN=tg$1$$-gen BARE=tg$1$$-bare
	trap path_down EXIT
	trap 'exit 1' INT TERM
	for ns in "$GEN" "$BARE" "$sw"; do
		ip netns add "$ns"
		ip netns exec "$ns" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
	done
}

path_daemon()	# runs $dir/path.lua, or loads it anew
{
	local i
	if [ -n "$daemon" ]; then
		"$build/tidegate" reload --instance "$instance" >/dev/null
		return
	fi
	"$build/tidegate" run "$dir/path.lua" --instance "$instance" --netns "$sw" 2>"$dir/log" &
	daemon=$!
	for ((i = 0; i < 100; i++)); do
		"$build/tidegate" status --instance "$instance" >/dev/null 2>&1 && return
		kill -0 "$daemon" 2>/dev/null || break
		sleep 0.1
	done
	cat "$dir/log" >&2
	exit 1
}

path_measure()	# NAME ACTION ADDRESS
{
	"$build/path_bench" "$1" "$2" "$3" 80 "/sys/fs/bpf/tidegate/$instance" "$json"
}
