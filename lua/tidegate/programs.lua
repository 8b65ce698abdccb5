-- SPDX-License-Identifier: GPL-2.0-only
--- What the programs are loaded with: the features that they know, and all policies by their place in the directory
--- (bpf/ports_abi.h), those of ports and the matches of taps. Any change of that is one exchange of the programs
--- (core/lua_policy.c): atomic for each, and if it fails, all is as before.

local core = require "tidegate.core.policy"
local lock = require "tidegate.lock"
local task = require "tidegate.task"

local programs = {
  features = 0,
  ports = {},        -- directory index → handle
  taps = {},         -- the same
  asked_taps = nil,  -- those that the next exchange is to have, while a commit is under way (mirrors.lua)
  known = false,     -- false: what an earlier daemon left is in force, whatever it is
}

--- One change at a time: who changes what is in force holds this.
programs.lock = lock.new()

local function same(a, b)
  for key, value in pairs(a) do
    if b[key] ~= value then return false end
  end
  for key in pairs(b) do
    if a[key] == nil then return false end
  end
  return true
end

--- Puts features and policies in force; `ports` and `taps` default to those that are, or are asked for. true, or nil,
--- why, code.
--- The caller holds the lock.
function programs.commit(features, ports, taps)
  ports, taps = ports or programs.ports, taps or programs.asked_taps or programs.taps
  if programs.known and features == programs.features and same(ports, programs.ports) and same(taps, programs.taps) then
    return true
  end
  local all = {}
  for index, handle in pairs(ports) do all[index] = handle end
  for index, handle in pairs(taps) do all[index] = handle end
  local ok, message, code = task.await(core.commit, all, features)
  if not ok then return nil, message, code end
  programs.features, programs.ports, programs.taps, programs.known = features, ports, taps, true
  return true
end

return programs
