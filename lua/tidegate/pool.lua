-- SPDX-License-Identifier: GPL-2.0-only
--- tg.pool: backends with a name and a check, shared by services.

local backend = require "tidegate.backend"
local check = require "tidegate.check"
local generation = require "tidegate.generation"
local schema = require "tidegate.schema"

local options = schema.table {
  name = schema.required(schema.name), backends = schema.required(backend.list), check = check.options,
}

---@class tidegate.Pool
---@field name string
local meta = { __name = "tidegate.Pool", __metatable = "tidegate.Pool" }

local declarations = setmetatable({}, { __mode = "k" })

local pool = {}

--- Declares a pool; returns a handle for `backends =` of services.
function pool.declare(given)
  local name = type(given) == "table" and given.name or nil
  local declaration = generation.declare("pool", name, function() return options("tg.pool", given) end)
  local handle = setmetatable({ name = name }, meta)
  declarations[handle] = declaration
  return handle
end

--- A name for a pool that some file declares.
function pool.reference(name)
  return setmetatable({ name = name }, meta)
end

function pool.is(value)
  return type(value) == "table" and getmetatable(value) == "tidegate.Pool"
end

--- The declaration that a handle or reference means within a generation; nil if there is none.
function pool.resolve(handle, gen)
  local declaration = declarations[handle]
  if declaration then return declaration end
  return gen.declared.pool and gen.declared.pool[handle.name]
end

function meta:__tostring()
  return ("pool %q"):format(self.name or "?")
end

return pool
