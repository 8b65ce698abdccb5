-- SPDX-License-Identifier: GPL-2.0-only
--- A switch for specs: the real XDP program (build/bpf/xdp.bpf.o) with tables filled by hand, without a
--- controller or a device. Packet in, verdict out:
---
---     local sw = switch.new()
---     sw:backend(1, { addr = "192.0.2.11" })
---     sw:vip("198.51.100.10:443/tcp", { ring = { 1 } })
---     local r = sw:receive(tg.packet "tcp 203.0.113.7 > 198.51.100.10:443 S")
---     r.verdict, r.reason, r.packet, r.bytes      --> "tx", "forward", what came out, its bytes
---
--- `reason` is what the program counted, by its name in bpf/reasons.h; "forward" where it counted none.
--- Close it with sw:close(). With switch.indexed = true, new ones keep an endpoint index (see bpf/endpoint.h).
local addr = require "tidegate.packet.addr"
local object = require "tests.helpers.object"
local packet = require "tidegate.packet"
local packets = require "tests.helpers.packets"
local reasons = require "tests.helpers.reasons"

local switch = {}
switch.__index = switch

local MODES = { l2dsr = 0, nat = 1, ipip = 2, gue = 3 }
local FAILS = { drop = 0, pass = 1 }
local PROTOCOLS = { tcp = 6, udp = 17 }
local LOCAL = 1 -- TG_ROUTE_LOCAL
local ADDRESS = 0x10 -- TG_VIP_ADDRESS

--- Why there can be none here, or nil.
switch.refused = object.refused

--- An address as its family and as map values want it: a list of four words, IPv4 in the first.
local function words_of(text)
  local found = assert(addr.ip(text), text)
  local bytes = found.bytes .. ("\0"):rep(16 - #found.bytes)
  local a, b, c, d = string.unpack(">I4I4I4I4", bytes)
  return #found.bytes == 4 and "4" or "6", { a, b, c, d }
end

--- The key of "192.0.2.1:80/tcp" or "[2001:db8::1]:80/udp", and its family.
local function endpoint(text)
  local host, port, proto = text:match "^%[?(.-)%]?:(%d+)/(%a+)$"
  local family, words = words_of(host)
  return { addr = family == "4" and words[1] or words, port = tonumber(port), proto = PROTOCOLS[proto] }, family
end

--- A list of a MAC's bytes.
local function mac(text)
  return { text:match("^(%x+):(%x+):(%x+):(%x+):(%x+):(%x+)$") }
end

local function hop_value(hop)
  if not hop then return nil end
  local value = { ifindex = hop.ifindex or 1, dmac = mac(hop.dmac), smac = mac(hop.smac) }
  for _, list in ipairs { value.dmac, value.smac } do
    for i, digits in ipairs(list) do list[i] = tonumber(digits, 16) end
  end
  return value
end

function switch.new()
  local self = setmetatable({ object = object.load "bpf/xdp", opened = {}, rings = 0 }, switch)
  self.hashes = switch.indexed and {} or nil
  self.object:enter_programs("rare_programs", { "tidegate_rare4", "tidegate_rare6" })
  self.reasons = reasons.names()
  self.program_path = self.object.progs .. "/tidegate_xdp"
  self.program = assert(tg.prog.open(self.program_path))
  return self
end

function switch:map(name)
  self.opened[name] = self.opened[name] or assert(tg.map.open(self.object.maps .. "/" .. name))
  return self.opened[name]
end

--- Backend `index`: addr; port; mtu; hop = { dmac, smac, ifindex = 1 (that packets come in by) }, or
--- hop = false if it is not resolved. By default backend N has the MAC 02:00:00:00:01:N.
function switch:backend(index, given)
  local family, words = words_of(given.addr)
  local hop = given.hop
  if hop == nil then hop = { dmac = ("02:00:00:00:01:%02x"):format(index), smac = "02:00:00:00:00:ff" } end
  local value = { current = given.current or 0, addr = words, port = given.port or 0, mtu = given.mtu or 0 }
  value.flags = family == "6" and 1 or 0
  value.hop = { hop_value(hop or nil) or {}, hop_value(given.other_hop) or {} }
  assert(self:map("backends"):set(index, value))
end

--- The outer header of ipip and gue: source4 = "172.16.0.0", vary4 = 0xffff, source6 = "100::", vary6 = 0xffffffff,
--- gue_port = 6080. Without it, that of an empty table: all zero.
function switch:tunnel(given)
  local _, source4 = words_of(given.source4 or "172.16.0.0")
  local _, source6 = words_of(given.source6 or "100::")
  assert(self:map("tunnels"):set(0, {
    source4 = source4[1], source6 = source6, vary4 = given.vary4 or 0xffff, vary6 = given.vary6 or 0xffffffff,
    gue_port = given.gue_port or 6080,
  }))
end

--- A ring of these backends' indexes, one a slot, { home, next } where it moves: its index in `rings`.
function switch:ring(slots)
  local name = "ring" .. self.rings
  local path = self.object:plain_map(name,
    ("type array key 4 value 8 entries %d flags 0x1400"):format(#slots + #slots // 8 + 1)) -- MMAPABLE | INNER_MAP
  local ring <close> = assert(tg.map.open(path, { key = "u32", value = "u64" }))
  local entries = {}
  for i, slot in ipairs(slots) do
    if type(slot) == "table" then
      entries[i - 1] = slot[1] | slot[2] << 32 | 1 << 63
    else
      entries[i - 1] = slot | slot << 32
    end
  end
  assert(ring:batch_set(entries))
  assert(self:map("rings"):set(self.rings, ring))
  self.rings = self.rings + 1
  return self.rings - 1
end

--- What vips4 says of a VIP that is declared like this.
local function vip_value(self, given)
  local value = { service = given.service or 0, mode = MODES[given.mode or "l2dsr"] }
  value.fail, value.flags = FAILS[given.fail or "drop"], given.flags or 0
  value.slots = given.ring and #given.ring or 7
  value.ring = given.ring and self:ring(given.ring) or 4095
  return value
end

--- A VIP: ring (a list of backends; false for none at all), service = 0, mode = "l2dsr", fail = "drop".
function switch:vip(text, given)
  local key, family = endpoint(text)
  local value = vip_value(self, given)
  assert(self:map("vips" .. family):set(key, value))
  self:enter(family == "4" and 1 or 2, key, { vip = value })
  self:address(key, family)
end

--- The entry that says that an address has VIPs.
function switch:address(key, family)
  local value = { service = 4096, flags = ADDRESS }
  key = packets.with(key, { port = 0, proto = 0 })
  assert(self:map("vips" .. family):set(key, value))
  self:enter(family == "4" and 1 or 2, key, { vip = value })
end

--- nat's way back: what comes from `from` is of the VIP `to`.
function switch:reverse(from, to, given)
  local key, family = endpoint(from)
  local vip = endpoint(to)
  local value = { addr = vip.addr, port = vip.port, service = given.service or 0, backend = given.backend }
  assert(self:map("reverse" .. family):set(key, value))
  local in_index = packets.with(value, { addr = family == "4" and { vip.addr } or vip.addr })
  self:enter(family == "4" and 3 or 4, key, { reverse = in_index })
end

--- The four words of a key's address.
local function key_words(key)
  return type(key.addr) == "table" and key.addr or { key.addr, 0, 0, 0 }
end

--- The hash of an endpoint in the index, written anew here as flow_hash.h has it. `port` as it lies in packets.
local function endpoint_hash(kind, key, port)
  local word = port | key.proto << 16 | kind << 24
  local low, high = string.unpack("<I8I8", string.pack(">I4I4I4I4", table.unpack(key_words(key))))
  local x
  if kind == 1 or kind == 3 then
    x = (word << 32 | low) * 0x9e3779b97f4a7c15
  else
    x = low * 0x9e3779b97f4a7c15 + high * 0xc2b2ae3d27d4eb4f + word * 0x165667b19e3779f9
  end
  x = (x ~ x >> 32) * 0xd6e8feb86659fd93
  return x ~ x >> 32
end

local function index_hash(kind, key)
  return endpoint_hash(kind, key, string.unpack("<I2", string.pack(">I2", key.port)))
end

--- Writes the lines of an index that has these hashes, by number.
local function write_lines(map, hashes, count)
  local lines = {}
  for i = 1, count do lines[i] = {} end
  for i, hash in ipairs(hashes) do
    local line = lines[((hash >> 32) * count >> 32) + 1]
    line[#line + 1] = (hash & 0xffffffffff) << 24 | i
  end
  for i, line in ipairs(lines) do
    if #line > 8 then line = { line[1], line[2], line[3], line[4], line[5], line[6], line[7], -1 } end -- TG_INDEX_MORE
    assert(map:set(i - 1, { entry = line }))
  end
end

--- Enters an endpoint into the index, if this switch has one: { vip = … } or { reverse = … }.
function switch:enter(kind, key, value)
  if not self.hashes then return end
  local hash, at = index_hash(kind, key), #self.hashes + 1
  for i, known in ipairs(self.hashes) do if known == hash then at = i end end
  self.hashes[at] = hash
  self:map("clock"):set(0, { index_lines = 0 })
  local entry = packets.with(value, { addr = key_words(key), port = key.port, proto = key.proto, kind = kind })
  assert(self:map("endpoints"):set(at, entry))
  write_lines(self:map "endpoint_lines", self.hashes, 4)
  self:map("clock"):set(0, { index_lines = 4 })
end

--- A service is QUIC: its layout { offset, length, mask, value } and its servers, { [id] = backend }.
function switch:quic(service, layout, servers, v6)
  assert(self:map("quic"):set(service, { offset = layout[1], length = layout[2], mask = layout[3], value = layout[4] }))
  for id, backend in pairs(servers) do
    assert(self:map("quic_servers"):set({ service = service, id = id, v6 = v6 and 1 or 0 }, backend))
  end
end

--- "198.51.100.10:8000-8099/tcp" as the text of its first port, and its ports.
local function range_of(text)
  local head, first, last, tail = text:match "^(.*:)(%d+)%-(%d+)(/%a+)$"
  return head .. first .. tail, { first = tonumber(first), last = tonumber(last) }
end

--- Adds an interval to this switch's table of ranges; write_ranges() puts them in force.
local function add_range(self, kind, key, ports, value)
  self.ranges = self.ranges or {}
  table.insert(self.ranges, packets.with(value, {
    addr = key_words(key), port = 0, proto = key.proto, kind = kind, ports = ports, declared = ports,
  }))
end

--- A VIP of a range of ports that no other overlaps: "198.51.100.10:8000-8099/tcp"; else as vip().
function switch:range(text, given)
  local first, ports = range_of(text)
  local key, family = endpoint(first)
  add_range(self, family == "4" and 1 or 2, key, ports, { vip = given.value or vip_value(self, given) })
end

--- nat's way back from a range of a backend's ports to the same ones of the VIP's address.
function switch:reverse_range(from, vip, given)
  local first, ports = range_of(from)
  local key, family = endpoint(first)
  local _, words = words_of(vip)
  add_range(self, family == "4" and 3 or 4, key, ports,
    { reverse = { addr = words, service = given.service or 0, backend = given.backend } })
end

--- The table in one half (0 or 1) of TG_MAX_RANGES, with keys under this salt.
function switch:write_ranges(half, salt)
  local SIZE <const>, WINDOWS <const> = 16384, 4096 -- TG_MAX_RANGES, TG_RANGE_WINDOWS
  for _, one in ipairs(self.ranges) do
    one.key = endpoint_hash(one.kind, one, salt or 0) >> 1 & ~0xffff | one.ports.first
  end
  table.sort(self.ranges, function(a, b) return a.key < b.key end)
  local of_half = { count = #self.ranges, salt = salt or 0 }
  local keys, entries, windows = {}, {}, {}
  for i = 1, half * SIZE do keys[i] = 0 end
  for i = 1, (half + 1) * WINDOWS do windows[i] = { first = 0, count = 0, step = 0 } end
  for i, one in ipairs(self.ranges) do
    local window = windows[half * WINDOWS + (one.key >> 51) + 1]
    if window.count == 0 then window.first = i - 1 end
    window.count = window.count + 1
    window.step = 1 << math.floor(math.log(window.count, 2))
    keys[half * SIZE + i] = one.key
    entries[half * SIZE + i - 1] = packets.with(one, { key = false })
    entries[half * SIZE + i - 1].key = nil
  end
  assert(self:map("ranges"):batch_set(entries))
  assert(self:map("range_table"):set(0, {
    current = half, half = half == 0 and { of_half, {} } or { {}, of_half }, key = keys, window = windows,
  }))
end

--- A route towards clients: "192.0.2.0/24", { hop = { dmac, smac, ifindex }, mtu } or { is_local = true }.
function switch:route(prefix, given)
  local host, length = prefix:match "^(.-)/(%d+)$"
  local family, words = words_of(host)
  local value = { hop = hop_value(given.hop) or {}, mtu = given.mtu or 0, flags = given.is_local and LOCAL or 0 }
  local key = { prefix_len = tonumber(length), addr = family == "4" and words[1] or words }
  assert(self:map("routes" .. family):set(key, value))
end

local function counts_of(map)
  local counts = {}
  for index in map:pairs() do counts[index] = map:sum(index) end
  return counts
end

--- What the program counted since `before`: one reason at most.
local function reason_since(self, before)
  local found
  for index, count in pairs(counts_of(self:map "reasons")) do
    if count ~= before[index] then
      assert(not found and count == before[index] + 1, "more than one reason counted")
      found = self.reasons[index]
    end
  end
  return found or "forward"
end

--- A packet arrives, as tg.packet or bytes. given: ctx (see tg.prog), netns (run in that namespace).
function switch:receive(p, given)
  local bytes = type(p) == "string" and p or p:bytes()
  local before = counts_of(self:map "reasons")
  local result
  if given and given.netns then
    result = self:receive_in(given.netns, given.ifindex, bytes)
  else
    result = assert(self.program:run(bytes, given))
  end
  local out = { verdict = result.retval, bytes = result.data, unchanged = result.data == bytes }
  out.reason = reason_since(self, before)
  out.packet = packet.parse(result.data)
  return out
end

local function from_hex(hex)
  return (hex:gsub("%x%x", function(digits) return string.char(tonumber(digits, 16)) end))
end

--- Runs the program in another network namespace, where a packet comes in by the device `ifindex`.
function switch:receive_in(netns, ifindex, bytes)
  local hex = bytes:gsub(".", function(byte) return ("%02x"):format(byte:byte()) end)
  local host = object.tidegate()
  local said = object.run(("nsenter --net=/run/netns/%s %s lua tests/helpers/run_program.lua %s %d %s"):format(
    netns, host, self.program_path, ifindex, hex))
  local verdict, out = said:match "^(%a+) (%x+)$"
  return { retval = assert(verdict, said), data = from_hex(out) }
end

--- { packets, bytes } of "service", "backend" or "reply" (by backend).
function switch:counter(what, index)
  return self:map(what .. "_counters"):sum(index)
end

function switch:close()
  for _, map in pairs(self.opened) do map:close() end
  self.program:close()
  self.object:close()
end

return switch
