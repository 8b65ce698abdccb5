-- SPDX-License-Identifier: GPL-2.0-only
--- What a mirror needs around it, and whether it is there: printed by `tidegate check` for mirrors that change, by
--- `tidegate doctor` for those that are declared. States as in advice.lua.

local balancer = require "tidegate.core.balancer"
local controller = require "tidegate.core.controller"
local core = require "tidegate.core.taps"
local task = require "tidegate.task"

local MTU <const> = 1500                       -- of production's packets
local HEAD <const> = { [4] = 50, [6] = 70 }    -- VXLAN's: Ethernet, itself, UDP, IP

local function of_device(device, say)
  if not controller.ifindex(device) then
    say("no", "device %s is not there: a start is refused until it is", device)
  elseif not core.carrier(device) then
    say("no", "device %s is down, or nobody is at its other end: copies are lost, and counted", device)
  else
    say("yes", "device %s is there", device)
  end
end

local function of_collector(one, say)
  local to, family = one.to, one.to.vxlan:find(":", 1, true) and 6 or 4
  local hop = task.await(balancer.route, to.vxlan)
  if not hop or hop.state ~= "resolved" and hop.state ~= "no neighbour" then
    say("no", "collector %s: %s", to.vxlan, hop and hop.state or "there is no route to it")
  else
    say("yes", "collector %s: there is a route to it", to.vxlan)
  end
  local fits = hop and hop.mtu and hop.mtu > 0 and hop.mtu - HEAD[family]
  if fits and fits < MTU then
    say("no", "copies of more than %d bytes go in fragments, and what this host itself sends on mirrored ports is made "
      .. "to fit: the way there should take %d bytes (MTU)", fits, MTU + HEAD[family])
  end
  say("do", "collector %s takes VXLAN to UDP port %d: ip link add vx0 type vxlan id %d dstport %d nolearning local %s; "
    .. "ip link set vx0 up", to.vxlan, to.port, to.vni, to.port, to.vxlan)
end

--- What a mirror needs: { { state, text }, … }; waits.
return function(one)
  local list = {}
  local function say(state, format, ...) list[#list + 1] = { state = state, text = format:format(...) } end
  if one.to.device then of_device(one.to.device, say) else of_collector(one, say) end
  return list
end
