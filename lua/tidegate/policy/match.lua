-- SPDX-License-Identifier: GPL-2.0-only
--- What a packet has to be: the fields by which rules of policies, mirrors and captures match.
---
---     match.fields            → their checkers, for schema.table
---     match.check(what, m)    combinations that make no sense raise; fills in what follows from others
---     match.text(m)           → "tcp src 10.0.0.0/8 dport 80,443"
---     match.core(m, members)  → { { src = …, protos = …, … }, … }: what core/lua_policy.c compiles
---
--- Lists come out sorted and merged, so that the same match is the same text.

local fields = require "tidegate.packet.fields"
local lists = require "tidegate.lists"
local misuse = require "tidegate.misuse"
local schema = require "tidegate.schema"

local match = {}

local function as_list(value)
  return type(value) == "table" and value or { value }
end

--- Checks the entries of a list, or a single value; there is at least one.
local function each(what, value, check)
  local list = as_list(value)
  if #list == 0 then misuse("%s: an empty list matches nothing: leave it out to match everything", what) end
  for key in pairs(list) do
    if math.type(key) ~= "integer" then misuse("%s: %s: a list expected", what, schema.show(key)) end
  end
  for i, entry in ipairs(list) do check(type(value) == "table" and ("%s[%d]"):format(what, i) or what, entry) end
end

local function sorted_set(set)
  local list = {}
  for key in pairs(set) do list[#list + 1] = key end
  table.sort(list)
  return list
end

-- Addresses ----------------------------------------------------------------------------------------

--- { prefixes = { "10.0.0.0/8", … }, sets = { "staff", … } }
local function addresses(what, value)
  local prefixes, sets = {}, {}
  each(what, value, function(at, entry)
    if type(entry) ~= "string" then
      misuse("%s: %s given, a prefix (\"10.0.0.0/8\"), an address or a set (\"@staff\") expected", at,
        schema.show(entry))
    end
    if entry:sub(1, 1) == "@" then
      sets[schema.name(at .. ": the set", entry:sub(2))] = true
      return
    end
    local prefix, why = lists.prefix(entry)
    if not prefix then misuse("%s: %s: %s", at, schema.show(entry), why) end
    prefixes[prefix] = true
  end)
  return { prefixes = sorted_set(prefixes), sets = sorted_set(sets) }
end

local function addresses_text(given)
  local words = table.move(given.prefixes, 1, #given.prefixes, 1, {})
  for _, name in ipairs(given.sets) do words[#words + 1] = "@" .. name end
  return table.concat(words, ",")
end

-- Ports --------------------------------------------------------------------------------------------

local port_number = schema.integer(0, 65535)

local function port_range(at, entry)
  if type(entry) == "number" then
    local port = port_number(at, entry)
    return { port, port }
  end
  local low, high = tostring(entry):match "^(%d+)%-(%d+)$"
  if not low and type(entry) == "string" and entry:find "^%d+$" then low, high = entry, entry end
  if type(entry) ~= "string" or not low then
    misuse("%s: %s given, a port (80) or a range (\"8000-8099\") expected", at, schema.show(entry))
  end
  low, high = tonumber(low), tonumber(high)
  if high > 65535 or low > 65535 then misuse("%s: %s: ports end at 65535", at, schema.show(entry)) end
  if low > high then misuse("%s: %s: the range is reversed, its first port is above its last", at,
    schema.show(entry)) end
  return { low, high }
end

--- Flat pairs of first and last, merged: { 80, 80, 8000, 8099 }.
local function ports(what, value)
  local ranges, flat = {}, {}
  each(what, value, function(at, entry) ranges[#ranges + 1] = port_range(at, entry) end)
  table.sort(ranges, function(a, b) return a[1] < b[1] end)
  for _, range in ipairs(ranges) do
    if #flat > 0 and range[1] <= flat[#flat] + 1 then
      flat[#flat] = math.max(flat[#flat], range[2])
    else
      table.move(range, 1, 2, #flat + 1, flat)
    end
  end
  return flat
end

local function ports_text(flat)
  local words = {}
  for i = 1, #flat, 2 do
    words[#words + 1] = flat[i] == flat[i + 1] and ("%d"):format(flat[i]) or ("%d-%d"):format(flat[i], flat[i + 1])
  end
  return table.concat(words, ",")
end

-- Protocols ----------------------------------------------------------------------------------------

local PROTOCOLS = {
  igmp = 2, dccp = 33, ospf = 89, pim = 103, vrrp = 112, sctp = 132, udplite = 136,
  icmpv6 = 58, ["ipv6-icmp"] = 58, ipv6 = 41,
}
for name, number in pairs(fields.protocols) do
  if name ~= "none" then PROTOCOLS[name] = number end
end
local TCP <const>, UDP <const>, ICMP <const>, ICMP6 <const> = 6, 17, 1, 58

local NAMES = { [ICMP6] = "icmp6", [41] = "ip6" }
for name, number in pairs(PROTOCOLS) do NAMES[number] = NAMES[number] or name end

--- The number of one, by name or number; raises as all checks do.
function match.protocol_number(what, value)
  return PROTOCOLS[value] or schema.integer(0, 255)(what, value)
end

function match.protocol_name(number)
  return NAMES[number] or ("proto %d"):format(number)
end

local function protos(what, value)
  local set = {}
  each(what, value, function(at, entry)
    local number = PROTOCOLS[entry]
    if not number and type(entry) == "string" then
      misuse("%s: %s: no protocol that is known by name (%s; or a number)", at, schema.show(entry),
        table.concat(sorted_set(PROTOCOLS), ", "))
    end
    set[number or schema.integer(0, 255)(at, entry)] = true
  end)
  return sorted_set(set)
end

local function protos_text(list)
  local words = {}
  for i, number in ipairs(list) do words[i] = NAMES[number] or ("proto %d"):format(number) end
  return table.concat(words, ",")
end

local function has_only(list, ...)
  local allowed = {}
  for _, number in ipairs { ... } do allowed[number] = true end
  for _, number in ipairs(list or {}) do
    if not allowed[number] then return false end
  end
  return list ~= nil
end

-- TCP's flags --------------------------------------------------------------------------------------

local BITS = { F = 1, S = 2, R = 4, P = 8, A = 16, ["."] = 16, U = 32, E = 64, C = 128, W = 128 }
local ALWAYS <const> = 1 | 2 | 4 | 16    -- F S R A

local function flag_bits(what, value, letters)
  local bits = 0
  for letter in letters:gmatch "." do
    if not BITS[letter] then
      misuse("%s: %s: letters of FSRPAUEC expected, as tcpdump's (\"S\", \"S/SA\": of S and A only S)", what,
        schema.show(value))
    end
    bits = bits | BITS[letter]
  end
  return bits
end

--- "S": S is set, and of F, S, R and A the others are not; P, U, E, C count where they are named.
--- "S/SA": of S and A only S is set. { flags =, mask =, text = }
local function flags(what, value)
  if type(value) ~= "string" or value == "" then
    misuse("%s: %s given, letters of FSRPAUEC expected (\"S\", \"S/SA\")", what, schema.show(value))
  end
  local set, mask = value:match "^([^/]*)/(.+)$"
  local bits = flag_bits(what, value, set or value)
  local asked = mask and flag_bits(what, value, mask) or bits | ALWAYS
  if bits & ~asked ~= 0 then
    misuse("%s: %s: flags are set that are not asked for: those before the / have to be behind it too", what,
      schema.show(value))
  end
  return { flags = bits, mask = asked }
end

local function flags_text(given)
  local set, mask = "", ""
  for letter in ("FSRPAUEC"):gmatch "." do
    if given.flags & BITS[letter] ~= 0 then set = set .. letter end
    if given.mask & BITS[letter] ~= 0 then mask = mask .. letter end
  end
  return set .. "/" .. mask
end

-- ICMP types ---------------------------------------------------------------------------------------

local TYPES = {
  [ICMP] = { ["router-advert"] = 9, ["router-solicit"] = 10, ["timestamp-request"] = 13, ["timestamp-reply"] = 14 },
  [ICMP6] = { ["mld-query"] = 130, ["mld-report"] = 131, ["mld-done"] = 132, redirect = 137, ["mld2-report"] = 143 },
}
for layer, number in pairs { icmp = ICMP, icmp6 = ICMP6 } do
  for name, value in pairs(fields.icmp_types[layer]) do TYPES[number][name] = value end
end

--- Names and numbers as given; which numbers they are, the protocol says.
local function icmp_types(what, value)
  local set, known = {}, {}
  for _, types in pairs(TYPES) do
    for name in pairs(types) do known[name] = true end
  end
  each(what, value, function(at, entry)
    if type(entry) == "string" and not known[entry] then
      misuse("%s: %s: no type that is known by name (%s; or a number)", at, schema.show(entry),
        table.concat(sorted_set(known), ", "))
    end
    local kind = type(entry) == "string" and entry or schema.integer(0, 255)(at, entry)
    set[tostring(kind)] = kind
  end)
  local types = {}
  for i, name in ipairs(sorted_set(set)) do types[i] = set[name] end
  return types
end

--- Of a protocol: the numbers; and the first name that is none of its types.
local function numbers_of(types, proto)
  local set, stranger = {}, nil
  for _, kind in ipairs(types) do
    local number = math.type(kind) == "integer" and kind or TYPES[proto][kind]
    if number then set[number] = true else stranger = stranger or kind end
  end
  return sorted_set(set), stranger
end

-- The whole ----------------------------------------------------------------------------------------

match.fields = {
  src = addresses, dst = addresses, proto = protos, sport = ports, dport = ports, port = ports, flags = flags,
  icmp_type = icmp_types, fragment = schema.boolean,
}

local function check_icmp(what, given)
  if not has_only(given.proto, ICMP, ICMP6) then
    misuse("%s: icmp_type needs proto = \"icmp\", \"icmp6\" or both", what)
  end
  for _, proto in ipairs(given.proto) do
    local _, stranger = numbers_of(given.icmp_type, proto)
    if stranger and #given.proto == 1 then
      misuse("%s.icmp_type: %s is no type of %s", what, schema.show(stranger), NAMES[proto])
    end
  end
end

--- Raises if these can't be asked of one packet.
function match.check(what, given)
  for _, field in ipairs { "sport", "dport", "port" } do
    if given[field] and not has_only(given.proto, TCP, UDP) then
      misuse("%s: %s needs proto = \"tcp\", \"udp\" or both: others have no ports", what, field)
    end
  end
  if given.flags and not has_only(given.proto, TCP) then misuse("%s: flags needs proto = \"tcp\"", what) end
  if given.icmp_type then check_icmp(what, given) end
  local detail = given.sport and "sport" or given.dport and "dport" or given.port and "port" or
    given.flags and "flags" or given.icmp_type and "icmp_type"
  if given.fragment and detail then
    misuse("%s: fragment = true with %s: only a packet's first fragment shows it", what, detail)
  end
  return given
end

--- One line, in the order in which people say it.
function match.text(given)
  local words = {}
  local function word(name, text) words[#words + 1] = name and name .. " " .. text or text end
  if given.proto then word(nil, protos_text(given.proto)) end
  if given.src then word("src", addresses_text(given.src)) end
  if given.dst then word("dst", addresses_text(given.dst)) end
  for _, field in ipairs { "sport", "dport", "port" } do
    if given[field] then word(field, ports_text(given[field])) end
  end
  if given.flags then word("flags", flags_text(given.flags)) end
  if given.icmp_type then word("icmp_type", table.concat(given.icmp_type, ",")) end
  if given.fragment ~= nil then word(nil, given.fragment and "fragments" or "no fragments") end
  return #words > 0 and table.concat(words, " ") or "all"
end

--- The names of the sets that it asks, sorted.
function match.sets(given)
  local names = {}
  for _, field in ipairs { "src", "dst" } do
    for _, name in ipairs(given[field] and given[field].sets or {}) do names[name] = true end
  end
  return sorted_set(names)
end

--- The prefixes behind an address field; nil: all; false: none.
local function members_of(given, members)
  if not given then return nil end
  if #given.prefixes == 0 and #given.sets == 1 then
    local list = members(given.sets[1])      -- not copied: many rules may ask one set
    return #list > 0 and list
  end
  local list, seen = table.move(given.prefixes, 1, #given.prefixes, 1, {}), {}
  for _, prefix in ipairs(list) do seen[prefix] = true end
  for _, name in ipairs(given.sets) do
    for _, prefix in ipairs(members(name)) do
      if not seen[prefix] then list[#list + 1] = prefix end
      seen[prefix] = true
    end
  end
  return #list > 0 and list
end

local function without_types(given, src, dst)
  return {
    src = src, dst = dst, protos = given.proto, sport = given.sport, dport = given.dport, port = given.port,
    tcp_mask = given.flags and given.flags.mask, tcp_flags = given.flags and given.flags.flags,
    fragment = given.fragment,
  }
end

--- What the classifier takes: mostly one rule; none where a set is empty; two where ICMP's types are other
--- numbers than ICMPv6's. `members(name)`: the prefixes of a set.
function match.core(given, members)
  local src, dst = members_of(given.src, members), members_of(given.dst, members)
  if src == false or dst == false then return {} end
  if not given.icmp_type then return { without_types(given, src, dst) } end
  local rules = {}
  for _, proto in ipairs(given.proto) do
    local rule, types = without_types(given, src, dst), numbers_of(given.icmp_type, proto)
    rule.protos, rule.icmp_types = { proto }, types
    if #types > 0 then rules[#rules + 1] = rule end
  end
  return rules
end

local whole = schema.table(match.fields)

--- Reads a table of fields, as `match =` of mirrors and captures.
function match.read(what, value)
  return match.check(what, whole(what, value))
end

return match
