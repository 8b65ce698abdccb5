-- SPDX-License-Identifier: GPL-2.0-only
--- What `tidegate lua` and `tidegate test` run: a plain Lua program in a task, with all of Lua.
local core = require "tidegate.core.host"
local task = require "tidegate.task"

local program = {}

--- Starts `main(…)` as the task that the program is; its end is the program's.
local function start(name, main, ...)
  _G.tg = require "tidegate"
  os.exit = function(code)          -- in good order: <close> variables run
    core.exit(code == nil and 0 or code == true and 0 or code == false and 1 or code)
  end
  local function on_error(_, traceback)
    io.stderr:write("tidegate: ", traceback, "\n")
    core.exit(1)
  end
  local t = task.start({ name = name, on_error = on_error }, main, ...)
  local function ended() if t.state ~= "failed" then core.exit(0) end end
  if t.state == "alive" then table.insert(t.ended, ended) else ended() end
end

--- tidegate lua FILE [ARG…]
function program.lua(file, ...)
  arg = { [0] = file, ... }
  local chunk, message = loadfile(file)
  if not chunk then error(message, 0) end
  start(file, chunk, ...)
end

--- tidegate test SPEC…
function program.test(...)
  start("test", require "tidegate.test", ...)
end

return program
