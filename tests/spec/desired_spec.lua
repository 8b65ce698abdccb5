-- SPDX-License-Identifier: GPL-2.0-only
local desired = require "tidegate.desired"
local sandbox = require "tidegate.sandbox"
local scripts = require "tests.helpers.scripts"

--- A service as text, with these options instead of the usual ones.
local function service(options)
  local all = { name = "'web'", vip = "'198.51.100.10:80'", backends = "{ '10.0.0.11', '10.0.0.12' }" }
  for key, value in pairs(options or {}) do all[key] = value end
  local parts = {}
  for _, key in ipairs(desired.names(all)) do parts[#parts + 1] = key .. " = " .. all[key] end
  return "tg.service { " .. table.concat(parts, ", ") .. " }\n"
end

--- The backends of a state's service as "NAME WEIGHT ADMIN", in order.
local function backends(state, name)
  local list = {}
  for i, b in ipairs(state.services[name or "web"].backends) do
    list[i] = ("%s %d %s%s"):format(b.name, b.weight, b.admin, b.backup and " backup" or "")
  end
  return list
end

local function state_of(texts, admins)
  local gen, state = scripts.resolve(texts, admins)
  assert.same({}, scripts.problems(gen))
  return state, gen
end

describe("the state that files ask for", function()
  it("has services with what is not said filled in", function()
    local web = state_of(service()).services.web
    assert.same({ "nat", "drop", 0, 300 }, { web.mode, web.fail, web.slots, web.drain })
    assert.same({ { addr = "198.51.100.10", family = 4, port = 80, proto = "tcp" } }, web.vips)
    assert.matches("web.lua:1$", web.position)
  end)

  it("has backends ordered by name, whatever the file's order", function()
    local state = state_of(service { backends = "{ '10.0.0.12', { '10.0.0.11', weight = 5, admin = 'drain' } }" })
    assert.same({ "10.0.0.11 5 drain", "10.0.0.12 1 ready" }, backends(state))
  end)

  it("has the backups of a service without live backends", function()
    local state = state_of(service { fail = "'backup'", backup = "{ '10.0.0.99' }" })
    assert.same({ "10.0.0.11 1 ready", "10.0.0.12 1 ready", "10.0.0.99 1 ready backup" }, backends(state))
    assert.same({ 'web.lua:1: tg.service "web": fail = "backup" needs backup = { … }' },
      scripts.mistakes(service { fail = "'backup'" }))
  end)

  it("names the features that the program needs", function()
    assert.equal(1 | 4, state_of(service()).features)
    assert.equal(1, state_of(service { mode = "'l2dsr'" }).features)
    local six = { mode = "'l2dsr'", vip = "'[2001:db8::1]:80'", backends = "{ '2001:db8::2' }" }
    assert.equal(2, state_of(service(six)).features)
    assert.equal(0, state_of("").features)
  end)

  it("leaves out ports that are off for XDP and TC", function()
    local state = state_of [[tg.port('eth0', { xdp = 'off', tc = false }) tg.port('eth1', { optional = true })
      tg.port('eth2', { xdp = 'off', tc = 'clsact' })]]
    assert.is_nil(state.ports.eth0)
    assert.same({ "auto", true, "auto" }, { state.ports.eth1.xdp, state.ports.eth1.optional, state.ports.eth1.tc })
    assert.same({ "off", "clsact" }, { state.ports.eth2.xdp, state.ports.eth2.tc })
  end)

  it("is the same when it is asked for again", function()
    local gen, state = scripts.resolve([[
      tg.pool { name = "app", backends = { "10.0.0.11" }, check = { "tcp" } }
      local web = tg.service { name = "web", vip = "198.51.100.10:80", backends = "app" }
      web:add { "10.0.0.12", weight = 3 }
      tg.services.web:weight("10.0.0.11", 9)
    ]])
    assert.same(state, desired.resolve(gen, {}))
    assert.same({}, scripts.problems(gen))
  end)
end)

describe("a pool", function()
  local pool = "tg.pool { name = 'app', backends = { '10.0.0.11', '2001:db8::11' }, check = { 'tcp', interval = 5 } }\n"

  it("is found by name or handle, in another file, in any order", function()
    for _, names in ipairs { { "a.lua", "b.lua" }, { "b.lua", "a.lua" } } do
      local state = state_of { [names[1]] = pool, [names[2]] = service { backends = "'app'" } }
      assert.same({ "10.0.0.11 1 ready" }, backends(state))
    end
    local state = state_of(pool .. service { backends = "tg.pools.app" })
    assert.same({ "10.0.0.11 1 ready" }, backends(state))
  end)

  it("serves each service with the families that it has VIPs of", function()
    local state = state_of(pool .. service { name = "'six'", vip = "'[2001:db8::1]:80'", backends = "'app'" }
      .. service { backends = "'app'" })
    assert.same({ "10.0.0.11 1 ready" }, backends(state, "web"))
    assert.same({ "2001:db8::11 1 ready" }, backends(state, "six"))
  end)

  it("brings its check, unless the service or the backend has one", function()
    local function interval(options)
      return state_of(pool .. service(options)).services.web.backends[1].check.interval
    end
    assert.equal(5, interval { backends = "'app'" })
    assert.equal(7, interval { backends = "'app'", check = "{ 'tcp', interval = 7 }" })
    assert.equal(2, interval { backends = "{ { '10.0.0.11', check = { 'tcp', interval = 2 } } }", check = "{ 'tcp' }" })
  end)

  it("that nobody declares is named", function()
    assert.same({ 'web.lua:1: service "web": there is no pool "app"' },
      scripts.mistakes(service { backends = "'app'" }))
  end)

  it("changed for one service is as it was for others", function()
    local state = state_of(pool .. "local app = tg.pools.app\n"
      .. "local web = " .. service { backends = "app" } .. "web:weight('10.0.0.11', 7) web:drain('10.0.0.11')\n"
      .. service { name = "'other'", vip = "'198.51.100.11:81'", backends = "app", mode = "'l2dsr'" })
    assert.same({ "10.0.0.11 7 drain" }, backends(state, "web"))
    assert.same({ "10.0.0.11 1 ready" }, backends(state, "other"))
  end)
end)

describe("a change through a handle before the commit", function()
  local web = "local web = " .. service()

  it("joins the declaration", function()
    local state = state_of(web .. [[
      assert(web:add { "10.0.0.14", weight = 4 })
      web:remove "10.0.0.12"
      web:weights { ["10.0.0.11"] = 10, ["10.0.0.14"] = 20 }
      web:admin("10.0.0.14", "maint", { reason = "kernel" })
    ]])
    assert.same({ "10.0.0.11 10 ready", "10.0.0.14 20 maint" }, backends(state))
    assert.equal("kernel", state.services.web.backends[2].admin_reason)
  end)

  it("is what a file reads", function()
    local gen = scripts.load(web .. [[
      web:add { "10.0.0.14", weight = 4 }
      tg.services.web:remove "10.0.0.11"
      seen = {}
      for i, b in ipairs(tg.services.web:backends()) do seen[i] = b.addr .. " " .. b.weight .. " " .. b.state end
    ]])
    assert.same({}, scripts.problems(gen))
    assert.same({ "10.0.0.12 1 declared", "10.0.0.14 4 declared" },
      assert(sandbox.load("return seen", "=eval", gen.environment))())
  end)

  it("reaches a service of another file, in any order", function()
    for _, names in ipairs { { "a.lua", "b.lua" }, { "b.lua", "a.lua" } } do
      local state = state_of { [names[1]] = service(), [names[2]] = "tg.services.web:add '10.0.0.14'" }
      assert.same({ "10.0.0.11 1 ready", "10.0.0.12 1 ready", "10.0.0.14 1 ready" }, backends(state))
    end
  end)

  it("gives the backend the check that the others have", function()
    for _, given in ipairs {
      service { check = "{ 'tcp', interval = 5 }" },
      "tg.pool { name = 'app', backends = { '10.0.0.11' }, check = { 'tcp', interval = 5 } }"
        .. service { backends = "'app'" },
    } do
      local state = state_of(given .. "tg.services.web:add '10.0.0.14'")
      local list = state.services.web.backends
      assert.same({ "10.0.0.14", 5 }, { list[#list].name, list[#list].check.interval })
    end
  end)

  it("is refused at its own line", function()
    assert.same({
      'web.lua:2: service "web": backend 10.0.0.11 is there already',
      'web.lua:3: service "web": there is no backend 10.0.0.13',
      'web.lua:4: service "web": there is no backend 10.0.0.99',
      'web.lua:5: there is no service "wbe"',
      'web.lua:6: weight of 10.0.0.11: 65536 given, an integer from 0 to 65535 expected',
    }, scripts.mistakes(web .. "web:add '10.0.0.11'\nweb:remove '10.0.0.13'\nweb:weight('10.0.0.99', 2)\n"
      .. "tg.services.wbe:drain '10.0.0.11'\nweb:weight('10.0.0.11', 65536)\n"))
  end)
end)

describe("the operator's drain", function()
  it("holds over what files say", function()
    local admins = { web = { ["10.0.0.11"] = { admin = "maint" }, ["10.0.0.77"] = { admin = "drain" } } }
    assert.same({ "10.0.0.11 1 maint", "10.0.0.12 1 ready" }, backends((state_of(service(), admins))))
  end)
end)

describe("a rule:", function()
  local function refuses(sentence, text, ...)
    local expected = { ... }
    it(sentence, function() assert.same(expected, scripts.mistakes(text)) end)
  end

  refuses("a VIP needs a backend of its own family",
    service { vip = "{ '198.51.100.10:80', '[2001:db8::10]:80' }" },
    'web.lua:1: service "web": VIP [2001:db8::10]:80/tcp has no backend of its own family (IPv6)')

  refuses("a backend that is listed needs a VIP of its own family",
    service { backends = "{ '10.0.0.11', '2001:db8::11' }" },
    'web.lua:1: service "web": backend 2001:db8::11 is IPv6, but the service has no IPv6 VIP')

  refuses("only nat changes ports",
    service { mode = "'l2dsr'", backends = "{ '10.0.0.11:80', '10.0.0.12:8080' }" },
    'web.lua:1: service "web": backend 10.0.0.12:8080: l2dsr can\'t change the port, so it is the VIP\'s (80); '
      .. 'only nat can')

  refuses("a VIP belongs to one service",
    service() .. service { name = "'other'", backends = "{ '10.0.0.13' }" },
    'web.lua:1: service "web": VIP 198.51.100.10:80/tcp belongs to service "other" already (web.lua:2)')

  refuses("in nat an endpoint answers for one VIP",
    service() .. service { name = "'other'", vip = "'198.51.100.11:80'", backends = "{ '10.0.0.11' }" },
    'web.lua:1: service "web": in nat the backend 10.0.0.11:80/tcp answers for VIP 198.51.100.11:80/tcp of service '
      .. '"other" already (web.lua:2), so not for 198.51.100.10:80/tcp too')

  refuses("in nat an endpoint is one backend",
    service { backends = "{ '10.0.0.11', '10.0.0.11:80' }" },
    'web.lua:1: service "web": in nat the backend 10.0.0.11:80/tcp answers for VIP 198.51.100.10:80/tcp of service '
      .. '"web" already (web.lua:1), so not for 198.51.100.10:80/tcp too')

  refuses("VIPs that overlap lie one within the other",
    service { vip = "'198.51.100.10:8000-8099'" }
      .. service { name = "'other'", vip = "'198.51.100.10:8050-8149'", backends = "{ '10.0.0.13' }" },
    'web.lua:2: service "other": VIP 198.51.100.10:8050-8149/tcp overlaps 198.51.100.10:8000-8099/tcp of service '
      .. '"web" (web.lua:1) in part: neither is the more specific')

  refuses("a range belongs to one service",
    service { vip = "'198.51.100.10:*'" }
      .. service { name = "'other'", vip = "'198.51.100.10:1-65535'", backends = "{ '10.0.0.13' }" },
    'web.lua:1: service "web": VIP 198.51.100.10:*/tcp belongs to service "other" already (web.lua:2)')

  refuses("a range keeps its ports, in nat too",
    service { vip = "{ '198.51.100.10:80', '198.51.100.10:8000-8099' }", backends = "{ '10.0.0.11:80' }" },
    'web.lua:1: service "web": backend 10.0.0.11:80: VIP 198.51.100.10:8000-8099/tcp is a range, whose ports stay as '
      .. 'they are: a backend has none of its own')

  refuses("a check of a range names its port",
    service { vip = "'198.51.100.10:8000-8099'", check = "{ 'tcp' }" },
    'web.lua:1: service "web": the check of backend 10.0.0.11 needs a port ({ "tcp", port = … }): '
      .. 'VIP 198.51.100.10:8000-8099/tcp is a range')

  refuses("in nat an endpoint answers for one VIP, ranges included",
    service { vip = "'198.51.100.10:8000-8099'" }
      .. service { name = "'other'", vip = "'198.51.100.11:8099-8100'", backends = "{ '10.0.0.11' }" }
      .. service { name = "'third'", vip = "'198.51.100.10:80'", backends = "{ '10.0.0.12:8042' }" },
    'web.lua:1: service "web": in nat the backend 10.0.0.11:8000-8099/tcp answers for VIP 198.51.100.11:8099-8100/tcp '
      .. 'of service "other" already (web.lua:2), so not for 198.51.100.10:8000-8099/tcp too',
    'web.lua:1: service "web": in nat the backend 10.0.0.12:8000-8099/tcp answers for VIP 198.51.100.10:80/tcp '
      .. 'of service "third" already (web.lua:3), so not for 198.51.100.10:8000-8099/tcp too')

  it("VIPs may lie within each other, of one backend too where the ports are the same", function()
    local state = state_of(service { vip = "{ '198.51.100.10:*', '198.51.100.10:*/udp', '198.51.100.10:80' }" }
      .. service { name = "'some'", vip = "'198.51.100.10:8000-8099'" }
      .. service { name = "'first'", vip = "'198.51.100.10:8000-8009'", backends = "{ '10.0.0.11' }" }
      .. service { name = "'last'", vip = "'198.51.100.10:8010-8099'", backends = "{ '10.0.0.13' }" }
      .. service { name = "'one'", vip = "'198.51.100.10:8042'", backends = "{ '10.0.0.13' }",
        check = "{ 'tcp' }" })
    assert.equal(1 | 4 | 256, state.features)
    assert.equal(8042, state.services.one.backends[1].check.port)
  end)

  it("a check of a range that names its port is asked there", function()
    local state = state_of(service { vip = "'198.51.100.10:8000-8099'", check = "{ 'tcp', port = 8001 }" })
    assert.equal(8001, state.services.web.backends[1].check.port)
  end)

  it("several services may have one endpoint outside nat, and share its health check", function()
    local state = state_of(service { mode = "'l2dsr'", check = "{ 'tcp' }" }
      .. service { name = "'other'", mode = "'l2dsr'", vip = "'198.51.100.11:80'", check = "{ 'tcp' }" })
    assert.equal(state.services.web.backends[1].check.key, state.services.other.backends[1].check.key)
  end)

  refuses("quic is for UDP", service { quic = "true" },
    'web.lua:1: service "web": quic is for UDP, and it has no UDP VIP')

  refuses("a QUIC server ID is one backend's, and has room",
    service { vip = "'198.51.100.10:443/udp'", quic = "{ length = 1 }",
      backends = "{ '10.0.0.11', '10.0.1.11', { '10.0.0.12', quic_id = 256 } }" },
    'web.lua:1: service "web": backend 10.0.0.12: quic_id 256 has no room in 1 bytes',
    'web.lua:1: service "web": backends 10.0.0.11 and 10.0.1.11 both have the QUIC server ID 11: give one another by '
      .. 'quic_id = …')

  it("a QUIC server ID is the end of its address, unless it is given", function()
    local function ids(quic)
      local state = state_of(service { vip = "{ '198.51.100.10:443/udp', '[2001:db8::10]:443/udp' }", quic = quic,
        backends = "{ '10.0.1.11', { '10.0.1.12', quic_id = 99 }, '2001:db8::11' }", mode = "'l2dsr'" })
      local list = {}
      for i, b in ipairs(state.services.web.backends) do list[i] = b.quic_id end
      return list, state.features
    end
    assert.same({ { 267, 99, 17 }, 512 | 3 }, { ids "true" })
    assert.same({ 11, 99, 17 }, (ids "{ length = 1, offset = 3 }"))
    assert.same({ 0x0a00010b, 99, 17 }, (ids "{ length = 4 }"))
    assert.same({ { nil, 99 }, 3 }, { ids "false" })
  end)

  refuses("a check is built in or defined",
    service { check = "{ 'redis' }" },
    'web.lua:1: service "web": there is no check "redis" (built in: tcp, http; others by tg.check.define)')

  refuses("a backend is listed once, pool and backups included",
    "tg.pool { name = 'app', backends = { '10.0.0.11' } }"
      .. service { backends = "'app'", fail = "'backup'", backup = "{ '10.0.0.11' }" },
    'web.lua:1: service "web": backend 10.0.0.11 is listed twice')

  it("different protocols and ports are different VIPs", function()
    state_of(service { vip = "{ '198.51.100.10:53/udp', '198.51.100.10:53/tcp', '198.51.100.10:80' }" })
  end)

  it("a name in use is checked without a second complaint about its service", function()
    assert.same({ 'web.lua:2: service "web" is declared already at web.lua:1' },
      scripts.mistakes(service() .. service()))
  end)
end)

describe("an option that is wrong", function()
  local wrong = {
    { { mode = "'dsr'" }, 'tg.service.mode: "dsr" given, nat, l2dsr, ipip, gue expected' },
    { { name = "'a b'" }, 'tg.service.name: "a b" given, a name (letters, digits, _ . -, at most 63) expected' },
    { { name = "nil" }, 'tg.service: option "name" is missing' },
    { { vip = "nil" }, 'tg.service: option "vip" is missing' },
    { { vip = "{}" }, "tg.service.vip: at least one VIP expected" },
    { { vip = "80" }, 'tg.service.vip: 80 given, "ADDRESS:PORT/tcp" or "…/udp" expected' },
    { { vip = "'198.51.100.10'" }, 'VIP "198.51.100.10": the port is missing ("198.51.100.10:80/tcp")' },
    { { vip = "{ '198.51.100.10:80', '198.51.100.10:80/tcp' }" },
      'tg.service.vip: "198.51.100.10:80/tcp" is listed twice' },
    { { vip = "'198.51.100.10:99-80'" }, 'VIP "198.51.100.10:99-80": ports 99-80: the first is above the last' },
    { { vip = "{ '198.51.100.10:*', '198.51.100.10:1-65535/tcp' }" },
      'tg.service.vip: "198.51.100.10:*/tcp" is listed twice' },
    { { quic = "'yes'" }, 'tg.service.quic: "yes" given, true or { offset = 1, length = 2 } expected' },
    { { quic = "{ length = 5 }" }, "tg.service.quic.length: 5 given, an integer from 1 to 4 expected" },
    { { quic = "{ offset = 18, length = 3 }" },
      "tg.service.quic: 3 bytes at offset 18, but a connection ID has at most 20" },
    { { slots = "65536" }, "tg.service.slots: 65536 given, a prime below 2^24 expected" },
    { { drain = "-1" }, "tg.service.drain: -1 given, seconds from 0 to 2592000 expected" },
    { { fail = "'reject'" }, 'tg.service.fail: "reject" given, drop, pass, backup expected' },
    { { backends = "{ '10.0.0.11', '10.0.0.11' }" }, 'tg.service.backends: backend "10.0.0.11" is listed twice' },
    { { backends = "{ '10.0.0.11', [3] = '10.0.0.12' }" },
      "tg.service.backends: a list expected, but it has the key 3" },
    { { backends = "{ { '10.0.0.11', weight = -1 } }" },
      "backend 10.0.0.11.weight: -1 given, an integer from 0 to 65535 expected" },
    { { backends = "{ '10.0.0.11/tcp' }" },
      'backend "10.0.0.11/tcp": a backend has no protocol of its own, the VIP\'s counts' },
    { { backends = "{ {} }" },
      'tg.service.backends[1]: nil given, an address such as "10.0.0.11" or "10.0.0.11:8080" expected' },
    { { check = "'tcp'" }, 'tg.service.check: a table such as { "tcp" } or { "http", path = "/" } expected' },
    { { check = "{ 'tcp', path = '/' }" },
      'tg.service.check: unknown option "path" (allowed: fall, interval, port, rise, timeout)' },
    { { check = "{ 'http', path = 'x' }" }, 'tg.service.check.path: "x" given, a path that begins with / expected' },
    { { check = "{ 'http', status = '20' }" },
      'tg.service.check.status: "20" given, a status (200) or a range ("200-299") expected' },
    { { check = "{ 'tcp', interval = 1, timeout = 2 }" },
      "tg.service.check.timeout: 2 s given, at most the interval (1 s) allowed" },
  }
  for _, case in ipairs(wrong) do
    it("is named: " .. case[2], function()
      assert.same({ "web.lua:1: " .. case[2] }, scripts.mistakes(service(case[1])))
    end)
  end
end)

describe("a backend that is added to what runs", function()
  local state = (state_of(service { mode = "'l2dsr'", name = "'dsr'", vip = "'198.51.100.11:80'" } .. service()))

  local function refusal(name, addr)
    local spec = state.services[name]
    local backends_then = table.move(spec.backends, 1, 2, 1, { [3] = require("tidegate.backend").parse("add", addr) })
    local with_it = { name = name, mode = spec.mode, vips = spec.vips, backends = backends_then }
    return desired.refusal(with_it, state.services)
  end

  it("obeys the same rules", function()
    assert.is_nil(refusal("web", "10.0.0.14:8080"))
    assert.is_nil(refusal("dsr", "10.0.0.14"))
    assert.matches("l2dsr can't change the port", refusal("dsr", "10.0.0.14:8080"))
    assert.matches("is IPv6, but the service has no IPv6 VIP", refusal("web", "2001:db8::1"))
    assert.matches("answers for VIP 198.51.100.10:80/tcp .* already", refusal("web", "10.0.0.11:80"))
  end)
end)
