-- SPDX-License-Identifier: GPL-2.0-only
--- The lists behind tg.deny and tg.allow, for the library: feeds read, what files declare gathered, and both
--- handed to the controller (core/lists.h), which has a thread of its own for them. What waits here returns
--- nil, why, code when it is refused.

local controller = require "tidegate.core.controller"
local core = require "tidegate.core.lists"
local drafts = require "tidegate.core.draft"
local feeds = require "tidegate.core.feed"
local lists_status = require "tidegate.core.lists_status"
local lock = require "tidegate.lock"
local task = require "tidegate.task"

local lists = {}

local BITS = controller.features()

--- What the program needs for these prefixes (TG_LISTS_NEED_*), as features.
local function features(needs)
  return (needs & 1 ~= 0 and BITS.deny4 or 0) | (needs & 2 ~= 0 and BITS.deny6 or 0)
    | (needs & 4 ~= 0 and BITS["deny-count"] or 0)
end

-- Feeds --------------------------------------------------------------------------------------------

local CHUNK = 10000     -- strings of a table that are read before others get a turn: some 2 ms

local function read_table(feed, list)
  local count = #list
  for from = 1, count, CHUNK do
    if from > 1 then task.sleep(0) end
    feed:list(list, from, math.min(from + CHUNK - 1, count))
  end
  return true
end

--- A feed from a file.
function lists.read_file(path)
  local feed = feeds.new()
  local ok, message, code = task.await(feed.file, feed, path)
  if not ok then return nil, message, code end
  return feed
end

--- A feed from a text, or from a list of prefixes.
function lists.read(value)
  local feed = feeds.new()
  local ok, message, code
  if type(value) == "table" then
    ok = read_table(feed, value)
  else
    ok, message, code = task.await(feed.text, feed, value)
  end
  if not ok then return nil, message, code end
  return feed
end

--- What is wrong with a feed, a line each: `line_of(n)` names line n.
function lists.complaints(feed, line_of)
  local lines, _, broken = {}, feed:count()
  for i, found in ipairs(feed:errors()) do
    lines[i] = ("%s: %q: %s"):format(line_of(found.line), found.text, found.why)
  end
  if broken > #lines then lines[#lines + 1] = ("and %d more broken lines"):format(broken - #lines) end
  return lines
end

--- The features that adding a prefix (its family) or a feed needs.
function lists.features_of(what, count)
  local needs = math.type(what) == "integer" and (what == 4 and 1 or 2) or task.await(what.needs, what)
  return features(needs | (count and 4 or 0))
end

lists.prefix = feeds.prefix

-- Drafts: what files declare -----------------------------------------------------------------------

---@class tidegate.ListDraft
local Draft = {}
local meta = { __index = Draft }

--- What a generation declares of lists.
---@return tidegate.ListDraft
function lists.draft(gen)
  gen.lists = gen.lists or setmetatable({ core = drafts.new(), scripts = gen.files, turn = lock.new() }, meta)
  return gen.lists
end

--- Declares a prefix. All of these return nil, why, code when they can't.
function Draft:add(verdict, list, prefix, terms, who)
  local turn <close> = self.turn:take()
  local number, message, code = self.core:list(verdict, list)
  if not number then return nil, message, code end
  return self.core:add(number, prefix, terms, who)
end

function Draft:remove(verdict, list, prefix)
  local turn <close> = self.turn:take()
  local number, message, code = self.core:list(verdict, list)
  if not number then return nil, message, code end
  task.await(self.core.settle, self.core, number)
  local entry = self.core:find(verdict, list, prefix)
  if not entry or entry.prefix ~= prefix then return false end
  self.core:remove(number, prefix)
  return true
end

--- Declares a feed's prefixes; with `anew` they are all that the list has. How many are declared now.
function Draft:load(verdict, list, feed, terms, who, anew)
  local turn <close> = self.turn:take()
  local number, message, code = self.core:list(verdict, list)
  if not number then return nil, message, code end
  if anew then self.core:clear(number) end
  local ok
  ok, message, code = task.await(self.core.load, self.core, number, feed, terms, who)
  if not ok then return nil, message, code end
  return task.await(self.core.settle, self.core, number)
end

--- The lists of a verdict, settled: name → how many prefixes.
local function settled(self, verdict)
  local counts = {}
  for _, name in ipairs(self.core:names(verdict)) do
    counts[name] = task.await(self.core.settle, self.core, self.core:list(verdict, name))
  end
  return counts
end

function Draft:counts(verdict)
  local turn <close> = self.turn:take()
  return settled(self, verdict)
end

function Draft:find(verdict, list, prefix)
  local turn <close> = self.turn:take()
  settled(self, verdict)
  return self.core:find(verdict, list, prefix) or false
end

function Draft:page(verdict, list, after)
  local turn <close> = self.turn:take()
  settled(self, verdict)
  return self.core:page(verdict, list, after)
end

--- The features that what is declared needs.
function Draft:features()
  local turn <close> = self.turn:take()
  settled(self, "deny")
  settled(self, "allow")
  return features(self.core:needs())
end

-- In force -----------------------------------------------------------------------------------------

local function awaited(functions, names)
  for name in names:gmatch "%a+" do
    local start = functions[name]
    lists[name] = function(...) return task.await(start, ...) end
  end
end

awaited(core, "open release undo keep add remove replace find page")
awaited(lists_status, "status top")

lists.unload, lists.started = core.unload, core.started

--- As a draft's.
function lists.counts(verdict)
  local counts = {}
  for _, list in ipairs(assert(lists.status())) do
    if list.verdict == verdict then counts[list.name] = list.entries end
  end
  return counts
end

--- The features that what outlives a generation needs: operators' entries and what tasks replaced.
function lists.kept_features()
  return features(task.await(core.needs))
end

--- What a draft would change, list by list (core/lua_lists.c).
function lists.plan(draft)
  return task.await(core.plan, draft.core, draft.scripts)
end

--- Puts a draft in force; then `keep` or `undo`.
function lists.commit(draft)
  return task.await(core.commit, draft.core, draft.scripts)
end

return lists
