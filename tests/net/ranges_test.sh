#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# VIPs that are ranges of ports, with real connections: whose a port is, in l2dsr and in nat, ranges that
# change under requests, and several services on the same backends.
. "$(dirname "$0")/lib.sh"

nat_vip=198.51.100.30

script()	# LAST-PORT-OF-some PORT-OF-one
{
	cat <<-END
		tg.port "eth0"
		tg.port "eth1"
		local check = { "tcp", port = 9000, interval = 0.2, timeout = 0.2, rise = 1, fall = 2 }
		tg.service { name = "all", mode = "l2dsr", vip = "$LAB_VIP4:*/tcp", backends = { "10.0.0.13" } }
		tg.service { name = "some", mode = "l2dsr", vip = { "$LAB_VIP4:9000-$1/tcp", "[$LAB_VIP6]:9000-$1/tcp" },
		  check = check, backends = { "10.0.0.11", "10.0.0.12", "2001:db8:1::11", "2001:db8:1::12" } }
		tg.service { name = "one", mode = "l2dsr", vip = "$LAB_VIP4:$2", backends = { "10.0.0.13" } }
		tg.service { name = "nat", mode = "nat", vip = "$nat_vip:9000-9099/tcp", check = check,
		  backends = { "10.0.0.11", "10.0.0.12" } }
		tg.service { name = "twin", mode = "l2dsr", vip = "198.51.100.31:9000", check = check,
		  backends = { "10.0.0.11", "10.0.0.12" } }
	END
}

fetch()		{ on client curl -s -m 2 "$@"; }

# --- servers on two hundred ports: they say who they are and which port was asked --------------------

server_conf()	# BACKEND
{
	cat <<-END
		worker_processes 1;
		pid $WORK/$1.pid;
		error_log $WORK/$1.error;
		events { worker_connections 1024; }
		http {
		  access_log off;
		  client_body_temp_path $WORK/$1.tmp; proxy_temp_path $WORK/$1.tmp; fastcgi_temp_path $WORK/$1.tmp;
		  uwsgi_temp_path $WORK/$1.tmp; scgi_temp_path $WORK/$1.tmp;
		  server { listen 9000-9199; listen [::]:9000-9199; location / { return 200 "$1 \$server_port\n"; } }
		}
	END
}

start_server()	# BACKEND
{
	server_conf "$1" >"$WORK/$1.conf"
	in_background on "$1" nginx -p "$WORK" -e "$WORK/$1.error" -c "$WORK/$1.conf" -g 'daemon off;'
	eval "server_$1=\$!"
}

stop_server()	# BACKEND: the child of the shell that waits for it
{
	local shell=server_$1
	# shellcheck disable=SC2046
	kill $(cat "/proc/${!shell}/task/${!shell}/children")
}

start_servers()
{
	local b
	for b in $LAB_BACKENDS; do
		ip -n "tg-$lab_name-$b" addr add 198.51.100.31/32 dev lo
		start_server "$b"
	done
}

server_answers()	{ on client curl -s -m 1 -o /dev/null "http://10.0.0.1${1#b}:9199/"; }

answers()	# URL -> those that answered thirty new connections
{
	fetch -Z --parallel-max 8 -H 'Connection: close' "$1?[1-30]" 2>/dev/null | sort -u | xargs
}

# --- what has to hold --------------------------------------------------------------------------------

ports_have_their_services()
{
	local port
	for port in 9000 9041 9043 9099; do
		check_equal "port $port of a range" "b1 $port b2 $port" "$(answers "http://$LAB_VIP4:$port/")"
		check_equal "port $port of a range, IPv6" "b1 $port b2 $port" "$(answers "http://[$LAB_VIP6]:$port/")"
		check_equal "port $port of a range, nat" "b1 $port b2 $port" "$(answers "http://$nat_vip:$port/")"
	done
	check_equal "a port above the range is the wider one's" "b3 9100" "$(answers "http://$LAB_VIP4:9100/")"
	check_equal "a single port is that VIP's" "b3 9042" "$(answers "http://$LAB_VIP4:9042/")"
	check_equal "and in IPv6, where it is none, the range's" "b1 9042 b2 9042" "$(answers "http://[$LAB_VIP6]:9042/")"
	check_equal "all ports include 80" b3 "$(fetch "http://$LAB_VIP4/")"
	check_fails "what has no VIP is not answered" 7 fetch "http://[$LAB_VIP6]:9100/"
	check_equal "a backend is reached directly, too" "b1 9042" "$(fetch http://10.0.0.11:9042/)"
}

lookup_agrees()
{
	local port
	for port in 30001 30002 30003 30004 30005 30006; do
		check_equal "lookup names the backend of a flow from port $port" \
			"$(tg eval "tg.services.some:lookup('$LAB_CLIENT4:$port', { port = 9050 })" | tr -dc '0-9.')" \
			"10.0.0.1$(fetch --local-port $port "http://$LAB_VIP4:9050/" | sed 's/b\(.\).*/\1/')"
	done
	check_says "and the service that has a port" 1 'belongs to service .*one' \
		tg eval "assert(tg.services.some:lookup('$LAB_CLIENT4:1', { port = 9042 }))"
}

services_share_backends()
{
	local before after
	before=$(tg eval 'tg.services.some:backends()[1].packets')
	check_equal "another service has the same backends" "b1 9000 b2 9000" "$(answers http://198.51.100.31:9000/)"
	after=$(tg eval 'tg.services.some:backends()[1].packets')
	check_equal "and counts for itself" "$before" "$after"
	check_that "its own packets" "$(tg eval 'tg.services.twin:backends()[1].packets') > 0"
	stop_server b1
	check "a backend that fails is down in one" wait_for 5 in_state some down 2
	check "and in the others" eval 'in_state twin down 1 && in_state nat down 1'
	check_equal "the others serve" "b2 9000" "$(answers http://198.51.100.31:9000/)"
	start_server b1
	check "it comes back" wait_for 5 in_state some down 0
	check "for all of them" eval 'in_state twin down 0 && in_state nat down 0'
}

reload_twenty_times()
{
	local n
	for n in $(seq 20); do
		script $((9099 + n % 3 * 20)) $((9042 + n % 2 * 10)) >"$WORK/ranges.lua"
		tg reload >/dev/null || failed_reloads=$((failed_reloads + 1))
	done
}

ranges_change_under_requests()
{
	failed_reloads=0
	pulse_urls=("http://$LAB_VIP4:9000/" "http://$LAB_VIP4:9042/" "http://$LAB_VIP4:9052/" "http://$LAB_VIP4:9110/"
		"http://[$LAB_VIP6]:9042/" "http://$nat_vip:9050/" "http://198.51.100.31:9000/")
	interrupted_by "twenty changes of ranges" 600 reload_twenty_times
	check_equal "all reloads were put in force" 0 $failed_reloads
}

next_daemon_adopts()
{
	script 9099 9042 >"$WORK/ranges.lua"
	check "the first ranges are put in force again" tg reload
	daemon_stop KILL
	check_equal "ranges go on without a daemon" "b1 9099 b2 9099" "$(answers "http://$nat_vip:9099/")"
	daemon_start "$WORK/ranges.lua"
	check "the next daemon has nothing to change" tg check "$WORK/ranges.lua"
	check "it knows them as declared" grep -qF "service all: l2dsr $LAB_VIP4:*/tcp," <(tg status)
	ports_have_their_services
}

lab_up --backends 3
start_servers
for b in $LAB_BACKENDS; do
	check "$b serves" wait_for 5 server_answers "$b"
done
script 9099 9042 >"$WORK/ranges.lua"
check_fails "check prints the plan" 4 "$TIDEGATE" check "$WORK/ranges.lua" --netns "$LAB_SW"
cp "$WORK/check.out" "$WORK/plan"
check "the ranges are in it" grep -qF "service some: l2dsr $LAB_VIP4:9000-9099/tcp [$LAB_VIP6]:9000-9099/tcp" "$WORK/plan"
daemon_start "$WORK/ranges.lua"
check "all backends are up" wait_for 5 in_state some up 4
ports_have_their_services
lookup_agrees
services_share_backends
ranges_change_under_requests
next_daemon_adopts
