-- SPDX-License-Identifier: GPL-2.0-only
--- From declared policies to those that a generation asks for:
---
---     { eth0 = { ingress = { port, direction, default, …, rules = { … }, position }, egress = … } }
---
--- Names of ports, sets and rules are resolved; what is wrong becomes the generation's problem.

local controller = require "tidegate.core.controller"
local kept = require "tidegate.policy.kept"
local match = require "tidegate.policy.match"
local rule = require "tidegate.policy.rule"

local resolve = {}

local BITS = controller.features()

resolve.DIRECTIONS = { "ingress", "egress" }

local function copy(from)
  local to = {}
  for key, value in pairs(from) do to[key] = value end
  return to
end

--- What a rule is known by: "eth0 ingress name dns".
function resolve.id(policy, one)
  return ("%s %s %s"):format(policy.port, policy.direction, one.key)
end

--- Calls fn(policy) for each, in order.
function resolve.each(policies, fn)
  local ports = {}
  for port in pairs(policies) do ports[#ports + 1] = port end
  table.sort(ports)
  for _, port in ipairs(ports) do
    for _, direction in ipairs(resolve.DIRECTIONS) do
      if policies[port][direction] then fn(policies[port][direction]) end
    end
  end
end

--- A copy whose rules may be changed.
function resolve.copy(policy)
  local result = copy(policy)
  result.rules = {}
  for i, one in ipairs(policy.rules) do result.rules[i] = copy(one) end
  return result
end

-- Problems -----------------------------------------------------------------------------------------

local function check_port(gen, policy)
  local port = (gen.declared.port or {})[policy.port]
  if not port then
    gen:problem(("%s: policy %s: there is no port %q (tg.port declares one)"):format(policy.position, policy.name,
      policy.port))
  elseif port.tc == false and not port.broken then
    gen:problem(("%s: policy %s: port %q has tc = false (%s), and policies need TC"):format(policy.position,
      policy.name, policy.port, port.position))
  end
end

local function check_sets(gen, policy, known)
  for _, one in ipairs(policy.rules) do
    for _, name in ipairs(match.sets(one.match)) do
      if not known(name) then
        gen:problem(("%s: policy %s: %s: there is no set %q (tg.set declares one)"):format(one.position, policy.name,
          rule.title(one), name))
      end
    end
  end
end

--- A name is that of one rule of a port.
local function check_names(gen, policies)
  for _, of_port in pairs(policies) do
    local seen = {}
    for _, direction in ipairs(resolve.DIRECTIONS) do
      for _, one in ipairs(of_port[direction] and of_port[direction].rules or {}) do
        local first = one.name and seen[one.name]
        if first then
          gen:problem(("%s: policy %s: the name of %s is taken already (%s)"):format(one.position,
            of_port[direction].name, rule.title(one), first.position))
        elseif one.name then
          seen[one.name] = one
        end
      end
    end
  end
end

-- Rules that are switched --------------------------------------------------------------------------

--- The policy and the rule of that name; or nil, why, code.
function resolve.find(policies, port, name)
  if not policies[port] then return nil, ("port %q has no policy"):format(port), "ENOENT" end
  for _, direction in ipairs(resolve.DIRECTIONS) do
    for _, one in ipairs(policies[port][direction] and policies[port][direction].rules or {}) do
      if one.name == name then return policies[port][direction], one end
    end
  end
  return nil, ("port %q has no rule %q"):format(port, name), "ENOENT"
end

--- A mistake in a policy is one problem: then nobody is told that its rules are missing.
local function is_broken(gen, port)
  for _, direction in ipairs(resolve.DIRECTIONS) do
    local declaration = (gen.declared.policy or {})[port .. " " .. direction]
    if declaration and declaration.broken then return true end
  end
  return false
end

local function join_changes(gen, policies)
  for _, change in ipairs(gen.rule_changes or {}) do
    local policy, one = resolve.find(policies, change.port, change.rule)
    if policy then
      one.enabled = change.enabled
    elseif not is_broken(gen, change.port) then
      gen:problem(("%s: %s"):format(change.position, one))
    end
  end
end

--- What an operator said of a rule, unless the file says otherwise since; `switched`: tasks' changes.
function resolve.switch(policy, switched)
  for _, one in ipairs(policy.rules) do
    local id = resolve.id(policy, one)
    local operator, task = kept.rules[id], switched and switched[id]
    one.declared = one.enabled
    one.by = operator and operator.file == one.declared and operator or task
    if one.by then one.enabled = one.by.enabled end
  end
end

-- The whole ----------------------------------------------------------------------------------------

--- The policies that a generation asks for; `known(name)`: is there such a set?
function resolve.policies(gen, known)
  local policies = {}
  for _, declaration in pairs(gen.declared.policy or {}) do
    if not declaration.broken then
      local policy = resolve.copy(declaration)
      policies[policy.port] = policies[policy.port] or {}
      policies[policy.port][policy.direction] = policy
      policy.instance_failsafe = ((gen.declared.instance or {}).instance or {}).failsafe
    end
  end
  join_changes(gen, policies)
  check_names(gen, policies)
  resolve.each(policies, function(policy)
    check_port(gen, policy)
    check_sets(gen, policy, known)
    resolve.switch(policy)
  end)
  return policies
end

--- The features that they need of the programs.
function resolve.features(policies)
  local features = 0
  resolve.each(policies, function(policy)
    features = features | BITS.policy | (policy.stateful == true and BITS.flow or 0)
      | (policy.stateful == "conntrack" and BITS.conntrack or 0)
  end)
  return features
end

return resolve
