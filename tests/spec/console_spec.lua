--- The control socket end to end: console.lua in this process, `tidegate` itself as the client.
local console = require "tidegate.console"
local task = require "tidegate.task"
local uv = require "luv"

local instance = ("test-%d"):format(uv.os_getpid())
local path = "/run/tidegate/" .. instance .. ".sock"
local frame = ">I4B"

local function reader(pipe, store)
  pipe:read_start(function(_, data) if data then store[#store + 1] = data end end)
end

--- Starts the client; `client.wait()` gives its exit code, standard output and standard error.
local function start(args, input)
  local stdin, stdout, stderr = uv.new_pipe(false), uv.new_pipe(false), uv.new_pipe(false)
  local out, err, client, done = {}, {}, {}, nil
  client.process = assert(uv.spawn(uv.exepath(), {
    args = args, stdio = { stdin, stdout, stderr }, env = { "HOME=/nonexistent" },
  }, function(code, signal)
    client.code = signal > 0 and "signal " .. signal or code
    if done then done() end
  end))
  reader(stdout, out)
  reader(stderr, err)
  if input then stdin:write(input) end
  stdin:shutdown()
  function client.wait()
    if not client.code then task.await(function(ended) done = ended end) end
    task.sleep(0.02)        -- what it wrote last
    for _, handle in ipairs { stdin, stdout, stderr, client.process } do handle:close() end
    return client.code, table.concat(out), table.concat(err)
  end
  return client
end

local function run(command, ...)
  return start { command, "--instance", instance, ... }.wait()
end

local function wait_until(condition)
  local limit = task.now() + 3
  while not condition() do
    assert(task.now() < limit, "waited in vain")
    task.sleep(0.01)
  end
end

--- A client by hand, for what the real one never does.
local function connect()
  local pipe, parts, client = uv.new_pipe(false), {}, {}
  task.await(function(done) pipe:connect(path, done) end)
  pipe:read_start(function(_, data)
    client.closed = client.closed or not data
    parts[#parts + 1] = data
  end)
  function client.send(kind, payload) pipe:write(frame:pack(#payload, kind:byte()) .. payload) end
  function client.text() return table.concat(parts) end
  function client.stop() pipe:read_stop() end
  function client.close() if not pipe:is_closing() then pipe:close() end end
  client.pipe = pipe
  return client
end

describe("the control socket", function()
  local server

  setup(function()
    uv.fs_mkdir("/run/tidegate", tonumber("755", 8))
    server = assert(console.start(path))
  end)

  teardown(function()
    server:cancel()
    assert.is_nil(uv.fs_stat(path))
  end)

  it("prints the values of an expression as Lua", function()
    assert.same({ 0, '3\n', "" }, { run("eval", "1 + 2") })
    assert.same({ 0, '"a"\n{ 1, b = true }\nnil\n', "" }, { run("eval", '"a", { 1, b = true }, nil') })
    assert.same({ 0, '4\n', "" }, { run("eval", "=2 * 2") })
  end)

  it("runs statements, which may wait, and print to the client", function()
    assert.same({ 0, "a\t1\n7\n", "" }, { run("eval", 'print("a", 1) require "tidegate".sleep(0.05) return 7') })
    assert.same({ 0, "", "" }, { run("eval", "local x = 1") })
  end)

  it("sends a traceback, and the exit code says no", function()
    local code, out, err = run("eval", 'local function deep() error "boom" end deep()')
    assert.same({ 1, "" }, { code, out })
    assert.truthy(err:find("eval:1: boom", 1, true))
    assert.truthy(err:find("stack traceback:", 1, true))
    assert.truthy(err:find("deep", 1, true))
    code, out, err = run("eval", "x =")
    assert.same({ 1, "" }, { code, out })
    assert.truthy(err:find "^eval:1: unexpected symbol near <eof>\n$")
    assert.equal(1, (run("eval", "error {}")))
  end)

  it("keeps an evaluation's globals to itself, on top of the scripts'", function()
    console.set_environment(function() return { shared = 42 } end)
    assert.same({ 0, "42\n", "" }, { run("eval", "shared") })
    assert.same({ 0, "1\n", "" }, { run("eval", "shared = 1; return _G.shared") })
    assert.same({ 0, "42\n", "" }, { run("eval", "shared") })
    console.set_environment(function() return _G end)
  end)

  it("stops an evaluation that doesn't yield, and goes on serving", function()
    local code, _, err = run("eval", "while true do end")
    assert.equal(1, code)
    assert.truthy(err:find("stopped after 500 ms", 1, true))
    assert.same({ 0, "1\n", "" }, { run("eval", "1") })
  end)

  it("cancels what runs on an interrupt, closing its variables", function()
    _G.closed, _G.host = nil, _G
    local client = start { "eval", "--instance", instance,
      [[local c <close> = setmetatable({}, { __close = function() host.closed = true end })
        print "waiting"
        require "tidegate".sleep(60)]] }
    wait_until(function() return next(server.connections) and next(server.connections).job end)
    client.process:kill "sigint"
    local code, out, err = client.wait()
    assert.same({ 1, "waiting\n", "cancelled\n" }, { code, out, err })
    assert.is_true(_G.closed)
  end)

  it("cancels the task of a client that disconnects", function()
    _G.closed, _G.host = nil, _G
    local client = connect()
    client.send("R", "eval\0" .. [[
      local c <close> = setmetatable({}, { __close = function() host.closed = true end })
      require "tidegate".sleep(60)]] .. "\0")
    wait_until(function() return next(server.connections) and next(server.connections).job end)
    client.close()
    wait_until(function() return _G.closed end)
    assert.equal(0, server.count)
  end)

  it("ends what a session started when the session ends", function()
    _G.host, _G.ticks = _G, 0
    assert.equal(0, (run("eval", 'require "tidegate".every(0.01, function() host.ticks = host.ticks + 1 end)')))
    wait_until(function() return server.count == 0 end)
    local ticks = _G.ticks
    task.sleep(0.1)
    assert.equal(ticks, _G.ticks)
  end)

  it("carries megabytes, to a reader that is slow too", function()
    local code, out = run("eval", "print((' '):rep(3 << 20))")
    assert.same({ 0, (3 << 20) + 1 }, { code, #out })
    local client = connect()
    client.stop()
    client.send("R", "eval\0for i = 1, 64 do print((' '):rep(1 << 19)) end\0")
    wait_until(function() return next(server.connections) and next(server.connections).job end)
    task.sleep(0.2)
    local pipe = next(server.connections).pipe
    assert.truthy(pipe:get_write_queue_size() < 2 << 20)        -- the task waits: 32 MiB are to come
    client.pipe:read_start(function(_, data) client.read = (client.read or 0) + #(data or "") end)
    wait_until(function() return (client.read or 0) > 64 << 19 end)
    client.close()
  end)

  it("disconnects who sends anything else", function()
    for _, bytes in ipairs { "GET / HTTP/1.0\r\n\r\n", frame:pack((16 << 20) + 1, 82), "\0\0\0\0Z" } do
      local client = connect()
      client.pipe:write(bytes)
      wait_until(function() return client.closed end)
      client.close()
    end
    local client = connect()
    client.send("R", "eval\0require 'tidegate'.sleep(60)\0")
    client.send("R", "eval\0001\0")
    wait_until(function() return client.closed end)
    client.close()
    assert.same({ 0, "1\n", "" }, { run("eval", "1") })
  end)

  it("ignores a cancel without a request, and takes a request cut into bytes", function()
    local client = connect()
    client.send("C", "")
    for byte in (frame:pack(7, ("R"):byte()) .. "eval\0001\0"):gmatch "." do
      client.pipe:write(byte)
      task.sleep(0.001)
    end
    wait_until(function() return #client.text() >= 13 end)
    assert.equal(frame:pack(2, ("O"):byte()) .. "1\n" .. frame:pack(1, ("X"):byte()) .. "\0", client.text())
    client.close()
  end)

  it("refuses connections beyond its limit, and says so", function()
    local clients = {}
    for i = 1, 32 do clients[i] = connect() end
    wait_until(function() return server.count == 32 end)
    local code, _, err = run("eval", "1")
    assert.equal(3, code)
    assert.truthy(err:find("serves 32 connections", 1, true))
    for _, client in ipairs(clients) do client.close() end
    wait_until(function() return server.count == 0 end)
    assert.equal(0, (run("eval", "1")))
  end)

  it("tells which commands there are", function()
    console.register("hello", function(request) request:print(#request.args, request.uid) return 4 end)
    local client = connect()
    client.send("R", "hello\0a\0\0")
    wait_until(function() return #client.text() > 0 end)
    assert.equal(frame:pack(4, ("O"):byte()) .. "2\t0\n" .. frame:pack(1, ("X"):byte()) .. "\4", client.text())
    client.close()
    local other = connect()
    other.send("R", "nonsense\0")
    wait_until(function() return other.text():find("hello", 1, true) end)
    assert.truthy(other.text():find('no command "nonsense"; it knows: eval, hello, repl', 1, true))
    other.close()
  end)

  it("reads a session from a pipe, its globals kept from entry to entry", function()
    local client = start({ "repl", "--instance", instance }, [[
x = 20

for i = 1, 2 do
  x = x + i
end
=x
x, { x }
return x, "last line"
]])
    assert.same({ 0, '23\n23\n{ 23 }\n23\n"last line"\n', "" }, { client.wait() })
    assert.same({ 0, "nil\n", "" }, { start({ "repl", "--instance", instance }, "x").wait() })
  end)

  it("says at the end of a session what is wrong with its last entry", function()
    local code, out, err = start({ "repl", "--instance", instance }, "1 + 1\nfor i = 1, 2 do\n").wait()
    assert.same({ 1, "2\n" }, { code, out })
    assert.truthy(err:find("'end' expected .*near <eof>"))
    code, out, err = start({ "repl", "--instance", instance }, "error 'boom'\n'after'\n").wait()
    assert.same({ 1, '"after"\n' }, { code, out })
    assert.truthy(err:find("boom", 1, true))
  end)
end)
