-- SPDX-License-Identifier: GPL-2.0-only
--- The TC programs: loaded, attached, replaced, taken over and removed, on real devices in a network namespace of
--- the spec's own. What they do to packets is tests/net/tc_test.sh's.
local in_netns = require "tests.helpers.in_netns"
local object = require "tests.helpers.object"

if object.refused() then
  pending("the datapath " .. object.refused())
  return
end

--- Kernel 6.6 and later; before, the TC programs are filters of clsact.
local function has_tcx()
  local major, minor = object.run "uname -r":match "^(%d+)%.(%d+)"
  return tonumber(major) * 100 + tonumber(minor) >= 606
end

local WAY <const> = has_tcx() and "tcx" or "clsact"

local NETNS = "tg-tc-" .. object.run "echo $PPID"
local function ip(command) return object.run(("ip -n %s %s"):format(NETNS, command)) end

--- What each chunk begins with.
local PRELUDE = [[
  local balancer = require "tests.helpers.balancer"
  local controller = require "tidegate.core.controller"
  local object = require "tests.helpers.object"
  local policy = require "tidegate.core.policy"
  local task = require "tidegate.task"
  local F <const> = controller.features()
  local bal

  local function open(name, features)
    bal = balancer.new(name, { start = false, features = features })
    return bal
  end
  local function id(path, what)
    local found, said = pcall(object.run, ("bpftool %s show pinned %s/%s"):format(what or "prog", bal.dir, path))
    return found and said:match "^(%d+)" or nil
  end
  --- The program that the pinned link runs.
  local function link(path)
    local said = object.run(("bpftool link show pinned %s/%s"):format(bal.dir, path))
    return { id = said:match "^(%d+)", program = said:match "prog (%d+)" }
  end
  local function ids()
    return { xdp = id "program", ingress = id "tc_ingress", egress = id "tc_egress",
      pages = id("maps/policy_pages", "map"), counters = id("maps/rule_counters", "map") }
  end
  local function attach(device, how) return task.await(controller.attach_tc, device, how or "auto") end
  local function detach(device) return task.await(controller.detach_tc, device) end
  local function compile(action, port, device)
    local function counter(key) return policy.counter(device or "v0", "ingress", key) end
    local handle = assert(task.await(policy.compile, {
      rules = { { action = action, protos = { 6 }, dport = { port, port }, counter = counter(action .. port) } },
      default = { action = "accept", counter = counter "default" },
    }))
    return handle
  end
  local function place(device, direction)
    return policy.port_place(controller.port_slot(device), direction or "ingress")
  end
  local function commit(handle, features)
    return task.await(policy.commit, { [place "v0"] = handle }, features or F.policy)
  end
  --- What programs know of ports: { [ifindex] = { slot, flags } }
  local function entries()
    local found = {}
    for ifindex, port in bal:map "ports":pairs() do found[ifindex] = { slot = port.slot, flags = port.flags } end
    return found
  end
  local function filters(device, side) return object.run(("tc filter show dev %s %s"):format(device, side)) end
  local function tc_ids(device, side)
    local found = {}
    for number in filters(device, side):gmatch " id (%d+)" do found[#found + 1] = number end
    return found
  end
  --- The program that a device runs, attached by the best way.
  local function runs(device, side)
    return WAY == "tcx" and link(side .. "/" .. device).program or tc_ids(device, side)[1]
  end
  local function link_id(path) return WAY == "tcx" and link(path).id or "none" end
]]

local function there(chunk, ...)
  return in_netns(NETNS, ("local WAY <const> = %q "):format(WAY) .. PRELUDE .. chunk, ...)
end

before_each(function()
  object.run("ip netns add " .. NETNS)
  ip "link add v0 type veth peer name p0"
  ip "link add v.1 type veth peer name p1"
end)
after_each(function() object.run("ip netns del " .. NETNS) end)

describe("the TC programs", function()
  it("are loaded with the first feature that needs them, and XDP's stays if they are none of its", function()
    local before, after, again = there [[
      local bal <close> = open("load", F.deny4)
      local before = ids()
      assert(task.await(controller.specialise, F.deny4 | F.policy))
      local after = ids()
      assert(task.await(controller.specialise, F.deny4 | F.policy | F.flow))
      return before, after, ids()
    ]]
    assert.is_nil(before.ingress)
    assert.is_truthy(after.ingress and after.egress)
    assert.equal(before.xdp, after.xdp)
    assert.equal(before.xdp, again.xdp)
    assert.not_equal(after.ingress, again.ingress)
  end)

  it("are attached by TCX where the kernel has it, both ways, and found again", function()
    if not has_tcx() then return pending "the kernel has no TCX" end
    local first, second, same, listed, known, gone, left = there [[
      local bal <close> = open("attach", F.policy)
      local first = assert(attach "v0")
      assert(attach "v.1")
      local at = link "ingress/v0"
      local listed, known = controller.tc_links(), entries()
      bal:adopt { start = false, features = F.policy }
      local second = assert(attach "v0")
      local same = at.id == link "ingress/v0".id and link "egress/v0".program == id "tc_egress"
      assert(detach "v0")
      assert(detach "v0")
      local gone = entries()
      object.run "ip link del v.1"
      return first, second, same, listed, known, gone, controller.tc_links()
    ]]
    assert.same({ "tcx", "", false }, { first.how, first.why, first.adopted })
    assert.same({ "tcx", true }, { second.how, second.adopted })
    assert.is_true(same)
    assert.same({ ifindex = first.ifindex, how = "tcx" }, listed.v0)
    assert.equal("tcx", listed["v.1"].how)
    assert.same({ slot = 0, flags = 1 }, known[first.ifindex])
    assert.same({ slot = 1, flags = 1 }, known[listed["v.1"].ifindex])
    assert.is_nil(gone[first.ifindex])
    assert.same({ ["v.1"] = { ifindex = 0, how = "tcx" } }, left)
  end)

  it("are filters of clsact where it has not, and TCX is refused", function()
    if has_tcx() then return pending "the kernel has TCX" end
    local first, refused, again = there [[
      local bal <close> = open("old", F.policy)
      local refused = { attach("v0", "tcx") }
      local first = assert(attach "v0")
      return first, refused, assert(attach "v0")
    ]]
    assert.same({ "clsact", "the kernel has no TCX", false }, { first.how, first.why, first.adopted })
    assert.same({ nil, "port v0: TC can't be attached by TCX: Invalid argument", "EINVAL" }, refused)
    assert.same({ "clsact", true }, { again.how, again.adopted })
  end)

  it("are filters of clsact where that is asked for, found again by their programs", function()
    local first, second, listed, shown, after, flags = there [[
      local bal <close> = open("clsact", F.policy)
      local first = assert(attach("v0", "clsact"))
      local shown = { tc_ids("v0", "ingress"), tc_ids("v0", "egress"), id "tc_ingress", id "tc_egress" }
      bal:adopt { start = false, features = F.policy }
      local listed, flags = controller.tc_links(), entries()[first.ifindex].flags
      local second = assert(attach("v0", "auto"))
      assert(detach "v0")
      return first, second, listed, shown, object.run "tc qdisc show dev v0 clsact", flags
    ]]
    assert.same({ "clsact", "asked for", false }, { first.how, first.why, first.adopted })
    assert.same({ "clsact", true }, { second.how, second.adopted })
    assert.same({ ifindex = first.ifindex, how = "clsact" }, listed.v0)
    assert.same({ shown[3] }, shown[1])
    assert.same({ shown[4] }, shown[2])
    assert.equal(7, flags)
    assert.equal("", after)
  end)

  it("leave others' filters alone, and the qdisc that was there before", function()
    local own, after, theirs = there [[
      local bal <close> = open("others", F.policy)
      local other = object.load "bpf/tc"
      local function add(device, side, priority)
        object.run(("tc filter add dev %s %s prio %d handle 1 bpf da pinned %s/tidegate_ingress"):format(device, side,
          priority, other.progs))
      end
      --- { priority, is it the other's program } of each filter
      local function shown(device, side)
        local theirs = object.run(("bpftool prog show pinned %s/tidegate_ingress"):format(other.progs)):match "^%d+"
        local found = {}
        for priority, number in filters(device, side):gmatch "pref (%d+) bpf[^\n]- id (%d+)" do
          found[#found + 1] = ("%s %s"):format(priority, number == theirs and "theirs" or "ours")
        end
        return table.concat(found, ", ")
      end
      object.run "tc qdisc add dev v0 clsact"
      add("v0", "ingress", 29799) add("v0", "egress", 5)
      assert(attach("v0", "clsact"))
      local own = { shown("v0", "ingress"), shown("v0", "egress") }
      assert(detach "v0")
      local after = { shown("v0", "ingress"), shown("v0", "egress") }
      assert(attach("v.1", "clsact"))
      add("v.1", "egress", 5)
      assert(detach "v.1")
      local theirs = shown("v.1", "egress")
      other:close()
      return own, after, theirs
    ]]
    assert.same({ "29799 theirs, 29800 ours", "5 theirs, 29799 ours" }, own)
    assert.same({ "29799 theirs", "5 theirs" }, after)
    assert.equal("5 theirs", theirs)
  end)

  it("change from one way to the other, and back", function()
    if not has_tcx() then return pending "the kernel has no TCX" end
    local hows, links, qdiscs = there [[
      local bal <close> = open("change", F.policy)
      local hows, links, qdiscs = {}, {}, {}
      for i, how in ipairs { "tcx", "clsact", "clsact", "tcx" } do
        local at = assert(attach("v0", how))
        hows[i] = ("%s %s"):format(at.how, at.adopted)
        links[i] = id("ingress/v0", "link") ~= nil
        qdiscs[i] = object.run "tc qdisc show dev v0 clsact" ~= ""
      end
      return hows, links, qdiscs
    ]]
    assert.same({ "tcx false", "clsact false", "clsact true", "tcx false" }, hows)
    assert.same({ true, false, false, true }, links)
    assert.same({ false, true, true, false }, qdiscs)
  end)

  it("attach again to a device of the same name, by any way", function()
    local results = there [[
      local bal <close> = open("again", F.policy)
      local results = {}
      for i, how in ipairs { WAY, "clsact" } do
        local before = assert(attach("v0", how))
        object.run "ip link del v0"
        local gone = controller.tc_links().v0
        object.run "ip link add v0 type veth peer name p0"
        assert(task.await(controller.specialise, F.policy | (i == 1 and F.rates or F.flow)))
        local after = assert(attach("v0", how))
        local known = entries()
        results[#results + 1] = { gone = gone.ifindex, adopted = after.adopted, stale = known[before.ifindex] ~= nil,
          slot = known[after.ifindex].slot, other = before.ifindex ~= after.ifindex }
      end
      return results
    ]]
    for _, result in ipairs(results) do
      assert.same({ gone = 0, adopted = false, stale = false, slot = 0, other = true }, result)
    end
  end)

  it("say so when the device is not there, and when none is loaded", function()
    local missing, unloaded = there [[
      local bal <close> = open("missing", F.v4)
      local unloaded = { attach "v0" }
      local missing = { attach "nowhere0" }
      return missing, unloaded
    ]]
    assert.same({ nil, "port nowhere0: no such device in this network namespace", "ENODEV" }, missing)
    assert.same({ nil, "port v0: no TC program is in force", "EAGAIN" }, unloaded)
  end)

  it("are gone with their instance, links, filters and pins", function()
    local exists, qdiscs, attached = there [[
      local bal <close> = open("unload", F.policy)
      assert(attach "v0")
      assert(attach("v.1", "clsact"))
      bal:close()
      local attached = object.run "bpftool net show"
      return os.execute("test -e " .. bal.dir) or false, object.run "tc qdisc show dev v.1 clsact", attached
    ]]
    assert.is_false(exists)
    assert.equal("", qdiscs)
    assert.not_matches("tidegate", attached)
  end)

  it("are gone from another network namespace too", function()
    local instance, filtered = there [[
      local bal = open("elsewhere", F.policy)
      assert(attach("v.1", "clsact"))
      bal:leave()
      return bal.instance, filters("v.1", "ingress")
    ]]
    assert.matches("pref 29799 bpf", filtered)
    object.run(("%s unload --instance %s"):format(object.tidegate(), instance))
    assert.equal("", object.run(("tc -n %s qdisc show dev v.1 clsact"):format(NETNS)))
  end)
end)

describe("policies in force", function()
  it("are exchanged only where they differ, with the links in place", function()
    local before, same, changed, linked = there [[
      local bal <close> = open("exchange", F.policy)
      assert(attach "v0") assert(attach("v.1", "clsact"))
      assert(commit(compile("drop", 23)))
      local before, at = ids(), link_id "ingress/v0"
      assert(commit(compile("drop", 23)))
      local same = ids()
      assert(commit(compile("reject", 23)))
      local changed, now = ids(), link_id "ingress/v0"
      return before, same, changed, { at == now, runs("v0", "ingress") == changed.ingress,
        runs("v0", "egress") == changed.egress, tc_ids("v.1", "ingress")[1] == changed.ingress,
        #tc_ids("v.1", "ingress"), tc_ids("v.1", "egress")[1] == changed.egress }
    ]]
    assert.same(before, same)
    assert.not_equal(before.ingress, changed.ingress)
    assert.not_equal(before.pages, changed.pages)
    assert.equal(before.xdp, changed.xdp)   -- no VIPs: it asks no policy
    assert.equal(before.counters, changed.counters)
    assert.same({ true, true, true, true, 1, true }, linked)
  end)

  it("are XDP's too where there are VIPs", function()
    local before, changed = there [[
      local bal <close> = open("vips", F.v4 | F.policy)
      assert(commit(compile("drop", 23), F.v4 | F.policy))
      local before = ids()
      assert(commit(compile("drop", 24), F.v4 | F.policy))
      return before, ids()
    ]]
    assert.not_equal(before.xdp, changed.xdp)
    assert.not_equal(before.ingress, changed.ingress)
  end)

  it("are taken over by the next daemon, which replaces nothing if it has the same", function()
    local before, adopted, same, changed = there [[
      local bal <close> = open("adopt", F.v4 | F.policy)
      controller.port_slot "other"
      assert(commit(compile("drop", 23), F.v4 | F.policy))
      assert(attach "v0")
      local before = ids()
      bal:adopt { start = false, features = F.v4 | F.policy }
      local adopted = ids()
      compile("drop", 99)
      assert(commit(compile("drop", 23), F.v4 | F.policy))
      local same = ids()
      bal:adopt { start = false, features = F.v4 | F.policy }
      assert(commit(compile("drop", 24), F.v4 | F.policy))
      local changed = ids()
      assert(runs("v0", "ingress") == changed.ingress)
      return before, adopted, same, changed
    ]]
    assert.same(before, adopted)
    assert.same(before, same)
    assert.not_equal(before.ingress, changed.ingress)
    assert.not_equal(before.xdp, changed.xdp)
  end)

  it("hold the slots of ports until these are forgotten", function()
    local first, second, forgotten = there [[
      local bal <close> = open("slots", F.policy)
      local first = { controller.port_slot "v0", controller.port_slot "v.1", controller.port_slot "p0" }
      assert(attach "p0")
      bal:adopt { start = false, features = F.policy }
      local second = { controller.port_slot "p1", controller.port_slot "v.1", controller.port_slot "v0",
        controller.slot_port(2) }
      controller.keep_slots { "v.1" }
      return first, second, { controller.port_slot "x0", controller.port_slot "v.1", controller.slot_port(2),
        controller.slot_port(3) or "nobody" }
    ]]
    assert.same({ 0, 1, 2 }, first)
    assert.same({ 3, 1, 0, "p0" }, second)
    assert.same({ 0, 1, "p0", "nobody" }, forgotten)
  end)

  it("keep their rules' counters, over restarts too", function()
    local first, second, third, counted = there [[
      local bal <close> = open("counters", F.policy)
      local function counters() return { policy.counter("v0", "ingress", "a"), policy.counter("v0", "egress", "a") } end
      local function put()
        local ids = counters()
        local handle = assert(task.await(policy.compile, {
          rules = { { action = "drop", counter = ids[1] } }, default = { action = "drop", counter = ids[2] },
        }))
        assert(commit(handle))
        return ids
      end
      policy.counter("v0", "ingress", "of a generation that fails")
      local first = put()
      local cpus = bal:map "rule_counters":get(first[1])
      for i in ipairs(cpus) do cpus[i] = { packets = 5, bytes = 9, last = 1 } end
      assert(bal:map "rule_counters":set(first[1], cpus))
      local second = put()
      bal:adopt { start = false, features = F.policy }
      local third = put()
      return first, second, third, policy.counters(third)
    ]]
    assert.same(first, second)
    assert.same(first, third)
    assert.is_true(counted[1].packets >= 5 and counted[1].packets % 5 == 0)
    assert.is_true(counted[1].last < os.time())
    assert.same({ packets = 0, bytes = 0 }, counted[2])
  end)

  it("stay as they are when others can't be put in force", function()
    local before, after, message, linked, works = there [[
      local bal <close> = open("failure", F.v4 | F.policy)
      assert(commit(compile("drop", 23), F.v4 | F.policy))
      assert(attach "v0") assert(attach("v.1", "clsact"))
      local before = ids()
      -- a directory in the place of the pin that is renamed last
      local pin = bal.dir .. "/maps/policy_pages"
      object.run(("mv %s %s/aside && mkdir %s"):format(pin, bal.dir, pin))
      local ok, message = commit(compile("drop", 24), F.v4 | F.policy)
      assert(not ok)
      object.run(("rmdir %s && mv %s/aside %s"):format(pin, bal.dir, pin))
      local after = ids()
      local linked = { runs("v0", "ingress"), tc_ids("v.1", "ingress")[1] }
      assert(commit(compile("drop", 24), F.v4 | F.policy))
      return before, after, message, linked, runs("v0", "ingress") == id "tc_ingress"
    ]]
    assert.same(before, after)
    assert.matches("^can't pin .*/policy_pages: ", message)
    assert.same({ before.ingress, before.ingress }, linked)
    assert.is_true(works)
  end)
end)
