-- SPDX-License-Identifier: GPL-2.0-only
--- The daemon: loads the operator's files, puts them in force, and answers the commands that come
--- over the control socket. Called by core/cmd_run.c and core/cmd_check.c.

local address = require "tidegate.address"
local check = require "tidegate.check"
local console = require "tidegate.console"
local controller = require "tidegate.core.controller"
local desired = require "tidegate.desired"
local event = require "tidegate.event"
local generation = require "tidegate.generation"
local host = require "tidegate.core.host"
local json = require "dkjson"
local log = require "tidegate.log"
local plan = require "tidegate.plan"
local running = require "tidegate.running"
local settings = require "tidegate.settings"
local task = require "tidegate.task"

local daemon = {}

local EXIT = { ok = 0, no = 1, environment = 3, changes = 4 }

local instance, files
local current               ---@type tidegate.Generation?
local started = task.now()

-- Loading ------------------------------------------------------------------------------------------

--- Devices that have to be there and are not: the environment's refusal, not the script's mistake.
local function missing_devices(state)
  local missing = {}
  for _, name in ipairs(desired.names(state.ports)) do
    local port = state.ports[name]
    if running.attach and not port.optional and not controller.ifindex(name) then
      missing[#missing + 1] = ("%s: port %s: no such device in this network namespace"):format(port.position, name)
    end
  end
  return missing
end

--- l2dsr delivers to a neighbour's MAC: a backend behind a gateway can't be reached that way.
local function check_routes(gen, state)
  local asked = {}
  for _, name in ipairs(desired.names(state.services)) do
    local spec = state.services[name]
    for _, backend in ipairs(spec.mode == "l2dsr" and spec.backends or {}) do
      local hop = asked[backend.addr] or task.await(controller.route, backend.addr)
      asked[backend.addr] = hop
      if hop and hop.gateway then
        gen:problem(("%s: service %q: backend %s is behind the gateway %s, and l2dsr reaches neighbours only;"
          .. " use ipip or gue, or nat"):format(spec.position, name, backend.name, hop.gateway))
      end
    end
  end
end

--- Loads files into a new generation. The state it asks for; what is wrong is in its problems.
local function load(paths)
  local gen = generation.new(paths)
  gen:load()
  return gen, desired.resolve(gen, running.admins)
end

--- Why a loaded generation can't be put in force: a text and an exit code, or nil.
local function refusal(gen, state)
  if #gen.problems == 0 and daemon.engine_runs then check_routes(gen, state) end
  if #gen.problems > 0 then return gen:report(), EXIT.no end
  local missing = missing_devices(state)
  if #missing > 0 then return table.concat(missing, "\n"), EXIT.environment end
end

local function replace_generation(gen, state)
  local old = current
  current = gen
  gen:start()
  if old then old:stop() end
  check.run(gen, state.services)
  gen:run_acts()
end

--- Puts a loaded generation in force. true, or nil, why, exit code; then nothing has changed.
local function commit(gen, state)
  local lock <close> = running.lock()
  local ok, message = running.commit(state)
  if not ok then return nil, message, EXIT.environment end
  settings.apply(gen)
  replace_generation(gen, state)
  return true
end

local function load_and_commit()
  local gen, state = load(files)
  local message, code = refusal(gen, state)
  if not message then
    local ok
    ok, message, code = commit(gen, state)
    if ok then return true end
  end
  gen:fail()
  return nil, message, code
end

-- Commands -----------------------------------------------------------------------------------------

local reloading = false

--- Loads the files again. true, or nil, why, exit code.
function daemon.reload()
  if reloading then return nil, "a reload is under way already", EXIT.no end
  reloading = true
  local done <close> = setmetatable({}, { __close = function() reloading = false end })
  local ok, message, code = load_and_commit()
  if ok then
    log.info("reloaded: generation %d is in force", current.number)
  else
    log.error("not reloaded, what ran goes on:\n%s", message)
  end
  return ok, message, code
end

--- SIGHUP.
function daemon.reload_signal()
  task.start({ name = "reload", owner = task.root() }, daemon.reload)
end

console.register("reload", function(request)
  local job = task.start({ name = "reload", owner = task.root(), quiet = true }, daemon.reload)
  local ran, ok, message, code = job:join()
  if not ran then error(ok, 0) end
  if ok then
    request:print(("generation %d is in force"):format(current.number))
    return EXIT.ok
  end
  request:error(message)
  return code
end)

local function plan_json(gen, made, message)
  local problems = {}
  for i, problem in ipairs(gen.problems) do
    problems[i] = { position = problem.position, message = problem.message }
  end
  return json.encode({
    changes = made and setmetatable(made.changes, { __jsontype = "array" }) or json.null,
    acts = made and setmetatable(made.acts, { __jsontype = "array" }) or json.null,
    problems = setmetatable(problems, { __jsontype = "array" }), message = message,
  }, { indent = true }) .. "\n"
end

--- Validates files and prints the plan. `out` has print-like `write` and `error`. The exit code.
local function check_files(out, paths, as_json)
  local gen, state = load(paths)
  local message, code = refusal(gen, state)
  local made = not message and plan.new(running, state, gen.acts)
  gen:fail()
  if as_json then
    out:write(plan_json(gen, made, message))
  elseif message then
    out:error(message)
  else
    out:write(made:text())
  end
  return code or (made:empty() and EXIT.ok or EXIT.changes)
end

console.register("check", function(request)
  local as_json = request.args[1] == "--json"
  local paths = table.move(request.args, as_json and 2 or 1, #request.args, 1, {})
  return check_files(request, paths, as_json)
end)

-- Status -------------------------------------------------------------------------------------------

local function status()
  local services = {}
  for _, service in ipairs(assert(task.await(controller.status))) do
    service.backends = running.backends(service.name)
    services[service.name] = service
  end
  local used, cap = host.memory()
  return {
    instance = instance, version = daemon.version, generation = current and current.number, files = files,
    uptime = task.now() - started, errors = task.root().errors, memory = { lua = used, cap = cap },
    features = running.features, ports = running.ports, services = services, reasons = controller.reasons(),
  }
end

daemon.status = status

local function print_service(request, name, service)
  local vips = {}
  for i, vip in ipairs(service.vips) do vips[i] = address.format_vip(vip) end
  request:print(("service %s: %s %s, fail %s, %d packets, %d bytes"):format(name, service.mode,
    table.concat(vips, " "), service.fail, service.packets, service.bytes))
  local replies = 0
  for _, backend in ipairs(service.backends) do
    replies = replies + backend.reply_packets
    request:print(("  %-24s %-6s weight %-5d %6d slots %10d packets %s%s"):format(
      address.format(backend.addr, backend.port), backend.state, backend.weight, backend.slots, backend.packets,
      backend.next_hop.state == "resolved" and "" or "next hop: " .. backend.next_hop.state .. " ",
      backend.reason or ""))
  end
  if service.mode == "nat" and service.packets > 0 and replies == 0 then
    request:print("  warning: requests > 0, replies = 0: do the backends answer through this switch?")
  end
end

local function print_status(request, report)
  request:print(("instance %s, generation %s, up %.0f s, %d script errors, Lua %.1f MiB"):format(report.instance,
    report.generation or "none", report.uptime, report.errors, report.memory.lua / (1 << 20)))
  for _, name in ipairs(desired.names(report.ports)) do
    local port = report.ports[name]
    request:print(("port %s: %s"):format(name, port.ifindex and "xdp " .. (port.mode or "?") or "not attached"))
  end
  for _, name in ipairs(desired.names(report.services)) do print_service(request, name, report.services[name]) end
  for _, name in ipairs(desired.names(report.reasons)) do
    if report.reasons[name] > 0 then request:print(("reason %s: %d packets"):format(name, report.reasons[name])) end
  end
end

console.register("status", function(request)
  local report = status()
  if request.args[1] == "--json" then
    request:print(json.encode(report, { indent = true }))
  else
    print_status(request, report)
  end
end)

console.register("unload", function(request)
  local lock <close> = running.lock()
  local ok, message = controller.unload(instance)
  if not ok then
    request:error(message)
    return EXIT.environment
  end
  request:print(("instance %s: unloaded; the daemon ends"):format(instance))
  task.start({ name = "exit", owner = task.root() }, function()
    task.sleep(0.05)
    host.exit(0)
  end)
end)

-- Start --------------------------------------------------------------------------------------------

local function on_event(ev)
  log.info("%s %s %s: %s", ev.name, ev.service, ev.backend, ev.reason)
  event.emit(ev)
end

--- Opens the datapath and starts the engine on it. true, or nil, why, code.
local function start_engine(gen, state)
  local opened, message, code = controller.open(instance, settings.seed(gen))
  if not opened then return nil, message, code end
  if opened.replaced then log.warn("the pins of another ABI version were removed: starting anew") end
  local ok
  ok, message, code = task.await(controller.specialise, opened.features | state.features)
  if not ok then return nil, message, code end
  running.features = opened.features | state.features
  ok, message, code = controller.start()
  if not ok then return nil, message, code end
  daemon.engine_runs = true
  running.adopt()
  controller.on_event(on_event)
  return true
end

local function give_up(message, code)
  io.stderr:write("tidegate: ", message, "\n")
  host.exit(code)
end

--- The operator's Lua sees what scripts see.
console.set_environment(function() return current and current.environment or {} end)

local function start(socket)
  local gen, state = load(files)
  local message, code = refusal(gen, state)
  if message then return give_up(message, code) end
  local runs, why = start_engine(gen, state)
  if not runs then return give_up(why, EXIT.environment) end
  state = desired.resolve(gen, running.admins) -- drains that were in force stay so
  message, code = refusal(gen, state)
  if not message then message, code = select(2, commit(gen, state)) end
  if message then return give_up(message, code) end
  local server
  server, message = console.start(socket)
  if not server then return give_up(message, EXIT.environment) end
  task.every(1, running.watch_ports, { name = "ports", owner = task.root() })
  log.info("instance %s: generation %d is in force", instance, gen.number)
end

--- tidegate run: argv is instance, socket, "attach" or "no-attach", version, files.
function daemon.run(name, socket, attach, version, ...)
  instance, files, daemon.version = name, { ... }, version
  running.attach = attach == "attach"
  task.start({ name = "start", owner = task.root(), on_error = function(_, traceback)
    give_up(traceback, EXIT.no)
  end }, start, socket)
end

--- tidegate check without a daemon: plans against an empty switch.
function daemon.check(as_json, ...)
  local paths = { ... }
  local out = {}
  function out.write(_, text) io.stdout:write(text) end
  function out.error(_, text) io.stderr:write(text, "\n") end
  task.start({ name = "check", owner = task.root(), on_error = function(_, traceback)
    give_up(traceback, EXIT.no)
  end }, function()
    host.exit(check_files(out, paths, as_json == "--json"))
  end)
end

--- tidegate unload without a daemon.
function daemon.unload(name)
  local ok, message, code = controller.unload(name)
  if ok then
    print(("instance %s: unloaded"):format(name))
  else
    io.stderr:write("tidegate: ", message, "\n")
  end
  host.exit(ok and EXIT.ok or code == "ENOENT" and EXIT.no or EXIT.environment)
end

return daemon
