#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# A flood of spoofed SYNs, a million, that the rules let in, against a switch with room for 65,536 flows: of a thousand
# connections that are established none breaks, none is forgotten, and others still begin. What scripts see of them.
. "$(dirname "$0")/lib.sh"

held=1000 flood=${FLOOD:-1000000} rate=${RATE:-50000} port=9100
script=$WORK/flood.lua

holds()		{ [ "$(awk '$1 == "open" { print $2 }' "$WORK/held" 2>/dev/null)" = "$1" ]; }
number()	{ tg eval "$1" | tr -d '"'; }
followed()	{ [ "$(number "select(2, tg.flows:count { proto = 'tcp', dport = $port, state = 'established' }).confirmed")" = "$1" ]; }
collected()	{ [ "$(number 'select(2, tg.flows:count()).embryos')" -lt 200 ]; }
asks()		{ on client "$ROOT/build/steady" ask 10.0.0.11 $port 20 50 >"$WORK/asked"; grep -q "asked 20 failed 0" "$WORK/asked"; }

cat >"$script" <<-END
	tg.instance { tracked = 65536, timeouts = { ["syn-received"] = "20s" } }
	tg.port("eth0"):policy("ingress", { default = "drop", stateful = true,
	  { "accept", proto = "tcp", dport = $port, flags = "S", name = "served" } })
	tg.port("eth1"):policy("ingress", { default = "drop", stateful = true })
END
lab_up --backends 1
in_background on b1 "$ROOT/build/steady" serve $port 1
daemon_start "$script"
in_background on client "$ROOT/build/steady" hold 10.0.0.11 $port $held 2 "$WORK/held"
check "$held connections are established" wait_for 30 holds $held
check "and followed" wait_for 10 followed $held

echo "# $flood SYNs, $rate a second at most"
# The backend answers none of them: what is left half open is the switch's alone.
on b1 nft add table inet quiet
on b1 nft add chain inet quiet input "{ type filter hook input priority 0; }"
on b1 nft add rule inet quiet input ip saddr 10.0.0.0/8 drop
mac=$(on sw cat /sys/class/net/eth0/address)
began=$(number '(tg.flows:count())')
on client "$ROOT/build/steady" flood eth0 "$mac" 10.0.0.11 $port "$flood" "$rate" >"$WORK/flood"
echo "   $(xargs <"$WORK/flood")"
begun=$(tg status --json | jq .tracks.counters.begun)
check_that "they were let in: $begun flows begun" "$begun >= $flood / 2"
check "no connection broke" holds $held
check_equal "none is broken" 0 "$(awk '$1 == "broken" { print $2 }' "$WORK/held")"
check "and each is still followed" followed $held
check_that "no more than there is room for" "$(number '(tg.flows:count())') <= 65536 + $began + 1000"
check "others still begin" asks
sleep 3
check "and connections go on" holds $held

echo "# what scripts see"
check_equal "a flow tells who, what, and by which rule" "192.0.2.7 10.0.0.11 tcp established eth0 ingress served" \
	"$(number "(function() for f in tg.flows:pairs { src = '192.0.2.0/24', state = 'established' } do
		return table.concat({ f.src, f.dst, f.proto, f.state, f.device, f.direction, f.rule }, ' ') end end)()")"
check_that "both ways are counted" "$(number "(function() for f in tg.flows:pairs { src = '192.0.2.7' } do
	if f.packets < 2 or f.reply_packets < 1 or f.bytes <= f.packets * 40 then return 0 end return 1 end end)()") == 1"
check_equal "all are gone through once" $held "$(number "(function() local n, seen = 0, {}
	for f in tg.flows:pairs { dst = '10.0.0.11', dport = $port, state = 'established' } do
	  if not seen[f.sport] then n = n + 1 end seen[f.sport] = true end return n end)()")"
check_says "status tells them" 0 "stateful: 10[0-9][0-9] flows of 65536, " tg status
check "the expired are let go" wait_for 60 collected
check_fails "a filter that is none is told" 1 tg eval 'tg.flows:count { srt = "192.0.2.7" }'
check_equal "one connection is cut off" 1 "$(number "(function() for f in tg.flows:pairs { dport = $port, state = 'established' } do
	return tg.flows:kill { src = f.src, sport = f.sport, dport = $port } end end)()")"
check_equal "the others are there" $((held - 1)) "$(number "(tg.flows:count { dport = $port, state = 'established' })")"
check_fails "but not all at once by mistake" 1 tg eval 'tg.flows:kill {}'
