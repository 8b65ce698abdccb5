-- SPDX-License-Identifier: GPL-2.0-only
--- Does anything make the kernel track connections in this network namespace? It does so only where a rule of nft or
--- iptables asks it to, and does not tell; so a datagram is sent to oneself on the loopback, and the kernel's count of
--- connections read before and after.

local uv = require "luv"

local conntrack = {}

local COUNT <const> = "/proc/sys/net/netfilter/nf_conntrack_count"
local TRIES <const> = 3      -- another connection may end just then

local LOOPBACK = { [4] = "127.0.0.1", [6] = "::1" }

local function count()
  local file <close> = io.open(COUNT)
  return file and file:read "n"
end

--- Sends a datagram to a socket of one's own, of a port that nobody used lately. false: it can't be sent.
local function send(host)
  local socket = uv.new_udp()
  local sent = socket:bind(host, 0) and socket:try_send("tidegate", host, socket:getsockname().port)
  socket:close()
  return sent and true or false
end

--- true or false; nil where there is no loopback of that family (4, 6) to ask.
function conntrack.active(family)
  for _ = 1, TRIES do
    local before = count()
    if not before then return false end
    if not send(LOOPBACK[family]) then return nil end
    if count() > before then return true end
  end
  return false
end

--- The families that nothing is tracked of, for people: "IPv4 and IPv6", "IPv6"; nil: none.
function conntrack.missing()
  local families = {}
  for _, family in ipairs { 4, 6 } do
    if conntrack.active(family) == false then families[#families + 1] = ("IPv%d"):format(family) end
  end
  return families[1] and table.concat(families, " and ")
end

return conntrack
