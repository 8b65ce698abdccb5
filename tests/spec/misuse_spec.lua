-- SPDX-License-Identifier: GPL-2.0-only
--- What is wrong is said with its line, what was given and what is allowed: of everything that XDP is told.
--- (tests/net/mistakes_test.sh: and what runs goes on as it was.)
local desired = require "tidegate.desired"
local scripts = require "tests.helpers.scripts"

--- A service as text, with these options instead of the usual ones.
local function service(options)
  local all = { name = "'web'", vip = "'198.51.100.10:80'", backends = "{ '10.0.0.11', '10.0.0.12' }" }
  for key, value in pairs(options) do all[key] = value end
  local parts = {}
  for _, key in ipairs(desired.names(all)) do parts[#parts + 1] = key .. " = " .. all[key] end
  return "tg.service { " .. table.concat(parts, ", ") .. " }"
end

local function instance(options)
  return "tg.instance { " .. options .. " }"
end

local function tunnel(source)
  return instance("tunnel = { source = " .. source .. " }")
end

--- The same with a VIP for QUIC.
local function quic(options)
  return service { vip = "'198.51.100.10:443/udp'", quic = options }
end

local NOT_HERE = "a loopback address: packets for it don't leave the host"
local UNITS = ' (or "500ms", "30s", "5m", "1h", "2d") expected'

local function each(what, cases)
  describe(what .. " that is wrong", function()
    for _, case in ipairs(cases) do
      it("is named: " .. case[2], function()
        assert.same({ "web.lua:1: " .. case[2] }, scripts.mistakes(case[1]))
      end)
    end
  end)
end

each("how flows stay where they are", {
  { service { affinity = "'sticky'" }, 'tg.service.affinity: "sticky" given, none, flow, strict, source expected' },
  { service { affinity = "true" }, "tg.service.affinity: true given, none, flow, strict, source expected" },
  { service { affinity = "'flow'" },
    'service "web": affinity = "flow" is for UDP, and it has no UDP VIP; TCP flows stay where they are anyway' },
  { service { drain = "'soon'" }, 'tg.service.drain: "soon" given, seconds from 0 to 2592000' .. UNITS },
  { service { drain = "'60d'" }, 'tg.service.drain: "60d" given, seconds from 0 to 2592000' .. UNITS },
  { service { idle = "30" }, 'tg.service: unknown option "idle" (allowed: affinity, backends, backup, check, drain, '
    .. "fail, mode, name, quic, slots, vip)" },
  { instance "flows = 63", "tg.instance.flows: 63 given, an integer from 64 to 268435456 expected" },
  { instance "flows = '1M'", 'tg.instance.flows: "1M" given, an integer from 64 to 268435456 expected' },
  { instance "idle = 2", "tg.instance.idle: 2 given, seconds from 3 to 86400 expected" },
  { instance "idle = '2d'", 'tg.instance.idle: "2d" given, seconds from 3 to 86400' .. UNITS },
  { instance "client_flows = 0", "tg.instance.client_flows: 0 given, an integer from 1 to 4294967295 expected" },
  { instance "clientflows = 1",
    'tg.instance: unknown option "clientflows" (allowed: client_flows, failsafe, flow_events, flows, idle, log, '
    .. "memory, pick_up, rates, seed, timeouts, tracked, tunnel)" },
  { instance "seed = 'short'", "tg.instance.seed: one of 5 characters given, a secret of at least 8 characters "
    .. "expected, the same on all nodes of a cluster" },
})

each("a tunnel", {
  { service { mode = "'ipip6'" }, 'tg.service.mode: "ipip6" given, nat, l2dsr, ipip, gue expected' },
  { service { mode = "'ipip'", backends = "{ '10.0.0.11:8080' }" },
    'service "web": backend 10.0.0.11:8080: ipip can\'t change the port, so it is the VIP\'s (80); only nat can' },
  { service { mode = "'gue'", backends = "{}" }, 'service "web": VIP 198.51.100.10:80/tcp has no backend' },
  { service { mode = "'gue'", vip = "'198.51.100.10:8000-8099'", backends = "{ '2001:db8::11' }",
    check = "{ 'tcp' }" }, 'service "web": the check of backend 2001:db8::11 needs a port ({ "tcp", port = … }): '
    .. "VIP 198.51.100.10:8000-8099/tcp is a range" },
  { service { mode = "'ipip'", backends = "{ '198.51.100.10' }" }, 'service "web": backend 198.51.100.10 has the '
    .. "address of VIP 198.51.100.10:80/tcp: a backend is another host, with one of its own" },
  { instance "tunnel = '10.0.0.1'", 'tg.instance.tunnel: "10.0.0.1" given, a table of options expected' },
  { instance "tunnel = { port = 1 }",
    'tg.instance.tunnel: unknown option "port" (allowed: gue_port, source)' },
  { instance "tunnel = { gue_port = 65536 }",
    "tg.instance.tunnel.gue_port: 65536 given, an integer from 1 to 65535 expected" },
  { tunnel "5", 'tg.instance.tunnel.source: 5 given, a prefix ("172.16.0.0/16") or an address expected' },
  { tunnel "'10.0.0.0/'", 'tg.instance.tunnel.source: "10.0.0.0/" is no prefix' },
  { tunnel "'10.0.0.0/33'", 'tg.instance.tunnel.source: "10.0.0.0/33": a length from 8 to 32 allowed' },
  { tunnel "'::/0'", 'tg.instance.tunnel.source: "::/0": a length from 16 to 128 allowed' },
  { tunnel "'10.0.0.1/8'", 'tg.instance.tunnel.source: "10.0.0.1/8" has bits set beyond its length' },
  { tunnel "'127.0.0.1'", 'tg.instance.tunnel.source: "127.0.0.1": ' .. NOT_HERE },
  { tunnel "'ff02::/16'", 'tg.instance.tunnel.source: "ff02::/16": a multicast address' },
  { tunnel "{ '10.0.0.0/8', '172.16.0.0/16' }", "tg.instance.tunnel.source: one prefix of each family expected" },
  { tunnel "{}", "tg.instance.tunnel.source: a prefix expected, or one of each family" },
})

each("an address", {
  { service { backends = "{ '127.0.0.1' }" }, 'backend "127.0.0.1": ' .. NOT_HERE },
  { service { backends = "{ '0.0.0.0' }" }, 'backend "0.0.0.0": 0.0.0.0/8 is nobody\'s address' },
  { service { backends = "{ '224.0.0.1' }" }, 'backend "224.0.0.1": a multicast or broadcast address' },
  { service { backends = "{ '::1' }" }, 'backend "::1": ' .. NOT_HERE },
  { service { backends = "{ 'fe80::1' }" },
    'backend "fe80::1": a link-local address, which says nothing without a device: give a global one' },
  { service { vip = "'255.255.255.255:80'" }, 'VIP "255.255.255.255:80": a multicast or broadcast address' },
  { service { vip = "'[::]:80'" }, 'VIP "[::]:80": the unspecified address' },
  { service { vip = "'[::ffff:192.0.2.1]:80'" },
    'VIP "[::ffff:192.0.2.1]:80": an IPv4 address in IPv6\'s form: write 192.0.2.1' },
})

each("a range of ports", {
  { service { vip = "'198.51.100.10:0-80'" }, 'VIP "198.51.100.10:0-80": port 0: 1 to 65535 allowed' },
  { service { vip = "'198.51.100.10:80-70000'" }, 'VIP "198.51.100.10:80-70000": port 70000: 1 to 65535 allowed' },
  { service { vip = "'198.51.100.10:80-'" }, 'VIP "198.51.100.10:80-": port missing: 1 to 65535 allowed' },
  { service { vip = "'198.51.100.10:80-79'" }, 'VIP "198.51.100.10:80-79": ports 80-79: the first is above the last' },
  { service { backends = "{ '10.0.0.11:80-90' }" },
    'backend "10.0.0.11:80-90": several ports, and a backend has one, or the VIP\'s' },
  { service { backends = "{ '10.0.0.11:*' }" },
    'backend "10.0.0.11:*": several ports, and a backend has one, or the VIP\'s' },
})

each("QUIC's layout", {
  { quic "1", "tg.service.quic: 1 given, true or { offset = 1, length = 2 } expected" },
  { quic "{ lenght = 2 }", 'tg.service.quic: unknown option "lenght" (allowed: config, length, offset)' },
  { quic "{ config = 7 }", "tg.service.quic.config: 7 given, an integer from 0 to 6 expected" },
  { quic "{ offset = 20 }", "tg.service.quic.offset: 20 given, an integer from 0 to 19 expected" },
  { quic "{ offset = 0, config = 1 }", "tg.service.quic: offset 0 is the first byte, which config = 1 claims: "
    .. "offset 1 or more, or no config" },
  { service { backends = "{ { '10.0.0.11', quic_id = -1 } }" },
    "backend 10.0.0.11.quic_id: -1 given, an integer from 0 to 4294967295 expected" },
})

each("a list's change", { -- more in deny_spec.lua
  { "tg.allow:add '203.0.113'", 'tg.allow:add: "203.0.113": not an IP address or prefix' },
  { "tg.deny:add('203.0.113.7', { ttl = 'soon' })",
    'tg.deny:add.ttl: "soon" given, seconds from 0.001 to 315360000' .. UNITS },
  { "tg.deny:load '/nonexistent/drop.netset'", "/nonexistent/drop.netset: No such file or directory" },
  { "tg.deny:load '/'", "/: not a file" },
  { "tg.deny:replace('10.0.0.1\\n', {})", 'tg.deny:replace: the list: "10.0.0.1\\n" given, a name (letters, digits, '
    .. "_ . -, at most 63) expected" },
  { "tg.deny:top { n = 0 }", "tg.deny:top.n: 0 given, an integer from 1 to 256 expected" },
})

describe("a list's file", function()
  it("has each broken line named, and its own line in it", function()
    assert.same({
      'a.netset:3: "10.0.0.300": not an IP address or prefix',
      'a.netset:5: "1.2.3.4/40": after the slash: 0 to 32 allowed',
    }, scripts.mistakes {
      ["web.lua"] = "tg.deny:load 'a.netset'", ["a.netset"] = "# feed\n10.0.0.0/8\n10.0.0.300\r\n\n1.2.3.4/40\n",
    })
  end)
end)
