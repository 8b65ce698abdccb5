-- SPDX-License-Identifier: GPL-2.0-only
local packet = require "tidegate.packet"
local packets = require "tests.helpers.packets"

local V4, V6, with, tcp4, tcp6 = packets.V4, packets.V6, packets.with, packets.tcp4, packets.tcp6
local ip_bytes, reparsed = packets.ip_bytes, packets.reparsed

describe("a parsed packet", function()
  it("has the fields that it was built with", function()
    local p = reparsed(tcp4 {
      vlan = { { id = 8, pcp = 3, dei = true }, 9 }, ip = with(V4, { df = true, id = 77, options = "\1\1\1\0" }),
      tcp = { sport = 1, dport = 2, seq = 3, ack = 4, flags = "CASE", window = 5, urgent = 6 }, payload = "hello",
    })
    assert.same({
      { id = 8, pcp = 3, dei = true, type = 0x88a8 }, { id = 9, pcp = 0, dei = false, type = 0x8100 },
    }, p.vlan)
    assert.same({ src = "02:00:00:00:00:01", dst = "02:00:00:00:00:02", type = 0x0800 }, p.eth)
    assert.same({
      src = "192.0.2.7", dst = "198.51.100.10", version = 4, ihl = 6, total_length = 49, tos = 0, id = 77,
      df = true, mf = false, offset = 0, ttl = 64, proto = 6, options = "\1\1\1\0",
      checksum = p.ip.checksum, checksum_ok = true,
    }, p.ip)
    assert.same({
      sport = 1, dport = 2, seq = 3, ack = 4, flags = "SAEC", window = 5, urgent = 6, data_offset = 5,
      checksum = p.tcp.checksum, checksum_ok = true,
    }, p.tcp)
    assert.equal("hello", p.payload)
  end)

  it("has IPv6's extension headers, and the protocol behind them", function()
    local ext = { { type = "hop" }, { type = "fragment", id = 7 }, { type = "dst", data = "\1\9" .. ("\0"):rep(9) } }
    local p = reparsed(packet { ip = with(V6, { ext = ext }), udp = { dport = 53 }, payload = "x" })
    assert.same({
      { type = "hop", data = "\1\4\0\0\0\0" }, { type = "fragment", id = 7, offset = 0, mf = false },
      { type = "dst", data = "\1\9" .. ("\0"):rep(9) .. "\1\1\0" },
    }, p.ip.ext)
    assert.same({ 0, 17, true, 53 }, { p.ip.next_header, p.ip.proto, p.udp.checksum_ok, p.udp.dport })
  end)

  it("has the packet that an ICMP error quotes", function()
    local p = reparsed(packet { ip = V4, icmp = { type = "unreachable", code = 4, mtu = 1400, quoted = tcp4() } })
    assert.same({ true, 1400, 8 }, { p.icmp.checksum_ok, p.icmp.mtu, p.icmp.quote_length })
    assert.same({ sport = 40000, dport = 443, seq = 0 }, p.icmp.quoted.tcp)
    assert.same({ "tcp", true }, { p.icmp.quoted.truncated, p.icmp.quoted.ip.checksum_ok })
    p = reparsed(packet { ip = V6, icmp6 = { type = "too-big", mtu = 1280, quoted = tcp6 { payload = "abc" } } })
    assert.same({ 1280, true, "abc" }, { p.icmp6.mtu, p.icmp6.quoted.tcp.checksum_ok, p.icmp6.quoted.payload })
  end)

  it("tells where it was truncated, and keeps what was whole", function()
    local bytes = tcp4({
      vlan = 7, ip = with(V4, { options = "\1\1\1\0" }), tcp = { dport = 443, options = { mss = 1 } },
      payload = "hello",
    }):bytes()
    local where = {
      [0] = "eth", [13] = "eth", [14] = "vlan", [15] = "vlan", [16] = "eth", [17] = "eth", [18] = "ip", [37] = "ip",
      [41] = "ip", [42] = "tcp", [61] = "tcp", [65] = "tcp", [66] = "payload", [70] = "payload", [71] = "none",
    }
    for size, layer in pairs(where) do
      assert.equal(layer, packet.parse(bytes:sub(1, size)).truncated or "none", "at " .. size)
    end
    local p = packet.parse(bytes:sub(1, 18 + 24 + 9))
    assert.same({ sport = 40000, dport = 443, seq = 0 }, p.tcp)
    p = packet.parse(bytes:sub(1, 18 + 17))
    assert.same({ "192.0.2.7", nil }, { p.ip.src, p.ip.dst })
  end)

  it("can't tell the checksum of what isn't all there", function()
    local p = packet.parse(tcp4({ payload = "hello" }):bytes():sub(1, -2))
    assert.same({ "hell", true }, { p.payload, p.ip.checksum_ok })
    assert.is_nil(p.tcp.checksum_ok)
    for _, f in ipairs(packet({ ip = V4, udp = { dport = 1 }, payload = 3000 }):fragments(1500)) do
      assert.is_true(f.ip.checksum_ok)
      assert.is_nil(f.udp and f.udp.checksum_ok)
    end
  end)

  it("keeps padding apart", function()
    local p = packet.parse(tcp4({ payload = "abc" }):bytes() .. "\0\0\0")
    assert.same({ "abc", "\0\0\0", true }, { p.payload, p.trailer, p.tcp.checksum_ok })
  end)

  it("is called malformed where its lengths or versions make no sense", function()
    local function malformed(given) return reparsed(packet(with({ ip = V4, udp = { dport = 1 } }, given))).malformed end
    assert.is_nil(malformed {})
    assert.equal("ip", malformed { ip = with(V4, { ihl = 4 }) })
    assert.equal("ip", malformed { ip = with(V4, { version = 6 }) })
    assert.equal("ip", malformed { ip = with(V4, { total_length = 19 }) })
    assert.equal("ip", malformed { ip = with(V6, { version = 4 }) })
    assert.equal("udp", malformed { udp = { dport = 1, length = 7 } })
    assert.equal("udp", malformed { udp = { dport = 1, length = 9 } })
    assert.equal("tcp", reparsed(tcp4 { tcp = { dport = 1, data_offset = 4 } }).malformed)
  end)

  it("gives the same bytes back, whatever they were", function()
    math.randomseed(1)
    for _ = 1, 1000 do
      local bytes = packets.random():bytes()
      for _ = 1, math.random(0, 4) do
        local at = math.random(math.min(#bytes, 120))
        bytes = bytes:sub(1, at - 1) .. string.char(math.random(0, 255)) .. bytes:sub(at + 1)
      end
      bytes = bytes .. packets.bytes(packets.one_of(0, 0, 9))
      local size = packets.one_of(#bytes, math.random(0, #bytes), math.random(0, math.min(#bytes, 130)))
      bytes = bytes:sub(1, size)
      local p = packet.parse(bytes)
      assert.equal(bytes, p:bytes())
      assert.equal(bytes, p:copy():bytes())
      assert.is_string(tostring(p))
      local bare = packet.parse(bytes:sub(15), { eth = false })
      assert.equal(bytes:sub(15), bare:bytes())
    end
  end)
end)

describe("a copy", function()
  it("of a parsed packet is right again after a change", function()
    local p = reparsed(packet { ip = V4, udp = { dport = 53 }, payload = "hello" })
    local changes = { ip = { ttl = 1, dst = "198.51.100.99" }, udp = { dport = 54 }, payload = "hello, world" }
    local q = reparsed(p:copy(changes))
    assert.same({ true, true, 54, "hello, world", 40 },
      { q.ip.checksum_ok, q.udp.checksum_ok, q.udp.dport, q.payload, q.ip.total_length })
    assert.equal("hello", p.payload)
    assert.equal(53, p.udp.dport)
  end)

  it("keeps what was wrong, until told to compute it", function()
    local p = reparsed(tcp4 { tcp = { dport = 1, checksum = 0xbeef } })
    assert.equal(0xbeef, reparsed(p:copy { ip = { ttl = 1 } }).tcp.checksum)
    assert.is_true(reparsed(p:copy { tcp = { checksum = false } }).tcp.checksum_ok)
  end)

  it("takes the very checksum that was right, too", function()
    local p = reparsed(tcp4())
    local sum = p.tcp.checksum
    local q = reparsed(p:copy { tcp = { checksum = sum, dport = 9 } })
    assert.same({ sum, false }, { q.tcp.checksum, q.tcp.checksum_ok })
  end)

  it("changes layers, families and tags", function()
    local p = reparsed(tcp4 { vlan = 7 })
    local q = p:copy { tcp = false, udp = { dport = 9 }, vlan = { 8, 9 } }
    assert.equal("udp 192.0.2.7:40000 > 198.51.100.10:9 vlan 8 vlan 9", tostring(q))
    assert.is_true(reparsed(q).udp.checksum_ok)
    q = reparsed(p:copy { vlan = false, ip = V6 })
    assert.same({ "tcp [2001:db8::7]:40000 > [2001:db8:1::10]:443 S", true }, { tostring(q), q.tcp.checksum_ok })
    assert.equal(40, #p:copy({ eth = false, vlan = false }):bytes())
  end)

  it("of a packet without Ethernet stays without", function()
    assert.equal(40, #tcp4({ eth = false }):copy({ ip = { ttl = 2 } }):bytes())
    assert.equal(40, #packet(tcp4 { eth = false }):bytes())
  end)
end)

describe("fragments", function()
  --- The payload of the IP packet that fragments make, put together by offset.
  local function whole(list)
    local parts = {}
    for i, f in ipairs(list) do
      local bytes, headers = ip_bytes(f), 20 + #(f.ip.options or "")
      if f.ip.ext then
        headers = 40
        for _, ext in ipairs(f.ip.ext) do headers = headers + (ext.data and #ext.data + 2 or 8) end
      end
      parts[i] = bytes:sub(headers + 1)
    end
    return table.concat(parts)
  end

  it("of IPv4 fit the MTU, hold all of the data, repeat the copied options", function()
    local options = "\7\3\4\148\4\0\0\0"
    local ip = with(V4, { id = 7, options = options })
    local p = packet { ip = ip, udp = { dport = 9 }, payload = packets.bytes(4000) }
    local list = p:fragments(1500)
    assert.equal(3, #list)
    for i, f in ipairs(list) do
      assert.is_true(#ip_bytes(f) <= 1500)
      assert.same({ 7, i < 3, 17 }, { f.ip.id, f.ip.mf, f.ip.proto })
    end
    assert.same({ options, "\148\4\0\0", "\148\4\0\0" },
      { list[1].ip.options, list[2].ip.options, list[3].ip.options })
    assert.same({ 0, 1472, 1472 + 1472 }, { list[1].ip.offset, list[2].ip.offset, list[3].ip.offset })
    assert.equal(ip_bytes(p):sub(29), whole(list))
    assert.equal(9, list[1].udp.dport)
    assert.is_nil(list[2].udp)
  end)

  it("of fragments are fragments of the whole", function()
    local p = packet { ip = with(V4, { id = 7 }), udp = { dport = 9 }, payload = packets.bytes(4000) }
    local list = {}
    for _, f in ipairs(p:fragments(1500)) do
      for _, smaller in ipairs(f:fragments(576)) do list[#list + 1] = smaller end
    end
    for i, f in ipairs(list) do assert.equal(i < #list, f.ip.mf) end
    assert.equal(ip_bytes(p):sub(21), whole(list))
  end)

  it("of IPv6 repeat what routers read, and no more", function()
    local ip = with(V6, { ext = { { type = "hop" }, { type = "dst" } } })
    local p = tcp6 { vlan = 7, ip = ip, payload = packets.bytes(3000) }
    local list = p:fragments(1280, 77)
    assert.equal(3, #list)
    local kinds = {}
    for i, f in ipairs(list) do
      kinds[i] = {}
      for j, ext in ipairs(f.ip.ext) do kinds[i][j] = ext.type end
      assert.same({ 77, 7 }, { f.ip.ext[2].id, f.vlan[1].id })
      assert.is_true(#f:bytes() <= 1280 + 18)
    end
    assert.same({ { "hop", "fragment", "dst" }, { "hop", "fragment" }, { "hop", "fragment" } }, kinds)
  end)

  it("leave a packet that fits as it is", function()
    local p = tcp4 { ip = with(V4, { df = true }), trailer = "xx" }
    assert.same({ p:bytes() }, { p:fragments(1500)[1]:bytes() })
  end)
end)

describe("text", function()
  it("says what a packet is, and is read back", function()
    for _, line in ipairs {
      "tcp 192.0.2.7:40000 > 198.51.100.10:443 S", "tcp [2001:db8::1]:1 > [2001:db8::2]:2 none vlan 7 vlan 8",
      "udp 192.0.2.7:40000 > 198.51.100.10:53 len 100", "icmp 192.0.2.7 > 198.51.100.10 echo-request id 1 seq 2 len 56",
      "icmp 192.0.2.1 > 192.0.2.7 unreachable/4 mtu 1400 quoting (tcp 192.0.2.7:40000 > 198.51.100.10:443 S)",
      "icmp6 2001:db8::1 > 2001:db8::2 200/3", "ip 192.0.2.7 > 198.51.100.10 proto 47 len 4",
      "ip 2001:db8::1 > 2001:db8::2 proto 17 frag 1480+ len 8", "udp 192.0.2.7:1 > 192.0.2.8:2 frag 0+ len 8",
      "eth 02:00:00:00:00:01 > 02:00:00:00:00:02 0x0806 len 28",
    } do assert.equal(line, tostring(packet(line))) end
  end)

  it("may leave out what has a default", function()
    assert.equal(tcp4():bytes(), packet("tcp 192.0.2.7 > 198.51.100.10:443"):bytes())
    assert.equal(3, packet("udp 192.0.2.7 > 198.51.100.10:443 ttl 3").ip.ttl)
    assert.equal(47, packet("ip 192.0.2.7 > 198.51.100.10 proto gre").ip.proto)
  end)

  it("says what was missing or wrong", function()
    assert.equal("tcp 192.0.2.7:40000 > 198.51.100.10:443 truncated tcp",
      tostring(packet.parse(tcp4():bytes():sub(1, 45))))
    assert.equal("ip 192.0.2.7 > 198.51.100.10 proto 6 len 20 malformed ip",
      tostring(reparsed(tcp4 { ip = with(V4, { ihl = 3 }) })))
  end)

  it("of bytes in hexadecimal is parsed, tcpdump's too", function()
    assert.equal(tcp4():bytes(), packet.from_hex(tcp4():hex()):bytes())
    local p = packet.from_hex([[
      0x0000:  4500 001c 0000 0000 4011 8e9f c000 0207
      0x0010:  c633 640a 9c40 0035 0008 0000
    ]], { eth = false })
    assert.equal("udp 192.0.2.7:40000 > 198.51.100.10:53", tostring(p))
  end)
end)

describe("a capture file", function()
  local path = os.tmpname()
  teardown(function() os.remove(path) end)

  it("gives back what was written", function()
    local list = { tcp4(), tcp6(), packet("eth 02:00:00:00:00:01 > 02:00:00:00:00:02 0x0806 len 28"):bytes() }
    assert.is_true(packet.write_pcap(path, list))
    local list_read, times = assert(packet.read_pcap(path))
    assert.same({ list[1]:bytes(), list[2]:bytes(), list[3] },
      { list_read[1]:bytes(), list_read[2]:bytes(), list_read[3]:bytes() })
    assert.equal(3, #times)
    assert.is_true(packet.write_pcap(path, { tcp4 { eth = false } }))
    assert.equal(40, #packet.read_pcap(path)[1]:bytes())
  end)

  it("is read in either byte order", function()
    local file <close> = assert(io.open(path, "wb"))
    local bytes = tcp4():bytes()
    file:write(string.pack(">I4I2I2i4I4I4I4", 0xa1b23c4d, 2, 4, 0, 0, 65535, 1),
      string.pack(">I4I4I4I4", 5, 500000000, #bytes, #bytes), bytes)
    file:close()
    local list, times = packet.read_pcap(path)
    assert.same({ bytes, 5.5 }, { list[1]:bytes(), times[1] })
  end)

  it("that can't be read or written gives nil and the reason", function()
    local none, why = packet.read_pcap "/nowhere/x.pcap"
    assert.is_nil(none)
    assert.matches("No such file", why)
    assert.is_nil((packet.write_pcap("/nowhere/x.pcap", { tcp4() })))
    local file = assert(io.open(path, "wb"))
    file:write(string.pack("<I4I2I2i4I4I4I4", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
    file:write(string.pack("<I4I4I4I4", 0, 0, 9, 9), "short")
    file:close()
    none, why = packet.read_pcap(path)
    assert.is_nil(none)
    assert.matches("ends within packet 1", why)
    file = assert(io.open(path, "wb"))
    file:write "this is no capture file at all"
    file:close()
    assert.matches("no pcap file", select(2, packet.read_pcap(path)))
  end)
end)
