#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Random packets through the XDP program as a daemon set it up and left it, with a service of every
# kind (see tests/fuzz/fuzz.h).
#
#   tests/fuzz/fuzz_test.sh [--packets N] [--seed S]     5,000,000 packets of a seed of today
. "$(dirname "$0")/../net/lib.sh"

packets=5000000 traced=100000 single=200000 seed=$(date +%Y%m%d)
while [ $# -gt 0 ]; do
	case $1 in
	--packets) packets=$2 ;;
	--seed) seed=$2 ;;
	*) sed -n '7s/^# *//p' "$0" >&2; exit 2 ;;
	esac
	shift 2
done

lab_up --backends 3

# VERDICT LIST PREFIX [count]: allowed inside of denied inside of allowed, on both lists, of odd lengths
lists=(
	"deny hosts 192.0.2.66/32 count" "deny hosts 203.0.113.66/32" "allow friends 203.0.113.66/32 count"
	"deny nets 203.0.113.0/24" "allow friends 203.0.113.128/25" "deny odd 203.0.113.192/27"
	"allow friends 203.0.113.200/32" "deny nets 198.18.0.0/15" "deny odd 240.0.0.0/5" "deny odd 192.0.2.128/29"
	"deny hosts 2001:db8:c::66/128 count" "deny hosts 2001:db8:bad:1::66/128"
	"allow friends 2001:db8:bad:1::66/128 count" "deny nets 2001:db8:bad::/48"
	"allow friends 2001:db8:bad:8000::/49" "deny odd 2001:db8:bad:8080::/57"
	"allow friends 2001:db8:bad:8080::1/128" "deny nets 2600:1000::/24" "deny odd 3000::/5"
	"deny odd 2001:db8:c::ff00/121"
)
declared=() named=()	# the same as Lua, as options
for entry in "${lists[@]}"; do
	read -r verdict list prefix count <<<"$entry"
	declared+=("tg.$verdict:add('$prefix', { list = '$list'${count:+, count = true} })")
	named+=(--list "$list=$prefix")
done

cat >"$WORK/four.lua" <<-END
	tg.port "eth0"
	tg.service { name = "four", mode = "l2dsr", backends = { "10.0.0.11", "10.0.0.12" },
		vip = { "$LAB_VIP4:80/tcp", "$LAB_VIP4:53/udp" } }
END
printf '%s\n' 'tg.port "eth0"' "${declared[@]:10}" >"$WORK/six.lua"	# IPv6 lists, and nothing else
cat >"$WORK/all.lua" <<-END
	local tg = require "tidegate"
	tg.port "eth0"
	tg.port "eth1"
	local both = { "10.0.0.11", "10.0.0.12", "2001:db8:1::11", "2001:db8:1::12" }
	tg.service { name = "direct", mode = "l2dsr", backends = both,
		vip = { "$LAB_VIP4:80/tcp", "[$LAB_VIP6]:80/tcp", "$LAB_VIP4:53/udp", "[$LAB_VIP6]:53/udp" } }
	tg.service { name = "nat", mode = "nat", backends = { "10.0.0.11:8080", "10.0.0.12:8080", "[2001:db8:1::11]:8080" },
		vip = { "$LAB_VIP4:8080/tcp", "[$LAB_VIP6]:8080/tcp", "$LAB_VIP4:8080/udp", "[$LAB_VIP6]:8080/udp" } }
	for i, mode in ipairs { "ipip", "gue" } do -- 4in4 and 6in4, 4in6 and 6in6
		tg.service { name = mode, mode = mode, backends = both,
			vip = { "198.51.100.2" .. i .. ":80/tcp", "[2001:db8::2" .. i .. "]:80/udp" } }
	end
	tg.service { name = "ranges", mode = "nat", backends = { "10.0.0.13", "[2001:db8:1::13]" },
		vip = { "198.51.100.30:1000-2000/tcp", "[2001:db8::30]:*/udp" } }
	tg.service { name = "quic", mode = "l2dsr", backends = both, quic = true,
		vip = { "198.51.100.31:443/udp", "[2001:db8::31]:443/udp" } }
	$(printf '%s ' "${declared[@]}")
	tg.service { name = "open", mode = "l2dsr", backends = { "10.0.0.11" }, fail = "pass", vip = "198.51.100.11:80/tcp" }
END

set_up()	# FILE: a daemon does, and is gone
{
	[ ! -e "/sys/fs/bpf/tidegate/$INSTANCE" ] || tg unload >/dev/null
	daemon_start "$1"
	daemon_stop KILL	# what it pinned goes on; nobody else touches the tables,
	rm "/sys/fs/bpf/tidegate/$INSTANCE/links/"*	# nor do packets of the lab's own pass the program
}

fuzz()		# PACKETS [OPTION…]
{
	local packets=$1
	shift
	nsenter --net="/run/netns/$LAB_SW" -- "$ROOT/build/xdp_fuzz" --pins "/sys/fs/bpf/tidegate/$INSTANCE" \
		--device eth0 --packets "$packets" --seed "$seed" "$@" "$LAB_CLIENT4" "$LAB_CLIENT6" >"$WORK/fuzz.out"
}

set_up "$WORK/all.lua"
check "each of $packets random packets of seed $seed has one reason and leaves well-formed" fuzz "$packets" "${named[@]}"
cat "$WORK/fuzz.out"
check "of each of $traced what becomes of it is traced before, and tracing changes no table" \
	fuzz "$traced" --trace "${named[@]}"
cat "$WORK/fuzz.out"

set_up "$WORK/four.lua"
check "each of $single has one reason where there are only services of IPv4" fuzz "$single"
cat "$WORK/fuzz.out"
set_up "$WORK/six.lua"
check "and where there are only lists of IPv6" fuzz "$single" "${named[@]:20}"
cat "$WORK/fuzz.out"
