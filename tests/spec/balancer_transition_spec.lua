-- SPDX-License-Identifier: GPL-2.0-only
--- Slots that move and backends that drain: what the controller makes of them, seen by packets through the
--- program in force. An idle time of 3 s makes epochs of 0.1 s.
local balancer = require "tests.helpers.balancer"
local controller = require "tidegate.core.controller"
local packets = require "tests.helpers.packets"

if balancer.refused() then
  pending("the balancer " .. balancer.refused())
  return
end

local A, B, C = "10.99.0.1", "10.99.0.2", "10.99.0.3"
local VIP = "198.51.100.10:443/tcp"
local IDLE = 3
local bal, events

--- The service has these backends: addresses or tables.
local function apply(backends, given)
  given = given or {}
  local spec = packets.with({ slots = 251, drain = 60, vips = { VIP }, backends = backends }, given)
  assert(bal:apply { balancer.declare("web", spec) })
  bal:reach()
end

local function drained(addr) return { addr = addr, admin = "drain" } end

local function packet(port, flags) return packets.tcp4 { tcp = { sport = port, dport = 443, flags = flags } } end
local function syn(port) return bal:send(packet(port, "S")) end
local function data(port) return bal:send(packet(port, "A")) end

--- Opens flows from these ports on; all at `addr`, if said.
local function open(first, last, addr)
  local flows = {}
  for port = first, last do
    flows[port] = syn(port)
    assert.equal(flows[port], data(port))
    if addr then assert.equal(addr, flows[port]) end
  end
  return flows
end

local function assert_stay(flows)
  for port, addr in pairs(flows) do assert.equal(addr, data(port), "port " .. port) end
end

local function backend(addr) return bal:service("web").backends[addr] end

--- How many slots move, and how many lead to nobody but `addr`.
local function moving() return bal:service("web").moving end

local function settled() return moving() == 0 end

local function wait_settled(seconds) bal:wait_for(seconds or 3 * IDLE, "settling", settled) end

describe("a service whose backends change", function()
  setup(function()
    bal = balancer.new "transition"
    controller.on_event(function(event) events[#events + 1] = event end)
    bal:tune(IDLE)
  end)
  teardown(function() bal:close() end)
  before_each(function()
    events = {}
    assert(bal:apply {})
  end)

  it("is steady at first: no slot moves, no flow is entered", function()
    apply { A, B }
    local before = controller.flows().entered
    open(1000, 1100)
    assert.equal(0, moving())
    assert.equal(before, controller.flows().entered)
  end)

  it("keeps its flows, and sends new ones to the backend that was added", function()
    apply { A }
    local old = open(1000, 1050, A)
    apply { A, B }
    assert_stay(old)
    local fresh, to_b = open(2000, 2100), 0
    for _, addr in pairs(fresh) do to_b = to_b + (addr == B and 1 or 0) end
    assert.is_true(to_b > 25 and to_b < 76, to_b .. " of 101")
    assert_stay(old)
    assert_stay(fresh)
  end)

  it("drains a backend: old flows stay, new ones go elsewhere, and when the old are silent it is told", function()
    apply { A, B }
    local flows = open(1000, 1100)
    apply { drained(A), B }
    assert_stay(flows)
    open(2000, 2100, B)
    for _ = 1, 2 * IDLE do
      tg.sleep(0.5)
      assert_stay(flows)
    end
    local at_a = 0
    for port, addr in pairs(flows) do
      if addr == A then at_a = at_a + 1 end
      if addr ~= A then flows[port] = nil end
    end
    bal:wait_for(2, "the report", function() return (backend(A).flows or 0) > 0 end)
    local report = backend(A)
    assert.is_true(math.abs(report.flows - at_a) <= at_a // 3, ("%d reported of %d"):format(report.flows, at_a))
    assert.is_true(math.abs(report.last_flow - os.time()) <= 2)
    assert.same({ 0, "drain", false }, { report.slots, report.state, report.drained })
    wait_settled()
    bal:wait_for(2, "the end of the drain", function() return backend(A).drained end)
    assert.same({ { name = "backend.drained", service = "web", backend = A, reason = "no flow is left" } }, events)
    assert.equal(0, backend(A).flows)
    for port in pairs(flows) do assert.equal(B, data(port)) end
  end)

  it("brings flows back to nobody: A to B to A", function()
    apply { A }
    local first = open(1000, 1050, A)
    apply { drained(A), B }
    local second = open(2000, 2050, B)
    apply { A, drained(B) }
    local third = open(3000, 3050, A)
    for _, flows in ipairs { first, second, third } do assert_stay(flows) end
    for _ = 1, 3 * IDLE do
      tg.sleep(0.5)
      for _, flows in ipairs { first, second, third } do assert_stay(flows) end
    end
    assert.is_true(moving() > 0 and moving() <= 51) -- B's flows hold their slots, the others have settled
    wait_settled()
    assert_stay(first)
    assert_stay(third)
  end)

  it("goes on with a third before the second has settled: A to B to C", function()
    apply { A }
    local first = open(1000, 1050, A)
    apply { drained(A), B }
    local second = open(2000, 2050, B)
    apply { drained(A), drained(B), C }
    local third = open(3000, 3050, C)
    for _ = 1, 3 * IDLE do
      for _, flows in ipairs { first, second, third } do assert_stay(flows) end
      tg.sleep(0.5)
    end
    wait_settled()
    assert_stay(third)
  end)

  it("loses the flows of a backend that dies, and no others", function()
    apply { A, B, C }
    local flows = open(1000, 1100)
    apply { { addr = A, admin = "maint" }, B, C }
    for port, addr in pairs(flows) do
      if addr == A then assert.not_equal(A, data(port)) else assert.equal(addr, data(port)) end
    end
    apply { A, B, C }
    for port, addr in pairs(flows) do
      if addr ~= A then assert.equal(addr, data(port)) end
    end
    local back = open(2000, 2100)
    local to_a = 0
    for _, addr in pairs(back) do to_a = to_a + (addr == A and 1 or 0) end
    assert.is_true(to_a > 10)
    assert_stay(back)
  end)

  it("cuts what is left at the end of `drain`", function()
    apply({ A, B }, { drain = 1 })
    local flows = open(1000, 1050)
    apply({ drained(A), B }, { drain = 1 })
    assert_stay(flows)
    tg.sleep(0.6)
    assert_stay(flows)
    bal:wait_for(2, "the cut", function() return #events > 0 end)
    assert.equal("backend.drained", events[1].name)
    assert.is_truthy(events[1].reason:match "^after 1 s")
    for port, addr in pairs(flows) do assert.equal(B, data(port), "port " .. port .. " was at " .. addr) end
  end)

  it("forgets a backend that is no longer declared when it has drained", function()
    apply { A, B }
    local flows = open(1000, 1050)
    apply { B }
    assert_stay(flows)
    assert.same({ "drain", true }, { backend(A).state, backend(A).leaves })
    bal:wait_for(4 * IDLE, "forgetting", function() return backend(A) == nil end)
    assert.equal("backend.drained", events[1].name)
    for port in pairs(flows) do assert.equal(B, data(port)) end
  end)

  it("takes a backend back that was leaving, with its flows", function()
    apply { A, B }
    local flows = open(1000, 1050)
    apply { B }
    apply { A, B }
    assert_stay(flows)
    assert.same({ "up", false }, { backend(A).state, backend(A).leaves })
    wait_settled()
    assert_stay(flows)
  end)

  it("cuts a backend that is told to go at once, also one that is leaving", function()
    apply { A, B }
    local flows = open(1000, 1050)
    apply { B }
    apply({ B }, { cut = { addr = A } })
    assert.is_nil(backend(A))
    for port in pairs(flows) do assert.equal(B, data(port)) end
  end)

  it("doesn't give the index of a backend to another while a slot names it", function()
    apply { A, B }
    local index
    for i, owner in pairs(bal:owners()) do if bal.names[i] == A and owner.owner.service ~= 0 then index = i end end
    open(1000, 1050)
    apply { B }
    for i = 10, 30 do
      apply { B, "10.99.0." .. i }
      assert.equal(A, bal.names[index])
    end
  end)

  it("moves no slot of a service that a later controller finds unchanged, and goes on with the others", function()
    apply { A, B }
    local flows = open(1000, 1050)
    apply { drained(A), B }
    local fresh = open(2000, 2050, B)
    local before = bal:words(0)
    bal:adopt()
    bal:tune(IDLE)
    apply { drained(A), B }
    local after = bal:words(0)
    for i, word in ipairs(before) do
      local old, new = bal.slot(word), bal.slot(after[i])
      assert.same({ old.home, old.next, old.moving }, { new.home, new.next, new.moving })
    end
    for _ = 1, 2 * IDLE do
      assert_stay(flows)
      assert_stay(fresh)
      tg.sleep(0.5)
    end
    wait_settled()
    assert_stay(fresh)
  end)

  it("says in lookup where a flow goes, and where it would if it began", function()
    local task = require "tidegate.task"
    local function lookup(port)
      local addr, _, fresh = task.await(balancer.core.lookup, "web", { client = packets.V4.src, port = port })
      return addr, fresh
    end
    apply { A }
    open(1000, 1010, A)
    assert.same({ A }, { lookup(1000) })
    apply { drained(A), B }
    open(2000, 2010, B)
    assert.same({ A, B }, { lookup(1000) })
    assert.same({ B }, { lookup(2000) })
  end)
end)
