-- SPDX-License-Identifier: GPL-2.0-only
--- tg.trigger with rates that the spec makes up; with real ones: tests/net/triggers_test.sh.
local event = require "tidegate.event"
local hysteresis = require "tidegate.trigger.hysteresis"
local log = require "tidegate.log"
local rates = require "tidegate.rates"
local scripts = require "tests.helpers.scripts"
local trigger = require "tidegate.trigger"
local watched = require "tidegate.trigger.watched"

--- What a machine does at each second: "t" the condition holds, "f" it does not, "?" it raised.
local function run(options, script)
  local machine = hysteresis.new {
    hold = options.hold or 0, clear = options.clear or 0, max = options.max or 1e6, starts = options.starts or 1000,
    every = options.every or 1,
  }
  local done, second = {}, 0
  for char in script:gmatch "." do
    local holds
    if char ~= "?" then holds = char == "t" end
    local act, why = machine:step(1000 + second * (options.every or 1), holds)
    if act then done[#done + 1] = ("%d %s%s"):format(second, act, why and " " .. why or "") end
    second = second + 1
  end
  return done, machine.state
end

describe("a trigger's hysteresis", function()
  it("starts when the condition has held for `hold`, and not before", function()
    assert.same({ "0 start" }, (run({ hold = 0, clear = 9 }, "t")))
    assert.same({}, (run({ hold = 3 }, "tttfttt")))
    assert.same({ "3 start" }, (run({ hold = 3, clear = 9 }, "tttt")))
  end)

  it("stops when it has been false for `clear`, and not before", function()
    assert.same({ "0 start", "4 stop clear" }, (run({ clear = 3 }, "tffff")))
    assert.same({ "0 start" }, (run({ clear = 3 }, "tffftffft")))
  end)

  it("starts again after that", function()
    assert.same({ "1 start", "3 stop clear", "5 start" }, (run({ hold = 1, clear = 1 }, "ttffttt")))
  end)

  it("always ends: after `max`, and then waits for calm", function()
    local done, state = run({ hold = 0, clear = 2, max = 4 }, "ttttttttttt")
    assert.same({ "0 start", "4 stop max" }, done)
    assert.equal("spent", state)
    assert.same({ "0 start", "4 stop max", "9 start" }, (run({ clear = 2, max = 4 }, "ttttttffftt")))
  end)

  it("ends after `max` though the condition raises all the time", function()
    assert.same({ "0 start", "4 stop max" }, (run({ max = 4 }, "t??????")))
  end)

  it("takes what raised neither for true nor for false", function()
    assert.same({}, (run({ hold = 2 }, "tt?tt?tt")))
    assert.same({ "0 start" }, (run({ clear = 2 }, "tff?ff?ff")))
  end)

  it("starts at most so many times an hour, and says once that it would have", function()
    local done = run({ hold = 0, clear = 0, starts = 2 }, "tftfttttft")
    assert.same({ "0 start", "1 stop clear", "2 start", "3 stop clear", "4 refuse", "9 refuse" }, done)
    done = run({ starts = 1, every = 1800, clear = 0 }, "tftf")
    assert.same({ "0 start", "1 stop clear", "2 start", "3 stop clear" }, done)
  end)

  it("forgives a timer that comes early by a little", function()
    local machine = hysteresis.new { hold = 2, clear = 1, max = 99, starts = 9, every = 1 }
    machine:step(0.02, true)
    machine:step(1.01, true)
    assert.equal("start", machine:step(2.0, true))
  end)
end)

describe("watched rates", function()
  local r = { tcp_syn = 8123, bytes = 12.5, ports = { eth0 = { tcp_syn = 8000.0 } }, reasons = { ["no-hop"] = 7 } }

  it("tell what was read of them, by name", function()
    local read = {}
    local seen = watched.new(r, read)
    assert.equal(8123, seen.tcp_syn)
    assert.is_true(seen.ports.eth0.tcp_syn > 10 and seen.reasons["no-hop"] == 7 and seen.bytes > 1)
    assert.equal('bytes = 12.5, ports.eth0.tcp_syn = 8000, reasons["no-hop"] = 7, tcp_syn = 8123', watched.text(read))
  end)

  it("can be gone through, and not written", function()
    local read, names = {}, {}
    for name, port in pairs(watched.new(r, read).ports) do names[#names + 1] = name .. " " .. port.tcp_syn end
    assert.same({ "eth0 8000.0" }, names)
    assert.equal("ports.eth0.tcp_syn = 8000", watched.text(read))
    assert.has_error(function() watched.new(r, {}).tcp_syn = 1 end)
  end)

  it("name what there is, if what is asked for is not", function()
    assert.has_error(function() return watched.new(r, {}).tcp_sin end,
      "there is no rate tcp_sin (there are: bytes, ports, reasons, tcp_syn)")
    assert.has_error(function() return watched.new(r, {}).ports.eth9 end,
      "there is no rate ports.eth9 (there are: eth0)")
  end)

  it("are not told without an end", function()
    local many, read = {}, {}
    for i = 1, 100 do many["n" .. i] = i end
    for name in pairs(many) do local _ = watched.new(many, read)[name] end
    assert.truthy(watched.text(read):find ", 92 more$")
  end)
end)

-- What runs ----------------------------------------------------------------------------------------

local now = {}      -- the rates that triggers see

local function wait_for(what, condition)
  for _ = 1, 500 do
    if condition() then return end
    tg.sleep(0.01)
  end
  error("in 5 s not " .. what)
end

--- Puts a script in force whose global `done` lists what it did.
local function force(text)
  local gen = scripts.load("done = {}\n" .. text)
  assert.same({}, scripts.problems(gen))
  gen:start()
  return gen, gen.environment.done
end

local function logged(after, pattern)
  local found = {}
  for _, entry in ipairs(log.recent(after)) do
    if entry.text:find(pattern) then found[#found + 1] = entry.text end
  end
  return found
end

local function last_serial()
  local recent = log.recent()
  return #recent > 0 and recent[#recent].serial or 0
end

local SURGE = [[
  tg.trigger {
    name = "surge", when = function(r) return r.tcp_syn > 100 end, hold = 0, clear = 0, every = 0.05,
    start = function(r, cause) done[#done + 1] = "start " .. r.tcp_syn .. " " .. cause end,
    stop = function(why) done[#done + 1] = "stop " .. why end,
  }
]]

describe("a trigger", function()
  local read
  setup(function()
    read = rates.read
    function rates.read() return now end
  end)
  teardown(function() rates.read = read end)
  before_each(function() now = { tcp_syn = 5, ports = {} } end)

  it("starts and stops with the rates, and the log tells the values", function()
    local before = last_serial()
    local gen, done = force(SURGE)
    finally(function() gen:stop() end)
    tg.sleep(0.2)
    assert.same({}, done)
    now = { tcp_syn = 8123 }
    wait_for("started", function() return #done == 1 end)
    assert.same({ "start 8123 tcp_syn = 8123" }, done)
    local status = tg.triggers.surge:status()
    assert.same({ true, 1, 0, "tcp_syn = 8123" }, { status.on, status.starts, status.errors, status.cause })
    now = { tcp_syn = 12 }
    wait_for("stopped", function() return #done == 2 end)
    assert.equal("stop clear", done[2])
    assert.is_false(tg.triggers.surge:status().on)
    assert.equal(1, #logged(before, "trigger surge: started: tcp_syn = 8123"))
    assert.equal(1, #logged(before, "trigger surge: stopped after %d+ s: calm for 0 s %(tcp_syn = 12%)"))
  end)

  it("is stopped when its generation ends, by its own function", function()
    local gen, done = force(SURGE)
    now = { tcp_syn = 101 }
    wait_for("started", function() return #done == 1 end)
    gen:stop()
    wait_for("stopped", function() return #done == 2 end)
    assert.equal("stop generation", done[2])
    assert.same({ nil, 'there is no trigger "surge" in force', "ENOENT" }, { tg.triggers.surge:status() })
  end)

  it("may wait in its stop, also when its generation has ended; the next one's start waits for that", function()
    local text = [[
      tg.trigger {
        name = "slow", when = function(r) return r.tcp_syn > 100 end, hold = 0, every = 0.05,
        start = function() done[#done + 1] = "start" end,
        stop = function() tg.sleep(0.3) order[#order + 1] = "stopped" end,
      }
    ]]
    local gen, done = force("order = {} " .. text)
    local order = gen.environment.order
    now = { tcp_syn = 101 }
    wait_for("started", function() return #done == 1 end)
    local next_gen = force(([[order = {} tg.after(0, function() end)]]) .. text)
    gen:stop()
    local after = next_gen.environment.done
    wait_for("started again", function() return #after == 1 end)
    assert.same({ "stopped" }, order)
    next_gen:stop()
  end)

  it("is stopped by its handle, and waits for calm then", function()
    local gen, done = force(SURGE)
    finally(function() gen:stop() end)
    now = { tcp_syn = 101 }
    wait_for("started", function() return #done == 1 end)
    assert.is_true(tg.triggers.surge:stop())
    wait_for("stopped", function() return #done == 2 end)
    tg.sleep(0.2)
    assert.same({ "start 101 tcp_syn = 101", "stop told" }, done)
    assert.is_false(tg.triggers.surge:stop())
  end)

  it("whose condition raises logs that once, counts each, and harms nothing", function()
    local before = last_serial()
    local gen, done = force(SURGE .. [[
      tg.trigger { name = "faulty", every = 0.05, when = function(r) return r.tcp_sin > 1 end, start = function() end }
    ]])
    finally(function() gen:stop() end)
    now = { tcp_syn = 101 }
    wait_for("started", function() return #done == 1 end)
    wait_for("counted", function() return tg.triggers.faulty:status().errors >= 3 end)
    local said = logged(before, "trigger faulty: when failed: .-there is no rate tcp_sin %(there are: tcp_syn%)")
    assert.equal(1, #said)
  end)

  it("whose start raises is on all the same, and stopped after", function()
    local before = last_serial()
    local gen, done = force [[
      tg.trigger {
        name = "broken", when = function(r) return r.tcp_syn > 100 end, hold = 0, clear = 0, every = 0.05,
        start = function() error "no tap" end, stop = function(why) done[#done + 1] = why end,
      }
    ]]
    finally(function() gen:stop() end)
    now = { tcp_syn = 101 }
    wait_for("counted", function() return tg.triggers.broken:status().errors == 1 end)
    now = { tcp_syn = 0 }
    wait_for("stopped", function() return #done == 1 end)
    assert.equal(1, #logged(before, "trigger broken: start failed: .*no tap"))
  end)

  it("that is stopped ends a start that still goes on", function()
    local gen, done = force [[
      local closer = setmetatable({}, { __close = function() done[#done + 1] = "cut" end })
      tg.trigger {
        name = "long", when = function(r) return r.tcp_syn > 100 end, hold = 0, clear = 0, every = 0.05,
        start = function() local c <close> = closer tg.sleep(600) end, stop = function() done[#done + 1] = "stop" end,
      }
    ]]
    finally(function() gen:stop() end)
    now = { tcp_syn = 101 }
    wait_for("started", function() return tg.triggers.long:status().on end)
    now = { tcp_syn = 0 }
    wait_for("stopped", function() return #done == 2 end)
    assert.same({ "cut", "stop" }, done)
  end)

  it("is told of by events", function()
    local gen, done = force(SURGE .. [[
      tg.on("trigger.*", function(ev) done[#done + 1] = ("%s %s (%s)"):format(ev.name, ev.trigger, ev.cause) end)
    ]])
    finally(function() gen:stop() end)
    now = { tcp_syn = 101 }
    wait_for("started", function() return #done == 2 end)
    table.sort(done)
    assert.same({ "start 101 tcp_syn = 101", "trigger.start surge (tcp_syn = 101)" }, done)
  end)

  it("does nothing before there are rates", function()
    local gen, done = force(SURGE)
    finally(function() gen:stop() end)
    now = nil
    tg.sleep(0.2)
    assert.same({}, done)
    assert.equal(0, tg.triggers.surge:status().errors)
  end)

  it("is a line of the status", function()
    local gen = force(SURGE)
    finally(function() gen:stop() end)
    assert.truthy(trigger.line(trigger.status().surge):find "^trigger surge: calm since %d+%-.*, started 0 times$")
  end)

  it("that ends with the daemon's handlers harms neither", function()
    local gen, done = force(SURGE .. "tg.on('trigger.*', function(ev) done[#done + 1] = ev.name end)")
    now = { tcp_syn = 101 }
    wait_for("started", function() return #done == 2 end)
    local before = last_serial()
    gen:stop()
    event.emit { name = "trigger.start" }
    tg.sleep(0.05)
    assert.same({}, logged(before, "cancel"))
  end)
end)

describe("tg.trigger", function()
  local function mistake(options)
    return scripts.mistakes("tg.trigger { " .. options .. " }")[1]
  end

  it("says what is missing or wrong, at the script's line", function()
    assert.equal('web.lua:1: tg.trigger: option "start" is missing',
      mistake "name = 'x', when = function() end")
    assert.equal('web.lua:1: tg.trigger: option "when" is missing',
      mistake "name = 'x', start = function() end")
    assert.equal('web.lua:1: tg.trigger.max: 0 given, seconds from 1 to 604800 expected',
      mistake "name = 'x', when = print, start = print, max = 0")
    assert.equal('web.lua:1: tg.trigger.starts: 0 given, an integer from 1 to 3600 expected',
      mistake "name = 'x', when = print, start = print, starts = 0")
    assert.equal('web.lua:1: tg.trigger.hold: "soon" given, seconds from 0 to 86400 '
      .. '(or "500ms", "30s", "5m", "1h", "2d") expected',
      mistake "name = 'x', when = print, start = print, hold = 'soon'")
    assert.truthy(mistake("name = 'x', when = print, start = print, limit = 3"):find 'unknown option "limit"')
  end)

  it("has a name of its own", function()
    local once = "tg.trigger { name = 'x', when = print, start = print }\n"
    assert.equal('web.lua:2: trigger "x" is declared already at web.lua:1', scripts.mistakes(once .. once)[1])
  end)

  it("does nothing while it is only checked", function()
    local gen = scripts.load "tg.trigger { name = 'x', when = print, start = print }"
    gen:fail()
    assert.same({}, trigger.status())
  end)
end)
