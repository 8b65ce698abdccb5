---@meta

--- Tasks and timers. A task runs until it waits (sleeps, connects, reads …) or ends; others run
--- meanwhile. Half a second without waiting, and it is stopped. What a script starts at its top level
--- begins at the commit and ends with its generation, what a task starts with that as well; `<close>`
--- variables run.

---@class tg
local tg = {}

--- Starts a task that runs `fn(…)`.
---@param fn function
---@return tg.Task
function tg.spawn(fn, ...) end

--- Waits.
---@param seconds number
function tg.sleep(seconds) end

--- Runs `fn` as a task every so many seconds, on a schedule that doesn't drift. A run that is due while
--- the one before goes on is left out.
---@param interval number|string  seconds, at least 0.001
---@param fn function
---@param options? { name?: string, jitter?: number }  jitter: up to so many seconds later, anew for each run
---@return tg.Timer
function tg.every(interval, fn, options) end

--- Runs `fn(…)` as a task in so many seconds.
---@param seconds number|string
---@param fn function
---@return tg.Timer
function tg.after(seconds, fn, ...) end

--- Runs `fn` as a task by the calendar: "0 3 * * mon-fri" (minute, hour, day of the month, month, day of the week;
--- names, lists, ranges, steps), or @hourly, @daily, @weekly, @monthly, @yearly. A time that daylight saving skips is
--- due once, right after; one that comes twice, the first time only; where hour or minute begins with *, whenever
--- the clock shows it. A run is missed when more than a minute late (the machine slept), or while the one before goes on:
--- "skip" leaves it out, "once" makes up for all that were missed by one.
---@param spec string
---@param fn function
---@param options? { tz?: string, name?: string, missed?: "skip"|"once" }  tz: "Europe/Berlin"; without, the system's
---@return tg.Cron
function tg.cron(spec, fn, options) end

--- Runs `fn(…)` for at most so many seconds: what it returns, or nil, "timeout" after its `<close>`
--- variables ran. An error in it is an error here.
---@param seconds number
---@param fn function
---@return any ...
function tg.timeout(seconds, fn, ...) end

--- At a file's top level spawn, every and after return what has not begun yet: it can be cancelled.
---@class tg.Task
---@field name string
---@field state "alive"|"done"|"failed"|"cancelled"
local Task = {}

--- Waits for the end: true and what the function returned, or false, the error (or "cancelled") and its
--- traceback.
---@return boolean ok, any ...
function Task:join() end

--- Ends the task; the running one ends at its next wait.
function Task:cancel() end

--- Fails the task if it is still alive in so many seconds.
---@param seconds number
function Task:limit(seconds) end

---@class tg.Timer
---@field name string
---@field runs integer
---@field missed integer  left out, since the run before was going on
local Timer = {}

--- No further run; a run under way is ended too, unless it is the one that calls this.
function Timer:cancel() end

---@class tg.Cron
---@field name string
---@field runs integer
---@field missed integer  left out
---@field next integer    when it is due, seconds since 1970
local Cron = {}

--- No further run; a run under way is ended too, unless it is the one that calls this.
function Cron:cancel() end

return tg
