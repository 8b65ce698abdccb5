-- SPDX-License-Identifier: GPL-2.0-only
--- tg.map: core/lua_map.c, manual in lua/meta/map.lua. What writes to a map is an act: at a file's top
--- level it is queued until the commit (generation.act) and returns true. Reading asks, and is done at
--- once.

local core = require "tidegate.core.map"
local generation = require "tidegate.generation"
local misuse = require "tidegate.misuse"

local meta = debug.getregistry()["tidegate.map"]
local methods = meta.__index

--- As it is now: the script may use its table again before the act runs.
local function copy(value)
  if type(value) ~= "table" then return value end
  local result = {}
  for key, inner in pairs(value) do result[key] = copy(inner) end
  return result
end

local while_loading = {}

for _, name in ipairs { "set", "delete", "batch_set" } do
  local write = methods[name]
  while_loading[name] = function(self, ...)
    if not generation.loading() then return write(self, ...) end
    local args = table.pack(...)
    for i = 1, args.n do args[i] = copy(args[i]) end
    return generation.act(("%s: %s"):format(self, name), function()
      return write(self, table.unpack(args, 1, args.n))
    end)
  end
end

local close, pop = methods.close, methods.pop

--- Not before the writes that are queued.
function while_loading.close(self)
  generation.act(nil, function() close(self) end)
end

function while_loading.pop(...)
  if generation.loading() then
    misuse "tg.map: pop changes the map and its answer is needed at once: call it in a task (tg.spawn)"
  end
  return pop(...)
end

generation.while_loading(methods, while_loading)
generation.while_loading(meta, { __close = while_loading.close })

return core
