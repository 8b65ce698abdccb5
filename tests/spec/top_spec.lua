-- SPDX-License-Identifier: GPL-2.0-only
--- tg.top: what the real programs count of packets, with tables by hand, and the call's arguments. Real floods are in
--- tests/net/triggers_test.sh.
local core = require "tidegate.core.top"
local packets = require "tests.helpers.packets"
local scripts = require "tests.helpers.scripts"
local switch = require "tests.helpers.switch"
local tc_switch = require "tests.helpers.tc_switch"

if switch.refused() then
  pending("the datapath " .. switch.refused())
  return
end

local LOOPBACK, OTHER = 1, 77          -- interface indexes
local ANY_PORT, FOREVER <const> = 0xffffffff, math.maxinteger
local ACCEPTS <const> = core.place()   -- of what is counted; without one, everything is

local run = 0

--- Begins a top; `by`: 0 by source, 1 by destination.
local function begin(sw, by, slot)
  run = run + 1
  assert(sw:map("top"):set(0, { ["until"] = FOREVER, run = run, by = by or 0, slot = slot or ANY_PORT }))
end

local function address(words)
  if words[3] ~= 0xffff then return "v6" end
  return ("%d.%d.%d.%d"):format(string.pack(">I4", words[4]):byte(1, 4))
end

--- What the top has counted: address → "packets completed unseen".
local function counted(sw)
  local map, found = sw:map "top_counts", {}
  for key in map:pairs() do
    if key.run == run then
      local c = map:sum(key)
      found[address(key.addr)] = ("%d %d %d"):format(c.packets, c.completed, c.unseen)
    end
  end
  return found
end

local CLIENT, SERVER = "192.0.2.7", "198.51.100.10"

--- A packet of a connection of the client: from it with to_server, else to it.
local function tcp(flags, given)
  given = given or {}
  local ends = { CLIENT, SERVER, 40000, 443 }
  if given.back then ends = { SERVER, CLIENT, 443, 40000 } end
  return tg.packet {
    ip = { src = given.src or ends[1], dst = ends[2] },
    tcp = { sport = ends[3], dport = given.dport or ends[4], flags = flags, seq = given.seq, ack = given.ack },
  }
end

describe("TC counts for a top", function()
  local tc
  setup(function()
    tc = tc_switch.new()
    assert(tc:map("ports"):set(LOOPBACK, { slot = 0, flags = 1 }))
  end)
  teardown(function() tc:close() end)

  --- `from`: the interface that what leaves came in by, 0 of the switch itself.
  local function pass(direction, p, from)
    local program <close> = assert(tg.prog.open(tc.object.progs .. "/tidegate_" .. direction))
    assert(program:run(p:bytes(), { ctx = { ifindex = LOOPBACK, ingress_ifindex = from or 0 } }))
  end

  it("what comes in, by its source or its destination", function()
    begin(tc)
    for _ = 1, 3 do pass("ingress", tcp "S") end
    pass("ingress", tcp("S", { src = "192.0.2.8" }))
    pass("egress", tcp("S", { src = "192.0.2.9" }))
    assert.same({ ["192.0.2.7"] = "3 0 0", ["192.0.2.8"] = "1 0 0" }, counted(tc))
    begin(tc, 1)
    pass("ingress", tcp "S")
    assert.same({ [SERVER] = "1 0 0" }, counted(tc))
  end)

  it("both families", function()
    begin(tc)
    pass("ingress", packets.tcp6 {})
    assert.same({ v6 = "1 0 0" }, counted(tc))
  end)

  it("of the port that was asked for, and at work alone", function()
    begin(tc, 0, 5)
    pass("ingress", tcp "S")
    assert.same({}, counted(tc))
    begin(tc)
    assert(tc:map("top"):set(0, { ["until"] = 1, run = run, slot = ANY_PORT }))
    pass("ingress", tcp "S")
    assert.same({}, counted(tc))
  end)

  --- A handshake as it passes; `given` says what is wrong with it.
  local function handshake(given)
    given = given or {}
    begin(tc)
    pass("ingress", tcp("S", { seq = 100 }))
    if not given.unanswered then pass("egress", tcp("SA", { back = true, seq = 5000, ack = 101 }), given.from) end
    for _ = 1, given.times or 1 do
      pass("ingress", tcp(given.flags or "A", { seq = 101, ack = given.ack or 5001, src = given.src }))
    end
    return counted(tc)
  end

  it("handshakes that are completed", function()
    assert.same({ [CLIENT] = "2 1 0" }, handshake())
    assert.same({ [CLIENT] = "2 1 0" }, handshake { from = OTHER })
    assert.same({ [CLIENT] = "2 1 0" }, handshake { flags = "PA" })
  end)

  it("each once", function()
    assert.same({ [CLIENT] = "4 1 0" }, handshake { times = 3 })
  end)

  it("none that a spoofer could have faked", function()
    assert.same({ [CLIENT] = "2 0 0" }, handshake { ack = 5002 })           -- it has not seen the answer
    assert.same({ [CLIENT] = "2 0 0" }, handshake { unanswered = true })
    assert.same({ [CLIENT] = "2 0 0" }, handshake { flags = "RA" })
    assert.same({ [CLIENT] = "2 0 0" }, handshake { from = LOOPBACK })      -- the "answer" is from where the client is
    assert.same({ [CLIENT] = "1 0 0", ["192.0.2.8"] = "1 0 0" }, handshake { src = "192.0.2.8" })
  end)

  it("none whose answer an earlier top has seen", function()
    handshake { ack = 1 }
    begin(tc)
    pass("ingress", tcp("A", { ack = 5001 }))
    assert.same({ [CLIENT] = "1 0 0" }, counted(tc))
  end)

  it("nothing of what does not match", function()
    tc:policy("ingress", { default = "drop" })      -- a policy's page, which serves the top now
    local directory = ("\0"):rep(ACCEPTS * 4) .. string.pack("<I4", 1)
    assert(tc:map("policy_pages"):set(0, { byte = directory .. ("\0"):rep(4096 - #directory) }))
    finally(function() tc:policy("ingress", nil) end)
    assert.same({}, handshake())
  end)
end)

describe("XDP counts for a top", function()
  local sw
  setup(function()
    sw = switch.new()
    sw:backend(1, { addr = "192.0.2.11" })
    sw:vip(SERVER .. ":443/tcp", { service = 1, ring = { 1 } })
    sw:vip(SERVER .. ":80/tcp", { service = 2, ring = { 1 }, mode = "nat" })
    sw:reverse("192.0.2.11:80/tcp", SERVER .. ":80/tcp", { service = 2, backend = 1 })
    sw:route("192.0.2.0/24", { hop = { dmac = "02:00:00:00:02:01", smac = "02:00:00:00:00:ff" } })
    assert(sw:map("ports"):set(LOOPBACK, { slot = 0, flags = 1 }))
  end)
  teardown(function() sw:close() end)

  it("what it forwards to servers that answer the client themselves: no handshake can be seen", function()
    begin(sw)
    assert.equal("forward", sw:receive(tcp "S").reason)
    assert.same({ [CLIENT] = "1 0 1" }, counted(sw))
  end)

  it("nat's packets, and their servers' answers", function()
    begin(sw)
    assert.equal("forward", sw:receive(tcp("S", { dport = 80, seq = 100 })).reason)
    local answer = tg.packet {
      ip = { src = "192.0.2.11", dst = CLIENT },
      tcp = { sport = 80, dport = 40000, flags = "SA", seq = 5000, ack = 101 },
    }
    assert.equal("forward", sw:receive(answer).reason)
    sw:receive(tcp("A", { dport = 80, ack = 5001 }))
    -- here both come in by one interface, which proves nothing: tests/net/triggers_test.sh has two
    assert.same({ [CLIENT] = "2 0 0", ["192.0.2.11"] = "1 0 0" }, counted(sw))
    local answers = 0
    for client in sw:map("top_answers"):pairs() do answers = answers + (client.run == run and 1 or 0) end
    assert.equal(1, answers)
  end)

  it("nothing of what TC will see", function()
    begin(sw)
    assert.equal("pass", sw:receive(tg.packet "tcp 192.0.2.7 > 192.0.2.99:80 S").verdict)
    assert.same({}, counted(sw))
  end)
end)

describe("tg.top", function()
  it("says what is wrong, at the script's line", function()
    local function mistake(options) return scripts.mistakes("tg.top " .. options)[1] end
    assert.equal("web.lua:1: tg.top: it counts what runs; call it in a task, not while files load", mistake "{}")
    assert.equal("web.lua:1: tg.top.by: \"port\" given, src, dst expected", mistake "{ by = 'port' }")
    assert.equal("web.lua:1: tg.top.seconds: 61 given, seconds from 0.1 to 60 expected", mistake "{ seconds = 61 }")
    assert.equal("web.lua:1: tg.top.n: 0 given, an integer from 1 to 1000 expected", mistake "{ n = 0 }")
    assert.truthy(mistake("{ match = { dport = 80 } }"):find "proto", 1, true)
  end)
end)
