#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Packets a second along a whole path of veth pairs: a daemon's switch that denies (2^20 denied
# hosts), balances back out of the port (XDP_TX) and out of another (redirect), each beside a program
# that does only that. How it is measured: path_bench.c.
#
#   tests/bench/path.sh [--json FILE]     BUILD=build: where tidegate and path_bench are
set -euo pipefail

json=/dev/null
if [ "${1-}" = --json ]; then json=$2; fi
root=$(cd "$(dirname "$0")/../.." && pwd)
build=${BUILD:-$root/build}
name=tgpath$$ instance=path-$$
export GEN=$name-gen BARE=$name-bare
sw=$name-sw
dir=$(mktemp -d /tmp/tidegate-path.XXXXXX)
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

pair()		# NETNS DEV NETNS DEV ADDRESS-OF-THE-SECOND
{
	ip -n "$1" link add "$2" type veth peer name "$4" netns "$3"
	ip -n "$3" addr add "$5" dev "$4"
	ip -n "$1" link set "$2" up
	ip -n "$3" link set "$4" up
}

neighbour()	# ADDRESS DEV PORT-OF-GEN
{
	ip -n "$sw" neigh replace "$1" dev "$2" nud permanent lladdr "$(ip -n "$GEN" -j link show "$3" | jq -r '.[0].address')"
}

for ns in "$GEN" "$BARE" "$sw"; do
	ip netns add "$ns"
	ip netns exec "$ns" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
done
pair "$GEN" g0 "$sw" s0 10.64.0.1/24
pair "$GEN" g1 "$sw" s1 10.64.1.1/24
pair "$GEN" h0 "$BARE" b0 10.64.0.1/24
pair "$GEN" h1 "$BARE" b1 10.64.1.1/24
neighbour 10.64.0.11 s0 g0
neighbour 10.64.1.11 s1 g1

awk 'BEGIN { for (i = 0; i < 1048576; i++) printf "10.%d.%d.%d\n", i / 65536, i / 256 % 256, i % 256 }' >"$dir/denied"
cat >"$dir/balance.lua" <<END
tg.port "s0"
tg.port "s1"
tg.service { name = "back", mode = "l2dsr", vip = "198.51.100.10:80", backends = { "10.64.0.11" } }
tg.service { name = "through", mode = "l2dsr", vip = "198.51.100.11:80", backends = { "10.64.1.11" } }
END
{ cat "$dir/balance.lua"; echo "tg.deny:load '$dir/denied'"; } >"$dir/deny.lua"
cp "$dir/balance.lua" "$dir/path.lua"
"$build/tidegate" run "$dir/path.lua" --instance "$instance" --netns "$sw" 2>"$dir/log" &
daemon=$!
for ((i = 0; i < 100; i++)); do
	"$build/tidegate" status --instance "$instance" >/dev/null 2>&1 && break
	kill -0 $daemon 2>/dev/null || { cat "$dir/log" >&2; exit 1; }
	sleep 0.1
done
measure()	# NAME ACTION ADDRESS
{
	"$build/path_bench" "$1" "$2" "$3" 80 "/sys/fs/bpf/tidegate/$instance" "$json"
}
sleep 1	# next hops
measure path.balance tx 198.51.100.10
measure path.redirect redirect 198.51.100.11
cp "$dir/deny.lua" "$dir/path.lua"
"$build/tidegate" reload --instance "$instance" >/dev/null
measure path.deny drop 198.51.100.10
