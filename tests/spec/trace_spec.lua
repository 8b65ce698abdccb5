-- SPDX-License-Identifier: GPL-2.0-only
--- tg.trace on an instance of this spec's own. That it says what the live program does, and changes nothing,
--- is tests/fuzz's to show, on random packets.
local balancer = require "tests.helpers.balancer"
local packets = require "tests.helpers.packets"
local running = require "tidegate.running"

if balancer.refused() then
  pending("the datapath " .. balancer.refused())
  return
end

local V4 <const>, V6 <const> = "198.51.100.10:443/tcp", "[2001:db8:1::10]:443/tcp"
local SYN <const> = "tcp 192.0.2.7:40000 > 198.51.100.10:443 S"
local declare = balancer.declare
local bal

local function apply(...) return assert(bal:apply({ ... })) end

--- Gives each backend a next hop by the device lo, by which packets come in, too.
local function resolve()
  local map <close> = bal:map "backends"
  for index, known in pairs(bal:owners()) do
    local entry = known.entry
    entry.hop[entry.current + 1] = { ifindex = 1, dmac = { 2, 0, 0, 0, 1, index }, smac = { 2, 0, 0, 0, 0, 255 } }
    assert(map:set(index, entry))
  end
end

--- Lets each slot of the service move from one backend (of these addresses) to another.
local function move_slots(vip, from, to)
  local index = {}
  for i, known in pairs(bal:owners()) do
    index[require("tidegate.packet.addr").ip_text(string.pack(">I4", known.entry.addr[1]))] = i
  end
  local vips <close> = bal:map "vips4"
  local path = ("%s/rings/%d"):format(bal.dir, vips:get(vip).ring)
  local ring <close> = assert(tg.map.open(path, { key = "u32", value = "u64" }))
  for slot = 0, 6 do assert(ring:set(slot, index[from] | index[to] << 32 | 1 << 63)) end
end

--- The step of a trace that consulted this table.
local function step(trace, name)
  for _, found in ipairs(trace.steps) do if found.table == name then return found end end
end

local function tables(trace)
  local names = {}
  for i, found in ipairs(trace.steps) do names[i] = found.table end
  return table.concat(names, " ")
end

describe("what a trace says of a rewrite", function()
  local changes = require("tidegate.trace.text").changes

  it("is each field that differs", function()
    local p = packets.tcp4()
    local q = p:copy { ip = { dst = "10.0.0.11", ttl = 63 }, tcp = { dport = 8080 } }
    local fields = {}
    for _, change in ipairs(changes(tg.packet.parse(p:bytes()), tg.packet.parse(q:bytes()))) do
      fields[change.field] = { change.from, change.to }
    end
    assert.same({ "198.51.100.10", "10.0.0.11" }, fields["ip.dst"])
    assert.same({ { 64, 63 }, { 443, 8080 } }, { fields["ip.ttl"], fields["tcp.dport"] })
    assert.is_nil(fields["eth.dst"])
    assert.is_nil(fields["ip.src"])
  end)

  it("is the outer packet, where that carries it untouched", function()
    local p = packets.tcp6 { vlan = 7, trailer = "pad" }
    local inside = packets.ip_bytes(packets.tcp6())
    local outer = tg.packet { vlan = 7, eth = { dst = "02:00:00:00:01:01" }, payload = inside,
      ip = { src = "10.9.8.7", dst = "10.0.0.11", proto = "ip6" } }
    assert.same({ { field = "eth.dst", from = "02:00:00:00:00:02", to = "02:00:00:00:01:01" },
      { field = "eth.type", from = 0x86dd, to = 0x0800 },
      { field = "outer", to = "ip 10.9.8.7 > 10.0.0.11 proto 41 vlan 7" } },
      changes(tg.packet.parse(p:bytes()), tg.packet.parse(outer:bytes())))
  end)
end)

describe("each reason of the datapath", function()
  it("has a meaning", function()
    local file <close> = assert(io.open "bpf/reasons.h")
    local reasons, count = require "tidegate.trace.reasons", 0
    for name in file:read("a"):match("TG_PASS_REASONS%(X%)(.-)\nenum tg_reason"):gmatch 'X%([%u%d_]+, "(.-)"%)' do
      count = count + 1
      assert.is_string(reasons[name], ("%s: lua/tidegate/trace/reasons.lua has a line for each"):format(name))
    end
    assert.is_true(count > 20)
  end)
end)

describe("tg.trace", function()
  setup(function()
    bal = balancer.new("trace", { features = 3 }) -- no nat yet
    running.ports.lo = { name = "lo", ifindex = 1 }
    running.ports.gone0 = { name = "gone0" }
    apply(declare("web", { vips = { V4, V6 }, slots = 7, backends = { "198.18.0.1", "2001:db8:ffff::1" } }),
      declare("idle", { vips = { "198.51.100.11:80/tcp" }, slots = 7,
        backends = { { addr = "198.18.0.2", weight = 0 } } }),
      declare("moves", { vips = { "198.51.100.12:80/tcp" }, slots = 7, backends = { "198.18.0.3", "198.18.0.4" } }))
    resolve()
  end)
  teardown(function()
    running.ports = {}
    bal:close()
  end)

  it("names each table, its key, what was found, the rewrite and the verdict", function()
    local trace = assert(tg.trace("lo", SYN))
    assert.same({ "tx", "forward", "lo" }, { trace.verdict, trace.reason, trace.port })
    assert.equal("vips rings backends", tables(trace))
    local vip = step(trace, "vips")
    assert.same({ V4, true, "web", "l2dsr", 7 }, { vip.key, vip.hit, vip.service, vip.mode, vip.slots })
    local slot = step(trace, "rings")
    assert.same({ "198.18.0.1", "up", 0 }, { slot.home, slot.home_state, slot.t })
    assert.matches("^ring %d+, slot [0-6]$", slot.key)
    assert.same({ "198.18.0.1", "lo" }, { step(trace, "backends").backend, step(trace, "backends").device })
    assert.same({ "eth.dst", "eth.src" }, { trace.changes[1].field, trace.changes[2].field })
    assert.equal(trace.changes[1].to, step(trace, "backends").dmac)
    assert.equal(SYN, tostring(trace.packet))
  end)

  it("speaks IPv6", function()
    local trace = assert(tg.trace("lo", packets.tcp6()))
    assert.same({ "tx", V6, "2001:db8:ffff::1" },
      { trace.verdict, step(trace, "vips").key, step(trace, "backends").backend })
  end)

  it("says why a packet goes nowhere", function()
    local miss = assert(tg.trace("lo", "udp 192.0.2.7 > 198.51.100.10:443"))
    assert.same({ "pass", "not-vip", false }, { miss.verdict, miss.reason, step(miss, "vips").hit })
    assert.same({}, miss.changes)
    local idle = assert(tg.trace("lo", "tcp 192.0.2.7 > 198.51.100.11:80"))
    assert.same({ "drop", "no-backend", "none" }, { idle.verdict, idle.reason, step(idle, "rings").home })
    assert.same({ "not-ip", 0 }, { tg.trace("lo", packets.tcp4({ eth = { type = 0x0806 } })).reason,
      #tg.trace("lo", packets.tcp4({ eth = { type = 0x0806 } })).steps })
  end)

  it("tells of a slot that moves, and that a new flow would be entered", function()
    move_slots({ addr = 0xc633640c, port = 80, proto = 6 }, "198.18.0.3", "198.18.0.4")
    local syn = assert(tg.trace("lo", "tcp 192.0.2.7 > 198.51.100.12:80 S"))
    local slot = step(syn, "rings")
    assert.same({ "198.18.0.3", "198.18.0.4", 1 }, { slot.home, slot.next, slot.t })
    assert.equal("vips rings lines lines backends", tables(syn))
    assert.same({ false, true, "198.18.0.4", "198.18.0.4" },
      { syn.steps[3].hit, syn.steps[4].hit, syn.steps[4].enters, syn.steps[5].backend })
    local later = assert(tg.trace("lo", "tcp 192.0.2.7 > 198.51.100.12:80 A"))
    assert.equal("vips rings lines backends", tables(later)) -- it was not entered
    assert.equal("198.18.0.3", later.steps[4].backend)
  end)

  it("takes text, bytes in hexadecimal, layers, packets, and packets without an Ethernet header", function()
    local expected = assert(tg.trace("lo", SYN))
    local p = tg.packet(SYN)
    local without = p:copy { eth = false }
    for _, given in ipairs { p, p:hex(), p:hex():gsub("..", "%0 "), without,
      { ip = { src = "192.0.2.7", dst = "198.51.100.10" }, tcp = { dport = 443 } } } do
      assert.same(expected.steps, assert(tg.trace("lo", given)).steps)
    end
  end)

  it("takes a packet of several buffers", function()
    for _, size in ipairs { 1500, 9000, 60000 } do
      local trace, why = tg.trace("lo", packets.tcp4 { payload = size })
      assert.same({ "tx", size }, { trace and trace.verdict or why, trace and #trace.packet.payload })
    end
  end)

  it("keeps apart what is asked at the same time", function()
    local jobs = {}
    for i = 1, 40 do
      jobs[i] = tg.spawn(function() return assert(tg.trace("lo", ("tcp 192.0.2.7 > 203.0.113.%d:80"):format(i))) end)
    end
    for i, job in ipairs(jobs) do
      local ran, trace = job:join()
      assert.is_true(ran)
      assert.same({ { table = "vips", key = ("203.0.113.%d:80/tcp"):format(i), hit = false } }, trace.steps)
    end
  end)

  it("says what is not even looked at", function()
    local await, controller = require("tidegate.task").await, require "tidegate.core.controller"
    assert(await(controller.specialise, 1))
    local trace = assert(tg.trace("lo", packets.tcp6()))
    assert.same({ "pass", "not-vip", 0 }, { trace.verdict, trace.reason, #trace.steps })
    assert(await(controller.specialise, 3))
  end)

  it("follows the program when that is specialised anew", function()
    assert.is_nil(step(tg.trace("lo", "tcp 192.0.2.7 > 203.0.113.1:80"), "reverse"))
    assert(require("tidegate.task").await(require("tidegate.core.controller").specialise, balancer.ALL))
    assert.is_false(step(tg.trace("lo", "tcp 192.0.2.7 > 203.0.113.1:80"), "reverse").hit)
  end)

  it("refuses what it can't read, and names the ports that there are", function()
    assert.error_matches(function() tg.trace("eth7", SYN) end, 'no port "eth7" %(ports: gone0, lo%)')
    assert.error_matches(function() tg.trace(7, SYN) end, "tg.trace: port: 7 given, a string expected")
    assert.error_matches(function() tg.trace("lo", "tcp nonsense") end, "tcp SOURCE > DESTINATION")
    assert.error_matches(function() tg.trace("lo", "0102") end, "14 bytes at least, this one 2")
    assert.error_matches(function() tg.trace("lo") end, "a table of layers, or text")
    local none, message, code = tg.trace("gone0", SYN)
    assert.same({ "port gone0: no such device in this network namespace", "ENODEV" }, { message, code }, none)
  end)

  it("says that there is nothing to ask", function()
    bal:leave()
    local none, message, code = tg.trace("lo", SYN)
    assert.same({ "nothing is in force yet: there is no datapath to ask", "EAGAIN" }, { message, code }, none)
  end)
end)
