-- SPDX-License-Identifier: GPL-2.0-only
--- The state in force: services and ports as the controller has them, and the ways to change it, one
--- at a time: a whole generation's (commit), or one service's (change).

local address = require "tidegate.address"
local attachment = require "tidegate.attachment"
local balancer = require "tidegate.core.balancer"
local check = require "tidegate.check"
local controller = require "tidegate.core.controller"
local desired = require "tidegate.desired"
local lists = require "tidegate.lists"
local log = require "tidegate.log"
local mirrors = require "tidegate.mirrors"
local policy = require "tidegate.policy.state"
local programs = require "tidegate.programs"
local taps = require "tidegate.taps"
local task = require "tidegate.task"
local top = require "tidegate.top"

local running = {
  services = {},      -- name → spec (desired.lua)
  ports = {},         -- name → port (attachment.lua)
  features = 0,       -- that the program has
  policy = policy.in_force,
  mirrors = {},       -- name → mirror (mirrors.lua)
  tunnel = nil,       -- what ipip and gue put around a packet (settings.lua)
  limits = nil,       -- of flows that are remembered (settings.lua); nil of what was adopted
  admins = {},        -- service → backend → { admin, reason, expires }: the operator's, kept over reloads
  attach = true,      -- false: run --no-attach
}

--- One change at a time: who changes the state holds this.
running.lock = programs.lock

-- Services -----------------------------------------------------------------------------------------

local function list_of(services)
  local list = {}
  for _, name in ipairs(desired.names(services)) do list[#list + 1] = services[name] end
  return list
end

local function adopt_backend(spec, backend)
  local name = address.format(backend.addr, backend.port)
  spec.backends[#spec.backends + 1] = {
    name = name, addr = backend.addr, port = backend.port, weight = backend.weight, admin = backend.admin,
    backup = backend.backup or nil, quic_id = backend.quic_id,
  }
  if backend.admin ~= "ready" then
    running.admins[spec.name] = running.admins[spec.name] or {}
    running.admins[spec.name][name] = { admin = backend.admin }
  end
end

--- A service's state from the controller's own report: for what an earlier daemon left running.
local function adopt_service(status)
  local spec = {
    name = status.name, mode = status.mode, fail = status.fail, slots = status.slots, vips = status.vips,
    quic = status.quic, affinity = status.affinity, backends = {}, adopted = true, position = "adopted",
  }
  for _, backend in ipairs(status.backends) do
    if not backend.leaves then adopt_backend(spec, backend) end
  end
  return spec
end

--- Takes over what runs already; after controller.start.
function running.adopt()
  for _, status in ipairs(assert(task.await(balancer.status))) do
    running.services[status.name] = adopt_service(status)
  end
  for device, port in pairs(attachment.adopt()) do running.ports[device] = port end
end

local function copy_spec(spec)
  local copy = {}
  for key, value in pairs(spec) do copy[key] = value end
  copy.backends = {}
  for i, backend in ipairs(spec.backends) do
    copy.backends[i] = {}
    for key, value in pairs(backend) do copy.backends[i][key] = value end
  end
  return copy
end

local function remember_admin(name, change)
  local admins = running.admins[name] or {}
  running.admins[name] = admins
  if change.admin == "ready" then
    admins[change.name] = nil
    return
  end
  local entry = { admin = change.admin, reason = change.reason }
  admins[change.name] = entry
  if not change.ttl then return end
  entry.expires = os.time() + change.ttl
  task.start({ name = ("ttl of %s/%s"):format(name, change.name), owner = task.root() }, function()
    task.sleep(change.ttl)
    if (running.admins[name] or {})[change.name] == entry then
      running.change(name, { op = "admin", name = change.name, admin = "ready" })
    end
  end)
end

--- The backend of that name, declared or leaving (the controller has that one still); or nil.
local function named_backend(spec, name)
  for _, backend in ipairs(spec.backends) do
    if backend.name == name then return backend end
  end
  for _, service in ipairs(assert(task.await(balancer.status))) do
    for _, backend in ipairs(service.name == spec.name and service.backends or {}) do
      if backend.leaves and address.format(backend.addr, backend.port) == name then return backend, true end
    end
  end
end

--- Why l2dsr can't deliver to a backend: only a neighbour's MAC can be addressed. nil: it can.
function running.refuses_route(spec, backend)
  if spec.mode ~= "l2dsr" then return nil end
  local hop = task.await(balancer.route, backend.addr)
  if not hop or not hop.gateway then return nil end
  return ("service %q: backend %s is behind the gateway %s, and l2dsr reaches neighbours only; use ipip or gue, or nat")
    :format(spec.name, backend.name, hop.gateway)
end

--- A service's spec after a change that is not yet in force; or nil, why, code.
local function changed(spec, change)
  local fresh, added = copy_spec(spec), change.backend
  if added then
    added.admin = added.admin or "ready"
    desired.adopt_check(spec, added)
  end
  local gone, leaves
  if change.op == "remove" and change.now then
    gone, leaves = named_backend(spec, change.name)
    fresh.cut = gone and { addr = gone.addr, port = gone.port }
  end
  local ok, message, code = leaves, nil, nil
  if not ok then ok, message, code = desired.change(fresh.backends, change) end
  if not ok then return nil, ("service %q: %s"):format(spec.name, message), code end
  message = added and (desired.refusal(fresh, running.services) or running.refuses_route(spec, added))
  if message then return nil, message, "EINVAL" end
  return fresh
end

--- Changes a service that runs (see desired.change). true, or nil, why, code.
function running.change(name, change)
  local turn <close> = running.lock:take()
  local spec = running.services[name]
  if not spec then return nil, ("there is no service %q"):format(name), "ENOENT" end
  local fresh, message, code = changed(spec, change)
  if not fresh then return nil, message, code end
  local ok
  ok, message, code = task.await(balancer.apply, { fresh }, true)
  if not ok then return nil, message, code end
  fresh.cut = nil
  running.services[name] = fresh
  if change.op == "add" then check.follow(change.backend.check) end
  if change.op == "admin" then remember_admin(name, change) end
  if change.op == "remove" and running.admins[name] then running.admins[name][change.name] = nil end
  return true
end

--- Adds what the controller does not know of the backends, and orders them by address.
local function complete(service)
  local admins, reasons = running.admins[service.name] or {}, {}
  for _, backend in ipairs((running.services[service.name] or {}).backends or {}) do
    reasons[backend.name] = backend.admin_reason
  end
  for _, backend in ipairs(service.backends) do
    backend.name = address.format(backend.addr, backend.port)
    backend.reason = (admins[backend.name] or {}).reason or reasons[backend.name] or backend.reason
    if backend.leaves then backend.reason = "removed" end
    backend.source = "file"
  end
  table.sort(service.backends, function(a, b) return a.name < b.name end)
  return service
end

--- The status of all services: name → status. Raises if the controller can't tell.
function running.status()
  local services = {}
  for _, service in ipairs(assert(task.await(balancer.status))) do services[service.name] = complete(service) end
  return services
end

--- The backends of a service that runs, ordered by address; or nil, why, code.
function running.backends(name)
  local service = running.status()[name]
  if not service then return nil, ("there is no service %q"):format(name), "ENOENT" end
  return service.backends
end

--- The backend of a flow, { client =, port =, vip =, vip_port =, proto = }, or nil, why, code.
function running.lookup(name, flow)
  local addr, port, fresh, fresh_port = task.await(balancer.lookup, name, flow)
  if not addr then return nil, port, fresh end
  return address.format(addr, port), fresh and address.format(fresh, fresh_port)
end

-- Ports --------------------------------------------------------------------------------------------

--- Gives ports back what they had: attached as before, or not at all.
local function attach_again(names)
  for _, name in ipairs(names) do
    local ok, message = attachment.restore(name, running.ports[name])
    if not ok then log.error("%s", message) end
  end
end

--- Attaches what `ports` has. The names of those attached; or nil, why, code, and all is as before.
local function attach_all(ports)
  local done = {}
  for _, name in ipairs(desired.names(ports)) do
    local port = ports[name]
    if running.attach and controller.ifindex(name) then
      done[#done + 1] = name
      local ok, message, code = attachment.attach(port)
      if not ok then
        attach_again(done)
        return nil, ("%s: %s"):format(port.position, message), code
      end
    end
  end
  return done
end

--- Detaches what is no longer asked for.
local function detach_others(ports)
  for name in pairs(running.ports) do
    local ok, message = true, nil
    if running.attach and ports[name] then
      ok, message = attachment.trim(ports[name])
    elseif running.attach then
      ok, message = attachment.detach(name)
    end
    if not ok then log.error("%s", message) end
  end
  controller.keep_slots(desired.names(ports))
end

--- Attaches to a port's device that has appeared; says only once why it can't.
local function attach_appeared(port)
  local ok, message = attachment.attach(port)
  if not ok and message ~= port.complaint then log.error("%s", message) end
  port.complaint = message
end

--- Attaches to optional devices that appear, and again to those that were replaced. Run every second.
function running.watch_ports()
  local turn <close> = running.lock:take()
  for _, name in ipairs(desired.names(running.ports)) do
    local port, ifindex = running.ports[name], controller.ifindex(name)
    if not ifindex then
      attachment.gone(port)
    elseif running.attach and ifindex ~= port.ifindex then
      attach_appeared(port)
    end
  end
end

--- From now on `user` (a text of its own) needs the TC programs on a port, which they are attached to, until
--- leave_tc; reloads go past it. The caller holds the lock, and programs with what it needs are in force. true, or
--- nil, why, code.
function running.use_tc(name, user)
  local port = running.ports[name]
  if not port then return nil, ("there is no port %q"):format(name), "ENOENT" end
  if port.tc == false then return nil, ("port %q has tc = false"):format(name), "EPERM" end
  port.uses = port.uses or {}
  port.uses[user] = "now"
  if not running.attach or not controller.ifindex(name) then return true end
  local ok, message, code = attachment.attach(port)
  if not ok then port.uses[user] = nil end
  return ok, message, code
end

--- `user` needs them no longer.
function running.leave_tc(name, user)
  local port = running.ports[name]
  if not port or not port.uses then return true end
  port.uses[user] = nil
  return not running.attach or attachment.trim(port)
end

--- Who uses TC now, whatever files say, goes on.
local function keep_uses(ports)
  for name, port in pairs(running.ports) do
    for user, how in pairs(ports[name] and port.uses or {}) do
      if how == "now" then ports[name].uses[user] = how end
    end
  end
end

-- Commit -------------------------------------------------------------------------------------------

--- After the programs were exchanged: the tables of lists that they know.
local function open_lists()
  if programs.features == running.features then return true end
  running.features = programs.features
  return lists.open()
end

local function specialise(features, matches)
  local ok, message, code = programs.commit(features, nil, matches)
  if not ok then return nil, message, code end
  return open_lists()
end

--- Lets the programs know what these features are, and what taps match (programs.taps; nil: as it is); the caller
--- holds the lock. true, or nil, why, code.
function running.need(features, matches)
  return specialise(running.features | features, matches)
end

--- The outer header of ipip and gue, where the program knows them.
local function set_tunnel(tunnel)
  if not tunnel or not desired.tunnels(running.features) then return end
  controller.tunnel(tunnel.source4.addr, tunnel.source4.length, tunnel.source6.addr, tunnel.source6.length,
    tunnel.gue_port)
end

--- Forgets the operator's drains of backends that are gone.
local function drop_admins()
  for name, admins in pairs(running.admins) do
    local spec, there = running.services[name], {}
    for _, backend in ipairs(spec and spec.backends or {}) do there[backend.name] = true end
    for backend, entry in pairs(admins) do
      if not there[backend] then
        log.warn("service %q: backend %s is gone, and with it its %s", name, backend, entry.admin)
        admins[backend] = nil
      end
    end
  end
end

local function undo_policies(state, before)
  mirrors.undo(state.mirrors)
  if before then policy.undo(before) end
  programs.asked_taps = nil
end

--- The programs with the features, policies and mirrors of a state beside what the others before had.
local function set_policies(state, wanted)
  local ok, message, code = mirrors.prepare(state.mirrors)
  if not ok then return nil, message, code end
  local before
  before, message, code = policy.commit(state.policy, running.features | wanted)
  if before then
    ok, message, code = open_lists()
    if ok then return before end
  end
  undo_policies(state, before)
  return nil, message, code
end

local function undo_lists()
  local ok, message = lists.undo()
  if not ok then log.error("the lists can't be what they were: %s", message) end
end

--- Puts a desired state in force: what can fail first (the programs, ports), then services, whose rings
--- are made before anything of them changes. On failure what was stays, and the result is nil, why, code.
--- The caller holds the lock.
function running.commit(state)
  local wanted = state.features | lists.kept_features() | taps.features() | top.features()
  keep_uses(state.ports)
  local before, message, code = set_policies(state, wanted)
  if not before then return nil, message, code end
  local attached, ok
  attached, message, code = attach_all(state.ports)
  if not attached then
    undo_policies(state, before)
    return nil, message, code
  end
  set_tunnel(state.tunnel)
  ok, message, code = lists.commit(state.lists)
  if ok then
    ok, message, code = task.await(balancer.apply, list_of(state.services), false)
    if not ok then undo_lists() end
  end
  if not ok then
    set_tunnel(running.tunnel)
    attach_again(attached)
    undo_policies(state, before)
    return nil, message, code
  end
  lists.keep()
  policy.keep(state.policy)
  mirrors.keep(state.mirrors)
  detach_others(state.ports)
  running.services, running.ports = state.services, state.ports
  running.tunnel, running.limits, running.mirrors = state.tunnel, state.limits, state.mirrors
  drop_admins()
  ok, message = specialise(wanted)
  if not ok then log.error("the program keeps features that nothing uses: %s", message) end
  lists.release()
  return true
end

return running
