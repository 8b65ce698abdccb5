-- SPDX-License-Identifier: GPL-2.0-only
--- The stubs for editors (lua/meta) name what there is, and all of it.
local uv = require "luv"

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "a"
  file:close()
  return text
end

local function stub_files()
  local paths, directory = {}, assert(uv.fs_scandir "lua/meta")
  for name in function() return uv.fs_scandir_next(directory) end do paths[#paths + 1] = "lua/meta/" .. name end
  return paths
end

--- class → name → true, of the functions and fields that the stubs give it.
local function read_stubs()
  local classes = {}
  for _, path in ipairs(stub_files()) do
    local class, of_variable
    of_variable = {}
    for line in read(path):gmatch "[^\n]+" do
      class = line:match "^%-%-%-@class ([%w.]+)" or class
      local variable = line:match "^local (%w+) = {}" or line:match "^(%w+) = {}"
      if variable then of_variable[variable] = class end
      local owner, name = line:match "^function (%w+)[.:]([%w_]+)%("
      owner = owner and assert(of_variable[owner], path .. ": " .. line)
      if not owner then owner, name = class, line:match "^%-%-%-@field ([%w_]+)" end
      if name then
        classes[owner] = classes[owner] or {}
        classes[owner][name] = true
      end
    end
  end
  return classes
end

local stubs = read_stubs()

local function sorted(set)
  local names = {}
  for name in pairs(set) do names[#names + 1] = name end
  table.sort(names)
  return names
end

local function functions(list, internal)
  local names = {}
  for name, value in pairs(list) do
    if type(value) == "function" and not name:find "^_" and not (internal or {})[name] then names[name] = true end
  end
  return names
end

local function methods(object, internal)
  local meta = debug.getmetatable(object)
  return functions(type(meta.__index) == "table" and meta.__index or meta, internal)
end

--- The methods of a stub's class: all but the fields that are data.
local function without(set, ...)
  local rest = {}
  for name in pairs(set or {}) do rest[name] = true end
  for _, name in ipairs { ... } do rest[name] = nil end
  return rest
end

--- Every name that lua/tidegate/init.lua lists, from its source: most load when first used.
local function listed()
  local names = {}
  for body in read "lua/tidegate/init.lua":gmatch "\nlocal %l+ = (%b{})" do
    for name in body:sub(2, -2):gsub("%b{}", "true"):gmatch "([%l_]+) = " do names[name] = true end
  end
  return names
end

describe("the stubs", function()
  it("name everything in tg, and nothing else", function()
    local names = listed()
    assert.is_true(names.service and names.spawn and names.packet and names.pools)    -- the source is understood
    assert.same(sorted(names), sorted(stubs.tg))
    for name in pairs(stubs.tg) do assert.is_not_nil(tg[name], name) end
  end)

  local modules = {
    check = {}, log = { ask_script = true }, maglev = {}, map = {}, net = {}, packet = {}, prog = {},
  }
  for name, internal in pairs(modules) do
    it("name the functions of tg." .. name, function()
      assert.same(sorted(functions(tg[name], internal)), sorted(stubs["tg." .. name]))
    end)
  end

  it("name the methods of services, tasks and timers", function()
    assert.same(sorted(methods(tg.services.any)), sorted(without(stubs["tg.Service"], "name")))
    local task = tg.spawn(function() end)
    assert.same(sorted(methods(task)), sorted(without(stubs["tg.Task"], "name", "state")))
    local timer = tg.after(0, function() end)
    timer:cancel()
    assert.same(sorted(methods(timer)), sorted(without(stubs["tg.Timer"], "name", "runs", "missed")))
    local handler = tg.on("nothing", function() end)
    handler:cancel()
    assert.same(sorted(methods(handler)), sorted(without(stubs["tg.Handler"], "lost")))
    local cron = tg.cron("@daily", function() end)
    cron:cancel()
    assert.same(sorted(methods(cron)), sorted(without(stubs["tg.Cron"], "name", "runs", "missed", "next")))
  end)

  it("name the methods of triggers", function()
    assert.same(sorted(methods(tg.triggers.any)), sorted(without(stubs["tg.Trigger"], "name")))
  end)

  it("name the methods of flows", function()
    assert.same(sorted(methods(tg.flows)), sorted(stubs["tidegate.Flows"]))
  end)

  it("name the methods of lists", function()
    assert.same(sorted(methods(tg.deny)), sorted(stubs["tg.List"]))
    assert.equal(debug.getmetatable(tg.deny), debug.getmetatable(tg.allow))
  end)

  it("name the methods of ports, their rules, mirrors, and sets", function()
    assert.same(sorted(methods(tg.ports.any)), sorted(without(stubs["tg.Port"], "name")))
    assert.same(sorted(methods(tg.ports.any:rule "any")), sorted(without(stubs["tg.Rule"], "port", "name")))
    assert.same(sorted(methods(tg.mirrors.any)), sorted(without(stubs["tg.Mirror"], "name")))
    assert.same(sorted(methods(tg.set "any")), sorted(without(stubs["tg.Set"], "name")))
  end)

  it("name the methods of streams and sockets", function()
    local of_owners = { cancel = true }      -- how a task's end closes what it holds
    local udp <close> = tg.net.udp()
    assert.same(sorted(methods(udp, of_owners)), sorted(without(stubs["tg.Udp"], "timeout")))
    local listener = uv.new_tcp()
    listener:bind("127.0.0.1", 0)
    listener:listen(1, function() end)
    local stream <close> = assert(tg.net.connect("127.0.0.1", listener:getsockname().port))
    listener:close()
    assert.same(sorted(methods(stream, of_owners)), sorted(without(stubs["tg.Stream"], "addr", "port", "timeout")))
  end)

  it("name the methods of packets, maps and programs", function()
    local packet = tg.packet { ip = { src = "192.0.2.7", dst = "192.0.2.8" }, udp = { dport = 53 } }
    assert.same(sorted(methods(packet)), sorted(without(stubs["tg.Packet"], "eth", "vlan", "ip", "tcp", "udp", "icmp",
      "icmp6", "payload", "trailer", "truncated", "malformed")))
    assert.is_table(tg.map and tg.prog)      -- loaded, and with them their metatables
    local registry = debug.getregistry()
    assert.same(sorted(functions(registry["tidegate.map"].__index)), sorted(stubs["tg.Map"]))
    assert.same(sorted(functions(registry["tidegate.prog"].__index)), sorted(stubs["tg.Prog"]))
  end)
end)
