-- SPDX-License-Identifier: GPL-2.0-only
--- tg.trace(port, packet): what would become of a packet that comes in there, and by which tables; nobody
--- notices. `tidegate trace` prints it. The datapath's own instructions run on the live tables
--- (core/trace.h); here packets are read and steps are given their names.

local core = require "tidegate.core.trace"
local console = require "tidegate.console"
local controller = require "tidegate.core.controller"
local desired = require "tidegate.desired"
local json = require "dkjson"
local lock = require "tidegate.lock"
local misuse = require "tidegate.misuse"
local packet = require "tidegate.packet"
local running = require "tidegate.running"
local schema = require "tidegate.schema"
local show = require "tidegate.trace.text"
local task = require "tidegate.task"
local words = require "tidegate.trace.words"

local trace = {}

local USAGE = 2
local FRAME_MIN = 14
local IP_TYPES = { [4] = "\8\0", [6] = "\x86\xdd" }

local tracing = lock.new() -- one at a time: a program that is being loaded holds up no thread but one

--- The bytes of a frame; a packet that starts with its IP header gets an Ethernet header.
local function frame_of(p)
  local bytes = p:bytes()
  if p.eth then return bytes end
  local type = IP_TYPES[#bytes > 0 and bytes:byte() >> 4 or 0]
  if not type then misuse "tg.trace: packet: neither an Ethernet frame nor an IP packet" end
  return "\2\0\0\0\0\2\2\0\0\0\0\1" .. type .. bytes
end

--- A packet from text, hexadecimal digits, a table of layers, or as it is.
local function read(given)
  if type(given) == "string" and not given:find ">" and given:find "%x%x" and not given:find "[^%x%s:]" then
    return packet.from_hex(given)
  end
  if type(given) == "table" and getmetatable(given) == getmetatable(packet.parse "") then return given end
  return packet(given)
end

--- The interface index of a port that is declared; or nil, why, code.
local function ifindex_of(name)
  schema.string("tg.trace: port", name)
  if not running.ports[name] then
    misuse("tg.trace: there is no port %q (ports: %s)", name, table.concat(desired.names(running.ports), ", "))
  end
  local ifindex = controller.ifindex(name)
  if ifindex then return ifindex end
  return nil, ("port %s: no such device in this network namespace"):format(name), "ENODEV"
end

--- The port that a redirected packet leaves by: that of the last step that names a port.
local function out_port(raw, steps)
  for i = #steps, 1, -1 do
    if raw.verdict == "redirect" and steps[i].table == "tx_ports" then return steps[i].key end
  end
end

local function frame_for_trace(given)
  local frame = frame_of(read(given))
  if #frame < FRAME_MIN then
    misuse("tg.trace: packet: a frame has %d bytes at least, this one %d", FRAME_MIN, #frame)
  end
  return frame
end

---@return tg.Trace?, string? message, string? code
function trace.run(port, given)
  local frame = frame_for_trace(given)
  if not core.opened() then return nil, "nothing is in force yet: there is no datapath to ask", "EAGAIN" end
  local ifindex, message, code = ifindex_of(port)
  if not ifindex then return nil, message, code end
  local raw
  do
    local turn <close> = tracing:take()
    raw, message, code = task.await(core.run, ifindex, frame)
  end
  if not raw then return nil, message, code end
  local result = { verdict = raw.verdict, reason = raw.reason, steps = {}, packet = packet.parse(raw.frame) }
  for i, step in ipairs(raw.steps) do result.steps[i] = words.step(step) end
  result.port = raw.verdict == "tx" and port or out_port(raw, result.steps)
  result.changes = show.changes(packet.parse(frame), result.packet)
  return result
end

-- The command --------------------------------------------------------------------------------------

--- Reads "[--json] PORT TEXT…" or "[--json] PORT --hex DIGITS".
local function arguments(args)
  local as_json = args[1] == "--json"
  local at = as_json and 2 or 1
  local port, hex = args[at], args[at + 1] == "--hex"
  if not args[at + 1] then misuse "trace: a port and a packet are needed" end
  local given = table.concat(args, " ", at + (hex and 2 or 1))
  return as_json, port, hex and packet.from_hex(given) or read(given)
end

local function as_json_text(port, before, result)
  return json.encode({
    port = port, input = tostring(before), verdict = result.verdict, reason = result.reason, out = result.port,
    steps = setmetatable(result.steps, { __jsontype = "array" }),
    changes = setmetatable(result.changes, { __jsontype = "array" }),
    packet = tostring(result.packet), hex = result.packet:hex(),
  }) .. "\n"
end

console.register("trace", function(request)
  local ok, as_json, port, before = pcall(arguments, request.args)
  local result, message
  if ok then ok, result, message = pcall(trace.run, port, before) else result = as_json end
  if not ok then -- misuse: the text says what is wrong with the packet or the port
    request:error((tostring(result):gsub("^tg%.", "")))
    return USAGE
  end
  if not result then
    request:error("trace: " .. message)
    return 3
  end
  before = packet.parse(frame_of(before))
  request:write((as_json and as_json_text or show.lines)(port, before, result))
end)

return trace
