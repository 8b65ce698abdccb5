-- SPDX-License-Identifier: GPL-2.0-only
--- A port's policy for what XDP balances, which never reaches TC: packets through the real program. Which rule
--- decides is held against a plain search by tests/property/classify_test.c.
local default_policy = require "tests.helpers.default_policy"
local packet = require "tidegate.packet"
local packets = require "tests.helpers.packets"
local switch = require "tests.helpers.switch"

if switch.refused() then
  pending("the datapath " .. switch.refused())
  return
end

local FLAGS = default_policy.FLAGS
local V4, V6 = packets.V4, packets.V6
local BACKENDS = { [4] = "192.0.2.11", [6] = "2001:db8:1::11" }
local sw

local function endpoint(ip, port)
  return (ip:find ":" and "[%s]:%s" or "%s:%s"):format(ip, port)
end

setup(function()
  sw = switch.new()
  default_policy.port(sw)
  for index, family in ipairs { 4, 6 } do
    local vip = (family == 4 and V4 or V6).dst
    sw:backend(index, { addr = BACKENDS[family] })
    sw:backend(index + 2, { addr = BACKENDS[family] .. (family == 4 and "1" or "1"), port = 8080 })
    sw:vip(endpoint(vip, "443/tcp"), { ring = { index } })
    sw:vip(endpoint(vip, "53/udp"), { ring = { index } })
    sw:vip(endpoint(vip, "80/tcp"), { ring = { index + 2 }, mode = "nat" })
    sw:reverse(endpoint(BACKENDS[family] .. "1", "8080/tcp"), endpoint(vip, "80/tcp"), { backend = index + 2 })
  end
  sw:route("192.0.2.0/24", { hop = { ifindex = 1, dmac = "02:00:00:00:09:01", smac = "02:00:00:00:09:02" } })
  sw:route("2001:db8::/64", { hop = { ifindex = 1, dmac = "02:00:00:00:09:01", smac = "02:00:00:00:09:02" } })
end)
teardown(function() sw:close() end)

local function judged(p)
  local r = sw:receive(p)
  return { r.verdict, r.reason, r.unchanged }
end

local ACCEPTED, DROPPED = { "tx", "forward", false }, { "drop", "policy-drop", true }

for _, family in ipairs { 4, 6 } do
  local ip = family == 4 and V4 or V6
  local icmp = family == 4 and "icmp" or "icmp6"

  describe(("the policy of the port, IPv%d,"):format(family), function()
    local tcp = packet { ip = ip, tcp = { dport = 443 } }
    local udp = packet { ip = ip, vlan = 7, udp = { dport = 53 }, payload = "hello" }
    local nat = packet { ip = ip, tcp = { dport = 80 } }
    local other = packet { ip = ip, tcp = { dport = 8443 } }

    it("that accepts lets packets go to their backend, and counts them", function()
      default_policy.set(sw, "ingress", { default = "accept" })
      local before = default_policy.counter(sw)
      for _, p in ipairs { tcp, udp, nat } do assert.same(ACCEPTED, judged(p), tostring(p)) end
      local now = default_policy.counter(sw)
      assert.same({ 3, #tcp:bytes() + #udp:bytes() + #nat:bytes() },
        { now.packets - before.packets, now.bytes - before.bytes })
    end)

    it("that drops protects the VIP", function()
      default_policy.set(sw, "ingress", { default = "drop" })
      for _, p in ipairs { tcp, udp, nat } do assert.same(DROPPED, judged(p), tostring(p)) end
    end)

    it("that rejects leaves the answer to TC", function()
      default_policy.set(sw, "ingress", { default = "reject" })
      for _, p in ipairs { tcp, udp, nat } do
        assert.same({ "pass", "refused-by-tc", true }, judged(p), tostring(p))
      end
    end)

    it("that only audits drops nothing", function()
      default_policy.set(sw, "ingress", { default = "drop", audit = true })
      assert.same(ACCEPTED, judged(tcp))
    end)

    it("leaves to TC what is for no VIP", function()
      default_policy.set(sw, "ingress", { default = "drop" })
      local before = default_policy.counter(sw).packets
      assert.same({ "pass", "not-vip", true }, judged(other))
      assert.equal(before, default_policy.counter(sw).packets)
    end)

    it("of the other direction is not asked", function()
      default_policy.set(sw, "ingress", nil)
      default_policy.set(sw, "egress", { default = "drop" })
      assert.same(ACCEPTED, judged(tcp))
      default_policy.set(sw, "egress", nil)
    end)
  end)

  describe(("nat's answers of IPv%d"):format(family), function()
    local answer = packet {
      ip = { src = BACKENDS[family] .. "1", dst = ip.src }, tcp = { sport = 8080, dport = 40000, flags = "SA" },
    }

    it("belong to what was let in, where the policy is stateful", function()
      default_policy.set(sw, "ingress", { default = "drop", flags = FLAGS.stateful })
      assert.same(ACCEPTED, judged(answer))
    end)

    it("are judged by the rules where it is not", function()
      default_policy.set(sw, "ingress", { default = "drop" })
      assert.same(DROPPED, judged(answer))
    end)
  end)

  describe(("an ICMP error of IPv%d about a VIP's flow"):format(family), function()
    local quoted = packet { ip = { src = ip.dst, dst = ip.src }, tcp = { sport = 443, dport = 40000 } }
    local unreachable = { type = family == 4 and 3 or 1, code = 0, quoted = quoted }
    local about = packet { ip = ip, [icmp] = unreachable }

    it("belongs to the flow, where the policy is stateful", function()
      default_policy.set(sw, "ingress", { default = "drop", flags = FLAGS.stateful })
      assert.same(ACCEPTED, judged(about))
    end)

    it("is judged by the rules where it is not", function()
      default_policy.set(sw, "ingress", { default = "drop" })
      assert.same(DROPPED, judged(about))
    end)
  end)

  describe(("fragments of IPv%d to a VIP"):format(family), function()
    local id = 100
    local function fragments()
      id = id + 1
      local whole = packet {
        ip = packets.with(ip, family == 4 and { id = id } or {}), udp = { dport = 53 }, payload = ("x"):rep(2000),
      }
      return whole:fragments(1000, family == 6 and id or nil)
    end

    it("go together where the first one is accepted", function()
      default_policy.set(sw, "ingress", { default = "accept" })
      for _, fragment in ipairs(fragments()) do assert.same(ACCEPTED, judged(fragment)) end
    end)

    it("are dropped with the first one", function()
      default_policy.set(sw, "ingress", { default = "drop" })
      local list = fragments()
      assert.same(DROPPED, judged(list[1]))
      default_policy.set(sw, "ingress", { default = "accept" })
      for i = 2, #list do assert.same({ "drop", "fragment-lost", true }, judged(list[i])) end
    end)
  end)
end
