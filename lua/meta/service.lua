---@meta

--- What a script declares at its top level: ports, pools, services. Declarations are put in force
--- together, when all files have been read and the whole is valid. Names are unique, across files too;
--- a service may name a pool that another file declares.

---@class tg
local tg = {}

---@class tg.PortOptions
---@field xdp? "auto"|"native"|"generic"|"off"  `"auto"`: native where the driver has it, else generic
---@field optional? boolean  no error if there is no such device; attached when it appears
---@field tc? boolean|"auto"|"tcx"|"clsact"  how TC programs are attached where a policy or the like needs them: true
--- or `"auto"` (by default) by TCX where the kernel has it (6.6), else as filters of clsact; false: never
---@field rates? boolean  true: ports count what tg.rates() tells, from the beginning

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
---@field quic_id? integer  its server ID, where the service is QUIC; else the last bytes of its address
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
---@field mode? "nat"|"l2dsr"|"ipip"|"gue"  nat: addresses and ports are translated, answers return through the switch; l2dsr:
--- packets as they are, to the backend's MAC, and the backend answers the client itself; ipip, gue: the same, but in
--- other packets, so across routers, to a backend of either family that takes them out (`tidegate decap`). Default nat
---@field vip string|string[]  `"198.51.100.10:443/tcp"`; the protocol is tcp unless it says udp. A range of ports,
--- `"198.51.100.10:8000-8099/tcp"`, or all, `"198.51.100.10:*/udp"`: then backends have no port of their own and a
--- check names one. Of VIPs that overlap the most specific has the port; ranges lie within each other or apart
---@field backends tg.Pool|string|tg.BackendEntry[]  a pool, a pool's name, or a list
---@field check? tg.CheckOptions  of backends without one of their own; without any a backend is up
---@field fail? "drop"|"pass"|"backup"  without a live backend: drop (the default), pass to the stack, or use `backup`
---@field backup? tg.Pool|string|tg.BackendEntry[]
---@field drain? number|string  seconds for which the old flows of a backend that was removed or told to drain may go on;
--- what is left then is cut. 0 to 30 days; 0: at once; by default 300
---@field affinity? "none"|"flow"|"strict"|"source"  which flows stay where they are while slots move. none (the default): those
--- of TCP and QUIC; flow: other UDP too, that speaks within the instance's `idle`; strict: every flow is remembered from
--- its beginning; source: the client's address alone says the backend
---@field quic? boolean|tg.QuicOptions  UDP is QUIC, whose connection IDs name the server
---@field slots? integer  of the ring: a prime; 65,537, or the next prime ≥ 100 × the backends

--- Where the server's ID stands in the connection IDs that servers give out. `true` is { offset = 1, length = 2,
--- config = 0 }: draft-ietf-quic-load-balancers, plaintext.
---@class tg.QuicOptions
---@field offset? integer  bytes before it: 1
---@field length? integer  its bytes, 1 to 4, the highest first: 2
---@field config? integer  0 to 6: an ID names a server only if the first byte's three top bits are these; by default any

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

---@class tg.LookupOptions
---@field vip? string  `"198.51.100.10"`, `"198.51.100.10:8042/tcp"`
---@field port? integer  the VIP's; a range asks for one
---@field proto? "tcp"|"udp"

--- The backend that a flow from this client goes to: to the service's first VIP of the client's family,
--- or the first that is as the options say.
---@param client string  `"192.0.2.7:40000"`, `"…/udp"`
---@param options? tg.LookupOptions
---@return string? backend, string? message, string? code  where its slot moves, and it would go to another if it
--- began now, the second is that one. Or nil: `ENOENT`: no such VIP, or a narrower one of another
--- service has the port; `EINVAL`: a range, and no port is named; `EHOSTDOWN`: no live backend
function Service:lookup(client, options) end

---@class tg.Backend
---@field addr string
---@field port? integer  where it is not the VIP's
---@field weight integer
---@field quic_id? integer  its server ID, if the service is QUIC
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
---@field leaves boolean  it was removed, and is forgotten when it has drained
---@field drained boolean  it was told to drain, and that is over
---@field flows? integer  of one that takes no new ones: about how many old ones spoke within `idle`
---@field last_flow? number  when the last of them spoke: seconds since 1970
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
---@field native boolean  native XDP can send by the device: not by a bridge, a VLAN …
---@field mtu integer
---@field gateway? string
---@field mac? string

return tg
