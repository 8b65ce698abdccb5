#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What the tables take: a thousand services with ten backends each, and nothing for what is not in use.
. "$(dirname "$0")/lib.sh"

services=1000
script=$WORK/many.lua

one()		{ echo "tg.service { name = 'one', mode = 'l2dsr', vip = '$LAB_VIP4:80', backends = { '10.0.0.11' } }"; }

many()		# a network of VIPs, ten of 250 addresses to each
{
	cat <<-END
	for i = 1, $services do
	  local backends = {}
	  for b = 1, 10 do backends[b] = ("10.0.0.%d"):format(2 + (i * 7 + b * 23) % 250) end
	  tg.service { name = "s" .. i, mode = "l2dsr", slots = 4093, backends = backends,
	    vip = ("203.0.%d.%d:80"):format(i // 250, 1 + i % 250) }
	end
	END
}

state()		{ jq <"$WORK/status" '[(.services | length), ([.services[].backends[]] | length)] | join(" ")'; }
look()		{ tg status --json >"$WORK/status"; }
bytes()		{ jq <"$WORK/status" '[.tables[]] | add'; }
table()		{ jq <"$WORK/status" ".tables.$1 // 0"; }

lab_up --backends 1
one >"$script"
daemon_start "$script"
look
check_that "the tables of one service take $(($(bytes) / 1048576)) MiB" "$(bytes) <= 32 << 20"
for name in reverse4 reverse6 routes4 deny4_blocks; do
	check_equal "$name takes nothing while it is not in use" 0 "$(table $name)"
done
check_says "status names the largest" 0 "^tables: [0-9.]+ MiB \\(.*lines [0-9.]+" tg status

many >"$script"
check "a thousand services with ten backends each are loaded" tg reload
look
check_equal "status tells of all of them" "\"$services $((10 * services))\"" "$(state)"
check_that "each has a ring of 4,093 slots: $(($(table rings) / 1048576)) MiB" "$(table rings) >= services * 4093 * 8"
check_that "all tables take $(($(bytes) / 1048576)) MiB" "$(bytes) <= 64 << 20"
