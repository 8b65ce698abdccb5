-- SPDX-License-Identifier: GPL-2.0-only
--- What one task does at a time:
---
---     local turn = lock.new()
---     local mine <close> = turn:take()    -- waits until nobody else has it

local task = require "tidegate.task"

local lock = {}

local Lock = {}
local meta = { __index = Lock }

function lock.new()
  return setmetatable({ waiting = {} }, meta)
end

-- Whoever waits is woken and looks again: one that is cancelled on the way takes nothing with it.
function meta:__close()
  local waiting = self.waiting
  self.held, self.waiting = false, {}
  for _, wake in ipairs(waiting) do wake() end
end

function Lock:take()
  while self.held do
    task.await(function(wake) table.insert(self.waiting, wake) end)
  end
  self.held = true
  return self
end

return lock
