-- SPDX-License-Identifier: GPL-2.0-only
--- tg.top: who sends most, or gets most, during the next seconds. The datapath counts while it is asked (bpf/top.h), by
--- the same matches as a policy's. One at a time: a second one waits for the first.

local asking = require "tidegate.policy.asking"
local controller = require "tidegate.core.controller"
local core = require "tidegate.core.top"
local generation = require "tidegate.generation"
local lock = require "tidegate.lock"
local misuse = require "tidegate.misuse"
local programs = require "tidegate.programs"
local schema = require "tidegate.schema"
local taps = require "tidegate.taps"
local task = require "tidegate.task"

local top = {}

local FEATURE = controller.features().top
local PLACE = core.place()

local options = schema.table {
  by = schema.one_of { "src", "dst" }, match = taps.matches, n = schema.integer(1, 1000),
  seconds = schema.seconds(0.1, 60), port = schema.string,
}

-- The programs -------------------------------------------------------------------------------------

local tops = lock.new()
local at_work = false
local loaded = {}       -- { text =, handle = }: the match that was compiled last

--- The same again costs nothing, unless it asks sets, which change.
local function handle_of(matches)
  local text = taps.text(matches)
  if loaded.text == text and #asking.sets(matches) == 0 then return loaded.handle end
  local handle, message, code = taps.compile(matches)
  if handle == nil then return nil, message, code end
  loaded = { text = text, handle = handle }
  return handle
end

local function used_ports(running, port)
  local names = {}
  for name, one in pairs(running.ports) do
    if one.tc ~= false and (not port or name == port) then names[#names + 1] = name end
  end
  return names
end

--- Programs that count what matches, on the ports. true, or nil, why, code.
local function prepare(running, matches, names)
  local handle, message, code = handle_of(matches)
  if handle == nil then return nil, message, code end
  local turn <close> = programs.lock:take()
  local all = taps.beside {}
  all[PLACE] = handle or nil
  local ok
  ok, message, code = running.need(FEATURE, all)
  for _, name in ipairs(ok and names or {}) do
    if ok then ok, message, code = running.use_tc(name, "top") end
  end
  return ok, message, code
end

local function leave(running, names)
  local turn <close> = programs.lock:take()
  for _, name in ipairs(names) do running.leave_tc(name, "top") end
end

--- What the programs have to know, whatever files declare.
function top.features()
  return at_work and FEATURE or 0
end

-- Asking -------------------------------------------------------------------------------------------

--- Counts for so long: the list, or nil, why, code.
local function count(asked)
  local run, message, code = core.start(asked.by, asked.port, asked.seconds + 1)
  if not run then return nil, message, code end
  local done <close> = setmetatable({}, { __close = function()
    if not task.root().cancelled then core.stop(run) end -- else it ends by itself
  end })
  local began = task.now()
  task.sleep(asked.seconds)
  core.stop(run)
  local lasted = task.now() - began
  local list, hosts
  list, hosts, code = task.await(core.read, run, asked.n)
  if not list then return nil, hosts, code end
  for _, entry in ipairs(list) do
    entry[asked.by], entry.addr, entry.rate = entry.addr, nil, entry.packets / lasted
  end
  return list
end

local function finish(running, names)
  at_work = false
  if task.root().cancelled then return end
  task.start({ name = "top", owner = task.root(), quiet = true }, leave, running, names)
end

--- Waits for `seconds`: { { src, rate, packets, bytes, completed }, … }, those with most packets first; or nil, why,
--- code.
function top.ask(given)
  local asked = options("tg.top", given or {})
  asked.by, asked.n, asked.seconds = asked.by or "src", asked.n or 10, asked.seconds or 2
  if generation.loading() then misuse "tg.top: it counts what runs; call it in a task, not while files load" end
  local unknown = taps.unknown(asked.match)
  if unknown then return nil, ("there is no set %q (tg.set declares one)"):format(unknown), "ENOENT" end
  local running = require "tidegate.running"
  local turn <close> = tops:take()
  local names = used_ports(running, asked.port)
  if #names == 0 then
    return nil, asked.port and ("there is no port %q that has TC"):format(asked.port) or "there is no port", "ENOENT"
  end
  at_work = true
  local done <close> = setmetatable({}, { __close = function() finish(running, names) end })
  local ok, message, code = prepare(running, asked.match, names)
  if not ok then return nil, message, code end
  return count(asked)
end

return top
