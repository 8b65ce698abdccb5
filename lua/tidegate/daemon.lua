-- SPDX-License-Identifier: GPL-2.0-only
--- The daemon: loads the operator's files, puts them in force, and answers the commands that come
--- over the control socket. Called by core/cmd_run.c and core/cmd_check.c.

local address = require "tidegate.address"
local advice = require "tidegate.advice"
local capture = require "tidegate.capture"
local attachment = require "tidegate.attachment"
local check = require "tidegate.check"
local console = require "tidegate.console"
local controller = require "tidegate.core.controller"
local desired = require "tidegate.desired"
local event = require "tidegate.event"
local flows = require "tidegate.flows"
local generation = require "tidegate.generation"
local host = require "tidegate.core.host"
local json = require "dkjson"
local lists = require "tidegate.lists"
local lock = require "tidegate.lock"
local log = require "tidegate.log"
local mirrors = require "tidegate.mirrors"
local needs_of_mirror = require "tidegate.mirror_needs"
local kept = require "tidegate.policy.kept"
local packet_event = require "tidegate.packet_event"
local plan = require "tidegate.plan"
local policy = require "tidegate.policy.state"
local policy_status = require "tidegate.policy.status"
local rates = require "tidegate.rates"
local running = require "tidegate.running"
local settings = require "tidegate.settings"
local task = require "tidegate.task"
local trigger = require "tidegate.trigger"
require "tidegate.trace" -- its command

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

--- Notes every l2dsr backend that is behind a gateway.
local function check_routes(gen, state)
  for _, name in ipairs(desired.names(state.services)) do
    local spec = state.services[name]
    for _, backend in ipairs(spec.backends) do
      local message = running.refuses_route(spec, backend)
      if message then gen:problem(("%s: %s"):format(spec.position, message)) end
    end
  end
end

--- Why a loaded generation can't be put in force: a text and an exit code, or nil.
local function refusal(gen, state)
  if #gen.problems == 0 then check_routes(gen, state) end
  if #gen.problems > 0 then return gen:report(), EXIT.no end
  local missing = missing_devices(state)
  if #missing > 0 then return table.concat(missing, "\n"), EXIT.environment end
end

--- Puts a loaded generation in force; the caller holds running.lock. true, or nil, why, exit code; then
--- nothing has changed.
local function commit(gen, state)
  local ok, message = running.commit(state)
  if not ok then return nil, message, EXIT.environment end
  local old = current
  current = gen
  settings.apply(gen)
  settings.tune(gen)
  flows.apply(settings.tracking(gen))
  packet_event.follow()
  gen:start()
  if old then old:stop() end
  check.run(gen, state.services)
  gen:run_acts()
  return true
end

local function load_and_commit()
  local gen <close> = generation.new(files)
  gen:load()
  local turn <close> = running.lock:take() -- from here on the operator's drains stay as they are
  local state = desired.resolve(gen, running.admins)
  local message, code = refusal(gen, state)
  if message then return nil, message, code end
  return commit(gen, state)
end

-- Commands -----------------------------------------------------------------------------------------

local loading = lock.new()

--- Loads the files again. true, or nil, why, exit code.
function daemon.reload()
  local turn <close> = loading:take()
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

--- Compiles a state's policies, for what there is to say about them. The warnings; or nil, why.
local function examine(state)
  local message
  state.policy.compiled, message = policy.compile(state.policy.policies, state.policy.sets)
  if not state.policy.compiled then return nil, message end
  return policy.warnings(state.policy.compiled)
end

local function warning_text(warnings)
  local lines = {}
  for i, warning in ipairs(warnings) do lines[i] = ("warning: %s: %s\n"):format(warning.position, warning.text) end
  return table.concat(lines)
end

local function plan_json(gen, made, needs, warnings, message)
  local problems = {}
  for i, problem in ipairs(gen.problems) do
    problems[i] = { position = problem.position, message = problem.message }
  end
  return json.encode({
    changes = made and setmetatable(made.changes, { __jsontype = "array" }) or json.null,
    acts = made and setmetatable(made.acts, { __jsontype = "array" }) or json.null,
    needs = made and setmetatable(needs, { __jsontype = "array" }) or json.null,
    warnings = warnings and setmetatable(warnings, { __jsontype = "array" }) or json.null,
    problems = setmetatable(problems, { __jsontype = "array" }), message = message,
  }, { indent = true }) .. "\n"
end

--- Validates files and prints the plan. `out` has print-like `write` and `error`. The exit code.
local function check_files(out, paths, as_json)
  local gen <close> = generation.new(paths)
  gen:load()
  local state = desired.resolve(gen, running.admins)
  local message, code = refusal(gen, state)
  local warnings
  if not message then warnings, message = examine(state) end
  if message then code = code or EXIT.no end
  local made = not message and plan.new(running, state, gen:to_do())
  local needs = made and advice.of_plan(made, state.services, state.mirrors)
  if as_json then
    out:write(plan_json(gen, made, needs, warnings, message))
  elseif message then
    out:error(message)
  else
    out:write(made:text() .. warning_text(warnings) .. advice.text(needs))
  end
  return code or (made:empty() and EXIT.ok or EXIT.changes)
end

console.register("check", function(request)
  local as_json = request.args[1] == "--json"
  local paths = table.move(request.args, as_json and 2 or 1, #request.args, 1, {})
  return check_files(request, paths, as_json)
end)

-- Status -------------------------------------------------------------------------------------------

local function as_object(map)
  return setmetatable(map, { __jsontype = "object" }) -- also when it is empty
end

local function status()
  local used, cap = host.memory()
  local all_lists, memory = lists.status()
  return {
    instance = instance, version = daemon.version, generation = current and current.number, files = files,
    uptime = task.now() - started, errors = task.root().errors, memory = { lua = used, cap = cap },
    features = running.features, ports = as_object(running.ports), services = as_object(running.status()),
    reasons = controller.reasons(), flows = controller.flows(), tables = controller.tables(),
    lists = setmetatable(assert(all_lists, memory), { __jsontype = "array" }), list_memory = memory,
    policies = as_object(policy.status()), sets = setmetatable(policy_status.sets(), { __jsontype = "array" }),
    triggers = as_object(trigger.status()), captures = setmetatable(capture.all(), { __jsontype = "array" }),
    mirrors = as_object(mirrors.all()),
    events = packet_event.status(), tracks = flows.status(),
  }
end

daemon.status = status

--- Of a backend that takes no new flows: what is left of the old ones.
local function left_text(backend)
  if backend.drained then return ", drained" end
  if not backend.flows then return "" end
  if backend.flows == 0 then return ", no old flow has spoken yet" end
  return (", about %d old flows, the last spoke %d s ago"):format(backend.flows,
    math.max(0, os.time() - backend.last_flow))
end

local function print_service(request, name, service)
  local vips = {}
  for i, vip in ipairs(service.vips) do vips[i] = address.format_vip(vip) end
  local moving = service.moving > 0 and (", %d slots moving"):format(service.moving) or ""
  request:print(("service %s: %s %s, fail %s, %d packets, %d bytes%s"):format(name, service.mode,
    table.concat(vips, " "), service.fail, service.packets, service.bytes, moving))
  local replies = 0
  for _, backend in ipairs(service.backends) do
    replies = replies + backend.reply_packets
    request:print(("  %-24s %-6s weight %-5d %6d slots %10d packets %s%s"):format(
      address.format(backend.addr, backend.port), backend.state, backend.weight, backend.slots, backend.packets,
      (backend.quic_id and ("quic id %d "):format(backend.quic_id) or "") ..
      (backend.next_hop.state == "resolved" and "" or "next hop: " .. backend.next_hop.state .. " "),
      (backend.reason or "") .. left_text(backend)))
  end
  if service.mode == "nat" and service.packets > 0 and replies == 0 then
    request:print("  warning: requests > 0, replies = 0: do the backends answer through this switch?")
  end
end

--- What the tables take, those above a hundredth of it by name.
local function print_tables(request, tables)
  local names, total, said = desired.names(tables), 0, {}
  for _, bytes in pairs(tables) do total = total + bytes end
  table.sort(names, function(a, b) return tables[a] > tables[b] end)
  for _, name in ipairs(names) do
    if tables[name] * 100 > total then said[#said + 1] = ("%s %.1f"):format(name, tables[name] / (1 << 20)) end
  end
  request:print(("tables: %.1f MiB (%s)"):format(total / (1 << 20), table.concat(said, ", ")))
end

local function print_list(request, list)
  local timed = list.timed > 0 and (", %d with an end"):format(list.timed) or ""
  local by = list.replaced_by and (", replaced by %s"):format(list.replaced_by) or ""
  request:print(("list %s %s: %d prefixes%s%s, %d packets, %d bytes"):format(list.verdict, list.name, list.entries,
    timed, by, list.packets, list.bytes))
end

local function print_lists(request, report)
  for _, list in ipairs(report.lists) do print_list(request, list) end
  local memory = report.list_memory
  if memory.tables4 + memory.tables6 > 0 then
    request:print(("lists: IPv4 tables %.1f MiB, IPv6 tables %.1f MiB"):format(memory.tables4 / (1 << 20),
      memory.tables6 / (1 << 20)))
  end
end

local function print_status(request, report)
  request:print(("instance %s, generation %s, up %.0f s, %d script errors, Lua %.1f MiB"):format(report.instance,
    report.generation or "none", report.uptime, report.errors, report.memory.lua / (1 << 20)))
  print_tables(request, report.tables)
  for _, name in ipairs(desired.names(report.ports)) do
    request:print(("port %s: %s"):format(name, attachment.status(report.ports[name])))
  end
  for _, name in ipairs(desired.names(report.services)) do print_service(request, name, report.services[name]) end
  local lines = report.flows
  if lines.full + lines.limited > 0 then
    request:print(("flows: %d entered, %d found no room, %d of clients that had too many"):format(
      lines.entered, lines.full, lines.limited))
  end
  if report.tracks then request:print(flows.text(report.tracks)) end
  print_lists(request, report)
  capture.print(request, report.captures)
  policy_status.print(request, report.policies, report.sets)
  mirrors.print(request, report.mirrors)
  packet_event.print(request, report.events)
  for _, name in ipairs(desired.names(report.triggers)) do request:print(trigger.line(report.triggers[name])) end
  for _, name in ipairs(desired.names(report.reasons)) do
    if report.reasons[name] > 0 then request:print(("reason %s: %d packets"):format(name, report.reasons[name])) end
  end
end

--- An object as JSON, member by member: a thousand services at once would take more memory than scripts
--- have, and longer than a task may. `write_member(name, value)` says otherwise for some.
local function write_object(request, level, object, write_member)
  local pad = ("  "):rep(level)
  request:write "{"
  for i, name in ipairs(desired.names(object)) do
    request:write(("%s\n%s  %s: "):format(i > 1 and "," or "", pad, json.encode(name)))
    if not (write_member and write_member(name, object[name])) then
      request:write(json.encode(object[name], { indent = true, level = level + 1 }))
    end
    task.sleep(0)
  end
  request:write(("\n%s}"):format(pad))
end

local function write_status(request, report)
  write_object(request, 0, report, function(name, value)
    if name ~= "services" and name ~= "policies" then return false end
    write_object(request, 1, value, name == "policies" and function(_, of_port)
      write_object(request, 2, of_port)
      return true
    end)
    return true
  end)
  request:write "\n"
end

console.register("status", function(request)
  local report = status()
  if request.args[1] == "--json" then
    write_status(request, report)
  else
    print_status(request, report)
  end
end)

--- What `tidegate doctor` says of the services and mirrors that run.
console.register("doctor", function(request)
  for _, name in ipairs(desired.names(running.services)) do
    local spec = running.services[name]
    request:write(advice.text { { service = name, mode = spec.mode, needs = advice.of(spec) } })
  end
  for _, name in ipairs(desired.names(running.mirrors)) do
    request:write(advice.text { { mirror = name, needs = needs_of_mirror(running.mirrors[name]) } })
  end
end)

--- Ends the daemon when the reply is on its way; nothing changes any more.
local function exit_soon()
  local turn <close> = running.lock:take()
  task.sleep(0.05)
  host.exit(EXIT.ok)
end

console.register("unload", function(request)
  local turn <close> = running.lock:take()
  local ok, message = controller.unload(instance)
  if not ok then
    request:error(message)
    return EXIT.environment
  end
  lists.unload(instance)
  kept.unload(instance)
  request:print(("instance %s: unloaded; the daemon ends"):format(instance))
  task.start({ name = "exit", owner = task.root() }, exit_soon)
end)

-- Start --------------------------------------------------------------------------------------------

local function on_event(ev)
  log.info("%s %s %s: %s", ev.name, ev.service, ev.backend, ev.reason)
  event.emit(ev)
end

local adopted = false

--- Opens the datapath and starts the engine on it. true, or nil, why, code.
local function start_engine(gen, state)
  local opened, message, code = controller.open(instance, settings.seed(gen), settings.flows(gen))
  if not opened then return nil, message, code end
  kept.open(instance)
  flows.open(settings.tracking(gen), opened.features & controller.features().flow ~= 0)
  if opened.replaced then log.warn("the pins of another ABI version were removed: starting anew") end
  adopted = opened.adopted
  local ok
  ok, message, code = task.await(controller.specialise, opened.features | state.features)
  if not ok then return nil, message, code end
  running.features = opened.features | state.features
  ok, message, code = controller.start()
  if not ok then return nil, message, code end
  ok, message, code = lists.open()
  if not ok then return nil, message, code end
  mirrors.open(instance)
  running.adopt()
  controller.on_event(on_event)
  return true
end

local function give_up(message, code)
  io.stderr:write("tidegate: ", message, "\n")
  host.exit(code)
end

--- What was made for a start that failed; what an earlier daemon left goes on.
local function clean_up()
  if not adopted then controller.unload(instance) end
end

--- The operator's Lua sees what scripts see.
console.set_environment(function() return current and current.environment or {} end)

--- Loads the files, takes over what runs, and puts them in force. true, or nil, why, exit code.
local function first_commit()
  local gen <close> = generation.new(files)
  gen:load()
  local state = desired.resolve(gen, {})
  local message, code = refusal(gen, state)
  if message then return nil, message, code end
  local turn <close> = running.lock:take()
  local ok
  ok, message = start_engine(gen, state)
  if not ok then
    clean_up()
    return nil, message, EXIT.environment
  end
  ok, message, code = commit(gen, desired.resolve(gen, running.admins)) -- drains that were in force stay so
  if not ok then clean_up() end
  return ok, message, code
end

local function start(socket)
  local turn <close> = loading:take()
  local ok, message, code = first_commit()
  if not ok then return give_up(message, code) end
  ok, message = console.start(socket)
  if not ok then
    clean_up()
    return give_up(message, EXIT.environment)
  end
  rates.watch()
  task.every(0.5, flows.collect, { name = "flows", owner = task.root() })
  task.every(1, running.watch_ports, { name = "ports", owner = task.root() })
  task.every(1, mirrors.watch, { name = "mirrors", owner = task.root() })
  log.info("instance %s: generation %d is in force", instance, current.number)
end

--- tidegate run: argv is instance, socket, "attach" or "no-attach", version, files.
function daemon.run(name, socket, attach, version, ...)
  instance, files, daemon.version = name, { ... }, version
  running.attach = attach == "attach"
  settings.apply()
  task.start({ name = "start", owner = task.root(), on_error = function(_, traceback)
    give_up(traceback, EXIT.no)
  end }, start, socket)
end

--- tidegate check without a daemon: plans against an empty switch.
function daemon.check(as_json, ...)
  local paths = { ... }
  local out = {}
  settings.apply()
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
  lists.unload(name)
  kept.unload(name)
  if ok then
    print(("instance %s: unloaded"):format(name))
  else
    io.stderr:write("tidegate: ", message, "\n")
  end
  host.exit(ok and EXIT.ok or code == "ENOENT" and EXIT.no or EXIT.environment)
end

return daemon
