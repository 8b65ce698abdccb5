#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The lab keeps its promises: what the other network tests, the demo and the benchmarks stand on.
. "$(dirname "$0")/lib.sh"

lab=$ROOT/scripts/lab
second=$INSTANCE-2

answer_of()		{ on client curl -s -m 2 "$1"; }
namespaces_of()		{ ip netns list | grep -c "^tg-$1-"; }
processes_of()		{ grep -sl "tidegate-la[b]/$1/" /proc/[0-9]*/cmdline | wc -l; }
received_by()		{ ip -n "$LAB_FABRIC" -j -s link show "$1" | jq '.[0].stats64.rx.packets'; }
second_down()		{ "$lab" down --name "$second"; }

lab_up --backends 3 --second-port

check_equal "a backend answers over IPv4" b2 "$(answer_of http://10.0.0.12/)"
check_equal "a backend answers over IPv6" b3 "$(answer_of 'http://[2001:db8:1::13]/')"
check_equal "a backend sees the client's own address" "$LAB_CLIENT4" "$(answer_of http://10.0.0.11/who | cut -d' ' -f1)"
check_equal "the VIP is on each backend's lo" "$(echo {,,}"$LAB_VIP4/32 $LAB_VIP6/128" | xargs)" \
	"$(for b in $LAB_BACKENDS; do ip -n "tg-$lab_name-$b" -o addr show dev lo scope global | awk '{print $4}'; done | xargs)"
check_fails "nobody answers ARP for the VIP" 1 on sw ping -q -c 1 -W 1 -I eth1 "$LAB_VIP4"
check_equal "exec does not hide bpffs" "$(stat -c %d:%i /sys/fs/bpf)" "$("$lab" exec --name "$lab_name" sw stat -c %d:%i /sys/fs/bpf)"

ip -n "$LAB_SW" route replace 10.0.0.0/24 dev eth2
on b1 ip neigh flush dev eth0
before=$(received_by up2)
check_equal "backends are reached through the second port too" b1 "$(answer_of http://10.0.0.11/)"
check_that "and the packets took that port" "$(received_by up2) > $before"

backend_kill b2
check_fails "a killed backend refuses" 7 on client curl -s -m 2 http://10.0.0.12/
check_equal "its neighbours answer" b3 "$(answer_of http://10.0.0.13/)"
backend_start b2
check_equal "a started backend answers again" b2 "$(answer_of http://10.0.0.12/)"

in_background on client timeout 5 tcpdump -i eth0 -c 60 -w "$WORK/frames.pcap" tcp 2>/dev/null
dd if=/dev/urandom of="$LAB_DIR/files/bulk" bs=1M count=2 status=none
sleep 0.5
check_equal "a file arrives whole" "$(sha256sum <"$LAB_DIR/files/bulk")" "$(answer_of http://10.0.0.11/files/bulk | sha256sum)"
wait "${background[0]}"
check_that "no frame is longer than a wire carries" \
	"$(tshark -r "$WORK/frames.pcap" -T fields -e frame.len 2>/dev/null | sort -n | tail -1) <= 1514"
check_equal "every checksum is right as captured" 60 \
	"$(tcpdump -nvvr "$WORK/frames.pcap" 2>/dev/null | grep -c 'cksum 0x[0-9a-f]* (correct)')"

check "a second lab lives beside it" "$lab" up --name "$second" --backends 1 --routers
check_equal "backends behind routers are reached" b1 \
	"$("$lab" exec --name "$second" client curl -s -m 2 'http://[2001:db8:2::11]/')"
check_fails "a name in use is refused" 2 "$lab" up --name "$second"
check_equal "and what uses it is left alone" 6 "$(namespaces_of "$second")"
second_down
check_equal "down leaves no namespace" 0 "$(namespaces_of "$second")"
check_equal "down leaves no process" 0 "$(processes_of "$second")"
check_equal "down of one lab spares the other" b1 "$(answer_of http://10.0.0.11/)"
check "down without a lab is fine" second_down

ip netns add "tg-$second-b2"
check_fails "a lab that can't be made is an error" 1 "$lab" up --name "$second" --backends 2
check_equal "and leaves no namespace" 0 "$(namespaces_of "$second")"
check_fails "run passes the exit code on" 7 "$lab" run --name "$second" --backends 1 -- sh -c 'exit 7'
# shellcheck disable=SC2016
check_equal "run tells the command about the lab" "tg-$second-client b1" \
	"$("$lab" run --name "$second" --backends 1 -- sh -c 'echo $LAB_CLIENT $LAB_BACKENDS')"

"$lab" run --name "$second" --backends 1 -- sleep 30 &
running=$!
wait_for 5 test -e "/run/tidegate-lab/$second/b1/nginx.pid"
kill -TERM $running
wait $running
check_equal "run takes the lab down when it is stopped" 0 "$(namespaces_of "$second")"
