-- SPDX-License-Identifier: GPL-2.0-only
--- Backends as scripts write them: "10.0.0.11", "10.0.0.11:8080", or { "10.0.0.12", weight = 2 }.

local address = require "tidegate.address"
local check = require "tidegate.check"
local misuse = require "tidegate.misuse"
local quic = require "tidegate.quic"
local schema = require "tidegate.schema"

local backend = {}

local weight = schema.integer(0, 65535)
local options = schema.table {
  weight = weight, check = check.options, backup = schema.boolean,
  admin = schema.one_of { "ready", "drain", "maint" }, quic_id = quic.id, tags = function(_, value) return value end,
}

--- Reads a backend's address; its name is the canonical text.
function backend.parse(what, text)
  if type(text) ~= "string" then
    misuse("%s: %s given, an address such as \"10.0.0.11\" or \"10.0.0.11:8080\" expected", what, schema.show(text))
  end
  local endpoint, problem = address.parse(text)
  if not endpoint and address.parse_vip(text) then
    problem = "several ports, and a backend has one, or the VIP's"
  end
  problem = problem or address.refusal(endpoint)
  if problem then misuse("backend %s: %s", schema.show(text), problem) end
  if endpoint.proto then misuse("backend %q: a backend has no protocol of its own, the VIP's counts", text) end
  return {
    name = address.format(endpoint.addr, endpoint.port), addr = endpoint.addr, family = endpoint.family,
    port = endpoint.port, weight = 1,
  }
end

--- Reads one entry of a list of backends.
function backend.read(what, value)
  if type(value) ~= "table" then return backend.parse(what, value) end
  local result = backend.parse(what, value[1])
  local rest = {}
  for key, given in pairs(value) do
    if key ~= 1 then rest[key] = given end
  end
  for key, given in pairs(options("backend " .. result.name, rest)) do result[key] = given end
  return result
end

--- Reads a list of backends; an address twice is a mistake.
function backend.list(what, value)
  if type(value) ~= "table" then misuse("%s: a list of backends expected", what) end
  local list, seen = {}, {}
  for i, entry in ipairs(value) do
    local read = backend.read(("%s[%d]"):format(what, i), entry)
    if seen[read.name] then misuse("%s: backend %q is listed twice", what, read.name) end
    seen[read.name], list[i] = true, read
  end
  for key in pairs(value) do
    if math.type(key) ~= "integer" or key < 1 or key > #list then
      misuse("%s: a list expected, but it has the key %s", what, schema.show(key))
    end
  end
  return list
end

backend.weight = weight

return backend
