-- SPDX-License-Identifier: GPL-2.0-only
--- tg.trigger: something to do while a condition on the rates holds, and to undo after.
---
--- The condition is asked each `every` seconds, in a task. When it has held for `hold` seconds `start` runs, when
--- it has not for `clear` seconds `stop` does; when exactly says trigger/hysteresis.lua. The log tells the values
--- that the condition has read. What is on has an end: after `max` seconds, with its generation, or when somebody
--- says stop. Errors are counted and logged with the trigger's name, and change nothing else: a `start` that
--- raises is stopped as any.

local event = require "tidegate.event"
local generation = require "tidegate.generation"
local hysteresis = require "tidegate.trigger.hysteresis"
local log = require "tidegate.log"
local rates = require "tidegate.rates"
local schema = require "tidegate.schema"
local task = require "tidegate.task"
local watched = require "tidegate.trigger.watched"

local trigger = {}

local STOP_SECONDS = 30     -- that a stop may take

local options = schema.table {
  name = schema.required(schema.name), when = schema.required(schema.fn), start = schema.required(schema.fn),
  stop = schema.fn, every = schema.seconds(0.05, 3600), hold = schema.seconds(0, 86400),
  clear = schema.seconds(0, 86400), max = schema.seconds(1, 86400 * 7), starts = schema.integer(1, 3600),
}

local DEFAULTS = { every = 1, hold = 1, clear = 30, max = 600, starts = 6 }

local in_force = {}     -- name → what runs
local stopping = {}     -- name → the task that runs a stop

-- What runs ----------------------------------------------------------------------------------------

---@class tidegate.RunningTrigger
local Running = {}
local running_meta = { __index = Running }

--- The same error again and again is logged once.
local function on_error(self, message, traceback, job)
  self.errors = self.errors + 1
  local text = tostring(message)
  if job.name == self.asking then
    if self.complaint == text then return end
    self.complaint = text
  end
  log.error("trigger %s: %s failed: %s", self.name, job.name, traceback)
end

local WHY = {
  clear = "calm for %.14g s", max = "on for %.14g s, its longest", generation = "its generation ends", told = "told to",
}

local function why_text(self, why)
  return WHY[why]:format(self.options[why])
end

local function tell(self, name, cause)
  event.emit { name = name, trigger = self.name, cause = cause }
end

local function begin(self, r, read)
  local cause = watched.text(read)
  self.cause, self.since, self.starts = cause, os.time(), self.starts + 1
  log.warn("trigger %s: started: %s for %.14g s", self.name, cause == "" and "its condition held" or cause,
    self.options.hold)
  tell(self, "trigger.start", cause)
  self.job = task.start({ name = "start", owner = self.owner }, function()
    if stopping[self.name] then stopping[self.name]:join() end
    self.options.start(r, cause)
  end)
end

--- An owner that outlives the generation, for the stop of what it leaves.
local function lasting_owner(self)
  return task.owner("trigger " .. self.name, {
    parent = task.root(), script = self.owner.script, budget = self.owner.budget, on_error = self.owner.on_error,
  })
end

local function run_stop(self, why)
  local owner <close> = lasting_owner(self)
  local job = task.start({ name = "stop", owner = owner, timeout = STOP_SECONDS }, self.options.stop, why)
  job:join()
end

local function finish(self, why, read)
  local lasted, values = os.time() - self.since, read and watched.text(read) or ""
  log.warn("trigger %s: stopped after %d s: %s%s", self.name, lasted, why_text(self, why),
    values == "" and "" or " (" .. values .. ")")
  tell(self, "trigger.stop", why_text(self, why))
  if self.job then self.job:cancel() end
  self.since, self.job = os.time(), nil
  if not self.options.stop then return end
  local job = task.start({ name = "stop of trigger " .. self.name, owner = task.root() }, run_stop, self, why)
  stopping[self.name] = job
  task.start({ name = "stopped", owner = task.root() }, function()
    job:join()
    if stopping[self.name] == job then stopping[self.name] = nil end
  end)
end

local function advance(self, holds, r, read)
  local act, why = self.machine:step(task.now(), holds)
  if act == "start" then
    begin(self, r, read)
  elseif act == "stop" then
    finish(self, why, read)
  elseif act == "refuse" then
    log.warn("trigger %s: not started: it was %d times within the last hour, no more allowed (%s)", self.name,
      self.options.starts, watched.text(read))
  end
end

--- Asks the condition; what raises is told by on_error.
local function ask(self)
  local r, read = rates.read(), {}
  if not r then return end
  local job = task.start({ name = self.asking, owner = self.owner }, function()
    return self.options.when(watched.new(r, read)) and true or false
  end)
  local ok, holds = job:join()
  if ok then self.complaint = nil end
  if not ok then holds = nil end
  advance(self, holds, r, read)
end

--- Ends it: with its generation. At the daemon's own end nothing runs any more.
function Running:cancel()
  if in_force[self.name] == self then in_force[self.name] = nil end
  if task.root().cancelled then
    if self.machine:is_on() then log.warn("trigger %s: it is on, and the daemon ends: no stop runs", self.name) end
  elseif self.machine:is_on() then
    self.machine:reset "calm"
    finish(self, "generation")
  end
  self.owner:cancel()
end

--- What a person wants to know of it.
function Running:status()
  return {
    name = self.name, state = self.machine.state, on = self.machine:is_on(), since = self.since,
    starts = self.starts, errors = self.errors, cause = self.cause, position = self.position,
  }
end

local function run(checked, position)
  local self = setmetatable({
    name = checked.name, options = checked, machine = hysteresis.new(checked), starts = 0, errors = 0,
    since = os.time(), position = position, asking = "when",
  }, running_meta)
  local parent = task.current_owner()
  self.owner = task.owner("trigger " .. self.name, {
    parent = parent, on_error = function(...) on_error(self, ...) end,
  })
  in_force[self.name] = parent:keep(self)
  task.every(checked.every, function() ask(self) end, { name = "trigger " .. self.name, owner = self.owner })
  return self
end

-- For scripts --------------------------------------------------------------------------------------

---@class tidegate.Trigger
---@field name string
local Trigger = {}
local meta = { __name = "tidegate.Trigger", __metatable = "tidegate.Trigger", __index = Trigger }

--- Declares a trigger; returns its handle.
function trigger.declare(given)
  local name = type(given) == "table" and given.name or nil
  local declaration = generation.declare("trigger", name, function()
    local checked = options("tg.trigger", given)
    for key, value in pairs(DEFAULTS) do checked[key] = checked[key] or value end
    return checked
  end)
  if not declaration.broken then
    generation.arm("trigger " .. name, function() return run(declaration, declaration.position) end)
  end
  return trigger.reference(name)
end

--- A handle by its name.
function trigger.reference(name)
  return setmetatable({ name = name }, meta)
end

--- { state, on, since, starts, errors, cause, … }; or nil, why, code.
function Trigger:status()
  local found = in_force[self.name]
  if not found then return nil, ("there is no trigger %q in force"):format(tostring(self.name)), "ENOENT" end
  return found:status()
end

--- Stops it if it is on; it starts again when its condition has not held for a while, and then does. true if it
--- was on, false if not; or nil, why, code.
function Trigger:stop()
  local found = in_force[self.name]
  if not found then return nil, ("there is no trigger %q in force"):format(tostring(self.name)), "ENOENT" end
  if not found.machine:is_on() then return false end
  found.machine:reset "spent"
  finish(found, "told")
  return true
end

function meta:__tostring()
  return ("trigger %q"):format(self.name or "?")
end

--- The status of all that are in force: name → status.
function trigger.status()
  local all = {}
  for name, found in pairs(in_force) do all[name] = found:status() end
  return all
end

--- One as a line.
function trigger.line(status)
  local errors = status.errors > 0 and (", %d errors"):format(status.errors) or ""
  local cause = status.on and status.cause ~= "" and (" (%s)"):format(status.cause) or ""
  return ("trigger %s: %s since %s%s, started %d times%s"):format(status.name, status.state,
    os.date("%Y-%m-%d %H:%M:%S", status.since), cause, status.starts, errors)
end

return trigger
