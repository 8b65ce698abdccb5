-- SPDX-License-Identifier: GPL-2.0-only
--- `tidegate status` of policies and sets, as lines for people.

local kept = require "tidegate.policy.kept"
local resolve = require "tidegate.policy.resolve"
local sets = require "tidegate.policy.sets"
local state = require "tidegate.policy.state"

local status = {}

local function ago(last)
  if not last then return "" end
  local seconds = math.max(0, sets.now() - last)
  if seconds < 120 then return ("  %.0f s ago"):format(seconds) end
  if seconds < 7200 then return ("  %.0f min ago"):format(seconds / 60) end
  return ("  %.0f h ago"):format(seconds / 3600)
end

local function notes_of(rule)
  local notes = {}
  if rule.name and not rule.failsafe and not rule.default then notes[#notes + 1] = rule.name end
  if not rule.enabled then notes[#notes + 1] = "disabled" .. (rule.by and " by " .. rule.by or "") end
  if rule.audit then notes[#notes + 1] = "audit" end
  return #notes > 0 and (" (%s)"):format(table.concat(notes, ", ")) or ""
end

local function print_rule(request, rule)
  local number = rule.failsafe and "failsafe" or rule.default and "default" or tostring(rule.number)
  request:print(("  %8s  %-48s %10d packets %12d bytes%s"):format(number, rule.text .. notes_of(rule), rule.packets,
    rule.bytes, ago(rule.last)))
end

local function print_policy(request, port, direction, policy)
  local words = { "default " .. policy.default }
  if policy.stateful then
    words[#words + 1] = policy.stateful == true and "stateful" or "stateful by " .. policy.stateful
  end
  if policy.audit then words[#words + 1] = "audit" end
  if policy.fragments ~= "follow" then words[#words + 1] = "fragments " .. policy.fragments end
  request:print(("policy %s %s: %s"):format(port, direction, table.concat(words, ", ")))
  for _, rule in ipairs(policy.rules) do print_rule(request, rule) end
end

--- The lines of `state.status()` and `status.sets()`.
function status.print(request, policies, all_sets)
  local ports = {}
  for port in pairs(policies) do ports[#ports + 1] = port end
  table.sort(ports)
  for _, port in ipairs(ports) do
    for _, direction in ipairs(resolve.DIRECTIONS) do
      if policies[port][direction] then print_policy(request, port, direction, policies[port][direction]) end
    end
  end
  for _, set in ipairs(all_sets) do request:print(("set %s: %d prefixes"):format(set.name, set.prefixes)) end
end

--- The sets in force: { { name, prefixes = how many }, … }.
function status.sets()
  local list, now = {}, sets.now()
  for i, name in ipairs(sets.names(state.in_force.sets)) do
    local _, count = sets.entries(state.in_force.sets[name] or sets.copy(), kept.sets[name], now)
    list[i] = { name = name, prefixes = count }
  end
  return list
end

return status
