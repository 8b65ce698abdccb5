-- SPDX-License-Identifier: GPL-2.0-only
--- tg.map and tg.prog at a file's top level: reading asks, writing is an act.
local object = require "tests.helpers.object"
local sandbox = require "tidegate.sandbox"
local scripts = require "tests.helpers.scripts"

if object.refused() then
  pending("tg.map " .. object.refused())
  return
end

local kinds
setup(function() kinds = object.load "tests/bpf/kinds" end)
teardown(function() kinds:close() end)

local function load(text)
  return scripts.load(("local m = assert(tg.map.open %q)\n"):format(kinds.maps .. "/array") .. text)
end

local function array()
  local m <close> = assert(tg.map.open(kinds.maps .. "/array"))
  return m:to_table()
end

describe("a write to a map at the top level", function()
  before_each(function()
    local m <close> = assert(tg.map.open(kinds.maps .. "/array"))
    m:batch_set { [0] = 0, 0, 0, 0 }
  end)

  it("waits for the commit, and is shown in the plan", function()
    local gen = load [[
      assert(m:set(1, 7))
      assert(m:batch_set { [2] = 8, [3] = 9 })
      seen = m:get(1)
    ]]
    assert.same({}, scripts.problems(gen))
    assert.equal(0, array()[1])
    assert.equal(0, assert(sandbox.load("return seen", "=eval", gen.environment))())
    local acts = {}
    for i, act in ipairs(gen:to_do()) do acts[i] = act.text .. act.position:match ":%d+$" end
    assert.same({ 'map "array" (array): set:2', 'map "array" (array): batch_set:3' }, acts)
    gen:start()
    gen:run_acts()
    tg.sleep(0.01)
    assert.same({ 7, 8, 9 }, { array()[1], array()[2], array()[3] })
    gen:stop()
  end)

  it("is never made if the generation fails", function()
    local gen = load "m:set(1, 7)"
    gen:fail()
    tg.sleep(0.01)
    assert.equal(0, array()[1])
  end)

  it("has the value of that moment, and its map open, though the file goes on", function()
    local gen = load [[
      local list, scoped <close> = {}, m
      for i = 1, 3 do
        list = { [i] = i * 10 }
        m:batch_set(list)
        list[i] = 99
      end
    ]]
    assert.same({}, scripts.problems(gen))
    gen:start()
    gen:run_acts()
    tg.sleep(0.01)
    assert.same({ 10, 20, 30 }, { array()[1], array()[2], array()[3] })
    gen:stop()
  end)

  it("is direct in a task, and its error at the task's line", function()
    local gen = load [[
      tg.spawn(function()
        m:set(1, 7)
        direct = m:get(1)
        _, message = pcall(function() local _ = m:set(1, "x") end)
      end)
    ]]
    gen:start()
    tg.sleep(0.01)
    local direct, message = assert(sandbox.load("return direct, message", "=eval", gen.environment))()
    assert.equal(7, direct)
    assert.matches("web.lua:5: value: ", message)
    gen:stop()
  end)

  it("whose answer is needed at once is refused", function()
    local program = kinds.progs .. "/" .. object.run("ls " .. kinds.progs):match "%S+"
    local problems = scripts.problems(scripts.load {
      ["a.lua"] = ("assert(tg.map.open(%q, { value = 'u32' })):pop()"):format(kinds.maps .. "/queue"),
      ["b.lua"] = ("assert(tg.prog.open %q):run(('x'):rep(64))"):format(program),
    })
    assert.matches("^a.lua:1: tg.map: pop changes the map", problems[1])
    assert.matches("^b.lua:1: tg.prog: run changes maps", problems[2])
  end)
end)
