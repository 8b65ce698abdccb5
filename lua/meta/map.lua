---@meta tidegate.core.map

--- Any pinned BPF map of any program: `tg.map`. Keys and values become Lua by the map's BTF:
---
--- | C | Lua |
--- |---|---|
--- | integers of 8 to 64 bits, signed or not, bit fields | integer; a u64 from 2^63 on is the negative integer of the same bits (`math.ult` compares, `"%x"` prints) |
--- | `__be16` `__be32` `__be64` | integer in the host's order: a port is 80, not 20480 |
--- | `__int128` | string of 16 bytes |
--- | `bool` | boolean |
--- | `float`, `double` | number |
--- | `enum`, `enum64` | the value's name, or the integer where it has none; both are taken |
--- | `char[N]` | string up to the first NUL; a shorter one is filled with NULs, N bytes fill it |
--- | other arrays | list; missing elements are 0; arrays of bytes take a string of N bytes too |
--- | `struct` | table; missing fields are 0, unknown ones an error |
--- | anonymous struct or union | its fields are the outer table's |
--- | `union` | table with every member; on writing, members that share bytes must agree |
--- | sections (`.bss`, `.data`) | table by variable; the key is 0 |
--- | maps in maps, programs in maps | written as an open map or program, read as an id |
---
--- Pointers, locks, timers, functions and the like are refused when the map is opened, by the
--- field's name; types given by hand (`bytes:N`) are the way around.
---
--- Every call is one or a few system calls and does not wait. Misuse raises an error that begins
--- with the path to the culprit: `value.ports[2]: 70000 does not fit u16 (0 to 65535)`. What the
--- kernel refuses returns `nil, message, code`, such as `nil, "map is full (1024 entries)", "E2BIG"`.
---@class tg.map
local map = {}

--- A type given by hand: `"u8"` … `"u64"`, `"i8"` … `"i64"`, `"be16"`, `"be32"`, `"be64"`, `"bool"`,
--- `"f32"`, `"f64"`, `"chars:N"` (text), `"bytes:N"` (a string of N bytes), arrays of the plain ones
--- (`"u16[4]"`), or a struct as a list of fields `{ name, type[, count] }`, laid out as C does unless
--- it has `packed = true`: `{ { "addr", "be32" }, { "port", "be16" }, packed = true }`.
---@alias tg.Type string|tg.StructType
---@class tg.StructType
---@field packed? boolean
---@field [integer] { [1]: string, [2]: tg.Type, [3]: integer? }

--- Opens the map pinned at `path`. Reading the BTF of other programs needs CAP_SYS_ADMIN; a map
--- without BTF, or a part that can't be carried, needs its types given.
---@param path string
---@param types? { key?: tg.Type, value?: tg.Type }
---@return tg.Map? map, string? message, string? code
function map.open(path, types) end

--- An open map. It closes itself when it is collected, or at the end of a block by `<close>`.
---@class tg.Map
local Map = {}

--- The value of a key, nil (alone) if the map does not have it. A per-CPU map: a list with a value
--- for each possible CPU. A queue or stack: its head, without a key.
---@return any value, string? message, string? code
function Map:get(key) end

--- Sets a key: `"any"` way, only if it is `"new"`, or only if it does `"exist"`. A per-CPU map takes
--- a list, or one value for all CPUs (unless the value itself is an array).
---@param flag? "any"|"new"|"exist"
---@return true? ok, string? message, string? code
function Map:set(key, value, flag) end

--- Whether the key was there.
---@return boolean? deleted, string? message, string? code
function Map:delete(key) end

--- Gets and deletes in one step: hashes, queues and stacks (these without a key).
---@return any value, string? message, string? code
function Map:pop(key) end

--- The sum of the CPUs' values, field by field; what is no number is left out.
---@return any sum, string? message, string? code
function Map:sum(key) end

--- Iterates over key and value; `pairs(m)` does the same. Keys may be deleted on the way. Values are
--- read up to 512 keys ahead (fewer if they are large). A read that the kernel refuses raises an error.
---@return fun(): any, any
function Map:pairs() end

--- Sets many keys, in few system calls where the kernel can: `{ [key] = value }`, or a list of
--- `{ key, value }` where keys are structs or arrays. A faulty entry raises before anything is set;
--- what the kernel refuses ends the batch (`"…; 8 of 10 keys are set"`).
---@return integer? count, string? message, string? code
function Map:batch_set(t) end

--- The whole map, in the form that batch_set takes.
---@return table
function Map:to_table() end

---@class tg.MapInfo
---@field type string  "hash", "percpu_array" …
---@field name string
---@field id integer
---@field key_size integer
---@field value_size integer  bytes, of one CPU
---@field max_entries integer
---@field flags integer  BPF_F_…
---@field cpus integer?  values of a key, in a per-CPU map
---@field key string?  "struct flow { be32 saddr; … }"
---@field value string

---@return tg.MapInfo
function Map:info() end

function Map:close() end

return map
