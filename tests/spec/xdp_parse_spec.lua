-- SPDX-License-Identifier: GPL-2.0-only
--- Packets through the real XDP program: what it can't balance passes as it came, with a reason.
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
  for _, port in ipairs { "443/tcp", "53/udp" } do
    sw:vip(VIP4 .. ":" .. port, { ring = { 1 } })
    sw:vip("[" .. VIP6 .. "]:" .. port, { ring = { 2 } })
  end
end)
teardown(function() sw:close() end)

local function assert_passes(reason, p)
  local r = sw:receive(p)
  assert.same({ "pass", reason, true }, { r.verdict, r.reason, r.unchanged })
end

local udp4 = packet { ip = packets.V4, udp = { dport = 53 }, payload = "hello" }
local udp6 = packet { ip = packets.V6, udp = { dport = 53 }, payload = "hello" }

describe("a frame", function()
  it("that is no IP passes", function()
    assert_passes("not-ip", packet { eth = { type = 0x0806 }, payload = ("\0"):rep(46) })
    assert_passes("not-ip", packet { eth = { type = 0x88cc }, vlan = 7, payload = ("\0"):rep(46) })
  end)

  it("with three VLAN tags passes", function()
    local inner = packets.tcp4 { vlan = { 7, 8 } }:bytes()
    assert_passes("not-ip", inner:sub(1, 12) .. "\x81\0\0\x09" .. inner:sub(13))
  end)

  it("that ends anywhere before its IP packet does passes as truncated", function()
    local all = { packets.tcp4 { payload = "xy" }, packets.tcp6 { payload = "xy" }, udp4, udp6,
      packets.tcp4 { vlan = { 7, 8 } }:copy { ip = { options = ("\1"):rep(8) } },
      packets.tcp6():copy { ip = { ext = {
        { type = "hop" }, { type = "ah" }, { type = "fragment" }, { type = "dst" },
      } } } }
    for _, p in ipairs(all) do
      local bytes = p:bytes()
      for size = 14, #bytes - 1 do assert_passes("truncated", bytes:sub(1, size)) end
      assert.equal("tx", sw:receive(bytes).verdict)
    end
  end)
end)

describe("a packet", function()
  it("of another protocol passes", function()
    assert_passes("icmp", packet { ip = packets.V4, icmp = { type = "echo-request" } })
    assert_passes("icmp", packet { ip = packets.V6, icmp6 = { type = "echo-request" } })
    for _, ip in ipairs { packets.V4, packets.V6 } do
      assert_passes("other-protocol", packet { ip = packets.with(ip, { proto = "gre" }), payload = ("x"):rep(40) })
      assert_passes("other-protocol", packet { ip = packets.with(ip, { proto = "none" }), payload = ("x"):rep(40) })
    end
  end)

  it("whose header contradicts itself passes", function()
    for _, ip in ipairs { { version = 5 }, { ihl = 4 }, { ihl = 0 }, { total_length = 19 }, { total_length = 39 } } do
      assert_passes("bad-header", packets.tcp4():copy { ip = ip })
    end
    assert_passes("bad-header", packets.tcp4():copy { ip = { options = ("\1"):rep(8), total_length = 24 } })
    assert_passes("bad-header", udp4:copy { ip = { total_length = 27 } })
    assert_passes("bad-header", packets.tcp6():copy { ip = { version = 4 } })
    assert_passes("bad-header", packets.tcp6():copy { ip = { payload_length = 19 } })
    assert_passes("bad-header", packets.tcp6():copy { ip = { payload_length = 0 } })
    assert_passes("bad-header", packets.tcp6():copy { ip = { ext = { { type = "hop" } }, payload_length = 27 } })
  end)

  it("that claims more than the frame holds passes, however long the claim", function()
    for _, more in ipairs { 1, 100, 65495 } do
      assert_passes("truncated", packets.tcp4():copy { ip = { total_length = 40 + more } })
      assert_passes("truncated", packets.tcp6():copy { ip = { payload_length = 20 + more } })
    end
  end)

  it("with seven extension headers, or a routing header still under way, passes", function()
    local seven = {}
    for i = 1, 7 do seven[i] = { type = "dst" } end
    assert_passes("extension", packets.tcp6():copy { ip = { ext = seven } })
    local routing = { type = "routing", data = "\0\1" .. ("\0"):rep(20) }
    assert_passes("extension", packets.tcp6():copy { ip = { ext = { routing } } })
  end)
end)
