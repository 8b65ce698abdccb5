-- SPDX-License-Identifier: GPL-2.0-only
local lines = require "tidegate.policy.lines"
local match = require "tidegate.policy.match"
local rule = require "tidegate.policy.rule"

local function text(given) return match.text(match.read("match", given)) end

--- What is wrong with a match, without the place.
local function refused(given)
  local ok, message = pcall(match.read, "match", given)
  assert.is_false(ok)
  return (tostring(message):gsub("^.-:%d+: ", ""))
end

local function core(given, members)
  return match.core(match.read("match", given), members or function() return {} end)
end

describe("what a rule matches", function()
  it("is the same text for the same packets", function()
    assert.equal("all", text {})
    assert.equal("tcp dport 80,443,8000-8099", text { proto = "tcp", dport = { 443, "8000-8099", 80, "8050", 8001 } })
    assert.equal("tcp,udp src 10.0.0.0/8,2001:db8::/32,@staff port 53",
      text { proto = { "udp", 6 }, src = { "@staff", "2001:DB8::/32", "10.1.2.3/8" }, port = "53" })
    assert.equal("tcp dport 80-82", text { proto = "tcp", dport = { 80, 81, 82 } })
    assert.equal("proto 99 no fragments", text { proto = 99, fragment = false })
    assert.equal("icmp,icmp6 icmp_type 17,echo-request",
      text { proto = { "icmp6", "icmp" }, icmp_type = { "echo-request", 17 } })
  end)

  it("takes flags as tcpdump writes them", function()
    local function flags(value) return text { proto = "tcp", flags = value } end
    assert.equal("tcp flags S/FSRA", flags "S")
    assert.equal("tcp flags SA/FSRA", flags "S.")
    assert.equal("tcp flags FPU/FSRPAU", flags "FPU")
    assert.equal("tcp flags S/SA", flags "S/SA")
    assert.equal("tcp flags /FSRPAU", flags "/FSRPAU")
    assert.matches('letters of FSRPAUEC expected', refused { proto = "tcp", flags = "X" })
    assert.matches('behind it too', refused { proto = "tcp", flags = "SP/SA" })
    assert.matches('letters of FSRPAUEC expected', refused { proto = "tcp", flags = "" })
  end)

  it("names what can't be", function()
    assert.equal('match.dport: "90-80": the range is reversed, its first port is above its last',
      refused { proto = "tcp", dport = "90-80" })
    assert.equal('match.dport[2]: 65536 given, an integer from 0 to 65535 expected',
      refused { proto = "tcp", dport = { 1, 65536 } })
    assert.equal('match.sport: "1-65536": ports end at 65535', refused { proto = "tcp", sport = "1-65536" })
    assert.equal('match.port: "http" given, a port (80) or a range ("8000-8099") expected',
      refused { proto = "tcp", port = "http" })
    assert.matches('^match.proto: "tpc": no protocol that is known by name %(.*, tcp, .*; or a number%)$',
      refused { proto = "tpc" })
    assert.matches('^match.proto: 256 given', refused { proto = 256 })
    assert.matches('^match.icmp_type: "ping": no type that is known by name',
      refused { proto = "icmp", icmp_type = "ping" })
    assert.matches('^match.src: "10.0.0.300": ', refused { src = "10.0.0.300" })
    assert.matches('^match.src: the set: "a b" given', refused { src = "@a b" })
    assert.matches('^match.dst: an empty list matches nothing', refused { dst = {} })
    assert.matches('^match: unknown option "sprot"', refused { sprot = 1 })
  end)

  it("refuses what no packet can be asked", function()
    local ports = 'match: dport needs proto = "tcp", "udp" or both: others have no ports'
    assert.equal(ports, refused { dport = 80 })
    assert.equal(ports, refused { proto = { "tcp", "icmp" }, dport = 80 })
    assert.equal('match: flags needs proto = "tcp"', refused { proto = "udp", flags = "S" })
    assert.equal('match: icmp_type needs proto = "icmp", "icmp6" or both', refused { proto = "tcp", icmp_type = 8 })
    assert.equal('match.icmp_type: "too-big" is no type of icmp', refused { proto = "icmp", icmp_type = "too-big" })
    assert.matches("^match: fragment = true with dport", refused { proto = "udp", dport = 53, fragment = true })
  end)

  it("becomes what the classifier takes", function()
    assert.same({ {} }, core {})
    assert.same({ { protos = { 6, 17 }, dport = { 53, 53 }, src = { "10.0.0.0/8" } } },
      core { proto = { "tcp", "udp" }, dport = 53, src = "10.0.0.0/8" })
    assert.same({ { protos = { 6 }, tcp_mask = 0x12, tcp_flags = 0x02, fragment = false } },
      core { proto = "tcp", flags = "S/SA", fragment = false })
  end)

  it("asks each protocol for its own number of a type", function()
    assert.same({ { protos = { 1 }, icmp_types = { 11 } }, { protos = { 58 }, icmp_types = { 3 } } },
      core { proto = { "icmp", "icmp6" }, icmp_type = "time-exceeded" })
    assert.same({ { protos = { 58 }, icmp_types = { 2 } } },
      core { proto = { "icmp", "icmp6" }, icmp_type = "too-big" })
  end)

  it("has a set's members in its place, and is nothing where there are none", function()
    local members = { staff = { "192.0.2.7", "10.0.0.1" }, empty = {} }
    local function of(name) return members[name] end
    assert.same({ { src = { "10.0.0.1", "192.0.2.7" } } }, core({ src = { "@staff", "10.0.0.1" } }, of))
    assert.same({}, core({ src = "@empty" }, of))
    assert.same({}, core({ src = "@staff", dst = "@empty" }, of))
    assert.same({ { src = { "10.0.0.1" } } }, core({ src = { "@empty", "10.0.0.1" } }, of))
  end)
end)

describe("a rule", function()
  it("is known by its name, or by its text and which one of these it is", function()
    local rules = rule.give_keys {
      rule.read("1", { "accept", proto = "udp", dport = 53, name = "dns" }),
      rule.read("2", { "drop", proto = "udp" }), rule.read("3", { "drop", proto = "udp", log = true }),
    }
    assert.same({ "name dns", "text drop udp #1", "text drop udp #2" }, { rules[1].key, rules[2].key, rules[3].key })
    assert.equal("accept udp dport 53", rules[1].text)
  end)

  it("has something to do", function()
    local function wrong(given)
      local _, message = pcall(rule.read, "rule 1", given)
      return (tostring(message):gsub("^.-:%d+: ", ""))
    end
    assert.equal('rule 1: what to do is missing ("accept", "drop" or "reject")', wrong { proto = "tcp" })
    assert.equal('rule 1: "deny" given, accept, drop, reject expected', wrong { "deny" })
    assert.matches("^rule 1: 7 given, a rule ", wrong(7))
    assert.equal('rule 1.name: "failsafe" is taken', wrong { "accept", name = "failsafe" })
  end)
end)

describe("the lines of rules", function()
  local script = [=[
local wan = tg.port "eth0"   -- policy ( "x" { "drop" }
wan:policy("ingress", {
  default = "drop", stateful = true, -- { "drop" },
  { "accept", proto = "tcp",
    dport = { 80, 443 } },
  --[[ { "drop" }, ]] { "accept", name = "a } \" {" },

  { "drop", src = { "10.0.0.0/8" } }, { 'reject' },
})
]=]

  it("are found in the script's text", function()
    assert.same({ 4, 6, 8, 8 }, lines.of(script, 2, "policy", { "accept", "accept", "drop", "reject" }))
    assert.same({ 2 }, lines.of("wan:policy(direction, {\n{ 'drop' } })", 1, "policy", { "drop" }))
  end)

  it("are not guessed", function()
    assert.same({}, lines.of(script, 2, "policy", { "accept", "accept", "drop" }))
    assert.same({}, lines.of(script, 2, "policy", { "accept", "drop", "drop", "reject" }))
    assert.same({}, lines.of('p:policy("ingress", rules)', 1, "policy", { "accept" }))
    assert.same({}, lines.of('p:policy("ingress", { f(), { "drop" } })', 1, "policy", { "drop", "drop" }))
    assert.same({ 2 }, lines.of('p:policy("ingress", {\n{ "drop" }, table.unpack(more) })', 1, "policy",
      { "drop", "drop", "drop" }))
    assert.same({}, lines.of("", 7, "policy", {}))
  end)
end)
