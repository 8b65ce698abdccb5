-- SPDX-License-Identifier: GPL-2.0-only
--- A surge of SYNs starts a mirror, so that one can look at what is going on while it is. In a file of yours:
---
---     local syns = wan:mirror { name = "syns", to = "tap0", match = { proto = "tcp", flags = "S" } }
---     require "triggers.syn_surge" (syns, { port = "eth0", above = 5000 })
---
--- `above`: SYNs a second, of `port`, or of all ports. When there were more for `hold` seconds the mirror starts, for
--- `seconds` at most; it stops when there were fewer for `clear` seconds. Returns the trigger.
local tg = require "tidegate"

return function(tap, given)
  local seconds = given.seconds or 300
  local function syns(r) return (given.port and r.ports[given.port] or r).tcp_syn end
  return tg.trigger {
    name = given.name or "syn-surge",
    every = 0.25, hold = given.hold or 0.5, clear = given.clear or 30, max = seconds,
    when = function(r) return syns(r) > given.above end,
    start = function() assert(tap:start(seconds)) end,
    stop = function() tap:stop() end,
  }
end
