-- SPDX-License-Identifier: GPL-2.0-only
--- TCP options, as a table and as bytes:
---
---     { mss = 1460, sack_ok = true, ts = { val = 1, ecr = 0 }, wscale = 7 }
---
--- `ts` may be the value alone. Encoded in the order and alignment that Linux uses.

local misuse = require "tidegate.misuse"
local value = require "tidegate.packet.value"

local options = {}

local MSS, WSCALE, SACK_OK, TIMESTAMPS = 2, 3, 4, 8

local function timestamps(given)
  if type(given) ~= "table" then given = { val = given } end
  return string.pack(">BBI4I4", TIMESTAMPS, 10, value.u32(given.val, "tcp.options.ts", "val"),
    value.u32(given.ecr or 0, "tcp.options.ts", "ecr"))
end

local KNOWN = { mss = true, sack_ok = true, ts = true, wscale = true }

--- The bytes of a table of options: a multiple of four.
function options.encode(given)
  for key in pairs(given) do
    if not KNOWN[key] then
      misuse("packet: tcp.options.%s: unknown option (allowed: mss, sack_ok, ts, wscale)", tostring(key))
    end
  end
  local parts = {}
  if given.mss then parts[1] = string.pack(">BBI2", MSS, 4, value.u16(given.mss, "tcp.options", "mss")) end
  if given.sack_ok then parts[#parts + 1] = (given.ts and "" or "\1\1") .. string.char(SACK_OK, 2) end
  if given.ts then parts[#parts + 1] = (given.sack_ok and "" or "\1\1") .. timestamps(given.ts) end
  if given.wscale then
    parts[#parts + 1] = string.char(1, WSCALE, 3, value.integer(0, 255)(given.wscale, "tcp.options", "wscale"))
  end
  return table.concat(parts)
end

local decoders = {
  [MSS] = function(out, data) if #data == 2 then out.mss = string.unpack(">I2", data) end end,
  [WSCALE] = function(out, data) if #data == 1 then out.wscale = data:byte() end end,
  [SACK_OK] = function(out, data) if #data == 0 then out.sack_ok = true end end,
  [TIMESTAMPS] = function(out, data)
    if #data == 8 then
      local val, ecr = string.unpack(">I4I4", data)
      out.ts = { val = val, ecr = ecr }
    end
  end,
}

--- The table of the options found in bytes; those it doesn't know, and what follows a broken one,
--- are left out.
function options.decode(bytes)
  local out, at = {}, 1
  while at <= #bytes do
    local kind, size = bytes:byte(at, at + 1)
    if kind == 0 then break end
    if kind == 1 then
      at = at + 1
    else
      if not size or size < 2 or at + size - 1 > #bytes then break end
      if decoders[kind] then decoders[kind](out, bytes:sub(at + 2, at + size - 1)) end
      at = at + size
    end
  end
  return out
end

return options
