---@meta tidegate.flows

--- The flows of policies with `stateful = true`, of all ports. They are followed and forgotten without the daemon; what
--- is here reads them, and removes some. Of `stateful = "conntrack"` the kernel has them: `conntrack -L`.

--- Which flows: all that is given has to hold. "Source" is who began a flow.
---@class tg.FlowFilter
---@field src? string  an address or a prefix
---@field dst? string
---@field proto? string|integer
---@field sport? integer  of ICMP the identifier
---@field dport? integer
---@field port? integer  either of the two
---@field state? string|string[]  syn-sent, syn-received, established, fin-wait, closing, time-wait, closed, udp-new, udp,
--- icmp, other-new, other
---@field device? string  the port whose policy let it in

---@class tg.Flow
---@field proto string
---@field src string  who began it
---@field dst string
---@field sport? integer
---@field dport? integer
---@field id? integer  of ICMP
---@field state string
---@field confirmed boolean  both sides have spoken, and it can't be pushed out by others
---@field packets integer  from its source
---@field bytes integer
---@field reply_packets integer
---@field reply_bytes integer
---@field age number  seconds since it began
---@field idle number  since its last packet
---@field device? string  the port whose policy let it in
---@field direction "ingress"|"egress"  which policy of it
---@field rule? string  the rule that did, by name or text

---@class tg.FlowSum
---@field confirmed integer
---@field embryos integer  those that may be pushed out
---@field states table<string, integer>

---@class tidegate.Flows
local Flows = {}

--- Goes through those that live and match: `for flow in tg.flows:pairs { dport = 22 } do`. What begins or ends
--- meanwhile may be missed.
---@param filter? tg.FlowFilter
---@return fun(): tg.Flow?
function Flows:pairs(filter) end

--- How many live and match.
---@param filter? tg.FlowFilter
---@return integer? flows, tg.FlowSum|string sum, string? code
function Flows:count(filter) end

--- Removes those that live and match; their next packets are for the rules. At a file's top level it runs after the
--- commit, and returns true.
---@param filter tg.FlowFilter  not empty
---@return integer|true? flows, string? message, string? code
function Flows:kill(filter) end

return Flows
