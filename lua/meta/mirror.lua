---@meta tidegate.mirror

--- Mirrors: copies of some of a port's packets, sent out by a device of this host or to a collector.
---
--- A mirror copies nothing until it is started, and a start always says an end: seconds, packets, or both. It ends in
--- the datapath, so also with no daemon. One that is started stays so over a reload that does not change it, and over
--- a restart of the daemon; one that changes, or is declared no longer, is stopped.
---
--- Of what comes in, all packets are copied that match, also those that a policy drops; not those that deny
--- lists drop, or whose source is bogus. Of what leaves, those that were let through. Packets that services forward
--- are copied too: as they leave, translated or in a tunnel, while an ingress mirror's `match` is asked of them
--- as they came in. What fragments after the first belong to is known of packets that the stack
--- handles; of those that services forward, they match by their addresses and protocol. A packet that the host joined (GRO) or did
--- not cut yet (GSO) is one packet, cut by the device that the copy leaves by. A copy is copied by no mirror.
---
--- Whatever becomes of the device, production's packets go on; copies that it did not take are counted:
--- `device-down`, `device-gone`, `device-full`. If it is there again, or another one of its name, copies go there
--- within a second.
---@class tg.Mirror
---@field name string
local Mirror = {}

---@class tg.MirrorTarget
---@field vxlan string  the collector's address: copies go there in UDP (RFC 7348), by a device `tgvxN` that the daemon makes, and
--- removes when no mirror sends there any more
---@field vni integer  1 to 16777215; on one host a vni and port lead to one collector
---@field port? integer  UDP's; 4789

---@class tg.MirrorOptions
---@field name string  unique
---@field to string|tg.MirrorTarget  a device's name, which may appear later; not the port's own
---@field direction? "ingress"|"egress"|"both"  what comes in, what leaves; both
---@field match? tg.Match|tg.Match[]  a list: what any of them matches; by default everything, ARP and the like included.
--- Sets are not for mirrors
---@field sample? integer  one packet in so many, by chance; 1: each
---@field rate? integer  copies a second at most, a tenth of it at once; by default any number

---@class tg.MirrorEnd
---@field seconds? number|string  31 days at most
---@field packets? integer

--- Starts it; one that is started begins anew. At a file's top level that is done after the commit.
---@param limits number|string|tg.MirrorEnd  seconds, or both; whichever comes first
---@return boolean? done, string? message, string? code  `ENODEV`: the device is not there
function Mirror:start(limits) end

--- Stops it, started or not. At a file's top level that is done after the commit.
---@return boolean? done, string? message, string? code
function Mirror:stop() end

---@class tg.MirrorStatus
---@field name string
---@field port string
---@field to string
---@field direction "ingress"|"egress"|"both"
---@field match string
---@field sample integer
---@field rate? integer
---@field state "off"|"started"|"ended"
---@field device string  that copies leave by
---@field device_state "up"|"down"|"gone"
---@field packets integer  copied since its start
---@field bytes integer
---@field seconds_left? number
---@field packets_left? integer
---@field counts table<string, { packets: integer, bytes: integer }>  by what became of packets that match: `copied`, `skipped`
--- (by sampling), `limited` (beyond `rate`), `looped` (a copy itself), `device-down`, `device-gone`, `device-full`,
--- `failed`, `missed` (forwarded on a device whose driver has no room for metadata)

--- What it is, and what it has done; or nil, why, `ENOENT`.
---@return tg.MirrorStatus? status, string? message, string? code
function Mirror:status() end

---@class tg.Port
local Port = {}

--- Declares a mirror of the port.
---@param options tg.MirrorOptions
---@return tg.Mirror
function Port:mirror(options) end
