-- SPDX-License-Identifier: GPL-2.0-only
--- Policies without rules, written by hand, for switches of specs: all that they say is their default. A switch is what
--- has a method map(name). Its port is the loopback device.
local default_policy = {}

local LOOPBACK, PAGE = 1, 4096
local ACTIONS = { accept = 0, drop = 1, reject = 2 }
local PAGES = { ingress = 1, egress = 2 }
local ZERO_PAGE = 3 -- vectors without a rule
local COUNTER = 7   -- of the default

--- TG_POLICY_*
default_policy.FLAGS = { stateful = 0x01, judge_nd = 0x04, follow = 0x10, no_fragments = 0x20 }

--- Makes the loopback device a port, to which TC is attached.
function default_policy.port(switch)
  assert(switch:map("ports"):set(LOOPBACK, { slot = 0, flags = 1 })) -- TG_PORT_TC
end

local function write_page(switch, index, bytes)
  assert(switch:map("policy_pages"):set(index, { byte = bytes .. ("\0"):rep(PAGE - #bytes) }))
end

--- struct tg_policy_head of a policy that has only a default.
local function head(given)
  local does = (given.log and 1 or 0) | (given.event and 2 or 0) | (given.audit and 4 or 0) -- TG_RULE_*
  local tables = ("\0"):rep(72) .. string.pack("<I4I4I4I4I4I4I4I4I4I4", 0, 0, ZERO_PAGE, ZERO_PAGE, 0, 0, 0, 0, 0, 0)
  local otherwise = string.pack("<BBI2I4", ACTIONS[given.default], does, 0, COUNTER)
  return tables .. otherwise .. string.pack("<I4I4I4I4", 0, given.flags or 0, 1, 0)
end

--- Gives a direction of the port a policy: default = "accept" | "drop" | "reject", flags, audit, log, event;
--- nil: none.
function default_policy.set(switch, direction, given)
  local directory = switch:map("policy_pages"):get(0).byte
  local pages = { directory[1], directory[5] } -- numbers of one byte
  if given then write_page(switch, PAGES[direction], head(given)) end
  pages[PAGES[direction]] = given and PAGES[direction] or 0
  write_page(switch, 0, string.pack("<I4I4", pages[1], pages[2]))
end

default_policy.COUNTER = COUNTER

--- { packets, bytes } that the default counted.
function default_policy.counter(switch)
  return switch:map("rule_counters"):sum(COUNTER)
end

return default_policy
