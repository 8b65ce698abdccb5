-- SPDX-License-Identifier: GPL-2.0-only
--- Rates: what a second brings, of each port and in all, out of what the datapath counts (bpf/rates.h).
---
---     { packets =, bytes =, tcp =, tcp_syn =, tcp_rst =, udp =, icmp =, fragments =, drops =,   -- what comes in
---       egress = { … },                                                                         -- what leaves
---       ports = { eth0 = { packets =, …, egress = { … } } },                                    -- each port's own
---       reasons = { denied =, … } }                                           -- why packets are dropped, or passed
---
--- The counters are read four times a second; a rate is the mean of the second that ends with the last reading.
--- The programs count while a file has a trigger, a port or the instance says `rates = true`, and from the first
--- call of tg.rates() on. Otherwise rates cost nothing.

local controller = require "tidegate.core.controller"
local core = require "tidegate.core.rates"
local programs = require "tidegate.programs"
local task = require "tidegate.task"

local rates = {}

local FEATURE = controller.features().rates
local WINDOW = 1        -- seconds that a rate is the mean of
local INTERVAL = WINDOW / 4

local names = core.names()
local readings = {}     -- { at =, ports =, reasons = }, oldest first; the first of them a second before the last
local latest            -- the table of rates, made when it is first asked for
local asked = false     -- tg.rates() was called

-- Rates from readings ------------------------------------------------------------------------------

local function zero()
  local counts = {}
  for _, name in ipairs(names) do counts[name] = 0 end
  return counts
end

--- Adds what one direction of a port has counted between two readings, a second.
local function add(to, before, now, seconds)
  for _, name in ipairs(names) do
    to[name] = to[name] + math.max(0, now[name] - before[name]) / seconds
  end
end

--- A port's rates; those of one that is new are zero.
local function of_port(before, now, seconds, all)
  local port = zero()
  port.egress = zero()
  if before and before.slot == now.slot then
    for _, to in ipairs { port, all } do
      add(to, before.ingress, now.ingress, seconds)
      add(to.egress, before.egress, now.egress, seconds)
    end
  end
  return port
end

--- The rates between two readings { at, ports, reasons }.
function rates.between(before, now)
  local seconds, all = now.at - before.at, zero()
  all.egress, all.ports, all.reasons = zero(), {}, {}
  for name, port in pairs(now.ports) do all.ports[name] = of_port(before.ports[name], port, seconds, all) end
  for name, count in pairs(now.reasons) do
    all.reasons[name] = math.max(0, count - (before.reasons[name] or count)) / seconds
  end
  return all
end

-- Readings -----------------------------------------------------------------------------------------

local function forget()
  readings, latest = {}, nil
end

--- Forgets readings that are older than a second, but for one.
local function drop_old(now)
  while #readings > 2 and now - readings[2].at >= WINDOW - INTERVAL / 2 do table.remove(readings, 1) end
end

--- Reads the counters, if the programs count; not while programs are exchanged, and maps with them. Run four times a
--- second.
function rates.sample()
  if programs.lock.held then return end
  local ports = core.read()
  if not ports then return forget() end
  local now = task.now()
  readings[#readings + 1] = { at = now, ports = ports, reasons = controller.reasons() }
  drop_old(now)
  latest = nil
end

--- The rates of the last second; nil before there are any. What is handed out is not to be written to.
function rates.read()
  if #readings < 2 then return nil end
  latest = latest or rates.between(readings[1], readings[#readings])
  return latest
end

--- Starts reading; once, in the daemon.
function rates.watch()
  task.every(INTERVAL, rates.sample, { name = "rates", owner = task.root() })
end

-- For scripts --------------------------------------------------------------------------------------

local function copy(from)
  local to = {}
  for key, value in pairs(from) do to[key] = type(value) == "table" and copy(value) or value end
  return to
end

--- Makes the programs count, on all ports that may have TC. true, or nil, why, code.
local function need()
  local running = require "tidegate.running"
  local turn <close> = running.lock:take()
  local ok, message, code = running.need(FEATURE)
  if not ok then return nil, message, code end
  asked = true
  for name, port in pairs(running.ports) do
    if port.tc ~= false then
      ok, message, code = running.use_tc(name, "rates")
      if not ok then return nil, message, code end
    end
  end
  return true
end

--- The rates of the last second. Where nothing was counted yet, the programs count from now on, and this waits
--- for a second. Or nil, why, code.
function rates.get()
  if not rates.read() then
    local ok, message, code = need()
    if not ok then return nil, message, code end
    for _ = 1, 5 * WINDOW / INTERVAL do
      task.sleep(INTERVAL)
      if #readings > 1 and readings[#readings].at - readings[1].at >= WINDOW - INTERVAL then break end
    end
  end
  local found = rates.read()
  if not found then return nil, "nothing is counted: no port is attached", "EAGAIN" end
  return copy(found)
end

local function is_wanted(gen)
  if asked or next(gen.declared.trigger or {}) then return true end
  local instance = gen.declared.instance
  if instance and instance.instance.rates then return true end
  for _, port in pairs(gen.declared.port or {}) do
    if port.rates then return true end
  end
  return false
end

--- The feature, as bits, if a generation wants rates; then all its `ports` use TC.
function rates.features(gen, ports)
  if not is_wanted(gen) then return 0 end
  for _, port in pairs(ports) do port.uses.rates = "file" end
  return FEATURE
end

return rates
