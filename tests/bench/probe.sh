#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# What a health probe costs: CPU time (user + system) per probe, Tidegate's prober beside HAProxy with
# one thread, the same 2,000 targets each second, a private nginx each, by turns. Prints a line for
# probe.tcp and probe.http, medians of all rounds; the floor is HAProxy's figure.
#
#   tests/bench/probe.sh [--json FILE] [--rounds N] [--seconds N]     BUILD=build: where probe_bench is
set -euo pipefail

json=/dev/null rounds=5 seconds=4 warmup=3 targets=2000
while [ $# -gt 0 ]; do
	case $1 in
	--json) json=$2 ;;
	--rounds) rounds=$2 ;;
	--seconds) seconds=$2 ;;
	*) echo "probe.sh: unknown option $1" >&2; exit 2 ;;
	esac
	shift 2
done

root=$(cd "$(dirname "$0")/../.." && pwd)
program=${BUILD:-$root/build}/probe_bench
netns=tgprobe$$
dir=$(mktemp -d /tmp/tidegate-probe.XXXXXX)
pids=()

cleanup() {
	for pid in "${pids[@]}"; do
		kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null
	done
	ip netns del "$netns" 2>/dev/null
	rm -rf "$dir"
	return 0
}
trap cleanup EXIT
trap 'exit 1' INT TERM

for tool in "$program" haproxy nginx ip; do
	command -v "$tool" >/dev/null || { echo "probe.sh: needs $tool" >&2; exit 3; }
done
ulimit -n 8192

# nsrun COMMAND…: in the background in the namespace; its process is the last of pids.
nsrun() {
	ip netns exec "$netns" "$@" &
	pids+=($!)
}

start_nginx() { # PORT
	mkdir "$dir/nginx$1"
	cat >"$dir/nginx$1.conf" <<-END
		daemon off; worker_processes 1; pid nginx.pid; error_log error.log;
		events { worker_connections 4096; }
		http {
			access_log off;
			client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
			uwsgi_temp_path uwsgi; scgi_temp_path scgi;
			server { listen $1 backlog=4096; location / { return 200 "ok\n"; } }
		}
	END
	nsrun nginx -p "$dir/nginx$1" -c "$dir/nginx$1.conf" 2>"$dir/nginx$1/start.log"
}

haproxy_config() { # tcp|http PORT
	cat <<-END
		global
		  nbthread 1
		defaults
		  mode $1
		  timeout connect 5s
		  timeout client 5s
		  timeout server 5s
		  timeout check 500ms
		listen targets
		  bind 127.0.0.1:9999
	END
	[ "$1" = http ] && printf '%s\n' '  option httpchk' '  http-check send meth GET uri / ver HTTP/1.1 hdr Host bench hdr User-Agent tidegate hdr Connection close'
	for ((i = 0; i < targets; i++)); do
		echo "  server s$i 127.1.$((i / 250)).$((i % 250 + 1)):$2 check inter 1s rise 2 fall 3"
	done
}

connections() { # made in the namespace so far: the probes, whoever sends them
	# shellcheck disable=SC2016 # the dollars are awk's
	ip netns exec "$netns" awk '$1 == "Tcp:" { if (n++) print $(col); else for (i = 1; i <= NF; i++)
		if ($i == "ActiveOpens") col = i }' /proc/net/snmp
}

cpu() { # PID: ns of CPU time of all its threads
	awk '{ sum += $1 } END { printf "%.0f\n", sum }' /proc/"$1"/task/*/schedstat
}

# measure NAME COMMAND…: appends the CPU time per probe in us to $dir/NAME.
measure() {
	local name=$1 pid cpu_before probes_before cpu_after probes
	shift
	nsrun "$@" >"$dir/log" 2>&1
	pid=${pids[-1]}
	sleep "$warmup"
	probes_before=$(connections) cpu_before=$(cpu "$pid")
	sleep "$seconds"
	cpu_after=$(cpu "$pid") probes=$(($(connections) - probes_before))
	kill "$pid"
	wait "$pid" 2>/dev/null || true
	unset 'pids[-1]'
	if grep -qE 'DOWN|target [0-9]+:' "$dir/log" || [ "$probes" -lt $((targets * seconds * 9 / 10)) ]; then
		echo "probe.sh: $name: probes failed or are missing ($probes in $seconds s):" >&2
		head -5 "$dir/log" >&2
		exit 1
	fi
	awk -v ns=$((cpu_after - cpu_before)) -v n="$probes" 'BEGIN { printf "%.2f\n", ns / n / 1000 }' >>"$dir/$name"
}

median() { sort -n "$1" | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

ip netns add "$netns"
ip -n "$netns" link set lo up
start_nginx 8001
start_nginx 8002
for type in tcp http; do
	haproxy_config $type 8002 >"$dir/$type.cfg"
done
sleep 0.5
for ((round = 0; round < rounds; round++)); do
	for type in tcp http; do
		measure tidegate.$type "$program" $type 8001 $targets
		measure haproxy.$type haproxy -db -f "$dir/$type.cfg"
	done
done
for type in tcp http; do
	awk -v name=probe.$type -v value="$(median "$dir/tidegate.$type")" -v floor="$(median "$dir/haproxy.$type")" \
		-v json="$json" 'BEGIN {
			ratio = value / floor
			printf "%-12s %6.2f us CPU a probe, HAProxy %6.2f us: %.2f of it\n", name, value, floor, ratio
			printf "{\"name\":\"%s\",\"value\":%.2f,\"unit\":\"us\",\"floor\":%.2f,\"ratio\":%.3f}\n",
				name, value, floor, ratio >>json
		}'
done
