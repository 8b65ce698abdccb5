-- SPDX-License-Identifier: GPL-2.0-only
--- What tg.instance takes of the flows of stateful policies: `tracked`, room for so many (when the tables are made);
--- `timeouts`, by state; `pick_up`, whether, or for how many seconds from when the tables are made, TCP that the rules
--- accept is followed from the middle on; `flow_events`, one flow in so many is told by events.

local core = require "tidegate.core.tracks"
local schema = require "tidegate.schema"

local timeouts = {}
for _, state in ipairs(core.states()) do
  if state[2] > 0 then timeouts[state[1]] = schema.seconds(1, 30 * 86400) end
end

local seconds = schema.seconds(0, 86400)

return {
  tracked = schema.integer(64, 1 << 24), timeouts = schema.table(timeouts), flow_events = schema.integer(0, 1 << 30),
  pick_up = function(what, value) return type(value) == "boolean" and value or seconds(what, value) end,
}
