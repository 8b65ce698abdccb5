-- SPDX-License-Identifier: GPL-2.0-only
--- tg.maglev.build: shares, stability, and what it says to misuse.
local maglev = require "tidegate.core.maglev"

local function shares(slots)
  local count = {}
  for _, id in ipairs(slots) do count[id] = (count[id] or 0) + 1 end
  return count
end

local function list(count, weight)
  local backends = {}
  for id = 1, count do backends[id] = { id = id, weight = weight } end
  return backends
end

describe("tg.maglev.build", function()
  it("is what scripts call", function() assert.equal(maglev.build, tg.maglev.build) end)

  it("gives equal backends equal shares, of 65,537 slots if nothing else is said", function()
    local slots = maglev.build(list(10))
    assert.equal(65537, #slots)
    for _, count in pairs(shares(slots)) do assert.near(6553.7, count, 1) end
  end)

  it("gives slots by weight, none for weight 0", function()
    local count = shares(maglev.build({ { id = 7, weight = 2 }, { id = 8 }, { id = 9, weight = 0 } }, 4093))
    assert.near(2, count[7] / count[8], 0.01)
    assert.is_nil(count[9])
  end)

  it("starves nobody among 1,000 of weight 100", function()
    local least = math.huge
    local count = shares(maglev.build(list(1000, 100), 65537))
    for id = 1, 1000 do least = math.min(least, count[id] or 0) end
    assert.is_true(least >= 64, tostring(least)) -- 65.5 each
  end)

  it("depends on who the backends are, not on their order or ids", function()
    local a, b = { id = 1, key = "10.0.0.1" }, { id = 2, key = "10.0.0.2" }
    assert.same(maglev.build({ a, b }, 1021), maglev.build({ b, a }, 1021))
    local renamed = maglev.build({ { id = 9, key = "10.0.0.1" }, b }, 1021)
    for i, id in ipairs(maglev.build({ a, b }, 1021)) do assert.equal(id == 1 and 9 or 2, renamed[i]) end
  end)

  it("moves few slots of those who stay", function()
    local before, after = maglev.build(list(10)), maglev.build(list(9))
    local moved = 0
    for i, id in ipairs(before) do
      if id ~= 10 and after[i] ~= id then moved = moved + 1 end
    end
    assert.is_true(moved / 65537 < 0.01, tostring(moved))
  end)

  it("is full of zeros without a backend", function()
    assert.same({ [0] = 251 }, shares(maglev.build({}, 251)))
    assert.same({ [0] = 251 }, shares(maglev.build({ { id = 1, weight = 0 } }, 251)))
  end)

  it("names what is wrong", function()
    local function raises(message, ...)
      local args = table.pack(...)
      local ok, why = pcall(function()
        local _ = maglev.build(table.unpack(args, 1, args.n)) -- the error has to name this line
      end)
      assert.is_false(ok)
      assert.equal(message, (why:gsub("^.-maglev_spec.lua:%d+: ", "")))
      assert.matches("maglev_spec.lua:%d+: ", why)
    end
    local one = { { id = 1 } }
    raises("size: 65536 given, a prime below 2^24 expected", one, 65536)
    raises("size: 1 given, a prime below 2^24 expected", one, 1)
    raises("size: 16777259 given, a prime below 2^24 expected", one, 16777259)
    raises("bad argument #1 to 'build' (table expected, got nil)")
    raises("backends[1]: a table { id =, weight = } expected, got number", { 7 })
    raises("backends[1].id is missing", { { weight = 1 } })
    raises("backends[2].weight: 65536 given, 0 to 65535 allowed", { { id = 1 }, { id = 2, weight = 65536 } })
    raises("backends[1].id: -1 given, 0 to 4294967295 allowed", { { id = -1 } })
    raises("backends[1].id: an integer expected, got string", { { id = "web" } })
    raises("backends[1].weight: an integer expected, got a fraction", { { id = 1, weight = 1.5 } })
    raises("backends[1].key: a string expected, got table", { { id = 1, key = {} } })
  end)
end)
