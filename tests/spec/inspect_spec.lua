local inspect = require "tidegate.inspect"

describe("inspect", function()
  it("tells integers from floats and keeps each exact", function()
    assert.equal("1", inspect(1))
    assert.equal("1.0", inspect(1.0))
    assert.equal("-0.0", inspect(-0.0))
    assert.equal("0.1", inspect(0.1))
    assert.equal("9223372036854775807", inspect(math.maxinteger))
    assert.equal("1e+100", inspect(1e100))
    assert.equal("math.huge", inspect(math.huge))
    assert.equal("0/0", inspect(0 / 0))
    for _, number in ipairs { 1 / 3, 2 ^ 53, 5e-324, math.mininteger, 123456789012345.678 } do
      local back = load("return " .. inspect(number))()
      assert.equal(number, back)
      assert.equal(math.type(number), math.type(back))
    end
  end)

  it("quotes strings so that they read back, and leaves UTF-8 readable", function()
    assert.equal([["a\n\"b\"\\\t\x00"]], inspect 'a\n"b"\\\t\0')
    assert.equal('"grün"', inspect "grün")
    assert.equal([["\xff\xfe"]], inspect "\xff\xfe")
    local bytes = {}
    for i = 0, 255 do bytes[#bytes + 1] = string.char(i) .. "7" end
    local all = table.concat(bytes)
    assert.equal(all, load("return " .. inspect(all))())
  end)

  it("puts a short table on one line, sorted, the list first", function()
    assert.equal('{ 10, 20, [-1] = true, [2.5] = 1, a = 1, ["b c"] = 2, ["end"] = 3 }',
      inspect { 10, 20, ["end"] = 3, ["b c"] = 2, a = 1, [2.5] = 1, [-1] = true })
    assert.equal("{}", inspect {})
    assert.equal("{ [false] = 0, [true] = 1 }", inspect { [true] = 1, [false] = 0 })
  end)

  it("indents what doesn't fit", function()
    local long = ("x"):rep(60)
    assert.equal(('{\n  "%s",\n  b = {\n    "%s",\n    "%s"\n  }\n}'):format(long, long, long),
      inspect { long, b = { long, long } })
  end)

  it("gives the same text whatever the order of insertion", function()
    local a, b = {}, {}
    for i = 1, 100 do a["k" .. i] = i end
    for i = 100, 1, -1 do b["k" .. i] = i end
    assert.equal(inspect(a), inspect(b))
  end)

  it("reads back as the same table", function()
    local t = { 1, "two", { three = 3.5, [4] = { true, false } }, ["x-y"] = { { {} } } }
    assert.same(t, load("return " .. inspect(t))())
  end)

  it("marks a cycle, and shows a shared table twice", function()
    local t = { name = "t" }
    t.self = t
    assert.equal('{ name = "t", self = <cycle> }', inspect(t))
    local shared = { 1 }
    assert.equal("{ { 1 }, { 1 } }", inspect { shared, shared })
  end)

  it("stops at a depth and at a size", function()
    local deep = {}
    for _ = 1, 20 do deep = { deep } end
    assert.equal(("{ "):rep(9) .. "<deeper>" .. (" }"):rep(9), inspect(deep))
    local list = {}
    for i = 1, 20000 do list[i] = i end
    assert.truthy(inspect(list):find("<10001 more>", 1, true))
    local keys = {}
    for i = 1, 20000 do keys["k" .. i] = i end
    assert.truthy(#inspect(keys) < 400000)
  end)

  it("lets objects speak for themselves", function()
    local Backend = { __name = "tg.backend", __metatable = "hidden" }
    assert.equal("<tg.backend> { port = 80 }", inspect(setmetatable({ port = 80 }, Backend)))
    local point = setmetatable({}, { __tostring = function() return "point(1, 2)" end })
    assert.equal("{ p = point(1, 2) }", inspect { p = point })
    local bad = setmetatable({}, { __tostring = function() error("no", 0) end })
    assert.equal("<error in __tostring: no>", inspect(bad))
    local proxy = setmetatable({}, { __pairs = function() return next, { a = 1 } end })
    assert.equal("{ a = 1 }", inspect(proxy))
  end)

  it("describes what has no text in Lua", function()
    assert.equal("<function: built in>", inspect(print))
    assert.truthy(inspect(function() end):find "^<function: .*inspect_spec.lua:%d+>$")
    assert.equal("<thread>", inspect(coroutine.create(print)))
    assert.equal("nil", inspect(nil))
    assert.equal("true", inspect(true))
  end)
end)
