-- SPDX-License-Identifier: GPL-2.0-only
--- tg.prog: core/lua_prog.c, manual in lua/meta/prog.lua. Running a program changes its maps, and its
--- answer is needed at once: not at a file's top level.

local core = require "tidegate.core.prog"
local generation = require "tidegate.generation"
local misuse = require "tidegate.misuse"

local methods = debug.getregistry()["tidegate.prog"].__index
local run = methods.run

generation.while_loading(methods, {
  run = function(...)
    if generation.loading() then misuse "tg.prog: run changes maps: call it in a task (tg.spawn), after the commit" end
    return run(...)
  end,
})

return core
