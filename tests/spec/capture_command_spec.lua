-- SPDX-License-Identifier: GPL-2.0-only
--- `tidegate capture` as far as it goes without a switch: what it asks of the daemon, which here is this process,
--- where the packets go to, and the lines that it prints. tests/net/capture_test.sh has the rest.
local console = require "tidegate.console"
local core = require "tidegate.core.console"
local packet = require "tidegate.packet"
local task = require "tidegate.task"
local uv = require "luv"

local instance = ("capture-%d"):format(uv.os_getpid())
local path = "/run/tidegate/" .. instance .. ".sock"
local scratch = ("/tmp/tidegate-capture-%d"):format(uv.os_getpid())

--- Runs the command; its exit code, standard output and standard error. `early(process)` is called meanwhile.
local function capture(args, early)
  local pipes, texts, done = { uv.new_pipe(false), uv.new_pipe(false) }, { "", "" }, nil
  local left, code = 3, nil
  local function part()
    left = left - 1
    if left == 0 and done then done() end
  end
  local words = { "capture" }
  table.move(args, 1, #args, 2, words)
  table.move({ "--instance", instance }, 1, 2, 2, words)
  table.move(args, 1, #args, 4, words)
  local process = assert(uv.spawn(uv.exepath(), { args = words, stdio = { nil, pipes[1], pipes[2] } },
    function(status, signal)
      code = signal > 0 and "signal " .. signal or status
      part()
    end))
  for i, pipe in ipairs(pipes) do
    pipe:read_start(function(_, data)
      if data then texts[i] = texts[i] .. data else part() end
    end)
  end
  if early then early(process) end
  if left > 0 then task.await(function(ended) done = ended end) end
  process:close()
  for _, pipe in ipairs(pipes) do pipe:close() end
  return code, texts[1], texts[2]
end

local function block(kind, body)
  local length = #body + 12
  return string.pack("=I4I4", kind, length) .. body .. string.pack("=I4", length)
end

local function option(code, value) return string.pack("=I2I2", code, #value) .. value .. ("\0"):rep(-#value & 3) end

local NONE = string.pack("=I2I2", 0, 0)

--- A capture with a packet of each direction; times in ns.
local function blocks(list)
  local parts = {
    block(0x0a0d0d0a, string.pack("=I4I2I2i8", 0x1a2b3c4d, 1, 0, -1)),
    block(1, string.pack("=I2I2I4", 1, 0, 65536) .. option(2, "eth0") .. option(9, "\9") .. NONE),
  }
  for _, one in ipairs(list) do
    local bytes = one.bytes
    parts[#parts + 1] = block(6, string.pack("=I4I4I4I4I4", 0, one.time >> 32, one.time & 0xffffffff, #bytes,
      one.length or #bytes) .. bytes .. ("\0"):rep(-#bytes & 3) .. option(2, string.pack("=I4", one.direction)) ..
      option(1, one.comment) .. NONE)
  end
  return table.concat(parts)
end

local request       -- the last one
local answer        -- what the daemon does

local function write(bytes)
  local fd = assert(request:take_descriptor())
  for at = 1, #bytes, 1000 do task.await(function(done) uv.fs_write(fd, bytes:sub(at, at + 999), -1, done) end) end
  core.close(fd)
end

setup(function()
  os.execute "mkdir -p /run/tidegate"
  assert(console.start(path))
  console.register("capture", function(given)
    request = given
    return answer(given)
  end)
end)
before_each(function() answer = function() return 0 end end)
after_each(function() os.remove(scratch) end)

local function words() return table.concat(request.args, " ") end

describe("the command", function()
  it("asks for a port, its options and a match", function()
    assert.equal(0, (capture { "eth0", "-w", "-", "-c", "10", "--seconds", "5", "--snap", "96", "--bytes", "1M",
      "--direction", "ingress", "proto=tcp", "port=80" }))
    assert.equal("eth0 packets=10 seconds=5 snap=96 bytes=1M direction=ingress -- proto=tcp port=80", words())
  end)

  it("takes all else for an expression, and what stands behind --", function()
    capture { "-c", "1", "eth0", "ip[2:2]", "-", "40", ">", "9", "--snap", "60" }
    assert.equal("eth0 packets=1 snap=60 -- ip[2:2] - 40 > 9", words())
    capture { "eth0", "--", "-1", "<", "-c" }
    assert.equal("eth0 -- -1 < -c", words())
  end)

  it("says what is missing", function()
    local code, _, err = capture {}
    assert.equal(2, code)
    assert.matches("^capture: a port is needed\n", err)
  end)
end)

describe("the packets", function()
  it("go into a new file, of its owner alone", function()
    answer = function() write "some bytes" end
    assert.equal(0, (capture { "eth0", "-w", scratch }))
    local file <close> = assert(io.open(scratch))
    assert.equal("some bytes", file:read "a")
    assert.equal(384, uv.fs_stat(scratch).mode & 511)   -- 0600
  end)

  it("do not go into one that is there, nor through a symbolic link", function()
    for _, make in ipairs { "echo mine >%s", "ln -s /nonexistent/file %s" } do
      request = nil
      os.execute(make:format(scratch))
      local code, _, err = capture { "eth0", "-w", scratch }
      assert.equal(3, code)
      assert.equal(("tidegate: %s: is there already, and a capture never writes over anything\n"):format(scratch), err)
      assert.is_nil(request)
      os.remove(scratch)
    end
  end)

  it("leave no empty file behind if the daemon refuses", function()
    answer = function(given)
      given:error "capture: no"
      return 2
    end
    local code, _, err = capture { "eth0", "-w", scratch }
    assert.same({ 2, "capture: no\n" }, { code, err })
    assert.is_nil(uv.fs_stat(scratch))
  end)

  it("go to standard output, as they are", function()
    local bytes = ("\0\1\2\255"):rep(50000)
    answer = function() write(bytes) end
    local code, out = capture { "eth0", "-w", "-" }
    assert.equal(0, code)
    assert.is_true(out == bytes)
  end)

  it("are printed, a line each", function()
    local tcp = packet "tcp 192.0.2.7:40000 > 198.51.100.10:443 S"
    answer = function()
      write(blocks {
        { time = 1700000000123456789, direction = 1, bytes = tcp:bytes(), comment = "verdict drop, rule web (a:3)" },
        { time = 1700000001000000000, direction = 2, bytes = tcp:bytes():sub(1, 40), length = 54,
          comment = "verdict none" },
      })
    end
    local code, out, err = capture { "eth0" }
    assert.same({ 0, "" }, { code, err })
    local at = os.date("%H:%M:%S", 1700000000)
    assert.equal(at .. ".123456 eth0 in  tcp 192.0.2.7:40000 > 198.51.100.10:443 S, 54 bytes, verdict drop, " ..
      "rule web (a:3)\n", out:match "^.-\n")
    assert.matches(" eth0 out tcp 192%.0%.2%.7:40000 > 198%.51%.100%.10:443.*, 54 bytes, verdict none\n$", out)
  end)

  it("are printed while they arrive", function()
    local seen
    answer = function(given)
      local one = packet "udp 192.0.2.7:40000 > 198.51.100.10:53"
      local fd = given:take_descriptor()
      uv.fs_write(fd, blocks { { time = 0, direction = 1, bytes = one:bytes(), comment = "verdict none" } }, -1)
      seen = true
      task.sleep(0.3)
      core.close(fd)
    end
    local code, out = capture({ "eth0" }, function()
      while not seen do task.sleep(0.01) end
    end)
    assert.equal(0, code)
    assert.matches("udp 192%.0%.2%.7:40000 > 198%.51%.100%.10:53", out)
  end)
end)

describe("the end", function()
  it("by Ctrl-C is the daemon's to make, and has an exit code of its own", function()
    local process
    answer = function(given)
      local stopped
      function given.on_cancel() stopped = true end
      process:kill "sigint"
      while not stopped do task.sleep(0.01) end
      given:error "3 packets"
      write ""
      return 0
    end
    local code, _, err = capture({ "eth0", "-w", scratch }, function(started) process = started end)
    assert.same({ 0, "3 packets\n" }, { code, err })
  end)

  it("of the command ends the request", function()
    local process, ended
    answer = function()
      local _ <close> = setmetatable({}, { __close = function() ended = true end })
      process:kill "sigkill"
      task.sleep(5)
    end
    assert.equal("signal 9", (capture({ "eth0", "-w", "-" }, function(started) process = started end)))
    for _ = 1, 200 do
      if not ended then task.sleep(0.01) end
    end
    assert.is_true(ended)
  end)

  it("of a request closes the descriptor that nobody took", function()
    local code, out = capture { "eth0" } -- it would wait for the end of the pipe for ever
    assert.same({ 0, "" }, { code, out })
  end)
end)
