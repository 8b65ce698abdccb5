-- SPDX-License-Identifier: GPL-2.0-only
--- What QUIC packets begin with (RFC 8999, 9000, 9369), as bytes: no more of them than a balancer reads.
---
---     quic.id(0x0b)                        --> a connection ID by the layout { offset = 1, length = 2 }
---     quic.short(quic.id(0x0b))            --> a packet with a short header
---     quic.long("initial", quic.id(0x0b))  --> one with a long header, version 1
local quic = {}

local TYPES = {
  [1] = { initial = 0, ["0-rtt"] = 1, handshake = 2, retry = 3 },
  [0x6b3343cf] = { retry = 0, initial = 1, ["0-rtt"] = 2, handshake = 3 },
}

quic.V2 = 0x6b3343cf

--- A connection ID of `size` bytes: the first byte, the server's ID in `length` bytes, and a nonce.
function quic.id(server, given)
  given = given or {}
  local first = string.char(given.first or 0x0b)
  local id = string.pack(">I" .. (given.length or 2), server)
  return (first .. id .. (given.nonce or "nonce678")):sub(1, given.size)
end

--- An ID that the client made up.
function quic.random_id()
  local bytes = {}
  for i = 1, 8 do bytes[i] = string.char(math.random(0, 255)) end
  bytes[1] = "\xff" -- no configuration of ours
  return table.concat(bytes)
end

function quic.short(id, first)
  return string.char(first or 0x40 | math.random(0, 31)) .. id .. "payload"
end

function quic.long(kind, id, given)
  given = given or {}
  local version = given.version or 1
  local number = type(kind) == "number" and kind or (TYPES[version] or TYPES[1])[kind]
  return string.pack(">B I4 s1 s1", 0xc0 | number << 4, version, id, given.source or "client") .. "payload"
end

return quic
