-- SPDX-License-Identifier: GPL-2.0-only
--- tidegate lua in_netns.lua CHUNK ARG…: runs a chunk of Lua and prints what it returns, as Lua. For
--- specs that need the controller in another network namespace than their own:
---
---     in_netns(name, [[ local a = ...; return a, { b = 1 } ]], arg…)
if arg and arg[0] and arg[0]:find "in_netns.lua$" then
  package.path = "./?.lua;" .. package.path
  local results = table.pack(assert(load((...), "=chunk"))(select(2, ...)))
  local inspect = require "tidegate.inspect"
  for i = 1, results.n do results[i] = inspect(results[i]) end
  print("return " .. table.concat(results, ", ", 1, results.n))
  return
end

local object = require "tests.helpers.object"

local function quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

return function(netns, chunk, ...)
  local words = { chunk, ... }
  for i, word in ipairs(words) do words[i] = quote(tostring(word)) end
  local host = object.tidegate()
  local command = "timeout -k 1 60 nsenter --net=/run/netns/%s %s lua tests/helpers/in_netns.lua %s"
  local said = object.run(command:format(netns, host, table.concat(words, " ")))
  return assert(load(said:match "return .*$", "=answer"))()
end
