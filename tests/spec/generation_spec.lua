-- SPDX-License-Identifier: GPL-2.0-only
local generation = require "tidegate.generation"
local inspect = require "tidegate.inspect"
local sandbox = require "tidegate.sandbox"

--- A loaded generation of files with these texts, named a.lua, b.lua …
local function load(...)
  local directory = os.tmpname()
  os.remove(directory)
  os.execute("mkdir -p " .. directory)
  finally(function() os.execute("rm -r " .. directory) end)
  local files = {}
  for i, text in ipairs { ... } do
    files[i] = ("%s/%s.lua"):format(directory, string.char(96 + i))
    local file = assert(io.open(files[i], "w"))
    file:write(text)
    file:close()
  end
  local gen = generation.new(files)
  gen:load()
  assert.equal("", gen:report())
  return gen
end

--- What an operator's Lua gives in a generation's environment.
local function operator(gen, text)
  return assert(sandbox.load(text, "=eval", gen.environment))()
end

describe("an operator's environment", function()
  it("has the globals of the scripts, those of an earlier file first", function()
    local gen = load("function hello() return 'hello from a' end  only_a = 1",
      "function hello() return 'hello from b' end  only_b = 2")
    assert.equal("hello from a", operator(gen, "return hello()"))
    assert.same({ 1, 2 }, { operator(gen, "return only_a, only_b") })
    assert.is_nil(operator(gen, "return nothing"))
  end)

  it("keeps its own library and what it sets to itself", function()
    local gen = load "string = 'spoilt'  count = 1  function get() return count end"
    assert.same({ "function", 1 }, { operator(gen, "count = 7; return type(string.format), get()") })
  end)
end)

describe("a collection", function()
  local declarations = [[
    local names = {}
    tg.port "eth7"
    local app = tg.pool { name = "app", backends = { "10.0.0.11" } }
    tg.service { name = "web", vip = "198.51.100.10:80", backends = app }
    tg.service { name = "dns", vip = "198.51.100.10:53/udp", backends = { "10.0.0.12" } }
  ]]

  local services = '<tg.services> { dns = service "dns", web = service "web" }'

  it("lists at a file's top level what is declared so far", function()
    local gen = load(declarations .. "for name in pairs(tg.services) do names[#names + 1] = name end seen = names")
    assert.same({ "dns", "web" }, operator(gen, "return seen"))
  end)

  it("lists and shows what is in force", function()
    local gen = load(declarations)
    gen:start()
    finally(function() gen:stop() end)
    assert.equal(services, inspect(operator(gen, "return tg.services")))
    assert.equal('<tg.pools> { app = pool "app" }', inspect(operator(gen, "return tg.pools")))
    assert.equal('<tg.ports> { eth7 = port "eth7" }', inspect(operator(gen, "return tg.ports")))
    assert.equal("service \"web\"", tostring(operator(gen, "return tg.services.web")))
  end)

  it("lists what is in force while a failed generation is forgotten", function()
    local gen = load(declarations)
    gen:start()
    finally(function() gen:stop() end)
    load("tg.service { name = 'other', vip = '198.51.100.11:80', backends = { '10.0.0.12' } }"):fail()
    assert.equal(services, inspect(operator(gen, "return tg.services")))
  end)
end)

