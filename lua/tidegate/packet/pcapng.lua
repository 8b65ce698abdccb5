-- SPDX-License-Identifier: GPL-2.0-only
--- Captures in pcapng, as core/pcapng.c writes them, a block at a time, and a line of text for each packet:
---
---     12:34:56.789012 eth0 in  tcp 192.0.2.7:40000 > 198.51.100.10:443 S, 54 bytes, verdict accept, rule web (a.lua:3)
---
--- Plain Lua, for `tidegate capture` (core/printer.c), which has no daemon in its process.

local parse = require "tidegate.packet.parse"
local text = require "tidegate.packet.text"

local pcapng = {}

local INTERFACE <const>, PACKET <const> = 1, 6              -- block types
local END <const>, COMMENT <const>, NAME <const>, FLAGS <const> = 0, 1, 2, 2  -- options
local DIRECTIONS <const> = { "in ", "out" }

--- The options from `at` on: code → value.
local function options(block, at)
  local list = {}
  while at + 3 <= #block - 4 do
    local code, size = string.unpack("=I2I2", block, at)
    if code == END then break end
    list[code] = block:sub(at + 4, at + 3 + size)
    at = at + 4 + (size + 3 & ~3)
  end
  return list
end

--- A reader: reader(block) → a packet { interface, time (ns since 1970), length, bytes, direction, comment }, or nil
--- for other blocks, which it keeps in mind.
function pcapng.reader()
  local interfaces = {}
  return function(block)
    local kind = string.unpack("=I4", block)
    if kind == INTERFACE then
      interfaces[#interfaces + 1] = options(block, 17)[NAME] or "?"
    elseif kind == PACKET then
      local interface, high, low, captured, length = string.unpack("=I4I4I4I4I4", block, 9)
      local own = options(block, 29 + (captured + 3 & ~3))
      return {
        interface = interfaces[interface + 1] or "?", time = high << 32 | low, length = length,
        bytes = block:sub(29, 28 + captured),
        direction = own[FLAGS] and string.unpack("=I4", own[FLAGS]) & 3 or 0, comment = own[COMMENT],
      }
    end
  end
end

--- The line for a packet of the reader.
function pcapng.line(packet)
  local seconds, ns = packet.time // 1000000000, packet.time % 1000000000
  local words = text.print(parse.packet(packet.bytes, { eth = true }))
  if #packet.bytes < packet.length then words = words:gsub(" truncated %S+$", "") end
  return ("%s.%06d %s %s %s, %d bytes%s"):format(os.date("%H:%M:%S", seconds), ns // 1000, packet.interface,
    DIRECTIONS[packet.direction] or "-", words, packet.length, packet.comment and ", " .. packet.comment or "")
end

--- For core/printer.c: block → its packet's line, or nil.
function pcapng.printer()
  local read = pcapng.reader()
  return function(block)
    local packet = read(block)
    return packet and pcapng.line(packet)
  end
end

return pcapng
