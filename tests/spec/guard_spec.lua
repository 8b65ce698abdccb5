-- SPDX-License-Identifier: GPL-2.0-only
local core = require "tidegate.core.host"
local task = require "tidegate.task"

-- busted looks globals up in Lua, where a task may be stopped too
local coroutine, pcall, table, xpcall = coroutine, pcall, table, xpcall

local BUDGET = 0.1

local function closer(list, name)
  return setmetatable({}, { __close = function() list[#list + 1] = name end })
end

--- Runs `fn` as a task with a budget; gives its join, and how long it took.
local function run(fn, budget)
  local owner = task.owner("guarded", { budget = budget or BUDGET })
  local before = task.now()
  local result = table.pack(task.start({ owner = owner, quiet = true }, fn):join())
  return result, task.now() - before
end

local function assert_stopped(fn)
  local result, seconds = run(fn)
  assert.is_false(result[1])
  assert.matches("guard_spec.lua:%d+.-: stopped after 100 ms without yielding", result[2])
  assert.matches("stack traceback:\n\t.*guard_spec.lua:%d+: in", result[3])
  assert.is_true(seconds >= BUDGET and seconds < 20 * BUDGET, seconds)
  return result
end

local function spin()
  while true do end
end

describe("a task that does not yield", function()
  it("is stopped, and its <close> variables run", function()
    local closed = {}
    assert_stopped(function()
      local _ <close> = closer(closed, "outer")
      local _ <close> = closer(closed, "inner")
      spin()
    end)
    assert.same({ "inner", "outer" }, closed)
  end)

  it("can't hide in pcall, however nested", function()
    assert_stopped(function()
      while true do pcall(spin) end
    end)
    assert_stopped(function()
      local function again() return pcall(again), pcall(spin), again() end
      while true do pcall(again) end
    end)
    assert_stopped(function()
      while true do xpcall(spin, spin) end
    end)
  end)

  it("can't hide in coroutines, whose <close> variables run, innermost first", function()
    local closed = {}
    assert_stopped(function()
      local _ <close> = closer(closed, "task")
      coroutine.wrap(function()
        local _ <close> = closer(closed, "first")
        local co = coroutine.create(function()
          local _ <close> = closer(closed, "second")
          spin()
        end)
        while true do coroutine.resume(co) end
      end)()
    end)
    assert.same({ "second", "first", "task" }, closed)
    assert_stopped(function()
      while true do coroutine.resume(coroutine.create(spin)) end
    end)
    assert_stopped(function()
      while true do
        local co = coroutine.wrap(function() while true do coroutine.yield() end end)
        for _ = 1, 10 do co() end
      end
    end)
  end)

  it("can't hide where it can't yield: sort, gsub, metamethods called from C", function()
    local closed = {}
    assert_stopped(function()
      table.sort({ 3, 2, 1 }, function()
        local _ <close> = closer(closed, "comparison")
        while true do pcall(spin) end
      end)
    end)
    assert.same({ "comparison" }, closed)
    assert_stopped(function() (("x"):rep(10)):gsub("x", function() while true do pcall(spin) end end) end)
    assert_stopped(function() tostring(setmetatable({}, { __tostring = spin })) end)
    assert_stopped(function() table.concat(setmetatable({}, { __index = spin }), "", 1, 3) end)
    assert_stopped(function()
      table.sort({ 3, 2, 1 }, coroutine.wrap(function() while true do pcall(spin) end end))
    end)
  end)

  it("gets a budget for all of its <close> variables, and no more", function()
    local closed = {}
    local _, seconds = run(function()
      local _ <close> = setmetatable({}, { __close = function() while true do pcall(spin) end end })
      local _ <close> = closer(closed, "first")
      spin()
    end)
    assert.same({ "first" }, closed)
    assert.is_true(seconds < 1, seconds)
  end)

  it("is stopped in a coroutine made outside of any task's budget", function()
    local made_before = coroutine.wrap(spin)
    assert_stopped(function() made_before() end)
  end)

  it("leaves everything else running", function()
    local ticks = 0
    local timer = tg.every(0.01, function() ticks = ticks + 1 end)
    run(spin)
    tg.sleep(0.05)
    timer:cancel()
    assert.is_true(ticks >= 3, ticks)
  end)

  it("and waits in between is not stopped", function()
    local result = run(function()
      for _ = 1, 4 do
        local t = task.now()
        while task.now() - t < BUDGET / 2 do end
        tg.sleep(0)
      end
      return "fine"
    end)
    assert.same({ true, "fine", n = 2 }, result)
  end)

  it("is named in the log when it took long", function()
    local serial = require "tidegate.log".recent()
    serial = serial[#serial] and serial[#serial].serial or 0
    local owner = task.owner("slow", { budget = 10 })
    task.start({ owner = owner, name = "slowcoach" }, function()
      local t = os.clock()
      while os.clock() - t < 0.08 do end
    end):join()
    local found
    for _, message in ipairs(require "tidegate.log".recent(serial)) do
      if message.level == "warn" and message.text:find "^slowcoach: ran %d+ ms without yielding" then found = true end
    end
    assert.is_true(found)
  end)
end)

describe("memory", function()
  setup(function() core.memory(64 << 20) end)
  teardown(function() core.memory(0) end)
  before_each(function() collectgarbage() end)

  local function assert_refused(fn)
    local result = run(fn, 10)
    assert.is_false(result[1])
    assert.matches("^not enough memory %(cap 64 MiB%) at .*guard_spec.lua:%d+", result[2])
    return result[2]
  end

  it("beyond the cap is refused, naming the call that asked", function()
    assert.matches("%(in rep%)$", assert_refused(function() return ("x"):rep(1 << 30) end))
    assert_refused(function() return string.format("%s%s", ("x"):rep(30 << 20), ("y"):rep(30 << 20)) end)
    assert_refused(function()
      local list, s = {}, ("x"):rep(1000)
      while #list >= 0 do list[#list + 1] = s .. #list end
    end)
    assert_refused(function()
      local s = "x"
      while true do s = s .. s end
    end)
    assert_refused(function() coroutine.wrap(function() return ("x"):rep(1 << 30) end)() end)
  end)

  it("that was refused can be asked for again in smaller pieces", function()
    local result = run(function()
      local ok, message = pcall(string.rep, "x", 1 << 30)
      local fine = ("x"):rep(1 << 20)
      return ok, message, #fine
    end)
    assert.same({ true, false, "not enough memory", 1 << 20, n = 4 }, result)
  end)

  it("that is only garbage is not refused", function()
    local result = run(function()
      for i = 1, 20 do
        local s = ("x"):rep((10 << 20) + i)
        if #s == 0 then return end
      end
      return "fine"
    end)
    assert.same({ true, "fine", n = 2 }, result)
  end)

  it("is not refused to the library between tasks", function()
    local hog, got = {}, nil
    local function on_error()
      got = #("x"):rep(1 << 20)      -- the cap is reached, and this is above it
      hog = nil
      collectgarbage()
    end
    local owner = task.owner("hog", { budget = 10, on_error = on_error })
    task.start({ owner = owner }, function()
      while true do hog[#hog + 1] = ("x"):rep(1000) .. #hog end
    end):join()
    assert.equal(1 << 20, got)
  end)
end)
