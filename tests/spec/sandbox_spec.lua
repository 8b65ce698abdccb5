-- SPDX-License-Identifier: GPL-2.0-only
local sandbox = require "tidegate.sandbox"
local log = require "tidegate.log"

local function run(text, options)
  local chunk = assert(sandbox.load(text, "@/etc/app.lua", sandbox.new(options)))
  return chunk()
end

local function fails_with(pattern, text, options)
  local ok, message = pcall(run, text, options)
  assert.is_false(ok)
  assert.matches(pattern, message)
end

local function last_log()
  local messages = log.recent()
  return messages[#messages]
end

--- A directory with files, for one test.
local function directory(files)
  local path = os.tmpname()
  os.remove(path)
  os.execute("mkdir -p " .. path .. "/sub")
  for name, text in pairs(files) do
    local file = assert(io.open(path .. "/" .. name, "w"))
    file:write(text)
    file:close()
  end
  finally(function() os.execute("rm -r " .. path) end)
  return path
end

describe("a script's environment", function()
  it("lacks what could hang or crash the daemon", function()
    assert.same({}, run [[
      local there = {}
      for _, path in ipairs { "debug", "io", "dofile", "loadfile", "package", "luv", "os.execute", "os.exit",
          "os.getenv", "os.remove", "os.rename", "os.tmpname", "os.setlocale", "string.dump", "tg._test" } do
        local value = _G
        for part in path:gmatch "[^.]+" do value = value and value[part] end
        if value then there[#there + 1] = path end
      end
      return there ]])
  end)

  it("has the rest of Lua", function()
    assert.equal("2:ab:1.5:é", run [[
      local t <const> = table.pack(math.max(1, 2), ("a" .. "b"), tonumber "1.5", utf8.char(233))
      assert(type(os.time()) == "number" and os.date "%Y" and _VERSION == "Lua 5.4")
      assert(select("#", pcall(error, "x")) == 2 and rawequal(_G, _ENV))
      return table.concat(t, ":") ]])
  end)

  it("loads text, but no bytecode", function()
    assert.equal(7, run "return load('return 3 + 4')()")
    assert.equal(9, run "x = 9; return load('return x', 'chunk', 't')()")
    assert.equal(5, run "return load('return y', 'chunk', 't', { y = 5 })()")
    fails_with("only text", "return load('return 1', 'chunk', 'b')")
    local bytecode = string.dump(function() return 1 end)
    assert.matches("attempt to load a binary chunk", select(2, run(("return load(%q)"):format(bytecode))))
    assert.is_nil((sandbox.load(bytecode, "x", sandbox.new())))
  end)

  it("refuses __gc, in which no hook runs", function()
    fails_with("app.lua:1: setmetatable: __gc is not allowed here", "setmetatable({}, { __gc = function() end })")
    assert.is_true(run [[
      local closed
      do local _ <close> = setmetatable({}, { __close = function() closed = true end }) end
      return closed ]])
  end)

  it("seals the metatable that all strings share", function()
    assert.equal("locked", run "return getmetatable('')")
    fails_with("a table expected", "setmetatable('', {})")
    fails_with("attempt to index a string value", "('').find = nil")
  end)

  it("has library tables of its own", function()
    run "string.format, table.insert, math.max, coroutine.wrap, os.time = nil"
    assert.is_function(string.format)
    assert.is_function(os.time)
    assert.equal("x", run "return string.format('%s', 'x')")
  end)

  it("has globals of its own", function()
    run "leaked = 1"
    assert.is_nil(rawget(_G, "leaked"))
    assert.is_nil(run "return leaked")
  end)

  it("has tg, read-only at every depth", function()
    assert.is_true(run "return require 'tidegate' == tg and type(tg.sleep) == 'function'")
    fails_with("app.lua:1: tg.sleep: tg is read%-only", "tg.sleep = nil")
    fails_with("tg.net.connect: tg.net is read%-only", "tg.net.connect = nil")
    fails_with("protected metatable", "setmetatable(tg.net, {})")
    assert.equal("locked", run "return getmetatable(tg)")
    assert.is_true(run [[
      local n = 0
      for k, v in pairs(tg) do n = n + (rawequal(v, tg[k]) and 1 or -100) end
      return n >= 5 ]])
  end)

  it("reaches no table of the library", function()
    local theirs = {}
    local function collect(value, name)
      if type(value) ~= "table" or theirs[value] then return end
      theirs[value] = name
      for key, inner in next, value do collect(inner, name .. "." .. tostring(key)) end
      collect(debug.getmetatable(value), name .. " meta")
    end
    for name, module in pairs(package.loaded) do
      if name ~= "_G" and name:find "^tidegate" or _G[name] then collect(module, name) end
    end
    theirs[_G] = "_G"
    local reach = assert(sandbox.load([[
      local found, seen = {}, {}
      local function visit(value, name)
        if type(value) ~= "table" and type(value) ~= "string" or seen[value] then return end
        seen[value] = true
        if type(value) == "table" then
          found[#found + 1] = { value, name }
          for key, inner in pairs(value) do visit(inner, name .. "." .. tostring(key)) end
          for key, inner in next, value do visit(inner, name .. "." .. tostring(key)) end
          visit(value.__index, name .. ".__index")
        end
        visit(getmetatable(value), name .. " meta")
      end
      visit(_G, "_G")
      visit(tg.spawn(function() end), "task")
      visit(tg.after(100, function() end), "timer")
      return found ]], "reach", sandbox.new()))
    for _, entry in ipairs(reach()) do
      local value, name = entry[1], entry[2]
      if not name:find "^task" and not name:find "^timer" then
        assert.is_nil(theirs[value], name)
      elseif theirs[value] then
        assert.not_matches("__index", name)
      end
    end
  end)

  it("prints to the log", function()
    run "print('hello', 1, nil, true)"
    assert.same({ "info", "hello\t1\tnil\ttrue" }, { last_log().level, last_log().text })
  end)

  it("allows collectgarbage to count alone", function()
    assert.is_number(run "return collectgarbage 'count'")
    fails_with('only "count" is allowed', "collectgarbage()")
  end)

  it("bounds what os.date formats", function()
    fails_with("format is too long", "os.date(('%c'):rep(1e6))")
  end)
end)

describe("require in a script", function()
  it("finds Lua modules in the given directories, once", function()
    local path = directory {
      ["one.lua"] = "n = (n or 0) + 1 return { n = n, name = ... }", ["sub/two.lua"] = "return 2",
    }
    assert.equal("1 one 2", run([[
      local one = require "one"
      assert(require "one" == one)
      return one.n .. " " .. one.name .. " " .. require "sub.two" ]], { directory = "/nonexistent", path = { path } }))
  end)

  it("runs them in the script's environment", function()
    local path = directory { ["evil.lua"] = "return io or debug or package" }
    assert.is_true(run("return require 'evil'", { directory = path }))
  end)

  it("finds nothing else: no C module, no file outside, no luv", function()
    for _, name in ipairs { "luv", "lfs", "tidegate.task", "string", "../etc/passwd", "/etc/passwd", "a..b", "" } do
      assert.has_error(function() run(("require %q"):format(name), { directory = "/usr/lib" }) end)
    end
  end)

  it("tells where it looked, a fault in the module, and a circle", function()
    local path = directory { ["bad.lua"] = "return +", ["round.lua"] = "require 'round'" }
    fails_with('module "none" is not in ' .. path:gsub("%p", "%%%0"), "require 'none'", { directory = path })
    fails_with("bad.lua:1: unexpected symbol", "require 'bad'", { directory = path })
    fails_with('"round" requires itself', "require 'round'", { directory = path })
  end)
end)
