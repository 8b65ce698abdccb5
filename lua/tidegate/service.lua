-- SPDX-License-Identifier: GPL-2.0-only
--- tg.service: addresses that clients know (VIPs), and the backends that their connections go to.
--- What a handle changes at a file's top level joins the declaration; later it acts on what runs
--- (see running.lua).

local address = require "tidegate.address"
local backend = require "tidegate.backend"
local check = require "tidegate.check"
local desired = require "tidegate.desired"
local generation = require "tidegate.generation"
local maglev = require "tidegate.core.maglev"
local misuse = require "tidegate.misuse"
local pool = require "tidegate.pool"
local quic = require "tidegate.quic"
local running = require "tidegate.running"
local schema = require "tidegate.schema"
local task = require "tidegate.task"

local service = {}

local function vip(what, value)
  if type(value) ~= "string" then
    misuse("%s: %s given, \"ADDRESS:PORT/tcp\" or \"…/udp\" expected", what, schema.show(value))
  end
  local endpoint, problem = address.parse_vip(value)
  problem = problem or address.refusal(endpoint)
  if problem then misuse("VIP %s: %s", schema.show(value), problem) end
  if not endpoint.port then misuse("VIP %q: the port is missing (\"%s:80/tcp\")", value, value) end
  endpoint.proto = endpoint.proto or "tcp"
  return endpoint
end

local function vips(what, value)
  local list = type(value) == "table" and value or { value }
  local result, seen = {}, {}
  for i, text in ipairs(list) do
    local read = vip(what, text)
    local name = address.format_vip(read)
    if seen[name] then misuse("%s: %q is listed twice", what, name) end
    seen[name], result[i] = true, read
  end
  if #result == 0 then misuse("%s: at least one VIP expected", what) end
  return result
end

local function slots(what, value)
  local size = schema.integer(2, (1 << 24) - 1)(what, value)
  if not maglev.is_prime(size) then misuse("%s: %d given, a prime below 2^24 expected", what, size) end
  return size
end

--- A pool, the name of one, or a list.
local function backends(what, value)
  if pool.is(value) then return value end
  if type(value) == "string" then return pool.reference(schema.name(what, value)) end
  return backend.list(what, value)
end

local options = schema.table {
  name = schema.required(schema.name), vip = schema.required(vips),
  mode = schema.one_of { "nat", "l2dsr", "ipip", "gue" },
  backends = schema.required(backends), check = check.options, drain = schema.seconds(0, 86400 * 30),
  fail = schema.one_of { "drop", "pass", "backup" }, backup = backends, slots = slots,
  affinity = schema.one_of { "none", "flow", "strict", "source" }, quic = quic.options,
}

---@class tidegate.Service
---@field name string
local Service = {}
local meta = { __name = "tidegate.Service", __metatable = "tidegate.Service", __index = Service }

local declarations = setmetatable({}, { __mode = "k" })

--- Declares a service; returns its handle.
function service.declare(given)
  local name = type(given) == "table" and given.name or nil
  local declaration = generation.declare("service", name, function()
    local checked = options("tg.service", given)
    checked.mode, checked.fail = checked.mode or "nat", checked.fail or "drop"
    checked.drain, checked.affinity = checked.drain or 300, checked.affinity or "none"
    if checked.fail == "backup" and not checked.backup then
      misuse("tg.service %q: fail = \"backup\" needs backup = { … }", checked.name)
    end
    return checked
  end)
  declaration.changes = {}
  local handle = setmetatable({ name = name }, meta)
  declarations[handle] = declaration
  return handle
end

--- A handle for a service by its name: one that runs, or one that some file declares.
function service.reference(name)
  return setmetatable({ name = name }, meta)
end

--- While files load: their generation, and the declaration that a handle means, if there is one yet.
local function declaring(handle)
  local declaration = declarations[handle]
  if declaration then generation.check_handle(declaration) end
  local gen = generation.loading()
  if not gen then return nil end
  return gen, declaration or (gen.declared.service or {})[handle.name]
end

--- Changes what runs, or joins the declaration. `change` is a table that running.change understands.
local function apply(handle, change)
  local gen, declaration = declaring(handle)
  if not gen then return running.change(handle.name, change) end
  change.position = generation.position()
  if declaration then
    table.insert(declaration.changes, change)
  else
    table.insert(gen.changes, { service = handle.name, change = change })
  end
  return true
end

--- Adds a backend: an address, or { address, weight =, backup = }.
function Service:add(value)
  return apply(self, { op = "add", backend = backend.read("add", value) })
end

--- Removes a backend: drains it, then forgets it; `{ now = true }` at once, also one that drains already.
function Service:remove(addr, given)
  local chosen = schema.table { now = schema.boolean } ("remove", given or {})
  return apply(self, { op = "remove", name = backend.parse("remove", addr).name, now = chosen.now })
end

--- Sets a backend's weight: 0 to 65535, 0 takes no new flows.
function Service:weight(addr, weight)
  local name = backend.parse("weight", addr).name
  return apply(self, { op = "weights", weights = { [name] = backend.weight("weight of " .. name, weight) } })
end

--- Sets several weights at once: { [address] = weight }.
function Service:weights(map)
  if type(map) ~= "table" then misuse("weights: a table { [address] = weight } expected") end
  local weights = {}
  for addr, weight in pairs(map) do
    local name = backend.parse("weights", addr).name
    weights[name] = backend.weight("weight of " .. name, weight)
  end
  return apply(self, { op = "weights", weights = weights })
end

local admin_options = schema.table { ttl = schema.seconds(0.001, 86400 * 365), reason = schema.string }

--- What a file sets with a ttl ends so long after the commit.
local function ready_after(handle, name, ttl)
  generation.arm(("the end of %s's ttl"):format(name), function()
    task.after(ttl, function() running.change(handle.name, { op = "admin", name = name, admin = "ready" }) end)
  end)
end

--- Sets what the operator wants of a backend: "ready", "drain" (no new flows) or "maint" (none at
--- all); with `ttl` it is "ready" again after so many seconds.
function Service:admin(addr, state, given)
  local checked = admin_options("admin", given or {})
  local name = backend.parse("admin", addr).name
  local admin = schema.one_of { "ready", "drain", "maint" } ("admin", state)
  if checked.ttl and generation.loading() then ready_after(self, name, checked.ttl) end
  return apply(self, { op = "admin", name = name, ttl = checked.ttl, reason = checked.reason, admin = admin })
end

--- admin(addr, "drain").
function Service:drain(addr, given)
  return self:admin(addr, "drain", given)
end

--- The backends: declared ones at a file's top level, else those that run, with their state.
function Service:backends()
  local gen, declaration = declaring(self)
  if not declaration then return running.backends(self.name) end
  return declaration.broken and {} or desired.declared_backends(gen, declaration)
end

local function read_endpoint(what, text)
  local endpoint, problem = address.parse(tostring(text))
  if not endpoint then misuse("%s: %q: %s", what, tostring(text), problem) end
  return endpoint
end

local lookup_options = schema.table {
  vip = read_endpoint, port = schema.integer(1, 65535), proto = schema.one_of { "tcp", "udp" },
}

--- The backend that a flow from this client ("192.0.2.7:40000", "…/udp") goes to, or nil and why. Which
--- of the service's VIPs it is for: the first that is as `vip` (an address, or "198.51.100.10:8042/tcp"),
--- `port` and `proto` say.
function Service:lookup(client, given)
  local from, to = read_endpoint("lookup", client), lookup_options("lookup", given or {})
  if not from.port then misuse("lookup: %q: the client's port is missing", client) end
  local named = to.vip or {}
  return running.lookup(self.name, {
    client = from.addr, port = from.port, vip = named.addr, vip_port = to.port or named.port,
    proto = to.proto or named.proto or from.proto,
  })
end

function meta:__tostring()
  return ("service %q"):format(self.name or "?")
end

return service
