---@meta tidegate

--- Tidegate's library: the global `tg`, and `require "tidegate"`. These files are for editors
--- (LuaCATS); the functions themselves are in lua/tidegate/, or in C (core/lua_*.c).
---
--- Throughout: addresses are strings (`"10.0.0.1"`, `"2001:db8::1"`), endpoints `"10.0.0.1:80"` and
--- `"[2001:db8::1]:80"`, with a protocol `"10.0.0.1:80/tcp"`. Times are seconds, which may have a
--- fraction; options that are times also take `"500ms"`, `"30s"`, `"5m"`, `"1h"`, `"2d"`. Misuse (a wrong
--- type, an unknown option, a number out of range) raises an error that names the option, at the
--- caller's line. What the environment refuses returns `nil, message, code` (`"ECONNREFUSED"`).
---@class tg
---@field allow tg.List
---@field check tg.check
---@field deny tg.List
---@field flows tidegate.Flows  the flows of stateful policies
---@field log tg.log
---@field maglev tg.maglev
---@field map tg.map
---@field net tg.net
---@field packet tg.packet
---@field prog tg.prog
---@field services table<string, tg.Service>  by name: also one that another file declares; pairs goes through those in force
---@field pools table<string, tg.Pool>
---@field mirrors table<string, tg.Mirror>
---@field ports table<string, tg.Port>
---@field triggers table<string, tg.Trigger>
tg = {}

---@class tg.InstanceOptions
---@field memory? string|integer  what Lua may use: bytes, `"64M"` (the default; 16M to 16G)
---@field log? "debug"|"info"|"warn"|"error"  the lowest level that is logged; `"info"`
---@field seed? string  the secret that keys the flow hash, at least 8 characters: the same on all nodes that
--- serve the same VIPs. In force when the instance is first loaded; without it each instance draws its own
---@field flows? integer  room for flows that are remembered, 8 bytes each: 64 to 2^28, by default 1,572,864. In force when
--- the instance is first loaded
---@field idle? number|string  seconds of silence after which a flow is forgotten: 3 to 86400, by default 300
---@field client_flows? integer  how many flows of one client (an IPv4 address, an IPv6 /64) may be entered in a thirtieth
--- of `idle`; 4,096
---@field tracked? integer  flows of stateful policies that there is room for, and as many younger ones: 64 to 16,777,216,
--- by default 65,536. Of an instance that has them already it changes nothing
---@field timeouts? table<string, number|string>  of these, by state (tg.FlowFilter): seconds of silence after which one is
--- forgotten, 1 to 2,592,000
---@field pick_up? boolean|number  whether, or for how many seconds from when there first is a stateful policy, TCP that the
--- rules accept is followed though its handshake was not seen; 60
---@field flow_events? integer  one flow in so many is told as `flow.new` and `flow.end`; 0: none
---@field failsafe? false|string[]  what no policy may cut off, as in a policy's options
---@field rates? boolean  true: ports count what tg.rates() tells, from the beginning
---@field tunnel? tg.TunnelOptions  what the modes ipip and gue put around a packet

---@class tg.TunnelOptions
---@field source? string|string[]  a prefix of each family: the outer source is an address in it, chosen by the flow;
--- `{ "172.16.0.0/16", "100::/64" }`. Of IPv6 at most the last 32 bits vary. One address: the same for all flows.
--- IPv4 /8 to /32, IPv6 /16 to /128
---@field gue_port? integer  UDP port; 6080

--- Settings of the whole instance; one call.
---@param options tg.InstanceOptions
function tg.instance(options) end

--- What would become of a packet that comes in by a port, and by which tables. Nobody notices: the datapath's
--- own instructions run on the live tables, in a copy that counts and changes nothing.
---@param port string  a declared port
---@param packet tg.Packet|table|string  a packet, its layers, its text, or its bytes in hexadecimal digits
---@return tg.Trace? trace, string? message, string? code
function tg.trace(port, packet) end

--- A value as Lua text, for people.
---@param value any
---@return string
function tg.inspect(value) end

--- The log. With one argument the text is taken as it is, else as string.format's.
---@class tg.log
local log = {}

---@param format string
function log.debug(format, ...) end

---@param format string
function log.info(format, ...) end

---@param format string
function log.warn(format, ...) end

---@param format string
function log.error(format, ...) end

--- Logs nothing below this level from now on.
---@param level "debug"|"info"|"warn"|"error"
function log.level(level) end

--- The last messages, oldest first; those after a serial number.
---@param after? integer
---@return { serial: integer, level: string, text: string }[]
function log.recent(after) end

---@class tg.maglev
local maglev = {}

--- A table of slots, by the builder that the datapath uses: ids, from 1 to `size`. A backend has
--- slots in proportion to its weight (0 to 65535, by default 1). The same list gives the same table,
--- in whatever order; `key` is what a backend's places are made from, by default its id.
---@param backends { id: integer, weight?: integer, key?: string }[]
---@param size? integer  a prime below 2^24; 65,537
---@return integer[] slots
function maglev.build(backends, size) end

return tg
