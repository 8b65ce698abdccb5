-- SPDX-License-Identifier: GPL-2.0-only
--- The real TC programs (build/bpf/tc.bpf.o) with tables filled by hand, without a controller or a device:
---
---     local tc = tc_switch.new()
---     tc:policy("ingress", { default = "reject" })       -- a policy without rules
---     local r = tc:pass("ingress", tg.packet "tcp 203.0.113.7 > 198.51.100.10:443 S")
---     r.verdict, r.reason, r.packet, r.bytes             --> "redirect", "policy-reject", what came out, its bytes
---
--- The port is the loopback device. `reason` is what the program counted, nil where it counted none. Whole rule lists
--- are compared by tests/property/classify_test.c. Close it with tc:close().
local default_policy = require "tests.helpers.default_policy"
local object = require "tests.helpers.object"
local packet = require "tidegate.packet"
local reasons = require "tests.helpers.reasons"

local tc_switch = {}
tc_switch.__index = tc_switch

--- TG_POLICY_*
tc_switch.FLAGS = default_policy.FLAGS

--- Why there can be none here, or nil.
tc_switch.refused = object.refused

function tc_switch.new()
  local self = setmetatable({ object = object.load "bpf/tc", opened = {}, reasons = reasons.names() }, tc_switch)
  default_policy.port(self)
  return self
end

function tc_switch:map(name)
  self.opened[name] = self.opened[name] or assert(tg.map.open(self.object.maps .. "/" .. name))
  return self.opened[name]
end

--- Gives a direction a policy without rules (see default_policy.lua); nil: none.
function tc_switch:policy(direction, given) default_policy.set(self, direction, given) end

local function counts_of(map)
  local counts = {}
  for index in map:pairs() do counts[index] = map:sum(index) end
  return counts
end

local function reason_since(self, before)
  for index, count in pairs(counts_of(self:map "reasons")) do
    if count ~= before[index] then return self.reasons[index] end
  end
end

--- A packet (tg.packet or bytes) passes the port.
function tc_switch:pass(direction, p)
  local bytes = type(p) == "string" and p or p:bytes()
  local before = counts_of(self:map "reasons")
  local program <close> = assert(tg.prog.open(self.object.progs .. "/tidegate_" .. direction))
  assert(self:map("answers_until"):set(0, 0))
  local result = assert(program:run(bytes))
  local out = { verdict = result.retval, bytes = result.data, packet = packet.parse(result.data) }
  if out.verdict == "next" then out.verdict = "pass" end
  out.reason, out.unchanged = reason_since(self, before), result.data == bytes
  return out
end

--- { packets, bytes } that the default counted.
function tc_switch:counter() return default_policy.counter(self) end

function tc_switch:close()
  for _, map in pairs(self.opened) do map:close() end
  self.object:close()
end

return tc_switch
