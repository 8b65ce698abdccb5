-- SPDX-License-Identifier: GPL-2.0-only
--- VIPs that are ranges of ports: what the balancer makes of them for the datapath, and of what it adopts.
local address = require "tidegate.address"
local addrs = require "tidegate.packet.addr"
local balancer = require "tests.helpers.balancer"
local controller = require "tidegate.core.controller"
local task = require "tidegate.task"

if balancer.refused() then
  pending("the balancer " .. balancer.refused())
  return
end

local declare = balancer.declare
local bal

local function apply(...) return assert(bal:apply({ ... })) end

local KINDS = { "vip", "vip", "back", "back" }

--- The table in force, in order: "198.51.100.10:1-79/tcp a" a VIP's interval, "10.99.0.1:1-79/tcp < a" a way back.
local function intervals()
  local table_map <close> = bal:map "range_table"
  local ranges <close> = bal:map "ranges"
  local services <close> = bal:map "services"
  local names = {}
  for index, info in services:pairs() do names[index] = info.name end
  local found, in_force = {}, table_map:get(0)
  for i = 1, in_force.half[in_force.current + 1].count do
    local one = ranges:get(in_force.current * 16384 + i - 1)
    local v6 = one.kind == 2 or one.kind == 4
    local addr = addrs.ip_text(string.pack(">I4I4I4I4", table.unpack(one.addr)):sub(1, v6 and 16 or 4))
    local text = address.format_vip { addr = addr, port = one.ports.first, last = one.ports.last,
      proto = one.proto == 6 and "tcp" or "udp" }
    local back = KINDS[one.kind] == "back"
    found[i] = ("%s %s%s"):format(text, back and "< " or "", names[(back and one.reverse or one.vip).service])
  end
  table.sort(found)
  return found
end

local function vips(name)
  local list = {}
  for i, vip in ipairs(bal:service(name).vips) do list[i] = address.format_vip(vip) end
  table.sort(list)
  return list
end

describe("VIPs that are ranges", function()
  setup(function() bal = balancer.new "ranges" end)
  teardown(function() bal:close() end)
  before_each(function() apply() end)

  it("are intervals of which the narrowest range has the port", function()
    apply(
      declare("all", { slots = 251, vips = { "198.51.100.10:1-65535/tcp", "198.51.100.10:1-65535/udp" },
        backends = { "10.99.0.1" } }),
      declare("some", { slots = 251, vips = { "198.51.100.10:8000-8099/tcp" }, backends = { "10.99.0.2" } }),
      declare("few", { slots = 251, vips = { "198.51.100.10:8000-8001/tcp", "198.51.100.10:8090-8099/tcp" },
        backends = { "10.99.0.3" } }),
      declare("six", { slots = 251, vips = { "[2001:db8::10]:8000-8099/tcp" }, backends = { "2001:db8:1::1" } }))
    assert.same({
      "198.51.100.10:*/udp all", "198.51.100.10:1-7999/tcp all", "198.51.100.10:8000-8001/tcp few",
      "198.51.100.10:8002-8089/tcp some", "198.51.100.10:8090-8099/tcp few", "198.51.100.10:8100-65535/tcp all",
      "[2001:db8::10]:8000-8099/tcp six",
    }, intervals())
    apply()
    assert.same({}, intervals())
  end)

  it("bring ways back in nat, of the backends of their family", function()
    apply(declare("a", { mode = "nat", slots = 251, vips = { "198.51.100.10:8000-8099/tcp" },
      backends = { "10.99.0.1", "10.99.0.2", "2001:db8:1::1" } }))
    assert.same({ "10.99.0.1:8000-8099/tcp < a", "10.99.0.2:8000-8099/tcp < a", "198.51.100.10:8000-8099/tcp a" },
      intervals())
    apply(declare("a", { slots = 251, vips = { "198.51.100.10:8000-8099/tcp" }, backends = { "10.99.0.1" } }))
    assert.same({ "198.51.100.10:8000-8099/tcp a" }, intervals())
  end)

  it("take over ports of a backend that leaves another service, in nat", function()
    local function service(name, at, backends)
      local one = declare(name, { mode = "nat", slots = 251, vips = at, backends = backends })
      one.drain = 300
      return one
    end
    local function exact_ways()
      local map <close>, ports = bal:map "reverse4", {}
      for key in map:pairs() do
        ports[#ports + 1] = ("%d.%d:%d"):format(key.addr >> 8 & 255, key.addr & 255, key.port)
      end
      table.sort(ports)
      return table.concat(ports, " ")
    end
    local both = { "198.51.100.10:80/tcp", "198.51.100.10:8000-8099/tcp" }
    apply(service("a", both, { "10.99.0.1", "10.99.0.2" }))
    apply(service("a", both, { "10.99.0.2" })) -- 10.99.0.1 leaves, and its flows go on
    assert.same({ "10.99.0.1:8000-8099/tcp < a", "10.99.0.2:8000-8099/tcp < a", "198.51.100.10:8000-8099/tcp a" },
      intervals())
    assert.equal("0.1:80 0.2:80", exact_ways())
    apply(service("a", both, { "10.99.0.2" }),
      service("b", { "198.51.100.11:8050-8149/tcp", "198.51.100.11:70-90/tcp" }, { "10.99.0.1" }))
    assert.same({ "10.99.0.1:70-90/tcp < b", "10.99.0.1:8050-8149/tcp < b", "10.99.0.2:8000-8099/tcp < a",
      "198.51.100.10:8000-8099/tcp a", "198.51.100.11:70-90/tcp b", "198.51.100.11:8050-8149/tcp b" }, intervals())
    assert.equal("0.2:80", exact_ways())
  end)

  it("are as declared to the next daemon, and nothing is written then", function()
    apply(
      declare("all", { slots = 251, vips = { "198.51.100.10:1-65535/tcp", "198.51.100.11:80/tcp" },
        backends = { "10.99.0.1" } }),
      declare("some", { mode = "nat", slots = 251, vips = { "198.51.100.10:8000-8099/tcp" },
        backends = { "10.99.0.2" } }))
    local before, dump = intervals(), bal:dump()
    local map <close> = bal:map "range_table"
    local current = map:get(0).current
    bal:adopt()
    assert.same({ before, dump, current }, { intervals(), bal:dump(), map:get(0).current })
    assert.same({ "198.51.100.10:*/tcp", "198.51.100.11:80/tcp" }, vips "all")
    assert.same({ "198.51.100.10:8000-8099/tcp" }, vips "some")
  end)

  it("are put right by the next daemon where one died in an apply", function()
    apply(declare("a", { slots = 251, vips = { "198.51.100.10:8000-8099/tcp" }, backends = { "10.99.0.1" } }),
      declare("gone", { slots = 251, vips = { "198.51.100.10:8010-8019/tcp" }, backends = { "10.99.0.2" } }))
    bal:leave()
    local services <close> = bal:map "services"
    for index, info in services:pairs() do
      if info.name == "gone" then assert(services:set(index, {})) end
    end
    bal:adopt()
    assert.same({ "198.51.100.10:8000-8099/tcp a" }, intervals())
  end)

  it("have their address entered beside them, and taken away with the last", function()
    local function entries() local n = 0 for _ in pairs(bal:entries "vips4") do n = n + 1 end return n end
    apply(declare("a", { slots = 251, vips = { "198.51.100.10:8000-8099/tcp" }, backends = { "10.99.0.1" } }))
    assert.equal(1, entries())
    apply(declare("a", { slots = 251, vips = { "198.51.100.10:80/tcp" }, backends = { "10.99.0.1" } }))
    assert.equal(2, entries())
    apply(declare("a", { slots = 251, vips = { "198.51.100.10:80-81/tcp" }, backends = { "10.99.0.1" } }))
    assert.equal(1, entries())
    bal:adopt()
    assert.equal(1, entries())
    apply()
    assert.equal(0, entries())
  end)

  it("are written once for many changes, and not at all where nothing changes", function()
    local map <close> = bal:map "range_table"
    local function web(weight)
      return declare("a", { slots = 251, vips = { "198.51.100.10:8000-8099/tcp" },
        backends = { { addr = "10.99.0.1", weight = weight } } })
    end
    apply(web(1))
    local current = map:get(0).current
    apply(web(2))
    apply(web(3), declare("b", { slots = 251, vips = { "198.51.100.11:80/tcp" }, backends = { "10.99.0.2" } }))
    assert.equal(current, map:get(0).current)
  end)

  it("leave no packet without a backend while they change", function()
    local function state(n)
      return {
        declare("all", { slots = 251, vips = { "198.51.100.10:1-65535/tcp" }, backends = { "10.99.0.1" } }),
        declare("some", { slots = 251, backends = { "10.99.0.2" },
          vips = { ("198.51.100.10:%d-%d/tcp"):format(8000 - n % 3, 8099 + n % 5) } }),
        n % 2 == 0 and declare("one", { slots = 251, vips = { "198.51.100.10:8042/tcp" }, backends = { "10.99.0.3" } })
          or declare("few", { slots = 251, vips = { "198.51.100.10:8040-8049/tcp" }, backends = { "10.99.0.3" } }),
      }
    end
    assert(bal:apply(state(0)))
    local frames, program <close> = {}, assert(tg.prog.open(bal.dir .. "/program"))
    for i, port in ipairs { 1, 7999, 8000, 8042, 8045, 8099, 8100, 65535 } do
      frames[i] = tg.packet { ip = { src = "192.0.2.7", dst = "198.51.100.10" }, tcp = { dport = port } }:bytes()
    end
    local before, sent, done = controller.reasons(), 0, false
    local changes = tg.spawn(function()
      for n = 1, 60 do assert(bal:apply(state(n))) end
      done = true
    end)
    while not done do
      for _, frame in ipairs(frames) do assert(program:run(frame)) end
      sent = sent + #frames
      tg.sleep(0)
    end
    changes:join()
    local after = controller.reasons()
    assert.is_true(sent > 1000)
    assert.same({ sent, 0, 0, 0 }, { after.unresolved - before.unresolved, after["not-vip"] - before["not-vip"],
      after["no-backend"] - before["no-backend"], after["no-ring"] - before["no-ring"] })
  end)

  it("that overlap in part, or are the same, are refused", function()
    local function pair(a, b)
      return { declare("a", { slots = 251, vips = { a }, backends = { "10.99.0.1" } }),
        declare("b", { slots = 251, vips = { b }, backends = { "10.99.0.2" } }) }
    end
    for _, other in ipairs { "198.51.100.10:8050-8149/tcp", "198.51.100.10:8000-8099/tcp" } do
      local ok, why, code = bal:apply(pair("198.51.100.10:8000-8099/tcp", other))
      assert.same({ nil, "two VIPs are the same range of ports, or overlap in part", "EINVAL" }, { ok, why, code })
    end
    assert.same({}, intervals())
  end)

  it("are refused when there is no room for them and their ways back", function()
    local list, backends = {}, {}
    for i = 1, 200 do list[i] = ("198.51.100.10:%d-%d/tcp"):format(i * 10, i * 10 + 4) end
    for i = 1, 81 do backends[i] = "10.99.0." .. i end
    local ok, why, code = bal:apply { declare("a", { mode = "nat", slots = 251, vips = list, backends = backends }) }
    assert.is_nil(ok)
    assert.equal("16400 port ranges, in nat one more for each backend: there is room for 16384", why)
    assert.equal("ENOSPC", code)
    table.remove(backends)
    apply(declare("a", { mode = "nat", slots = 251, vips = list, backends = backends }))
    assert.equal(16200, #intervals())
  end)
end)

describe("lookup", function()
  setup(function()
    bal = balancer.new "range-lookup"
    apply(
      declare("all", { slots = 251, vips = { "198.51.100.10:1-65535/tcp" }, backends = { "10.99.0.1" } }),
      declare("some", { slots = 251, backends = { "10.99.0.2" },
        vips = { "198.51.100.11:53/udp", "198.51.100.10:8000-8099/tcp", "198.51.100.12:53/tcp" } }),
      declare("one", { slots = 251, vips = { "198.51.100.10:8042/tcp" }, backends = { "10.99.0.3" } }))
  end)
  teardown(function() bal:close() end)

  local function look(service, vip, port, proto)
    local found, why, code = task.await(balancer.core.lookup, service,
      { client = "192.0.2.7", port = 40000, vip = vip, vip_port = port, proto = proto })
    return found or code, why
  end

  it("is told which of the VIPs a flow is for", function()
    assert.equal("10.99.0.2", (look("some")))
    assert.equal("10.99.0.2", (look("some", nil, nil, "udp")))
    assert.equal("10.99.0.2", (look("some", "198.51.100.12")))
    assert.equal("10.99.0.2", (look("some", nil, 8000)))
    assert.equal("ENOENT", (look("some", "198.51.100.12", nil, "udp")))
    assert.equal("ENOENT", (look("some", "198.51.100.10", 8100)))
    assert.equal("10.99.0.1", (look("all", nil, 8100)))
  end)

  it("asks which port of a range", function()
    assert.same({ "EINVAL", 'service "all" has a VIP of ports 1 to 65535: which port is the flow for?' },
      { look "all" })
  end)

  it("names the service that has a port of the range", function()
    assert.same({ "ENOENT", 'port 8001 belongs to service "some", whose VIP is narrower' }, { look("all", nil, 8001) })
    assert.same({ "ENOENT", 'port 8042 belongs to service "one", whose VIP is narrower' }, { look("some", nil, 8042) })
  end)
end)
