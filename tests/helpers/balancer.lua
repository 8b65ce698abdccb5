-- SPDX-License-Identifier: GPL-2.0-only
--- A datapath of a spec's own, with the controller on it, and what its maps say:
---
---     local bal = balancer.new "shares"
---     assert(bal:apply { { name = "web", mode = "l2dsr", vips = …, backends = … } })
---     bal:service("web").backends, bal:map("vips4"), bal:slots("web", 4), bal:dump()
---     bal:close()
---
--- The instance is named after the process, and unloaded by close().
local controller = require "tidegate.core.controller"
local addrs = require "tidegate.packet.addr"
local object = require "tests.helpers.object"
local task = require "tidegate.task"

local balancer = {}
balancer.__index = balancer

balancer.core = require "tidegate.core.balancer"
balancer.refused = object.refused
balancer.ALL = 31 | 1 << 8 | 1 << 9 -- IPv4, IPv6, nat, ipip, gue, ranges, quic

local PINS = "/sys/fs/bpf/tidegate/"

local function open(self, given)
  given = given or {}
  self.opened = assert(controller.open(self.instance, given.seed))
  self.open = true
  assert(task.await(controller.specialise, given.features or balancer.ALL))
  if given.start ~= false then assert(controller.start()) end
end

--- Opens an instance of that name. `given`: features, seed (16 bytes), start = false to leave the engine out.
function balancer.new(name, given)
  local self = setmetatable({ instance = ("spec-%s-%s"):format(name, object.run "echo $PPID") }, balancer)
  self.dir = PINS .. self.instance
  open(self, given)
  return self
end

--- Lets the instance go on without a controller.
function balancer:leave()
  if self.open then controller.close() end
  self.open = false
end

--- Another controller, that finds the instance running.
function balancer:adopt(given)
  self:leave()
  open(self, given)
end

--- Unloads the instance. A second time, as a <close> variable does it, is harmless.
function balancer:close()
  self:leave()
  if self.closed then return end
  self.closed = true
  assert(controller.unload(self.instance))
end

balancer.__close = balancer.close

function balancer.apply(_, services, partial)
  return task.await(balancer.core.apply, services, partial or false)
end

--- Reports the result of an external check until the backend has turned.
function balancer.report(_, key, ok, reason)
  balancer.core.report(key, ok, reason or "", 0)
  assert(task.await(balancer.core.status)) -- the engine has had its turn
end

--- The state of services, by name.
function balancer.services()
  local found = {}
  for _, service in ipairs(assert(task.await(balancer.core.status))) do found[service.name] = service end
  return found
end

--- A service; its backends by address too.
function balancer:service(name)
  local service = self.services()[name]
  for _, backend in ipairs(service and service.backends or {}) do service.backends[backend.addr] = backend end
  return service
end

--- A map of the instance, to be closed by the caller.
function balancer:map(name, types)
  return assert(tg.map.open(("%s/maps/%s"):format(self.dir, name), types))
end

--- All of a map as key → value.
function balancer:entries(name, types)
  local map <close> = self:map(name, types)
  local all = {}
  for key, value in map:pairs() do all[type(key) == "table" and require("tidegate.inspect")(key) or key] = value end
  return all
end

--- The slots of a pinned ring: { word, … }, and a list of when each was seen to lead elsewhere.
function balancer:words(index)
  local map <close> = assert(tg.map.open(("%s/rings/%d"):format(self.dir, index), { key = "u32", value = "u64" }))
  local all, seen = {}, {}
  for at, value in map:pairs() do all[at + 1] = value end
  local size = #all * 8 // 9
  for slot = 0, size - 1 do seen[slot + 1] = all[size + slot // 8 + 1] >> slot % 8 * 8 & 0xff end
  return table.move(all, 1, size, 1, {}), seen
end

--- A slot's word, taken apart: home, next, since, late, moving (T = 1).
function balancer.slot(word)
  return { home = word & 0xffffffff, next = word >> 32 & 0x7fff, since = word >> 48 & 0xff,
    late = word >> 62 & 1 == 1, moving = word < 0 }
end

--- The backend of each slot of a pinned ring; of one that moves, the one that it moves to.
function balancer:ring(index)
  local targets = self:words(index)
  for slot, word in ipairs(targets) do targets[slot] = word >> 32 & 0x7fff end
  return targets
end

--- Each backend in force by its index: { owner =, entry = }, as the maps have them.
function balancer:owners()
  local backends <close> = self:map "backends"
  local owners <close> = self:map "backend_owners"
  local found = {}
  for index, owner in owners:pairs() do
    if owner.service ~= 0 then found[index] = { owner = owner, entry = backends:get(index) } end
  end
  return found
end

local function hex(bytes)
  return (tostring(bytes):gsub("[^%w]", function(byte) return ("\\%02x"):format(byte:byte()) end))
end

local SIZES = {
  services = 80, backends = 64, backend_owners = 24, vip_marks = 4096, vips4 = 16, vips6 = 16,
  reverse4 = 16, reverse6 = 28,
}
local KEYS = { vips4 = 8, reverse4 = 8, vips6 = 20, reverse6 = 20 }

local function text_of(entry)
  local bytes = string.pack(">I4I4I4I4", table.unpack(entry.addr))
  return addrs.ip_text(entry.flags & 1 == 1 and bytes or bytes:sub(1, 4))
end

--- Gives all backends a next hop behind the port that packets come in by, so that they can be sent to.
function balancer:reach()
  self.names = self.names or {}
  local backends <close> = self:map "backends"
  for index, found in pairs(self:owners()) do
    local entry = found.entry
    self.names[index] = text_of(entry)
    local hop = { ifindex = 1, dmac = { 2, 0, 0, 0, index >> 8, index & 255 }, smac = { 2, 0, 0, 0, 0, 0 } }
    entry.hop, entry.current = { hop, hop }, 0
    assert(backends:set(index, entry))
  end
end

--- The backend that the program in force sends a packet to, or what else it does with it.
function balancer:send(p)
  local program <close> = assert(tg.prog.open(self.dir .. "/program"))
  local result = assert(program:run(type(p) == "string" and p or p:bytes()))
  if result.retval ~= "tx" then return result.retval end
  local high, low = result.data:byte(5, 6)
  return self.names[high << 8 | low]
end

--- How long flows are remembered, and how many of a client are; see tg_balancer_tune.
function balancer.tune(_, idle, newcomers)
  assert(task.await(balancer.core.tune, idle, newcomers or 0))
end

--- Waits until `probe` says true; fails with `what` if it doesn't for `seconds`.
function balancer.wait_for(_, seconds, what, probe)
  local deadline = task.now() + seconds
  while not probe() do
    if task.now() > deadline then error(what .. ": not within " .. seconds .. " s", 2) end
    tg.sleep(0.02)
  end
end

--- Waits until nothing changes of itself: next hops are known.
function balancer:settle()
  local before, now
  for _ = 1, 50 do
    before, now = now, self:dump()
    if now == before then return end
    tg.sleep(0.1)
  end
  error "the tables do not come to rest"
end

--- Everything that packets or a later daemon see, as text, to compare.
function balancer:dump()
  local lines = {}
  for name, size in pairs(SIZES) do
    local types = { key = KEYS[name] and "bytes:" .. KEYS[name] or "u32", value = "bytes:" .. size }
    local zero = ("\0"):rep(size)
    local there = os.execute(("test -e %s/maps/%s"):format(self.dir, name))
    for key, value in pairs(there and self:entries(name, types) or {}) do
      if value ~= zero then lines[#lines + 1] = ("%s %s %s"):format(name, hex(key), hex(value)) end
    end
  end
  for name in object.run(("ls %s/rings"):format(self.dir)):gmatch "%d+" do
    lines[#lines + 1] = ("ring %s %s"):format(name, table.concat(self:ring(name), " "))
  end
  table.sort(lines)
  return table.concat(lines, "\n")
end

--- Lists that apply takes, from texts: vip "198.51.100.10:80/tcp" or "…:8000-8099/tcp", and backend addresses.
function balancer.vip(text)
  local addr, port, last, proto = text:match "^%[?(.-)%]?:(%d+)%-?(%d*)/(%a+)$"
  return { addr = addr, port = tonumber(port), last = tonumber(last), proto = proto }
end

--- { name, mode = "l2dsr", slots = 0, vips = { text … }, backends = { address or table … } }
function balancer.declare(name, given)
  local service = { name = name, mode = given.mode or "l2dsr", fail = given.fail, slots = given.slots or 0,
    quic = given.quic, drain = given.drain, affinity = given.affinity, cut = given.cut,
    vips = {}, backends = {} }
  for i, vip in ipairs(given.vips) do service.vips[i] = balancer.vip(vip) end
  for i, backend in ipairs(given.backends) do
    service.backends[i] = type(backend) == "string" and { addr = backend } or backend
  end
  return service
end

return balancer
