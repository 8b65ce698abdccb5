-- SPDX-License-Identifier: GPL-2.0-only
--- Devices that lead to a mirror's collector (core/vxlan.h), in a network namespace of the spec's own.
local in_netns = require "tests.helpers.in_netns"
local object = require "tests.helpers.object"

if object.refused() then
  pending("the datapath " .. object.refused())
  return
end

local NETNS = "tg-vxlan-" .. object.run "echo $PPID"

local PRELUDE = [[
  local task = require "tidegate.task"
  local vxlan = require "tidegate.core.vxlan"
  local function make(instance, ...) return task.await(vxlan.make, instance, ...) end
  local function remove(instance, ...) return task.await(vxlan.remove, instance, ...) end
]]

local function there(chunk, ...) return in_netns(NETNS, PRELUDE .. chunk, ...) end
local function ip(command) return object.run(("ip -n %s %s"):format(NETNS, command)) end
local function devices() return select(2, ip("-o link show type vxlan"):gsub("tgvx", "")) end

before_each(function() object.run("ip netns add " .. NETNS) end)
after_each(function() object.run("ip netns del " .. NETNS) end)

describe("a device that leads to a collector", function()
  it("is made once, up, deaf, and says whose it is", function()
    local first, again = there [[
      return make("x", "192.0.2.9", 42, 4789), (make("x", "192.0.2.9", 42, 4789))
    ]]
    assert.same({ "tgvx0", "tgvx0" }, { first, again })
    local said = ip "-d link show tgvx0"
    for _, words in ipairs { "NOARP,UP", "vxlan id 42 remote 192.0.2.9", "dstport 4789", "nolearning",
      "alias tidegate x vxlan 192.0.2.9 vni 42 port 4789" } do
      assert.is_truthy(said:find(words, 1, true), words .. " in " .. said)
    end
    assert.is_truthy(object.run(("tc -n %s filter show dev tgvx0 ingress"):format(NETNS)):find "tidegate_deaf")
  end)

  it("is there for each collector, of either family, and removed alone", function()
    local a, b = there [[
      local a, b = make("x", "192.0.2.9", 42, 4789), (make("x", "2001:db8::9", 43, 4790))
      assert(remove("x", "192.0.2.9", 42, 4789))
      assert(remove("x", "192.0.2.9", 42, 4789)) -- it is not there any more
      return a, b
    ]]
    assert.same({ "tgvx0", "tgvx1", 1 }, { a, b, devices() })
    assert.is_truthy(ip("-d link show tgvx1"):find("remote 2001:db8::9", 1, true))
  end)

  it("of another instance is another one's", function()
    there [[
      assert(make("x", "192.0.2.9", 42, 4789))
      assert(make("x.y", "192.0.2.9", 43, 4789))
      assert(remove("x", "192.0.2.9", 43, 4789))
      return true
    ]]
    assert.equal(2, devices())
  end)

  it("with a number that is taken on this host is refused, and nothing is left", function()
    ip "link add overlay type vxlan id 42 dstport 4789 remote 192.0.2.1"
    local made, why, code = there [[ return make("x", "192.0.2.9", 42, 4789) ]]
    assert.is_nil(made)
    assert.is_truthy(why:find("another device of this host has vni 42 on port 4789", 1, true), why)
    assert.equal("EEXIST", code)
    assert.equal(0, devices())
  end)
end)
