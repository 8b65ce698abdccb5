-- SPDX-License-Identifier: GPL-2.0-only
--- Where the rules of a policy stand in a script. Lua knows the line of a call, not those of the tables that it is
--- given; so the call is looked up in the text, and the constructors of its list are counted.
---
---     lines.of(text, line, "policy", { "accept", "drop" }) → { 12, 13 }
---
--- Where a list is computed, or from the first entry on that is no table's constructor, there is nothing to count: who
--- asks falls back on the call's line.

local getinfo = debug.getinfo

local lines = {}

local library = getinfo(1, "S").source:match "^(.+)policy[/.]lines"  -- "@lua/tidegate/", "=tidegate."

--- The script's file and line that are running: the nearest frame outside the library.
function lines.caller()
  local level, frame = 2, getinfo(2, "Sl")
  while frame and (frame.what == "C" or frame.source:sub(1, #library) == library) do
    level = level + 1
    frame = getinfo(level, "Sl")
  end
  if frame then return frame.source:match "^@(.*)", frame.currentline end
end

--- What is no token to look at: blanks, comments. Each is tried in turn.
local BLANK = { "^%s+", "^%-%-%[(=*)%[.-%]%1%]", "^%-%-[^\n]*" }
local TOKEN = {
  '^"[^"\\\n]*"', "^'[^'\\\n]*'", '^"[^\n]-[^\\]"', "^'[^\n]-[^\\]'", "^%[(=*)%[.-%]%1%]", "^[%a_][%w_]*",
  "^%d[%w.]*", "^[=~<>]=", "^%.%.%.?", "^.",
}

local function skip(text, at)
  local from
  repeat
    from = at
    for _, pattern in ipairs(BLANK) do
      local _, last = text:find(pattern, at)
      if last then at = last + 1 end
    end
  until at == from
  return at
end

--- The next token and where it ends; nil at the end of the text.
local function next_token(text, at)
  at = skip(text, at)
  for _, pattern in ipairs(TOKEN) do
    local first, last = text:find(pattern, at)
    if first then return text:sub(first, last), last + 1, first end
  end
end

--- Where the line begins.
local function start_of(text, line)
  local at = 1
  for _ = 2, line do
    local newline = text:find("\n", at, true)
    if not newline then return nil end
    at = newline + 1
  end
  return at
end

--- Behind the `{` of the call's list: NAME ( "…" , {   or a variable in place of the string
local function list_of_call(text, at, name)
  local wanted = { name, "(", false, ",", "{" }
  local step = 1
  for _ = 1, 200 do
    local token, after = next_token(text, at)
    if not token then return nil end
    local fits = wanted[step] == token or wanted[step] == false and token:find "^[\"'%a_]"
    step, at = fits and step + 1 or token == name and 2 or 1, after
    if step > #wanted then return at end
  end
end

local OPEN, CLOSE = { ["{"] = true, ["("] = true, ["["] = true }, { ["}"] = true, [")"] = true, ["]"] = true }

--- The entries of a list from behind its `{`: { first token, second token, where }, those with a name left out.
local function entries_of(text, at)
  local entries, depth, tokens, from = {}, 0, {}, nil
  for _ = 1, 200000 do
    local token, after, where = next_token(text, at)
    if not token then return nil end
    at = after
    if depth == 0 and (token == "}" or token == "," or token == ";") then
      if tokens[1] and tokens[2] ~= "=" then entries[#entries + 1] = { tokens[1], tokens[2], from } end
      if token == "}" then return entries end
      tokens = {}
    else
      if #tokens == 0 then from = where end
      if #tokens < 2 then tokens[#tokens + 1] = token end
      depth = depth + (OPEN[token] and 1 or 0) - (CLOSE[token] and 1 or 0)
    end
  end
end

--- Could these entries have made a list whose tables begin with these strings?
local function fits(entries, firsts)
  for i, entry in ipairs(entries) do
    if entry[1] ~= "{" then return true end      -- a call may give any number
    local quoted = entry[2] and entry[2]:match "^[\"'](.*)[\"']$"
    if quoted and quoted ~= firsts[i] then return false end
  end
  return #entries == #firsts
end

--- The lines of the entries, as far as they are tables' constructors; `firsts` are the strings that they begin with.
function lines.of(text, line, name, firsts)
  local at = start_of(text, line)
  at = at and list_of_call(text, at, name)
  local entries = at and entries_of(text, at)
  if not entries or not fits(entries, firsts) then return {} end
  local result, number, last = {}, line, start_of(text, line)
  for i, entry in ipairs(entries) do
    if entry[1] ~= "{" then break end
    number = number + select(2, text:sub(last, entry[3] - 1):gsub("\n", ""))
    result[i], last = number, entry[3]
  end
  return result
end

return lines
