-- SPDX-License-Identifier: GPL-2.0-only
--- What a policy can't cut off.
local failsafe = require "tidegate.policy.failsafe"
local match = require "tidegate.policy.match"
local plan = require "tidegate.plan"
local scripts = require "tests.helpers.scripts"
local state = require "tidegate.policy.state"

local SESSION = { peer = "192.0.2.7", peer_port = 50000, addr = "10.0.0.1", port = 22 }

--- The compiled policies of eth0 in a text, with this SSH session.
local function compiled(text, session, instance)
  local before = { session = failsafe.session, carries = failsafe.carries }
  failsafe.session = function() return session end
  failsafe.carries = function() return true end
  local gen, wanted = scripts.resolve((instance or "") .. 'local wan = tg.port "eth0"\n' .. text)
  assert.same({}, scripts.problems(gen))
  wanted.policy.compiled = assert(state.compile(wanted.policy.policies, wanted.policy.sets))
  failsafe.session, failsafe.carries = before.session, before.carries
  return wanted.policy.compiled.eth0, wanted
end

local function warnings(of_port)
  local lines = {}
  for _, warning in ipairs(state.warnings { eth0 = of_port }) do lines[#lines + 1] = warning.text end
  return lines
end

local function texts(one)
  local list = {}
  for i, rule in ipairs(one.all) do list[i] = (rule.failsafe and "failsafe: " or "") .. rule.text end
  return list
end

--- What becomes of a packet of the session, and of one like it from another port.
local function verdicts(one)
  local function action(packet)
    local number = one.handle:match(packet)
    return (number and one.rules[number] or one.default).action
  end
  local packet = failsafe.packet(one.policy.direction, SESSION)
  local own = action(packet)
  packet.sport, packet.dport = packet.sport + 1, packet.dport + 1
  return { own, action(packet) }
end

describe("the SSH session", function()
  it("is read from what sshd says", function()
    assert.same(SESSION, failsafe.parse "192.0.2.7 50000 10.0.0.1 22")
    assert.equal("2001:db8::7", failsafe.parse("2001:DB8::7 50000 fe80::1%eth0 22").peer)
    assert.is_nil(failsafe.parse "")
    assert.is_nil(failsafe.parse "UNKNOWN 65535 UNKNOWN 65535")
    assert.is_nil(failsafe.parse "192.0.2.7 50000 2001:db8::1 22")
  end)

  it("is kept in both directions, and check says so", function()
    local port = compiled([[
      wan:policy("ingress", { default = "drop", { "accept", proto = "icmp" } })
      wan:policy("egress", { { "reject", proto = "tcp", sport = 22 } })
    ]], SESSION)
    assert.same({ "failsafe: accept tcp src 192.0.2.7 dst 10.0.0.1 sport 50000 dport 22", "accept icmp" },
      texts(port.ingress))
    assert.same({ "failsafe: accept tcp src 10.0.0.1 dst 192.0.2.7 sport 22 dport 50000", "reject tcp sport 22" },
      texts(port.egress))
    assert.same({ "accept", "drop" }, verdicts(port.ingress))
    assert.equal("accept", verdicts(port.egress)[1])
    assert.same({
      "policy eth0 ingress: it would cut off tcp 192.0.2.7:50000 > 10.0.0.1:22, the SSH session that the daemon was "
        .. "started from; kept by the failsafe",
      "policy eth0 egress: it would cut off tcp 192.0.2.7:50000 > 10.0.0.1:22, the SSH session that the daemon was "
        .. "started from; kept by the failsafe",
    }, warnings(port))
  end)

  it("needs no rule where the policy lets it pass", function()
    local port = compiled([[
      wan:policy("ingress", { default = "drop", { "accept", proto = "tcp", dport = 22 } })
      wan:policy("egress", { default = "drop", audit = true })
    ]], SESSION)
    assert.same({ { "accept tcp dport 22" }, {}, {} }, { texts(port.ingress), texts(port.egress), warnings(port) })
  end)

  it("is cut off by force", function()
    local text = 'wan:policy("ingress", { default = "drop", failsafe = false })'
    local port = compiled(text, SESSION)
    assert.same({ "drop", "drop" }, verdicts(port.ingress))
    assert.same({ "policy eth0 ingress: it cuts off tcp 192.0.2.7:50000 > 10.0.0.1:22, the SSH session that the daemon "
      .. "was started from: failsafe = false" }, warnings(port))
    port = compiled('wan:policy("ingress", { default = "drop" })', SESSION, "tg.instance { failsafe = false } ")
    assert.same({ "drop", "drop" }, verdicts(port.ingress))
  end)

  it("can't be helped against a policy that drops ARP", function()
    local port = compiled('wan:policy("ingress", { default = "drop", nd = false })', SESSION)
    assert.equal("policy eth0 ingress: nd = false: ARP is dropped, which the failsafe can't help", warnings(port)[2])
  end)

  it("shows in the plan", function()
    local _, was = compiled('wan:policy("ingress", { { "accept", proto = "icmp" } })', SESSION)
    local _, now = compiled('wan:policy("ingress", { default = "drop", { "accept", proto = "icmp" } })', SESSION)
    local lines = plan.new(was, now):text()
    assert.equal("~ policy eth0 ingress: default accept -> drop\n"
      .. "+ rule eth0 ingress failsafe: accept tcp src 192.0.2.7 dst 10.0.0.1 sport 50000 dport 22\n", lines)
  end)
end)

describe("what failsafe names", function()
  it("passes before all rules, in its direction's terms", function()
    local port = compiled([[
      wan:policy("ingress", { default = "drop", failsafe = { "192.0.2.7", "tcp [2001:db8::1]:22" } })
      wan:policy("egress", { default = "drop" })
    ]], nil, 'tg.instance { failsafe = { "udp 10.0.0.1:53" } } ')
    assert.same({ "failsafe: accept udp dst 10.0.0.1 dport 53", "failsafe: accept src 192.0.2.7",
      "failsafe: accept tcp dst 2001:db8::1 dport 22" }, texts(port.ingress))
    assert.same({ "failsafe: accept udp src 10.0.0.1 sport 53" }, texts(port.egress))
  end)

  it("is told apart from what it can't be", function()
    local function wrong(value)
      local _, message = pcall(failsafe.option, "failsafe", value)
      return (tostring(message):gsub("^.-:%d+: ", ""))
    end
    assert.matches("^failsafe: true given, false or a list", wrong(true))
    assert.matches('^failsafe%[1%]: "sctp 10.0.0.1:5": tcp or udp expected', wrong { "sctp 10.0.0.1:5" })
    assert.matches('^failsafe%[1%]: "host": ', wrong { "host" })
    assert.equal("tcp dst 10.0.0.1 dport 22",
      match.text(failsafe.match_entry("ingress", failsafe.option("failsafe", { "tcp 10.0.0.1:22" })[1])))
  end)
end)
