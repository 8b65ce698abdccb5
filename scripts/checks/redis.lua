-- SPDX-License-Identifier: GPL-2.0-only
--- The `redis` check: a server that answers PING with PONG is up. See scripts/examples/plugin.lua.
return {
  api = 1, name = "redis", summary = "PING must be answered by PONG",
  args = { password = { "string", optional = true } },

  ---@param target tg.Target
  ---@param args { password: string? }
  ---@return boolean up, string? reason  why not
  check = function(target, args)
    local c <close> = assert(tg.net.connect(target.addr, target.port))
    if args.password then
      c:write(("AUTH %s\r\n"):format(args.password))
      if c:read_line() ~= "+OK" then return false, "AUTH refused" end
    end
    c:write "PING\r\n"
    local answer = c:read_line()
    return answer == "+PONG", "answered " .. tostring(answer)
  end,
}
