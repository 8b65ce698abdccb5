-- SPDX-License-Identifier: GPL-2.0-only
--- What a controller leaves running, the next one takes over as it is.
local balancer = require "tests.helpers.balancer"
local controller = require "tidegate.core.controller"
local object = require "tests.helpers.object"
local task = require "tidegate.task"

if balancer.refused() then
  pending("the balancer " .. balancer.refused())
  return
end

local V4 <const>, V6 <const> = "198.51.100.10:443/tcp", "[2001:db8::10]:443/tcp"
local bal

local function web(weight)
  return balancer.declare("web", { mode = "nat", vips = { V4, V6 }, slots = 1021, fail = "pass", backends = {
    "10.99.0.1", { addr = "10.99.0.2", port = 8080, weight = weight or 3, admin = "drain" },
    { addr = "10.99.0.3", check = { key = "k", type = "external", interval = 1, timeout = 1, rise = 2, fall = 2 } },
    { addr = "2001:db8:1::1", backup = true } } })
end

local function dns()
  return balancer.declare("dns", { vips = { "198.51.100.10:53/udp" }, slots = 251, backends = { "10.99.0.1" } })
end

local function program_id()
  return object.run(("bpftool prog show pinned %s/program | head -1 | cut -d: -f1"):format(bal.dir))
end

describe("a controller that starts", function()
  before_each(function()
    bal = balancer.new "adopt"
    assert(bal:apply { web(), dns() })
    bal:settle()
  end)
  after_each(function() bal:close() end)

  it("takes over what runs without a write, and an apply of the same makes none", function()
    local before, program = bal:dump(), program_id()
    bal:adopt()
    assert.is_true(bal.opened.adopted)
    assert.equal(before, bal:dump())
    assert(bal:apply { web(), dns() })
    assert.equal(before, bal:dump())
    assert.equal(program, program_id())
  end)

  it("knows services, VIPs, weights and states again", function()
    bal:report("k", true)
    bal:report("k", false, "x")
    bal:report("k", false, "x")
    local since = bal:service("web").backends["10.99.0.3"].since
    bal:adopt()
    local found = bal:service "web"
    assert.same({ "nat", "pass", 1021, 1021, 1021, 2 },
      { found.mode, found.fail, found.slots, found.ring4, found.ring6, #found.vips })
    local drained = found.backends["10.99.0.2"]
    assert.same({ "drain", 3, 8080 }, { drained.admin, drained.weight, drained.port })
    assert.same({ "down", since }, { found.backends["10.99.0.3"].state, found.backends["10.99.0.3"].since })
    assert.is_true(found.backends["2001:db8:1::1"].backup)
    assert(bal:apply { web() })
    assert.equal("down", bal:service("web").backends["10.99.0.3"].state)
    bal:report("k", true)
    assert.equal("down", bal:service("web").backends["10.99.0.3"].state) -- rise is 2, as if it had not been away
    bal:report("k", true)
    assert.equal("up", bal:service("web").backends["10.99.0.3"].state)
  end)

  it("keeps counters", function()
    local index
    for i, found in pairs(bal:owners()) do
      if found.entry.addr[1] == 10 << 24 | 99 << 16 | 1 and found.owner.service == 1 then index = i end
    end
    do
      local counters <close> = bal:map "backend_counters"
      local values = counters:get(index)
      for _, value in ipairs(values) do value.packets, value.bytes = 7, 700 end
      assert(counters:set(index, values))
    end
    local count = bal:service("web").backends["10.99.0.1"].packets
    assert.is_true(count >= 7)
    bal:adopt()
    assert(bal:apply { web(5) })
    assert.equal(count, bal:service("web").backends["10.99.0.1"].packets)
  end)

  it("clears up after one that died in an apply", function()
    local before = bal:dump()
    bal:leave()
    do
      local vips <close>, key = bal:map "vips4", { addr = 1, port = 1, proto = 6 }
      assert(vips:set(key, { ring = 7, slots = 3, service = 77 }))
      assert(vips:set({ addr = 1, port = 0, proto = 0 }, { service = 4096, flags = 0x10 }))
      for vip, value in vips:pairs() do
        value.ring, value.slots = 99, 3
        if value.service ~= 77 then assert(vips:set(vip, value)) end
      end
      local stray = bal.dir .. "/rings/99"
      object.run(("bpftool map create %s type array key 4 value 8 entries 3 name r flags 0x1400"):format(stray))
      local owners <close> = bal:map "backend_owners"
      assert(owners:set(1000, { service = 78, weight = 1 }))
      local reverse <close> = bal:map "reverse4"
      assert(reverse:set(key, { addr = 2, port = 2, service = 77, backend = 9 }))
    end
    assert.not_equal(before, bal:dump())
    bal:adopt()
    assert.equal(before, bal:dump())
  end)

  it("replaces the program when its seed changes, and keeps it otherwise", function()
    local seed, program = ("0123456789abcdef"), program_id()
    bal:adopt()
    assert.equal(program, program_id())
    bal:adopt { seed = seed }
    assert.not_equal(program, program_id())
    program = program_id()
    bal:adopt { seed = seed }
    assert.equal(program, program_id())
    bal:adopt()
    assert.equal(program, program_id())
  end)

  it("refuses to be opened twice, and calls before it is open", function()
    assert.error_matches(function() controller.open(bal.instance) end, "open already")
    bal:leave()
    assert.error_matches(function() controller.start() end, "no instance is open")
    assert.error_matches(function() task.await(balancer.core.status) end, "no instance is open")
    assert.error_matches(function() controller.links() end, "no instance is open")
    assert(controller.open(bal.instance))
    bal.open = true
    assert.error_matches(function() controller.start() end, "not specialised")
  end)

  it("refuses pins that are not its own", function()
    bal:leave()
    local stranger = "spec-stranger-" .. object.run "echo $PPID"
    local pin = ("/sys/fs/bpf/tidegate/%s/maps/x"):format(stranger)
    object.run(("mkdir -p $(dirname %s) && bpftool map create %s type array key 4 value 4 entries 1 name x"):format(
      pin, pin))
    local opened, why, code = controller.open(stranger)
    local unloaded, _, unload_code = controller.unload(stranger)
    object.run(("rm -r /sys/fs/bpf/tidegate/%s"):format(stranger))
    assert.is_nil(opened)
    assert.matches("holds pins that are not this instance's", why)
    assert.same({ "EEXIST", "EEXIST" }, { code, unload_code })
    assert.is_nil(unloaded)
    bal:adopt()
  end)
end)
