-- SPDX-License-Identifier: GPL-2.0-only
--- Shapes of packets, for tests/spec/xdp_matrix_spec.lua: the rows of its table. A shape makes a packet out of what
--- a way (tests/helpers/ways.lua) makes plain ones of, and says of what kind it is:
---
---     flow           a whole packet of TCP or UDP
---     first, later   fragments of one; lost: a later one whose first did not come; tiny: a first one without ports
---     error          an ICMP error about a packet that went the other way
---     none           a packet that nothing is asked about beyond its headers: it passes with `reason`
---     frame          likewise, and not even its addresses are there to be judged
---
--- { name, kind, family = 4 or 6, reason, hops = 1 where the hop limit is that, icmp6 = true of ICMPv6,
---   make = function(way) → the packet or its bytes, expected(out) → what `way` makes of it, before }
--- where `before` is a packet that has to come first.
local packet = require "tidegate.packet"
local packets = require "tests.helpers.packets"
local services = require "tests.helpers.services"

local shapes = {}

local ROUTER = { [4] = "203.0.113.254", [6] = "2001:db8:f::1" }
local TOO_BIG = { [4] = { type = "unreachable", code = 4, mtu = 1400 }, [6] = { type = "too-big", mtu = 1400 } }
local ICMP = { [4] = "icmp", [6] = "icmp6" }
local HEADER = { [4] = 20, [6] = 40 }
local ETHERNET <const> = 14
local next_id = 0

local function add(family, kind, name, make, more)
  shapes[#shapes + 1] = packets.with({ family = family, kind = kind, name = ("IPv%d, %s"):format(family, name),
    make = make }, more)
end

local function both(kind, name, make, more)
  for _, family in ipairs { 4, 6 } do
    add(family, kind, name, function(way) return make(way, family) end, more)
  end
end

-- Whole packets ------------------------------------------------------------------------------------

local function flow(family, name, proto, given, more)
  add(family, "flow", name, function(way)
    local p = way.packet(family, proto, given)
    return p, function(out) return way.sent(p, out) end
  end, more)
end

local TAGS = { { id = 8, type = 0x88a8 }, 9 }
local ROUTING = { type = "routing", data = "\0\0" .. ("\0"):rep(20) } -- no segments left
local CHAIN = { { type = "hop" }, { type = "dst" }, ROUTING, { type = "fragment", id = 5 }, { type = "ah" },
  { type = "dst" } }
local ALERT = "\x94\4\0\0"

for _, family in ipairs { 4, 6 } do
  flow(family, "TCP", "tcp")
  flow(family, "TCP, not its first", "tcp", { tcp = { flags = "PA", options = { ts = { val = 7, ecr = 9 } } } })
  flow(family, "UDP", "udp")
  flow(family, "UDP, one VLAN tag", "udp", { vlan = 7 })
  flow(family, "TCP, a priority tag", "tcp", { vlan = { { id = 0, pcp = 5 } } })
  flow(family, "TCP, two VLAN tags", "tcp", { vlan = TAGS })
  flow(family, "TCP, padded", "tcp", { trailer = ("\0"):rep(6) })
  flow(family, "UDP, other class", "udp", { ip = { dscp = 46, ecn = 1 } })
  flow(family, "TCP, hop limit 1", "tcp", { ip = { ttl = 1 } }, { hops = 1 })
end
flow(4, "UDP without a checksum", "udp", { udp = { checksum = 0 } })
flow(4, "TCP, DF", "tcp", { ip = { df = true, id = 7 } })
flow(4, "TCP, 4 bytes of options", "tcp", { ip = { options = ALERT } })
flow(4, "UDP, 40 bytes of options, two tags", "udp", { ip = { options = ALERT .. ("\1"):rep(36) }, vlan = TAGS })
flow(6, "TCP, hop-by-hop", "tcp", { ip = { ext = { { type = "hop" } } } })
flow(6, "UDP, routing, none left", "udp", { ip = { ext = { ROUTING } } })
flow(6, "TCP, a fragment header alone", "tcp", { ip = { ext = { { type = "fragment", id = 5 } } } })
flow(6, "UDP, destination", "udp", { ip = { ext = { { type = "dst" } } } })
flow(6, "TCP, AH", "tcp", { ip = { ext = { { type = "ah" } } } })
flow(6, "UDP, all five, six headers, two tags", "udp", { ip = { ext = CHAIN }, vlan = TAGS })
flow(6, "TCP, all five, six headers", "tcp", { ip = { ext = CHAIN } })

-- Fragments ----------------------------------------------------------------------------------------

--- The fragments of a packet that is as large as the way wants, and what becomes of each.
local function pieces_of(way, family, proto, more)
  next_id = next_id + 1
  local mtu = way.fragment or 1280
  local p = way.packet(family, proto, packets.with({ payload = ("0123456789"):rep(mtu // 4) }, more))
  if family == 4 then p = p:copy { ip = { id = next_id } } end
  return services.fragments(way.mode or "l2dsr", p, mtu, next_id)
end

local function fragments(name, proto, more4, more6)
  local function more(family) return family == 4 and more4 or more6 end
  both("first", "first fragment of " .. name, function(way, family)
    local pieces, expected = pieces_of(way, family, proto, more(family))
    return pieces[1], function(out) return way.sent(pieces[1], out, expected(1, out)) end
  end)
  both("later", "later fragment of " .. name, function(way, family)
    local pieces, expected = pieces_of(way, family, proto, more(family))
    return pieces[2], function(out) return way.sent(pieces[2], out, expected(2, out)) end, pieces[1]
  end)
  both("lost", "later fragment of " .. name .. ", no first", function(way, family)
    return (pieces_of(way, family, proto, more(family))[2])
  end)
end

fragments("TCP", "tcp")
fragments("UDP, a tag, more headers", "udp", { vlan = 7, ip = { options = ALERT } },
  { vlan = 7, ip = { ext = { { type = "hop" }, { type = "dst" } } } })
both("tiny", "first fragment, 8 bytes of TCP", function(way, family)
  local p = way.packet(family, "tcp")
  local ip = { src = p.ip.src, dst = p.ip.dst, proto = "tcp" }
  if family == 4 then ip.mf = true else ip.ext = { { type = "fragment", mf = true, id = 5 } } end
  return packet { ip = ip, payload = p:bytes():sub(ETHERNET + HEADER[family] + 1):sub(1, 8) }
end)

-- ICMP ---------------------------------------------------------------------------------------------

local function errors(name, proto, quote, given)
  both("error", "ICMP error, " .. name, function(way, family)
    local quoted = way.other_way(way.packet(family, proto))
    local ip = packets.with({ src = way.source and way.source(family) or ROUTER[family], dst = quoted.ip.src },
      given and given[family])
    local p = packet { ip = ip, vlan = given and given.vlan,
      [ICMP[family]] = packets.with(TOO_BIG[family], { quoted = quoted, quote_length = way.quote or quote }) }
    return p, function(out) return way.sent(p, out) end
  end, { icmp6 = true })
end

errors("8 bytes of TCP quoted", "tcp", 8)
errors("8 bytes of UDP quoted", "udp", 8)
errors("20 bytes of TCP quoted", "tcp", 20)
errors("UDP quoted, a tag, more headers", "udp", 8,
  { vlan = 7, [4] = { options = ALERT }, [6] = { ext = { { type = "hop" }, { type = "dst" } } } })

local function icmp(kind, reason, name, body)
  both(kind, name, function(way, family)
    local p = way.packet(family, "udp")
    return packet { ip = { src = p.ip.src, dst = p.ip.dst }, [ICMP[family]] = body[family] }
  end, { reason = reason, icmp6 = true })
end

icmp("none", "icmp", "ICMP echo", { [4] = { type = "echo-request" }, [6] = { type = "echo-request" } })
icmp("none", "icmp-quote", "ICMP error without a quote", TOO_BIG)

-- What is nobody's -----------------------------------------------------------------------------------

local function none(family, reason, name, change, more)
  add(family, "none", name, function(way) return change(way.packet(family, "tcp")) end,
    packets.with({ reason = reason }, more))
end

local function protocol(family, name, proto)
  none(family, "other-protocol", name, function(p)
    return packet { ip = { src = p.ip.src, dst = p.ip.dst, proto = proto }, payload = ("x"):rep(40) }
  end)
end

for _, family in ipairs { 4, 6 } do
  protocol(family, "GRE", "gre")
  protocol(family, "an unknown next header", 253)
end
protocol(6, "no next header", "none")
none(6, "extension", "seven extension headers", function(p)
  local seven = { { type = "dst" }, table.unpack(CHAIN) }
  return p:copy { ip = { ext = seven } }
end)
none(6, "extension", "routing, one left", function(p)
  return p:copy { ip = { ext = { { type = "routing", data = "\0\1" .. ("\0"):rep(20) } } } }
end)

-- Wrong lengths ------------------------------------------------------------------------------------

local function lies(family, reason, name, ip)
  none(family, reason, name, function(p) return p:copy { ip = ip } end)
end

lies(4, "bad-header", "version 5", { version = 5 })
lies(4, "bad-header", "16 bytes of header", { ihl = 4 })
lies(4, "bad-header", "length below the header's", { total_length = 19 })
lies(4, "bad-header", "length below TCP's", { total_length = 39 })
lies(4, "bad-header", "length within the options", { options = ALERT, total_length = 22 })
lies(4, "truncated", "length beyond the frame", { total_length = 65535 })
lies(6, "bad-header", "version 4", { version = 4 })
lies(6, "bad-header", "no length", { payload_length = 0 })
lies(6, "bad-header", "length below TCP's", { payload_length = 19 })
lies(6, "bad-header", "length within an extension header", { ext = { { type = "dst" } }, payload_length = 7 })
lies(6, "truncated", "length beyond the frame", { payload_length = 65535 })

-- Cut ----------------------------------------------------------------------------------------------

--- A packet of which only so many bytes behind its IP header are there (below 0: not even all of that).
local function cut(family, name, proto, bytes, given, more)
  add(family, bytes < 0 and "frame" or "none", "cut in " .. name, function(way)
    local p = way.packet(family, proto == "icmp" and "udp" or proto, given)
    if proto == "icmp" then
      local quoted = way.other_way(way.packet(family, "udp"))
      local body = packets.with(TOO_BIG[family], { quoted = quoted, quote_length = 20 })
      p = packet { ip = { src = p.ip.src, dst = p.ip.dst }, [ICMP[family]] = body }
    end
    return p:bytes():sub(1, ETHERNET + (p.vlan and 4 * #p.vlan or 0) + HEADER[family] + bytes)
  end, packets.with({ reason = "truncated", icmp6 = proto == "icmp" }, more))
end

for _, family in ipairs { 4, 6 } do
  cut(family, "the EtherType", "tcp", -HEADER[family])
  cut(family, "the VLAN tag", "tcp", -HEADER[family] - 2, { vlan = 7 })
  cut(family, "the IP header", "tcp", -1)
  cut(family, "TCP's header", "tcp", 19)
  cut(family, "UDP's header", "udp", 7)
  cut(family, "ICMP's header", "icmp", 4)
  cut(family, "the quoted packet", "icmp", 20)
  cut(family, "the payload", "udp", 9, { payload = ("x"):rep(20) })
end
cut(4, "the options", "tcp", 2, { ip = { options = ALERT .. ALERT } })
local FRAGMENT = { type = "fragment", id = 5 }
for _, header in ipairs { { type = "hop" }, ROUTING, FRAGMENT, { type = "dst" }, { type = "ah" } } do
  cut(6, "its header " .. header.type, "tcp", 4, { ip = { ext = { header } } })
end

-- No IP ----------------------------------------------------------------------------------------------

local function frame(name, make)
  shapes[#shapes + 1] = { name = name, kind = "frame", family = 4, reason = "not-ip", make = make }
end

frame("ARP", function() return packet { eth = { type = 0x0806 }, payload = ("\0"):rep(46) } end)
frame("another EtherType behind a tag", function()
  return packet { eth = { type = 0x88cc }, vlan = 7, payload = ("\0"):rep(46) }
end)
frame("three VLAN tags", function(way)
  local bytes = way.packet(4, "tcp"):copy({ vlan = { 7, 8 } }):bytes()
  return bytes:sub(1, 12) .. "\x81\0\0\x09" .. bytes:sub(13)
end)

--- IPv4, IPv6, the rest; else as they stand above.
local order = {}
for i, shape in ipairs(shapes) do order[shape] = (shape.reason == "not-ip" and 2 or shape.family // 6) * 1000 + i end
table.sort(shapes, function(a, b) return order[a] < order[b] end)

return shapes
