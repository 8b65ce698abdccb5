-- SPDX-License-Identifier: GPL-2.0-only
--- A trace as lines for people: the packet, each table consulted, what was rewritten, the verdict.

local reasons = require "tidegate.trace.reasons"

local text = {}

local LAYERS = { "eth", "ip", "tcp", "udp", "icmp", "icmp6" }

--- The fields of a packet as "layer.field" → value, as far as a line can show them.
local function flat(p)
  local out, names = {}, {}
  for _, layer in ipairs(LAYERS) do
    local keys = {}
    for key, value in pairs(p[layer] or {}) do
      if type(value) ~= "table" then keys[#keys + 1] = key end
    end
    table.sort(keys)
    for _, key in ipairs(keys) do
      local name = layer .. "." .. key
      out[name], names[#names + 1] = p[layer][key], name
    end
  end
  return out, names
end

--- The bytes of a packet from its IP header on, without what pads the frame; nil if it has none.
local function ip_bytes(p)
  if not p.ip then return nil end
  local at = (p.eth and 14 or 0) + 4 * #(p.vlan or {})
  return p:bytes():sub(at + 1, at + (p.ip.total_length or 40 + (p.ip.payload_length or 0)))
end

--- Does a packet carry the other one, untouched?
local function carries(outer, inner)
  local ip, inside = ip_bytes(outer), ip_bytes(inner)
  return ip and inside and #ip > #inside and ip:sub(-#inside) == inside
end

--- What differs between two packets: a list of { field =, from =, to = }. Of one that is put into another:
--- the new frame and "outer", the packet around it.
function text.changes(before, after)
  local wrapped = carries(after, before)
  local old, names = flat(wrapped and { eth = before.eth } or before)
  local new, new_names = flat(wrapped and { eth = after.eth } or after)
  local changes = {}
  for _, name in ipairs(new_names) do
    if old[name] == nil then names[#names + 1] = name end
  end
  for _, name in ipairs(names) do
    if old[name] ~= new[name] then
      changes[#changes + 1] = { field = name, from = old[name], to = new[name] }
    end
  end
  if wrapped then changes[#changes + 1] = { field = "outer", to = (tostring(after):gsub(" len %d+$", "")) } end
  return changes
end

--- What a value was in this field, in the manner of its field.
local function show(field, value)
  if value == nil then return "none" end
  local in_hex = field == "eth.type" or field:find "checksum$"
  if in_hex and math.type(value) == "integer" then return ("0x%04x"):format(value) end
  return tostring(value)
end

-- Steps --------------------------------------------------------------------------------------------

local function with_state(name, state)
  return state and ("%s (%s)"):format(name, state) or name
end

local function by(step)
  if not step.device then return "next hop unresolved" end
  return ("by %s to %s"):format(step.device, step.dmac)
end

--- table → sentence(step) for a hit; nil: the fields as they are.
local sentences = {}

function sentences.deny(step)
  local name = step.list and ("%s list %s"):format(step.kind, step.list) or ("a list of class %d"):format(step.class)
  return ("on %s%s"):format(name, step.counted and ", counted by itself" or "")
end

function sentences.vips(step)
  if not step.service then return "the source is an address with VIPs" end
  local words = { ("service %s: %s"):format(step.service, step.mode) }
  for _, flag in ipairs { "strict", "flow", "source", "quic" } do
    if step[flag] then words[#words + 1] = flag end
  end
  words[#words + 1] = ("ring %d of %d slots"):format(step.ring, step.slots)
  return table.concat(words, ", ")
end

function sentences.rings(step)
  local home = with_state(step.home, step.home_state)
  if step.t == 0 then return "home " .. home end
  return ("in transition: home %s, next %s"):format(home, with_state(step.next, step.next_state))
end

function sentences.backends(step)
  local mtu = step.mtu and step.mtu > 0 and (", MTU %d"):format(step.mtu) or ""
  return with_state(step.backend, step.state) .. ", " .. by(step) .. mtu
end

function sentences.routes(step)
  return step["local"] and "an address of this switch" or by(step)
end

function sentences.fragments(step) -- fate: enum tg_fate
  if step.fate == 0 then return "the first one went to the stack" end
  return ("the first one %s %s"):format(step.fate == 1 and "went to" or "was an answer of",
    with_state(step.backend, step.state))
end

function sentences.lines(step)
  if step.enters then return "the flow is entered, to " .. with_state(step.enters, step.enters_state) end
  if step.backend == "none" then return "a flow to the backend itself, not through the VIP" end
  return ("the flow is on %s, %s"):format(with_state(step.backend, step.state),
    step.confirmed and "confirmed" or "only begun")
end

function sentences.policies(step)
  local at = step.position and (" (%s)"):format(step.position) or ""
  local audited = step.audit and ", audited: it passes" or ""
  return ("%s by %s%s%s"):format(step.action, step.rule, at, audited)
end

function sentences.policy_fragments(step) return "the first one was accepted by " .. step.rule end
function sentences.taps(step) return step.outcome end

function sentences.fib(step) return by(step) end
function sentences.tx_ports() return "frames may be sent there" end

--- "name value, name value", names in order.
local function fields(step)
  local names = {}
  for name in pairs(step) do
    if name ~= "table" and name ~= "key" and name ~= "hit" then names[#names + 1] = name end
  end
  table.sort(names)
  for i, name in ipairs(names) do names[i] = ("%s %s"):format(name, tostring(step[name])) end
  return #names > 0 and table.concat(names, ", ") or "yes"
end

--- table → what a miss means, where "no" would not tell.
local misses = {
  deny = "on no list", vips = "no VIP", ranges = "no range of ports", quic_servers = "no server has this ID",
  rings = "the service has no ring", fragments = "the first one is not known", lines = "no entry",
  policies = "no policy", policy_fragments = "no first one was accepted", taps = "not now: its sampling, limit or end",
  reverse = "no backend's endpoint", routes = "no route known", tx_ports = "not a port of this instance",
  fib = "the kernel does not forward there, or knows no neighbour",
}

local function describe(step)
  if not step.hit then
    if step.key:find "^new" then return "can't be entered: no room, or too many of its client" end
    return misses[step.table] or "no"
  end
  return (sentences[step.table] or fields)(step)
end

-- Reasons ------------------------------------------------------------------------------------------

local function verdict(result)
  local words = { "verdict", result.verdict }
  if result.verdict == "redirect" and result.port then words[#words + 1] = "to " .. result.port end
  if result.reason == "forward" then return table.concat(words, " ") end
  local meaning = reasons[result.reason]
  return ("%s because: %s%s"):format(table.concat(words, " "), result.reason, meaning and ", " .. meaning or "")
end

--- The lines of a trace, of a packet that came in by `port`.
function text.lines(port, before, result)
  local lines = { ("%s, %d bytes, in by %s"):format(tostring(before), #before:bytes(), port) }
  local function add(...) lines[#lines + 1] = ("  %-10s " .. (...)):format(select(2, ...)) end
  for _, step in ipairs(result.steps) do
    add("%-36s %s", step.table, step.key, describe(step))
  end
  local answered = result.reason == "too-big-answered" -- by another packet
  for _, change in ipairs(answered and {} or result.changes) do
    add("%-20s %s -> %s", "rewrite", change.field, show(change.field, change.from), show(change.field, change.to))
  end
  lines[#lines + 1] = verdict(result)
  if #result.changes > 0 then lines[#lines + 1] = "out: " .. tostring(result.packet) end
  return table.concat(lines, "\n") .. "\n"
end

return text
