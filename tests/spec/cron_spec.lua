-- SPDX-License-Identifier: GPL-2.0-only
local cron = require "tidegate.cron"
local task = require "tidegate.task"
local zone = require "tidegate.zone"

--- "2026-03-29T01:59:00Z" as seconds since 1970.
local function utc(text)
  local year, month, day, hour, minute, second = text:match "^(%d+)-(%d+)-(%d+)T(%d+):(%d+):(%d+)Z$"
  return zone.days(tonumber(year), tonumber(month), tonumber(day)) * 86400 + hour * 3600 + minute * 60 + second
end

local function text_of(time)
  return os.date("!%Y-%m-%dT%H:%M:%SZ", time)
end

--- The next `count` times after one, as texts.
local function times(spec, tz, after, count)
  local parsed, list, time = cron.parse(spec, assert(zone.load(tz))), {}, utc(after)
  for i = 1, count do
    time = parsed:next(time)
    list[i] = text_of(time)
  end
  return list
end

describe("a time zone", function()
  local berlin, york = assert(zone.load "Europe/Berlin"), assert(zone.load "America/New_York")

  it("knows the offset before and after a change", function()
    local change = utc "2026-03-29T01:00:00Z"
    assert.equal(3600, berlin:at(change - 1).offset)
    assert.equal(7200, berlin:at(change).offset)
    assert.equal("CEST", berlin:at(change).name)
    assert.equal(change, berlin:at(change - 1).to)
    assert.equal(-18000, york:at(utc "2026-11-01T06:00:00Z").offset)
    assert.equal(-14400, york:at(utc "2026-11-01T05:59:59Z").offset)
  end)

  it("goes on by the file's rule after its last change", function()
    assert.equal(7200, berlin:at(utc "2060-07-01T00:00:00Z").offset)
    assert.equal(3600, berlin:at(utc "2060-01-01T00:00:00Z").offset)
    assert.equal(utc "2060-03-28T01:00:00Z", berlin:at(utc "2060-03-28T00:59:59Z").to)
  end)

  it("that is not there, or is a path, is none", function()
    for _, name in ipairs { "Europe/Nowhere", "../etc/passwd", "/etc/localtime", "", "Europe" } do
      local found, message = zone.load(name)
      assert.is_nil(found, name)
      assert.matches("no time zone", message)
    end
  end)

  it("reads rules of every kind", function()
    local function footed(rule)
      local block = "\0\0\0\0\0\0" .. "UTC\0"
      local header = string.pack(">c4 c1 c15 I4I4I4I4I4I4", "TZif", "2", ("\0"):rep(15), 0, 0, 0, 0, 1, 4)
      return assert(zone.parse(header .. block .. header .. block .. "\n" .. rule .. "\n"))
    end
    assert.equal(10800, footed("<+03>-3"):at(0).offset)
    assert.equal(-12600, footed("NST3:30"):at(0).offset)
    local julian = footed "AAA0BBB,J60/0,J300/0" -- the 1st of March, leap year or not
    assert.equal(utc "2027-03-01T00:00:00Z", julian:at(utc "2027-01-01T00:00:00Z").to)
    assert.equal(utc "2028-03-01T00:00:00Z", julian:at(utc "2028-01-01T00:00:00Z").to)
    local from_zero = footed "AAA0BBB,59/0,300/0"
    assert.equal(utc "2027-03-01T00:00:00Z", from_zero:at(utc "2027-01-01T00:00:00Z").to)
    assert.equal(utc "2028-02-29T00:00:00Z", from_zero:at(utc "2028-01-01T00:00:00Z").to)
  end)
end)

describe("a calendar's entry", function()
  it("is due at the times that its fields say", function()
    assert.same({ "2026-01-01T00:10:00Z", "2026-01-01T00:25:00Z", "2026-01-01T00:40:00Z" },
      times("10-45/15 * * * *", "UTC", "2026-01-01T00:00:00Z", 3))
    assert.same({ "2026-12-07T09:00:00Z", "2026-12-08T09:00:00Z" },
      times("0 9 * DEC Mon-fri", "UTC", "2026-12-04T09:00:00Z", 2))
    assert.same({ "2026-01-04T00:00:00Z", "2026-01-11T00:00:00Z" },
      times("0 0 * * 7", "UTC", "2026-01-01T00:00:00Z", 2))
    assert.same({ "2026-01-04T00:00:00Z" }, times("@weekly", "UTC", "2026-01-01T00:00:00Z", 1))
    assert.same({ "2027-01-01T00:00:00Z" }, times("@yearly", "UTC", "2026-01-01T00:00:00Z", 1))
  end)

  it("comes on a day that either day field suits, where both say something", function()
    assert.same({ "2026-02-13T00:00:00Z", "2026-02-16T00:00:00Z", "2026-02-23T00:00:00Z" },
      times("0 0 13 * mon", "UTC", "2026-02-10T00:00:00Z", 3))
    assert.same({ "2026-06-01T00:00:00Z" }, times("0 0 1 * */1", "UTC", "2026-05-10T00:00:00Z", 1))
  end)

  it("on the 29th of February comes in leap years alone", function()
    assert.same({ "2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z" },
      times("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", 2))
    assert.same({ "2104-02-29T00:00:00Z" }, times("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", 1))
  end)

  it("in an hour that is skipped is due once, right after", function()
    -- Berlin: 02:00 becomes 03:00 at 01:00 UTC
    assert.same({ "2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z" },
      times("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3))
    assert.same({ "2026-03-29T01:00:00Z", "2026-03-30T00:10:00Z" },
      times("10,20,50 2 * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 2))
    -- New York: 02:00 becomes 03:00 at 07:00 UTC
    assert.same({ "2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z" },
      times("30 2 * * *", "America/New_York", "2026-03-08T06:00:00Z", 2))
  end)

  it("in an hour that is repeated is due the first time only", function()
    -- Berlin: 03:00 becomes 02:00 at 01:00 UTC
    assert.same({ "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z" },
      times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2))
    assert.same({ "2026-10-26T01:30:00Z" }, times("30 2 * * *", "Europe/Berlin", "2026-10-25T01:15:00Z", 1))
    -- New York: 02:00 becomes 01:00 at 06:00 UTC
    assert.same({ "2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z" },
      times("30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", 2))
  end)

  it("for any hour goes by the time that passes", function()
    assert.same({ "2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z", "2026-03-29T02:30:00Z" },
      times("30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 3))
    assert.same({ "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z" },
      times("30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 3))
    assert.same({ "2026-10-25T00:00:00Z", "2026-10-25T00:20:00Z", "2026-10-25T00:40:00Z", "2026-10-25T01:00:00Z" },
      times("*/20 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 4))
  end)

  it("that is wrong says which field, and what is allowed", function()
    local function refused(text, pattern)
      local ok, message = pcall(cron.parse, text)
      assert.is_false(ok, text)
      assert.matches(pattern, message)
    end
    refused("60 * * * *", '"60" is no minute %(0 to 59')
    refused("* 24 * * *", '"24" is no hour')
    refused("* * 0 * *", '"0" is no day of the month')
    refused("* * * foo *", '"foo" is no month %(1 to 12, jan to dec')
    refused("* * * * 8", '"8" is no day of the week')
    refused("5-1 * * * *", '"5%-1" is no minute')
    refused("*/0 * * * *", '"%*/0" is no minute')
    refused("1,,2 * * * *", "is no minute")
    refused("* * * *", "has 4 fields, five expected")
    refused("@never", "@hourly, @daily")
    refused("0 0 31 2 *", "there is no such day, it would never run")
    refused("0 0 31 feb,apr *", "there is no such day")
    assert.has_error(function() cron.declare("* * * * *", print, { tz = "Mars/Olympus" }) end)
  end)
end)

describe("tg.cron", function()
  local now, clock
  local sleep = task.sleep

  --- Sets the clock and lets what waits look at it.
  local function at(text)
    now = utc(text)
    for _ = 1, 3 do sleep(0.001) end
  end

  before_each(function()
    clock = cron.now
    now = utc "2026-05-01T00:00:30Z"
    cron.now = function() return now end
    task.sleep = function() sleep(0) end -- naps are short where the clock stands still
  end)

  after_each(function() cron.now, task.sleep = clock, sleep end)

  it("runs when it is due, and not again", function()
    local runs = 0
    local timer <close> = setmetatable({}, { __close = function(t) t.timer:cancel() end })
    timer.timer = cron.declare("* * * * *", function() runs = runs + 1 end, { tz = "UTC" })
    at "2026-05-01T00:00:59Z"
    assert.equal(0, runs)
    at "2026-05-01T00:01:00Z"
    at "2026-05-01T00:01:10Z"
    assert.equal(1, runs)
    at "2026-05-01T00:02:02Z"
    assert.equal(2, runs)
    assert.same({ 2, 0 }, { timer.timer.runs, timer.timer.missed })
  end)

  local function after_a_sleep(missed)
    local runs = 0
    local timer = cron.declare("* * * * *", function() runs = runs + 1 end, { tz = "UTC", missed = missed, name = "m" })
    at "2026-05-01T00:01:00Z"
    at "2026-05-01T00:10:30Z"
    local result = { runs, timer.missed }
    at "2026-05-01T00:11:00Z"
    result[3] = runs
    timer:cancel()
    return result
  end

  it("leaves out what it missed", function()
    assert.same({ 1, 9, 2 }, after_a_sleep "skip")
  end)

  it("or makes up for it by one run", function()
    assert.same({ 2, 8, 3 }, after_a_sleep "once")
  end)

  it("does not begin while the run before goes on", function()
    local runs, go_on = 0, false
    local timer = cron.declare("* * * * *", function()
      runs = runs + 1
      while not go_on do sleep(0.001) end
    end, { tz = "UTC", missed = "once" })
    at "2026-05-01T00:01:00Z"
    at "2026-05-01T00:02:00Z"
    at "2026-05-01T00:03:00Z"
    assert.equal(1, runs)
    go_on = true
    sleep(0.02)
    assert.equal(2, runs) -- one for those two
    timer:cancel()
  end)

  it("keeps to what it was due when the clock is set back a little", function()
    local runs = 0
    local timer = cron.declare("0 * * * *", function() runs = runs + 1 end, { tz = "UTC" })
    at "2026-05-01T01:00:00Z"
    at "2026-05-01T00:59:00Z"
    at "2026-05-01T01:00:00Z"
    assert.equal(1, runs)
    at "2026-04-30T12:30:00Z"
    at "2026-04-30T13:00:00Z"
    assert.equal(2, runs)
    timer:cancel()
  end)
end)
