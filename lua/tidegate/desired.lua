-- SPDX-License-Identifier: GPL-2.0-only
--- From declarations to the state that they ask for: references resolved, the whole validated, plain
--- tables that the plan compares and the controller takes.
---
---     { services = { web = { name, mode, fail, slots, vips, backends, … } }, ports = { eth0 = … }, lists = …,
---       policy = { policies = …, sets = … }, mirrors = …, features = …, tunnel = …, limits = … }

local address = require "tidegate.address"
local check = require "tidegate.check"
local controller = require "tidegate.core.controller"
local lists = require "tidegate.lists"
local mirrors = require "tidegate.mirrors"
local overlap = require "tidegate.overlap"
local packet_event = require "tidegate.packet_event"
local policy = require "tidegate.policy.state"
local pool = require "tidegate.pool"
local quic = require "tidegate.quic"
local rates = require "tidegate.rates"
local settings = require "tidegate.settings"

local desired = {}

local FEATURES = controller.features()
local FEATURE_OF_MODE = { l2dsr = 0, nat = FEATURES.nat, ipip = FEATURES.tunnel, gue = FEATURES.tunnel }

--- Something that notes problems at the line of a declaration.
local function notes(gen, declaration)
  return function(format, ...)
    gen:problem(("%s: %s"):format(declaration.position, format:format(...)))
  end
end

local function copy(from)
  local to = {}
  for key, value in pairs(from) do to[key] = value end
  return to
end

--- The sorted keys of a table.
function desired.names(map)
  local names = {}
  for name in pairs(map) do names[#names + 1] = name end
  table.sort(names)
  return names
end

--- The declarations of a kind that are not broken: name → declaration.
local function declared(gen, kind)
  local list = {}
  for name, declaration in pairs(gen.declared[kind] or {}) do
    if not declaration.broken then list[name] = declaration end
  end
  return list
end

-- Changes ------------------------------------------------------------------------------------------

local function find(backends, name)
  for i, backend in ipairs(backends) do
    if backend.name == name then return backend, i end
  end
  return nil, ("there is no backend %s"):format(name), "ENOENT"
end

local change = {}

function change.add(backends, given)
  if find(backends, given.backend.name) then
    return nil, ("backend %s is there already"):format(given.backend.name), "EEXIST"
  end
  backends[#backends + 1] = copy(given.backend)
  return true
end

function change.remove(backends, given)
  local there, at, code = find(backends, given.name)
  if not there then return nil, at, code end
  table.remove(backends, at)
  return true
end

function change.weights(backends, given)
  for name in pairs(given.weights) do
    local there, message, code = find(backends, name)
    if not there then return nil, message, code end
  end
  for name, weight in pairs(given.weights) do find(backends, name).weight = weight end
  return true
end

function change.admin(backends, given)
  local there, message, code = find(backends, given.name)
  if not there then return nil, message, code end
  there.admin, there.admin_reason = given.admin, given.reason
  return true
end

--- Changes a list of backends: { op = "add" | "remove" | "weights" | "admin", … }. true, or nil, why, code.
function desired.change(backends, given)
  return change[given.op](backends, given)
end

-- Backends -----------------------------------------------------------------------------------------

local function same_family_vip(vips, backend)
  for _, vip in ipairs(vips) do
    if vip.family == backend.family then return vip end
  end
end

--- Modes that carry a VIP's packets in others, to backends of either family.
local TUNNELS = { ipip = true, gue = true }

--- The first VIP that a backend serves, if it can in this mode: one of its own family rather than another.
local function vip_of(mode, vips, backend)
  return same_family_vip(vips, backend) or TUNNELS[mode] and vips[1] or nil
end

--- The list behind `backends =`: a pool's or the service's own, and the check that goes with it. nil:
--- what is wrong with it is noted.
local function resolve_list(gen, declaration, value, note)
  if not pool.is(value) then return value end
  local found = pool.resolve(value, gen)
  if not found then
    note("service %q: there is no pool %q", declaration.name, tostring(value.name))
  elseif not found.broken then
    return found.backends, found.check
  end
end

--- A pool's backends that can serve none of the service's VIPs are other services'.
local function add_list(gen, declaration, result, value, backup, note)
  local list, pool_check = resolve_list(gen, declaration, value, note)
  for _, entry in ipairs(list or {}) do
    local backend = copy(entry)
    backend.backup = backend.backup or backup or nil
    backend.check = backend.check or declaration.check or pool_check
    if find(result, backend.name) then
      note("service %q: backend %s is listed twice", declaration.name, backend.name)
    elseif not pool.is(value) or vip_of(declaration.mode, declaration.vip, backend) then
      result[#result + 1] = backend
    end
  end
  return list ~= nil
end

--- The backends of a declaration with its changes so far, ordered by address; nil if a pool is missing.
local function collect(gen, declaration, note, on_change)
  local result = {}
  local complete = add_list(gen, declaration, result, declaration.backends, false, note)
  if declaration.backup then
    complete = add_list(gen, declaration, result, declaration.backup, true, note) and complete
  end
  for _, given in ipairs(declaration.changes) do
    local ok, message = desired.change(result, given)
    if not ok then on_change(given, message) end
  end
  table.sort(result, function(a, b) return a.name < b.name end)
  return complete and result or nil
end

local function ignore() end

--- What a file reads of a service while files load: what is declared of it so far.
function desired.declared_backends(gen, declaration)
  local list = {}
  for i, backend in ipairs(collect(gen, declaration, ignore, ignore) or {}) do
    list[i] = { addr = backend.addr, port = backend.port, weight = backend.weight, state = "declared" }
  end
  return list
end

-- Rules --------------------------------------------------------------------------------------------

local function serves(spec, backend, vip)
  return backend.family == vip.family or TUNNELS[spec.mode]
end

local function check_vips(spec, note)
  for _, vip in ipairs(spec.vips) do
    local any = false
    for _, backend in ipairs(spec.backends) do any = any or serves(spec, backend, vip) end
    if not any and TUNNELS[spec.mode] then
      note("service %q: VIP %s has no backend", spec.name, address.format_vip(vip))
    elseif not any then
      note("service %q: VIP %s has no backend of its own family (IPv%d)",
        spec.name, address.format_vip(vip), vip.family)
    end
  end
end

local function check_family(spec, backend, note)
  if not vip_of(spec.mode, spec.vips, backend) then
    note("service %q: backend %s is IPv%d, but the service has no IPv%d VIP",
      spec.name, backend.name, backend.family, backend.family)
  end
end

local function check_port(spec, backend, note)
  if not backend.port then return end
  for _, vip in ipairs(spec.vips) do
    if serves(spec, backend, vip) and vip.last then
      return note(
        "service %q: backend %s: VIP %s is a range, whose ports stay as they are: a backend has none of its own",
        spec.name, backend.name, address.format_vip(vip))
    elseif spec.mode ~= "nat" and serves(spec, backend, vip) and backend.port ~= vip.port then
      return note("service %q: backend %s: %s can't change the port, so it is the VIP's (%d); only nat can",
        spec.name, backend.name, spec.mode, vip.port)
    end
  end
end

--- A check asks the port of the service's first VIP, unless it or the backend names one.
local function check_check_ports(spec, note)
  for _, backend in ipairs(spec.backends) do
    local vip = vip_of(spec.mode, spec.vips, backend)
    if vip and backend.check_options and not backend.check then
      return note("service %q: the check of backend %s needs a port ({ %q, port = … }): VIP %s is a range",
        spec.name, backend.name, backend.check_options[1], address.format_vip(vip))
    end
  end
end

--- A packet for a VIP that is sent to a VIP would come back.
local function check_loop(spec, backend, note)
  for _, vip in ipairs(spec.vips) do
    if vip.addr == backend.addr then
      return note("service %q: backend %s has the address of VIP %s: a backend is another host, with one of its own",
        spec.name, backend.name, address.format_vip(vip))
    end
  end
end

local function check_affinity(spec, note)
  if spec.affinity ~= "flow" then return end
  for _, vip in ipairs(spec.vips) do
    if vip.proto == "udp" then return end
  end
  note('service %q: affinity = "flow" is for UDP, and it has no UDP VIP; TCP flows stay where they are anyway',
    spec.name)
end

local function check_backends(spec, note)
  quic.give_ids(spec, TUNNELS[spec.mode], note)
  for _, backend in ipairs(spec.backends) do
    check_family(spec, backend, note)
    check_port(spec, backend, note)
    check_loop(spec, backend, note)
  end
  check_check_ports(spec, note)
end

local function check_defined(known, spec, note)
  for _, backend in ipairs(spec.backends) do
    local asked = backend.check
    if asked and asked.type == "external" and not known[asked.name] then
      return note("service %q: there is no check %q (built in: tcp, http; others by tg.check.define)",
        spec.name, asked.name)
    end
  end
end

--- Why a service that gets one more backend can't be; nil if it can. `services` are the others.
function desired.refusal(spec, services)
  local first
  local function note(format, ...) first = first or format:format(...) end
  check_backends(spec, note)
  check_defined(check.definitions(), spec, note)
  local all = copy(services)
  all[spec.name] = spec
  overlap.check(all, desired.names(all), function() return note end)
  return first
end

-- The whole ----------------------------------------------------------------------------------------

--- Do services of these features carry packets in others?
function desired.tunnels(features)
  return features & FEATURES.tunnel ~= 0
end

--- The features that services need of the program, as bits.
function desired.features(services)
  local features = 0
  for _, spec in pairs(services) do
    if spec.quic then features = features | FEATURES.quic end
    features = features | FEATURE_OF_MODE[spec.mode]
    for _, vip in ipairs(spec.vips) do
      features = features | FEATURES["v" .. vip.family] | (vip.last and FEATURES.ranges or 0)
    end
  end
  return features
end

--- Turns a backend's check options into what the controller asks.
local function with_check(backend, options, spec)
  options = backend.check or options
  local vip = vip_of(spec.mode, spec.vips, backend)
  local port = vip and (backend.port or not vip.last and vip.port or options and options.port)
  backend.check = options and port and check.spec(options, backend, port) or nil
  backend.check_options = options
  return backend
end

--- Gives a backend that was added the check that the service's others have.
function desired.adopt_check(spec, backend)
  local options
  for _, other in ipairs(spec.backends) do options = options or other.check_options end
  return with_check(backend, options, spec)
end

local function resolve_service(gen, declaration, admins)
  local note = notes(gen, declaration)
  local backends = collect(gen, declaration, note, function(given, message)
    gen:problem(("%s: service %q: %s"):format(given.position, declaration.name, message))
  end)
  if not backends then return nil end
  local spec = {
    name = declaration.name, mode = declaration.mode, fail = declaration.fail == "pass" and "pass" or "drop",
    slots = declaration.slots or 0, vips = declaration.vip, backends = backends, drain = declaration.drain,
    affinity = declaration.affinity, quic = declaration.quic,
    position = declaration.position,
  }
  local options = declaration.check
  for _, backend in ipairs(backends) do options = options or backend.check end
  for _, backend in ipairs(backends) do
    backend.admin = admins[backend.name] and admins[backend.name].admin or backend.admin or "ready"
    with_check(backend, options, spec)
  end
  check_vips(spec, note)
  check_affinity(spec, note)
  check_backends(spec, note)
  check_defined(gen.declared.check or {}, spec, note)
  return spec
end

--- Changes that a file made through a reference (tg.services.web) to what another declares.
local function join_changes(gen)
  for _, entry in ipairs(gen.changes) do
    local declaration = (gen.declared.service or {})[entry.service]
    if not declaration then
      gen:problem(("%s: there is no service %q"):format(entry.change.position, tostring(entry.service)))
    elseif not declaration.broken then
      table.insert(declaration.changes, entry.change)
    end
  end
  gen.changes = {}
end

--- Kinds of declarations, each of a `port`, that the TC programs serve.
local TC_KINDS = { "policy", "mirror", "capture" }

--- What XDP forwards is copied by TC of the port that it came in by, also for a mirror of the one that it leaves by.
local function copies_from_all(gen, kind, declaration)
  return kind == "mirror" and declaration.direction ~= "ingress" and next(declared(gen, "service")) ~= nil
end

--- What is declared of a port that the TC programs serve, by its name (see attachment.lua).
local function uses_of(gen, port)
  local uses = {}
  for _, kind in ipairs(TC_KINDS) do
    for name, declaration in pairs(declared(gen, kind)) do
      if declaration.port == port or copies_from_all(gen, kind, declaration) then
        uses[kind .. " " .. name] = "file"
      end
    end
  end
  return uses
end

--- The state that a loaded generation asks for. What is wrong becomes its problems. `admins` are the
--- operator's drains and maints: service → backend → { admin = … }. May be called again.
function desired.resolve(gen, admins)
  local services, ports = {}, {}
  join_changes(gen)
  local list = declared(gen, "service")
  for _, name in ipairs(desired.names(list)) do
    services[name] = resolve_service(gen, list[name], admins[name] or {})
  end
  overlap.check(services, desired.names(services), function(spec) return notes(gen, spec) end)
  for name, declaration in pairs(declared(gen, "port")) do
    if declaration.xdp ~= "off" or declaration.tc then
      ports[name] = {
        name = name, xdp = declaration.xdp, tc = declaration.tc, optional = declaration.optional or false,
        position = declaration.position, uses = uses_of(gen, name),
      }
    end
  end
  local draft, policies, copies = lists.draft(gen), policy.resolve(gen), mirrors.resolve(gen)
  return {
    services = services, ports = ports, lists = draft, policy = policies, mirrors = copies,
    features = desired.features(services) | draft:features() | policies.features | rates.features(gen, ports)
      | mirrors.features(copies) | packet_event.features(gen),
    tunnel = settings.tunnel(gen), limits = settings.limits(gen),
  }
end

return desired
