-- SPDX-License-Identifier: GPL-2.0-only
--- Connections for tasks: everything here waits by yielding. What the network refuses comes back as
--- `nil, message, code` (`nil, "connection refused", "ECONNREFUSED"`); `"timeout"` has the code
--- `ETIMEDOUT`, an object that was closed `ECANCELED`. Objects close with `close`, at the end of a
--- `<close>` variable, with the owner of the task that made them, and when nobody holds them.
local core = require "tidegate.core.host"
local task = require "tidegate.task"
local uv = require "luv"

local net = {}

local CONNECT_TIMEOUT = 5      -- seconds, also for a name
local LINE = 65536             -- bytes that read_line takes at most
local DATAGRAMS = 256          -- kept for a receiver that is late

local function failure(code)
  code = code:match "^E[%w_]+" or code
  return nil, core.strerror(code), code
end

local function timed_out()
  return nil, "timeout", "ETIMEDOUT"
end

local function closed()
  return nil, "closed", "ECANCELED"
end

local function check_options(what, options, allowed)
  if options == nil then return {} end
  if type(options) ~= "table" then error(what .. ": options are a table, got " .. type(options), 3) end
  for key in pairs(options) do
    if not allowed[key] then
      local names = {}
      for name in pairs(allowed) do names[#names + 1] = name end
      table.sort(names)
      error(("%s: unknown option %q (allowed: %s)"):format(what, tostring(key), table.concat(names, ", ")), 3)
    end
  end
  if options.timeout then task.check_seconds(options.timeout, 3) end
  return options
end

local function check_port(what, port)
  if math.type(port) ~= "integer" or port < 0 or port > 65535 then
    error(("%s: a port from 0 to 65535 expected, got %s"):format(what, tostring(port)), 3)
  end
end

local function check_address(what, address)
  if type(address) ~= "string" or not core.family(address) then
    error(("%s: %q is not an IP address"):format(what, tostring(address)), 3)
  end
end

-- Names --------------------------------------------------------------------------------------------

--- The addresses of a name; of an address itself.
---@param options { family: 4|6?, timeout: number? }?
---@return string[]? addresses, string? message, string? code
function net.resolve(name, options)
  if type(name) ~= "string" then error("resolve: a name expected, got " .. type(name), 2) end
  options = check_options("resolve", options, { family = true, timeout = true })
  local families = { [4] = "inet", [6] = "inet6" }
  local family = options.family and (families[options.family] or error("resolve: family is 4 or 6", 2))
  if core.family(name) then return { name } end
  local hints = { socktype = "stream", family = family }
  local in_time, err, found = task.await_within(options.timeout or CONNECT_TIMEOUT, function(done)
    local request, message = uv.getaddrinfo(name, nil, hints, done)
    if not request then return done(message) end
    return function() request:cancel() end
  end)
  if not in_time then return timed_out() end
  if err then return failure(err) end
  local list = {}
  for i, entry in ipairs(found) do list[i] = entry.addr end
  return list
end

-- Streams ------------------------------------------------------------------------------------------

--- The handle's callbacks hold only `state`, so that a stream nobody holds is collected.
---@class tidegate.Stream
---@field addr string  the peer
---@field port integer
local Stream = {}
local stream_meta = {
  __name = "tidegate.Stream", __metatable = "tidegate.Stream", __index = Stream,
  __close = function(stream) stream:close() end,
  __gc = function(stream) stream:close() end,
}

local function on_read(state)
  return function(err, data)
    if err then
      state.failure = err
    elseif data then
      state.buffer = state.buffer .. data
    else
      state.eof = true
    end
    state.handle:read_stop()
    local wake = state.wake
    state.wake = nil
    if wake then wake() end
  end
end

local function new_stream(handle, addr, port, timeout)
  local state = { handle = handle, buffer = "", owner = task.current_owner() }
  state.on_read = on_read(state)
  local stream = setmetatable({ addr = addr, port = port, state = state, timeout = timeout }, stream_meta)
  return state.owner:keep_weakly(stream)
end

--- Closes the connection; others that wait on it get `nil, "closed"`. May be called again.
function Stream:close()
  local state = self.state
  if state.closed then return end
  state.closed = true
  state.owner:drop(self)
  if not state.handle:is_closing() then state.handle:close() end
  for _, key in ipairs { "wake", "wake_writer" } do
    local wake = state[key]
    state[key] = nil
    if wake then wake() end
  end
end

Stream.cancel = Stream.close    -- by its owner

--- Waits for more in the buffer. True, or nil and why not (nil alone at the end of the stream).
local function fill(self)
  local state = self.state
  if state.closed then return closed() end
  if state.wake then error("another task reads from this stream", 3) end
  if not (state.eof or state.failure) then
    local before = #state.buffer
    local in_time = task.await_within(self.timeout, function(done)
      state.wake = done
      state.handle:read_start(state.on_read)
      return function()
        state.wake = nil
        if not state.closed then state.handle:read_stop() end
      end
    end)
    if not in_time then return timed_out() end
    if #state.buffer > before then return true end
    if state.closed then return closed() end
  end
  if state.failure then return failure(state.failure) end
  return nil
end

local function take(state, n)
  local data = state.buffer:sub(1, n)
  state.buffer = state.buffer:sub(n + 1)
  return data
end

--- What has come in, waiting for something if nothing has: at most `n` bytes. nil at the end.
---@param n integer?
---@return string? data, string? message, string? code
function Stream:read(n)
  if n and (math.type(n) ~= "integer" or n < 1) then error("read: a count of at least 1 expected", 2) end
  while self.state.buffer == "" do
    local ok, message, code = fill(self)
    if not ok then return nil, message, code end
  end
  return take(self.state, n or #self.state.buffer)
end

--- Exactly `n` bytes. At an early end: nil, "end of stream", "EOF"; what came stays to be read.
---@return string? data, string? message, string? code
function Stream:read_exactly(n)
  if math.type(n) ~= "integer" or n < 0 then error("read_exactly: a count expected", 2) end
  while #self.state.buffer < n do
    local ok, message, code = fill(self)
    if not ok then return nil, message or "end of stream", code or "EOF" end
  end
  return take(self.state, n)
end

--- A line without its end ("\n" or "\r\n"); the last may lack one. nil at the end.
---@param limit integer?  bytes at most (65536); a longer line is an error, EMSGSIZE
---@return string? line, string? message, string? code
function Stream:read_line(limit)
  limit = limit or LINE
  local state, from = self.state, 1
  while true do
    local stop = state.buffer:find("\n", from, true)
    if (stop or #state.buffer) > limit then return failure "EMSGSIZE" end
    if stop then return (take(state, stop):gsub("\r?\n$", "")) end
    from = #state.buffer + 1
    local ok, message, code = fill(self)
    if not ok then
      if message or state.buffer == "" then return nil, message, code end
      return take(state, #state.buffer)
    end
  end
end

--- Sends, and waits until the kernel has it all.
---@param data string
---@return true? ok, string? message, string? code
function Stream:write(data)
  if type(data) ~= "string" then error("write: a string expected, got " .. type(data), 2) end
  local state = self.state
  if state.closed then return closed() end
  if state.wake_writer then error("another task writes to this stream", 2) end
  local in_time, err = task.await_within(self.timeout, function(done)
    state.wake_writer = function() done "ECANCELED" end
    local request, message = state.handle:write(data, function(code)
      state.wake_writer = nil
      done(code)
    end)
    if not request then
      state.wake_writer = nil
      done(message)
    end
    return function() state.wake_writer = nil end
  end)
  if not in_time then return timed_out() end
  if state.closed then return closed() end
  if err then return failure(err) end
  return true
end

--- Says that nothing more will be written; reading goes on.
function Stream:shutdown()
  local state = self.state
  if state.closed then return closed() end
  local in_time, err = task.await_within(self.timeout, function(done) state.handle:shutdown(done) end)
  if not in_time then return timed_out() end
  if err then return failure(err) end
  return true
end

local function connect_to(addr, port, seconds, options)
  local handle = uv.new_tcp()
  local in_time, err = task.await_within(seconds, function(done)
    local ok, message = true, nil
    if options.bind then ok, message = handle:bind(options.bind, 0) end
    if ok then ok, message = handle:connect(addr, port, done) end
    if not ok then done(message) end
    return function()
      if not handle:is_closing() then handle:close() end
    end
  end)
  if in_time and not err then return new_stream(handle, addr, port, options.timeout) end
  if not handle:is_closing() then handle:close() end
  if not in_time then return timed_out() end
  return failure(err)
end

--- Opens a TCP connection to an address or a name.
---@param host string
---@param port integer
---@param options { timeout: number?, bind: string? }?  timeout: seconds for the connection to stand
---  (5), then for each read and write (none); bind: the local address
---@return tidegate.Stream? stream, string? message, string? code
function net.connect(host, port, options)
  if type(host) ~= "string" then error("connect: an address or a name expected, got " .. type(host), 2) end
  check_port("connect", port)
  options = check_options("connect", options, { timeout = true, bind = true })
  if options.bind then check_address("connect: bind", options.bind) end
  local deadline = task.now() + (options.timeout or CONNECT_TIMEOUT)
  local addresses, message, code = net.resolve(host, { timeout = options.timeout })
  local stream
  for _, addr in ipairs(addresses or {}) do
    stream, message, code = connect_to(addr, port, math.max(0, deadline - task.now()), options)
    if stream then return stream end
  end
  return nil, message, code
end

-- Datagrams ----------------------------------------------------------------------------------------

---@class tidegate.Udp
local Udp = {}
local udp_meta = {
  __name = "tidegate.Udp", __metatable = "tidegate.Udp", __index = Udp,
  __close = function(socket) socket:close() end,
  __gc = function(socket) socket:close() end,
}

local function on_datagram(state)
  return function(err, data, from)
    if err or not data then return end      -- an ICMP error for something sent before
    if #state.queue < DATAGRAMS then
      state.queue[#state.queue + 1] = { data, from.ip, from.port }
    else
      state.lost = state.lost + 1
    end
    local wake = state.wake
    state.wake = nil
    if wake then wake() end
  end
end

--- A UDP socket.
---@param options { bind: string?, port: integer?, timeout: number? }?  bind: "0.0.0.0"; port: any;
---  timeout: seconds that receive waits unless told otherwise
---@return tidegate.Udp? socket, string? message, string? code
function net.udp(options)
  options = check_options("udp", options, { bind = true, port = true, timeout = true })
  local addr, port = options.bind or "0.0.0.0", options.port or 0
  check_address("udp: bind", addr)
  check_port("udp", port)
  local handle = uv.new_udp()
  local state = { handle = handle, queue = {}, lost = 0, owner = task.current_owner() }
  local ok, message = handle:bind(addr, port)
  if ok then ok, message = handle:recv_start(on_datagram(state)) end
  if not ok then
    handle:close()
    return failure(message)
  end
  return state.owner:keep_weakly(setmetatable({ state = state, timeout = options.timeout }, udp_meta))
end

function Udp:close()
  local state = self.state
  if state.closed then return end
  state.closed = true
  state.owner:drop(self)
  if not state.handle:is_closing() then state.handle:close() end
  if state.wake then state.wake() end
  state.wake = nil
end

Udp.cancel = Udp.close

--- The local address and port.
---@return string addr, integer port
function Udp:address()
  local name = self.state.handle:getsockname()
  return name.ip, name.port
end

--- Sends one datagram.
---@return true? ok, string? message, string? code
function Udp:send(data, addr, port)
  if type(data) ~= "string" then error("send: a string expected, got " .. type(data), 2) end
  check_address("send", addr)
  check_port("send", port)
  local state = self.state
  if state.closed then return closed() end
  local err = task.await(function(done)
    local request, message = state.handle:send(data, addr, port, done)
    if not request then done(message) end
  end)
  if err then return failure(err) end
  return true
end

--- The next datagram and where it came from.
---@param timeout number?  seconds
---@return string? data, string addr, integer|string port  or nil, message, code
function Udp:receive(timeout)
  if timeout then task.check_seconds(timeout, 2) end
  local state = self.state
  if state.wake then error("another task receives from this socket", 2) end
  if #state.queue == 0 and not state.closed then
    local in_time = task.await_within(timeout or self.timeout, function(done)
      state.wake = done
      return function() state.wake = nil end
    end)
    if not in_time then return timed_out() end
  end
  if #state.queue == 0 then return closed() end
  return table.unpack(table.remove(state.queue, 1), 1, 3)
end

return net
