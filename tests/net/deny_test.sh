#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Deny and allow lists with real connections: who is on a list gets no answer, who is allowed does; what files,
# tasks and operators put there stays as long as it should; a list that is refreshed, moved or adopted has no gap,
# not for those that it denies, and not for others.
. "$(dirname "$0")/lib.sh"

script=$WORK/deny.lua
sources4="192.0.2.8 192.0.2.9 192.0.2.66 192.0.2.70"
sources6="2001:db8:c::8 2001:db8:c::66"

# --- the script -------------------------------------------------------------------------------------

service()
{
	cat <<-END
		tg.port "eth0"
		tg.service { name = "web", mode = "l2dsr", vip = { "$LAB_VIP4:80", "[$LAB_VIP6]:80" },
		  backends = { "10.0.0.11", "10.0.0.12", "2001:db8:1::11", "2001:db8:1::12" } }
	END
}

declare_lists()	# [LUA…]: the script with the lists of this test, and more
{
	{
		service
		cat <<-'END'
			tg.deny:add("192.0.2.8", { reason = "the first one", list = "hand" })
			tg.deny:add "2001:db8:c::8"
			tg.deny:load("level1.netset", { list = "level1" })
			tg.allow:add "192.0.2.70"
		END
		printf '%s\n' "$@"
	} >"$script"
}

# --- who is answered --------------------------------------------------------------------------------

vip_of()	{ case $1 in *:*) echo "[$LAB_VIP6]" ;; *) echo "$LAB_VIP4" ;; esac; }
answered()	{ on client curl -sf -o /dev/null --connect-timeout 0.4 -m 1 --interface "$1" "http://$(vip_of "$1")/"; }
denied()	{ ! answered "$1"; }
lua()		{ tg eval "$1" | tr -d '"'; }
list()		{ tg status --json | jq -r ".lists[] | select(.name == \"$1\").$2"; }

# Requests from one who is denied throughout, and from one who never is, every 5 ms, to the switch itself.
stream()	{ exec nsenter --net="/run/netns/$LAB_CLIENT" -- ping -n -q -i 0.005 -W 1 -I "$1" 192.0.2.1 >"$WORK/ping.$1" 2>&1; }
streams()
{
	stream 192.0.2.8 &
	denied_stream=$!
	stream 192.0.2.9 &
	free_stream=$!
	background+=("$denied_stream" "$free_stream")
	sleep 0.3
}

streams_end()	# WHAT
{
	sleep 0.3
	kill -INT $denied_stream $free_stream
	wait $denied_stream $free_stream 2>/dev/null
	local sent got
	sent=$(sed -nE 's/^([0-9]+) packets transmitted, .*/\1/p' "$WORK/ping.192.0.2.8")
	check_that "$1: many packets were sent by who is denied" "${sent:-0} > 20"
	check_equal "$1: none of who is denied comes through" 0 \
		"$(sed -nE 's/.*transmitted, ([0-9]+) received.*/\1/p' "$WORK/ping.192.0.2.8")"
	sent=$(sed -nE 's/^([0-9]+) packets transmitted, .*/\1/p' "$WORK/ping.192.0.2.9")
	got=$(sed -nE 's/.*transmitted, ([0-9]+) received.*/\1/p' "$WORK/ping.192.0.2.9")
	check_that "$1: none of who is not is lost" "${sent:-0} > 20 && sent - ${got:-0} <= 1"	# one is on its way
}

# --- begin ------------------------------------------------------------------------------------------

lab_up --backends 2
for source in $sources4; do on client ip addr add "$source/24" dev eth0; done
for source in $sources6; do on client ip addr add "$source/64" dev eth0 nodad; done

printf '; a list of ranges\r\n192.0.2.64/28 ; SBL1\r\n10.1.0.0/16\r\n2001:db8:c::60/124\r\n' >"$WORK/level1.netset"
declare_lists
check_fails "check plans the lists" 4 "$TIDEGATE" check "$script" --netns "$LAB_SW"
check_equal "with how many prefixes each gets" "+ list allow allow: 1 added (1 prefixes)
+ list deny deny: 1 added (1 prefixes)
+ list deny hand: 1 added (1 prefixes)
+ list deny level1: 3 added (3 prefixes)" "$(grep ' list ' "$WORK/check.out")"

service >"$script"
daemon_start "$script"
for source in 192.0.2.7 $sources4 $LAB_CLIENT6 $sources6; do
	check "without lists $source is answered" wait_for 5 answered "$source"
done
check_equal "and no memory is used for them" 0 "$(tg status --json | jq '.list_memory | .tables4 + .tables6')"

declare_lists
check "the lists are loaded" tg reload
for source in 192.0.2.8 192.0.2.66 $sources6; do check "$source is denied" denied "$source"; done
for source in 192.0.2.7 192.0.2.9 192.0.2.70 $LAB_CLIENT6; do check "$source is answered" answered "$source"; done
check_that "each list counts what it decides" "$(list hand packets) > 0 && $(list level1 packets) > 0"
check_equal "an entry says why" "the first one" "$(lua '(select(2, tg.deny:contains "192.0.2.8")).reason')"
check_equal "and which one covers an address" "level1 192.0.2.64/28 file" \
	"$(lua '(function() local _, e = tg.deny:contains "192.0.2.66" return e.list .. " " .. e.prefix .. " " .. e.owner end)()')"
check_fails "nothing would change now" 0 tg check "$script"

# --- time, reason, counters --------------------------------------------------------------------------

check "an operator denies for a second" tg eval 'assert(tg.deny:add("192.0.2.9", { ttl = 1, reason = "hush" }))'
check "192.0.2.9 is denied" denied 192.0.2.9
check "and then answered again" wait_for 3 answered 192.0.2.9
check_equal "and no longer listed" false "$(lua 'tg.deny:contains "192.0.2.9"')"
check "an address is denied with counters" tg eval 'assert(tg.deny:add("192.0.2.9", { count = true, list = "counted" }))'
check "192.0.2.9 is denied" denied 192.0.2.9
check_that "its packets are counted" "$(lua '(select(2, tg.deny:contains "192.0.2.9")).packets') > 0"
check "it is removed" tg eval 'assert(tg.deny:remove("192.0.2.9", { list = "counted" }))'
check "192.0.2.9 is answered" answered 192.0.2.9

on client ping -n -q -f -c 20000 -w 3 -I 192.0.2.8 192.0.2.1 >/dev/null 2>&1
check_equal "top names the offender" 192.0.2.8 "$(lua 'tg.deny:top { n = 1 }[1].src')"
check_equal "and its list" hand "$(lua 'tg.deny:top { n = 1 }[1].list')"

on client ping -n -q -i 0.002 -c 1000 -W 1 -I 192.0.2.66 192.0.2.1 >/dev/null 2>&1 &
pinger=$!
background+=("$pinger")
check_equal "over a second, top names who sent in it, and how fast" "192.0.2.66 true" \
	"$(lua '(function() local t = tg.deny:top { seconds = 1 }[1] return t.src .. " " .. tostring(t.rate > 20) end)()')"
kill "$pinger"

lua 'tg.deny:replace("many", (function()
	local list = {}
	for i = 1, 2500 do list[i] = ("10.%d.%d.7"):format(i // 250, i % 250) end
	return list
end)())' >"$WORK/many"
check_equal "pairs goes through a list page by page" "2500 10.0.1.7 10.10.0.7" "$(lua '(function()
	local n, first, last = 0, nil, nil
	for prefix in tg.deny:pairs "many" do n, first, last = n + 1, first or prefix, prefix end
	return n .. " " .. first .. " " .. last
end)()')"
check "an operator may empty it" tg eval 'assert(tg.deny:replace("many", {}, { min = 0 }))'
check_equal "and it is gone" "" "$(list many entries)"

# --- owners -------------------------------------------------------------------------------------------

declare_lists 'tg.spawn(function() tg.deny:add "192.0.2.9" end)'
check "a task adds" tg reload
check "192.0.2.9 is denied" wait_for 2 denied 192.0.2.9
printf '192.0.2.9\noops\n' >"$WORK/broken.netset"
declare_lists 'tg.spawn(function() print(tg.deny:load "broken.netset")
	print(tg.deny:load("broken.netset", { on_error = "skip" })) end)'
check "a task loads a file with a broken line" tg reload
check "which is refused" wait_for 2 grep -q 'nil.*broken.netset:2: "oops"' "$DAEMON_LOG"
check "or left out, and logged" wait_for 2 grep -q 'warn .*left out: .*broken.netset:2: "oops"' "$DAEMON_LOG"
check "192.0.2.9 is denied" wait_for 2 denied 192.0.2.9
declare_lists
check "its generation ends" tg reload
check "192.0.2.9 is answered" answered 192.0.2.9

check "an operator adds" tg eval 'assert(tg.deny:add "192.0.2.9")'
check "and removes what the file says" tg eval 'assert(tg.deny:remove("192.0.2.8", { list = "hand" }))'
check "a reload leaves both" tg reload
check "192.0.2.9 is denied" denied 192.0.2.9
check "192.0.2.8 is answered" answered 192.0.2.8
check "the operator undoes both" tg eval 'assert(tg.deny:remove "192.0.2.9" and tg.deny:add("192.0.2.8", { list = "hand" }))'
check "192.0.2.9 is answered" answered 192.0.2.9
check "192.0.2.8 is denied" denied 192.0.2.8

# --- broken feeds -------------------------------------------------------------------------------------

cp "$WORK/level1.netset" "$WORK/sound.netset"
printf '192.0.2.64/28\n# fine\n192.0.2.300/28\n' >"$WORK/level1.netset"
check_says "a broken line is named by check" 1 'level1.netset:3: "192.0.2.300/28": not an IP address' tg check "$script"
check_says "and by reload" 1 'level1.netset:3: "192.0.2.300/28": not an IP address' tg reload
check "what was denied still is" denied 192.0.2.66
check_equal "the list is as it was" 3 "$(list level1 entries)"
rm "$WORK/level1.netset"
check_says "a file that is missing is named" 1 'deny.lua:[0-9]+: .*/level1.netset: No such file' tg reload
check_equal "the list is as it was" 3 "$(list level1 entries)"
cp "$WORK/sound.netset" "$WORK/level1.netset"

# --- no gap -------------------------------------------------------------------------------------------

what="a list that is replaced"
streams
lua '(function()
	for i = 1, 40 do
		local list = { "192.0.2.8" }
		for k = 1, 500 do list[#list + 1] = ("10.%d.%d.0/24"):format(i, k % 256) end
		assert(tg.deny:replace("hand", list))
		assert(tg.deny:replace("hand", "10.0.0.0/8\n192.0.2.16/29\n192.0.2.8\n"))
	end
	return true
end)()' >"$WORK/replaced"
check_equal "a list is replaced eighty times" true "$(cat "$WORK/replaced")"
streams_end "$what"
check_equal "it has what it was given last" 3 "$(lua 'tg.deny:count "hand"')"
check_says "an empty download is refused" 0 'at least 1 expected: it stays as it is, with 3' \
	tg eval 'tg.deny:replace("hand", "")'
check_says "so is one that is too short" 0 '2 prefixes given, at least 1000 expected' \
	tg eval 'tg.deny:replace("hand", "10.0.0.1\n10.0.0.2", { min = 1000 })'
check_says "and one that is none" 0 'line 1: .*<html>.*: not an IP address' tg eval 'tg.deny:replace("hand", "<html>")'
check "192.0.2.8 is denied" denied 192.0.2.8

what="a prefix that goes from list to list"
streams
for round in 1 2 3; do
	sed -i 's/list = "hand"/list = "other"/' "$script"
	tg reload >/dev/null || not_ok "reload $round"
	sed -i 's/list = "other"/list = "hand"/' "$script"
	tg reload >/dev/null || not_ok "reload $round, back"
done
streams_end "$what"

# --- killed, and adopted ---------------------------------------------------------------------------------

check "an operator adds for longer" tg eval 'assert(tg.deny:add("192.0.2.70/31", { ttl = 600, reason = "kept", list = "mine" }))'
check "and removes what a file says" tg eval 'assert(tg.deny:remove("2001:db8:c::60/124", { list = "level1" }))'
check "2001:db8:c::66 is answered" answered 2001:db8:c::66
what="a daemon that is killed and started anew"
streams
daemon_stop KILL
check "without a daemon, 192.0.2.66 is denied" denied 192.0.2.66
check "and 192.0.2.7 is answered" answered 192.0.2.7
daemon_start "$script"
streams_end "$what"
check_equal "the next daemon has the operator's entry" "kept operator uid 0" \
	"$(lua '(function() local _, e = tg.deny:contains "192.0.2.71" return e.reason .. " " .. e.owner .. " " .. e.who end)()')"
left=$(lua 'math.floor((select(2, tg.deny:contains "192.0.2.71")).ttl)')
check_that "with the time that is left" "$left > 0 && $left < 600"
check "192.0.2.66 is denied" denied 192.0.2.66
check "2001:db8:c::66 is answered still" answered 2001:db8:c::66
check_fails "nothing would change now" 0 tg check "$script"

# --- the end ----------------------------------------------------------------------------------------------

service >"$script"
check "the lists leave the script" tg reload
check "192.0.2.66 is answered" answered 192.0.2.66

# --- a list that has no room beside itself ----------------------------------------------------------------

million()	# FIRST OFFSET: that prefix, and 999,999 hosts
{
	echo "$1"
	awk -v offset="$2" 'BEGIN { for (i = 1; i < 1000000; i++) { n = i * 5 + offset
		printf "20.%d.%d.%d\n", n / 65536, n / 256 % 256, n % 256 } }'
}

million 192.0.2.8 0 >"$WORK/million.netset"
{
	service
	echo 'tg.deny:load("million.netset", { list = "million" }) tg.allow:add "192.0.2.9"'
} >"$script"
check "a list of a million prefixes is loaded" tg reload
check "192.0.2.8 is denied by it" denied 192.0.2.8
streams
million 192.0.2.8/29 3 >"$WORK/million.netset"
check "it is replaced by a million others, 192.0.2.8 among them" tg reload
streams_end "a replaced list that fills the table"
check_equal "it has them" "1000000 1000000" "$(tg status --json | jq -r '.lists[] | select(.name == "million") | .entries')$(
	) $(tg eval '(function() local n = 0 for _, host in ipairs { "20.0.0.8", "20.76.75.62" } do
		n = n + (tg.deny:contains(host) and 500000 or 0) end return n end)()')"
service >"$script"
check "and it leaves" tg reload
check_equal "the operator's stay" "mine" "$(tg status --json | jq -r '[.lists[].name] | join(" ")')"
check "they are removed" tg eval 'assert(tg.deny:remove("192.0.2.70/31", { list = "mine" }))'
check "and a reload" tg reload
check_equal "frees the memory" 0 "$(tg status --json | jq '.list_memory | .tables4 + .tables6')"
check "unload" tg unload
wait "$DAEMON"
DAEMON=
check_equal "leaves no file" "" "$(compgen -G "/run/tidegate/$INSTANCE.lists*")"
