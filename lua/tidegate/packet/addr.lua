-- SPDX-License-Identifier: GPL-2.0-only
--- Addresses of packets: text to bytes and back, in plain Lua, with the same canonical text as
--- core/addr.c (RFC 5952). Both directions remember what they have seen, since the packets of a
--- test use few addresses many times; the memory is bounded.
---
---     addr.ip "2001:DB8::1"      --> { text = "2001:db8::1", bytes = <16 bytes>, family = 6, sum = … }
---     addr.ip_text(bytes)        --> "2001:db8::1"     (4 or 16 bytes)
---     addr.mac "2:0:0:0:0:1"     --> <6 bytes>, "02:00:00:00:00:01"
---     addr.mac_text(bytes)       --> "02:00:00:00:00:01"
---
--- What is no address gives nil.

local checksum = require "tidegate.packet.checksum"

local addr = {}

local CACHE_LIMIT = 8192  -- entries; then it starts afresh

--- f with a memory for what it answered (nil answers apart).
local function remember(f)
  local known, count = {}, 0
  return function(key)
    local value = known[key]
    if value == nil then
      value = f(key)
      if count >= CACHE_LIMIT then known, count = {}, 0 end
      if value ~= nil then known[key], count = value, count + 1 end
    end
    return value
  end
end

local function octet(digits)
  local n = tonumber(digits)
  return n <= 255 and (digits == "0" or digits:sub(1, 1) ~= "0") and n
end

local function ip4_bytes(text)
  local a, b, c, d = text:match "^(%d%d?%d?)%.(%d%d?%d?)%.(%d%d?%d?)%.(%d%d?%d?)$"
  if not a then return nil end
  a, b, c, d = octet(a), octet(b), octet(c), octet(d)
  return a and b and c and d and string.char(a, b, c, d)
end

--- The bytes of groups between colons; an IPv4 address may stand for the last two.
local function groups_bytes(text, ip4_may_end)
  if text == "" then return "" end
  local bytes, groups = {}, text .. ":"
  for group, position in groups:gmatch "([^:]*):()" do
    if group:find "^%x%x?%x?%x?$" then
      bytes[#bytes + 1] = string.pack(">I2", tonumber(group, 16))
    else
      local last = ip4_may_end and position > #groups and ip4_bytes(group)
      if not last then return nil end
      bytes[#bytes + 1] = last
    end
  end
  return table.concat(bytes)
end

local function ip6_bytes(text)
  if #text > 45 then return nil end
  local head, tail = text:match "^(.-)::(.*)$"
  if not head then
    local bytes = groups_bytes(text, true)
    return bytes and #bytes == 16 and bytes
  end
  local left, right = groups_bytes(head, false), groups_bytes(tail, true)
  local zeros = left and right and 16 - #left - #right
  return zeros and zeros >= 2 and left .. ("\0"):rep(zeros) .. right
end

--- Where the longest run of two or more zero groups starts, and how long it is.
local function longest_zeros(groups)
  local best, longest, run = nil, 1, 0
  for i = 1, 8 do
    run = groups[i] == 0 and run + 1 or 0
    if run > longest then best, longest = i - run + 1, run end
  end
  return best, longest
end

local function ip6_text(bytes)
  local groups = { string.unpack(">I2I2I2I2I2I2I2I2", bytes) }
  local first, count = longest_zeros(groups)
  if first == 1 and (count == 6 or count == 5 and groups[6] == 0xffff) then
    return (count == 6 and "::" or "::ffff:") .. ("%d.%d.%d.%d"):format(bytes:byte(13, 16))
  end
  local hex = {}
  for i = 1, 8 do hex[i] = ("%x"):format(groups[i]) end
  if not first then return table.concat(hex, ":") end
  return table.concat(hex, ":", 1, first - 1) .. "::" .. table.concat(hex, ":", first + count, 8)
end

addr.ip_text = remember(function(bytes)
  if #bytes == 4 then return ("%d.%d.%d.%d"):format(bytes:byte(1, 4)) end
  return ip6_text(bytes)
end)

addr.ip = remember(function(text)
  local family = text:find(":", 1, true) and 6 or 4
  local bytes = (family == 6 and ip6_bytes or ip4_bytes)(text)
  if not bytes then return nil end
  return { text = addr.ip_text(bytes), bytes = bytes, family = family, sum = checksum.sum(bytes) }
end)

addr.mac_text = remember(function(bytes)
  return ("%02x:%02x:%02x:%02x:%02x:%02x"):format(bytes:byte(1, 6))
end)

local mac = remember(function(text)
  local bytes, count = {}, 0
  for group in (text .. ":"):gmatch "([^:]*):" do
    count = count + 1
    if count > 6 or not group:find "^%x%x?$" then return nil end
    bytes[count] = string.char(tonumber(group, 16))
  end
  return count == 6 and table.concat(bytes) or nil
end)

function addr.mac(text)
  local bytes = mac(text)
  if not bytes then return nil end
  return bytes, addr.mac_text(bytes)
end

return addr
