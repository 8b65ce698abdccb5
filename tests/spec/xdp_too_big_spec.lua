-- SPDX-License-Identifier: GPL-2.0-only
--- Packets through the real XDP program that don't fit the way to their backend: what is answered, byte
--- by byte, what is not, and how often.
local checksum = require "tests.helpers.checksum"
local object = require "tests.helpers.object"
local packet = require "tidegate.packet"
local packets = require "tests.helpers.packets"
local switch = require "tests.helpers.switch"
local task = require "tidegate.task"

if switch.refused() then
  pending("the datapath " .. switch.refused())
  return
end

local VIP = { [4] = packets.V4.dst, [6] = packets.V6.dst }
local BACKEND = { [4] = "192.0.2.11", [6] = "2001:db8:1::11" }
local HEAD = { [4] = { ipip = 20, gue = 28 }, [6] = { ipip = 40, gue = 48 } }
local IP = { [4] = 20, [6] = 40 }
local QUOTED = { [4] = 576 - 28, [6] = 1280 - 48 } -- bytes, as much as an answer may have
local MTU = 1500
local sw, ports

setup(function()
  sw, ports = switch.new(), {}
  sw:tunnel {}
end)
teardown(function() sw:close() end)
before_each(function() sw:map("answers_until"):set(0, 0) end)

--- The port of a VIP whose backend is of that family, behind that MTU.
local function port_of(outer, mode, mtu)
  local key = ("%d %s %d"):format(outer, mode, mtu)
  if ports[key] then return ports[key] end
  ports.count = (ports.count or 0) + 1
  sw:backend(ports.count, { addr = BACKEND[outer], mtu = mtu })
  for family, vip in pairs(VIP) do
    for _, proto in ipairs { "tcp", "udp" } do
      sw:vip((family == 4 and "%s:%d/%s" or "[%s]:%d/%s"):format(vip, 1000 + ports.count, proto),
        { mode = mode, ring = { ports.count } })
    end
  end
  ports[key] = 1000 + ports.count
  return ports[key]
end

--- An IP packet of `length` bytes for the VIP in front of such a backend.
local function packet_of(length, inner, outer, mode, more, mtu)
  local given = packets.with({ ip = packets["V" .. inner] }, more)
  given.ip = packets.with(packets["V" .. inner], given.ip)
  given.tcp = { dport = port_of(outer, mode, mtu or MTU), flags = "A" }
  local empty = #packet(given):bytes() - 14 - (given.vlan and 4 or 0)
  given.payload = packets.bytes(length - empty)
  return packet(given)
end

--- The answer that `p` should get.
local function answer_to(p, inner, mtu)
  local before_l4 = p.ip.options and #p.ip.options or 0
  local given = {
    eth = { src = p.eth.dst, dst = p.eth.src }, vlan = p.vlan,
    ip = { src = p.ip.dst, dst = p.ip.src, tos = inner == 4 and 0xc0 or nil, df = inner == 4 or nil,
      tclass = inner == 6 and 0xc0 or nil },
  }
  given[inner == 4 and "icmp" or "icmp6"] = { type = inner == 4 and "unreachable" or "too-big",
    code = inner == 4 and 4 or 0, mtu = mtu, quoted = p, quote_length = QUOTED[inner] - IP[inner] - before_l4 }
  return packet(given)
end

local function each(call)
  for _, inner in ipairs { 4, 6 } do
    for _, outer in ipairs { 4, 6 } do
      for _, mode in ipairs { "ipip", "gue" } do call(inner, outer, mode) end
    end
  end
end

local function assert_answered(p, inner, mtu, receive)
  local r = (receive or sw.receive)(sw, p)
  assert.same({ "redirect", "too-big-answered" }, { r.verdict, r.reason })
  assert.equal(answer_to(p, inner, mtu):hex(), packet.parse(r.bytes):hex())
  return r.bytes
end

local function verdict_of(r) return { r.verdict, r.reason } end

describe("a packet that just fits its tunnel", function()
  it("goes through, and one more byte is answered with what would fit", function()
    local answers = {}
    each(function(inner, outer, mode)
      local most = MTU - HEAD[outer][mode]
      assert.same({ "tx", "forward" }, verdict_of(sw:receive(packet_of(most, inner, outer, mode))))
      answers[#answers + 1] = assert_answered(packet_of(most + 1, inner, outer, mode), inner, most)
    end)
    assert.equal(8, #answers)
    assert.same({}, checksum.bad(answers))
  end)

  it("is one of 65,535 bytes outside where the MTU is not known", function()
    for _, inner in ipairs { 4, 6 } do
      local most = 65535 - 20
      assert.same({ "tx", "forward" }, verdict_of(sw:receive(packet_of(most, inner, 4, "ipip", nil, 0))))
      local larger = sw:receive(packet_of(most + 1, inner, 4, "ipip", nil, 0))
      assert.same({ "redirect", "too-big-answered" }, verdict_of(larger))
    end
  end)
end)

describe("the answer", function()
  it("goes back by the VLAN that the packet came by", function()
    for _, vlan in ipairs { 7, { { id = 8, type = 0x88a8 }, 9 } } do
      local frame = packet_of(1490, 4, 4, "ipip"):copy { vlan = vlan }
      assert_answered(frame, 4, 1480)
      assert_answered(packet_of(1490, 6, 6, "gue"):copy { vlan = vlan }, 6, 1452)
    end
  end)

  it("is also for packets without DF, with options, with extension headers, with padding", function()
    assert_answered(packet_of(1490, 4, 4, "ipip", { ip = { df = false } }), 4, 1480)
    assert_answered(packet_of(1490, 4, 4, "ipip", { ip = { df = true } }), 4, 1480)
    assert_answered(packet_of(1490, 4, 4, "ipip", { ip = { options = ("\1"):rep(40) } }), 4, 1480)
    assert_answered(packet_of(1490, 6, 4, "ipip", { ip = { ext = { { type = "hop" }, { type = "dst" } } } }), 6, 1480)
    assert_answered(packet_of(1490, 4, 4, "ipip"):copy { trailer = "padding" }, 4, 1480)
  end)

  it("is for packets of several pages, too", function()
    for _, length in ipairs { 4000, 9000, 20000 } do
      assert_answered(packet_of(length, 4, 4, "ipip"), 4, 1480)
      assert_answered(packet_of(length, 6, 6, "gue"), 6, 1452)
    end
  end)

  it("never says less than every link carries, 68 and 1280 bytes", function()
    assert_answered(packet_of(1400, 6, 6, "gue", nil, 1300), 6, 1280)
    local r = sw:receive(packet_of(100, 4, 4, "gue", nil, 80))
    assert.same({ "redirect", "too-big-answered", 68 }, { r.verdict, r.reason, r.packet.icmp.mtu })
    assert.same({}, checksum.bad { r.bytes })
  end)

  it("quotes a short packet in whole words", function()
    for length = 100, 108 do
      local p = packet_of(length, 4, 4, "ipip", nil, 100)
      local r = sw:receive(p)
      assert.same({ "redirect", "too-big-answered" }, verdict_of(r))
      assert.equal(p:bytes():sub(15, 14 + length // 4 * 4), r.bytes:sub(15 + 28))
      assert.same({}, checksum.bad { r.bytes })
    end
  end)
end)

describe("no answer is given", function()
  local function assert_dropped(p) assert.same({ "drop", "too-big-dropped" }, verdict_of(sw:receive(p))) end

  it("to IPv6 packets that every link has to carry", function()
    assert_dropped(packet_of(1280, 6, 6, "gue", nil, 1300))
    assert.same({ "redirect", "too-big-answered" }, verdict_of(sw:receive(packet_of(1281, 6, 6, "gue", nil, 1300))))
  end)

  it("to a source that is no host's", function()
    assert_dropped(packet_of(1490, 4, 4, "ipip", { ip = { src = "240.0.0.1" } }))
    for _, source in ipairs { "0.1.2.3", "127.0.0.1", "224.0.0.1", "255.255.255.255" } do -- bogus in any case
      assert.equal("drop", sw:receive(packet_of(1490, 4, 4, "ipip", { ip = { src = source } })).verdict)
    end
    for _, source in ipairs { "::", "::1", "ff02::1" } do
      assert.equal("drop", sw:receive(packet_of(1490, 6, 4, "ipip", { ip = { src = source } })).verdict)
    end
  end)

  it("beyond the rate that is allowed", function()
    local bytes = packet_of(1490, 4, 4, "ipip"):bytes()
    local cpus, answered, start = tonumber(object.run "nproc"), 0, task.now()
    local sent = 3000 * cpus
    for _ = 1, sent do
      if sw.program:run(bytes).retval == "redirect" then answered = answered + 1 end
    end
    local most = cpus * (100 + 1000 * (task.now() - start) + 5) -- the clock that is looked at ticks every 4 ms
    assert.is_true(answered >= 100 and answered <= most and most < sent,
      ("%d of %d answered, %.0f may be"):format(answered, sent, most))
  end)

  it("while all are spoken for", function()
    local until_then = 1 << 62
    sw:map("answers_until"):set(0, until_then)
    assert_dropped(packet_of(1490, 4, 4, "ipip"))
    assert_dropped(packet_of(1490, 6, 4, "ipip"))
    for _, value in ipairs(sw:map("answers_until"):get(0)) do assert.equal(until_then, value) end
  end)
end)

describe("a super-packet", function()
  local NETNS = "tg-big-" .. object.run "echo $PPID"
  local IN = 12

  setup(function()
    object.run("ip netns add " .. NETNS)
    object.run(("ip -n %s link add in0 index %d mtu 1500 type veth peer name in0_peer"):format(NETNS, IN))
    object.run(("ip -n %s link set in0 up"):format(NETNS))
  end)
  teardown(function() object.run("ip netns del " .. NETNS) end)

  local function receive(_, p) return sw:receive(p, { netns = NETNS, ifindex = IN }) end

  it("larger than the port it came in by allows, is dropped and not answered", function()
    for _, inner in ipairs { 4, 6 } do
      assert.same({ "drop", "super-packet" }, verdict_of(receive(sw, packet_of(1501, inner, 4, "ipip"))))
      assert.same({ "drop", "super-packet" }, verdict_of(receive(sw, packet_of(4380, inner, 4, "ipip"))))
      assert_answered(packet_of(1500, inner, 4, "ipip"), inner, 1480, receive)
    end
  end)
end)
