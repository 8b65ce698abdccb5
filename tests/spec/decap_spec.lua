-- SPDX-License-Identifier: GPL-2.0-only
--- Packets through the program that `tidegate decap` attaches on a backend: what it takes out is what was
--- put in, and all else passes byte for byte.
local checksum = require "tests.helpers.checksum"
local object = require "tests.helpers.object"
local packet = require "tidegate.packet"
local packets = require "tests.helpers.packets"
local switch = require "tests.helpers.switch"

if object.refused() then
  pending("decap " .. object.refused())
  return
end

local VIP = { [4] = packets.V4.dst, [6] = packets.V6.dst }
local HERE = { [4] = "192.0.2.11", [6] = "2001:db8:1::11" }
local FAR = { [4] = "172.16.3.4", [6] = "100::7" }
local COUNTERS = { [0] = "ipip", "gue", "not here", "not accepted", "fragment", "malformed", "congested" }
local loaded, program, addresses, counters

local function accept(text, inner)
  local bytes = require("tidegate.packet.addr").ip(text).bytes
  local key = (bytes .. ("\0"):rep(16)):sub(1, 16) .. string.char(#bytes == 16 and 1 or 0, inner and 1 or 0, 0, 0)
  assert(addresses:set(key, 1))
end

setup(function()
  loaded = object.load "bpf/decap"
  program = assert(tg.prog.open(loaded.progs .. "/tidegate_decap"))
  addresses = assert(tg.map.open(loaded.maps .. "/addresses", { key = "bytes:20", value = "u32" }))
  counters = assert(tg.map.open(loaded.maps .. "/decap_counters"))
  for _, family in ipairs { 4, 6 } do
    accept(HERE[family], false)
    accept(VIP[family], true)
  end
end)
teardown(function()
  for _, opened in ipairs { program, addresses, counters } do opened:close() end
  loaded:close()
end)

local function counts()
  local found = {}
  for i, name in pairs(COUNTERS) do found[name] = counters:sum(i).packets end
  return found
end

--- Runs the program: its verdict, the frame that came out, and the name of what it counted.
local function receive(bytes)
  local before = counts()
  local r, counted = assert(program:run(bytes)), nil
  for name, count in pairs(counts()) do
    if count ~= before[name] then
      assert(not counted and count == before[name] + 1, "more than one counted")
      counted = name
    end
  end
  return r.retval, r.data, counted
end

local function assert_passes(p, why)
  local bytes = type(p) == "string" and p or p:bytes()
  local verdict, out, counted = receive(bytes)
  assert.same({ "pass", why }, { verdict, counted })
  assert.equal(bytes, out)
end

local function ip_of(p) return p:bytes():sub(15 + (p.vlan and #p.vlan * 4 or 0)) end

--- `p` in a tunnel; `more`: of the frame, `ip`: of the outer header. gue: "0" and "1" are variants.
local function wrap(p, outer, mode, ip, more)
  local inner = p.ip.src:find ":" and 6 or 4
  local given = packets.with({ eth = { src = "02:00:00:00:00:ff", dst = "02:00:00:00:01:01" }, vlan = p.vlan }, more)
  given.ip = packets.with({ src = FAR[outer], dst = HERE[outer] }, ip)
  given.payload = ip_of(p)
  if mode == "ipip" then
    given.ip.proto = inner == 4 and "ipip" or "ip6"
  else
    given.udp = packets.with({ sport = 50000, dport = 6080 }, more and more.udp)
    if mode == "gue0" then given.payload = string.char(0, inner == 4 and 4 or 41, 0, 0) .. given.payload end
  end
  return packet(given)
end

local function assert_taken_out(p, frame, counted)
  local verdict, out, found = receive(type(frame) == "string" and frame or frame:bytes())
  local want = p:copy { eth = { src = "02:00:00:00:00:ff", dst = "02:00:00:00:01:01" } }
  assert.same({ "pass", counted }, { verdict, found })
  assert.equal(want:hex(), packet.parse(out):hex())
  return out
end

local function plain(inner, more) return (inner == 4 and packets.tcp4 or packets.tcp6)(more) end

local MODES = { ipip = "ipip", gue0 = "gue", gue1 = "gue" }

local function each(call)
  for _, inner in ipairs { 4, 6 } do
    for _, outer in ipairs { 4, 6 } do
      for mode, counted in pairs(MODES) do call(inner, outer, mode, counted) end
    end
  end
end

describe("a packet in a tunnel to this host", function()
  it("is taken out, of either family in either, in ipip and both variants of gue", function()
    local out = {}
    each(function(inner, outer, mode, counted)
      local p = plain(inner, { payload = "hello" })
      out[#out + 1] = assert_taken_out(p, wrap(p, outer, mode), counted)
    end)
    assert.equal(12, #out)
    assert.same({}, checksum.bad(out))
  end)

  it("keeps VLAN tags, options, extension headers, and whatever it carries", function()
    each(function(inner, outer, mode, counted)
      for _, vlan in ipairs { 7, { { id = 8, type = 0x88a8 }, 9 } } do
        local p = plain(inner, { vlan = vlan, payload = "x" })
        assert_taken_out(p, wrap(p, outer, mode), counted)
      end
      local p = inner == 4 and packets.tcp4():copy { ip = { options = ("\1"):rep(40) } }
        or packets.tcp6():copy { ip = { ext = { { type = "hop" }, { type = "dst" } } } }
      assert_taken_out(p, wrap(p, outer, mode), counted)
      p = plain(inner, { tcp = { dport = 443, checksum = 0x1234 }, payload = packets.bytes(9000) })
      assert_taken_out(p, wrap(p, outer, mode), counted)
    end)
  end)

  it("is found behind the outer header's options, and behind Linux' limit of nesting", function()
    for _, mode in ipairs { "ipip", "gue1" } do
      local p = plain(4, { payload = "x" })
      assert_taken_out(p, wrap(p, 4, mode, { options = ("\1"):rep(40) }), MODES[mode])
      assert_taken_out(p, wrap(p, 6, mode, { ext = { { type = "dst", data = "\4\1\4\1\0\0" } } }), MODES[mode])
    end
  end)

  it("needs no checksum of the outer UDP", function()
    for _, sum in ipairs { 0, 0x1234 } do
      local p = plain(6)
      assert_taken_out(p, wrap(p, 6, "gue1", nil, { udp = { checksum = sum } }), "gue")
    end
  end)
end)

describe("the marks of congestion", function()
  -- RFC 6040, figure 4: the inner packet's ECN after the outer's; -1: dropped
  local JOINED = { [0] = { [0] = 0, 0, 0, -1 }, { [0] = 1, 1, 1, 3 }, { [0] = 2, 1, 2, 3 }, { [0] = 3, 3, 3, 3 } }

  it("join, of every kind with every other", function()
    local out = {}
    each(function(inner, outer, mode, counted)
      for inside = 0, 3 do
        for outside = 0, 3 do
          local p = plain(inner, { payload = "x" }):copy { ip = { [inner == 4 and "tos" or "tclass"] = 0xb8 | inside } }
          local frame = wrap(p, outer, mode, { [outer == 4 and "tos" or "tclass"] = 0x28 | outside })
          local joined = JOINED[inside][outside]
          if joined < 0 then
            local verdict, _, why = receive(frame:bytes())
            assert.same({ "drop", "congested" }, { verdict, why })
          else
            local want = p:copy { ip = { [inner == 4 and "tos" or "tclass"] = 0xb8 | joined } }
            out[#out + 1] = assert_taken_out(want, frame, counted)
          end
        end
      end
    end)
    assert.same({}, checksum.bad(out))
  end)
end)

describe("what passes untouched", function()
  it("is all that is in no tunnel", function()
    for _, p in ipairs { packets.tcp4(), packets.tcp6(), packets.tcp4 { vlan = 7 },
      packet { ip = { src = FAR[4], dst = HERE[4] }, udp = { dport = 6081 }, payload = "not gue" },
      packet { ip = { src = FAR[6], dst = HERE[6] }, udp = { dport = 53 }, payload = "not gue" },
      packet { ip = { src = FAR[4], dst = HERE[4], proto = "gre" }, payload = "not ipip" },
      packet { eth = { type = 0x0806 }, payload = ("\0"):rep(28) } } do
      assert_passes(p, nil)
    end
  end)

  it("is a tunnel that leads elsewhere", function()
    for mode in pairs(MODES) do
      assert_passes(wrap(plain(4), 4, mode, { dst = "192.0.2.12" }), "not here")
      assert_passes(wrap(plain(6), 6, mode, { dst = "2001:db8:1::12" }), "not here")
      assert_passes(wrap(plain(6), 6, mode, { dst = VIP[6] }), "not here")
    end
  end)

  it("is a packet for another than a VIP, this host's own address included", function()
    for mode in pairs(MODES) do
      for _, to in ipairs { HERE[4], "127.0.0.1", "198.51.100.11" } do
        assert_passes(wrap(packets.tcp4 { ip = { src = "192.0.2.7", dst = to } }, 4, mode), "not accepted")
      end
      for _, to in ipairs { HERE[6], "::1", "ff02::1" } do
        assert_passes(wrap(packets.tcp6 { ip = { src = "2001:db8::7", dst = to } }, 4, mode), "not accepted")
      end
    end
  end)

  it("is an outer fragment", function()
    assert_passes(wrap(plain(4), 4, "ipip", { mf = true }), "fragment")
    assert_passes(wrap(plain(4), 4, "ipip", { offset = 1480 }), "fragment")
    assert_passes(wrap(plain(4), 6, "ipip", { ext = { { type = "fragment", mf = true } } }), nil)
  end)

  it("is a gue that is not understood: control messages, optional fields, another variant", function()
    for _, head in ipairs { "\x20\4\0\0", "\1\4\0\0\0\0\0\0", "\0\4\x80\0", "\0\4\0\1", "\x80\4\0\0", "\xc0\4\0\0" } do
      local given = { ip = { src = FAR[4], dst = HERE[4] }, udp = { dport = 6080 } }
      given.payload = head .. ip_of(plain(4))
      assert_passes(packet(given), "malformed")
    end
  end)

  it("is what contradicts itself: a version, a length, an end", function()
    local inner = ip_of(plain(4))
    local function outer(payload)
      return packet { ip = { src = FAR[4], dst = HERE[4], proto = "ipip" }, payload = payload }
    end
    assert_passes(outer("\x65" .. inner:sub(2)), "malformed")
    assert_passes(outer("\x41" .. inner:sub(2)), "malformed")
    assert_passes(outer(inner:sub(1, 30)), "malformed") -- says 40
    assert_passes(outer(inner:sub(1, 10)), "malformed")
    assert_passes(outer "", "malformed")
    assert_passes(packet { ip = { src = FAR[4], dst = HERE[4], proto = "ip6" }, payload = ip_of(plain(6)):sub(1, 50) },
      "malformed")
    local to_gue = { ip = { src = FAR[4], dst = HERE[4] }, udp = { dport = 6080 }, payload = "\x4f\0\0\0" }
    assert_passes(packet(to_gue), "malformed")
  end)

  it("is any piece of a packet, and random bytes after an Ethernet header", function()
    local whole = wrap(plain(6, { payload = "x" }), 6, "gue1"):bytes()
    for length = 14, #whole - 1 do
      local verdict, out = receive(whole:sub(1, length))
      assert.equal("pass", verdict)
      assert.equal(whole:sub(1, length), out)
    end
    math.randomseed(7)
    for _ = 1, 2000 do
      local head = whole:sub(1, packets.one_of(14, 15, 20, 54, 62))
      assert.equal("pass", (receive(head .. packets.bytes(math.random(0, 120)))))
    end
  end)
end)

describe("what the switch puts into a tunnel", function()
  it("the backend takes out as it was", function()
    if switch.refused() then return pending("the switch " .. switch.refused()) end
    local sw = switch.new()
    sw:tunnel {}
    for _, inner in ipairs { 4, 6 } do
      for _, outer in ipairs { 4, 6 } do
        for mode in pairs { ipip = 1, gue = 1 } do
          sw:backend(1, { addr = HERE[outer], hop = { dmac = "02:00:00:00:01:01", smac = "02:00:00:00:00:ff" } })
          sw:vip((inner == 4 and "%s:443/tcp" or "[%s]:443/tcp"):format(VIP[inner]), { mode = mode, ring = { 1 } })
          local p = plain(inner, { payload = "there and back", vlan = packets.one_of(nil, 7) })
          local r = sw:receive(p)
          assert.equal("tx", r.verdict)
          assert_taken_out(p, r.bytes, mode)
        end
      end
    end
    sw:close()
  end)
end)
