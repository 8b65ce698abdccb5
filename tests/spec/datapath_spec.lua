-- SPDX-License-Identifier: GPL-2.0-only
--- Attaching, replacing and removing the datapath on real devices, and real packets through it, in a network
--- namespace of the spec's own.
local in_netns = require "tests.helpers.in_netns"
local object = require "tests.helpers.object"

if object.refused() then
  pending("the datapath " .. object.refused())
  return
end

local NETNS = "tg-dp-" .. object.run "echo $PPID"
local function ip(command) return object.run(("ip -n %s %s"):format(NETNS, command)) end

--- What each chunk begins with.
local PRELUDE = [[
  local controller = require "tidegate.core.controller"
  local balancer = require "tests.helpers.balancer"
  local object = require "tests.helpers.object"
  local task = require "tidegate.task"
  local function attach(device, mode) return task.await(controller.attach, device, mode or "auto") end
  local function ids(path, what)
    return object.run(("bpftool %s show pinned %s | head -1 | cut -d: -f1"):format(what, path))
  end
  --- The program that a device runs.
  local function runs(device) return object.run("ip link show " .. device):match "prog/xdp id (%d+)" end
]]

local function there(chunk, ...) return in_netns(NETNS, PRELUDE .. chunk, ...) end

before_each(function()
  object.run("ip netns add " .. NETNS)
  ip "link add v.0 type veth peer name p0"
  ip "link add v1 type veth peer name p1"
  ip "link set lo up"
end)
after_each(function() object.run("ip netns del " .. NETNS) end)

describe("attaching", function()
  it("is native where the driver can, else generic with the reason, and refuses if it must not be", function()
    local veth, lo, native, why, code = there [[
      local bal <close> = balancer.new("attach", { start = false })
      local veth, lo = assert(attach "v.0"), assert(attach "lo")
      return veth, lo, attach("lo", "native"), select(2, attach("lo", "native"))
    ]]
    assert.same({ "native", "", false }, { veth.mode, veth.why, veth.adopted })
    assert.same({ "generic", "native XDP refused by the driver: Operation not supported" }, { lo.mode, lo.why })
    assert.is_nil(native)
    assert.matches("^port lo: XDP can't be attached: Operation not supported", why)
    assert.equal("EOPNOTSUPP", code)
  end)

  it("says so when the device is not there or runs another program", function()
    local missing, other = there [[
      local bal <close> = balancer.new("attach", { start = false })
      object.run("bpftool net attach xdp pinned " .. bal.dir .. "/program dev v1")
      local _, missing = attach "nowhere0"
      local _, other = attach "v1"
      object.run "bpftool net detach xdp dev v1"
      return missing, other
    ]]
    assert.equal("port nowhere0: no such device in this network namespace", missing)
    assert.equal("port v1: another XDP program is attached; detach it first (`ip link set v1 xdp off`)", other)
  end)

  it("takes over a link that is there, in its mode unless another is asked for", function()
    local same, other, links, count = there [[
      local bal <close> = balancer.new("attach", { start = false })
      attach "v.0"
      local link = ids(bal.dir .. "/links/v:0", "link")
      bal:adopt { start = false }
      local same = attach "v.0"
      same.link = link == ids(bal.dir .. "/links/v:0", "link")
      local other = attach("v.0", "generic")
      local links = controller.links()
      task.await(controller.detach, "v.0")
      local left = 0
      for _ in pairs(controller.links()) do left = left + 1 end
      return same, other, links["v.0"], left
    ]]
    assert.same({ true, "native", true }, { same.adopted, same.mode, same.link })
    assert.same({ false, "generic", "asked for" }, { other.adopted, other.mode, other.why })
    assert.equal("number", type(links))
    assert.equal(0, count)
  end)

  it("survives that a device goes, and attaches to one of the same name", function()
    local gone, again, mode = there [[
      local bal <close> = balancer.new("attach", { start = false })
      assert(attach "v1")
      object.run "ip link del v1"
      local gone = controller.links().v1
      object.run "ip link add v1 type veth peer name p1"
      assert(task.await(controller.specialise, 1))
      local found = assert(attach "v1")
      return gone, found.adopted, found.mode
    ]]
    assert.equal(0, gone)
    assert.is_false(again)
    assert.equal("native", mode)
  end)
end)

describe("other features", function()
  it("are another program on the same links, with the same maps", function()
    local before, after, running, maps = there [[
      local bal <close> = balancer.new("features", { features = 1 })
      assert(attach "v.0") assert(attach "v1")
      local function web(mode)
        local vips, backends = { "198.51.100.10:80/tcp" }, { "10.99.0.1" }
        return { balancer.declare("web", { mode = mode, vips = vips, slots = 251, backends = backends }) }
      end
      assert(bal:apply(web "l2dsr"))
      local dump = bal:dump()
      local function state()
        return { program = ids(bal.dir .. "/program", "prog"), vips = ids(bal.dir .. "/maps/vips4", "map"),
          link = ids(bal.dir .. "/links/v:0", "link"), v0 = runs "v.0", v1 = runs "v1",
          nat = os.execute("test -e " .. bal.dir .. "/maps/reverse4") or false }
      end
      local before = state()
      local refused, why = bal:apply(web "nat")
      before.refused, before.kept = why, dump == bal:dump()
      assert(task.await(controller.specialise, 7))
      local after = state()
      after.kept = dump == bal:dump()
      assert(task.await(controller.specialise, 7))
      after.still = state().program == after.program
      assert(bal:apply(web "nat"))
      bal:close()
      return before, after, runs "v.0" or "none", os.execute("test -e " .. bal.dir) or false
    ]]
    assert.equal("the program has no feature for IPv4 endpoints of nat's backends: specialise it first", before.refused)
    assert.is_true(before.kept)
    assert.same({ before.program, before.program, before.nat }, { before.v0, before.v1, false })
    assert.not_equal(before.program, after.program)
    assert.same({ after.program, after.program, true, true, true },
      { after.v0, after.v1, after.nat, after.kept, after.still })
    assert.same({ before.link, before.vips }, { after.link, after.vips })
    assert.same({ "none", false }, { running, maps }) -- unload took it all
  end)
end)

describe("a flow", function()
  it("goes to the backend that lookup names, IPv4 and IPv6, whatever the seed", function()
    ip "link set v.0 up"
    ip "link set p0 up"
    ip "address add 10.99.0.254/24 dev v.0"
    ip "address add 2001:db8:1::fe/64 dev v.0 nodad"
    for i = 1, 10 do
      ip(("neigh add 10.99.0.%d lladdr 02:00:00:00:04:%02x dev v.0 nud permanent"):format(i, i))
      ip(("neigh add 2001:db8:1::%x lladdr 02:00:00:00:06:%02x dev v.0 nud permanent"):format(i, i))
    end
    local wrong, spread, adopted = there [[
      local bal <close> = balancer.new("flow", { seed = "0123456789abcdef" })
      local backends = {}
      for i = 1, 10 do
        backends[i] = { addr = "10.99.0." .. i, weight = i }
        backends[10 + i] = ("2001:db8:1::%x"):format(i)
      end
      backends[3].admin = "drain"
      local web = balancer.declare("web", { backends = backends,
        vips = { "198.51.100.10:443/udp", "198.51.100.10:443/tcp", "[2001:db8::10]:443/tcp" } })
      assert(bal:apply { web })
      local function resolved()
        for _, b in ipairs(bal:service("web").backends) do if b.next_hop.state ~= "resolved" then return false end end
        return true
      end
      for _ = 1, 100 do if resolved() then break end tg.sleep(0.02) end
      assert(resolved(), "next hops")
      local ctx = { ingress_ifindex = controller.ifindex "v.0" }
      --- How many of `n` random flows go elsewhere than lookup says, and how many backends got some.
      local function compare(n)
        local program <close> = assert(tg.prog.open(bal.dir .. "/program"))
        local wrong, seen, spread = 0, {}, 0
        for i = 1, n do
          local v6, proto = i % 2 == 0, i % 3 == 0 and i % 2 == 1 and "udp" or "tcp"
          local port = math.random(1024, 65535)
          local src = v6 and ("2001:db8:f::%x"):format(math.random(65535)) or ("203.0.113.%d"):format(math.random(254))
          local dst = v6 and "2001:db8::10" or "198.51.100.10"
          local p = tg.packet { ip = { src = src, dst = dst }, [proto] = { sport = port, dport = 443 } }
          local result = assert(program:run(p:bytes(), { ctx = ctx }))
          local want = task.await(balancer.core.lookup, "web", { client = src, port = port, proto = proto })
          local mac = tg.packet.parse(result.data).eth.dst
          local last = tonumber(want:match "[^.:]+$", v6 and 16 or 10)
          local right = ("02:00:00:00:%s:%02x"):format(v6 and "06" or "04", last)
          if result.retval ~= "tx" or mac ~= right then wrong = wrong + 1 end
          if not seen[want] then seen[want], spread = true, spread + 1 end
        end
        return wrong, spread
      end
      local wrong, spread = compare(1000)
      bal:adopt { seed = "fedcba9876543210" }
      local adopted = compare(200)
      local packets = bal:service("web").packets
      return wrong, spread, { adopted, packets }
    ]]
    assert.same({ 0, 19, { 0, 1200 } }, { wrong, spread, adopted })
  end)
end)

describe("a program that ends", function()
  it("doesn't wait for a task that asks and asks", function()
    local instance = there [[
      local bal = balancer.new "end"
      task.start({ name = "asks" }, function() while true do task.await(balancer.core.status) end end)
      task.sleep(0.05)
      return bal.instance
    ]]
    local _, unloaded = there([[ local name = ... return name, controller.unload(name) ]], instance)
    assert.is_true(unloaded)
  end)
end)

describe("l2dsr behind a gateway", function()
  it("is not sent there, and nat is: the entry follows the mode", function()
    ip "link set v.0 up"
    ip "link set p0 up"
    ip "address add 10.99.0.254/24 dev v.0"
    ip "neigh add 10.99.0.1 lladdr 02:00:00:00:04:01 dev v.0 nud permanent"
    ip "route add 10.98.0.0/16 via 10.99.0.1"
    local hops = there [[
      local bal <close> = balancer.new "mode"
      local function web(mode)
        assert(bal:apply { balancer.declare("web", { mode = mode, slots = 251,
          vips = { "198.51.100.10:443/tcp" }, backends = { "10.98.0.1" } }) })
      end
      local function hop()
        local index, found = next(bal:owners())
        return found.entry.hop[found.entry.current + 1].ifindex == controller.ifindex "v.0"
      end
      local hops = {}
      web "nat"
      for _ = 1, 100 do if hop() then break end tg.sleep(0.02) end
      hops[1] = hop()
      web "l2dsr" hops[2] = hop()
      web "nat" hops[3] = hop()
      return hops
    ]]
    assert.same({ true, false, true }, hops)
  end)
end)
