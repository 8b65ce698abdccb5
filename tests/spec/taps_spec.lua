-- SPDX-License-Identifier: GPL-2.0-only
--- Taps of an instance, as mirrors and captures use them (core/taps.h): who has which, and what the programs know of
--- them. In a network namespace of the spec's own.
local in_netns = require "tests.helpers.in_netns"
local object = require "tests.helpers.object"

if object.refused() then
  pending("the datapath " .. object.refused())
  return
end

local NETNS = "tg-taps-" .. object.run "echo $PPID"

--- What each chunk begins with.
local PRELUDE = [[
  local balancer = require "tests.helpers.balancer"
  local controller = require "tidegate.core.controller"
  local taps = require "tidegate.core.taps"
  local task = require "tidegate.task"
  local F <const> = controller.features()
  local bal

  local function open(name)
    bal = balancer.new(name, { start = false, features = F.tap })
    return bal
  end
  local function start(tap, more)
    local how = { kind = "mirror", port = "v0", direction = "both", ifindex = 1 }
    for name, value in pairs(more or {}) do how[name] = value end
    return assert(taps.ready(tap, how)), assert(taps.start(tap))
  end
  --- The taps at work: of all, and of v0 in each direction.
  local function at_work()
    local ifindex = controller.ifindex "v0"
    local port = bal:map "ports":get(ifindex)
    return { bal:map "clock":get(0).taps, port and port.taps[1], port and port.taps[2] }
  end
]]

local function there(chunk, ...) return in_netns(NETNS, PRELUDE .. chunk, ...) end

setup(function()
  object.run("ip netns add " .. NETNS)
  object.run(("ip -n %s link add v0 type veth peer name p0"):format(NETNS))
end)
teardown(function() object.run("ip netns del " .. NETNS) end)

describe("taps", function()
  it("are 32, and whose they are is known by name and by what was asked", function()
    local numbers, refused, again, other = there [[
      local bal <close> = open "names"
      local numbers = {}
      for i = 1, 32 do numbers[i] = assert(taps.take("m" .. i, "asked")) end
      local refused = table.pack(taps.take("m33", "asked"))
      local again = table.pack(taps.take("m7", "asked"))
      taps.give_back(6)
      return numbers, refused, again, table.pack(taps.take("m7", "something else"))
    ]]
    assert.equal(32, #numbers)
    assert.is_true(refused[1] == nil and refused[2]:find "at most 32 mirrors and captures" ~= nil)
    assert.equal("ENOSPC", refused[3])
    assert.same({ 6, true }, { again[1], again[2] })
    assert.same({ 6, false }, { other[1], other[2] })
  end)

  it("are known to packets of their port and direction while they are at work", function()
    local before, one, both, after = there [[
      local bal <close> = open "work"
      assert(task.await(controller.attach_tc, "v0", "auto"))
      local a, b = taps.take("a", ""), taps.take("b", "")
      local before = at_work()
      start(a, { direction = "egress" })
      local one = at_work()
      start(b)
      local both = at_work()
      taps.stop(a)
      taps.give_back(b)
      return before, one, both, at_work()
    ]]
    assert.same({ { 0, 0, 0 }, { 1, 0, 1 }, { 3, 2, 3 }, { 0, 0, 0 } }, { before, one, both, after })
  end)

  it("end by themselves, and are then taken off their port", function()
    local running, ended, work, status = there [[
      local bal <close> = open "ends"
      assert(task.await(controller.attach_tc, "v0", "auto"))
      local a = taps.take("a", "")
      start(a, { seconds = 0.2, packets = 5 })
      local running = taps.status(a)
      task.sleep(0.25)
      return running, taps.look(), at_work(), taps.status(a)
    ]]
    assert.is_true(running.at_work and running.seconds_left > 0 and running.seconds_left <= 0.2)
    assert.equal(5, running.packets_left)
    assert.same({ 0 }, ended)
    assert.same({ 0, 0, 0 }, work)
    assert.is_false(status.at_work)
  end)

  it("go on without their daemon, and the next one finds those that it asks for", function()
    local kept, found, other, work = there [[
      local bal <close> = open "adopt"
      assert(task.await(controller.attach_tc, "v0", "auto"))
      start(taps.take("a", "this"), { seconds = 60 })
      start(taps.take("b", "that"), { seconds = 60 })
      bal:adopt { start = false, features = F.tap }
      local tap, kept = taps.take("b", "that")
      local found = taps.status(tap)
      taps.forget_others()
      return { tap, kept }, found, taps.status(0), at_work()
    ]]
    assert.same({ 1, true }, kept)
    assert.is_true(found.at_work and found.seconds_left > 50)
    assert.is_false(other.at_work)
    assert.same({ 2, 2, 2 }, work)
  end)

  it("count their starts, and count anew", function()
    local first, second = there [[
      local bal <close> = open "starts"
      local a = taps.take("a", "")
      local first = start(a, { packets = 1 })
      return first, (start(a))
    ]]
    assert.equal(first + 1, second)
  end)
end)
