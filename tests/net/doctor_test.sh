#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# `tidegate doctor` tells what is there from what is missing, and leaves nothing behind.
. "$(dirname "$0")/lib.sh"

NETNS=$INSTANCE
unprivileged=(setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all)

doctor()	{ "$TIDEGATE" doctor "$@" 2>&1; }
says()		{ grep -qE -- "$1" "$WORK/said"; }			# REGEX, of the last output
state_of()	{ sed -nE "s/^([A-Za-z]+) +$1 +(-|[0-9.]+) .*/\1/p" "$WORK/said"; }	# NAME: yes, no, MISSING or unknown
probes_left()	{ { bpftool prog; bpftool map; } | grep -c tg_probe; }
links()		{ bpftool link | grep -c "$1"; }
cleanup()	{ ip netns del "$NETNS" 2>/dev/null; finish; }
trap cleanup EXIT

ip netns add "$NETNS"
ip -n "$NETNS" link add port0 type veth peer name port1

# --- what is there, told from what is not --------------------------------------------------------

code=0
doctor --netns "$NETNS" >"$WORK/said" || code=$?
check_equal "with all that is required there, it exits 0" 0 $code
for feature in "XDP programs" "XDP by BPF link" "map ARRAY, mapped" "bpf_fib_lookup \(XDP\)" "BPF file system"; do
	check_equal "$feature is there, since the datapath needs it" yes "$(state_of "$feature")"
done
check "each line names the first kernel, or none" \
	awk 'NR > 2 && /without it:/ && !/ (-|[2-6]\.[0-9]+) +without it:/ { exit 1 }' "$WORK/said"
check "a driver with native XDP is known by what the kernel says of it" says '^yes +port0: native XDP .*driver veth'
check_equal "stripped VLAN tags are seen" no "$(state_of 'port0: VLAN tags left in the frame \(rxvlan off\)')"
check "and how to keep them is told" says 'ethtool -K port0 rxvlan off'
check_equal "forwarding is that of the namespace" "$(ip netns exec "$NETNS" sysctl -n net.ipv4.ip_forward | sed 's/0/no/; s/1/yes/')" \
	"$(state_of 'IPv4 forwarding')"
check_equal "loopback is no port" 0 "$(grep -c ' lo: ' "$WORK/said")"

ip netns exec "$NETNS" ethtool -K port0 rxvlan off
ip netns exec "$NETNS" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
doctor --netns "$NETNS" port0 >"$WORK/said"
check_equal "kept VLAN tags are seen" yes "$(state_of 'port0: VLAN tags left in the frame \(rxvlan off\)')"
check_equal "IPv4 forwarding is seen" yes "$(state_of 'IPv4 forwarding')"
check_equal "IPv6 forwarding is seen" yes "$(state_of 'IPv6 forwarding')"
check_equal "only the devices asked for are examined" 0 "$(grep -c ' port1: ' "$WORK/said")"

ip -n "$NETNS" link add bridge0 type bridge
doctor --netns "$NETNS" bridge0 >"$WORK/said"
check_equal "a driver without native XDP is seen" no "$(state_of 'bridge0: native XDP')"

check_fails "a device that does not exist is a required thing missing" 1 doctor --netns "$NETNS" port9
cp "$WORK/check.out" "$WORK/said"
check_equal "and is named" MISSING "$(state_of 'port9: the device')"

# --- without privilege ----------------------------------------------------------------------------

code=0
cp "$TIDEGATE" "$WORK/tidegate" && chmod 755 "$WORK" "$WORK/tidegate"
"${unprivileged[@]}" "$WORK/tidegate" doctor >"$WORK/said" 2>&1 || code=$?
check_equal "without privilege it exits 1" 1 $code
check_equal "since privileges are missing" MISSING "$(state_of CAP_BPF)"
check_equal "what can't be probed is unknown, not missing" unknown "$(state_of 'XDP programs')"
check_equal "helpers too" unknown "$(state_of 'bpf_fib_lookup \(XDP\)')"
check_equal "maps too" unknown "$(state_of 'map HASH')"
check "and says why" says 'map HASH .*no privilege'
check_equal "what needs no privilege is probed" yes "$(state_of 'BTF of the kernel')"

# --- where bpffs is hidden ------------------------------------------------------------------------

code=0
ip netns exec "$NETNS" "$TIDEGATE" doctor >"$WORK/said" 2>&1 || code=$?
check_equal "under ip netns exec it exits 1" 1 $code
check_equal "since bpffs is hidden" MISSING "$(state_of 'BPF file system')"
check "and --netns is recommended" says 'BPF file system .*--netns'

# --- usage, and nothing left behind ---------------------------------------------------------------

check_fails "an unknown option is wrong usage" 2 doctor --bogus
check_fails "a namespace that does not exist is the environment's fault" 3 doctor --netns "$NETNS-none"
cp "$WORK/check.out" "$WORK/said"
check "which is named" says "$NETNS-none"
check_equal "no probe is left in the kernel" 0 "$(probes_left)"
check_equal "nothing is attached to a port" 0 "$(ip -n "$NETNS" -d link | grep -c 'prog/xdp')"
before=$(links tcx)
doctor >"$WORK/said"
check_that "no link is left" "$(links tcx) <= $before"
