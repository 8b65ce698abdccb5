-- SPDX-License-Identifier: GPL-2.0-only
--- Tasks: coroutines on the loop. A task runs until it waits (sleeps, reads, joins …) or ends; its
--- every resume goes through the guard (core/guard.h). It belongs to an owner, for instance a
--- generation of scripts; a task or timer that a task starts gets its owner. Cancelling an owner ends
--- all that it owns, newest first; `<close>` variables run, and must not wait.
---
--- An error in a task is caught, logged with its traceback, and counted with its owner and theirs.
---
--- What waits is made of `task.await(starter, …)`: it calls `starter(…, done)`, and returns what
--- somebody, now or later, calls `done` with.
---
--- A class here is a table of methods, which its metatable's `__index` names: were the two one table,
--- `object.__index` would hand the class to a script.
local core = require "tidegate.core.host"
local log = require "tidegate.log"
local uv = require "luv"

local task = {}

local current       ---@type tidegate.Task?  the task that runs
local serial = 0    -- of everything owned, so that what is newest ends first

-- Owners ------------------------------------------------------------------------------------------

---@class tidegate.Owner
---@field name string
---@field script string?   path of the script that its tasks run
---@field parent tidegate.Owner?
---@field budget number    seconds that a resume may take; 0: no limit
---@field errors integer   caught in its tasks, and in those of the owners below it
---@field on_error fun(message: any, traceback: string, task: tidegate.Task)?  instead of the log
---@field cancelled boolean
local Owner = {}
local owner_meta = {
  __name = "tidegate.Owner", __metatable = "tidegate.Owner", __index = Owner,
  __close = function(owner) owner:cancel() end,
}

local function new_owner(parent, name, options)
  options = options or {}
  return setmetatable({
    name = name, parent = parent, script = options.script or parent and parent.script,
    budget = options.budget or parent and parent.budget or 0,
    on_error = options.on_error, errors = 0, cancelled = false,
    members = {},                                   -- object → serial
    resources = setmetatable({}, { __mode = "k" }), -- the same, as long as somebody else holds it
  }, owner_meta)
end

local root = new_owner(nil, "root")

--- A new owner below `parent` (given, the running task's, or the root).
---@param options { parent: tidegate.Owner?, script: string?, budget: number?, on_error: function? }?
function task.owner(name, options)
  local parent = options and options.parent or task.current_owner()
  if parent.cancelled then error(("owner %q is cancelled"):format(parent.name), 2) end
  return parent:keep(new_owner(parent, name, options))
end

--- The owner of what is started now.
function task.current_owner()
  return current and current.owner or root
end

--- Owns an object: its `cancel` method is called when the owner is cancelled.
function Owner:keep(object)
  serial = serial + 1
  self.members[object] = serial
  return object
end

--- As keep, but without keeping the object from being collected.
function Owner:keep_weakly(object)
  serial = serial + 1
  self.resources[object] = serial
  return object
end

function Owner:drop(object)
  self.members[object] = nil
  self.resources[object] = nil
end

local function report(what, ok, message)
  if not ok then log.error("%s: %s", what, message) end
end

local function newest_first(owner)
  local list, age = {}, {}
  for _, set in ipairs { owner.members, owner.resources } do
    for object, number in pairs(set) do
      list[#list + 1], age[object] = object, number
    end
  end
  table.sort(list, function(a, b) return age[a] > age[b] end)
  return list
end

--- Ends everything owned. The task that calls this, if owned, ends at its next wait.
function Owner:cancel()
  if self.cancelled then return end
  self.cancelled = true
  for _, object in ipairs(newest_first(self)) do
    report("cancelling " .. self.name, xpcall(object.cancel, debug.traceback, object))
  end
  self.members, self.resources = {}, {}
  if self.parent then self.parent:drop(self) end
end

local function count_error(owner)
  while owner do
    owner.errors = owner.errors + 1
    owner = owner.parent
  end
end

-- The queue of tasks that can run ------------------------------------------------------------------

---@class tidegate.Task
---@field name string
---@field owner tidegate.Owner
---@field state "alive"|"done"|"failed"|"cancelled"
local Task = {}
local task_meta = { __name = "tidegate.Task", __metatable = "tidegate.Task", __index = Task }

local TURNS = 100         -- resumes before the loop gets a turn
local queue, head, tail = {}, 1, 0
local draining = false
local kick                -- a timer: drain again soon
local step

local function drain()
  if draining then return end
  draining = true
  for _ = 1, TURNS do
    if head > tail then break end
    local t = queue[head]
    queue[head], head = nil, head + 1
    report(t.name, xpcall(step, debug.traceback, t))
  end
  draining = false
  if head <= tail then
    kick = kick or uv.new_timer()
    kick:start(0, 0, drain)
  end
end

local function enqueue(t, ...)
  if t.queued or t.state ~= "alive" then return end
  t.queued = table.pack(...)
  tail = tail + 1
  queue[tail] = t
  drain()
end

-- A task's life ------------------------------------------------------------------------------------

local function default_name(fn)
  local info = debug.getinfo(fn, "S")
  return info.what == "C" and "C function" or info.short_src .. ":" .. info.linedefined
end

---@class tidegate.TaskOptions
---@field name string?
---@field owner tidegate.Owner?   default: the running task's
---@field budget number?          seconds that a resume may take; default: the owner's
---@field timeout number?         seconds that all of it may take; then it fails
---@field on_error fun(message: any, traceback: string, task: tidegate.Task)?  instead of the log
---@field quiet boolean?          errors are neither logged nor counted: somebody joins

--- Starts a task.
---@param options tidegate.TaskOptions
---@return tidegate.Task
function task.start(options, fn, ...)
  local owner = options.owner or task.current_owner()
  if owner.cancelled then error(("owner %q is cancelled"):format(owner.name), 2) end
  local t = setmetatable({
    co = coroutine.create(fn), state = "alive", owner = owner, ended = {},
    name = options.name or default_name(fn), budget = options.budget or owner.budget,
    on_error = options.on_error or owner.on_error, quiet = options.quiet,
  }, task_meta)
  owner:keep(t)
  if options.timeout then t:limit(options.timeout) end
  enqueue(t, ...)
  return t
end

local function settle(t, state, ...)
  t.state, t.result = state, table.pack(state == "done", ...)
  t.owner:drop(t)
  local ended = t.ended
  t.ended = nil
  for _, fn in ipairs(ended) do fn() end
end

--- Runs the <close> variables of a task that won't run again.
local function close(t)
  local before = current
  current = t
  local message = core.close(t.co)
  current = before
  if message then log.error("task %s, while closing: %s", t.name, message) end
end

local function fail(t, message, traceback)
  if t.inner and t.inner.message == message then traceback = t.inner.traceback .. "\n" .. traceback end
  settle(t, "failed", message, traceback)
  if t.quiet then return end
  count_error(t.owner)
  if t.on_error then
    report("on_error of " .. t.name, xpcall(t.on_error, debug.traceback, message, traceback, t))
  else
    log.error("task %s failed: %s", t.name, traceback)
  end
end

local function stop_waiting(t)
  local undo = t.undo
  t.waiting, t.undo = nil, nil
  if undo then report("cancelling a wait of " .. t.name, xpcall(undo, debug.traceback)) end
end

--- Ends the task; does nothing if it has ended. The running task ends at its next wait.
function Task:cancel()
  if self.state ~= "alive" then return end
  if self.running then
    self.cancelling = true
    return
  end
  self.state = "cancelled"
  stop_waiting(self)
  close(self)
  settle(self, "cancelled", "cancelled")
end

--- Fails the task, from outside, while it waits.
local function break_off(t, message)
  local traceback = debug.traceback(t.co, message)
  t.state = "failed"
  stop_waiting(t)
  close(t)
  fail(t, message, traceback)
end

local outcome = {}

function outcome.wait(t)
  if t.cancelling then t:cancel() end
end

function outcome.yield(t)
  if t.cancelling then t:cancel() else enqueue(t) end
end

function outcome.done(t, ...)
  settle(t, "done", ...)
end

function outcome.error(t, message, traceback)
  t.state = "failed"
  close(t)
  fail(t, message, traceback)
end

function outcome.exit() end

local function resumed(t, what, ...)
  t.running, current = nil, nil
  return outcome[what](t, ...)
end

function step(t)
  local args = t.queued
  t.queued = nil
  if t.state ~= "alive" then return end
  t.running, current = true, t
  return resumed(t, core.run(t.co, t.name, t.owner.script, t.budget, table.unpack(args, 1, args.n)))
end

-- Waiting ------------------------------------------------------------------------------------------

local function wake(t, wait, ...)
  if t.waiting ~= wait then return end    -- cancelled, or woken before
  t.waiting, t.undo = nil, nil
  if wait.starting then
    wait.values = table.pack(...)
  else
    enqueue(t, ...)
  end
end

--- Calls `starter(…, done)` and waits until `done(…)` is called; returns what that was called with.
--- If the starter returns a function, it is called when the wait is cancelled. A late `done` does
--- nothing. The starter itself must not wait.
function task.await(starter, ...)
  local t = current
  if not (t and coroutine.isyieldable()) then
    error("can't wait here: not in a task, or inside a call that can't yield", 2)
  end
  local wait = { starting = true }
  local args = table.pack(...)
  args[args.n + 1] = function(...) return wake(t, wait, ...) end
  t.waiting = wait
  local undo = starter(table.unpack(args, 1, args.n + 1))
  wait.starting = nil
  if wait.values then return table.unpack(wait.values, 1, wait.values.n) end
  t.undo = type(undo) == "function" and undo or nil
  return core.wait()
end

-- Timers -------------------------------------------------------------------------------------------

local IDLE_TIMERS = 32
local idle_timers = {}

local function release(timer)
  if not timer:is_active() and timer:is_closing() then return end
  timer:stop()
  if #idle_timers < IDLE_TIMERS then
    idle_timers[#idle_timers + 1] = timer
  else
    timer:close()
  end
end

--- What to give to libuv so that no timer is early: milliseconds from the loop's own time, which stands
--- still while callbacks run. (Were it updated here, timers that take longer than their intervals would
--- keep the loop from ever looking at its sockets: tests/net/hang_test.sh.)
local function milliseconds(seconds)
  return math.ceil(uv.hrtime() / 1e6 + seconds * 1000) - uv.now()
end

--- Raises at `level` unless it is a time to wait.
local function check_seconds(seconds, level)
  if type(seconds) ~= "number" or seconds < 0 or seconds > 1e9 or seconds ~= seconds then
    error(("seconds: a number from 0 to 1e9 expected, got %s"):format(tostring(seconds)), level + 1)
  end
end

--- Calls `fn` once, in no task. Returns a function that prevents it.
local function arm(seconds, fn)
  local timer = table.remove(idle_timers) or uv.new_timer()
  timer:start(milliseconds(seconds), 0, function()
    local armed = timer
    timer = nil
    release(armed)
    fn()
  end)
  return function()
    if timer then release(timer) end
    timer = nil
  end
end

--- As await, but for at most so many seconds (nil: no limit): returns true and what `done` was called
--- with, or false when the time is over and the starter's undo function has been called.
function task.await_within(seconds, starter)
  return task.await(function(done)
    local disarm, finished
    local undo = starter(function(...)
      finished = true
      if disarm then disarm() end
      done(true, ...)
    end)
    if finished then return end
    disarm = seconds and arm(seconds, function()
      if undo then undo() end
      done(false)
    end)
    return function()
      if disarm then disarm() end
      if undo then undo() end
    end
  end)
end

--- Waits. tg.sleep
function task.sleep(seconds)
  check_seconds(seconds, 2)
  task.await(arm, seconds)
end

--- Starts a task that runs `fn(…)`. tg.spawn
---@return tidegate.Task
function task.spawn(fn, ...)
  if type(fn) ~= "function" then error("spawn: a function expected, got " .. type(fn), 2) end
  return task.start({}, fn, ...)
end

--- Fails the task if it is alive then.
function Task:limit(seconds)
  local disarm = arm(seconds, function()
    if self.state ~= "alive" then return end
    break_off(self, ("took longer than %g s"):format(seconds))
  end)
  self.ended[#self.ended + 1] = disarm
end

--- Waits for the end of the task: true and what it returned, or false, the error (or "cancelled")
--- and its traceback.
function Task:join()
  if self.state == "alive" then
    task.await(function(done) table.insert(self.ended, done) end)
  end
  return table.unpack(self.result, 1, self.result.n)
end

--- Runs `fn(…)`, for at most so many seconds: returns what it returns, or nil, "timeout" after its
--- `<close>` variables ran. An error in it is an error here. tg.timeout
function task.timeout(seconds, fn, ...)
  check_seconds(seconds, 2)
  local t = current or error("can't wait here: not in a task", 2)
  local child = task.start({ name = t.name, owner = t.owner, budget = t.budget, quiet = true }, fn, ...)
  if child.state == "alive" then
    task.await(function(done)
      local disarm = arm(seconds, done)
      table.insert(child.ended, disarm)
      table.insert(child.ended, done)
      return function()
        disarm()
        child:cancel()
      end
    end)
  end
  if child.state == "alive" then
    child:cancel()
    return nil, "timeout"
  end
  if child.state == "done" then return table.unpack(child.result, 2, child.result.n) end
  t.inner = { message = child.result[2], traceback = child.result[3] or "" }
  error(child.result[2], 0)
end

---@class tidegate.Timer
local Timer = {}
local timer_meta = { __name = "tidegate.Timer", __metatable = "tidegate.Timer", __index = Timer }

--- No further run. A run under way is ended too, unless it is the one that calls this.
function Timer:cancel()
  self.owner:drop(self)
  if self.disarm then self.disarm() end
  self.disarm, self.stopped = nil, true
  if self.job then self.job:cancel() end
end

local function new_timer(fn, options)
  local owner = options.owner or task.current_owner()
  if owner.cancelled then error(("owner %q is cancelled"):format(owner.name), 3) end
  local timer = { owner = owner, name = options.name or default_name(fn), runs = 0, missed = 0 }
  return owner:keep(setmetatable(timer, timer_meta))
end

--- Starts a task that runs `fn(…)` in so many seconds. tg.after
---@return tidegate.Timer
function task.after(seconds, fn, ...)
  check_seconds(seconds, 2)
  local timer, args = new_timer(fn, {}), table.pack(...)
  timer.disarm = arm(seconds, function()
    timer.owner:drop(timer)
    timer.runs, timer.disarm = 1, nil
    task.start({ name = timer.name, owner = timer.owner }, fn, table.unpack(args, 1, args.n))
  end)
  return timer
end

--- Runs `fn` as a task every so many seconds, on a schedule that doesn't drift. A run that is due
--- while the one before goes on is left out (and counted as `missed`). tg.every
---@param options { name: string?, jitter: number?, owner: tidegate.Owner? }?  jitter: up to so many
---  seconds later, anew for each run
---@return tidegate.Timer
function task.every(interval, fn, options)
  check_seconds(interval, 2)
  options = options or {}
  if interval < 0.001 then error("every: the interval is at least 0.001 s", 2) end
  if type(fn) ~= "function" then error("every: a function expected, got " .. type(fn), 2) end
  local timer = new_timer(fn, options)
  local due = uv.hrtime() / 1e9

  local function schedule()
    local now = uv.hrtime() / 1e9
    due = due + interval * math.max(1, math.ceil((now - due) / interval))
    timer.disarm = arm(due - now + math.random() * (options.jitter or 0), function()
      schedule()
      if timer.job and timer.job.state == "alive" then
        timer.missed = timer.missed + 1
        return
      end
      timer.runs = timer.runs + 1
      timer.job = task.start({ name = timer.name, owner = timer.owner }, fn)
    end)
  end
  schedule()
  return timer
end

-- For the host -------------------------------------------------------------------------------------

--- The running task, or nil.
function task.current()
  return current
end

--- The owner of everything.
function task.root()
  return root
end

--- Seconds on a clock that never jumps.
function task.now()
  return uv.hrtime() / 1e9
end

--- Ends everything (tidegate.shutdown).
function task.shutdown()
  root:cancel()
  for _, timer in ipairs(idle_timers) do timer:close() end
  idle_timers = {}
  if kick then kick:close() end
  kick = nil
end

task.arm = arm
task.check_seconds = check_seconds

log.ask_script(function() return current and current.owner.script end)

return task
