-- SPDX-License-Identifier: GPL-2.0-only
--- Packets through the real XDP program: services in nat mode, there and back.
local checksum = require "tests.helpers.checksum"
local packet = require "tidegate.packet"
local packets = require "tests.helpers.packets"
local switch = require "tests.helpers.switch"

if switch.refused() then
  pending("the datapath " .. switch.refused())
  return
end

local VIP4, VIP6 = packets.V4.dst, packets.V6.dst
local BACKEND4, BACKEND6 = "203.0.113.11", "2001:db8:2::11"
local TO_CLIENTS = { dmac = "02:00:00:00:03:01", smac = "02:00:00:00:03:02" }
local BACKEND_MACS = { dst = "02:00:00:00:01:01", src = "02:00:00:00:00:ff" }
local CLIENT_MACS = { dst = TO_CLIENTS.dmac, src = TO_CLIENTS.smac }

local sw
local rewritten = {} -- every packet that a test here saw rewritten, for tshark

setup(function()
  sw = switch.new()
  for family, of in pairs { [4] = { VIP4, BACKEND4 }, [6] = { "[" .. VIP6 .. "]", BACKEND6 } } do
    local vip, backend = table.unpack(of)
    sw:backend(family, { addr = backend, port = 8080, mtu = 1500, hop = {
      dmac = BACKEND_MACS.dst, smac = BACKEND_MACS.src,
    } })
    local bracketed = family == 6 and "[" .. backend .. "]" or backend
    for _, proto in ipairs { "tcp", "udp" } do
      sw:vip(vip .. ":443/" .. proto, { service = family, mode = "nat", ring = { family } })
      sw:reverse(bracketed .. ":8080/" .. proto, vip .. ":443/" .. proto, { service = family, backend = family })
    end
  end
  for prefix, given in pairs {
    ["0.0.0.0/0"] = { hop = TO_CLIENTS, mtu = 1500 }, ["192.0.2.254/32"] = { is_local = true },
    ["::/0"] = { hop = TO_CLIENTS, mtu = 1500 }, ["2001:db8::fffe/128"] = { is_local = true },
  } do sw:route(prefix, given) end
end)
teardown(function() sw:close() end)

local function udp(family, more)
  return packet(packets.with({ ip = family == 4 and packets.V4 or packets.V6, udp = { dport = 443 } }, more))
end

--- What the backend's side of a flow sends: the packet turned round.
local function reply_to(p)
  local l4 = p.tcp and "tcp" or "udp"
  local family6 = p.ip.src:find ":"
  return p:copy {
    ip = { src = family6 and BACKEND6 or BACKEND4, dst = p.ip.src },
    [l4] = { sport = 8080, dport = p[l4].sport },
  }
end

--- The packet as it is when routed on: changed so, one hop further, its checksums computed anew.
local function routed(p, ip, l4, macs)
  ip.ttl = p.ip.ttl - 1
  return p:copy { eth = macs, ip = ip, [p.tcp and "tcp" or "udp"] = l4 }
end

local function assert_rewritten(expected, r)
  assert.same({ "tx", "forward" }, { r.verdict, r.reason })
  assert.equal(expected:hex(), r.packet:hex())
  rewritten[#rewritten + 1] = r.bytes
end

local function assert_to_backend(p)
  local dst = p.ip.src:find ":" and BACKEND6 or BACKEND4
  assert_rewritten(routed(p, { dst = dst }, { dport = 8080 }, BACKEND_MACS), sw:receive(p))
end

local function assert_to_client(p)
  local src = p.ip.src:find ":" and VIP6 or VIP4
  assert_rewritten(routed(p, { src = src }, { sport = 443 }, CLIENT_MACS), sw:receive(p))
end

local function assert_passes(reason, p)
  local r = sw:receive(p)
  assert.same({ "pass", reason, true }, { r.verdict, r.reason, r.unchanged })
end

--- One packet of each family and protocol.
local function all_kinds(more)
  return { packets.tcp4(more), packets.tcp6(more), udp(4, more), udp(6, more) }
end

describe("nat", function()
  it("sends a VIP's packet to the backend's address and port, one hop further", function()
    for _, p in ipairs(all_kinds { payload = "hello" }) do assert_to_backend(p) end
  end)

  it("makes the backend's answer the VIP's", function()
    for _, p in ipairs(all_kinds { payload = "hello" }) do assert_to_client(reply_to(p)) end
  end)

  it("rewrites behind VLAN tags, which stay, and options and extension headers", function()
    for _, vlan in ipairs { 7, { { id = 8, type = 0x88a8 }, 9 } } do
      for _, p in ipairs(all_kinds { payload = "odd", vlan = vlan }) do
        local v6 = p.ip.src:find ":"
        local more = v6 and { ext = { { type = "hop" }, { type = "dst" } } } or { options = ("\1"):rep(12) }
        p = p:copy { ip = more }
        assert_to_backend(p)
        assert_to_client(reply_to(p))
      end
    end
  end)

  it("gets 1,000 random packets right, both ways", function()
    math.randomseed(5)
    local done = 0
    while done < 1000 do
      local p = packets.random()
      local l4 = p.tcp and "tcp" or p.udp and "udp"
      local whole = true
      for _, ext in ipairs(p.ip.ext or {}) do whole = whole and ext.type ~= "routing" end
      if l4 and whole and p.ip.ttl > 1 then
        p = p:copy { ip = { dst = p.ip.src:find ":" and VIP6 or VIP4 }, [l4] = { dport = 443 } }
        assert_to_backend(p)
        assert_to_client(reply_to(p))
        done = done + 1
      end
    end
  end)

  it("leaves a UDP checksum of 0, which is none, on IPv4", function()
    assert_to_backend(udp(4):copy { udp = { checksum = 0 } })
    assert_to_client(reply_to(udp(4)):copy { udp = { checksum = 0 } })
  end)

  it("sends a UDP checksum that becomes 0 as 0xffff", function()
    for _, family in ipairs { 4, 6 } do
      local function checksum_there(p)
        local there = routed(p, { dst = family == 4 and BACKEND4 or BACKEND6 }, { dport = 8080 }, BACKEND_MACS)
        return packet.parse(there:bytes()).udp.checksum
      end
      -- A payload that is the checksum over zeros makes it 0.
      local zeros = checksum_there(udp(family, { payload = "\0\0" }))
      local p = udp(family, { payload = string.pack(">I2", zeros) })
      assert.equal(0xffff, checksum_there(p))
      assert_to_backend(p)
    end
  end)

  it("leaves a wrong checksum wrong by as much", function()
    for _, p in ipairs(all_kinds { payload = "hello" }) do
      local l4 = p.tcp and "tcp" or "udp"
      local right = packet.parse(p:bytes())
      local wrong = p:copy { [l4] = { checksum = (right[l4].checksum + 1) & 0xffff } }
      if right.ip.checksum then wrong = wrong:copy { ip = { checksum = (right.ip.checksum + 1) & 0xffff } } end
      local out, expected = sw:receive(wrong).packet, sw:receive(p).packet
      assert.is_false(out[l4].checksum_ok)
      assert.equal((expected[l4].checksum + 1) % 0xffff, out[l4].checksum % 0xffff)
      if right.ip.checksum then
        assert.is_false(out.ip.checksum_ok)
        assert.equal((expected.ip.checksum + 1) % 0xffff, out.ip.checksum % 0xffff)
      end
    end
  end)

  it("keeps the port where the backend has none of its own", function()
    sw:backend(7, { addr = BACKEND4, hop = { dmac = BACKEND_MACS.dst, smac = BACKEND_MACS.src } })
    sw:vip(VIP4 .. ":80/tcp", { mode = "nat", ring = { 7 } })
    local p = packets.tcp4 { tcp = { dport = 80 } }
    assert_rewritten(routed(p, { dst = BACKEND4 }, {}, BACKEND_MACS), sw:receive(p))
  end)

  it("leaves what has no hop left to the stack, untouched", function()
    for _, p in ipairs(all_kinds()) do
      for _, ttl in ipairs { 0, 1 } do
        assert_passes("ttl-expired", p:copy { ip = { ttl = ttl } })
        assert_passes("ttl-expired", reply_to(p):copy { ip = { ttl = ttl } })
      end
      assert_to_backend(p:copy { ip = { ttl = 2 } })
    end
  end)

  it("counts requests for the service and the backend, answers for the backend", function()
    local service, backend, reply = sw:counter("service", 6), sw:counter("backend", 6), sw:counter("reply", 6)
    local p = packets.tcp6 { payload = "hello" }
    sw:receive(p)
    sw:receive(p)
    sw:receive(reply_to(p))
    local size = 14 + 40 + 20 + 5
    assert.same({ packets = service.packets + 2, bytes = service.bytes + 2 * size }, sw:counter("service", 6))
    assert.same({ packets = backend.packets + 2, bytes = backend.bytes + 2 * size }, sw:counter("backend", 6))
    assert.same({ packets = reply.packets + 1, bytes = reply.bytes + size }, sw:counter("reply", 6))
  end)
end)

describe("a packet from a backend", function()
  it("to an address of the switch itself passes: a probe's answer", function()
    for _, p in ipairs(all_kinds()) do
      local probe = p:copy { ip = { src = p.ip.src:find ":" and "2001:db8::fffe" or "192.0.2.254" } }
      assert_passes("local-reply", reply_to(probe))
    end
  end)

  it("from another port is its own", function()
    for _, p in ipairs(all_kinds()) do
      local reply = reply_to(p)
      assert_passes("not-vip", reply:copy { [p.tcp and "tcp" or "udp"] = { sport = 22 } })
    end
  end)

  it("to a VIP is a client's like any other", function()
    assert_to_backend(packets.tcp4 { ip = { src = BACKEND4, dst = VIP4 }, tcp = { sport = 8080, dport = 443 } })
  end)

  it("larger than the MTU towards the client passes untouched", function()
    sw:route("198.18.0.0/16", { hop = packets.with(TO_CLIENTS, { ifindex = 77 }), mtu = 1400 })
    local p = packets.tcp4 { payload = ("x"):rep(1361) }
    assert_passes("too-big", reply_to(p:copy { ip = { src = "198.18.0.1" } }))
    local r = sw:receive(reply_to(packets.tcp4 { payload = ("x"):rep(1360) }):copy { ip = { dst = "198.18.0.1" } })
    assert.same({ "drop", "no-port" }, { r.verdict, r.reason })
  end)
end)

describe("a flow that reaches a backend without the VIP", function()
  local function direct(p, sport)
    local l4 = p.tcp and "tcp" or "udp"
    return p:copy { ip = { dst = p.ip.src:find ":" and BACKEND6 or BACKEND4 }, [l4] = { sport = sport, dport = 8080 } }
  end

  it("keeps its answers as they are, and other flows' are still the VIP's", function()
    for _, p in ipairs(all_kinds { payload = "hello" }) do
      assert_to_client(reply_to(direct(p, 50001)))
      assert_passes("not-vip", direct(p, 50001))
      assert_passes("direct-flow", reply_to(direct(p, 50001)))
      assert_to_client(reply_to(direct(p, 50002)))
    end
  end)

  it("is not entered by a RST", function()
    local p = direct(packets.tcp4(), 50003)
    assert_passes("not-vip", p:copy { tcp = { flags = "R" } })
    assert_passes("not-vip", p:copy { tcp = { flags = "RA" } })
    assert_to_client(reply_to(p))
  end)

  it("is one entry however many packets it has, and the entry's epoch is renewed", function()
    local function entries()
      local found = {}
      for _, line in sw:map("lines"):pairs() do
        for _, entry in ipairs(line.entry) do if entry ~= 0 then found[entry] = true end end
      end
      return found
    end
    local before, p = entries(), direct(packets.tcp4(), 50004)
    local function fresh()
      local list = {}
      for entry in pairs(entries()) do if not before[entry] then list[#list + 1] = entry end end
      return list
    end
    local clock = sw:map "clock"
    clock:set(0, packets.with(clock:get(0), { epoch = 7 }))
    for _ = 1, 3 do sw:receive(p) end
    local first = fresh()
    assert.equal(1, #first)
    assert.same({ 7, 0 }, { first[1] >> 16 & 0xff, first[1] & 0x7fff })
    clock:set(0, packets.with(clock:get(0), { epoch = 0x109 }))
    sw:receive(reply_to(p))
    assert.same({ (first[1] & ~0xff0000) | 9 << 16 }, fresh())
  end)

  it("finds no room where all entries of its line are taken, and evicts none", function()
    local lines = sw:map "lines"
    local full, entry = {}, { 1 << 24, 2 << 24, 3 << 24, 4 << 24, 5 << 24, 6 << 24, 7 << 24, 8 << 24 }
    for i = 0, lines:info().max_entries - 1 do full[i] = { entry = entry } end
    assert(lines:batch_set(full))
    local p = direct(packets.tcp4(), 50005)
    assert_passes("lines-full", p)
    assert_to_client(reply_to(p))
    local changed = 0
    local whole = table.concat(entry, " ")
    for _, line in lines:pairs() do
      if table.concat(line.entry, " ") ~= whole then changed = changed + 1 end
    end
    assert.equal(0, changed)
  end)
end)

describe("every packet rewritten above", function()
  it("has checksums that tshark calls right", function()
    assert.is_true(#rewritten > 2000)
    assert.same({}, checksum.bad(rewritten))
  end)
end)
