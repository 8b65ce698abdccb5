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
local object = require "tests.helpers.object"
local packet = require "tidegate.packet"
local reasons = require "tests.helpers.reasons"

local tc_switch = {}
tc_switch.__index = tc_switch

local LOOPBACK, PAGE = 1, 4096
local ACTIONS = { accept = 0, drop = 1, reject = 2 }
local DIRECTIONS = { ingress = 0, egress = 1 }
local ZERO_PAGE = 3 -- vectors without a rule
local COUNTER = 7   -- of the default

--- TG_POLICY_*
tc_switch.FLAGS = { judge_nd = 0x04, follow = 0x10, no_fragments = 0x20 }

--- Why there can be none here, or nil.
tc_switch.refused = object.refused

function tc_switch.new()
  local self = setmetatable({ object = object.load "bpf/tc", opened = {}, reasons = reasons.names() }, tc_switch)
  self.pages = { ingress = 0, egress = 0 }
  assert(self:map("ports"):set(LOOPBACK, { slot = 0, flags = 1 }))
  return self
end

function tc_switch:map(name)
  self.opened[name] = self.opened[name] or assert(tg.map.open(self.object.maps .. "/" .. name))
  return self.opened[name]
end

local function write_page(self, index, bytes)
  assert(self:map("policy_pages"):set(index, { byte = bytes .. ("\0"):rep(PAGE - #bytes) }))
end

--- struct tg_policy_head of a policy that has only a default.
local function head(given)
  local tables = ("\0"):rep(72) .. string.pack("<I4I4I4I4I4I4I4I4I4I4", 0, 0, ZERO_PAGE, ZERO_PAGE, 0, 0, 0, 0, 0, 0)
  local otherwise = string.pack("<BBI2I4", ACTIONS[given.default], given.audit and 4 or 0, 0, COUNTER)
  return tables .. otherwise .. string.pack("<I4I4I4I4", 0, given.flags or 0, 1, 0)
end

--- Gives a direction a policy without rules: default = "accept" | "drop" | "reject", flags, audit; nil: none.
function tc_switch:policy(direction, given)
  local page = 1 + DIRECTIONS[direction]
  if given then write_page(self, page, head(given)) end
  self.pages[direction] = given and page or 0
  write_page(self, 0, string.pack("<I4I4", self.pages.ingress, self.pages.egress))
end

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
function tc_switch:counter()
  return self:map("rule_counters"):sum(COUNTER)
end

function tc_switch:close()
  for _, map in pairs(self.opened) do map:close() end
  self.object:close()
end

return tc_switch
