-- SPDX-License-Identifier: GPL-2.0-only
--- Packets that specs share: a plain one of each family, and random ones of all kinds (as math.randomseed
--- says, so that a test can repeat them).

local packet = require "tidegate.packet"
local addr = require "tidegate.packet.addr"

local packets = {}

packets.V4 = { src = "192.0.2.7", dst = "198.51.100.10" }
packets.V6 = { src = "2001:db8::7", dst = "2001:db8:1::10" }

function packets.with(base, more)
  local out = {}
  for key, v in pairs(base) do out[key] = v end
  for key, v in pairs(more or {}) do out[key] = v end
  return out
end

function packets.tcp4(more) return packet(packets.with({ ip = packets.V4, tcp = { dport = 443 } }, more)) end
function packets.tcp6(more) return packet(packets.with({ ip = packets.V6, tcp = { dport = 443 } }, more)) end

--- Its IP packet, without the Ethernet header.
function packets.ip_bytes(p) return p:bytes():sub(15) end
function packets.reparsed(p) return packet.parse(p:bytes()) end

--- Random bytes.
function packets.bytes(size)
  local bytes = {}
  for i = 1, size do bytes[i] = string.char(math.random(0, 255)) end
  return table.concat(bytes)
end

--- One of its arguments, which may be nil.
function packets.one_of(...)
  local all = table.pack(...)
  return all[math.random(all.n)]
end

local function random_ip()
  local last = math.random(1, 250)
  if math.random(2) == 1 then
    return {
      src = "192.0.2." .. last, dst = "198.51.100." .. math.random(250), ttl = math.random(255),
      df = packets.one_of(true, false), id = math.random(0, 65535), tos = math.random(0, 255),
      options = packets.one_of(nil, "\1\1\1\0", ("\1"):rep(math.random(40))),
    }
  end
  local ext = packets.one_of(nil, { { type = "hop" } }, { { type = "dst", data = "\1\7" .. packets.bytes(7) } },
    { { type = "hop" }, { type = "routing" }, { type = "fragment", id = math.random(1 << 30) }, { type = "dst" } },
    { { type = "routing", data = "\0\1\0\0\0\0" .. addr.ip("2001:db8:7::1").bytes } }, { { type = "ah" } })
  return {
    src = ("2001:db8::%x"):format(last), dst = "2001:db8:1::" .. math.random(250), hop_limit = math.random(255),
    tclass = math.random(0, 255), flow = math.random(0, 0xfffff), ext = ext,
  }
end

--- A port that no dissector of tshark's claims.
function packets.port() return math.random(61000, 64999) end

local function random_tcp()
  return {
    sport = packets.port(), dport = packets.port(), seq = math.random(0, 0xffffffff), ack = math.random(0, 0xffffffff),
    flags = math.random(0, 255), window = math.random(0, 65535), urgent = math.random(0, 9),
    options = packets.one_of(nil, { mss = 1460, sack_ok = true, ts = { val = 7, ecr = 9 }, wscale = 7 }, "\1\1\1"),
  }
end

local function random_icmp(given)
  local icmp = { id = math.random(0, 65535), seq = math.random(0, 65535), body = packets.bytes(math.random(0, 200)) }
  local v6 = given.ip.src:find ":" ~= nil
  icmp.type = packets.one_of("echo-request", "echo-reply")
  if math.random(2) == 1 then
    icmp = { type = v6 and "too-big" or "unreachable", code = v6 and 0 or 4, mtu = 1280 }
    icmp.quoted = (v6 and packets.tcp6 or packets.tcp4) { payload = packets.bytes(math.random(100)) }
    icmp.quote_length = packets.one_of(8, 20, 300)
  end
  given[v6 and "icmp6" or "icmp"] = icmp
end

--- A whole packet: either family, up to two tags, options, extension headers, TCP, UDP, ICMP, errors.
function packets.random()
  local given = { ip = random_ip(), vlan = packets.one_of(nil, 7, { 8, 9 }) }
  local kind = math.random(3)
  if kind == 1 then given.tcp = random_tcp()
  elseif kind == 2 then given.udp = { sport = packets.port(), dport = packets.port() }
  else random_icmp(given) end
  if kind ~= 3 then given.payload = packets.bytes(packets.one_of(0, math.random(40), math.random(1400))) end
  return packet(given)
end

return packets
