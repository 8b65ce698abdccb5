-- SPDX-License-Identifier: GPL-2.0-only
--- The fields of each layer: what is allowed, what is filled in. fields.packet(given) turns what a
--- caller wrote into a checked packet of its own, in canonical form; see packet.lua for the fields.
---
--- Fields that bytes() can compute (checksums, lengths, …) are absent until given. Those of a parsed
--- packet are there to be read; `computed` remembers the values that bytes() would have computed
--- just so, and these are computed anew, so that a parsed packet can be changed and stays right.

local misuse = require "tidegate.misuse"
local value = require "tidegate.packet.value"
local addr = require "tidegate.packet.addr"
local options = require "tidegate.packet.options"

local fields = {}

--- Methods of packets; filled in by packet.lua.
fields.methods = {}
fields.metatable = { __index = fields.methods, __name = "tg.packet" }

--- layer → { field = value that parse found to be what bytes() computes }
local computed = setmetatable({}, { __mode = "k" })
fields.computed = computed

--- What bytes() has to write for a field that it could compute: nil where it should compute it.
function fields.override(layer, key)
  local found, given = computed[layer], layer[key]
  if found and found[key] == given then return nil end
  return given
end

local MAX_PAYLOAD = 1 << 20  -- more than any frame; IP's own limit is checked where lengths are written

local u8, u16, u32 = value.u8, value.u16, value.u32
local boolean, nibble = value.boolean, value.integer(0, 15)
local dscp, ecn = value.integer(0, 63), value.integer(0, 3)

fields.protocols = {
  icmp = 1, ipip = 4, tcp = 6, udp = 17, ip6 = 41, gre = 47, esp = 50, ah = 51, icmp6 = 58, none = 59,
}
fields.extensions = { hop = 0, routing = 43, fragment = 44, ah = 51, dst = 60 }
fields.icmp_types = {
  icmp = {
    ["echo-reply"] = 0, unreachable = 3, redirect = 5, ["echo-request"] = 8, ["time-exceeded"] = 11,
    ["parameter-problem"] = 12,
  },
  icmp6 = {
    unreachable = 1, ["too-big"] = 2, ["time-exceeded"] = 3, ["parameter-problem"] = 4,
    ["echo-request"] = 128, ["echo-reply"] = 129, ["router-solicit"] = 133, ["router-advert"] = 134,
    ["neighbour-solicit"] = 135, ["neighbour-advert"] = 136,
  },
}

local protocol = value.named(fields.protocols, u8)
local function ignore() return nil end  -- what parse found out: never given

local function tcp_options(given, layer, key)
  if type(given) == "table" then given = options.encode(given) end
  return value.bytes(40, true)(given, layer, key)
end

local function quoted(given, layer, key)
  if type(given) ~= "table" then value.refuse(given, layer, key, "a packet, or a table of its layers") end
  local inner = fields.packet(given, true)
  if not inner.ip then misuse("packet: %s.quoted: has no ip layer (needed)", layer) end
  return inner
end

local function icmp_keys(name)
  return {
    type = value.named(fields.icmp_types[name], u8), code = u8, checksum = u16, checksum_ok = ignore,
    id = u16, seq = u16, mtu = name == "icmp" and u16 or u32, pointer = name == "icmp" and u8 or u32,
    gateway = name == "icmp" and value.ip4 or nil, rest = u32,
    body = value.bytes(MAX_PAYLOAD), quoted = quoted, quote_length = u16,
  }
end

--- layer → { keys = field → check, defaults = …, required = a field, or nil }
local layers = {
  eth = {
    keys = { src = value.mac, dst = value.mac, type = u16 },
    defaults = { src = "02:00:00:00:00:01", dst = "02:00:00:00:00:02" },
  },
  vlan = {
    keys = {
      id = value.integer(0, 4095), pcp = value.integer(0, 7), dei = boolean,
      type = function(given, layer, key)
        if given ~= 0x8100 and given ~= 0x88a8 then value.refuse(given, layer, key, "0x8100 or 0x88a8") end
        return given
      end,
    },
    defaults = { pcp = 0, dei = false }, required = "id",
  },
  ip4 = {
    keys = {
      src = value.ip, dst = value.ip, tos = u8, id = u16, df = boolean, mf = boolean, reserved = boolean,
      offset = value.offset, ttl = u8, proto = protocol, options = value.bytes(40, true),
      checksum = u16, checksum_ok = ignore, total_length = u16, ihl = nibble, version = nibble,
      dscp = dscp, ecn = ecn, tclass = u8, hop_limit = u8,
    },
    defaults = { tos = 0, id = 0, df = false, mf = false, offset = 0, ttl = 64 },
  },
  ip6 = {
    keys = {
      src = value.ip, dst = value.ip, tclass = u8, flow = value.integer(0, 0xfffff), hop_limit = u8,
      proto = protocol, next_header = protocol, payload_length = u16, version = nibble,
      dscp = dscp, ecn = ecn, tos = u8, ttl = u8,
      ext = function(given) return fields.extension_list(given) end,
    },
    defaults = { tclass = 0, flow = 0, hop_limit = 64 },
  },
  tcp = {
    keys = {
      sport = u16, dport = u16, seq = u32, ack = u32, flags = value.flags, window = u16, urgent = u16,
      options = tcp_options, checksum = u16, checksum_ok = ignore, data_offset = nibble, reserved = nibble,
    },
    defaults = { sport = 40000, seq = 0, ack = 0, flags = "S", window = 65535, urgent = 0 },
    required = "dport",
  },
  udp = {
    keys = { sport = u16, dport = u16, length = u16, checksum = u16, checksum_ok = ignore },
    defaults = { sport = 40000 }, required = "dport",
  },
  icmp = { keys = icmp_keys "icmp", defaults = { code = 0 }, required = "type" },
  icmp6 = { keys = icmp_keys "icmp6", defaults = { code = 0 }, required = "type" },
}

--- Reading and writing either family's name for the same thing, and the halves of the class byte.
local function aliases(family, class, hops, other_class, other_hops)
  return {
    family = family,
    __index = function(ip, key)
      if key == other_class then return rawget(ip, class) end
      if key == other_hops then return rawget(ip, hops) end
      local byte = (key == "dscp" or key == "ecn") and rawget(ip, class)
      if byte then return key == "dscp" and byte >> 2 or byte & 3 end
    end,
    __newindex = function(ip, key, given)
      local byte = rawget(ip, class) or 0
      if key == other_class then key = class elseif key == other_hops then key = hops
      elseif key == "dscp" then key, given = class, given << 2 | byte & 3
      elseif key == "ecn" then key, given = class, given | byte & ~3 end
      rawset(ip, key, given)
    end,
  }
end

local ip4 = aliases(4, "tos", "ttl", "tclass", "hop_limit")
local ip6 = aliases(6, "tclass", "hop_limit", "tos", "ttl")
fields.ip4, fields.ip6 = ip4, ip6

--- 4 or 6, of a checked IP layer.
function fields.family(ip) return getmetatable(ip).family end

local function unknown(name, key, keys)
  local known = {}
  for k, check in pairs(keys) do if check ~= ignore then known[#known + 1] = k end end
  table.sort(known)
  misuse("packet: %s%s: unknown field (allowed: %s)", name, tostring(key), table.concat(known, ", "))
end

--- Checks `given` as layer `kind`, called `name` in messages, into `out`.
local function check_layer(kind, name, given, out, partial)
  local layer = layers[kind]
  local keys, defaults = layer.keys, layer.defaults
  for key, v in next, given do
    local check = keys[key]
    if not check then unknown(name .. ".", key, keys) end
    if v ~= false or check == boolean then out[key] = check(v, name, key) end
  end
  computed[out] = computed[given]
  if partial then return out end
  for key, v in next, defaults do
    if out[key] == nil then out[key] = v end
  end
  if layer.required and out[layer.required] == nil then misuse("packet: %s.%s: missing", name, layer.required) end
  return out
end

local function need_table(given, name, allowed)
  if type(given) ~= "table" then
    misuse("packet: %s: %s (allowed: %s)", name, value.show(given), allowed or "a table of fields")
  end
  return given
end

local function vlan_list(given, partial)
  if given == nil or given == false then return nil end
  if type(given) == "number" or type(given) == "table" and given[1] == nil and next(given) then given = { given } end
  need_table(given, "vlan", "a tag, or a list of up to two; a tag is a number or a table of fields")
  if #given > 2 then misuse("packet: vlan: %d tags (allowed: up to 2)", #given) end
  local tags = {}
  for i, tag in ipairs(given) do
    if type(tag) == "number" then tag = { id = tag } end
    tags[i] = check_layer("vlan", "vlan", need_table(tag, "vlan"), {}, partial)
    tags[i].type = tags[i].type or (i < #given and 0x88a8 or 0x8100)
  end
  return tags[1] and tags or nil
end

local extension_keys = {
  type = value.named(fields.extensions, u8), data = value.bytes(2046), next_header = protocol, length = u8,
}
local fragment_keys = {
  type = extension_keys.type, offset = value.offset, mf = boolean, id = u32, next_header = protocol,
  reserved = value.integer(0, 0x3ff),
}
local extension_names = {}
for name, number in pairs(fields.extensions) do extension_names[number] = name end

--- Fills up the data of an extension header: options with PadN, the rest with zeros.
local function pad_extension(kind, data)
  if kind == "ah" then return data .. ("\0"):rep(-(#data + 2) % 4) end
  local missing = -(#data + 2) % 8
  if kind ~= "hop" and kind ~= "dst" or missing == 0 then return data .. ("\0"):rep(missing) end
  return data .. (missing == 1 and "\0" or "\1" .. string.char(missing - 2) .. ("\0"):rep(missing - 2))
end

local function extension(given)
  need_table(given, "ip.ext", "a list of tables")
  if given.type == nil then misuse "packet: ip.ext.type: missing" end
  local number = extension_keys.type(given.type, "ip.ext", "type")
  local kind = extension_names[number] or number
  local keys, out = kind == "fragment" and fragment_keys or extension_keys, {}
  for key, v in pairs(given) do
    if not keys[key] then unknown("ip.ext.", key, keys) end
    if v ~= false or keys[key] == boolean then out[key] = keys[key](v, "ip.ext", key) end
  end
  out.type = kind
  if kind == "fragment" then
    out.offset, out.mf, out.id = out.offset or 0, out.mf or false, out.id or 0
  else
    out.data = pad_extension(kind, out.data or kind == "ah" and ("\0"):rep(14) or "")
  end
  return out
end

function fields.extension_list(given)
  need_table(given, "ip.ext", "a list of tables")
  local list = {}
  for i, ext in ipairs(given) do list[i] = extension(ext) end
  for key in pairs(given) do
    if not list[key] then misuse("packet: ip.ext.%s: unknown field (allowed: a list of tables)", tostring(key)) end
  end
  return list[1] and list or nil
end

--- The family that an ip layer is written for, from its addresses.
local function ip_family(given, partial)
  local own = getmetatable(given)
  if partial and (own == ip4 or own == ip6) then return own.family end
  for _, key in ipairs { "src", "dst" } do
    if not given[key] then misuse("packet: ip.%s: missing", key) end
  end
  local family = addr.ip(value.ip(given.src, "ip", "src")).family
  if addr.ip(value.ip(given.dst, "ip", "dst")).family ~= family then
    misuse("packet: ip.dst: %s (allowed: of the same family as ip.src, %s)", value.show(given.dst), given.src)
  end
  return family
end

--- One thing under two names, such as tos and dscp, would depend on the order of reading.
local function refuse_twice(given)
  local class = rawget(given, "tos") or rawget(given, "tclass")
  if rawget(given, "tos") and rawget(given, "tclass") or class and (rawget(given, "dscp") or rawget(given, "ecn")) then
    misuse "packet: ip: more than one of tos, tclass, dscp/ecn"
  elseif rawget(given, "ttl") and rawget(given, "hop_limit") then
    misuse "packet: ip: both ttl and hop_limit"
  end
end

local function ip_layer(given, partial)
  need_table(given, "ip")
  refuse_twice(given)
  local family = ip_family(given, partial)
  local out = setmetatable({}, family == 6 and ip6 or ip4)
  return check_layer(family == 6 and "ip6" or "ip4", "ip", given, out, partial)
end

--- Whether this is a later fragment, whose data starts in the middle of what was fragmented.
function fields.later_fragment(ip)
  if ip.offset then return ip.offset > 0 end
  for _, ext in ipairs(ip.ext or {}) do
    if ext.type == "fragment" and (ext.offset or 0) > 0 then return true end
  end
  return false
end

--- Where an IP packet goes in the end (the address that transport checksums cover): with a routing
--- header that has segments left, the last stop that it lists (types 0 and 2; 4 lists it first).
function fields.final_destination(ip)
  for _, ext in ipairs(ip.ext or {}) do
    local data = ext.type == "routing" and ext.data or ""
    local kind, left = data:byte(1, 2)
    local addresses = (#data - 6) // 16
    if addresses > 0 and left > 0 and (kind == 0 or kind == 2 or kind == 4) then
      local at = kind == 4 and 7 or addresses * 16 - 9
      return addr.ip_text(data:sub(at, at + 15))
    end
  end
  return ip.dst
end

local TRANSPORTS = { "tcp", "udp", "icmp", "icmp6" }

local function transport_layer(out, name, given, partial)
  need_table(given, name)
  local ip = out.ip
  if not ip then misuse("packet: %s: without an ip layer", name) end
  local family = fields.family(ip)
  if name == "icmp" and family == 6 or name == "icmp6" and family == 4 then
    misuse("packet: %s: in IPv%d (allowed: %s)", name, family, family == 6 and "icmp6" or "icmp")
  end
  if fields.later_fragment(ip) then
    misuse("packet: %s: in a later fragment, which has no such header (allowed: payload and ip.proto)", name)
  end
  out[name] = check_layer(name, name, given, {}, partial)
  return name
end

local function check_icmp(name, icmp)
  local words = 0
  for _, key in ipairs { "mtu", "pointer", "gateway", "rest" } do
    if icmp[key] ~= nil then words = words + 1 end
  end
  if icmp.id or icmp.seq then words = words + 1 end
  if words > 1 then misuse("packet: %s: more than one of id/seq, mtu, pointer, gateway, rest", name) end
  if icmp.body and icmp.quoted then misuse("packet: %s: both body and quoted", name) end
end

local function payload(out, given, name)
  if type(given) == "number" then given = ("\0"):rep(value.u16(given, "packet", "payload")) end
  given = value.bytes(MAX_PAYLOAD)(given, "packet", "payload")
  local icmp = (name == "icmp" or name == "icmp6") and out[name]
  if not icmp then
    out.payload = given ~= "" and given or nil
  elseif icmp.body or icmp.quoted then
    misuse("packet: payload: %s has its own body", name)
  else
    icmp.body = given ~= "" and given or nil
  end
end

local PACKET_KEYS = {
  eth = true, vlan = true, ip = true, tcp = true, udp = true, icmp = true, icmp6 = true, payload = true,
  trailer = true, truncated = ignore, captured = ignore, remainder = ignore, malformed = ignore,
}

local ETHER_HEADER, VLAN_TAG = 14, 4

local function link_layer(out, given, partial)
  if given.eth then out.eth = check_layer("eth", "eth", need_table(given.eth, "eth"), {}, partial)
  elseif given.eth == nil then out.eth = check_layer("eth", "eth", {}, {}) end
  out.vlan = vlan_list(given.vlan, partial)
  if out.vlan and not out.eth then misuse "packet: vlan: without an eth layer" end
end

--- A checked packet from the layers given, `without_link` from its IP header on. A table of layers
--- without `eth` gets one; a packet without (parsed so, or made with eth = false) stays without.
function fields.packet(given, without_link)
  for key in next, given do
    if not PACKET_KEYS[key] then unknown("", key, PACKET_KEYS) end
  end
  local out, partial, found = {}, given.truncated, nil
  local bare = without_link or given.eth == nil and getmetatable(given) == fields.metatable
  if not bare then link_layer(out, given, partial) end
  if given.ip then out.ip = ip_layer(given.ip, partial) end
  for i = 1, #TRANSPORTS do
    local name = TRANSPORTS[i]
    if given[name] then
      if found then misuse("packet: both %s and %s", found, name) end
      found = transport_layer(out, name, given[name], partial)
    end
  end
  if out.icmp or out.icmp6 then check_icmp(found, out[found]) end
  if given.payload then payload(out, given.payload, found) end
  out.trailer = given.trailer and value.bytes(MAX_PAYLOAD)(given.trailer, "packet", "trailer") or nil
  out.truncated, out.captured, out.remainder = partial or nil, given.captured, given.remainder
  if out.captured and given.eth and not out.eth then
    out.captured = out.captured - ETHER_HEADER - VLAN_TAG * #(given.vlan or {})
  end
  if not partial then
    if out.ip and not found and not out.ip.proto then
      misuse "packet: ip.proto: missing (needed without tcp, udp, icmp or icmp6)"
    elseif out.eth and not out.ip and not out.eth.type then
      misuse "packet: eth.type: missing (needed without ip)"
    end
  end
  return setmetatable(out, fields.metatable)
end

return fields
