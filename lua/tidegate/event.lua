-- SPDX-License-Identifier: GPL-2.0-only
--- tg.on: handlers of events. An event is a table with a `name` ("backend.down"); each delivery is a
--- task of the handler's generation, with one event, or every so many seconds with a list of those that came.
---
--- What a handler is given and has not looked at yet is bounded: of one without `batch` so many tasks, of one with it
--- so many events, are alive; what comes then is lost to it, and counted (`lost`).

local generation = require "tidegate.generation"
local misuse = require "tidegate.misuse"
local schema = require "tidegate.schema"
local task = require "tidegate.task"

local event = {}

event.TASKS = 256        -- alive, of a handler
event.BATCH = 4096       -- events after which a batch is delivered before its time
event.QUEUE = 16384      -- events that wait while a batch is being handled

local handlers = {}      -- in the order of their tg.on

--- "backend.*" as a Lua pattern: * stands for any characters.
local function compile(glob)
  return "^" .. glob:gsub("[%^%$%(%)%%%.%[%]%+%-%?]", "%%%0"):gsub("%*", ".*") .. "$"
end

local Handler = {}
local meta = { __name = "tidegate.Handler", __metatable = "tidegate.Handler", __index = Handler }

--- No further delivery; those under way go on.
function Handler:cancel()
  self.owner:drop(self)
  if self.disarm then self.disarm() end
  self.disarm, self.cancelled = nil, true
  for i, other in ipairs(handlers) do
    if other == self then
      table.remove(handlers, i)
      return event.changed()
    end
  end
end

local options = schema.table { batch = schema.seconds(0.001, 3600) }

--- Calls fn(event) for events whose name matches the pattern, from the commit until its generation ends,
--- or what this returns is cancelled. With `batch` it is fn(events), every so many seconds if there are any.
function event.on(pattern, fn, given)
  schema.string("tg.on", pattern)
  schema.fn("tg.on " .. pattern, fn)
  if not pattern:find "^[%w_.*-]+$" then
    misuse("tg.on: %q given, a pattern such as \"backend.*\" expected", pattern)
  end
  local checked = options("tg.on " .. pattern, given or {})
  local position, gen = generation.position(), generation.loading()
  if gen then
    gen.listens = gen.listens or {}
    table.insert(gen.listens, compile(pattern))
  end
  return generation.arm("tg.on " .. pattern, function()
    local handler = setmetatable({
      pattern = compile(pattern), fn = fn, batch = checked.batch, owner = task.current_owner(),
      name = ("handler of %s (%s)"):format(pattern, position),
      wants = {},                     -- event name → does the pattern match it?
      alive = 0, lost = 0, queue = {}, count = 0,
    }, meta)
    handler.ended = function() handler.alive = handler.alive - 1 end
    handlers[#handlers + 1] = handler
    handler.owner:keep(handler)
    event.changed()
    return handler
  end)
end

local function wants(handler, name)
  local known = handler.wants[name]
  if known == nil then
    known = name:find(handler.pattern) ~= nil
    handler.wants[name] = known
  end
  return known
end

--- Is there a handler for events of that name?
function event.wanted(name)
  for _, handler in ipairs(handlers) do
    if wants(handler, name) then return true end
  end
  return false
end

--- The same, of one that a generation that is not in force yet declares.
function event.listens(gen, name)
  for _, pattern in ipairs(gen.listens or {}) do
    if name:find(pattern) then return true end
  end
  return false
end

--- Told when handlers come or go: packet_event.lua puts another function here.
function event.changed() end

-- Delivery ------------------------------------------------------------------------------------------

local function start(handler, given)
  if handler.cancelled or handler.owner.cancelled then return end
  handler.alive = handler.alive + 1
  local job = task.start({ name = handler.name, owner = handler.owner }, handler.fn, given)
  if job.state == "alive" then
    table.insert(job.ended, handler.ended)
  else
    handler.alive = handler.alive - 1
  end
end

local function give(handler, ev)
  if handler.alive >= event.TASKS then
    handler.lost = handler.lost + 1
  else
    start(handler, ev)
  end
end

local deliver

--- A batch is due, in so many seconds.
local function arm(handler, seconds)
  handler.disarm = handler.disarm or task.arm(seconds, function()
    handler.disarm = nil
    deliver(handler)
  end)
end

--- Gives a handler what waits for it; one batch at a time.
function deliver(handler)
  if handler.count == 0 then return end
  if handler.alive > 0 then return arm(handler, math.min(handler.batch, 0.01)) end
  local list = handler.queue
  handler.queue, handler.count = {}, 0
  start(handler, list)
end

local function put(handler, ev)
  local count = handler.count
  if count >= event.QUEUE then
    handler.lost = handler.lost + 1
    return
  end
  handler.queue[count + 1], handler.count = ev, count + 1
end

--- Those that wait for a handler are delivered: when the time has come, or enough are there.
local function arrange(handler)
  if handler.count >= event.BATCH and handler.alive == 0 then return deliver(handler) end
  if handler.count > 0 then arm(handler, handler.batch) end
end

--- The handlers may change meanwhile.
local function each_handler()
  return ipairs(table.move(handlers, 1, #handlers, 1, {}))
end

--- Delivers an event to all handlers that ask for it.
function event.emit(ev)
  for _, handler in each_handler() do
    if wants(handler, ev.name) then
      if handler.batch then
        put(handler, ev)
        arrange(handler)
      else
        give(handler, ev)
      end
    end
  end
end

--- The same of a list of events, in their order.
function event.emit_all(list)
  for _, handler in each_handler() do
    local take = handler.batch and put or give
    for i = 1, #list do
      local ev = list[i]
      if wants(handler, ev.name) then take(handler, ev) end
    end
    if handler.batch then arrange(handler) end
  end
end

--- How many events handlers lost, by the handlers' names; those that lost none are not told.
function event.lost()
  local lost = {}
  for _, handler in ipairs(handlers) do
    if handler.lost > 0 then lost[handler.name] = (lost[handler.name] or 0) + handler.lost end
  end
  return lost
end

return event
