-- SPDX-License-Identifier: GPL-2.0-only
--- What operators changed of rules and sets, kept over reloads in memory and over restarts in a file beside the
--- control socket (as the lists' in core/lister.c: like what is pinned, it ends with the host).
---
---     kept.rules   "eth0 ingress name dns" → { enabled, file, who, since, reason }
---     kept.sets    name → prefix → { removed, expires, who, since, reason }     expires: seconds since 1970

local json = require "dkjson"
local log = require "tidegate.log"

local kept = { rules = {}, sets = {} }

local DIRECTORY <const> = "/run/tidegate/"

local path

local function file_of(instance)
  return DIRECTORY .. instance .. ".policies"
end

--- Reads what an earlier daemon of the instance kept; from now on changes are written.
function kept.open(instance)
  path = file_of(instance)
  local file <close> = io.open(path)
  if not file then return end
  local content, _, message = json.decode(file:read "a" or "", 1, nil)
  if type(content) ~= "table" or type(content.rules) ~= "table" or type(content.sets) ~= "table" then
    log.error("%s: what operators changed of rules and sets can't be read: %s", path,
      message or "not as it was written")
    return
  end
  kept.rules, kept.sets = content.rules, content.sets
end

--- After a change. A daemon that is killed meanwhile leaves the file before it, or this one.
function kept.save()
  if not path then return end
  local fresh = path .. ".new"
  local file, message = io.open(fresh, "w")
  if not file then return log.error("%s: %s", fresh, message) end
  local ok
  ok, message = file:write(json.encode { rules = kept.rules, sets = kept.sets })
  ok, message = file:close() and ok, message
  if ok then ok, message = os.rename(fresh, path) end
  if not ok then log.error("%s: what operators changed is not kept: %s", path, message) end
end

--- As the pins.
function kept.unload(instance)
  os.remove(file_of(instance))
  path = nil
end

return kept
