-- SPDX-License-Identifier: GPL-2.0-only
--- Generations: what a set of script files declares, collected while the files run and put in force
--- as a whole, or not at all.
---
--- Three kinds of call meet a generation at a file's top level. A *declaration* is collected
--- (declare); a mistake in one is noted as a problem, and the file goes on. A *question* runs at
--- once. An *act* (act) is queued until the commit, as are tasks, timers and handlers (arm).
---
--- A generation is "loading", then "running", then "ended"; or "failed", and then its handles raise.

local host = require "tidegate.core.host"
local log = require "tidegate.log"
local misuse = require "tidegate.misuse"
local sandbox = require "tidegate.sandbox"
local task = require "tidegate.task"

local generation = {}

generation.LOAD_SECONDS = 10

---@class tidegate.Generation
---@field number integer
---@field files string[]
---@field state "loading"|"running"|"ended"|"failed"
---@field owner tidegate.Owner  of its tasks
---@field declared table<string, table<string, table>>  kind → name → declaration
---@field changes table[]       { service =, change = }: to services that other files declare
---@field problems table[]      { position =, message =, traceback = }
---@field acts table[]          { text =, position =, owner =, run = }; without a text: not worth telling
---@field arms table[]          the same
---@field environment table     of an operator's Lua
local Generation = {}
local meta = { __index = Generation }

local count = 0
local of_owner = setmetatable({}, { __mode = "k" })
local in_force          ---@type tidegate.Generation?

--- The generation that the running task belongs to; nil for the operator (REPL, commands).
---@return tidegate.Generation?
function generation.current()
  local owner = task.current_owner()
  while owner do
    if of_owner[owner] then return of_owner[owner] end
    owner = owner.parent
  end
end

function generation.new(files)
  count = count + 1
  local owner = task.owner("generation " .. count, { parent = task.root(), budget = 0.5 })
  local self = setmetatable({
    number = count, files = files, state = "loading", owner = owner,
    declared = {}, changes = {}, problems = {}, acts = {}, arms = {},
    environment = sandbox.new { directory = "." },
  }, meta)
  of_owner[owner] = self
  return self
end

--- The script's line that is running, as "file:line".
local function position()
  local ok, message = pcall(misuse, "")
  return not ok and message:match "^(.-:%d+): " or "?"
end

generation.position = position

function Generation:problem(message, traceback)
  local where, text = tostring(message):match "^(.-:%d+): (.*)$"
  self.problems[#self.problems + 1] = {
    position = where, message = text or tostring(message), traceback = traceback,
  }
end

--- A declaration: `make()` returns its checked fields. Returns the declaration, which is marked as
--- `broken` when `make` raised; its name is taken all the same, so that one mistake is one problem.
function generation.declare(kind, name, make)
  local gen = generation.current()
  if not gen or gen.state ~= "loading" then
    misuse("tg.%s: declarations belong at the top level of a file that the daemon loads", kind)
  end
  local ok, fields = pcall(make)
  if not ok then
    gen:problem(fields)
    fields = { broken = true }
  end
  fields.kind, fields.name, fields.generation = kind, name, gen
  fields.position, fields.owner = position(), task.current_owner()
  if type(name) ~= "string" then return fields end
  local list = gen.declared[kind] or {}
  gen.declared[kind] = list
  local first = list[name]
  if first then
    gen:problem(("%s: %s %q is declared already at %s"):format(fields.position, kind, name, first.position))
    fields.broken = true
  else
    list[name] = fields
  end
  return fields
end

--- The names of what is declared of a kind, sorted: at a file's top level so far, else what is in force.
---@return string[]
function generation.names(kind)
  local gen = generation.loading() or in_force
  local names = {}
  for name in pairs(gen and gen.declared[kind] or {}) do names[#names + 1] = name end
  table.sort(names)
  return names
end

--- The declaration behind a handle; raises if its generation failed.
function generation.check_handle(declaration)
  if declaration.generation.state == "failed" then
    misuse("%s %q: its declaration was not put in force", declaration.kind, tostring(declaration.name))
  end
  return declaration
end

--- The generation whose files are being loaded by the running task, or nil.
function generation.loading()
  local gen = generation.current()
  return gen and gen.state == "loading" and gen or nil
end

--- An act: runs at once, or after the commit if this is a file's top level; then it returns true.
--- Without a text it is not shown in the plan.
function generation.act(text, run)
  local gen = generation.loading()
  if not gen then return run() end
  local owner = task.current_owner()
  if not owner.quarantined then
    gen.acts[#gen.acts + 1] = { text = text, position = position(), owner = owner, run = run }
  end
  return true
end

--- What will begin at the commit; until then it can only be cancelled.
local Armed = {}
local armed_meta = { __name = "tidegate.Armed", __metatable = "tidegate.Armed" }

function armed_meta.__index(self, key)
  local value = rawget(self, "value")
  return Armed[key] or value and value[key]
end

function Armed:cancel()
  self.cancelled = true
  if rawget(self, "value") then self.value:cancel() end
end

--- A task, timer or handler: begins at once, or at the commit. `once`: it is an act too, that the
--- plan shows.
function generation.arm(text, run, once)
  local gen = generation.loading()
  if not gen then return run() end
  local owner = task.current_owner()
  local armed = setmetatable({
    text = text, position = position(), owner = owner, run = run, once = once,
    cancelled = owner.quarantined or false,
  }, armed_meta)
  gen.arms[#gen.arms + 1] = armed
  return armed
end

--- What would happen once, after the commit: { text =, position = }, in order.
function Generation:to_do()
  local list = {}
  for _, armed in ipairs(self.arms) do
    if armed.once and not armed.cancelled then list[#list + 1] = armed end
  end
  for _, act in ipairs(self.acts) do
    if act.text then list[#list + 1] = act end
  end
  return list
end

-- Methods that act ---------------------------------------------------------------------------------

-- A binding's methods of C are called as they are, so that they are fast and their errors are at the
-- script's line. Only while files load do others stand in for those that act.
local stand_ins, loads = {}, 0

--- While files load, `methods` has those of `others` instead of its own.
function generation.while_loading(methods, others)
  local usual = {}
  for name in pairs(others) do usual[name] = methods[name] end
  stand_ins[#stand_ins + 1] = { methods = methods, loading = others, usual = usual }
  if loads > 0 then
    for name, fn in pairs(others) do methods[name] = fn end
  end
end

local function count_loads(step)
  loads = loads + step
  local set = loads > 0 and "loading" or "usual"
  for _, stand_in in ipairs(stand_ins) do
    for name, fn in pairs(stand_in[set]) do stand_in.methods[name] = fn end
  end
end

local load_ends = setmetatable({}, { __close = function() count_loads(-1) end })

-- Loading ------------------------------------------------------------------------------------------

local function read(path)
  local file, message = io.open(path, "r")
  if not file then return nil, message end
  local text = file:read "a"
  file:close()
  if not text then return nil, path .. ": not a file that can be read" end
  return text
end

--- What a script that hung the daemon may still do, until it changes: nothing if it hung while it was
--- loaded, else declare; its tasks, timers, handlers and checks don't start.
local function obey_quarantine(gen, path, owner)
  local hung = host.quarantined(path)
  if hung == "load" then
    gen:problem(path .. ": in quarantine until it changes: loading it hung the daemon")
  elseif hung then
    owner.quarantined = true
    log.error("%s is in quarantine until it changes: one of its tasks hung the daemon; none is started", path)
  end
  return hung == "load"
end

local function load_file(gen, path, env)
  local text, message = read(path)
  if not text then return gen:problem(message) end
  local chunk
  chunk, message = sandbox.load(text, "@" .. path, env)
  if not chunk then return gen:problem(message) end
  local owner = task.owner(path, { parent = gen.owner, script = path, budget = 0.5 })
  if obey_quarantine(gen, path, owner) then return end
  local job = task.start({
    name = path, owner = owner, quiet = true, timeout = generation.LOAD_SECONDS, budget = generation.LOAD_SECONDS,
  }, chunk)
  local ok, reason, traceback = job:join()
  if ok then return end
  local text_of = tostring(reason)
  gen:problem(text_of:find "^.-:%d+: " and text_of or path .. ": " .. text_of, traceback)
end

--- Lets the operator see the scripts' globals: where several have one, that of the first file.
local function show_globals(environment, scripts)
  setmetatable(environment, { __index = function(_, name)
    for _, script in ipairs(scripts) do
      local value = rawget(script, name)
      if value ~= nil then return value end
    end
  end })
end

--- Runs the files, in sorted order, each in a sandbox of its own. Problems are collected.
function Generation:load()
  count_loads(1)
  local done <close> = load_ends
  local scripts = {}
  show_globals(self.environment, scripts)
  local files = table.move(self.files, 1, #self.files, 1, {})
  table.sort(files)
  for i, path in ipairs(files) do
    scripts[i] = sandbox.new { directory = path:match "^(.*)/" or "." }
    load_file(self, path, scripts[i])
  end
end

--- The text of the problems, a line each.
function Generation:report()
  local lines = {}
  for _, problem in ipairs(self.problems) do
    lines[#lines + 1] = (problem.position and problem.position .. ": " or "") .. problem.message
  end
  return table.concat(lines, "\n")
end

--- Forgets a generation that was not put in force. One in a <close> variable does so of itself.
function Generation:fail()
  self.state = "failed"
  self.owner:cancel()
end

function meta:__close()
  if self.state == "loading" then self:fail() end
end

--- Arms timers, tasks and handlers: at the commit.
function Generation:start()
  in_force = self
  self.state = "running"
  for _, armed in ipairs(self.arms) do
    if not armed.cancelled then
      local job = task.start({ name = armed.text, owner = armed.owner, quiet = true }, armed.run)
      local ok, value = job:join()
      if ok then armed.value = value else log.error("%s: %s", armed.position, value) end
    end
  end
  self.arms = {}
end

local function run_act(act)
  local job = task.start({ name = ("%s (%s)"):format(act.text or "act", act.position), owner = act.owner }, act.run)
  local ok, value, message = job:join()
  if ok and value == nil and message then log.error("%s: %s: %s", act.position, act.text, message) end
end

--- Runs the queued acts in their order, each as a task; one that fails does not stop the others.
function Generation:run_acts()
  local acts = self.acts
  self.acts = {}
  if #acts == 0 then return end
  task.start({ name = "acts", owner = self.owner }, function()
    for _, act in ipairs(acts) do run_act(act) end
  end)
end

--- Cancels its tasks.
function Generation:stop()
  self.state = "ended"
  self.owner:cancel()
end

return generation
