-- SPDX-License-Identifier: GPL-2.0-only
--- The bytes of a checked packet (fields.packet): from the inside out, each layer's header is packed
--- with what it carries known, so that lengths and checksums can be computed where none is given.

local misuse = require "tidegate.misuse"
local addr = require "tidegate.packet.addr"
local checksum = require "tidegate.packet.checksum"
local fields = require "tidegate.packet.fields"
local value = require "tidegate.packet.value"

local build = {}

local pack, override = string.pack, fields.override
local ETHER_IP4, ETHER_IP6 = 0x0800, 0x86dd
local ICMP_QUOTE = 8          -- bytes after the IP header that an ICMP error quotes (RFC 792)
local ICMP6_MINIMUM_MTU = 1280  -- an ICMPv6 error quotes what fits in (RFC 4443)
local NOWHERE = { [4] = addr.ip "0.0.0.0", [6] = addr.ip "::" }  -- for what a cut packet has lost

local function address(text, family) return text and addr.ip(text) or NOWHERE[family] end

local function check_length(length, name)
  if length > 0xffff then misuse("packet: %s would be %d (allowed: up to 65535)", name, length) end
  return length
end

--- `bytes` with the checksum of `total` + `bytes` written at `at` (1-based), where it has a zero.
local function with_checksum(bytes, at, total, given)
  local sum = given or checksum.of(checksum.sum(bytes) + total)
  return bytes:sub(1, at - 1) .. pack(">I2", sum) .. bytes:sub(at + 2)
end

local transports = {}

function transports.tcp(p, pseudo)
  local tcp = p.tcp
  local options = tcp.options or ""
  local offset = override(tcp, "data_offset") or 5 + #options // 4
  local segment = pack(">I2I2I4I4BBI2I2I2", tcp.sport or 0, tcp.dport or 0, tcp.seq or 0, tcp.ack or 0,
    offset << 4 | (tcp.reserved or 0), value.flag_numbers[tcp.flags or ""], tcp.window or 0, 0,
    tcp.urgent or 0) .. options .. (p.payload or "")
  return with_checksum(segment, 17, pseudo(6, #segment), override(tcp, "checksum"))
end

function transports.udp(p, pseudo)
  local udp, payload = p.udp, p.payload or ""
  local actual = check_length(8 + #payload, "udp.length")
  local length = override(udp, "length") or actual
  local datagram = pack(">I2I2I2I2", udp.sport or 0, udp.dport or 0, length, 0) .. payload
  local sum = override(udp, "checksum")
  if not sum then
    local covered = length >= 8 and length < actual and datagram:sub(1, length) or datagram
    sum = checksum.of(checksum.sum(covered) + pseudo(17, length >= 8 and length or actual))
    if sum == 0 then sum = 0xffff end
  end
  return with_checksum(datagram, 7, 0, sum)
end

--- The second word of an ICMP header, from the field that its type has.
local function icmp_rest(icmp, family)
  if icmp.rest then return icmp.rest end
  if icmp.id or icmp.seq then return (icmp.id or 0) << 16 | (icmp.seq or 0) end
  if icmp.pointer then return family == 4 and icmp.pointer << 24 or icmp.pointer end
  if icmp.gateway then return (string.unpack(">I4", addr.ip(icmp.gateway).bytes)) end
  return icmp.mtu or 0
end

local function icmp_body(icmp, family)
  local quoted = icmp.quoted
  if not quoted then return icmp.body or "" end
  local header = fields.family(quoted.ip) == 6 and 40 or 20 + #(quoted.ip.options or "")
  local length = icmp.quote_length or family == 4 and ICMP_QUOTE or ICMP6_MINIMUM_MTU - 40 - 8 - 40
  return build.bytes(quoted):sub(1, header + length)
end

local function icmp_message(icmp, family)
  return pack(">BBI2I4", icmp.type or 0, icmp.code or 0, 0, icmp_rest(icmp, family)) .. icmp_body(icmp, family)
end

function transports.icmp(p)
  return with_checksum(icmp_message(p.icmp, 4), 3, 0, override(p.icmp, "checksum"))
end

function transports.icmp6(p, pseudo)
  local message = icmp_message(p.icmp6, 6)
  return with_checksum(message, 3, pseudo(58, #message), override(p.icmp6, "checksum"))
end

--- What the IP header carries, and its protocol number.
local function transport(p, pseudo)
  for name, build_it in next, transports do
    if p[name] then return build_it(p, pseudo), fields.protocols[name] end
  end
  return p.payload or ""
end

local function ip4(ip, src, dst, carried, proto)
  local options = ip.options or ""
  local ihl = override(ip, "ihl") or 5 + #options // 4
  local length = override(ip, "total_length")
    or check_length(20 + #options + #carried, "ip.total_length")
  local flags = (ip.reserved and 4 or 0) | (ip.df and 2 or 0) | (ip.mf and 1 or 0)
  local header = pack(">BBI2I2I2BBI2", (override(ip, "version") or 4) << 4 | ihl, ip.tos or 0, length,
    ip.id or 0, flags << 13 | (ip.offset or 0) >> 3, ip.ttl or 0, proto or 0, 0)
    .. src.bytes .. dst.bytes .. options
  return with_checksum(header, 11, 0, override(ip, "checksum")) .. carried
end

local function extension(ext, next_header)
  if ext.type == "fragment" then
    local reserved = ext.reserved or 0
    return pack(">BBI2I4", next_header, reserved >> 2, ext.offset | (reserved & 3) << 1 | (ext.mf and 1 or 0), ext.id)
  end
  local data = ext.data
  local length = (#data + 2) // 8 - 1
  if ext.type == "ah" then length = (#data + 2) // 4 - 2 end
  return pack(">BB", next_header, ext.length or length & 0xff) .. data
end

--- Extension headers, and the number of the first.
local function extensions(ip, proto)
  local chain, number = {}, proto
  for i = #(ip.ext or {}), 1, -1 do
    local ext = ip.ext[i]
    chain[i] = extension(ext, ext.next_header or number)
    number = fields.extensions[ext.type] or ext.type
  end
  return table.concat(chain), number
end

local function ip6(ip, src, dst, carried, proto)
  local chain, first = extensions(ip, proto or fields.protocols.none)
  local length = override(ip, "payload_length") or check_length(#chain + #carried, "ip.payload_length")
  return pack(">I4I2BB", (override(ip, "version") or 6) << 28 | (ip.tclass or 0) << 20 | (ip.flow or 0),
    length, override(ip, "next_header") or first, ip.hop_limit or 0) .. src.bytes .. dst.bytes .. chain .. carried
end

local function network(p)
  local ip = p.ip
  if not ip then return p.payload or "" end
  local family = fields.family(ip)
  local src, dst = address(ip.src, family), address(ip.dst, family)
  local last = family == 6 and ip.ext and address(fields.final_destination(ip), 6) or dst
  local carried, proto = transport(p, function(number, length)
    return checksum.pseudo(src, last, number, length)
  end)
  return (family == 6 and ip6 or ip4)(ip, src, dst, carried, override(ip, "proto") or proto)
end

local function link(p)
  local eth = p.eth
  if not eth then return "" end
  local header = (eth.dst and addr.mac(eth.dst) or "\0\0\0\0\0\0") .. (eth.src and addr.mac(eth.src) or "\0\0\0\0\0\0")
  for _, tag in ipairs(p.vlan or {}) do
    header = header .. pack(">I2I2", tag.type, (tag.pcp or 0) << 13 | (tag.dei and 1 or 0) << 12 | (tag.id or 0))
  end
  local carried = p.ip and (fields.family(p.ip) == 6 and ETHER_IP6 or ETHER_IP4) or 0
  return header .. pack(">I2", override(eth, "type") or carried)
end

--- The bytes of a packet that fields.packet made.
function build.bytes(p)
  local frame = link(p) .. network(p)
  if p.captured then frame = frame:sub(1, p.captured - #p.remainder) .. p.remainder end
  return p.trailer and frame .. p.trailer or frame
end

return build
