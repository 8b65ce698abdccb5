#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Packets a second through a filter of N rules that none of them matches, so that all are dropped: a port's
# policy (TC ingress), beside a chain of the same rules on nftables' netdev ingress hook of another veth, in
# the same run. How it is measured: path_bench.c.
#
#   tests/bench/rules.sh [--json FILE]     BUILD=build: where tidegate and path_bench are
set -euo pipefail

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib/path.sh"

pair()		# GEN-DEV NETNS DEV: frames redirected into the first arrive at the second only if that has GRO
{
	ip -n "$GEN" link add "$1" type veth peer name "$3" netns "$2"
	ip netns exec "$2" ethtool -K "$3" gro on
	ip -n "$GEN" link set "$1" up
	ip -n "$2" link set "$3" up
}

address()	{ echo "172.16.$(($1 / 250)).$(($1 % 250 + 1))"; }
port()		{ echo $((1000 + $1)); }

our_rules()	# N
{
	local i
	printf 'tg.port("s0", { xdp = "off" }):policy("ingress", {\n  default = "drop",\n'
	for ((i = 0; i < $1; i++)); do
		printf '  { "accept", proto = "tcp", src = "%s", dport = %d },\n' "$(address "$i")" "$(port "$i")"
	done
	echo '})'
}

their_rules()	# N
{
	local i
	echo 'flush ruleset'
	echo 'table netdev t { chain c { type filter hook ingress device "b0" priority 0; policy accept;'
	for ((i = 0; i < $1; i++)); do
		echo "ip saddr $(address "$i") tcp dport $(port "$i") accept"
	done
	printf 'counter drop\n}\n}\n'
}

dropped()	{ ip netns exec "$BARE" nft -j list chain netdev t c | jq '[.. | .counter? // empty | .packets] | add'; }

path_up rules "$@"
pair g0 "$sw" s0
pair h0 "$BARE" b0
for rules in 1 2 10 100 1000; do
	export FRAMES=$((rules < 100 ? 1 << 19 : rules < 1000 ? 1 << 17 : 1 << 15))
	our_rules $rules >"$dir/path.lua"
	path_daemon
	their_rules $rules | ip netns exec "$BARE" nft -f -
	path_measure "rules.$rules" filter 198.51.100.10
	if [ "$(dropped)" -lt $((7 * FRAMES * 99 / 100)) ]; then
		echo "rules.sh: nftables dropped $(dropped) of $((7 * FRAMES)) packets" >&2
		exit 1
	fi
done
