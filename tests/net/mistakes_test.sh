#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Bad input: each with an error that says where and what, the right exit code, and what runs as it was.
. "$(dirname "$0")/lib.sh"

pins=/sys/fs/bpf/tidegate/$INSTANCE
script=$WORK/web.lua
chmod 755 "$WORK"

good()		# what cases are added to, from line 6 on
{
	cat <<-END
	tg.port "eth0"
	tg.port "eth1"
	tg.service { name = "web", mode = "nat", vip = "$LAB_VIP4:80", backends = { "10.0.1.11", "10.0.1.12" },
	  check = { "tcp", interval = 0.2 } }

	END
}
answers()	{ on client curl -sf -m 2 "http://$LAB_VIP4/"; }
state()		# of what runs, without what changes of itself
{
	tg status --json | jq -cS '{ generation, features, ports,
		services: [ .services[] | { name, mode, vips, fail, slots, backends: [ .backends[] | { name, weight, state, since, slots } ] } ] }'
	for map in vips4 vips6 services; do bpftool map dump pinned "$pins/maps/$map" | sha256sum; done
	for ring in "$pins"/rings/*; do bpftool map dump pinned "$ring"; done | sha256sum
	on sw bpftool -j net | jq -c '.[0].xdp'
	find "$pins" -type f | sort
}

# --- commands ------------------------------------------------------------------------------------------

lab_up --backends 3 --routers
check_says "no command is misuse" 2 "usage: tidegate COMMAND" "$TIDEGATE"
check_says "so is an unknown one" 2 'no command "frob"' "$TIDEGATE" frob
check_says "an unknown option" 2 "unrecognized option '--frob'" "$TIDEGATE" run --frob "$script"
check_says "an option of another command" 2 "json" "$TIDEGATE" run --json "$script"
check_says "run without a file" 2 "a script is missing" "$TIDEGATE" run
check_says "check without a file" 2 "a script is missing" "$TIDEGATE" check
check_says "an argument too many" 2 "takes no arguments" "$TIDEGATE" status now
check_says "eval without an expression" 2 "takes one argument" "$TIDEGATE" eval
for command in "run $script" "check $script" status reload "eval 1" unload; do
	# shellcheck disable=SC2086
	check_says "${command%% *} of an instance that can't be" 2 'instance "a/b": a name has' "$TIDEGATE" $command --instance a/b
done
check_says "status without a daemon" 3 "no daemon runs as instance" tg status
check_says "unload of nothing" 1 "nothing is loaded for instance" tg unload
check_says "run of a file that is not there" 1 "none.lua: No such file" \
	"$TIDEGATE" run "$WORK/none.lua" --instance "$INSTANCE" --netns "$LAB_SW"
check_says "of a directory" 1 "not a file that can be read" "$TIDEGATE" run "$WORK" --instance "$INSTANCE" --netns "$LAB_SW"
check_says "in a network namespace that is not there" 3 'network namespace "nosuch": there is none' \
	"$TIDEGATE" run "$script" --instance "$INSTANCE" --netns nosuch

# --- scripts, without a daemon and then with one ------------------------------------------------------------

other()		{ echo "tg.service { name = \"other\", $1 }"; }

# NAME, exit code, what is said (a regular expression), what is added to the good script
cases=()
add_case()	{ cases+=("$1" "$2" "$3" "$4"); }
add_case "a syntax error" 1 'web.lua:6: .*expected' 'tg.service { name = "x"; vip 7 }'
add_case "a runtime error" 1 "web.lua:6: attempt to index a nil value" 'local none; print(none.field)'
add_case "an unknown option" 1 'web.lua:6: tg.service: unknown option "bakends" \(allowed:' "$(other 'vip = "198.51.100.30:80", bakends = {}')"
add_case "a bad address" 1 'web.lua:6: backend "10.0.0.300": not an IP address' "$(other 'vip = "198.51.100.30:80", backends = { "10.0.0.300" }')"
add_case "port 70000" 1 'web.lua:6: VIP "198.51.100.30:70000": port 70000: 1 to 65535' "$(other 'vip = "198.51.100.30:70000", backends = { "10.0.0.11" }')"
add_case "a VIP twice" 1 'web.lua:3: .*VIP 198.51.100.10:80/tcp belongs to service "other" already \(.*web.lua:6\)' \
	"$(other "vip = \"198.51.100.10:80\", backends = { \"10.0.0.11\" }")"
add_case "a name twice" 1 'web.lua:6: service "web" is declared already at .*web.lua:3' 'tg.service { name = "web", vip = "198.51.100.30:80", backends = { "10.0.0.11" } }'
add_case "a backend of another family" 1 'backend 2001:db8::1 is IPv6, but the service has no IPv6 VIP' "$(other 'vip = "198.51.100.30:80", backends = { "10.0.0.11", "2001:db8::1" }')"
add_case "a port on an l2dsr backend" 1 "backend 10.0.0.11:8080: l2dsr can't change the port" "$(other 'mode = "l2dsr", vip = "198.51.100.30:80", backends = { "10.0.0.11:8080" }')"
add_case "an l2dsr backend behind a gateway" 1 'backend 10.0.1.11 is behind the gateway 10.0.0.251.*use ipip or gue' "$(other 'mode = "l2dsr", vip = "198.51.100.30:80", backends = { "10.0.1.11" }')"
add_case "an endpoint of two VIPs" 1 'the backend 10.0.0.11:80/tcp answers for VIP 198.51.100.30:80/tcp of service "other"' \
	"$(other 'vip = { "198.51.100.30:80", "198.51.100.31:80" }, backends = { "10.0.0.11:80" }')"
add_case "a tunnel backend with a port" 1 "backend 10.0.0.11:8080: ipip can't change the port" "$(other 'mode = "ipip", vip = "198.51.100.30:80", backends = { "10.0.0.11:8080" }')"
add_case "a backend that is the VIP" 1 'backend 198.51.100.30 has the address of VIP' "$(other 'mode = "gue", vip = "198.51.100.30:80", backends = { "198.51.100.30" }')"
add_case "an unknown affinity" 1 'web.lua:6: tg.service.affinity: "sticky" given, none, flow, strict, source expected' \
	"$(other 'affinity = "sticky", vip = "198.51.100.30:80", backends = { "10.0.0.11" }')"
add_case "room for no flow" 1 'web.lua:6: tg.instance.flows: 0 given, an integer from 64' 'tg.instance { flows = 0 }'
add_case "a tunnel from everywhere" 1 'tg.instance.tunnel.source: "0.0.0.0/0": a length from 8 to 32' 'tg.instance { tunnel = { source = "0.0.0.0/0" } }'
add_case "a list's file that is not there" 1 'web.lua:6: /none.netset: No such file' 'tg.deny:load "/none.netset"'
printf '10.9.0.0/16\n<html>\n' >"$WORK/broken.netset"
add_case "one with a broken line" 1 'broken.netset:2: "<html>": not an IP address or prefix' 'tg.deny:load "broken.netset"'
add_case "an unknown check" 1 'there is no check "redis"' "$(other 'vip = "198.51.100.30:80", check = { "redis" }, backends = { "10.0.0.11" }')"
add_case "an unknown pool" 1 'there is no pool "app"' "$(other 'vip = "198.51.100.30:80", backends = "app"')"
add_case "a string of 1 GiB" 1 'not enough memory \(cap 64 MiB\) at .*web.lua:6' 'local s = ("x"):rep(1 << 30)'
add_case "a missing module" 1 'module "nosuch" is not in' 'require "nosuch"'
add_case "what scripts do not have" 1 "attempt to index a nil value \(global 'io'\)" 'io.open "/etc/passwd"'
add_case "a device that is not there" 3 'web.lua:6: port nosuch0: no such device' 'tg.port "nosuch0"'

good | tee "$script" >"$WORK/good.lua"
check_says "without a daemon, the good script is a plan" 4 '^\+ service web: nat' \
	"$TIDEGATE" check "$script" --instance "$INSTANCE" --netns "$LAB_SW"
for ((i = 0; i < ${#cases[@]}; i += 4)); do
	{ cat "$WORK/good.lua"; echo "${cases[i + 3]}"; } >"$script"
	check_says "check without a daemon: ${cases[i]}" "${cases[i + 1]}" "${cases[i + 2]}" \
		"$TIDEGATE" check "$script" --instance "$INSTANCE" --netns "$LAB_SW"
	check_says "run: ${cases[i]}" "${cases[i + 1]}" "${cases[i + 2]}" \
		"$TIDEGATE" run "$script" --instance "$INSTANCE" --netns "$LAB_SW"
done
check "a start that fails leaves nothing" test ! -e "$pins"

cp "$WORK/good.lua" "$script"
daemon_start "$script"
check "the good script runs" wait_for 3 answers
check_says "and is no change" 0 'nothing would change' tg check "$script"
sleep 0.5
before=$(state)
for ((i = 0; i < ${#cases[@]}; i += 4)); do
	{ cat "$WORK/good.lua"; echo "${cases[i + 3]}"; } >"$script"
	check_says "check: ${cases[i]}" "${cases[i + 1]}" "${cases[i + 2]}" tg check "$script"
	check_says "reload: ${cases[i]}" "${cases[i + 1]}" "${cases[i + 2]}" tg reload
done
check_equal "what runs is as it was" "$before" "$(state)"

{ cat "$WORK/good.lua"; printf 'tg.port "a/b"\nerror "one"\n'; } >"$script"
echo 'tg.service { nmae = "x" }' >"$WORK/second.lua"
check_equal "all mistakes of all files are listed" "second.lua:1 web.lua:6 web.lua:7" \
	"$(tg check "$script" "$WORK/second.lua" 2>&1 | grep -oE '^[^:]*:[0-9]+' | sed 's!.*/!!' | sort | xargs)"
check_equal "for programs too" '["second.lua:1","web.lua:6","web.lua:7"]' \
	"$(tg check --json "$script" "$WORK/second.lua" | jq -c '[.problems[].position | sub(".*/"; "")] | sort')"
cp "$WORK/good.lua" "$script"

# --- questions and changes while it runs ----------------------------------------------------------------

trace()		{ tg trace "$@"; }
check_says "trace of a port that is not declared" 2 'there is no port "eth9" \(ports: eth0, eth1\)' trace eth9 "tcp 192.0.2.7:1 > $LAB_VIP4:80"
check_says "of a packet without a destination" 2 '"tcp 192.0.2.7:1" \(allowed: "tcp SOURCE > DESTINATION' trace eth0 "tcp 192.0.2.7:1"
check_says "of a port above 65535" 2 'tcp.sport: 70000 \(allowed: an integer from 0 to 65535\)' trace eth0 "tcp 192.0.2.7:70000 > $LAB_VIP4:80"
check_says "of two families" 2 'ip.dst: "2001:db8::1" \(allowed: of the same family' trace eth0 "tcp 192.0.2.7:1 > [2001:db8::1]:80"
check_says "of digits that are none" 2 '"zz" \(allowed: pairs of hexadecimal digits\)' trace eth0 --hex zz
check_says "of a frame too short" 2 'a frame has 14 bytes at least, this one 2' trace eth0 --hex ffff
check_says "of a capture that is not there" 3 "$WORK/none.pcap: No such file" trace eth0 --pcap "$WORK/none.pcap"
check_says "of a file that is no capture" 3 "$script: .*file format" trace eth0 --pcap "$script"
says()		{ tg eval "$1"; }	# EXPRESSION
check_says "a prefix that is none" 1 'tg.deny:add: "10.0.0.300": not an IP address or prefix' says 'tg.deny:add("10.0.0.300")'
check_says "an end before now" 1 'tg.deny:add.ttl: -5 given, seconds from 0.001' says 'tg.deny:add("10.0.0.3", { ttl = -5 })'
check_says "a list that is not there" 0 'there is no list \\"nosuch' says 'tg.deny:remove("10.0.0.3", { list = "nosuch" })'
check_says "a file that is not there" 0 '/none.netset: No such file' says 'tg.deny:load("/none.netset")'
check_says "a feed with a broken line" 0 'line 2: \\"<html>' says 'tg.deny:replace("feed", "10.0.0.1\n<html>")'
check_says "an empty feed" 0 '0 prefixes given, at least 1 expected' says 'tg.deny:replace("feed", "")'
check_says "a backend that can be none" 1 'backend "127.0.0.1": a loopback address' says 'tg.services.web:add("127.0.0.1")'
check_equal "what runs is as it was" "$before" "$(state)"

# --- a script that does not end -----------------------------------------------------------------------------

{ cat "$WORK/good.lua"; echo 'while true do end'; } >"$WORK/spins.lua"
{ cat "$WORK/good.lua"; echo 'while true do pcall(function() while true do end end) end'; } >"$WORK/hides.lua"
{ cat "$WORK/good.lua"; echo 'tg.sleep(3600)'; } >"$WORK/waits.lua"
declare -A loads
for name in hides waits; do
	"$TIDEGATE" check "$WORK/$name.lua" --instance "$INSTANCE-$name" --netns "$LAB_SW" >"$WORK/$name.out" 2>&1 &
	loads[$name]=$!
done
cp "$WORK/spins.lua" "$script"
tg reload >"$WORK/spins.out" 2>&1 & spins=$!
sleep 1
check "while a script loops at the top level, traffic goes on" answers
wait $spins
check_equal "it is stopped" 1 $?
check "with its place" grep -qE 'web.lua:6: stopped after 10...? ms without yielding' "$WORK/spins.out"
wait "${loads[hides]}"
check_equal "pcall does not hide it" 1 $?
check "nor its place" grep -qE 'hides.lua:6: stopped after 10...? ms without yielding' "$WORK/hides.out"
wait "${loads[waits]}"
check_equal "one that waits forever is stopped too" 1 $?
check "by its name" grep -qE 'waits.lua: took longer than 10 s' "$WORK/waits.out"
check_equal "what runs is as it was" "$before" "$(state)"

# --- checks that fail in every way -------------------------------------------------------------------------

cat >"$WORK/checks.lua" <<'END'
tg.check.define("raises", function() error "on purpose" end)
tg.check.define("waits", function() tg.sleep(3600) end)
tg.check.define("spins", function() while true do end end)
tg.check.define("works", function(target) return tg.net.connect(target.addr, target.port) ~= nil end)
for i, name in ipairs { "raises", "waits", "spins", "works" } do
  tg.service { name = name, vip = "198.51.100.40:" .. 8000 + i, backends = { "10.0.1.13:80" .. (name == "works" and "" or i) },
    check = { name, interval = 0.6, timeout = 0.3, fall = 1, rise = 1 } }
end
END
reason_of()	{ tg status --json | jq -r ".services.$1.backends[0] | .state + \": \" + .reason"; }
reason_is()	{ reason_of "$1" | grep -E -- "$2"; }
daemon_stop
daemon_start "$WORK/good.lua" "$WORK/checks.lua"
check "a check that raises says so, and the backend is down" wait_for 4 reason_is raises '^down: check raised: .*checks.lua:1: on purpose'
check "one that never returns is a timeout" wait_for 4 reason_is waits '^down: timeout after 0.3 s'
check "one that loops is stopped" wait_for 4 reason_is spins '^down: .*stopped after 500 ms'
check "one that works goes on" wait_for 4 reason_is works '^up'
check "so does the service beside it" answers

# --- the environment ------------------------------------------------------------------------------------------

cp "$TIDEGATE" "$WORK/tidegate"		# where everybody can run it
nobody()	{ nsenter --net="/run/netns/$LAB_SW" -- setpriv --reuid=65534 --regid=65534 --clear-groups "$WORK/tidegate" "$@"; }
check_says "nobody may not ask the daemon" 3 "permission denied: only root and the daemon's own user" nobody status --instance "$INSTANCE"
check_says "nor let it check" 3 "permission denied" nobody check "$WORK/good.lua" --instance "$INSTANCE"
check_says "nor reload" 3 "permission denied" nobody reload --instance "$INSTANCE"
check_says "nor unload" 3 "permission denied" nobody unload --instance "$INSTANCE"
check_says "nor run another" 3 "it takes root to run an instance" nobody run "$WORK/good.lua" --instance "$INSTANCE-2"
check_says "but plan one" 4 '^\+ service web' nobody check "$WORK/good.lua" --instance "$INSTANCE-2"
check_says "a second daemon is refused" 3 "already running: process $DAEMON " \
	"$TIDEGATE" run "$WORK/good.lua" --instance "$INSTANCE" --netns "$LAB_SW"

nobodys()	{ nsenter --net="/run/netns/tg-$lab_name-b1" -- setpriv --reuid=65534 --regid=65534 --clear-groups "$WORK/tidegate" "$@"; }
check_says "decap of a device that is not there" 3 "nosuch0: no such device in this network namespace" \
	"$TIDEGATE" decap nosuch0 --netns "tg-$lab_name-b1"
check_says "in a network namespace that is not there" 3 'network namespace "nosuch": there is none' "$TIDEGATE" decap eth0 --netns nosuch
check_says "by nobody" 3 "it takes root, or CAP_BPF and CAP_NET_ADMIN" nobodys decap eth0
check_says "its end where nothing is attached" 1 "eth0: nothing is attached by .tidegate decap" \
	"$TIDEGATE" decap eth0 --detach --netns "tg-$lab_name-b1"

without()	# CAPABILITIES COMMAND…: in the switch, root but for these
{
	nsenter --net="/run/netns/$LAB_SW" -- setpriv "--bounding-set=$1" "--inh-caps=$1" "${@:2}"
}
check_says "root without capabilities is told which" 3 "no privilege to load BPF programs: .*CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON" \
	without -all "$TIDEGATE" run "$WORK/good.lua" --instance "$INSTANCE-2"
# shellcheck disable=SC2016
check_says "without bpffs, and no way to mount it" 3 "/sys/fs/bpf: no BPF file system there, and it can't be mounted: Operation not permitted" \
	unshare -m sh -c 'umount /sys/fs/bpf && exec "$@"' sh nsenter --net="/run/netns/$LAB_SW" -- \
	setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin "$TIDEGATE" run "$WORK/good.lua" --instance "$INSTANCE-2"
check_says "under ip netns exec" 3 "hidden by a private /sys, as under .ip netns exec.; run tidegate outside of it with --netns NAME" \
	ip netns exec "$LAB_SW" "$TIDEGATE" run "$WORK/good.lua" --instance "$INSTANCE-2"

ip -n "$LAB_SW" link add busy0 type veth peer name busy1
if ip -n "$LAB_SW" link set busy0 xdpgeneric object "$ROOT/build/tests/bpf/kinds.bpf.o" section xdp 2>"$WORK/busy.out"; then
	cp "$WORK/good.lua" "$WORK/busy.lua"
	echo 'tg.port "busy0"' >>"$WORK/busy.lua"
	check_says "a port that another XDP program has, at a first start" 3 'busy.lua:6: port busy0: another XDP program is attached' \
		"$TIDEGATE" run "$WORK/busy.lua" --instance "$INSTANCE-2" --netns "$LAB_SW"
	before=$(state)
	cp "$WORK/good.lua" "$WORK/saved.lua"
	cp "$WORK/busy.lua" "$WORK/good.lua"
	check_says "and at a reload" 3 'good.lua:6: port busy0: another XDP program is attached' tg reload
	cp "$WORK/saved.lua" "$WORK/good.lua"
	check_equal "then what runs is as it was" "$before" "$(state)"
else
	skip "a port that another XDP program has" "none could be attached: $(tail -1 "$WORK/busy.out")"
fi
check "no start that failed left a pin" test ! -e "/sys/fs/bpf/tidegate/$INSTANCE-2"
check "and the VIP answers" answers
