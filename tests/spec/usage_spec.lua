-- SPDX-License-Identifier: GPL-2.0-only
local task = require "tidegate.task"
local uv = require "luv"

--- Runs this program: exit code, standard output, standard error.
local function tidegate(...)
  local args, out, err = { ... }, {}, {}
  local pipes = { uv.new_pipe(false), uv.new_pipe(false) }
  local code = task.await(function(done)
    local left, result = 3, nil
    local function part(value)
      result = value or result
      left = left - 1
      if left == 0 then done(result) end
    end
    local process
    process = assert(uv.spawn(uv.exepath(), { args = args, stdio = { nil, pipes[1], pipes[2] } }, function(status)
      process:close()
      part(status)
    end))
    for i, list in ipairs { out, err } do
      pipes[i]:read_start(function(_, data)
        if data then list[#list + 1] = data else part() end
      end)
    end
  end)
  for _, pipe in ipairs(pipes) do pipe:close() end
  return code, table.concat(out), table.concat(err)
end

local function commands()
  local _, help = tidegate "--help"
  local names = {}
  for name in help:match("\n\n(.-)\n\n"):gmatch "  (%l+) +[^\n]+" do names[#names + 1] = name end
  return names
end

describe("help", function()
  it("lists the commands and the exit codes", function()
    local code, out, err = tidegate "--help"
    assert.same({ 0, "" }, { code, err })
    assert.matches("\n  run +the daemon", out)
    assert.matches("\n  4  check: the plan has changes\n$", out)
    assert.equal(out, select(2, tidegate "help"))
    assert.equal(14, #commands())
  end)

  it("shows each command's arguments, and explains each option", function()
    for _, name in ipairs(commands()) do
      local code, out, err = tidegate(name, "--help")
      assert.same({ 0, "" }, { code, err })
      local usage, rest = out:match("^usage: tidegate " .. name .. "([^\n]*)\n(.*)$")
      for option in usage:gmatch "%-%-%l+" do assert.truthy(rest:find("\n  " .. option, 1, true), option) end
    end
  end)
end)

describe("wrong usage", function()
  it("is told with what was wrong, and exits 2", function()
    for given, complaint in pairs {
      ["nonsense"] = "there is no command \"nonsense\"",
      ["status --nonsense"] = "unrecognized option '--nonsense'",
      ["reload --json"] = "no option --json",
      ["check --no-attach x.lua"] = "no such option here",
      ["run"] = "a script is missing",
      ["unload everything"] = "takes no arguments: \"everything\"",
      ["trace eth0"] = "one packet is needed",
      ["trace"] = "a port is needed",
      ["capture"] = "a port is needed",
      ["capture eth0 -c"] = "option requires an argument",
      ["capture eth0 --hex 00"] = "unrecognized option",
      ["eval"] = "takes one argument, 0 given",
      ["trace eth0 --hex 00 tcp"] = "one packet is needed",
      ["decap"] = "one device expected",
      ["decap eth0 eth1"] = 'one device expected, "eth1" given',
      ["decap eth0 --vip 10.0.0.300"] = '--vip: "10.0.0.300" given, an IP address expected',
      ["decap eth0 --to 10.0.0.0/8"] = '--to: "10.0.0.0/8" given, an IP address expected',
      ["decap eth0 --gue-port 0"] = '--gue-port: 1 to 65535 expected, "0" given',
      ["decap eth0 --xdp fast"] = '--xdp: auto, native or generic expected, "fast" given',
      ["decap eth0 --counters --detach"] = "either --detach or --counters expected",
    } do
      local words = {}
      for word in given:gmatch "%S+" do words[#words + 1] = word end
      local code, out, err = tidegate(table.unpack(words))
      assert.same({ 2, "" }, { code, out })
      assert.truthy(err:find(complaint, 1, true), err)
      assert.matches("\nusage: tidegate " .. (words[1] == "nonsense" and "COMMAND" or words[1]), err)
    end
  end)

  it("is not what a program's own exit code 2 says", function()
    local path = os.tmpname()
    finally(function() os.remove(path) end)
    local file = assert(io.open(path, "w"))
    file:write "os.exit(2)"
    file:close()
    assert.same({ 2, "", "" }, { tidegate("lua", path) })
  end)
end)
