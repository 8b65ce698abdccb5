-- SPDX-License-Identifier: GPL-2.0-only
local plan = require "tidegate.plan"
local scripts = require "tests.helpers.scripts"

local EMPTY = { services = {}, ports = {} }

local function state_of(texts)
  local gen, state = scripts.resolve(texts)
  assert.same({}, scripts.problems(gen))
  return state, gen
end

local before = [[
  tg.port "eth0"
  tg.service { name = "web", vip = "198.51.100.10:80", drain = 10, check = { "tcp" },
    backends = { "10.0.0.11", "10.0.0.12", { "10.0.0.13", weight = 3 } } }
  tg.service { name = "dns", mode = "l2dsr", vip = "198.51.100.10:53/udp", backends = { "10.0.0.11" } }
]]

--- The plan's lines from one text to another.
local function lines(from, to)
  local result = {}
  local text = plan.new(from and state_of(from) or EMPTY, (state_of(to))):text()
  for line in text:gmatch "[^\n]+" do result[#result + 1] = line end
  return result
end

describe("a plan", function()
  it("from nothing names all that is new", function()
    assert.same({
      "+ service dns: l2dsr 198.51.100.10:53/udp, 1 backends",
      "+ service web: nat 198.51.100.10:80/tcp, 3 backends",
      "+ port eth0: attach, xdp auto",
    }, lines(nil, before))
  end)

  it("to nothing names all that goes", function()
    assert.same({
      "- service dns: l2dsr 198.51.100.10:53/udp, 1 backends",
      "- service web: nat 198.51.100.10:80/tcp, 3 backends",
      "- port eth0: detach",
    }, lines(before, ""))
  end)

  it("of the same is empty, though lines moved and lists are in another order", function()
    local after = [[

      tg.service { name = "dns", mode = "l2dsr", vip = "198.51.100.10:53/udp", backends = { "10.0.0.11" } }
      tg.pool { name = "app", backends = { { "10.0.0.13", weight = 3 }, "10.0.0.12", "10.0.0.11" }, check = { "tcp" } }
      tg.service { name = "web", vip = "198.51.100.10:80/tcp", drain = 10, backends = "app" }
      tg.port("eth0", { xdp = "auto" })
    ]]
    local made = plan.new(state_of(before), (state_of(after)))
    assert.is_true(made:empty())
    assert.equal("nothing would change\n", made:text())
  end)

  it("names what flows may be remembered", function()
    assert.same({
      "~ instance client_flows: 100 -> default",
      "~ instance flows: default -> 64000, when the instance is loaded anew: unload, run",
      "~ instance idle: 30 -> 60",
    }, lines("tg.instance { client_flows = 100, idle = 30 }", "tg.instance { idle = 60, flows = 64000 }"))
    assert.same({ "nothing would change" }, lines(nil, "tg.instance { idle = 60 }"))
  end)

  it("names each change", function()
    assert.same({
      "~ service dns: drain 300 -> 5",
      "~ backend dns/10.0.0.11: becomes a backup",
      "~ service web: mode nat -> l2dsr",
      "~ service web: fail drop -> pass",
      "~ service web: slots 0 -> 251",
      "+ vip web 198.51.100.11:80/tcp",
      "- vip web 198.51.100.10:80/tcp",
      "~ backend web/10.0.0.11: weight 1 -> 7",
      "~ backend web/10.0.0.12: admin ready -> drain",
      "+ backend web/10.0.0.14: added weight 2",
      "- backend web/10.0.0.13: removed",
      "~ port eth0: xdp auto -> generic",
      "+ port eth1: attach, xdp auto",
    }, lines(before, [[
      tg.port("eth0", { xdp = "generic" })
      tg.port "eth1"
      tg.service { name = "web", mode = "l2dsr", vip = "198.51.100.11:80", fail = "pass", slots = 251, drain = 10,
        check = { "tcp" }, backends = { { "10.0.0.11", weight = 7 }, { "10.0.0.12", admin = "drain" },
          { "10.0.0.14", weight = 2 } } }
      tg.service { name = "dns", mode = "l2dsr", vip = "198.51.100.10:53/udp", drain = 5,
        backends = { { "10.0.0.11", backup = true } } }
    ]]))
  end)

  it("tells what becomes of QUIC and of server IDs", function()
    local text = [[tg.service { name = "h3", vip = "198.51.100.10:443/udp", quic = %s,
      backends = { { "10.0.0.11", quic_id = %s }, "10.0.0.12" } }]]
    assert.same({ "~ service h3: quic none -> 2 bytes at 1, config 0" },
      lines(text:format("false", "nil"), text:format("true", "nil")))
    assert.same({ "~ service h3: quic 2 bytes at 1, config 0 -> 1 bytes at 3",
      "~ backend h3/10.0.0.11: QUIC server ID 11 -> 77" },
      lines(text:format("true", "nil"), text:format("{ offset = 3, length = 1 }", "77")))
  end)

  it("tells another check", function()
    local after = before:gsub('check = { "tcp" }', 'check = { "tcp", fall = 5 }')
    assert.same({
      "~ backend web/10.0.0.11: another check", "~ backend web/10.0.0.12: another check",
      "~ backend web/10.0.0.13: another check",
    }, lines(before, after))
  end)

  it("lists the acts at their lines, and is not empty then", function()
    local state, gen = state_of(before .. "tg.spawn(print)\n")
    local made = plan.new(state, state, gen:to_do())
    assert.is_false(made:empty())
    assert.matches("^! act tg.spawn %(.*/web.lua:5%)\n$", made:text())
  end)
end)
