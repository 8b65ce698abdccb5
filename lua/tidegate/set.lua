-- SPDX-License-Identifier: GPL-2.0-only
--- tg.set(name): a named set of addresses and prefixes, for rules that say `src = "@name"`.
---
--- At a file's top level calls declare: the set is there, and has what the files say. Later they change what is in
--- force, and return when it is: what a task adds or removes holds until its generation ends, what an operator does
--- survives reloads and restarts. Several changes at a time are put in force together.

local actor = require "tidegate.actor"
local generation = require "tidegate.generation"
local kept = require "tidegate.policy.kept"
local lists = require "tidegate.lists"
local misuse = require "tidegate.misuse"
local schema = require "tidegate.schema"
local sets = require "tidegate.policy.sets"
local state = require "tidegate.policy.state"

local set = {}

---@class tidegate.Set
---@field name string
local Set = {}
local meta = { __name = "tidegate.Set", __metatable = "tidegate.Set", __index = Set }

local ttl = schema.seconds(0.001, 86400 * 3650)

local options = {
  add = schema.table { ttl = ttl, reason = schema.string },
  replace = schema.table { min = schema.integer(0, sets.MAX), ttl = ttl, reason = schema.string },
}

--- The set of that name. At a file's top level this declares it, empty if nothing is added.
function set.get(name)
  schema.name("tg.set", name)
  local gen = generation.loading()
  if gen then sets.declared(gen, name) end
  return setmetatable({ name = name }, meta)
end

-- Arguments ----------------------------------------------------------------------------------------

local function call_name(self, name)
  if getmetatable(self) ~= "tidegate.Set" then
    misuse("%s: call it with a colon: tg.set(\"staff\"):%s(…)", name, name)
  end
  return ("set %q: %s"):format(self.name, name)
end

local function prefix_of(what, value)
  if type(value) ~= "string" then
    misuse("%s: %s given, an address or a prefix expected", what, schema.show(value))
  end
  local prefix, why = lists.prefix(value)
  if not prefix then misuse("%s: %s: %s", what, schema.show(value), why) end
  return prefix
end

--- One prefix or a list.
local function prefixes_of(what, value)
  if type(value) ~= "table" then return { prefix_of(what, value) } end
  local list = {}
  for i, text in ipairs(value) do list[i] = prefix_of(("%s[%d]"):format(what, i), text) end
  return list
end

--- The lines of a text as prefixes; or nil, why, code.
local function read_text(text)
  local list, number = {}, 0
  for line in (text .. "\n"):gmatch "([^\n]*)\n" do
    number = number + 1
    local word = line:gsub("[#;].*", ""):match "^%s*(.-)%s*$"
    if word ~= "" then
      local prefix, why = lists.prefix(word)
      if not prefix then return nil, ("line %d: %s: %s"):format(number, schema.show(word), why), "EBADMSG" end
      list[#list + 1] = prefix
    end
  end
  return list
end

--- A text's prefixes, or a list's.
local function read_content(what, value)
  if type(value) == "string" then return read_text(value) end
  if type(value) ~= "table" then
    misuse("%s: %s given, a text or a list of prefixes expected", what, schema.show(value))
  end
  return prefixes_of(what, value)
end

-- Changes ------------------------------------------------------------------------------------------

local function check_size(name, count)
  if count <= sets.MAX then return true end
  return nil, ("set %q: %d prefixes, at most %d allowed; for more there are the lists of tg.deny"):format(name, count,
    sets.MAX), "E2BIG"
end

--- A method that a file's top level may call: what is wrong becomes the generation's problem there, and the result is
--- `otherwise`.
local function declaring(otherwise, method)
  return function(self, ...)
    local gen = generation.loading()
    if not gen then return method(self, ...) end
    local results = table.pack(pcall(method, self, ...))
    if results[1] and results[2] ~= nil then return table.unpack(results, 2, results.n) end
    gen:problem(results[1] and ("%s: %s"):format(generation.position(), results[3]) or results[2])
    return otherwise
  end
end

--- At a file's top level: changes what is declared, `change(entries, where)` → the call's results.
local function declare(self, gen, change)
  local entries = sets.declared(gen, self.name)
  local results = table.pack(change(entries, generation.position()))
  local count = 0
  for _ in pairs(entries) do count = count + 1 end
  local ok, message, code = check_size(self.name, count)
  if not ok then return nil, message, code end
  return table.unpack(results, 1, results.n)
end

--- Changes what is in force. `change(layer, there, now, who, draft)` gets the caller's own layer to change (prefix →
--- entry), what the set has now, and the set; it returns the call's results, or nil, why, code and nothing changes.
local function act(self, change)
  local who = actor()
  return state.change_set(self.name, function(draft, operators, now)
    local there = sets.entries(draft, operators, now)
    local layer = who.owner == "operator" and operators or draft.task
    local results = table.pack(change(layer, there, now, who, draft))
    if results[1] == nil then return nil, results[2], results[3] end
    local ok, message, code = check_size(self.name, (select(2, sets.entries(draft, operators, now))))
    if not ok then return nil, message, code end
    return table.unpack(results, 1, results.n)
  end)
end

local function is_operators(prefix, name, who)
  return who.owner == "task" and (kept.sets[name] or {})[prefix] ~= nil
end

local function refusal(name, prefix)
  return nil, ("set %q: an operator decided about %s"):format(name, prefix), "EPERM"
end

--- Adds an address, a prefix, or a list: whether any is new. Or nil, why, code.
Set.add = declaring(true, function(self, value, given)
  local what = call_name(self, "add")
  local checked, prefixes, gen = options.add(what, given or {}), prefixes_of(what, value), generation.loading()
  if gen then
    return declare(self, gen, function(entries, where)
      local added = false
      for _, prefix in ipairs(prefixes) do
        added = added or not entries[prefix]
        entries[prefix] = { ttl = checked.ttl, reason = checked.reason, who = where }
      end
      return added
    end)
  end
  return act(self, function(layer, there, now, who)
    local added = false
    for _, prefix in ipairs(prefixes) do
      if is_operators(prefix, self.name, who) then return refusal(self.name, prefix) end
      added = added or not there[prefix]
      layer[prefix] = {
        expires = checked.ttl and now + checked.ttl, reason = checked.reason, who = who.who, since = now,
      }
    end
    return added
  end)
end)

--- Removes an address, a prefix, or a list: whether any was there. Or nil, why, code.
Set.remove = declaring(false, function(self, value)
  local what = call_name(self, "remove")
  local prefixes, gen = prefixes_of(what, value), generation.loading()
  if gen then
    return declare(self, gen, function(entries)
      local removed = false
      for _, prefix in ipairs(prefixes) do
        removed, entries[prefix] = removed or entries[prefix] ~= nil, nil
      end
      return removed
    end)
  end
  return act(self, function(layer, there, now, who)
    local removed = false
    for _, prefix in ipairs(prefixes) do
      if is_operators(prefix, self.name, who) then return refusal(self.name, prefix) end
      removed = removed or there[prefix] ~= nil
      layer[prefix] = there[prefix] and { removed = true, who = who.who, since = now } or nil
    end
    return removed
  end)
end)

local function replaced(prefixes, terms, now, who)
  local entries = {}
  for _, prefix in ipairs(prefixes) do
    entries[prefix] = {
      ttl = terms.ttl, expires = now and terms.ttl and now + terms.ttl, reason = terms.reason, who = who, since = now,
    }
  end
  return entries
end

--- How many of `a` are not in `b`.
local function missing(a, b)
  local count = 0
  for prefix in pairs(a) do
    if not b[prefix] then count = count + 1 end
  end
  return count
end

local function count_of(entries)
  return missing(entries, {})
end

--- Takes the place of what the files say, as long as the script that did it is loaded; an operator's is his own.
local function replace_in_force(self, prefixes, checked)
  return act(self, function(layer, there, now, who, draft)
    local entries = replaced(prefixes, checked, now, who.who)
    if who.owner == "operator" then
      for prefix in pairs(there) do
        if not entries[prefix] then layer[prefix] = { removed = true, who = who.who, since = now } end
      end
      for prefix, entry in pairs(entries) do layer[prefix] = entry end
    else
      draft.source = { script = who.script, entries = entries, declared = sets.fingerprint(draft.file) }
    end
    local after = sets.entries(draft, who.owner == "operator" and layer or kept.sets[self.name], now)
    return count_of(after), missing(after, there), missing(there, after)
  end)
end

--- Makes the content of the set these: a list, or a text with a prefix a line and comments. How many it has, how many
--- came, how many went. Or nil, why, code, and it stays as it was: also when there are fewer than `min` (1).
Set.replace = declaring(0, function(self, value, given)
  local what = call_name(self, "replace")
  local checked = options.replace(what, given or {})
  local prefixes, message, code = read_content(what, value)
  if not prefixes then return nil, ("set %q: %s"):format(self.name, message), code end
  local gen, least = generation.loading(), checked.min or 1
  if #prefixes < least then
    return nil, ("set %q: %d prefixes given, at least %d expected"):format(self.name, #prefixes, least), "ENODATA"
  end
  if not gen then return replace_in_force(self, prefixes, checked) end
  return declare(self, gen, function(entries, where)
    local after, before = replaced(prefixes, checked, nil, where), {}
    for prefix, entry in pairs(entries) do before[prefix], entries[prefix] = entry, nil end
    for prefix, entry in pairs(after) do entries[prefix] = entry end
    return count_of(after), missing(after, before), missing(before, after)
  end)
end)

-- Questions ----------------------------------------------------------------------------------------

local function described(prefix, found, now)
  local entry = found.entry
  return {
    prefix = prefix, owner = found.owner, reason = entry.reason, who = entry.who, since = entry.since,
    ttl = entry.expires and entry.expires - now,
  }
end

--- What is in the set: what is declared so far, or what is in force.
local function content(self)
  local gen, now = generation.loading(), sets.now()
  if not gen then
    return sets.entries(state.in_force.sets[self.name] or sets.copy(), kept.sets[self.name], now), now
  end
  local result = {}
  for prefix, entry in pairs((gen.sets or {})[self.name] or {}) do
    result[prefix] = { entry = entry, owner = "file" }
  end
  return result, now
end

--- Whether an address or a whole prefix is in the set, and the entry that says so.
function Set:contains(value)
  local prefix = prefix_of(call_name(self, "contains"), value)
  local entries, now = content(self)
  local found, entry = sets.covering(entries, prefix)
  if not found then return false end
  return true, described(found, entry, now)
end

--- How many prefixes are in it.
function Set:count()
  call_name(self, "count")
  return count_of((content(self)))
end

--- `for prefix, entry in tg.set("staff"):pairs() do`, sorted.
function Set:pairs()
  call_name(self, "pairs")
  local entries, now = content(self)
  local list, i = {}, 0
  for prefix in pairs(entries) do list[#list + 1] = prefix end
  table.sort(list)
  return function()
    i = i + 1
    if list[i] then return list[i], described(list[i], entries[list[i]], now) end
  end
end

function meta:__tostring()
  return ("set %q"):format(self.name or "?")
end

return set
