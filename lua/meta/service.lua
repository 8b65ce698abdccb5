---@meta

--- What a script declares at its top level: ports, pools, services. Declarations are put in force
--- together, when all files have been read and the whole is valid. Names are unique, across files too;
--- a service may name a pool that another file declares.

---@class tg
local tg = {}

---@class tg.PortOptions
---@field xdp? "auto"|"native"|"generic"|"off"  `"auto"`: native where the driver has it, else generic
---@field optional? boolean  no error if there is no such device; attached when it appears
---@field tc? boolean  nothing is attached there yet

--- Attaches the datapath to a network device.
---@param name string
---@param options? tg.PortOptions
---@return tg.Port
function tg.port(name, options) end

---@class tg.Port
---@field name string

--- A backend: its endpoint, alone or with options. The port is the VIP's unless it says otherwise,
--- which it may in nat alone.
---@alias tg.BackendEntry string|tg.BackendOptions

---@class tg.BackendOptions
---@field [1] string  `"10.0.0.12"`, `"10.0.0.12:8080"`
---@field weight? integer  0 to 65535, by default 1; 0: no new flows
---@field backup? boolean  serves only when no other lives
---@field check? tg.CheckOptions  instead of the service's or the pool's
---@field admin? "ready"|"drain"|"maint"
---@field tags? any  yours

---@class tg.PoolOptions
---@field name string
---@field backends tg.BackendEntry[]
---@field check? tg.CheckOptions

--- Backends with a name and a check, for several services.
---@param options tg.PoolOptions
---@return tg.Pool
function tg.pool(options) end

---@class tg.Pool
---@field name string

---@class tg.ServiceOptions
---@field name string
---@field mode? "nat"|"l2dsr"  nat: addresses and ports are translated, answers return through the switch; l2dsr:
--- packets as they are, to the backend's MAC, and the backend answers the client itself. Default nat
---@field vip string|string[]  `"198.51.100.10:443/tcp"`; the protocol is tcp unless it says udp
---@field backends tg.Pool|string|tg.BackendEntry[]  a pool, a pool's name, or a list
---@field check? tg.CheckOptions  of backends without one of their own; without any a backend is up
---@field fail? "drop"|"pass"|"backup"  without a live backend: drop (the default), pass to the stack, or use `backup`
---@field backup? tg.Pool|string|tg.BackendEntry[]
---@field drain? number|string  seconds that `remove` drains for; 300
---@field slots? integer  of the ring: a prime; 65,537, or the next prime ≥ 100 × the backends

--- A service: addresses that clients know (VIPs) and the backends that their connections go to.
---@param options tg.ServiceOptions
---@return tg.Service
function tg.service(options) end

--- At a file's top level a change joins the declaration. Later it acts on what runs, waits until it
--- is in force, and returns true; or nil and why not, when the change makes no sense for what runs.
---@class tg.Service
---@field name string
local Service = {}

---@param backend tg.BackendEntry  its check is that of the service's others, unless it has one
---@return true? ok, string? message, string? code  `EEXIST`: it is there already
function Service:add(backend) end

--- Drains the backend, then forgets it; at once with `now`.
---@param backend string
---@param options? { now?: boolean }
---@return true? ok, string? message, string? code
function Service:remove(backend, options) end

---@param backend string
---@param weight integer  0 to 65535; 0: no new flows
---@return true? ok, string? message, string? code
function Service:weight(backend, weight) end

--- Several at once: one change of the ring.
---@param weights table<string, integer>
---@return true? ok, string? message, string? code
function Service:weights(weights) end

--- What the operator wants of a backend: `"ready"`, `"drain"` (no new flows) or `"maint"` (none at
--- all). Kept over reloads; with `ttl` it is ready again after so many seconds.
---@param backend string
---@param state "ready"|"drain"|"maint"
---@param options? { ttl?: number|string, reason?: string }
---@return true? ok, string? message, string? code
function Service:admin(backend, state, options) end

--- admin(backend, "drain", options)
---@param backend string
---@param options? { ttl?: number|string, reason?: string }
---@return true? ok, string? message, string? code
function Service:drain(backend, options) end

--- The backends with their state, ordered by address. At a file's top level: those declared so far,
--- with the state `"declared"`, addresses, ports and weights alone.
---@return tg.Backend[]? backends, string? message, string? code
function Service:backends() end

--- The backend that a flow from this client goes to.
---@param client string  `"192.0.2.7:40000"`, `"…/udp"`
---@return string? backend, string? message, string? code
function Service:lookup(client) end

---@class tg.Backend
---@field addr string
---@field port? integer  where it is not the VIP's
---@field weight integer
---@field state "up"|"down"|"drain"|"maint"|"declared"
---@field admin "ready"|"drain"|"maint"
---@field health string  `"unchecked"`, or what its checks came to, whatever `admin` says
---@field reason string  why: of the last check, or the operator's
---@field since number  when the state began: seconds since 1970
---@field latency number  of the last check
---@field last_check number  seconds since 1970
---@field checks_ok integer
---@field checks_failed integer
---@field source string  who declared it: `"file"`
---@field backup boolean
---@field slots integer  of the ring that lead to it
---@field packets integer  from clients
---@field bytes integer
---@field reply_packets integer  to clients, seen in nat alone
---@field reply_bytes integer
---@field next_hop tg.NextHop

---@class tg.NextHop
---@field state string  `"resolved"`, or what is missing
---@field ifindex integer  of the device it is reached by
---@field device integer  of the port that XDP sends from
---@field kind string  of the device
---@field mtu integer
---@field gateway? string
---@field mac? string

return tg
