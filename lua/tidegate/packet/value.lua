-- SPDX-License-Identifier: GPL-2.0-only
--- Checks of single field values. A check takes (value, layer, key) and returns the value in its
--- canonical form, or raises an error that says what is allowed, at the caller's line.

local misuse = require "tidegate.misuse"
local addr = require "tidegate.packet.addr"

local value = {}

function value.show(given)
  if type(given) == "string" then
    return #given > 40 and ("%q…"):format(given:sub(1, 40)) or ("%q"):format(given)
  end
  return type(given) == "table" and "a table" or tostring(given)
end

local function refuse(given, layer, key, allowed)
  misuse("packet: %s.%s: %s (allowed: %s)", layer, key, value.show(given), allowed)
end
value.refuse = refuse

function value.integer(low, high)
  local allowed = ("an integer from %d to %d"):format(low, high)
  return function(given, layer, key)
    local n = type(given) == "number" and math.tointeger(given)
    if not n or n < low or n > high then refuse(given, layer, key, allowed) end
    return n
  end
end

value.u8 = value.integer(0, 0xff)
value.u16 = value.integer(0, 0xffff)
value.u32 = value.integer(0, 0xffffffff)

function value.boolean(given, layer, key)
  if type(given) ~= "boolean" then refuse(given, layer, key, "true or false") end
  return given
end

--- One of `names` (name → number), or a number that `check` accepts.
function value.named(names, check)
  return function(given, layer, key)
    if type(given) ~= "string" then return check(given, layer, key) end
    local number = names[given]
    if number then return number end
    local known = {}
    for name in pairs(names) do known[#known + 1] = name end
    table.sort(known)
    return refuse(given, layer, key, "a number, " .. table.concat(known, ", "))
  end
end

--- A string; `pad` fills it up to a multiple of four with zeros, `limit` bounds it, in bytes.
function value.bytes(limit, pad)
  return function(given, layer, key)
    if type(given) ~= "string" then refuse(given, layer, key, "a string of bytes") end
    if pad then given = given .. ("\0"):rep(-#given % 4) end
    if #given > limit then
      misuse("packet: %s.%s: %d bytes (allowed: up to %d)", layer, key, #given, limit)
    end
    return given
  end
end

function value.ip(given, layer, key)
  local known = type(given) == "string" and addr.ip(given)
  if not known then refuse(given, layer, key, "an IPv4 or IPv6 address") end
  return known.text
end

function value.ip4(given, layer, key)
  local known = type(given) == "string" and addr.ip(given)
  if not known or known.family ~= 4 then refuse(given, layer, key, "an IPv4 address") end
  return known.text
end

function value.mac(given, layer, key)
  local bytes, text
  if type(given) == "string" then bytes, text = addr.mac(given) end
  if not bytes then refuse(given, layer, key, 'an address such as "02:00:00:00:00:01"') end
  return text
end

--- A fragment's offset in bytes.
function value.offset(given, layer, key)
  local n = type(given) == "number" and math.tointeger(given)
  if not n or n < 0 or n > 65528 or n % 8 ~= 0 then
    refuse(given, layer, key, "a multiple of 8 from 0 to 65528")
  end
  return n
end

local FLAG_ORDER = "SAFRPUEC"
local FLAG_BITS = { F = 0x01, S = 0x02, R = 0x04, P = 0x08, A = 0x10, U = 0x20, E = 0x40, C = 0x80 }
local flag_texts, flag_numbers = {}, {}

for bits = 0, 255 do
  local text = FLAG_ORDER:gsub(".", function(flag) return bits & FLAG_BITS[flag] ~= 0 and flag or "" end)
  flag_texts[bits], flag_numbers[text] = text, bits
end

--- TCP flags, letters of "SAFRPUEC" in any order or a number: to text in that order.
function value.flags(given, layer, key)
  if type(given) == "number" then return flag_texts[value.u8(given, layer, key)] end
  if flag_numbers[given] then return given end
  local bits = 0
  for flag in (type(given) == "string" and given ~= "" and given or "?"):gmatch "." do
    if not FLAG_BITS[flag] then refuse(given, layer, key, "letters of " .. FLAG_ORDER .. ", or a number") end
    bits = bits | FLAG_BITS[flag]
  end
  return flag_texts[bits]
end

value.flag_texts, value.flag_numbers = flag_texts, flag_numbers

return value
