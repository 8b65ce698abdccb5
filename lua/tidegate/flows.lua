-- SPDX-License-Identifier: GPL-2.0-only
--- tg.flows: the flows of stateful policies. Reads and removes them, lets go of those that have expired, and tells of
--- them by events. core/lua_tracks.c knows the tables; nothing here is needed for packets to pass.

local controller = require "tidegate.core.controller"
local core = require "tidegate.core.tracks"
local event = require "tidegate.event"
local generation = require "tidegate.generation"
local ip = require("tidegate.packet.addr").ip
local log = require "tidegate.log"
local match = require "tidegate.policy.match"
local misuse = require "tidegate.misuse"
local policies = require "tidegate.policy.state"
local schema = require "tidegate.schema"
local task = require "tidegate.task"

local flows = {}

local PICK_UP <const> = 60      -- seconds
local ROUND <const> = 8         -- times that the collector runs until it has seen all
local LEAST <const> = 4096      -- flows that it looks at each time, at least
local ENDS <const> = 256        -- told of each time, at most
local TRACKED <const> = 65536

-- Settings -----------------------------------------------------------------------------------------

local made             -- the tables were there before
local settings = {}    -- of the generation in force
local pick_up_until = 0
local told = 0         -- ended flows, of which one in settings.flow_events is an event
local left_out = 0     -- ends that were not told of as there were too many

--- Before programs are made that have tables of flows. `there`: those of an earlier daemon are adopted.
function flows.open(declared, there)
  made = there
  core.size(declared.tracked or 0)
end

--- How long TCP is picked up from the middle on, of a boolean or seconds from when the tables were made.
local function pick_up(declared)
  local given = declared.pick_up
  if type(given) == "boolean" then return given end
  if not made then pick_up_until = task.now() + (given or PICK_UP) end
  return math.max(0, pick_up_until - task.now())
end

--- Tells the programs what a generation's tg.instance says.
function flows.apply(declared)
  settings = declared
  if not core.counters() then return end
  core.set { timeouts = declared.timeouts, pick_up = pick_up(declared), new_sample = declared.flow_events }
  made = true
end

-- Flows as scripts see them -------------------------------------------------------------------------

local DIRECTIONS <const> = { [0] = "ingress", [1] = "egress" }

local function ports_by_slot()
  local names = {}
  for name in pairs(controller.links()) do
    local slot = controller.port_slot(name)
    if slot then names[slot] = name end
  end
  return names
end

--- The rule that let it in, by its name or text.
local function rule_text(counter)
  local found = counter and policies.rule_of(counter)
  return found and (found.rule.name or found.rule.text)
end

local ICMP = { [1] = true, [58] = true }

local function shown(raw, ports)
  local flow = {
    proto = match.protocol_name(raw.proto), src = raw.src, dst = raw.dst, state = raw.state, confirmed = raw.confirmed,
    packets = raw.packets, bytes = raw.bytes, reply_packets = raw.reply_packets, reply_bytes = raw.reply_bytes,
    age = raw.age, idle = raw.idle, device = ports[raw.slot], direction = DIRECTIONS[raw.direction],
    rule = rule_text(raw.rule),
  }
  if ICMP[raw.proto] then
    flow.id = raw.sport
  elseif raw.sport > 0 or raw.dport > 0 then
    flow.sport, flow.dport = raw.sport, raw.dport
  end
  return flow
end

-- Filters -----------------------------------------------------------------------------------------

local function address(what, value)
  local text, length = schema.string(what, value):match "^([^/]*)(/?%d*)$"
  if not text or length == "/" or not ip(text) then
    misuse("%s: %s given, an address or a prefix expected", what, schema.show(value))
  end
  return value
end

local port = schema.integer(0, 65535)

local function states(what, value)
  local list = type(value) == "table" and value or { value }
  for _, name in ipairs(list) do
    local known = {}
    for i, state in ipairs(core.states()) do known[i] = state[1] end
    schema.one_of(known)(what, name)
  end
  return list
end

local options = schema.table {
  src = address, dst = address, sport = port, dport = port, port = port, state = states, device = schema.name,
  proto = function(what, value) return match.protocol_number(what, value) end,
}

local function filter_of(what, given)
  local filter = options(what, given or {})
  filter.states, filter.state = filter.state, nil
  if filter.device then
    filter.slot = controller.port_slot(filter.device) or -2
    filter.device = nil
  end
  return filter
end

-- Calls -------------------------------------------------------------------------------------------

local Flows = {}

--- What the tables could not be read for is the environment's.
local function read_on(filter, cursor)
  local list, next_cursor = task.await(core.read, filter, cursor)
  if not list then error(next_cursor, 0) end
  return list, next_cursor
end

--- Goes through the flows that live and match. What begins or ends meanwhile may be missed.
function Flows.pairs(_, given)
  local filter, ports = filter_of("tg.flows:pairs", given), ports_by_slot()
  local list, cursor = read_on(filter)
  local i = 0
  return function()
    i = i + 1
    while not list[i] and cursor do
      list, cursor = read_on(filter, cursor)
      i = 1
    end
    return list[i] and shown(list[i], ports)
  end
end

--- How many live and match: the number, and { confirmed, embryos, states }.
function Flows.count(_, given)
  local sum, message, code = task.await(core.count, filter_of("tg.flows:count", given))
  if not sum then return nil, message, code end
  return sum.confirmed + sum.embryos, sum
end

local function tell(list, reason, ports)
  local sample = settings.flow_events or 0
  for _, raw in ipairs(list) do
    told = told + 1
    if sample > 0 and told % sample == 0 then
      local ev = shown(raw, ports)
      ev.name, ev.reason, ev.duration, ev.sample = "flow.end", reason, raw.age - raw.idle, sample
      event.emit(ev)
    end
  end
end

local function tell_all(list, more, reason)
  if (settings.flow_events or 0) == 0 then return end
  left_out = left_out + more
  tell(list, reason, ports_by_slot())
end

--- Removes those that live and match, which an empty filter does not: how many. Their packets are for the rules.
function Flows.kill(_, given)
  local filter = filter_of("tg.flows:kill", given)
  if not next(filter) then misuse("tg.flows:kill: a filter expected, such as { src = \"192.0.2.7\" }") end
  return generation.act("tg.flows:kill", function()
    local count, list, more = task.await(core.kill, filter, ENDS)
    if not count then return nil, list, more end
    tell_all(list, more, "killed")
    return count
  end)
end

-- The collector -----------------------------------------------------------------------------------

local cursor, complaint

--- Goes on with a round over the tables; run twice a second.
function flows.collect()
  if not core.counters() then return end
  local most = math.max(LEAST, 2 * (settings.tracked or TRACKED) // ROUND)
  local count, list, more, rest = task.await(core.collect, cursor, most, ENDS)
  if not count then
    if list ~= complaint then log.error("%s", list) end
    complaint = list
    return
  end
  cursor = rest
  tell_all(list, more, "expired")
end

--- For `status`: nil without tables, else what became of flows, and how many live.
function flows.status()
  local counters = core.counters()
  if not counters then return nil end
  local sum = task.await(core.count, {}) or { confirmed = 0, embryos = 0, states = {} }
  return {
    counters = counters, confirmed = sum.confirmed, embryos = sum.embryos, room = settings.tracked or TRACKED,
    states = setmetatable(sum.states, { __jsontype = "object" }), ends_left_out = left_out,
  }
end

--- That as a line.
function flows.text(status)
  local counters, words = status.counters, {}
  for _, name in ipairs { "full", "refused", "invalid", "stray", "cut" } do
    if counters[name] > 0 then words[#words + 1] = (", %d %s"):format(counters[name], name) end
  end
  return ("stateful: %d flows of %d, %d younger ones; %d begun, %d confirmed%s"):format(status.confirmed, status.room,
    status.embryos, counters.begun, counters.confirmed, table.concat(words))
end

flows.flows = setmetatable({}, { __name = "tidegate.Flows", __index = Flows })

return flows
