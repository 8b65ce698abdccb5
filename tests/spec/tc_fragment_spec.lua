-- SPDX-License-Identifier: GPL-2.0-only
--- Fragments through the real TC programs: whether later ones follow the first one of their packet.
local packet = require "tidegate.packet"
local packets = require "tests.helpers.packets"
local tc_switch = require "tests.helpers.tc_switch"

if tc_switch.refused() then
  pending("the datapath " .. tc_switch.refused())
  return
end

local FLAGS = tc_switch.FLAGS
local tc

setup(function() tc = tc_switch.new() end)
teardown(function() tc:close() end)

local next_id = 1

--- The fragments of a UDP packet.
local function fragments(family)
  next_id = next_id + 1
  local ip = packets.with(family == 4 and packets.V4 or packets.V6, family == 4 and { id = next_id } or {})
  local given = { ip = ip, udp = { dport = 53 }, payload = ("x"):rep(2500) }
  return packet(given):fragments(1000, family == 6 and next_id or nil)
end

local function verdicts(direction, list)
  local said = {}
  for i, fragment in ipairs(list) do said[i] = tc:pass(direction, fragment).verdict end
  return said
end

--- The first fragment meets one default, the others another.
local function pass(direction, list, first, others)
  tc:policy(direction, first)
  local said = verdicts(direction, { list[1] })
  tc:policy(direction, others)
  for i = 2, #list do said[i] = tc:pass(direction, list[i]).verdict end
  return said
end

for family = 4, 6, 2 do
  for _, direction in ipairs { "ingress", "egress" } do
    describe(("later fragments of IPv%d, %s,"):format(family, direction), function()
      local accept, drop = { default = "accept", flags = FLAGS.follow }, { default = "drop", flags = FLAGS.follow }

      it("follow a first one that was accepted", function()
        local list = fragments(family)
        assert.same({ "pass", "pass", "pass" }, pass(direction, list, accept, drop))
      end)

      it("of another packet don't", function()
        local list, other = fragments(family), fragments(family)
        pass(direction, list, accept, drop)
        assert.same({ "drop", "drop" }, verdicts(direction, { other[2], other[3] }))
      end)

      it("are judged by the rules where the first one was dropped, or not seen", function()
        local list = fragments(family)
        assert.same({ "drop", "drop", "drop" }, pass(direction, list, drop, drop))
        assert.same({ "drop", "pass", "pass" }, pass(direction, list, drop, accept))
      end)

      it("are judged by the rules where the policy says so", function()
        local list = fragments(family)
        assert.same({ "pass", "drop", "drop" }, pass(direction, list, { default = "accept" }, { default = "drop" }))
      end)

      it("are dropped where the policy says so", function()
        local none = { default = "accept", flags = FLAGS.no_fragments }
        assert.same({ "pass", "drop", "drop" }, pass(direction, fragments(family), none, none))
      end)
    end)
  end
end

describe("what a policy lets the other direction follow", function()
  it("is not followed in this one", function()
    local list = fragments(4)
    local drop = { default = "drop", flags = FLAGS.follow }
    pass("ingress", list, { default = "accept", flags = FLAGS.follow }, drop)
    tc:policy("egress", drop)
    assert.same({ "drop" }, verdicts("egress", { list[2] }))
  end)
end)

describe("neighbour discovery", function()
  local arp = packet { eth = { type = 0x0806 }, payload = ("\0"):rep(46) }
  local from = packets.with(packets.V6, { hop_limit = 255 })
  local solicit = packet { ip = from, icmp6 = { type = 135, body = ("\0"):rep(20) } }

  it("passes a policy that drops everything", function()
    tc:policy("ingress", { default = "drop" })
    assert.same({ "pass", "pass" }, verdicts("ingress", { arp, solicit }))
  end)

  it("is dropped by it with nd = false", function()
    tc:policy("ingress", { default = "drop", flags = FLAGS.judge_nd })
    assert.same({ "drop", "drop" }, verdicts("ingress", { arp, solicit }))
  end)

  it("that came through a router is none", function()
    tc:policy("ingress", { default = "drop" })
    assert.same({ "drop" }, verdicts("ingress", { solicit:copy { ip = { hop_limit = 254 } } }))
  end)
end)

describe("what can't be told what it is", function()
  local cut = packets.tcp4():bytes():sub(1, 40)
  local short = packets.tcp6():bytes():sub(1, 14 + 40 + 9)
  local strange = packets.tcp4():bytes():gsub("^(" .. ("."):rep(14) .. ")E", "%1\x65")

  it("gets the default", function()
    tc:policy("ingress", { default = "drop" })
    assert.same({ "drop", "drop", "drop" }, verdicts("ingress", { cut, short, strange }))
    tc:policy("ingress", { default = "accept" })
    assert.same({ "pass", "pass", "pass" }, verdicts("ingress", { cut, short, strange }))
  end)

  it("if it is no IP, passes", function()
    tc:policy("ingress", { default = "drop", flags = FLAGS.judge_nd })
    assert.same({ "pass" }, verdicts("ingress", { packet { eth = { type = 0x88cc }, payload = ("\0"):rep(46) } }))
  end)
end)
