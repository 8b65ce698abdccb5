-- SPDX-License-Identifier: GPL-2.0-only
--- The operator's library of checks (scripts/checks), against tiny servers, as a script gets them.
local sandbox = require "tidegate.sandbox"
local task = require "tidegate.task"
local uv = require "luv"

local function plugin(name)
  return sandbox.new({ directory = "/nonexistent" }).require("checks." .. name)
end

--- Up and why not, as the daemon would have it of a check of so many seconds.
local function probe(checker, port, args, addr)
  local target = { addr = addr or "127.0.0.1", port = port }
  local ok, up, reason = pcall(task.timeout, 0.3, checker.check, target, args or {})
  if not ok then return false, "check raised: " .. up end
  return up, up ~= true and reason or nil
end

--- A server on loopback that answers each line as `answers` says; returns its port.
local function line_server(answers)
  local listener = uv.new_tcp()
  listener:bind("127.0.0.1", 0)
  listener:listen(16, function()
    local handle = uv.new_tcp()
    listener:accept(handle)
    handle:read_start(function(_, data)
      if not data then return handle:close() end
      for line in data:gmatch "([^\r\n]+)\r\n" do handle:write(answers[line] or "-ERR unknown\r\n") end
    end)
  end)
  finally(function() listener:close() end)
  return listener:getsockname().port
end

--- A name server whose answer to a message is `answer(message)`; returns its port and what it was asked.
local function name_server(answer, addr)
  local socket, asked = assert(tg.net.udp { bind = addr or "127.0.0.1" }), {}
  local _, port = socket:address()
  local job = tg.spawn(function()
    while true do
      local message, from, from_port = socket:receive()
      asked[#asked + 1] = message
      for _, datagram in ipairs { answer(message) } do socket:send(datagram, from, from_port) end
    end
  end)
  finally(function()
    job:cancel()
    socket:close()
  end)
  return port, asked
end

--- A message's answer with these flags: the header with QR set, and the rest as it was.
local function reply(message, rcode)
  return message:sub(1, 2) .. string.pack(">H", 0x8180 | rcode) .. message:sub(5)
end

describe("a plugin of the library", function()
  it("says what it is", function()
    for _, name in ipairs { "redis", "dns" } do
      local it = plugin(name)
      assert.same({ 1, name, "string", "function" }, { it.api, it.name, type(it.summary), type(it.check) })
    end
  end)
end)

describe("the redis check", function()
  it("is content with PONG", function()
    assert.is_true(probe(plugin "redis", line_server { PING = "+PONG\r\n" }))
  end)

  it("gives the password first", function()
    local port = line_server { ["AUTH secret"] = "+OK\r\n", PING = "+PONG\r\n" }
    assert.is_true(probe(plugin "redis", port, { password = "secret" }))
    assert.same({ false, "AUTH refused" }, { probe(plugin "redis", port, { password = "wrong" }) })
  end)

  it("says what it got instead", function()
    assert.same({ false, "answered -LOADING" }, { probe(plugin "redis", line_server { PING = "-LOADING\r\n" }) })
    assert.matches("^check raised: .*connection refused$", select(2, probe(plugin "redis", 1)))
  end)
end)

describe("the dns check", function()
  local args = { name = "health.example.org" }

  it("asks for an address, and is content with an answer", function()
    local port, asked = name_server(function(message) return reply(message, 0) end)
    assert.is_true(probe(plugin "dns", port, args))
    assert.equal("\1\0\0\1\0\0\0\0\0\0\6health\7example\3org\0\0\1\0\1", asked[1]:sub(3))
  end)

  it("asks over IPv6, and for other types", function()
    local port, asked = name_server(function(message) return reply(message, 0) end, "::1")
    assert.is_true(probe(plugin "dns", port, { name = "example.org.", type = "TXT" }, "::1"))
    assert.equal("\7example\3org\0\0\16\0\1", asked[1]:sub(13))
  end)

  it("names the error", function()
    assert.same({ false, "SERVFAIL" }, { probe(plugin "dns", (name_server(function(m) return reply(m, 2) end)), args) })
    assert.same({ false, "RCODE 9" }, { probe(plugin "dns", (name_server(function(m) return reply(m, 9) end)), args) })
  end)

  it("takes no other datagram for the answer", function()
    local port = name_server(function(m)
      return "short", m, string.pack(">H", string.unpack(">H", m) ~ 1) .. reply(m, 0):sub(3), reply(m, 3)
    end)
    assert.same({ false, "NXDOMAIN" }, { probe(plugin "dns", port, args) })
  end)

  it("waits in vain for a silent server", function()
    assert.same({ nil, "timeout" }, { probe(plugin "dns", (name_server(function() end)), args) })
  end)
end)
