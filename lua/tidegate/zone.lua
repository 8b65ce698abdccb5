-- SPDX-License-Identifier: GPL-2.0-only
--- Time zones out of the system's zoneinfo files (TZif, RFC 8536). The C library knows one zone a process, set by an
--- environment variable that all threads share; scripts want several at once, and to ask for the gaps and
--- repeated hours themselves, so the files are read here.
---
---     local berlin = assert(zone.load "Europe/Berlin")
---     berlin:at(1774746000)     --> { offset = 7200, from = 1774746000, to = 1792890000, name = "CEST" }
---
--- `from` and `to` are those between which (`to` not included) the offset from UTC is the same, in seconds since 1970.

local zone = {}

local Zone = {}
local meta = { __name = "tidegate.Zone", __metatable = "tidegate.Zone", __index = Zone }

local DIRECTORY <const> = "/usr/share/zoneinfo/"
local DAY <const> = 86400

-- The calendar --------------------------------------------------------------------------------------

--- Days since 1970-01-01 of a date; the proleptic Gregorian calendar (after Howard Hinnant's days_from_civil).
function zone.days(year, month, day)
  if month <= 2 then year = year - 1 end
  local era = year // 400
  local of_era = year - era * 400
  local of_year = (153 * (month + (month > 2 and -3 or 9)) + 2) // 5 + day - 1
  return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
end

--- Year, month, day of days since 1970-01-01.
function zone.date(days)
  days = days + 719468
  local era = days // 146097
  local of_era = days - era * 146097
  local years = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
  local of_year = of_era - (365 * years + years // 4 - years // 100)
  local shifted = (5 * of_year + 2) // 153
  local month = shifted + (shifted < 10 and 3 or -9)
  return years + era * 400 + (month <= 2 and 1 or 0), month, of_year - (153 * shifted + 2) // 5 + 1
end

local MONTH_DAYS <const> = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

local function is_leap(year)
  return year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0)
end

function zone.month_days(year, month)
  return month == 2 and is_leap(year) and 29 or MONTH_DAYS[month]
end

--- 0 is Sunday.
function zone.weekday(days)
  return (days + 4) % 7
end

-- The rule of what comes after a file's last change: POSIX's TZ -------------------------------------

--- "CET-1CEST,M3.5.0,M10.5.0/3", read from its beginning on; each returns what it read, and the rest.
local function read_name(text)
  local name, rest = text:match "^<([%w+-]+)>(.*)$"
  if not name then name, rest = text:match "^(%a+)(.*)$" end
  return name, rest
end

local function read_time(text)
  local sign, hours, rest = text:match "^([+-]?)(%d+)(.*)$"
  if not hours then return nil, text end
  local seconds = tonumber(hours) * 3600
  for _, unit in ipairs { 60, 1 } do
    local digits, after = rest:match "^:(%d+)(.*)$"
    if not digits then break end
    seconds, rest = seconds + tonumber(digits) * unit, after
  end
  return sign == "-" and -seconds or seconds, rest
end

--- When in a year a change is: a function of the year, which returns days since 1970.
local function read_day(text)
  local month, week, weekday, rest = text:match "^M(%d+)%.(%d)%.(%d)(.*)$"
  if month then
    month, week, weekday = tonumber(month), tonumber(week), tonumber(weekday)
    return function(year)
      local first = zone.days(year, month, 1)
      local day = first + (weekday - zone.weekday(first)) % 7 + 7 * (week - 1)
      return day >= first + zone.month_days(year, month) and day - 7 or day
    end, rest
  end
  local julian, digits, after = text:match "^(J?)(%d+)(.*)$"
  if not digits then return nil, text end
  local number = tonumber(digits)
  return function(year)
    local day = zone.days(year, 1, 1) + number
    if julian == "" then return day end
    return is_leap(year) and number >= 60 and day or day - 1 -- the 29th of February is never counted
  end, after
end

local function read_change(text)
  local day, rest = read_day(text:sub(2))
  if not day then return nil end
  local time = 2 * 3600
  if rest:find "^/" then time, rest = read_time(rest:sub(2)) end
  return time and { day = day, time = time }, rest
end

--- nil: it is none.
local function read_rule(text)
  local name, rest = read_name(text)
  local west, summer_name, summer, begins, ends
  if not name then return nil end
  west, rest = read_time(rest)
  if not west then return nil end
  if rest == "" then return { name = name, offset = -west } end
  summer_name, rest = read_name(rest)
  if not summer_name then return nil end
  summer, rest = read_time(rest)
  begins, rest = read_change(rest)
  ends = begins and read_change(rest)
  if not ends then return nil end
  return {
    name = name, offset = -west, begins = begins, ends = ends,
    summer_name = summer_name, summer = summer and -summer or 3600 - west,
  }
end

--- The changes of a year, in order: { at, offset, name }.
local function changes_of(rule, year)
  local begins = rule.begins.day(year) * DAY + rule.begins.time - rule.offset
  local ends = rule.ends.day(year) * DAY + rule.ends.time - rule.summer
  local list = {
    { at = begins, offset = rule.summer, name = rule.summer_name },
    { at = ends, offset = rule.offset, name = rule.name },
  }
  table.sort(list, function(a, b) return a.at < b.at end)
  return list
end

--- The segment of a time by the rule, which holds from `first` on.
local function by_rule(rule, time, first)
  local segment = { offset = rule.offset, name = rule.name, from = first, to = math.huge }
  if not rule.summer then return segment end
  local year = zone.date(time // DAY)
  for near = year - 1, year + 1 do
    for _, change in ipairs(changes_of(rule, near)) do
      if change.at > time then
        segment.to = change.at
        return segment
      end
      segment.offset, segment.name, segment.from = change.offset, change.name, math.max(change.at, first)
    end
  end
  return segment
end

-- The file ------------------------------------------------------------------------------------------

--- The counts of a header, in the order of RFC 8536; nil: it is none.
local function read_header(data, at)
  if data:sub(at, at + 3) ~= "TZif" or #data < at + 43 then return nil end
  local isut, isstd, leap, times, types, chars = string.unpack(">I4I4I4I4I4I4", data, at + 20)
  return { isut = isut, isstd = isstd, leap = leap, times = times, types = types, chars = chars }
end

local function block_size(header, time_size)
  return header.times * (time_size + 1) + header.types * 6 + header.chars + header.leap * (time_size + 4)
    + header.isstd + header.isut
end

local function read_types(data, at, header)
  local types, chars = {}, at + header.types * 6
  for i = 1, header.types do
    local offset, _, name = string.unpack(">i4Bb", data, at + (i - 1) * 6)
    types[i] = { offset = offset, name = string.unpack("z", data, chars + name) }
  end
  return types
end

--- Reads a block whose header is at `at`: the changes, in order, and where it ends.
local function read_block(data, at, time_size)
  local header = read_header(data, at)
  at = at + 44
  local types = read_types(data, at + header.times * (time_size + 1), header)
  local changes = { { at = -math.huge, offset = types[1].offset, name = types[1].name } }
  for i = 1, header.times do
    local time = string.unpack(time_size == 8 and ">i8" or ">i4", data, at + (i - 1) * time_size)
    local kind = types[data:byte(at + header.times * time_size + i - 1) + 1]
    changes[#changes + 1] = { at = time, offset = kind.offset, name = kind.name }
  end
  return changes, at + block_size(header, time_size)
end

--- A zone out of a TZif file's bytes, or nil. Those of version 1 know 32 bits of time, and no rule.
function zone.parse(data)
  local header = read_header(data, 1)
  if not header then return nil end
  if data:sub(5, 5) < "2" then return setmetatable({ changes = (read_block(data, 1, 4)) }, meta) end
  local changes, rest = read_block(data, 1 + 44 + block_size(header, 4), 8)
  return setmetatable({ changes = changes, rule = read_rule(data:match("^\n(.-)\n", rest) or "") }, meta)
end

--- The segment that a time (seconds since 1970, an integer) is in: { offset, name, from, to }.
function Zone:at(time)
  local changes, low, high = self.changes, 1, #self.changes
  if self.rule and time >= changes[high].at then
    return by_rule(self.rule, time, changes[high].at)
  end
  while low < high do
    local middle = (low + high + 1) // 2
    if changes[middle].at <= time then low = middle else high = middle - 1 end
  end
  local after = changes[low + 1]
  return { offset = changes[low].offset, name = changes[low].name, from = changes[low].at,
    to = after and after.at or math.huge }
end

--- When a clock on the wall shows `wall` (seconds, as if it were UTC) for the first time. Where it skips that: the
--- moment at which it does.
function Zone:time_of(wall)
  local segment = self:at(wall - 2 * DAY)
  while wall - segment.offset >= segment.to do segment = self:at(segment.to) end
  return math.max(wall - segment.offset, segment.from)
end

local function read(path)
  local file <close> = io.open(path, "rb")
  return file and file:read "a"
end

local loaded = {}

zone.utc = setmetatable({ changes = { { at = -math.huge, offset = 0, name = "UTC" } } }, meta)

--- The zone of that name ("Europe/Berlin"; nil: the system's own); or nil, why.
function zone.load(name)
  if not name then
    local data = read "/etc/localtime"
    return data and zone.parse(data) or zone.utc
  end
  if loaded[name] then return loaded[name] end
  if name == "UTC" then return zone.utc end
  local data = name:find "^[%w_+-][%w_+/-]*$" and read(DIRECTORY .. name)
  local found = data and zone.parse(data)
  if not found then return nil, ("no time zone %q in %s"):format(name, DIRECTORY) end
  loaded[name] = found
  return found
end

return zone
