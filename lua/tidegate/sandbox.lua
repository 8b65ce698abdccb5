-- SPDX-License-Identifier: GPL-2.0-only
--- The closed-off library: what an operator's script sees. A box is an environment of its own, with
--- copies of Lua's library tables, so that a script can't damage another or the library. Left out is
--- what could hang or crash the daemon: debug, io, the rest of os, bytecode, C modules, luv, `__gc`
--- (no hook runs in it). string and table are those of core/bounded.c.
---
--- `tg` is handed out read-only: a table in it counts as a namespace and is shown through a proxy,
--- unless its metatable has a `__metatable` field, which says that it is an object and guards itself.
--- Scripts get only metatables that scripts set.
local log = require "tidegate.log"
local uv = require "luv"

local sandbox = {}

local SOURCE = 4 << 20       -- bytes of text that load takes: the parser can't be interrupted
local DATE_FORMAT = 1000     -- bytes, as os.date

-- tg, read-only ------------------------------------------------------------------------------------

local function is_namespace(value)
  if type(value) ~= "table" then return false end
  local meta = debug.getmetatable(value)
  return not (meta and rawget(meta, "__metatable") ~= nil)
end

--- A function that gives a value as scripts may have it; each namespace has one proxy in an environment.
local function new_sealer()
  local proxies = setmetatable({}, { __mode = "k" })
  local seal

  local function new_proxy(target, name)
    local meta = { __metatable = "locked", __name = name }
    function meta.__index(_, key) return seal(target[key], name .. "." .. tostring(key)) end
    function meta.__newindex(_, key) error(("%s.%s: %s is read-only"):format(name, tostring(key), name), 2) end
    function meta.__len() return #target end
    function meta.__pairs()
      local step, state, first = pairs(target)
      return function(_, key)
        local value
        key, value = step(state, key)
        return key, seal(value, name .. "." .. tostring(key))
      end, nil, first
    end
    if (debug.getmetatable(target) or {}).__call then
      function meta.__call(_, ...) return target(...) end
    end
    return setmetatable({}, meta)
  end

  function seal(value, name)
    if not is_namespace(value) then return value end
    proxies[value] = proxies[value] or new_proxy(value, name)
    return proxies[value]
  end
  return seal
end

-- Lua's library ------------------------------------------------------------------------------------

local function copy(from, names)
  local to = {}
  for name in (names or ""):gmatch "%S+" do to[name] = from[name] end
  return to
end

local function copy_all(from)
  local to = {}
  for name, value in pairs(from) do to[name] = value end
  return to
end

--- Copied as they are.
local basic = "assert error ipairs next pairs pcall rawequal rawget rawlen rawset select tonumber tostring "
  .. "type xpcall _VERSION"


local function add_metatables(env)
  local own = setmetatable({}, { __mode = "k" })      -- metatables that scripts set

  function env.getmetatable(value)
    local meta = debug.getmetatable(value)
    if meta == nil then return nil end
    local guard = rawget(meta, "__metatable")
    if guard ~= nil then return guard end
    return own[meta] and meta or "locked"
  end

  function env.setmetatable(value, meta)
    if type(value) ~= "table" then error("setmetatable: a table expected, got " .. type(value), 2) end
    if type(meta) ~= "table" and meta ~= nil then error("setmetatable: nil or a table expected", 2) end
    local before = debug.getmetatable(value)
    if before and (rawget(before, "__metatable") ~= nil or not own[before]) then
      error("cannot change a protected metatable", 2)
    end
    if meta and rawget(meta, "__gc") ~= nil then
      error("setmetatable: __gc is not allowed here: nothing could stop it", 2)
    end
    if meta then own[meta] = true end
    return setmetatable(value, meta)
  end
end

local function add_load(env)
  function env.load(text, name, mode, ...)
    if type(text) ~= "string" then error("load: text expected, got " .. type(text), 2) end
    if mode ~= nil and mode ~= "t" and mode ~= "bt" then error('load: only text ("t") is allowed here', 2) end
    if #text > SOURCE then error("load: more than 4 MiB of text", 2) end
    local own_env = env
    if select("#", ...) > 0 then own_env = ... end
    return load(text, name or "=(load)", "t", own_env)
  end
end

local function add_output(env)
  function env.print(...)
    local list = table.pack(...)
    for i = 1, list.n do list[i] = tostring(list[i]) end
    log.info("%s", table.concat(list, "\t"))
  end

  function env.warn(...)
    log.warn("%s", table.concat { ... })
  end
end

local function add_collectgarbage(env)
  function env.collectgarbage(what)
    if what ~= "count" then error('collectgarbage: only "count" is allowed here', 2) end
    return collectgarbage "count"
  end
end

local function add_os(env)
  env.os = copy(os, "clock difftime time")
  function env.os.date(format, time)
    if type(format) == "string" and #format > DATE_FORMAT then error("os.date: the format is too long", 2) end
    return os.date(format, time)
  end
end

local function add_libraries(env)
  env.coroutine, env.math, env.table = copy_all(coroutine), copy_all(math), copy_all(table)
  env.utf8, env.string = copy_all(utf8), copy_all(string)
  env.string.dump = nil
end

-- Modules ------------------------------------------------------------------------------------------

--- Directories of the operator's library, found from the program: installed, or in the source tree.
local function library()
  local prefix = uv.exepath():match "^(.*)/[^/]+/[^/]+$" or ""
  return { prefix .. "/share/tidegate", prefix .. "/scripts" }
end

local function read(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read "a"
  file:close()
  return text
end

local function find_module(name, directories)
  local relative = name:gsub("%.", "/")
  for _, directory in ipairs(directories) do
    for _, path in ipairs { directory .. "/" .. relative .. ".lua", directory .. "/" .. relative .. "/init.lua" } do
      local text = read(path)
      if text then return path, text end
    end
  end
  error(("module %q is not in %s"):format(name, table.concat(directories, ", ")), 3)
end

local function add_require(env, directories)
  local loaded, loading = { tidegate = env.tg }, {}

  function env.require(name)
    if type(name) ~= "string" or not name:find "^[%w_][%w_%-%.]*$" or name:find("..", 1, true) then
      error(("require: %q is not the name of a module"):format(tostring(name)), 2)
    end
    if loaded[name] ~= nil then return loaded[name] end
    if loading[name] then error(("require: %q requires itself"):format(name), 2) end
    local path, text = find_module(name, directories)
    local chunk, message = sandbox.load(text, "@" .. path, env)
    if not chunk then error(message, 0) end
    loading[name] = true
    local value = chunk(name, path)
    loading[name] = nil
    loaded[name] = value == nil and true or value
    return loaded[name]
  end
end

-- Environments -------------------------------------------------------------------------------------

--- Compiles text (no bytecode) in an environment; nil and why not.
---@return function? chunk, string? message
function sandbox.load(text, name, env)
  return load(text, name, "t", env)
end

--- A new environment: the globals of one script.
---@param options { tg: table?, directory: string?, path: string[]? }?  tg: what scripts get by that
---  name (the library's); directory, path: where `require` looks, in this order ("."; the operator's
---  library)
---@return table env
function sandbox.new(options)
  options = options or {}
  local env = copy(_G, basic)
  env._G = env
  env.tg = new_sealer()(options.tg or require "tidegate", "tg")
  add_metatables(env)
  add_load(env)
  add_output(env)
  add_collectgarbage(env)
  add_os(env)
  add_libraries(env)
  add_require(env, { options.directory or ".", table.unpack(options.path or library()) })
  return env
end

return sandbox
