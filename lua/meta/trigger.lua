---@meta

--- What happens on its own: rates that the datapath counts, and triggers that act on them.

---@class tg
local tg = {}

--- What one direction brings in a second, the mean of the last second.
---@class tg.PortRates
---@field packets number  a super-packet counts as those that it is made of
---@field bytes number
---@field tcp number
---@field tcp_syn number  without ACK
---@field tcp_rst number
---@field udp number
---@field icmp number
---@field fragments number
---@field drops number  of these, what went no further

---@class tg.Rates : tg.PortRates  what comes in by all ports
---@field egress tg.PortRates  what leaves by them
---@field ports table<string, tg.RatesOfPort>
---@field reasons table<string, number>  packets, by why they were dropped or passed: `r.reasons["denied"]`

---@class tg.RatesOfPort : tg.PortRates
---@field egress tg.PortRates

--- The rates of the last second. The ports count while a file declares a trigger, or says `rates = true` for a port
--- or the instance, and from the first call of this on, which then waits for a second. A port with `tc = false`
--- counts what XDP drops and forwards alone.
---@return tg.Rates? rates, string? message, string? code
function tg.rates() end

---@class tg.TopOptions
---@field by? "src"|"dst"  `"src"`
---@field match? table  what is counted: a table of a policy's matches (proto, dport, flags …) or a list of such; without
--- it everything
---@field n? integer  at most so many, 1 to 1000; 10
---@field seconds? number|string  so long it counts, 0.1 to 60; 2
---@field port? string  of what comes in by this port; by default by all

---@class tg.TopEntry
---@field src? string  by = "src"
---@field dst? string  by = "dst"
---@field rate number  packets a second
---@field packets integer
---@field bytes integer
---@field completed? integer  handshakes of TCP whose answer this switch has seen, and then its acknowledgement by another
--- interface: what a spoofed source does not bring about. nil where answers don't come by here: clients of direct-return
--- services (l2dsr, ipip, gue)

--- Who sends most, or gets most, during the next seconds, which this waits for. The datapath counts meanwhile, before
--- any policy, what TC sees and what XDP forwards; what deny lists drop is tg.deny:top()'s. 16,384 addresses are told
--- apart. A second call waits for the first. In a task.
---@param options? tg.TopOptions
---@return tg.TopEntry[]? list, string? message, string? code
function tg.top(options) end

---@class tg.TriggerOptions
---@field name string
---@field when fun(r: tg.Rates): any  asked each `every` seconds: is it so?
---@field start fun(r: tg.Rates, cause: string)  a task; `cause` tells the values that `when` has read
---@field stop? fun(why: "clear"|"max"|"generation"|"told")  a task, of at most 30 s; a `start` that goes on is ended before
---@field hold? number|string  it is so for this long: start. 1 s
---@field clear? number|string  it is not so for this long: stop. 30 s
---@field max? number|string  it is on for this long at most; then `when` has to be false for `clear` before it starts
--- again. 600 s
---@field starts? integer  at most so many an hour: 6
---@field every? number|string  1 s, at least 0.05

--- Does something while a condition on the rates holds, and undoes it after. The log tells the cause, and so do the
--- events `trigger.start` and `trigger.stop` (with `trigger`, its name, and `cause`). What `when` raises, is logged and
--- counted, and is neither yes nor no. It stops with its generation too, but not with the daemon: what `start` begins
--- should have an end of its own.
---@param options tg.TriggerOptions
---@return tg.Trigger
function tg.trigger(options) end

---@class tg.Trigger
---@field name string
local Trigger = {}

---@class tg.TriggerStatus
---@field name string
---@field state "calm"|"rising"|"on"|"falling"|"spent"  spent: stopped while its condition held
---@field on boolean
---@field since number  when it was started or stopped, seconds since 1970
---@field starts integer
---@field errors integer
---@field cause? string  of the last start
---@field position string  in its file

---@return tg.TriggerStatus? status, string? message, string? code
function Trigger:status() end

--- Stops it if it is on: true, or false. It starts again once its condition has not held for `clear`, and then does.
---@return boolean? was_on, string? message, string? code
function Trigger:stop() end

return tg
