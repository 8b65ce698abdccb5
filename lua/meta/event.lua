---@meta

--- Events: what happens of itself, and what the datapath tells of packets. Each has a `name`, by which handlers ask.

---@class tg
local tg = {}

--- Calls `fn(event)`, as a task, for each event whose name matches the pattern; `*` stands for any characters. From the
--- commit until the next generation's, or until it is cancelled. With `batch` it calls `fn(events)` every so
--- many seconds if there are any, sooner if there are 4,096, one list at a time. What a handler does not keep up with
--- is lost to it, and counted (`lost`).
---@param pattern string  `"backend.down"`, `"policy.*"`
---@param fn fun(event: tg.Event)|fun(events: tg.Event[])
---@param options? { batch?: number|string }
---@return tg.Handler
function tg.on(pattern, fn, options) end

---@class tg.Handler
---@field lost integer  events for which it had no room
local Handler = {}

--- No further delivery.
function Handler:cancel() end

--- Which fields there are depends on the name. `backend.up`, `backend.down`, `backend.drained`: service, backend,
--- reason. `trigger.start`, `trigger.stop`: trigger, cause. The others are of packets: `policy.drop` and
--- `policy.accept` (of rules with `log`), what a rule's `event` names, `flow.new`, `deny.hit`; of these, what a packet
--- does not have, or what can't be told, is nil.
---@class tg.Event
---@field name string
---@field service? string
---@field backend? string    its endpoint, as in the script
---@field reason? string     also why a packet was dropped ("policy-drop", "denied")
---@field trigger? string    its name
---@field cause? string
---@field port? string       that the packet came in by, or was to leave by
---@field direction? "ingress"|"egress"
---@field src? string
---@field dst? string
---@field proto? "tcp"|"udp"|"icmp"|"icmp6"|integer
---@field sport? integer
---@field dport? integer
---@field flags? string      TCP's: "S", "SA"
---@field icmp_type? integer
---@field rule? string       that decided: its name or text; "default"
---@field line? string       where it stands: "web.lua:12"
---@field list? string       of deny.hit
---@field action? "accept"|"drop"|"reject"  what the rule says
---@field audit? true        which was not carried out
---@field length? integer    bytes of the packet
---@field sample? integer    one packet in so many is told: this one stands for that many
---@field time? number       seconds since 1970

return tg
