-- SPDX-License-Identifier: GPL-2.0-only
--- The names of reasons, by number, out of the one place where they stand.
local reasons = {}

function reasons.names()
  local file <close> = assert(io.open "bpf/reasons.h")
  local passes, drops = file:read("a"):match "TG_PASS_REASONS%(X%)(.-)#define TG_DROP_REASONS%(X%)(.-)\n\n"
  local names = { [0] = "none" }
  for name in passes:gmatch 'X%([%u_]+, "(.-)"%)' do names[#names + 1] = name end
  names[#names + 1] = "no reason"
  for name in drops:gmatch 'X%([%u_]+, "(.-)"%)' do names[#names + 1] = name end
  return names
end

return reasons
