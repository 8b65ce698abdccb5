# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What has to hold in modes ipip and gue, for ipip_test.sh and gue_test.sh: backends behind routers, that
# take packets out with `tidegate decap`; VIPs of either family served by backends of either; a path
# whose MTU shrinks under an upload; a backend that dies.
#
#   . "$(dirname "$0")/tunnel.sh"
#   tunnel_test gue 28 48		# the mode, and bytes that it takes over IPv4 and IPv6
. "$(dirname "$0")/lib.sh"

upload_port=90

script()	# MODE
{
	cat <<-END
		local tg = require "tidegate"
		tg.instance { seed = "the same flows go to the same backends" }
		tg.port "eth0"
		tg.port "eth1"
		local app = tg.pool {
			name = "app", check = { "http", path = "/healthz", port = 80, interval = 0.2, timeout = 0.2, rise = 1, fall = 2 },
			backends = { "10.0.1.11", "10.0.1.12", "2001:db8:2::11", "2001:db8:2::13" },
		}
		tg.service { name = "web", mode = "$1", backends = app, vip = { "$LAB_VIP4:80/tcp", "[$LAB_VIP6]:80/tcp" } }
		tg.service { name = "upload", mode = "$1", backends = app,
			vip = { "$LAB_VIP4:$upload_port/tcp", "[$LAB_VIP6]:$upload_port/tcp" } }
		tg.service { name = "dns", mode = "$1", backends = { "10.0.1.11", "2001:db8:2::13" },
			vip = { "$LAB_VIP4:53/udp", "[$LAB_VIP6]:53/udp" } }
		tg.service { name = "speed", mode = "$1", backends = { "10.0.1.12" },
			vip = { "$LAB_VIP4:5201/tcp", "[$LAB_VIP6]:5201/tcp" } }
	END
}

fetch()		{ on client curl -s -m 3 "$@"; }
sum()		{ sha256sum | cut -d' ' -f1; }
vip_of()	{ if [ "$1" = 4 ]; then echo "$LAB_VIP4"; else echo "$LAB_VIP6"; fi; }
url_of()	{ if [ "$1" = 4 ]; then echo "http://$LAB_VIP4"; else echo "http://[$LAB_VIP6]"; fi; }

answers()	# FAMILY -> the names of those that answered forty new connections
{
	fetch -Z --parallel-max 8 -H 'Connection: close' "$(url_of "$1")/?[1-40]" 2>/dev/null | sort -u | xargs
}

port_to()	# SERVICE FAMILY BACKEND [FROM] -> a port of the client whose flow to that family's VIP goes there
{
	local source=$LAB_CLIENT4
	[ "$2" = 4 ] || source="[$LAB_CLIENT6]"
	tg eval "(function()
		for port = ${4:-20000}, 60000 do
			if tg.services.$1:lookup('$source:' .. port) == '$3' then return port end
		end
	end)()"
}

# --- the lab's backends ----------------------------------------------------------------------------

decap()		# BACKEND OPTION…
{
	on "$1" "$TIDEGATE" decap eth0 "${@:2}"
}

start_servers()	# what nginx does not do: names, checksums of uploads, speed
{
	local b family vip
	for b in $LAB_BACKENDS; do
		for family in 4 6; do
			vip=$(vip_of $family)
			in_background on "$b" ncat -u -k -l "$vip" 53 --sh-exec "read -r line; echo $b heard \$line"
			in_background on "$b" ncat -k -l "$vip" $upload_port --recv-only >>"$WORK/upload.$b.$family"
		done
	done
	in_background on b2 iperf3 -s -B "$LAB_VIP4" >/dev/null 2>&1
	in_background on b2 iperf3 -s -B "$LAB_VIP6" >/dev/null 2>&1
}

# --- what has to hold ------------------------------------------------------------------------------

nothing_without_decap()
{
	check_fails "what nobody takes out is not answered" 28 on client curl -s -m 0.5 "$(url_of 4)/"
}

decap_begins()
{
	local b
	for b in $LAB_BACKENDS; do
		check "decap begins on $b" decap "$b"
	done
	check_says "and says what it accepts" 0 "for the VIPs:.*$LAB_VIP4" decap b1
}

all_answer()
{
	local family
	for family in 4 6; do
		check_equal "backends of both families answer for the VIP of IPv$family" "b1 b2 b3" "$(answers $family)"
		check "a datagram to it is answered, from the VIP" grep -Eq '^b[13] heard you$' <(ask client "$(vip_of $family)" 53)
	done
}

upload()	# FAMILY BACKEND PORT, from standard input: through the VIP to that backend, by that port or one above
{
	on client timeout 15 ncat --send-only -p "$(port_to upload "$1" "$2" "$3")" "$(vip_of "$1")" $upload_port
}

file_of()	# FAMILY BACKEND -> where the backend writes what comes to that VIP
{
	case $2 in *11) echo "$WORK/upload.b1.$1" ;; *13) echo "$WORK/upload.b3.$1" ;; esac
}

is_full()	{ [ "$(stat -c %s "$1")" -ge 1048576 ]; }

has_come()	# FAMILY BACKEND: the sum of what came, when all came or nothing more does
{
	wait_for 3 is_full "$(file_of "$1" "$2")"
	sum <"$(file_of "$1" "$2")"
}

forget_path()
{
	ip -n "$LAB_CLIENT" route flush cache
	ip -n "$LAB_CLIENT" -6 route flush cache
}

learned_mtu()	# FAMILY -> what the client knows of the way to the VIP
{
	ip -n "$LAB_CLIENT" route get "$(vip_of "$1")" | sed -n 's/.* mtu \([0-9]*\).*/\1/p'
}

set_path_mtu()	# MTU: of the switch's routes to the backends
{
	ip -n "$LAB_SW" route replace 10.0.1.0/24 via 10.0.0.251 mtu "$1"
	ip -n "$LAB_SW" route replace 2001:db8:2::/64 via 2001:db8:1::251 mtu "$1"
}

knows_mtu()	# MTU: the controller, of each backend
{
	[ "$(tg eval "(function() local n = 0
		for _, b in ipairs(tg.services.upload:backends()) do if b.next_hop.mtu == $1 then n = n + 1 end end
		return n end)()")" = 4 ]
}

large_packets_arrive()	# HEAD4 HEAD6: uploads in full packets, with each family in each
{
	local inner to
	for to in 10.0.1.11 2001:db8:2::13; do
		for inner in 4 6; do
			forget_path
			: >"$(file_of $inner $to)"
			upload $inner $to 20000 <"$mebi"
			check_equal "1 MiB to the VIP of IPv$inner by $to comes whole" "$mebi_sum" "$(has_come $inner $to)"
			check_equal "after the ICMP that says what fits" $((1500 - $(head_to "$to" "$@"))) "$(learned_mtu $inner)"
		done
	done
}

head_to()	# BACKEND HEAD4 HEAD6
{
	case $1 in *:*) echo "$3" ;; *) echo "$2" ;; esac
}

slowly()	# FILE: in pieces, for two seconds and more
{
	local i
	for i in $(seq 0 15); do
		dd if="$1" bs=65536 skip="$i" count=1 status=none
		sleep 0.15
	done
}

path_shrinks()	# HEAD4 HEAD6: under way
{
	local inner to=$1 pids=() want
	for to in 10.0.1.11 2001:db8:2::13; do
		for inner in 4 6; do
			forget_path
			: >"$(file_of $inner $to)"
			slowly "$mebi" | upload $inner $to 30000 & # another connection than before
			pids+=($!)
		done
	done
	sleep 0.7
	set_path_mtu 1400
	check "the controller sees that the path's MTU is another" wait_for 3 knows_mtu 1400
	wait "${pids[@]}"
	for to in 10.0.1.11 2001:db8:2::13; do
		for inner in 4 6; do
			check_equal "1 MiB to the VIP of IPv$inner by $to comes whole while the MTU shrinks" "$mebi_sum" \
				"$(has_come $inner $to)"
		done
	done
	for inner in 4 6; do
		want=$((1400 - $1)) # the smallest that was said, or the larger of the last one
		check_that "the client has learned it, for IPv$inner" \
			"$(learned_mtu $inner) == $want || $(learned_mtu $inner) == 1400 - $2"
	done
	check "those that were too big are counted" grep -Eq '^reason too-big-answered: [1-9]' <(tg status)
	set_path_mtu 1500
	check "the path is as before" wait_for 3 knows_mtu 1500
	forget_path
}

outer_headers()	# FILE FILTER FIELD -> how many different ones
{
	tshark -n -r "$1" -Y "$2" -T fields -E occurrence=f -e "$3" 2>/dev/null | sort -u | wc -l
}

wire_is_right()	# MODE: what the router sees
{
	local mode=$1 four="ip.proto == 4 || ip.proto == 41" six="ipv6.nxt == 4 || ipv6.nxt == 41" file=$WORK/wire.pcap
	if [ "$mode" = gue ]; then
		four="ip && udp.dstport == 6080" six="ipv6 && udp.dstport == 6080"
	fi
	capture gw1 eth0 "$file" "dst net 10.0.1.0/24 or dst net 2001:db8:2::/64"
	answers 4 >/dev/null
	answers 6 >/dev/null
	captures_end
	check_that "many outer sources of IPv4" "$(outer_headers "$file" "$four" ip.src) > 15"
	check_that "and of IPv6" "$(outer_headers "$file" "$six" ipv6.src) > 15"
	if [ "$mode" = gue ]; then
		check_that "many UDP source ports" "$(outer_headers "$file" udp udp.srcport) > 30"
	fi
	check_equal "tshark finds no checksum wrong" 0 "$(tshark -n -r "$file" -o ip.check_checksum:TRUE \
		-o tcp.check_checksum:TRUE -o udp.check_checksum:TRUE -Y 'ip.checksum.status == 0 || tcp.checksum.status == 0 ||
		udp.checksum.status == 0' 2>/dev/null | wc -l)"
}

one_dies()
{
	backend_kill b1
	check "a killed backend is found dead, by both its addresses" wait_for 5 in_state web down 2
	check_equal "new connections go to the others" "b2 b3" "$(answers 4)"
	check_equal "over IPv6 as well" "b2 b3" "$(answers 6)"
	backend_start b1
	check "it is found alive again" wait_for 3 in_state web up 4
	check_equal "and serves again" "b1 b2 b3" "$(answers 4)"
}

decap_ends()
{
	check "what it took out is counted" grep -Eq '^ +[1-9][0-9]* packets .*taken out of '"$1" <(decap b1 --counters)
	check "decap ends" decap b1 --detach
	check_says "once" 1 "nothing is attached" decap b1 --detach
	check_fails "and leaves nothing behind" 1 grep -q . <(ls -d /sys/fs/bpf/tidegate-decap/eth0-"$(on b1 stat -Lc %i /proc/self/ns/net)" 2>/dev/null)
}

linux_takes_out()	# MODE: by the kernel's own tunnel device, where it has one
{
	local sentence="Linux' own tunnel device takes packets of $1 out"
	if ! "linux_$1" >"$WORK/linux.log" 2>&1; then
		skip "$sentence" "this kernel has none ($(head -n 1 "$WORK/linux.log"))"
		return
	fi
	check_equal "$sentence" b1 "$(fetch --local-port "$(port_to web 4 10.0.1.11)" "$(url_of 4)/")"
}

linux_ipip()
{
	on b1 ip link add tunnel type ipip external && on b1 ip link set tunnel up
}

linux_gue()
{
	on b1 ip fou add port 6080 gue && linux_ipip
}

tunnel_test()	# MODE HEAD4 HEAD6
{
	lab_up --backends 3 --routers
	mebi=$WORK/mebi
	head -c 1048576 /dev/urandom >"$mebi"
	mebi_sum=$(sum <"$mebi")
	script "$1" >"$WORK/tunnel.lua"
	start_servers
	daemon_start "$WORK/tunnel.lua"
	check "all backends are up" wait_for 5 in_state web up 4
	nothing_without_decap
	decap_begins
	all_answer
	wire_is_right "$1"
	large_packets_arrive "$2" "$3"
	path_shrinks "$2" "$3"
	iperf_runs 4 "$LAB_VIP4"
	iperf_runs 6 "$LAB_VIP6"
	one_dies
	decap_ends "$1"
	linux_takes_out "$1"
}

tunnel_down()	# pins of backends' namespaces would stay behind
{
	local b
	for b in ${LAB_BACKENDS-}; do
		decap "$b" --detach >/dev/null 2>&1
	done
	finish
}
trap tunnel_down EXIT
