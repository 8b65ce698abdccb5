-- SPDX-License-Identifier: GPL-2.0-only
--- Policies as the library has them compiled, and asks them (core/lua_policy.c).
local policy = require "tidegate.core.policy"
local task = require "tidegate.task"

local TCP <const>, ICMP <const> = 6, 1

local function compile(spec) return task.await(policy.compile, spec) end

local function packet(fields)
  local given = { src = "10.1.2.3", dst = "192.0.2.1", proto = TCP, sport = 40000, dport = 80, flags = 2 }
  for name, value in pairs(fields) do given[name] = value end
  return given
end

describe("a compiled policy", function()
  local rules = {
    { action = "drop", protos = { TCP }, dport = { 23, 23 } },
    { action = "accept", protos = { TCP }, dport = { 80, 80, 8000, 8099 }, tcp_mask = 0x12, tcp_flags = 0x02 },
    { action = "accept", src = { "10.9.0.0/16", "2001:db8::/48" }, log = true },
    { action = "reject", protos = { ICMP }, icmp_types = { 8 } },
    { action = "drop", fragment = true },
  }

  it("tells which of its rules a packet meets", function()
    local compiled = assert(compile { rules = rules, default = { action = "accept" } })
    local function match(fields) return compiled:match(packet(fields)) end
    assert.equal(1, match { dport = 23 })
    assert.equal(2, match { dport = 8099 })
    assert.is_nil(match { dport = 8099, flags = 0x12 })
    assert.equal(3, match { src = "10.9.9.9", dport = 1 })
    assert.equal(3, match { src = "2001:db8:0:1::1", dst = "2001:db8:9::1", dport = 1 })
    assert.equal(4, match { proto = ICMP, icmp_type = 8 })
    assert.is_nil(match { proto = ICMP, icmp_type = 0 })
    assert.equal(5, match { fragment = "later" })
    assert.is_nil(match { dport = 1 })
  end)

  it("has a version that follows from what it says", function()
    local one = assert(compile { rules = rules, default = { action = "accept", counter = 1 } })
    local same = assert(compile { rules = rules, default = { action = "accept", counter = 2 } })
    local other = assert(compile { rules = rules, default = { action = "drop", counter = 1 } })
    assert.equal(one:version(), same:version())
    assert.not_equal(one:version(), other:version())
    assert.is_true(one:bytes() > 4096)
  end)

  it("comes with what its compiler found", function()
    local _, findings = compile {
      rules = {
        { action = "drop", src = { "10.0.0.0/8" } }, { action = "drop", src = { "10.0.0.0/8" } },
        { action = "accept", src = { "10.1.0.0/16" } }, { action = "drop", src = { "10.0.0.0/8" }, dst = { "::/0" } },
      },
      default = { action = "drop" },
    }
    assert.same({
      { rule = 2, fault = "duplicate", by = 1 }, { rule = 3, fault = "shadowed", by = 1 }, { rule = 4, fault = "void" },
    }, findings)
  end)

  it("can have 1,024 rules and no more", function()
    local many = {}
    for i = 1, 1024 do many[i] = { action = "drop", protos = { TCP }, dport = { i, i } } end
    local compiled = assert(compile { rules = many, default = { action = "accept" } })
    assert.equal(1024, compiled:match(packet { dport = 1024 }))
    many[1025] = many[1]
    local none, message, code = compile { rules = many, default = { action = "accept" } }
    assert.is_nil(none)
    assert.equal("1025 rules: a policy has at most 1024", message)
    assert.equal("E2BIG", code)
  end)

  it("refuses what is no rule", function()
    local function refused(rule)
      return select(2, pcall(compile, { rules = { rule }, default = { action = "drop" } }))
    end
    assert.matches("invalid option 'pass'", refused { action = "pass" })
    assert.matches("dport: a range that ends before it begins", refused { action = "drop", dport = { 9, 8 } })
    assert.matches("dport: pairs of ports expected", refused { action = "drop", dport = { 9 } })
    assert.matches("protos: 0 to 255 expected", refused { action = "drop", protos = { 256 } })
    assert.matches('"10.0.0.300": ', refused { action = "drop", src = { "10.0.0.300" } })
  end)
end)
