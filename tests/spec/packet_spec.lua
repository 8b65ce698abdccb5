-- SPDX-License-Identifier: GPL-2.0-only
local packet = require "tidegate.packet"
local addr = require "tidegate.packet.addr"
local packets = require "tests.helpers.packets"

local V4, V6, with, tcp4, tcp6 = packets.V4, packets.V6, packets.with, packets.tcp4, packets.tcp6
local ip_bytes, reparsed = packets.ip_bytes, packets.reparsed

describe("an address", function()
  it("has one text, that of inet_ntop", function()
    local texts = {
      ["192.0.2.7"] = "192.0.2.7", ["2001:DB8:0:0:0:0:0:1"] = "2001:db8::1", ["::"] = "::", ["::1"] = "::1",
      ["1::"] = "1::", ["2001:db8:0:1:1:1:1:1"] = "2001:db8:0:1:1:1:1:1", ["2001:0:0:1:0:0:0:1"] = "2001:0:0:1::1",
      ["2001:db8:0:0:1:0:0:1"] = "2001:db8::1:0:0:1", ["::ffff:192.0.2.7"] = "::ffff:192.0.2.7",
      ["::ffff:c000:207"] = "::ffff:192.0.2.7", ["64:ff9b::192.0.2.7"] = "64:ff9b::c000:207",
      ["::1.2.3.4"] = "::1.2.3.4",
      ["1:2:3:4:5:6:7::"] = "1:2:3:4:5:6:7:0", ["0:0:0:0:0:0:1:0"] = "::0.1.0.0", ["fe80::0a0b"] = "fe80::a0b",
    }
    for given, canonical in pairs(texts) do assert.equal(canonical, addr.ip(given).text, given) end
  end)

  it("is refused where inet_pton refuses it", function()
    for _, text in ipairs {
      "", "1.2.3", "1.2.3.256", "1.2.3.04", "1.2.3.4.5", "1.2.3.4 ", ":", ":::", "1::2::3", "1:2:3:4:5:6:7", "12345::",
      "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8::", "g::", "1.2.3.4::", "::1.2.3.4:5", "fe80::1%eth0",
      ":1:2:3:4:5:6:7", "1:",
    } do assert.is_nil(addr.ip(text), text) end
  end)

  it("is forgotten when too many others came, and found again", function()
    for i = 0, 9000 do
      local text = ("10.%d.%d.%d"):format(i >> 16, i >> 8 & 255, i & 255)
      assert.equal(text, addr.ip(text).text)
    end
    assert.equal("10.0.0.0", addr.ip("10.0.0.0").text)
  end)
end)

describe("a built packet", function()
  it("has the bytes that others publish", function()
    local p = packet {  -- the IPv4 header of Wikipedia's example
      eth = false, ip = { src = "192.168.0.1", dst = "192.168.0.199", df = true, proto = "udp" }, payload = 95,
    }
    assert.equal("450000730000400040" .. "11b861c0a80001c0a800c7", p:hex():sub(1, 40))
  end)

  it("has an Ethernet header unless told otherwise", function()
    assert.equal("020000000002020000000001" .. "0800" .. "4500", tcp4():hex():sub(1, 32))
    assert.equal("86dd", tcp6():hex():sub(25, 28))
    assert.equal("4500", tcp4({ eth = false }):hex():sub(1, 4))
    local arp = packet { eth = { dst = "ff:ff:ff:ff:ff:ff", type = 0x0806 }, payload = "who has" }
    assert.equal("ffffffffffff" .. "020000000001" .. "0806", arp:hex():sub(1, 28))
    assert.equal("who has", arp:bytes():sub(15))
  end)

  it("has up to two VLAN tags, the outer one a service tag", function()
    assert.equal("8100" .. "0007" .. "0800", tcp4({ vlan = 7 }):hex():sub(25, 36))
    assert.equal("88a8" .. "0008" .. "8100" .. "0009" .. "0800", tcp4({ vlan = { 8, 9 } }):hex():sub(25, 44))
    local tag = { id = 4095, pcp = 7, dei = true, type = 0x88a8 }
    assert.equal("88a8" .. "ffff", tcp4({ vlan = tag }):hex():sub(25, 32))
  end)

  it("has the flags and fields of IPv4 in their places", function()
    local p = packet { payload = "x", ip = with(V4, {
      dscp = 46, ecn = 1, id = 0x1234, mf = true, offset = 1480, ttl = 3, proto = 6, options = "\148\4\0\0\1",
    }) }
    assert.equal("47b9001d" .. "1234" .. "20b9" .. "0306", p:hex():sub(29, 48))
    assert.equal("9404000001000000" .. "78", p:hex():sub(-18))
    assert.equal("8000", packet({ ip = with(V4, { reserved = true, proto = 6 }) }):hex():sub(41, 44))
  end)

  it("has IPv6 extension headers chained in order", function()
    local p = tcp6 { ip = with(V6, { flow = 0xabcde, tclass = 0x12, ext = {
      { type = "hop", data = "\5\2\0\0" }, { type = "fragment", id = 7 }, { type = "ah" }, { type = 135, data = "abc" },
      { type = "dst" },
    } }) }
    local hex = ip_bytes(p):gsub(".", function(c) return ("%02x"):format(c:byte()) end)
    assert.equal("612abcde" .. "0044" .. "00" .. "40", hex:sub(1, 16))
    assert.equal("2c00" .. "05020000" .. "0100" .. "3300000000000007", hex:sub(81, 112))
    assert.equal("8702" .. ("00"):rep(14) .. "3c00" .. "616263000000" .. "0600" .. "010400000000", hex:sub(113, 176))
  end)

  it("takes either family's name for the same field", function()
    assert.equal(9, tcp6({ ip = with(V6, { ttl = 9 }) }):bytes():byte(22))
    assert.equal(9, tcp4({ ip = with(V4, { hop_limit = 9 }) }):bytes():byte(23))
    local p = tcp6 { ip = with(V6, { tos = 0xb9 }) }
    assert.same({ 46, 1, 0xb9, 64 }, { p.ip.dscp, p.ip.ecn, p.ip.tos, p.ip.ttl })
    p.ip.ttl, p.ip.dscp = 3, 1
    assert.same({ 3, 5 }, { reparsed(p).ip.hop_limit, reparsed(p).ip.tclass })
  end)

  it("encodes TCP options as Linux does", function()
    local options = { mss = 1460, sack_ok = true, ts = { val = 1, ecr = 2 }, wscale = 7 }
    local p = tcp4 { tcp = { dport = 80, options = options } }
    assert.equal("020405b4" .. "0402" .. "080a0000000100000002" .. "01030307", p:hex():sub(-40))
    assert.equal("a002", p:hex():sub(93, 96))
    assert.same(options, packet.tcp_options(reparsed(p).tcp.options))
    assert.equal("01010402", tcp4({ tcp = { dport = 80, options = { sack_ok = true } } }):hex():sub(-8))
    assert.equal("0101080a" .. "0000000500000000", tcp4({ tcp = { dport = 80, options = { ts = 5 } } }):hex():sub(-24))
    assert.same({}, packet.tcp_options "\2\9")
  end)

  it("has right checksums, which a number overrides", function()
    assert.same({ true, true }, { reparsed(tcp4()).ip.checksum_ok, reparsed(tcp4()).tcp.checksum_ok })
    local p = tcp4 { ip = with(V4, { checksum = 0xdead }), tcp = { dport = 443, checksum = 0xbeef } }
    local q = reparsed(p)
    assert.same({ 0xdead, false, 0xbeef, false },
      { q.ip.checksum, q.ip.checksum_ok, q.tcp.checksum, q.tcp.checksum_ok })
  end)

  it("sends a UDP checksum that is computed as 0 as 0xffff, and one told to be 0 as 0", function()
    for _, ip in ipairs { V4, V6 } do
      local p = packet { ip = ip, udp = { dport = 53 }, payload = "\0\0" }
      local q = reparsed(p:copy { payload = string.pack(">I2", reparsed(p).udp.checksum) })
      assert.same({ 0xffff, true }, { q.udp.checksum, q.udp.checksum_ok })
      q = reparsed(p:copy { udp = { checksum = 0 } })
      assert.same({ 0, ip == V4 }, { q.udp.checksum, q.udp.checksum_ok })
    end
  end)

  it("lies about lengths and versions when told so", function()
    local p = tcp4 {
      ip = with(V4, { total_length = 99, ihl = 7, version = 5, proto = 17 }), tcp = { dport = 1, data_offset = 15 },
    }
    assert.equal("57000063", p:hex():sub(29, 36))
    assert.same({ 17, 0xf0, 54 }, { p:bytes():byte(24), p:bytes():byte(47), #p:bytes() })
    local ip = with(V6, { payload_length = 1, next_header = 99 })
    p = packet { eth = { type = 0x1234 }, ip = ip, udp = { dport = 1, length = 3 } }
    assert.equal("1234" .. "60000000" .. "0001" .. "63", p:hex():sub(25, 42))
    assert.equal("0003", p:hex():sub(117, 120))
  end)

  it("quotes in an ICMP error the IP header and 8 bytes, or as many as told", function()
    local function sizes(layer, ip, quoted, more)
      local p = packet { ip = ip, [layer] = with({ type = "unreachable", quoted = quoted }, more) }
      return #ip_bytes(p) - (ip == V4 and 20 or 40) - 8
    end
    local long = tcp4 { ip = with(V4, { options = "\1\1\1\1" }), payload = 2000, vlan = 7 }
    assert.equal(24 + 8, sizes("icmp", V4, long))
    assert.equal(24 + 20, sizes("icmp", V4, long, { quote_length = 20 }))
    assert.equal(24 + 2020, sizes("icmp", V4, long, { quote_length = 9999 }))
    assert.equal(1280 - 48, sizes("icmp6", V6, tcp6 { payload = 2000 }))
    assert.equal(40 + 20, sizes("icmp6", V6, tcp6()))
  end)

  it("has the second word of ICMP by its kind", function()
    local function word(layer, ip, icmp)
      return (string.unpack(">I4", ip_bytes(packet { ip = ip, [layer] = icmp }), ip == V4 and 25 or 45))
    end
    assert.equal(0x00010002, word("icmp", V4, { type = "echo-request", id = 1, seq = 2 }))
    assert.equal(1400, word("icmp", V4, { type = 3, code = 4, mtu = 1400 }))
    assert.equal(0x14000000, word("icmp", V4, { type = 12, pointer = 20 }))
    assert.equal(0xc0000201, word("icmp", V4, { type = 5, gateway = "192.0.2.1" }))
    assert.equal(0xfeedf00d, word("icmp", V4, { type = 200, rest = 0xfeedf00d }))
    assert.equal(20, word("icmp6", V6, { type = 4, pointer = 20 }))
  end)

  it("is checked again when its fields were assigned", function()
    local p = tcp4()
    p.tcp.dport, p.vlan, p.ip.dst = 80, 7, "198.51.100.99"
    assert.equal("tcp 192.0.2.7:40000 > 198.51.100.99:80 S vlan 7", tostring(reparsed(p)))
    p.tcp.dport = 70000
    local _, text = pcall(function() p:bytes() end)
    assert.matches("packet_spec.lua:%d+: packet: tcp.dport: 70000", text)
  end)

  it("shares nothing with the tables that it was made of", function()
    local ip, quoted = with(V4), tcp4()
    local p = packet { ip = ip, icmp = { type = 3, quoted = quoted } }
    local before = p:bytes()
    ip.dst, quoted.tcp.dport = "198.51.100.99", 1
    assert.equal(before, p:bytes())
  end)

  it("costs at most 300 times what packing one header does", function()
    local function time(f)
      local start = os.clock()
      for i = 1, 1000 do f(i) end
      return os.clock() - start
    end
    local floor = time(function(i) return string.pack(">I2I2I4I4BBI2I2I2", 1, 2, i, 4, 5, 6, 7, 8, 9) end)
    local cost = time(function(i) return packet({ ip = V4, tcp = { sport = i, dport = 443 } }):bytes() end)
    assert.is_true(cost < 300 * floor, ("%.4f s against %.4f s"):format(cost, floor))
  end)
end)

describe("misuse", function()
  local function message(given, f)
    local ok, text = pcall(f or function() packet(given) end)
    assert.is_false(ok)
    return text:match "packet_spec%.lua:%d+: (.*)$"
  end

  it("is an error that names the option, what was given, what is allowed", function()
    for text, given in pairs {
      ["packet: tcp.dport: 70000 (allowed: an integer from 0 to 65535)"] = { ip = V4, tcp = { dport = 70000 } },
      ["packet: tcp.dport: missing"] = { ip = V4, tcp = {} },
      ['packet: udp.sport: "80" (allowed: an integer from 0 to 65535)'] = { ip = V4, udp = { sport = "80" } },
      ["packet: udp.port: unknown field (allowed: checksum, dport, length, sport)"] = { ip = V4, udp = { port = 1 } },
      ["packet: tpc: unknown field (allowed: eth, icmp, icmp6, ip, payload, tcp, trailer, udp, vlan)"] = { tpc = {} },
      ['packet: ip.src: "10.0.0.300" (allowed: an IPv4 or IPv6 address)'] = { ip = with(V4, { src = "10.0.0.300" }) },
      ['packet: ip.dst: "2001:db8::1" (allowed: of the same family as ip.src, 192.0.2.7)']
        = { ip = with(V4, { dst = "2001:db8::1" }) },
      ["packet: ip.dst: missing"] = { ip = { src = "192.0.2.7" } },
      ["packet: ip.offset: 3 (allowed: a multiple of 8 from 0 to 65528)"] = { ip = with(V4, { offset = 3 }) },
      ["packet: ip.df: 1 (allowed: true or false)"] = { ip = with(V4, { df = 1 }) },
      ["packet: ip: both ttl and hop_limit"] = { ip = with(V4, { ttl = 1, hop_limit = 1 }) },
      ["packet: ip: more than one of tos, tclass, dscp/ecn"] = { ip = with(V4, { tos = 1, ecn = 1 }) },
      ["packet: ip.options: 44 bytes (allowed: up to 40)"] = { ip = with(V4, { options = ("\1"):rep(41) }) },
      ["packet: ip.proto: missing (needed without tcp, udp, icmp or icmp6)"] = { ip = V4 },
      ['packet: eth.src: "02:00:00" (allowed: an address such as "02:00:00:00:00:01")']
        = { eth = { src = "02:00:00" } },
      ["packet: eth.type: missing (needed without ip)"] = { payload = "x" },
      ['packet: tcp.flags: "SX" (allowed: letters of SAFRPUEC, or a number)']
        = { ip = V4, tcp = { dport = 1, flags = "SX" } },
      ["packet: tcp.options.mms: unknown option (allowed: mss, sack_ok, ts, wscale)"]
        = { ip = V4, tcp = { dport = 1, options = { mms = 1 } } },
      ["packet: both tcp and udp"] = { ip = V4, tcp = { dport = 1 }, udp = { dport = 1 } },
      ["packet: tcp: without an ip layer"] = { tcp = { dport = 1 } },
      ["packet: icmp: in IPv6 (allowed: icmp6)"] = { ip = V6, icmp = { type = 8 } },
      ["packet: icmp: both body and quoted"] = { ip = V4, icmp = { type = 3, body = "x", quoted = tcp4() } },
      ["packet: payload: icmp has its own body"] = { ip = V4, icmp = { type = 8, body = "x" }, payload = "y" },
      ["packet: icmp: more than one of id/seq, mtu, pointer, gateway, rest"]
        = { ip = V4, icmp = { type = 8, id = 1, mtu = 1 } },
      ["packet: vlan: 3 tags (allowed: up to 2)"] = { ip = V4, vlan = { 1, 2, 3 } },
      ["packet: vlan.type: 2048 (allowed: 0x8100 or 0x88a8)"] = { ip = V4, vlan = { id = 1, type = 0x800 } },
      ["packet: ip.ext.type: missing"] = { ip = with(V6, { ext = { {} } }) },
      ["packet: ip.ext.data: unknown field (allowed: id, mf, next_header, offset, reserved, type)"]
        = { ip = with(V6, { ext = { { type = "fragment", data = "x" } } }) },
      ["packet: ip.ext: unknown field (allowed: checksum, df, dscp, dst, ecn, hop_limit, id, ihl, mf, offset, "
        .. "options, proto, reserved, src, tclass, tos, total_length, ttl, version)"] = { ip = with(V4, { ext = {} }) },
      ["packet: udp: in a later fragment, which has no such header (allowed: payload and ip.proto)"]
        = { ip = with(V4, { offset = 8 }), udp = { dport = 1 } },
      ["packet: 7 (allowed: a table of layers, or text)"] = 7,
    } do assert.equal(text, message(given)) end
  end)

  it("is told where lengths are computed, too", function()
    local long = tcp4 { payload = 65535 }
    assert.equal("packet: ip.total_length would be 65575 (allowed: up to 65535)",
      message(nil, function() return (long:bytes()) end))
  end)

  it("is told of a line of text", function()
    for text, line in pairs {
      ['packet: "nonsense" (allowed: "tcp SOURCE > DESTINATION …")'] = "nonsense",
      ['packet: "sctp" (allowed: tcp, udp, icmp, icmp6, ip, eth)'] = "sctp 192.0.2.7:1 > 192.0.2.8:2",
      ["packet: tcp.dport: 70000 (allowed: an integer from 0 to 65535)"] = "tcp 192.0.2.7:1 > 192.0.2.8:70000 S",
      ["packet: vlan x (allowed: a number)"] = "tcp 192.0.2.7:1 > 192.0.2.8:7 vlan x",
      ['packet: "what": unknown word'] = "udp 192.0.2.7:1 > 192.0.2.8:7 what",
    } do assert.equal(text, message(line)) end
  end)

  it("of copy, parse, from_hex and fragments is told alike", function()
    local p = tcp4()
    assert.matches("^packet: ip.tttl: unknown field", message(nil, function() p:copy { ip = { tttl = 1 } } end))
    assert.matches("^packet: parse: 7 %(allowed", message(nil, function() packet.parse(7) end))
    assert.matches("^packet: from_hex: \"abc\"", message(nil, function() packet.from_hex "abc" end))
    assert.matches("^packet: fragments.mtu: 10 %(allowed", message(nil, function() p:fragments(10) end))
    p = tcp4 { ip = with(V4, { df = true }), payload = 2000 }
    assert.equal("packet: fragments: df is set", message(nil, function() p:fragments(1500) end))
  end)
end)
