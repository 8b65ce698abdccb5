-- SPDX-License-Identifier: GPL-2.0-only
--- lookup beside the verdicts of the program that runs: 3,000 flows in each mode, of both families and
--- protocols, each affinity, single ports and ranges, while slots move and backends drain and are down.
local in_netns = require "tests.helpers.in_netns"
local object = require "tests.helpers.object"

if object.refused() then
  pending("the datapath " .. object.refused())
  return
end

local NETNS <const> = "tg-look-" .. object.run "echo $PPID"
local FLOWS <const> = 3000

--- 10.99.K.I and 2001:db8:1::K:I are the backends of service K; their MACs end in K:I.
local function neighbours()
  local lines = { "link set lo up", "link set v0 up", "link set p0 up",
    "address add 10.99.0.254/16 dev v0", "address add 2001:db8:1::fe/64 dev v0 nodad" }
  for k = 1, 4 do
    for i = 1, 5 do
      lines[#lines + 1] = ("neigh add 10.99.%d.%d lladdr 02:00:00:04:%02x:%02x dev v0 nud permanent"):format(k, i, k, i)
      lines[#lines + 1] = ("neigh add 2001:db8:1::%x:%x lladdr 02:00:00:06:%02x:%02x dev v0 nud permanent"):format(
        k, i, k, i)
    end
  end
  return lines
end

setup(function()
  object.run("ip netns add " .. NETNS)
  object.run(("ip -n %s link add v0 type veth peer name p0"):format(NETNS))
  for _, line in ipairs(neighbours()) do object.run(("ip -n %s %s"):format(NETNS, line)) end
end)
teardown(function() object.run("ip netns del " .. NETNS) end)

local CHUNK = [[
  local mode, flows = (...), math.tointeger((select(2, ...)))
  local balancer = require "tests.helpers.balancer"
  local controller = require "tidegate.core.controller"
  local task = require "tidegate.task"
  local AFFINITIES = { "none", "flow", "strict", "source" }
  math.randomseed(#mode)

  local bal <close> = balancer.new("lookup-" .. mode, { seed = "0123456789abcdef" })
  local services = {}
  for k, affinity in ipairs(AFFINITIES) do
    local vips = {}
    for _, vip in ipairs { "443/tcp", "443/udp", "8000-8099/tcp", "8000-8099/udp" } do
      vips[#vips + 1] = ("198.51.100.%d:%s"):format(k, vip)
      vips[#vips + 1] = ("[2001:db8::%d]:%s"):format(k, vip)
    end
    local backends = {}
    for i = 1, 5 do
      local admin = i == 2 and "drain" or i == 3 and "maint" or "ready"
      backends[#backends + 1] = { addr = ("10.99.%d.%d"):format(k, i), admin = admin }
      backends[#backends + 1] = { addr = ("2001:db8:1::%x:%x"):format(k, i), admin = admin }
    end
    services[k] = balancer.declare(affinity, { mode = mode, slots = 251, vips = vips, backends = backends })
    services[k].affinity, services[k].drain = affinity, 300
  end
  assert(bal:apply(services))

  local function resolved()
    for _, service in pairs(bal.services()) do
      for _, b in ipairs(service.backends) do if b.next_hop.state ~= "resolved" then return false end end
    end
    return true
  end
  for _ = 1, 100 do if resolved() then break end tg.sleep(0.02) end
  assert(resolved(), "next hops")

  --- Half of the slots move from some backend of the ring to some other, a quarter of these are late.
  local clock <close> = bal:map "clock"
  local epoch = clock:get(0).epoch
  local function shake()
    for name in require("tests.helpers.object").run(("ls %s/rings"):format(bal.dir)):gmatch "%d+" do
      local ring <close> = assert(tg.map.open(bal.dir .. "/rings/" .. name, { key = "u32", value = "u64" }))
      local homes = {}
      for slot = 0, 250 do homes[slot] = ring:get(slot) & 0xffffffff end
      for slot = 0, 250, 2 do
        local word = homes[slot] | homes[math.random(0, 250)] << 32 | (epoch & 0xff) << 48 | 1 << 63
        if slot % 8 == 0 then word = word | 1 << 62 end
        assert(ring:set(slot, word))
      end
    end
  end
  shake()

  local ctx, known, wrong, moving, spread, several = { ingress_ifindex = controller.ifindex "v0" }, {}, {}, 0, {}, 0
  local program <close> = assert(tg.prog.open(bal.dir .. "/program"))

  local function new_flow()
    local k, v6, proto = math.random(4), math.random(2) == 1, math.random(3) == 1 and "udp" or "tcp"
    return {
      k = k, v6 = v6, proto = proto, sport = math.random(1024, 65535),
      port = math.random(2) == 1 and 443 or math.random(8000, 8099),
      src = v6 and ("2001:db8:%x::%x"):format(math.random(0xf000, 0xffff), math.random(0xffff))
        or ("10.%d.%d.%d"):format(math.random(1, 98), math.random(255), math.random(254)),
      dst = v6 and ("2001:db8::%d"):format(k) or ("198.51.100.%d"):format(k),
    }
  end

  --- Where a packet of the flow goes: the last bytes of its MAC; and where lookup says that it does.
  local function compare(flow)
    local begins = flow.proto == "tcp" and math.random(3) == 1
    local addr, port, fresh = task.await(balancer.core.lookup, AFFINITIES[flow.k],
      { client = flow.src, port = flow.sport, vip = flow.dst, vip_port = flow.port, proto = flow.proto })
    local said = assert(begins and fresh or addr, port)
    local l4 = { sport = flow.sport, dport = flow.port }
    if flow.proto == "tcp" then l4.flags = begins and "S" or "A" end
    local p = tg.packet { ip = { src = flow.src, dst = flow.dst }, [flow.proto] = l4 }
    local result = assert(program:run(p:bytes(), { ctx = ctx }))
    local k, i = said:match "(%x+)[.:](%x+)$"
    local mac = tg.packet.parse(result.data).eth.dst
    if result.retval ~= "tx" or mac ~= ("02:00:00:%s:%02x:%02x"):format(said:find ":" and "06" or "04", k, i) then
      wrong[#wrong + 1] = ("%s %s %s:%d > %s:%d: %s, not %s"):format(AFFINITIES[flow.k], begins and "begins" or "",
        flow.src, flow.sport, flow.dst, flow.port, result.retval .. " " .. mac, said)
    end
    if fresh then moving = moving + 1 end
    spread[said] = true
  end

  for n = 1, flows do
    local flow = #known > 50 and math.random(2) == 1 and known[math.random(#known)] or new_flow()
    known[(n - 1) % 500 + 1] = flow
    if n % 500 == 0 then shake() end
    compare(flow)
  end
  for _ in pairs(spread) do several = several + 1 end
  return #wrong, table.concat(wrong, "\n", 1, math.min(5, #wrong)), moving, several
]]

for mode in ("l2dsr nat ipip gue"):gmatch "%w+" do
  it(("lookup names the backend of %d flows in %s"):format(FLOWS, mode), function()
    local wrong, first, moving, several = in_netns(NETNS, CHUNK, mode, FLOWS)
    assert.equal(0, wrong, first)
    assert.is_true(moving > FLOWS / 20, "too few flows of slots that move: " .. moving)
    assert.is_true(several >= 24, "too few backends: " .. several) -- of 4 services, 3 backends each, 2 families
  end)
end
