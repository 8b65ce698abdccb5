-- SPDX-License-Identifier: GPL-2.0-only
--- Sets of addresses: what the files declare of them, what tasks and operators add to that, and which prefixes that
--- makes now. Plain tables, no script's arguments (set.lua) and nothing of the datapath (state.lua) in here.
---
--- A set in force:
---
---     { declared = by files, file = entries, source = nil | { script =, entries =, declared = }, task = entries }
---
--- entries: prefix → { ttl, expires, reason, who, since, script, removed }; times are those of sets.now, of operators'
--- entries (kept.sets) seconds since 1970. An operator's or a task's entry may be `removed = true`, which hides what
--- lies below: file or source, then task, then operator.

local kept = require "tidegate.policy.kept"
local lists = require "tidegate.lists"
local uv = require "luv"

local sets = {}

sets.MAX = 8192      -- prefixes of a set

--- Seconds since 1970, with a fraction.
function sets.now()
  local seconds, micro = uv.gettimeofday()
  return seconds + micro / 1e6
end

local function new_set()
  return { file = {}, task = {} }
end

local function copy(entries)
  local result = {}
  for key, value in pairs(entries) do result[key] = value end
  return result
end

--- A set to change, apart from the one in force.
function sets.copy(set)
  set = set or new_set()
  return { declared = set.declared, file = set.file, source = set.source, task = copy(set.task) }
end

local function alive(entry, now)
  return not entry.expires or entry.expires > now
end

--- The layers of a set from the lowest, with their owners.
local function layers(set, operators)
  local base, owner = set.file, "file"
  if set.source then base, owner = set.source.entries, "source" end
  return { { owner, base }, { "task", set.task }, { "operator", operators or {} } }
end

--- What is in a set now: prefix → { entry, owner }, how many, and when the first of them ends (or nil).
function sets.entries(set, operators, now)
  local result, count, first = {}, 0, nil
  for _, layer in ipairs(layers(set, operators)) do
    local owner, entries = layer[1], layer[2]
    for prefix, entry in pairs(entries) do
      if alive(entry, now) then
        if not entry.removed and not result[prefix] then count = count + 1 end
        if entry.removed and result[prefix] then count = count - 1 end
        result[prefix] = not entry.removed and { entry = entry, owner = owner } or nil
        if entry.expires then first = math.min(first or entry.expires, entry.expires) end
      end
    end
  end
  return result, count, first
end

--- The prefixes of a set, sorted; none of one that is not there.
function sets.prefixes(all, name, now)
  local list = {}
  for prefix in pairs((sets.entries(all[name] or new_set(), kept.sets[name], now))) do list[#list + 1] = prefix end
  table.sort(list)
  return list
end

--- The names of all sets there are.
function sets.names(all)
  local seen, names = {}, {}
  for _, from in ipairs { all, kept.sets } do
    for name in pairs(from) do
      if not seen[name] then names[#names + 1] = name end
      seen[name] = true
    end
  end
  table.sort(names)
  return names
end

--- The entry that covers a prefix or an address, the longest; or nil.
function sets.covering(entries, prefix)
  local host, length = prefix:match "^(.*)/(%d+)$"
  local full = (host or prefix):find(":", 1, true) and 128 or 32
  host, length = host or prefix, tonumber(length) or full
  for bits = length, 0, -1 do
    local wider = lists.prefix(("%s/%d"):format(host, bits))
    if entries[wider] then return wider, entries[wider] end
  end
end

-- Generations --------------------------------------------------------------------------------------

--- What a generation declares of a set: prefix → { ttl, reason, who }.
function sets.declared(gen, name)
  gen.sets = gen.sets or {}
  gen.sets[name] = gen.sets[name] or {}
  return gen.sets[name]
end

--- Declared entries as a file's layer: one with a ttl that was there before, with the same, goes on with what is left.
local function file_layer(declared, before, now)
  local entries = {}
  for prefix, given in pairs(declared) do
    local entry, old = copy(given), before[prefix]
    if old and old.ttl == given.ttl then
      entry.since, entry.expires = old.since, old.expires
    else
      entry.since, entry.expires = now, given.ttl and now + given.ttl
    end
    entries[prefix] = entry
  end
  return entries
end

--- Equal prefixes as text, to see whether files still say what a `replace` took the place of.
local function fingerprint(declared)
  local list = {}
  for prefix in pairs(declared) do list[#list + 1] = prefix end
  table.sort(list)
  return table.concat(list, " ")
end

sets.fingerprint = fingerprint

local function kept_source(source, gen, declared)
  if not source or source.declared ~= fingerprint(declared) then return nil end
  for _, file in ipairs(gen.files) do
    if file == source.script then return source end
  end
end

--- The sets in force when a generation is, after those of `all`: tasks' entries end, a source's stay as long as
--- its script does.
function sets.after(gen, all, now)
  local result = {}
  for name, declared in pairs(gen.sets or {}) do
    local before = all[name] or new_set()
    result[name] = {
      declared = true, file = file_layer(declared, before.file, now), task = {},
      source = kept_source(before.source, gen, declared),
    }
  end
  return result
end

--- Forgets of the operators' entries what files say now, and removals of what is not there any more.
function sets.absorb(all, now)
  for name, operators in pairs(kept.sets) do
    local set = all[name] or new_set()
    local base = set.source and set.source.entries or set.file
    for prefix, entry in pairs(operators) do
      local below = base[prefix]
      local same = below and not entry.removed and not entry.expires and not below.expires
      local idle = entry.removed and not below and not set.task[prefix]
      if same or idle or not alive(entry, now) then operators[prefix] = nil end
    end
    if not next(operators) then kept.sets[name] = nil end
  end
end

return sets
