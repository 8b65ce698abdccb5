-- SPDX-License-Identifier: GPL-2.0-only
--- Addresses and endpoints as scripts write them: "10.0.0.1", "[2001:db8::1]:80", "10.0.0.1:80/tcp";
--- as a VIP also with a range of ports or all: "10.0.0.1:8000-8099/tcp", "10.0.0.1:*/udp".

local ip = require("tidegate.packet.addr").ip

local address = {}

---@class tidegate.Endpoint
---@field addr string      canonical address
---@field family 4|6
---@field port integer?    nil: none given
---@field last integer?    of a VIP that is a range: its last port
---@field proto "tcp"|"udp"|nil

--- "10.0.0.1:80", "[2001:db8::1]:80", or the bare address without a port.
function address.format(addr, port)
  if not port then return addr end
  return (addr:find(":", 1, true) and "[%s]:%d" or "%s:%d"):format(addr, port)
end

local ALL = { first = 1, last = 65535 }

local function ports_text(vip)
  if not vip.last then return tostring(vip.port) end
  if vip.port == ALL.first and vip.last == ALL.last then return "*" end
  return ("%d-%d"):format(vip.port, vip.last)
end

--- "10.0.0.1:80/tcp", "10.0.0.1:8000-8099/tcp", "10.0.0.1:*/udp"
function address.format_vip(vip)
  local shape = vip.addr:find(":", 1, true) and "[%s]:%s/%s" or "%s:%s/%s"
  return shape:format(vip.addr, ports_text(vip), vip.proto)
end

local function split(text)
  local host, rest = text:match "^%[([^%]]*)%](.*)$"
  if host then return host, rest end
  local colons = select(2, text:gsub(":", ""))
  if colons > 1 then
    host, rest = text:match "^([^/]*)(.*)$"
  else
    host, rest = text:match "^([^:/]*)(.*)$"
  end
  return host, rest
end

local function one_port(text)
  local port = text:find "^%d+$" and tonumber(text)
  if port and port >= 1 and port <= 65535 then return port end
  return nil, ("port %s: 1 to 65535 allowed"):format(text == "" and "missing" or text)
end

--- The first port, and the last if there are several; or nil, why.
local function port_range(text)
  if text == "*" then return ALL.first, ALL.last end
  local from, to = text:match "^([^-]*)-(.*)$"
  if not from then return one_port(text) end
  local first, problem = one_port(from)
  if not first then return nil, problem end
  local last
  last, problem = one_port(to)
  if not last then return nil, problem end
  if first > last then return nil, ("ports %s: the first is above the last"):format(text) end
  return first, last > first and last or nil
end

--- Why an address can be no VIP and no backend's; nil: it can.
---@param endpoint tidegate.Endpoint
---@return string?
function address.refusal(endpoint)
  local bytes = ip(endpoint.addr).bytes
  local first, second = bytes:byte(1, 2)
  if endpoint.family == 4 then
    if first == 0 then return "0.0.0.0/8 is nobody's address" end
    if first == 127 then return "a loopback address: packets for it don't leave the host" end
    if first >= 224 and first < 240 or bytes == "\xff\xff\xff\xff" then return "a multicast or broadcast address" end
  elseif bytes == ("\0"):rep(16) then
    return "the unspecified address"
  elseif bytes == ("\0"):rep(15) .. "\1" then
    return "a loopback address: packets for it don't leave the host"
  elseif bytes:sub(1, 12) == ("\0"):rep(10) .. "\xff\xff" then
    return ("an IPv4 address in IPv6's form: write %d.%d.%d.%d"):format(bytes:byte(13, 16))
  elseif first == 0xff then
    return "a multicast address"
  elseif first == 0xfe and second & 0xc0 == 0x80 then
    return "a link-local address, which says nothing without a device: give a global one"
  end
end

local function parse(text, ports, read)
  local host, rest = split(text)
  local parsed = host and ip(host)
  if not parsed then return nil, "not an IP address" end
  local endpoint = { addr = parsed.text, family = parsed.family }
  local port, proto = rest:match(ports)
  if port then
    local first, last = read(port)
    if not first then return nil, last end
    endpoint.port, endpoint.last = first, last
    rest = proto
  end
  if rest ~= "" then
    endpoint.proto = rest:match "^/(%a+)$"
    if endpoint.proto ~= "tcp" and endpoint.proto ~= "udp" then
      return nil, ("%q after the address: /tcp or /udp allowed"):format(rest)
    end
  end
  return endpoint
end

--- Reads an endpoint; nil and what is wrong with it, for a message that quotes the text itself.
---@return tidegate.Endpoint?, string?
function address.parse(text)
  return parse(text, "^:(%w*)(.*)$", one_port)
end

--- The same of a VIP, whose port may be a range: then `port` is its first and `last` its last.
---@return tidegate.Endpoint?, string?
function address.parse_vip(text)
  return parse(text, "^:([%w*-]*)(.*)$", port_range)
end

return address
