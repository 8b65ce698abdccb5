-- SPDX-License-Identifier: GPL-2.0-only
--- Backends that die, revive and are not known yet: what of it the rings and events say.
local balancer = require "tests.helpers.balancer"
local controller = require "tidegate.core.controller"
local task = require "tidegate.task"

if balancer.refused() then
  pending("the balancer " .. balancer.refused())
  return
end

local VIP <const> = "198.51.100.10:443/tcp"
local bal, events

--- A backend whose check `key` is reported by the spec.
local function backend(addr, key, more)
  local check = { key = key or addr, type = "external", interval = 1, timeout = 1, rise = 2, fall = 3 }
  local given = { addr = addr, check = check }
  for name, value in pairs(more or {}) do given[name] = value end
  return given
end

local function apply(...)
  local services = {}
  for name, backends in pairs { ... } do
    services[#services + 1] = balancer.declare("s" .. name, { slots = 251, backends = backends,
      vips = { ("198.51.100.10:%d/tcp"):format(name) } })
  end
  assert(bal:apply(services))
end

local function fail(key, times)
  for _ = 1, times or 1 do bal:report(key, false, "connection refused") end
end
local function pass(key, times)
  for _ = 1, times or 1 do bal:report(key, true) end
end

--- { state, health } of a backend, and whether it has slots.
local function state(addr, service)
  local found = bal:service(service or "s1").backends[addr]
  return { found.state, found.health, found.slots > 0 }
end

describe("a checked backend", function()
  setup(function()
    bal = balancer.new "health"
    controller.on_event(function(event)
      events[#events + 1] = ("%s %s %s: %s"):format(event.name, event.service, event.backend, event.reason)
    end)
  end)
  teardown(function() bal:close() end)
  before_each(function()
    assert(bal:apply {})
    events = {}
  end)

  it("of a new service serves until its first result, which decides", function()
    apply { backend "10.99.0.1", backend "10.99.0.2", backend "10.99.0.3" }
    assert.same({ "up", "unknown", true }, state "10.99.0.1")
    pass "10.99.0.1"
    fail "10.99.0.2"
    assert.same({ "up", "up", true }, state "10.99.0.1")
    assert.same({ "down", "down", false }, state "10.99.0.2")
    assert.same({ "up", "unknown", true }, state "10.99.0.3")
    assert.same({ "backend.down s1 10.99.0.2: connection refused" }, events)
  end)

  it("falls after `fall` failures, rises after `rise` successes, and is told of each time", function()
    apply { backend "10.99.0.1", backend "10.99.0.2" }
    pass "10.99.0.1"
    fail("10.99.0.1", 2)
    assert.same({ "up", "up", true }, state "10.99.0.1")
    fail "10.99.0.1"
    assert.same({ "down", "down", false }, state "10.99.0.1")
    assert.equal(251, bal:service("s1").backends["10.99.0.2"].slots)
    pass "10.99.0.1"
    assert.same({ "down", "down", false }, state "10.99.0.1")
    pass "10.99.0.1"
    assert.same({ "up", "up", true }, state "10.99.0.1")
    assert.same({ "backend.down s1 10.99.0.1: connection refused", "backend.up s1 10.99.0.1: check passed" }, events)
  end)

  it("that is added to a running service waits for its first success", function()
    apply { backend "10.99.0.1" }
    pass "10.99.0.1"
    apply { backend "10.99.0.1", backend "10.99.0.2" }
    assert.same({ "down", "unknown", false }, state "10.99.0.2")
    assert.equal("added, and not checked yet", bal:service("s1").backends["10.99.0.2"].reason)
    pass "10.99.0.2"
    assert.same({ "up", "up", true }, state "10.99.0.2")
    assert.same({ "backend.up s1 10.99.0.2: check passed" }, events)
    apply { backend "10.99.0.1", backend "10.99.0.2", backend "10.99.0.3" }
    fail "10.99.0.3"
    assert.same({ "down", "down", false }, state "10.99.0.3")
  end)

  it("keeps its history while its check is the same, whatever else changes", function()
    apply { backend "10.99.0.1", backend "10.99.0.2" }
    pass "10.99.0.1"
    fail("10.99.0.1", 2)
    apply { backend("10.99.0.1", nil, { weight = 3 }), backend "10.99.0.2" }
    fail "10.99.0.1"
    assert.same({ "down", "down", false }, state "10.99.0.1")
    assert.equal(3, bal:service("s1").backends["10.99.0.1"].checks_failed)
  end)

  it("whose check is replaced stays up if it was, and stays out until a success if it was not", function()
    apply { backend "10.99.0.1", backend "10.99.0.2" }
    pass "10.99.0.1"
    fail("10.99.0.2", 3)
    apply { backend("10.99.0.1", "new1"), backend("10.99.0.2", "new2") }
    assert.same({ "up", "up", true }, state "10.99.0.1")
    assert.same({ "down", "unknown", false }, state "10.99.0.2")
    fail "new1"
    pass "new2"
    assert.same({ "up", "up", true }, state "10.99.0.1")
    assert.same({ "up", "up", true }, state "10.99.0.2")
  end)

  it("is up when its check goes, and serves on when one comes", function()
    apply { backend "10.99.0.1", backend "10.99.0.2" }
    fail "10.99.0.1"
    apply { "10.99.0.1", backend "10.99.0.2" }
    assert.same({ "up", "unchecked", true }, state "10.99.0.1")
    apply { backend "10.99.0.1", backend "10.99.0.2" }
    assert.same({ "up", "up", true }, state "10.99.0.1")
  end)

  it("shares its check with the same backend of other services", function()
    apply({ backend("10.99.0.1", "shared"), "10.99.0.9" }, { backend("10.99.0.1", "shared"), "10.99.0.9" })
    pass "shared"
    fail("shared", 3)
    assert.same({ "down", "down", false }, state("10.99.0.1", "s1"))
    assert.same({ "down", "down", false }, state("10.99.0.1", "s2"))
    table.sort(events)
    assert.same({ "backend.down s1 10.99.0.1: connection refused",
      "backend.down s2 10.99.0.1: connection refused" }, events)
    assert(bal:apply({ balancer.declare("s3", { slots = 251, vips = { VIP },
      backends = { backend("10.99.0.1", "shared") } }) }))
    assert.same({ "down", "down", false }, state("10.99.0.1", "s3")) -- what is known counts for a new service, too
  end)

  it("leaves the ring to backups when it is the last, and takes it back", function()
    apply { backend "10.99.0.1", { addr = "10.99.0.2", backup = true } }
    assert.same({ "up", "unchecked", false }, state "10.99.0.2")
    fail "10.99.0.1"
    assert.same({ "up", "unchecked", true }, state "10.99.0.2")
    pass("10.99.0.1", 2)
    assert.same({ "up", "unchecked", false }, state "10.99.0.2")
  end)

  it("leaves no home in the ring when nobody else lives", function()
    apply { backend "10.99.0.1" }
    fail "10.99.0.1"
    assert.equal(0, bal:service("s1").backends["10.99.0.1"].slots)
    for _, home in ipairs(bal:ring(0)) do assert.equal(0, home) end
  end)

  it("in drain or maint has no slots, and its health goes on", function()
    apply { backend("10.99.0.1", nil, { admin = "drain" }), backend("10.99.0.2", nil, { admin = "maint" }),
      "10.99.0.3" }
    fail "10.99.0.1"
    assert.same({ "drain", "down", false }, state "10.99.0.1")
    assert.same({ "maint", "unknown", false }, state "10.99.0.2")
  end)

  it("costs one build of its ring, however many die with it", function()
    local many = {}
    for i = 1, 1000 do many[i] = backend(("10.98.%d.%d"):format(i >> 8, i & 255)) end
    many[1001] = "10.99.0.1"
    assert(bal:apply { balancer.declare("s1", { vips = { VIP }, backends = many }) })
    local start = task.now()
    for i = 1, 1000 do balancer.core.report(many[i].addr, false, "gone", 0) end
    local service = bal:service "s1"
    assert.equal(service.ring4, service.backends["10.99.0.1"].slots)
    local took = task.now() - start
    assert.is_true(took < 1, took .. " s") -- 1,000 builds of 5 ms and more each, otherwise
  end)

  it("leaves the ring within fall × interval + timeout", function()
    local check = { key = "real", type = "tcp", port = 1, interval = 0.1, timeout = 0.05, rise = 1, fall = 3 }
    assert(bal:apply { balancer.declare("s1", { slots = 251, vips = { VIP },
      backends = { "10.99.0.1", { addr = "127.0.0.1", port = 1 } } }) }) -- nobody listens there
    assert.same({ "up", "unchecked", true }, state "127.0.0.1")
    assert(bal:apply { balancer.declare("s1", { slots = 251, vips = { VIP },
      backends = { "10.99.0.1", { addr = "127.0.0.1", port = 1, check = check } } }) })
    tg.sleep(0.4) -- 0.35 s and some margin for a busy machine
    assert.same({ "down", "down", false }, state "127.0.0.1")
    assert.is_true(bal:service("s1").backends["127.0.0.1"].checks_failed >= 3)
    assert.same({ "backend.down s1 127.0.0.1:1: connection refused" }, events)
  end)
end)
