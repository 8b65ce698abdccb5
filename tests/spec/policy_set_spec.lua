-- SPDX-License-Identifier: GPL-2.0-only
--- Sets of addresses, and policies in force that use them, without a datapath: the programs' exchange is recorded.
local asking = require "tidegate.policy.asking"
local controller = require "tidegate.core.controller"
local core = require "tidegate.core.policy"
local generation = require "tidegate.generation"
local kept = require "tidegate.policy.kept"
local plan = require "tidegate.plan"
local programs = require "tidegate.programs"
local scripts = require "tests.helpers.scripts"
local sets = require "tidegate.policy.sets"
local state = require "tidegate.policy.state"
local taps = require "tidegate.taps"
local task = require "tidegate.task"

local exchanges, refuse, real

--- Everything but the kernel: counters by their keys, the last directory.
local function without_kernel()
  real = {
    commit = core.commit, counter = core.counter, counters = core.counters, port_slot = controller.port_slot,
  }
  local ids, count = {}, 0
  function core.commit(handles, _, done)
    exchanges[#exchanges + 1] = handles
    if refuse then done(nil, refuse, "EBUSY") else done(true) end
  end
  function core.counter(port, direction, key)
    local full = ("%s %s %s"):format(port, direction, key)
    if not ids[full] then ids[full], count = count, count + 1 end
    return ids[full]
  end
  function core.counters(list)
    local result = {}
    for i, id in ipairs(list) do result[i] = { packets = id * 10, bytes = id * 100 } end
    return result
  end
  function controller.port_slot() return 3 end
end

local PORT = 'local wan = tg.port "eth0"\n'
local gen

--- Puts a text in force, as the daemon does it. The generation that runs.
local function commit(text)
  local fresh, wanted = scripts.resolve(PORT .. text)
  assert.same({}, scripts.problems(fresh))
  assert(state.commit(wanted.policy, wanted.features))
  state.keep(wanted.policy)
  fresh:start()
  if gen then gen:stop() end
  gen = fresh
  return gen
end

--- Runs a function as a task of the generation, as a script's; what it returns.
local function as_task(fn)
  local owner = task.owner("script", { parent = gen.owner, script = gen.files[1] })
  return select(2, task.start({ name = "test", owner = owner, quiet = true }, fn):join())
end

local function members(name)
  return sets.prefixes(state.in_force.sets, name, sets.now())
end

--- The rule in force that decides about a packet from there.
local function rule_for(src)
  local compiled = state.in_force.compiled.eth0.ingress
  local number = compiled.handle:match { src = src, dst = "198.51.100.1", proto = 6, sport = 5, dport = 22 }
  return number and compiled.rules[number].name or "default"
end

local POLICY = [[
  wan:policy("ingress", { default = "drop",
    { "drop", proto = "udp", name = "udp" },
    { "accept", proto = "tcp", dport = 22, src = "@staff", name = "ssh" } })
]]

describe("policies in force", function()
  setup(without_kernel)
  teardown(function()
    for name, fn in pairs(real) do (name == "port_slot" and controller or core)[name] = fn end
  end)
  before_each(function()
    exchanges, refuse, gen = {}, nil, nil
    kept.rules, kept.sets = {}, {}
    commit ""
  end)

  it("stand in the directory at their port's place", function()
    commit('tg.set("staff"):add "192.0.2.7"\n' .. POLICY)
    local last = exchanges[#exchanges]
    assert.equal(state.in_force.compiled.eth0.ingress.handle, last[6])
    assert.equal("ssh", rule_for "192.0.2.7")
    assert.equal("default", rule_for "192.0.2.8")
  end)

  it("are not exchanged when a reload changes nothing", function()
    local text = 'tg.set("staff"):add "192.0.2.7"\n' .. POLICY
    commit(text)
    local count = #exchanges
    commit("\n" .. text)
    assert.equal(count, #exchanges)
  end)

  it("follow a task's changes of a set, until its generation ends", function()
    local text = 'tg.set("staff"):add { "192.0.2.7", "10.0.0.0/8" }\n' .. POLICY
    commit(text)
    assert.is_true(as_task(function() return tg.set("staff"):add "192.0.2.8" end))
    assert.equal("ssh", rule_for "192.0.2.8")
    assert.is_true(as_task(function() return tg.set("staff"):remove "192.0.2.7" end))
    assert.equal("default", rule_for "192.0.2.7")
    assert.same({ "10.0.0.0/8", "192.0.2.8" }, members "staff")
    commit(text)
    assert.same({ "10.0.0.0/8", "192.0.2.7" }, members "staff")
    assert.equal("ssh", rule_for "192.0.2.7")
  end)

  it("keep an operator's changes of a set over reloads, until the files say the same", function()
    commit('tg.set("staff"):add "192.0.2.7"\n' .. POLICY)
    assert.is_true(tg.set("staff"):add("192.0.2.9", { reason = "visit" }))
    assert.is_true(tg.set("staff"):remove "192.0.2.7")
    commit('tg.set("staff"):add "192.0.2.7"\n' .. POLICY)
    assert.same({ "192.0.2.9" }, members "staff")
    assert.same({ n = 3, nil, 'set "staff": an operator decided about 192.0.2.7', "EPERM" },
      table.pack(as_task(function() return tg.set("staff"):add "192.0.2.7" end)))
    commit('tg.set("staff"):add { "192.0.2.7", "192.0.2.9" }\n' .. POLICY)
    assert.is_nil((kept.sets.staff or {})["192.0.2.9"])
  end)

  it("drop what an operator said of a set that is gone, not of one that is his own", function()
    commit 'tg.set("staff"):add "192.0.2.7"'
    assert.is_true(tg.set("staff"):add "192.0.2.9")
    assert.is_true(tg.set("guests"):add "192.0.2.10")
    local fresh = scripts.resolve(PORT .. 'wan:policy("ingress", { { "accept", src = "@staff" } })')
    assert.same({ 'web.lua:2: policy eth0 ingress: rule 1: there is no set "staff" (tg.set declares one)' },
      scripts.problems(fresh))
    local _, wanted = scripts.resolve(PORT .. 'tg.set "guests"')
    local made = plan.new({ services = {}, ports = wanted.ports, policy = state.in_force }, wanted)
    assert.equal("+ set guests: 1 prefixes\n- set staff: 2 prefixes\n", made:text())
    commit 'wan:policy("ingress", { { "accept", src = "@guests", name = "guests" } })'
    assert.is_nil(kept.sets.staff)
    assert.equal("guests", rule_for "192.0.2.10")
  end)

  it("forget an entry when its time is over", function()
    commit('tg.set("staff"):add("192.0.2.7", { ttl = 0.3 })\n' .. POLICY)
    assert.equal("ssh", rule_for "192.0.2.7")
    commit('tg.set("staff"):add("192.0.2.7", { ttl = 0.3 })\n\n' .. POLICY)     -- does not begin anew
    local _, entry = tg.set("staff"):contains "192.0.2.7"
    assert.is_true(entry.ttl < 0.3)
    for _ = 1, 100 do
      if rule_for "192.0.2.7" == "default" then break end
      task.sleep(0.05)
    end
    assert.equal("default", rule_for "192.0.2.7")
    assert.is_false((tg.set("staff"):contains "192.0.2.7"))
    commit('tg.set("staff"):add("192.0.2.7", { ttl = 0.3 })\n' .. POLICY)
    assert.equal("default", rule_for "192.0.2.7")
  end)

  it("take several changes of sets in one exchange", function()
    commit('tg.set "staff"\n' .. POLICY)
    local before, jobs = #exchanges, {}
    for i = 1, 20 do
      jobs[i] = task.start({ quiet = true }, function() return tg.set("staff"):add("192.0.2." .. i) end)
    end
    for _, job in ipairs(jobs) do assert.same({ true, true }, { job:join() }) end
    assert.equal(20, tg.set("staff"):count())
    assert.is_true(#exchanges - before <= 2)
  end)

  it("have what taps match follow the sets beside them", function()
    commit 'tg.set("staff"):add "192.0.2.7"'
    local handle = assert(taps.compile(taps.matches("match", { { proto = "udp" }, { proto = "tcp", src = "@staff" } })))
    assert(programs.commit(programs.features, nil, { [515] = handle }))
    local function matches(src)
      local packet = { src = src, dst = "198.51.100.1", proto = 6, sport = 5, dport = 22 }
      return exchanges[#exchanges][515]:match(packet) ~= nil
    end
    assert.is_true(matches "192.0.2.7")
    assert.is_true(tg.set("staff"):add "192.0.2.8")
    assert.is_true(matches "192.0.2.8")
    commit 'tg.set("staff"):add "192.0.2.9"'
    assert.is_true(matches "192.0.2.9" and not matches "192.0.2.7")
    local count = #exchanges
    assert.equal(exchanges[count][515], (assert(asking.refresh({ handle }, state.members())))[1])  -- not the first one
    programs.taps = {}
  end)

  it("are untouched by sets that no rule asks", function()
    commit('tg.set "staff"; tg.set "other"\n' .. POLICY)
    local before = #exchanges
    assert.is_true(tg.set("other"):add "192.0.2.1")
    assert.equal(before, #exchanges)
    assert.same({ "192.0.2.1" }, members "other")
  end)

  it("stay as they were when programs can't be exchanged", function()
    commit('tg.set("staff"):add "192.0.2.7"\n' .. POLICY)
    refuse = "the kernel has no memory"
    local added, message, code = tg.set("staff"):add "192.0.2.8"
    assert.same({ n = 3, nil, "the kernel has no memory", "EBUSY" }, { n = 3, added, message, code })
    assert.same({ "192.0.2.7" }, members "staff")
    assert.same({}, kept.sets)
    added, message = tg.ports.eth0:rule("ssh"):enable(false)
    assert.same({ n = 2, nil, "the kernel has no memory" }, { n = 2, added, message })
    assert.is_true(tg.ports.eth0:rule("ssh"):status().enabled)
    refuse = nil
  end)

  it("replace a set's content, with a source's as long as its script is loaded", function()
    local text = 'tg.set("staff"):add "192.0.2.7"\n' .. POLICY
    commit(text)
    local count, came, went = tg.set("staff"):replace("192.0.2.1 # one\n\n192.0.2.2\n")
    assert.same({ 2, 2, 1 }, { count, came, went })
    local nothing, message, code = tg.set("staff"):replace "# empty\n"
    assert.same({ n = 3, nil, 'set "staff": 0 prefixes given, at least 1 expected', "ENODATA" },
      { n = 3, nothing, message, code })
    nothing, message = tg.set("staff"):replace "192.0.2.1\nrubbish\n"
    assert.same({ n = 2, nil, 'set "staff": line 2: "rubbish": not an IP address or prefix' },
      { n = 2, nothing, message })
    assert.same({ "192.0.2.1", "192.0.2.2" }, members "staff")
    assert.equal("ssh", rule_for "192.0.2.2")
  end)

  it("keep what a task replaced as long as its script is loaded, and the files say the same", function()
    commit('tg.set("staff"):add "192.0.2.7"\n' .. POLICY)
    assert.equal(1, (as_task(function() return tg.set("staff"):replace { "192.0.2.1" } end)))
    assert.equal("ssh", rule_for "192.0.2.1")
    local function after(files, declared)
      local all = sets.after({ files = files, sets = { staff = declared } }, state.in_force.sets, sets.now())
      return sets.prefixes(all, "staff", sets.now())[1]
    end
    assert.equal("192.0.2.1", after(gen.files, { ["192.0.2.7"] = {} }))
    assert.equal("192.0.2.9", after(gen.files, { ["192.0.2.9"] = {} }))
    assert.equal("192.0.2.7", after({ "another.lua" }, { ["192.0.2.7"] = {} }))
  end)

  it("switch rules for tasks and operators", function()
    local text = 'tg.set("staff"):add "192.0.2.7"\n' .. POLICY
    commit(text)
    assert.is_true(as_task(function() return tg.ports.eth0:rule("ssh"):enable(false) end))
    assert.equal("default", rule_for "192.0.2.7")
    commit(text)
    assert.equal("ssh", rule_for "192.0.2.7")
    assert.is_true(tg.ports.eth0:rule("ssh"):enable(false, { reason = "incident" }))
    commit(text .. "\n")
    assert.equal("default", rule_for "192.0.2.7")
    assert.same({ false, "incident" }, { tg.ports.eth0:rule("ssh"):status().enabled,
      tg.ports.eth0:rule("ssh"):status().reason })
    assert.same({ n = 3, nil, 'rule "ssh": an operator disabled it', "EPERM" },
      table.pack(as_task(function() return tg.ports.eth0:rule("ssh"):enable(true) end)))
    commit((text:gsub('name = "ssh"', 'name = "ssh", enabled = false')))       -- absorbed
    assert.same({}, kept.rules)
    commit(text)
    assert.equal("ssh", rule_for "192.0.2.7")
  end)

  it("count on for a rule that stays, by its name or its text", function()
    commit [[wan:policy("ingress", { { "drop", proto = "tcp", dport = 23 }, { "accept", proto = "udp", name = "u" } })]]
    local function counters()
      local list = {}
      for _, rule in ipairs(tg.ports.eth0:rules()) do list[#list + 1] = { rule.text, rule.packets } end
      return list
    end
    local before = counters()
    commit [[wan:policy("ingress", { default = "drop", { "accept", proto = "udp", dport = 53, name = "u" },
      { "drop", proto = "icmp" }, { "drop", proto = "tcp", dport = 23, log = true } })]]
    local after = counters()
    assert.equal(before[2][2], after[1][2])
    assert.equal(before[1][2], after[3][2])
    assert.equal(before[3][2], after[4][2])      -- the default's
    assert.is_true(after[2][2] ~= before[1][2] and after[2][2] ~= before[2][2])
  end)

  it("are found by a rule's counter", function()
    commit('tg.set("staff"):add "192.0.2.7"\n' .. POLICY)
    local ssh = state.in_force.policies.eth0.ingress.rules[2]
    local found = state.rule_of(ssh.counter)
    assert.same({ "ssh", "eth0" }, { found.rule.name, found.compiled.policy.port })
    assert.equal(tg.ports.eth0:rule("ssh"):status().packets, ssh.counter * 10)
    commit ""
    assert.is_nil(state.rule_of(ssh.counter))
  end)
end)

describe("a set's calls", function()
  it("are told their mistakes", function()
    assert.same({
      'web.lua:2: set "staff": add: 7 given, an address or a prefix expected',
      'web.lua:3: set "staff": add[2]: "10.0.0.300": not an IP address or prefix',
      'web.lua:4: set "staff": add: unknown option "tll" (allowed: reason, ttl)',
      'web.lua:5: set "staff": line 1: "x": not an IP address or prefix',
      'web.lua:6: set "staff": 0 prefixes given, at least 1 expected',
    }, scripts.mistakes [[
local staff = tg.set "staff"
staff:add(7)
staff:add { "10.0.0.1", "10.0.0.300" }
staff:add("10.0.0.1", { tll = 5 })
staff:replace "x"
staff:replace {}
]])
  end)

  it("bound it", function()
    local list = scripts.mistakes [[
local list = {}
for i = 0, 8192 do list[#list + 1] = ("10.0.%d.%d"):format(i // 256, i % 256) end
tg.set("big"):add(list)
]]
    assert.same({ 'web.lua:3: set "big": 8193 prefixes, at most 8192 allowed; for more there are the lists of '
      .. "tg.deny" }, list)
  end)

  it("show what is declared so far", function()
    local fresh = scripts.load [[
      local staff = tg.set "staff"
      assert(staff:add { "192.0.2.0/24", "2001:db8::1" })
      assert(not staff:add "192.0.2.9/24")
      assert(staff:contains "192.0.2.77" and not staff:contains "192.0.3.1" and staff:contains "2001:db8::1")
      assert(staff:remove "2001:db8::1" and staff:count() == 1)
      for prefix, entry in staff:pairs() do assert(prefix == "192.0.2.0/24" and entry.owner == "file") end
    ]]
    assert.same({}, scripts.problems(fresh))
    assert.is_nil(generation.loading())
  end)
end)
