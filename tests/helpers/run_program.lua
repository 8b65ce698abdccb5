-- SPDX-License-Identifier: GPL-2.0-only
--- tidegate lua run_program.lua PROGRAM IFINDEX HEX: runs a pinned program on a packet that comes in by a
--- device of this network namespace, and prints "VERDICT HEX". For specs that are in another namespace.
local tg = require "tidegate"
local path, ifindex, hex = ...
local bytes = hex:gsub("%x%x", function(digits) return string.char(tonumber(digits, 16)) end)
local program = assert(tg.prog.open(path))
local ctx = { ingress_ifindex = tonumber(ifindex), rx_queue_index = 0 }
local result = assert(program:run(bytes, { ctx = ctx }))
print(result.retval .. " " .. result.data:gsub(".", function(byte) return ("%02x"):format(byte:byte()) end))
