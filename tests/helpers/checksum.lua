-- SPDX-License-Identifier: GPL-2.0-only
--- Lets tshark judge checksums, so that a mistake of ours can't vouch for itself. Every test of a
--- program that rewrites packets passes what came out through here:
---
---     local checksum = require "tests.helpers.checksum"
---     assert.same({}, checksum.bad(outputs))
---
--- checksum.bad(list): `list` holds frames as strings, or packets (tg.packet). Returns those with a
--- wrong checksum, a list of { index = place in `list`, layer = "ip" | "tcp" | "udp" | "icmp" | "icmpv6",
--- packet = one line of text }; empty if all are right. All headers of a frame are
--- judged, those within a tunnel (IP in IP) or quoted by an ICMP error too; of a quote that is cut short
--- only the IP header. Fragments are put together first, and the last one stands for the whole: give all
--- of a packet's fragments in one list, and other packets other identifications.
--- No packet passes unjudged: one in which tshark found nothing to verify (no IP, truncated before its
--- transport checksum, a fragment without the others) is in the list too, with layer = "none". A UDP
--- checksum of 0 counts as right in IPv4 alone.
---
--- checksum.judge(list): for each packet the table layer → list of tshark's verdicts, "good", "bad",
--- "unverified", "absent" or "illegal", outermost first; and `reassembled`, whether it is part of a whole
--- that another one stands for.
---
--- Raises an error if tshark can't run or doesn't judge all.

local packet = require "tidegate.packet"

local checksum = {}

local LAYERS = { "ip", "tcp", "udp", "icmp", "icmpv6" }
local VERDICTS = { ["0"] = "bad", ["1"] = "good", ["2"] = "unverified", ["3"] = "absent", ["4"] = "illegal" }

local COMMAND = {
  "tshark -n -2 -r %s -T fields -E separator=/s -E quote=d -E occurrence=a",
  "-o ip.check_checksum:TRUE -o tcp.check_checksum:TRUE -o udp.check_checksum:TRUE",
  "-o ip.defragment:TRUE -o ipv6.defragment:TRUE",
}
for _, layer in ipairs(LAYERS) do COMMAND[#COMMAND + 1] = ("-e %s.checksum.status"):format(layer) end
COMMAND[#COMMAND + 1] = "-e ip.reassembled_in -e ipv6.reassembled.in 2>%s"
COMMAND = table.concat(COMMAND, " ")

local function read_all(path)
  local file <close> = assert(io.open(path))
  return file:read "a"
end

--- The lines that tshark prints for a capture file.
local function run_tshark(capture)
  local errors = os.tmpname()
  local pipe = assert(io.popen(COMMAND:format(capture, errors)))
  local lines = {}
  for line in pipe:lines() do lines[#lines + 1] = line end
  local ok, _, code = pipe:close()
  local said = read_all(errors)
  os.remove(errors)
  if not ok then error(("tshark failed (%d): %s"):format(code, said), 0) end
  return lines
end

--- A line is one quoted column for each layer, and two for where a fragment was put together.
local function read_line(line)
  local columns, verdicts = {}, {}
  for column in (line .. " "):gmatch '"?([^" ]*)"? ' do columns[#columns + 1] = column end
  for i, layer in ipairs(LAYERS) do
    for status in (columns[i] or ""):gmatch "%d+" do
      verdicts[layer] = verdicts[layer] or {}
      local verdict = assert(VERDICTS[status], "a status of tshark's that is new to us")
      table.insert(verdicts[layer], verdict)
    end
  end
  verdicts.reassembled = columns[#LAYERS + 1] ~= "" or columns[#LAYERS + 2] ~= ""
  return verdicts
end

function checksum.judge(list)
  if #list == 0 then return {} end
  local capture = os.tmpname()
  assert(packet.write_pcap(capture, list))
  local ok, lines = pcall(run_tshark, capture)
  os.remove(capture)
  if not ok then error(lines, 0) end
  if #lines ~= #list then error(("tshark judged %d packets of %d"):format(#lines, #list), 0) end
  for i, line in ipairs(lines) do lines[i] = read_line(line) end
  return lines
end

local function parsed(item)
  if type(item) == "string" then return packet.parse(item) end
  return packet.parse(item:bytes(), { eth = item.eth ~= nil })
end

--- Whether a packet quotes another one in part: then tshark's verdict on the quoted transport checksum
--- says nothing, as it is over the bytes that are left.
local function quote_is_cut(p)
  local icmp = p.icmp or p.icmp6
  return icmp ~= nil and icmp.quoted ~= nil and icmp.quoted.truncated ~= nil
end

local TRANSPORTS = { [1] = "icmp", [6] = "tcp", [17] = "udp", [58] = "icmpv6" }

--- Whether tshark had a checksum to judge: that of the transport, if it is one that has one.
local function is_judged(verdicts, p)
  if verdicts.reassembled then return true end
  local transport = TRANSPORTS[p.ip and p.ip.proto]
  if transport then return verdicts[transport] ~= nil end
  for _, layer in ipairs(LAYERS) do
    if verdicts[layer] then return true end
  end
  return false
end

--- The layer at fault, or nil.
local function fault(verdicts, p)
  for _, layer in ipairs(LAYERS) do
    local ignored = (layer == "tcp" or layer == "udp") and quote_is_cut(p)
    for _, verdict in ipairs(not ignored and verdicts[layer] or {}) do
      if verdict ~= "good" and verdict ~= "absent" then return layer end
    end
  end
  return not is_judged(verdicts, p) and "none" or nil
end

function checksum.bad(list)
  local found = {}
  for i, verdicts in ipairs(checksum.judge(list)) do
    local p = parsed(list[i])
    local layer = fault(verdicts, p)
    if layer then found[#found + 1] = { index = i, layer = layer, packet = tostring(p) } end
  end
  return found
end

return checksum
