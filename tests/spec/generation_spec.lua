-- SPDX-License-Identifier: GPL-2.0-only
local generation = require "tidegate.generation"
local inspect = require "tidegate.inspect"
local sandbox = require "tidegate.sandbox"
local scripts = require "tests.helpers.scripts"

--- What an operator's Lua gives in a generation's environment.
local function operator(gen, text)
  return assert(sandbox.load(text, "=eval", gen.environment))()
end

describe("an operator's environment", function()
  it("has the globals of the scripts, those of an earlier file first", function()
    local gen = scripts.load {
      ["a.lua"] = "function hello() return 'hello from a' end  only_a = 1",
      ["b.lua"] = "function hello() return 'hello from b' end  only_b = 2",
    }
    assert.equal("hello from a", operator(gen, "return hello()"))
    assert.same({ 1, 2 }, { operator(gen, "return only_a, only_b") })
    assert.is_nil(operator(gen, "return nothing"))
  end)

  it("keeps its own library and what it sets to itself", function()
    local gen = scripts.load "string = 'spoilt'  count = 1  function get() return count end"
    assert.same({ "function", 1 }, { operator(gen, "count = 7; return type(string.format), get()") })
  end)
end)

describe("a collection", function()
  local declarations = [[
    local names = {}
    tg.port "eth7"
    local app = tg.pool { name = "app", backends = { "10.0.0.11" } }
    tg.service { name = "web", vip = "198.51.100.10:80", backends = app }
    tg.service { name = "dns", vip = "198.51.100.10:53/udp", backends = { "10.0.0.12" } }
  ]]

  local services = '<tg.services> { dns = service "dns", web = service "web" }'

  it("lists at a file's top level what is declared so far", function()
    local gen = scripts.load(declarations
      .. "for name in pairs(tg.services) do names[#names + 1] = name end seen = names")
    assert.same({ "dns", "web" }, operator(gen, "return seen"))
  end)

  it("lists and shows what is in force", function()
    local gen = scripts.load(declarations)
    gen:start()
    finally(function() gen:stop() end)
    assert.equal(services, inspect(operator(gen, "return tg.services")))
    assert.equal('<tg.pools> { app = pool "app" }', inspect(operator(gen, "return tg.pools")))
    assert.equal('<tg.ports> { eth7 = port "eth7" }', inspect(operator(gen, "return tg.ports")))
    assert.equal("service \"web\"", tostring(operator(gen, "return tg.services.web")))
  end)

  it("lists what is in force while a failed generation is forgotten", function()
    local gen = scripts.load(declarations)
    gen:start()
    finally(function() gen:stop() end)
    scripts.load("tg.service { name = 'other', vip = '198.51.100.11:80', backends = { '10.0.0.12' } }"):fail()
    assert.equal(services, inspect(operator(gen, "return tg.services")))
  end)
end)

describe("loading", function()
  it("lists every mistake of every file, each at its line", function()
    local gen = scripts.load {
      ["a.lua"] = [[
        tg.pool { name = "app", backends = { "10.0.0.300" } }
        tg.service { name = "web", vip = "198.51.100.10:70000", backends = { "10.0.0.11" } }
        tg.service { name = "dns", vip = "198.51.100.10:53/udp", bakends = { "10.0.0.11" } }
        tg.port "eth0/1"
      ]],
      ["b.lua"] = "tg.service {\n  name = 'broken'",
      ["c.lua"] = "local none\ntg.port 'eth1'\nprint(none.field)\ntg.port 'eth2'",
      ["d.lua"] = "tg.port('eth3', { xdp = 'fast' })",
      ["e.lua"] = "error('said so', 0)",
      ["f.lua"] = "error {}",
    }
    local problems = scripts.problems(gen)
    assert.equal('a.lua:1: backend "10.0.0.300": not an IP address', problems[1])
    assert.equal('a.lua:2: VIP "198.51.100.10:70000": port 70000: 1 to 65535 allowed', problems[2])
    assert.matches('^a.lua:3: tg.service: unknown option "bakends" %(allowed: .*backends', problems[3])
    assert.matches('^a.lua:4: tg.port: "eth0/1" given', problems[4])
    assert.matches("^b.lua:2: .*expected", problems[5])
    assert.equal("c.lua:3: attempt to index a nil value (local 'none')", problems[6])
    assert.matches('^d.lua:1: tg.port "eth3".xdp: "fast" given, auto, native', problems[7])
    assert.equal("e.lua: said so", problems[8])
    assert.matches("^f.lua: table", problems[9])
    assert.equal(9, #problems)
    assert.is_true(gen.declared.port.eth1 ~= nil and gen.declared.port.eth2 == nil)
  end)

  it("names both lines of a name that is declared twice, whatever the order of the files", function()
    local one, two = "tg.port 'eth0'", "\ntg.port 'eth0'"
    assert.same({ 'b.lua:2: port "eth0" is declared already at a.lua:1' },
      scripts.problems(scripts.load { ["a.lua"] = one, ["b.lua"] = two }))
    assert.same({ 'b.lua:1: port "eth0" is declared already at a.lua:2' },
      scripts.problems(scripts.load { ["a.lua"] = two, ["b.lua"] = one }))
  end)

  it("says of a declaration that is broken only what is wrong with it", function()
    assert.same({ 'web.lua:1: backend "x": not an IP address' }, scripts.mistakes [[
      local web = tg.service { name = "web", vip = "198.51.100.10:80", backends = { "x" } }
      web:add "10.0.0.12"
      web:drain "10.0.0.11"
      tg.services.web:weight("10.0.0.12", 2)
      assert(#web:backends() == 0)
    ]])
    assert.same({ 'web.lua:2: backend "x": not an IP address' }, scripts.mistakes [[
      tg.service { name = "web", vip = "198.51.100.10:80", backends = "app" }
      tg.pool { name = "app", backends = { "x" } }
    ]])
  end)

  it("ends a file that takes too long, by its name", function()
    local before = generation.LOAD_SECONDS
    generation.LOAD_SECONDS = 0.1
    finally(function() generation.LOAD_SECONDS = before end)
    local gen = scripts.load { ["a.lua"] = "tg.sleep(60)", ["b.lua"] = "while true do end",
      ["c.lua"] = "while true do pcall(function() while true do end end) end", ["d.lua"] = "tg.port 'eth0'" }
    local problems = scripts.problems(gen)
    assert.equal("a.lua: took longer than 0.1 s", problems[1])
    assert.matches("^b.lua:1: stopped after 1%d%d ms without yielding", problems[2])
    assert.matches("^c.lua:1: stopped after 1%d%d ms without yielding", problems[3])
    assert.equal(3, #problems)
    assert.is_table(gen.declared.port.eth0)
  end)

  it("says of a file that can't be read which it is", function()
    local gen = generation.new { "/nonexistent/web.lua" }
    gen:load()
    assert.equal("/nonexistent/web.lua: No such file or directory", gen:report())
  end)
end)

describe("what is not in force yet", function()
  it("begins at the commit: tasks, timers and handlers", function()
    local gen = scripts.load [[
      ran = {}
      tg.spawn(function(x) ran.spawn = x end, 7)
      tg.after(0, function() ran.after = true end)
      timer = tg.every(0.001, function() ran.every = (ran.every or 0) + 1 end)
      handler = tg.on("test.*", function(ev) ran.on = ev.name end)
      never = tg.spawn(function() ran.never = true end)
      never:cancel()
    ]]
    assert.same({}, scripts.problems(gen))
    tg.sleep(0.02)
    local ran = operator(gen, "return ran")
    assert.same({}, ran)
    gen:start()
    require("tidegate.event").emit { name = "test.it" }
    tg.sleep(0.02)
    assert.same({ 7, true, "test.it", nil }, { ran.spawn, ran.after, ran.on, ran.never })
    assert.is_true(ran.every > 1)
    operator(gen, "handler:cancel() timer:cancel() ran.on, ran.every = nil, nil")
    require("tidegate.event").emit { name = "test.it" }
    tg.sleep(0.01)
    assert.same({ nil, nil }, { ran.on, ran.every })
    gen:stop()
  end)

  it("ends with its generation, <close> variables run", function()
    local gen = scripts.load [[
      ended, delivered = 0, 0
      tg.spawn(function()
        local closing <close> = setmetatable({}, { __close = function() ended = ended + 1 end })
        tg.sleep(60)
      end)
      tg.on("test.*", function() delivered = delivered + 1 end)
    ]]
    gen:start()
    tg.sleep(0)
    gen:stop()
    require("tidegate.event").emit { name = "test.it" }
    tg.sleep(0)
    assert.same({ 1, 0 }, { operator(gen, "return ended, delivered") })
  end)

  it("knows the script that it belongs to", function()
    local gen = scripts.load { ["a.lua"] = "job = tg.spawn(function() tg.sleep(60) end)" }
    gen:start()
    finally(function() gen:stop() end)
    assert.matches("/a.lua$", operator(gen, "return job").owner.script)
  end)

  it("is told apart in the plan: what happens once is an act", function()
    local gen = scripts.load "tg.every(1, print)\ntg.spawn(print)\ntg.on('*', print)\ntg.after(1, print)"
    local acts = {}
    for i, act in ipairs(gen:to_do()) do acts[i] = act.text .. " " .. act.position:match "[^/]*$" end
    assert.same({ "tg.spawn web.lua:2", "tg.after web.lua:4" }, acts)
    gen:fail()
  end)

  it("is checked where it is written", function()
    local problems = scripts.problems(scripts.load {
      ["a.lua"] = "tg.spawn(7)", ["b.lua"] = "tg.every(0, print)", ["c.lua"] = "\ntg.after('soon', print)",
      ["d.lua"] = "tg.on('a b', print)", ["e.lua"] = "tg.every(1)",
    })
    assert.equal("a.lua:1: tg.spawn: 7 given, a function expected", problems[1])
    assert.matches("^b.lua:1: tg.every: 0 given, seconds from 0.001", problems[2])
    assert.matches('^c.lua:2: tg.after: "soon" given, seconds', problems[3])
    assert.matches("^d.lua:1: tg.on", problems[4])
    assert.matches("^e.lua:1: tg.every: nil given, a function", problems[5])
  end)
end)

describe("acts", function()
  it("run after the commit, in order, and one that fails does not stop the others", function()
    local gen, done = generation.new {}, {}
    local owner = gen.owner
    local task = require "tidegate.task"
    task.start({ owner = owner }, function()
      assert.is_true(generation.act("one", function() done[#done + 1] = 1 end))
      generation.act("two", function() error "two fails" end)
      generation.act("three", function() done[#done + 1] = 3 return nil, "refused", "EPERM" end)
    end):join()
    assert.same({}, done)
    local errors = owner.errors
    gen:start()
    gen:run_acts()
    tg.sleep(0.01)
    assert.same({ 1, 3 }, done)
    assert.equal(errors + 1, owner.errors)
    gen:stop()
  end)

  it("of a generation that fails never run", function()
    local gen = scripts.load "ran = 0 tg.spawn(function() ran = ran + 1 end)"
    gen:fail()
    tg.sleep(0.01)
    assert.equal(0, operator(gen, "return ran"))
  end)
end)

describe("a handle", function()
  it("of a generation that failed raises", function()
    local gen = scripts.load "web = tg.service { name = 'web', vip = '198.51.100.10:80', backends = { '10.0.0.11' } }"
    gen:fail()
    assert.error_matches(function() operator(gen, "return web"):add "10.0.0.12" end,
      'service "web": its declaration was not put in force')
  end)

  it("can't spoil the others' methods", function()
    local gen = scripts.load "web = tg.service { name = 'web', vip = '198.51.100.10:80', backends = { '10.0.0.11' } }"
    assert.is_nil(operator(gen, "return web.__index"))
    gen:fail()
  end)
end)

describe("a declaration", function()
  it("belongs at the top level", function()
    assert.error_matches(function() tg.port "eth0" end, "declarations belong at the top level of a file")
    local gen = scripts.load "tg.spawn(function() ok, message = pcall(tg.port, 'eth1') end)"
    gen:start()
    tg.sleep(0.01)
    assert.matches("declarations belong at the top level", (operator(gen, "return message")))
    gen:stop()
  end)

  it("may wait, and may be made in a call that waits", function()
    local gen = scripts.load "tg.sleep(0.001)  tg.timeout(1, function() tg.sleep(0.001) tg.port 'eth0' end)"
    assert.same({}, scripts.problems(gen))
    assert.is_table(gen.declared.port.eth0)
  end)
end)

describe("a generation that goes out of scope uncommitted", function()
  it("has failed, and what it waited for is cancelled", function()
    local gen
    local task = require "tidegate.task"
    local paths, remove = scripts.write { ["a.lua"] = "tg.sleep(60)" }
    finally(remove)
    local job = task.start({ quiet = true }, function()
      local scoped <close> = generation.new(paths)
      gen = scoped
      scoped:load()
    end)
    tg.sleep(0.01)
    assert.equal("loading", gen.state)
    job:cancel()
    assert.equal("failed", gen.state)
    assert.is_true(gen.owner.cancelled)
    assert.is_nil(generation.loading())
  end)
end)
