#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Random packets through the XDP program as a daemon set it up and left it, with a service of every
# kind (see tests/fuzz/fuzz.h).
#
#   tests/fuzz/fuzz_test.sh [--packets N] [--seed S]     5,000,000 packets of a seed of today
. "$(dirname "$0")/../net/lib.sh"

packets=5000000 traced=100000 seed=$(date +%Y%m%d)
while [ $# -gt 0 ]; do
	case $1 in
	--packets) packets=$2 ;;
	--seed) seed=$2 ;;
	*) sed -n '7s/^# *//p' "$0" >&2; exit 2 ;;
	esac
	shift 2
done

lab_up --backends 3

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
	tg.service { name = "open", mode = "l2dsr", backends = { "10.0.0.11" }, fail = "pass", vip = "198.51.100.11:80/tcp" }
END

daemon_start "$WORK/all.lua"
daemon_stop KILL	# what it pinned goes on; nobody else touches the tables,
rm "/sys/fs/bpf/tidegate/$INSTANCE/links/"*	# nor do packets of the lab's own pass the program

fuzz()		# PACKETS [OPTION…]
{
	local packets=$1
	shift
	nsenter --net="/run/netns/$LAB_SW" -- "$ROOT/build/xdp_fuzz" --pins "/sys/fs/bpf/tidegate/$INSTANCE" \
		--device eth0 --packets "$packets" --seed "$seed" "$@" "$LAB_CLIENT4" "$LAB_CLIENT6" >"$WORK/fuzz.out"
}
check "each of $packets random packets of seed $seed has one reason and leaves well-formed" fuzz "$packets"
cat "$WORK/fuzz.out"
check "of each of $traced what becomes of it is traced before, and tracing changes no table" fuzz "$traced" --trace
cat "$WORK/fuzz.out"
