#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Mode gue with real connections through routers, IPv4 and IPv6 in either (see tunnel.sh).
. "$(dirname "$0")/tunnel.sh"

tunnel_test gue 28 48
