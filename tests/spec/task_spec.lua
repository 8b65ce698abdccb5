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
end)
