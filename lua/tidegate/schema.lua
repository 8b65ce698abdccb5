-- SPDX-License-Identifier: GPL-2.0-only
--- What options may be: small checkers, put together to the schema of a call's table.
---
---     local options = schema.table {
---       name = schema.required(schema.name),
---       mode = schema.one_of { "nat", "l2dsr" },
---       weight = schema.integer(0, 65535),
---     }
---     local given = options("tg.service", table)    -- a checked copy
---
--- A checker is called with the name of what it checks and the value, and returns the value to use. What is
--- wrong raises at the script's line (see misuse.lua), naming the option, what was given, what is allowed.

local misuse = require "tidegate.misuse"

local schema = {}

local ESCAPES = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\\"] = "\\\\", ['"'] = '\\"' }

--- A value for a message: short, on one line, quoted if it is a string.
function schema.show(value)
  if type(value) ~= "string" then return type(value) == "table" and "a table" or tostring(value) end
  if #value > 60 then value = value:sub(1, 57) .. "..." end
  return '"' .. value:gsub('[%c\\"]', function(c) return ESCAPES[c] or ("\\x%02x"):format(c:byte()) end) .. '"'
end

local function wrong(what, value, allowed)
  misuse("%s: %s given, %s expected", what, schema.show(value), allowed)
end

function schema.string(what, value)
  if type(value) ~= "string" then wrong(what, value, "a string") end
  return value
end

function schema.boolean(what, value)
  if type(value) ~= "boolean" then wrong(what, value, "true or false") end
  return value
end

function schema.fn(what, value)
  if type(value) ~= "function" then wrong(what, value, "a function") end
  return value
end

--- The name of a service, a pool …: also a directory's and a metric's.
function schema.name(what, value)
  if type(value) ~= "string" or #value > 63 or not value:find "^[%w_][%w_.-]*$" then
    wrong(what, value, "a name (letters, digits, _ . -, at most 63)")
  end
  return value
end

function schema.integer(low, high)
  return function(what, value)
    local n = math.tointeger(value)
    if type(value) ~= "number" or not n or n < low or n > high then
      wrong(what, value, ("an integer from %d to %d"):format(low, high))
    end
    return n
  end
end

--- Seconds, or a number with a unit: "500ms", "30s", "5m", "1h".
function schema.seconds(low, high)
  local units = { ms = 0.001, s = 1, m = 60, h = 3600, d = 86400 }
  return function(what, value)
    local n = value
    if type(value) == "string" then
      local number, unit = value:match "^(%d+%.?%d*)(%a+)$"
      n = number and units[unit] and tonumber(number) * units[unit]
    end
    if type(n) ~= "number" or n ~= n or n < low or n > high then
      local units_too = type(value) == "string" and ' (or "500ms", "30s", "5m", "1h", "2d")' or ""
      wrong(what, value, ("seconds from %.14g to %.14g%s"):format(low, high, units_too))
    end
    return n
  end
end

--- "64M"
local function bytes_text(bytes)
  local units, at = { "", "K", "M", "G", "T" }, 1
  while bytes >= 1024 and bytes % 1024 == 0 and units[at + 1] do bytes, at = bytes // 1024, at + 1 end
  return bytes .. units[at]
end

--- Bytes, or a number with a unit: "64M".
function schema.bytes(low, high)
  local units = { K = 1 << 10, M = 1 << 20, G = 1 << 30 }
  return function(what, value)
    local number, unit = tostring(value):match "^(%d+)([KMG]?)$"
    local n = number and math.tointeger(tonumber(number) * (units[unit] or 1))
    if not n or n < low or n > high then
      wrong(what, value, ("bytes from %s to %s"):format(bytes_text(low), bytes_text(high)))
    end
    return n
  end
end

function schema.one_of(names)
  local known = {}
  for _, name in ipairs(names) do known[name] = true end
  return function(what, value)
    if not known[value] then wrong(what, value, table.concat(names, ", ")) end
    return value
  end
end

--- Marks an option that has to be there.
function schema.required(checker)
  return { required = true, check = checker }
end

local function sorted_keys(fields)
  local names = {}
  for name in pairs(fields) do
    if type(name) == "string" then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

--- A checker of a table with these fields and no others.
---@param fields table<string|integer, function|table>
function schema.table(fields)
  local names = sorted_keys(fields)
  return function(what, value)
    if type(value) ~= "table" then wrong(what, value, "a table of options") end
    local checked = {}
    for key in pairs(value) do
      if not fields[key] then
        misuse("%s: unknown option %s (allowed: %s)", what, schema.show(key), table.concat(names, ", "))
      end
    end
    for key, field in pairs(fields) do
      local given, check = value[key], field
      if type(field) == "table" then
        check = field.check
        if given == nil then misuse("%s: option %q is missing", what, key) end
      end
      if given ~= nil then checked[key] = check(what .. "." .. key, given) end
    end
    return checked
  end
end

return schema
