-- SPDX-License-Identifier: GPL-2.0-only
--- busted inside the host: specs are one task, so they may wait. Takes busted's own arguments.
--- Prints `N passed, N failed` (`, N skipped`) at the end.
local path = "/usr/share/lua/5.4/?.lua;/usr/share/lua/5.4/?/init.lua;"

--- All of busted's output handlers are made from this one, which counts.
local function keep_handler()
  local base = require "busted.outputHandlers.base"
  local kept = {}
  package.loaded["busted.outputHandlers.base"] = function(...)
    kept.handler = base(...)
    return kept.handler
  end
  return kept
end

local function closing_line(counts)
  local failed = counts.failuresCount + counts.errorsCount
  local line = ("%d passed, %d failed"):format(counts.successesCount, failed)
  if counts.pendingsCount > 0 then line = line .. (", %d skipped"):format(counts.pendingsCount) end
  return line
end

return function(...)
  arg = { [0] = "tidegate test", ... }
  if not package.path:find("/usr/share/lua/5.4/?.lua", 1, true) then package.path = path .. package.path end
  local kept = keep_handler()
  local exit = os.exit
  os.exit = function(code)
    local counts = kept.handler
    if counts then print(closing_line(counts)) end
    io.stdout:flush()
    exit(code)
  end
  require "busted.runner" { standalone = false }
  local counts = kept.handler
  local none = counts and counts.successesCount + counts.pendingsCount == 0
  if none then io.stderr:write("tidegate test: no test found\n") end
  os.exit(none and 1 or 0)
end
