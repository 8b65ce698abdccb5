-- SPDX-License-Identifier: GPL-2.0-only
--
-- A policy on trial: `audit = true` counts what each rule, and the default, would decide, and lets everything pass.
-- Every minute the log has what would have been dropped since. When that is nothing that you need, take `audit` out.
local tg = require "tidegate"

local wan = tg.port "eth0"

wan:policy("ingress", {
  default = "drop", stateful = true, audit = true,
  { "accept", proto = "tcp", dport = { 22, 80, 443 } },
  { "accept", proto = { "icmp", "icmp6" } },
  { "drop", proto = "udp", dport = { 137, 138, 1900 }, name = "noise" },
})

local before = {}

tg.every(60, function()
  for _, rule in ipairs(wan:rules "ingress") do
    local what = rule.name or rule.default and "the default" or rule.text
    local packets = rule.packets - (before[what] or 0)
    before[what] = rule.packets
    if rule.action ~= "accept" and packets > 0 then
      tg.log.info("%s would have dropped %d packets", what, packets)
    end
  end
end)
