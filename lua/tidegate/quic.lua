-- SPDX-License-Identifier: GPL-2.0-only
--- QUIC: `quic = true`, or the layout of connection IDs that a service's servers give out, and the server
--- ID of each backend in them (see bpf/quic.h).
---
---     quic = { offset = 1, length = 2, config = 0 }        -- what `true` stands for

local misuse = require "tidegate.misuse"
local ip = require("tidegate.packet.addr").ip
local schema = require "tidegate.schema"

local quic = {}

local MAX_ID <const> = 20 -- bytes of a connection ID (RFC 9000, 17.2)

local layout = schema.table {
  offset = schema.integer(0, MAX_ID - 1), length = schema.integer(1, 4), config = schema.integer(0, 6),
}

--- The option `quic` of a service; nil: it is none.
function quic.options(what, value)
  if value == false then return nil end
  if value == true then return { offset = 1, length = 2, config = 0 } end
  if type(value) ~= "table" then
    misuse("%s: %s given, true or { offset = 1, length = 2 } expected", what, schema.show(value))
  end
  local read = layout(what, value)
  read.offset, read.length = read.offset or 1, read.length or 2
  if read.offset + read.length > MAX_ID then
    misuse("%s: %d bytes at offset %d, but a connection ID has at most %d", what, read.length, read.offset, MAX_ID)
  end
  if read.offset == 0 and read.config then
    misuse("%s: offset 0 is the first byte, which config = %d claims: offset 1 or more, or no config", what,
      read.config)
  end
  return read
end

quic.id = schema.integer(0, 0xffffffff)

--- A layout in words, for the plan.
function quic.describe(of)
  if not of then return "none" end
  local config = of.config and (", config %d"):format(of.config) or ""
  return ("%d bytes at %d%s"):format(of.length, of.offset, config)
end

--- The server ID of a backend that was given none: the last bytes of its address.
local function own_id(backend, length)
  local bytes = ip(backend.addr).bytes
  return (string.unpack(">I" .. length, bytes, #bytes - length + 1))
end

--- Gives each backend of a service that is QUIC its server ID, and notes what can't be. Backends of both
--- families may have one, as a server with two addresses has, unless a VIP leads to either (`mixed`).
function quic.give_ids(spec, mixed, note)
  if not spec.quic then return end
  local length, any = spec.quic.length, false
  local taken = { [4] = {} }
  taken[6] = mixed and taken[4] or {}
  for _, vip in ipairs(spec.vips) do any = any or vip.proto == "udp" end
  if not any then note("service %q: quic is for UDP, and it has no UDP VIP", spec.name) end
  for _, backend in ipairs(spec.backends) do
    backend.quic_id = backend.quic_id or own_id(backend, length)
    local other = taken[backend.family][backend.quic_id]
    if other then
      note("service %q: backends %s and %s both have the QUIC server ID %d: give one another by quic_id = …",
        spec.name, other, backend.name, backend.quic_id)
    elseif backend.quic_id >> 8 * length > 0 then
      note("service %q: backend %s: quic_id %d has no room in %d bytes",
        spec.name, backend.name, backend.quic_id, length)
    end
    taken[backend.family][backend.quic_id] = backend.name
  end
end

return quic
