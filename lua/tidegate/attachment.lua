-- SPDX-License-Identifier: GPL-2.0-only
--- Ports and what is attached to their devices: the XDP program, unless the port says `xdp = "off"`; the TC programs
--- where they have something to do there (`port.uses`, by what asks for it: a policy, mirrors, rates …). A port is
--- a table { name, xdp, tc, optional, position, uses }, and as it is attached also ifindex, mode and why (of XDP),
--- tc_mode and tc_why.

local controller = require "tidegate.core.controller"
local log = require "tidegate.log"
local task = require "tidegate.task"

local attachment = {}

--- Have the TC programs something to do on this port?
function attachment.needs_tc(port)
  return port.tc ~= false and next(port.uses or {}) ~= nil
end

--- What is to be attached: "attach, xdp auto, tc clsact".
function attachment.text(port)
  local parts = { "attach" }
  if port.xdp ~= "off" then parts[#parts + 1] = "xdp " .. port.xdp end
  if attachment.needs_tc(port) then parts[#parts + 1] = port.tc == "auto" and "tc" or "tc " .. port.tc end
  return parts[2] and table.concat(parts, ", ") or "nothing is attached"
end

--- How they are attached: "xdp native, tc tcx".
function attachment.status(port)
  local parts = {}
  if port.mode or port.ifindex and port.xdp ~= "off" then parts[1] = "xdp " .. (port.mode or "?") end
  if port.tc_mode then parts[#parts + 1] = "tc " .. port.tc_mode end
  return port.ifindex and parts[1] and table.concat(parts, ", ") or "not attached"
end

--- The changes from a port to what it is to be, as texts. An adopted port has no `xdp` and no `tc`.
function attachment.changes(was, now)
  local list = {}
  if was.xdp and was.xdp ~= now.xdp then list[1] = ("xdp %s -> %s"):format(was.xdp, now.xdp) end
  local had, has = was.tc_mode ~= nil or was.uses ~= nil and attachment.needs_tc(was), attachment.needs_tc(now)
  if has and not had then
    list[#list + 1] = "attach, " .. (now.tc == "auto" and "tc" or "tc " .. now.tc)
  elseif had and not has then
    list[#list + 1] = "detach, tc"
  elseif has and was.tc and was.tc ~= now.tc then
    list[#list + 1] = ("tc %s -> %s"):format(was.tc, now.tc)
  end
  return list
end

--- The ports that run already: name → port.
function attachment.adopt()
  local ports = {}
  for device, ifindex in pairs(controller.links()) do ports[device] = { name = device, ifindex = ifindex } end
  for device, at in pairs(controller.tc_links()) do
    local port = ports[device] or { name = device, ifindex = at.ifindex, xdp = "off" }
    port.tc_mode = at.how
    ports[device] = port
  end
  return ports
end

local function why_text(why)
  return why ~= "" and " (" .. why .. ")" or ""
end

local function attach_xdp(port)
  if port.xdp == "off" then return task.await(controller.detach, port.name) end
  local result, message, code = task.await(controller.attach, port.name, port.xdp or "auto")
  if not result then return nil, message, code end
  port.mode, port.why = result.mode, result.why
  if not result.adopted then
    log.info("port %s: attached, %s XDP%s", port.name, port.mode, why_text(port.why))
  end
  return true
end

--- A port that needs no TC keeps what it has, until `trim`: as long as the commit may fail.
local function attach_tc(port)
  if not attachment.needs_tc(port) then return true end
  local result, message, code = task.await(controller.attach_tc, port.name, port.tc or "auto")
  if not result then return nil, message, code end
  port.tc_mode, port.tc_why = result.how, result.why
  if not result.adopted then
    log.info("port %s: attached, TC by %s%s", port.name, port.tc_mode, why_text(port.tc_why))
  end
  return true
end

--- Attaches what the port asks for, its device is there. true, or nil, why, code.
function attachment.attach(port)
  local ifindex = controller.ifindex(port.name)
  local ok, message, code = attach_tc(port)      -- first: what XDP hands over finds it
  if ok then ok, message, code = attach_xdp(port) end
  if not ok then return nil, message, code end
  port.ifindex = ifindex
  return true
end

--- Detaches everything. true, or nil, why.
function attachment.detach(name)
  local ok, message = task.await(controller.detach, name)
  if not ok then return nil, message end
  return task.await(controller.detach_tc, name)
end

--- Gives a port back what it had before (nil: nothing), after a commit that failed. true, or nil, why.
function attachment.restore(name, before)
  if not before then return attachment.detach(name) end
  if not controller.ifindex(name) then return true end
  local ok, message = attach_xdp(before)
  if not ok then return nil, message end
  if before.tc_mode then return task.await(controller.attach_tc, name, before.tc_mode) end
  return task.await(controller.detach_tc, name)
end

--- Detaches TC from a port that needs it no longer. true, or nil, why.
function attachment.trim(port)
  if attachment.needs_tc(port) then return true end
  port.tc_mode, port.tc_why = nil, nil
  return task.await(controller.detach_tc, port.name)
end

--- The device is gone: programs need not know it any longer. It may come again, by another index.
function attachment.gone(port)
  local had_tc = port.tc_mode ~= nil
  port.ifindex, port.mode, port.tc_mode = nil, nil, nil
  if not had_tc then return end
  local ok, message = task.await(controller.detach_tc, port.name)
  if not ok then log.error("%s", message) end
end

return attachment
