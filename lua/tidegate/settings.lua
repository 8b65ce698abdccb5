-- SPDX-License-Identifier: GPL-2.0-only
--- tg.instance: settings of the whole instance.

local generation = require "tidegate.generation"
local host = require "tidegate.core.host"
local log = require "tidegate.log"
local maglev = require "tidegate.core.maglev"
local misuse = require "tidegate.misuse"
local schema = require "tidegate.schema"

local settings = {}

local MEMORY = 64 << 20

local options = schema.table {
  memory = schema.bytes(16 << 20, 16 << 30),
  log = schema.one_of { "debug", "info", "warn", "error" },
  seed = function(what, value)
    if type(value) ~= "string" or #value < 8 then
      misuse("%s: a secret of at least 8 characters expected, shared by the nodes of a cluster", what)
    end
    return value
  end,
}

--- Declares `memory` (the VM's cap), `log` (the lowest level that is logged) and `seed` (the key of the
--- flow hash; the same on all nodes that serve the same VIPs; in force when an instance is first loaded).
function settings.declare(given)
  generation.declare("instance", "instance", function() return options("tg.instance", given) end)
end

local function declared(gen)
  return gen and gen.declared.instance and gen.declared.instance.instance or {}
end

--- The 16 bytes that the flow hash's key is made from, or nil: the instance's own.
function settings.seed(gen)
  local seed = declared(gen).seed
  return seed and maglev.key(seed .. "0") .. maglev.key(seed .. "1")
end

--- Puts the settings of a generation in force; without one, those that hold while files are first loaded.
function settings.apply(gen)
  local given = declared(gen)
  host.memory(given.memory or MEMORY)
  log.level(given.log or "info")
end

return settings
