--- The daemon's control socket (frames: core/frame.h). A client sends requests, one after the other;
--- each is a command that somebody registered here, and runs as a task:
---
---   console.register("status", function(request)
---     request:print(#request.args, request.uid)
---     return 0                          -- the exit code; nothing: 0
---   end)
---
--- What a request starts (tasks, timers) belongs to its connection and ends with it: what shall stay
--- needs another owner (task.owner with a parent). A client that disconnects, or sends a cancel
--- (Ctrl-C), ends its request's task; a request whose `on_cancel` is set is told of Ctrl-C by that instead.
---
--- `eval` and `repl` are registered here: Lua from an operator, in an environment of the connection's
--- own, on top of the scripts' (console.set_environment).
local core = require "tidegate.core.console"
local inspect = require "tidegate.inspect"
local log = require "tidegate.log"
local task = require "tidegate.task"
local uv = require "luv"

local console = {}

local HEADER = ">I4B"
local HEADER_SIZE = 5
local FRAME_MAX = 16 << 20      -- as TG_FRAME_MAX
local CHUNK = 64 << 10          -- bytes of output in a frame
local QUEUE_WAIT = 256 << 10    -- bytes unsent: who writes more waits,
local QUEUE_MAX = 8 << 20       -- and who can't wait loses the connection
local CONNECTIONS = 32
local INCOMPLETE = 254          -- exit code, as TG_EXIT_INCOMPLETE
local BUDGET = 0.5              -- seconds that an operator's Lua may run without waiting

-- Requests -----------------------------------------------------------------------------------------

---@class tidegate.Request
---@field command string
---@field args string[]       what followed the command
---@field pid integer         of the client
---@field uid integer         of its user
---@field session table       the connection's: kept from request to request
---@field on_cancel fun()?    called when the client cancels; else the task ends
local Request = { __name = "tidegate.Request" }
Request.__index = Request

local commands = {}     -- name → { run =, budget = }

--- Names a command. `fn(request)` returns the exit code; an error in it is sent with its traceback,
--- and the code is 1.
---@param options { budget: number? }?  seconds without waiting; default: no limit
function console.register(command, fn, options)
  commands[command] = { run = fn, budget = options and options.budget or 0 }
end

--- Bytes for the client's standard output.
function Request:write(text)
  self.connection:send("O", text)
end

--- As Lua's print: the values' texts, tabs between them, a newline.
function Request:print(...)
  local texts = table.pack(...)
  for i = 1, texts.n do texts[i] = tostring(texts[i]) end
  self:write(table.concat(texts, "\t") .. "\n")
end

--- A line for the client's standard error.
function Request:error(text)
  self.connection:send("E", text .. "\n")
end

--- The descriptor that came with the request, which is the caller's to close; or nil.
---@return integer?
function Request:take_descriptor()
  local descriptor = self.descriptor
  self.descriptor = nil
  return descriptor
end

-- Connections --------------------------------------------------------------------------------------

---@class tidegate.Connection
local Connection = { __name = "tidegate.Connection" }
Connection.__index = Connection

function Connection:close()
  if self.closed then return end
  self.closed = true
  self.server.connections[self] = nil
  self.server.count = self.server.count - 1
  if not self.pipe:is_closing() then self.pipe:close() end
  self.owner:cancel()
end

--- One frame; the writer waits while much is unsent.
function Connection:send_frame(kind, payload)
  if self.closed then return end
  local unsent = self.pipe:get_write_queue_size()
  local frame = { HEADER:pack(#payload, kind:byte()), payload }
  if unsent < QUEUE_WAIT or kind == "X" then
    self.pipe:write(frame)
  elseif task.current() and coroutine.isyieldable() then
    task.await(function(done) self.pipe:write(frame, done) end)
  elseif unsent < QUEUE_MAX then
    self.pipe:write(frame)
  else
    self:close()
    error "the client reads too slowly: connection closed"
  end
end

function Connection:send(kind, text)
  for at = 1, #text, CHUNK do
    self:send_frame(kind, text:sub(at, at + CHUNK - 1))
  end
end

--- The descriptor that has arrived: of several the last. libuv has them for pipes, whatever they are.
function Connection:take_descriptor()
  local descriptor
  while self.pipe:pending_count() > 0 do
    local arrived = uv.new_pipe(false)
    if not self.pipe:accept(arrived) then return arrived:close() end
    if descriptor then core.close(descriptor) end
    descriptor = core.keep(arrived:fileno())
    arrived:close()
  end
  return descriptor
end

--- A request has ended, or couldn't begin.
function Connection:finish(code, complaint)
  local descriptor = self.request and self.request:take_descriptor()
  if descriptor then core.close(descriptor) end
  self.job, self.request = nil, nil
  if self.closed then return end
  if complaint then self:send("E", complaint .. "\n") end
  self:send_frame("X", string.char(code & 0xff))
end

local function exit_code(value)
  if value == nil or value == true then return 0 end
  return math.type(value) == "integer" and value or 1
end

local function ended(connection, job)
  if job.state == "done" then
    connection:finish(exit_code(job.result[2]))
  elseif job.state == "cancelled" then
    connection:finish(1, "cancelled")
  else
    connection:finish(1, job.result[3] or tostring(job.result[2]))
  end
end

--- The command's words, a NUL behind each.
local function split(payload)
  local words = {}
  for word in payload:gmatch "([^\0]*)\0" do words[#words + 1] = word end
  return words
end

local function unknown(command)
  local names = {}
  for name in pairs(commands) do names[#names + 1] = name end
  table.sort(names)
  return ("the daemon knows no command %q; it knows: %s"):format(command, table.concat(names, ", "))
end

function Connection:start(payload)
  local args = split(payload)
  local name = table.remove(args, 1) or ""
  local command = commands[name]
  if not command then return self:finish(2, unknown(name)) end
  local request = setmetatable({
    connection = self, session = self.session, command = name, args = args,
    pid = self.peer.pid, uid = self.peer.uid, descriptor = self:take_descriptor(),
  }, Request)
  self.request = request
  local job = task.start({
    name = name .. " (console)", owner = self.owner, budget = command.budget, quiet = true,
  }, command.run, request)
  if job.state ~= "alive" then return ended(self, job) end
  self.job = job
  table.insert(job.ended, function() ended(self, job) end)
end

local handle = {}

function handle.R(connection, payload)
  if connection.job then
    log.warn("console: process %d sent a request while one runs: disconnected", connection.peer.pid)
    return connection:close()
  end
  connection:start(payload)
end

function handle.C(connection)
  if not connection.job then return end
  if connection.request.on_cancel then
    connection.request.on_cancel()
  else
    connection.job:cancel()
  end
end

--- Takes bytes as they arrive and handles each frame that they complete; false: not our protocol.
function Connection:take(data)
  self.parts[#self.parts + 1] = data
  self.have = self.have + #data
  while self.have >= self.need and not self.closed do
    local buffer = table.concat(self.parts)
    local length, kind = HEADER:unpack(buffer)
    local handler, total = handle[string.char(kind)], HEADER_SIZE + length
    if not handler or length > FRAME_MAX then return false end
    if #buffer < total then
      self.parts, self.need = { buffer }, total
    else
      self.parts, self.have, self.need = { buffer:sub(total + 1) }, #buffer - total, HEADER_SIZE
      handler(self, buffer:sub(HEADER_SIZE + 1, total))
    end
  end
  return true
end

local function on_read(connection, err, data)
  if err or not data then return connection:close() end
  if connection:take(data) then return end
  log.warn("console: process %d speaks another protocol: disconnected", connection.peer.pid)
  connection:close()
end

-- The server ---------------------------------------------------------------------------------------

---@class tidegate.Console
local Console = { __name = "tidegate.Console" }
Console.__index = Console

--- Why this client can't be served, or nil.
local function refusal(server, peer)
  if not peer.welcome then
    return ("permission denied: user %d is neither root nor the daemon's own user"):format(peer.uid)
  end
  if server.count >= CONNECTIONS then
    return ("the daemon serves %d connections already"):format(CONNECTIONS)
  end
end

local function refuse(pipe, why)
  local text = why .. "\n"
  pipe:write({ HEADER:pack(#text, ("E"):byte()), text, HEADER:pack(1, ("X"):byte()), "\3" },
    function() pipe:close() end)
end

local function accept(server)
  local pipe = uv.new_pipe(true) -- descriptors may come by it
  if not server.pipe:accept(pipe) then return pipe:close() end
  local peer = core.peer(pipe:fileno())
  local why = not peer and "no credentials" or refusal(server, peer)
  if why then return refuse(pipe, why) end
  local connection = setmetatable({
    server = server, pipe = pipe, peer = peer, session = {}, parts = {}, have = 0, need = HEADER_SIZE,
    owner = task.owner("console", { parent = task.root() }),
  }, Connection)
  connection.owner.who = ("uid %d"):format(peer.uid)
  server.connections[connection] = true
  server.count = server.count + 1
  pipe:read_start(function(err, data) on_read(connection, err, data) end)
end

--- Opens the socket. The caller holds the instance's lock. The server ends with the daemon, or by its
--- `cancel` method.
---@return tidegate.Console?, string? message, string? code
function console.start(path)
  local fd, message, code = core.listen(path)
  if not fd then return nil, message, code end
  local server = setmetatable({ path = path, connections = {}, count = 0 }, Console)
  server.pipe = uv.new_pipe(false)
  server.pipe:open(fd)
  server.pipe:listen(16, function(err)
    if not err then accept(server) end
  end)
  return task.root():keep(server)
end

--- Disconnects everybody and removes the socket.
function Console:cancel()
  task.root():drop(self)
  if not self.pipe:is_closing() then
    self.pipe:close()
    uv.fs_unlink(self.path)
  end
  for connection in pairs(self.connections) do connection:close() end
end

-- Lua from an operator -----------------------------------------------------------------------------

local environment = function() return _G end

--- `fn()` returns the globals that an operator's Lua starts from: those of the running scripts.
function console.set_environment(fn)
  environment = fn
end

--- The connection's own globals; what isn't among them is the scripts'.
local function session_environment(request)
  local session = request.session
  if not session.environment then
    local own = {}
    own._G = own
    function own.print(...) session.request:print(...) end
    session.environment = setmetatable(own, { __index = function(_, key) return environment()[key] end })
  end
  session.request = request
  return session.environment
end

local function is_cut_off(message)
  return message:find "near '?<eof>'?$" ~= nil
end

--- An expression, `=expression`, or statements. Or nil, why not, and whether more lines could help.
local function compile(text, name, env)
  text = text:gsub("^%s*=", "")
  local chunk, why = load("return " .. text, name, "t", env)
  if chunk then return chunk end
  local statements, message = load(text, name, "t", env)
  if statements then return statements end
  return nil, message, is_cut_off(message) or is_cut_off(why)
end

local function print_values(request, ...)
  for i = 1, select("#", ...) do
    request:write(inspect((select(i, ...))) .. "\n")
  end
  return 0
end

console.register("eval", function(request)
  local chunk, message = compile(request.args[1] or "", "=eval", session_environment(request))
  if not chunk then
    request:error(message)
    return 1
  end
  return print_values(request, chunk())
end, { budget = BUDGET })

--- One entry of the REPL; with the second argument "last", no more lines are to come.
console.register("repl", function(request)
  local chunk, message, cut_off =
    compile(request.args[1] or "", "=repl", session_environment(request))
  if chunk then return print_values(request, chunk()) end
  if cut_off and request.args[2] ~= "last" then return INCOMPLETE end
  request:error(message)
  return 1
end, { budget = BUDGET })

return console
