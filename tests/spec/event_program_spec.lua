-- SPDX-License-Identifier: GPL-2.0-only
--- What the programs tell of packets, through the ring and as Lua gets it: packets for VIPs, in XDP. TC's have the
--- same functions; real traffic is tests/net/events_test.sh's.
local core = require "tidegate.core.events"
local default_policy = require "tests.helpers.default_policy"
local packet = require "tidegate.packet"
local packets = require "tests.helpers.packets"
local switch = require "tests.helpers.switch"
local task = require "tidegate.task"

if switch.refused() then
  pending("the datapath " .. switch.refused())
  return
end

local KINDS = { drop = 0, accept = 1, rule = 2 }     -- enum tg_event_kind
local WHATS = { told = 0, lost = 1, left_out = 2 }   -- enum tg_event_count
local sw, events

setup(function()
  sw = switch.new()
  default_policy.port(sw)
  for index, ip in ipairs { packets.V4, packets.V6 } do
    sw:backend(index, { addr = index == 1 and "192.0.2.11" or "2001:db8:1::11" })
    for _, endpoint in ipairs { "443/tcp", "53/udp" } do
      sw:vip((index == 1 and "%s:%s" or "[%s]:%s"):format(ip.dst, endpoint), { ring = { index } })
    end
  end
  assert(core.open(sw.object.maps .. "/events", function(list)
    table.move(list, 1, #list, #events + 1, events)
  end))
  core.rules({ [default_policy.COUNTER] = "web" }, { [default_policy.COUNTER] = "web.lua:7" },
    { [default_policy.COUNTER] = "seen" })
end)
teardown(function()
  core.stop()
  core.rules({}, {}, {})
  sw:close()
end)
before_each(function() events = {} end)

--- How often the program has counted that.
local function count(kind, what)
  return sw:map("event_counters"):sum(KINDS[kind] * 3 + WHATS[what])
end

--- Receives a packet: the events that it led to.
local function told(p)
  local before = count("drop", "told") + count("accept", "told") + count("rule", "told")
  sw:receive(p)
  local now = count("drop", "told") + count("accept", "told") + count("rule", "told") - before
  for _ = 1, 500 do
    task.sleep(0.01)
    if #events >= now then break end
  end
  return events
end

--- The events' fields that don't depend on the time.
local function fields(ev)
  local rest = packets.with(ev)
  rest.time, rest.port = nil, nil
  return rest
end

for _, family in ipairs { 4, 6 } do
  local ip = family == 4 and packets.V4 or packets.V6
  local tcp = packet { ip = ip, tcp = { sport = 40000, dport = 443, flags = "S" } }
  local udp = packet { ip = ip, udp = { sport = 40000, dport = 53 }, payload = "hello" }

  describe(("a packet of IPv%d"):format(family), function()
    it("that a rule with log drops is told, with what it is", function()
      default_policy.set(sw, "ingress", { default = "drop", log = true })
      local list = told(tcp)
      assert.equal(1, #list)
      assert.same({
        name = "policy.drop", direction = "ingress", src = ip.src, dst = ip.dst, proto = "tcp", sport = 40000,
        dport = 443, flags = "S", rule = "web", line = "web.lua:7", action = "drop", reason = "policy-drop",
        length = #tcp:bytes(), sample = 1,
      }, fields(list[1]))
      assert.equal("lo", list[1].port)
      assert.is_true(math.abs(list[1].time - os.time()) < 60)
    end)

    it("is told under the name that its rule gives, and by the log as well", function()
      default_policy.set(sw, "ingress", { default = "accept", log = true, event = true })
      local list = told(udp)
      assert.same({ "seen", "policy.accept" }, { list[1].name, list[2].name })
      assert.same({ "udp", 40000, 53, "accept" }, { list[1].proto, list[1].sport, list[1].dport, list[1].action })
      assert.is_nil(list[1].flags)
      assert.is_nil(list[1].reason)
    end)

    it("that is only audited says so", function()
      default_policy.set(sw, "ingress", { default = "drop", log = true, audit = true })
      local list = told(tcp)
      assert.same({ "policy.drop", "drop", true }, { list[1].name, list[1].action, list[1].audit })
    end)

    it("is not told by a rule that does not want it", function()
      default_policy.set(sw, "ingress", { default = "drop" })
      assert.same({}, told(tcp))
    end)
  end)
end

describe("a flood of packets", function()
  local PACKETS <const> = 4000
  local p = packet { ip = packets.V4, tcp = { dport = 443 } }

  --- Receives them on one processor; how many more were counted of each.
  local function flood(kind)
    local before = { told = count(kind, "told"), left_out = count(kind, "left_out"), lost = count(kind, "lost") }
    assert(sw.program:run(p:bytes(), { ["repeat"] = PACKETS, cpu = 0 }))
    local now = count(kind, "told") - before.told
    for _ = 1, 1000 do
      if #events >= now then break end
      task.sleep(0.01)
    end
    return now, count(kind, "left_out") - before.left_out, count(kind, "lost") - before.lost
  end

  it("is told in part by a rule with log, and the rest is counted", function()
    default_policy.set(sw, "ingress", { default = "drop", log = true })
    local now, left_out, lost = flood "drop"
    assert.equal(PACKETS, now + left_out + lost)
    assert.is_true(now >= 128 and now < PACKETS / 2, now)
    assert.equal(now, #events)
  end)

  it("is told whole by a rule's own event", function()
    default_policy.set(sw, "ingress", { default = "drop", event = true })
    local now, left_out, lost = flood "rule"
    assert.same({ PACKETS, 0, 0 }, { now, left_out, lost })
    assert.equal(PACKETS, #events)
  end)
end)
