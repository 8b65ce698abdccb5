-- SPDX-License-Identifier: GPL-2.0-only
--- What may become of packets, for tests/spec/xdp_matrix_spec.lua: the columns of its table. A way makes the plain
--- packet to which it happens, and says what a packet of each kind (tests/helpers/shapes.lua) becomes then:
---
---     { name, verdict, reason, packet = function(family, proto, more), other_way = function(packet) → what an ICMP
---       error quotes, sent = function(packet, out, fragment) → what leaves, mode (of services.fragments), … }
---
--- ways.expected(way, shape) → { verdict, reason } , or nil, why there can't be such a packet.
local packet = require "tidegate.packet"
local packets = require "tests.helpers.packets"
local services = require "tests.helpers.services"

local ways = {}

local function with(base, more) return packets.with(base, more) end

--- What comes or came the other way: this packet turned round.
local function turned(p)
  local l4 = p.tcp and "tcp" or "udp"
  return p:copy { ip = { src = p.ip.dst, dst = p.ip.src, ttl = 55 },
    [l4] = { sport = p[l4].dport, dport = p[l4].sport } }
end

--- A packet from a client to a VIP's port. `given.source(family)`: who sends it; `given.size`: of its payload.
local function to(port, given)
  return function(family, proto, more)
    more = with({ payload = given.size and ("x"):rep(given.size) }, more)
    if given.source then more.ip = with({ src = given.source(family) }, more.ip) end
    return services.to(port, family, proto, more)
  end
end

local function add(name, verdict, reason, given)
  ways[#ways + 1] = with({ name = name, verdict = verdict, reason = reason, other_way = turned }, given)
end

local function to_vip(name, verdict, reason, port, given)
  add(name, verdict, reason, with({ packet = to(port, given or {}) }, given))
end

local LOST = { "drop", "fragment-lost" }
local ELSEWHERE = { lost = { "pass", "fragment" }, tiny = { "pass", "fragment" } } -- not to a VIP's address
local EXPIRES = { "pass", "ttl-expired" }

-- Balanced -----------------------------------------------------------------------------------------

for _, mode in ipairs(services.MODES) do
  to_vip(mode, "tx", "forward", mode, { mode = mode, expires = mode == "nat" and EXPIRES or nil,
    sent = function(p, out, fragment) return fragment or services.sent(mode, p, out) end })
end

--- What nat's backend answers; an ICMP error quotes what nat had sent to it.
local function from_backend(family, proto, more)
  return services.reply(services.to("nat", family, proto, more))
end

add("reply", "tx", "forward", { packet = from_backend, mode = "reply", expires = EXPIRES,
  results = ELSEWHERE, sent = function(p, _, fragment) return fragment or services.from_nat(p) end })

-- Passed -------------------------------------------------------------------------------------------

to_vip("not-vip", "pass", "not-vip", services.NO_VIP)
add("elsewhere", "pass", "not-vip", {
  packet = function(family, proto, more)
    local elsewhere = { dst = family == 4 and "203.0.113.200" or "2001:db8:f::2" }
    return services.to("l2dsr", family, proto, with(more or {}, { ip = with(more and more.ip or {}, elsewhere) }))
  end,
  results = with(ELSEWHERE, { first = { "pass", "fragment" }, later = { "pass", "fragment" } }),
})
to_vip("no-backend-pass", "pass", "no-backend-pass", services.OPEN)

local function from_backend_to(client, sport)
  return function(family, proto, more)
    local p = from_backend(family, proto, more)
    return p:copy { ip = { dst = client(family, p) }, [proto] = { dport = sport } }
  end
end

local REPLIES_PASS = with(ELSEWHERE, { later = { "pass", "fragment" } })
add("local-reply", "pass", "local-reply", { results = REPLIES_PASS,
  packet = from_backend_to(function(family) return services.LOCAL[family] end, 40000) })
local direct = from_backend_to(function(_, p) return p.ip.dst end, 52000)
add("direct-flow", "pass", "direct-flow", { results = REPLIES_PASS, packet = direct,
  prepare = function(sw) -- the flow begins without the VIP
    for _, family in ipairs { 4, 6 } do
      for _, proto in ipairs { "tcp", "udp" } do sw:receive(turned(direct(family, proto))) end
    end
  end })

local LARGE <const>, LARGER_THAN_MTU <const> = 1600, 1800
to_vip("too-big", "pass", "too-big", services.AWAY, { size = LARGE, fragment = LARGER_THAN_MTU, quote = 1520 })

-- Dropped ------------------------------------------------------------------------------------------

to_vip("no-backend", "drop", "no-backend", services.EMPTY, { results = { later = LOST } })
to_vip("unresolved", "drop", "unresolved", services.UNRESOLVED)
to_vip("no-port", "drop", "no-port", services.AWAY)
to_vip("no-ring", "drop", "no-ring", services.NO_RING, { results = { later = LOST } })

--- The ICMP error that goes back for a packet too big for a tunnel of IPv4 in IPv4 or IPv6 in IPv4.
local function too_big(p)
  local v6 = p.ip.src:find ":" ~= nil
  local room = v6 and 1280 - 48 or 576 - 28 -- for what is quoted
  local given = { eth = { src = p.eth.dst, dst = p.eth.src }, vlan = p.vlan, ip = { src = p.ip.dst, dst = p.ip.src } }
  if v6 then
    given.ip.tclass = 0xc0
    given.icmp6 = { type = "too-big", mtu = 1480, quoted = p, quote_length = room - 40 }
  else
    given.ip.tos, given.ip.df = 0xc0, true
    local header = 20 + (p.ip.options and #p.ip.options or 0)
    given.icmp = { type = "unreachable", code = 4, mtu = 1480, quoted = p, quote_length = room - header }
  end
  return packet(given)
end

local NOT_ANSWERED = { "drop", "too-big-dropped" }
to_vip("too-big-answered", "redirect", "too-big-answered", "ipip4", { size = LARGE, fragment = LARGER_THAN_MTU,
  quote = 1520, sent = too_big, results = { later = NOT_ANSWERED, error = NOT_ANSWERED },
  each = function(sw) sw:map("answers_until"):set(0, 0) end })
to_vip("too-big-dropped", "drop", "too-big-dropped", "gue4", { size = LARGE, fragment = LARGER_THAN_MTU, quote = 1520,
  each = function(sw) sw:map("answers_until"):set(0, 1 << 62) end })

--- A source for which packets are dropped before anything else is asked of them.
local function from(name, source4, source6, given)
  local function source(family) return family == 4 and source4 or source6 end
  local own = { source = source, early = true, missing = not source6 and 6 or nil }
  to_vip(name, "drop", name, "l2dsr", with(own, given))
end

from("denied", "203.0.113.66", "2001:db8:bad::66", { program = "lists" })
from("bogus-zero", "0.0.0.0", "::", { spares_icmp6 = true,
  sent = function(p, out) return services.sent("l2dsr", p, out) end })
from("bogus-loopback", "127.0.0.1", "::1")
from("bogus-multicast", "224.0.0.9", "ff02::9")
from("bogus-broadcast", "255.255.255.255", nil, { why = "IPv6 has no broadcast" })
from("bogus-land", services.VIP[4], services.VIP[6])
to_vip("bogus-vip", "drop", "bogus-vip", "l2dsr", { source = function(family) return services.OTHER_VIP[family] end,
  results = { later = LOST } })

-- Passed, once the line table is full: the last column ------------------------------------------------

add("lines-full", "pass", "lines-full", {
  packet = function(family, proto, more) return turned(from_backend(family, proto, more)) end,
  results = with(REPLIES_PASS, { error = { "pass", "not-vip" } }), -- nothing begins by an error
  prepare = function(sw)
    local lines, full, entry = sw:map "lines", {}, {}
    for i = 1, 8 do entry[i] = i << 24 end
    for i = 0, lines:info().max_entries - 1 do full[i] = { entry = entry } end
    assert(lines:batch_set(full))
  end,
})

-- What to expect -----------------------------------------------------------------------------------

--- Ways that end in reasons that no test run here can come to.
ways.UNREACHED = {
  ["nat-by-stack"] = "needs routes and neighbours of a network of its own: xdp_hop_spec",
  ["super-packet"] = "needs a port whose MTU is small: xdp_too_big_spec",
  ["no-headroom"] = "a test run leaves 256 bytes before the frame, an outer header takes 48: xdp_encap_spec",
  ["refused-by-tc"] = "needs a policy: xdp_policy_spec",
  ["policy-drop"] = "needs a policy: xdp_policy_spec, and of TC tc_fragment_spec",
  ["policy-reject"] = "is TC's: tc_reject_spec",
}

local BY_KIND = { lost = LOST, tiny = { "drop", "fragment-tiny" } }

function ways.expected(way, shape)
  if shape.kind == "frame" then return { "pass", shape.reason } end
  if way.missing == shape.family then return nil, way.why end
  local own = { way.verdict, way.reason }
  if way.early and not (way.spares_icmp6 and shape.icmp6 and shape.family == 6) then return own end
  if shape.kind == "none" then return { "pass", shape.reason } end
  if shape.hops == 1 and way.expires then return way.expires end
  if way.early then return { "tx", "forward" } end
  return way.results and way.results[shape.kind] or BY_KIND[shape.kind] or own
end

return ways
