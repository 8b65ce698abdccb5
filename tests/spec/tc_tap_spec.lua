-- SPDX-License-Identifier: GPL-2.0-only
--- Packets through the real TC programs with taps at work, in a network namespace with a port and a device that
--- copies leave by; tables by hand, no controller. Whole mirrors are in tests/net/mirror_test.sh.
local in_netns = require "tests.helpers.in_netns"
local object = require "tests.helpers.object"
local packets = require "tests.helpers.packets"
local tg = require "tidegate"

if object.refused() then
  pending("the datapath " .. object.refused())
  return
end

local NETNS = "tg-tap-" .. object.run "echo $PPID"
local PORT, OUT, DOWN, NOWHERE = 10, 11, 12, 99   -- interface indexes
local INGRESS, EGRESS = 1, 2                      -- places in `taps` of a port
local MIRROR = 1                                  -- TG_TAP_MIRROR
local COUNTS = { "copied", "skipped", "limited", "looped", "device-down", "device-gone", "device-full", "ring-full",
  "failed", "missed" }
local tc, opened

local function ip(command) return object.run(("ip -n %s %s"):format(NETNS, command)) end

local function map(name)
  opened[name] = opened[name] or assert(tg.map.open(tc.maps .. "/" .. name))
  return opened[name]
end

setup(function()
  object.run("ip netns add " .. NETNS)
  for index, name in pairs { [PORT] = "port0", [OUT] = "out0", [DOWN] = "down0" } do
    ip(("link add %s index %d type veth peer name %s_peer"):format(name, index, name))
    object.run(("nsenter --net=/run/netns/%s sysctl -qw net.ipv6.conf.%s.disable_ipv6=1 " ..
      "net.ipv6.conf.%s_peer.disable_ipv6=1"):format(NETNS, name, name))
    if index ~= DOWN then ip(("link set %s up"):format(name)) end
    ip(("link set %s_peer up"):format(name))
  end
  tc, opened = object.load "bpf/tc", {}
end)

teardown(function()
  object.run("ip netns del " .. NETNS)
  for _, m in pairs(opened) do m:close() end
  tc:close()
end)

--- Puts taps to work: { [number] = { direction = "both", ifindex = OUT, … } }, all others are off.
local function tap(list)
  local masks, all = { 0, 0 }, 0
  for number = 0, 3 do
    local given = list[number] or {}
    assert(map("taps"):set(number, {
      kind = list[number] and MIRROR or 0, ifindex = given.ifindex or OUT, sample = given.sample or 0,
      rate = given.rate or 0, packets = given.packets or 0, ["until"] = given["until"] or 0, down = given.down or 0,
    }))
    for i = 1, #COUNTS do assert(map("tap_counters"):set(number * #COUNTS + i - 1, { packets = 0, bytes = 0 })) end
    if list[number] then
      all = all | 1 << number
      if given.direction ~= "egress" then masks[INGRESS] = masks[INGRESS] | 1 << number end
      if given.direction ~= "ingress" then masks[EGRESS] = masks[EGRESS] | 1 << number end
    end
  end
  assert(map("ports"):set(PORT, { slot = 0, flags = 0, taps = masks }))
  assert(map("clock"):set(0, { taps = all }))
end

--- Runs the program of a direction on a packet, so often: its last verdict, and how many packets left by OUT.
local function run(direction, packet, times)
  return in_netns(NETNS, [[
    local tg = require "tidegate"
    local path, hex, times, port = ...
    local function sent()
      local file <close> = io.popen "ip -j -s link show dev out0_peer"
      local json = file:read "a"
      return tonumber(json:match '"rx":{"bytes":%d+,"packets":(%d+)'), tonumber(json:match '"rx":{"bytes":(%d+)')
    end
    local bytes = hex:gsub("%x%x", function(digits) return string.char(tonumber(digits, 16)) end)
    local program, before, bytes_before = assert(tg.prog.open(path)), sent()
    local result
    for _ = 1, tonumber(times) do result = assert(program:run(bytes, { ctx = { ifindex = tonumber(port) } })) end
    local after, bytes_after = sent()
    return result.retval, after - before, bytes_after - bytes_before
  ]], ("%s/tidegate_%s"):format(tc.progs, direction), packet:hex(), times or 1, PORT)
end

--- What tap 0, or another, counted: only what is not zero.
local function counts(number)
  local result = {}
  for i, name in ipairs(COUNTS) do
    local packets_of = 0
    for _, cpu in ipairs(map("tap_counters"):get((number or 0) * #COUNTS + i - 1)) do
      packets_of = packets_of + cpu.packets
    end
    if packets_of > 0 then result[name] = packets_of end
  end
  return result
end

local GO_ON = "next"

describe("a mirror at work on a port", function()
  it("sends a copy of what comes in, and of what leaves, and the packet goes on", function()
    for _, direction in ipairs { "ingress", "egress" } do
      for _, p in ipairs { packets.tcp4 {}, packets.tcp6 {}, packets.tcp4 { vlan = 7 } } do
        tap { [0] = {} }
        assert.same({ GO_ON, 1, #p:hex() // 2 }, { run(direction, p) })
        assert.same({ copied = 1 }, counts())
      end
    end
  end)

  it("copies what is no IP", function()
    tap { [0] = {} }
    local arp = tg.packet { eth = { src = "02:00:00:00:00:01", dst = "ff:ff:ff:ff:ff:ff", type = 0x0806 },
      payload = ("\0"):rep(46) }
    assert.same({ GO_ON, 1, 60 }, { run("ingress", arp) })
  end)

  it("of one direction leaves the other alone", function()
    tap { [0] = { direction = "egress" } }
    assert.same({ GO_ON, 0, 0 }, { run("ingress", packets.tcp4 {}) })
    assert.same({}, counts())
    assert.equal(1, (select(2, run("egress", packets.tcp4 {}))))
  end)

  it("ends after so many packets, and at its time, whoever else is there", function()
    tap { [0] = { packets = 3 }, [2] = { ["until"] = 1 }, [3] = {} }
    assert.equal(3 + 5, (select(2, run("ingress", packets.tcp4 {}, 5))))
    assert.same({ { copied = 3 }, {}, { copied = 5 } }, { counts(0), counts(2), counts(3) })
  end)

  it("takes one packet in so many", function()
    tap { [0] = { sample = 4 } }
    run("ingress", packets.tcp4 {}, 2000)
    local c = counts()
    assert.equal(2000, c.copied + c.skipped)
    assert.is_true(c.copied > 400 and c.copied < 600, "copied " .. c.copied)
  end)

  it("copies no more than so many a second", function()
    tap { [0] = { rate = 10 } }
    run("ingress", packets.tcp4 {}, 1000) -- takes far less than ten seconds
    local c = counts()
    assert.equal(1000, c.copied + c.limited)
    assert.is_true(c.copied >= 1 and c.copied < 100, "copied " .. c.copied)
  end)

  it("whose device is down, or gone, says so, and the packet goes on", function()
    tap { [0] = { ifindex = DOWN, down = 1 }, [1] = { ifindex = NOWHERE } }
    assert.equal(GO_ON, (run("ingress", packets.tcp4 {}, 3)))
    assert.same({ { ["device-down"] = 3 }, { ["device-gone"] = 3 } }, { counts(0), counts(1) })
  end)
end)
