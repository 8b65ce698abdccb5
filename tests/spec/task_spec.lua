-- SPDX-License-Identifier: GPL-2.0-only
local task = require "tidegate.task"

--- A variable for <close> that notes its name in a list.
local function closer(list, name)
  return setmetatable({}, { __close = function() list[#list + 1] = name end })
end

--- An owner for a test whose errors are kept, not logged.
local function quiet_owner(options)
  options = options or {}
  local failures = {}
  options.on_error = function(message, traceback) failures[#failures + 1] = { message, traceback } end
  return task.owner("test", options), failures
end

describe("a task", function()
  it("runs when the starter waits, with the arguments given", function()
    local got
    tg.spawn(function(...) got = { ... } end, 1, "two")
    assert.is_nil(got)
    tg.sleep(0)
    assert.same({ 1, "two" }, got)
  end)

  it("sleeps at least as long as asked", function()
    for _, seconds in ipairs { 0.001, 0.0105, 0.05 } do
      local before = task.now()
      tg.sleep(seconds)
      local slept = task.now() - before
      assert.is_true(slept >= seconds and slept < seconds + 0.5, slept)
    end
  end)

  it("hands its results to those who join it, before and after its end", function()
    local t = tg.spawn(function()
      tg.sleep(0.01)
      return 1, nil, 3
    end)
    assert.same({ true, 1, nil, 3 }, { t:join() })
    assert.same({ true, 1, nil, 3 }, { t:join() })
  end)

  it("that raises harms nothing else, and tells message and traceback", function()
    local owner, failures = quiet_owner()
    local t = task.start({ owner = owner }, function()
      tg.sleep(0.001)
      local none = nil
      return none.field
    end)
    local ok, message, traceback = t:join()
    assert.is_false(ok)
    assert.matches("task_spec.lua:%d+: attempt to index a nil value", message)
    assert.matches("stack traceback:.*task_spec.lua:%d+: in function", traceback)
    assert.equal(message, failures[1][1])
    assert.equal(1, owner.errors)
  end)
end)

describe("a task that is cancelled", function()
  it("runs its <close> variables, innermost first, also in coroutines of its own", function()
    local closed = {}
    local t = tg.spawn(function()
      local _ <close> = closer(closed, "task")
      coroutine.wrap(function()
        local _ <close> = closer(closed, "coroutine")
        tg.sleep(10)
      end)()
    end)
    tg.sleep(0)
    t:cancel()
    assert.same({ "coroutine", "task" }, closed)
    assert.same({ false, "cancelled" }, { t:join() })
  end)

  it("is not woken by what it waited for", function()
    local finish, went_on
    local t = tg.spawn(function()
      task.await(function(done) finish = done end)
      went_on = true
    end)
    tg.sleep(0)
    t:cancel()
    finish()
    tg.sleep(0.01)
    assert.is_nil(went_on)
  end)

  it("tells what it waited for to stop", function()
    local undone
    local t = tg.spawn(function()
      task.await(function() return function() undone = true end end)
    end)
    tg.sleep(0)
    t:cancel()
    assert.is_true(undone)
  end)

  it("by itself ends at its next wait", function()
    local went_on
    local t
    t = tg.spawn(function()
      t:cancel()
      tg.sleep(0)
      went_on = true
    end)
    assert.same({ false, "cancelled" }, { t:join() })
    assert.is_nil(went_on)
  end)

  it("may fail while it closes: that is logged, and the rest is closed", function()
    local closed = {}
    local t = tg.spawn(function()
      local _ <close> = closer(closed, "outer")
      local _ <close> = setmetatable({}, { __close = function() error "in close" end })
      tg.sleep(10)
    end)
    tg.sleep(0)
    t:cancel()
    assert.same({ "outer" }, closed)
    local messages = tg.log.recent()
    assert.matches("while closing: .*in close", messages[#messages].text)
  end)
end)

describe("an owner", function()
  it("ends all that its tasks started, newest first", function()
    local closed = {}
    local owner = task.owner "tree"
    task.start({ owner = owner }, function()
      local _ <close> = closer(closed, "parent")
      tg.spawn(function()
        local _ <close> = closer(closed, "child")
        tg.sleep(10)
      end)
      tg.every(0.01, function() closed[#closed + 1] = "tick" end)
      tg.after(0.03, function() closed[#closed + 1] = "after" end)
      tg.sleep(10)
    end)
    tg.sleep(0.005)
    owner:cancel()
    tg.sleep(0.05)
    assert.same({ "child", "parent" }, closed)
    assert.has_error(function() task.start({ owner = owner }, print) end, 'owner "tree" is cancelled')
  end)

  it("below another ends with it, and counts its errors there too", function()
    local above, failures = quiet_owner()
    local below = task.owner("below", { parent = above, on_error = function() end })
    task.start({ owner = below }, error, "x"):join()
    assert.same({ 1, 1, 0 }, { below.errors, above.errors, #failures })
    local t = task.start({ owner = below }, tg.sleep, 10)
    tg.sleep(0)
    above:cancel()
    assert.equal("cancelled", t.state)
    assert.is_true(below.cancelled)
  end)

  it("cancelled by a task of its own lets that task come to its next wait", function()
    local steps = {}
    local owner = task.owner "suicide"
    local t = task.start({ owner = owner }, function()
      owner:cancel()
      steps[1] = "on"
      tg.sleep(0)
      steps[2] = "too far"
    end)
    assert.same({ false, "cancelled" }, { t:join() })
    assert.same({ "on" }, steps)
  end)
end)

describe("tg.timeout", function()
  it("returns what the function returns in time", function()
    assert.same({ 1, nil, 3 }, { tg.timeout(1, function() return 1, nil, 3 end) })
    assert.same({ "slept" }, { tg.timeout(1, function() tg.sleep(0.001) return "slept" end) })
  end)

  it("returns nil, \"timeout\" when it takes longer, and closes what that was about", function()
    local closed = {}
    local before = task.now()
    assert.same({ nil, "timeout" }, { tg.timeout(0.02, function()
      local _ <close> = closer(closed, "inner")
      tg.sleep(10)
    end) })
    assert.same({ "inner" }, closed)
    assert.is_true(task.now() - before < 1)
  end)

  it("passes an error on, with the place it comes from in the traceback", function()
    local owner, failures = quiet_owner()
    task.start({ owner = owner }, function()
      tg.timeout(1, function()
        tg.sleep(0)
        error "deep"
      end)
    end):join()
    assert.matches("task_spec.lua:%d+: deep", failures[1][1])
    assert.matches("in function 'error'.*\n.*in function 'tidegate.-timeout'", failures[1][2])
  end)

  it("ends with the task around it", function()
    local closed = {}
    local t = tg.spawn(tg.timeout, 10, function()
      local _ <close> = closer(closed, "inner")
      tg.sleep(10)
    end)
    tg.sleep(0.001)
    t:cancel()
    assert.same({ "inner" }, closed)
  end)
end)

describe("tg.every", function()
  it("runs on a schedule that does not drift", function()
    local n, before = 0, task.now()
    local timer = tg.every(0.05, function()
      n = n + 1
      tg.sleep(0.03)
    end)
    tg.sleep(0.78)
    timer:cancel()
    -- 15; a schedule that begins anew when a run ends has 9
    assert.is_true(n >= 12 and n <= (task.now() - before) / 0.05, n)
  end)

  it("does not overlap: a run that is late leaves the next ones out", function()
    local running, most = 0, 0
    local timer = tg.every(0.01, function()
      running = running + 1
      most = math.max(most, running)
      tg.sleep(0.035)
      running = running - 1
    end)
    tg.sleep(0.12)
    timer:cancel()
    assert.equal(1, most)
    assert.is_true(timer.missed >= 2, timer.missed)
  end)

  it("goes on after an error in a run", function()
    local owner, failures = quiet_owner()
    local n = 0
    local timer = tg.every(0.005, function()
      n = n + 1
      error "again"
    end, { owner = owner })
    tg.sleep(0.05)
    timer:cancel()
    assert.is_true(n >= 3)
    assert.equal(n, #failures)
  end)

  it("may be ended by its own run", function()
    local n, timer = 0, nil
    timer = tg.every(0.002, function()
      n = n + 1
      timer:cancel()
    end)
    tg.sleep(0.03)
    assert.equal(1, n)
  end)
end)

describe("tg.after", function()
  it("runs once, with its arguments, and not when cancelled", function()
    local got = {}
    tg.after(0.005, function(x) got[#got + 1] = x end, "ran")
    tg.after(0.005, function(x) got[#got + 1] = x end, "cancelled"):cancel()
    tg.sleep(0.03)
    assert.same({ "ran" }, got)
  end)
end)

describe("task.await", function()
  it("returns what done was called with, at once or later", function()
    assert.same({ 1, nil, 3 }, { task.await(function(a, done) done(a, nil, 3) end, 1) })
    assert.same({ "later" }, { task.await(function(done) tg.after(0.001, done, "later") end) })
  end)

  it("is an error where it can't wait, and the task goes on", function()
    local ok, message = pcall(table.sort, { 2, 1 }, function() tg.sleep(0) end)
    assert.same({ false, true }, { ok, message:find("can't wait here", 1, true) ~= nil })
    ok, message = pcall(table.sort, { 2, 1 }, coroutine.wrap(function() tg.sleep(0) end))
    assert.same({ false, true }, { ok, message:find("can't wait here", 1, true) ~= nil })
    tg.sleep(0)
  end)
end)

describe("a task's own coroutines", function()
  it("may wait, and yield to the task in between", function()
    local producer = coroutine.wrap(function(first)
      for i = first, first + 2 do
        tg.sleep(0.001)
        coroutine.yield(i)
      end
      return "end"
    end)
    assert.same({ 5, 6, 7, "end" }, { producer(5), producer(), producer(), producer() })
  end)

  it("behave as Lua's in errors, status and results", function()
    local co = coroutine.create(function(...)
      local a = coroutine.yield(...)
      error { code = a }
    end)
    assert.same({ true, 1, nil, 3 }, { coroutine.resume(co, 1, nil, 3) })
    assert.equal("suspended", coroutine.status(co))
    local ok, problem = coroutine.resume(co, 42)
    assert.same({ false, 42 }, { ok, problem.code })
    assert.same({ false, "cannot resume dead coroutine" }, { coroutine.resume(co) })
    local wrapped = coroutine.wrap(function() error "oops" end)
    assert.matches("task_spec.lua:%d+: .*task_spec.lua:%d+: oops", select(2, pcall(function() wrapped() end)))
  end)

  it("run their <close> variables when wrap passes an error on", function()
    local closed = {}
    assert.has_error(coroutine.wrap(function()
      local _ <close> = closer(closed, "inner")
      error { "object" }
    end), { "object" })
    assert.same({ "inner" }, closed)
  end)
end)

describe("the library", function()
  it("has one instance of a module, also after package.loaded was set back", function()
    local before = require "tidegate.task"
    package.loaded["tidegate.task"] = nil
    assert.equal(before, require "tidegate.task")
  end)
end)
