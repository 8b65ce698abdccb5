#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What README.md says is so. Its fenced blocks are run, in order, in a lab of the test's own:
#
#   ```sh run [HOST]     each line, on this machine or on a host of the lab; the exit code is 0, or the
#                        one that the line's comment names: "# exit code 4"
#   ```text output       each line is in what the commands since the last such block wrote; numbers may differ
#   ```lua check [FILE]  a script that `tidegate check` takes (exit code 4), behind scripts/examples/FILE
#   ```text tour         every file named is there
#
# And: the table of limits has the numbers of the headers; the examples work with real traffic.
. "$(dirname "$0")/lib.sh"

cd "$ROOT" || exit 1
lab_name=$INSTANCE	# the README's own `scripts/lab up` makes it
LAB_SW=tg-$INSTANCE-sw
BLOCKS=$WORK/blocks
mkdir "$BLOCKS"

# --- the blocks, as files: 01.sh.run 02.text.output … with the words behind the first two in the name ---

extract()
{
	awk -v dir="$BLOCKS" '
		/^```[a-z]+ [a-z]/ { open = 1; name = substr($0, 4); gsub(/ /, "_", name)
			file = sprintf("%s/%02d_%s", dir, ++n, name); printf "" >file; next }
		/^```/ { open = 0; if (file) close(file); file = ""; next }
		open { print >file }' README.md
}

adapt()		# the test's own names in the place of the README's
{
	sed -E -e "s/--name try\b/--name $INSTANCE/g; s/tg-try-/tg-$INSTANCE-/g; s!/tmp/try!$WORK/try!g" \
		-e "s!(^|\| *)tidegate (run|check|reload|status|trace|capture|eval|repl|unload)\b!\1\"\$TIDEGATE\" \2 --instance \"\$INSTANCE\"!g"
}

run_line()	# HOST LINE, its output behind that of the others
{
	local want=0 code=0
	[[ $2 =~ exit\ code\ ([0-9]) ]] && want=${BASH_REMATCH[1]}
	if [[ $2 == *'&' ]]; then
		eval "${2% &} >>\"\$DAEMON_LOG\" 2>&1 &"
		DAEMON=$!
		wait_for 10 daemon_answers && wait_for 5 all_up
		code=$?
	elif [ -n "$1" ]; then
		on "$1" bash -c "$2" >>"$WORK/said" 2>&1 </dev/null || code=$?
	else
		eval "$2" >>"$WORK/said" 2>&1 </dev/null || code=$?
	fi
	if [ $code -eq "$want" ]; then
		ok "\$ $2"
	else
		not_ok "\$ $2" "exit code $code, not $want" "$(tail -n 5 "$WORK/said")"
	fi
}

all_up()	{ ! tg status | grep -q ' down '; }

run_block()	# FILE HOST
{
	local line
	while read -r line; do
		run_line "$2" "$line"
	done < <(adapt <"$1")
}

plain()		{ sed -E 's/[0-9]+/0/g; s/[[:space:]]+/ /g; s/^ //; s/ $//' "$@"; }

check_output()	# FILE
{
	local line
	plain "$WORK/said" >"$WORK/said.plain"
	while IFS= read -r line; do
		check "… says: $line" grep -qxF -- "$(plain <<<"$line")" "$WORK/said.plain" || sed 's/^/  # /' "$WORK/said"
	done < <(adapt <"$1")
	: >"$WORK/said"
}

check_script()	# FILE EXAMPLE
{
	local script=$WORK/script.lua
	{ cat ${2:+"scripts/examples/$2"} /dev/null; adapt <"$1"; } >"$script"
	check_fails "the script of $(basename "$1") is one that check takes" 4 \
		"$TIDEGATE" check "$script" --netns "$LAB_SW" --instance "$INSTANCE-none"
}

check_tour()	# FILE: each word that looks like a file, below the folder whose line came last
{
	local folder line word missing="" named=0
	while IFS= read -r line; do
		[[ $line == ' '* ]] || folder=${line%%/*}/
		[[ $line =~ ^(lua/[a-z]+/) ]] && folder=${BASH_REMATCH[1]}
		for word in $line; do
			[[ $word =~ ^[a-z_*]+(\.bpf)?(\.[ch]|\.lua|/)$ ]] || continue
			named=$((named + 1))
			compgen -G "$folder$word" >/dev/null || [ -e "$word" ] || missing+=" $folder$word"
		done
	done <"$1"
	check_equal "every file of the tour is there" "" "$missing"
	check_that "the tour names them one by one" "$named > 60"
}

# shellcheck disable=SC2016
check_limits()	# | what | NUMBER | `TG_NAME`, … |: "less one", "× 8" and "/ 2" count
{
	local number name change value limits=0
	while read -r number name change; do
		limits=$((limits + 1))
		value=$(sed -nE "s/^#define[ \t]+${name}[ \t]+(\([^)]*\)|[0-9]+).*/\1/p" bpf/*.h core/*.h | tr -d u)
		value="${value:-0} $change"
		check_equal "the limit $name is the header's" "$((value))" "${number//,/}"
	done < <(sed -nE 's/^\|[^|]*\| ([0-9,]+) \| `(TG_[A-Z0-9_]+)`(, less one| × 8| \/ 2)?.*/\1 \2 \3/p' README.md |
		sed 's/, less one/- 1/; s/×/*/')
	check_that "limits are found" "$limits > 15"
}

# --- the README from top to bottom ---------------------------------------------------------------

# The hosts are what they should be only after the README's own commands; one VIP is in the client's subnet.
before_hosts()
{
	"$ROOT/scripts/lab" up --name "$INSTANCE" >"$WORK/lab.log" 2>&1 || { cat "$WORK/lab.log"; exit 1; }
	eval "$("$ROOT/scripts/lab" env --name "$INSTANCE")"
	on b1 ip addr del "$LAB_VIP4/32" dev lo
	on b1 ip addr del "$LAB_VIP6/128" dev lo
	on b1 sysctl -qw net.ipv4.conf.all.arp_ignore=0 net.ipv4.conf.all.arp_announce=0
	on sw sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0
	on client ip route add 198.51.100.80/32 dev eth0
}

extract
: >"$WORK/said"
blocks=0 lab="the README's"
for block in "$BLOCKS"/*; do
	blocks=$((blocks + 1))
	read -r _ language how what < <(basename "$block" | tr _ ' ')
	case "$language $how $what" in
	"text tour "*) check_tour "$block" ;;
	"text output "*) check_output "$block" ;;
	"lua check "*) continue ;;	# when there is a lab
	"sh run ")
		run_block "$block" "" ;;
	"sh run "*)
		if [ "$lab" != ours ]; then
			lab=ours
			before_hosts
		fi
		run_block "$block" "$what" ;;
	*) not_ok "the block $block is of a known kind" ;;
	esac
done
check_that "the README has blocks to run" "$blocks > 15"
check_limits

for block in "$BLOCKS"/*_lua_check*; do
	what=${block##*_check}
	check_script "$block" "${what#_}"
done
for example in scripts/examples/*.lua scripts/policies/*.lua; do
	check_script "$example" ""
done
check "the program installs" cmake --install build --prefix "$WORK/installed"
cp scripts/examples/plugin.lua "$WORK/plugin.lua"
check_fails "installed, it finds the library of checks" 4 \
	"$WORK/installed/sbin/tidegate" check "$WORK/plugin.lua" --netns "$LAB_SW" --instance "$INSTANCE-none"
check "the first script is the one that is explained" \
	diff <(sed '/^--/d; s/ *-- .*//; /^$/d' scripts/examples/web.lua | grep -v '^ *$') \
	<(sed 's/ *-- .*//; /^$/d' "$BLOCKS/01_lua_check")

# --- the examples, with real traffic -------------------------------------------------------------

answers()	{ for _ in $(seq 40); do on client curl -s -m 2 "$1"; done | sort | uniq -c | awk '{ printf "%s ", $2 }'; }
stop()		{ daemon_stop && tg unload >/dev/null; }

daemon_start scripts/examples/web.lua
check "the switch and the prepared host serve l2dsr" wait_for 5 in_state web up 8
check_equal "from all four backends" "b1 b2 b3 b4 " "$(answers "http://$LAB_VIP4/")"
daemon_stop
check_equal "with the daemon stopped, too" "b1 b2 b3 b4 " "$(answers "http://$LAB_VIP4/")"
check "unload removes what it left" tg unload

daemon_start scripts/examples/nat.lua
check "nat's backends are up" wait_for 5 in_state web up 4
check_equal "nat serves from its backends' port, its VIP found by ARP" "b1 b2 " "$(answers http://198.51.100.80/)"
check_equal "over IPv6 too" "b1 b2 " "$(answers 'http://[2001:db8::80]/')"
stop

# Redis and a name server, as far as a check sees them.
cat >"$WORK/fake.lua" <<'LUA'
local uv = require "luv"
local redis, dns = uv.new_tcp(), uv.new_udp()
redis:bind("0.0.0.0", 6379)
redis:listen(16, function()
  local client = uv.new_tcp()
  redis:accept(client)
  client:read_start(function(_, data)
    if data then client:write "+PONG\r\n" else client:close() end
  end)
end)
dns:bind("0.0.0.0", 53)
dns:recv_start(function(_, message, from)
  if message then dns:send(message:sub(1, 2) .. "\x81\x80" .. message:sub(5), from.ip, from.port, function() end) end
end)
tg.sleep(60)
LUA
in_background on b1 "$TIDEGATE" lua "$WORK/fake.lua"
in_background on b2 "$TIDEGATE" lua "$WORK/fake.lua"
daemon_start scripts/examples/plugin.lua
check "the redis plugin finds two up" wait_for 5 in_state cache up 2
check "and the third down" wait_for 5 in_state cache down 1
check "which it explains" grep -q 'backend.down cache 10.0.0.13.*connection refused' "$DAEMON_LOG"
check "the dns plugin finds both up" wait_for 5 in_state names up 2
kill "${background[1]}" "$(cat "/proc/${background[1]}/task/${background[1]}/children" 2>/dev/null)" 2>/dev/null
check "a name server that falls silent is found down" wait_for 5 in_state names down 1
stop
