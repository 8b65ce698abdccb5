-- SPDX-License-Identifier: GPL-2.0-only
--- tg.on: handlers of events. An event is a table with a `name` ("backend.down"); each delivery is a
--- task of the handler's generation.

local generation = require "tidegate.generation"
local misuse = require "tidegate.misuse"
local schema = require "tidegate.schema"
local task = require "tidegate.task"

local event = {}

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
  for i, other in ipairs(handlers) do
    if other == self then return table.remove(handlers, i) end
  end
end

--- Calls fn(event) for events whose name matches the pattern, from the commit until its generation ends,
--- or what this returns is cancelled.
function event.on(pattern, fn)
  schema.string("tg.on", pattern)
  schema.fn("tg.on " .. pattern, fn)
  if not pattern:find "^[%w_.*]+$" then
    misuse("tg.on: %q given, a pattern such as \"backend.*\" expected", pattern)
  end
  local position = generation.position()
  return generation.arm("tg.on " .. pattern, function()
    local handler = setmetatable({
      pattern = compile(pattern), fn = fn, owner = task.current_owner(),
      name = ("handler of %s (%s)"):format(pattern, position),
    }, meta)
    handlers[#handlers + 1] = handler
    return handler.owner:keep(handler)
  end)
end

--- Delivers an event to all handlers that ask for it.
function event.emit(ev)
  for _, handler in ipairs(table.move(handlers, 1, #handlers, 1, {})) do
    if ev.name:find(handler.pattern) and not handler.owner.cancelled then
      task.start({ name = handler.name, owner = handler.owner }, handler.fn, ev)
    end
  end
end

return event
