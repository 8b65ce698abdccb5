-- SPDX-License-Identifier: GPL-2.0-only
--- What is said of ports and what is attached to them; attaching itself is tested by tc_spec.lua, datapath_spec.lua
--- and tests/net/tc_test.sh.
local attachment = require "tidegate.attachment"
local scripts = require "tests.helpers.scripts"

local function port(fields)
  local given = { name = "eth0", xdp = "auto", tc = "auto", uses = {} }
  for name, value in pairs(fields) do given[name] = value end
  return given
end

local POLICY <const> = { ["policy eth0 ingress"] = "file" }

describe("a port", function()
  it("is attached to TC only where that has something to do, and never against its will", function()
    assert.is_false(attachment.needs_tc(port {}))
    assert.is_true(attachment.needs_tc(port { uses = POLICY }))
    assert.is_false(attachment.needs_tc(port { uses = POLICY, tc = false }))
    assert.equal("attach, xdp auto", attachment.text(port {}))
    assert.equal("attach, xdp auto, tc", attachment.text(port { uses = POLICY }))
    assert.equal("attach, tc clsact", attachment.text(port { xdp = "off", tc = "clsact", uses = POLICY }))
    assert.equal("nothing is attached", attachment.text(port { xdp = "off" }))
  end)

  it("says how it is attached", function()
    assert.equal("xdp native", attachment.status(port { ifindex = 3, mode = "native" }))
    assert.equal("xdp generic, tc tcx", attachment.status(port { ifindex = 3, mode = "generic", tc_mode = "tcx" }))
    assert.equal("tc clsact", attachment.status(port { ifindex = 3, xdp = "off", tc_mode = "clsact" }))
    assert.equal("not attached", attachment.status(port { mode = "native" }))
    assert.equal("not attached", attachment.status(port { ifindex = 3, xdp = "off" }))
  end)

  it("tells what changes of it", function()
    local function changes(was, now) return table.concat(attachment.changes(port(was), port(now)), "; ") end
    assert.equal("", changes({}, {}))
    assert.equal("xdp auto -> off; attach, tc", changes({}, { xdp = "off", uses = POLICY }))
    assert.equal("detach, tc", changes({ uses = POLICY }, { tc = "clsact" }))
    assert.equal("tc auto -> clsact", changes({ uses = POLICY }, { uses = POLICY, tc = "clsact" }))
    assert.equal("", changes({ uses = POLICY }, { uses = { other = "file" } }))
    local adopted = { name = "eth0", tc_mode = "tcx" }
    assert.same({}, attachment.changes(adopted, port { uses = POLICY, tc = "clsact" }))
    assert.same({ "detach, tc" }, attachment.changes(adopted, port {}))
    assert.same({ "attach, tc tcx" }, attachment.changes({ name = "eth0" }, port { uses = POLICY, tc = "tcx" }))
  end)

  it("takes true, false or a way for tc", function()
    local function declared(tc)
      local gen, state = scripts.resolve(("tg.port('eth0', { tc = %s })"):format(tc))
      return state.ports.eth0.tc, scripts.problems(gen)
    end
    for given, tc in pairs { ["true"] = "auto", ["nil"] = "auto", ['"auto"'] = "auto", ['"tcx"'] = "tcx",
      ['"clsact"'] = "clsact", ["false"] = false } do
      assert.equal(tc, (declared(given)))
    end
    local problems = scripts.problems((scripts.resolve "tg.port('eth0', { tc = 'both' })"))
    assert.matches('tg%.port "eth0"%.tc: "both" given, true, false, "auto", "tcx" or "clsact" expected', problems[1])
  end)
end)
