-- SPDX-License-Identifier: GPL-2.0-only
--- Policies as files declare them, validated as a whole.
local plan = require "tidegate.plan"
local scripts = require "tests.helpers.scripts"
local state = require "tidegate.policy.state"

local PORT = 'local wan = tg.port "eth0"\n'

local function mistakes(text) return scripts.mistakes(PORT .. text) end

--- A state whose policies are compiled, as `check` does it.
local function compiled(text)
  local gen, wanted = scripts.resolve(PORT .. text)
  assert.same({}, scripts.problems(gen))
  wanted.policy.compiled = assert(state.compile(wanted.policy.policies, wanted.policy.sets))
  return wanted
end

local function warnings(text)
  local lines = {}
  for i, warning in ipairs(state.warnings(compiled(text).policy.compiled)) do
    lines[i] = ("%s: %s"):format(warning.position, warning.text):gsub("/tmp/[^/ ]+/", "")
  end
  return lines
end

describe("a policy's declaration", function()
  it("is as the design shows it", function()
    local wanted = compiled [[
      tg.set("staff"):add("192.0.2.7", { ttl = 300 })
      wan:policy("ingress", {
        default = "drop", stateful = true,
        { "accept", proto = "tcp", dport = { 80, 443, "8000-8099" } },
        { "accept", proto = "udp", dport = 53, src = "10.0.0.0/8", name = "dns" },
        { "accept", proto = "tcp", dport = 22, src = "@staff" },
        { "drop",   proto = "tcp", dport = 23, log = true },
      })
      wan:rule("dns"):enable(false)
    ]]
    local policy = wanted.policy.policies.eth0.ingress
    assert.same({ "drop", true, 4 }, { policy.default, policy.stateful, #policy.rules })
    assert.same({ true, false, true, true },
      { policy.rules[1].enabled, policy.rules[2].enabled, policy.rules[3].enabled, policy.rules[4].enabled })
    local handle = wanted.policy.compiled.eth0.ingress.handle
    local function first(packet) return handle:match(packet) end
    assert.equal(1, first { src = "10.0.0.1", dst = "10.0.0.2", proto = 6, sport = 5, dport = 8050 })
    assert.equal(1, first { src = "2001:db8::1", dst = "2001:db8::2", proto = 6, sport = 5, dport = 443 })
    assert.is_nil(first { src = "10.0.0.1", dst = "10.0.0.2", proto = 17, sport = 5, dport = 53 })   -- dns is off
    assert.equal(3, first { src = "192.0.2.7", dst = "10.0.0.2", proto = 6, sport = 5, dport = 22 })
    assert.is_nil(first { src = "192.0.2.8", dst = "10.0.0.2", proto = 6, sport = 5, dport = 22 })
    assert.equal(4, first { src = "192.0.2.8", dst = "10.0.0.2", proto = 6, sport = 5, dport = 23 })
  end)

  it("tells each mistake at its rule's line", function()
    assert.same({
      'web.lua:10: port "eth0": policy ingress: rule 6 (dns): the name is taken already by rule 5 (web.lua:9)',
      'web.lua:4: port "eth0": policy ingress: rule 1.dport: "90-80": the range is reversed, its first port is above '
        .. "its last",
      'web.lua:5: port "eth0": policy ingress: rule 2: dport needs proto = "tcp", "udp" or both: others have no ports',
      'web.lua:6: port "eth0": policy ingress: rule 3.flags: "Z": letters of FSRPAUEC expected, as tcpdump\'s '
        .. '("S", "S/SA": of S and A only S)',
      'web.lua:8: port "eth0": policy ingress: rule 4 (odd): icmp_type needs proto = "icmp", "icmp6" or both',
    }, mistakes [[
wan:policy("ingress", {
  default = "drop",
  { "accept", proto = "tcp", dport = "90-80" },
  { "accept", dport = 22 }, -- no protocol
  { "drop", proto = "tcp", flags = "Z" },

  { "drop", name = "odd", proto = "udp", icmp_type = 8 },
  { "accept", proto = "udp", dport = 53, name = "dns" },
  { "accept", proto = "tcp", dport = 53, name = "dns" },
})
wan:rule("dns"):enable(false)
]])
  end)

  it("tells mistakes in computed rules at the call's line", function()
    local list = mistakes 'local rules = {}\nfor i = 1, 3 do rules[i] = { "accept", proto = i == 2 and "x" or 6 } end\n'
    assert.same({}, list)
    list = mistakes 'local rules = { { "accept", proto = "x" } }\nwan:policy("egress", rules)'
    assert.equal(1, #list)
    assert.matches('^web.lua:3: port "eth0": policy egress: rule 1.proto: "x"', list[1])
  end)

  it("has at most 1,024 rules", function()
    local text = [[
      local rules = {}
      for i = 1, %d do rules[i] = { "accept", proto = "tcp", dport = i } end
      wan:policy("ingress", rules)
    ]]
    assert.same({}, mistakes(text:format(1024)))
    assert.same({ 'web.lua:4: port "eth0": policy ingress: rule 1025: a policy has at most 1024 rules' },
      mistakes(text:format(1030)))
  end)

  it("does not ask more prefixes than can be looked at", function()
    local _, wanted = scripts.resolve(PORT .. [[
      local list, rules = {}, {}
      for i = 0, 8191 do list[#list + 1] = ("10.0.%d.%d"):format(i // 256, i % 256) end
      tg.set("big"):add(list)
      for i = 1, 33 do rules[i] = { "accept", proto = "tcp", dport = i, src = "@big" } end
      wan:policy("ingress", rules)
    ]])
    local result, message, code = state.compile(wanted.policy.policies, wanted.policy.sets)
    assert.is_nil(result)
    assert.matches("web.lua:6: policy eth0 ingress: its rules ask 270336 prefixes, .* at most 262144 allowed$", message)
    assert.equal("E2BIG", code)
  end)

  it("names unknown options, directions and values", function()
    assert.same({ 'web.lua:2: port "eth0": policy inward: "inward" given, ingress, egress expected' },
      mistakes 'wan:policy("inward", {})')
    assert.same({ 'web.lua:2: port "eth0": policy ingress: unknown option "defaults" (allowed: audit, default, '
      .. 'existing, failsafe, fragments, log, nd, stateful)' }, mistakes 'wan:policy("ingress", { defaults = "drop" })')
    assert.same({ 'web.lua:2: port "eth0": policy ingress.stateful: "yes" given, true (own flow table), '
      .. '"conntrack" (the kernel\'s) or false expected' }, mistakes 'wan:policy("ingress", { stateful = "yes" })')
    assert.same({ 'web.lua:2: port "eth0": policy ingress: rule 1 is missing' },
      mistakes 'wan:policy("ingress", { [3] = { "drop" } })')
    assert.same({ 'web.lua:2: port "eth0": policy ingress.failsafe[1]: "tcp 10.0.0.1": a port expected '
      .. '("tcp 10.0.0.1:22")' }, mistakes 'wan:policy("ingress", { failsafe = { "tcp 10.0.0.1" } })')
  end)

  it("needs its port, with TC", function()
    assert.same({ 'web.lua:2: policy eth7 ingress: there is no port "eth7" (tg.port declares one)' },
      mistakes 'tg.ports.eth7:policy("ingress", {})')
    assert.same({ 'web.lua:2: policy eth1 ingress: port "eth1" has tc = false (web.lua:2), and policies need TC' },
      mistakes 'tg.port("eth1", { tc = false }):policy("ingress", {})')
  end)

  it("needs its sets, rules and names", function()
    assert.same({ 'web.lua:3: policy eth0 ingress: rule 1: there is no set "staf" (tg.set declares one)' },
      mistakes 'tg.set "staff"\nwan:policy("ingress", { { "drop", src = { "10.0.0.1", "@staf" } } })')
    assert.same({}, scripts.mistakes {
      ["a.lua"] = 'tg.ports.eth0:policy("ingress", { { "drop", src = "@late" } })',
      ["b.lua"] = 'tg.set("late"):add "192.0.2.1"; tg.port "eth0"',
    })
    assert.same({ 'web.lua:3: port "eth0" has no rule "dnss"' },
      mistakes 'wan:policy("ingress", { { "drop", name = "dns" } })\nwan:rule("dnss"):enable(true)')
    assert.same({ 'web.lua:2: port "eth0" has no policy' }, mistakes 'wan:rule("dns"):enable(true)')
    assert.same({ "web.lua:3: policy eth0 egress: the name of rule 1 (dns) is taken already (web.lua:2)" },
      mistakes 'wan:policy("ingress", { { "drop", name = "dns" } })\nwan:policy("egress", {{ "drop", name = "dns" }})')
    assert.same({ 'web.lua:3: policy "eth0 ingress" is declared already at web.lua:2' },
      mistakes 'wan:policy("ingress", {})\nwan:policy("ingress", {})')
  end)
end)

describe("rules that can't decide anything", function()
  it("are told with both lines", function()
    assert.same({
      "web.lua:5: policy eth0 ingress: rule 3 can't decide anything: rule 1 (all) (web.lua:3) matches all of its "
        .. "packets",
      "web.lua:6: policy eth0 ingress: rule 4 can't decide anything: rule 2 (web.lua:4) matches the same packets",
      "web.lua:7: policy eth0 ingress: rule 5 matches no packet: what it asks for can't be together",
    }, warnings [[
wan:policy("ingress", {
  { "accept", proto = "tcp", name = "all" },
  { "drop", proto = "udp", src = "10.0.0.0/8" },
  { "drop", proto = "tcp", dport = 23 },
  { "accept", proto = "udp", src = "10.0.0.0/8" },
  { "accept", src = "10.0.0.0/8", dst = "2001:db8::/32" },
})]])
  end)

  it("are not those that are off, ask an empty set, or decide in part", function()
    assert.same({}, warnings [[
tg.set "none"
wan:policy("ingress", {
  { "accept", proto = "tcp", enabled = false },
  { "accept", proto = "tcp", enabled = false, name = "twice" },
  { "accept", proto = "udp", src = "@none" },
  { "drop", proto = { "tcp", "udp" }, dport = 23 },
  { "accept", proto = "icmp", icmp_type = "echo-request" },
  { "accept", proto = { "icmp", "icmp6" }, icmp_type = "echo-request" },
})]])
  end)
end)

describe("a plan", function()
  local before = [[
    tg.set("staff"):add { "192.0.2.7", "192.0.2.8" }
    wan:policy("ingress", {
      default = "drop",
      { "accept", proto = "tcp", dport = 80 },
      { "accept", proto = "udp", dport = 53, name = "dns" },
      { "accept", proto = "tcp", dport = 22, src = "@staff" },
      { "drop", proto = "tcp", dport = 23 },
    })
  ]]

  local function lines(from, to)
    local was = from and compiled(from) or { services = {}, ports = {} }
    local result = {}
    for line in plan.new(was, compiled(to)):text():gmatch "[^\n]+" do result[#result + 1] = line end
    return result
  end

  it("tells a new policy, a new set and what goes in a line each", function()
    assert.same({ "+ port eth0: attach, xdp auto, tc", "+ policy eth0 ingress: default drop, 4 rules",
      "+ set staff: 2 prefixes" }, lines(nil, before))
    assert.same({ "~ port eth0: detach, tc", "- policy eth0 ingress: default drop, 4 rules",
      "- set staff: 2 prefixes" }, lines(before, ""))
  end)

  it("does not list what stays", function()
    assert.same({ "nothing would change" }, lines(before, before .. "\n\n"))
    assert.same({ "nothing would change" }, lines(before, (before:gsub("dport = 80", "dport = { 80, '80-80' }"))))
  end)

  it("tells what changes rule by rule", function()
    assert.same({
      "~ policy eth0 ingress: default drop -> reject", "~ policy eth0 ingress: stateful no -> conntrack",
      "+ rule eth0 ingress 1: accept icmp",
      "~ rule eth0 ingress 3 (dns): accept udp dport 53 -> accept udp src 10.0.0.0/8 dport 53, log on, disabled",
      "+ rule eth0 ingress 4: drop tcp dport 2323", "- rule eth0 ingress 4: drop tcp dport 23",
      "~ set staff: 1 added, 1 removed (2 prefixes)",
    }, lines(before, [[
      tg.set("staff"):add { "192.0.2.7", "192.0.2.9" }
      wan:policy("ingress", {
        default = "reject", stateful = "conntrack",
        { "accept", proto = "icmp" },
        { "accept", proto = "tcp", dport = 80 },
        { "accept", proto = "udp", dport = 53, name = "dns", src = "10.0.0.0/8", log = true, enabled = false },
        { "drop", proto = "tcp", dport = 2323 },
        { "accept", proto = "tcp", dport = 22, src = "@staff" },
      })
    ]]))
  end)

  it("names the fewest rules that move", function()
    local function policy(order)
      local list = {}
      for letter in order:gmatch "." do
        list[#list + 1] = ('{ "accept", proto = "tcp", dport = %d }'):format(letter:byte())
      end
      return ('wan:policy("egress", { %s })'):format(table.concat(list, ", "))
    end
    assert.same({ "~ rule eth0 egress 5: moves from 1 to 5" }, lines(policy "abcde", policy "bcdea"))
    assert.same({ "~ rule eth0 egress 1: moves from 3 to 1", "+ rule eth0 egress 2: accept tcp dport 120" },
      lines(policy "abc", policy "cxab"))
  end)
end)
