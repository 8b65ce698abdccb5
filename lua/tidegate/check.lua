-- SPDX-License-Identifier: GPL-2.0-only
--- Health checks: `{ "tcp" }`, `{ "http", path = "/healthz" }`, or one that a script defines:
---
---     tg.check.define("redis", function(target, args) … return ok, reason end)
---
--- "tcp" and "http" are probed in C (core/probe.h). A defined check runs as a task for each probe,
--- here; its result goes to the same rise/fall machine.

local address = require "tidegate.address"
local balancer = require "tidegate.core.balancer"
local generation = require "tidegate.generation"
local misuse = require "tidegate.misuse"
local schema = require "tidegate.schema"
local task = require "tidegate.task"

local check = {}

local common = {
  interval = schema.seconds(0.01, 86400), timeout = schema.seconds(0.001, 86400),
  rise = schema.integer(1, 255), fall = schema.integer(1, 255), port = schema.integer(1, 65535),
}

local function with_common(fields)
  for name, checker in pairs(common) do fields[name] = checker end
  fields[1] = schema.string
  return schema.table(fields)
end

local function status_range(what, value)
  local low, high = tostring(value):match "^(%d%d%d)%-?(%d*)$"
  low, high = tonumber(low), tonumber(high ~= "" and high or low)
  if not low or low < 100 or high < low or high > 999 then
    misuse("%s: %s given, a status (200) or a range (\"200-299\") expected", what, schema.show(value))
  end
  return { low, high }
end

local function path(what, value)
  if type(value) ~= "string" or not value:find "^/[^%c%s]*$" then
    misuse("%s: %s given, a path that begins with / expected", what, schema.show(value))
  end
  return value
end

local function token(what, value)
  if type(value) ~= "string" or not value:find "^[^%c%s]+$" then
    misuse("%s: %s given, a word without spaces expected", what, schema.show(value))
  end
  return value
end

local builtin = {
  tcp = with_common {},
  http = with_common { path = path, host = token, method = token, status = status_range },
}

--- Options of a defined check: any but the common ones are its own.
local function defined_options(what, value)
  local options, args = {}, {}
  for key, given in pairs(value) do
    if common[key] then
      options[key] = common[key](what .. "." .. key, given)
    elseif key ~= 1 then
      args[key] = given
    end
  end
  options[1], options.args = value[1], args
  return options
end

--- The options of a `check = {…}`, checked. Whether the check is defined is seen at the commit.
function check.options(what, value)
  if type(value) ~= "table" or type(value[1]) ~= "string" then
    misuse("%s: a table such as { \"tcp\" } or { \"http\", path = \"/\" } expected", what)
  end
  local options = (builtin[value[1]] or defined_options)(what, value)
  options.interval = options.interval or 1
  options.timeout = options.timeout or math.min(options.interval, 1)
  options.rise, options.fall = options.rise or 2, options.fall or 3
  if options.timeout > options.interval then
    misuse("%s.timeout: %g s given, at most the interval (%g s) allowed", what, options.timeout, options.interval)
  end
  options.position = generation.position()
  return options
end

--- Declares a check. `fn(target, args)` gets target.addr, target.port and returns ok, reason.
function check.define(name, fn)
  generation.declare("check", name, function()
    schema.name("tg.check.define", name)
    schema.fn("tg.check.define " .. name, fn)
    if builtin[name] then misuse("tg.check.define: %q is a check that Tidegate has itself", name) end
    return { fn = fn }
  end)
end

local function sorted(args)
  local list = {}
  for key, value in pairs(args) do list[#list + 1] = ("%s=%q"):format(key, tostring(value)) end
  table.sort(list)
  return table.concat(list, ",")
end

--- What the controller asks of one backend: the check's spec, with the key by which checks that ask the
--- same of the same endpoint are one. `port` is where the service is, unless the check names another.
function check.spec(options, backend, port)
  local kind = builtin[options[1]] and options[1] or "external"
  local status = options.status or { 0, 0 }
  local spec = {
    type = kind, name = options[1], port = options.port or port, interval = options.interval,
    timeout = options.timeout, rise = options.rise, fall = options.fall, path = options.path,
    host = options.host, method = options.method, status_min = status[1], status_max = status[2],
    args = options.args, addr = backend.addr,
  }
  if kind == "http" then
    spec.path = spec.path or "/"
    spec.host = spec.host or (backend.addr:find(":", 1, true) and "[%s]" or "%s"):format(backend.addr)
  end
  spec.key = table.concat({
    spec.name, address.format(backend.addr, spec.port), spec.interval, spec.timeout, spec.rise, spec.fall,
    spec.method or "", spec.host or "", spec.path or "", status[1], status[2], sorted(spec.args or {}),
  }, "|")
  return spec
end

-- Defined checks -----------------------------------------------------------------------------------

local function probe(spec, fn)
  local started = task.now()
  local ok, up, reason = pcall(task.timeout, spec.timeout, fn, { addr = spec.addr, port = spec.port }, spec.args)
  if not ok then
    up, reason = false, "check raised: " .. tostring(up)
  elseif up == nil and reason == "timeout" then
    up, reason = false, ("timeout after %g s"):format(spec.timeout)
  end
  local why = up and "" or tostring(reason or "check said no")
  balancer.report(spec.key, up and true or false, why, task.now() - started)
end

local due = {}       -- check's key → when it is to run next: goes on when a reload takes over

--- Probes at once, then at each interval, with jitter; a reload does not put a probe off.
local function schedule(spec, fn)
  local at = due[spec.key]
  while true do
    task.sleep(math.max(0, at - task.now()) + math.random() * spec.interval / 32)
    at = math.max(at + spec.interval, task.now())
    due[spec.key] = at
    probe(spec, fn)
  end
end

local definitions = {}      -- of the generation in force: name → declaration

--- The checks that the files in force define: name → declaration.
function check.definitions()
  return definitions
end

--- Runs the check of a backend if it is a defined one, and does not run yet; one schedule an endpoint.
local function follow(spec, last_due)
  if not spec or spec.type ~= "external" or due[spec.key] then return end
  local definition = definitions[spec.name]
  if definition.owner.quarantined then return end
  due[spec.key] = last_due or task.now()
  task.start({
    name = ("check %s of %s"):format(spec.name, address.format(spec.addr, spec.port)), owner = definition.owner,
  }, schedule, spec, definition.fn)
end

--- The same for a backend that was added to a service that runs.
function check.follow(spec)
  follow(spec)
end

--- Runs the defined checks of a generation's services. Called at the commit.
function check.run(gen, services)
  local before = due
  due, definitions = {}, gen.declared.check or {}
  for _, service in pairs(services) do
    for _, backend in ipairs(service.backends) do
      follow(backend.check, backend.check and before[backend.check.key])
    end
  end
end

return check
