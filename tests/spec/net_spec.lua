-- SPDX-License-Identifier: GPL-2.0-only
local task = require "tidegate.task"
local uv = require "luv"

--- A TCP server on loopback for the length of a test: `serve(stream, send)` is called with each
--- accepted handle. Returns its port.
local servers = {}
local function server(serve, addr)
  local listener = uv.new_tcp()
  listener:bind(addr or "127.0.0.1", 0)
  listener:listen(16, function()
    local handle = uv.new_tcp()
    listener:accept(handle)
    servers[#servers + 1] = handle
    serve(handle)
  end)
  servers[#servers + 1] = listener
  return listener:getsockname().port
end

local function close_servers()
  for _, handle in ipairs(servers) do
    if not handle:is_closing() then handle:close() end
  end
  servers = {}
end

local function sends(...)
  local chunks = { ... }
  return function(handle)
    for _, chunk in ipairs(chunks) do handle:write(chunk) end
    handle:shutdown()
  end
end

--- Descriptors open in this process.
local function descriptors()
  local n = 0
  local directory = uv.fs_scandir "/proc/self/fd"
  while uv.fs_scandir_next(directory) do n = n + 1 end
  return n
end

describe("a stream", function()
  after_each(close_servers)

  it("reads what is sent, then nil at the end", function()
    local c <close> = assert(tg.net.connect("127.0.0.1", server(sends "hello")))
    assert.equal("he", c:read(2))
    assert.equal("llo", c:read())
    assert.same({ nil }, { c:read() })
    assert.same({ nil }, { c:read() })
  end)

  it("reads lines, whatever the pieces they come in, and the last without its end", function()
    local c <close> = assert(tg.net.connect("127.0.0.1", server(sends("one\r", "\ntw", "o\n\n", "rest"))))
    assert.same({ "one", "two", "", "rest", nil },
      { c:read_line(), c:read_line(), c:read_line(), c:read_line(), c:read_line() })
  end)

  it("refuses a line that is too long, instead of keeping it", function()
    local c <close> = assert(tg.net.connect("127.0.0.1", server(sends(("x"):rep(100000)))))
    local line, _, code = c:read_line()
    assert.same({ nil, "EMSGSIZE" }, { line, code })
  end)

  it("reads an exact count, and tells an early end", function()
    local c <close> = assert(tg.net.connect("127.0.0.1", server(sends("12", "3456"))))
    assert.equal("1234", c:read_exactly(4))
    assert.same({ nil, "end of stream", "EOF" }, { c:read_exactly(4) })
    assert.equal("56", c:read())
  end)

  it("writes and is echoed, a megabyte at that", function()
    local port = server(function(handle)
      handle:read_start(function(_, data)
        if data then handle:write(data) else handle:shutdown() end
      end)
    end)
    local c <close> = assert(tg.net.connect("127.0.0.1", port))
    local data = ("0123456789abcdef"):rep(65536)
    local writer = tg.spawn(function()
      assert(c:write(data))
      return c:shutdown()
    end)
    assert.is_true(c:read_exactly(#data) == data)
    assert.same({ true, true }, { writer:join() })
  end)

  it("connects over IPv6", function()
    local c <close> = assert(tg.net.connect("::1", server(sends "six\n", "::1")))
    assert.equal("six", c:read_line())
  end)

  it("connects from the address it is bound to", function()
    local from
    local port = server(function(handle)
      from = handle:getpeername().ip
      handle:shutdown()
    end)
    local c <close> = assert(tg.net.connect("127.0.0.1", port, { bind = "127.0.0.9" }))
    c:read()
    assert.equal("127.0.0.9", from)
  end)

  it("says when the connection is refused", function()
    local port = server(function() end)
    close_servers()
    tg.sleep(0.01)
    assert.same({ nil, "connection refused", "ECONNREFUSED" }, { tg.net.connect("127.0.0.1", port) })
  end)

  it("says when the peer resets it", function()
    local port = server(function(handle)
      handle:read_start(function() handle:close_reset() end)
    end)
    local c <close> = assert(tg.net.connect("127.0.0.1", port))
    c:write "x"
    local data, _, code = c:read()
    assert.same({ nil, "ECONNRESET" }, { data, code })
  end)

  it("gives up reading when its timeout is over, and can go on", function()
    local peer
    local port = server(function(handle) peer = handle end)
    local c <close> = assert(tg.net.connect("127.0.0.1", port, { timeout = 0.02 }))
    assert.same({ nil, "timeout", "ETIMEDOUT" }, { c:read() })
    peer:write "late"
    assert.equal("late", c:read())
  end)

  it("that is closed wakes the task that reads from it", function()
    local c = assert(tg.net.connect("127.0.0.1", server(function() end)))
    local reader = tg.spawn(function() return c:read() end)
    tg.sleep(0.01)
    c:close()
    assert.same({ true, nil, "closed", "ECANCELED" }, { reader:join() })
    assert.same({ nil, "closed", "ECANCELED" }, { c:write "x" })
  end)

  it("is closed with the owner of its task, and when nobody holds it", function()
    local port = server(function() end)
    tg.sleep(0.01)
    collectgarbage()
    local before = descriptors()
    local owner = task.owner "streams"
    local kept = {}
    task.start({ owner = owner }, function()
      for i = 1, 5 do kept[i] = assert(tg.net.connect("127.0.0.1", port)) end
    end):join()
    assert.equal(before + 10, descriptors())     -- both ends are ours
    assert.equal("127.0.0.1", kept[5].addr)
    owner:cancel()
    tg.sleep(0.01)
    assert.equal(before + 5, descriptors())
    for _ = 1, 5 do assert(tg.net.connect("127.0.0.1", port)) end
    collectgarbage()
    tg.sleep(0.01)
    assert.equal(before + 10, descriptors())     -- the server's ends are still open
  end)

  it("refuses what is not an address, a port or an option, at the caller's line", function()
    local function message(...)
      return select(2, pcall(...))
    end
    assert.matches("net_spec.lua:%d+: connect: a port from 0 to 65535 expected, got 70000",
      message(function() tg.net.connect("127.0.0.1", 70000) end))
    assert.matches('unknown option "tmeout" %(allowed: bind, timeout%)',
      message(function() tg.net.connect("127.0.0.1", 1, { tmeout = 1 }) end))
    assert.matches('bind: "x" is not an IP address',
      message(function() tg.net.connect("127.0.0.1", 1, { bind = "x" }) end))
  end)
end)

describe("a name", function()
  it("resolves to addresses of the family asked for", function()
    assert.same({ "127.0.0.1" }, tg.net.resolve("localhost", { family = 4 }))
    assert.same({ "10.1.2.3" }, tg.net.resolve "10.1.2.3")
  end)

  it("that can't be is an error as values", function()
    local list, message, code = tg.net.resolve("no such name", { timeout = 2 })
    assert.is_nil(list)
    assert.is_string(message)
    assert.matches("^E", code)
  end)
end)

describe("a UDP socket", function()
  it("sends and receives, and knows from where", function()
    local a <close> = assert(tg.net.udp { bind = "127.0.0.1" })
    local b <close> = assert(tg.net.udp { bind = "127.0.0.1" })
    local _, port_a = a:address()
    local _, port_b = b:address()
    assert(b:send("ping", "127.0.0.1", port_a))
    assert.same({ "ping", "127.0.0.1", port_b }, { a:receive(1) })
  end)

  it("waits no longer than told", function()
    local s <close> = assert(tg.net.udp { bind = "127.0.0.1", timeout = 0.01 })
    assert.same({ nil, "timeout", "ETIMEDOUT" }, { s:receive() })
  end)
end)
