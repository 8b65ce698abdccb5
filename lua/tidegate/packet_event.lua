-- SPDX-License-Identifier: GPL-2.0-only
--- Events of packets, out of the datapath's ring: policy.drop and policy.accept (rules with `log`), those that
--- rules name themselves (`event`), flow.new, deny.hit. core/lua_events.c makes them; here they get to their handlers
--- (event.lua), and what rules with `log` tell into the log.

local controller = require "tidegate.core.controller"
local core = require "tidegate.core.events"
local event = require "tidegate.event"
local log = require "tidegate.log"
local policy = require "tidegate.policy.state"
local task = require "tidegate.task"

local packet_event = {}

local EVENTS <const> = controller.features().events
local DENIED <const> = "deny.hit"       -- what XDP tells only where somebody listens
local LINES <const> = 10                -- of packets in the log, a second
local LOGGED <const> = { ["policy.drop"] = true, ["policy.accept"] = true }

-- Into the log --------------------------------------------------------------------------------------

local lines, left = 0, 0    -- of this second: those that were written, packets that were not

local function endpoint(addr, port)
  if not addr then return "?" end
  if not port then return addr end
  return (addr:find(":", 1, true) and "[%s]:%d" or "%s:%d"):format(addr, port)
end

--- "policy.drop eth0 ingress: tcp 203.0.113.7:4242 > 192.0.2.1:23 S, 60 bytes, rule telnet (web.lua:12)"
function packet_event.text(ev)
  local packet = ("%s %s > %s"):format(ev.proto or "packet", endpoint(ev.src, ev.sport), endpoint(ev.dst, ev.dport))
  if ev.flags then packet = packet .. " " .. ev.flags end
  if ev.icmp_type then packet = packet .. " type " .. ev.icmp_type end
  local text = ("%s %s %s: %s, %d bytes"):format(ev.name, ev.port or "?", ev.direction, packet, ev.length)
  if ev.rule then text = text .. (", rule %s (%s)"):format(ev.rule, ev.line) end
  if ev.audit then text = text .. ", audit" end
  return ev.sample > 1 and text .. (", one of %d"):format(ev.sample) or text
end

local function second_over()
  if left > 0 then log.info("%d more packets of rules with log", left) end
  lines, left = 0, 0
end

local function write(ev)
  if lines == 0 then task.arm(1, second_over) end
  if lines < LINES then
    lines = lines + 1
    log.info("%s", packet_event.text(ev))
  else
    left = left + ev.sample
  end
end

--- Writes what rules with `log` tell of, so many lines a second.
function packet_event.log(list)
  for i = 1, #list do
    local ev = list[i]
    if LOGGED[ev.name] then write(ev) end
  end
end

-- Names ---------------------------------------------------------------------------------------------

local named         -- the compiled policies whose rules the core knows

--- Tells the core what rules are called, by their counters.
local function tell_names()
  if named == policy.in_force.compiled then return end
  named = policy.in_force.compiled
  local names, positions, own = {}, {}, {}
  local function add(one)
    if not one.counter then return end
    names[one.counter] = one.default and "default" or one.name or one.text
    positions[one.counter], own[one.counter] = one.position, one.event
  end
  for _, directions in pairs(named) do
    for _, compiled in pairs(directions) do
      for _, one in ipairs(compiled.all) do add(one) end
      add(compiled.default)
    end
  end
  core.rules(names, positions, own)
end

local function receive(list)
  tell_names()
  packet_event.log(list)
  event.emit_all(list)
end

-- What is told --------------------------------------------------------------------------------------

local resource      -- of the root: stops reading at the daemon's end

--- Reads the ring from now on, if there is one: after each change of the program's features.
function packet_event.follow()
  tell_names()
  local ok, message = core.start(receive)
  if ok == nil then log.error("%s", message) end
  resource = resource or task.root():keep { cancel = core.stop }
end

--- The features that a loaded generation needs so that its handlers hear of everything, as bits.
function packet_event.features(gen)
  return event.listens(gen, DENIED) and EVENTS or 0
end

--- A handler that a task has made may want what nobody wanted before.
function event.changed()
  local running = require "tidegate.running"
  if running.features & EVENTS ~= 0 or not event.wanted(DENIED) then return end
  task.start({ name = "events", owner = task.root() }, function()
    local turn <close> = running.lock:take()
    if not event.wanted(DENIED) then return end
    local ok, message = running.need(EVENTS)
    if not ok then log.error("deny.hit is not told: %s", message) end
    packet_event.follow()
  end)
end

--- { [kind] = { told, lost, left_out }, …, handlers = { [name] = lost } }: what was told of packets, what found the
--- ring full, what sampling left out; and what handlers had no room for.
function packet_event.status()
  local status = core.counts()
  status.handlers = setmetatable(event.lost(), { __jsontype = "object" })
  return status
end

--- The lines of a status that say something.
function packet_event.print(request, status)
  local kinds = {}
  for kind, counts in pairs(status) do
    if kind ~= "handlers" and counts.told + counts.lost + counts.left_out > 0 then kinds[#kinds + 1] = kind end
  end
  table.sort(kinds)
  for _, kind in ipairs(kinds) do
    local counts = status[kind]
    request:print(("event %s: %d told, %d left out, %d lost"):format(kind, counts.told, counts.left_out, counts.lost))
  end
  for name, lost in pairs(status.handlers) do
    request:print(("%s: %d events lost, it is too slow"):format(name, lost))
  end
end

return packet_event
