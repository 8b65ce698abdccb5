-- SPDX-License-Identifier: GPL-2.0-only
--- port:mirror: what is declared, what is refused and where, what the plan says. With traffic it is
--- tests/net/mirror_test.sh's.
local plan = require "tidegate.plan"
local scripts = require "tests.helpers.scripts"
local tg = require "tidegate"

local EMPTY = { services = {}, ports = {} }

--- A script that declares a mirror of eth0 with these options.
local function mirror(options)
  return ([[
    local wan = tg.port "eth0"
    wan:mirror { name = "http", to = "tap0", %s }
  ]]):format(options or "")
end

local function state_of(text)
  local gen, state = scripts.resolve(text)
  assert.same({}, scripts.problems(gen))
  return state, gen
end

local function lines(from, to)
  local result = {}
  local made = plan.new(from and state_of(from) or EMPTY, (state_of(to)))
  for line in made:text():gmatch "[^\n]+" do result[#result + 1] = line end
  return result
end

describe("a mirror", function()
  it("is declared with a name and a device, and copies everything both ways", function()
    local http = state_of(mirror()).mirrors.http
    assert.same({ "eth0", "both", { device = "tap0" } }, { http.port, http.direction, http.to })
    assert.is_nil(http.match)
    assert.equal("eth0 both to tap0, everything", http.text)
  end)

  it("matches as a rule does, or as any of several", function()
    assert.equal("eth0 ingress to tap0, tcp port 80, 1 in 10, at most 5000 a second", state_of(
      mirror 'direction = "ingress", match = { proto = "tcp", port = 80 }, sample = 10, rate = 5000').mirrors.http.text)
    assert.equal("eth0 both to tap0, udp dport 53 or icmp", state_of(
      mirror 'match = { { proto = "udp", dport = 53 }, { proto = "icmp" } }').mirrors.http.text)
  end)

  it("may send to a collector", function()
    local text = [[tg.port("eth0"):mirror { name = "far", to = { vxlan = "2001:DB8::9", vni = 42 } }]]
    assert.equal("eth0 both to vxlan 2001:db8::9 vni 42 port 4789, everything", state_of(text).mirrors.far.text)
  end)

  it("needs the TC programs on its port; for what services forward out of it, on all", function()
    local text = [[tg.port "eth1" tg.service { name = "web", vip = "198.51.100.10:80", backends = { "10.0.0.11" } } ]]
    local function users(state) return { (next(state.ports.eth0.uses)), (next(state.ports.eth1.uses)) } end
    assert.same({ "mirror http" }, users(state_of([[tg.port "eth1" ]] .. mirror())))
    assert.same({ "mirror http" }, users(state_of(text .. mirror 'direction = "ingress"')))
    assert.same({ "mirror http", "mirror http" }, users(state_of(text .. mirror 'direction = "egress"')))
  end)

  it("is in the plan: new, changed, gone", function()
    assert.same({ "+ port eth0: attach, xdp auto, tc", "+ mirror http: eth0 both to tap0, everything" },
      lines(nil, mirror()))
    assert.same({ "~ mirror http: eth0 both to tap0, everything -> eth0 both to tap0, everything, 1 in 10" },
      lines(mirror(), mirror "sample = 10"))
    assert.same({ "~ port eth0: detach, tc", "- mirror http: eth0 both to tap0, everything" },
      lines(mirror(), [[tg.port "eth0"]]))
    assert.same({ "nothing would change" }, lines(mirror(), "\n" .. mirror()))
  end)

  it("is started after the commit, for some time or packets", function()
    local _, gen = state_of [[
      local m = tg.port("eth0"):mirror { name = "http", to = "tap0" }
      m:start("5m")
      tg.mirrors.http:start { seconds = 30, packets = 1000 }
      m:stop()
    ]]
    local acts = {}
    for i, act in ipairs(gen:to_do()) do acts[i] = act.text end
    assert.same({ 'mirror "http": start for 300 s', 'mirror "http": start for 30 s or 1000 packets',
      'mirror "http": stop' }, acts)
  end)
end)

describe("a mirror that can't be", function()
  local function mistakes(options) return scripts.mistakes(mirror(options)) end

  it("is refused at its line, by what is wrong", function()
    for options, message in pairs {
      ['to = "eth0"'] = 'mirror "http".to: "eth0" is the port itself: its copies would leave by where they are made',
      ['to = 7'] = "mirror \"http\".to: 7 given, a device's name or { vxlan = ADDRESS, vni = N } expected",
      ['to = { vxlan = "collector", vni = 1 }'] =
        'mirror "http".to.vxlan: "collector" given, the collector\'s IP address expected',
      ['to = { vxlan = "192.0.2.9" }'] = 'mirror "http".to: option "vni" is missing',
      ['to = { vxlan = "192.0.2.9", vni = 1 << 24 }'] =
        'mirror "http".to.vni: 16777216 given, an integer from 1 to 16777215 expected',
      ['direction = "in"'] = 'mirror "http".direction: "in" given, ingress, egress, both expected',
      ["sample = 0"] = 'mirror "http".sample: 0 given, an integer from 1 to 1000000 expected',
      ["rate = 0.5"] = 'mirror "http".rate: 0.5 given, an integer from 1 to 1000000000 expected',
      ['match = { { proto = "icmp" }, { src = "@staff" } }'] =
        'mirror "http": there is no set "staff" (tg.set declares one)',
    } do
      assert.same({ "web.lua:2: " .. message }, mistakes(options))
    end
  end)

  it("has a match that no packet or no rule could have", function()
    assert.matches('web.lua:2: mirror "http".match: unknown option "ports" %(allowed: dport, ', mistakes(
      "match = { ports = 80 }")[1])
    assert.matches('web.lua:2: mirror "http".match%[2%]: unknown option "ports"', mistakes(
      'match = { { proto = "tcp" }, { ports = 80 } }')[1])
    assert.matches('web.lua:2: mirror "http".match.dport: "99%-1"', mistakes(
      'match = { proto = "tcp", dport = "99-1" }')[1])
    assert.matches("a table of fields or a list of such expected, not both", mistakes(
      'match = { { proto = "tcp" }, proto = "udp" }')[1])
  end)

  it("is of no port, of one without TC, or has another's name", function()
    assert.same({ 'web.lua:1: mirror "http": there is no port "eth7" (tg.port declares one)' },
      scripts.mistakes [[tg.ports.eth7:mirror { name = "http", to = "tap0" }]])
    assert.same({ 'web.lua:1: mirror "http": port "eth0" has tc = false (web.lua:1), and mirrors need TC' },
      scripts.mistakes [[tg.port("eth0", { tc = false }):mirror { name = "http", to = "tap0" }]])
    assert.matches('mirror "http" is declared already at web.lua:2', scripts.mistakes(
      mirror() .. 'wan:mirror { name = "http", to = "tap1" }')[1])
    assert.same({ 'web.lua:1: port "eth0": mirror: option "name" is missing' },
      scripts.mistakes [[tg.port("eth0"):mirror { to = "tap0" }]])
  end)

  it("sends one vni to two collectors", function()
    assert.matches('mirror "b": vni 42 port 4789 is that of mirror "a" %(.*web.lua:2%), whose collector is another',
      scripts.mistakes [[local wan = tg.port "eth0"
        wan:mirror { name = "a", to = { vxlan = "192.0.2.9", vni = 42 } }
        wan:mirror { name = "b", to = { vxlan = "192.0.2.8", vni = 42 } }]][1])
  end)

  it("is started without an end, or with one that is none", function()
    for call, message in pairs {
      ["start()"] = "start: seconds, or { seconds =, packets = }, expected: a mirror always ends",
      ["start {}"] = "start: seconds, or { seconds =, packets = }, expected: a mirror always ends",
      ["start(0)"] = "start: 0 given, seconds from 0.001 to 2678400 expected",
      ["start { packets = 0 }"] = "start.packets: 0 given, an integer from 1 to 9223372036854775807 expected",
      ["start { minutes = 1 }"] = 'start: unknown option "minutes" (allowed: packets, seconds)',
    } do
      assert.same({ 'web.lua:1: mirror "http": ' .. message },
        scripts.mistakes([[tg.port("eth0"):mirror { name = "http", to = "tap0" }:]] .. call))
    end
  end)

  it("is not there", function()
    local status, why, code = tg.mirrors.nobody:status()
    assert.same({ nil, 'there is no mirror "nobody"', "ENOENT" }, { status, why, code })
  end)
end)
