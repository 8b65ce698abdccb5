-- SPDX-License-Identifier: GPL-2.0-only
--- Every shape of packet (tests/helpers/shapes.lua) with everything that may become of it (tests/helpers/ways.lua),
--- through the real XDP program, its bytes compared with what tg.packet builds anew. Closes with the table of what
--- was tested; a cell that is empty there fails.
local balancer = require "tests.helpers.balancer"
local lists = require "tidegate.lists"
local services = require "tests.helpers.services"
local shapes = require "tests.helpers.shapes"
local switch = require "tests.helpers.switch"
local ways = require "tests.helpers.ways"

if switch.refused() then
  pending("the datapath " .. switch.refused())
  return
end

local sw, bal
local cells = {} -- by way, by shape: what was seen, or { why } where there is no such packet
local seen = {} -- reasons

setup(function()
  sw = services.switch()
  local marks = sw:map "vip_marks" -- any address may be a VIP's: the program asks its table
  local all = marks:get(0)
  for i in ipairs(all.word) do all.word[i] = -1 end
  assert(marks:set(0, all))
end)
teardown(function() sw:close() end)

-- The lists are the controller's to fill: the program of an instance that has some.

local function open_lists()
  local bits = require "tidegate.core.controller".features()
  bal = balancer.new("matrix", { features = balancer.ALL | bits.deny4 | bits.deny6 })
  assert(lists.open())
  for _, prefix in ipairs { "203.0.113.66/32", "2001:db8:bad::/48" } do
    assert(lists.add("deny", "deny", prefix, {}, { owner = "operator", who = "spec" }))
  end
  local program = assert(tg.prog.open(bal.dir .. "/program"))
  return setmetatable({ program = program, opened = { reasons = bal:map "reasons" } }, { __index = sw })
end

local function close_lists(target)
  target.program:close()
  target.opened.reasons:close()
  lists.unload(bal.instance)
  bal:close()
end

-- Cells --------------------------------------------------------------------------------------------

--- Sends the shape's packet on that way; what became of it is as expected, bytes included.
local function try(target, way, shape, expected)
  local p, sent, before = shape.make(way)
  if way.each then way.each(target) end
  if before then target:receive(before) end
  if way.each then way.each(target) end
  local r = target:receive(p)
  assert.same(expected, { r.verdict, r.reason }, shape.name)
  if r.verdict == "tx" or r.verdict == "redirect" then
    assert.equal(sent(r.packet):hex(), r.packet:hex(), shape.name)
  else
    assert.is_true(r.unchanged, shape.name)
  end
  return r.reason
end

local function fill(way, target)
  for _, shape in ipairs(shapes) do
    local expected, why = ways.expected(way, shape)
    if expected then
      local reason = try(target, way, shape, expected)
      seen[reason] = true
      cells[way][shape] = reason
    else
      cells[way][shape] = { why }
    end
  end
end

describe("each shape of packet", function()
  for _, way in ipairs(ways) do
    cells[way] = {}
    it(("fares as it should where plain ones are %s (%s)"):format(way.name, way.verdict), function()
      local target = way.program == "lists" and open_lists() or sw
      if way.prepare then way.prepare(target) end
      local ok, err = pcall(fill, way, target)
      if target ~= sw then close_lists(target) end
      if not ok then error(err, 0) end
    end)
  end

  it("and every way have a cell, and every reason is met, or it is said why not", function()
    local missing = {}
    for _, way in ipairs(ways) do
      for _, shape in ipairs(shapes) do
        if not cells[way][shape] then
          missing[#missing + 1] = way.name .. " from here on: " .. shape.name
          break
        end
      end
    end
    for _, reason in pairs(sw.reasons) do
      local none = reason == "none" or reason == "no reason"
      if not none and not seen[reason] and not ways.UNREACHED[reason] then missing[#missing + 1] = reason end
      if seen[reason] and ways.UNREACHED[reason] then missing[#missing + 1] = reason .. " is met" end
    end
    assert.same({}, missing)
  end)
end)

-- The table ----------------------------------------------------------------------------------------

--- Letters for reasons other than a column's own.
local LETTERS = {
  forward = ">", ["not-ip"] = "n", fragment = "f", icmp = "i", ["icmp-quote"] = "q", ["other-protocol"] = "o",
  truncated = "t", ["bad-header"] = "b", extension = "x", ["ttl-expired"] = "e", ["fragment-lost"] = "L",
  ["fragment-tiny"] = "T", ["too-big-dropped"] = "D", ["not-vip"] = "v",
}

local function letter(way, cell)
  if not cell then return " " end
  if type(cell) == "table" then return "-" end
  return cell == way.reason and "=" or LETTERS[cell] or "?"
end

--- The columns, four to a line.
local function legend()
  local lines = {}
  for i, way in ipairs(ways) do
    local name = way.name == way.reason and way.name or way.name .. ", " .. way.reason
    lines[(i + 3) // 4] = (lines[(i + 3) // 4] or "|") .. (" %2d %-30s"):format(i, name .. ": " .. way.verdict)
  end
  return table.concat(lines, "\n")
end

local function signs()
  local lines = {}
  for reason, sign in pairs(LETTERS) do lines[#lines + 1] = sign .. " " .. reason end
  table.sort(lines)
  return "| = as the column says; - no such packet; " .. table.concat(lines, "; ")
end

local function head(digit)
  local line = {}
  for i in ipairs(ways) do line[i] = ("%2d"):format(i):sub(digit, digit) end
  return ("| %-58s%s"):format("", table.concat(line, " "))
end

local function row(shape, count)
  local line = {}
  for i, way in ipairs(ways) do
    local cell = cells[way][shape]
    line[i] = letter(way, cell)
    count[type(cell)] = (count[type(cell)] or 0) + 1
  end
  return ("| %-58s%s"):format(shape.name, table.concat(line, " "))
end

--- Why some cells can't be, each reason once.
local function reasons()
  local lines, known = {}, {}
  for _, way in ipairs(ways) do
    if way.why and not known[way.why] then lines[#lines + 1] = ("| - %s: %s"):format(way.name, way.why) end
    known[way.why or ""] = true
  end
  for reason, why in pairs(ways.UNREACHED) do lines[#lines + 1] = ("| no column for %s: %s"):format(reason, why) end
  table.sort(lines)
  return lines
end

teardown(function()
  local lines, count = { legend(), signs(), head(1), head(2) }, {}
  for _, shape in ipairs(shapes) do lines[#lines + 1] = row(shape, count) end
  for _, line in ipairs(reasons()) do lines[#lines + 1] = line end
  lines[#lines + 1] = ("# %d shapes × %d ways: %d cells tested, %d can't be, %d empty"):format(#shapes, #ways,
    count.string or 0, count.table or 0, count["nil"] or 0)
  io.write("\n", table.concat(lines, "\n"), "\n")
end)
