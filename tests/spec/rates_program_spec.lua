-- SPDX-License-Identifier: GPL-2.0-only
--- What the XDP and the TC programs count of ports, packet by packet.
local packets = require "tests.helpers.packets"
local switch = require "tests.helpers.switch"
local tc_switch = require "tests.helpers.tc_switch"
local core = require "tidegate.core.rates"

if switch.refused() then
  pending("the datapath " .. switch.refused())
  return
end

local SLOT = 0
local LOOPBACK = 1 -- its interface index

--- What a port has counted: only what is not zero, as { name = count }.
local function counted(sw, slot, egress)
  local values = sw:map("port_counters"):sum(slot * 2 + (egress and 1 or 0)).count
  local found = {}
  for i, name in ipairs(core.names()) do
    if values[i] > 0 then found[name] = values[i] end
  end
  return found
end

local function forget(sw)
  local zero = {}
  for i = 1, #core.names() do zero[i] = 0 end
  for index = 0, 11 do assert(sw:map("port_counters"):set(index, { count = zero })) end
end

local function kinds(list)
  local found = {}
  for name, count in pairs(list) do
    if name ~= "packets" and name ~= "bytes" then found[#found + 1] = name .. " " .. count end
  end
  table.sort(found)
  return table.concat(found, ", ")
end

describe("TC counts of a port", function()
  local tc
  setup(function()
    tc = tc_switch.new()
    assert(tc:map("ports"):set(LOOPBACK, { slot = SLOT, flags = 1 }))
  end)
  teardown(function() tc:close() end)
  before_each(function() forget(tc) end)

  it("packets and bytes, and what they are, by direction", function()
    for _, direction in ipairs { "ingress", "egress" } do
      local p = packets.tcp4 { tcp = { dport = 443, flags = "S" } }
      tc:pass(direction, p)
      assert.same({ packets = 1, bytes = #p:bytes(), tcp = 1, tcp_syn = 1 }, counted(tc, SLOT, direction == "egress"))
      assert.same({}, counted(tc, SLOT, direction == "ingress"))
      forget(tc)
    end
  end)

  local cases = {
    ["tcp 1, tcp_syn 1"] = { "tcp 192.0.2.1 > 192.0.2.2:80 S", "tcp 2001:db8::1 > [2001:db8::2]:80 S" },
    ["tcp 1"] = { "tcp 192.0.2.1 > 192.0.2.2:80 SA", "tcp 192.0.2.1 > 192.0.2.2:80 A" },
    ["tcp 1, tcp_rst 1"] = { "tcp 192.0.2.1 > 192.0.2.2:80 RA", "tcp 2001:db8::1 > [2001:db8::2]:80 R" },
    ["udp 1"] = { "udp 192.0.2.1 > 192.0.2.2:53", "udp 2001:db8::1 > [2001:db8::2]:53" },
  }
  for what, texts in pairs(cases) do
    it(what .. " of what it is", function()
      for _, text in ipairs(texts) do
        tc:pass("ingress", tg.packet(text))
        assert.equal(what, kinds(counted(tc, SLOT)), text)
        forget(tc)
      end
    end)
  end

  it("ICMP, fragments, and what is no IP", function()
    tc:pass("ingress", tg.packet { ip = packets.V4, icmp = { type = "echo-request" } })
    assert.equal("icmp 1", kinds(counted(tc, SLOT)))
    forget(tc)
    local fragment = packets.with(packets.V4, { mf = true, proto = "udp" })
    tc:pass("ingress", tg.packet { ip = fragment, payload = ("x"):rep(64) })
    assert.equal("fragments 1, udp 1", kinds(counted(tc, SLOT)))
    forget(tc)
    tc:pass("ingress", tg.packet { eth = { type = 0x0806 }, payload = ("\0"):rep(46) })
    assert.same({ packets = 1, bytes = 60 }, counted(tc, SLOT))
  end)

  it("what its policy drops, and rejects", function()
    for _, default in ipairs { "drop", "reject", "accept" } do
      tc:policy("ingress", { default = default })
      tc:pass("ingress", tg.packet "udp 192.0.2.1:53 > 192.0.2.2:1")
      assert.equal(default == "accept" and "udp 1" or "drops 1, udp 1", kinds(counted(tc, SLOT)))
      forget(tc)
    end
    tc:policy("ingress", nil)
  end)
end)

describe("XDP counts of a port", function()
  local sw
  setup(function()
    sw = switch.new()
    sw:backend(1, { addr = "192.0.2.11" })
    sw:backend(2, { addr = "2001:db8:1::11" })
    sw:vip(packets.V4.dst .. ":443/tcp", { service = 1, ring = { 1 } })
    sw:vip("[" .. packets.V6.dst .. "]:443/tcp", { service = 2, ring = { 2 } })
    sw:vip(packets.V4.dst .. ":81/tcp", { service = 3, ring = { 0 } }) -- have no backend
    sw:vip("[2001:db8::bad]:81/tcp", { service = 4, ring = { 0 } })
    assert(sw:map("ports"):set(LOOPBACK, { slot = SLOT, flags = 1 }))
  end)
  teardown(function() sw:close() end)
  before_each(function() forget(sw) end)

  it("what it forwards, where it comes in and where it leaves", function()
    local syn = { tcp = { dport = 443, flags = "S" } }
    for _, p in ipairs { packets.tcp4(syn), packets.tcp6(syn) } do
      assert.equal("tx", sw:receive(p).verdict)
      local want = { packets = 1, bytes = #p:bytes(), tcp = 1, tcp_syn = 1 }
      assert.same(want, counted(sw, SLOT))
      assert.same(want, counted(sw, SLOT, true))
      forget(sw)
    end
  end)

  it("what it drops, whatever it is", function()
    local r = sw:receive(tg.packet("tcp 203.0.113.7 > " .. packets.V4.dst .. ":81 S"))
    assert.equal("drop", r.verdict)
    assert.equal("drops 1, tcp 1, tcp_syn 1", kinds(counted(sw, SLOT)))
    forget(sw)
    local p = tg.packet { ip = packets.with(packets.V6, { dst = "2001:db8::bad" }), tcp = { dport = 81, flags = "R" } }
    assert.equal("drop", sw:receive(p).verdict)
    assert.same({ packets = 1, bytes = #p:bytes(), tcp = 1, tcp_rst = 1, drops = 1 }, counted(sw, SLOT))
  end)

  it("nothing of what TC will see", function()
    for _, text in ipairs { "tcp 192.0.2.1 > 192.0.2.2:80 S", "udp 2001:db8::1 > [2001:db8::2]:53" } do
      assert.equal("pass", sw:receive(tg.packet(text)).verdict)
    end
    assert.same({}, counted(sw, SLOT))
  end)

  it("what goes to TC for its taps, once", function()
    assert(sw:map("ports"):set(LOOPBACK, { slot = SLOT, flags = 1, taps = { 1, 0 } }))
    assert(sw:map("clock"):set(0, { taps = 1 }))
    sw:receive(packets.tcp4 {})
    assert.equal("tcp 1, tcp_syn 1", kinds(counted(sw, SLOT)))
    assert(sw:map("ports"):set(LOOPBACK, { slot = SLOT, flags = 1 }))
    assert(sw:map("clock"):set(0, { taps = 0 }))
  end)

  it("nothing of devices that are no ports", function()
    sw:map("ports"):delete(LOOPBACK)
    assert.equal("tx", sw:receive(packets.tcp4 {}).verdict)
    assert.same({}, counted(sw, SLOT))
    assert(sw:map("ports"):set(LOOPBACK, { slot = SLOT, flags = 1 }))
  end)
end)
