-- SPDX-License-Identifier: GPL-2.0-only
--- Packets through the real XDP program: QUIC, by connection ID.
local packet = require "tidegate.packet"
local packets = require "tests.helpers.packets"
local quic = require "tests.helpers.quic"
local switch = require "tests.helpers.switch"

if switch.refused() then
  pending("the datapath " .. switch.refused())
  return
end

local QUIC <const>, DRAINS <const>, DEAD <const> = 8, 2, 4 -- TG_VIP_QUIC, TG_BACKEND_*
local VIP4, VIP6 = packets.V4.dst, packets.V6.dst
local HASHED <const> = 9 -- the backend of all slots: what a flow's hash says
local sw

local function datagram(bytes, more)
  return packet(packets.with({ ip = packets.V4, udp = { sport = 40000, dport = 443 }, payload = bytes }, more))
end

--- Which backend a datagram goes to, by the last byte of its MAC; or why to none.
local function goes(bytes, more)
  local r = sw:receive(datagram(bytes, more))
  if r.verdict ~= "tx" then return r.reason end
  return tonumber(r.packet.eth.dst:sub(-2), 16)
end

local function new_switch()
  sw = switch.new()
  for i = 1, 10 do sw:backend(i, { addr = "192.0.2." .. i }) end
  sw:backend(20, { addr = "2001:db8:1::20" })
  sw:backend(21, { addr = "2001:db8:1::21" })
end

describe("a QUIC packet", function()
  setup(function()
    new_switch()
    sw:vip(VIP4 .. ":443/udp", { service = 1, ring = { HASHED }, flags = QUIC })
    sw:quic(1, { 1, 2, 0xe0, 0 }, { [11] = 1, [12] = 2, [0xffff] = 3 })
    sw:vip("[" .. VIP6 .. "]:443/udp", { service = 1, ring = { 21 }, flags = QUIC })
    sw:quic(1, { 1, 2, 0xe0, 0 }, { [11] = 20 }, true)
    sw:vip(VIP4 .. ":444/udp", { service = 2, ring = { HASHED } })
  end)
  teardown(function() sw:close() end)

  it("goes to the server that its ID names, short header and long", function()
    assert.same({ 1, 2, 3 }, { goes(quic.short(quic.id(11))), goes(quic.short(quic.id(12))),
      goes(quic.short(quic.id(0xffff))) })
    for _, kind in ipairs { "initial", "0-rtt", "handshake", "retry" } do
      assert.equal(2, goes(quic.long(kind, quic.id(12))))
      assert.equal(2, goes(quic.long(kind, quic.id(12), { version = quic.V2 })))
    end
    assert.equal(2, goes(quic.long(1, quic.id(12), { version = 0xff00001d })))
  end)

  it("goes there from whatever address and port the client has moved to", function()
    for i = 1, 40 do
      local ip = packets.with(packets.V4, { src = "203.0.113." .. i })
      assert.equal(1, goes(quic.short(quic.id(11)), { ip = ip, udp = { sport = 1024 + 77 * i, dport = 443 } }))
    end
  end)

  it("goes to the VIP's own family's backend", function()
    local six = { ip = packets.V6 }
    assert.equal(20, goes(quic.short(quic.id(11)), six))
    assert.equal(20, goes(quic.long("handshake", quic.id(11)), six))
    assert.equal(21, goes(quic.short(quic.id(12)), six))
  end)

  it("goes by its hash where its ID names nobody", function()
    for _, bytes in ipairs {
      quic.short(quic.id(13)), quic.short(quic.random_id()), quic.long("initial", quic.random_id()),
      quic.long("handshake", quic.id(13)), quic.long("initial", ""), quic.long("initial", "\0\0"),
      quic.short(quic.id(11, { first = 0xe0 })), quic.short(quic.id(11, { first = 0x20 })), -- other configurations
    } do assert.equal(HASHED, goes(bytes)) end
  end)

  it("may have its fixed bit cleared, and others behind it in the datagram", function()
    assert.equal(1, goes(quic.short(quic.id(11), 0)))
    assert.equal(2, goes(quic.long("initial", quic.id(12)) .. quic.long("handshake", quic.id(12))))
  end)

  it("may be as short as its ID, and goes by its hash where it ends before", function()
    for size = 0, 3 do
      assert.equal(size == 3 and 1 or HASHED, goes(quic.short(quic.id(11)):sub(1, 1 + size)))
      assert.equal(size == 3 and 1 or HASHED, goes(quic.long("initial", quic.id(11)):sub(1, 6 + size)))
    end
    for size = 0, 6 do assert.equal(HASHED, goes(quic.long("initial", quic.id(11)):sub(1, size))) end
  end)

  it("doesn't end in the padding of its frame", function()
    assert.equal(HASHED, goes(quic.short(quic.id(11)):sub(1, 3), { trailer = quic.id(11):sub(3) .. ("\0"):rep(20) }))
  end)

  it("has its ID where a long header says how long it is", function()
    assert.equal(1, goes(quic.long("handshake", quic.id(11, { size = 3 }))))
    assert.equal(HASHED, goes(quic.long("handshake", quic.id(11, { size = 2 }))))
    assert.equal(1, goes(quic.long("handshake", quic.id(11, { nonce = ("x"):rep(17) }))))
    assert.equal(1, goes(quic.long("initial", quic.id(11, { nonce = ("x"):rep(200) }), { version = 0xfaceb00c })))
  end)

  it("is found behind VLAN tags, IP options and extension headers", function()
    assert.equal(1, goes(quic.short(quic.id(11)), { vlan = { 7, 8 } }))
    assert.equal(1, goes(quic.short(quic.id(11)), { ip = packets.with(packets.V4, { options = ("\1"):rep(40) }) }))
    local ext = { { type = "hop" }, { type = "dst", data = ("\0"):rep(254) } }
    assert.equal(20, goes(quic.short(quic.id(11)), { ip = packets.with(packets.V6, { ext = ext }) }))
  end)

  it("is just a datagram to a VIP that is not QUIC", function()
    assert.equal(HASHED, goes(quic.short(quic.id(11)), { udp = { sport = 40000, dport = 444 } }))
  end)

  it("goes on to a backend that drains, and by its hash past a dead one", function()
    local backends = sw:map "backends"
    local value = backends:get(2)
    value.flags = DRAINS
    assert(backends:set(2, value))
    assert.equal(2, goes(quic.short(quic.id(12))))
    value.flags = DRAINS | DEAD
    assert(backends:set(2, value))
    assert.equal(HASHED, goes(quic.short(quic.id(12))))
    value.flags = 0
    assert(backends:set(2, value))
  end)

  it("is counted for its service and the backend it went to", function()
    local service, backend = sw:counter("service", 1).packets, sw:counter("backend", 1).packets
    goes(quic.short(quic.id(11)))
    assert.same({ service + 1, backend + 1 }, { sw:counter("service", 1).packets, sw:counter("backend", 1).packets })
  end)
end)

describe("a server's ID", function()
  setup(new_switch)
  teardown(function() sw:close() end)

  for _, case in ipairs {
    { offset = 0, length = 1, id = "\x0b" .. "nonce" }, { offset = 0, length = 4, id = "\0\0\0\x0b" },
    { offset = 1, length = 1, id = "?\x0b" }, { offset = 5, length = 3, id = "12345\0\0\x0b1234" },
    { offset = 16, length = 4, id = ("x"):rep(16) .. "\0\0\0\x0b" },
  } do
    it(("may be %d bytes at %d"):format(case.length, case.offset), function()
      sw:vip(VIP4 .. ":443/udp", { service = 1, ring = { HASHED }, flags = QUIC })
      sw:quic(1, { case.offset, case.length, 0, 0 }, { [11] = 1 })
      assert.equal(1, goes("\x40" .. case.id))
      assert.equal(HASHED, goes("\x40" .. case.id:sub(1, case.offset + case.length - 1)))
      assert.equal(1, goes(quic.long("handshake", case.id)))
      assert.equal(HASHED, goes("\x40" .. case.id:gsub("\x0b", "\x0c")))
    end)
  end
end)

describe("while its slot moves, a QUIC flow", function()
  setup(function()
    new_switch()
    sw:map("clock"):set(0, { epoch = 7 })
    sw:vip(VIP4 .. ":443/udp", { service = 1, ring = { { 4, 5 } }, flags = QUIC })
    sw:quic(1, { 1, 2, 0xe0, 0 }, { [11] = 1 })
  end)
  teardown(function() sw:close() end)

  local port = 2000
  local function fresh() port = port + 1 return { udp = { sport = port, dport = 443 } } end

  it("that begins goes to the new backend, and stays there", function()
    for _, first in ipairs { quic.long("initial", quic.random_id()), quic.long("0-rtt", quic.random_id()),
      quic.long("initial", quic.random_id(), { version = quic.V2 }),
      quic.long(2, quic.random_id(), { version = 0xff00001d }) } do
      local flow = fresh()
      assert.same({ 5, 5, 5 }, { goes(first, flow), goes(quic.long("handshake", quic.random_id()), flow),
        goes(quic.short(quic.random_id()), flow) })
    end
  end)

  it("that has begun before is still on the old one", function()
    for _, later in ipairs { quic.short(quic.random_id()), quic.long("handshake", quic.random_id()),
      quic.long("retry", quic.random_id()), quic.long(0, quic.random_id(), { version = 0 }) } do
      assert.equal(4, goes(later, fresh()))
    end
  end)

  it("goes to the server that it names", function()
    local flow = fresh()
    assert.equal(5, goes(quic.long("initial", quic.random_id()), flow))
    assert.equal(1, goes(quic.short(quic.id(11)), flow))
  end)
end)

describe("nat", function()
  it("translates to the server that the packet names, from wherever its client has moved to", function()
    new_switch()
    sw:backend(1, { addr = "203.0.113.11", port = 4433, mtu = 1500 })
    sw:vip(VIP4 .. ":443/udp", { service = 1, mode = "nat", ring = { HASHED }, flags = QUIC })
    sw:reverse("203.0.113.11:4433/udp", VIP4 .. ":443/udp", { service = 1, backend = 1 })
    sw:quic(1, { 1, 2, 0xe0, 0 }, { [11] = 1 })
    sw:route("0.0.0.0/0", { hop = { dmac = "02:00:00:00:03:01", smac = "02:00:00:00:03:02" }, mtu = 1500 })
    for sport = 5000, 5020 do
      local there = sw:receive(datagram(quic.short(quic.id(11)), { udp = { sport = sport, dport = 443 } })).packet
      assert.same({ "203.0.113.11", 4433, sport }, { there.ip.dst, there.udp.dport, there.udp.sport })
      local answer = packet { ip = { src = "203.0.113.11", dst = packets.V4.src }, payload = "x",
        udp = { sport = 4433, dport = sport } }
      local back = sw:receive(answer).packet
      assert.same({ VIP4, 443, sport }, { back.ip.src, back.udp.sport, back.udp.dport })
    end
    sw:close()
  end)
end)
