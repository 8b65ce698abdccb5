---@meta
--- Types of tg.packet, for editors. What the fields mean stands in lua/tidegate/packet.lua.

---@class tg.packet.Eth
---@field src? string
---@field dst? string
---@field type? integer

---@class tg.packet.Vlan
---@field id integer
---@field pcp? integer
---@field dei? boolean
---@field type? 0x8100|0x88a8

---@class tg.packet.Extension
---@field type "hop"|"routing"|"fragment"|"dst"|"ah"|integer
---@field data? string
---@field length? integer
---@field next_header? integer
---@field offset? integer of a fragment, in bytes
---@field mf? boolean
---@field id? integer

---@class tg.packet.Ip
---@field src string
---@field dst string
---@field proto? integer|string
---@field tos? integer IPv4; tclass in IPv6, either name reads both
---@field tclass? integer
---@field dscp? integer
---@field ecn? integer
---@field ttl? integer IPv4; hop_limit in IPv6, either name reads both
---@field hop_limit? integer
---@field id? integer IPv4
---@field df? boolean IPv4
---@field mf? boolean IPv4
---@field offset? integer IPv4, in bytes
---@field reserved? boolean IPv4
---@field options? string IPv4
---@field checksum? integer|false IPv4
---@field checksum_ok? boolean
---@field total_length? integer|false IPv4
---@field ihl? integer|false IPv4
---@field version? integer|false
---@field flow? integer IPv6
---@field payload_length? integer|false IPv6
---@field next_header? integer|string|false IPv6
---@field ext? tg.packet.Extension[] IPv6

---@class tg.packet.TcpOptions
---@field mss? integer
---@field sack_ok? boolean
---@field ts? integer|{ val: integer, ecr: integer }
---@field wscale? integer

---@class tg.packet.Tcp
---@field sport? integer
---@field dport integer
---@field seq? integer
---@field ack? integer
---@field flags? string|integer letters of SAFRPUEC
---@field window? integer
---@field urgent? integer
---@field options? string|tg.packet.TcpOptions
---@field reserved? integer
---@field checksum? integer|false
---@field checksum_ok? boolean
---@field data_offset? integer|false

---@class tg.packet.Udp
---@field sport? integer
---@field dport integer
---@field length? integer|false
---@field checksum? integer|false
---@field checksum_ok? boolean

---@class tg.packet.Icmp
---@field type integer|string
---@field code? integer
---@field id? integer
---@field seq? integer
---@field mtu? integer
---@field pointer? integer
---@field gateway? string
---@field rest? integer
---@field body? string
---@field quoted? tg.Packet|tg.packet.Layers
---@field quote_length? integer
---@field checksum? integer|false
---@field checksum_ok? boolean

---@class tg.packet.Layers
---@field eth? tg.packet.Eth|false
---@field vlan? integer|tg.packet.Vlan|(integer|tg.packet.Vlan)[]|false
---@field ip? tg.packet.Ip|false
---@field tcp? tg.packet.Tcp|false
---@field udp? tg.packet.Udp|false
---@field icmp? tg.packet.Icmp|false
---@field icmp6? tg.packet.Icmp|false
---@field payload? string|integer|false
---@field trailer? string|false

---@class tg.Packet
---@field eth? tg.packet.Eth
---@field vlan? tg.packet.Vlan[]
---@field ip? tg.packet.Ip
---@field tcp? tg.packet.Tcp
---@field udp? tg.packet.Udp
---@field icmp? tg.packet.Icmp
---@field icmp6? tg.packet.Icmp
---@field payload? string
---@field trailer? string
---@field truncated? string the layer in which the bytes end
---@field malformed? string the layer that makes no sense
local Packet = {}

---@return string
function Packet:bytes() end

---@return string
function Packet:hex() end

---@param changes? tg.packet.Layers
---@return tg.Packet
function Packet:copy(changes) end

---@param mtu integer
---@param id? integer of IPv6 fragments
---@return tg.Packet[]
function Packet:fragments(mtu, id) end

---@class tg.packet
---@overload fun(given: tg.packet.Layers|string): tg.Packet
local packet = {}

---@param bytes string
---@param how? { eth: boolean }
---@return tg.Packet
function packet.parse(bytes, how) end

---@param hex string
---@param how? { eth: boolean }
---@return tg.Packet
function packet.from_hex(hex, how) end

---@param bytes? string
---@return tg.packet.TcpOptions
function packet.tcp_options(bytes) end

---@param path string
---@param list (tg.Packet|string)[]
---@return true?, string? message, integer? code
function packet.write_pcap(path, list) end

---@param path string
---@return tg.Packet[]?, number[]|string times_or_message, integer|string|nil code
function packet.read_pcap(path) end

return packet
