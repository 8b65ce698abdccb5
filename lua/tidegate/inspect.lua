--- Values as Lua text, for people: `tg.inspect(value)`. The same value always gives the same text:
--- keys are sorted, no address is shown (unless an object says it itself). What fits is on one line.
--- Numbers, strings, booleans and plain tables read back as themselves; the rest is described in
--- angle brackets. Bounded in depth and size.
local WIDTH = 96        -- columns that a table on one line may take, its indentation included
local DEPTH = 8         -- nested tables shown
local VALUES = 10000    -- shown in all

local keywords = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat
  return then true until while]]):gmatch "%a+" do keywords[word] = true end

local escapes = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\\"] = "\\\\", ['"'] = '\\"' }

local function escape(char)
  return escapes[char] or ("\\x%02x"):format(char:byte())
end

--- UTF-8 stays readable; a string that isn't has every byte beyond ASCII escaped.
local function quote(text)
  local special = utf8.len(text) and '[%c\\"]' or '[%c\\"\128-\255]'
  return '"' .. text:gsub(special, escape) .. '"'
end

local function float(number)
  if number ~= number then return "0/0" end
  if number == math.huge then return "math.huge" end
  if number == -math.huge then return "-math.huge" end
  for digits = 14, 17 do
    local text = ("%." .. digits .. "g"):format(number)
    if tonumber(text) == number then
      return text:find "[%.e]" and text or text .. ".0"
    end
  end
end

local function number_text(number)
  if math.type(number) == "float" then return float(number) end
  return number == math.mininteger and "math.mininteger" or ("%d"):format(number)
end

local function function_text(fn)
  local info = debug.getinfo(fn, "S")
  if info.what == "C" then return "<function: built in>" end
  return ("<function: %s:%d>"):format(info.short_src, info.linedefined)
end

local ranks = { number = 1, string = 2, boolean = 3 }

--- Numbers, strings, booleans, then the rest in the order of their texts.
local function before(a, b)
  local rank_a, rank_b = ranks[type(a.key)] or 4, ranks[type(b.key)] or 4
  if rank_a ~= rank_b then return rank_a < rank_b end
  if rank_a <= 2 then return a.key < b.key end
  return a.text < b.text
end

local show

local function key_text(key, state)
  if type(key) == "string" and key:find "^[%a_][%w_]*$" and not keywords[key] then return key end
  return "[" .. show(key, state, "", DEPTH - 1) .. "]"
end

--- All pairs but the list's, sorted. A table's own __pairs is honoured.
local function sorted_pairs(value, length, state)
  local entries, seen = {}, 0
  for key, item in pairs(value) do
    if not (math.type(key) == "integer" and key >= 1 and key <= length) then
      seen = seen + 1
      if seen > state.left then break end
      entries[seen] = { key = key, item = item, text = key_text(key, state) }
    end
  end
  table.sort(entries, before)
  return entries
end

local function items_of(value, state, indent, depth)
  local items, length = {}, rawlen(value)
  for i = 1, length do
    if state.left <= 0 then
      items[i] = ("<%d more>"):format(length - i + 1)
      return items
    end
    items[i] = show(value[i], state, indent, depth)
  end
  for _, entry in ipairs(sorted_pairs(value, length, state)) do
    if state.left <= 0 then
      items[#items + 1] = "<more>"
      break
    end
    items[#items + 1] = entry.text .. " = " .. show(entry.item, state, indent, depth)
  end
  return items
end

local function lay_out(items, indent)
  if #items == 0 then return "{}" end
  local line = "{ " .. table.concat(items, ", ") .. " }"
  if #indent + #line <= WIDTH and not line:find "\n" then return line end
  local inner = indent .. "  "
  return "{\n" .. inner .. table.concat(items, ",\n" .. inner) .. "\n" .. indent .. "}"
end

local function table_text(value, state, indent, depth)
  if state.open[value] then return "<cycle>" end
  if depth >= DEPTH then return next(value) == nil and "{}" or "{ <deeper> }" end
  state.open[value] = true
  local ok, items = pcall(items_of, value, state, indent .. "  ", depth + 1)
  state.open[value] = nil
  return ok and lay_out(items, indent) or ("<error while listing: %s>"):format(items)
end

--- What an object says about itself, if it does: its text, or the name of its kind.
local function described(value)
  local meta = debug.getmetatable(value)
  if type(meta) ~= "table" then return nil, nil end
  if meta.__tostring then
    local ok, text = pcall(tostring, value)
    return ok and text or ("<error in __tostring: %s>"):format(text), nil
  end
  return nil, type(meta.__name) == "string" and meta.__name or nil
end

local function object_text(value, state, indent, depth)
  local text, name = described(value)
  if text then return text end
  if type(value) == "table" then
    return (name and "<" .. name .. "> " or "") .. table_text(value, state, indent, depth)
  end
  return "<" .. (name or type(value)) .. ">"
end

function show(value, state, indent, depth)
  state.left = state.left - 1
  local kind = type(value)
  if kind == "string" then return quote(value) end
  if kind == "number" then return number_text(value) end
  if kind == "function" then return function_text(value) end
  if kind == "nil" or kind == "boolean" then return tostring(value) end
  return object_text(value, state, indent, depth)
end

---@return string
return function(value)
  return show(value, { open = {}, left = VALUES }, "", 0)
end
