-- SPDX-License-Identifier: GPL-2.0-only
--- The policies in force, and the ways to change them one at a time: a generation's (prepare, take), a rule that is
--- switched, a set that changes. Compiling and loading happen off the loop, while the caller waits.

local actor = require "tidegate.actor"
local asking = require "tidegate.policy.asking"
local compile = require "tidegate.policy.compile"
local controller = require "tidegate.core.controller"
local core = require "tidegate.core.policy"
local kept = require "tidegate.policy.kept"
local log = require "tidegate.log"
local match = require "tidegate.policy.match"
local programs = require "tidegate.programs"
local resolve = require "tidegate.policy.resolve"
local sets = require "tidegate.policy.sets"
local task = require "tidegate.task"

local state = {}

--- What is in force, and the like of what a generation asks for.
state.in_force = {
  policies = {},     -- port → direction → policy (resolve.lua)
  compiled = {},     -- the same → compile.lua's
  sets = {},         -- name → set (sets.lua)
}

local in_force = state.in_force
local switched = {}  -- rule id → { enabled, who }: tasks', until their generation ends

local GATHER <const> = 0.02     -- seconds in which changes of sets come together
local NONE <const> = {}

local function of(policies, policy)
  return (policies[policy.port] or NONE)[policy.direction]
end

local watchers = {}

--- Calls `fn()` whenever other policies are in force.
function state.on_change(fn)
  watchers[#watchers + 1] = fn
end

local function tell_change()
  for _, fn in ipairs(watchers) do fn() end
end

-- Compiling ----------------------------------------------------------------------------------------

local function no_counter() return nil end

--- A function that gives the counters of a policy's rules; `refused` is told when there is none.
local function counters_of(policy, refused)
  return function(key)
    local counter, message, code = core.counter(policy.port, policy.direction, key)
    if not counter then refused(("%s: policy %s: %s"):format(policy.position, policy.name, message), code) end
    return counter
  end
end

--- A function that gives the prefixes of sets, of those in force unless others are given.
function state.members(all_sets)
  local known, now = {}, sets.now()
  return function(name)
    known[name] = known[name] or sets.prefixes(all_sets or in_force.sets, name, now)
    return known[name]
  end
end

--- Is there such a set? In a generation that loads, or in force. One that is an operator's alone counts.
function state.knows_set(name, gen)
  local set = in_force.sets[name]
  if not gen then return set ~= nil or kept.sets[name] ~= nil end
  return (gen.sets or NONE)[name] ~= nil or kept.sets[name] ~= nil and not (set or NONE).declared
end

--- Compiles policies: port → direction → compiled, or nil, why, code; waits. With `counted` for the instance that is
--- open, else to see what is to say about them.
function state.compile(policies, all_sets, counted)
  local result, members, message, code = {}, state.members(all_sets), nil, nil
  local function refused(why, errno) message, code = message or why, code or errno end
  resolve.each(policies, function(policy)
    if message then return end
    local counter = counted and counters_of(policy, refused) or no_counter
    local compiled, why, errno = compile.policy(policy, members, counter, of(in_force.compiled, policy))
    if not compiled then return refused(why, errno) end
    result[policy.port] = result[policy.port] or {}
    result[policy.port][policy.direction] = compiled
  end)
  if message then return nil, message, code end
  return result
end

--- What core.policy.commit takes: place → handle; or nil, why, code.
local function directory(compiled)
  local handles = {}
  for port, directions in pairs(compiled) do
    local slot, message, code = controller.port_slot(port)
    if not slot then return nil, message, code end
    for direction, one in pairs(directions) do handles[core.port_place(slot, direction)] = one.handle end
  end
  return handles
end

--- Puts compiled policies in force with these features, and what taps match with these sets; true, or nil, why, code.
local function load_programs(features, compiled, all_sets)
  local handles, message, code = directory(compiled)
  if not handles then return nil, message, code end
  local taps
  taps, message, code = asking.refresh(programs.asked_taps or programs.taps, state.members(all_sets))
  if not taps then return nil, message, code end
  return programs.commit(features, handles, taps)
end

--- The warnings about policies, in order: { { position, text }, … }.
function state.warnings(compiled)
  local list = {}
  resolve.each(compiled, function(one) table.move(one.warnings, 1, #one.warnings, #list + 1, list) end)
  return list
end

-- Generations --------------------------------------------------------------------------------------

--- What a loaded generation asks for: as in_force, not compiled yet, with the features that it needs of the programs.
function state.resolve(gen)
  local all = sets.after(gen, in_force.sets, sets.now())
  local policies = resolve.policies(gen, function(name) return state.knows_set(name, gen) end)
  return { policies = policies, sets = all, features = resolve.features(policies) }
end

--- Puts the policies of a generation in force with these features, or nothing. What was is returned, for `undo`; or
--- nil, why, code. The caller holds programs.lock.
function state.commit(wanted, features)
  local compiled, message, code = state.compile(wanted.policies, wanted.sets, true)
  if not compiled then return nil, message, code end
  local before = programs.known and
    { features = programs.features, ports = programs.ports, taps = programs.taps } or {}
  local ok
  ok, message, code = load_programs(features, compiled, wanted.sets)
  if not ok then return nil, message, code end
  wanted.compiled = compiled
  return before
end

--- Puts back what was before a commit; of a daemon's first one that is not known, and what it asked for stays.
function state.undo(before)
  if not before.features then return end
  local ok, message = programs.commit(before.features, before.ports, before.taps)
  if not ok then log.error("the policies can't be what they were: %s", message) end
end

local function drop_switches(policies)
  local declared = {}
  resolve.each(policies, function(policy)
    for _, one in ipairs(policy.rules) do declared[resolve.id(policy, one)] = one end
  end)
  for id, entry in pairs(kept.rules) do
    local one = declared[id]
    local state_of = entry.enabled and "enabled" or "disabled"
    if not one then
      log.warn("rule %s is gone, and with it that an operator %s it", id, state_of)
    elseif one.declared ~= entry.file and one.declared ~= entry.enabled then
      log.warn("rule %s: the file says otherwise now, so it is no longer %s by an operator", id, state_of)
    end
    if not one or one.declared ~= entry.file then kept.rules[id] = nil end
  end
end

--- What operators said of sets that files had, and have no longer.
local function drop_entries(before, now)
  for name in pairs(kept.sets) do
    if (before[name] or NONE).declared and not now[name] then
      log.warn("set %s is gone, and with it what operators added and removed", name)
      kept.sets[name] = nil
    end
  end
end

local arm_expiry

--- After a commit that nothing undoes any more: what the generation asks for is what is in force.
function state.keep(wanted)
  for _, warning in ipairs(state.warnings(wanted.compiled)) do
    log.warn("%s: %s", warning.position, warning.text)
  end
  drop_entries(in_force.sets, wanted.sets)
  in_force.policies, in_force.compiled, in_force.sets = wanted.policies, wanted.compiled, wanted.sets
  switched = {}
  drop_switches(in_force.policies)
  sets.absorb(in_force.sets, sets.now())
  kept.save()
  arm_expiry()
  tell_change()
end

-- Changes ------------------------------------------------------------------------------------------

--- Compiles anew what a change touches and puts it in force; true, or nil, why, code. `policies`: those that change.
local function change_policies(policies, all_sets)
  local changed, message, code = state.compile(policies, all_sets, true)
  if not changed then return nil, message, code end
  local compiled, resolved = {}, {}
  local function lay(onto, from)
    for port, directions in pairs(from) do
      onto[port] = onto[port] or {}
      for direction, one in pairs(directions) do onto[port][direction] = one end
    end
  end
  lay(compiled, in_force.compiled)
  lay(compiled, changed)
  local ok
  ok, message, code = load_programs(programs.features, compiled, all_sets)
  if not ok then return nil, message, code end
  lay(resolved, in_force.policies)
  lay(resolved, policies)
  in_force.compiled, in_force.policies = compiled, resolved
  tell_change()
  return true
end

--- Who switches a rule is remembered; the entry that was there before.
local function remember_switch(id, one, on, reason)
  local who = actor()
  local entries = who.owner == "operator" and kept.rules or switched
  local before = entries[id]
  if who.owner == "task" and kept.rules[id] then
    return nil, ("rule %q: an operator %s it"):format(one.name, kept.rules[id].enabled and "enabled" or "disabled"),
      "EPERM"
  end
  entries[id] = { enabled = on, file = one.declared, who = who.who, since = sets.now(), reason = reason }
  if who.owner == "operator" and on == one.declared then entries[id] = nil end
  return function() entries[id] = before end
end

--- Switches a rule that is in force. true, or nil, why, code.
function state.enable(port, name, on, reason)
  local turn <close> = programs.lock:take()
  local policy, one, code = resolve.find(in_force.policies, port, name)
  if not policy then return nil, one, code end
  local forget, message
  forget, message, code = remember_switch(resolve.id(policy, one), one, on, reason)
  if not forget then return nil, message, code end
  local fresh = resolve.copy(policy)
  for _, each in ipairs(fresh.rules) do each.enabled = each.declared end
  resolve.switch(fresh, switched)
  local ok
  ok, message, code = change_policies({ [port] = { [policy.direction] = fresh } }, in_force.sets)
  if not ok then
    forget()
    return nil, message, code
  end
  kept.save()
  return true
end

-- Sets ---------------------------------------------------------------------------------------------

local gathered      -- changes of sets that wait to be put in force together

--- The policies with a rule that asks one of these sets, as copies.
local function users_of(names)
  local users = {}
  resolve.each(in_force.policies, function(policy)
    local uses = false
    for _, one in ipairs(policy.rules) do
      for _, name in ipairs(match.sets(one.match)) do uses = uses or names[name] or false end
    end
    if not uses then return end
    users[policy.port] = users[policy.port] or {}
    users[policy.port][policy.direction] = resolve.copy(policy)
  end)
  return users
end

local function copy_of(map)
  local result = {}
  for key, value in pairs(map or NONE) do result[key] = value end
  return result
end

--- Makes the changes on copies of the sets that they name. The sets, the operators' entries, names → true.
local function make_changes(changes, now)
  local all, operators, names = copy_of(in_force.sets), copy_of(kept.sets), {}
  for _, change in ipairs(changes) do
    local name = change.name
    if name then
      if not names[name] then all[name], operators[name] = sets.copy(all[name]), copy_of(operators[name]) end
      local draft, own = sets.copy(all[name]), copy_of(operators[name])
      change.results = table.pack(change.make(draft, own, now))
      if change.results[1] ~= nil then all[name], operators[name], names[name] = draft, own, true end
    else
      for one in pairs(change.expired) do names[one] = true end
    end
  end
  return all, operators, names
end

local gather

--- What has ended ends as soon as it can be helped.
local function try_again(changes)
  for _, change in ipairs(changes) do
    if change.expired then
      task.start({ name = "ends of set entries", owner = task.root() }, function()
        task.sleep(1)
        gather { expired = change.expired, ended = function() end }
      end)
    end
  end
end

--- Puts gathered changes in force, all or none.
local function apply(changes)
  local turn <close> = programs.lock:take()
  local before = kept.sets
  local all, operators, names = make_changes(changes, sets.now())
  kept.sets = operators
  local ok, message, code = change_policies(users_of(names), all)
  if ok then
    in_force.sets = all
    sets.absorb(all, sets.now())
    kept.save()
    arm_expiry()
    return
  end
  kept.sets = before
  for _, change in ipairs(changes) do
    if change.results and change.results[1] ~= nil then change.results = table.pack(nil, message, code) end
  end
  log.error("sets can't be changed: %s", message)
  try_again(changes)
end

--- A change and those that come within a moment are put in force together; waits until they are.
function gather(change)
  if gathered then
    table.insert(gathered, change)
  else
    gathered = { change }
    task.start({ name = "sets", owner = task.root() }, function()
      task.sleep(GATHER)
      local changes = gathered
      gathered = nil
      local ok, message = pcall(apply, changes)
      for _, one in ipairs(changes) do one.ended(ok, message) end
    end)
  end
  local ok, message = task.await(function(done) change.ended = done end)
  if not ok then error(message, 0) end
end

--- Changes a set in force: `make(draft, operators, now)` changes a copy, and returns the call's results; or nil, why,
--- code, and nothing changes. They are returned when the policies that use the set are in force.
function state.change_set(name, make)
  local change = { name = name, make = make, ended = function() end }
  gather(change)
  return table.unpack(change.results, 1, change.results.n)
end

local expiry

--- Looks again when the next entry of a set ends.
function arm_expiry()
  local now, first, expiring = sets.now(), nil, nil
  for _, name in ipairs(sets.names(in_force.sets)) do
    local _, _, ends = sets.entries(in_force.sets[name] or sets.copy(), kept.sets[name], now)
    if ends and (not first or ends < first) then first = ends end
    if ends then
      expiring = expiring or {}
      expiring[name] = true
    end
  end
  if expiry then expiry:cancel() end
  expiry = first and task.start({ name = "ends of set entries", owner = task.root() }, function()
    task.sleep(math.max(0, first - sets.now()) + 0.001)
    expiry = nil
    gather { expired = expiring, ended = function() end }
  end)
end

-- Questions ----------------------------------------------------------------------------------------

--- The compiled policy and the rule of that name; or nil, why, code.
function state.find(port, name)
  local policy, one, code = resolve.find(in_force.policies, port, name)
  if not policy then return nil, one, code end
  return { compiled = of(in_force.compiled, policy), rule = one }
end

local function described(compiled, one, counter)
  return {
    port = compiled.policy.port, direction = compiled.policy.direction, number = one.number, name = one.name,
    text = one.text, action = one.action, enabled = one.enabled, audit = one.audit or compiled.policy.audit,
    log = one.log, event = one.event, position = one.position,
    packets = counter.packets, bytes = counter.bytes, last = counter.last,
    by = one.by and one.by.who, reason = one.by and one.by.reason,
    failsafe = one.failsafe, default = one.default,
  }
end

local ZERO <const> = { packets = 0, bytes = 0 }

--- The status of rules: a list of { compiled =, rule = }.
local function describe(list)
  local ids, result = {}, {}
  for i, found in ipairs(list) do ids[i] = found.rule.counter or 0 end
  local counters = core.counters(ids)
  for i, found in ipairs(list) do result[i] = described(found.compiled, found.rule, counters[i] or ZERO) end
  return result
end

function state.status_of(found)
  return describe({ found })[1]
end

local function rules_of(compiled)
  local list = {}
  for _, one in ipairs(compiled.all) do list[#list + 1] = { compiled = compiled, rule = one } end
  list[#list + 1] = { compiled = compiled, rule = compiled.default }
  return list
end

--- The rules of a port in force, the failsafe's and the defaults among them.
function state.rules(port, direction)
  local list = {}
  for _, name in ipairs(resolve.DIRECTIONS) do
    local compiled = (in_force.compiled[port] or NONE)[name]
    if compiled and (not direction or direction == name) then
      table.move(rules_of(compiled), 1, #compiled.all + 1, #list + 1, list)
    end
  end
  return describe(list)
end

local indexed, by_counter

--- The rule in force that has a counter, as the datapath names rules: { compiled =, rule = }; or nil.
function state.rule_of(counter)
  if indexed ~= in_force.compiled then
    indexed, by_counter = in_force.compiled, {}
    resolve.each(indexed, function(compiled)
      for _, each in ipairs(rules_of(compiled)) do
        if each.rule.counter then by_counter[each.rule.counter] = each end
      end
    end)
  end
  return by_counter[counter]
end

--- Of all policies: port → direction → { default, stateful, …, rules }.
function state.status()
  local result = {}
  resolve.each(in_force.compiled, function(compiled)
    local policy = compiled.policy
    result[policy.port] = result[policy.port] or {}
    result[policy.port][policy.direction] = {
      default = policy.default, stateful = policy.stateful or false, audit = policy.audit, log = policy.log,
      nd = policy.nd, fragments = policy.fragments, existing = policy.existing, position = policy.position,
      rules = describe(rules_of(compiled)),
    }
  end)
  return result
end

return state
