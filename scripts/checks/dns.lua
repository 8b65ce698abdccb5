-- SPDX-License-Identifier: GPL-2.0-only
--- The `dns` check: a name server that answers a question over UDP without an error is up. See
--- scripts/examples/plugin.lua; the messages are those of RFC 1035.

local TYPES = { A = 1, NS = 2, SOA = 6, TXT = 16, AAAA = 28 }
local RECURSION_DESIRED, RESPONSE = 0x0100, 0x8000
local ERRORS = { [0] = "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED" }

--- "example.org" as labels: each its length and itself, an empty one at the end.
local function labels(name)
  local list = {}
  for label in name:gmatch "[^.]+" do list[#list + 1] = string.pack("s1", label) end
  return table.concat(list) .. "\0"
end

local function question(name, kind)
  local id = math.random(0, 0xffff)
  local header = string.pack(">HHHHHH", id, RECURSION_DESIRED, 1, 0, 0, 0)
  return id, header .. labels(name) .. string.pack(">HH", TYPES[kind], 1)
end

--- The code of the answer to our question; nil if the datagram is something else.
local function answer_code(datagram, id)
  if #datagram < 12 then return nil end
  local its_id, flags = string.unpack(">HH", datagram)
  if its_id ~= id or flags & RESPONSE == 0 then return nil end
  return flags & 0xf
end

return {
  api = 1, name = "dns", summary = "a question must be answered without an error",
  args = {
    name = { "string", summary = "what to ask for" },
    type = { "string", optional = true, summary = "A (default), NS, SOA, TXT or AAAA" },
  },

  ---@param target tg.Target
  ---@param args { name: string, type: string? }
  ---@return boolean up, string? reason  why not
  check = function(target, args)
    local id, message = question(args.name, args.type or "A")
    local socket <close> = assert(tg.net.udp { bind = target.addr:find ":" and "::" or "0.0.0.0" })
    assert(socket:send(message, target.addr, target.port))
    while true do -- until our answer comes; the check's timeout ends the wait
      local datagram, addr, port = assert(socket:receive())
      local code = addr == target.addr and port == target.port and answer_code(datagram, id)
      if code then return code == 0, ERRORS[code] or "RCODE " .. code end
    end
  end,
}
