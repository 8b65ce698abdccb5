-- SPDX-License-Identifier: GPL-2.0-only
--- tg.deny and tg.allow: named lists of prefixes whose packets are dropped, or pass. The longest prefix decides
--- over all lists; at equal length allow wins.
---
--- At a file's top level calls declare: what they name is on the list as long as the files say so, and questions
--- show what is declared so far. Later they change what is in force: what a task adds or removes holds until its
--- generation ends, what an operator does survives reloads and restarts.

local actor = require "tidegate.actor"
local generation = require "tidegate.generation"
local lists = require "tidegate.lists"
local log = require "tidegate.log"
local misuse = require "tidegate.misuse"
local running = require "tidegate.running"
local schema = require "tidegate.schema"
local task = require "tidegate.task"

---@class tidegate.List
---@field verdict "deny"|"allow"
local List = {}
local meta = { __name = "tidegate.List", __metatable = "tidegate.List", __index = List }

local ttl = schema.seconds(0.001, 86400 * 3650)
local on_error = schema.one_of { "fail", "skip" }

local options = {
  add = schema.table { list = schema.name, ttl = ttl, reason = schema.string, count = schema.boolean },
  remove = schema.table { list = schema.name },
  contains = schema.table { list = schema.name },
  load = schema.table {
    list = schema.name, ttl = ttl, reason = schema.string, count = schema.boolean, on_error = on_error,
  },
  replace = schema.table {
    min = schema.integer(0, 1 << 24), ttl = ttl, reason = schema.string, count = schema.boolean, on_error = on_error,
  },
  top = schema.table { n = schema.integer(1, 256), seconds = schema.seconds(0.01, 3600), reset = schema.boolean },
}

-- Arguments ----------------------------------------------------------------------------------------

--- "tg.deny:add"
local function call_name(self, name)
  return ("tg.%s:%s"):format(self.verdict, name)
end

local function check_self(self, name)
  if getmetatable(self) ~= "tidegate.List" then
    misuse("%s: call it with a colon: tg.deny:%s(…)", name, name)
  end
end

local function check_options(self, name, given)
  return options[name](call_name(self, name), given or {})
end

--- The canonical text, whether it is a single address, its family.
local function check_prefix(self, name, value)
  local what = call_name(self, name)
  if type(value) ~= "string" then
    misuse("%s: %s given, a prefix such as \"203.0.113.0/24\" expected", what, schema.show(value))
  end
  local prefix, single, family = lists.prefix(value)
  if not prefix then misuse("%s: %s: %s", what, schema.show(value), single) end
  return prefix, single, family
end

local function check_list(self, name, value)
  return schema.name(call_name(self, name) .. ": the list", value)
end

-- Who acts -----------------------------------------------------------------------------------------

--- Runs a change of what is in force, with the program knowing what it needs for it.
local function change(features, run, ...)
  if not lists.started() then misuse "tg.deny, tg.allow: no daemon runs in this process, so no list is in force" end
  local turn <close> = running.lock:take()
  local ok, message, code = running.need(features)
  if not ok then return nil, message, code end
  return run(...)
end

--- Declares: what is wrong becomes the generation's problem, and `otherwise` is returned.
local function declare(gen, otherwise, make, ...)
  local where = generation.position()
  local ok, value, message = pcall(make, lists.draft(gen), where, ...)
  if not ok then
    gen:problem(value)
  elseif value == nil and message then
    gen:problem(("%s: %s"):format(where, message))
  else
    return value
  end
  return otherwise
end

--- A call that changes lists: `check(…)` returns its checked arguments, or nil, why, code; then it is declared
--- at a file's top level, `declared(draft, where, …)`, or done, `act(…)`.
local function perform(otherwise, check, declared, act)
  local gen = generation.loading()
  if gen then
    return declare(gen, otherwise, function(draft, where)
      local args = table.pack(check())
      if not args[1] then return nil, args[2] end
      return declared(draft, where, table.unpack(args, 1, args.n))
    end)
  end
  local args = table.pack(check())
  if not args[1] then return nil, args[2], args[3] end
  return act(table.unpack(args, 1, args.n))
end

-- Changes ------------------------------------------------------------------------------------------

local function terms_of(checked)
  return { ttl = checked.ttl, reason = checked.reason, count = checked.count }
end

--- Adds a prefix: whether it is new to the list. Or nil, why, code.
function List:add(value, given)
  check_self(self, "add")
  local verdict = self.verdict
  return perform(true, function()
    local checked = check_options(self, "add", given)
    local prefix, single, family = check_prefix(self, "add", value)
    if checked.count and not single then
      misuse("%s: count = true is for single addresses, and %s is none", call_name(self, "add"), prefix)
    end
    return checked, prefix, family
  end, function(draft, where, checked, prefix)
    return draft:add(verdict, checked.list or verdict, prefix, terms_of(checked), where)
  end, function(checked, prefix, family)
    local added, message, code = change(lists.features_of(family, checked.count), lists.add, verdict,
      checked.list or verdict, prefix, terms_of(checked), actor())
    if not added then return nil, message, code end
    return added > 0
  end)
end

--- Of an answer "it was not there": and there is no such list at all.
local function known(list, removed, ...)
  if removed ~= false or lists.counts("deny")[list] or lists.counts("allow")[list] then return removed, ... end
  return false, ("there is no list %q"):format(list), "ENOENT"
end

--- Removes a prefix: whether it was on the list, and is no more. Or nil, why, code.
function List:remove(value, given)
  check_self(self, "remove")
  local verdict = self.verdict
  return perform(false, function()
    return check_options(self, "remove", given), (check_prefix(self, "remove", value))
  end, function(draft, _, checked, prefix)
    return draft:remove(verdict, checked.list or verdict, prefix)
  end, function(checked, prefix)
    local list = checked.list or verdict
    return known(list, change(0, lists.remove, verdict, list, prefix, actor()))
  end)
end

--- Why a feed can't be taken: its broken lines. nil if there are none, or if they are to be left out, which is logged.
local function judge(feed, checked, line_of)
  local _, broken = feed:count()
  if broken == 0 then return nil end
  local lines = lists.complaints(feed, line_of)
  if checked.on_error ~= "skip" then return lines end
  for _, line in ipairs(lines) do log.warn("left out: %s", line) end
end

--- A script names a file from where the script is.
local function path_of(self, value)
  local what = call_name(self, "load")
  if type(value) ~= "string" or value == "" or value:find "\0" then
    misuse("%s: %s given, a file's path expected", what, schema.show(value))
  end
  if value:find "^/" then return value end
  local script = task.current_owner().script
  if not script then misuse("%s: %s: a path from the root expected", what, schema.show(value)) end
  return (script:match "^(.*)/" or ".") .. "/" .. value
end

--- Broken lines become problems of the generation that is loaded, each at its own position.
local function note_lines(gen, lines)
  for _, line in ipairs(lines) do
    gen:problem(line:find "^and " and ("%s: %s"):format(generation.position(), line) or line)
  end
end

--- Loads a file of prefixes, a line each, onto a list: how many it has. Or nil, why, code.
function List:load(path, given)
  check_self(self, "load")
  local verdict, gen = self.verdict, generation.loading()
  return perform(0, function()
    local checked, full = check_options(self, "load", given), path_of(self, path)
    local feed, message, code = lists.read_file(full)
    if not feed then return nil, message, code end
    local lines = judge(feed, checked, function(line) return ("%s:%d"):format(full, line) end)
    if not lines then return checked, feed, (feed:count()) end
    if gen then note_lines(gen, lines) end
    return nil, not gen and table.concat(lines, "\n") or nil, "EBADMSG"
  end, function(draft, where, checked, feed, count)
    local ok, message, code = draft:load(verdict, checked.list or verdict, feed, terms_of(checked), where)
    if not ok then return nil, message, code end
    return count
  end, function(checked, feed, count)
    local added, message, code = change(lists.features_of(feed, checked.count), lists.add, verdict,
      checked.list or verdict, feed, terms_of(checked), actor())
    if not added then return nil, message, code end
    return count
  end)
end

--- Checks the first of a list's strings; the others are, while they are read.
local function check_value(self, value)
  local what = call_name(self, "replace")
  if type(value) ~= "table" and type(value) ~= "string" then
    misuse("%s: %s given, a text or a list of prefixes expected", what, schema.show(value))
  end
  for i = 1, type(value) == "table" and math.min(#value, 1000) or 0 do
    if type(value[i]) ~= "string" then
      misuse("%s: [%d]: %s given, a prefix such as \"203.0.113.0/24\" expected", what, i, schema.show(value[i]))
    end
  end
end

--- The feed in a text or a list of strings; or nil, why, code.
local function read_value(list, value, checked)
  local feed, message, code = lists.read(value)
  if not feed then return nil, message, code end
  local unit = type(value) == "table" and "entry" or "line"
  local lines = judge(feed, checked, function(line) return ("%s %d"):format(unit, line) end)
  if lines then return nil, ("list %q: %s"):format(list, table.concat(lines, "\n")), "EBADMSG" end
  return feed
end

--- Makes a list's content these prefixes: a text such as a feed's, or a list of strings. How many are on the
--- list, how many came, how many went. Or nil, why, code, and the list stays as it was: also when there are
--- fewer than `min` (1), as in an empty download.
function List:replace(name, value, given)
  check_self(self, "replace")
  local verdict = self.verdict
  return perform(0, function()
    local list, checked = check_list(self, "replace", name), check_options(self, "replace", given)
    check_value(self, value)
    local feed, message, code = read_value(list, value, checked)
    if not feed then return nil, message, code end
    return list, checked, feed, checked.min or 1
  end, function(draft, where, list, checked, feed, min)
    local count = feed:count()
    if count < min then
      return nil, ("list %q: %d prefixes given, at least %d expected"):format(list, count, min), "ENODATA"
    end
    return draft:load(verdict, list, feed, terms_of(checked), where, true)
  end, function(list, checked, feed, min)
    return change(lists.features_of(feed, checked.count), lists.replace, verdict, list, feed, min, terms_of(checked),
      actor())
  end)
end

-- Questions ----------------------------------------------------------------------------------------

--- What answers: what is declared so far, or what is in force.
local function source()
  local gen = generation.loading()
  if not gen then return lists end
  local draft = lists.draft(gen)
  return {
    find = function(...) return draft:find(...) end, page = function(...) return draft:page(...) end,
    counts = function(...) return draft:counts(...) end,
  }
end

--- Whether an address or a whole prefix is on one of the lists (or on `list`), and the entry that says so.
function List:contains(value, given)
  check_self(self, "contains")
  local checked, prefix = check_options(self, "contains", given), check_prefix(self, "contains", value)
  local entry, message, code = source().find(self.verdict, checked.list, prefix)
  if entry == nil then return nil, message, code end
  if not entry then return false end
  return true, entry
end

--- How many prefixes are on a list; without a name, on all of them.
function List:count(name)
  check_self(self, "count")
  if name ~= nil then check_list(self, "count", name) end
  local sum = 0
  for list, count in pairs(source().counts(self.verdict)) do
    if name == nil or list == name then sum = sum + count end
  end
  return sum
end

--- `for prefix, entry in tg.deny:pairs() do`: the entries of a list in order, or those of all lists.
function List:pairs(name)
  check_self(self, "pairs")
  if name ~= nil then check_list(self, "pairs", name) end
  local from = source()
  local names = {}
  for list in pairs(from.counts(self.verdict)) do
    if name == nil or list == name then names[#names + 1] = list end
  end
  table.sort(names)
  local page, at, list, after = {}, 0, 1, nil
  return function()
    at = at + 1
    while not page[at] do
      if not names[list] then return nil end
      page, at = assert(from.page(self.verdict, names[list], after)), 1
      if page[1] then
        after = page[#page].prefix
      else
        list, after = list + 1, nil
      end
    end
    return page[at].prefix, page[at]
  end
end

local function by_source(list)
  local packets = {}
  for _, found in ipairs(list) do packets[found.src] = found.packets end
  return packets
end

--- The sources whose packets were dropped most, the heaviest first: { { src, list, packets, bytes }, … },
--- estimates from samples. With `seconds` it waits for so long, and they are those of that time, with their `rate`.
function List:top(given)
  check_self(self, "top")
  if self.verdict ~= "deny" then misuse("tg.allow:top: only dropped packets are sampled; tg.deny:top tells") end
  local checked = check_options(self, "top", given)
  if checked.reset and generation.loading() then misuse "tg.deny:top: reset changes what runs: do it in a task" end
  local before = checked.seconds and by_source(assert(lists.top(false))) or {}
  if checked.seconds then task.sleep(checked.seconds) end
  local found, message, code = lists.top(checked.reset or false)
  if not found then return nil, message, code end
  for _, entry in ipairs(found) do
    if checked.seconds then
      entry.packets = math.max(0, entry.packets - (before[entry.src] or 0))
      entry.rate = entry.packets / checked.seconds
    end
  end
  table.sort(found, function(a, b) return a.packets > b.packets end)
  for i = #found, 1, -1 do
    if i > (checked.n or 10) or found[i].packets == 0 then found[i] = nil end
  end
  return found
end

function meta:__tostring()
  return "tg." .. self.verdict
end

return {
  deny = setmetatable({ verdict = "deny" }, meta),
  allow = setmetatable({ verdict = "allow" }, meta),
}
