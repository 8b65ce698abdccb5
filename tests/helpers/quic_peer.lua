-- SPDX-License-Identifier: GPL-2.0-only
--- Both ends of QUIC, as far as a balancer sees them (tests/helpers/quic.lua), for tests/net:
---
---   tidegate lua quic_peer.lua serve ADDRESS PORT NAME ID     answers each packet, with connection IDs of server ID
---   tidegate lua quic_peer.lua begin ADDRESS PORT SPORT…      a connection from each port: "SPORT NAME ID" a line
---   tidegate lua quic_peer.lua move ADDRESS PORT BY           reads such lines, sends on from SPORT + BY:
---                                                             "SPORT NAME ID" of who answers, "SPORT - ID" if nobody
package.path = "./?.lua;" .. package.path
local quic = require "tests.helpers.quic"
local tg = require "tidegate"

local WAIT <const> = 0.5

local function to_hex(bytes) return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end)) end
local function from_hex(text) return (text:gsub("%x%x", function(d) return string.char(tonumber(d, 16)) end)) end

local function any(addr) return addr:find ":" and "::" or "0.0.0.0" end

--- Sends from a port until it is answered: who, and the ID that it wants to be known by.
local function ask(addr, port, sport, bytes)
  local socket <close> = assert(tg.net.udp { bind = any(addr), port = sport })
  for _ = 1, 2 do
    assert(socket:send(bytes, addr, port))
    local answer = socket:receive(WAIT)
    if answer then return string.unpack("s1s1", answer) end
  end
end

local command = {}

function command.serve(addr, port, name, id)
  local socket <close> = assert(tg.net.udp { bind = addr, port = tonumber(port) })
  local got, from, sport = socket:receive(3600)
  while got do
    socket:send(string.pack("s1s1", name, quic.id(tonumber(id))), from, sport)
    got, from, sport = socket:receive(3600)
  end
end

function command.begin(addr, port, ...)
  for _, sport in ipairs { ... } do
    local name, id = ask(addr, tonumber(port), tonumber(sport), quic.long("initial", quic.random_id()))
    print(sport, name or "-", to_hex(id or ""))
  end
end

function command.move(addr, port, by)
  for line in io.lines() do
    local sport, id = line:match "^(%d+)%s+%S+%s+(%x+)$"
    local name = ask(addr, tonumber(port), tonumber(sport) + tonumber(by), quic.short(from_hex(id)))
    print(sport, name or "-", id)
  end
end

math.randomseed(os.time())
command[arg[1]](table.unpack(arg, 2))
