-- SPDX-License-Identifier: GPL-2.0-only
--
-- A filter without state: telnet is dropped in both directions, by IPv4 and IPv6, everything else passes.
local tg = require "tidegate"

local wan = tg.port "eth0"

for _, direction in ipairs { "ingress", "egress" } do
  wan:policy(direction, {
    { "drop", proto = "tcp", port = 23 },
  })
end
