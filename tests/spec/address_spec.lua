-- SPDX-License-Identifier: GPL-2.0-only
local address = require "tidegate.address"

describe("an endpoint", function()
  local readable = {
    ["10.0.0.1"] = { addr = "10.0.0.1", family = 4 },
    ["10.0.0.1:80"] = { addr = "10.0.0.1", family = 4, port = 80 },
    ["10.0.0.1:53/udp"] = { addr = "10.0.0.1", family = 4, port = 53, proto = "udp" },
    ["10.0.0.1/tcp"] = { addr = "10.0.0.1", family = 4, proto = "tcp" },
    ["2001:DB8:0:0::1"] = { addr = "2001:db8::1", family = 6 },
    ["[2001:db8::1]"] = { addr = "2001:db8::1", family = 6 },
    ["[2001:db8::1]:65535/tcp"] = { addr = "2001:db8::1", family = 6, port = 65535, proto = "tcp" },
    ["::ffff:10.0.0.1"] = { addr = "::ffff:10.0.0.1", family = 6 },
  }

  for text, expected in pairs(readable) do
    it("is read from " .. text, function() assert.same(expected, address.parse(text)) end)
  end

  local wrong = {
    [""] = "not an IP address",
    ["10.0.0.300"] = "not an IP address",
    ["10.0.0.1 "] = "not an IP address",
    ["010.0.0.1"] = "not an IP address",
    ["example.com:80"] = "not an IP address",
    ["[10.0.0.1"] = "not an IP address",
    ["2001:db8::1::2"] = "not an IP address",
    ["10.0.0.1:70000"] = "port 70000: 1 to 65535 allowed",
    ["10.0.0.1:0"] = "port 0: 1 to 65535 allowed",
    ["10.0.0.1:-1"] = "port missing: 1 to 65535 allowed",
    ["10.0.0.1:http"] = "port http: 1 to 65535 allowed",
    ["10.0.0.1:"] = "port missing: 1 to 65535 allowed",
    ["10.0.0.1:99999999999999999999"] = "port 99999999999999999999: 1 to 65535 allowed",
    ["10.0.0.1:80/sctp"] = '"/sctp" after the address: /tcp or /udp allowed',
    ["10.0.0.1:80tcp"] = "port 80tcp: 1 to 65535 allowed",
    ["[2001:db8::1]x"] = '"x" after the address: /tcp or /udp allowed',
  }

  for text, message in pairs(wrong) do
    it(("is not %q"):format(text), function() assert.same({ nil, message }, { address.parse(text) }) end)
  end

  it("prints as it is read", function()
    for _, text in ipairs { "10.0.0.1:80/tcp", "[2001:db8::1]:53/udp", "10.0.0.1:8000-8099/tcp",
      "[2001:db8::1]:*/udp", "10.0.0.1:1-65534/tcp" } do
      assert.equal(text, address.format_vip(address.parse_vip(text)))
    end
    assert.equal("2001:db8::1", address.format("2001:db8::1"))
  end)
end)

describe("a VIP's port", function()
  local readable = {
    ["10.0.0.1:80"] = { port = 80 }, ["10.0.0.1:*"] = { port = 1, last = 65535 },
    ["10.0.0.1:80-80/tcp"] = { port = 80, proto = "tcp" }, ["10.0.0.1:1-2/udp"] = { port = 1, last = 2, proto = "udp" },
    ["10.0.0.1:65534-65535"] = { port = 65534, last = 65535 }, ["10.0.0.1"] = {},
  }
  for text, expected in pairs(readable) do
    it("is read from " .. text, function()
      expected.addr, expected.family = "10.0.0.1", 4
      assert.same(expected, address.parse_vip(text))
    end)
  end

  local wrong = {
    ["10.0.0.1:"] = "port missing: 1 to 65535 allowed",
    ["10.0.0.1:0-9"] = "port 0: 1 to 65535 allowed",
    ["10.0.0.1:1-65536"] = "port 65536: 1 to 65535 allowed",
    ["10.0.0.1:9-8"] = "ports 9-8: the first is above the last",
    ["10.0.0.1:-8"] = "port missing: 1 to 65535 allowed",
    ["10.0.0.1:8-"] = "port missing: 1 to 65535 allowed",
    ["10.0.0.1:1-2-3"] = "port 2-3: 1 to 65535 allowed",
    ["10.0.0.1:**"] = "port **: 1 to 65535 allowed",
    ["10.0.0.1:http"] = "port http: 1 to 65535 allowed",
  }
  for text, message in pairs(wrong) do
    it(("is not %q"):format(text), function() assert.same({ nil, message }, { address.parse_vip(text) }) end)
  end

  it("is one port elsewhere", function()
    assert.same({ nil, "port missing: 1 to 65535 allowed" }, { address.parse "10.0.0.1:*" })
    assert.is_nil(address.parse "10.0.0.1:1-2")
  end)
end)
