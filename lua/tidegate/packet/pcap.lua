-- SPDX-License-Identifier: GPL-2.0-only
--- Capture files in the classic pcap format, so that tcpdump and tshark can judge our packets and we
--- can read theirs. For tests: whole files, in memory. What the system refuses gives nil, message, code.

local misuse = require "tidegate.misuse"
local parse = require "tidegate.packet.parse"

local pcap = {}

local MICROSECONDS, NANOSECONDS = 0xa1b2c3d4, 0xa1b23c4d
local SNAPLEN = 1 << 18
local LINK_ETHERNET, LINK_RAW = 1, 101  -- frames; packets that start with their IP header

local function open(path, mode)
  if not io then misuse "packet: capture files can't be opened here (scripts of the daemon have no io)" end
  if type(path) ~= "string" then misuse("packet: path: %s (allowed: a string)", tostring(path)) end
  return io.open(path, mode)
end

local function link_type(item) return type(item) == "table" and not item.eth and LINK_RAW or LINK_ETHERNET end

--- Writes packets, or strings with the bytes of frames, a microsecond apart.
function pcap.write(path, list)
  local kind = link_type(list[1] or "")
  local parts = { string.pack("<I4I2I2i4I4I4I4", MICROSECONDS, 2, 4, 0, 0, SNAPLEN, kind) }
  for i, item in ipairs(list) do
    if link_type(item) ~= kind then
      misuse("packet: write_pcap: packet %d: not of the first one's kind (allowed: all with eth, or none)", i)
    end
    local bytes = type(item) == "table" and item:bytes() or item
    if type(bytes) ~= "string" then
      misuse("packet: write_pcap: item %d: %s (allowed: a packet, a string)", i, tostring(item))
    end
    parts[#parts + 1] = string.pack("<I4I4I4I4", i // 1000000, i % 1000000, #bytes, #bytes) .. bytes
  end
  local file, why, code = open(path, "wb")
  if not file then return nil, why, code end
  local done, failure, number = file:write(table.concat(parts))
  local closed, late, late_number = file:close()
  if not done then return nil, failure, number end
  if not closed then return nil, late, late_number end
  return true
end

local function header(bytes)
  if #bytes < 24 then return nil end
  for _, order in ipairs { "<", ">" } do
    local magic = string.unpack(order .. "I4", bytes)
    if magic == MICROSECONDS or magic == NANOSECONDS then
      return order, magic == NANOSECONDS and 1e9 or 1e6, string.unpack(order .. "I4", bytes, 21) & 0xffff
    end
  end
end

--- Reads a file: the list of its packets, and the list of their times in seconds.
function pcap.read(path)
  local file, why, code = open(path, "rb")
  if not file then return nil, why, code end
  local bytes, failure, number = file:read "a"
  file:close()
  if not bytes then return nil, failure, number end
  local order, unit, kind = header(bytes)
  if not order then return nil, path .. ": no pcap file", "EINVAL" end
  if kind ~= LINK_ETHERNET and kind ~= LINK_RAW then
    return nil, ("%s: link type %d is neither Ethernet nor raw IP"):format(path, kind), "EINVAL"
  end
  local packets, times, at = {}, {}, 25
  while at + 15 <= #bytes do
    local seconds, fraction, size = string.unpack(order .. "I4I4I4", bytes, at)
    if at + 15 + size > #bytes then return nil, ("%s: ends within packet %d"):format(path, #packets + 1), "EINVAL" end
    packets[#packets + 1] = parse.packet(bytes:sub(at + 16, at + 15 + size), { eth = kind == LINK_ETHERNET })
    times[#times + 1] = seconds + fraction / unit
    at = at + 16 + size
  end
  return packets, times
end

return pcap
