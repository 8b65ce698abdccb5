-- SPDX-License-Identifier: GPL-2.0-only
--- Bytes to a packet. A cursor walks from layer to layer; where the bytes end early it notes what is
--- missing (`truncated`), and what was read stays. Nothing that arrives is an error here, and
--- parse(bytes):bytes() gives the same bytes back, whatever they are.
---
--- The cursor: `bytes`, `at` (the next byte), `stop` (the last one of the packet: what comes after is
--- padding), `packet`; `short` where the IP header promises more than there is, `fragment` where the
--- transport header's data is not all here, `done` where nothing more can be read.

local addr = require "tidegate.packet.addr"
local checksum = require "tidegate.packet.checksum"
local fields = require "tidegate.packet.fields"
local value = require "tidegate.packet.value"

local unpack = string.unpack
local parse  -- parse.packet calls itself for what an ICMP error quotes

--- Up to `size` bytes, filled up with zeros, and how many there really are.
local function take(cursor, size)
  local last = math.min(cursor.at + size - 1, cursor.stop)
  local bytes = cursor.bytes:sub(cursor.at, last)
  cursor.at = last + 1
  if #bytes == size then return bytes, size end
  return bytes .. ("\0"):rep(size - #bytes), #bytes
end

--- The packet ends inside `layer`, its last `partial` bytes being part of a field. Where the IP header
--- says so too, its length is not what bytes() would compute for the whole.
local function truncate(cursor, layer, partial)
  local p = cursor.packet
  local known = fields.computed[p.ip]
  if known then known.total_length, known.payload_length = nil, nil end
  p.truncated, p.captured = layer, cursor.stop
  p.remainder = cursor.bytes:sub(cursor.stop - partial + 1, cursor.stop)
  cursor.done = true
end

--- A fixed header of which only `have` bytes are there: forgets the fields beyond. `layout` lists
--- { where it ends, field, … } in order.
local function cut(cursor, name, layer, layout, have)
  local whole = 0
  for _, entry in ipairs(layout) do
    if entry[1] <= have then
      whole = entry[1]
    else
      for i = 2, #entry do rawset(layer, entry[i], nil) end
    end
  end
  truncate(cursor, name, have - whole)
end

--- Notes that a field has the value that bytes() computes, if so (see fields.computed).
local function computes(layer, key, expected)
  if rawget(layer, key) ~= expected then return end
  local known = fields.computed[layer]
  if not known then
    known = {}
    fields.computed[layer] = known
  end
  known[key] = expected
end

--- Whether `total`, the sum over everything with the checksum in it, proves the layer's checksum.
local function verify(layer, total)
  layer.checksum_ok = checksum.of(total) == 0
  if layer.checksum_ok then computes(layer, "checksum", checksum.of(total - layer.checksum)) end
end

local function vlan_tags(cursor)
  local tags, eth = {}, cursor.packet.eth
  while true do
    local bytes, have = take(cursor, 2)
    if have < 2 then return truncate(cursor, "eth", have) end
    local ether_type = unpack(">I2", bytes)
    if #tags == 2 or ether_type ~= 0x8100 and ether_type ~= 0x88a8 then
      eth.type = ether_type
      return ether_type
    end
    local tag = { type = ether_type }
    tags[#tags + 1] = tag
    cursor.packet.vlan = tags
    bytes, have = take(cursor, 2)
    if have < 2 then return truncate(cursor, "vlan", have) end
    local control = unpack(">I2", bytes)
    tag.pcp, tag.dei, tag.id = control >> 13, control & 0x1000 ~= 0, control & 0xfff
  end
end

local ETH_LAYOUT = { { 6, "dst" }, { 12, "src" } }

local function link(cursor)
  local bytes, have = take(cursor, 12)
  local eth = { dst = addr.mac_text(bytes:sub(1, 6)), src = addr.mac_text(bytes:sub(7)) }
  cursor.packet.eth = eth
  if have < 12 then return cut(cursor, "eth", eth, ETH_LAYOUT, have) end
  return vlan_tags(cursor)
end

--- Sets where the packet ends from the length that its IP header tells, counted from `start`.
local function bound(cursor, start, length, key)
  local ip, p = cursor.packet.ip, cursor.packet
  local last = start + length - 1
  if last < cursor.at - 1 then
    p.malformed = "ip"
  elseif last > cursor.stop then
    cursor.short = true
  else
    if last < cursor.stop then p.trailer = cursor.bytes:sub(last + 1) end
    cursor.stop = last
    computes(ip, key, ip[key])
  end
end

local IP4_LAYOUT = {
  { 1, "version", "ihl" }, { 2, "tos" }, { 4, "total_length" }, { 6, "id" },
  { 8, "df", "mf", "reserved", "offset" }, { 9, "ttl" }, { 10, "proto" }, { 12, "checksum" },
  { 16, "src" }, { 20, "dst" },
}

local function ip4_header(cursor)
  local bytes, have = take(cursor, 20)
  local first, tos, length, id, fragment, ttl, proto, sum, src, dst = unpack(">BBI2I2I2BBI2c4c4", bytes)
  local ip = setmetatable({
    version = first >> 4, ihl = first & 15, tos = tos, total_length = length, id = id,
    reserved = fragment & 0x8000 ~= 0 or nil, df = fragment & 0x4000 ~= 0, mf = fragment & 0x2000 ~= 0,
    offset = (fragment & 0x1fff) << 3, ttl = ttl, proto = proto, checksum = sum,
    src = addr.ip_text(src), dst = addr.ip_text(dst),
  }, fields.ip4)
  cursor.packet.ip = ip
  if have < 20 then cut(cursor, "ip", ip, IP4_LAYOUT, have) end
  return ip
end

local function ip4(cursor)
  local start = cursor.at
  local ip = ip4_header(cursor)
  if cursor.done then return end
  if ip.version ~= 4 or ip.ihl < 5 then
    cursor.packet.malformed = "ip"
    return
  end
  if ip.ihl > 5 then
    local options, have = take(cursor, (ip.ihl - 5) * 4)
    if have < #options then return truncate(cursor, "ip", have) end
    ip.options = options
  end
  computes(ip, "version", 4)
  computes(ip, "ihl", ip.ihl)
  verify(ip, checksum.sum(cursor.bytes:sub(start, cursor.at - 1)))
  bound(cursor, start, ip.total_length, "total_length")
  cursor.fragment = ip.mf or ip.offset > 0
  return ip.offset == 0 and ip.proto or nil
end

local extension_names = { [135] = 135, [139] = 139, [140] = 140 }  -- mobility, HIP, shim6: skipped alike
for name, number in pairs(fields.extensions) do extension_names[number] = name end

--- Reads one extension header; returns the number of what follows, or nil where it is cut.
local function extension(cursor, ext)
  local start = cursor.at
  local head, have = take(cursor, 8)
  local next_header, length = head:byte(1, 2)
  local size = ext.type == "fragment" and 8 or ext.type == "ah" and (length + 2) * 4 or (length + 1) * 8
  if have == 8 then
    local _, more = take(cursor, size - 8)
    have = have + more
  end
  if have < size then return truncate(cursor, "ip", have) end
  if ext.type ~= "fragment" then
    ext.data = cursor.bytes:sub(start + 2, cursor.at - 1)
    return next_header
  end
  local _, reserved, where, id = unpack(">BBI2I4", head)
  ext.offset, ext.mf, ext.id = where & 0xfff8, where & 1 ~= 0, id
  reserved = reserved << 2 | (where >> 1 & 3)
  ext.reserved = reserved ~= 0 and reserved or nil
  return next_header
end

--- Walks the extension headers; returns the number of the transport protocol, unless it is cut or
--- in an earlier fragment.
local function extensions(cursor, ip)
  local number, later = ip.next_header, false
  while extension_names[number] and not later do
    local ext = { type = extension_names[number] }
    ip.ext = ip.ext or {}
    ip.ext[#ip.ext + 1] = ext
    number = extension(cursor, ext)
    if not number then return nil end
    if ext.type == "fragment" then
      later = ext.offset > 0
      cursor.fragment = cursor.fragment or later or ext.mf
    end
  end
  ip.proto = number
  return not later and number or nil
end

local IP6_LAYOUT = {
  { 4, "version", "tclass", "flow" }, { 6, "payload_length" }, { 7, "next_header" }, { 8, "hop_limit" },
  { 24, "src" }, { 40, "dst" },
}

local function ip6(cursor)
  local start = cursor.at
  local bytes, have = take(cursor, 40)
  local first, length, next_header, hop_limit, src, dst = unpack(">I4I2BBc16c16", bytes)
  local ip = setmetatable({
    version = first >> 28, tclass = first >> 20 & 0xff, flow = first & 0xfffff, payload_length = length,
    next_header = next_header, hop_limit = hop_limit, src = addr.ip_text(src), dst = addr.ip_text(dst),
  }, fields.ip6)
  cursor.packet.ip = ip
  if have < 40 then return cut(cursor, "ip", ip, IP6_LAYOUT, have) end
  if ip.version ~= 6 then
    cursor.packet.malformed, ip.proto = "ip", next_header
    return
  end
  computes(ip, "version", 6)
  computes(ip, "next_header", next_header)
  bound(cursor, start, 40 + length, "payload_length")
  return extensions(cursor, ip)
end

--- The sum over the transport's bytes from `start`, and its pseudo header; nil if they are not all here.
local function transport_sum(cursor, start, protocol)
  if cursor.short or cursor.fragment then return nil end
  local bytes = cursor.bytes:sub(start, cursor.stop)
  local ip = cursor.packet.ip
  if not protocol then return checksum.sum(bytes) end
  local src, dst = addr.ip(ip.src), addr.ip(fields.final_destination(ip))
  return checksum.sum(bytes) + checksum.pseudo(src, dst, protocol, #bytes)
end

local transports = {}

local TCP_LAYOUT = {
  { 2, "sport" }, { 4, "dport" }, { 8, "seq" }, { 12, "ack" }, { 13, "data_offset", "reserved" },
  { 14, "flags" }, { 16, "window" }, { 18, "checksum" }, { 20, "urgent" },
}

function transports.tcp(cursor)
  local start, p = cursor.at, cursor.packet
  local bytes, have = take(cursor, 20)
  local sport, dport, seq, ack, offset, flags, window, sum, urgent = unpack(">I2I2I4I4BBI2I2I2", bytes)
  local tcp = {
    sport = sport, dport = dport, seq = seq, ack = ack, data_offset = offset >> 4,
    reserved = offset & 15 ~= 0 and offset & 15 or nil, flags = value.flag_texts[flags], window = window,
    checksum = sum, urgent = urgent,
  }
  p.tcp = tcp
  if have < 20 then return cut(cursor, "tcp", tcp, TCP_LAYOUT, have) end
  if tcp.data_offset < 5 then
    p.malformed = "tcp"
  elseif tcp.data_offset > 5 then
    local options, got = take(cursor, tcp.data_offset * 4 - 20)
    if got < #options then return truncate(cursor, "tcp", got) end
    tcp.options = options
  end
  computes(tcp, "data_offset", 5 + #(tcp.options or "") // 4)
  local total = transport_sum(cursor, start, 6)
  if total then verify(tcp, total) end
end

local UDP_LAYOUT = { { 2, "sport" }, { 4, "dport" }, { 6, "length" }, { 8, "checksum" } }

--- The checksum of a datagram that is all here, over the length that its header tells.
local function verify_udp(cursor, udp, start)
  local actual = cursor.stop - start + 1
  if udp.length < 8 or udp.length > actual then
    cursor.packet.malformed = "udp"
    return
  end
  computes(udp, "length", actual)
  if udp.checksum == 0 then
    udp.checksum_ok = fields.family(cursor.packet.ip) == 4
    return
  end
  local whole = cursor.stop
  cursor.stop = start + udp.length - 1
  verify(udp, transport_sum(cursor, start, 17))
  cursor.stop = whole
end

function transports.udp(cursor)
  local start = cursor.at
  local bytes, have = take(cursor, 8)
  local sport, dport, length, sum = unpack(">I2I2I2I2", bytes)
  local udp = { sport = sport, dport = dport, length = length, checksum = sum }
  cursor.packet.udp = udp
  if have < 8 then return cut(cursor, "udp", udp, UDP_LAYOUT, have) end
  if not (cursor.short or cursor.fragment) then verify_udp(cursor, udp, start) end
end

local function echo(icmp, rest) icmp.id, icmp.seq = rest >> 16, rest & 0xffff end
local function other(icmp, rest) icmp.rest = rest ~= 0 and rest or nil end

--- type → how to read the second word of the header
local icmp_words = { icmp = {}, icmp6 = { [128] = echo, [129] = echo } }
for _, kind in ipairs { 0, 8, 13, 14, 15, 16, 17, 18 } do icmp_words.icmp[kind] = echo end
icmp_words.icmp[3] = function(icmp, rest)
  if icmp.code == 4 and rest <= 0xffff then icmp.mtu = rest else other(icmp, rest) end
end
icmp_words.icmp[5] = function(icmp, rest) icmp.gateway = addr.ip_text(string.pack(">I4", rest)) end
icmp_words.icmp[12] = function(icmp, rest)
  if rest & 0xffffff == 0 then icmp.pointer = rest >> 24 else icmp.rest = rest end
end
icmp_words.icmp6[2] = function(icmp, rest) icmp.mtu = rest end
icmp_words.icmp6[4] = function(icmp, rest) icmp.pointer = rest end

local QUOTING = {
  icmp = { [3] = true, [4] = true, [5] = true, [11] = true, [12] = true },
  icmp6 = { true, true, true, true },
}
local ICMP_LAYOUT = {
  { 1, "type" }, { 2, "code" }, { 4, "checksum" }, { 8, "id", "seq", "mtu", "pointer", "gateway", "rest" },
}

--- What follows the header: the quoted packet of an error, or just bytes. A quote in a quote stays bytes.
local function icmp_body(cursor, name, icmp)
  local body = cursor.bytes:sub(cursor.at, cursor.stop)
  cursor.at = cursor.stop + 1
  if not cursor.quoted and QUOTING[name][icmp.type] then
    local quoted = parse.packet(body, { eth = false, quoted = true })
    local ip = quoted.ip
    if ip and ip.dst and quoted.malformed ~= "ip" then
      icmp.quoted = quoted
      icmp.quote_length = #body - (fields.family(ip) == 6 and 40 or 20 + #(ip.options or ""))
      return
    end
  end
  icmp.body = body ~= "" and body or nil
end

local function icmp_message(cursor, name, protocol)
  local start = cursor.at
  local bytes, have = take(cursor, 8)
  local kind, code, sum, rest = unpack(">BBI2I4", bytes)
  local icmp = { type = kind, code = code, checksum = sum }
  cursor.packet[name] = icmp
  local read_word = icmp_words[name][kind] or other
  read_word(icmp, rest)
  if have < 8 then return cut(cursor, name, icmp, ICMP_LAYOUT, have) end
  local total = transport_sum(cursor, start, protocol)
  if total then verify(icmp, total) end
  icmp_body(cursor, name, icmp)
end

function transports.icmp(cursor) icmp_message(cursor, "icmp", nil) end
function transports.icmp6(cursor) icmp_message(cursor, "icmp6", 58) end

local TRANSPORT_OF = {
  [4] = { [1] = "icmp", [6] = "tcp", [17] = "udp" }, [6] = { [6] = "tcp", [17] = "udp", [58] = "icmp6" },
}

--- Reads the IP header and what it carries.
local function network(cursor, family)
  local protocol = (family == 4 and ip4 or ip6)(cursor)
  local name = protocol and TRANSPORT_OF[family][protocol]
  if not name then return end
  transports[name](cursor)
  computes(cursor.packet.ip, "proto", protocol)
end

parse = {}

local FAMILIES = { [0x0800] = 4, [0x86dd] = 6 }

--- The packet in `bytes`: a frame, or with `how.eth = false` one that starts with its IP header.
function parse.packet(bytes, how)
  local p = setmetatable({}, fields.metatable)
  local cursor = { bytes = bytes, at = 1, stop = #bytes, packet = p, quoted = how and how.quoted }
  local family
  if how and how.eth == false then
    local version = (bytes:byte() or 0) >> 4
    family = (version == 4 or version == 6) and version
    if not family then p.malformed = "ip" end
  else
    family = FAMILIES[link(cursor)]
    if family then computes(p.eth, "type", p.eth.type) end
  end
  if family then network(cursor, family) end
  if cursor.done then return p end
  if cursor.short then p.truncated = "payload" end
  if cursor.at <= cursor.stop then p.payload = bytes:sub(cursor.at, cursor.stop) end
  return p
end

return parse
