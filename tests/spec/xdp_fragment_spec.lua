-- SPDX-License-Identifier: GPL-2.0-only
--- Fragments through the real XDP programs: the first one of a packet is balanced, later ones follow it.
local checksum = require "tests.helpers.checksum"
local packet = require "tidegate.packet"
local packets = require "tests.helpers.packets"
local services = require "tests.helpers.services"
local switch = require "tests.helpers.switch"

if switch.refused() then
  pending("the datapath " .. switch.refused())
  return
end

local MTU <const> = 1280
local PAYLOAD <const> = ("0123456789abcde"):rep(200) -- three fragments
local sw
local rewritten = {} -- packets' fragments as they came out, for tshark
local next_id = 0

setup(function() sw = services.switch() end)
teardown(function() sw:close() end)

--- A client's packet with an identification of its own.
local function big(mode, family, proto, more)
  next_id = next_id + 1
  local p = services.to(mode, family, proto, packets.with({ payload = PAYLOAD }, more))
  return family == 4 and p:copy { ip = { id = next_id } } or p, next_id
end

local function assert_sent(mode, p, id)
  local pieces, expected = services.fragments(mode, p, MTU, id)
  assert.is_true(#pieces >= 3)
  for i, piece in ipairs(pieces) do
    local r = sw:receive(piece)
    assert.same({ "tx", "forward" }, { r.verdict, r.reason }, ("fragment %d, %s"):format(i, mode))
    assert.equal(expected(i, r.packet):hex(), r.packet:hex(), ("fragment %d, %s"):format(i, mode))
    if mode ~= "gue6" then rewritten[#rewritten + 1] = r.bytes end -- without a UDP checksum (RFC 6935)
  end
end

local function assert_passes(reason, p)
  local r = sw:receive(p)
  assert.same({ "pass", reason, true }, { r.verdict, r.reason, r.unchanged })
end

local function assert_dropped(reason, p)
  local r = sw:receive(p)
  assert.same({ "drop", reason }, { r.verdict, r.reason })
end

--- Calls for each family and protocol.
local function each(call)
  for _, family in ipairs { 4, 6 } do
    for _, proto in ipairs { "udp", "tcp" } do call(family, proto) end
  end
end

--- A fragment made by hand: `bytes` from `offset` on. `more`: mf = false, and of ip.
local function piece(family, proto, offset, bytes, more)
  more = more or {}
  local ip = packets.with(packets["V" .. family], more.ip)
  local mf = more.mf ~= false
  if family == 4 then
    ip = packets.with(ip, { id = more.id or 9999, offset = offset, mf = mf, proto = proto })
  else
    local ext = { table.unpack(more.before or {}) }
    ext[#ext + 1] = { type = "fragment", offset = offset, mf = mf, id = more.id or 9999 }
    ip = packets.with(ip, { ext = ext, proto = proto })
  end
  return packet { ip = ip, payload = bytes, vlan = more.vlan, trailer = more.trailer }
end

describe("a fragmented packet for a VIP", function()
  it("goes to its backend in every mode, each fragment as the whole would have", function()
    each(function(family, proto)
      for _, mode in ipairs(services.MODES) do
        local p, id = big(mode, family, proto)
        assert_sent(mode, p, id)
      end
    end)
  end)

  it("is found behind VLAN tags, options and extension headers before and after the fragment header", function()
    for _, mode in ipairs { "l2dsr", "nat", "ipip4", "gue6" } do
      for _, vlan in ipairs { 7, { { id = 8, type = 0x88a8 }, 9 } } do
        local p, id = big(mode, 4, "udp", { vlan = vlan, ip = { options = "\x82\4ab\1\1\1\0" } })
        assert_sent(mode, p, id)
        local ext = { { type = "hop" }, { type = "dst" }, { type = "ah" } }
        p, id = big(mode, 6, "udp", { vlan = vlan, ip = { ext = ext } })
        assert_sent(mode, p, id)
      end
    end
  end)

  it("comes back from nat's backend as the VIP's", function()
    each(function(family, proto)
      local p, id = big("nat", family, proto)
      assert_sent("reply", services.reply(p), id)
    end)
  end)

  it("counts each of its fragments for service and backend", function()
    local service, backend = sw:counter("service", 6), sw:counter("backend", 6)
    local p, id = big("nat", 6, "udp")
    local pieces, bytes = p:fragments(MTU, id), 0
    for _, one in ipairs(pieces) do
      bytes = bytes + #one:bytes()
      sw:receive(one)
    end
    assert.same({ packets = service.packets + #pieces, bytes = service.bytes + bytes }, sw:counter("service", 6))
    assert.same({ packets = backend.packets + #pieces, bytes = backend.bytes + bytes }, sw:counter("backend", 6))
  end)

  it("leaves a UDP checksum of 0, which is none", function()
    local p, id = big("nat", 4, "udp")
    assert_sent("nat", p:copy { udp = { checksum = 0 } }, id)
    for _ = 1, 3 do table.remove(rewritten) end -- tshark can't judge it
  end)

  it("with one fragment only (an offset of 0, no more to come) is a whole one", function()
    for _, mode in ipairs { "l2dsr", "nat" } do
      local p = services.to(mode, 6, "udp", { ip = { ext = { { type = "fragment", id = 5 } } }, payload = "x" })
      local r = sw:receive(p)
      assert.equal(services.sent(mode, p, r.packet):hex(), r.packet:hex())
    end
  end)
end)

describe("a later fragment", function()
  it("whose first one did not come is dropped, if it is for a VIP's address", function()
    each(function(family, proto)
      local p, id = big("nat", family, proto)
      local pieces = p:fragments(MTU, id)
      for i = 2, #pieces do assert_dropped("fragment-lost", pieces[i]) end
      sw:receive(pieces[1])
      for i = 2, #pieces do assert.equal("forward", sw:receive(pieces[i]).reason) end
    end)
  end)

  it("for another address passes, as its first one does", function()
    each(function(family, proto)
      local p, id = big("nat", family, proto)
      p = p:copy { ip = { dst = family == 4 and "198.51.100.99" or "2001:db8:1::99" } }
      for _, one in ipairs(p:fragments(MTU, id)) do assert_passes("fragment", one) end
    end)
  end)

  it("follows only its own packet's first: by source, destination, identification and protocol", function()
    local function lost(family, base, change)
      local p, id = big("l2dsr", family, "udp")
      local pieces = p:fragments(MTU, id)
      sw:receive(pieces[1])
      assert.equal("forward", sw:receive(pieces[2]).reason)
      assert_dropped("fragment-lost", pieces[2]:copy(change(base(id))))
    end
    local function nothing(id) return id end
    lost(4, nothing, function() return { ip = { src = "192.0.2.8" } } end)
    lost(4, nothing, function(id) return { ip = { id = id + 1 } } end)
    lost(4, nothing, function() return { ip = { proto = "tcp" } } end)
    lost(6, nothing, function() return { ip = { src = "2001:db8::8" } } end)
    lost(6, nothing, function(id)
      return { ip = { ext = { { type = "fragment", offset = 1232, mf = true, id = id + 1 } } } }
    end)
  end)

  it("of IPv6 follows whatever protocol it claims: only the first one's counts (RFC 8200)", function()
    sw:receive(services.to("l2dsr", 6, "udp", { payload = PAYLOAD }):fragments(MTU, 777)[1])
    for _, proto in ipairs { "tcp", 60 } do
      assert.equal("forward", sw:receive(piece(6, proto, 1232, ("x"):rep(64), { id = 777 })).reason)
    end
  end)

  it("doesn't follow one of 30 seconds ago", function()
    local p, id = big("l2dsr", 6, "udp")
    local pieces = p:fragments(MTU, id)
    sw:receive(pieces[1])
    local map = sw:map "fragments"
    for key, value in map:pairs() do
      if key.id == id then assert(map:set(key, packets.with(value, { since = value.since - 29 * 10 ^ 9 // 1 | 0 }))) end
    end
    assert.equal("forward", sw:receive(pieces[2]).reason)
    for key, value in map:pairs() do
      if key.id == id then assert(map:set(key, packets.with(value, { since = value.since - 2 * 10 ^ 9 // 1 | 0 }))) end
    end
    assert_dropped("fragment-lost", pieces[2])
  end)

  it("passes where the first one passed: another port of the VIP's address, no backend", function()
    each(function(family, proto)
      for reason, port in pairs { ["not-vip"] = services.NO_VIP, ["no-backend-pass"] = services.OPEN } do
        local p, id = big(port, family, proto)
        for _, one in ipairs(p:fragments(MTU, id)) do assert_passes(reason, one) end
      end
    end)
  end)

  it("is dropped where the first one was", function()
    each(function(family, proto)
      local p, id = big(services.EMPTY, family, proto)
      local pieces = p:fragments(MTU, id)
      assert_dropped("no-backend", pieces[1])
      assert_dropped("fragment-lost", pieces[2])
      p, id = big(services.UNRESOLVED, family, proto)
      for _, one in ipairs(p:fragments(MTU, id)) do assert_dropped("unresolved", one) end
    end)
  end)

  it("with no hop left goes to the stack in nat", function()
    each(function(family, proto)
      local p, id = big("nat", family, proto)
      local pieces = p:fragments(MTU, id)
      sw:receive(pieces[1])
      assert_passes("ttl-expired", pieces[2]:copy { ip = { ttl = 1 } })
    end)
  end)
end)

describe("a fragment too small for its header", function()
  local header = services.to("nat", 4, "tcp", { payload = "x" }):bytes():sub(35)

  it("is dropped for a VIP's address and passes for others", function()
    for _, family in ipairs { 4, 6 } do
      local elsewhere = { ip = { dst = family == 4 and "198.51.100.99" or "2001:db8:1::99" } }
      for proto, sizes in pairs { tcp = { 0, 8, 16 }, udp = { 0, 4 } } do
        for _, size in ipairs(sizes) do
          assert_dropped("fragment-tiny", piece(family, proto, 0, header:sub(1, size)))
          assert_passes("fragment", piece(family, proto, 0, header:sub(1, size), elsewhere))
          assert_dropped("fragment-tiny", piece(family, proto, 0, header:sub(1, size), { trailer = ("\0"):rep(46) }))
        end
      end
      for _, offset in ipairs { 8, 16 } do -- within TCP's header
        assert_dropped("fragment-tiny", piece(family, "tcp", offset, ("x"):rep(64)))
        assert_passes("fragment", piece(family, "tcp", offset, ("x"):rep(64), elsewhere))
      end
      assert_dropped("fragment-lost", piece(family, "udp", 8, ("x"):rep(64)))
      assert_dropped("fragment-lost", piece(family, "tcp", 24, ("x"):rep(64)))
    end
  end)

  it("is also one that ends within its extension headers", function()
    assert_dropped("fragment-tiny", piece(6, 60, 0, "\6\1\1\4\0\0\0\0")) -- 8 of 16 bytes of options, then TCP
    assert_dropped("fragment-tiny", piece(6, 60, 0, ""))
  end)

  it("is not one with all of it", function()
    for _, family in ipairs { 4, 6 } do
      assert.equal("forward", sw:receive(piece(family, "tcp", 0, header:sub(1, 20) .. "1234")).reason)
    end
  end)
end)

describe("fragments", function()
  it("of ICMP and of other protocols pass, the VIP's too", function()
    for offset = 0, 16, 8 do
      assert_passes("icmp", piece(4, "icmp", offset, ("\8"):rep(64)))
      assert_passes("icmp", piece(6, "icmp6", offset, ("\x80"):rep(64)))
      assert_passes("other-protocol", piece(4, "gre", offset, ("x"):rep(64)))
      assert_passes("other-protocol", piece(6, "gre", offset, ("x"):rep(64)))
    end
  end)

  it("cut short on the way pass as truncated, the first and later ones", function()
    each(function(family, proto)
      local p, id = big("l2dsr", family, proto)
      for _, one in ipairs(p:fragments(MTU, id)) do
        local bytes = one:bytes()
        for _, size in ipairs { #bytes - 1, #bytes // 2, 100 } do
          if size < #bytes then assert_passes("truncated", bytes:sub(1, size)) end
        end
      end
    end)
  end)

  it("that contradict themselves pass as such", function()
    assert_passes("bad-header", piece(4, "udp", 0, ("x"):rep(64)):copy { ip = { total_length = 19 } })
    assert_passes("bad-header", piece(6, "udp", 8, ("x"):rep(64)):copy { ip = { payload_length = 4 } })
    local seven = {}
    for i = 1, 7 do seven[i] = { type = "dst" } end
    assert_passes("extension", piece(6, "udp", 0, ("x"):rep(64), { before = seven }))
  end)

  it("beyond what the table holds are remembered still, in the place of older ones", function()
    local p = services.to("l2dsr", 4, "udp", { payload = PAYLOAD })
    local first, second = table.unpack(p:fragments(MTU))
    local head, tail = first:bytes(), second:bytes()
    local missed = 0
    for id = 1, 20000 do
      local function with_id(bytes) return bytes:sub(1, 18) .. string.pack(">I2", id) .. bytes:sub(21) end
      assert(sw.program:run(with_id(head)))
      if assert(sw.program:run(with_id(tail))).retval ~= "tx" then missed = missed + 1 end
    end
    assert.equal(0, missed)
  end)

  it("of a direct flow to nat's backend pass both ways", function()
    each(function(family, proto)
      local p, id = big("nat", family, proto)
      local l4 = { [proto] = { sport = 51000, dport = services.NAT_PORT } }
      local direct = p:copy { ip = { dst = services.NAT_BACKEND[family] }, [proto] = l4[proto] }
      for _, one in ipairs(direct:fragments(MTU, id)) do assert_passes("fragment", one) end
      local back = services.reply(direct):fragments(MTU, id)
      assert_passes("direct-flow", back[1])
      for i = 2, #back do assert_passes("fragment", back[i]) end
    end)
  end)

  it("of a backend's answer to the switch itself pass", function()
    each(function(family, proto)
      local p, id = big("nat", family, proto)
      local back = services.reply(p:copy { ip = { src = services.LOCAL[family] } }):fragments(MTU, id)
      assert_passes("local-reply", back[1])
      for i = 2, #back do assert_passes("fragment", back[i]) end
    end)
  end)

  it("from a VIP's address to a VIP are bogus", function()
    local p = services.to("l2dsr", 4, "udp", { ip = { id = 4711 }, payload = PAYLOAD })
    sw:vip("198.51.100.77:80/udp", { ring = { 14 } })
    local marks = sw:map "vip_marks"
    local all = marks:get(0)
    for i in ipairs(all.word) do all.word[i] = -1 end
    assert(marks:set(0, all))
    local first = p:copy({ ip = { src = "198.51.100.77" } }):fragments(MTU)[1]
    assert_dropped("bogus-vip", first)
  end)
end)

describe("what came out above", function()
  it("has checksums that tshark calls right, put together again", function()
    assert.is_true(#rewritten > 100)
    assert.same({}, checksum.bad(rewritten))
  end)
end)
