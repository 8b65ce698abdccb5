-- SPDX-License-Identifier: GPL-2.0-only
--- Addresses and endpoints as scripts write them: "10.0.0.1", "[2001:db8::1]:80", "10.0.0.1:80/tcp".

local ip = require("tidegate.packet.addr").ip

local address = {}

---@class tidegate.Endpoint
---@field addr string      canonical address
---@field family 4|6
---@field port integer?    nil: none given
---@field proto "tcp"|"udp"|nil

--- "10.0.0.1:80", "[2001:db8::1]:80", or the bare address without a port.
function address.format(addr, port)
  if not port then return addr end
  return (addr:find(":", 1, true) and "[%s]:%d" or "%s:%d"):format(addr, port)
end

--- "10.0.0.1:80/tcp"
function address.format_vip(vip)
  return address.format(vip.addr, vip.port) .. "/" .. vip.proto
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

--- Reads an endpoint; nil and what is wrong with it, for a message that quotes the text itself.
---@return tidegate.Endpoint?, string?
function address.parse(text)
  local host, rest = split(text)
  local parsed = host and ip(host)
  if not parsed then return nil, "not an IP address" end
  local endpoint = { addr = parsed.text, family = parsed.family }
  local port, proto = rest:match "^:(%w*)(.*)$"
  if port then
    endpoint.port = port:find "^%d+$" and tonumber(port)
    if not endpoint.port or endpoint.port < 1 or endpoint.port > 65535 then
      return nil, ("port %s: 1 to 65535 allowed"):format(port == "" and "missing" or port)
    end
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

return address
