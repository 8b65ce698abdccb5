#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Loading prefixes into a running daemon, from Lua: 100,000 and 1,000,000 of IPv4 and of IPv6 by deny:load in a
# task, and a refreshed feed by deny:replace (one in a hundred prefixes is another), beside `nft -f` with the same
# prefixes as a set of a network namespace of its own. The tables are in use already: the first prefix of a family
# also costs a program. Meanwhile a task wakes every millisecond, and another asks the engine: the longest time that
# either had to wait is printed too.
#
# IPv4: 70 % /32, 20 % /24, the rest /16 to /31. IPv6: half /64, a quarter /48, a quarter /128.
#
#   tests/bench/lists.sh [--json FILE] [--rounds N]     BUILD=build: where tidegate is
set -euo pipefail

json=/dev/null rounds=5
while [ $# -gt 0 ]; do
	case $1 in
	--json) json=$2 ;;
	--rounds) rounds=$2 ;;
	*) echo "lists.sh: unknown option $1" >&2; exit 2 ;;
	esac
	shift 2
done

root=$(cd "$(dirname "$0")/../.." && pwd)
tidegate=${BUILD:-$root/build}/tidegate
instance=lists-$$ netns=tglists$$
dir=$(mktemp -d /tmp/tidegate-lists.XXXXXX)
daemon=

cleanup()
{
	if [ -n "$daemon" ]; then
		if kill "$daemon" 2>/dev/null; then wait "$daemon" 2>/dev/null || true; fi
		"$tidegate" unload --instance "$instance" >/dev/null 2>&1 || true
	fi
	ip netns del "$netns" 2>/dev/null
	rm -rf "$dir"
	return 0
}
trap cleanup EXIT
trap 'exit 1' INT TERM
command -v nft >/dev/null || { echo "lists.sh: needs nft" >&2; exit 3; }
ip netns add "$netns"

# --- the prefixes ---------------------------------------------------------------------------------

prefixes4()	# COUNT SEED: distinct ones, in no order
{
	awk -v count="$1" -v seed="$2" 'BEGIN {
		srand(seed)
		while (n < count) {
			kind = rand()
			length_ = kind < 0.7 ? 32 : kind < 0.9 ? 24 : 16 + int(rand() * 16)
			size = 2 ^ (32 - length_)
			addr = int((16777216 + rand() * 3724541952) / size) * size
			key = addr "/" length_
			if (key in seen) continue
			seen[key] = 1; n++
			printf "%d.%d.%d.%d/%d\n", addr / 16777216, addr / 65536 % 256, addr / 256 % 256, addr % 256, length_
		}
	}'
}

prefixes6()	# COUNT SEED
{
	awk -v count="$1" -v seed="$2" 'function word() { return int(rand() * 65536) }
		BEGIN {
		srand(seed)
		for (n = 0; n < count; n++) {
			at = sprintf("2a%02x:%x:%x", n % 256, word(), int(n / 16) % 65536)
			kind = n % 4
			if (kind < 2) printf "%s:%x::/64\n", at, word()
			else if (kind == 2) printf "%s::/48\n", at
			else printf "%s:%x:%x:%x:%x:%x\n", at, word(), word(), word(), word(), word()
		}
	}'
}

nft_set()	# FILE TYPE
{
	printf 'table inet t {\nset s {\ntype %s\nflags interval\nauto-merge\nelements = {\n' "$2"
	sed 's/$/,/' "$1"
	printf '}\n}\n}\n'
}

for size in 100k 1m; do
	count=$([ $size = 1m ] && echo 1000000 || echo 100000)
	prefixes4 "$count" 1 >"$dir/v4.$size"
	prefixes6 "$count" 1 >"$dir/v6.$size"
	nft_set "$dir/v4.$size" ipv4_addr >"$dir/nft.v4.$size"
	nft_set "$dir/v6.$size" ipv6_addr >"$dir/nft.v6.$size"
done

# --- the daemon -----------------------------------------------------------------------------------

cat >"$dir/lists.lua" <<'END'
tg.instance { memory = "512M" }
tg.deny:add("192.0.2.1", { list = "kept" })
tg.deny:add("2001:db8::1", { list = "kept" })
tg.service { name = "web", mode = "l2dsr", vip = "198.51.100.10:80", backends = { "192.0.2.10" } }
local now = tg._test.now
local longest = { loop = 0, engine = 0 }

local function note(name, since)
  longest[name] = math.max(longest[name], now() - since)
end

tg.spawn(function()
  while true do
    local before = now()
    tg.sleep(0.001)
    note("loop", before + 0.001)
  end
end)

tg.spawn(function()
  while true do
    local before = now()
    tg.services.web:lookup "192.0.2.7:40000"
    note("engine", before)
    tg.sleep(0.001)
  end
end)

-- What is asked for runs as a task of this script, so that a reload takes it off the list again.
local job, answer

local function timed(fn, ...)
  tg.sleep(0.05) -- what made the arguments has nothing to do with it
  longest.loop, longest.engine = 0, 0
  local before = now()
  assert(fn(tg.deny, ...))
  local seconds = now() - before
  tg.sleep(0.01)
  return ("%.4f %.2f %.2f"):format(seconds, longest.loop * 1000, longest.engine * 1000)
end

tg.every(0.005, function()
  local now_due = job
  job = nil
  if now_due then answer = now_due() end
end)

function measure_load(path)
  job = function() return timed(tg.deny.load, path, { list = "feed" }) end
end

--- A text as a download gives it, the same for the same seed but for one line in a hundred. Fifty lines at a time:
--- a million small strings would be garbage that the loop has to sweep while it is measured.
local function text(count, seed)
  local format, pieces, bytes = ("%d.%d.%d.%d\n"):rep(50), {}, {}
  for i = 1, count do
    local n = i * 2654435761 + (i % 100 == 0 and seed or 0)
    local at = (i - 1) % 50 * 4
    bytes[at + 1], bytes[at + 2], bytes[at + 3], bytes[at + 4] = 1 + (n >> 24) % 220, n >> 16 & 255, n >> 8 & 255, n & 255
    if i % 50 == 0 then pieces[#pieces + 1] = format:format(table.unpack(bytes)) end
    if i % 1000 == 0 then tg.sleep(0) end
  end
  return table.concat(pieces)
end

function measure_replace(count)
  job = function()
    assert(tg.deny:replace("feed", text(count, 1)))
    local said = timed(tg.deny.replace, "feed", text(count, 2))
    assert(tg.deny:replace("feed", {}, { min = 0 })) -- a reload would keep it
    return said
  end
end

--- Nothing: how long the machine itself makes them wait.
function measure_nothing()
  job = function() return timed(function() tg.sleep(0.5) return true end) end
end

function result()
  local given = answer
  answer = nil
  return given
end
END
TIDEGATE_TEST_HOOKS=1 "$tidegate" run "$dir/lists.lua" --instance "$instance" --netns "$netns" --no-attach 2>"$dir/log" &
daemon=$!
ask()	{ "$tidegate" eval "$1" --instance "$instance"; }
for ((i = 0; i < 100; i++)); do
	ask 1 >/dev/null 2>&1 && break
	kill -0 $daemon 2>/dev/null || { cat "$dir/log" >&2; exit 1; }
	sleep 0.1
done

# --- by turns -------------------------------------------------------------------------------------

timed()		# FILE LUA: has the daemon do it, and appends "SECONDS LOOP-MS ENGINE-MS"
{
	local said=nil
	ask "$2" >/dev/null
	for ((i = 0; i < 600 && ${#said} < 5; i++)); do
		sleep 0.05
		said=$(ask 'result()' | tr -d '"')
	done
	[ ${#said} -ge 5 ] || { cat "$dir/log" >&2; exit 1; }
	echo "$said" >>"$1"
	"$tidegate" reload --instance "$instance" >/dev/null
}

nft_timed()	# FILE SET
{
	local before=${EPOCHREALTIME/[.,]/}
	ip netns exec "$netns" nft -f "$2"
	echo "$((${EPOCHREALTIME/[.,]/} - before))" | awk '{ printf "%.4f\n", $1 / 1e6 }' >>"$1"
	ip netns exec "$netns" nft delete table inet t
}

for ((round = 0; round < rounds; round++)); do
	timed "$dir/nothing" measure_nothing\(\)
	for size in 100k 1m; do
		for family in v4 v6; do
			timed "$dir/load.$family.$size" "measure_load '$dir/$family.$size'"
			# nft takes up to a minute for a million, and varies little: once is enough
			if [ $round = 0 ]; then
				nft_timed "$dir/nft.load.$family.$size" "$dir/nft.$family.$size"
			fi
		done
		timed "$dir/replace.v4.$size" "measure_replace($([ $size = 1m ] && echo 1000000 || echo 100000))"
	done
done

median()	{ sort -n "$1" | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
longest()	{ awk -v field="$1" '$field > most { most = $field } END { print most + 0 }' "${@:2}"; }

print()		# NAME VALUE UNIT [FLOOR] [AIM]
{
	awk -v name="$1" -v value="$2" -v unit="$3" -v floor="${4:-0}" -v aim="${5:-0}" -v json="$json" 'BEGIN {
		line = sprintf("%-22s %8.3f %s", name, value, unit)
		if (floor) line = line sprintf("   nft -f %8.3f s: %.3f of it", floor, value / floor)
		if (aim) line = line sprintf("   aim %g%s", aim, value > aim ? "  MISSED" : "")
		print line
		printf "{\"name\":\"%s\",\"value\":%s,\"unit\":\"%s\",\"floor\":%s,\"ratio\":%.4f}\n",
			name, value, unit, floor ? floor : "null", floor ? value / floor : 0 >>json
	}'
}

for size in 100k 1m; do
	aim=$([ $size = 1m ] && echo 0.6 || echo 0.1)
	print lists.load4.$size "$(median "$dir/load.v4.$size")" s "$(median "$dir/nft.load.v4.$size")" "$aim"
	print lists.load6.$size "$(median "$dir/load.v6.$size")" s "$(median "$dir/nft.load.v6.$size")" "$aim"
	print lists.replace4.$size "$(median "$dir/replace.v4.$size")" s
done
print lists.loop.idle "$(longest 2 "$dir/nothing")" ms
print lists.loop.longest "$(longest 2 "$dir"/load.* "$dir"/replace.*)" ms 0 20
print lists.engine.longest "$(longest 3 "$dir"/load.* "$dir"/replace.*)" ms
