-- SPDX-License-Identifier: GPL-2.0-only
--- Services in modes ipip and gue, from what a file says to what the datapath's tables hold.
local balancer = require "tests.helpers.balancer"
local desired = require "tidegate.desired"
local plan = require "tidegate.plan"
local scripts = require "tests.helpers.scripts"

local function state_of(texts)
  local gen, state = scripts.resolve(texts)
  assert.same({}, scripts.problems(gen))
  return state
end

local function service(mode, vip, backends, more)
  local text = 'tg.service { name = "web", mode = "%s", vip = %s, backends = %s %s }\n'
  return text:format(mode, vip, backends, more or "")
end

local function names(spec)
  local list = {}
  for i, backend in ipairs(spec.backends) do list[i] = backend.name end
  return list
end

describe("a service in ipip or gue", function()
  it("needs a feature, the same in both modes", function()
    for _, mode in ipairs { "ipip", "gue" } do
      local features = state_of(service(mode, '"198.51.100.10:80"', '{ "10.0.0.11" }')).features
      assert.equal(1 | 8, features)
      assert.is_true(desired.tunnels(features))
    end
    assert.is_false(desired.tunnels(state_of(service("nat", '"198.51.100.10:80"', '{ "10.0.0.11" }')).features))
  end)

  it("may have backends of another family than its VIPs, out of a pool too", function()
    local mixed = '{ "10.0.0.11", "2001:db8:1::11" }'
    assert.same({ "10.0.0.11", "2001:db8:1::11" },
      names(state_of(service("gue", '"198.51.100.10:80"', mixed)).services.web))
    local pool = ('tg.pool { name = "app", backends = %s }\n'):format(mixed)
    assert.same({ "10.0.0.11", "2001:db8:1::11" },
      names(state_of(pool .. service("ipip", '"[2001:db8::10]:80"', '"app"')).services.web))
    assert.same({ "10.0.0.11" }, names(state_of(pool .. service("nat", '"198.51.100.10:80"', '"app"')).services.web))
  end)

  it("checks a backend of another family at the VIP's port", function()
    local text = service("ipip", '"198.51.100.10:81"', '{ "2001:db8:1::11" }', ', check = { "tcp" }')
    local web = state_of(text).services.web
    assert.same({ 81, "2001:db8:1::11" }, { web.backends[1].check.port, web.backends[1].check.addr })
  end)

  it("can't change the port, whatever the families", function()
    for _, mode in ipairs { "ipip", "gue" } do
      for _, vip in ipairs { "198.51.100.10:80", "[2001:db8::10]:80" } do
        assert.same({ ('web.lua:1: service "web": backend 10.0.0.11:8080: %s can\'t change the port, '
          .. "so it is the VIP's (80); only nat can"):format(mode) },
          scripts.mistakes(service(mode, ('"%s"'):format(vip), '{ "10.0.0.11:8080" }')))
      end
    end
  end)

  it("needs a backend at all", function()
    assert.same({ 'web.lua:1: service "web": VIP 198.51.100.10:80/tcp has no backend' },
      scripts.mistakes(service("gue", '"198.51.100.10:80"', "{}")))
  end)
end)

describe("tg.instance's tunnel", function()
  local function tunnel_of(text) return state_of(("tg.instance { tunnel = %s }"):format(text)).tunnel end

  it("has Katran's sources and GUE's port where nothing is said", function()
    local usual = { gue_port = 6080,
      source4 = { addr = "172.16.0.0", length = 16 }, source6 = { addr = "100::", length = 64 } }
    assert.same(usual, state_of("").tunnel)
    assert.same(usual, tunnel_of "{}")
  end)

  it("takes a prefix of either family, or of both, or an address", function()
    local tunnel = tunnel_of '{ source = "10.20.0.0/15", gue_port = 9886 }'
    assert.same({ "10.20.0.0", 15, "100::", 64, 9886 }, { tunnel.source4.addr, tunnel.source4.length,
      tunnel.source6.addr, tunnel.source6.length, tunnel.gue_port })
    tunnel = tunnel_of '{ source = { "192.0.2.1", "2001:DB8::/48" } }'
    assert.same({ "192.0.2.1", 32, "2001:db8::", 48 }, { tunnel.source4.addr, tunnel.source4.length,
      tunnel.source6.addr, tunnel.source6.length })
  end)

  it("names what is wrong", function()
    for text, why in pairs {
      ['{ source = "10.0.0.1/8" }'] = 'source: "10.0.0.1/8" has bits set beyond its length',
      ['{ source = "10.0.0.0/33" }'] = 'source: "10.0.0.0/33": a length from 8 to 32 allowed',
      ['{ source = "2001:db8::1/127" }'] = 'source: "2001:db8::1/127" has bits set beyond its length',
      ['{ source = "ten" }'] = 'source: "ten" is no prefix',
      ['{ source = 10 }'] = 'source: 10 given, a prefix ("172.16.0.0/16") or an address expected',
      ['{ source = { "10.0.0.0/8", "10.1.0.0/16" } }'] = "source: one prefix of each family expected",
      ['{ gue_port = 0 }'] = "gue_port: 0 given, an integer from 1 to 65535 expected",
      ['{ ttl = 3 }'] = ': unknown option "ttl" (allowed: gue_port, source)',
    } do
      local named = "web.lua:1: tg.instance.tunnel" .. (why:find "^:" and "" or ".") .. why
      assert.same({ named }, scripts.mistakes(("tg.instance { tunnel = %s }"):format(text)))
    end
  end)

  it("is in the plan when it changes under a service that it matters to", function()
    local web = service("gue", '"198.51.100.10:80"', '{ "10.0.0.11" }')
    local other = 'tg.instance { tunnel = { source = "10.9.0.0/16" } }\n'
    assert.equal("~ instance tunnel: source 172.16.0.0/16 100::/64, gue port 6080 -> "
      .. "source 10.9.0.0/16 100::/64, gue port 6080\n", plan.new(state_of(web), state_of(other .. web)):text())
    assert.is_true(plan.new(state_of "", state_of(other)):empty())
  end)
end)

if balancer.refused() then
  pending("the datapath " .. balancer.refused())
  return
end

describe("in the datapath, a service in ipip or gue", function()
  local bal

  setup(function() bal = balancer.new "tunnel" end)
  teardown(function() bal:close() end)

  --- Which backends' addresses the service's rings of either family name.
  local function in_rings(name)
    local found = {}
    for _, backend in ipairs(bal:service(name).backends) do found[#found + 1] = { backend.addr, backend.slots > 0 } end
    return found
  end

  it("has backends of both families on each of its rings", function()
    local backends = { "10.0.0.11", "2001:db8:1::11" }
    local function declare(name, mode, vip)
      return bal.declare(name, { mode = mode, slots = 101, vips = { vip }, backends = backends })
    end
    assert(bal:apply { declare("one", "ipip", "198.51.100.10:80/tcp"), declare("two", "gue", "[2001:db8::10]:80/tcp"),
      declare("plain", "l2dsr", "198.51.100.11:80/tcp") })
    assert.same({ { "10.0.0.11", true }, { "2001:db8:1::11", true } }, in_rings "one")
    assert.same({ { "10.0.0.11", true }, { "2001:db8:1::11", true } }, in_rings "two")
    assert.same({ { "10.0.0.11", true }, { "2001:db8:1::11", false } }, in_rings "plain")
    assert.same({ "ipip", "gue" }, { bal:service("one").mode, bal:service("two").mode })
  end)

  it("has the outer header that was set", function()
    local controller = require "tidegate.core.controller"
    controller.tunnel("10.20.0.0", 15, "2001:db8::", 48, 9886)
    assert.same({ source4 = 0x0a140000, vary4 = 0x1ffff, source6 = { 0x20010db8, 0, 0, 0 }, vary6 = 0xffffffff,
      gue_port = 9886, pad = 0 }, bal:map("tunnels"):get(0))
    controller.tunnel("192.0.2.1", 32, "2001:db8::1", 128, 1)
    local tunnel = bal:map("tunnels"):get(0)
    assert.same({ 0xc0000201, 0, 0 }, { tunnel.source4, tunnel.vary4, tunnel.vary6 })
    assert.error_matches(function() controller.tunnel("10.0.0.0", 33, "::", 0, 1) end, "0 to 32 expected")
  end)
end)
