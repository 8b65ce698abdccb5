#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Packets a second through a filter of N rules that none of them matches, so that all are dropped: a port's
# policy (TC ingress), beside a chain of the same rules on nftables' netdev ingress hook of another veth, in
# the same run. How it is measured: path_bench.c.
#
#   tests/bench/rules.sh [--json FILE]     BUILD=build: where tidegate and path_bench are
set -euo pipefail

json=/dev/null
if [ "${1-}" = --json ]; then json=$2; fi
root=$(cd "$(dirname "$0")/../.." && pwd)
build=${BUILD:-$root/build}
name=tgrules$$ instance=rules-$$
export GEN=$name-gen BARE=$name-bare FRAMES
sw=$name-sw
dir=$(mktemp -d /tmp/tidegate-rules.XXXXXX)
daemon=

cleanup()
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
trap cleanup EXIT
trap 'exit 1' INT TERM

pair()		# GEN-DEV NETNS DEV: frames redirected into the first arrive at the second only if that has GRO
{
	ip -n "$GEN" link add "$1" type veth peer name "$3" netns "$2"
	ip netns exec "$2" ethtool -K "$3" gro on
	ip -n "$GEN" link set "$1" up
	ip -n "$2" link set "$3" up
}

for ns in "$GEN" "$BARE" "$sw"; do
	ip netns add "$ns"
	ip netns exec "$ns" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
done
pair g0 "$sw" s0
pair h0 "$BARE" b0

address()	{ echo "172.16.$(($1 / 250)).$(($1 % 250 + 1))"; }
port()		{ echo $((1000 + $1)); }

our_rules()	# N
{
	local i
	printf 'tg.port("s0", { xdp = "off" }):policy("ingress", {\n  default = "drop",\n'
	for ((i = 0; i < $1; i++)); do
		printf '  { "accept", proto = "tcp", src = "%s", dport = %d },\n' "$(address $i)" "$(port $i)"
	done
	echo '})'
}

their_rules()	# N
{
	local i
	echo 'flush ruleset'
	echo 'table netdev t { chain c { type filter hook ingress device "b0" priority 0; policy accept;'
	for ((i = 0; i < $1; i++)); do
		echo "ip saddr $(address $i) tcp dport $(port $i) accept"
	done
	printf 'counter drop\n}\n}\n'
}

load_rules()	# N
{
	our_rules "$1" >"$dir/filter.lua"
	their_rules "$1" | ip netns exec "$BARE" nft -f -
	if [ -n "$daemon" ]; then
		"$build/tidegate" reload --instance "$instance" >/dev/null
		return
	fi
	"$build/tidegate" run "$dir/filter.lua" --instance "$instance" --netns "$sw" 2>"$dir/log" &
	daemon=$!
	for ((i = 0; i < 100; i++)); do
		"$build/tidegate" status --instance "$instance" >/dev/null 2>&1 && return
		kill -0 $daemon 2>/dev/null || { cat "$dir/log" >&2; exit 1; }
		sleep 0.1
	done
}

dropped()	{ ip netns exec "$BARE" nft -j list chain netdev t c | jq '[.. | .counter? // empty | .packets] | add'; }

for rules in 1 2 10 100 1000; do
	FRAMES=$((rules < 100 ? 1 << 19 : rules < 1000 ? 1 << 17 : 1 << 15))
	load_rules $rules
	"$build/path_bench" "rules.$rules" filter 198.51.100.10 80 "/sys/fs/bpf/tidegate/$instance" "$json"
	if [ "$(dropped)" -lt $((7 * FRAMES * 99 / 100)) ]; then
		echo "rules.sh: nftables dropped $(dropped) of $((7 * FRAMES)) packets" >&2
		exit 1
	fi
done
