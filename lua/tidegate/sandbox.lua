-- SPDX-License-Identifier: GPL-2.0-only
--- What scripts of the daemon see: an environment for each file.

local sandbox = {}

--- A new environment. `directory`: where `require` looks.
function sandbox.new()
  local env = setmetatable({ tg = require "tidegate" }, { __index = _G })
  env._G = env
  return env
end

--- Compiles text (no bytecode) in an environment; nil and why not.
function sandbox.load(text, name, env)
  return load(text, name, "t", env)
end

return sandbox
