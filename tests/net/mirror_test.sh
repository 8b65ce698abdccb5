#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Mirrors with real traffic: what a tap sees is what was on the wire, of packets that the stack forwards and of
# those that XDP does; and whatever becomes of the tap's device, production loses nothing.
. "$(dirname "$0")/lib.sh"

collector=tg-$INSTANCE-collector

# shellcheck disable=SC2317	# called by the trap
clean_up()
{
	ip netns del "$collector" 2>/dev/null
	finish
}

there()	{ nsenter --net="/run/netns/$collector" -- "$@"; }

tap_device()	# NAME: in the switch; its other end, of the same name, in the collector's namespace
{
	ip link add name "$1" netns "$LAB_SW" type veth peer name "$1" netns "$collector"
	there sysctl -qw "net.ipv6.conf.$1.disable_ipv6=1"
	on sw sysctl -qw "net.ipv6.conf.$1.disable_ipv6=1"
	there ip link set "$1" up
	ip -n "$LAB_SW" link set "$1" up
}

script()
{
	cat <<-'END'
		local tg = require "tidegate"
		local wan = tg.port "eth0"
		tg.port "eth1"
		local aside, beside = tg.port "tap1", tg.port "tap2"
		tg.service { name = "web", mode = "l2dsr", vip = { "198.51.100.10:80/tcp", "[2001:db8::10]:80/tcp" },
			backends = { "10.0.0.11", "10.0.0.12", "2001:db8:1::11", "2001:db8:1::12" } }
		tg.service { name = "closed", mode = "l2dsr", vip = "198.51.100.10:23/tcp", backends = { "10.0.0.11" } }
		tg.service { name = "app", mode = "nat", vip = "198.51.100.10:81/tcp", backends = { "10.0.0.11:8080" } }
		wan:mirror { name = "http", to = "tap0", match = { proto = "tcp", port = 80 } }
		wan:mirror { name = "all", to = "tap1" }
		wan:mirror { name = "tenth", to = "tap2", sample = 10 }
		wan:mirror { name = "app", to = "tap2", match = { { proto = "tcp", dport = 81 }, { proto = "tcp", sport = 81 } } }
		wan:mirror { name = "telnet", to = "tap2", match = { proto = "tcp", port = { 23, 24 } } }
		aside:mirror { name = "there", to = "tap2" }
		beside:mirror { name = "back", to = "tap1" }
		wan:policy("ingress", { default = "accept", { "drop", proto = "tcp", dport = 23 } })
		wan:policy("egress", { default = "accept", { "drop", proto = "tcp", sport = 24 } })
	END
}

# --- requests ------------------------------------------------------------------------------------

fetch_many()	# COUNT URL…: each so often, side by side; prints how many of them were not answered
{
	local url count=$1 i
	shift
	for url; do
		on client curl -s -m 20 -o /dev/null -w '%{http_code}\n' "$url?[1-$count]" &
	done | grep -cvx 200
}

noise()		# other traffic: UDP, ping, another port
{
	local i
	for ((i = 0; i < 200; i++)); do
		echo "$i" >/dev/udp/10.0.0.11/5353
		ping -c 1 -W 1 10.0.0.12 >/dev/null
		curl -s -m 1 -o /dev/null http://10.0.0.11:8080/
	done 2>/dev/null
}

record()	# NETNS DEVICE FILE [FILTER…]: a capture that may be large
{
	nsenter --net="/run/netns/$1" -- \
		tcpdump -B 32768 --immediate-mode -s 128 -n -i "$2" -w "$3" "${@:4}" 2>"$3.log" &
	captures+=($!)
	wait_for 5 grep -q listening "$3.log"
}

lines_of()	# FILE [FILTER…]: its packets in words, without the times, sorted
{
	tcpdump -n -t -S -v -r "$1" "${@:2}" 2>/dev/null | paste -sd' ' | sed 's/ \(IP6\? \)/\n\1/g' | tr -s ' ' | sort
}

packets_in()	{ tcpdump -n -r "$1" "${@:2}" 2>/dev/null | grep -c '^[0-9]'; }
status_of()	{ tg eval "tg.mirrors.$1:status().$2"; }
count_of()	{ status_of "$1" "counts[\"$2\"].packets"; }
start()		{ check "mirror $1 starts" tg eval "assert(tg.mirrors.$1:start($2))"; }
ended()		{ [ "$(status_of "$1" state)" = '"ended"' ]; }

# --- what a tap sees -----------------------------------------------------------------------------

all_of_port_80_and_nothing_else()
{
	local unanswered
	start http 120
	start tenth 120
	record "$LAB_CLIENT" eth0 "$WORK/wire.pcap" tcp port 80
	record "$collector" tap0 "$WORK/tap.pcap"
	in_background on client bash -c "$(declare -f noise); noise"
	unanswered=$(fetch_many 2500 http://10.0.0.11/ "http://$LAB_VIP4/" "http://[$LAB_VIP6]/" http://10.0.0.12/)
	check_equal "10,000 requests are answered" 0 "$unanswered"
	captures_end
	lines_of "$WORK/wire.pcap" >"$WORK/wire"
	lines_of "$WORK/tap.pcap" >"$WORK/tap"
	check_that "there are packets of each request" "$(wc -l <"$WORK/wire") > 20000"
	check "the tap sees every packet of port 80, both directions, and nothing else" cmp "$WORK/wire" "$WORK/tap"
	check_equal "and counts them" "$(packets_in "$WORK/tap.pcap")" "$(status_of http packets)"
	check_equal "no other count is there" '{}' "$(tg eval '(function() local more = {}
		for what, n in pairs(tg.mirrors.http:status().counts) do
			if what ~= "copied" and n.packets > 0 then more[what] = n.packets end
		end return more end)()')"
	check "a mirror stops" tg eval 'assert(tg.mirrors.http:stop())'
}

one_in_ten()
{
	local copied all # of the requests before
	copied=$(count_of tenth copied)
	all=$((copied + $(count_of tenth skipped)))
	check_that "sample = 10 takes a tenth of $all packets, within 10 %: $copied" \
		"all > 20000 && copied * 10 > all * 90 / 100 && copied * 10 < all * 110 / 100"
	tg eval 'tg.mirrors.tenth:stop()' >/dev/null
}

translated_packets_too()
{
	start app 60
	record "$LAB_CLIENT" eth0 "$WORK/wire.pcap" tcp port 81
	record "$collector" tap2 "$WORK/tap.pcap"
	check_equal "requests through nat are answered" 0 "$(fetch_many 100 "http://$LAB_VIP4:81/")"
	captures_end
	check_equal "every packet of a service in nat is copied" "$(packets_in "$WORK/wire.pcap")" \
		"$(packets_in "$WORK/tap.pcap")"
	check_equal "what comes in is copied as it leaves" "$(packets_in "$WORK/wire.pcap" dst port 81)" \
		"$(packets_in "$WORK/tap.pcap" dst 10.0.0.11 and dst port 8080)"
	tg eval 'tg.mirrors.app:stop()' >/dev/null
}

dropped_packets()
{
	in_background on b1 ncat -k -l 24 --sh-exec 'cat'
	start telnet 60
	record "$LAB_CLIENT" eth0 "$WORK/wire.pcap" tcp port 23 or tcp port 24
	record "$collector" tap2 "$WORK/tap.pcap"
	on client ncat -w 2 10.0.0.11 23 </dev/null >/dev/null 2>&1
	on client ncat -w 2 10.0.0.11 24 </dev/null >/dev/null 2>&1
	on client ncat -w 2 "$LAB_VIP4" 23 </dev/null >/dev/null 2>&1
	captures_end
	check_that "what comes in and is dropped is copied" "$(packets_in "$WORK/tap.pcap" dst port 23) > 0"
	check_that "also for a VIP" "$(packets_in "$WORK/tap.pcap" dst "$LAB_VIP4" and dst port 23) > 0"
	check_that "so is what is let in" "$(packets_in "$WORK/tap.pcap" dst port 24) > 0"
	check_equal "what does not leave is not" 0 "$(packets_in "$WORK/tap.pcap" src port 24)"
	check_equal "all that was sent is there" "$(packets_in "$WORK/wire.pcap" dst port 23 or dst port 24)" \
		"$(packets_in "$WORK/tap.pcap")"
	tg eval 'tg.mirrors.telnet:stop()' >/dev/null
}

no_loops()
{
	start there 60
	start back 60
	start all 60
	on client ping -q -c 20 -i 0.01 10.0.0.11 >/dev/null
	check_that "a mirror of what leaves by a mirror's device copies no copy" "$(count_of there copied) == 0"
	check_that "it knows them" "$(count_of there looped) >= 40"
	check_that "each packet was copied once" \
		"$(count_of all copied) >= 40 && $(count_of all copied) < 200 && $(count_of back copied) == 0"
	tg eval '(function() for _, m in ipairs { "there", "back", "all" } do tg.mirrors[m]:stop() end end)()' >/dev/null
}

# --- other ways that packets come ----------------------------------------------------------------

tagged()	# HOW: frames with one VLAN tag and two, for a VIP
{
	local one two
	read -r one two < <("$TIDEGATE" lua <(echo 'local function syn(vlan) return tg.packet { eth = { dst = arg[1] },
		vlan = vlan, ip = { src = "192.0.2.7", dst = arg[2] }, tcp = { sport = 4000, dport = 80, flags = "S" } }:hex() end
		print(syn(7), syn { 7, 8 })') "$(on sw cat /sys/class/net/eth0/address)" "$LAB_VIP4")
	start http 60
	record "$collector" tap0 "$WORK/tap.pcap"
	record "$LAB_FABRIC" up1 "$WORK/fabric.pcap" vlan
	for _ in 1 2 3 4 5; do on client "$ROOT/build/frame" eth0 "$one" "$two"; done
	sleep 0.5
	captures_end
	check_equal "tagged frames for a VIP are forwarded, $1" "5 5" \
		"$(packets_in "$WORK/fabric.pcap" vlan 7 and tcp) $(packets_in "$WORK/fabric.pcap" vlan 7 and vlan 8 and tcp)"
	check_equal "and copied with their tags, $1" "5 5" \
		"$(packets_in "$WORK/tap.pcap" vlan 7 and tcp) $(packets_in "$WORK/tap.pcap" vlan 7 and vlan 8 and tcp)"
	tg eval 'tg.mirrors.http:stop()' >/dev/null
}

whole_files()	# HOW: 100 MB through a VIP while it is mirrored; frames may be joined on the way
{
	local want got
	want=$(sha256sum <"$LAB_DIR/files/bulk")
	start app 60
	got=$(on client curl -s -m 30 "http://$LAB_VIP4:81/files/bulk" | sha256sum)
	check_equal "a file comes whole, $1" "$want" "$got"
	check_that "and its packets are copied: $(count_of app copied)" "$(count_of app copied) > 100"
	check_equal "none is missed" 0 "$(count_of app missed)"
	tg eval 'tg.mirrors.app:stop()' >/dev/null
}

other_ways()
{
	tagged "by native XDP"
	whole_files "by native XDP"
	on sw ip link set eth0 gro_max_size 65536
	on sw ip link set eth1 gro_max_size 65536
	whole_files "where the kernel joins frames"
	on sw ip link set eth0 gro_max_size 1
	on sw ip link set eth1 gro_max_size 1
	sed -i 's/tg.port "eth0"/tg.port("eth0", { xdp = "generic" })/; s/tg.port "eth1"/tg.port("eth1", { xdp = "generic" })/' \
		"$WORK/mirror.lua"
	check "a reload to generic XDP" tg reload
	tagged "by generic XDP"
	whole_files "by generic XDP"
	echo "# policies and mirrors know packets by generic XDP:"
	dropped_packets
	sed -i 's/tg.port("eth\([01]\)", { xdp = "generic" })/tg.port "eth\1"/' "$WORK/mirror.lua"
	check "and back" tg reload
}

# --- what becomes of its device ------------------------------------------------------------------

fetch_under()	# WHAT MIRROR COUNT CMD…: requests while the command runs; the mirror then has counted that
{
	local what=$1 mirror=$2 count=$3
	shift 3
	start "$mirror" 60
	(sleep 0.3; "$@") &
	check_equal "no request fails while $what" 0 \
		"$(fetch_many 1000 http://10.0.0.11/ "http://$LAB_VIP4/" "http://[$LAB_VIP6]/")"
	wait $!
	sleep 1.2
	fetch_many 200 "http://$LAB_VIP4/" >/dev/null
	check_that "which is counted: $count $(count_of "$mirror" "$count")" "$(count_of "$mirror" "$count") > 0"
}

copies_arrive()	# at the collector's end of tap0
{
	local before
	before=$(received_by tap0)
	fetch_many 1 "http://$LAB_VIP4/" >/dev/null
	[ "$(received_by tap0)" -gt "$before" ]
}

received_by()	{ ip -n "$collector" -j -s link show "$1" | jq '.[0].stats64.rx.packets'; }

production_goes_on()
{
	fetch_under "the tap's device goes down" http device-down ip -n "$LAB_SW" link set tap0 down
	ip -n "$LAB_SW" link set tap0 up
	fetch_under "the tap's device is full" http device-full \
		tc -n "$LAB_SW" qdisc add dev tap0 root tbf rate 64kbit burst 2kb limit 3kb
	tc -n "$LAB_SW" qdisc del dev tap0 root
	fetch_under "the tap's device is deleted" http device-gone ip -n "$LAB_SW" link del tap0
	check_equal "the mirror goes on" '"started"' "$(status_of http state)"
	check_says "and says what is wrong" 0 'device tap0: gone' tg status
	tap_device tap0
	check "and sends to a device of that name that is there again" wait_for 5 copies_arrive
	tg eval 'tg.mirrors.http:stop()' >/dev/null
}

starting_and_stopping()
{
	local i unanswered
	(for ((i = 0; i < 10; i++)); do
		tg eval 'tg.mirrors.http:start(10)'
		sleep 0.1
		tg eval 'tg.mirrors.http:stop()'
	done) >/dev/null &
	unanswered=$(fetch_many 1500 "http://$LAB_VIP4/" "http://[$LAB_VIP6]/" "http://$LAB_VIP4:81/")
	wait $!
	check_equal "no request fails while a mirror starts and stops" 0 "$unanswered"
}

# --- ends ----------------------------------------------------------------------------------------

ends_by_packets()
{
	start http '{ packets = 100, seconds = 60 }'
	record "$collector" tap0 "$WORK/tap.pcap"
	fetch_many 100 http://10.0.0.11/ "http://$LAB_VIP4/" >/dev/null
	captures_end
	check_equal "a mirror ends after so many packets" "100" "$(packets_in "$WORK/tap.pcap")"
	check_equal "and says so" '"ended"' "$(status_of http state)"
}

nothing_at_work()
{
	[ "$(bpftool map dump pinned "/sys/fs/bpf/tidegate/$INSTANCE/maps/clock" | jq '.[0].value.taps')" = 0 ]
}

ends_by_seconds()
{
	start http 1
	check "a mirror ends after so many seconds" wait_for 3 ended http
	check "the log tells it" wait_for 3 grep -q 'mirror http: ended' "$DAEMON_LOG"
	check "its port is not asked any more" wait_for 3 nothing_at_work
}

stays_over_a_reload()
{
	start http 60
	echo '-- a comment' >>"$WORK/mirror.lua"
	check "a reload that does not change it" tg reload
	check_equal "leaves a mirror started" '"started"' "$(status_of http state)"
	sed -i 's/port = 80 }/port = 80 }, sample = 2/' "$WORK/mirror.lua"
	check_says "a change of it is in the plan" 4 'mirror http: .*1 in 2; it is started, and will be stopped' \
		tg check "$WORK/mirror.lua"
	check "a reload that changes it" tg reload
	check_equal "stops it" '"off"' "$(status_of http state)"
	sed -i 's/, sample = 2//' "$WORK/mirror.lua"
	tg reload >/dev/null
}

ends_without_the_daemon()
{
	start http '{ packets = 50, seconds = 600 }'
	start all 3
	start app 600
	daemon_stop KILL
	record "$collector" tap0 "$WORK/tap0.pcap"
	record "$collector" tap1 "$WORK/tap1.pcap" icmp
	on client ping -q -c 10 -i 0.01 10.0.0.11 >/dev/null
	sleep 3.2
	on client ping -q -c 10 -i 0.01 10.0.0.11 >/dev/null
	check_equal "with the daemon killed, requests are answered" 0 "$(fetch_many 100 http://10.0.0.11/ "http://$LAB_VIP4/")"
	captures_end
	check_equal "a mirror ends after so many packets" 50 "$(packets_in "$WORK/tap0.pcap")"
	check_equal "and after so many seconds" 20 "$(packets_in "$WORK/tap1.pcap")"
	daemon_start "$WORK/mirror.lua"
	check_equal "the next daemon finds the one that goes on" '"started"' "$(status_of app state)"
	check_equal "and those that ended" '"ended" "ended"' "$(status_of http state) $(status_of all state)"
}

# --- a collector far away ------------------------------------------------------------------------

icmp_received()	{ on sw nstat -asz IcmpInEchos | awk '/IcmpInEchos/ { print $2 }'; }

to_a_collector()
{
	local received
	tap_device far0
	ip -n "$LAB_SW" address add 203.0.113.1/24 dev far0
	there ip address add 203.0.113.9/24 dev far0
	there ip link add vx0 type vxlan id 42 dstport 4789 local 203.0.113.9 remote 203.0.113.1 dev far0 nolearning
	there sysctl -qw net.ipv6.conf.vx0.disable_ipv6=1
	there ip link set vx0 up
	sed -i 's/name = "http", to = "tap0"/name = "http", to = { vxlan = "203.0.113.9", vni = 42 }/' "$WORK/mirror.lua"
	check "a reload that sends to a collector" tg reload
	check "has made a device" on sw ip link show tgvx0
	start http 60
	record "$LAB_CLIENT" eth0 "$WORK/wire.pcap" tcp port 80
	record "$collector" vx0 "$WORK/tap.pcap"
	check_equal "requests are answered" 0 "$(fetch_many 200 http://10.0.0.11/ "http://$LAB_VIP4/")"
	captures_end
	lines_of "$WORK/wire.pcap" >"$WORK/wire"
	lines_of "$WORK/tap.pcap" >"$WORK/tap"
	check "the collector sees the packets as they were" cmp "$WORK/wire" "$WORK/tap"
	on sw sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.tgvx0.rp_filter=0
	received=$(icmp_received)
	there ip address add 10.99.0.2/24 dev vx0
	there ip neigh add 203.0.113.1 lladdr "$(ip -n "$LAB_SW" -j link show tgvx0 | jq -r '.[0].address')" dev vx0
	there ping -q -c 3 -i 0.01 -W 1 -I vx0 203.0.113.1 >/dev/null
	check_that "frames come in by its device" \
		"$(ip -n "$LAB_SW" -j -s link show tgvx0 | jq '.[0].stats64.rx.packets') >= 3"
	check_equal "and are dropped" "$received" "$(icmp_received)"
	tc -n "$LAB_SW" filter del dev tgvx0 ingress
	there ping -q -c 3 -i 0.01 -W 1 -I vx0 203.0.113.1 >/dev/null
	check_that "by its filter alone" "$(icmp_received) > ${received:-0}"
	sed -i '/name = "http"/d' "$WORK/mirror.lua"
	check "a reload without the mirror" tg reload
	check_fails "removes the device" 1 on sw ip link show tgvx0
}

unload_removes_all()
{
	echo 'tg.ports.eth0:mirror { name = "far", to = { vxlan = "203.0.113.9", vni = 7 } }' >>"$WORK/mirror.lua"
	tg reload >/dev/null
	check "there is a device" on sw ip link show tgvx0
	daemon_stop KILL
	check "unload, without a daemon" tg unload
	check_fails "removes it" 1 on sw ip link show tgvx0
}

# --- refusals ------------------------------------------------------------------------------------

refusals()
{
	check_says "a mirror that is not there" 1 'there is no mirror "nobody"' \
		tg eval 'assert(tg.mirrors.nobody:start(1))'
	check_says "a start without an end" 1 'a mirror always ends' tg eval 'tg.mirrors.http:start()'
	ip -n "$LAB_SW" link set tap0 name elsewhere
	check_says "a device that is not there" 1 'device tap0 is not there' tg eval 'assert(tg.mirrors.http:start(1))'
	check_equal "has a code" '"ENODEV"' "$(tg eval '(select(3, tg.mirrors.http:start(1)))')"
	ip -n "$LAB_SW" link set elsewhere name tap0
}

# --- the whole -----------------------------------------------------------------------------------

lab_up --backends 2
ip netns add "$collector"
trap clean_up EXIT
for device in tap0 tap1 tap2; do
	tap_device "$device"
done
head -c 100000000 /dev/urandom >"$LAB_DIR/files/bulk"
script >"$WORK/mirror.lua"
daemon_start "$WORK/mirror.lua"
wait_for 5 fetch_many 1 "http://$LAB_VIP4/"

all_of_port_80_and_nothing_else
one_in_ten
translated_packets_too
dropped_packets
no_loops
other_ways
production_goes_on
starting_and_stopping
ends_by_packets
ends_by_seconds
stays_over_a_reload
refusals
ends_without_the_daemon
to_a_collector
unload_removes_all
