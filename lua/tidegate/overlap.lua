-- SPDX-License-Identifier: GPL-2.0-only
--- Who stands in whose way: a VIP that two services want, ranges of ports of which neither is the more
--- specific, and in nat a backend's endpoint that would answer for two VIPs.
---
--- Of VIPs that overlap the most specific has the port: the single port, then the narrower range, then all
--- ports. So a range may lie within another one, of whatever service, but not reach beyond it.

local address = require "tidegate.address"

local overlap = {}

-- Ranges -------------------------------------------------------------------------------------------

--- By address and protocol, then by the first port, of two that begin together the wider one first.
local function before(a, b)
  if a.vip.addr ~= b.vip.addr then return a.vip.addr < b.vip.addr end
  if a.vip.proto ~= b.vip.proto then return a.vip.proto < b.vip.proto end
  if a.vip.port ~= b.vip.port then return a.vip.port < b.vip.port end
  return a.vip.last > b.vip.last
end

--- Walks over ranges that are in order; `open` are those that the walk is within, the narrowest last.
local function check_ranges(ranges, notes_of)
  table.sort(ranges, before)
  local open = {}
  for _, one in ipairs(ranges) do
    local outer = open[#open]
    while outer and (outer.vip.addr ~= one.vip.addr or outer.vip.proto ~= one.vip.proto
      or outer.vip.last < one.vip.port) do
      open[#open] = nil
      outer = open[#open]
    end
    if outer and outer.vip.last < one.vip.last then
      notes_of(one.spec)("service %q: VIP %s overlaps %s of service %q (%s) in part: neither is the more specific",
        one.spec.name, one.text, outer.text, outer.spec.name, outer.spec.position)
    else
      open[#open + 1] = one
    end
  end
end

-- Nat's ways back ----------------------------------------------------------------------------------

--- Do two ways, which share a port of a backend, lead from it to the same port of the same VIP?
local function same_way(a, b)
  return a.vip.addr == b.vip.addr and a.vip.port - a.port == b.vip.port - b.port and a.text ~= b.text
end

--- The single ports that a way shares with others: the lowest that leads elsewhere.
local function find_single(ways, way)
  if not way.last then
    local other = ways.single[way.port]
    return other and not same_way(other, way) and other or nil
  end
  local found
  for port, other in pairs(ways.single) do
    local shared = port >= way.port and port <= way.last
    if shared and not same_way(other, way) and not (found and found.port < port) then found = other end
  end
  return found
end

local function find_range(ways, way)
  for _, other in ipairs(ways.ranges) do
    local shared = other.port <= (way.last or way.port) and way.port <= other.last
    if shared and not same_way(other, way) then return other end
  end
end

local function remember(ways, way)
  if way.last then
    table.insert(ways.ranges, way)
  else
    ways.single[way.port] = ways.single[way.port] or way
  end
end

--- The endpoints that answer for a VIP: an endpoint can't answer for two. `ways_of`: by backend and protocol.
local function check_endpoints(spec, vip, ways_of, note)
  for _, backend in ipairs(spec.backends) do
    if backend.family == vip.family then
      local key = backend.addr .. "/" .. vip.proto
      local ways = ways_of[key] or { single = {}, ranges = {} }
      local way = {
        port = not vip.last and backend.port or vip.port, last = vip.last, vip = vip,
        text = address.format_vip(vip), spec = spec,
      }
      local taken = find_single(ways, way) or find_range(ways, way)
      if taken then
        local endpoint = { addr = backend.addr, port = way.port, last = way.last, proto = vip.proto }
        note("service %q: in nat the backend %s answers for VIP %s of service %q already (%s), so not for %s too",
          spec.name, address.format_vip(endpoint), taken.text, taken.spec.name, taken.spec.position, way.text)
      end
      remember(ways, way)
      ways_of[key] = ways
    end
  end
end

-- The whole ----------------------------------------------------------------------------------------

--- Notes what can't be together. `names` are those of the services in order, `notes_of(spec)` is who is told.
function overlap.check(services, names, notes_of)
  local vips, ranges, ways_of = {}, {}, {}
  for _, name in ipairs(names) do
    local spec = services[name]
    for _, vip in ipairs(spec.vips) do
      local text = address.format_vip(vip)
      local other = vips[text]
      if other then
        notes_of(spec)("service %q: VIP %s belongs to service %q already (%s)",
          name, text, other.name, other.position)
      else
        vips[text] = spec
        if vip.last then ranges[#ranges + 1] = { vip = vip, spec = spec, text = text } end
        if spec.mode == "nat" then check_endpoints(spec, vip, ways_of, notes_of(spec)) end
      end
    end
  end
  check_ranges(ranges, notes_of)
end

return overlap
