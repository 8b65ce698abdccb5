-- SPDX-License-Identifier: GPL-2.0-only
--- tg.on: handlers of events. An event is a table with a `name` ("backend.down"); each delivery is a
--- task of the handler's generation.

local generation = require "tidegate.generation"
local misuse = require "tidegate.misuse"
local schema = require "tidegate.schema"
local task = require "tidegate.task"

local event = {}

local handlers = {}

--- "backend.*" as a Lua pattern: * stands for any characters.
local function compile(glob)
  return "^" .. glob:gsub("[%^%$%(%)%%%.%[%]%+%-%?]", "%%%0"):gsub("%*", ".*") .. "$"
end

--- Calls fn(event) for events whose name matches the pattern, from the commit until its generation ends.
function event.on(pattern, fn)
  schema.string("tg.on", pattern)
  schema.fn("tg.on " .. pattern, fn)
  if not pattern:find "^[%w_.*]+$" then
    misuse("tg.on: %q given, a pattern such as \"backend.*\" expected", pattern)
  end
  local position = generation.position()
  generation.arm("tg.on " .. pattern, function()
    local handler = {
      pattern = compile(pattern), fn = fn, owner = task.current_owner(),
      name = ("handler of %s (%s)"):format(pattern, position),
    }
    function handler:cancel() handlers[self] = nil end
    handlers[handler] = true
    handler.owner:keep(handler)
  end)
end

--- Delivers an event to all handlers that ask for it.
function event.emit(ev)
  for handler in pairs(handlers) do
    if ev.name:find(handler.pattern) then
      task.start({ name = handler.name, owner = handler.owner }, handler.fn, ev)
    end
  end
end

return event
