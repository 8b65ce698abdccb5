-- SPDX-License-Identifier: GPL-2.0-only
--- port:capture{…}: packets of a port, with what became of them, into a pcapng file; and `tidegate capture`, which
--- has them on its own standard output too. A capture is an act: at a file's top level it begins after the commit.
--- The packets' way is C alone (core/capture.h).

local console = require "tidegate.console"
local controller = require "tidegate.core.controller"
local core = require "tidegate.core.capture"
local core_console = require "tidegate.core.console"
local generation = require "tidegate.generation"
local lock = require "tidegate.lock"
local log = require "tidegate.log"
local match = require "tidegate.policy.match"
local misuse = require "tidegate.misuse"
local rules = require "tidegate.policy.state"
local running = require "tidegate.running"
local schema = require "tidegate.schema"
local taps = require "tidegate.taps"
local task = require "tidegate.task"

local capture = {}

local FILE_MOST <const> = 1 << 30       -- bytes of a file, unless said otherwise
local SNAP_MOST <const> = 65536         -- TG_RECORD_BYTES
local DAY <const> = 86400
local LEASE <const> = 10                -- seconds: TG_CAPTURE_LEASE, renewed while it runs
local TAP <const> = controller.features().tap

local FIELDS <const> = {
  match = taps.matches, filter = schema.string, direction = schema.one_of { "both", "ingress", "egress" },
  snap = schema.integer(14, SNAP_MOST), packets = schema.integer(1, 1 << 53), seconds = schema.seconds(0.01, 365 * DAY),
  bytes = schema.bytes(4096, 1 << 40),
}

local function absolute(what, value)
  if type(value) ~= "string" or value:sub(1, 1) ~= "/" or value:sub(-1) == "/" then
    misuse("%s: %s given, the path of a file expected, from the root (\"/var/tmp/x.pcapng\")", what, schema.show(value))
  end
  return value
end

local options
do
  local fields = { file = schema.required(absolute) }
  for name, checker in pairs(FIELDS) do fields[name] = checker end
  options = schema.table(fields)
end

-- Handles ------------------------------------------------------------------------------------------

---@class tidegate.Capture
---@field port string
---@field state "queued"|"starting"|"running"|"ended"
local Capture = {}
local meta = { __name = "tidegate.Capture", __metatable = "tidegate.Capture", __index = Capture }

local alive = {}        -- captures that run → true

local function new(port, given)
  return setmetatable({ port = port, given = given, state = "queued", waiting = {} }, meta)
end

function meta:__tostring()
  return ("capture of %s to %s, %s"):format(self.port or "?", self.given and self.given.file or "?", self.state or "?")
end

function meta:__close()
  self:cancel()
end

local function check_self(self, name)
  if getmetatable(self) ~= "tidegate.Capture" then misuse("%s: call it with a colon: capture:%s()", name, name) end
end

--- It has ended, or could not begin.
local function settle(self, status)
  if self.state == "ended" then return end
  self.state, self.last = "ended", status
  alive[self] = nil
  self.owner:drop(self)
  for _, wake in ipairs(self.waiting) do wake() end
end

--- What a capture that never began says of itself.
local function nothing(reason, message, code)
  return {
    ended = reason, error = message, code = code, packets = 0, bytes = 0, size = 0, filtered = 0, ring_full = 0,
    slow = 0,
  }
end

--- Waits until it has ended; its status.
function Capture:wait()
  check_self(self, "wait")
  if self.state == "queued" and generation.loading() then
    misuse "wait: the capture begins when all files are in force: wait for it in a task (tg.spawn)"
  end
  if self.state ~= "ended" then
    task.await(function(wake) table.insert(self.waiting, wake) end)
  end
  return self:status()
end

--- Ends it, waits until its file is complete; its status.
function Capture:stop()
  check_self(self, "stop")
  self:cancel()
  return self:wait()
end

--- Ends it soon.
function Capture:cancel()
  check_self(self, "cancel")
  self.stopped = true -- one that is starting looks at that
  if self.state == "queued" then settle(self, nothing "stopped") end
  if self.state == "running" then self.core:stop() end
end

--- { state, port, file, ended, error, code, packets, bytes, size, filtered, lost = { ring, slow } }
function Capture:status()
  check_self(self, "status")
  local status = self.last or self.core and self.core:status() or nothing()
  return {
    state = self.state, port = self.port, file = self.given.file, ended = status.ended, error = status.error,
    code = status.code, packets = status.packets, bytes = status.bytes, size = status.size,
    filtered = status.filtered, lost = { ring = status.ring_full, slow = status.slow },
  }
end

-- Beginning ----------------------------------------------------------------------------------------

local names_of          -- the policies whose rules' names comments have

--- Tells what comments call rules.
local function name_rules()
  local compiled = rules.in_force.compiled
  if names_of == compiled then return end
  local names = {}
  for _, directions in pairs(compiled) do
    for _, policy in pairs(directions) do
      for _, one in ipairs(policy.all) do
        names[one.counter or -1] = ("%s (%s)"):format(one.name or one.text, one.position)
      end
      names[policy.default.counter or -1] = ("default (%s)"):format(policy.default.position or policy.policy.position)
    end
  end
  names[-1] = nil
  core.rules(names)
  names_of = compiled
end

rules.on_change(function()
  if next(alive) then name_rules() end
end)

--- What the capture needs of ports while it runs, by its tap.
local function user_of(self)
  return ("capture %d"):format(self.tap.number)
end

--- The ports that it needs TC on: what XDP forwards is copied by TC of the port that it came in by, also for a capture
--- of the one that it leaves by.
local function ports_of(self)
  local list = { self.port }
  if self.given.direction == "ingress" or not next(running.services) then return list end
  for name, port in pairs(running.ports) do
    if name ~= self.port and port.tc ~= false then list[#list + 1] = name end
  end
  return list
end

--- Attaches TC to what it needs; true, or nil, why, code.
local function use_ports(self)
  self.uses = {}
  for _, name in ipairs(ports_of(self)) do
    local ok, message, code = running.use_tc(name, user_of(self))
    if not ok then return nil, message, code end
    table.insert(self.uses, name)
  end
  return true
end

local function release(self)
  if not self.tap then return end
  local turn <close> = running.lock:take()
  for _, name in ipairs(self.uses or {}) do running.leave_tc(name, user_of(self)) end
  taps.release(self.tap)
  self.tap = nil
end

local function ended(self, status)
  task.start({ name = "end of a capture", owner = task.root() }, function()
    release(self)
    settle(self, status)
    if status.ended == "failed" and status.code ~= "EPIPE" then
      log.error("capture of %s to %s: ended after %d packets: %s", self.port, self.given.file or "a command's output",
        status.packets, status.error)
    end
  end)
end

--- Its tap, off yet, and the programs on its port. true; or nil, why, code.
local function take_tap(self)
  local message, code
  self.tap, message, code = taps.take {
    kind = "capture", port = self.port, direction = self.given.direction or "both", match = self.given.match,
    snap = self.given.snap, seconds = LEASE,
  }
  if not self.tap then return nil, message, code end
  local turn <close> = running.lock:take()
  local ok
  ok, message, code = running.need(TAP)
  if not ok then return nil, message, code end
  return use_ports(self)
end

local function start_core(self, fd)
  local given = self.given
  name_rules()
  return task.await(core.start, {
    fd = fd, file = given.file, tap = self.tap.number, start = self.tap.start, filter = given.filter, snap = given.snap,
    packets = given.packets, seconds = given.seconds, bytes = given.bytes,
  }, function(status) ended(self, status) end)
end

--- It could not begin.
local function fail(self, message, code)
  release(self)
  settle(self, nothing("failed", message, code))
  return nil, message, code
end

local beginning = lock.new() -- one at a time: those that were stopped meanwhile exchange no programs

--- Begins; true, or nil, why, code. The descriptor is closed in the end.
local function begin(self, fd)
  local turn <close> = beginning:take()
  local ok, message, code
  if self.stopped then
    message, code = "it was stopped", "ECANCELED"
  else
    ok, message, code = take_tap(self)
  end
  if not ok then
    if fd then core_console.close(fd) end
    return fail(self, message, code)
  end
  self.core, message, code = start_core(self, fd)
  if not self.core then return fail(self, message, code) end
  self.state = "running"
  alive[self] = true
  ok, message, code = taps.on(self.tap)
  if not ok or self.stopped then self.core:stop() end
  return ok, message, code
end

--- The same as a task of its own: one that is cancelled half-way would leave a tap behind.
local function begin_whole(self, fd)
  self.state = "starting"
  local job = task.start({ name = "capture of " .. self.port, owner = task.root(), quiet = true }, begin, self, fd)
  local ran, ok, message, code = job:join()
  if ran then return ok, message, code end
  fail(self, tostring(ok))
  error(ok, 0)
end

--- Raises at the script's line if the expression is none.
local function check_filter(what, given)
  if not given.filter then return end
  local ok, message = task.await(core.check, given.filter)
  if not ok then misuse("%s.filter: %s", what, message) end
end

local function check_port(what, name)
  if generation.loading() or running.ports[name] then return end
  misuse("%s: there is no such port", what)
end

--- A capture belongs to the generation of the task that starts it, an operator's to nobody: it ends by itself.
local function owner_of()
  return generation.current() and task.current_owner() or task.root()
end

--- Starts a capture; at a file's top level after the commit. The handle; or nil, why, code.
---@return tidegate.Capture?, string? message, string? code
function capture.start(port, given)
  local what = ("port %q: capture"):format(port.name)
  local checked = options(what, given)
  check_filter(what, checked)
  check_port(what, port.name)
  checked.bytes = checked.bytes or FILE_MOST
  local self = new(port.name, checked)
  self.owner = owner_of()
  self.owner:keep(self)
  local ok, message, code = generation.act(("capture %s to %s"):format(port.name, checked.file), function()
    if self.state ~= "queued" then return true end -- it was stopped before it began
    return begin_whole(self)
  end)
  if not ok then return nil, message, code end
  return self
end

--- The captures of a port that run.
---@return tidegate.Capture[]
function capture.of(port)
  local list = {}
  for self in pairs(alive) do
    if self.port == port.name then list[#list + 1] = self end
  end
  table.sort(list, function(a, b) return (a.given.file or "") < (b.given.file or "") end)
  return list
end

local function by_place(a, b)
  return a.port == b.port and (a.file or "") < (b.file or "") or a.port < b.port
end

--- The status of all that run.
---@return table[]
function capture.all()
  local list = {}
  for self in pairs(alive) do list[#list + 1] = self:status() end
  table.sort(list, by_place)
  return list
end

--- The lines of `tidegate status`.
function capture.print(request, all)
  for _, one in ipairs(all) do
    local lost = one.lost.ring + one.lost.slow
    request:print(("capture %s to %s: %d packets, %d bytes%s"):format(one.port, one.file or "a command's output",
      one.packets, one.size, lost > 0 and (", %d lost"):format(lost) or ""))
  end
end

-- The command --------------------------------------------------------------------------------------

local USAGE <const>, ENVIRONMENT <const> = 2, 3

--- "80,443" → { 80, 443 }, as scripts write it.
local function value_of(field, text)
  if field == "fragment" then
    if text ~= "true" and text ~= "false" then
      misuse("fragment: %s given, true or false expected", schema.show(text))
    end
    return text == "true"
  end
  if field == "flags" then return text end
  local list = {}
  for word in (text .. ","):gmatch "([^,]*)," do list[#list + 1] = math.tointeger(tonumber(word)) or word end
  return #list == 1 and list[1] or list
end

--- A match from words as "proto=tcp", nil for a tcpdump expression: the first one tells.
local function match_of(words)
  local first = (words[1] or ""):match "^([%a_]+)="
  if not first or not match.fields[first] then return nil end
  local given = {}
  for _, word in ipairs(words) do
    local field, text = word:match "^([%a_]+)=(.*)$"
    if not field then misuse("%s: FIELD=VALUE expected, as the words before", schema.show(word)) end
    if given[field] then misuse("%s is given twice", field) end
    given[field] = value_of(field, text)
  end
  return given
end

local function setting_of(name, text)
  local number = tonumber(text)
  if name == "bytes" or name == "direction" then return text end
  return name == "seconds" and number or math.tointeger(number) or text
end

local settings = schema.table(FIELDS)

--- PORT NAME=VALUE… -- WORD… → the port's name, checked options.
local function arguments(args)
  local given, at = {}, 2
  while args[at] and args[at] ~= "--" do
    local name, text = args[at]:match "^(%a+)=(.*)$"
    given[name or ""] = setting_of(name, text)
    at = at + 1
  end
  local words = table.move(args, at + 1, #args, 1, {})
  given.match = match_of(words)
  if not given.match and #words > 0 then given.filter = table.concat(words, " ") end
  local checked = settings("capture", given)
  check_filter("capture", checked)
  check_port(("capture: port %q"):format(args[1]), args[1])
  return checked
end

local function plural(count, one)
  return ("%d %s%s"):format(count, one, count == 1 and "" or "s")
end

--- The last line, as tcpdump says it.
local function say_end(request, status)
  request:error(("%s, %s"):format(plural(status.packets, "packet"), plural(status.bytes, "byte")))
  if status.filtered > 0 then
    request:error(("%s did not match the expression"):format(plural(status.filtered, "packet")))
  end
  if status.lost.ring + status.lost.slow > 0 then
    request:error(("%s lost: %d because the ring was full, %d because the output did not keep up"):format(
      plural(status.lost.ring + status.lost.slow, "packet"), status.lost.ring, status.lost.slow))
  end
  if status.ended ~= "failed" or status.code == "EPIPE" then return 0 end
  request:error("capture: " .. status.error)
  return ENVIRONMENT
end

console.register("capture", function(request)
  local ok, checked = pcall(arguments, request.args)
  if not ok then -- misuse: the text says what is wrong
    request:error((tostring(checked):gsub("^capture%.", "capture: ")))
    return USAGE
  end
  local fd = request:take_descriptor()
  if not fd then
    request:error "capture: nowhere to write to"
    return USAGE
  end
  local self <close> = new(request.args[1], checked)
  self.owner = task.current_owner()
  self.owner:keep(self)
  function request.on_cancel() self:cancel() end
  local began, message = begin_whole(self, fd)
  if not began then
    request:error("capture: " .. message)
    return ENVIRONMENT
  end
  request:error(("capturing packets of %s"):format(self.port))
  return say_end(request, self:wait())
end)

return capture
