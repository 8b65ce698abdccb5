-- SPDX-License-Identifier: GPL-2.0-only
--- Packets through the real XDP program: VIPs that are ranges of ports, and nat's ways back from them.
local packet = require "tidegate.packet"
local packets = require "tests.helpers.packets"
local switch = require "tests.helpers.switch"

if switch.refused() then
  pending("the datapath " .. switch.refused())
  return
end

local VIP4, VIP6 = packets.V4.dst, packets.V6.dst
local sw

--- Which backend a packet went to, by the last byte of its MAC; or why to none.
local function goes(p)
  local r = sw:receive(p)
  if r.verdict ~= "tx" then return r.reason end
  return tonumber(r.packet.eth.dst:sub(-2), 16)
end

local function to(port, more) return packets.tcp4(packets.with({ tcp = { dport = port } }, more)) end
local function to6(port, more) return packets.tcp6(packets.with({ tcp = { dport = port } }, more)) end
local function udp_to(port) return packet { ip = packets.V4, udp = { dport = port }, payload = "x" } end

describe("a range of ports", function()
  setup(function()
    sw = switch.new()
    for i = 1, 6 do sw:backend(i, { addr = "192.0.2." .. i }) end
    sw:backend(7, { addr = "2001:db8:1::7" })
    sw:vip(VIP4 .. ":8042/tcp", { service = 1, ring = { 1 } })
    sw:range(VIP4 .. ":8000-8049/tcp", { service = 2, ring = { 2 } })
    sw:range(VIP4 .. ":8050-8099/tcp", { service = 3, ring = { 3 } })
    sw:range(VIP4 .. ":1-65535/udp", { service = 4, ring = { 4 } })
    sw:range("198.51.100.11:1-65535/tcp", { service = 5, ring = { 5 } })
    sw:range("[" .. VIP6 .. "]:443-444/tcp", { service = 6, ring = { 7 } })
    sw:write_ranges(0)
  end)
  teardown(function() sw:close() end)

  it("has its first port and its last, and none beside", function()
    assert.same({ "not-vip", 2, 2, 3, 3, "not-vip" },
      { goes(to(7999)), goes(to(8000)), goes(to(8049)), goes(to(8050)), goes(to(8099)), goes(to(8100)) })
    assert.same({ "not-vip", 7, 7, "not-vip" }, { goes(to6(442)), goes(to6(443)), goes(to6(444)), goes(to6(445)) })
  end)

  it("leaves a port to the VIP that is that port alone", function()
    assert.same({ 2, 1, 2 }, { goes(to(8041)), goes(to(8042)), goes(to(8043)) })
  end)

  it("may be all ports, of which 0 is none", function()
    assert.same({ 4, 4, 4, "not-vip" }, { goes(udp_to(1)), goes(udp_to(8042)), goes(udp_to(65535)), goes(udp_to(0)) })
  end)

  it("is one of its address and protocol", function()
    local other = { src = "192.0.2.7", dst = "198.51.100.12" }
    assert.equal(5, goes(to(7, { ip = packets.with(other, { dst = "198.51.100.11" }) })))
    assert.equal("not-vip", goes(to(8000, { ip = other })))
    assert.equal("not-vip", goes(packet { ip = packets.V6, udp = { dport = 443 } }))
    assert.equal("not-vip", goes(to6(8000)))
  end)

  it("is found behind VLAN tags, IP options and extension headers", function()
    for _, vlan in ipairs { 7, { 8, 9 } } do
      assert.equal(2, goes(to(8000, { vlan = vlan })))
      assert.equal(7, goes(to6(443, { vlan = vlan })))
    end
    for size = 4, 40, 12 do assert.equal(3, goes(to(8099):copy { ip = { options = ("\1"):rep(size) } })) end
    assert.equal(7, goes(to6(444):copy { ip = { ext = { { type = "hop" }, { type = "dst" }, { type = "routing" } } } }))
  end)

  it("says truncated of a packet without ports, as everywhere", function()
    assert.equal("truncated", sw:receive(to(8000):bytes():sub(1, 36)).reason)
  end)

  it("has the ICMP errors about its flows, and their fragments", function()
    local about = packet { ip = { src = VIP4, dst = "192.0.2.7" }, tcp = { sport = 8050, dport = 40000 } }
    local function err(quoted)
      return packet { ip = { src = "203.0.113.1", dst = VIP4 },
        icmp = { type = "unreachable", code = 4, mtu = 1280, quoted = quoted, quote_length = 8 } }
    end
    assert.equal(3, goes(err(about)))
    assert.equal(2, goes(err(about:copy { tcp = { sport = 8049 } })))
    local pieces = udp_to(9):copy({ ip = { id = 77 }, payload = ("x"):rep(3000) }):fragments(1400)
    assert.is_true(#pieces >= 2)
    for _, piece in ipairs(pieces) do assert.equal(4, goes(piece)) end
  end)

  it("counts for the service that has it", function()
    local before = { sw:counter("service", 2).packets, sw:counter("service", 3).packets }
    sw:receive(to(8001))
    assert.same({ before[1] + 1, before[2] }, { sw:counter("service", 2).packets, sw:counter("service", 3).packets })
  end)

  it("is found in the other half of the table, and under a salt", function()
    sw:write_ranges(1, 77)
    assert.same({ 2, 1, 3, 4, 5, 7, "not-vip" }, { goes(to(8000)), goes(to(8042)), goes(to(8099)), goes(udp_to(9)),
      goes(to(7, { ip = { src = "192.0.2.7", dst = "198.51.100.11" } })), goes(to6(444)), goes(to(8100)) })
    assert(sw:map("range_table"):set(0, { current = 0, half = { {}, {} }, window = {}, key = {} }))
    assert.same({ "not-vip", 1 }, { goes(to(8000)), goes(to(8042)) })
    sw:write_ranges(0)
  end)
end)

describe("a table of ranges", function()
  local WIDTH <const> = 8

  local function address(i) return ("198.51.%d.%d"):format(100 + i // 200, i % 200) end

  --- Ranges of 8 ports with gaps of 8, up to 512 to an address: the nth has backend n % 6 + 1.
  local function fill(count)
    sw.ranges = {}
    for n = 0, count - 1 do
      local first = (n % 512) * 2 * WIDTH + 1
      sw:range(("%s:%d-%d/tcp"):format(address(n // 512), first, first + WIDTH - 1), { value = sw.values[n % 6 + 1] })
    end
    sw:write_ranges(count % 2)
  end

  local function expected(count, addr, port)
    local n = addr * 512 + (port - 1) // (2 * WIDTH)
    if port == 0 or (port - 1) % (2 * WIDTH) >= WIDTH or (port - 1) // (2 * WIDTH) >= 512 or n >= count then
      return "not-vip"
    end
    return n % 6 + 1
  end

  setup(function()
    sw = switch.new()
    sw.values = {}
    for i = 1, 6 do
      sw:backend(i, { addr = "192.0.2." .. i })
      sw.values[i] = { ring = sw:ring { i }, slots = 1, service = i }
    end
  end)
  teardown(function() sw:close() end)

  for _, count in ipairs { 0, 1, 2, 3, 4, 5, 7, 8, 9, 511, 512, 513, 1000, 8191, 16383, 16384 } do
    it(("of %d finds each port's, and no other"):format(count), function()
      fill(count)
      for try = 1, 150 do
        local addr = math.random(0, count // 512 + 1)
        local port = math.random(0, math.min(8200, 20 + 2 * WIDTH * count))
        if try <= 20 then addr, port = try % 2 * (count // 512), math.random(0, 9) end
        local p = to(port, { ip = { src = "192.0.2.7", dst = address(addr) } })
        assert.equal(expected(count, addr, port), goes(p), ("%s:%d"):format(address(addr), port))
      end
    end)
  end
end)

describe("nat with a range", function()
  local BACKEND4, BACKEND6 = "203.0.113.11", "2001:db8:2::11"
  local MACS = { dmac = "02:00:00:00:03:01", smac = "02:00:00:00:03:02" }

  setup(function()
    sw = switch.new()
    sw:backend(1, { addr = BACKEND4, mtu = 1500 })
    sw:backend(2, { addr = BACKEND6, mtu = 1500 })
    for proto in ("tcp udp"):gmatch "%a+" do
      sw:range(VIP4 .. ":8000-8099/" .. proto, { mode = "nat", service = 1, ring = { 1 } })
      sw:range("[" .. VIP6 .. "]:8000-8099/" .. proto, { mode = "nat", service = 2, ring = { 2 } })
      sw:reverse_range(BACKEND4 .. ":8000-8099/" .. proto, VIP4, { service = 1, backend = 1 })
      sw:reverse_range("[" .. BACKEND6 .. "]:8000-8099/" .. proto, VIP6, { service = 2, backend = 2 })
    end
    sw:vip(VIP4 .. ":80/tcp", { mode = "nat", service = 3, ring = { 1 } })
    sw:reverse(BACKEND4 .. ":80/tcp", VIP4 .. ":80/tcp", { service = 3, backend = 1 })
    sw:write_ranges(1)
    sw:route("0.0.0.0/0", { hop = MACS, mtu = 1500 })
    sw:route("::/0", { hop = MACS, mtu = 1500 })
    sw:route("192.0.2.254/32", { is_local = true })
  end)
  teardown(function() sw:close() end)

  local function flow(v6, l4, port, more)
    return packet(packets.with({ ip = v6 and packets.V6 or packets.V4, [l4] = { sport = 40000, dport = port } }, more))
  end

  local function routed(p, macs, more)
    more.ip.ttl = p.ip.ttl - 1
    return p:copy(packets.with(more, { eth = { dst = macs.dmac, src = macs.smac } }))
  end

  --- There and back: only addresses and the TTL change, checksums with them.
  local function assert_translated(v6, l4, port, more)
    local backend, vip = v6 and BACKEND6 or BACKEND4, v6 and VIP6 or VIP4
    local out = flow(v6, l4, port, more)
    local there = sw:receive(out)
    assert.same({ "tx", "forward" }, { there.verdict, there.reason })
    local hop = { dmac = ("02:00:00:00:01:%02x"):format(v6 and 2 or 1), smac = "02:00:00:00:00:ff" }
    assert.equal(routed(out, hop, { ip = { dst = backend } }):hex(), there.packet:hex())
    local answer = out:copy { ip = { src = backend, dst = out.ip.src }, [l4] = { sport = port, dport = 40000 } }
    local back = sw:receive(answer)
    assert.same({ "tx", "forward" }, { back.verdict, back.reason })
    assert.equal(routed(answer, MACS, { ip = { src = vip } }):hex(), back.packet:hex())
  end

  it("leaves the port, there and back", function()
    for _, v6 in ipairs { false, true } do
      for l4 in ("tcp udp"):gmatch "%a+" do
        for _, port in ipairs { 8000, 8042, 8099 } do assert_translated(v6, l4, port, { payload = "hello" }) end
        assert_translated(v6, l4, 8001, { vlan = { 7, 8 } })
      end
    end
    assert_translated(false, "tcp", 80)
  end)

  it("leaves a backend's other ports alone", function()
    for _, port in ipairs { 7999, 8100, 81 } do
      local p = flow(false, "tcp", 40000):copy { ip = { src = BACKEND4, dst = "192.0.2.7" }, tcp = { sport = port } }
      local r = sw:receive(p)
      assert.same({ "pass", "not-vip", true }, { r.verdict, r.reason, r.unchanged })
    end
  end)

  it("leaves direct flows and the switch's own alone", function()
    local direct = flow(false, "tcp", 8042):copy { ip = { dst = BACKEND4 }, tcp = { sport = 40001 } }
    assert.equal("not-vip", sw:receive(direct).reason)
    local answer = direct:copy { ip = { src = BACKEND4, dst = "192.0.2.7" }, tcp = { sport = 8042, dport = 40001 } }
    assert.equal("direct-flow", sw:receive(answer).reason)
    assert.equal("local-reply", sw:receive(answer:copy { ip = { dst = "192.0.2.254" } }).reason)
  end)

  it("counts replies for the backend", function()
    local before = sw:counter("reply", 1).packets
    sw:receive(flow(false, "tcp", 1):copy { ip = { src = BACKEND4, dst = "192.0.2.9" }, tcp = { sport = 8000 } })
    assert.equal(before + 1, sw:counter("reply", 1).packets)
  end)
end)
