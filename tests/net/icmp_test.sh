#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# ICMP errors through VIPs: a client behind a link of a small MTU, of which the backend has to hear
# (path MTU discovery), and ports that nobody listens on, at either end.
. "$(dirname "$0")/lib.sh"

far4=198.18.0.2 far6=2001:db8:f::2
mtu=1300	# of the link to the far host

script()
{
	cat <<-'END'
		local tg = require "tidegate"
		tg.port "eth0"
		tg.port "eth1"
		local both = { "10.0.0.11", "2001:db8:1::11" }
		tg.service { name = "direct", mode = "l2dsr", backends = both,
			vip = { "198.51.100.10:80/tcp", "[2001:db8::10]:80/tcp" } }
		tg.service { name = "translated", mode = "nat", backends = { "10.0.0.12:80", "[2001:db8:1::12]:80" },
			vip = { "198.51.100.10:81/tcp", "[2001:db8::10]:81/tcp" } }
		tg.service { name = "echo", mode = "nat", backends = { "10.0.0.12:5353", "[2001:db8:1::12]:5353" },
			vip = { "198.51.100.10:53/udp", "[2001:db8::10]:53/udp" } }
		tg.service { name = "closed", mode = "nat", backends = { "10.0.0.12:5354", "[2001:db8:1::12]:5354" },
			vip = { "198.51.100.10:54/udp", "[2001:db8::10]:54/udp" } }
	END
}

bracket()	{ case $1 in *:*) echo "[$1]" ;; *) echo "$1" ;; esac; }
client_ip()	{ ip -n "tg-$lab_name-client" "$@"; }
far()		{ nsenter --net="/proc/$far_pid/ns/net" -- "$@"; }
is_apart()	{ ! [ "/proc/$far_pid/ns/net" -ef /proc/self/ns/net ]; }

# A host behind the client, which routes for it. Only that router knows how narrow the link is: the
# far host takes, and asks for, segments that are larger. Its namespace ends with the process.
far_up()
{
	in_background unshare --net sleep 300
	far_pid=$!
	wait_for 5 is_apart
	client_ip link add eth1 type veth peer name eth0 netns "$far_pid"
	client_ip link set eth1 mtu $mtu up
	client_ip addr add 198.18.0.1/24 dev eth1
	client_ip addr add 2001:db8:f::1/64 dev eth1 nodad
	on client sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
	far sh -c 'echo 0 >/proc/sys/net/ipv6/conf/all/accept_dad; echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad
		ip link set lo up; ip link set eth0 up
		ip addr add '$far4'/24 dev eth0; ip addr add '$far6'/64 dev eth0 nodad
		ip route add default via 198.18.0.1; ip route add default via 2001:db8:f::1'
	ip -n "$LAB_SW" route add 198.18.0.0/24 via "$LAB_CLIENT4"
	ip -n "$LAB_SW" route add 2001:db8:f::/64 via "$LAB_CLIENT6"
}

path_mtu()	# BACKEND ADDRESS -> what it has learned, or nothing
{
	on "$1" ip route get "$2" | grep -o 'mtu [0-9]*' | cut -d' ' -f2
}

sum()		{ sha256sum | cut -d' ' -f1; }

downloads_go_on()
{
	local vip to backend port sum_of_body
	sum_of_body=$(sum <"$LAB_DIR/files/body")
	for port in 80 81; do
		for vip in $LAB_VIP4 $LAB_VIP6; do
			backend=b1 to=$far4
			[ $port = 80 ] || backend=b2
			[ "$vip" = "$LAB_VIP4" ] || to=$far6
			check_equal "$backend doesn't know the path to $to" "" "$(path_mtu $backend $to)"
			check_equal "1 MiB comes whole through $(bracket "$vip"):$port" "$sum_of_body" \
				"$(far curl -s -m 10 "http://$(bracket "$vip"):$port/files/body" | sum)"
			check_equal "because $backend heard of the narrow link" $mtu "$(path_mtu $backend $to)"
		done
	done
}

errors()	# HOST FILTER FIELD… -> those fields of ICMP errors in its capture
{
	local host=$1 filter=$2
	shift 2
	# shellcheck disable=SC2046
	tshark -n -r "$WORK/$host.pcap" -Y "$filter" -T fields $(printf -- '-e %s ' "$@") 2>/dev/null | sort -u
}

refused()	# ADDRESS PORT: does a client's socket hear that nobody listens?
{
	grep -q refused <(on client timeout 3 ncat -u "$1" "$2" < <(echo you; sleep 1) 2>&1)
}

unanswered_ports_are_known()
{
	local vip
	for vip in $LAB_VIP4 $LAB_VIP6; do
		check "a client hears that no backend listens behind $vip" refused "$vip" 54
	done
}

# What a server says to it comes when the client is gone.
answer_late="read -r line; touch $WORK/asked; timeout 5 sh -c 'until [ -e $WORK/gone ]; do sleep 0.05; done'; echo too late"
gone_clients_are_known()
{
	local vip
	for vip in $LAB_VIP4 $LAB_VIP6; do
		rm -f "$WORK/asked" "$WORK/gone"
		on client timeout 6 ncat -u --send-only "$vip" 53 \
			< <(echo you; wait_for 5 test -e "$WORK/asked")
		touch "$WORK/gone"
		sleep 0.5
	done
}

lab_up --backends 2
head -c 1048576 /dev/urandom >"$LAB_DIR/files/body"
far_up
script >"$WORK/icmp.lua"
in_background on b2 ncat -4 -u -k -l 5353 --sh-exec "$answer_late"
in_background on b2 ncat -6 -u -k -l 5353 --sh-exec "$answer_late"
daemon_start "$WORK/icmp.lua"
check "the VIP answers the far host" wait_for 5 far curl -sf -m 1 "http://$LAB_VIP4/"
for host in client b2; do
	capture "$host" eth0 "$WORK/$host.pcap" "icmp or icmp6"
done
downloads_go_on
unanswered_ports_are_known
gone_clients_are_known
captures_end

for field in icmp.checksum.status icmpv6.checksum.status; do
	check_equal "checksums of errors are right, $field, at both ends" "1 1" \
		"$(errors client "${field%%.*}.type <= 4" $field | xargs) $(errors b2 "${field%%.*}.type <= 4" $field | xargs)"
done
check_equal "the client saw errors of the VIP's alone, about what it sent to the VIP" \
	"$LAB_VIP4,$LAB_CLIENT4 $LAB_CLIENT4,$LAB_VIP4 54" \
	"$(errors client 'icmp.type == 3 && icmp.code == 3 && udp.dstport == 54' ip.src ip.dst udp.dstport | xargs)"
check_equal "the backend saw errors about what it sent itself, from its own port" \
	"$LAB_CLIENT4,10.0.0.12 10.0.0.12,$LAB_CLIENT4 5353" \
	"$(errors b2 'icmp.type == 3 && icmp.code == 3 && udp.srcport == 5353' ip.src ip.dst udp.srcport | xargs)"
check_equal "of IPv6 as well" "$LAB_CLIENT6,2001:db8:1::12 2001:db8:1::12,$LAB_CLIENT6 5353" \
	"$(errors b2 'icmpv6.type == 1 && udp.srcport == 5353' ipv6.src ipv6.dst udp.srcport | xargs)"
check_equal "no error was about an unknown flow" 0 "$(tg status --json | jq '.reasons["icmp-quote"]')"
