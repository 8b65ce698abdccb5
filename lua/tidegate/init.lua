-- SPDX-License-Identifier: GPL-2.0-only
--- The `tg` table: what operators' scripts and programs call. Submodules load when first used.
local generation = require "tidegate.generation"
local schema = require "tidegate.schema"
local task = require "tidegate.task"

--- tg.NAME is a module …
local modules = {
  inspect = "tidegate.inspect",
  log = "tidegate.log",
  map = "tidegate.map",
  net = "tidegate.net",
  packet = "tidegate.packet",
  prog = "tidegate.prog",
}

--- … or a function or an object of one.
local functions = {
  allow = { "tidegate.deny", "allow" },
  cron = { "tidegate.cron", "declare" },
  deny = { "tidegate.deny", "deny" },
  flows = { "tidegate.flows", "flows" },
  instance = { "tidegate.settings", "declare" },
  on = { "tidegate.event", "on" },
  pool = { "tidegate.pool", "declare" },
  port = { "tidegate.port", "declare" },
  rates = { "tidegate.rates", "get" },
  service = { "tidegate.service", "declare" },
  set = { "tidegate.set", "get" },
  top = { "tidegate.top", "ask" },
  trace = { "tidegate.trace", "run" },
  trigger = { "tidegate.trigger", "declare" },
}

--- tg.KINDs.NAME is a handle of what has that name; pairs goes through those that are declared.
local collections = {
  mirrors = "mirror", pools = "pool", ports = "port", services = "service", triggers = "trigger",
}

--- What starts something: at a file's top level it begins at the commit.
local function armed(name, start, once, ...)
  local args = table.pack(...)
  return generation.arm("tg." .. name, function() return start(table.unpack(args, 1, args.n)) end, once)
end

local delay, interval = schema.seconds(0, 1e9), schema.seconds(0.001, 1e9)

local function spawn(fn, ...)
  return armed("spawn", task.spawn, true, schema.fn("tg.spawn", fn), ...)
end

local function after(seconds, fn, ...)
  return armed("after", task.after, true, delay("tg.after", seconds), schema.fn("tg.after", fn), ...)
end

local function every(seconds, fn, options)
  return armed("every", task.every, false, interval("tg.every", seconds), schema.fn("tg.every", fn), options)
end

local tg = {
  spawn = spawn,
  sleep = task.sleep,
  every = every,
  after = after,
  timeout = task.timeout,
  maglev = { build = require("tidegate.core.maglev").build },
  check = { define = function(...) return require("tidegate.check").define(...) end },
}

local function collection(kind)
  local reference = require("tidegate." .. kind).reference
  return setmetatable({}, {
    __index = function(_, name) return reference(name) end,
    __pairs = function()
      local names, i = generation.names(kind), 0
      return function()
        i = i + 1
        if names[i] then return names[i], reference(names[i]) end
      end
    end,
  })
end

if os.getenv "TIDEGATE_TEST_HOOKS" == "1" then
  -- what a script can do wrong in C, and a clock for benchmarks
  tg._test = { hang = require "tidegate.core.host".hang, now = task.now }
end

return setmetatable(tg, {
  __index = function(self, name)
    local value
    if modules[name] then
      value = require(modules[name])
    elseif functions[name] then
      value = require(functions[name][1])[functions[name][2]]
    elseif collections[name] then
      value = collection(collections[name])
    end
    self[name] = value
    return value
  end,
})
