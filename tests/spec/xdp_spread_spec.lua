-- SPDX-License-Identifier: GPL-2.0-only
--- How flows spread over backends: 100,000 flows through the real XDP program, rings by tg.maglev.
local packet = require "tidegate.packet"
local packets = require "tests.helpers.packets"
local switch = require "tests.helpers.switch"

if switch.refused() then
  pending("the datapath " .. switch.refused())
  return
end

local FLOWS, SLOTS = 100000, 65537
local VIP4, VIP6 = packets.V4.dst, packets.V6.dst
local sw

setup(function()
  sw = switch.new()
  for index = 1, 10 do sw:backend(index, { addr = "192.0.2." .. index }) end
end)
teardown(function() sw:close() end)

--- Flows as the Internet sends them: many clients, few ports of each.
local function many_clients(i) return 0x0a000000 + i * 7, 1024 + i % 50000 end
--- Behind one address: clients of 4 addresses, many ports.
local function few_clients(i) return 0xc6336403 + i % 4, 1024 + i // 4 end
--- Networks behind one port each, addresses a power of two apart.
local function far_apart(i) return 0x01000000 + (i << 12), 443 end

--- Sends a packet of each flow to `port`: a list of backends by flow, and how many flows each has.
local function spread(flow, template, at, port)
  local frame = template:copy({ tcp = { dport = port } }):bytes()
  local before, after = frame:sub(1, at.addr), frame:sub(at.addr + 5, at.port)
  local rest = frame:sub(at.port + 3)
  local chosen, share = {}, {}
  for i = 1, FLOWS do
    local addr, sport = flow(i)
    local bytes = before .. string.pack(">I4", addr) .. after .. string.pack(">I2", sport) .. rest
    local result = sw.program:run(bytes)
    local backend = result.data:byte(6)
    chosen[i] = backend
    share[backend] = (share[backend] or 0) + 1
  end
  return chosen, share
end

local function spread4(flow, port) return spread(flow, packets.tcp4(), { addr = 26, port = 34 }, port) end
local function spread6(flow, port) return spread(flow, packets.tcp6(), { addr = 34, port = 54 }, port) end

local function assert_even(share)
  for index = 1, 10 do
    local percent = 100 * (share[index] or 0) / FLOWS
    assert.is_true(percent >= 9 and percent <= 11, ("backend %d has %.2f %%"):format(index, percent))
  end
end

local function ring_of(backends)
  return tg.maglev.build(backends, SLOTS)
end

local function backends_but(left_out)
  local list = {}
  for id = 1, 10 do if id ~= left_out then list[#list + 1] = { id = id } end end
  return list
end

describe("the flow hash", function()
  it("is that of flow_hash.h, so that the controller names the same backend", function()
    local key = { -- of seed {0, 0}, the default of maps.h
      0xdb948c925269d1f6, 0x78b151da6b4beb12, 0xa40e6007d0c37d96, 0xb3382476d55518ad,
    }
    local function mix(x)
      x = x ~ x >> 32
      x = x * 0xd6e8feb86659fd93
      return x ~ x >> 32
    end
    local slots = 199
    local ring = {}
    for i = 1, slots do ring[i] = i end
    for index = 11, slots do sw:backend(index, { addr = "192.0.2.1" }) end
    sw:vip(VIP4 .. ":7/tcp", { ring = ring })
    local dest = string.unpack("<I4", "\xc6\x33\x64\x0a") -- as loaded from the packet
    for i = 1, 500 do
      local sport = 2000 + i
      local source = string.unpack("<I4", string.pack(">I4", 0xc0000200 + i % 250))
      local ports = string.unpack("<I4", string.pack(">I2I2", sport, 7))
      local hash = mix((key[1] + source) * (key[2] + dest) + (key[3] + ports) * (key[4] + 6))
      local slot = (hash >> 32) * slots >> 32
      local p = packet { ip = { src = "192.0.2." .. i % 250, dst = VIP4 }, tcp = { sport = sport, dport = 7 } }
      assert.equal(slot + 1, sw.program:run(p:bytes()).data:byte(6))
    end
  end)
end)

if not (tg.maglev and tg.maglev.build) then
  pending("shares of 100,000 flows need tg.maglev")
  return
end

describe("100,000 flows", function()
  it("give each of 10 equal backends between 9 % and 11 %, wherever they come from", function()
    sw:vip(VIP4 .. ":80/tcp", { ring = ring_of(backends_but()) })
    sw:vip("[" .. VIP6 .. "]:80/tcp", { ring = ring_of(backends_but()) })
    for _, flow in ipairs { many_clients, few_clients, far_apart } do
      assert_even(select(2, spread4(flow, 80)))
      assert_even(select(2, spread6(flow, 80)))
    end
  end)

  it("stay where they are, but for 1 %, when a backend that was not theirs goes", function()
    sw:vip(VIP4 .. ":81/tcp", { ring = ring_of(backends_but()) })
    local before = spread4(many_clients, 81)
    sw:vip(VIP4 .. ":81/tcp", { ring = ring_of(backends_but(4)) })
    local after = spread4(many_clients, 81)
    local moved, others = 0, 0
    for i = 1, FLOWS do
      assert.not_equal(4, after[i])
      if before[i] ~= 4 then
        others = others + 1
        if before[i] ~= after[i] then moved = moved + 1 end
      end
    end
    assert.is_true(moved <= others / 100, ("%d of %d moved"):format(moved, others))
  end)

  it("give a backend of weight 2 twice the share, within 5 %", function()
    local backends = backends_but()
    backends[3].weight = 2
    sw:vip(VIP4 .. ":82/tcp", { ring = ring_of(backends) })
    local _, share = spread4(many_clients, 82)
    local ratio = share[3] / ((FLOWS - share[3]) / 9)
    assert.is_true(ratio >= 1.9 and ratio <= 2.1, ("%.3f times"):format(ratio))
  end)
end)
