-- SPDX-License-Identifier: GPL-2.0-only
--- Whose change of what is in force it is: a task's of a generation, or an operator's (eval, repl).

local generation = require "tidegate.generation"
local task = require "tidegate.task"

--- { owner = "task" | "operator", who = "web.lua:12" | "uid 0", script = … }
return function()
  local owner = task.current_owner()
  local gen = generation.current()
  if gen then return { owner = "task", who = generation.position(), script = owner.script } end
  while owner and not owner.who do owner = owner.parent end
  return { owner = "operator", who = owner and owner.who or "operator" }
end
