-- SPDX-License-Identifier: GPL-2.0-only
--- Packets: built from tables, parsed from bytes, in plain Lua (no core, no luv), for tests, for
--- operators' specs and for `trace`.
---
---     local p = tg.packet { ip = { src = "192.0.2.7", dst = "198.51.100.10" }, tcp = { dport = 443, flags = "S" } }
---     p:bytes()                                  --> the frame, as a string
---     p:copy { ip = { ttl = 1 } }                --> another packet
---     tostring(p)                                --> tcp 192.0.2.7:40000 > 198.51.100.10:443 S
---     tg.packet "tcp 192.0.2.7 > 198.51.100.10:443 S"      -- the same from text (packet/text.lua)
---     tg.packet.parse(bytes).tcp.checksum_ok     --> true
---
--- Layers and their fields; numbers unless said otherwise, = is a default:
---
---     eth    src = "02:00:00:00:00:01", dst = "02:00:00:00:00:02", type. `eth = false`: the packet starts
---            with its IP header. Without ip, `type` is needed (ARP, say) and `payload` is the rest
---     vlan   a tag or a list of up to two, outermost first; a tag is its id or { id, pcp = 0, dei = false,
---            type = 0x8100 (0x88a8 for the outer of two) }. In a packet always a list
---     ip     src, dst; the addresses' family decides.
---            IPv4: tos = 0, id = 0, df, mf = false, offset = 0 (of a fragment, in bytes), ttl = 64, proto,
---            options (bytes, filled up to a multiple of four), reserved (the flag), and computed:
---            checksum, total_length, ihl, version
---            IPv6: tclass = 0, flow = 0, hop_limit = 64, proto (of what follows the extension headers),
---            ext = list of { type = "hop" | "routing" | "dst" | "ah" | number, data (what follows the length
---            byte; filled up), length (in the header's units) } or { type = "fragment", offset, mf, id };
---            each takes next_header. Computed: payload_length, next_header, version
---            Either family takes dscp and ecn, and the other's names tos/tclass, ttl/hop_limit.
---            proto may be a name: tcp udp icmp icmp6 gre esp ah ipip ip6 none
---     tcp    sport = 40000, dport (needed), seq = 0, ack = 0, flags = "S" (letters of SAFRPUEC or a number),
---            window = 65535, urgent = 0, options (bytes, or { mss, sack_ok, ts = { val, ecr }, wscale }),
---            reserved; computed: checksum, data_offset
---     udp    sport = 40000, dport (needed); computed: checksum, length
---     icmp, icmp6   type (needed; a number or "echo-request", "unreachable", …), code = 0; one of id and
---            seq | mtu | pointer | gateway | rest (the whole word); body (bytes) or quoted, a packet of
---            which an error quotes the IP header (of IPv6: the fixed one) and quote_length more bytes (8; in
---            ICMPv6 as many as fit); computed: checksum
---     payload       what tcp, udp or ip carries; bytes, or a number of zeros. In ICMP it is the body
---     trailer       bytes after the IP packet: padding
---
--- Computed fields are computed unless given: a number overrides, false or nil computes. The
--- checksum of tcp, udp and icmp covers what this packet carries; in a hand-made fragment that is not
--- the checksum of the whole, which only fragments() or you can know. A UDP checksum given as 0 stays 0
--- ("none"); one computed as 0 is sent as 0xffff.
---
--- Misuse raises an error at the caller's line; bytes() and copy() check again what was assigned.

local misuse = require "tidegate.misuse"
local build = require "tidegate.packet.build"
local fields = require "tidegate.packet.fields"
local fragment = require "tidegate.packet.fragment"
local options = require "tidegate.packet.options"
local parse = require "tidegate.packet.parse"
local pcap = require "tidegate.packet.pcap"
local text = require "tidegate.packet.text"
local value = require "tidegate.packet.value"

local packet = {}
local methods = fields.methods

--- The frame's bytes.
function methods:bytes() return build.bytes(fields.packet(self)) end

--- The frame's bytes in hexadecimal.
function methods:hex()
  return (self:bytes():gsub(".", function(byte) return ("%02x"):format(byte:byte()) end))
end

--- One layer with changes: fields set to false are computed again or have their default.
local function changed_layer(layer, changes)
  local out = setmetatable({}, getmetatable(layer))
  local known = {}
  for key, v in next, layer do rawset(out, key, v) end
  for key, v in next, fields.computed[layer] or {} do known[key] = v end
  for key, v in next, changes do
    known[key] = nil
    if v == false and type(out[key]) ~= "boolean" then out[key] = nil else out[key] = v end
  end
  fields.computed[out] = known
  return out
end

--- An IP layer whose addresses change family keeps only what both families have.
local function changed_ip(ip, changes)
  local out = changed_layer(ip, changes)
  local was_ip6 = fields.family(ip) == 6
  if type(out.src) ~= "string" or (out.src:find(":", 1, true) ~= nil) == was_ip6 then return out end
  return changed_layer(setmetatable({ tos = ip.tos, ttl = ip.ttl }, nil), changes)
end

--- Another packet: this one with changes. A table changes the layer's fields, false removes a layer or
--- a value; vlan, ext, options and quoted are replaced as a whole. What parse found right (checksums,
--- lengths) is computed anew, what it found wrong stays unless changed.
function methods:copy(changes)
  changes = changes or {}
  if type(changes) ~= "table" then misuse("packet: copy: %s (allowed: a table of layers)", value.show(changes)) end
  local out = {}
  for key, layer in next, self do out[key] = layer end
  if self.eth == nil then out.eth = false end
  for key, change in next, changes do
    local layer = key ~= "vlan" and self[key]
    if type(change) ~= "table" or type(layer) ~= "table" then
      out[key] = change
    else
      out[key] = (key == "ip" and changed_ip or changed_layer)(layer, change)
    end
  end
  return fields.packet(out)
end

--- The packets that this one is cut into where no more than `mtu` bytes of IP fit; IPv6 fragments get
--- the identification `id` (1). Only whole packets; IPv4 with df set is refused.
function methods:fragments(mtu, id) return fragment(fields.packet(self), mtu, id) end

fields.metatable.__tostring = text.print

--- A packet from bytes: a frame, or with { eth = false } what starts with an IP header. Fields as
--- above, and also ip.checksum_ok, tcp.checksum_ok, … (nil where it can't be told: fragments, cut
--- packets; true for a UDP checksum of 0 in IPv4), `trailer`, `truncated` (the layer within which the bytes
--- end, "payload" included; of that layer the fields that were whole), `malformed` (the layer whose
--- lengths or version make no sense). parse(bytes):bytes() == bytes for any bytes.
function packet.parse(bytes, how)
  if type(bytes) ~= "string" then misuse("packet: parse: %s (allowed: a string of bytes)", value.show(bytes)) end
  return parse.packet(bytes, { eth = how and how.eth })
end

--- A packet from hexadecimal text; blanks, colons and tcpdump's offsets ("0x0010:") are skipped.
function packet.from_hex(hex, how)
  if type(hex) ~= "string" then misuse("packet: from_hex: %s (allowed: a string)", value.show(hex)) end
  local digits = hex:gsub("0x%x+:", ""):gsub("[%s:]", "")
  if #digits % 2 == 1 or digits:find "%X" then
    misuse("packet: from_hex: %s (allowed: pairs of hexadecimal digits)", value.show(hex))
  end
  return packet.parse(digits:gsub("..", function(pair) return string.char(tonumber(pair, 16)) end), how)
end

--- The table { mss, sack_ok, ts = { val, ecr }, wscale } of a parsed packet's tcp.options.
function packet.tcp_options(bytes) return options.decode(value.bytes(40)(bytes or "", "tcp", "options")) end

--- write_pcap(path, list of packets or of frames' bytes): true, or nil, message, code.
packet.write_pcap = pcap.write
--- read_pcap(path): a list of packets and a list of their times, or nil, message, code.
packet.read_pcap = pcap.read

local function new(_, given)
  if type(given) == "string" then given = text.read(given) end
  if type(given) ~= "table" then
    misuse("packet: %s (allowed: a table of layers, or text)", value.show(given))
  end
  return fields.packet(given)
end

return setmetatable(packet, { __call = new })
