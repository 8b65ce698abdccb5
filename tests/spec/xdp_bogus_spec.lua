-- SPDX-License-Identifier: GPL-2.0-only
--- Packets through the real XDP program whose sources no packet on a wire can have, and what looks like them.
local balancer = require "tests.helpers.balancer"
local packet = require "tidegate.packet"
local packets = require "tests.helpers.packets"
local services = require "tests.helpers.services"

local switch = require "tests.helpers.switch"

if switch.refused() then
  pending("the datapath " .. switch.refused())
  return
end

local sw

setup(function() sw = services.switch() end)
teardown(function() sw:close() end)

local BOGUS = {
  ["bogus-zero"] = { "0.0.0.0", "0.0.0.1", "0.255.255.255", "::" },
  ["bogus-loopback"] = { "127.0.0.1", "127.0.0.0", "127.255.255.255", "::1" },
  ["bogus-multicast"] = { "224.0.0.0", "224.0.0.1", "239.255.255.255", "ff00::", "ff02::1", "ff0e::1",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" },
  ["bogus-broadcast"] = { "255.255.255.255" },
}
-- Next to them, and sound; some the first look takes for odd.
local SOUND = { "1.0.0.0", "126.255.255.255", "128.0.0.0", "128.255.255.255", "223.255.255.255", "240.0.0.0",
  "255.0.0.1", "255.255.255.254", "169.254.7.7", "10.0.0.1", "100::1", "::2", "::100:0:0", "::ffff:0:0", "fe80::1",
  "fe00::", "fd00::1", "64:ff9b::c000:207" }

local function each_source(of, call)
  for _, source in ipairs(of) do
    for _, proto in ipairs { "tcp", "udp" } do call(source, source:find ":" and 6 or 4, proto) end
  end
end

local function receive(p)
  local r = sw:receive(p)
  return { r.verdict, r.reason, r.unchanged }
end

--- A packet from there, to a VIP and to somebody else.
local function assert_receives(expected_vip, expected_other, source, family, proto, more)
  local ip = packets.with({ src = source }, more)
  local p = services.to("l2dsr", family, proto, { ip = ip, payload = "x" })
  local r = sw:receive(p)
  assert.same(expected_vip, { r.verdict, r.reason }, tostring(p))
  p = p:copy { ip = { dst = family == 4 and "203.0.113.200" or "2001:db8:f::1" } }
  assert.same(expected_other, receive(p), tostring(p))
end

describe("a source that can't be", function()
  for reason, sources in pairs(BOGUS) do
    it(("is dropped as %s, whoever the packet is for"):format(reason), function()
      each_source(sources, function(source, family, proto)
        assert_receives({ "drop", reason }, { "drop", reason, true }, source, family, proto)
      end)
    end)
  end

  it("is dropped behind VLAN tags, options and extension headers, in fragments and in other protocols", function()
    local function check(src, ip, given)
      local dst = packets[src:find ":" and "V6" or "V4"].dst
      given.ip = packets.with({ src = src, dst = dst }, ip)
      assert.same({ "drop", "bogus-loopback", true }, receive(packet(given)))
    end
    check("127.0.0.1", { options = ("\1"):rep(8) }, { udp = { dport = 80 }, vlan = { 7, 8 } })
    check("127.0.0.1", { offset = 64, proto = "udp" }, { payload = ("x"):rep(64) })
    check("127.0.0.1", {}, { icmp = { type = "echo-request" } })
    check("127.0.0.1", { proto = "gre" }, { payload = "x" })
    check("::1", { ext = { { type = "dst" } } }, { tcp = { dport = 80 }, vlan = 7 })
    check("::1", {}, { icmp6 = { type = "echo-request" } })
  end)

  it("is the destination", function()
    for _, address in ipairs { packets.V4.dst, packets.V6.dst, "203.0.113.9", "2001:db8:9::1" } do
      local p = packet { ip = { src = address, dst = address }, tcp = { dport = 80 } }
      assert.same({ "drop", "bogus-land", true }, receive(p))
    end
  end)

  it("is nobody, but for who asks for an address", function()
    local function from_nobody(dst, more) return packet(packets.with({ ip = { src = "0.0.0.0", dst = dst } }, more)) end
    local dhcp = from_nobody("255.255.255.255", { udp = { sport = 68, dport = 67 }, payload = ("x"):rep(240) })
    assert.same({ "pass", "not-vip", true }, receive(dhcp))
    assert.same({ "pass", "not-vip", true }, receive(dhcp:copy { vlan = { 7 }, ip = { options = "\1\1\1\1" } }))
    assert.same({ "drop", "bogus-zero", true }, receive(dhcp:copy { udp = { dport = 68 } }))
    assert.same({ "drop", "bogus-zero", true }, receive(dhcp:copy { ip = { src = "0.0.0.1" } }))
    local igmp = packet { ip = { src = "0.0.0.0", dst = "224.0.0.1", proto = 2 }, payload = "\x11" .. ("\0"):rep(7) }
    assert.same({ "pass", "other-protocol", true }, receive(igmp))
    local ping = from_nobody("198.51.100.10", { icmp = { type = "echo-request" } })
    assert.same({ "drop", "bogus-zero", true }, receive(ping))
  end)

  it("is unspecified, but for ICMPv6", function()
    local function unspecified(ip, more)
      return packet(packets.with({ ip = packets.with({ src = "::", dst = "ff02::1:ff00:7" }, ip) }, more))
    end
    local zero = { "drop", "bogus-zero", true }
    local detection = { icmp6 = { type = "neighbour-solicit", body = ("\0"):rep(16) } }
    assert.same({ "pass", "icmp", true }, receive(unspecified({ hop_limit = 255 }, detection)))
    local report = { icmp6 = { type = 143, body = ("\0"):rep(24) } } -- MLDv2, with a router alert
    local alert = { { type = "hop", data = "\5\2\0\0\1\0" } }
    local listeners = { dst = "ff02::16", ext = alert, hop_limit = 1 }
    assert.same({ "pass", "icmp", true }, receive(unspecified(listeners, report)))
    for _, ext in ipairs { {}, alert, { { type = "dst" }, { type = "dst" } } } do
      local vip = { dst = packets.V6.dst, ext = ext }
      for _, proto in ipairs { "tcp", "udp" } do
        assert.same(zero, receive(unspecified(vip, { [proto] = { dport = 80 } })))
      end
      assert.same(zero, receive(unspecified(packets.with(vip, { proto = "gre" }), { payload = "xxxx" })))
    end
    assert.same(zero, receive(unspecified({ dst = packets.V6.dst, ext = { { type = "fragment", mf = true } } },
      { udp = { dport = 80 }, payload = ("x"):rep(64) })))
  end)
end)

describe("a source beside those", function()
  it("is taken, of a VIP's packet and of others", function()
    each_source(SOUND, function(source, family, proto)
      assert_receives({ "tx", "forward" }, { "pass", "not-vip", true }, source, family, proto)
    end)
  end)
end)

describe("what a link's neighbours send", function()
  it("passes", function()
    local probe = "\0\1\8\0\6\4\0\1" .. ("\2"):rep(6) .. ("\0"):rep(10) .. "\192\0\2\7"
    assert.same({ "pass", "not-ip", true }, receive(packet { eth = { type = 0x0806 }, payload = probe }))
    for _, kind in ipairs { 130, 131, 133, 134, 135, 136, 143 } do -- MLD, discovery, MLDv2
      local p = packet { ip = { src = "fe80::7", dst = "ff02::1", hop_limit = 255 },
        icmp6 = { type = kind, body = ("\0"):rep(24) } }
      assert.same({ "pass", "icmp", true }, receive(p))
    end
    local solicit = packet { ip = { src = "fe80::7", dst = "ff02::1:2" }, udp = { sport = 546, dport = 547 } }
    assert.same({ "pass", "not-vip", true }, receive(solicit))
    local mdns = packet { ip = { src = "169.254.7.7", dst = "224.0.0.251" }, udp = { sport = 5353, dport = 5353 } }
    assert.same({ "pass", "not-vip", true }, receive(mdns))
  end)
end)

describe("an instance", function()
  local declare = balancer.declare
  local VIPS = { "198.51.100.10:80/tcp", "[2001:db8::10]:80/tcp", "198.51.100.11:1000-2000/udp" }
  local web = declare("web", { vips = VIPS, backends = { "10.99.0.1", "2001:db8:1::1" } })

  --- Runs the program in force: what it does, and the reason that it counted, which is one.
  local function sends(bal, p)
    local map <close> = bal:map "reasons"
    local function counts()
      local all = {}
      for index in map:pairs() do all[index] = map:sum(index) end
      return all
    end
    local before = counts()
    local verdict = bal:send(p)
    for index, count in pairs(counts()) do
      if count ~= before[index] then return verdict, count - before[index], sw.reasons[index] end
    end
    return verdict, 0
  end

  local function to(port, proto, ip)
    local family = ip.src:find ":" and 6 or 4
    local dst = family == 6 and "2001:db8::10" or proto == "udp" and "198.51.100.11" or "198.51.100.10"
    return packet { ip = packets.with({ dst = dst }, ip), [proto] = { dport = port } }
  end

  it("drops what comes from one VIP's address to another, as long as there are such VIPs", function()
    local bal <close> = balancer.new "bogus"
    assert(bal:apply { web })
    bal:reach()
    local other = declare("other", { vips = { "198.51.100.12:80/tcp", "[2001:db8::12]:80/tcp" },
      backends = { "10.99.0.1", "2001:db8:1::1" } })
    for _, p in ipairs { to(80, "tcp", { src = "198.51.100.12" }), to(80, "tcp", { src = "2001:db8::12" }),
      to(1500, "udp", { src = "198.51.100.12" }) } do
      assert(bal:apply { web })
      bal:reach()
      assert.equal(0, select(2, sends(bal, p))) -- to a backend
      assert(bal:apply { web, other })
      bal:reach()
      assert.same({ "drop", 1, "bogus-vip" }, { sends(bal, p) })
      bal:adopt()
      assert.same({ "drop", 1, "bogus-vip" }, { sends(bal, p) })
      assert(bal:apply { web })
      bal:reach()
      assert.equal(0, select(2, sends(bal, p)))
    end
    assert(bal:apply {})
    local marks <close> = bal:map "vip_marks"
    for _, word in ipairs(marks:get(0).word) do assert.equal(0, word) end
  end)

  for feature, family in pairs { v4 = 4, v6 = 6, deny4 = 4, deny6 = 6 } do
    it(("of %s alone judges that family, and counts each packet once"):format(feature), function()
      local features = require "tidegate.core.controller".features()
      local bal <close> = balancer.new("bogus-" .. feature, { features = features[feature] })
      local function check(expected, p) assert.same(expected, { sends(bal, p) }, tostring(p)) end
      for _, of in ipairs { 4, 6 } do
        local here = of == family
        local bogus = here and { "drop", 1, "bogus-loopback" } or { "pass", 1, "not-vip" }
        local icmp = here and feature:find "^v" and "icmp" or "not-vip"
        check(bogus, to(80, "tcp", { src = of == 4 and "127.0.0.1" or "::1" }))
        local plain = to(80, "udp", { src = packets["V" .. of].src })
        check({ "pass", 1, "not-vip" }, plain)
        check({ "pass", 1, here and "truncated" or "not-vip" }, plain:bytes():sub(1, 30))
        check({ "pass", 1, icmp }, packet { ip = packets["V" .. of],
          [of == 4 and "icmp" or "icmp6"] = { type = "echo-request" } })
      end
      check({ "pass", 1, "not-ip" }, packet { eth = { type = 0x0806 }, payload = ("\0"):rep(46) })
    end)
  end
end)
