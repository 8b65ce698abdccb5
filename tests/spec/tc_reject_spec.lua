-- SPDX-License-Identifier: GPL-2.0-only
--- Packets through the real TC programs that a policy rejects: the answer, byte by byte; and what gets none.
local addr = require "tidegate.packet.addr"
local packet = require "tidegate.packet"
local packets = require "tests.helpers.packets"
local sums = require "tidegate.packet.checksum"
local tc_switch = require "tests.helpers.tc_switch"

if tc_switch.refused() then
  pending("the datapath " .. tc_switch.refused())
  return
end

local tc

setup(function()
  tc = tc_switch.new()
  tc:policy("ingress", { default = "reject" })
  tc:policy("egress", { default = "reject" })
end)
teardown(function() tc:close() end)

local FAMILIES = { [4] = packets.V4, [6] = packets.V6 }
local MACS = { src = "02:00:00:00:00:02", dst = "02:00:00:00:00:01" } -- those of a packet, the other way round

--- The answer's IP layer to a packet between these.
local function back(family, more)
  local ip = FAMILIES[family]
  local fields = family == 4 and { df = true } or {}
  return packets.with(packets.with({ src = ip.dst, dst = ip.src }, fields), more)
end

--- What stands in the checksum of a packet whose sender leaves it to the device.
local function pseudo_sum(p, proto, length)
  return ~sums.of(sums.pseudo(addr.ip(p.ip.src), addr.ip(p.ip.dst), proto, length)) & 0xffff
end

--- What a device makes of a frame: the checksum of all that follows `start`, `at` bytes behind it.
local function completed(bytes, start, at)
  local sum = sums.of(sums.sum(bytes:sub(start + 1)))
  return bytes:sub(1, start + at) .. string.pack(">I2", sum) .. bytes:sub(start + at + 3)
end

local function to(family, more) return packet(packets.with({ ip = FAMILIES[family] }, more)) end

local function assert_answer(expected, p, direction)
  local r = tc:pass(direction or "ingress", p)
  assert.same({ "redirect", "policy-reject" }, { r.verdict, r.reason }, tostring(p))
  assert.equal(expected:hex(), r.packet:hex())
end

local function assert_dropped(p, direction)
  local r = tc:pass(direction or "ingress", p)
  assert.same({ "drop", "policy-drop" }, { r.verdict, r.reason }, tostring(p))
end

--- The reset of a packet of TCP port 40000 to 443.
local function reset(family, more, layers)
  return packet(packets.with({
    eth = MACS, ip = back(family),
    tcp = packets.with({ sport = 443, dport = 40000, flags = "R", window = 0 }, more),
  }, layers))
end

for family = 4, 6, 2 do
  describe(("TCP over IPv%d"):format(family), function()
    it("is reset: a SYN by acknowledging it", function()
      local p = to(family, { tcp = { dport = 443, flags = "S", seq = 0xfffffffe } })
      assert_answer(reset(family, { flags = "RA", ack = 0xffffffff }), p)
      assert_answer(reset(family, { flags = "RA", ack = 0xffffffff }), p, "egress")
    end)

    it("is reset: data by its length, too", function()
      local p = to(family, { tcp = { dport = 443, flags = "FP", seq = 1000 }, payload = ("x"):rep(333) })
      assert_answer(reset(family, { flags = "RA", ack = 1334 }), p)
    end)

    it("is reset: what acknowledges something, at that place", function()
      local p = to(family, { tcp = { dport = 443, flags = "PA", seq = 5, ack = 77 }, payload = "hello" })
      assert_answer(reset(family, { flags = "R", seq = 77 }), p)
    end)

    it("is reset behind VLAN tags and with TCP options", function()
      local p = to(family, { vlan = { 7, 8 }, tcp = { dport = 443, flags = "S", seq = 9, options = { mss = 1460 } } })
      assert_answer(reset(family, { flags = "RA", ack = 10 }, { vlan = { 7, 8 } }), p)
    end)

    it("is reset by a checksum that the device completes, where the packet's was left to it", function()
      local whole = to(family, { tcp = { dport = 443, flags = "S", seq = 9 } })
      local partial = whole:copy { tcp = { checksum = pseudo_sum(whole, 6, 20) } }
      local answer = reset(family, { flags = "RA", ack = 10 })
      assert_answer(answer:copy { tcp = { checksum = pseudo_sum(answer, 6, 20) } }, partial)
    end)

    it("that is a reset itself gets no answer", function()
      assert_dropped(to(family, { tcp = { dport = 443, flags = "R" } }))
      assert_dropped(to(family, { tcp = { dport = 443, flags = "RA", ack = 1 } }))
    end)
  end)

  local icmp = family == 4 and "icmp" or "icmp6"
  local ERROR_HEAD = family == 4 and 28 or 48
  local MOST = family == 4 and 576 or 1280

  --- ICMP's answer to a packet, that quotes so much of it.
  local function unreachable(p, code, layers)
    local quoted = p:bytes():sub(p.vlan and 15 + 4 * #p.vlan or 15)
    quoted = quoted:sub(1, math.min(#quoted, MOST - ERROR_HEAD) & ~3)
    return packet(packets.with({
      eth = MACS, ip = back(family), [icmp] = { type = family == 4 and 3 or 1, code = code, body = quoted },
    }, layers))
  end

  describe(("UDP over IPv%d"):format(family), function()
    local PORT = family == 4 and 3 or 4

    it("is told that nobody listens", function()
      local p = to(family, { udp = { dport = 53 }, payload = "hello, " })
      assert_answer(unreachable(p, PORT), p)
      assert_answer(unreachable(p, PORT), p, "egress")
    end)

    it("is quoted as far as an answer may go", function()
      local p = to(family, { udp = { dport = 53 }, payload = ("x"):rep(1400) })
      assert_answer(unreachable(p, PORT), p)
    end)

    it("is told behind VLAN tags", function()
      local p = to(family, { vlan = 7, udp = { dport = 53 }, payload = "xy" })
      assert_answer(unreachable(p, PORT, { vlan = { 7 } }), p)
    end)

    it("whose checksum was left to the device is quoted as the device completes it", function()
      for _, size in ipairs { 7, 8, 1400 } do
        local whole = to(family, { udp = { dport = 53 }, payload = ("h"):rep(size) })
        local r = tc:pass("ingress", whole:copy { udp = { checksum = pseudo_sum(whole, 17, 8 + size) } })
        local start = 14 + ERROR_HEAD + (family == 4 and 20 or 40)
        assert.same({ "redirect", true }, { r.verdict, packet.parse(completed(r.bytes, start, 6))[icmp].checksum_ok })
      end
    end)
  end)

  describe(("another protocol over IPv%d"):format(family), function()
    local PROHIBITED = family == 4 and 13 or 1

    it("is told that it is prohibited", function()
      local p = packet { ip = packets.with(FAMILIES[family], { proto = "gre" }), payload = ("g"):rep(24) }
      assert_answer(unreachable(p, PROHIBITED), p)
    end)

    it("is told so: a ping, too", function()
      local p = to(family, { [icmp] = { type = "echo-request", id = 7, seq = 1, body = "abcd" } })
      assert_answer(unreachable(p, PROHIBITED), p)
    end)

    it("gets no answer to an ICMP error", function()
      local about = packet { ip = { src = FAMILIES[family].dst, dst = FAMILIES[family].src }, udp = { dport = 1 } }
      assert_dropped(to(family, { [icmp] = { type = family == 4 and 11 or 3, quoted = about } }))
    end)
  end)

  describe(("a fragment of IPv%d"):format(family), function()
    it("gets an answer if it is the first, and else none", function()
      local fragments = to(family, { udp = { dport = 53 }, payload = ("x"):rep(2000) }):fragments(1000)
      assert.equal("policy-reject", tc:pass("ingress", fragments[1]).reason)
      assert_dropped(fragments[2])
    end)
  end)

  describe(("a source of IPv%d that is no host's"):format(family), function()
    it("gets no answer", function()
      local sources = family == 4 and { "0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255" } or { "::", "ff02::1" }
      for _, source in ipairs(sources) do
        assert_dropped(to(family, { udp = { dport = 53 } }):copy { ip = { src = source } })
      end
    end)

    it("nor does what was sent to many", function()
      local dest = family == 4 and "239.1.2.3" or "ff02::fb"
      assert_dropped(to(family, { udp = { dport = 5353 } }):copy { ip = { dst = dest } })
      assert_dropped(to(family, { udp = { dport = 53 } }):copy { eth = { dst = "ff:ff:ff:ff:ff:ff" } })
    end)
  end)
end

describe("IPv4 options", function()
  it("are not in the reset", function()
    local p = packets.tcp4 { tcp = { dport = 443, flags = "S", seq = 1 } }:copy { ip = { options = "\1\1\1\0" } }
    assert_answer(reset(4, { flags = "RA", ack = 2 }), p)
  end)
end)

describe("answers", function()
  it("are limited", function()
    tc:map("answers_until"):set(0, 1 << 62)
    local program <close> = assert(tg.prog.open(tc.object.progs .. "/tidegate_ingress"))
    assert.equal("drop", program:run(packets.tcp4():bytes()).retval)
  end)
end)

describe("an audited policy", function()
  it("counts and lets everything pass", function()
    tc:policy("ingress", { default = "reject", audit = true })
    local before = tc:counter().packets
    local r = tc:pass("ingress", packets.tcp4())
    assert.same({ "pass", true, before + 1 }, { r.verdict, r.unchanged, tc:counter().packets })
    tc:policy("ingress", { default = "reject" })
  end)
end)
