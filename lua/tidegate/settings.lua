-- SPDX-License-Identifier: GPL-2.0-only
--- tg.instance: settings of the whole instance.

local address = require "tidegate.address"
local balancer = require "tidegate.core.balancer"
local failsafe = require "tidegate.policy.failsafe"
local generation = require "tidegate.generation"
local host = require "tidegate.core.host"
local log = require "tidegate.log"
local maglev = require "tidegate.core.maglev"
local misuse = require "tidegate.misuse"
local schema = require "tidegate.schema"
local ip = require("tidegate.packet.addr").ip
local task = require "tidegate.task"

local settings = {}

local MEMORY = 64 << 20

local TUNNEL = {
  source4 = { addr = "172.16.0.0", length = 16 }, source6 = { addr = "100::", length = 64 }, gue_port = 6080,
}

--- Are all bits of the address beyond the first `length` zero?
local function ends_there(parsed, length)
  for i = 1, #parsed.bytes do
    local kept = math.max(0, math.min(8, length - (i - 1) * 8))
    if parsed.bytes:byte(i) & 0xff >> kept ~= 0 then return false end
  end
  return true
end

local LENGTHS = { [4] = { 8, 32 }, [6] = { 16, 128 } } -- of a tunnel's source

--- A prefix that sources are taken from, "172.16.0.0/16" or one address: { addr, family, length }.
local function prefix(what, value)
  if type(value) ~= "string" then
    misuse("%s: %s given, a prefix (\"172.16.0.0/16\") or an address expected", what, schema.show(value))
  end
  local text, length = value:match "^([^/]*)/(%d+)$"
  local parsed = ip(text or value)
  if not parsed then misuse("%s: %s is no prefix", what, schema.show(value)) end
  local least, most = table.unpack(LENGTHS[parsed.family])
  length = tonumber(length) or most
  if length < least or length > most then
    misuse("%s: %q: a length from %d to %d allowed", what, value, least, most)
  end
  if not ends_there(parsed, length) then misuse("%s: %q has bits set beyond its length", what, value) end
  local problem = address.refusal { addr = parsed.text, family = parsed.family }
  if problem then misuse("%s: %q: %s", what, value, problem) end
  return { addr = parsed.text, family = parsed.family, length = length }
end

--- One prefix, or one of each family.
local function sources(what, value)
  local found = {}
  for _, text in ipairs(type(value) == "table" and value or { value }) do
    local source = prefix(what, text)
    if found[source.family] then misuse("%s: one prefix of each family expected", what) end
    found[source.family] = source
  end
  if not next(found) then misuse("%s: a prefix expected, or one of each family", what) end
  return found
end

local tunnel_options = schema.table { source = sources, gue_port = schema.integer(1, 65535) }

local fields = {
  tunnel = tunnel_options, failsafe = failsafe.option, rates = schema.boolean,
  memory = schema.bytes(16 << 20, 16 << 30),
  log = schema.one_of { "debug", "info", "warn", "error" },
  flows = schema.integer(64, 1 << 28), idle = schema.seconds(3, 86400), client_flows = schema.integer(1, (1 << 32) - 1),
  seed = function(what, value)
    if type(value) ~= "string" or #value < 8 then
      misuse("%s: %s given, a secret of at least 8 characters expected, the same on all nodes of a cluster", what,
        type(value) == "string" and ("one of %d characters"):format(#value) or schema.show(value))
    end
    return value
  end,
}
for name, check in pairs(require "tidegate.flow_settings") do fields[name] = check end

local options = schema.table(fields)

--- Declares `memory` (the VM's cap), `log` (the lowest level that is logged), `seed` (the key of the
--- flow hash; the same on all nodes that serve the same VIPs; in force when an instance is first loaded)
--- and `tunnel` (the outer header of ipip and gue: `source`, a prefix of each family, and `gue_port`).
--- `failsafe`: what no policy may cut off (policy/failsafe.lua).
--- Of flows that need an entry: how many there is room for (`flows`, when an instance is first loaded), after
--- how many silent seconds one is forgotten (`idle`), and how many a client may have entered in a thirtieth
--- of that (`client_flows`). Of the flows of stateful policies see flow_settings.lua.
function settings.declare(given)
  generation.declare("instance", "instance", function() return options("tg.instance", given) end)
end

local function declared(gen)
  return gen and gen.declared.instance and gen.declared.instance.instance or {}
end

--- The 16 bytes that the flow hash's key is made from, or nil: the instance's own.
function settings.seed(gen)
  local seed = declared(gen).seed
  return seed and maglev.key(seed .. "0") .. maglev.key(seed .. "1")
end

--- What ipip and gue put around a packet: { source4 = { addr, length }, source6, gue_port }.
function settings.tunnel(gen)
  local given = declared(gen).tunnel or {}
  local source = given.source or {}
  return {
    source4 = source[4] or TUNNEL.source4, source6 = source[6] or TUNNEL.source6,
    gue_port = given.gue_port or TUNNEL.gue_port,
  }
end

--- What flows may be remembered, as it was given: { flows, idle, client_flows }, nil where nothing was said.
function settings.limits(gen)
  local given = declared(gen)
  return { flows = given.flows, idle = given.idle, client_flows = given.client_flows }
end

--- How many flows there shall be room for, or nil.
function settings.flows(gen)
  return declared(gen).flows
end

--- Tells the balancer how long flows are remembered; in a task.
function settings.tune(gen)
  local given = declared(gen)
  return assert(task.await(balancer.tune, given.idle or 0, given.client_flows or 0))
end

--- Puts the settings of a generation in force; without one, those that hold while files are first loaded.
function settings.apply(gen)
  local given = declared(gen)
  host.memory(given.memory or MEMORY)
  log.level(given.log or "info")
end

--- What was said of the flows of stateful policies (flow_settings.lua).
function settings.tracking(gen)
  return declared(gen)
end

return settings
