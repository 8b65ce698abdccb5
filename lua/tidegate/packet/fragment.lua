-- SPDX-License-Identifier: GPL-2.0-only
--- Cuts a packet into the fragments that fit an MTU, as a sender (IPv6) or a router (IPv4) does.

local misuse = require "tidegate.misuse"
local build = require "tidegate.packet.build"
local fields = require "tidegate.packet.fields"
local parse = require "tidegate.packet.parse"
local value = require "tidegate.packet.value"

local FRAGMENT_HEADER, IP6_HEADER, IP4_HEADER = 8, 40, 20

--- The options that every IPv4 fragment repeats: those with the copied bit.
local function copied_options(options)
  local kept, at = {}, 1
  while at <= #options do
    local kind, size = options:byte(at, at + 1)
    if kind == 0 then break end
    if kind == 1 then size = 1 end
    if not size or size < 1 or at + size - 1 > #options then break end
    if kind & 0x80 ~= 0 then kept[#kept + 1] = options:sub(at, at + size - 1) end
    at = at + size
  end
  local bytes = table.concat(kept)
  return bytes .. ("\0"):rep(-#bytes % 4)
end

--- The extension headers that each IPv6 fragment repeats (up to the last that routers read), and the others.
local function split_extensions(ext)
  local count = 0
  for i, header in ipairs(ext) do
    if header.type == "fragment" then misuse "packet: fragments: it already is a fragment" end
    if header.type == "hop" or header.type == "routing" then count = i end
  end
  return table.move(ext, 1, count, 1, {}), table.move(ext, count + 1, #ext, 1, {})
end

--- How many bytes of data go behind `headers` bytes.
local function room(mtu, headers)
  local bytes = (mtu - headers) // 8 * 8
  if bytes < 8 then misuse("packet: fragments: mtu %d (allowed: %d or more)", mtu, headers + 8) end
  return bytes
end

--- The list of make(piece, offset, more) for the pieces of `data`: `first` bytes, then `later` each.
local function pieces(data, first, later, make)
  local list, offset = {}, 0
  repeat
    local size = offset == 0 and first or later
    local more = offset + size < #data
    list[#list + 1] = make(data:sub(offset + 1, offset + size), offset, more)
    offset = offset + size
  until not more
  return list
end

--- A copy of an IP layer with changes; false removes.
local function changed(ip, changes)
  local out = setmetatable({}, getmetatable(ip))
  for key, v in next, ip do rawset(out, key, v) end
  for key, v in pairs(changes) do rawset(out, key, v or nil) end
  return out
end

--- The bytes of the whole packet with another IP layer, from that layer on.
local function whole(p, ip)
  return build.bytes(fields.packet({
    ip = ip, tcp = p.tcp, udp = p.udp, icmp = p.icmp, icmp6 = p.icmp6, payload = p.payload,
  }, true))
end

local function ip4(p, mtu)
  local ip = p.ip
  if ip.df then misuse "packet: fragments: df is set" end
  local first = ip.options or ""
  local later = copied_options(first)
  local bytes = whole(p, ip)
  local function make(piece, offset, more)
    local options = offset == 0 and first or later
    return { payload = piece, ip = changed(ip, {
      offset = ip.offset + offset, mf = more or ip.mf, proto = bytes:byte(10), options = options ~= "" and options,
      total_length = false, checksum = false,
    }) }
  end
  local data = bytes:sub(IP4_HEADER + #first + 1)
  return pieces(data, room(mtu, IP4_HEADER + #first), room(mtu, IP4_HEADER + #later), make)
end

local function ip6(p, mtu, id)
  local computed = { next_header = false, payload_length = false }
  local ip = changed(p.ip, computed)
  local kept, rest = split_extensions(ip.ext or {})
  local last = fields.final_destination(ip)  -- before the routing header is taken off
  local bytes = whole(p, changed(ip, { ext = rest, dst = last }))
  local headers = #build.bytes(fields.packet({ ip = changed(ip, { ext = kept, proto = 59 }) }, true))
  local function make(piece, offset, more)
    local ext = table.move(kept, 1, #kept, 1, {})
    ext[#ext + 1] = { type = "fragment", offset = offset, mf = more, id = id }
    return { payload = piece, ip = changed(ip, { ext = ext, proto = bytes:byte(7) }) }
  end
  local size = room(mtu, headers + FRAGMENT_HEADER)
  return pieces(bytes:sub(IP6_HEADER + 1), size, size, make)
end

--- The fragments of a checked packet, the list of one for a packet that fits. See packet.lua.
return function(p, mtu, id)
  value.integer(68, 65535)(mtu, "fragments", "mtu")
  id = value.u32(id or 1, "fragments", "id")
  if not p.ip or p.truncated then misuse "packet: fragments: only for a whole IP packet" end
  if #whole(p, p.ip) <= mtu then return { p } end
  local list = (fields.family(p.ip) == 6 and ip6 or ip4)(p, mtu, id)
  for i, piece in ipairs(list) do
    piece.eth, piece.vlan = p.eth or false, p.vlan
    list[i] = parse.packet(build.bytes(fields.packet(piece)), { eth = p.eth ~= nil })
  end
  return list
end
