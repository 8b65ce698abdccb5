#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# 200 reloads under requests. Each changes a weight or a backend of the service `web`, one in ten is
# faulty. While each happens, requests are in flight, over connections of their own, and none may break,
# though slots move. The service `still` is never changed, and nothing of it may be touched. Nothing
# may leak.
. "$(dirname "$0")/lib.sh"

late=0 wrong_codes="" moved_by_faults=0
reloads=${RELOADS:-200} requests=8 size=262144		# of each service, in flight at each reload
still_vip=198.51.100.20
script=$WORK/web.lua

# --- the script, as of one reload ----------------------------------------------------------------

declarations()	# WEIGHT-OF-b2 LAST-BACKEND
{
	cat <<-END
	tg.port "eth0"
	tg.port "eth1"
	local check = { "http", path = "/healthz", interval = 0.2, timeout = 0.2 }
	tg.service { name = "web", mode = "l2dsr", vip = { "$LAB_VIP4:80", "[$LAB_VIP6]:80" }, check = check,
	  backends = { "10.0.0.11", { "10.0.0.12", weight = $1 }, "10.0.0.13", "10.0.0.1$2",
	    "2001:db8:1::11", "2001:db8:1::12" } }
	tg.service { name = "still", mode = "nat", vip = "$still_vip:80", check = check,
	  backends = { "10.0.0.11", "10.0.0.12", "10.0.0.13", "10.0.0.14" } }
	END
}

faults=(
	'tg.service {'
	'error "on purpose"'
	'tg.service { name = "x", vip = "198.51.100.30:80", backends = { "10.0.0.300" } }'
	'tg.service { name = "x", vip = "198.51.100.30:80", bakends = { "10.0.0.11" } }'
	"tg.service { name = \"x\", vip = \"$still_vip:80\", backends = { \"10.0.0.11\" } }"
	'tg.port "nosuch0"'
)

write_script()	# NUMBER: every tenth is faulty; the others change a weight, or b4 for b5
{
	declarations $(($1 % 7 + 1)) $((4 + $1 / 3 % 2)) >"$script.new"
	if (($1 % 10 == 0)); then
		echo "${faults[$1 / 10 % ${#faults[@]}]}" >>"$script.new"
	fi
	mv "$script.new" "$script"
}

# --- requests: a file slowly, so that they last while the reload happens ---------------------------

transfers()	# FIRST-PORT -> curl's config
{
	local port
	for ((port = $1; port < $1 + requests; port++)); do
		printf 'url = "http://%s/files/slow"\nlocal-port = %d\n' "$LAB_VIP4" "$port"
		printf 'write-out = "web %d %%{exitcode} %%{size_download}\\n"\n' "$port"
		printf 'output = /dev/null\nlimit-rate = 1000k\nmax-time = 5\nnext\n'
		printf 'url = "http://%s/files/slow"\n' "$still_vip"
		printf 'write-out = "still %d %%{exitcode} %%{size_download}\\n"\n' "$port"
		printf 'output = /dev/null\nlimit-rate = 1000k\nmax-time = 5\nnext\n'
	done | sed '$d'
}

predict()	# FIRST-PORT -> "PORT BACKEND": where web's flows would go if they began now
{
	tg eval "(function()
		local names = {}
		for port = $1, $(($1 + requests - 1)) do
			local there, fresh = tg.services.web:lookup('$LAB_CLIENT4:' .. port)
			names[#names + 1] = port .. ' ' .. tostring(fresh or there)
		end
		return table.concat(names, ',')
	end)()" | tr -d '"' | tr ',' '\n'
}

in_flight()	{ [ "$(on client ss -Htn state established | wc -l)" -ge $((2 * requests)) ]; }

one_reload()	# NUMBER
{
	local port=$((10000 + $1 * requests)) code=0 want=0 curl
	transfers $port >"$WORK/transfers"
	predict $port >"$WORK/before"
	on client curl --parallel --parallel-immediate --parallel-max 100 -K "$WORK/transfers" >"$WORK/answers" 2>/dev/null &
	curl=$!
	write_script "$1"
	wait_for 3 in_flight || late=$((late + 1))
	if (($1 % 10 == 0)); then
		want=1
		if [[ "$(tail -1 "$script")" = tg.port* ]]; then want=3; fi
	fi
	tg reload >"$WORK/reload.out" 2>&1 || code=$?
	[ $code -eq $want ] || wrong_codes="$wrong_codes $1:$code"
	predict $port >"$WORK/after"
	wait $curl
	predict $port >"$WORK/end" # a backend that was added takes flows when its first check has passed
	if [ $want -ne 0 ] && ! cmp -s "$WORK/before" "$WORK/after"; then moved_by_faults=$((moved_by_faults + 1)); fi
	cat "$WORK/answers" >>"$WORK/all"
	# A line for each request: SERVICE MOVED? EXIT SIZE PORT BACKEND RELOAD
	awk -v n="$1" 'FILENAME != ARGV[4] { if (home[$1] && home[$1] != $2) moved[$1] = 1; home[$1] = $2; next }
		{ print $1, ($1 == "web" && moved[$2]) ? "moved" : "unmoved", $3, $4, $2, home[$2], n }' \
		"$WORK/before" "$WORK/after" "$WORK/end" "$WORK/answers" >>"$WORK/judged"
}

# --- what may not change ---------------------------------------------------------------------------

pins=/sys/fs/bpf/tidegate/$INSTANCE
status()	{ tg status --json; }
open_files()	{ find "/proc/$DAEMON/fd" -type l -printf '%l\n'; }
descriptors()	{ open_files | grep -vc ^socket: ; }
sockets()	{ open_files | grep -c ^socket: ; }
mappings()	{ grep -c bpf-map "/proc/$DAEMON/maps"; }
held_ids()	{ cat "/proc/$DAEMON/fdinfo/"* 2>/dev/null | grep -E '^(map|prog|link)_id' | sort -u | wc -l; }
pinned()	{ find "$pins" -type f | sort; }
rings()		{ bpftool -j map dump pinned "$pins/maps/rings" | jq 'length'; }
resident()	{ awk '/^VmRSS/ { print $2 }' "/proc/$DAEMON/status"; }
programs()	{ bpftool -j prog show pinned "$pins/program" | jq .id; }
still()		{ status | jq -S ".services.still | $1"; }
untouched()	# what is not touched in a service that did not change
{
	still '{ vips, mode, backends: [ .backends[] | { name, state, since, slots, weight } ] }'
	for ring in "$pins"/rings/*; do
		[ "$(bpftool -j map show pinned "$ring" | jq .id)" = "$still_ring" ] && bpftool map dump pinned "$ring" | sha256sum
	done
	bpftool -j map dump pinned "$pins/maps/reverse4" | sha256sum
}
progress()	{ still '[ .packets, .bytes, ([.backends[] | .packets, .reply_packets, .checks_ok] | add) ]'; }
checked_up()	{ status | jq -e "[.services[].backends[] | select(.state == \"up\" and .checks_ok > 2)] | length == $1"; }
none_failed()	{ jq -e '[ .services[].backends[].checks_failed ] | add == 0'; }

# --- the test ----------------------------------------------------------------------------------------

lab_up --backends 5
dd if=/dev/zero of="$LAB_DIR/files/slow" bs=$size count=1 status=none
write_script 1
daemon_start "$script"
check "all backends were found up" wait_for 5 checked_up 10
# The ring of `still` is the one of its VIP; with two services it is the one that web's VIPs don't name.
still_ring=$(bpftool -j map show pinned "$(find "$pins/rings" -type f | sort | tail -1)" | jq .id)

one_reload 2 # what is made only once is there now
rm -f "$WORK/all" "$WORK/judged"
fds=$(descriptors) socks=$(sockets) maps=$(mappings) ids=$(held_ids) files=$(pinned) rings_then=$(rings) rss=$(resident) program=$(programs)
before=$(untouched) progress_then=$(progress)
start=${EPOCHREALTIME/[.,]/}
for ((i = 3; i < 3 + reloads; i++)); do one_reload $i; done
seconds=$(((${EPOCHREALTIME/[.,]/} - start) / 1000000))

count()		{ awk -v size=$size -v s="$1" -v m="$2" -v bad="$3" '$1 == s && $2 == m && (!bad || $3 != 0 || $4 != size)' "$WORK/judged" | wc -l; }
echo "   $reloads reloads in $seconds s under $(wc -l <"$WORK/all") requests;" \
	"of web's, $(count web moved "") were on a slot that moved"
check_equal "every reload ended with the exit code it should" "" "$wrong_codes"
check_that "at 19 of 20 reloads all requests were in flight" "$late * 20 <= $reloads"
check_equal "all requests were made" $((2 * requests * reloads)) "$(wc -l <"$WORK/judged")"
check_equal "no request failed to a service that did not change" 0 "$(count still unmoved 1)"
check_equal "no request failed to the one that did" "" "$(awk -v size=$size '$1 == "web" && ($3 != 0 || $4 != size)' "$WORK/judged")"
check_that "though slots did move" "$(count web moved "") > 0"
check_equal "a faulty reload moves nothing" 0 $moved_by_faults
check_equal "the service that did not change was not touched" "$before" "$(untouched)"
check_that "its counters and checks went on" "$(jq -n --argjson a "$progress_then" --argjson b "$(progress)" \
	'[range(3)] | map($b[.] > $a[.]) | all | if . then 1 else 0 end')"
check "no check failed meanwhile" none_failed < <(status)
write_script 2
check "the last good script is loaded" tg reload
sleep 1.2
check_equal "no descriptor leaked" "$fds" "$(descriptors)"
# The prober keeps a socket for every probe that was ever in flight with others: eight checks at most.
check_that "no socket leaked" "$(sockets) <= $socks + 8"
check_equal "no mapping leaked" "$maps" "$(mappings)"
check_equal "no map, program or link leaked" "$ids" "$(held_ids)"
check_equal "no ring leaked" "$rings_then" "$(rings)"
check_equal "the pins are the same" "$files" "$(pinned)"
check_equal "so is the program" "$program" "$(programs)"
echo "   resident memory: $rss KiB before, $(resident) KiB after"
check_that "memory did not grow by more than 4 MiB" "$(resident) - $rss < 4096"

weight()	{ status | jq '.services.web.backends[] | select(.name == "10.0.0.12").weight'; }
weight_is()	{ [ "$(weight)" = "$1" ]; }
logged()	{ grep -q -- "$1" "$DAEMON_LOG"; }
write_script 4
kill -HUP "$DAEMON"
check "SIGHUP reloads" wait_for 3 weight_is 5
write_script 10
kill -HUP "$DAEMON"
check "SIGHUP with a faulty script says so" wait_for 3 logged "not reloaded, what ran goes on"
check_equal "and changes nothing" 5 "$(weight)"
write_script 12
together=()
for _ in 1 2 3 4 5; do
	tg reload >/dev/null 2>&1 &
	together+=($!)
done
wait "${together[@]}"
check_equal "reloads at the same time wait for each other" 6 "$(weight)"
