-- SPDX-License-Identifier: GPL-2.0-only
--- The log: `log.info("%s is %s", name, state)` and debug, warn, error. Without further arguments the
--- text is taken as it is. The line begins with the script that the running task belongs to.
local core = require "tidegate.core.log"

local log = {}

--- Set by task.lua: the running task's script, or nil.
---@type fun(): string?
local script_of_task = function() end

local function writer(level)
  return function(format, ...)
    local text = select("#", ...) > 0 and string.format(format, ...) or tostring(format)
    local script = script_of_task()
    core.write(level, script and script .. ": " .. text or text)
  end
end

log.debug, log.info, log.warn, log.error = writer "debug", writer "info", writer "warn", writer "error"

--- Nothing below this level is logged from now on: debug, info, warn, error.
function log.level(name)
  core.level(name)
end

--- The last messages, oldest first: { serial=, level=, text= } each; only those after a serial number.
function log.recent(after)
  return core.recent(after)
end

--- For task.lua.
function log.ask_script(fn)
  script_of_task = fn
end

return log
