-- SPDX-License-Identifier: GPL-2.0-only
--- While SYNs surge, bans who makes most connections, for a time. In a file of yours:
---
---     require "triggers.auto_ban" { above = 2000, rate = 200, ttl = 600 }
---
--- While there are more than `above` SYNs a second (of `port`, or of all ports), a source that completes `rate` or more
--- handshakes a second is denied for `ttl` seconds, by the list `list`. SYNs alone ban nobody: their source may be
--- anyone's address, and who pretends to be another completes none of the other's handshakes. So this needs to see the
--- servers' answers: of `nat` services, and of what the switch routes or answers itself; clients of direct-return
--- services (l2dsr, ipip, gue) are never banned. Put your own addresses on tg.allow. Returns the trigger.
local tg = require "tidegate"

return function(given)
  local seconds, ttl = given.seconds or 1, given.ttl or 600
  local name = given.name or "auto-ban"

  local function ban(source, rate)
    local ok, why = tg.deny:add(source, {
      ttl = ttl, list = given.list or name, reason = ("%d handshakes a second"):format(rate),
    })
    if ok then
      tg.log.warn("%s: %s is banned for %g s: %d handshakes a second", name, source, ttl, rate)
    else
      tg.log.error("%s: %s can't be banned: %s", name, source, why)
    end
  end

  local function look()
    local sources, why = tg.top {
      n = 1000, seconds = seconds, port = given.port, match = { proto = "tcp", flags = "S" },
    }
    if not sources then tg.log.error("%s: %s", name, why) end
    for _, source in ipairs(sources or {}) do
      local rate = (source.completed or 0) // seconds
      if rate >= given.rate then ban(source.src, rate) end
    end
  end

  return tg.trigger {
    name = name, every = 0.25, hold = given.hold or 0.5, clear = given.clear or 10, max = given.max or 600, starts = 60,
    when = function(r) return (given.port and r.ports[given.port] or r).tcp_syn > given.above end,
    start = function()
      while true do -- until it is stopped
        look()
        tg.sleep(0.1)
      end
    end,
  }
end
