-- SPDX-License-Identifier: GPL-2.0-only
--- What port:capture refuses, and when a capture begins. tests/net/capture_test.sh has packets.
local capture = require "tidegate.capture"
local packet = require "tidegate.packet"
local pcapng = require "tidegate.packet.pcapng"
local running = require "tidegate.running"
local scripts = require "tests.helpers.scripts"

local function refusal(given)
  local ok, message = pcall(function() return tg.ports.eth0:capture(given) end)
  assert.is_false(ok)
  return (message:gsub("^.-:%d+: ", ""))
end

local function with(fields)
  fields.file = "/tmp/x.pcapng"
  return fields
end

describe("a capture's options", function()
  local before = running.ports
  setup(function() running.ports = { eth0 = { name = "eth0" } } end)
  teardown(function() running.ports = before end)

  it("name a file, from the root", function()
    assert.equal('port "eth0": capture: option "file" is missing', refusal {})
    for _, file in ipairs { "x.pcapng", "/tmp/", "", 7 } do
      assert.matches('^port "eth0": capture%.file: .* given, the path of a file expected', refusal { file = file })
    end
  end)

  it("are what they may be", function()
    for text, fields in pairs {
      ["snap: 5 given, an integer from 14 to 65536"] = { snap = 5 },
      ["packets: 0 given, an integer from 1"] = { packets = 0 },
      ["seconds: 0 given, seconds from 0.01"] = { seconds = 0 },
      ['bytes: "1K" given, bytes from 4K to 1T'] = { bytes = "1K" },
      ['direction: "in" given, both, ingress, egress'] = { direction = "in" },
      ['unknown option "filename" (allowed: bytes, direction, file, filter'] = { filename = "/x" },
      ["match.proto: \"tpc\": no protocol"] = { match = { proto = "tpc" } },
      ["match: port needs proto"] = { match = { port = 80 } },
      ['filter: "tcp porta 80" is no tcpdump expression: '] = { filter = "tcp porta 80" },
      ["filter: 7 given, a string expected"] = { filter = 7 },
    } do
      assert.is_truthy(refusal(with(fields)):find(text, 1, true), refusal(with(fields)))
    end
  end)

  it("are of a port that there is", function()
    local ok, message = pcall(function() return tg.ports.eth7:capture(with {}) end)
    assert.is_false(ok)
    assert.matches('port "eth7": capture: there is no such port', message)
  end)
end)

describe("at a file's top level", function()
  it("a capture is an act of the plan, that waits for the commit", function()
    local gen <close> = scripts.load [[
      local wan = tg.port "eth0"
      local one = wan:capture { file = "/nonexistent/x.pcapng", match = { proto = "icmp" }, packets = 3 }
      assert(one:status().state == "queued" and one.port == "eth0")
      assert(tostring(one) == "capture of eth0 to /nonexistent/x.pcapng, queued")
    ]]
    assert.same({}, gen.problems)
    assert.equal("capture eth0 to /nonexistent/x.pcapng", gen:to_do()[1].text)
    assert.same({}, capture.of { name = "eth0" })
  end)

  it("one that was stopped does not begin", function()
    local gen <close> = scripts.load [[
      local one = tg.port "eth0":capture { file = "/nonexistent/x.pcapng" }
      assert(one:stop().ended == "stopped")
      assert(one:wait().packets == 0)
    ]]
    assert.same({}, gen.problems)
  end)

  it("nobody can wait for it", function()
    local gen <close> = scripts.load 'tg.port "eth0":capture { file = "/nonexistent/x.pcapng" }:wait()'
    assert.matches("wait: the capture begins when all files are in force", gen.problems[1].message)
  end)

  it("a mistake is a problem of its line", function()
    local gen <close> = scripts.load '\ntg.port "eth0":capture { file = "/x", filter = "no expression" }'
    assert.matches(":2$", gen.problems[1].position)
    assert.matches("is no tcpdump expression", gen.problems[1].message)
  end)
end)

describe("a line of text", function()
  it("is printed for what is no packet, too", function()
    local line = pcapng.line { time = 0, interface = "eth0", direction = 1, length = 60, bytes = ("\255"):rep(60) }
    assert.matches("eth0 in  eth ff:ff:ff:ff:ff:ff > ff:ff:ff:ff:ff:ff 0xffff len 46, 60 bytes$", line)
    assert.matches("eth0 %- eth .*, 4 bytes$",
      pcapng.line { time = 0, interface = "eth0", direction = 0, length = 4, bytes = "\1\2\3\4" })
  end)

  it("shows what there is of a packet that was cut", function()
    local bytes = packet "tcp 192.0.2.7:40000 > 198.51.100.10:443 S len 100":bytes():sub(1, 60)
    assert.matches("tcp 192%.0%.2%.7:40000 > 198%.51%.100%.10:443 S.*, 154 bytes$",
      pcapng.line { time = 0, interface = "eth0", direction = 1, length = 154, bytes = bytes })
  end)
end)
