-- SPDX-License-Identifier: GPL-2.0-only
--- A table that notes what is read of it, so that the log can tell which values a trigger acted on.
---
---     local read = {}
---     when(watched.new(rates, read))
---     watched.text(read)      -- "ports.eth0.tcp_syn = 8123, tcp_syn = 9001"

local misuse = require "tidegate.misuse"

local watched = {}

local SHOWN = 8     -- values in a text

local function names_of(values)
  local names = {}
  for name in pairs(values) do names[#names + 1] = tostring(name) end
  table.sort(names)
  return table.concat(names, ", ")
end

local function path_of(prefix, key)
  if type(key) == "string" and key:find "^[%a_][%w_]*$" then return prefix == "" and key or prefix .. "." .. key end
  return ("%s[%s]"):format(prefix, type(key) == "string" and ('"%s"'):format(key) or tostring(key))
end

local function noted(value, read, path)
  if type(value) == "table" then return watched.new(value, read, path) end
  if value ~= nil then read[path] = value end
  return value
end

--- A table to read, whose numbers are noted in `read` (path → value). What is not there is an error that
--- names what is.
function watched.new(values, read, prefix)
  prefix = prefix or ""
  local meta = { __metatable = "tidegate.Rates", __name = "tidegate.Rates" }
  function meta.__index(_, key)
    local value = values[key]
    if value == nil then
      misuse("there is no rate %s (there are: %s)", path_of(prefix, key), names_of(values))
    end
    return noted(value, read, path_of(prefix, key))
  end
  function meta.__newindex() misuse "rates are read-only" end
  function meta.__pairs()
    local following, state, first = pairs(values)
    return function(_, key)
      local value
      key, value = following(state, key)
      if key ~= nil then return key, noted(value, read, path_of(prefix, key)) end
    end, nil, first
  end
  return setmetatable({}, meta)
end

local function show(value)
  if math.type(value) ~= "float" then return tostring(value) end
  return (("%.1f"):format(value):gsub("%.0$", ""))
end

--- What was read, as one line.
function watched.text(read)
  local names, parts = {}, {}
  for name in pairs(read) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do
    if i > SHOWN then
      parts[i] = ("%d more"):format(#names - SHOWN)
      break
    end
    parts[i] = ("%s = %s"):format(name, show(read[name]))
  end
  return table.concat(parts, ", ")
end

return watched
