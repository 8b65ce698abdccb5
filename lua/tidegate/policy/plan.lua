-- SPDX-License-Identifier: GPL-2.0-only
--- The plan's lines about policies and sets: what changes, rule by rule. Of a policy that is new, or goes, one line.

local kept = require "tidegate.policy.kept"
local resolve = require "tidegate.policy.resolve"
local sets = require "tidegate.policy.sets"

local plan = {}

-- Rules --------------------------------------------------------------------------------------------

local function by_key(rules)
  local result = {}
  for i, one in ipairs(rules) do result[one.key] = { rule = one, at = i } end
  return result
end

--- Which of these numbers, all different, to leave where they are so that the fewest move: the longest ascending row.
--- value → true
local function longest_ascending(list)
  local ends, before = {}, {}          -- ends[n]: the lowest end of a row of n
  for _, value in ipairs(list) do
    local low, high = 1, #ends + 1
    while low < high do
      local middle = (low + high) // 2
      if ends[middle] < value then low = middle + 1 else high = middle end
    end
    ends[low], before[value] = value, ends[low - 1]
  end
  local row, value = {}, ends[#ends]
  while value do row[value], value = true, before[value] end
  return row
end

--- The old places of rules that stay, in their new order; those that move among the others.
local function moved_of(old, new_rules)
  local places = {}
  for _, one in ipairs(new_rules) do
    if old[one.key] then places[#places + 1] = old[one.key].at end
  end
  local stay, moved = longest_ascending(places), {}
  for _, one in ipairs(new_rules) do
    local was = old[one.key]
    if was and not stay[was.at] then moved[one.key] = was.at end
  end
  return moved
end

local function name_of(policy, one)
  if one.failsafe then return policy.name .. " failsafe" end
  return one.name and ("%s %d (%s)"):format(policy.name, one.number, one.name) or
    ("%s %d"):format(policy.name, one.number)
end

local function on_off(value)
  return value and "on" or "off"
end

local function enabled_text(was, now)
  local ends = was.by and not now.by and not was.by.script and ", what an operator said of it ends" or ""
  return (now.enabled and "enabled" or "disabled") .. ends
end

local function rule_changes(was, now, moved)
  local parts = {}
  if was.text ~= now.text then parts[#parts + 1] = ("%s -> %s"):format(was.text, now.text) end
  for _, field in ipairs { "log", "audit" } do
    if was[field] ~= now[field] then parts[#parts + 1] = ("%s %s"):format(field, on_off(now[field])) end
  end
  if was.event ~= now.event then
    parts[#parts + 1] = ("event %s -> %s"):format(was.event or "none", now.event or "none")
  end
  if was.enabled ~= now.enabled then parts[#parts + 1] = enabled_text(was, now) end
  if moved then parts[#parts + 1] = ("moves from %d to %d"):format(was.number or moved, now.number or 0) end
  return table.concat(parts, ", ")
end

local function diff_rules(self, policy, was, now)
  local old, new = by_key(was), by_key(now)
  local moved = moved_of(old, now)
  for _, one in ipairs(now) do
    local before = old[one.key]
    if not before then
      self:note("+", "rule", name_of(policy, one), one.text .. (one.enabled and "" or ", disabled"))
    else
      local text = rule_changes(before.rule, one, moved[one.key])
      if text ~= "" then self:note("~", "rule", name_of(policy, one), text) end
    end
  end
  for _, one in ipairs(was) do
    if not new[one.key] then self:note("-", "rule", name_of(policy, one), one.text) end
  end
end

-- Policies -----------------------------------------------------------------------------------------

local function stateful_text(value)
  return value == true and "own flows" or value or "no"
end

local function describe(policy, rules)
  local parts = { "default " .. policy.default }
  if policy.stateful then
    parts[#parts + 1] = policy.stateful == true and "stateful" or "stateful by " .. policy.stateful
  end
  if policy.audit then parts[#parts + 1] = "audit" end
  parts[#parts + 1] = ("%d rules"):format(#rules)
  return table.concat(parts, ", ")
end

local OPTIONS = {
  { "default" }, { "stateful", stateful_text }, { "audit", on_off }, { "log", on_off }, { "nd", on_off },
  { "fragments" }, { "existing" },
}

local function diff_options(self, was, now)
  for _, option in ipairs(OPTIONS) do
    local field, text = option[1], option[2] or tostring
    local old, new = text(was[field]), text(now[field])
    if old ~= new then self:note("~", "policy", now.name, ("%s %s -> %s"):format(field, old, new)) end
  end
end

--- The rules with the failsafe's, where they are compiled.
local function rules_of(from, policy)
  local compiled = ((from.compiled or {})[policy.port] or {})[policy.direction]
  return compiled and compiled.all or policy.rules
end

local function diff_policies(self, was, now)
  resolve.each(now.policies, function(policy)
    local before = (was.policies[policy.port] or {})[policy.direction]
    local rules = rules_of(now, policy)
    if not before then return self:note("+", "policy", policy.name, describe(policy, rules)) end
    diff_options(self, before, policy)
    diff_rules(self, policy, rules_of(was, before), rules)
  end)
  resolve.each(was.policies, function(policy)
    if (now.policies[policy.port] or {})[policy.direction] then return end
    self:note("-", "policy", policy.name, describe(policy, rules_of(was, policy)))
  end)
end

-- Sets ---------------------------------------------------------------------------------------------

local function entries_of(set, name, now)
  return sets.entries(set or sets.copy(), kept.sets[name], now)
end

local function diff_set(self, name, was, now, time)
  local old, new, added, removed = entries_of(was, name, time), entries_of(now, name, time), 0, 0
  local _, count = entries_of(now or was, name, time)
  for prefix in pairs(new) do added = added + (old[prefix] and 0 or 1) end
  for prefix in pairs(old) do removed = removed + (new[prefix] and 0 or 1) end
  if not was or not now then
    self:note(was and "-" or "+", "set", name, ("%d prefixes"):format(count))
  elseif added + removed > 0 then
    self:note("~", "set", name, ("%d added, %d removed (%d prefixes)"):format(added, removed, count))
  end
end

--- The sets that files declare; others are operators' own, which no file changes.
local function declared(all)
  local result = {}
  for name, set in pairs(all) do result[name] = set.declared and set or nil end
  return result
end

local function diff_sets(self, was, now)
  local names, time = {}, sets.now()
  for name in pairs(now) do names[#names + 1] = name end
  for name in pairs(was) do
    if not now[name] then names[#names + 1] = name end
  end
  table.sort(names)
  for _, name in ipairs(names) do diff_set(self, name, was[name], now[name], time) end
end

local EMPTY = { policies = {}, sets = {} }

--- Notes what changes from one state's policies and sets (state.in_force, desired.lua's `policy`) to another's.
function plan.diff(self, was, now)
  was = was or EMPTY
  diff_policies(self, was, now or EMPTY)
  diff_sets(self, declared(was.sets), declared((now or EMPTY).sets))
end

return plan
