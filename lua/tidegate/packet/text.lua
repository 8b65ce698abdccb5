-- SPDX-License-Identifier: GPL-2.0-only
--- Packets as one line of text, for messages and for commands:
---
---     tcp 192.0.2.7:40000 > 198.51.100.10:443 S
---     udp [2001:db8::1]:40000 > [2001:db8::2]:53 vlan 7 len 100
---     icmp 192.0.2.7 > 198.51.100.10 echo-request id 1 seq 2
---     icmp 192.0.2.1 > 192.0.2.7 unreachable/4 mtu 1400 quoting (tcp 192.0.2.7:40000 > 198.51.100.10:443 S)
---     ip 192.0.2.7 > 198.51.100.10 proto 47
---     eth 02:00:00:00:00:01 > 02:00:00:00:00:02 0x0806 len 28
---
--- A port left out of a source is 40000, flags left out are S; `none` stands for no flags. Words after
--- the endpoints, in any order: vlan N, ttl N, len N (bytes of payload, zeros when read), frag OFFSET
--- or frag OFFSET+ (more follow), and for ICMP id N, seq N, mtu N. What the text doesn't say
--- (MAC addresses, options, …) has its default when read.

local misuse = require "tidegate.misuse"
local fields = require "tidegate.packet.fields"
local value = require "tidegate.packet.value"

local text = {}

local icmp_names = { icmp = {}, icmp6 = {} }
for layer, types in pairs(fields.icmp_types) do
  for name, number in pairs(types) do icmp_names[layer][number] = name end
end

local function endpoint(address, port)
  address = address or "?"
  if not port then return address end
  return (address:find(":", 1, true) and "[%s]:%d" or "%s:%d"):format(address, port)
end

local function icmp_words(name, icmp)
  local words = { icmp_names[name][icmp.type] or tostring(icmp.type) }
  if icmp.code ~= 0 or words[1]:find "^%d" then words[1] = ("%s/%d"):format(words[1], icmp.code or 0) end
  for _, key in ipairs { "id", "seq", "mtu" } do
    if icmp[key] then words[#words + 1] = key .. " " .. icmp[key] end
  end
  if icmp.quoted then words[#words + 1] = "quoting (" .. text.print(icmp.quoted) .. ")" end
  return table.concat(words, " ")
end

local function fragment_of(ip)
  if ip.offset and (ip.offset > 0 or ip.mf) then return ip.offset, ip.mf end
  for _, ext in ipairs(ip.ext or {}) do
    if ext.type == "fragment" and ext.offset then return ext.offset, ext.mf end
  end
end

--- Appends to `words` what every kind of packet may have.
local function common_words(p, words)
  for _, tag in ipairs(p.vlan or {}) do words[#words + 1] = "vlan " .. (tag.id or "?") end
  local offset, more = fragment_of(p.ip or {})
  if offset then words[#words + 1] = ("frag %d%s"):format(offset, more and "+" or "") end
  local body = p.payload or p.icmp and p.icmp.body or p.icmp6 and p.icmp6.body
  if body then words[#words + 1] = "len " .. #body end
  if p.malformed then words[#words + 1] = "malformed " .. p.malformed end
  if p.truncated then words[#words + 1] = "truncated " .. p.truncated end
  return table.concat(words, " ")
end

--- The line for a packet.
function text.print(p)
  local ip, ports = p.ip, p.tcp or p.udp
  if not ip then
    local eth = p.eth
    if not eth then return common_words(p, { "bytes" }) end
    local kind = eth.type and ("0x%04x"):format(eth.type) or "?"
    return common_words(p, { "eth", eth.src or "?", ">", eth.dst or "?", kind })
  end
  local name = p.tcp and "tcp" or p.udp and "udp" or p.icmp and "icmp" or p.icmp6 and "icmp6" or "ip"
  ports = ports or {}
  local words = { name, endpoint(ip.src, ports.sport), ">", endpoint(ip.dst, ports.dport) }
  if p.tcp then words[5] = p.tcp.flags == "" and "none" or p.tcp.flags
  elseif p.icmp or p.icmp6 then words[5] = icmp_words(name, p[name])
  elseif name == "ip" then words[5] = "proto " .. (ip.proto or "?") end
  return common_words(p, words)
end

--- "192.0.2.7:80", "[2001:db8::1]:80" or an address alone → address, port or nil.
local function split_endpoint(word)
  local address, port = word:match "^%[(.-)%]:(%d+)$"
  if not address then address, port = word:match "^([^:]+):(%d+)$" end
  return address or word:match "^%[(.-)%]$" or word, math.tointeger(tonumber(port))
end

local function number(word, key)
  local n = word and math.tointeger(tonumber(word))
  if not n then misuse("packet: %s %s (allowed: a number)", key, word or "at the end") end
  return n
end

local function set_fragment(given, word)
  local offset, more = (word or ""):match "^(%d+)(%+?)$"
  offset, more = number(offset, "frag"), more == "+"
  if given.ip.src:find(":", 1, true) then
    given.ip.ext = { { type = "fragment", offset = offset, mf = more, id = 1 } }
  else
    given.ip.offset, given.ip.mf = offset, more
  end
end

local WORDS = {
  vlan = function(given, word)
    given.vlan = given.vlan or {}
    table.insert(given.vlan, number(word, "vlan"))
  end,
  ttl = function(given, word) given.ip.ttl = number(word, "ttl") end,
  len = function(given, word) given.payload = number(word, "len") end,
  frag = set_fragment,
  proto = function(given, word) given.ip.proto = math.tointeger(tonumber(word)) or word end,
}
for _, key in ipairs { "id", "seq", "mtu" } do
  WORDS[key] = function(given, word)
    local icmp = given.icmp or given.icmp6
    if not icmp then misuse("packet: %s (allowed: in icmp and icmp6)", key) end
    icmp[key] = number(word, key)
  end
end

--- Reads the words after the endpoints; other(word) takes those that it doesn't know.
local function read_words(given, rest, other)
  local next_word = rest:gmatch "%S+"
  for word in next_word do
    if WORDS[word] and (given.ip or word == "vlan" or word == "len") then
      WORDS[word](given, next_word())
    elseif not other(word) then
      misuse("packet: %q: unknown word", word)
    end
  end
  return given
end

local readers = {}

local function ports_reader(name)
  return function(src, dst, rest)
    local given, layer = { ip = {} }, {}
    given[name] = layer
    given.ip.src, layer.sport = split_endpoint(src)
    given.ip.dst, layer.dport = split_endpoint(dst)
    return read_words(given, rest, function(word)
      if name ~= "tcp" or layer.flags then return false end
      layer.flags = word == "none" and 0 or value.flags(word, "tcp", "flags")
      return true
    end)
  end
end

local function icmp_reader(name)
  return function(src, dst, rest)
    local icmp = {}
    local given = { ip = { src = src, dst = dst }, [name] = icmp }
    rest = rest:gsub("quoting (%b())", function(inner)
      icmp.quoted = text.read(inner:sub(2, -2))
      return ""
    end)
    return read_words(given, rest, function(word)
      if icmp.type then return false end
      local kind, code = word:match "^([^/]+)/(%d+)$"
      icmp.type = math.tointeger(tonumber(kind or word)) or kind or word
      icmp.code = math.tointeger(tonumber(code))
      return true
    end)
  end
end

readers.tcp, readers.udp = ports_reader "tcp", ports_reader "udp"
readers.icmp, readers.icmp6 = icmp_reader "icmp", icmp_reader "icmp6"

function readers.ip(src, dst, rest)
  return read_words({ ip = { src = src, dst = dst } }, rest, function() return false end)
end

function readers.eth(src, dst, rest)
  local given = { eth = { src = src, dst = dst } }
  return read_words(given, rest, function(word)
    given.eth.type = math.tointeger(tonumber(word))
    return given.eth.type
  end)
end

--- The layers that a line describes.
function text.read(line)
  local kind, src, dst, rest = line:match "^%s*(%S+)%s+(%S+)%s+>%s+(%S+)%s*(.-)%s*$"
  if not kind then misuse('packet: %s (allowed: "tcp SOURCE > DESTINATION …")', value.show(line)) end
  if not readers[kind] then
    misuse("packet: %s (allowed: tcp, udp, icmp, icmp6, ip, eth)", value.show(kind))
  end
  return readers[kind](src, dst, rest)
end

return text
