-- SPDX-License-Identifier: GPL-2.0-only
--- Rates out of counters that the spec makes up; those of the programs: tests/spec/tc_rates_spec.lua.
local core = require "tidegate.core.rates"
local controller = require "tidegate.core.controller"
local programs = require "tidegate.programs"
local rates = require "tidegate.rates"
local scripts = require "tests.helpers.scripts"

local function counts(given)
  local all = {}
  for _, name in ipairs(core.names()) do all[name] = given[name] or 0 end
  return all
end

local function port(ingress, egress, slot)
  return { slot = slot or 0, ingress = counts(ingress or {}), egress = counts(egress or {}) }
end

local function reading(at, ports, reasons)
  return { at = at, ports = ports, reasons = reasons or {} }
end

describe("rates", function()
  it("are what a second brings, of each port and in all, by direction", function()
    local before = reading(10, { eth0 = port { tcp_syn = 100 }, eth1 = port({ tcp_syn = 5 }, { bytes = 1000 }, 1) })
    local now = reading(12, { eth0 = port { tcp_syn = 300 }, eth1 = port({ tcp_syn = 15 }, { bytes = 5000 }, 1) })
    local r = rates.between(before, now)
    assert.same({ 105.0, 100.0, 5.0, 2000.0, 2000.0 },
      { r.tcp_syn, r.ports.eth0.tcp_syn, r.ports.eth1.tcp_syn, r.egress.bytes, r.ports.eth1.egress.bytes })
    assert.same({ 0, 0 }, { r.bytes, r.ports.eth0.egress.tcp_syn })
  end)

  it("tell why packets are dropped", function()
    local r = rates.between(reading(1, {}, { denied = 10, ["no-hop"] = 3 }),
      reading(1.5, {}, { denied = 60, ["no-hop"] = 3 }))
    assert.same({ denied = 100.0, ["no-hop"] = 0.0 }, r.reasons)
  end)

  it("of a port that is new, or another by that name, are zero", function()
    local r = rates.between(reading(1, { eth1 = port({ udp = 5 }, {}, 1) }),
      reading(2, { eth0 = port { udp = 1000 }, eth1 = port({ udp = 900 }, {}, 2) }))
    assert.same({ 0, 0, 0 }, { r.udp, r.ports.eth0.udp, r.ports.eth1.udp })
  end)

  it("are never below zero: counters may begin anew", function()
    local r = rates.between(reading(1, { eth0 = port { udp = 1000 } }, { denied = 9 }),
      reading(2, { eth0 = port { udp = 10 } }, { denied = 1 }))
    assert.same({ 0.0, 0.0, 0.0 }, { r.udp, r.ports.eth0.udp, r.reasons.denied })
  end)
end)

describe("counters", function()
  it("are not read while programs are exchanged, and their maps with them", function()
    local read, reads = core.read, 0
    function core.read() reads = reads + 1 end
    finally(function() core.read = read end)
    do
      local turn <close> = programs.lock:take()
      rates.sample()
    end
    assert.equal(0, reads)
    rates.sample()
    assert.equal(1, reads)
  end)
end)

describe("the programs count", function()
  local function counted(text)
    local gen, state = scripts.resolve(text)
    assert.same({}, scripts.problems(gen))
    return state.features & controller.features().rates ~= 0
  end

  it("where a file has a trigger, or asks for rates, and else not", function()
    assert.is_false(counted "tg.port 'eth0'")
    assert.is_true(counted "tg.port('eth0', { rates = true })")
    assert.is_true(counted "tg.port 'eth0' tg.instance { rates = true }")
    assert.is_true(counted "tg.trigger { name = 'x', when = print, start = print }")
  end)
end)
