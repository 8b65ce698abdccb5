-- SPDX-License-Identifier: GPL-2.0-only
local packet = require "tidegate.packet"
local checksum = require "tests.helpers.checksum"
local packets = require "tests.helpers.packets"

local V4, V6, with, tcp4, tcp6 = packets.V4, packets.V6, packets.with, packets.tcp4, packets.tcp6

describe("tshark", function()
  it("calls the checksums of 600 random packets right", function()
    math.randomseed(2)
    local list = {}
    for i = 1, 600 do list[i] = packets.random() end
    assert.same({}, checksum.bad(list))
  end)

  it("calls the checksums of fragmented packets right", function()
    math.randomseed(3)
    local list = {}
    for i = 1, 60 do
      local p = packets.random()
      local body = packets.bytes(math.random(1500, 6000))
      local ip = { id = i, df = false }
      if p.ip.src:find ":" then ip = { ext = packets.one_of(false, { { type = "hop" } }, { { type = "dst" } }) } end
      p = p:copy { ip = ip, icmp = false, icmp6 = false, tcp = false, udp = { dport = packets.port() }, payload = body }
      if i % 2 == 1 then p = p:copy { udp = false, tcp = { dport = packets.port(), flags = "A" } } end
      for _, f in ipairs(p:fragments(1280, i)) do list[#list + 1] = f end
    end
    assert.same({}, checksum.bad(list))
  end)

  it("agrees with parse about wrong ones", function()
    math.randomseed(4)
    local list, wrong = {}, {}
    for i = 1, 300 do
      local bytes = packets.random():bytes()
      local at = math.random(#bytes - 20, #bytes)
      bytes = bytes:sub(1, at - 1) .. string.char(bytes:byte(at) ~ 1 << math.random(0, 7)) .. bytes:sub(at + 1)
      list[i] = bytes
      local p = packet.parse(bytes)
      local l4 = p.tcp or p.udp or p.icmp or p.icmp6
      if p.ip.checksum_ok == false or not (l4 and l4.checksum_ok) then wrong[#wrong + 1] = i end
    end
    local found = {}
    for _, bad in ipairs(checksum.bad(list)) do found[#found + 1] = bad.index end
    assert.is_true(#wrong > 250)
    assert.same(wrong, found)
  end)

  it("finds a wrong checksum of every layer, and what it can't judge", function()
    local quoted = tcp4 { ip = with(V4, { checksum = 1 }) }
    local wrong_tcp = tcp4 { tcp = { dport = 1, checksum = 1 } }
    local list = {
      tcp4(),
      tcp4 { ip = with(V4, { checksum = 1 }) },
      tcp6 { tcp = { dport = 1, checksum = 1 } },
      packet { ip = V4, udp = { dport = 64000, checksum = 1 } },
      packet { ip = V4, udp = { dport = 64000, checksum = 0 } },
      packet { ip = V6, udp = { dport = 64000, checksum = 0 } },
      packet { ip = V4, icmp = { type = 8, checksum = 1 } },
      packet { ip = V6, icmp6 = { type = 128, checksum = 1 } },
      packet { ip = V4, icmp = { type = 3, quoted = quoted } },
      packet { ip = V4, icmp = { type = 3, quote_length = 100, quoted = wrong_tcp } },
      packet { ip = with(V4, { proto = "ipip" }), payload = packets.ip_bytes(wrong_tcp) },
      tcp4():bytes():sub(1, 40),
      packet { ip = with(V4, { offset = 8, proto = 6, id = 99 }), payload = 16 },
      packet "eth 02:00:00:00:00:01 > 02:00:00:00:00:02 0x0806 len 28",
    }
    local found = {}
    for _, bad in ipairs(checksum.bad(list)) do found[#found + 1] = bad.index .. " " .. bad.layer end
    assert.same({
      "2 ip", "3 tcp", "4 udp", "6 udp", "7 icmp", "8 icmpv6", "9 ip", "10 tcp", "11 tcp", "12 none", "13 none",
      "14 none",
    }, found)
  end)
end)
