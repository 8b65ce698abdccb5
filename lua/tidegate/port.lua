-- SPDX-License-Identifier: GPL-2.0-only
--- tg.port: a network device that the datapath is attached to.

local generation = require "tidegate.generation"
local misuse = require "tidegate.misuse"
local schema = require "tidegate.schema"

local TC = { [true] = "auto", [false] = false, auto = "auto", tcx = "tcx", clsact = "clsact" }

local function tc(what, value)
  if TC[value] == nil then
    misuse('%s: %s given, true, false, "auto", "tcx" or "clsact" expected', what, schema.show(value))
  end
  return TC[value]
end

local options = schema.table {
  xdp = schema.one_of { "auto", "native", "generic", "off" }, tc = tc, optional = schema.boolean,
  rates = schema.boolean,
}

---@class tidegate.Port
---@field name string
local Port = {}
local meta = { __name = "tidegate.Port", __metatable = "tidegate.Port", __index = Port }

local port = {}

local function device(what, value)
  if type(value) ~= "string" or #value < 1 or #value > 15 or value:find "[%s/]" then
    misuse("%s: %s given, a device's name expected", what, schema.show(value))
  end
  return value
end

--- Declares a port. `xdp`: "auto" takes native XDP where the driver has it, else generic. `tc`: how the TC programs
--- are attached where they have something to do, true or "auto" by TCX where the kernel has it, else by clsact; false:
--- never. With `optional` a device that is not there is no error; the datapath is attached when it appears.
function port.declare(name, given)
  generation.declare("port", name, function()
    device("tg.port", name)
    local checked = options(("tg.port %q"):format(name), given or {})
    checked.xdp = checked.xdp or "auto"
    if checked.tc == nil then checked.tc = "auto" end
    return checked
  end)
  return port.reference(name)
end

function port.reference(name)
  return setmetatable({ name = name }, meta)
end

local function check_self(self, name)
  if getmetatable(self) ~= "tidegate.Port" then
    misuse("%s: call it with a colon: port:%s(…)", name, name)
  end
end

--- Declares what becomes of the packets of a direction, "ingress" or "egress" (policy.lua).
function Port:policy(direction, given)
  check_self(self, "policy")
  require("tidegate.policy").declare(self, direction, given)
end

--- A handle of the rule of that name.
function Port:rule(name)
  check_self(self, "rule")
  return require("tidegate.policy").rule(self, name)
end

--- The rules in force, with what they counted; of one direction or both.
function Port:rules(direction)
  check_self(self, "rules")
  return require("tidegate.policy").rules(self, direction)
end

--- Starts a capture (capture.lua).
function Port:capture(given)
  check_self(self, "capture")
  return require("tidegate.capture").start(self, given)
end

--- The captures of this port that run.
function Port:captures()
  check_self(self, "captures")
  return require("tidegate.capture").of(self)
end

--- Declares a mirror: a copy of packets, while it is started (mirror.lua).
function Port:mirror(given)
  check_self(self, "mirror")
  return require("tidegate.mirror").declare(self, given)
end

function meta:__tostring()
  return ("port %q"):format(self.name or "?")
end

return port
