#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Captures of a running daemon: what tshark reads of them is what was sent, with the verdict and its rule; limits,
# pipes, text; and what becomes of a full disk, a stopped reader, a command that dies, files that are there already.
. "$(dirname "$0")/lib.sh"

script()
{
	cat <<-'END'
		local tg = require "tidegate"
		local wan = tg.port "eth0"
		tg.port "eth1"
		wan:policy("ingress", {
			{ "drop", proto = "udp", dport = 53, name = "dns" },
			{ "accept", proto = { "icmp", "icmp6" }, name = "ping" },
		})
		tg.service { name = "web", mode = "l2dsr", vip = "198.51.100.10:80/tcp", backends = { "10.0.0.11", "10.0.0.12" } }
	END
}

begins()	# FILE: the command has said that it captures
{
	grep -q '^capturing' "$1"
}

start_capture()	# NAME ARG…: in the background, its output in $WORK/NAME.out, what it says in $WORK/NAME.err
{
	local name=$1
	shift
	"$TIDEGATE" capture "$@" --instance "$INSTANCE" >"$WORK/$name.out" 2>"$WORK/$name.err" &
	pid=$!
	background+=("$pid")
	wait_for 10 begins "$WORK/$name.err" || not_ok "the capture $name begins" "$(cat "$WORK/$name.err")"
}

end_of()	# SENTENCE CODE NAME PATTERN: the capture has ended with this exit code, and says that
{
	local code=0
	wait "$pid" || code=$?
	if [ "$code" = "$2" ] && grep -qE -- "$4" "$WORK/$3.err"; then
		ok "$1"
	else
		not_ok "$1" "exit code $code, wanted $2 and \"$4\"" "$(cat "$WORK/$3.err")"
	fi
}

interrupt()	{ kill -INT "$pid"; }

ping_switch()	# COUNT BYTES: echo requests of so many bytes, each answered
{
	on client ping -q -n -c "$1" -s "$2" -i 0.002 -W 5 192.0.2.1 >/dev/null
}

fields()	# FILE FIELD…: tab-separated, a line a packet
{
	local args=() field
	for field in "${@:2}"; do args+=(-e "$field"); done
	tshark -n -r "$1" -T fields "${args[@]}" 2>"$WORK/tshark.err"
}

# --- the file ------------------------------------------------------------------------------------------------------

all_that_was_sent()
{
	local file=$WORK/all.pcapng
	start_capture all eth0 -w "$file" -c 400 proto=icmp
	ping_switch 200 100
	end_of "a capture ends after so many packets" 0 all '^400 packets, 56800 bytes$'
	fields "$file" frame.len frame.cap_len >"$WORK/lengths"
	check_equal "tshark reads every packet" 400 "$(wc -l <"$WORK/lengths")"
	check_equal "and every byte" "56800 56800" \
		"$(awk '{ len += $1; captured += $2 } END { print len, captured }' "$WORK/lengths")"
	check_equal "it finds nothing wrong with the file" "" "$(grep -v "Running as user" "$WORK/tshark.err")"
	check_equal "requests come in" 200 \
		"$(fields "$file" frame.packet_flags_direction icmp.type | grep -cE '^(0x0*)?1[[:space:]]8$')"
	check_equal "answers leave" 200 \
		"$(fields "$file" frame.packet_flags_direction icmp.type | grep -cE '^(0x0*)?2[[:space:]]0$')"
	check_equal "the interface is named" "400 eth0" "$(fields "$file" frame.interface_name | uniq -c | sed 's/^ *//')"
	check_equal "of what comes in, verdict and rule are told" 200 \
		"$(fields "$file" frame.comment icmp.type | grep -cE '^verdict accept, rule ping \(.*policy\.lua:6\)[[:space:]]8$')"
	check_equal "of what leaves, that there is no policy" 200 \
		"$(fields "$file" frame.comment icmp.type | grep -cE '^verdict none[[:space:]]0$')"
	check_equal "packets are in order" sorted \
		"$(fields "$file" frame.time_epoch | sort -nc && echo sorted)"
	check_that "and have the time of day" \
		"$(date +%s) - $(fields "$file" frame.time_epoch | head -n 1 | cut -d. -f1) < 60"
	check_equal "the file is its owner's alone" 600 "$(stat -c %a "$file")"
	check_equal "each request has its own sequence number" 200 "$(fields "$file" icmp.seq icmp.type | sort -u | grep -c '8$')"
}

what_was_dropped()
{
	local file=$WORK/dropped.pcapng
	start_capture dropped eth0 -w "$file" -c 30 --direction ingress proto=udp
	for _ in $(seq 30); do echo 'a question' | on client ncat -u --send-only 192.0.2.1 53; done
	end_of "what is dropped is captured, too" 0 dropped '^30 packets'
	check_equal "with the rule's name and place" 30 \
		"$(fields "$file" frame.comment | grep -cE '^verdict drop, rule dns \(.*policy\.lua:5\)$')"
}

what_is_forwarded()
{
	local file=$WORK/forwarded.pcapng requests
	start_capture forwarded eth0 -w "$file" --direction ingress proto=tcp dport=80
	check "a service answers meanwhile" on client curl -sf -m 5 http://198.51.100.10/
	sleep 0.2
	interrupt
	end_of "Ctrl-C ends a capture, and all is well" 0 forwarded 'packets, [0-9]+ bytes$'
	requests=$(fields "$file" frame.comment ip.dst | grep -cE '^verdict forward.*198\.51\.100\.10$')
	check_that "what XDP forwards is captured" "$requests > 3"
	check_equal "and nothing else" "$requests" "$(fields "$file" frame.number | wc -l)"

	start_capture leaving eth1 -w "$WORK/leaving.pcapng" --direction egress proto=tcp dport=80
	check "a service answers again" on client curl -sf -m 5 http://198.51.100.10/
	sleep 0.2
	interrupt
	end_of "a capture of the port that it leaves by has it, too" 0 leaving 'packets, [0-9]+ bytes$'
	requests=$(fields "$WORK/leaving.pcapng" frame.comment frame.interface_name | grep -c '^verdict forward.*eth1$')
	check_that "what XDP forwards" "$requests > 3"
}

# A frame as it is: what a device takes out of its head, is put back.
tags()
{
	local file=$WORK/tags.pcapng frame
	frame=$("$TIDEGATE" lua <(echo 'print(tg.packet { eth = { dst = arg[1] }, vlan = 7, ip = { src = "203.0.113.7",
		dst = "203.0.113.1" }, icmp = { type = "echo-request", id = 1, seq = 1 }, payload = 56 }:hex())') \
		"$(on sw cat /sys/class/net/eth0/address)")
	start_capture tags eth0 -w "$file" -c 5 --direction ingress 'vlan 7 and icmp'
	for _ in 1 2 3 4 5; do on client "$ROOT/build/frame" eth0 "$frame"; done
	end_of "packets with a VLAN tag are captured, and expressions know them" 0 tags '^5 packets, 510 bytes$'
	check_equal "with their tag" "5 7" "$(fields "$file" vlan.id | uniq -c | sed 's/^ *//')"
	check_equal "and what became of them" 5 "$(fields "$file" frame.comment | grep -c 'rule ping')"
}

large_packets()
{
	local file=$WORK/large.pcapng
	start_capture large eth1 -w "$file" --direction egress 'icmp or ip[6:2] & 0x3fff != 0'
	on sw ping -q -c 3 -i 0.05 -s 1472 10.0.0.11 >/dev/null
	sleep 0.2
	interrupt
	end_of "full frames of a port without a policy" 0 large '^3 packets, 4542 bytes$'
	check_equal "are whole" "3 1514" "$(fields "$file" frame.cap_len | uniq -c | sed 's/^ *//')"
}

# What the switch's own stack sends in large pieces, which its device would cut: sizes of the ring's largest records.
super_packets()
{
	local file=$WORK/super.pcapng
	on sw ethtool -K eth0 tx on tso on >/dev/null
	in_background on client ncat -l 9 >"$WORK/received"
	sleep 0.3
	start_capture super eth0 -w "$file" --direction egress proto=tcp dport=9
	head -c 3000000 /dev/zero | on sw ncat --send-only 192.0.2.7 9
	sleep 0.3
	interrupt
	end_of "super-packets are captured as they are" 0 super 'packets, [0-9]+ bytes$'
	on sw ethtool -K eth0 tx off tso off >/dev/null
	check_equal "all of their bytes" "$(stat -c %s "$WORK/received")" \
		"$(fields "$file" tcp.seq tcp.len | awk '$2 > 0 && $1 + $2 > last { last = $1 + $2 } END { print last - 1 }')"
	check_that "some are larger than any frame" "$(fields "$file" frame.cap_len | sort -n | tail -n 1) > 1514"
}

# --- limits --------------------------------------------------------------------------------------------------------

limits()
{
	local size
	start_capture snap eth0 -w "$WORK/snap.pcapng" -c 10 --snap 60 proto=icmp
	ping_switch 5 500
	end_of "--snap leaves the lengths" 0 snap '^10 packets, 5420 bytes$'
	check_equal "and cuts the bytes" "10 60" "$(fields "$WORK/snap.pcapng" frame.cap_len | uniq -c | sed 's/^ *//')"

	start_capture seconds eth0 -w "$WORK/seconds.pcapng" --seconds 1 proto=icmp
	ping_switch 5 100
	end_of "--seconds ends it" 0 seconds '^10 packets'

	start_capture bytes eth0 -w "$WORK/bytes.pcapng" --bytes 8192 proto=icmp
	ping_switch 100 100
	end_of "--bytes ends it" 0 bytes '^[0-9]+ packets'
	size=$(stat -c %s "$WORK/bytes.pcapng")
	check_that "before the file is larger" "$size <= 8192 && $size > 7000"
	check_equal "and the file is whole" "" "$(fields "$WORK/bytes.pcapng" frame.number >/dev/null; grep -v "Running as user" "$WORK/tshark.err")"

	start_capture expression eth0 -w "$WORK/expression.pcapng" --seconds 1 'icmp[icmptype] == icmp-echo and greater 500'
	ping_switch 5 100
	ping_switch 5 600
	end_of "a tcpdump expression chooses" 0 expression '^5 packets, 3210 bytes$'
	check_equal "what it says" "5 8" "$(fields "$WORK/expression.pcapng" icmp.type | uniq -c | sed 's/^ *//')"
}

# --- other outputs -------------------------------------------------------------------------------------------------

pipes()
{
	tg capture eth0 -w - -c 20 proto=icmp 2>"$WORK/pipe.err" | tshark -n -r - -T fields -e icmp.type >"$WORK/pipe.out" 2>/dev/null &
	pid=$!
	background+=("$pid")
	wait_for 10 begins "$WORK/pipe.err"
	ping_switch 10 100
	wait "$pid"
	check_equal "a pipe into tshark has every packet" 20 "$(grep -c . "$WORK/pipe.out")"

	tg capture eth0 -w - proto=icmp 2>"$WORK/early.err" | head -c 24 >/dev/null &
	pid=$!
	background+=("$pid")
	wait_for 10 begins "$WORK/early.err"
	ping_switch 50 100
	check "a reader that leaves ends the capture" wait_for 5 none_runs
	wait "$pid"

	start_capture text eth0 -c 4 proto=icmp
	ping_switch 2 100
	end_of "without a file, packets are printed" 0 text '^4 packets'
	check_equal "a line each" 4 "$(wc -l <"$WORK/text.out")"
	check "with what they are and what became of them" grep -qE \
		'^[0-9:.]{15} eth0 in  icmp 192\.0\.2\.7 > 192\.0\.2\.1 echo-request id [0-9]+ seq 1 len 100, 142 bytes, verdict accept, rule ping \(.*policy\.lua:6\)$' \
		"$WORK/text.out"
	check "both directions" grep -qE ' eth0 out icmp 192\.0\.2\.1 > 192\.0\.2\.7 echo-reply .* verdict none$' "$WORK/text.out"
}

none_runs()	{ [ "$(tg eval '#tg.ports.eth0:captures()')" = 0 ]; }

ends()
{
	start_capture killed eth0 -w "$WORK/killed.pcapng" proto=icmp
	check_equal "a command's capture is among those that run" 1 "$(tg eval '#tg.ports.eth0:captures()')"
	ping_switch 5 100
	sleep 0.2
	check "the status tells of it" grep -qE "^capture eth0 to a command's output: 10 packets, [0-9]+ bytes$" <(tg status)
	kill -KILL "$pid"
	check "it ends with the command" wait_for 5 none_runs
	wait "$pid" 2>/dev/null
	check_equal "and its file is whole" 10 "$(fields "$WORK/killed.pcapng" frame.number | wc -l)"
}

taps_taken()	# names of taps that somebody has
{
	bpftool -j map dump pinned "/sys/fs/bpf/tidegate/$INSTANCE/maps/tap_owners" |
		jq '[.[].formatted.value.name | select(. != "")] | length'
}

nothing_is_taken()	{ [ "$(taps_taken)" = 0 ]; }

# Whenever it dies: while its tap is taken, its programs are loaded, its capture begins.
at_any_moment()
{
	local i
	for i in 0 1 2 3 4 5 6 7; do
		"$TIDEGATE" capture eth0 -w - proto=udp dport="$((1000 + i))" --instance "$INSTANCE" >/dev/null 2>&1 &
		pid=$!
		sleep "0.0$i"
		kill -KILL "$pid"
		wait "$pid" 2>/dev/null
	done
	check "commands that die at any moment leave no capture" wait_for 60 none_runs
	check "nor a tap that is taken" wait_for 60 nothing_is_taken
}

side_by_side()
{
	local first
	start_capture first eth0 -w "$WORK/first.pcapng" -c 10 proto=icmp icmp_type=echo-request
	first=$pid
	start_capture second eth0 -w "$WORK/second.pcapng" -c 10 icmp
	check_equal "each capture has a tap" 2 "$(taps_taken)"
	ping_switch 10 100
	end_of "captures run side by side" 0 second '^10 packets'
	pid=$first
	end_of "the other one, too" 0 first '^10 packets'
	check_equal "each with its own packets" "10 8" "$(fields "$WORK/first.pcapng" icmp.type | uniq -c | sed 's/^ *//')"
	check_equal "of both kinds" 2 "$(fields "$WORK/second.pcapng" icmp.type | sort -u | wc -l)"
}

# --- what goes wrong -----------------------------------------------------------------------------------------------

refusals()
{
	local before
	echo mine >"$WORK/there"
	ln -s "$WORK/nowhere" "$WORK/link"
	for file in there link; do
		before=$(cat "$WORK/$file" 2>&1)
		check_says "a file is not written over: $file" 3 "/$file: is there already" tg capture eth0 -w "$WORK/$file" -c 1
		check_equal "and stays what it was" "$before" "$(cat "$WORK/$file" 2>&1)"
	done
	check_says "a port that there is not" 2 '^capture: port "eth7": there is no such port' tg capture eth7 -w "$WORK/none"
	check_fails "leaves no file behind" 1 test -e "$WORK/none"
	check_says "an expression that is none" 2 'capture: filter: "tcp porta 80" is no tcpdump expression: ' tg capture eth0 tcp porta 80
	check_says "a match that is none" 2 'capture: match\.proto: "tpc": no protocol' tg capture eth0 proto=tpc
	check_says "half a match" 2 '"port": FIELD=VALUE expected' tg capture eth0 proto=tcp port 80
	check_says "a limit that is none" 2 'capture: packets: "many" given, an integer from 1' tg capture eth0 -c many
	check_says "a direction that is none" 2 'capture: direction: "in" given, both, ingress, egress expected' \
		tg capture eth0 --direction in
	check_says "no daemon" 3 'no daemon runs' "$TIDEGATE" capture eth0 --instance "$INSTANCE-none"
	check_says "a directory that is not there" 3 'No such file or directory' tg capture eth0 -w "$WORK/no/where"
}

# In a mount namespace of the command's own: the daemon is given the descriptor.
on_a_small_disk()
{
	# shellcheck disable=SC2016
	unshare -m sh -c 'mount -t tmpfs -o size=256k none /mnt && "$1" capture eth0 -w /mnt/full --instance "$2" proto=icmp
		code=$?; cp /mnt/full "$3"; exit $code' - "$TIDEGATE" "$INSTANCE" "$WORK/full.pcapng" 2>"$WORK/full.err" &
	pid=$!
	background+=("$pid")
	wait_for 10 begins "$WORK/full.err"
}

full_disk()
{
	local packets
	on_a_small_disk
	ping_switch 500 1000
	end_of "a full disk ends a capture" 3 full '^capture: No space left on device$'
	packets=$(sed -nE 's/^([0-9]+) packets?, .*/\1/p' "$WORK/full.err")
	check_that "its file keeps what was written" "${packets:-0} > 150"
	check_equal "in whole packets" "$packets" "$(fields "$WORK/full.pcapng" frame.number | wc -l)"
	check "the daemon goes on" tg status
}

# The daemon stands still while more comes than the ring has room for.
stopped_reader()
{
	local sent=16000 packets lost
	start_capture slow eth0 -w "$WORK/slow.pcapng" --direction ingress proto=icmp
	kill -STOP "$DAEMON"
	on client timeout 8 ping -q -f -c $sent -s 1400 192.0.2.1 >"$WORK/flood"
	kill -CONT "$DAEMON"
	sent=$(sed -nE 's/^([0-9]+) packets transmitted.*/\1/p' "$WORK/flood")
	wait_for 5 tg status
	interrupt
	end_of "a reader that stands still loses packets" 0 slow '^[0-9]+ packets lost: [0-9]+ because the ring was full, 0 because'
	packets=$(sed -nE 's/^([0-9]+) packets?, .*/\1/p' "$WORK/slow.err")
	lost=$(sed -nE 's/^([0-9]+) packets lost: .*/\1/p' "$WORK/slow.err")
	check_equal "which are counted, every one" "$sent" "$((packets + lost))"
	check_equal "the rest is in the file" "$packets" "$(fields "$WORK/slow.pcapng" frame.number | wc -l)"
}

# What rules are called, also of a policy that comes into force meanwhile.
another_policy()
{
	local file=$WORK/renamed.pcapng
	start_capture renamed eth0 -w "$file" -c 2 --direction ingress proto=udp
	echo one | on client ncat -u --send-only 192.0.2.1 53
	sleep 0.3
	script | sed 's/dport = 53, name = "dns"/dport = 54, name = "other"/' >"$WORK/policy.lua"
	check "a policy is replaced under a capture" tg reload
	echo two | on client ncat -u --send-only 192.0.2.1 54
	end_of "which goes on" 0 renamed '^2 packets'
	check_equal "each packet has its own policy's rule" "dns other" \
		"$(fields "$file" frame.comment | sed -E 's/.*rule ([a-z]+) .*/\1/' | tr '\n' ' ' | sed 's/ $//')"
	script >"$WORK/policy.lua"
	tg reload >/dev/null
}

# --- scripts -------------------------------------------------------------------------------------------------------

from_scripts()
{
	{ script; echo "wan:capture { file = '$WORK/top.pcapng', match = { proto = 'icmp' }, packets = 6 }"; } >"$WORK/capturing.lua"
	check_says "a file's capture is an act of the plan" 4 "^! act capture eth0 to $WORK/top.pcapng" \
		"$TIDEGATE" check "$WORK/capturing.lua" --instance "$INSTANCE-none" --netns "$LAB_SW"
	cp "$WORK/capturing.lua" "$WORK/policy.lua"
	check "it begins at the commit" tg reload
	wait_for 5 test -s "$WORK/top.pcapng"
	sleep 0.1
	ping_switch 3 100
	check "and ends at its limit" wait_for 5 none_runs
	check_equal "with all that was sent" 6 "$(fields "$WORK/top.pcapng" frame.number | wc -l)"
	script >"$WORK/policy.lua"
	tg reload >/dev/null

	check_equal "an operator's capture runs on without him" '"running"' \
		"$(tg eval "tg.ports.eth0:capture { file = '$WORK/eval.pcapng', filter = 'icmp', seconds = 30 }:status().state")"
	ping_switch 2 100
	check_equal "it is stopped by whoever finds it" '"stopped"' "$(tg eval 'tg.ports.eth0:captures()[1]:stop().ended')"
	check_equal "its file is complete then" 4 "$(fields "$WORK/eval.pcapng" frame.number | wc -l)"
	check_equal "a file that is there is refused" '"EEXIST"' \
		"$(tg eval "select(3, tg.ports.eth0:capture { file = '$WORK/eval.pcapng', packets = 1 })")"
	check_says "misuse is an error" 1 'file: "x" given, the path of a file expected, from the root' \
		tg eval 'tg.ports.eth0:capture { file = "x" }'
	check_says "so is an expression that is none" 1 'capture\.filter: "foo bar" is no tcpdump expression' \
		tg eval 'tg.ports.eth0:capture { file = "/tmp/x", filter = "foo bar" }'
	check_equal "nothing of it stays" 0 "$(tg eval '#tg.ports.eth0:captures()')"
}

the_daemon_ends()
{
	start_capture last eth0 -w "$WORK/last.pcapng" proto=icmp
	ping_switch 5 100
	daemon_stop
	end_of "a capture ends with the daemon" 1 last '^cancelled$'
	check_equal "and its file is whole" 10 "$(fields "$WORK/last.pcapng" frame.number | wc -l)"
	check_equal "it is" "" "$(grep -v "Running as user" "$WORK/tshark.err")"
}

lab_up --backends 2
script >"$WORK/policy.lua"
daemon_start "$WORK/policy.lua"
all_that_was_sent
what_was_dropped
what_is_forwarded
tags
large_packets
super_packets
limits
pipes
ends
at_any_moment
side_by_side
refusals
full_disk
stopped_reader
another_policy
from_scripts
the_daemon_ends
