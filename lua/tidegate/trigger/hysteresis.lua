-- SPDX-License-Identifier: GPL-2.0-only
--- When a trigger starts and stops, without a clock of its own: it is told the time and whether its condition
--- holds, and answers what to do.
---
---     calm → rising (it holds) → on (it held for `hold`) → falling (it does not) → calm (for `clear`)
---
--- A start that has lasted for `max` is over: then it is "spent" until the condition has been false for `clear`.
--- At most `starts` of them an hour. A condition that could not be told (nil: it raised) counts for neither: what
--- was true or false for some time has to be so anew.

local hysteresis = {}

local HOUR = 3600

---@class tidegate.Hysteresis
---@field state "calm"|"rising"|"on"|"falling"|"spent"
---@field since number?   when the condition began to be what `state` waits for
---@field began number?   when it was started
local Hysteresis = {}
local meta = { __index = Hysteresis }

---@param options { hold: number, clear: number, max: number, starts: integer, every: number }
function hysteresis.new(options)
  return setmetatable({ options = options, state = "calm", begun = {} }, meta)
end

--- Has something been so for `seconds`? Half an evaluation's time is forgiven: timers are not exact.
local function lasted(self, now, seconds)
  return now - self.since >= seconds - self.options.every / 2
end

--- May it start, with those of the last hour?
local function within_budget(self, now)
  while self.begun[1] and now - self.begun[1] >= HOUR do table.remove(self.begun, 1) end
  return #self.begun < self.options.starts
end

local function start(self, now)
  if not within_budget(self, now) then
    local said = self.refused
    self.refused = true
    return not said and "refuse" or nil
  end
  self.begun[#self.begun + 1] = now
  self.state, self.since, self.began, self.refused = "on", nil, now, nil
  return "start"
end

local step = {}

function step.calm(self, now, holds)
  if not holds then
    self.refused = nil
    return nil
  end
  self.state, self.since = "rising", now
  return step.rising(self, now, holds)
end

function step.rising(self, now, holds)
  if not holds then
    self.state, self.since, self.refused = "calm", nil, nil
  elseif lasted(self, now, self.options.hold) then
    return start(self, now)
  end
end

function step.on(self, now, holds)
  if holds ~= false then return nil end
  self.state, self.since = "falling", now
  return step.falling(self, now, holds)
end

function step.falling(self, now, holds)
  if holds ~= false then
    self.state, self.since = "on", nil
  elseif lasted(self, now, self.options.clear) then
    self:reset "calm"
    return "stop", "clear"
  end
end

function step.spent(self, now, holds)
  if holds ~= false then
    self.since = nil
    return
  end
  self.since = self.since or now
  if lasted(self, now, self.options.clear) then self:reset "calm" end
end

--- Is it started, and not yet stopped?
function Hysteresis:is_on()
  return self.state == "on" or self.state == "falling"
end

--- Leaves what it was in: to "calm", or to "spent", where it waits for calm first.
function Hysteresis:reset(state)
  self.state, self.since, self.began = state, nil, nil
end

--- What to do now: "start", "stop" and why ("clear", "max"), "refuse" (once: it would start, but has started too
--- often), or nil.
---@param now number      seconds of a clock that never jumps
---@param holds boolean?  nil: it could not be told
function Hysteresis:step(now, holds)
  if self:is_on() and now - self.began >= self.options.max - self.options.every / 2 then
    self:reset "spent"
    step.spent(self, now, holds)
    return "stop", "max"
  end
  return step[self.state](self, now, holds)
end

return hysteresis
