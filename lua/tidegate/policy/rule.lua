-- SPDX-License-Identifier: GPL-2.0-only
--- A rule of a policy, as a script writes it:
---
---     { "accept", proto = "udp", dport = 53, src = "10.0.0.0/8", name = "dns" }
---
--- rule.read gives a table of its own:
---
---     { action = "accept", match = …, text = "accept udp src 10.0.0.0/8 dport 53", name = "dns", enabled = true, … }

local match = require "tidegate.policy.match"
local misuse = require "tidegate.misuse"
local schema = require "tidegate.schema"

local rule = {}

rule.ACTIONS = { "accept", "drop", "reject" }

local action = schema.one_of(rule.ACTIONS)

local FIELDS = {
  action, name = schema.name, log = schema.boolean, event = schema.name, audit = schema.boolean,
  enabled = schema.boolean,
}
for name, checker in pairs(match.fields) do FIELDS[name] = checker end

local options = schema.table(FIELDS)

local RESERVED = { failsafe = true, default = true }

--- Reads a rule; `what` names it in messages.
function rule.read(what, given)
  if type(given) ~= "table" then
    misuse("%s: %s given, a rule ({ \"accept\", proto = \"tcp\", dport = 80 }) expected", what, schema.show(given))
  end
  if given[1] == nil then misuse("%s: what to do is missing (\"accept\", \"drop\" or \"reject\")", what) end
  action(what, given[1])
  local checked = options(what, given)
  if RESERVED[checked.name] then misuse("%s.name: %q is taken", what, checked.name) end
  local result = {
    action = checked[1], name = checked.name, log = checked.log or false, event = checked.event,
    audit = checked.audit or false, enabled = checked.enabled ~= false, match = {},
  }
  for name in pairs(match.fields) do result.match[name] = checked[name] end
  match.check(what, result.match)
  result.text = result.action .. " " .. match.text(result.match)
  return result
end

--- Gives the rules of a policy their keys, by which they are known over reloads: the name, or else the text and
--- which one of several with this text it is.
function rule.give_keys(rules)
  local seen = {}
  for _, one in ipairs(rules) do
    if one.name then
      one.key = "name " .. one.name
    else
      seen[one.text] = (seen[one.text] or 0) + 1
      one.key = ("text %s #%d"):format(one.text, seen[one.text])
    end
  end
  return rules
end

--- "rule 3 (dns)"
function rule.title(one)
  if one.failsafe then return "failsafe" end
  return one.name and ("rule %d (%s)"):format(one.number, one.name) or ("rule %d"):format(one.number)
end

return rule
