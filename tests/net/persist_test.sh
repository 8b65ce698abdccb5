#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The datapath outlives the daemon: connections go on when it is killed, a new one takes over what
# runs without touching what did not change, and unload leaves nothing.
. "$(dirname "$0")/lib.sh"

pins=/sys/fs/bpf/tidegate/$INSTANCE
script=$WORK/web.lua
second=$INSTANCE-2

declarations()	# [BACKEND-OF-web]
{
	cat <<-END
	tg.port "eth0"
	tg.port "eth1"
	local check = { "http", path = "/healthz", interval = 0.2, timeout = 0.2, rise = 2, fall = 2 }
	tg.service { name = "web", mode = "l2dsr", vip = { "$LAB_VIP4:80", "[$LAB_VIP6]:80" }, check = check,
	  backends = { "10.0.0.11", "10.0.0.12", "10.0.0.13", ${1:+"\"$1\","} "2001:db8:1::11" } }
	tg.service { name = "files", mode = "nat", vip = "198.51.100.20:80", check = check,
	  backends = { "10.0.0.11", "10.0.0.12", "10.0.0.13" } }
	END
}

status()	{ tg status --json; }
of_service()	{ status | jq -cS ".services.$1 | $2"; }
state_of()	{ of_service "$1" ".backends[] | select(.name == \"$2\").state" | tr -d '"'; }
is_state()	{ [ "$(state_of "$1" "$2")" = "$3" ]; }
all_checked()	{ status | jq -e '[ .services[].backends[] | .checks_ok + .checks_failed > 1 ] | all'; }
links()		{ for link in "$pins"/links/*; do bpftool -j link show pinned "$link" | jq -c '[.id, .prog_id]'; done; }
program()	{ bpftool -j prog show pinned "$pins/program" | jq .id; }
map_ids()	{ for map in "$pins"/maps/*; do bpftool -j map show pinned "$map" | jq .id; done; }
ring_bytes()	{ for ring in "$pins"/rings/*; do bpftool -j map show pinned "$ring" | jq .id; bpftool map dump pinned "$ring"; done | sha256sum; }
tables()	{ for map in vips4 vips6 reverse4 services; do bpftool map dump pinned "$pins/maps/$map"; done | sha256sum; }
answers()	{ on client curl -sf -m 2 "http://$1/"; }
logged()	{ grep -q -- "$1" "$DAEMON_LOG"; }
daemon_kill()	{ daemon_stop KILL || true; }
# What an instance has in the kernel: programs and maps by id, while they are there.
alive()		{ local id n=0; for id in $1; do bpftool "$2" show id "$id" >/dev/null 2>&1 && n=$((n + 1)); done; echo $n; }
gone()		{ [ "$(alive "$1" "$2")" = 0 ]; }

lab_up --backends 3
dd if=/dev/urandom of="$LAB_DIR/files/large" bs=1M count=6 status=none
declarations >"$script"
daemon_start "$script"
check "every backend is probed" wait_for 5 all_checked

# --- killed --------------------------------------------------------------------------------------------

backend_kill b3
check "a dead backend is found" wait_for 5 is_state web 10.0.0.13 down
check "a backend is drained" tg eval 'assert(tg.services.web:drain "10.0.0.12")'
check "it has no slot" [ "$(of_service web '.backends[] | select(.name == "10.0.0.12").slots')" = 0 ]
for _ in 1 2 3 4 5; do answers "$LAB_VIP4"; answers 198.51.100.20; done >/dev/null
on client curl -s --limit-rate 2M "http://$LAB_VIP4/files/large" -o "$WORK/large4" & transfer4=$!
on client curl -s --limit-rate 2M "http://198.51.100.20/files/large" -o "$WORK/large_nat" & transfer_nat=$!
sleep 0.5

before_links=$(links) before_program=$(program) before_maps=$(map_ids)
before_rings=$(ring_bytes) before_tables=$(tables)
since=$(of_service web '[.backends[] | [.name, .since]]')
packets=$(of_service web .packets)
daemon_kill
check_fails "without a daemon, status says so" 3 tg status
check_equal "the VIP answers all the same" b1 "$(answers "$LAB_VIP4")"
check_equal "over IPv6 too" b1 "$(answers "[$LAB_VIP6]")"
check "and through nat" answers 198.51.100.20
check_equal "nothing of the datapath has changed" "$before_rings" "$(ring_bytes)"

# --- adopted -------------------------------------------------------------------------------------------

daemon_start "$script"
check_equal "the rings are byte for byte what they were" "$before_rings" "$(ring_bytes)"
check_equal "so are VIPs, ways back and services" "$before_tables" "$(tables)"
check_equal "the links and their program are the same" "$before_links" "$(links)"
check_equal "so is the pinned program" "$before_program" "$(program)"
check_equal "and every map" "$before_maps" "$(map_ids)"
check_equal "the drained backend is still drained" drain "$(state_of web 10.0.0.12)"
check_equal "the dead one still down" down "$(state_of web 10.0.0.13)"
check_equal "each since it was" "$since" "$(of_service web '[.backends[] | [.name, .since]]')"
check_that "counters go on" "$(of_service web .packets) > $packets"
wait $transfer4
check_equal "the download through l2dsr arrived whole" "$(sha256sum <"$LAB_DIR/files/large")" "$(sha256sum <"$WORK/large4")"
wait $transfer_nat
check_equal "the one through nat too" "$(sha256sum <"$LAB_DIR/files/large")" "$(sha256sum <"$WORK/large_nat")"
backend_start b3
check "the dead backend comes back after its successes" wait_for 5 is_state web 10.0.0.13 up
check "the drained one is made ready" tg eval 'assert(tg.services.web:admin("10.0.0.12", "ready"))'

# --- adopted with another script --------------------------------------------------------------------------

check "a daemon that is asked to ends well" daemon_stop
check "and leaves the datapath too" answers "$LAB_VIP4"
ways_back()	{ bpftool map dump pinned "$pins/maps/reverse4" | sha256sum; }
before_ways=$(ways_back)
declarations 10.0.0.14 >"$script"
daemon_start "$script"
check_equal "what a script says anew is in force" '["10.0.0.11","10.0.0.12","10.0.0.13","10.0.0.14","2001:db8:1::11"]' \
	"$(of_service web '[.backends[].name]')"
check_equal "with the same program" "$before_links" "$(links)"
check_equal "and the unchanged service is untouched" "$before_ways" "$(ways_back)"

daemon_kill
echo 'tg.service {' >>"$script"
daemon_spawn "$script"
wait "$DAEMON"
check_equal "a faulty script ends a new daemon" 1 $?
DAEMON=
check "while what ran goes on" answers "$LAB_VIP4"
declarations >"$script"

# --- another ABI, other owners ------------------------------------------------------------------------------

cat >"$WORK/abi.lua" <<'END'
local m = assert(tg.map.open(arg[1] .. "/maps/instance", { value = arg[2] }))
local value = m:get(0)
m:set(0, "\xff\xff\xff\xff" .. value:sub(5))
END
size=$(bpftool -j map show pinned "$pins/maps/instance" | jq .bytes_value)
check "the pins get another ABI's number" "$TIDEGATE" lua "$WORK/abi.lua" "$pins" "bytes:$size"
old_maps=$(map_ids)
daemon_start "$script"
check "pins of another ABI are replaced, and that is said" logged "the pins of another ABI version were removed"
check_equal "by new maps" 0 "$(comm -12 <(sort <<<"$old_maps") <(map_ids | sort) | wc -l)"
check "and traffic flows" wait_for 3 answers "$LAB_VIP4"
check_says "a second daemon on the instance is refused, naming the first" 3 "already running: process $DAEMON " \
	"$TIDEGATE" run "$script" --instance "$INSTANCE" --netns "$LAB_SW"

foreign=$INSTANCE-foreign
mkdir -p "/sys/fs/bpf/tidegate/$foreign"
bpftool map create "/sys/fs/bpf/tidegate/$foreign/theirs" type array key 4 value 4 entries 1 name theirs
check_says "a directory with somebody else's pins is refused" 3 "/$foreign holds pins that are not this instance's" \
	"$TIDEGATE" run "$script" --instance "$foreign" --netns "$LAB_SW"
check_says "also by unload" 3 "/$foreign holds pins" "$TIDEGATE" unload --instance "$foreign"
check_equal "and left as it is" theirs "$(ls "/sys/fs/bpf/tidegate/$foreign")"
rm -r "/sys/fs/bpf/tidegate/$foreign"

# --- two instances ------------------------------------------------------------------------------------------

"$ROOT/scripts/lab" up --name "$second" --backends 1 >/dev/null 2>&1
second_down()	{ "$TIDEGATE" unload --instance "$second" >/dev/null 2>&1; "$ROOT/scripts/lab" down --name "$second"; finish; }
trap second_down EXIT
sed 's/"10.0.0.1[23]",//g; s/"eth1"/"eth1"/' "$script" >"$WORK/second.lua"
"$TIDEGATE" run "$WORK/second.lua" --instance "$second" --netns "tg-$second-sw" >>"$WORK/second.log" 2>&1 & other=$!
background+=("$other")
check "a second instance runs beside the first" wait_for 5 "$TIDEGATE" status --instance "$second"
check "its VIP answers" wait_for 3 nsenter "--net=/run/netns/tg-$second-client" curl -sf -m 1 "http://$LAB_VIP4/"
check "so does the first one's" answers "$LAB_VIP4"
check "the second is unloaded by its daemon" "$TIDEGATE" unload --instance "$second"
wait "$other"
check_equal "which ends" 0 $?
check "the first is not concerned" answers "$LAB_VIP4"

# --- unloaded -----------------------------------------------------------------------------------------------

all_maps="$(map_ids) $(for ring in "$pins"/rings/*; do bpftool -j map show pinned "$ring" | jq .id; done)"
all_programs=$(program) all_links=$(links | jq .[0])
check "unload with a daemon" tg unload
wait "$DAEMON"
check_equal "ends it" 0 $?
DAEMON=
check "no pin is left" test ! -e "$pins"
check "no link" wait_for 3 gone "$all_links" link
check "no program" wait_for 3 gone "$all_programs" prog
check "no map" wait_for 3 gone "$all_maps" map
check_equal "no program on a port" 0 "$(ip -n "$LAB_SW" link show | grep -c xdp)"

daemon_start "$script"
all_maps="$(map_ids) $(for ring in "$pins"/rings/*; do bpftool -j map show pinned "$ring" | jq .id; done)"
all_programs=$(program) all_links=$(links | jq .[0])
daemon_kill
check "unload of what a dead daemon left" tg unload
check "leaves no pin" test ! -e "$pins"
check "no link" wait_for 3 gone "$all_links" link
check "no program" wait_for 3 gone "$all_programs" prog
check "no map" wait_for 3 gone "$all_maps" map
check_fails "there is nothing to unload then" 1 tg unload
