--- The `tg` table: what operators' scripts and programs call. Submodules load when first used.
local task = require "tidegate.task"

local submodules = {
  inspect = "tidegate.inspect",
  log = "tidegate.log",
  map = "tidegate.core.map",
  net = "tidegate.net",
  packet = "tidegate.packet",
  prog = "tidegate.core.prog",
}

local tg = {
  spawn = task.spawn,
  sleep = task.sleep,
  every = task.every,
  after = task.after,
  timeout = task.timeout,
}

return setmetatable(tg, {
  __index = function(self, name)
    local module = submodules[name]
    if not module then return nil end
    self[name] = require(module)
    return self[name]
  end,
})
