-- SPDX-License-Identifier: GPL-2.0-only
--- What mirrors and captures match, compiled: a list of matches, of which one has to. Where they ask sets, they are
--- compiled anew when a set has other members, and take their old place (state.lua).

local core = require "tidegate.core.policy"
local match = require "tidegate.policy.match"
local task = require "tidegate.task"

local asking = {}

local asked = setmetatable({}, { __mode = "k" })     -- handle → { matches =, members = name → prefixes }
local newer = setmetatable({}, { __mode = "k" })     -- handle → the one that took its place

--- The names of the sets that matches ask.
function asking.sets(matches)
  local names, seen = {}, {}
  for _, one in ipairs(matches or {}) do
    for _, name in ipairs(match.sets(one)) do
      if not seen[name] then names[#names + 1] = name end
      seen[name] = true
    end
  end
  return names
end

local function rules_of(matches, members)
  local rules = {}
  for _, one in ipairs(matches) do
    for _, rule in ipairs(match.core(one, members)) do
      rule.action = "accept"
      rules[#rules + 1] = rule
    end
  end
  return rules
end

--- Compiles matches; `members(name)`: a set's prefixes. A handle, or nil, why, code. Waits.
function asking.compile(matches, members)
  local handle, message, code = task.await(core.compile, {
    rules = rules_of(matches, members), default = { action = "drop" }, fragments = "follow",
  })
  if not handle then return nil, message, code end
  local names = asking.sets(matches)
  if #names > 0 then
    asked[handle] = { matches = matches, members = {} }
    for _, name in ipairs(names) do asked[handle].members[name] = members(name) end
  end
  return handle
end

local function same(a, b)
  if #a ~= #b then return false end
  for i, prefix in ipairs(a) do
    if b[i] ~= prefix then return false end
  end
  return true
end

local function is_fresh(handle, members)
  for name, prefixes in pairs(asked[handle] and asked[handle].members or {}) do
    if not same(prefixes, members(name)) then return false end
  end
  return true
end

--- The handles of taps (place → handle) as they are to be with these members; or nil, why, code. Waits.
function asking.refresh(handles, members)
  local result = {}
  for place, handle in pairs(handles) do
    while newer[handle] do handle = newer[handle] end
    if not is_fresh(handle, members) then
      local fresh, message, code = asking.compile(asked[handle].matches, members)
      if not fresh then return nil, message, code end
      newer[handle], handle = fresh, fresh
    end
    result[place] = handle
  end
  return result
end

return asking
