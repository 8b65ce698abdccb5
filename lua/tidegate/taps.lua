-- SPDX-License-Identifier: GPL-2.0-only
--- What mirrors and captures share: 32 places in the datapath (core/taps.h), and a match for each, which the
--- programs are loaded with (programs.lua).
---
---     taps.matches(what, value)   → checked: a table of fields, a list of such, or nil: everything
---     taps.text(matches)          → "tcp port 80", "udp dport 53 or icmp", "everything"
---     taps.compile(matches)       → a handle, or false: everything; waits
---     taps.unknown(matches)       → a set that they ask and that is not there, or nil
---     taps.take { … }, taps.on(tap), taps.release(tap)   for what no generation declares: captures

local asking = require "tidegate.policy.asking"
local core = require "tidegate.core.taps"
local match = require "tidegate.policy.match"
local misuse = require "tidegate.misuse"
local policy = require "tidegate.core.policy"
local programs = require "tidegate.programs"
local state = require "tidegate.policy.state"

local taps = {}

--- Checks `match =`. A list matches what any of its tables does.
function taps.matches(what, value)
  if type(value) ~= "table" or #value == 0 then return { match.read(what, value) } end
  local list = {}
  for i, one in ipairs(value) do
    local at = ("%s[%d]"):format(what, i)
    list[i] = match.read(at, one)
  end
  for key in pairs(value) do
    if math.type(key) ~= "integer" then misuse("%s: a table of fields or a list of such expected, not both", what) end
  end
  return list
end

function taps.text(matches)
  if not matches then return "everything" end
  local words = {}
  for i, one in ipairs(matches) do words[i] = match.text(one) end
  return table.concat(words, " or ")
end

--- Compiles what taps.matches read: a handle, or false: everything; or nil, why, code. Waits.
function taps.compile(matches)
  if not matches then return false end
  return asking.compile(matches, state.members())
end

--- The first set that matches ask and that is not there; of a generation that loads (`gen`), or of what is in force.
function taps.unknown(matches, gen)
  for _, name in ipairs(asking.sets(matches)) do
    if not state.knows_set(name, gen) then return name end
  end
end

--- The matches of taps that are to be in force: { [tap] = handle or false } beside those that are.
function taps.beside(changes)
  local all = {}
  for place, handle in pairs(programs.taps) do all[place] = handle end
  for tap, handle in pairs(changes) do all[policy.tap_place(tap)] = handle or nil end
  return all
end

-- One at a time ------------------------------------------------------------------------------------

local TAP <const> = require("tidegate.core.controller").features().tap

local count = 0
local held = 0          -- taps that no generation declares

--- The features that those need of the programs, whatever files declare.
function taps.features()
  return held > 0 and TAP or 0
end

--- Puts the match of one tap in force, with the programs knowing taps.
local function exchange(number, handle)
  local ok, message, code = programs.commit(programs.features | TAP, nil, taps.beside { [number] = handle })
  if not ok then return nil, message, code end
  return true
end

--- A tap that no generation declares: { kind, port, direction, match, sample, rate, snap, packets, seconds }. { number,
--- start }, off yet; or nil, why, code. Waits.
function taps.take(what)
  local unknown = taps.unknown(what.match)
  if unknown then return nil, ("there is no set %q (tg.set declares one)"):format(unknown), "ENOENT" end
  local handle, message, code = taps.compile(what.match)
  if handle == nil then return nil, message, code end
  local turn <close> = programs.lock:take()
  count = count + 1
  local number
  number, message, code = core.take(("%s %d"):format(what.kind, count), tostring(count))
  if not number then return nil, message, code end
  local ok
  ok, message, code = exchange(number, handle)
  local start
  if ok then start, message, code = core.ready(number, what) end
  if start then
    held = held + 1
    return { number = number, start = start }
  end
  core.give_back(number)
  return nil, message, code
end

--- Lets it begin.
function taps.on(tap)
  return core.start(tap.number)
end

--- Ends it, and gives it back. Its match stays until the programs are exchanged for another reason.
function taps.release(tap)
  held = held - 1
  core.give_back(tap.number)
end

return taps
