#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Packets a second along a whole path of veth pairs: a daemon's switch that denies (2^20 denied
# hosts), balances back out of the port (XDP_TX) and out of another (redirect), each beside a program
# that does only that. How it is measured: path_bench.c.
#
#   tests/bench/path.sh [--json FILE]     BUILD=build: where tidegate and path_bench are
set -euo pipefail

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib/path.sh"

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

path_up path "$@"
pair "$GEN" g0 "$sw" s0 10.64.0.1/24
pair "$GEN" g1 "$sw" s1 10.64.1.1/24
pair "$GEN" h0 "$BARE" b0 10.64.0.1/24
pair "$GEN" h1 "$BARE" b1 10.64.1.1/24
neighbour 10.64.0.11 s0 g0
neighbour 10.64.1.11 s1 g1

awk 'BEGIN { for (i = 0; i < 1048576; i++) printf "10.%d.%d.%d\n", i / 65536, i / 256 % 256, i % 256 }' >"$dir/denied"
cat >"$dir/path.lua" <<END
tg.port "s0"
tg.port "s1"
tg.service { name = "back", mode = "l2dsr", vip = "198.51.100.10:80", backends = { "10.64.0.11" } }
tg.service { name = "through", mode = "l2dsr", vip = "198.51.100.11:80", backends = { "10.64.1.11" } }
END
path_daemon
sleep 1	# next hops
path_measure path.balance tx 198.51.100.10
path_measure path.redirect redirect 198.51.100.11
echo "tg.deny:load '$dir/denied'" >>"$dir/path.lua"
path_daemon
path_measure path.deny drop 198.51.100.10
