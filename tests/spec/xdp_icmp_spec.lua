-- SPDX-License-Identifier: GPL-2.0-only
--- ICMP errors through the real XDP programs: they go to the backend of the flow that they quote.
local checksum = require "tests.helpers.checksum"
local packet = require "tidegate.packet"
local packets = require "tests.helpers.packets"
local services = require "tests.helpers.services"
local switch = require "tests.helpers.switch"

if switch.refused() then
  pending("the datapath " .. switch.refused())
  return
end

local ROUTER = { [4] = "203.0.113.254", [6] = "2001:db8:9::1" }
local ERRORS = {
  [4] = {
    { type = 3, code = 1 }, { type = 3, code = 4, mtu = 1400 }, { type = 4 }, { type = 11 }, { type = 12, pointer = 3 },
  },
  [6] = { { type = 1, code = 4 }, { type = 2, mtu = 1280 }, { type = 3 }, { type = 4, pointer = 6 } },
}
local sw
local rewritten = {}

setup(function() sw = services.switch() end)
teardown(function() sw:close() end)

--- What the service of `p`, a client's packet, sent to that client: the packet turned round.
local function answer(p, more)
  local l4 = p.tcp and "tcp" or "udp"
  return p:copy { ip = packets.with({ src = p.ip.dst, dst = p.ip.src, ttl = 55 }, more),
    [l4] = { sport = p[l4].dport, dport = p[l4].sport } }
end

--- An error to the sender of `quoted`. given: from (a router), quote (bytes), and ip, vlan, trailer of its packet.
local function error_about(quoted, icmp, given)
  local family = services.family(quoted)
  given = given or {}
  local ip = packets.with({ src = given.from or ROUTER[family], dst = quoted.ip.src }, given.ip)
  icmp = packets.with(icmp or ERRORS[family][2], { quoted = quoted, quote_length = given.quote })
  return packet { ip = ip, vlan = given.vlan, trailer = given.trailer, [family == 4 and "icmp" or "icmp6"] = icmp }
end

--- Calls for each family and protocol.
local function each(call)
  for _, family in ipairs { 4, 6 } do
    for _, proto in ipairs { "tcp", "udp" } do call(family, proto) end
  end
end

local function assert_becomes(expected, p, what)
  local r = sw:receive(p)
  assert.same({ "tx", "forward" }, { r.verdict, r.reason }, what)
  assert.equal(expected(r.packet):hex(), r.packet:hex(), what)
  rewritten[#rewritten + 1] = r.bytes
  return r
end

local function assert_passes(reason, p)
  local r = sw:receive(p)
  assert.same({ "pass", reason, true }, { r.verdict, r.reason, r.unchanged })
end

--- An error about what `mode` sent, through the switch to the backend.
local function assert_to_backend(mode, p)
  local r = assert_becomes(function(out) return services.sent(mode, p, out) end, p, mode)
  if mode ~= "l2dsr" and mode ~= "nat" then table.remove(rewritten) end -- tshark can't tell that the quote is cut
  return r
end

--- An error about what nat sent to a backend, back to the client.
local function assert_to_client(p)
  return assert_becomes(function() return services.from_nat(p) end, p)
end

--- What a client sent, as nat made it for its backend.
local function forwarded(family, proto, more)
  return services.sent("nat", services.to("nat", family, proto, packets.with({ payload = ("x"):rep(400) }, more)))
end

--- The ways in which a quote differs: bytes quoted, and of the quoted packet's IP header.
local function each_quote(family, call)
  for _, quote in ipairs { 8, 9, 16, 18, 19, 20, 21, 64, 528 } do call(quote, {}) end
  if family == 4 then
    for size = 4, 40, 12 do call(8, { options = ("\1"):rep(size) }) call(60, { options = ("\1"):rep(size) }) end
  else
    call(16, { ext = { { type = "hop" } } })
    call(200, { ext = { { type = "hop" }, { type = "dst" }, { type = "ah" }, { type = "dst" } } })
    call(100, { ext = { { type = "fragment", id = 7 } } })
  end
end

describe("an ICMP error about a flow of a VIP", function()
  it("goes to the flow's backend in every mode, whatever its type", function()
    each(function(family, proto)
      for _, mode in ipairs(services.MODES) do
        local quoted = answer(services.to(mode, family, proto, { payload = ("x"):rep(400) }))
        for _, icmp in ipairs(ERRORS[family]) do assert_to_backend(mode, error_about(quoted, icmp)) end
      end
    end)
  end)

  it("is not answered by another, where it is too big for a tunnel", function() -- RFC 4443, 2.4 (e)
    for _, family in ipairs { 4, 6 } do
      for _, ip in ipairs { {}, family == 6 and { ext = { { type = "dst" } } } or { options = "\1\1\1\1" } } do
        local quoted = answer(services.to("ipip6", family, "udp", { payload = ("x"):rep(1500) }))
        local r = sw:receive(error_about(quoted, ERRORS[family][1], { quote = 1420, ip = ip }))
        assert.same({ "drop", "too-big-dropped" }, { r.verdict, r.reason })
      end
    end
  end)

  it("may quote 8 bytes of TCP or UDP, or more, behind IP options and extension headers", function()
    each(function(family, proto)
      for _, mode in ipairs { "l2dsr", "nat", "ipip4", "gue6" } do
        each_quote(family, function(quote, ip)
          local quoted = answer(services.to(mode, family, proto, { ip = ip, payload = ("xy"):rep(200) }))
          assert_to_backend(mode, error_about(quoted, nil, { quote = quote }))
        end)
      end
    end)
  end)

  it("is found behind VLAN tags, options and extension headers, and may be padded", function()
    each(function(family, proto)
      for _, mode in ipairs { "l2dsr", "nat" } do
        local quoted = answer(services.to(mode, family, proto))
        local ip = family == 4 and { options = ("\1"):rep(12) } or { ext = { { type = "hop" }, { type = "dst" } } }
        for _, vlan in ipairs { 7, { { id = 8, type = 0x88a8 }, 9 } } do
          assert_to_backend(mode, error_about(quoted, nil, { vlan = vlan, ip = ip, quote = 8 }))
        end
        -- The padding is where TCP's checksum would be.
        assert_to_backend(mode, error_about(quoted, nil, { quote = 8, trailer = ("\0"):rep(40) }))
      end
    end)
  end)

  it("may quote a first fragment", function()
    each(function(family, proto)
      local whole = answer(services.to("nat", family, proto, { payload = ("x"):rep(3000) }))
      local sent = services.sent("nat", error_about(whole, nil, { quote = 20 }))
      local l4 = proto == "tcp" and "tcp" or "udp"
      local function quote_of(p) -- the same error, about the first fragment
        return error_about(p:fragments(1280)[1], nil, { quote = family == 4 and 20 or 28 })
      end
      local p = quote_of(whole)
      local backend = services.NAT_BACKEND[family]
      local translated = whole:copy { ip = { src = backend }, [l4] = { sport = services.NAT_PORT } }
      local expected = quote_of(translated):copy { eth = { dst = sent.eth.dst, src = sent.eth.src },
        ip = { dst = backend, ttl = p.ip.ttl - 1 } }
      assert_becomes(function() return expected end, p)
    end)
  end)

  it("leaves half a checksum of TCP, which can't be told", function()
    local p = error_about(answer(services.to("nat", 4, "tcp")), nil, { quote = 17 })
    local r = sw:receive(p)
    assert.equal(p:bytes():byte(-1), r.bytes:byte(-1))
    rewritten[#rewritten + 1] = r.bytes
  end)

  it("leaves a quoted UDP checksum of 0, which is none", function()
    local quoted = answer(services.to("nat", 4, "udp", { payload = "x" })):copy { udp = { checksum = 0 } }
    assert_to_backend("nat", error_about(quoted, nil, { quote = 20 }))
  end)

  it("leaves wrong checksums wrong by as much", function()
    for _, family in ipairs { 4, 6 } do
      local name = family == 4 and "icmp" or "icmp6"
      local p = error_about(answer(services.to("nat", family, "tcp")))
      local right = packet.parse(p:bytes())[name].checksum
      local expected = packet.parse(services.sent("nat", p):bytes())[name].checksum
      local out = sw:receive(p:copy { [name] = { checksum = (right + 5) & 0xffff } }).packet
      assert.is_false(out[name].checksum_ok)
      assert.equal((expected + 5) % 0xffff, out[name].checksum % 0xffff)
    end
  end)

  it("goes where the flow's packets go, of many backends", function()
    local ring = {}
    for i = 1, 50 do
      local hop = { dmac = ("02:00:00:00:02:%02x"):format(i), smac = "02:00:00:00:00:ff" }
      sw:backend(100 + i, { addr = "192.0.2." .. i, hop = hop })
      sw:backend(200 + i, { addr = "2001:db8:7::" .. i, hop = hop })
      ring[i] = i
    end
    local function plus(n) local out = {} for i, v in ipairs(ring) do out[i] = v + n end return out end
    for _, proto in ipairs { "tcp", "udp" } do
      sw:vip(services.VIP[4] .. ":7000/" .. proto, { ring = plus(100) })
      sw:vip("[" .. services.VIP[6] .. "]:7000/" .. proto, { ring = plus(200) })
    end
    local used = {}
    each(function(family, proto)
      for i = 1, 100 do
        local p = services.to(7000, family, proto, { [proto] = { sport = 20000 + i } })
        local mac = sw:receive(p).packet.eth.dst
        assert.equal(mac, sw:receive(error_about(answer(p), nil, { quote = 8 })).packet.eth.dst)
        used[mac] = true
      end
    end)
    local count = 0
    for _ in pairs(used) do count = count + 1 end
    assert.is_true(count > 40)
  end)

  it("leaves no trace of its flow while the slot moves", function()
    sw:vip(services.VIP[4] .. ":7001/tcp", { ring = { { 101, 102 } } })
    local quoted = answer(services.to(7001, 4, "tcp"))
    local r = sw:receive(error_about(quoted, nil, { quote = 8 }))
    assert.equal("02:00:00:00:02:01", r.packet.eth.dst) -- home
    for _, line in sw:map("lines"):pairs() do
      for _, entry in ipairs(line.entry) do assert.equal(0, entry) end
    end
  end)

  it("counts for service and backend", function()
    local service, backend = sw:counter("service", 4), sw:counter("backend", 4)
    local p = error_about(answer(services.to("nat", 4, "tcp")))
    sw:receive(p)
    assert.same({ packets = service.packets + 1, bytes = service.bytes + #p:bytes() }, sw:counter("service", 4))
    assert.same({ packets = backend.packets + 1, bytes = backend.bytes + #p:bytes() }, sw:counter("backend", 4))
  end)

  it("without a backend fares as the flow does", function()
    each(function(family, proto)
      local function about(port) return sw:receive(error_about(answer(services.to(port, family, proto)))) end
      local r = about(services.EMPTY)
      assert.same({ "drop", "no-backend" }, { r.verdict, r.reason })
      r = about(services.UNRESOLVED)
      assert.same({ "drop", "unresolved" }, { r.verdict, r.reason })
      assert_passes("no-backend-pass", error_about(answer(services.to(services.OPEN, family, proto))))
      assert_passes("not-vip", error_about(answer(services.to(services.NO_VIP, family, proto))))
    end)
  end)

  it("with no hop left goes to the stack in nat", function()
    each(function(family, proto)
      assert_passes("ttl-expired", error_about(answer(services.to("nat", family, proto)), nil, { ip = { ttl = 1 } }))
    end)
  end)
end)

describe("an ICMP error from nat's backend", function()
  it("becomes the VIP's, and quotes what the client sent", function()
    each(function(family, proto)
      for _, icmp in ipairs(ERRORS[family]) do
        assert_to_client(error_about(forwarded(family, proto), icmp, { from = services.NAT_BACKEND[family] }))
      end
      each_quote(family, function(quote, ip)
        assert_to_client(error_about(forwarded(family, proto, { ip = ip }), nil, { from = services.NAT_BACKEND[family],
          quote = quote }))
      end)
    end)
  end)

  it("or from a router on the way there keeps its source, and quotes what the client sent", function()
    each(function(family, proto)
      for _, icmp in ipairs(ERRORS[family]) do assert_to_client(error_about(forwarded(family, proto), icmp)) end
    end)
  end)

  it("counts as the backend's answer", function()
    local reply = sw:counter("reply", 6)
    local p = error_about(forwarded(6, "udp"))
    sw:receive(p)
    assert.same({ packets = reply.packets + 1, bytes = reply.bytes + #p:bytes() }, sw:counter("reply", 6))
  end)

  it("about a probe of the switch, or a flow that reached it directly, passes", function()
    each(function(family, proto)
      assert_passes("local-reply", error_about(forwarded(family, proto):copy { ip = { src = services.LOCAL[family] } }))
      local direct = services.to(services.NAT_PORT, family, proto, { ip = { dst = services.NAT_BACKEND[family] },
        [proto] = { sport = 52000 } })
      assert_to_client(error_about(direct))
      assert_passes("not-vip", direct)
      assert_passes("direct-flow", error_about(direct))
    end)
  end)

  it("with no hop left goes to the stack", function()
    each(function(family, proto)
      assert_passes("ttl-expired", error_about(forwarded(family, proto), nil, { ip = { ttl = 1 } }))
    end)
  end)
end)

describe("ICMP", function()
  it("that is no error passes, to a VIP's address too", function()
    for _, kind in ipairs { 0, 5, 8, 9, 13, 30, 35, 255 } do
      assert_passes("icmp", packet { ip = packets.V4, icmp = { type = kind, body = ("x"):rep(64) } })
    end
    for _, kind in ipairs { 0, 5, 100, 128, 129, 135, 255 } do
      assert_passes("icmp", packet { ip = packets.V6, icmp6 = { type = kind, body = ("x"):rep(64) } })
    end
  end)

  it("of the other family is another protocol", function()
    assert_passes("other-protocol", packet { ip = packets.with(packets.V4, { proto = 58 }), payload = ("\1"):rep(64) })
    assert_passes("other-protocol", packet { ip = packets.with(packets.V6, { proto = 1 }), payload = ("\3"):rep(64) })
  end)

  it("errors that don't say which flow they are about pass as such", function()
    for _, family in ipairs { 4, 6 } do
      local icmp = ERRORS[family][1]
      local quoted = answer(services.to("nat", family, "tcp", { payload = ("x"):rep(3000) }))
      local function with_body(bytes)
        return packet { ip = { src = ROUTER[family], dst = services.VIP[family] },
          [family == 4 and "icmp" or "icmp6"] = packets.with(icmp, { body = bytes }) }
      end
      local header = family == 4 and 20 or 40
      local bytes = quoted:bytes():sub(15)
      for _, size in ipairs { 0, 1, header - 1, header, header + 7 } do
        assert_passes("icmp-quote", with_body(bytes:sub(1, size)))
      end
      assert_passes("icmp-quote", with_body("\xff" .. bytes:sub(2, 100)))
      assert_passes("icmp-quote", error_about(quoted:fragments(1280)[2], icmp, { quote = 100 }))
      local elsewhere = family == 4 and "198.51.100.99" or "2001:db8::99"
      assert_passes("icmp-quote", error_about(quoted, icmp, { ip = { dst = elsewhere } }))
      local other = packet { ip = { src = services.VIP[family], dst = services.CLIENT[family], proto = "gre" },
        payload = ("x"):rep(64) }
      assert_passes("icmp-quote", error_about(other, icmp, { quote = 64 }))
    end
    local seven = {}
    for i = 1, 7 do seven[i] = { type = "dst" } end
    local quoted = answer(services.to("nat", 6, "tcp", { ip = { ext = seven } }))
    assert_passes("icmp-quote", error_about(quoted, nil, { quote = 200 }))
  end)

  it("too short for its own header, or cut on the way, passes as such", function()
    for _, family in ipairs { 4, 6 } do
      local p = error_about(answer(services.to("nat", family, "tcp")), nil, { quote = 20 })
      local bytes = p:bytes()
      for size = 14, #bytes - 1 do assert_passes("truncated", bytes:sub(1, size)) end
      local length = family == 4 and { total_length = 27 } or { payload_length = 7 }
      assert_passes("bad-header", p:copy { ip = length })
    end
  end)
end)

describe("every error rewritten above", function()
  it("has checksums that tshark calls right", function()
    assert.is_true(#rewritten > 200, #rewritten)
    assert.same({}, checksum.bad(rewritten))
  end)
end)
