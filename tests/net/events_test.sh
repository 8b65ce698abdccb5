#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Events of real packets: what rules with `log` and `event` tell, in TC and of balanced traffic in XDP, and hits of
# deny lists; their fields, batches, the log, sampling under a flood, what happens with nobody there.
. "$(dirname "$0")/lib.sh"

script=$WORK/events.lua

lua()		{ tg eval "$1" | sed 's/^"\(.*\)"$/\1/'; }
count()		{ lua "count('$1')"; }
comes()		{ [ "$(count "$1")" -gt "${2:-0}" ]; }		# NAME [MORE THAN]
# What the last event of that name has in its fields, in the order they are asked for.
fields()	{ lua "fields('$1', '$2')"; }
told()		{ tg status --json | jq ".events[\"$1\"].$2"; }	# KIND WHAT
syn()		{ on client ncat -w 300ms "$@" </dev/null >/dev/null 2>&1; true; }
flood()		{ on client "$ROOT/build/steady" flood eth0 "$switch_mac" "$1" "$2" "$3" "$4"; }	# ADDRESS PORT COUNT RATE
said()		{ grep -qE "$1" "$DAEMON_LOG"; }

lab_up --backends 1
switch_mac=$(on sw cat /sys/class/net/eth0/address)
on client ip addr add 192.0.2.66/24 dev eth0
on client ip addr add 192.0.2.67/24 dev eth0
on client ip -6 addr add 2001:db8:c::66/64 dev eth0 nodad

handlers()
{
	cat <<-'END'
		local seen, batches = {}, {}
		function note(ev) seen[#seen + 1] = ev end
		function count(name)
		  local n = 0
		  for _, ev in ipairs(seen) do if ev.name == name then n = n + 1 end end
		  return n
		end
		function fields(name, wanted)
		  for i = #seen, 1, -1 do
		    if seen[i].name == name then
		      return (wanted:gsub("[%w_]+", function(field) return tostring(seen[i][field]) end))
		    end
		  end
		  return "none"
		end
		function forget() seen, batches = {}, {} end
		function largest() return math.max(0, table.unpack(batches)) end
		tg.on("policy.*", note)
		tg.on("ping-*", note)
		tg.on("balanced", note)
	END
}

cat >"$script" <<-END
	local wan = tg.port "eth0"
	tg.port "eth1"
	tg.service { name = "web", mode = "l2dsr", vip = { "$LAB_VIP4:80", "[$LAB_VIP6]:80" },
	  backends = { "10.0.0.11", "2001:db8:1::11" } }
	wan:policy("ingress", {
	  default = "accept",
	  { "drop", proto = "tcp", dport = 23, log = true, name = "telnet" },
	  { "reject", proto = "udp", dport = 9, log = true },
	  { "accept", proto = { "icmp", "icmp6" }, icmp_type = "echo-request", event = "ping-seen" },
	  { "accept", proto = "tcp", dport = 8080, log = true, audit = true },
	  { "drop", proto = "tcp", dport = 9999, event = "all-of-them" },
	  { "drop", proto = "tcp", dst = { "$LAB_VIP4", "$LAB_VIP6" }, src = { "192.0.2.67", "2001:db8:c::66" },
	    event = "balanced", log = true, name = "vip" },
	})
	$(handlers)
END
daemon_start "$script"
line=$(grep -n 'name = "telnet"' "$script" | cut -d: -f1)

echo "# policy.drop"
syn 192.0.2.1 23
check "a dropped packet is told" wait_for 3 comes policy.drop
check_equal "by its addresses, ports and flags" "eth0 ingress 192.0.2.7 192.0.2.1 23 tcp S" \
	"$(fields policy.drop 'port direction src dst dport proto flags')"
check_equal "by its rule, and where that stands" "telnet $script:$line drop policy-drop nil 1" \
	"$(fields policy.drop 'rule line action reason audit sample')"
check_equal "by its length and time" true "$(lua "(function() local t = tonumber(fields('policy.drop', 'time'))
	return math.abs(t - os.time()) < 60 and tonumber(fields('policy.drop', 'length')) >= 54 and
		tonumber(fields('policy.drop', 'sport')) > 1023 end)()")"
check "the log tells it, too" said "info +policy.drop eth0 ingress: tcp 192.0.2.7:[0-9]+ > 192.0.2.1:23 S, [0-9]+ bytes, rule telnet \($script:$line\)"
lua 'forget()' >/dev/null
syn 2001:db8:c::1 23
check "an IPv6 packet as well" wait_for 3 comes policy.drop
check_equal "by its addresses" "2001:db8:c::1 23 tcp" "$(fields policy.drop 'dst dport proto')"
lua 'forget()' >/dev/null
echo | on client ncat -u -w 200ms 192.0.2.1 9 >/dev/null 2>&1
check "what is rejected is told" wait_for 3 comes policy.drop
check_equal "as such, by its rule's text" "udp 9 reject policy-reject reject udp dport 9" \
	"$(fields policy.drop 'proto dport action reason rule')"
syn 192.0.2.1 8080
check "what a rule accepts, of one with log" wait_for 3 comes policy.accept
check_equal "and that it was audited" "accept true nil" "$(fields policy.accept 'action audit reason')"

echo "# a rule's own event"
for family in 4 6; do
	lua 'forget()' >/dev/null
	if [ $family = 4 ]; then to=192.0.2.1; else to=2001:db8:c::1; fi
	check "packets are let through over IPv$family" on client ping -q -i 0.01 -c 20 -W 3 $to
	check "and each of them is told" wait_for 3 comes ping-seen 19
	check_equal "once" 20 "$(count ping-seen)"
done
check_equal "under the rule's name for it" "icmp6 128 accept eth0" "$(fields ping-seen 'proto icmp_type action port')"

echo "# balanced traffic"
check "a request to the VIP is answered" on client curl -sf -o /dev/null -m 3 "http://$LAB_VIP4/"
lua 'forget()' >/dev/null
on client curl -s -o /dev/null -m 0.5 --interface 192.0.2.67 "http://$LAB_VIP4/"
check "what XDP drops of it is told" wait_for 3 comes balanced
check_equal "as the rest" "192.0.2.67 $LAB_VIP4 80 tcp S eth0 vip policy-drop" \
	"$(fields balanced 'src dst dport proto flags port rule reason')"
check "both by the rule's event and by its log" wait_for 3 comes policy.drop
lua 'forget()' >/dev/null
on client curl -s -o /dev/null -m 0.5 --interface 2001:db8:c::66 "http://[$LAB_VIP6]/"
check "over IPv6 as well" wait_for 3 comes balanced
check_equal "by its addresses" "2001:db8:c::66 $LAB_VIP6 80" "$(fields balanced 'src dst dport')"

echo "# deny.hit"
lua 'forget()' >/dev/null
check "a source is denied" tg eval 'tg.deny:add("192.0.2.66", { reason = "test" })'
syn -s 192.0.2.66 192.0.2.1 80
sleep 0.2
check_equal "with nobody listening nothing is told of it" 0 "$(told deny.hit told 2>/dev/null || echo 0)"
echo 'tg.on("deny.hit", note)' >>"$script"
check "a reload that listens" tg reload
check "denied still" tg eval 'tg.deny:add("192.0.2.66", { reason = "test" })'
syn -s 192.0.2.66 192.0.2.1 80
check "is told" wait_for 3 comes deny.hit
check_equal "by which list, and of which packet" "eth0 192.0.2.66 192.0.2.1 80 tcp S denied drop" \
	"$(fields deny.hit 'port src dst dport proto flags reason action')"
check "the list has a name" test "$(fields deny.hit list)" != nil

echo "# a flood"
lua 'forget()' >/dev/null
before=$(told policy.drop told)
flood 192.0.2.1 23 30000 10000
told_now=$(($(told policy.drop told) - before)) left=$(told policy.drop left_out)
echo "   $told_now told, $left left out"
check_that "of a flood a part is told" "told_now > 100 && told_now < 15000"
check_that "and the rest is counted" "told_now + left >= 29000"
check_equal "what is told says for how many it stands" true "$(lua "(function() local n = tonumber(fields('policy.drop', 'sample'))
	return n > 1 end)()")"
lines=$(grep -c 'info *policy.drop' "$DAEMON_LOG")
echo "   $lines lines in the log"
check_that "the log has some lines of it, not all" "lines < 200"
check "and says how many more there were" wait_for 3 said '[0-9]+ more packets of rules with log'

echo "# batches"
cat >>"$script" <<-'END'
	local sizes, events = 0, 0
	tg.on("policy.drop", function(list) sizes, events = sizes + 1, events + #list end, { batch = 0.2 })
	function batches_of() return sizes end
	function events_of() return events end
END
check "a reload with a handler of batches" tg reload
before=$(told policy.drop told)
flood 192.0.2.1 23 3000 3000
sleep 0.5
told_now=$(($(told policy.drop told) - before))
check_equal "which gets all that is told" "$told_now" "$(lua 'events_of()')"
check_that "in few lists" "$(lua 'batches_of()') * 10 < told_now"

echo "# a daemon that does not read"
cat >>"$script" <<-'END'
	local all = 0
	tg.on("all-of-them", function(list) all = all + #list end, { batch = 0.1 })
	function all_of_them() return all end
END
check "a reload" tg reload
before=$(told policy.rule told) lost=$(told policy.rule lost)
kill -STOP "$DAEMON"
on client "$ROOT/build/steady" flood eth0 "$switch_mac" 192.0.2.1 9999 80000 40000 >/dev/null
kill -CONT "$DAEMON"
check "goes on" wait_for 5 tg status
told_now=$(($(told policy.rule told) - before)) lost=$(($(told policy.rule lost) - lost))
echo "   $told_now told, $lost lost"
check_equal "of a rule's own event each packet is told or lost" 80000 $((told_now + lost))
check_that "as many are told as the ring has room for" "told_now > 40000 && lost > 1000"
all_came()	{ [ "$(lua 'all_of_them()')" = "$told_now" ]; }
check "and all of them come" wait_for 10 all_came
check_says "the status tells what was lost" 0 "event policy.rule: [0-9]+ told, 0 left out, $lost lost" tg status

echo "# nobody there"
daemon_stop KILL
syn 192.0.2.1 23
daemon_start "$script"
check_that "the counters go on" "$(told policy.drop told) > 1000"
check_equal "what was told meanwhile is passed over" 0 "$(count policy.drop)"
syn 192.0.2.1 23
check "another daemon is told what comes from then on" wait_for 3 comes policy.drop

echo "# flows"
cat >"$script" <<-END
	tg.instance { flow_events = 1 }
	tg.port "eth0":policy("ingress", { default = "accept", stateful = true, { "accept", proto = "icmp", name = "ping" } })
	$(handlers)
	tg.on("flow.new", note)
	function flows_to(port)
	  local n = 0
	  for _, ev in ipairs(seen) do if ev.name == "flow.new" and ev.dport == port then n = n + 1 end end
	  return n
	end
END
check "a reload with flows" tg reload
check "of a flow" on client ping -q -c 5 -i 0.05 -W 3 192.0.2.1
check "the beginning is told" wait_for 3 comes flow.new
check_equal "as the packet that it is, and by the rule that lets it in" "eth0 ingress 192.0.2.7 192.0.2.1 icmp 8 ping accept 1" \
	"$(fields flow.new 'port direction src dst proto icmp_type rule action sample')"
in_background on sw ncat -k -l 8081
connected()	{ on client ncat -w 2 --send-only "$@" </dev/null; }
check "of a connection" wait_for 5 connected 192.0.2.1 8081
begun()		{ [ "$(lua 'flows_to(8081)')" -gt 0 ]; }
check "too" wait_for 3 begun
lua 'forget()' >/dev/null
check "and of one more" connected 192.0.2.1 8081
wait_for 3 begun
sleep 0.3
check_equal "not of each of its packets" 1 "$(lua 'flows_to(8081)')"
