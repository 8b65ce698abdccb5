#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The program is replaced in place whenever the features in use change: under a stream of packets, each
# of another flow, nat, IPv6 VIPs and deny lists come and go, and every packet arrives at a backend.
. "$(dirname "$0")/lib.sh"

port=7000 rate=4000 seconds=30 changes=20
script=$WORK/web.lua
pins=/sys/fs/bpf/tidegate/$INSTANCE

write_script()	# NUMBER: its bits say which features are in use
{
	{
		echo "tg.port 'eth0' tg.port 'eth1'"
		echo "tg.service { name = 'web', mode = 'l2dsr', vip = '$LAB_VIP4:$port', backends = { '10.0.0.11', '10.0.0.12' } }"
		(($1 & 1)) && echo "tg.service { name = 'n', mode = 'nat', vip = '198.51.100.20:80', backends = { '10.0.0.12:8080' } }"
		(($1 & 2)) && echo "tg.service { name = 's', mode = 'l2dsr', vip = '[$LAB_VIP6]:80', backends = { '2001:db8:1::11' } }"
		(($1 & 4)) && echo "tg.deny:add('203.0.113.0/24', { reason = 'scanner' })"
	} >"$script.new"
	mv "$script.new" "$script"
}

program()	{ bpftool -j prog show pinned "$pins/program" | jq -r .id; }
received()	{ tshark -n -r "$1" -T fields -e ip.src -e tcp.srcport -e tcp.seq_raw 2>/dev/null; }

lab_up --backends 2
write_script 0
daemon_start "$script"
on client ping -c 1 -w 2 10.0.0.1 >/dev/null 2>&1	# whoever has to be resolved is
capture b1 eth0 "$WORK/b1.pcap" -B 65536 -s 64 "dst host $LAB_VIP4 and tcp dst port $port"
capture b2 eth0 "$WORK/b2.pcap" -B 65536 -s 64 "dst host $LAB_VIP4 and tcp dst port $port"

mac=$(ip -n "$LAB_SW" -j link show eth0 | jq -r '.[0].address')
on client "$ROOT/build/steady" flood eth0 "$mac" "$LAB_VIP4" $port $((rate * seconds)) $rate >"$WORK/flood" &
flood=$!
background+=("$flood")

failed=0
program >"$WORK/programs"
for ((i = 1; i <= changes; i++)); do
	write_script $((i * 3 % 8))
	tg reload >"$WORK/reload.out" 2>&1 || failed=$((failed + 1))
	program >>"$WORK/programs"
	sleep 0.3
done
check_equal "each of $changes reloads succeeds" 0 $failed
check "packets were sent all the while" kill -0 $flood
wait $flood
sleep 0.5
captures_end
check_that "each replaced the program" "$(uniq "$WORK/programs" | wc -l) == changes + 1"
check_equal "tcpdump lost nothing of what it counted" "0 0" \
	"$(sed -n 's/^\([0-9]*\) packets\{0,1\} dropped by kernel/\1/p' "$WORK/b1.pcap.log" "$WORK/b2.pcap.log" | xargs)"
{ received "$WORK/b1.pcap"; received "$WORK/b2.pcap"; } | sort >"$WORK/received"
check_equal "every packet arrived" $((rate * seconds)) "$(uniq "$WORK/received" | wc -l)"
check_equal "and none twice" "" "$(uniq -d "$WORK/received")"
