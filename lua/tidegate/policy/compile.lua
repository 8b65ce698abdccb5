-- SPDX-License-Identifier: GPL-2.0-only
--- From a policy to its compiled form (core/lua_policy.c), with what there is to say about it:
---
---     { policy, spec, handle, rules = { [number in the classifier] = rule }, all = { rules in order, the failsafe's
---       first }, default, warnings = { { position, text }, … } }
---
--- A rule is one there, or two (match.core), which share its counter. One that is switched off, or asks an empty set,
--- is a rule that matches nothing: so it keeps its counter.

local conntrack = require "tidegate.policy.conntrack"
local core = require "tidegate.core.policy"
local failsafe = require "tidegate.policy.failsafe"
local match = require "tidegate.policy.match"
local rule = require "tidegate.policy.rule"
local task = require "tidegate.task"

local compile = {}

local PREFIXES <const> = 262144      -- of all rules of a policy, a set's counted for each that asks it

-- What is compiled ---------------------------------------------------------------------------------

local function failsafe_rule(text_of, given)
  local text = "accept " .. match.text(given)
  return {
    action = "accept", name = "failsafe", failsafe = true, enabled = true, match = given, text = text,
    key = "failsafe " .. text, position = text_of, audit = false, log = false,
  }
end

--- What `failsafe = { … }` of the policy and of the instance names.
local function declared_failsafe(policy)
  local list = {}
  if policy.failsafe == false or policy.instance_failsafe == false then return list end
  for _, entries in ipairs { policy.instance_failsafe or {}, policy.failsafe or {} } do
    for _, entry in ipairs(entries) do
      list[#list + 1] = failsafe_rule(policy.position, failsafe.match_entry(policy.direction, entry))
    end
  end
  return list
end

--- What no packet can be.
local function nothing()
  return { src = { "0.0.0.0" }, dst = { "::" } }
end

local function add_core_rules(result, one, members, audit)
  local list = one.enabled and match.core(one.match, members) or {}
  one.idle = #list == 0
  if one.idle then list[1] = nothing() end
  for _, core_rule in ipairs(list) do
    core_rule.action, core_rule.log, core_rule.event = one.action, one.log, one.event ~= nil
    core_rule.audit, core_rule.counter = one.audit or audit, one.counter
    result.spec.rules[#result.spec.rules + 1] = core_rule
    result.rules[#result.spec.rules] = one
  end
end

--- The spec of core.policy.compile for these rules.
local function specify(policy, all, members, counter)
  local result = { policy = policy, all = all, rules = {}, warnings = {} }
  result.default = {
    action = policy.default, key = "default", name = "default", default = true, counter = counter("default"),
    text = policy.default, position = policy.position, enabled = true, log = policy.log, audit = policy.audit,
  }
  result.spec = {
    rules = {}, stateful = policy.stateful, judge_nd = not policy.nd, recheck = policy.existing == "recheck",
    fragments = policy.fragments,
    default = {
      action = policy.default, log = policy.log, audit = policy.audit, counter = result.default.counter,
    },
  }
  for _, one in ipairs(all) do
    one.counter = counter(one.key)
    add_core_rules(result, one, members, policy.audit)
  end
  return result
end

local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  for key, value in pairs(a) do
    if not same(value, b[key]) then return false end
  end
  for key in pairs(b) do
    if a[key] == nil then return false end
  end
  return true
end

--- Why the rules' prefixes are too many to begin with; nil: they are not.
local function too_many(result)
  local count = 0
  for _, one in ipairs(result.spec.rules) do count = count + #(one.src or {}) + #(one.dst or {}) end
  if count <= PREFIXES then return nil end
  return ("%s: policy %s: its rules ask %d prefixes, those of sets counted for each rule; at most %d allowed"):format(
    result.policy.position, result.policy.name, count, PREFIXES)
end

--- Compiles, or takes the handle of what was compiled of the same. true, or nil, why, code.
local function finish(result, before)
  local excess = too_many(result)
  if excess then return nil, excess, "E2BIG" end
  if before and same(result.spec, before.spec) then
    result.handle, result.findings = before.handle, before.findings
    return true
  end
  local handle, findings, code = task.await(core.compile, result.spec)
  if not handle then
    return nil, ("%s: policy %s: %s"):format(result.policy.position, result.policy.name, findings), code
  end
  result.handle, result.findings = handle, findings
  return true
end

-- What is said about it ----------------------------------------------------------------------------

local function warn(result, position, format, ...)
  local text = ("policy %s: %s"):format(result.policy.name, format:format(...))
  table.insert(result.warnings, { position = position, text = text })
end

local FAULTS = {
  duplicate = "%s can't decide anything: %s (%s) matches the same packets",
  shadowed = "%s can't decide anything: %s (%s) matches all of its packets",
}

--- Which of the rules in the classifier are not worth a word: halves of one whose other half is fine.
local function faults_of(result)
  local count, faults = {}, {}
  for _, one in pairs(result.rules) do count[one] = (count[one] or 0) + 1 end
  for _, finding in ipairs(result.findings) do
    local one = result.rules[finding.rule]
    faults[one] = faults[one] or { finding = finding, count = 0 }
    faults[one].count = faults[one].count + 1
  end
  for one, found in pairs(faults) do
    if found.count < count[one] then faults[one] = nil end
  end
  return faults
end

local function say_findings(result)
  local faults = faults_of(result)
  for _, one in ipairs(result.all) do
    local finding = faults[one] and faults[one].finding
    local by = finding and finding.by and result.rules[finding.by]
    if not finding or one.idle or one.failsafe or by and by.failsafe then
      goto next       -- the failsafe's rules take nothing away that was not to pass
    elseif FAULTS[finding.fault] then
      warn(result, one.position, FAULTS[finding.fault], rule.title(one), rule.title(by), by.position)
    else
      warn(result, one.position, "%s matches no packet: what it asks for can't be together", rule.title(one))
    end
    ::next::
  end
end

local function say_conntrack(result)
  local missing = result.policy.stateful == "conntrack" and conntrack.missing()
  if not missing then return end
  warn(result, result.policy.position, 'stateful = "conntrack": nothing in this network namespace makes the kernel '
    .. 'track connections of %s, so none will be known; an nft rule with "ct state" does', missing)
end

--- Would the policy drop the session's packets?
local function cuts_off(result, session)
  local number = result.handle:match(failsafe.packet(result.policy.direction, session))
  local decides = number and result.rules[number] or result.default
  return decides.action ~= "accept" and not (decides.audit or result.policy.audit)
end

--- The session that this policy would cut off, or nil; and what is said about it.
local function endangered(result)
  local policy, session = result.policy, failsafe.session()
  if not session or not failsafe.carries(policy.port, session) or not cuts_off(result, session) then return nil end
  local text = failsafe.text(session)
  if policy.failsafe == false or policy.instance_failsafe == false then
    warn(result, policy.position, "it cuts off %s, the SSH session that the daemon was started from: failsafe = false",
      text)
    return nil
  end
  warn(result, policy.position,
    "it would cut off %s, the SSH session that the daemon was started from; kept by the failsafe", text)
  if not policy.nd and policy.default ~= "accept" then
    warn(result, policy.position, "nd = false: ARP is dropped, which the failsafe can't help")
  end
  return session
end

-- The whole ----------------------------------------------------------------------------------------

local function joined(first, second)
  return table.move(second, 1, #second, #first + 1, table.move(first, 1, #first, 1, {}))
end

--- Compiles a policy; waits. `members(name)`: a set's prefixes; `counter(key)`: a rule's counter; `before`: what was
--- compiled of the policy that this one follows, whose tables are taken if nothing changed. Or nil, why, code.
function compile.policy(policy, members, counter, before)
  local result = specify(policy, joined(declared_failsafe(policy), policy.rules), members, counter)
  local ok, message, code = finish(result, before and (before.plain or before))
  if not ok then return nil, message, code end
  local session = endangered(result)
  if session then
    local plain = result
    local first = failsafe_rule(policy.position, failsafe.match_session(policy.direction, session))
    result = specify(policy, joined({ first }, plain.all), members, counter)
    result.plain, result.warnings = plain, plain.warnings
    ok, message, code = finish(result, before)
    if not ok then return nil, message, code end
  end
  say_conntrack(result)
  say_findings(result)
  return result
end

return compile
