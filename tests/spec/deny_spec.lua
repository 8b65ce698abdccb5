-- SPDX-License-Identifier: GPL-2.0-only
--- tg.deny and tg.allow as files declare them; what is in force is tests/net/deny_test.sh's.
local feeds = require "tidegate.core.feed"
local lists = require "tidegate.lists"
local plan = require "tidegate.plan"
local scripts = require "tests.helpers.scripts"

local FIREHOL = [[
#
# firehol_level1
#
# A firewall blacklist composed from IP lists, providing maximum protection with minimum false positives.
#
# Entries         : 4487 subnets, 611911690 unique IPs
#
0.0.0.0/8
1.10.16.0/20
1.19.0.0/16
224.0.0.0/3
]]

local DROP = "; Spamhaus DROP List 2024/05/14\r\n; Expires: Tue, 14 May 2024 10:12:33 GMT\r\n"
  .. "1.10.16.0/20 ; SBL256894\r\n1.19.0.0/16 ; SBL434604\r\n2a06:e480::/29 ; SBL301771\r\n"

--- Files beside the script; `seen` of the script is what it left in its global of that name.
local function load(texts)
  local gen = scripts.load(texts)
  return gen, gen.environment.seen
end

local function mistakes(text, files)
  local texts = { ["web.lua"] = text }
  for name, content in pairs(files or {}) do texts[name] = content end
  return scripts.mistakes(texts)
end

local function lines(text, files)
  local texts = { ["web.lua"] = text }
  for name, content in pairs(files or {}) do texts[name] = content end
  local gen, state = scripts.resolve(texts)
  assert.same({}, scripts.problems(gen))
  return plan.new({ services = {}, ports = {} }, state):text()
end

describe("a feed", function()
  it("is read whatever its kind", function()
    local _, seen = load {
      ["a.lua"] = [[
        seen = { tg.deny:load "level1.netset", tg.deny:load("drop.txt", { list = "drop" }), tg.deny:count(),
          tg.deny:count "drop", tg.deny:count "deny" }
      ]],
      ["level1.netset"] = FIREHOL, ["drop.txt"] = DROP,
    }
    assert.same({ 4, 3, 7, 3, 4 }, seen)
  end)

  it("that can't be read is a mistake at the script's line, and counts nothing", function()
    local gen, seen = load "seen = { tg.deny:load 'nowhere.netset' }\ntg.deny:add '10.0.0.1'"
    assert.same({ "web.lua:1: nowhere.netset: No such file or directory" }, scripts.problems(gen))
    assert.same({ 0 }, seen)
  end)

  it("is refused for each broken line, by its number", function()
    local problems = mistakes("tg.deny:load('broken.txt', { list = 'x' })",
      { ["broken.txt"] = "10.0.0.1\n10.0.0.300\n# fine\n<html>\n10.0.0.2\n" })
    assert.same({
      'broken.txt:2: "10.0.0.300": not an IP address or prefix', 'broken.txt:4: "<html>": not an IP address or prefix',
    }, problems)
  end)

  it("with many broken lines names the first ones, and says how many there are", function()
    local problems = mistakes("tg.deny:load 'broken.txt'", { ["broken.txt"] = ("oops\n"):rep(500) })
    assert.equal(21, #problems)
    assert.equal('web.lua:1: and 480 more broken lines', problems[21])
  end)

  it("is loaded without its broken lines if told so", function()
    local gen, seen = load {
      ["a.lua"] = "seen = { tg.deny:load('broken.txt', { on_error = 'skip' }), tg.deny:count() }",
      ["broken.txt"] = "10.0.0.1\noops\n10.0.0.2\n",
    }
    assert.same({}, scripts.problems(gen))
    assert.same({ 2, 2 }, seen)
  end)

  it("can be a list of strings, of any length, without holding up others", function()
    local list = {}
    for i = 1, 50000 do list[i] = ("10.%d.%d.0/24"):format(i >> 8, i & 255) end
    list[49999] = "what"
    local ticks, timer = 0, tg.every(0.001, function() end)
    local job = tg.spawn(function()
      while true do
        tg.sleep(0)
        ticks = ticks + 1
      end
    end)
    local feed = assert(lists.read(list))
    job:cancel()
    timer:cancel()
    assert.same({ 49999, 1 }, { feed:count() })
    assert.same({ { line = 49999, text = "what", why = "not an IP address or prefix" } }, feed:errors())
    assert.is_true(ticks >= 3, ticks)
  end)

  it("says what a text is", function()
    assert.same({ "10.0.0.0/8", false, 4 }, { feeds.prefix "10.1.2.3/8" })
    assert.same({ "2001:db8::1", true, 6 }, { feeds.prefix "2001:DB8::1/128" })
    assert.same({ nil, "after the slash: 0 to 32 allowed" }, { feeds.prefix "10.0.0.0/33" })
    assert.same({ nil, "not an IP address or prefix" }, { feeds.prefix "10.0.0.1\0" })
  end)
end)

describe("a file's declarations", function()
  it("are what questions at its top level show", function()
    local _, seen = load [[
      tg.deny:add("203.0.113.9/24", { reason = "scanner", ttl = 60 })
      tg.deny:add("2001:db8::/32", { list = "six" })
      tg.allow:add "203.0.113.7"
      local names = {}
      for prefix, entry in tg.deny:pairs() do names[#names + 1] = entry.list .. " " .. prefix end
      local there, entry = tg.deny:contains "203.0.113.7"
      seen = { there, entry.prefix, entry.reason, entry.owner, tg.deny:contains "203.0.114.7",
        tg.deny:contains("203.0.113.0/25", { list = "six" }), tg.allow:count(), names }
    ]]
    assert.same({ true, "203.0.113.0/24", "scanner", "file", false, false, 1,
      { "deny 203.0.113.0/24", "six 2001:db8::/32" } }, seen)
  end)

  it("count in their order", function()
    local _, seen = load [[
      local function count() return tg.deny:count "feed" end
      tg.deny:replace("feed", "10.0.0.0/8\n11.0.0.0/8\n")
      local first = count()
      seen = { first, tg.deny:remove("11.0.0.0/8", { list = "feed" }), tg.deny:remove("11.0.0.0/8", { list = "feed" }),
        tg.deny:replace("feed", { "12.0.0.0/8" }), count(), tg.deny:contains "10.0.0.1" }
    ]]
    assert.same({ 2, true, false, 1, 1, false }, seen)
  end)

  it("are added and removed as the plan says", function()
    assert.equal("+ list allow allow: 1 added (1 prefixes)\n+ list deny deny: 2 added (2 prefixes)\n"
      .. "+ list deny firehol: 4 added (4 prefixes)\n", lines([[
        tg.deny:add "203.0.113.0/24"
        tg.deny:add "2001:db8::/32"
        tg.allow:add "203.0.113.7"
        tg.deny:load("level1.netset", { list = "firehol" })
      ]], { ["level1.netset"] = FIREHOL }))
  end)

  it("ask for what the program has to know", function()
    local controller = require "tidegate.core.controller"
    local bits = controller.features()
    local function features(text)
      local _, state = scripts.resolve(text)
      return state.features
    end
    assert.equal(0, features "")
    assert.equal(bits.deny4, features "tg.deny:add '10.0.0.1'")
    assert.equal(bits.deny6, features "tg.allow:add '2001:db8::/32'")
    assert.equal(bits.deny4 | bits["deny-count"], features "tg.deny:add('10.0.0.1', { count = true })")
    assert.equal(0, features "tg.deny:add '10.0.0.1' tg.deny:remove '10.0.0.1'")
  end)
end)

describe("a mistake with lists", function()
  local function is(expected, text)
    assert.same({ "web.lua:1: " .. expected }, scripts.mistakes(text))
  end

  it("names what was given and what is allowed, at the script's line", function()
    is('tg.deny:add: "10.0.0.300": not an IP address or prefix', "tg.deny:add '10.0.0.300'")
    is('tg.deny:add: "10.0.0.0/33": after the slash: 0 to 32 allowed', "tg.deny:add '10.0.0.0/33'")
    is('tg.allow:add: 5 given, a prefix such as "203.0.113.0/24" expected', "tg.allow:add(5)")
    is('tg.deny:add: unknown option "tll" (allowed: count, list, reason, ttl)', "tg.deny:add('10.0.0.1', { tll = 1 })")
    is('tg.deny:add.ttl: -1 given, seconds from 0.001 to 315360000 expected', "tg.deny:add('10.0.0.1', { ttl = -1 })")
    is('tg.deny:add.reason: 7 given, a string expected', "tg.deny:add('10.0.0.1', { reason = 7 })")
    is("tg.deny:add: count = true is for single addresses, and 10.0.0.0/8 is none",
      "tg.deny:add('10.0.0.0/8', { count = true })")
    is('tg.deny:add.list: "a b" given, a name (letters, digits, _ . -, at most 63) expected',
      "tg.deny:add('10.0.0.1', { list = 'a b' })")
    is("tg.deny:load: 5 given, a file's path expected", "tg.deny:load(5)")
    is('tg.deny:load.on_error: "ignore" given, fail, skip expected', "tg.deny:load('x', { on_error = 'ignore' })")
    is("tg.deny:replace: nil given, a text or a list of prefixes expected", "tg.deny:replace('feed', nil)")
    is('tg.deny:replace: [2]: 7 given, a prefix such as "203.0.113.0/24" expected',
      "tg.deny:replace('feed', { '10.0.0.1', 7 })")
    is("tg.deny:replace: the list: nil given, a name (letters, digits, _ . -, at most 63) expected",
      "tg.deny:replace()")
    is('list "feed": line 2: "<html>": not an IP address or prefix', "tg.deny:replace('feed', '10.0.0.1\\n<html>')")
    is('list "feed": 1 prefixes given, at least 1000 expected', "tg.deny:replace('feed', '10.0.0.1', { min = 1000 })")
    is('list "feed": 0 prefixes given, at least 1 expected', "tg.deny:replace('feed', '')")
    is('add: call it with a colon: tg.deny:add(…)', "tg.deny.add '10.0.0.1'")
    is("tg.allow:top: only dropped packets are sampled; tg.deny:top tells", "tg.allow:top()")
    is("tg.deny:top: reset changes what runs: do it in a task", "tg.deny:top { reset = true }")
    is('list "deny" is one of tg.deny', "tg.deny:add '10.0.0.1' tg.allow:add('10.0.0.2', { list = 'deny' })")
    is('list "list63": there are 63 lists already, and can be no more',
      "for i = 0, 63 do tg.deny:add('10.0.0.1', { list = 'list' .. i }) end")
  end)

  it("leaves the file's other declarations to be looked at", function()
    assert.same({
      'web.lua:1: tg.deny:add: "x": not an IP address or prefix',
      "web.lua:2: tg.deny:load: 1 given, a file's path expected",
    }, scripts.mistakes "tg.deny:add 'x'\ntg.deny:load(1)")
  end)

  it("outside of a daemon says so", function()
    assert.error_matches(function() tg.deny:add "10.0.0.1" end, "no daemon runs in this process")
  end)
end)
