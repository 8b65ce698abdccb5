-- SPDX-License-Identifier: GPL-2.0-only
--- port:mirror { name =, to =, … }: a copy of some of a port's packets, sent out by a device or to a collector, while
--- the mirror is started. What is read here is declared; mirrors.lua puts it in force.

local address = require "tidegate.packet.addr"
local generation = require "tidegate.generation"
local misuse = require "tidegate.misuse"
local mirrors = require "tidegate.mirrors"
local schema = require "tidegate.schema"
local taps = require "tidegate.taps"

local mirror = {}

local MOST_SECONDS <const> = 31 * 86400

---@class tidegate.Mirror
---@field name string
local Mirror = {}
local meta = { __name = "tidegate.Mirror", __metatable = "tidegate.Mirror", __index = Mirror }

-- Declarations -------------------------------------------------------------------------------------

local function collector(what, value)
  local found = type(value) == "string" and address.ip(value)
  if not found then misuse("%s: %s given, the collector's IP address expected", what, schema.show(value)) end
  return found.text
end

local tunnel = schema.table {
  vxlan = schema.required(collector), vni = schema.required(schema.integer(1, (1 << 24) - 1)),
  port = schema.integer(1, 65535),
}

--- { device = "tap0" }, or { vxlan =, vni =, port = }
local function target(what, value)
  if type(value) == "table" then
    local checked = tunnel(what, value)
    checked.port = checked.port or 4789
    return checked
  end
  if type(value) ~= "string" or #value < 1 or #value > 15 or value:find "[%s/]" then
    misuse("%s: %s given, a device's name or { vxlan = ADDRESS, vni = N } expected", what, schema.show(value))
  end
  return { device = value }
end

local options = schema.table {
  name = schema.required(schema.name), to = schema.required(target),
  direction = schema.one_of { "ingress", "egress", "both" }, match = taps.matches,
  sample = schema.integer(1, 1000000), rate = schema.integer(1, 1000000000),
}

local function read(port, given)
  local what = ("port %q: mirror"):format(port.name)
  if type(given) == "table" and type(given.name) == "string" then what = ("mirror %q"):format(given.name) end
  local checked = options(what, given)
  if checked.to.device == port.name then
    misuse("%s.to: %q is the port itself: its copies would leave by where they are made", what, port.name)
  end
  checked.port, checked.direction = port.name, checked.direction or "both"
  return checked
end

--- Declares a mirror of a port. It copies nothing until it is started.
function mirror.declare(port, given)
  local name = type(given) == "table" and given.name
  local declaration = generation.declare("mirror", name, function() return read(port, given) end)
  return setmetatable({ name = name, declaration = declaration }, meta)
end

function mirror.reference(name)
  return setmetatable({ name = schema.name("tg.mirrors", name) }, meta)
end

-- Handles ------------------------------------------------------------------------------------------

local function check_self(self, method)
  if getmetatable(self) ~= "tidegate.Mirror" then
    misuse("%s: call it with a colon: mirror:%s(…)", method, method)
  end
  local declaration = rawget(self, "declaration")
  if declaration then generation.check_handle(declaration) end
end

local seconds = schema.seconds(0.001, MOST_SECONDS)
local limits = schema.table { seconds = seconds, packets = schema.integer(1, math.maxinteger) }

local function limits_text(given)
  local words = {}
  if given.seconds then words[#words + 1] = ("%.14g s"):format(given.seconds) end
  if given.packets then words[#words + 1] = ("%d packets"):format(given.packets) end
  return table.concat(words, " or ")
end

--- Starts it, for so many seconds or { seconds =, packets = }; whichever comes first ends it. One that is started
--- begins anew. At a file's top level it is an act: it is done after the commit.
function Mirror:start(given)
  check_self(self, "start")
  local what = ("mirror %q: start"):format(tostring(self.name))
  local checked
  if type(given) == "table" then
    checked = limits(what, given)
  elseif given ~= nil then
    checked = { seconds = seconds(what, given) }
  end
  if not checked or not (checked.seconds or checked.packets) then
    misuse("%s: seconds, or { seconds =, packets = }, expected: a mirror always ends", what)
  end
  local name = self.name
  return generation.act(("mirror %q: start for %s"):format(tostring(name), limits_text(checked)), function()
    return mirrors.start(name, checked)
  end)
end

--- Stops it; one that is not started is no error. At a file's top level it is an act.
function Mirror:stop()
  check_self(self, "stop")
  local name = self.name
  return generation.act(("mirror %q: stop"):format(tostring(name)), function() return mirrors.stop(name) end)
end

--- What it is, and what it has copied since it was started; or nil, why, code.
function Mirror:status()
  check_self(self, "status")
  return mirrors.status(self.name)
end

function meta:__tostring()
  return ("mirror %q"):format(self.name or "?")
end

return mirror
