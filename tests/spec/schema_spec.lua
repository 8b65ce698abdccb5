-- SPDX-License-Identifier: GPL-2.0-only
local schema = require "tidegate.schema"

--- What a checker says of a value that it refuses, without the caller's position.
local function refusal(checker, value)
  local ok, message = pcall(checker, "option", value)
  assert.is_false(ok)
  return (message:gsub("^.-:%d+: ", ""))
end

describe("a checker", function()
  it("takes what is allowed, and says what is not", function()
    assert.equal(7, schema.integer(0, 9)("option", 7))
    assert.equal("integer", math.type(schema.integer(0, 9)("option", 7.0)))
    local digit = schema.integer(0, 9)
    for given, shown in pairs { [10] = "10", [-1] = "-1", [1.5] = "1.5", ["7"] = '"7"' } do
      assert.equal("option: " .. shown .. " given, an integer from 0 to 9 expected", refusal(digit, given))
    end
    assert.equal('option: "yes" given, true or false expected', refusal(schema.boolean, "yes"))
    assert.equal('option: "tcpp" given, tcp, udp expected', refusal(schema.one_of { "tcp", "udp" }, "tcpp"))
    assert.equal("option: nil given, a function expected", refusal(schema.fn, nil))
    assert.equal("option: a table given, a string expected", refusal(schema.string, {}))
  end)

  it("reads seconds with a unit", function()
    local seconds = schema.seconds(0.001, 3600)
    for given, expected in pairs { [2] = 2, ["500ms"] = 0.5, ["1.5s"] = 1.5, ["5m"] = 300, ["1h"] = 3600 } do
      assert.equal(expected, seconds("option", given))
    end
    for _, given in ipairs { 0, "2h", "5", "5 s", "s", 0 / 0, 1 / 0, true } do
      assert.matches("seconds from 0.001 to 3600.* expected", refusal(seconds, given))
    end
  end)

  it("reads bytes with a unit", function()
    local bytes = schema.bytes(16 << 20, 1 << 30)
    assert.equal(64 << 20, bytes("option", "64M"))
    assert.equal(1 << 30, bytes("option", "1G"))
    assert.equal(17 << 20, bytes("option", 17 << 20))
    for _, given in ipairs { "1M", "2G", "64MB", "64.5M", "-64M", "99999999999999999999M", {} } do
      assert.matches("bytes from 16M to 1G expected", refusal(bytes, given))
    end
  end)

  it("takes names that are safe as a directory's and a metric's", function()
    for _, name in ipairs { "web", "web-1.example", "_x", ("a"):rep(63) } do
      assert.equal(name, schema.name("option", name))
    end
    for _, name in ipairs { "", "-web", ".", "..", "a/b", "a b", ("a"):rep(64), "w\0eb", 7 } do
      assert.matches("a name %(letters, digits", refusal(schema.name, name))
    end
  end)

  it("shortens a long text in its message", function()
    local message = refusal(schema.integer(0, 9), ("x"):rep(1 << 20))
    assert.is_true(#message < 150, #message)
  end)
end)

describe("a table of options", function()
  local options = schema.table { name = schema.required(schema.name), weight = schema.integer(0, 9) }

  it("becomes a checked copy", function()
    local given = { name = "a", weight = 3 }
    local checked = options("call", given)
    assert.same(given, checked)
    assert.are_not.equal(given, checked)
  end)

  it("refuses what it does not know, and names what it does", function()
    assert.equal('option: unknown option "wieght" (allowed: name, weight)',
      refusal(options, { name = "a", wieght = 3 }))
    assert.equal("option: unknown option 1 (allowed: name, weight)", refusal(options, { "a" }))
  end)

  it("names the option that is wrong or missing", function()
    assert.equal('option: option "name" is missing', refusal(options, { weight = 3 }))
    assert.equal("option.weight: 10 given, an integer from 0 to 9 expected",
      refusal(options, { name = "a", weight = 10 }))
    assert.equal('option: "web" given, a table of options expected', refusal(options, "web"))
  end)
end)
