-- SPDX-License-Identifier: GPL-2.0-only
--- The end of the VM (core/vm.c): ends all tasks, then closes what luv still holds, so that lua_close
--- finds nothing under way. Returns a function, called until it returns 0: what can't be cancelled.
local log = require "tidegate.log"
local task = require "tidegate.task"

local loaded = package.loaded

--- luv keeps its open handles and requests in the registry. uv.walk would trip over the handles of
--- our C modules.
local function luv_objects()
  local list = {}
  for _, value in pairs(debug.getregistry()) do
    local meta = type(value) == "userdata" and debug.getmetatable(value)
    if meta and type(meta.__name) == "string" and meta.__name:find "^uv_" then
      list[#list + 1] = { value = value, kind = meta.__name }
    end
  end
  return list
end

local function close_all()
  local pending = 0
  for _, object in ipairs(luv_objects()) do
    local value = object.value
    if object.kind == "uv_req" then
      pending = pending + 1
      pcall(value.cancel, value)
    elseif value.is_closing then
      pending = pending + 1
      if not value:is_closing() then value:close() end
    end
  end
  return pending
end

local ended = false

return function()
  if not ended then
    ended = true
    local ok, message = xpcall(task.shutdown, debug.traceback)
    if not ok then log.error("shutting down: %s", message) end
  end
  return loaded.luv and close_all() or 0
end
