-- SPDX-License-Identifier: GPL-2.0-only
--- Packets through the real XDP program: services in l2dsr mode.
local packet = require "tidegate.packet"
local packets = require "tests.helpers.packets"
local switch = require "tests.helpers.switch"

if switch.refused() then
  pending("the datapath " .. switch.refused())
  return
end

local VIP4, VIP6 = packets.V4.dst, packets.V6.dst
local sw

setup(function()
  sw = switch.new()
  sw:backend(1, { addr = "192.0.2.11" })
  sw:backend(2, { addr = "2001:db8:1::11" })
  sw:backend(3, { addr = "192.0.2.13", hop = { ifindex = 77, dmac = "02:00:00:00:01:03", smac = "02:00:00:00:00:fe" } })
  sw:vip(VIP4 .. ":443/tcp", { service = 1, ring = { 1 } })
  sw:vip(VIP4 .. ":53/udp", { service = 1, ring = { 1, 1, 1 } })
  sw:vip("[" .. VIP6 .. "]:443/tcp", { service = 2, ring = { 2 } })
  sw:vip("[" .. VIP6 .. "]:53/udp", { service = 2, ring = { 2 } })
end)
teardown(function() sw:close() end)

--- What came out is what went in, but for these MACs.
local function assert_sent(p, r, dmac, smac)
  assert.same({ "tx", "forward" }, { r.verdict, r.reason })
  assert.same(packet.parse(p:copy({ eth = { dst = dmac, src = smac } }):bytes()), r.packet)
end

local function assert_sent_to_1(p) assert_sent(p, sw:receive(p), "02:00:00:00:01:01", "02:00:00:00:00:ff") end
local function assert_sent_to_2(p) assert_sent(p, sw:receive(p), "02:00:00:00:01:02", "02:00:00:00:00:ff") end

local udp4 = packet { ip = packets.V4, udp = { dport = 53 }, payload = "hello" }
local udp6 = packet { ip = packets.V6, udp = { dport = 53 }, payload = "hello" }

describe("a packet for a VIP", function()
  it("goes to its backend's MAC, and nothing else of it changes", function()
    assert_sent_to_1(packets.tcp4 { payload = "x" })
    assert_sent_to_1(udp4)
    assert_sent_to_2(packets.tcp6 { payload = "x" })
    assert_sent_to_2(udp6)
  end)

  it("keeps a TTL of 1, which is not the switch's to judge", function()
    assert_sent_to_1(packets.tcp4():copy { ip = { ttl = 1 } })
    assert_sent_to_2(packets.tcp6():copy { ip = { hop_limit = 1 } })
  end)

  it("is found behind one VLAN tag or two, priority tags included", function()
    for _, vlan in ipairs { 7, 0, { { id = 8, type = 0x88a8 }, 9 }, { { id = 8, type = 0x8100 }, 9 } } do
      assert_sent_to_1(packets.tcp4 { vlan = vlan })
      assert_sent_to_2(packets.tcp6 { vlan = vlan })
    end
  end)

  it("is found behind IP options, as many as there can be", function()
    for size = 4, 40, 4 do assert_sent_to_1(packets.tcp4():copy { ip = { options = ("\1"):rep(size) } }) end
  end)

  it("is found behind IPv6 extension headers, up to six", function()
    local six = {}
    for i, name in ipairs { "hop", "dst", "routing", "ah", "dst", "hop" } do six[i] = { type = name } end
    for count = 1, 6 do
      local p = packets.tcp6():copy { ip = { ext = { table.unpack(six, 1, count) } } }
      assert_sent_to_2(p)
      assert_sent_to_2(p:copy { tcp = false, udp = { dport = 53 } })
    end
    assert_sent_to_2(packets.tcp6():copy { ip = { ext = { { type = "dst", data = ("\0"):rep(254) } } } })
  end)

  it("is found behind a fragment header that is no fragment's (RFC 6946)", function()
    assert_sent_to_2(packets.tcp6():copy { ip = { ext = { { type = "fragment", id = 7 } } } })
  end)

  it("may be padded, and as long as a frame of several pages", function()
    assert_sent_to_1(packets.tcp4 { trailer = ("\0"):rep(6) })
    assert_sent_to_1(packets.tcp4 { payload = ("x"):rep(9000) })
    assert_sent_to_2(packets.tcp6 { payload = ("x"):rep(9000) })
  end)

  it("keeps a checksum that was wrong", function()
    assert_sent_to_1(packets.tcp4():copy { ip = { checksum = 1 }, tcp = { checksum = 2 } })
    assert_sent_to_1(udp4:copy { udp = { checksum = 0 } })
  end)

  it("is counted for its service and its backend, without padding", function()
    local p = packets.tcp4 { vlan = 7, payload = ("x"):rep(100), trailer = "padding" }
    local service, backend = sw:counter("service", 1), sw:counter("backend", 1)
    for _ = 1, 3 do sw:receive(p) end
    local length = 14 + 4 + 20 + 20 + 100
    assert.same({ packets = service.packets + 3, bytes = service.bytes + 3 * length }, sw:counter("service", 1))
    assert.same({ packets = backend.packets + 3, bytes = backend.bytes + 3 * length }, sw:counter("backend", 1))
  end)
end)

describe("what is not for a VIP", function()
  it("passes as it came: another port, protocol, address or family", function()
    for _, p in ipairs {
      packets.tcp4 { tcp = { dport = 444 } },
      packets.tcp4 { tcp = false, udp = { dport = 443 } },
      packets.tcp4 { ip = { src = "192.0.2.7", dst = "198.51.100.11" } },
      packets.tcp4 { ip = { src = VIP4, dst = "192.0.2.7" }, tcp = { sport = 443, dport = 443 } },
      packets.tcp6 { tcp = { dport = 444 } },
      packets.tcp6 { ip = { src = VIP6, dst = "2001:db8::7" } },
    } do
      local r = sw:receive(p)
      assert.same({ "pass", "not-vip", true }, { r.verdict, r.reason, r.unchanged })
    end
  end)
end)

describe("a VIP", function()
  it("drops or passes, as told, while it has no backend", function()
    sw:vip(VIP4 .. ":81/tcp", { ring = { 0, 0, 0 }, fail = "drop" })
    sw:vip(VIP4 .. ":82/tcp", { ring = { 0, 0, 0 }, fail = "pass" })
    local r = sw:receive(packets.tcp4 { tcp = { dport = 81 } })
    assert.same({ "drop", "no-backend" }, { r.verdict, r.reason })
    r = sw:receive(packets.tcp4 { tcp = { dport = 82 } })
    assert.same({ "pass", "no-backend-pass", true }, { r.verdict, r.reason, r.unchanged })
  end)

  it("without a ring drops, and says so", function()
    sw:vip(VIP4 .. ":83/tcp", { ring = false })
    local r = sw:receive(packets.tcp4 { tcp = { dport = 83 } })
    assert.same({ "drop", "no-ring" }, { r.verdict, r.reason })
  end)

  it("sends one flow to one backend, and flows to all of them", function()
    local seen, ring = {}, { 11, 12, 13, 14, 15, 16, 17 }
    for _, index in ipairs(ring) do sw:backend(index, { addr = "192.0.2." .. index }) end
    sw:vip(VIP4 .. ":84/tcp", { ring = ring })
    for sport = 1024, 1223 do
      local p = packets.tcp4 { tcp = { sport = sport, dport = 84 } }
      local first = sw:receive(p).packet.eth.dst
      assert.equal(first, sw:receive(p:copy { tcp = { flags = "A", seq = 9 }, payload = "x" }).packet.eth.dst)
      seen[first] = true
    end
    for _, index in ipairs(ring) do assert.is_true(seen[("02:00:00:00:01:%02x"):format(index)]) end
  end)
end)

describe("a backend", function()
  local to_backend_3 = packets.tcp4 { tcp = { dport = 90 }, payload = ("x"):rep(100) }

  setup(function() sw:vip(VIP4 .. ":90/tcp", { ring = { 3 } }) end)

  it("behind another port that is not the switch's gets nothing, and it is said", function()
    local r = sw:receive(to_backend_3)
    assert.same({ "drop", "no-port" }, { r.verdict, r.reason })
  end)


  it("gets no packet larger than its port's MTU", function()
    local hop = { ifindex = 77, dmac = "02:00:00:00:01:03", smac = "02:00:00:00:00:fe" }
    sw:backend(3, { addr = "192.0.2.13", mtu = 139, hop = hop })
    local r = sw:receive(to_backend_3)
    assert.same({ "pass", "too-big", true }, { r.verdict, r.reason, r.unchanged })
    sw:backend(3, { addr = "192.0.2.13", mtu = 140, hop = hop })
    assert.equal("no-port", sw:receive(to_backend_3).reason)
  end)

  it("has the hop that `current` names", function()
    local other = { dmac = "02:00:00:00:02:01", smac = "02:00:00:00:02:02" }
    for current, dmac in pairs { [0] = "02:00:00:00:01:03", [1] = other.dmac } do
      sw:backend(3, { addr = "192.0.2.13", other_hop = other, current = current })
      assert.equal(dmac, sw:receive(to_backend_3).packet.eth.dst)
    end
  end)
end)
