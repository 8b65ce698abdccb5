-- SPDX-License-Identifier: GPL-2.0-only
--- From declarations to the state that they ask for: references resolved, the whole validated, plain
--- tables that the plan compares and the controller takes.
---
---     { services = { web = { name, mode, fail, slots, vips, backends, … } }, ports = { eth0 = … }, features = … }

local address = require "tidegate.address"
local check = require "tidegate.check"
local pool = require "tidegate.pool"

local desired = {}

local FEATURES = { v4 = 1, v6 = 2, nat = 4 }

local function where(declaration)
  return declaration.position
end

--- Notes a problem at the line of a declaration.
local function problem(gen, declaration, format, ...)
  gen:problem(where(declaration) .. ": " .. format:format(...))
end

-- Backends -----------------------------------------------------------------------------------------

local function find(backends, name)
  for i, backend in ipairs(backends) do
    if backend.name == name then return backend, i end
  end
end

local change = {}

function change.add(backends, given)
  local there = find(backends, given.backend.name)
  if there then return nil, ("backend %s is there already"):format(given.backend.name), "EEXIST" end
  backends[#backends + 1] = given.backend
  return true
end

function change.remove(backends, given)
  local there, i = find(backends, given.name)
  if not there then return nil, ("there is no backend %s"):format(given.name), "ENOENT" end
  table.remove(backends, i)
  return true
end

function change.weights(backends, given)
  for name in pairs(given.weights) do
    if not find(backends, name) then return nil, ("there is no backend %s"):format(name), "ENOENT" end
  end
  for name, weight in pairs(given.weights) do find(backends, name).weight = weight end
  return true
end

function change.admin(backends, given)
  local there = find(backends, given.name)
  if not there then return nil, ("there is no backend %s"):format(given.name), "ENOENT" end
  there.admin = given.admin
  return true
end

--- Changes a list of backends: { op = "add" | "remove" | "weights" | "admin", … }. true, or nil, why, code.
function desired.change(backends, given)
  return change[given.op](backends, given)
end

local function copy(backend)
  local result = {}
  for key, value in pairs(backend) do result[key] = value end
  return result
end

--- The list behind `backends =`: a pool's or the service's own, and the check that goes with it.
local function resolve_list(gen, declaration, value)
  if not pool.is(value) then return value end
  local found = pool.resolve(value, gen)
  if not found then
    problem(gen, declaration, "service %q: there is no pool %q", declaration.name, tostring(value.name))
    return nil
  end
  if found.broken then return nil end
  return found.backends, found.check
end

local function same_family_vip(vips, backend)
  for _, vip in ipairs(vips) do
    if vip.family == backend.family then return vip end
  end
end

local function with_check(backend, options, vips)
  options = backend.check or options
  local vip = same_family_vip(vips, backend)
  backend.check = options and vip and check.spec(options, backend, backend.port or vip.port) or nil
  backend.check_options = options
  return backend
end

local function add_list(gen, declaration, result, value, backup)
  local list, pool_check = resolve_list(gen, declaration, value)
  for _, entry in ipairs(list or {}) do
    local backend = copy(entry)
    backend.backup = backend.backup or backup or nil
    backend.pooled = pool.is(value)
    backend.check = backend.check or declaration.check or pool_check
    if find(result, backend.name) then
      problem(gen, declaration, "service %q: backend %s is listed twice", declaration.name, backend.name)
    else
      result[#result + 1] = backend
    end
  end
  return list ~= nil
end

local function resolve_backends(gen, declaration)
  local result = {}
  local complete = add_list(gen, declaration, result, declaration.backends, false)
  if declaration.backup then complete = add_list(gen, declaration, result, declaration.backup, true) and complete end
  for _, given in ipairs(declaration.changes) do
    if given.op == "add" then given.backend.check = given.backend.check or declaration.check end
    local ok, message = desired.change(result, given)
    if not ok then gen:problem(("%s: service %q: %s"):format(given.position, declaration.name, message)) end
  end
  table.sort(result, function(a, b) return a.name < b.name end)
  return complete and result or nil
end

-- Rules --------------------------------------------------------------------------------------------

local function check_families(gen, declaration, spec)
  for _, vip in ipairs(spec.vips) do
    local any = false
    for _, backend in ipairs(spec.backends) do any = any or backend.family == vip.family end
    if not any then
      problem(gen, declaration, "service %q: VIP %s has no backend of its own family (IPv%d)",
        spec.name, address.format_vip(vip), vip.family)
    end
  end
  for _, backend in ipairs(spec.backends) do
    if not backend.pooled and not same_family_vip(spec.vips, backend) then
      problem(gen, declaration, "service %q: backend %s is IPv%d, but the service has no IPv%d VIP",
        spec.name, backend.name, backend.family, backend.family)
    end
  end
end

local function check_ports(gen, declaration, spec)
  if spec.mode == "nat" then return end
  for _, backend in ipairs(spec.backends) do
    for _, vip in ipairs(spec.vips) do
      if backend.port and backend.family == vip.family and backend.port ~= vip.port then
        problem(gen, declaration,
          "service %q: backend %s: %s can't change the port, so it is the VIP's (%d); only nat can",
          spec.name, backend.name, spec.mode, vip.port)
        break
      end
    end
  end
end

local function check_defined(gen, declaration, spec)
  for _, backend in ipairs(spec.backends) do
    local asked = backend.check
    if asked and asked.type == "external" and not (gen.declared.check or {})[asked.name] then
      problem(gen, declaration, "service %q: there is no check %q (built in: tcp, http; others by tg.check.define)",
        spec.name, asked.name)
      return
    end
  end
end

--- Two services can't have one VIP; in nat an endpoint can't answer for two.
local function check_conflicts(gen, services)
  local vips, endpoints = {}, {}
  for _, name in ipairs(desired.names(services)) do
    local spec = services[name]
    for _, vip in ipairs(spec.vips) do
      local text = address.format_vip(vip)
      local other = vips[text]
      if other then
        problem(gen, spec, "service %q: VIP %s belongs to service %q already (%s)",
          name, text, other.name, where(other))
      end
      vips[text] = vips[text] or spec
      for _, backend in ipairs(spec.mode == "nat" and spec.backends or {}) do
        if backend.family == vip.family then
          local endpoint = address.format(backend.addr, backend.port or vip.port) .. "/" .. vip.proto
          local taken = endpoints[endpoint]
          if taken and taken.text ~= text then
            problem(gen, spec,
              "service %q: in nat the backend %s answers for VIP %s of service %q already (%s), so not for %s too",
              name, endpoint, taken.text, taken.spec.name, where(taken.spec), text)
          end
          endpoints[endpoint] = taken or { text = text, spec = spec }
        end
      end
    end
  end
end

-- The whole ----------------------------------------------------------------------------------------

--- The sorted keys of a table.
function desired.names(map)
  local names = {}
  for name in pairs(map) do names[#names + 1] = name end
  table.sort(names)
  return names
end

--- The features that services need of the program, as bits.
function desired.features(services)
  local features = 0
  for _, spec in pairs(services) do
    if spec.mode == "nat" then features = features | FEATURES.nat end
    for _, vip in ipairs(spec.vips) do features = features | FEATURES["v" .. vip.family] end
  end
  return features
end

local function resolve_service(gen, declaration, admins)
  local backends = resolve_backends(gen, declaration)
  if not backends then return nil end
  local spec = {
    name = declaration.name, mode = declaration.mode, fail = declaration.fail == "pass" and "pass" or "drop",
    slots = declaration.slots or 0, vips = declaration.vip, backends = backends, drain = declaration.drain,
    position = declaration.position,
  }
  for _, backend in ipairs(backends) do
    backend.admin = admins[backend.name] and admins[backend.name].admin or backend.admin or "ready"
    with_check(backend, nil, spec.vips)
  end
  check_families(gen, declaration, spec)
  check_ports(gen, declaration, spec)
  check_defined(gen, declaration, spec)
  return spec
end

--- Changes that a file made through a reference (tg.services.web) to what another declares.
local function join_changes(gen)
  for _, entry in ipairs(gen.declared.change or {}) do
    local declaration = (gen.declared.service or {})[entry.service]
    if declaration then
      table.insert(declaration.changes, entry.change)
    else
      gen:problem(("%s: there is no service %q"):format(entry.change.position, tostring(entry.service)))
    end
  end
  gen.declared.change = nil
end

--- The state that a loaded generation asks for. What is wrong becomes its problems. `admins` are the
--- operator's drains and maints: service → backend → { admin = … }.
function desired.resolve(gen, admins)
  local services, ports = {}, {}
  join_changes(gen)
  for name, declaration in pairs(gen.declared.service or {}) do
    services[name] = resolve_service(gen, declaration, admins[name] or {})
  end
  check_conflicts(gen, services)
  for name, declaration in pairs(gen.declared.port or {}) do
    if declaration.xdp ~= "off" then
      ports[name] = {
        name = name, xdp = declaration.xdp, optional = declaration.optional or false, position = declaration.position,
      }
    end
  end
  return { services = services, ports = ports, features = desired.features(services) }
end

--- Gives a backend that was added later the check that the service's others have.
function desired.adopt_check(spec, backend)
  local options = backend.check
  for _, other in ipairs(spec.backends) do
    options = options or other.check_options
  end
  return with_check(backend, options, spec.vips)
end

return desired
