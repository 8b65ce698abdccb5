-- SPDX-License-Identifier: GPL-2.0-only
local core = require "tidegate.core.host"
local task = require "tidegate.task"

local stock_string, stock_table = core.stock()
local random = math.random

local function show(...)
  local list = table.pack(...)
  for i = 1, list.n do list[i] = type(list[i]) == "table" and "{}" or ("%q"):format(list[i]) end
  return table.concat(list, " ")
end

--- What a call gives or raises, as text. Lua finds another name for a function that isn't global.
local function outcome(fn, ...)
  return (show(pcall(fn, ...)):gsub("to '[^']*'", "to '?'"):gsub("argument #%d", "argument #?"))
end

local function assert_same(name, mine, theirs, ...)
  local a, b = outcome(mine, ...), outcome(theirs, ...)
  if a ~= b then error(("%s(%s) gives %s, Lua's %s"):format(name, show(...), a, b), 0) end
end

local function pick(list)
  return list[random(#list)]
end

-- Patterns -----------------------------------------------------------------------------------------

local classes = {
  "a", "b", "x", ".", "%a", "%d", "%s", "%w", "%l", "%u", "%p", "%c", "%g", "%x", "%A", "%D", "%W", "%S",
  "[ab]", "[^ab]", "[a-c]", "[%d_]", "[^%s]", "[]]", "[^]]", "[a-]", "[-a]", "[%]]", "%.", "%%", "%-",
  "\0", "\255", "[\1-\200]", "%z",
}
local suffixes = { "", "", "", "*", "+", "-", "?" }
local specials = {
  "(", ")", "()", "(", ")", "^", "$", "%b()", "%bab", "%f[%w]", "%f[%a]", "%f[^%w]", "%1", "%2", "%0",
  "%f", "%", "[", "[a", "[^", "%b", "%bx",
}
local letters = {
  "a", "b", "c", "a", "b", "x", "X", "1", "2", " ", "(", ")", ".", "_", "-", "]", "%", "\n", "\0", "\255", "$", "^",
}

local function random_pattern()
  local parts = {}
  for i = 1, random(0, 5) do
    parts[i] = random(4) == 1 and pick(specials) or pick(classes) .. pick(suffixes)
  end
  if random(3) == 1 then      -- a capture that is closed, or few patterns with captures would be valid
    table.insert(parts, random(#parts + 1), "(" .. pick(classes) .. pick(suffixes) .. ")")
  end
  return (random(6) == 1 and "^" or "") .. table.concat(parts) .. (random(6) == 1 and "$" or "")
end

local function random_subject()
  local parts = {}
  for i = 1, random(0, 14) do parts[i] = pick(letters) end
  return table.concat(parts)
end

local function sometimes(one_in, low, high)
  if random(one_in) == 1 then return random(low, high) end
end

local function all_matches(gmatch)
  return function(...)
    local list = {}
    for a, b, c in gmatch(...) do list[#list + 1] = show(a, b, c) end
    return table.concat(list, ";")
  end
end

local replacements = {
  "z", "<%0>", "<%1>", "%%", "%2", "%", "%x", "", 7, true,
  { a = "A", b = false, ab = 1, [1] = "one" },
  function(a, b) return b or a end,
  function() return nil end,
  function() return {} end,
}

describe("bounded string functions", function()
  it("are not Lua's own", function()
    for _, name in ipairs { "find", "match", "gmatch", "gsub", "rep" } do
      assert.not_equal(stock_string[name], string[name])
      assert.equal(string[name], ("")[name])
    end
  end)

  it("find, match and replace what Lua's do, on 30,000 random patterns", function()
    for _ = 1, 30000 do
      local s, p, init = random_subject(), random_pattern(), sometimes(3, -16, 16)
      assert_same("find", string.find, stock_string.find, s, p, init, random(8) == 1)
      assert_same("match", string.match, stock_string.match, s, p, init)
      assert_same("gmatch", all_matches(string.gmatch), all_matches(stock_string.gmatch), s, p, init)
      assert_same("gsub", string.gsub, stock_string.gsub, s, p, pick(replacements), sometimes(4, -1, 3))
    end
  end)

  it("agree with Lua's on long subjects and deep patterns", function()
    local long = ("ab"):rep(150) .. "c"
    local patterns = {
      "(a*b*)*c", ".-c$", "^.*c", ("a?"):rep(250), ("(a)"):rep(32), ("(a)"):rep(33), ("(a)?"):rep(20), "(ab)%1%1",
      "%b()", ("(.)"):rep(31) .. "()", ("[ab]*"):rep(3) .. "c",
    }
    for _, p in ipairs(patterns) do
      assert_same("find", string.find, stock_string.find, long, p)
      assert_same("gsub", string.gsub, stock_string.gsub, long, p, "%0%0")
    end
  end)

  it("repeat as Lua's", function()
    for _, n in ipairs { -1, 0, 1, 2, 3, 7, 100 } do
      for _, s in ipairs { "", "a", "ab", "a\0b" } do
        for _, separator in ipairs { "", ",", ", " } do
          assert_same("rep", string.rep, stock_string.rep, s, n, separator)
        end
      end
    end
    assert_same("rep", string.rep, stock_string.rep, "ab", math.maxinteger)
    assert.equal("", (""):rep(math.maxinteger))     -- Lua's own would not come back
  end)
end)

-- Tables -------------------------------------------------------------------------------------------

--- Applies a table function to a list of n, and gives all it changed and returned.
local function on_list(fn)
  return function(n, ...)
    local list, all = {}, {}
    for i = 1, n do list[i] = i * 11 end
    local result = table.pack(fn(list, ...))
    if result[1] == list then result[1] = "itself" end
    for i = -3, 12 do all[#all + 1] = tostring(list[i]) end
    return table.concat(all, ","), table.unpack(result, 1, result.n)
  end
end

describe("bounded table functions", function()
  it("change lists as Lua's do", function()
    for _ = 1, 3000 do
      local n = random(0, 8)
      local calls = {
        insert = table.pack(n, random(-1, 10), sometimes(2, 1, 9)),
        remove = table.pack(n, sometimes(2, -1, 10)),
        move = table.pack(n, random(-2, 9), random(-2, 9), random(-2, 9)),
        concat = table.pack(n, "-", sometimes(2, 1, 9), sometimes(2, 0, 9)),
      }
      for name, args in pairs(calls) do
        assert_same(name, on_list(table[name]), on_list(stock_table[name]), table.unpack(args, 1, args.n))
      end
    end
  end)

  it("work through metamethods as Lua's do", function()
    local function proxy()
      local inner = { 1, 2, 3 }
      return setmetatable({}, {
        __index = inner, __newindex = inner, __len = function() return #inner end,
      }), inner
    end
    for _, library in ipairs { table, stock_table } do
      local p, inner = proxy()
      library.insert(p, 1, 0)
      assert.equal(2, library.remove(p, 3))
      assert.equal("0,1,3", library.concat(p, ","))
      library.move(p, 1, 3, 2)
      assert.same({ 0, 0, 1, 3 }, inner)
      assert.has_error(function() library.concat(7) end)
    end
  end)
end)

-- Bounds -------------------------------------------------------------------------------------------

describe("one call into C", function()
  local owner = task.owner("bounds", { budget = 0.1 })

  local function stopped(fn)
    local before = task.now()
    local ok, message = task.start({ owner = owner, quiet = true }, fn):join()
    assert.is_false(ok)
    assert.matches("bounded_spec.lua:%d+.-: stopped after 100 ms without yielding", message)
    assert.is_true(task.now() - before < 2)
  end

  local endless = setmetatable({}, { __len = function() return math.maxinteger - 1 end })
  local lists = {
    ["a pattern that backtracks without end"] = function()
      return (("a"):rep(40)):find(("a?"):rep(40) .. ("a"):rep(41))
    end,
    ["many captures that backtrack"] = function() return (("a"):rep(60)):match(("(.-)"):rep(20) .. "b") end,
    ["gsub that backtracks"] = function() return (("a"):rep(3000)):gsub(("a*"):rep(6) .. "b", "") end,
    ["gmatch that backtracks"] = function() for _ in (("a"):rep(3000)):gmatch(("a*"):rep(6) .. "b") do end end,
    ["table.move of a billion"] = function() table.move({}, 1, 1 << 40, 2) end,
    ["table.insert into a length that lies"] = function() table.insert(endless, 1, 1) end,
    ["table.remove from a length that lies"] = function() table.remove(endless, 1) end,
    ["table.concat of what is not there"] = function()
      table.concat(setmetatable({}, { __index = function() return "" end }), "", 1, 1 << 40)
    end,
  }
  for name, fn in pairs(lists) do
    it("is stopped: " .. name, function() stopped(fn) end)
  end
end)
