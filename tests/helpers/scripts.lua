-- SPDX-License-Identifier: GPL-2.0-only
--- Operators' files as generations, without a daemon:
---
---     local gen, state = scripts.resolve { ["web.lua"] = "tg.service { … }" }
---     assert.same({ "web.lua:1: service …" }, scripts.problems(gen))
local desired = require "tidegate.desired"
local generation = require "tidegate.generation"

local scripts = {}

--- Writes files (name → text) into a new directory; the paths of the scripts, and what removes them all.
function scripts.write(texts)
  local directory, paths = os.tmpname(), {}
  os.remove(directory)
  assert(os.execute("mkdir " .. directory))
  for name, text in pairs(texts) do
    local path = directory .. "/" .. name
    if name:find "%.lua$" then paths[#paths + 1] = path end
    local file = assert(io.open(path, "w"))
    file:write(text)
    file:close()
  end
  return paths, function() os.execute("rm -r " .. directory) end
end

--- A loaded generation of these files (name → text; one text alone is web.lua).
function scripts.load(texts)
  if type(texts) == "string" then texts = { ["web.lua"] = texts } end
  local paths, remove = scripts.write(texts)
  local gen = generation.new(paths)
  gen:load()
  remove()
  return gen
end

--- The same with the state that it asks for.
function scripts.resolve(texts, admins)
  local gen = scripts.load(texts)
  return gen, desired.resolve(gen, admins or {})
end

--- What is wrong with a generation: lines, sorted, without the files' directory.
function scripts.problems(gen)
  local lines = {}
  for line in gen:report():gmatch "[^\n]+" do lines[#lines + 1] = line:gsub("/tmp/[^/ ]+/", "") end
  table.sort(lines)
  return lines
end

--- The same of files that are read and resolved.
function scripts.mistakes(texts)
  return scripts.problems((scripts.resolve(texts)))
end

return scripts
