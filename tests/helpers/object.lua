--- BPF objects for specs: loads build/…/NAME.bpf.o, maps and programs pinned in a BPF file system of its own.
local object = {}

local function run(command)
  local pipe <close> = assert(io.popen(command .. " 2>&1"))
  local text = pipe:read "a"
  if not pipe:close() then error(("%s: %s"):format(command, text), 3) end
  return (text:gsub("\n$", ""))
end

object.run = run

--- The program that runs this spec; scripts/test names it, as /proc shows valgrind's.
function object.tidegate()
  return os.getenv "TIDEGATE" or run "readlink /proc/$PPID/exe"
end

--- Why no object can be loaded here, or nil.
function object.refused()
  if run "id -u" ~= "0" then return "needs root, to load BPF programs" end
end

--- Loads an object of this build: "tests/bpf/kinds" or "bpf/xdp". Unload it with object:close().
---@return { dir: string, maps: string, progs: string }  directories with the pins
function object.load(name)
  local build = object.tidegate():match "^(.*)/"
  local dir = run "mktemp -d /tmp/tidegate_spec_XXXXXX" -- libbpf takes no dot in a pin's path
  run("mount -t bpf bpf " .. dir)
  local self = setmetatable({ dir = dir, maps = dir .. "/maps", progs = dir .. "/progs" }, { __index = object })
  local command = ("bpftool prog loadall %s/%s.bpf.o %s pinmaps %s"):format(build, name, self.progs, self.maps)
  local ok, err = pcall(run, command)
  if ok then return self end
  self:close()
  error(err, 2)
end

--- Fills an array of programs (its pin) with programs of this object, as a loader does.
function object:enter_programs(map, names)
  for i, name in ipairs(names) do
    run(("bpftool map update pinned %s/%s key %d 0 0 0 value pinned %s/%s"):format(
      self.maps, map, i - 1, self.progs, name))
  end
end

--- A map without BTF, pinned among the object's: plain_map("m", "type hash key 4 value 8 entries 16").
function object:plain_map(name, spec)
  run(("bpftool map create %s/%s %s name %s"):format(self.maps, name, spec, name))
  return self.maps .. "/" .. name
end

function object:close()
  run(("umount %s && rmdir %s"):format(self.dir, self.dir))
end

return object
