-- SPDX-License-Identifier: GPL-2.0-only
--- The mirrors in force. A generation's come in three steps, as its commit does: `prepare` takes what can fail (taps,
--- devices of collectors, compiled matches), then the programs are exchanged, then `keep`, or `undo`. One that
--- does not change stays what it is, started or not, over a restart of the daemon too.

local actor = require "tidegate.actor"
local controller = require "tidegate.core.controller"
local core = require "tidegate.core.taps"
local log = require "tidegate.log"
local programs = require "tidegate.programs"
local task = require "tidegate.task"
local taps = require "tidegate.taps"
local vxlan = require "tidegate.core.vxlan"

local mirrors = {}

mirrors.in_force = {}    -- name → mirror: { name, port, to, direction, match, sample, rate, tap, handle, device, … }

local in_force = mirrors.in_force
local instance = "default"

local BITS = controller.features()

local function names_of(list)
  local names = {}
  for name in pairs(list) do names[#names + 1] = name end
  table.sort(names)
  return names
end

-- What is asked for --------------------------------------------------------------------------------

local function to_text(to)
  if to.device then return to.device end
  return ("vxlan %s vni %d port %d"):format(to.vxlan, to.vni, to.port)
end

--- All that makes a mirror what it is, in one line; also for the plan.
local function text_of(one)
  local more = one.sample and one.sample > 1 and (", 1 in %d"):format(one.sample) or ""
  if one.rate then more = more .. (", at most %d a second"):format(one.rate) end
  return ("%s %s to %s, %s%s"):format(one.port, one.direction, to_text(one.to), taps.text(one.match), more)
end

local function check(gen, one, vnis)
  local port = (gen.declared.port or {})[one.port]
  local function problem(format, ...)
    gen:problem(("%s: mirror %q: %s"):format(one.position, one.name, format:format(...)))
  end
  if not port then
    problem("there is no port %q (tg.port declares one)", one.port)
  elseif port.tc == false and not port.broken then
    problem("port %q has tc = false (%s), and mirrors need TC", one.port, port.position)
  end
  local unknown = taps.unknown(one.match, gen)
  if unknown then problem("there is no set %q (tg.set declares one)", unknown) end
  if not one.to.vxlan then return end
  local key = ("%d port %d"):format(one.to.vni, one.to.port)
  local other = vnis[key]
  if other and other.to.vxlan ~= one.to.vxlan then
    problem("vni %s is that of mirror %q (%s), whose collector is another: a vni leads to one", key, other.name,
      other.position)
  end
  vnis[key] = other or one
end

--- The mirrors that a loaded generation asks for.
function mirrors.resolve(gen)
  local result, vnis, declared = {}, {}, gen.declared.mirror or {}
  for _, name in ipairs(names_of(declared)) do
    local declaration = declared[name]
    if not declaration.broken then
      local one = {}
      for _, field in ipairs { "name", "port", "to", "direction", "match", "sample", "rate", "position" } do
        one[field] = declaration[field]
      end
      one.text = text_of(one)
      check(gen, one, vnis)
      result[name] = one
    end
  end
  return result
end

--- The features that they need of the programs.
function mirrors.features(list)
  return next(list) and BITS.tap or 0
end

--- The plan's lines.
function mirrors.plan(plan, was, now)
  for _, name in ipairs(names_of(now)) do
    local old, new = was[name], now[name]
    if not old or old.text ~= new.text then plan.touched_mirrors[name] = true end
    if not old then
      plan:note("+", "mirror", name, new.text)
    elseif old.text ~= new.text then
      plan:note("~", "mirror", name, ("%s -> %s%s"):format(old.text, new.text,
        old.tap and core.status(old.tap).at_work and "; it is started, and will be stopped" or ""))
    end
  end
  for _, name in ipairs(names_of(was)) do
    if not now[name] then plan:note("-", "mirror", name, was[name].text) end
  end
end

-- Collectors ---------------------------------------------------------------------------------------

local function remove_device(to)
  local ok, message = task.await(vxlan.remove, instance, to.vxlan, to.vni, to.port)
  if not ok then log.error("%s", message) end
end

--- Removes the devices of collectors that `old` has and `others` have not.
local function remove_devices(old, others)
  local used = {}
  for _, one in pairs(others) do used[to_text(one.to)] = true end
  for _, name in ipairs(names_of(old)) do
    local to = old[name].to
    if to.vxlan and not used[to_text(to)] then
      used[to_text(to)] = true
      remove_device(to)
    end
  end
end

-- Generations --------------------------------------------------------------------------------------

--- Takes what a mirror needs; nil, why, code if that is refused.
local function take(one)
  local tap, kept, code = core.take(one.name, one.text)
  if not tap then return nil, kept, code end
  one.tap, one.kept = tap, kept
  local handle, message
  handle, message, code = taps.compile(one.match)
  if handle == nil then return nil, message, code end
  one.handle, one.device = handle, one.to.device
  if one.to.device then return true end
  one.device, message, code = task.await(vxlan.make, instance, one.to.vxlan, one.to.vni, one.to.port)
  if not one.device then return nil, message, code end
  return true
end

--- Gives back what `old` has and `new` has not. What an earlier daemon left goes on.
local function give_back(old, new)
  local used = {}
  for _, one in pairs(new) do used[one.tap or -1] = true end
  for _, one in pairs(old) do
    if one.tap and not used[one.tap] and not one.kept then core.give_back(one.tap) end
  end
  remove_devices(old, new)
end

local function handles(list)
  local changes = {}
  for _, one in pairs(in_force) do changes[one.tap] = false end
  for _, one in pairs(list) do changes[one.tap] = one.handle end
  return changes
end

--- Takes what the mirrors of a generation need, and asks for their matches: the next exchange of programs has them.
--- true, or nil, why, code, and nothing is taken. The caller holds programs.lock.
function mirrors.prepare(wanted)
  for _, name in ipairs(names_of(wanted)) do
    local one, old = wanted[name], in_force[name]
    if old and old.text == one.text then
      one.tap, one.handle, one.device = old.tap, old.handle, old.device
    else
      local ok, message, code = take(one)
      if not ok then
        give_back(wanted, in_force)
        return nil, ("%s: mirror %q: %s"):format(one.position, name, message), code
      end
    end
  end
  programs.asked_taps = taps.beside(handles(wanted))
  return true
end

--- What was prepared is not to be; before the programs are what they were.
function mirrors.undo(wanted)
  programs.asked_taps = taps.beside(handles(in_force))
  give_back(wanted, in_force)
end

--- After a commit that nothing undoes any more.
function mirrors.keep(wanted)
  local old = in_force
  in_force = wanted
  mirrors.in_force = wanted
  programs.asked_taps = nil
  for _, one in pairs(wanted) do one.kept = nil end
  give_back(old, wanted)
  core.forget_others()
end

--- Before a daemon's first commit. What an earlier one had stays, if it is asked for again.
function mirrors.open(name)
  instance = name
end

-- At work ------------------------------------------------------------------------------------------

--- The mirror of that name, or nil, why, code.
local function find(name)
  local one = in_force[name]
  if not one then return nil, ("there is no mirror %q"):format(tostring(name)), "ENOENT" end
  return one
end

local function is_down(device)
  return not core.carrier(device)
end

--- Starts a mirror. true, or nil, why, code.
function mirrors.start(name, limits)
  local one, message, code = find(name)
  if not one then return nil, message, code end
  local ifindex = controller.ifindex(one.device)
  if not ifindex then
    return nil, ("mirror %q: device %s is not there"):format(name, one.device), "ENODEV"
  end
  local ok
  ok, message, code = core.ready(one.tap, {
    kind = "mirror", port = one.port, direction = one.direction, ifindex = ifindex,
    sample = one.sample, rate = one.rate, seconds = limits.seconds, packets = limits.packets,
  })
  if ok then
    core.device(one.tap, ifindex, is_down(one.device))
    ok, message, code = core.start(one.tap)
  end
  if not ok then return nil, ("mirror %q: %s"):format(name, message), code end
  one.ifindex = ifindex
  log.info("mirror %s: started by %s: %s", name, actor().who, one.text)
  return true
end

local function summary(tap)
  local words, counts = {}, core.status(tap).counts
  for _, what in ipairs(names_of(counts)) do
    if counts[what].packets > 0 then words[#words + 1] = ("%d %s"):format(counts[what].packets, what) end
  end
  return #words > 0 and table.concat(words, ", ") or "nothing copied"
end

--- Stops a mirror. true, or nil, why, code.
function mirrors.stop(name)
  local one, message, code = find(name)
  if not one then return nil, message, code end
  if core.status(one.tap).at_work then
    core.stop(one.tap)
    log.info("mirror %s: stopped: %s", name, summary(one.tap))
  end
  return true
end

--- Run every second: ends are told; a device that is there again, or another one of its name, is sent to.
function mirrors.watch()
  local ended = {}
  for _, tap in ipairs(core.look()) do ended[tap] = true end
  for _, name in ipairs(names_of(in_force)) do
    local one = in_force[name]
    if ended[one.tap] then
      log.info("mirror %s: ended: %s", name, summary(one.tap))
    elseif core.status(one.tap).at_work then
      local ifindex = controller.ifindex(one.device)
      if ifindex then core.device(one.tap, ifindex, is_down(one.device)) end
      if not ifindex and one.ifindex then log.warn("mirror %s: device %s is gone", name, one.device) end
      one.ifindex = ifindex
    end
  end
end

local function device_state(device)
  if not controller.ifindex(device) then return "gone" end
  return core.carrier(device) and "up" or "down"
end

local function described(one)
  local tap = core.status(one.tap)
  local copied = tap.counts.copied
  return {
    name = one.name, port = one.port, to = to_text(one.to), direction = one.direction, match = taps.text(one.match),
    sample = one.sample or 1, rate = one.rate, device = one.device, device_state = device_state(one.device),
    state = tap.at_work and "started" or tap.start > 0 and "ended" or "off",
    packets = copied.packets, bytes = copied.bytes, counts = tap.counts,
    seconds_left = tap.seconds_left, packets_left = tap.packets_left,
  }
end

--- What a mirror is and has done; or nil, why, code.
function mirrors.status(name)
  local one, message, code = find(name)
  if not one then return nil, message, code end
  return described(one)
end

--- name → status
function mirrors.all()
  local result = {}
  for name, one in pairs(in_force) do result[name] = described(one) end
  return result
end

local function errors_text(one)
  local words = {}
  for _, what in ipairs(names_of(one.counts)) do
    local packets = one.counts[what].packets
    if what ~= "copied" and packets > 0 then words[#words + 1] = ("%s %d"):format(what, packets) end
  end
  return #words > 0 and " (" .. table.concat(words, ", ") .. ")" or ""
end

--- The lines of `tidegate status`.
function mirrors.print(request, all)
  for _, name in ipairs(names_of(all)) do
    local one = all[name]
    local left = one.seconds_left and (", %.0f s left"):format(one.seconds_left) or ""
    if one.packets_left then left = left .. (", %d packets left"):format(one.packets_left) end
    request:print(("mirror %s: %s%s, %s, %d packets, %d bytes%s"):format(name, one.state, left,
      in_force[name] and in_force[name].text or one.to, one.packets, one.bytes, errors_text(one)))
    if one.device_state ~= "up" then request:print(("  device %s: %s"):format(one.device, one.device_state)) end
  end
end

return mirrors
