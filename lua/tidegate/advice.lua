-- SPDX-License-Identifier: GPL-2.0-only
--- What a service needs of the network around it, by its mode, and whether it is there as far as this host
--- shows: printed by `tidegate check` for services that change, by `tidegate doctor` for those that run.
---
---     advice.of(spec) → { { state = "yes", text = "…" }, … }
---
--- States: "yes" and "no", "unknown" where nobody here can see it, "do" for what is done elsewhere.

local address = require "tidegate.address"
local balancer = require "tidegate.core.balancer"
local desired = require "tidegate.desired"
local needs_of_mirror = require "tidegate.mirror_needs"
local task = require "tidegate.task"

local advice = {}

local MTU <const> = 1500   -- of the clients' packets
local ASKED <const> = 256  -- backends of a service whose way is looked at
local NAMED <const> = 3    -- of those with the same trouble

--- Bytes that a tunnel puts before a packet, by the backend's family.
local HEADS = { ipip = { [4] = 20, [6] = 40 }, gue = { [4] = 28, [6] = 48 } }

local FORWARDING = {
  [4] = { path = "/proc/sys/net/ipv4/ip_forward", sysctl = "net.ipv4.ip_forward" },
  [6] = { path = "/proc/sys/net/ipv6/conf/all/forwarding", sysctl = "net.ipv6.conf.all.forwarding" },
}

--- The addresses of the VIPs, each once: { addr, family }, in order.
local function vip_addresses(spec)
  local list, seen = {}, {}
  for _, vip in ipairs(spec.vips) do
    local family = vip.addr:find(":", 1, true) and 6 or 4
    if not seen[vip.addr] then list[#list + 1] = { addr = vip.addr, family = family } end
    seen[vip.addr] = true
  end
  return list
end

local function host(vip)
  return ("%s/%d"):format(vip.addr, vip.family == 4 and 32 or 128)
end

--- "ip addr add 198.51.100.10/32 dev lo; …", of each VIP.
local function commands_for_vips(vips)
  local commands = {}
  for i, vip in ipairs(vips) do commands[i] = ("ip addr add %s dev lo"):format(host(vip)) end
  return table.concat(commands, "; ")
end

--- Who answers ARP or neighbour discovery for the VIPs?
local function ask_for_vips(vips, say)
  for _, vip in ipairs(vips) do
    local hop, what = task.await(balancer.route, vip.addr), vip.family == 4 and "ARP" or "neighbour discovery"
    if hop and hop.state == "local address" then
      say("yes", "VIP %s is an address of this switch, which answers %s for it", vip.addr, what)
    else
      say("unknown", "VIP %s has to be routed to this switch; in the clients' own subnet, let the switch answer %s: "
        .. "ip addr add %s dev lo", vip.addr, what, host(vip))
    end
  end
end

local SILENT <const> = "its MAC address is not known yet: it was not spoken with lately, or is not there"

--- What is in the way to a backend; nil: nothing that shows.
local function trouble(spec, backend, hop)
  if hop.state == "no neighbour" then return SILENT end
  if hop.state ~= "resolved" then return ("its next hop is not known: %s"):format(hop.state) end
  if not hop.native then
    return ("it is reached by a device of kind %s, which native XDP can't send by: %s; route it by the port below")
      :format(hop.kind, spec.mode == "nat" and "the kernel forwards its packets" or "its packets are dropped")
  end
  local head = HEADS[spec.mode] and HEADS[spec.mode][backend.addr:find(":", 1, true) and 6 or 4]
  if head and hop.mtu > 0 and hop.mtu - head < MTU then
    return ("packets of more than %d bytes don't fit (MTU %d, less %d for %s), which their senders are told by ICMP; "
      .. "all fit where the path takes %d bytes"):format(hop.mtu - head, hop.mtu, head, spec.mode, MTU + head)
  end
end

--- "10.0.0.11, 10.0.0.12 and 3 more"
local function few(names)
  if #names <= NAMED then return table.concat(names, ", ") end
  return ("%s and %d more"):format(table.concat(names, ", ", 1, NAMED), #names - NAMED)
end

local function ask_for_backends(spec, say)
  local by_trouble, fine = {}, 0
  for i = 1, math.min(#spec.backends, ASKED) do
    local backend = spec.backends[i]
    local hop = task.await(balancer.route, backend.addr)
    local found = hop and trouble(spec, backend, hop)
    if found then
      by_trouble[found] = by_trouble[found] or {}
      table.insert(by_trouble[found], address.format(backend.addr, backend.port))
    else
      fine = fine + 1
    end
  end
  if fine > 0 then say("yes", "backends that are reached by a known next hop: %d", fine) end
  for _, found in ipairs(desired.names(by_trouble)) do
    say(found == SILENT and "unknown" or "no", "backend %s: %s", few(by_trouble[found]), found)
  end
end

local by_mode = {}

function by_mode.l2dsr(_, vips, say)
  local hide = ""
  for _, vip in ipairs(vips) do
    if vip.family == 4 then hide = "; sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2" end
  end
  say("do", "on each backend: %s%s", commands_for_vips(vips), hide)
end

local function tunnel(spec, vips, say)
  say("do", "on each backend: %s; tidegate decap DEV, where DEV is what the switch's packets come in by",
    commands_for_vips(vips))
  say("do", "on each backend that reaches clients by another device than DEV: sysctl -w net.ipv4.conf.DEV.rp_filter=2")
  if spec.mode == "gue" then say("do", "what filters packets on the way lets UDP to the port of gue through") end
end

by_mode.ipip, by_mode.gue = tunnel, tunnel

local function is_on(path)
  local file <close> = io.open(path)
  return file and file:read "n" == 1
end

function by_mode.nat(_, vips, say)
  local families = {} ---@type table<4|6, boolean>
  for _, vip in ipairs(vips) do families[vip.family] = true end
  for _, family in ipairs { 4, 6 } do
    local forwarding = FORWARDING[family]
    if not families[family] then goto next end
    if is_on(forwarding.path) then
      say("yes", "IPv%d is forwarded", family)
    else
      say("no", "IPv%d is not forwarded: sysctl -w %s=1", family, forwarding.sysctl)
    end
    ::next::
  end
  say("do", "the backends' answers to clients return through this switch: it is their default gateway, or their way to "
    .. "the clients")
end

--- What a service needs: { { state, text }, … }; waits.
function advice.of(spec)
  local list = {}
  local function say(state, format, ...) list[#list + 1] = { state = state, text = format:format(...) } end
  local vips = vip_addresses(spec)
  ask_for_vips(vips, say)
  ask_for_backends(spec, say)
  by_mode[spec.mode](spec, vips, say)
  return list
end

--- The advice for the services and mirrors that a plan touches: { { service, mode, needs = { { state, text }, … } }, …,
--- { mirror, needs }, … }.
function advice.of_plan(made, services, mirrors)
  local touched, result = made:services(), {}
  for _, name in ipairs(desired.names(services)) do
    local spec = services[name]
    if touched[name] then result[#result + 1] = { service = name, mode = spec.mode, needs = advice.of(spec) } end
  end
  for _, name in ipairs(desired.names(made:mirrors())) do
    result[#result + 1] = { mirror = name, needs = needs_of_mirror(mirrors[name]) }
  end
  return result
end

--- The lines for people.
function advice.text(list)
  local lines = {}
  for _, entry in ipairs(list) do
    lines[#lines + 1] = entry.mirror and ("mirror %s needs:"):format(entry.mirror)
      or ("service %s needs, in %s:"):format(entry.service, entry.mode)
    for _, need in ipairs(entry.needs) do lines[#lines + 1] = ("  %-8s %s"):format(need.state, need.text) end
  end
  return #lines > 0 and table.concat(lines, "\n") .. "\n" or ""
end

return advice
