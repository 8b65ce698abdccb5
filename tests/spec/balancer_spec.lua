-- SPDX-License-Identifier: GPL-2.0-only
--- The balancer's state and the maps that packets see, driven through the controller's binding.
local balancer = require "tests.helpers.balancer"
local object = require "tests.helpers.object"

if balancer.refused() then
  pending("the balancer " .. balancer.refused())
  return
end

local declare = balancer.declare
local bal

local V4 <const>, V6 <const> = "198.51.100.10:443/tcp", "[2001:db8::10]:443/tcp"

--- `count` addresses of 10.99/16.
local function addresses(count, first)
  local list = {}
  for i = 1, count do
    local n = (first or 0) + i
    list[i] = ("10.99.%d.%d"):format(n >> 8, n & 255)
  end
  return list
end

local function apply(...)
  return assert(bal:apply({ ... }))
end

--- What the map of VIPs says of an address, a port and the number of a protocol.
local function vip_entry(address, port, proto)
  local map <close> = bal:map(address:find ":" and "vips6" or "vips4")
  local addr = require "tidegate.packet.addr"
  local words = { string.unpack((">I4"):rep(address:find ":" and 4 or 1), addr.ip(address).bytes) }
  words[#words] = nil
  return map:get { addr = #words == 1 and words[1] or words, port = port, proto = proto }
end

local function vip_value(text)
  local vip = balancer.vip(text)
  return vip_entry(vip.addr, vip.port, vip.proto == "tcp" and 6 or 17)
end

--- Slots of each backend's address in the ring that a VIP leads to.
local function shares(text)
  local value, owners, count = vip_value(text), bal:owners(), {}
  local ring = bal:ring(value.ring)
  assert.equal(value.slots, #ring)
  for _, home in ipairs(ring) do
    local addr = owners[home] and owners[home].entry.addr[1] or 0
    count[addr] = (count[addr] or 0) + 1
  end
  return count, #ring
end

local function word(addr)
  local a, b, c, d = addr:match "^(%d+)%.(%d+)%.(%d+)%.(%d+)$"
  return tonumber(a) << 24 | tonumber(b) << 16 | tonumber(c) << 8 | tonumber(d)
end

local function pins(what) return object.run(("ls %s/%s | wc -l"):format(bal.dir, what)) end

describe("the balancer", function()
  setup(function() bal = balancer.new "balancer" end)
  teardown(function() bal:close() end)
  before_each(function() apply() end)

  it("gives a service a ring for each family and its backends slots by weight", function()
    apply(declare("web", { vips = { V4, V6 }, slots = 1021,
      backends = { "10.99.0.1", { addr = "10.99.0.2", weight = 2 }, { addr = "10.99.0.3", weight = 0 },
        "2001:db8:1::1" } }))
    local count, size = shares(V4)
    assert.equal(1021, size)
    assert.near(1021 / 3, count[word "10.99.0.1"], 5)
    assert.near(2 * 1021 / 3, count[word "10.99.0.2"], 5)
    assert.is_nil(count[word "10.99.0.3"])
    assert.equal(1021, shares(V6)[0x20010db8])
    local web = bal:service "web"
    assert.same({ 1021, 1021 }, { web.ring4, web.ring6 })
    assert.equal(count[word "10.99.0.1"], web.backends["10.99.0.1"].slots)
    assert.equal(1021, web.backends["2001:db8:1::1"].slots)
    assert.same({ 0, 0 }, { vip_value(V4).mode, vip_value(V4).fail })
  end)

  it("takes everything away again", function()
    local empty = bal:dump()
    apply(declare("web", { vips = { V4, V6 }, mode = "nat", backends = { "10.99.0.1", "2001:db8:1::1" } }))
    apply()
    assert.equal("", (empty:gsub("backends [^\n]*\n?", "")))
    assert.equal("", (bal:dump():gsub("backends [^\n]*\n?", "")))
    assert.equal("0", pins "rings")
  end)

  it("keeps nat's way back, by endpoint", function()
    local dns = "198.51.100.10:53/udp"
    apply(declare("dns", { mode = "nat", vips = { dns, V6 },
      backends = { { addr = "10.99.0.1", port = 5353 }, "2001:db8:1::1" } }))
    local map <close> = bal:map "reverse4"
    local value = map:get { addr = word "10.99.0.1", port = 5353, proto = 17 }
    assert.same({ word "198.51.100.10", 53 }, { value.addr, value.port })
    assert.equal(word "10.99.0.1", bal:owners()[value.backend].entry.addr[1])
    assert.equal(vip_value(dns).service, value.service)
    local map6 <close> = bal:map "reverse6"
    assert.equal(443, map6:get { addr = { 0x20010db8, 0x10000, 0, 1 }, port = 443, proto = 6 }.port)
  end)

  it("drops the way back when the mode becomes l2dsr, and makes it when it becomes nat", function()
    local function web(mode) return declare("web", { mode = mode, vips = { V4 }, backends = { "10.99.0.1" } }) end
    apply(web "nat")
    local service, ring = vip_value(V4).service, vip_value(V4).ring
    apply(web "l2dsr")
    assert.same({}, bal:entries "reverse4")
    assert.same({ 0, service, ring }, { vip_value(V4).mode, vip_value(V4).service, vip_value(V4).ring })
    apply(web "nat")
    assert.equal(1, vip_value(V4).mode)
    assert.not_same({}, bal:entries "reverse4")
  end)

  it("moves a VIP from one service to another", function()
    local other = "198.51.100.11:443/tcp"
    apply(declare("a", { vips = { V4, other }, backends = { "10.99.0.1" } }),
      declare("b", { vips = { "198.51.100.12:1/tcp" }, backends = { "10.99.0.2" } }))
    apply(declare("a", { vips = { other }, backends = { "10.99.0.1" } }),
      declare("b", { vips = { "198.51.100.12:1/tcp", V4 }, backends = { "10.99.0.2" } }))
    assert.is_truthy(shares(V4)[word "10.99.0.2"])
    assert.is_truthy(shares(other)[word "10.99.0.1"])
    apply(declare("a", { vips = { other, V4 }, backends = { "10.99.0.1" } }),
      declare("b", { vips = { "198.51.100.12:1/tcp" }, backends = { "10.99.0.2" } }))
    assert.is_truthy(shares(V4)[word "10.99.0.1"])
  end)

  it("moves nat's endpoints between services with their VIP", function()
    apply(declare("a", { mode = "nat", vips = { V4 }, backends = { "10.99.0.1" } }),
      declare("b", { mode = "nat", vips = { "198.51.100.12:1/tcp" }, backends = { "10.99.0.2" } }))
    apply(declare("a", { mode = "nat", vips = { "198.51.100.12:1/tcp" }, backends = { "10.99.0.2" } }),
      declare("b", { mode = "nat", vips = { V4 }, backends = { "10.99.0.1" } }))
    local map <close> = bal:map "reverse4"
    local value = map:get { addr = word "10.99.0.1", port = 443, proto = 6 }
    assert.equal(vip_value(V4).service, value.service)
    assert.is_not_nil(map:get { addr = word "10.99.0.2", port = 1, proto = 6 })
  end)

  it("keeps an entry for each address that has VIPs, as long as it has one", function()
    local function entry(address) return vip_entry(address, 0, 0) end
    local second = "198.51.100.10:53/udp"
    apply(declare("a", { vips = { V4, V6 }, backends = { "10.99.0.1", "2001:db8:1::1" } }),
      declare("b", { vips = { second }, backends = { "10.99.0.2" } }))
    for _, address in ipairs { "198.51.100.10", "2001:db8::10" } do
      assert.same({ 0, 4096, 0x10 }, { entry(address).slots, entry(address).service, entry(address).flags })
    end
    assert.is_nil(entry "198.51.100.11")
    apply(declare("b", { vips = { second }, backends = { "10.99.0.2" } }))
    assert.is_not_nil(entry "198.51.100.10")
    assert.is_nil(entry "2001:db8::10")
    apply(declare("b", { vips = { "198.51.100.12:53/udp" }, backends = { "10.99.0.2" } }))
    assert.is_nil(entry "198.51.100.10")
    assert.is_not_nil(entry "198.51.100.12")
    apply()
    assert.is_nil(entry "198.51.100.12")
    assert.same({}, bal:entries "vips4")
  end)

  it("renames a service", function()
    apply(declare("old", { vips = { V4 }, backends = { "10.99.0.1" } }))
    apply(declare("new", { vips = { V4 }, backends = { "10.99.0.1" } }))
    assert.is_nil(bal:service "old")
    assert.is_truthy(shares(V4)[word "10.99.0.1"])
    assert.equal("1", pins "rings")
  end)

  it("replaces a ring whose size changes and drops one whose family goes", function()
    apply(declare("web", { slots = 251, vips = { V4, V6 }, backends = { "10.99.0.1", "2001:db8:1::1" } }))
    apply(declare("web", { slots = 509, vips = { V4, V6 }, backends = { "10.99.0.1", "2001:db8:1::1" } }))
    assert.equal(509, shares(V4)[word "10.99.0.1"])
    assert.equal("2", pins "rings")
    apply(declare("web", { slots = 509, vips = { V4 }, backends = { "10.99.0.1" } }))
    assert.equal("1", pins "rings")
    assert.equal(0, bal:service("web").ring6)
  end)

  it("makes a ring of 100 slots a backend, and keeps its size while they come and go", function()
    apply(declare("web", { vips = { V4 }, backends = addresses(656) }))
    assert.equal(65609, bal:service("web").ring4) -- the next prime from 65,600
    apply(declare("web", { vips = { V4 }, backends = addresses(10) }))
    assert.equal(65609, bal:service("web").ring4)
    apply(declare("dns", { vips = { "198.51.100.53:53/udp" }, backends = addresses(10) }))
    for count, size in pairs { [656] = 65537, [2621] = 65537 } do
      apply(declare("dns", { vips = { "198.51.100.53:53/udp" }, backends = addresses(count) }))
      assert.equal(size, bal:service("dns").ring4)
    end
  end)

  it("makes a ring anew, though flows move, when its backends have a quarter of that", function()
    apply(declare("web", { vips = { V4 }, backends = addresses(10) }))
    assert.equal(65537, bal:service("web").ring4)
    apply(declare("web", { vips = { V4 }, backends = addresses(2630) }))
    assert.equal(263009, bal:service("web").ring4) -- the next prime from 263,000
  end)

  it("gives 1,000 backends of weight 100 slots in proportion", function()
    local backends = {}
    for i, addr in ipairs(addresses(1000)) do backends[i] = { addr = addr, weight = 100 } end
    apply(declare("web", { vips = { V4 }, backends = backends }))
    local least, most = math.huge, 0
    for _, backend in ipairs(bal:service("web").backends) do
      least, most = math.min(least, backend.slots), math.max(most, backend.slots)
    end
    assert.is_true(least >= 99 and most <= 102, ("%d to %d"):format(least, most))
  end)

  it("doesn't use a backend's index again at once", function()
    apply(declare("web", { vips = { V4 }, backends = { "10.99.0.1" } }))
    local before = next(bal:owners())
    apply(declare("web", { vips = { V4 }, backends = { "10.99.0.2" } }))
    local after = next(bal:owners())
    assert.not_equal(before, after)
    apply(declare("web", { vips = { V4 }, backends = { "10.99.0.3" } }))
    assert.not_equal(before, next(bal:owners()))
  end)

  it("touches nothing where nothing changes, and nothing of others", function()
    local function both(weight)
      return declare("a", { mode = "nat", vips = { V4 },
        backends = { "10.99.0.1", { addr = "10.99.0.2", weight = weight } } }),
        declare("b", { vips = { V6 }, backends = { "2001:db8:1::1" } })
    end
    apply(both(1))
    local before = bal:dump()
    apply(both(1))
    assert.equal(before, bal:dump())
    assert(bal:apply({ declare("b", { vips = { V6 }, fail = "pass", backends = { "2001:db8:1::1" } }) }, true))
    assert.is_not_nil(bal:service "a")
    apply(both(1))
    assert.equal(before, bal:dump())
  end)
end)

describe("what is unsound or too much", function()
  setup(function() bal = balancer.new "limits" end)
  teardown(function() bal:close() end)

  local before
  local function web()
    return declare("web", { mode = "nat", vips = { V4, V6 }, backends = { "10.99.0.1", "2001:db8:1::1" } })
  end
  local function empty(name, port, given)
    given = given or {}
    return declare(name, { slots = given.slots or 251, mode = given.mode, backends = {},
      vips = { ("198.51.100.20:%d/tcp"):format(port) } })
  end
  before_each(function()
    apply(web())
    before = bal:dump()
  end)

  local function refused(message, ...)
    local rings = pins "rings"
    local ok, why, code = bal:apply({ ... })
    assert.is_nil(ok)
    assert.matches(message, why)
    assert.equal(before, bal:dump())
    assert.equal(rings, pins "rings")
    return code
  end

  it("is refused: too many backends", function()
    assert.equal("ENOSPC", refused("32768 new backends, and room for 3276%d: an instance holds 32767",
      declare("big", { slots = 251, vips = { "198.51.100.20:1/tcp" }, backends = addresses(32768) })))
  end)

  it("is refused: too many VIPs of a family", function()
    local vips = {}
    for i = 1, 8192 do vips[i] = ("198.51.100.20:%d/tcp"):format(i) end
    assert.equal("ENOSPC", refused("8193 IPv4 VIPs, those that go in the same step included: there is room for 8192",
      declare("big", { slots = 251, vips = vips, backends = { "10.99.0.1" } })))
  end)

  it("is refused: too many endpoints of nat's backends", function()
    local vips = {}
    for i = 1, 66 do vips[i] = ("198.51.100.20:%d/tcp"):format(i) end
    assert.equal("ENOSPC", refused("66001 IPv4 endpoints of nat's backends.*room for 65536",
      declare("big", { mode = "nat", slots = 251, vips = vips, backends = addresses(1000) })))
  end)

  it("is refused: too many services", function()
    local services = {}
    for i = 1, 4096 do services[i] = empty("s" .. i, i) end
    assert.equal("ENOSPC", refused('service "s4096": there is room for 4096 services', table.unpack(services)))
  end)

  it("is refused: a service twice, a size that is no prime, a bad check", function()
    refused('"x" is declared twice', empty("x", 1), empty("x", 1))
    refused("slots 65536: must be a prime", empty("x", 1, { slots = 65536 }))
    refused('service "x": backend 10.99.0.1: check: timeout 2 s: must not exceed the interval 1 s',
      declare("x", { vips = { "198.51.100.20:1/tcp" }, backends = { { addr = "10.99.0.1",
        check = { key = "k", type = "tcp", port = 80, interval = 1, timeout = 2 } } } }))
  end)

  it("leaves no map behind, also when rings were made before it failed", function()
    local function maps() return tonumber(object.run "bpftool map show | grep -c '^[0-9]*:'") end
    local rings = {}
    for i = 1, 3 do rings[i] = empty("r" .. i, i) end
    local other = ("%s/rings/7"):format(bal.dir) -- in the way of a ring: a directory can't be removed by unlink
    object.run("mkdir " .. other)
    local many = {}
    for i = 1, 8 do many[i] = empty("r" .. i, i) end
    local ok, why = bal:apply(many, true)
    object.run("rmdir " .. other)
    assert.is_nil(ok)
    assert.matches("can't make a ring of 251 slots: File exists", why)
    assert.equal(before, bal:dump())
    assert.equal("2", pins "rings")
    local start = maps()
    for _ = 1, 3 do
      assert(bal:apply(rings, true))
      apply(web())
    end
    tg.sleep(0.1)
    assert.is_true(maps() <= start + 3, "maps leak") -- others use maps at the same time
  end)
end)
