-- SPDX-License-Identifier: GPL-2.0-only
--- port:policy(direction, { default =, …, { "accept", proto = "tcp", dport = 22 }, … }): what becomes of the
--- packets of a port, by the first of its rules that matches; and port:rule(name), a handle of one of them.
---
--- What is read here is declared; policy/state.lua puts it in force.

local generation = require "tidegate.generation"
local lines = require "tidegate.policy.lines"
local misuse = require "tidegate.misuse"
local rule = require "tidegate.policy.rule"
local schema = require "tidegate.schema"
local state = require "tidegate.policy.state"
local failsafe = require "tidegate.policy.failsafe"

local policy = {}

local RULES <const> = 1024   -- TG_POLICY_RULES

local function stateful(what, value)
  if value ~= true and value ~= false and value ~= "conntrack" then
    misuse("%s: %s given, true (own flow table), \"conntrack\" (the kernel's) or false expected", what,
      schema.show(value))
  end
  return value or nil
end

local options = schema.table {
  default = schema.one_of(rule.ACTIONS), stateful = stateful, audit = schema.boolean, log = schema.boolean,
  nd = schema.boolean, fragments = schema.one_of { "follow", "rules", "drop" },
  existing = schema.one_of { "keep", "recheck" }, failsafe = failsafe.option,
}

local DEFAULTS = {
  default = "accept", audit = false, log = false, nd = true, fragments = "follow", existing = "keep",
}

local check_direction = schema.one_of { "ingress", "egress" }

-- Declarations -------------------------------------------------------------------------------------

--- The options alone, and how many rules there are.
local function split(what, given)
  if type(given) ~= "table" then misuse("%s: %s given, a table of rules expected", what, schema.show(given)) end
  local named, count = {}, #given
  for key, value in pairs(given) do
    if math.type(key) ~= "integer" then
      named[key] = value
    elseif key < 1 or key > count then
      misuse("%s: rule %d is missing", what, count + 1)
    end
  end
  return options(what, named), count
end

--- The lines of the rules, as "file:line"; the call's where they can't be told.
local function positions_of(given, count, position)
  local path, line = lines.caller()
  local file = path and io.open(path)
  local text, firsts, result = file and file:read "a", {}, {}
  if file then file:close() end
  for i = 1, count do firsts[i] = type(given[i]) == "table" and tostring(given[i][1]) or "" end
  local found = text and lines.of(text, line, "policy", firsts) or {}
  local name = position:match "^(.*):%d+$"
  for i = 1, count do result[i] = found[i] and ("%s:%d"):format(name, found[i]) or position end
  return result
end

local function title(i, given)
  local name = type(given) == "table" and given.name
  return type(name) == "string" and ("rule %d (%s)"):format(i, name) or ("rule %d"):format(i)
end

--- Two rules with a name of their own each.
local function check_name(seen, what, one)
  local first = one.name and seen[one.name]
  if first then misuse("%s: the name is taken already by rule %d (%s)", what, first.number, first.position) end
  if one.name then seen[one.name] = one end
end

--- Reads the rules; each mistake is noted at its rule's line. nil if there was one.
local function read_rules(gen, what, given, positions)
  local rules, seen, fine = {}, {}, true
  for i, position in ipairs(positions) do
    local ok, result = pcall(function()
      local label = ("%s: %s"):format(what, title(i, given[i]))
      if i > RULES then misuse("%s: a policy has at most %d rules", label, RULES) end
      local one = rule.read(label, given[i])
      one.number, one.position = i, position
      check_name(seen, label, one)
      return one
    end)
    if ok then
      rules[i] = result
    else
      gen:problem(("%s: %s"):format(position, tostring(result):match "^.-:%d+: (.*)$" or result))
      fine = false
    end
    if i > RULES then break end
  end
  return fine and rule.give_keys(rules) or nil
end

local function read(gen, port, direction, given, position)
  local what = ("port %q: policy %s"):format(port.name, schema.show(direction):gsub('"', ""))
  check_direction(what, direction)
  local checked, count = split(what, given)
  for name, value in pairs(DEFAULTS) do
    if checked[name] == nil then checked[name] = value end
  end
  checked.rules = read_rules(gen, what, given, positions_of(given, count, position))
  checked.port, checked.direction, checked.broken = port.name, direction, not checked.rules
  return checked
end

--- Declares the policy of a direction.
function policy.declare(port, direction, given)
  local gen, position = generation.loading(), generation.position()
  local name = ("%s %s"):format(port.name, type(direction) == "string" and direction or "?")
  generation.declare("policy", name, function() return read(gen, port, direction, given, position) end)
end

-- Handles of rules ---------------------------------------------------------------------------------

---@class tidegate.Rule
---@field port string
---@field name string
local Rule = {}
local meta = { __name = "tidegate.Rule", __metatable = "tidegate.Rule", __index = Rule }

--- The rule of that name, in either direction.
function policy.rule(port, name)
  return setmetatable({ port = port.name, name = schema.name(("port %q: rule"):format(port.name), name) }, meta)
end

local enable_options = schema.table { reason = schema.string }

--- Switches the rule on or off. At a file's top level that joins its declaration.
function Rule:enable(on, given)
  local what = ("rule %q: enable"):format(self.name)
  schema.boolean(what, on)
  local checked, gen = enable_options(what, given or {}), generation.loading()
  if not gen then return state.enable(self.port, self.name, on, checked.reason) end
  gen.rule_changes = gen.rule_changes or {}
  table.insert(gen.rule_changes, {
    port = self.port, rule = self.name, enabled = on, position = generation.position(),
  })
  return true
end

--- The rule in force: { number, direction, text, enabled, packets, bytes, last, … }, or nil, why, code.
function Rule:status()
  local found, message, code = state.find(self.port, self.name)
  if not found then return nil, message, code end
  return state.status_of(found)
end

function meta:__tostring()
  return ("rule %q of port %q"):format(self.name or "?", self.port or "?")
end

--- All rules of a port that are in force, in order, ingress first: as Rule:status, the defaults last of each.
function policy.rules(port, direction)
  if direction ~= nil then check_direction(("port %q: rules"):format(port.name), direction) end
  return state.rules(port.name, direction)
end

return policy
