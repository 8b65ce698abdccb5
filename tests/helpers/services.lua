-- SPDX-License-Identifier: GPL-2.0-only
--- A switch with a service of each mode, and what each must make of a packet, put together anew by
--- tg.packet, which computes every checksum from the bytes that it covers:
---
---     local sw = services.switch()
---     local p = services.to("nat", 4, "udp", { payload = "x" })       --> a client's packet
---     sw:receive(p).bytes == services.sent("nat", p)
---
--- services.MODES lists the modes; tunnels are "ipip4" … "gue6", after the family of their backends.
local packet = require "tidegate.packet"
local packets = require "tests.helpers.packets"
local switch = require "tests.helpers.switch"

local services = {}

services.VIP = { [4] = packets.V4.dst, [6] = packets.V6.dst }
services.CLIENT = { [4] = packets.V4.src, [6] = packets.V6.src }
services.NAT_BACKEND = { [4] = "203.0.113.11", [6] = "2001:db8:2::11" }
services.NAT_PORT = 8080
services.LOCAL = { [4] = "192.0.2.254", [6] = "2001:db8::fffe" } -- the switch's own addresses
services.PORT = { l2dsr = 80, nat = 443, ipip4 = 1004, gue4 = 2004, ipip6 = 1006, gue6 = 2006 }
services.MODES = { "l2dsr", "nat", "ipip4", "ipip6", "gue4", "gue6" }
services.EMPTY, services.OPEN = 81, 82 -- ports of VIPs without a backend: fail is drop, pass
services.UNRESOLVED = 83 -- one whose backend can't be reached, l2dsr
services.NO_RING = 84 -- one without its ring
services.AWAY = 85 -- one whose backend is behind a device that is no port of the switch
services.OTHER_VIP = { [4] = "198.51.100.77", [6] = "2001:db8:1::77" } -- a VIP's address, too
services.NO_VIP = 99 -- a port that has no VIP

local TO_CLIENTS = { dmac = "02:00:00:00:03:01", smac = "02:00:00:00:03:02" }
local TUNNEL_BACKEND = { [4] = "192.0.2.11", [6] = "2001:db8:1::11" }
local NAT_INDEX, L2DSR_INDEX, TUNNEL_INDEX, UNRESOLVED_INDEX, AWAY_INDEX = 0, 10, 20, 30, 40 -- plus the family

local function mac(index) return ("02:00:00:00:01:%02x"):format(index) end

function services.family(p) return p.ip.src:find ":" and 6 or 4 end
local function endpoint(family, address, port, proto)
  return ("%s:%d/%s"):format(family == 6 and "[" .. address .. "]" or address, port, proto)
end

local function ring_of(mode, family)
  if mode == "nat" then return NAT_INDEX + family end
  if mode == "l2dsr" then return L2DSR_INDEX + family end
  return TUNNEL_INDEX + tonumber(mode:sub(-1))
end

local function fill_family(sw, family)
  local away = { addr = "2001:db8:ffff::1", hop = false } -- no route leads there
  if family == 4 then away.addr = "240.0.0.1" end
  sw:backend(NAT_INDEX + family, { addr = services.NAT_BACKEND[family], port = services.NAT_PORT, mtu = 1500 })
  sw:backend(L2DSR_INDEX + family, { addr = TUNNEL_BACKEND[family], mtu = 1500 })
  sw:backend(TUNNEL_INDEX + family, { addr = TUNNEL_BACKEND[family], mtu = 1500 })
  sw:backend(UNRESOLVED_INDEX + family, away)
  sw:backend(AWAY_INDEX + family, { addr = TUNNEL_BACKEND[family], mtu = 1500,
    hop = { ifindex = 4095, dmac = mac(AWAY_INDEX), smac = "02:00:00:00:00:ff" } })
  for _, proto in ipairs { "tcp", "udp" } do
    local function vip(port, given) sw:vip(endpoint(family, services.VIP[family], port, proto), given) end
    for mode, port in pairs(services.PORT) do
      vip(port, { mode = mode:gsub("%d", ""), ring = { ring_of(mode, family) }, service = family })
    end
    vip(services.EMPTY, { ring = { 0 } })
    vip(services.OPEN, { ring = { 0 }, fail = "pass" })
    vip(services.UNRESOLVED, { ring = { UNRESOLVED_INDEX + family } })
    vip(services.NO_RING, {})
    vip(services.AWAY, { ring = { AWAY_INDEX + family } })
    sw:vip(endpoint(family, services.OTHER_VIP[family], 80, proto), { ring = { L2DSR_INDEX + family } })
    local vip_of_nat = endpoint(family, services.VIP[family], services.PORT.nat, proto)
    sw:reverse(endpoint(family, services.NAT_BACKEND[family], services.NAT_PORT, proto), vip_of_nat,
      { service = family, backend = NAT_INDEX + family })
  end
  sw:route(family == 4 and "0.0.0.0/0" or "::/0", { hop = TO_CLIENTS, mtu = 1500 })
  sw:route(services.LOCAL[family] .. (family == 4 and "/32" or "/128"), { is_local = true })
end

--- A switch with all of them.
function services.switch()
  local sw = switch.new()
  sw:tunnel {}
  fill_family(sw, 4)
  fill_family(sw, 6)
  return sw
end

--- A client's packet for the mode's VIP. `more`: as for tg.packet, except src and dst.
function services.to(mode, family, proto, more)
  more = more or {}
  local given = packets.with(more, { ip = packets.with(packets["V" .. family], more.ip) })
  given[proto] = packets.with({ dport = services.PORT[mode] or mode }, more[proto])
  return packet(given)
end

--- The packet that nat's backend answers to a client's, with the same payload.
function services.reply(p)
  local l4 = p.tcp and "tcp" or "udp"
  return p:copy { ip = { src = services.NAT_BACKEND[services.family(p)], dst = p.ip.src },
    [l4] = { sport = services.NAT_PORT, dport = p[l4].sport } }
end

local function l4_of(p) return p.tcp and "tcp" or p.udp and "udp" or nil end

--- A packet routed on: the endpoint at one side ("src", "sport") is another; a fragment's ports are not its own.
local function translated(p, macs, side, address, port)
  local changes = { eth = macs, ip = { [side] = address, ttl = p.ip.ttl - 1 } }
  local l4 = l4_of(p)
  if l4 then changes[l4] = { [side == "src" and "sport" or "dport"] = port } end
  return p:copy(changes)
end

--- What an ICMP error quotes, with another endpoint at one side.
local function quote(p, side, address, port)
  local icmp = p.icmp and "icmp" or "icmp6"
  local quoted = p[icmp].quoted
  return icmp, { quoted = quoted:copy { ip = { [side] = address },
    [l4_of(quoted)] = { [side == "src" and "sport" or "dport"] = port } } }
end

--- nat, towards the backend; an ICMP error too.
local function to_nat(p)
  local family = services.family(p)
  local macs = { dst = mac(NAT_INDEX + family), src = "02:00:00:00:00:ff" }
  local address = services.NAT_BACKEND[family]
  if l4_of(p) then return translated(p, macs, "dst", address, services.NAT_PORT) end
  local changes = { eth = macs, ip = { dst = address, ttl = p.ip.ttl - 1 } }
  local icmp, quoted = quote(p, "src", address, services.NAT_PORT)
  changes[icmp] = quoted
  return p:copy(changes)
end

--- nat, from the backend to the client; of an ICMP error the source is the backend's or a router's.
function services.from_nat(p)
  local family = services.family(p)
  local macs = { dst = TO_CLIENTS.dmac, src = TO_CLIENTS.smac }
  local address = services.VIP[family]
  if l4_of(p) then return translated(p, macs, "src", address, services.PORT.nat) end
  local from_end = p.ip.src == services.NAT_BACKEND[family]
  local changes = { eth = macs, ip = { src = from_end and address or p.ip.src, ttl = p.ip.ttl - 1 } }
  local icmp, quoted = quote(p, "dst", address, services.PORT.nat)
  changes[icmp] = quoted
  return p:copy(changes)
end

--- The IP packet of a frame, without what precedes and follows it.
local function ip_bytes(p)
  local vlan = p.vlan and #p.vlan * 4 or 0
  local trailer = p.trailer and #p.trailer or 0
  return p:bytes():sub(15 + vlan, -1 - trailer)
end

--- Has gue's outer header over IPv6 a checksum? Where the inner packet has one over all of it, and is plain.
local function vouches(p)
  if p.ip.ext or p.ip.mf or (p.ip.offset or 0) ~= 0 then return false end
  if p.udp then return p.udp.checksum ~= 0 end
  return p.tcp ~= nil or p.icmp ~= nil or p.icmp6 ~= nil
end

--- A tunnel's packet; what varies by flow is taken from what came out.
local function to_tunnel(mode, p, out)
  local inner, outer = services.family(p), tonumber(mode:sub(-1))
  local given = {
    eth = { dst = mac(TUNNEL_INDEX + outer), src = "02:00:00:00:00:ff" }, vlan = p.vlan, trailer = p.trailer,
    ip = { src = out.ip.src, dst = TUNNEL_BACKEND[outer] }, payload = ip_bytes(p),
  }
  if outer == 4 then
    given.ip.tos, given.ip.ttl = p.ip.tos or p.ip.tclass, 64
    given.ip.df, given.ip.id = inner == 6 or p.ip.df, inner == 4 and p.ip.id or 0
  else
    given.ip.tclass, given.ip.hop_limit, given.ip.flow = p.ip.tos or p.ip.tclass, 64, out.ip.flow
  end
  if mode:find "gue" then
    given.udp = { sport = out.udp.sport, dport = 6080, checksum = (outer == 4 or not vouches(p)) and 0 or nil }
  else
    given.ip.proto = inner == 4 and "ipip" or "ip6"
  end
  return packet(given)
end

--- What `mode` sends for `p`, a client's packet. `out`: what did come out, parsed.
function services.sent(mode, p, out)
  if mode == "nat" then return to_nat(p) end
  if mode ~= "l2dsr" then return to_tunnel(mode, p, out) end
  return p:copy { eth = { dst = mac(L2DSR_INDEX + services.family(p)), src = "02:00:00:00:00:ff" } }
end

--- The fragments of a packet, and what has to become of each in that mode: of nat, those of the whole translated.
function services.fragments(mode, p, mtu, id)
  local pieces = p:fragments(mtu, id)
  local whole = mode == "reply" and services.from_nat(p) or mode == "nat" and to_nat(p)
  local expected = whole and whole:fragments(mtu, id)
  return pieces, function(i, out)
    return expected and expected[i] or services.sent(mode, pieces[i], out)
  end
end

return services
