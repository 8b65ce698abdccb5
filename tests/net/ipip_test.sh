#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Mode ipip with real connections through routers, IPv4 and IPv6 in either (see tunnel.sh).
. "$(dirname "$0")/tunnel.sh"

tunnel_test ipip 20 40
