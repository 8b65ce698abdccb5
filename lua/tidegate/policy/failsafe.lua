-- SPDX-License-Identifier: GPL-2.0-only
--- What a policy must not cut off: the SSH session from which the daemon was started, and what `failsafe = { … }`
--- of a policy or of tg.instance names:
---
---     "192.0.2.7"  "2001:db8::/64"      all traffic with these
---     "tcp 10.0.0.1:22"                 a service behind the port, whoever asks
---
--- It becomes rules that stand before all others, named "failsafe"; `failsafe = false` forces the policy.

local addr = require "tidegate.packet.addr"
local address = require "tidegate.address"
local balancer = require "tidegate.core.balancer"
local controller = require "tidegate.core.controller"
local lists = require "tidegate.lists"
local misuse = require "tidegate.misuse"
local schema = require "tidegate.schema"
local task = require "tidegate.task"
local uv = require "luv"

local failsafe = {}

local ANCESTORS <const> = 16     -- processes that are asked for the session

local PROTO = { tcp = 6, udp = 17 }

--- Kinds of devices that have ports below them.
local ABOVE = { bridge = true, bond = true, team = true, vlan = true, macvlan = true, openvswitch = true }

-- Options ------------------------------------------------------------------------------------------

local function entry(what, text)
  if type(text) ~= "string" then
    misuse("%s: %s given, \"192.0.2.7\" or \"tcp 10.0.0.1:22\" expected", what, schema.show(text))
  end
  local proto, rest = text:match "^(%a+) +(.*)$"
  if not proto then
    local prefix, why = lists.prefix(text)
    if not prefix then misuse("%s: %s: %s", what, schema.show(text), why) end
    return { prefix = prefix }
  end
  local endpoint, why = address.parse(rest)
  if not PROTO[proto] then misuse("%s: %s: tcp or udp expected before the address", what, schema.show(text)) end
  if not endpoint then misuse("%s: %s: %s", what, schema.show(text), why) end
  if not endpoint.port or endpoint.proto then misuse("%s: %s: a port expected (\"tcp 10.0.0.1:22\")", what,
    schema.show(text)) end
  return { proto = PROTO[proto], addr = endpoint.addr, port = endpoint.port }
end

--- false, or a list of entries.
function failsafe.option(what, value)
  if value == false then return false end
  if type(value) ~= "table" then
    misuse("%s: %s given, false or a list (\"192.0.2.7\", \"tcp 10.0.0.1:22\") expected", what, schema.show(value))
  end
  local list = {}
  for i, text in ipairs(value) do list[i] = entry(("%s[%d]"):format(what, i), text) end
  return list
end

-- The session --------------------------------------------------------------------------------------

--- "192.0.2.7 50000 10.0.0.1 22", as sshd tells its children: { peer, peer_port, addr, port }.
function failsafe.parse(text)
  local peer, peer_port, own, port = (text or ""):match "^(%S+) (%d+) (%S+) (%d+)$"
  if not peer then return nil end
  local from, to = addr.ip((peer:gsub("%%.*", ""))), addr.ip((own:gsub("%%.*", "")))
  if not from or not to or from.family ~= to.family then return nil end
  return {
    peer = from.text, peer_port = math.tointeger(tonumber(peer_port)), addr = to.text,
    port = math.tointeger(tonumber(port)),
  }
end

local function parent_of(pid)
  local file <close> = io.open(("/proc/%d/stat"):format(pid))
  local text = file and file:read "a" or ""
  return math.tointeger(tonumber(text:match ".*%) %S (%d+)"))
end

local function connection_of(pid)
  local file <close> = io.open(("/proc/%d/environ"):format(pid))
  return (file and file:read "a" or ""):match "%f[^\0]SSH_CONNECTION=([^\0]*)"
end

--- The process's own environment says it; sudo hides it, so then its parents' do.
local function find_session()
  local found, pid = failsafe.parse(os.getenv "SSH_CONNECTION"), uv.os_getppid()
  for _ = 1, ANCESTORS do
    if found or not pid or pid <= 1 then break end
    found, pid = failsafe.parse(connection_of(pid)), parent_of(pid)
  end
  return found or false
end

local session

--- The device that has an address of this network namespace; nil: none has.
local function device_of(text)
  for name, addresses in pairs(uv.interface_addresses()) do
    for _, one in ipairs(addresses) do
      local own = addr.ip((one.ip:gsub("%%.*", "")))
      if own and own.text == text then return name end
    end
  end
end

--- The SSH session that this process was started from, if it ends in this network namespace; or nil.
function failsafe.session()
  if session == nil then session = find_session() end
  if not session or not device_of(session.addr) then return nil end
  return session
end

--- Does a port carry the session? The device that has its address, or by which its other end is reached; where that
--- is a bridge or the like, any port may be below it.
function failsafe.carries(port, current)
  local ifindex = controller.ifindex(port)
  if device_of(current.addr) == port then return true end
  local hop = task.await(balancer.route, current.peer)
  if not hop or hop.ifindex == 0 then return true end
  return hop.ifindex == ifindex or hop.device == ifindex or ABOVE[hop.kind] or false
end

--- "tcp 192.0.2.7:50000 > 10.0.0.1:22"
function failsafe.text(current)
  return ("tcp %s > %s"):format(address.format(current.peer, current.peer_port),
    address.format(current.addr, current.port))
end

-- Rules --------------------------------------------------------------------------------------------

local function prefixes(text)
  return { prefixes = { (lists.prefix(text)) }, sets = {} }
end

--- A match as for what comes in, turned round for egress.
local function turned(direction, given)
  if direction == "ingress" then return given end
  return { proto = given.proto, src = given.dst, dst = given.src, sport = given.dport, dport = given.sport }
end

--- What an entry lets pass in a direction.
function failsafe.match_entry(direction, given)
  if given.prefix then return turned(direction, { src = prefixes(given.prefix) }) end
  return turned(direction, { proto = { given.proto }, dst = prefixes(given.addr), dport = { given.port, given.port } })
end

--- The same of the session.
function failsafe.match_session(direction, current)
  return turned(direction, {
    proto = { PROTO.tcp }, src = prefixes(current.peer), dst = prefixes(current.addr),
    sport = { current.peer_port, current.peer_port }, dport = { current.port, current.port },
  })
end

--- A packet of it, for a compiled policy's match.
function failsafe.packet(direction, current)
  local packet = {
    src = current.peer, dst = current.addr, proto = PROTO.tcp, sport = current.peer_port, dport = current.port,
    flags = 0x10,
  }
  if direction == "egress" then
    packet.src, packet.dst, packet.sport, packet.dport = packet.dst, packet.src, packet.dport, packet.sport
  end
  return packet
end

return failsafe
