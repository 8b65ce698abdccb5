-- SPDX-License-Identifier: GPL-2.0-only
--- misuse(format, ...): raises the error that a wrong argument deserves, at the line of the script
--- that gave it: the nearest frame of Lua code outside this library, however deep inside the
--- library the mistake was found. The text names the option, what was given and what is allowed:
---
---     misuse("tcp.dport: %s is no port (0 to 65535)", show(value))
---
--- It takes `debug` when the library is loaded; scripts have none.

local getinfo = debug.getinfo
local library = getinfo(1, "S").source:match "^(.+)misuse"  -- "@lua/tidegate/", "=tidegate."

return function(format, ...)
  local level, frame = 2, getinfo(2, "S")
  while frame and (frame.what == "C" or frame.source:sub(1, #library) == library) do
    level = level + 1
    frame = getinfo(level, "S")
  end
  error(format:format(...), frame and level or 0)
end
