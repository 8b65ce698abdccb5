-- SPDX-License-Identifier: GPL-2.0-only
--- The state in force: services and ports as the controller has them, and the ways to change it, one
--- at a time: a whole generation's (commit), or one service's (change).

local address = require "tidegate.address"
local controller = require "tidegate.core.controller"
local desired = require "tidegate.desired"
local log = require "tidegate.log"
local task = require "tidegate.task"

local running = {
  services = {},      -- name → spec (desired.lua)
  ports = {},         -- name → { name, xdp, optional, ifindex, mode, why }
  features = 0,       -- that the program has
  admins = {},        -- service → backend → { admin, reason, expires }: the operator's, kept over reloads
  attach = true,      -- false: run --no-attach
}

-- One change at a time -----------------------------------------------------------------------------

local waiting, busy = {}, false

local unlock = setmetatable({}, { __close = function()
  local next_one = table.remove(waiting, 1)
  if next_one then next_one() else busy = false end
end })

--- Waits for its turn; the caller holds the result in a <close> variable.
function running.lock()
  if busy then
    task.await(function(done)
      waiting[#waiting + 1] = done
      return function()
        for i, other in ipairs(waiting) do
          if other == done then table.remove(waiting, i) return end
        end
      end
    end)
  end
  busy = true
  return unlock
end

-- Services -----------------------------------------------------------------------------------------

local function list_of(services)
  local list = {}
  for _, name in ipairs(desired.names(services)) do list[#list + 1] = services[name] end
  return list
end

--- A service's state from the controller's own report: for what an earlier daemon left running.
local function adopt_service(status)
  local spec = {
    name = status.name, mode = status.mode, fail = status.fail, slots = status.slots, vips = status.vips,
    backends = {}, adopted = true, position = "adopted",
  }
  for i, backend in ipairs(status.backends) do
    spec.backends[i] = {
      name = address.format(backend.addr, backend.port), addr = backend.addr, port = backend.port,
      weight = backend.weight, admin = backend.admin, backup = backend.backup or nil,
    }
    if backend.admin ~= "ready" then
      running.admins[status.name] = running.admins[status.name] or {}
      running.admins[status.name][spec.backends[i].name] = { admin = backend.admin }
    end
  end
  return spec
end

--- Takes over what runs already; after controller.start.
function running.adopt()
  for _, status in ipairs(assert(task.await(controller.status))) do
    running.services[status.name] = adopt_service(status)
  end
  for device, ifindex in pairs(controller.links()) do
    running.ports[device] = { name = device, ifindex = ifindex }
  end
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

--- Drains a backend and removes it when its time is over, unless somebody made it ready again.
local function drain_then_remove(name, change, seconds)
  local ok, message, code = running.change(name, { op = "admin", name = change.name, admin = "drain" })
  if not ok then return nil, message, code end
  local entry = running.admins[name][change.name]
  task.start({ name = ("drain of %s/%s"):format(name, change.name), owner = task.root() }, function()
    task.sleep(seconds)
    if (running.admins[name] or {})[change.name] == entry then
      running.change(name, { op = "remove", name = change.name, now = true })
      running.admins[name][change.name] = nil
    end
  end)
  return true
end

local function change_locked(name, change)
  local lock <close> = running.lock()
  local spec = running.services[name]
  if not spec then return nil, ("there is no service %q"):format(name), "ENOENT" end
  local fresh = copy_spec(spec)
  if change.op == "add" then
    change.backend.admin = change.backend.admin or "ready"
    desired.adopt_check(fresh, change.backend)
  end
  local ok, message, code = desired.change(fresh.backends, change)
  if not ok then return nil, ("service %q: %s"):format(name, message), code end
  ok, message, code = task.await(controller.apply, { fresh }, true)
  if not ok then return nil, message, code end
  running.services[name] = fresh
  if change.op == "admin" then remember_admin(name, change) end
  return true
end

--- Changes a service that runs (see desired.change). true, or nil, why, code.
function running.change(name, change)
  local spec = running.services[name]
  if change.op == "remove" and not change.now and spec and spec.drain and spec.drain > 0 then
    return drain_then_remove(name, change, spec.drain)
  end
  return change_locked(name, change)
end

--- The backends of a declaration, as its file has them so far.
function running.declared_backends(declaration)
  local list = {}
  for i, backend in ipairs(type(declaration.backends) == "table" and declaration.backends or {}) do
    list[i] = { addr = backend.addr, port = backend.port, weight = backend.weight, state = "declared" }
  end
  return list
end

--- The status of one service, or nil, why, code.
function running.status(name)
  local services, message, code = task.await(controller.status)
  if not services then return nil, message, code end
  for _, service in ipairs(services) do
    if service.name == name then return service end
  end
  return nil, ("there is no service %q"):format(name), "ENOENT"
end

--- The backends of a service that runs, ordered by address.
function running.backends(name)
  local status, message, code = running.status(name)
  if not status then return nil, message, code end
  local admins = running.admins[name] or {}
  for _, backend in ipairs(status.backends) do
    local text = address.format(backend.addr, backend.port)
    local admin = admins[text]
    if admin and admin.reason then backend.reason = admin.reason end
    backend.source = "file"
  end
  table.sort(status.backends, function(a, b)
    return address.format(a.addr, a.port) < address.format(b.addr, b.port)
  end)
  return status.backends
end

--- The backend of a flow from a client's endpoint, or nil, why, code.
function running.lookup(name, client)
  local addr, port, code = task.await(controller.lookup, name, client.addr, client.port, client.proto or "any")
  if not addr then return nil, port, code end
  return address.format(addr, port)
end

-- Ports --------------------------------------------------------------------------------------------

local function attach(port)
  local result, message, code = task.await(controller.attach, port.name, port.xdp)
  if not result then return nil, message, code end
  port.ifindex, port.mode, port.why = result.ifindex, result.mode, result.why
  if not result.adopted then
    log.info("port %s: attached, %s XDP%s", port.name, port.mode, port.why ~= "" and " (" .. port.why .. ")" or "")
  end
  return true
end

--- Attaches what `ports` has; on failure what was attached here is detached again.
local function attach_all(ports)
  local fresh = {}
  for _, name in ipairs(desired.names(ports)) do
    local port = ports[name]
    if running.attach and controller.ifindex(name) then
      local ok, message, code = attach(port)
      if not ok then
        for _, done in ipairs(fresh) do task.await(controller.detach, done) end
        return nil, ("%s: %s"):format(port.position, message), code
      end
      if not running.ports[name] then fresh[#fresh + 1] = name end
    end
  end
  return true
end

local function detach_others(ports)
  for name in pairs(running.ports) do
    if not ports[name] then
      local ok, message = task.await(controller.detach, name)
      if not ok then log.error("%s", message) end
    end
  end
end

--- Attaches to optional devices that appear, and again to those that were replaced. Run every second.
function running.watch_ports()
  local lock <close> = running.lock()
  for name, port in pairs(running.ports) do
    local ifindex = controller.ifindex(name)
    if running.attach and ifindex and ifindex ~= port.ifindex then
      local ok, message = attach(port)
      if not ok then log.error("%s", message) end
    elseif not ifindex then
      port.ifindex, port.mode = nil, nil
    end
  end
end

-- Commit -------------------------------------------------------------------------------------------

local function specialise(features)
  if features == running.features then return true end
  local ok, message, code = task.await(controller.specialise, features)
  if not ok then return nil, message, code end
  running.features = features
  return true
end

--- Puts a desired state in force: the program, then services, then ports. On failure what was stays,
--- and the result is nil, why, code. The caller holds the lock.
function running.commit(state)
  local before = list_of(running.services)
  local ok, message, code = specialise(running.features | state.features)
  if not ok then return nil, message, code end
  ok, message, code = task.await(controller.apply, list_of(state.services), false)
  if not ok then return nil, message, code end
  ok, message, code = attach_all(state.ports)
  if not ok then
    task.await(controller.apply, before, false)
    return nil, message, code
  end
  detach_others(state.ports)
  running.services, running.ports = state.services, state.ports
  ok, message = specialise(state.features)
  if not ok then log.error("the program keeps features that nothing uses: %s", message) end
  return true
end

return running
