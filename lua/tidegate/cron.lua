-- SPDX-License-Identifier: GPL-2.0-only
--- tg.cron: tasks by the calendar. Five fields as of crontab(5): minute, hour, day of the month, month, day of the
--- week; names, ranges, steps, lists; @hourly, @daily (@midnight), @weekly, @monthly, @yearly (@annually).
--- Where both day fields say something (neither begins with *), a day that suits either will do.
---
--- Daylight saving, as Vixie's cron has it. A time that the clock skips is due once, when it has skipped. One that it
--- shows twice is due the first time only. But where the hour or the minute begins with *, it is due whenever the
--- clock shows it: also twice, or not at all.
---
--- A run is missed when its time has passed by more than a minute before it can begin (the machine slept, the
--- clock was set, the loop stood still), or while the one before goes on. missed = "skip" leaves it out, and
--- "once" makes up for all that were missed by one run. What is missed while no daemon runs is not known.

local generation = require "tidegate.generation"
local log = require "tidegate.log"
local misuse = require "tidegate.misuse"
local schema = require "tidegate.schema"
local task = require "tidegate.task"
local uv = require "luv"
local zone = require "tidegate.zone"

local cron = {}

local MINUTE <const>, HOUR <const>, DAY <const> = 60, 3600, 86400
local SEARCH <const> = 9 * 366     -- days in which any date comes (29th of February: 1896 to 1904)
local LATE <const> = 60            -- seconds after which a run is missed
local NAP <const> = 30             -- the clock is looked at so often: somebody may set it
local SET_BACK <const> = 3 * HOUR  -- by more than that: what is due is worked out anew

-- Fields --------------------------------------------------------------------------------------------

local MONTHS <const> = { "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec" }
local WEEKDAYS <const> = { "mon", "tue", "wed", "thu", "fri", "sat", "sun" }

local FIELDS <const> = {
  { key = "minutes", name = "minute", low = 0, high = 59 },
  { key = "hours", name = "hour", low = 0, high = 23 },
  { key = "days", name = "day of the month", low = 1, high = 31 },
  { key = "months", name = "month", low = 1, high = 12, names = MONTHS },
  { key = "weekdays", name = "day of the week", low = 0, high = 7, names = WEEKDAYS },
}

local SHORT <const> = {
  ["@hourly"] = "0 * * * *", ["@daily"] = "0 0 * * *", ["@midnight"] = "0 0 * * *", ["@weekly"] = "0 0 * * 0",
  ["@monthly"] = "0 0 1 * *", ["@yearly"] = "0 0 1 1 *", ["@annually"] = "0 0 1 1 *",
}

local function wrong(text, field, part)
  misuse("tg.cron %s: %s is no %s (%d to %d%s, a list, a range, */STEP)", schema.show(text), schema.show(part),
    field.name, field.low, field.high, field.names and (", %s to %s"):format(field.names[1],
    field.names[#field.names]) or "")
end

local function value_of(field, text)
  for i, name in ipairs(field.names or {}) do
    if text:lower() == name then return i end
  end
  local n = text:find "^%d+$" and tonumber(text)
  return n and n >= field.low and n <= field.high and n or nil
end

--- The first and the last value of "7", "mon-fri", "*"; nil: it is none.
local function range_of(field, text, stepped)
  if text == "*" then return field.low, field.high end
  local first, last = text:match "^(%w+)%-(%w+)$"
  if first then return value_of(field, first), value_of(field, last) end
  first = value_of(field, text)
  return first, stepped and field.high or first
end

local function read_part(spec, field, part, set)
  local range, step = part:match "^([^/]+)/(%d+)$"
  local first, last = range_of(field, range or part, range ~= nil)
  step = tonumber(step or 1)
  if not first or not last or first > last or step < 1 then wrong(spec.text, field, part) end
  for value = first, last, step do set[value] = true end
end

local function read_field(spec, field, text)
  local set = {}
  if text:find "^,|,$|,," or text:find ",$" or text:find ",," then wrong(spec.text, field, text) end
  for part in text:gmatch "[^,]+" do read_part(spec, field, part, set) end
  spec[field.key] = set
  spec["any_" .. field.key] = text:find "^%*" ~= nil
end

-- When it is due ------------------------------------------------------------------------------------

local Spec = {}
local spec_meta = { __index = Spec }

function Spec:is_day(days)
  local _, month, day = zone.date(days)
  if not self.months[month] then return false end
  local by_day, by_weekday = self.days[day] or false, self.weekdays[zone.weekday(days)] or false
  if self.any_days or self.any_weekdays then return by_day and by_weekday end
  return by_day or by_weekday
end

--- The first minute of a day, from `from` on, that the clock's fields allow, in seconds; nil: there is none.
function Spec:first_of_day(from)
  for hour = from // HOUR, 23 do
    if self.hours[hour] then
      local first = hour == from // HOUR and from % HOUR // MINUTE or 0
      for minute = first, 59 do
        if self.minutes[minute] then return hour * HOUR + minute * MINUTE end
      end
    end
  end
end

--- The first time that a clock on the wall shows, from `wall` on; nil: it never comes.
function Spec:next_wall(wall)
  wall = (wall + MINUTE - 1) // MINUTE * MINUTE
  local from = wall % DAY
  for days = wall // DAY, wall // DAY + SEARCH do
    local time = self:is_day(days) and self:first_of_day(from)
    if time then return days * DAY + time end
    from = 0
  end
end

--- Whenever the clock shows it.
local function next_shown(spec, after)
  local time = after + 1
  while true do
    local segment = spec.zone:at(time)
    local wall = spec:next_wall(time + segment.offset)
    if wall - segment.offset < segment.to then return wall - segment.offset end
    time = segment.to
  end
end

--- The next time it is due, after a time; both in seconds since 1970.
---@param after integer
---@return integer
function Spec:next(after)
  if self.any_hours or self.any_minutes then return next_shown(self, after) end
  local wall = self:next_wall(after + self.zone:at(after).offset)
  while self.zone:time_of(wall) <= after do wall = self:next_wall(wall + MINUTE) end
  return self.zone:time_of(wall)
end

--- Reads "0 3 * * mon-fri" for a zone (zone.lua); misuse raises.
function cron.parse(text, of_zone)
  schema.string("tg.cron", text)
  local spec, fields = setmetatable({ text = text, zone = of_zone or zone.utc }, spec_meta), {}
  if text:find "^@" and not SHORT[text] then
    misuse("tg.cron: %s given, @hourly, @daily, @weekly, @monthly, @yearly or five fields expected", schema.show(text))
  end
  for field in (SHORT[text] or text):gmatch "%S+" do fields[#fields + 1] = field end
  if #fields ~= 5 then
    misuse("tg.cron: %s has %d fields, five expected: minute, hour, day of the month, month, day of the week",
      schema.show(text), #fields)
  end
  for i, field in ipairs(FIELDS) do read_field(spec, field, fields[i]) end
  spec.weekdays[0] = spec.weekdays[0] or spec.weekdays[7]
  if not spec:next_wall(0) then misuse("tg.cron: %s: there is no such day, it would never run", schema.show(text)) end
  return spec
end

-- The timer -----------------------------------------------------------------------------------------

--- Seconds since 1970, to the microsecond. Tests put another clock in its place.
function cron.now()
  local seconds, microseconds = uv.gettimeofday()
  return seconds + microseconds / 1e6
end

---@class tidegate.Cron: tidegate.Timer
local Cron = {}
local cron_meta = { __name = "tidegate.Cron", __metatable = "tidegate.Cron", __index = Cron }

--- No further run. A run under way is ended too, unless it is the one that calls this.
function Cron:cancel()
  self.owner:drop(self)
  self.waiter:cancel()
  if self.job then self.job:cancel() end
end

local function start_job(self)
  self.runs = self.runs + 1
  self.job = task.start({ name = self.name, owner = self.owner }, function()
    self.fn()
    while self.missed_policy == "once" and self.again do
      self.again = nil
      self.runs = self.runs + 1
      self.fn()
    end
  end)
end

--- How many are due from one time to another, both included: at most so many as can matter.
local function count_due(spec, first, last)
  local count, due = 0, first
  while due <= last and count < 1000 do
    count, due = count + 1, spec:next(due)
  end
  return count
end

--- It is due, and it is `now`.
local function fall_due(self, due, now)
  local late = now - due > LATE
  local count = late and count_due(self.spec, due, now // 1) or 1
  local goes_on = self.job and self.job.state == "alive"
  if not late and not goes_on then return start_job(self) end
  self.missed = self.missed + count
  if late then log.warn("%s: missed %d of its times, by %.0f s", self.name, count, now - due) end
  if self.missed_policy ~= "once" then return end
  self.missed = self.missed - 1
  if goes_on then self.again = true else start_job(self) end
end

--- Waits until it is due; the time, and what it is due. Naps, as the clock may be set.
local function wait_until_due(self)
  while true do
    local now = cron.now()
    if now < self.looked - SET_BACK then self.next = self.spec:next(now // 1) end
    self.looked = now
    if now >= self.next then return self.next, now end
    task.sleep(math.min(NAP, math.max(self.next - now, 0.001)))
  end
end

local function follow(self)
  while true do
    local due, now = wait_until_due(self)
    self.next = self.spec:next(now // 1)
    fall_due(self, due, now)
  end
end

local function start(spec, fn, name, missed)
  local owner, now = task.current_owner(), cron.now()
  local self = owner:keep(setmetatable({
    owner = owner, spec = spec, fn = fn, name = name, missed_policy = missed, runs = 0, missed = 0,
    looked = now, next = spec:next(now // 1),
  }, cron_meta))
  self.waiter = task.start({ name = name, owner = owner }, follow, self)
  return self
end

local options = schema.table {
  tz = schema.string, name = schema.name, missed = schema.one_of { "skip", "once" },
}

--- Runs `fn` as a task whenever the calendar says so.
---@return tidegate.Cron
function cron.declare(text, fn, given)
  local checked = options("tg.cron", given or {})
  schema.fn("tg.cron", fn)
  local of_zone, message = zone.load(checked.tz)
  if not of_zone then misuse("tg.cron.tz: %s", message) end
  local spec = cron.parse(text, of_zone)
  local name = checked.name or ("cron %s (%s)"):format(text, generation.position())
  return generation.arm("tg.cron " .. text, function() return start(spec, fn, name, checked.missed or "skip") end)
end

return cron
