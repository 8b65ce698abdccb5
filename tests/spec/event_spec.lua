-- SPDX-License-Identifier: GPL-2.0-only
local event = require "tidegate.event"
local task = require "tidegate.task"

--- An owner whose handlers end with the test.
local owner

local function on(pattern, fn, options)
  local handler
  task.start({ owner = owner, name = "test" }, function() handler = event.on(pattern, fn, options) end):join()
  return handler
end

local function emit(...)
  for _, name in ipairs { ... } do event.emit { name = name } end
end

local function names(list)
  local result = {}
  for i, ev in ipairs(list) do result[i] = ev.name end
  return result
end

before_each(function() owner = task.owner("test", { parent = task.root() }) end)
after_each(function() owner:cancel() end)

describe("a handler", function()
  it("gets the events that its pattern matches, each as a task", function()
    local got = {}
    on("policy.*", function(ev)
      task.sleep(0.001)
      got[#got + 1] = ev.name
    end)
    emit("policy.drop", "backend.down", "policyXdrop", "policy.accept")
    task.sleep(0.05)
    assert.same({ "policy.drop", "policy.accept" }, got)
  end)

  it("may be for names with a dash, and for all", function()
    local got = {}
    on("syn-*", function(ev) got[#got + 1] = ev.name end)
    on("*", function(ev) got[#got + 1] = "all " .. ev.name end)
    emit("syn-surge", "other")
    task.sleep(0.01)
    assert.same({ "syn-surge", "all syn-surge", "all other" }, got)
  end)

  it("gets no more once it is cancelled", function()
    local count = 0
    local handler = on("x", function() count = count + 1 end)
    emit "x"
    handler:cancel()
    emit "x"
    task.sleep(0.01)
    assert.equal(1, count)
    assert.is_false(event.wanted "x")
  end)

  it("that is slow loses what is beyond its bound, and that is counted", function()
    local go_on, count = false, 0
    local handler = on("x", function()
      while not go_on do task.sleep(0.001) end
      count = count + 1
    end)
    for _ = 1, event.TASKS + 10 do emit "x" end
    assert.equal(10, handler.lost)
    assert.equal(10, event.lost()[handler.name])
    go_on = true
    task.sleep(0.1)
    assert.equal(event.TASKS, count)
    emit "x"
    task.sleep(0.01)
    assert.equal(event.TASKS + 1, count)
  end)
end)

describe("a handler with a batch", function()
  it("gets what came, in one list", function()
    local lists = {}
    on("*", function(list) lists[#lists + 1] = names(list) end, { batch = 0.05 })
    emit("a", "b")
    event.emit_all { { name = "c" }, { name = "d" } }
    assert.same({}, lists)
    task.sleep(0.15)
    assert.same({ { "a", "b", "c", "d" } }, lists)
    emit "e"
    task.sleep(0.15)
    assert.same({ "e" }, lists[2])
    assert.is_nil(lists[3])          -- where nothing came, nothing is delivered
  end)

  it("gets it before its time when there is much", function()
    local sizes = {}
    on("*", function(list) sizes[#sizes + 1] = #list end, { batch = 3600 })
    local list = {}
    for i = 1, event.BATCH do list[i] = { name = "x" } end
    event.emit_all(list)
    task.sleep(0.01)
    assert.same({ event.BATCH }, sizes)
  end)

  it("gets one list at a time, and loses what its queue has no room for", function()
    local go_on, sizes = false, {}
    local handler = on("*", function(list)
      while not go_on do task.sleep(0.001) end
      sizes[#sizes + 1] = #list
    end, { batch = 0.001 })
    emit "x"
    task.sleep(0.05)
    local list = {}
    for i = 1, event.QUEUE + 7 do list[i] = { name = "x" } end
    event.emit_all(list)
    assert.equal(7, handler.lost)
    task.sleep(0.05)
    assert.same({}, sizes)
    go_on = true
    task.sleep(0.1)
    assert.same({ 1, event.QUEUE }, sizes)
  end)

  it("gets nothing after the end of its owner", function()
    local count = 0
    on("*", function() count = count + 1 end, { batch = 0.01 })
    emit "x"
    owner:cancel()
    task.sleep(0.05)
    assert.equal(0, count)
  end)

  it("is refused a time that is none", function()
    for _, batch in ipairs { 0, -1, "soon", true } do
      local ok, message = pcall(event.on, "x", print, { batch = batch })
      assert.is_false(ok)
      assert.matches("tg.on x.batch", message)
    end
  end)
end)

describe("the log of packets", function()
  local packet_event = require "tidegate.packet_event"
  local recent = require("tidegate.core.log").recent

  local function ev(more)
    local result = {
      name = "policy.drop", port = "eth0", direction = "ingress", proto = "tcp", src = "203.0.113.7", sport = 4242,
      dst = "192.0.2.1", dport = 23, flags = "S", length = 60, rule = "telnet", line = "web.lua:12", sample = 1,
    }
    for key, value in pairs(more or {}) do result[key] = value end
    return result
  end

  it("says of a packet what it is, and by which rule", function()
    assert.equal("policy.drop eth0 ingress: tcp 203.0.113.7:4242 > 192.0.2.1:23 S, 60 bytes, rule telnet (web.lua:12)",
      packet_event.text(ev()))
    assert.equal("policy.drop eth0 ingress: icmp6 2001:db8::1 > 2001:db8::2 type 128, 60 bytes, audit, one of 8",
      packet_event.text { name = "policy.drop", port = "eth0", direction = "ingress", proto = "icmp6",
        src = "2001:db8::1", dst = "2001:db8::2", icmp_type = 128, length = 60, audit = true, sample = 8 })
    assert.equal("policy.accept ? egress: udp [2001:db8::1]:53 > [2001:db8::2]:99, 60 bytes",
      packet_event.text { name = "policy.accept", direction = "egress", proto = "udp", src = "2001:db8::1", sport = 53,
        dst = "2001:db8::2", dport = 99, length = 60, sample = 1 })
  end)

  it("has ten lines a second, and then how many more there were", function()
    local list = {}
    for i = 1, 30 do list[i] = ev { sample = i > 20 and 4 or 1 } end
    list[31] = ev { name = "deny.hit" }
    local before = recent()
    local last = #before > 0 and before[#before].serial or 0
    packet_event.log(list)
    task.sleep(1.2)
    local written, more = 0, nil
    for _, line in ipairs(recent(last)) do
      if line.text:find "^policy.drop eth0" then written = written + 1 end
      more = more or line.text:match "^(%d+) more packets of rules with log$"
    end
    assert.same({ 10, "50" }, { written, more })
  end)
end)
