-- SPDX-License-Identifier: GPL-2.0-only
--- Packets through the real XDP program: services in modes ipip and gue. What comes out is compared, byte
--- by byte, with what tg.packet builds, which computes every checksum from the bytes that it covers.
local checksum = require "tests.helpers.checksum"
local packet = require "tidegate.packet"
local packets = require "tests.helpers.packets"
local switch = require "tests.helpers.switch"

if switch.refused() then
  pending("the datapath " .. switch.refused())
  return
end

local VIP = { [4] = packets.V4.dst, [6] = "[" .. packets.V6.dst .. "]" }
local BACKEND = { [4] = "192.0.2.11", [6] = "2001:db8:1::11" }
local SOURCE = { [4] = "^172%.16%.", [6] = "^100::" }
local PORT = { [4] = { ipip = 1004, gue = 2004 }, [6] = { ipip = 1006, gue = 2006 } } -- of VIPs, by backend's family
local HEAD = { [4] = { ipip = 20, gue = 28 }, [6] = { ipip = 40, gue = 48 } }
local MTU = 1500
local sw

--- A backend of each family, with that MTU, and a VIP of both families for each in either mode.
local function fill(target, backend)
  for _, family in ipairs { 4, 6 } do
    target:backend(family, packets.with({ addr = BACKEND[family], mtu = MTU }, backend))
    for mode, port in pairs(PORT[family]) do
      for _, inner in ipairs { 4, 6 } do
        for _, proto in ipairs { "tcp", "udp" } do
          target:vip(("%s:%d/%s"):format(VIP[inner], port, proto), { mode = mode, ring = { family }, service = inner })
        end
      end
    end
  end
end

setup(function()
  sw = switch.new()
  sw:tunnel {}
  fill(sw)
end)
teardown(function() sw:close() end)

--- Calls for every combination: of the packet's family, the backend's, and the mode.
local function each(call)
  for _, inner in ipairs { 4, 6 } do
    for _, outer in ipairs { 4, 6 } do
      for _, mode in ipairs { "ipip", "gue" } do call(inner, outer, mode) end
    end
  end
end

local function name_of(inner, outer, mode) return ("%d in %d, %s"):format(inner, outer, mode) end

--- A packet of that family for the VIP that leads there; tcp unless `more` has udp.
local function packet_for(inner, outer, mode, more)
  local given = packets.with({ ip = packets["V" .. inner] }, more)
  local transport = given.udp and "udp" or "tcp"
  given[transport] = packets.with(given[transport] or {}, { dport = PORT[outer][mode] })
  given.ip = packets.with(packets["V" .. inner], given.ip)
  return packet(given)
end

--- The IP packet of a frame, without what precedes and follows it.
local function ip_of(p)
  local vlan = p.vlan and #p.vlan * 4 or 0
  local trailer = p.trailer and #p.trailer or 0
  return p:bytes():sub(15 + vlan, -1 - trailer)
end

--- What has to come out for `p`; what varies by flow is taken from what did come out. `more`: of the outer header.
local function wrapped(p, out, outer, mode, more)
  local inner = p.ip.src:find ":" and 6 or 4
  local tos = inner == 4 and p.ip.tos or p.ip.tclass
  local given = {
    eth = { dst = ("02:00:00:00:01:%02x"):format(outer), src = "02:00:00:00:00:ff" }, vlan = p.vlan,
    ip = { src = out.ip.src, dst = BACKEND[outer] }, payload = ip_of(p), trailer = p.trailer,
  }
  if outer == 4 then
    local df, id = true, 0
    if inner == 4 then df, id = p.ip.df or false, p.ip.id or 0 end
    given.ip.tos, given.ip.ttl, given.ip.df, given.ip.id = tos, 64, df, id
  else
    given.ip.tclass, given.ip.hop_limit, given.ip.flow = tos, 64, out.ip.flow
  end
  if mode == "gue" then
    given.udp = { sport = out.udp.sport, dport = 6080, checksum = outer == 4 and 0 or nil }
  else
    given.ip.proto = inner == 4 and "ipip" or "ip6"
  end
  return packet(given):copy(more or {})
end

local function assert_varied(out, outer, mode)
  assert.truthy(out.ip.src:find(SOURCE[outer]))
  if mode == "gue" then assert.is_true(out.udp.sport >= 49152) end
end

local function assert_wrapped(p, inner, outer, mode, more)
  local r = sw:receive(p)
  assert.same({ "tx", "forward" }, { r.verdict, r.reason }, name_of(inner, outer, mode))
  assert_varied(r.packet, outer, mode)
  assert.equal(wrapped(p, r.packet, outer, mode, more):hex(), packet.parse(r.bytes):hex(), name_of(inner, outer, mode))
  assert.equal(#p:bytes() + HEAD[outer][mode], #r.bytes)
  return r
end

--- The same of every combination. `more`: what the packet has more; `outer_more`: what the outer header has otherwise.
local function assert_all_wrapped(more, outer_more)
  local out = {}
  each(function(inner, outer, mode)
    local given = more
    if type(more) == "function" then given = more(inner, outer, mode) end
    if given then
      local changed = outer_more and outer_more(inner, outer, mode) or nil
      out[#out + 1] = assert_wrapped(packet_for(inner, outer, mode, given), inner, outer, mode, changed).bytes
    end
  end)
  return out
end

--- Only packets of that family.
local function of_family(family, more)
  return function(inner) return inner == family and more end
end

--- The outer UDP checksum is none where the inner packet's says nothing of the whole.
local function without_sum(_, outer, mode)
  return mode == "gue" and outer == 6 and { udp = { checksum = 0 } } or nil
end

describe("a packet for a VIP in ipip or gue", function()
  it("goes to its backend whole, in a packet of the backend's family", function()
    assert.same({}, checksum.bad(assert_all_wrapped { payload = "hello" }))
    assert.same({}, checksum.bad(assert_all_wrapped { udp = {}, payload = "hello" }))
    assert_all_wrapped { payload = "" }
    assert_all_wrapped { udp = {} }
    assert_all_wrapped { payload = "odd" }
  end)

  it("keeps its TTL, and lends the outer one its DSCP and ECN", function()
    for _, tos in ipairs { 0, 1, 2, 3, 0xb8, 0xff } do
      assert_all_wrapped(of_family(4, { ip = { tos = tos, ttl = 1 } }))
      assert_all_wrapped(of_family(6, { ip = { tclass = tos, hop_limit = 1 } }))
    end
  end)

  it("of IPv4 lends the outer one its DF and identification", function()
    for _, df in ipairs { true, false } do
      for _, id in ipairs { 0, 1, 0xffff } do
        assert_all_wrapped(of_family(4, { ip = { df = df, id = id }, payload = "x" }))
      end
    end
  end)

  it("is found behind one VLAN tag or two, which it keeps", function()
    for _, vlan in ipairs { 7, 0, { { id = 8, type = 0x88a8 }, 9 }, { { id = 8, type = 0x8100, pcp = 5 }, 9 } } do
      assert_all_wrapped { vlan = vlan, payload = "x" }
      assert_all_wrapped { vlan = vlan, udp = {} }
    end
  end)

  it("may have IP options", function()
    for size = 4, 40, 12 do
      local options = ("\1"):rep(size - 1) .. "\0"
      assert_all_wrapped(of_family(4, { ip = { options = options }, payload = "odd" }))
      assert_all_wrapped(of_family(4, { ip = { options = options }, udp = {}, payload = "odd" }))
    end
  end)

  it("may have extension headers: gue over IPv6 then has no UDP checksum", function()
    for _, ext in ipairs { { { type = "hop" } }, { { type = "hop" }, { type = "dst", data = ("\1"):rep(30) } },
      { { type = "fragment", id = 7 } } } do
      assert_all_wrapped(of_family(6, { ip = { ext = ext }, payload = "x" }), without_sum)
    end
  end)

  it("may be padded", function() assert_all_wrapped { trailer = ("\0"):rep(6) } end)

  it("stays wrong where its checksum was: gue over IPv6 does not vouch for it", function()
    each(function(inner, outer, mode)
      local p = packet_for(inner, outer, mode, { tcp = { checksum = 0x1234 }, payload = "x" })
      local r = sw:receive(p)
      if mode == "gue" and outer == 6 then
        assert.is_false(r.packet.udp.checksum_ok)
        local there = wrapped(p, r.packet, outer, mode, { udp = { checksum = r.packet.udp.checksum } })
        assert.equal(there:hex(), r.packet:hex())
      else
        assert_wrapped(p, inner, outer, mode)
      end
    end)
  end)

  it("without a UDP checksum has none outside, either", function()
    assert_all_wrapped(of_family(4, { udp = { checksum = 0 }, payload = "x" }), without_sum)
  end)

  it("with bytes beyond UDP's length has none outside, either", function()
    local function more(inner, outer, mode)
      local full = packet_for(inner, outer, mode, { udp = {}, payload = "1234" })
      return { udp = { length = 10, checksum = full.udp.checksum }, payload = "1234" }
    end
    assert_all_wrapped(more, without_sum)
  end)

  it("is counted for its service and its backend as it came", function()
    local p = packet_for(4, 6, "gue", { payload = ("x"):rep(100), vlan = 7 })
    local service, backend = sw:counter("service", 4), sw:counter("backend", 6)
    sw:receive(p)
    assert.same({ packets = service.packets + 1, bytes = service.bytes + #p:bytes() }, sw:counter("service", 4))
    assert.same({ packets = backend.packets + 1, bytes = backend.bytes + #p:bytes() }, sw:counter("backend", 6))
  end)

  it("keeps all its bytes, whatever they are", function()
    math.randomseed(20)
    local out = {}
    for _ = 1, 40 do
      each(function(inner, outer, mode)
        local kind = packets.one_of("tcp", "udp")
        local more = { [kind] = { sport = packets.port() }, payload = packets.bytes(math.random(0, 1200)),
          vlan = packets.one_of(nil, 7), ip = { tclass = inner == 6 and math.random(0, 255) or nil } }
        if inner == 4 then more.ip = { tos = math.random(0, 255), id = math.random(0, 65535) } end
        out[#out + 1] = assert_wrapped(packet_for(inner, outer, mode, more), inner, outer, mode).bytes
      end)
    end
    assert.same({}, checksum.bad(out))
  end)
end)

describe("the outer source", function()
  --- How many different outer headers 256 flows have, by `what` of the packet.
  local function count(inner, outer, mode, what)
    local seen, n = {}, 0
    for port = 1, 256 do
      local value = what(sw:receive(packet_for(inner, outer, mode, { tcp = { sport = 10000 + port } })).packet)
      if not seen[value] then seen[value], n = true, n + 1 end
    end
    return n
  end

  it("varies by flow, and is the same for all packets of one", function()
    each(function(inner, outer, mode)
      assert.is_true(count(inner, outer, mode, function(p) return p.ip.src end) > 240)
      if mode == "gue" then assert.is_true(count(inner, outer, mode, function(p) return p.udp.sport end) > 230) end
      if outer == 6 then assert.is_true(count(inner, outer, mode, function(p) return p.ip.flow end) > 240) end
      local a = sw:receive(packet_for(inner, outer, mode, { payload = "a" })).packet
      local b = sw:receive(packet_for(inner, outer, mode, { payload = "b", tcp = { flags = "A" } })).packet
      assert.same({ a.ip.src, a.ip.flow, a.udp and a.udp.sport }, { b.ip.src, b.ip.flow, b.udp and b.udp.sport })
    end)
  end)

  it("and gue's port are what they were set to", function()
    sw:tunnel { source4 = "10.1.2.3", vary4 = 0, source6 = "2001:db8::1:0:0", vary6 = 0xff, gue_port = 9886 }
    each(function(inner, outer, mode)
      local out = sw:receive(packet_for(inner, outer, mode)).packet
      assert.truthy(out.ip.src:find(outer == 4 and "^10%.1%.2%.3$" or "^2001:db8::1:0:%x%x?$"))
      if mode == "gue" then assert.equal(9886, out.udp.dport) end
    end)
    sw:tunnel {}
  end)
end)

describe("a frame whose driver leaves no room before it", function()
  -- Metadata takes the room of a test run: 256 bytes, of which the kernel needs 40 and a header the rest.
  local function receive(inner, outer, mode, room)
    local metadata, p = 216 - room, packet_for(inner, outer, mode)
    return sw:receive(("\0"):rep(metadata) .. p:bytes(), { ctx = { data = metadata } })
  end

  it("is dropped unchanged, and counted with that reason", function()
    if not pcall(receive, 4, 4, "ipip", 0) then return pending "older kernels' metadata is short" end
    each(function(inner, outer, mode)
      local room = HEAD[outer][mode] // 4 * 4
      local fits, not_fits = receive(inner, outer, mode, room), receive(inner, outer, mode, room - 4)
      assert.same({ "tx", "forward" }, { fits.verdict, fits.reason })
      assert.same({ "drop", "no-headroom", true }, { not_fits.verdict, not_fits.reason, not_fits.unchanged })
    end)
  end)
end)
