-- SPDX-License-Identifier: GPL-2.0-only
--- The words that a traced packet's steps are logged with, as values for people. A format is a list of
--- fields "name:type" (TG_STEPS in bpf/trace_abi.h); a field without a name is a key by itself.

local addr = require "tidegate.packet.addr"
local address = require "tidegate.address"
local core = require "tidegate.core.trace"
local tracks = require "tidegate.core.tracks"

local words = {}

local MODES = { [0] = "l2dsr", "nat", "ipip", "gue" }
local FAILS = { [0] = "drop", "pass" }
local FLAGS = { "strict", "flow", "source", "quic" }    -- TG_VIP_*, from the lowest bit
local ACTIONS = { [0] = "accept", "drop", "reject" }    -- enum tg_action
local TAP_POLICIES = 512                                -- TG_POLICY_OF_TAP(0)
local PROTOCOLS = { [1] = "icmp", [6] = "tcp", [17] = "udp", [58] = "icmp6" }

--- The policies in force; loaded when first asked, since they load what uses this.
local function policies() return require "tidegate.policy.state" end

local function device(ifindex)
  return core.device(ifindex) or ("device %d"):format(ifindex)
end

local function protocol(number) return PROTOCOLS[number] or ("%d"):format(number) end

--- A backend by its index: "10.0.0.11:80", its state.
local function backend(index)
  if index == 0 then return "none" end
  local ip, port, state = core.backend(index)
  if not ip then return ("backend %d"):format(index) end
  return address.format(ip, port ~= 0 and port or nil), state
end

--- type → reader(bytes, position, step) → the next position, then a value or a table of named ones.
local types = {}

function types.u32(bytes, at)
  local value = string.unpack("=I4", bytes, at)
  return at + 4, value
end

function types.hex64(bytes, at)
  return at + 8, ("%016x"):format((string.unpack("=I8", bytes, at)))
end

function types.ip(bytes, at, step)
  return at + 16, addr.ip_text(bytes:sub(at, at + (step.v6 and 15 or 3)))
end

--- A port in network order.
function types.port(bytes, at)
  return at + 4, (string.unpack(">I2", bytes, at))
end

function types.endpoint(bytes, at, step)
  local _, ip = types.ip(bytes, at, step)
  local port, proto = string.unpack(">I2B", bytes, at + 16)
  return at + 20, address.format(ip, port) .. "/" .. protocol(proto)
end

function types.proto(bytes, at)
  return at + 4, protocol(string.unpack("=I4", bytes, at))
end

function types.device(bytes, at)
  local ifindex = string.unpack("=I4", bytes, at)
  return at + 4, ifindex == 0 and "none" or device(ifindex)
end

function types.flag(bytes, at)
  return at + 4, string.unpack("=I4", bytes, at) ~= 0
end

--- Of a list: the number that the tables know it by, its name, "deny" or "allow".
function types.class(bytes, at)
  local class = string.unpack("=I4", bytes, at)
  local list, kind = core.list(class)
  return at + 4, { class = class, list = list, kind = kind }
end

function types.service(bytes, at)
  local index = string.unpack("=I4", bytes, at)
  return at + 4, core.service(index) or ("service %d"):format(index)
end

--- Its endpoint; of what it is the value, also its state.
function types.backend(bytes, at)
  local name, state = backend(string.unpack("=I4", bytes, at))
  return at + 4, name, state
end

--- struct tg_hop
function types.hop(bytes, at)
  local ifindex = string.unpack("=I4", bytes, at)
  if ifindex == 0 then return at + 16, { hop = "unresolved" } end
  return at + 16, {
    device = device(ifindex), dmac = addr.mac_text(bytes:sub(at + 4, at + 9)),
    smac = addr.mac_text(bytes:sub(at + 10, at + 15)),
  }
end

--- struct tg_vip
function types.vip(bytes, at)
  local ring, slots, service, mode, fail, bits = string.unpack("=I4I4I4BBI2", bytes, at)
  local value = {
    service = core.service(service) or ("service %d"):format(service), ring = ring, slots = slots,
    mode = MODES[mode] or mode, fail = FAILS[fail] or fail,
  }
  for i, name in ipairs(FLAGS) do
    if bits >> (i - 1) & 1 == 1 then value[name] = true end
  end
  return at + 16, value
end

--- Of a port's policy its direction; of a mirror's or capture's match its number (TG_POLICY_OF_TAP).
function types.policy(bytes, at)
  local index = string.unpack("=I4", bytes, at)
  if index >= TAP_POLICIES then return at + 4, ("tap %d"):format(index - TAP_POLICIES) end
  return at + 4, index % 2 == 0 and "ingress" or "egress"
end

--- A rule by its counter: its name or text, and where it is declared.
function types.rule(bytes, at)
  local counter = string.unpack("=I4", bytes, at)
  local found = policies().rule_of(counter)
  if not found then return at + 4, ("counter %d"):format(counter) end
  return at + 4, { rule = found.rule.name or found.rule.text or found.rule.key, position = found.rule.position }
end

function types.action(bytes, at)
  return at + 4, ACTIONS[string.unpack("=I4", bytes, at)] or "?"
end

--- Of a flow of stateful policies.
function types.state(bytes, at)
  local state = tracks.states()[string.unpack("=I4", bytes, at) + 1]
  return at + 4, state and state[1] or "?"
end

function types.tapped(bytes, at)
  return at + 4, string.unpack("=I4", bytes, at) == 0 and "copied" or "not copied"
end

--- Calls fn(name, value, more) for each field of a format. The words have to be all of them, and no more.
local function each(format, bytes, step, fn)
  local at = 1
  for field in format:gmatch "%S+" do
    local name, kind = field:match "^(.-):(.+)$"
    local value, more
    at, value, more = assert(types[kind or field], field)(bytes, at, step)
    fn(name or field, value, more)
  end
  assert(at == #bytes + 1, ("step %s: %d words noted, not %s"):format(step.table, #bytes // 4, format))
end

--- The text of a key: the value of its only field, else "name value, name value".
local function key_text(step)
  local parts = {}
  each(step.key_format, step.key, step, function(name, value)
    parts[#parts + 1] = { name, tostring(value) }
  end)
  if #parts == 1 then return parts[1][2] end
  for i, part in ipairs(parts) do parts[i] = part[1] .. " " .. part[2] end
  return table.concat(parts, ", ")
end

--- A step as tg.trace gives it: { table, key, hit, and what was found by names }.
function words.step(raw)
  local step = { table = raw.table, key = key_text(raw), hit = raw.hit }
  if not raw.hit or raw.value_format == "" then return step end
  each(raw.value_format, raw.value, raw, function(name, value, more)
    if type(value) == "table" then
      for key, part in pairs(value) do step[key] = part end
    else
      step[name] = value
    end
    if more then step[name == "backend" and "state" or name .. "_state"] = more end
  end)
  return step
end

return words
