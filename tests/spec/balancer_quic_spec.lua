-- SPDX-License-Identifier: GPL-2.0-only
--- QUIC services: what the balancer makes of server IDs for the datapath, and of what it adopts.
local balancer = require "tests.helpers.balancer"

if balancer.refused() then
  pending("the balancer " .. balancer.refused())
  return
end

local DRAFT <const> = { offset = 1, length = 2, config = 0 }
local bal

local function web(backends, more)
  local given = { slots = 251, quic = DRAFT, vips = { "198.51.100.10:443/udp" }, backends = backends }
  for key, value in pairs(more or {}) do given[key] = value end
  return balancer.declare("web", given)
end

local function server(addr, id) return { addr = addr, quic_id = id } end

--- Whose each server ID is, as the maps say: { ["11"] = "10.99.0.1", ["11 v6"] = "2001:db8:…" } (last words).
local function servers()
  local map <close>, found, owners = bal:map "quic_servers", {}, bal:owners()
  for key, index in map:pairs() do
    local addr = owners[index].entry.addr
    found[key.id .. (key.v6 == 1 and " v6" or "")] = key.v6 == 1 and addr[4] or addr[1] & 0xff
  end
  return found
end

local function layout()
  local map <close> = bal:map "quic"
  local found = {}
  for _, one in map:pairs() do
    if one.length > 0 then found[#found + 1] = { one.offset, one.length, one.mask, one.value } end
  end
  return found
end

local function flags(map_name)
  local map <close>, found = bal:map(map_name or "vips4"), {}
  for key, value in map:pairs() do if key.port ~= 0 then found[key.proto] = value.flags end end
  return found
end

describe("a QUIC service", function()
  setup(function() bal = balancer.new "quic" end)
  teardown(function() bal:close() end)
  before_each(function() assert(bal:apply {}) end)

  it("has its server IDs in the map, by family, and its UDP VIPs marked", function()
    assert(bal:apply { web({ server("10.99.0.1", 11), server("10.99.0.2", 12), server("2001:db8:1::1", 11) }, {
      vips = { "198.51.100.10:443/udp", "198.51.100.10:443/tcp", "[2001:db8::10]:443/udp" },
      quic = { offset = 2, length = 3, config = 5 } }) })
    assert.same({ ["11"] = 1, ["12"] = 2, ["11 v6"] = 1 }, servers())
    assert.same({ { 2, 3, 0xe0, 0xa0 } }, layout())
    assert.same({ [17] = 8, [6] = 0 }, flags())
    assert.same({ [17] = 8 }, flags "vips6")
    local status = bal:service "web"
    assert.same({ { offset = 2, length = 3, config = 5 }, 12 }, { status.quic, status.backends["10.99.0.2"].quic_id })
  end)

  it("has no more of them than it has backends, also when IDs change hands", function()
    assert(bal:apply { web { server("10.99.0.1", 11), server("10.99.0.2", 12) } })
    assert(bal:apply { web { server("10.99.0.1", 12), server("10.99.0.2", 11) } })
    assert.same({ ["12"] = 1, ["11"] = 2 }, servers())
    assert(bal:apply { web { server("10.99.0.1", 12), server("10.99.0.3", 11) } })
    assert.same({ ["12"] = 1, ["11"] = 3 }, servers())
    assert(bal:apply { web { server("10.99.0.3", 13) } })
    assert.same({ ["13"] = 3 }, servers())
    assert(bal:apply {})
    assert.same({}, servers())
  end)

  it("may become one, and cease to be", function()
    local function plain() local one = web { server("10.99.0.1", 11) } one.quic = nil return one end
    assert(bal:apply { plain() })
    assert.same({ {}, { [17] = 0 }, {} }, { servers(), flags(), layout() })
    assert(bal:apply { web { server("10.99.0.1", 11) } })
    assert.same({ { ["11"] = 1 }, { [17] = 8 }, { { 1, 2, 0xe0, 0 } } }, { servers(), flags(), layout() })
    assert(bal:apply { plain() })
    assert.same({ {}, { [17] = 0 }, {} }, { servers(), flags(), layout() })
  end)

  it("is adopted as it is, without what a daemon left that died", function()
    assert(bal:apply { web { server("10.99.0.1", 11), server("10.99.0.2", 12) } })
    local before = bal:dump()
    bal:leave()
    do
      local map <close> = bal:map "quic_servers"
      assert(map:set({ service = 9, id = 11, v6 = 0 }, 1))
      assert(map:set({ service = 0, id = 99, v6 = 0 }, 30000))
    end
    bal:adopt()
    assert.equal(before, bal:dump())
    assert.same({ ["11"] = 1, ["12"] = 2 }, servers())
    local status = bal:service "web"
    assert.same({ DRAFT, 11, 12 },
      { status.quic, status.backends["10.99.0.1"].quic_id, status.backends["10.99.0.2"].quic_id })
    assert(bal:apply { web { server("10.99.0.2", 11) } })
    assert.same({ ["11"] = 2 }, servers())
  end)

  it("marks its ranges too", function()
    assert(bal:apply { web({ server("10.99.0.1", 11) }, { vips = { "198.51.100.10:400-500/udp" } }) })
    local ranges <close> = bal:map "ranges"
    local found = {}
    for _, one in ranges:pairs() do if one.proto == 17 then found[#found + 1] = one.vip.flags end end
    assert.same({ 8 }, found)
  end)
end)

it("a program without the feature refuses a QUIC service", function()
  local plain <close> = balancer.new("quic-less", { features = 7 })
  local ok, why, code = plain:apply { web { server("10.99.0.1", 11) } }
  assert.same({ nil, "the program has no feature for QUIC: specialise it first", "EINVAL" }, { ok, why, code })
  assert(plain:apply { balancer.declare("web", { slots = 251, vips = { "198.51.100.10:1-2/udp" }, backends = {} }) }
    == nil)
end)
