-- SPDX-License-Identifier: GPL-2.0-only
--- Everything that packets are shown to do by the hash maps, once more by the endpoint index.
local packets = require "tests.helpers.packets"
local switch = require "tests.helpers.switch"

if switch.refused() then
  pending("the datapath " .. switch.refused())
  return
end

describe("with the endpoint index,", function()
  setup(function() switch.indexed = true end)
  teardown(function() switch.indexed = false end)
  for _, name in ipairs { "xdp_l2dsr_spec", "xdp_nat_spec", "xdp_hop_spec", "xdp_ranges_spec" } do
    assert(loadfile("tests/spec/" .. name .. ".lua", "t", _ENV))()
  end

  it("its word counts: a VIP that only the hash map has is none, until the index is forgotten", function()
    local sw = switch.new()
    sw:backend(1, { addr = "192.0.2.11" })
    sw:vip(packets.V4.dst .. ":443/tcp", { ring = { 1 } })
    sw.hashes = nil
    sw:vip(packets.V4.dst .. ":444/tcp", { ring = { 1 } })
    local p = packets.tcp4 { tcp = { dport = 444 } }
    assert.equal("not-vip", sw:receive(p).reason)
    sw:map("clock"):set(0, { index_lines = 0 })
    assert.equal("forward", sw:receive(p).reason)
    sw:close()
  end)

  it("a line with more endpoints than it holds sends to the hash maps", function()
    local sw = switch.new()
    sw:backend(1, { addr = "192.0.2.11" })
    for port = 1, 60 do sw:vip(packets.V4.dst .. ":" .. port .. "/tcp", { ring = { 1 } }) end
    for port = 1, 60 do assert.equal("forward", sw:receive(packets.tcp4 { tcp = { dport = port } }).reason) end
    for port = 61, 99 do assert.equal("not-vip", sw:receive(packets.tcp4 { tcp = { dport = port } }).reason) end
    sw:close()
  end)
end)
