---@meta tidegate.deny

--- Lists of prefixes: `tg.deny` and `tg.allow`. A packet whose source is on a list of `tg.deny` is dropped, unless
--- a longer prefix, or one of equal length, is on one of `tg.allow`: over all lists the longest match decides.
--- There can be 63 lists with something in them; a name is that of one list, of either kind. Without a name the
--- list is `"deny"`, or `"allow"`.
---
--- A prefix is `"203.0.113.0/24"`, `"2001:db8::/32"` or a single address; host bits are masked.
---
--- At a file's top level calls *declare*: they belong to the file, `check` shows what would be added and removed, and
--- questions tell what is declared so far. A change that a task makes holds until its generation ends (the next
--- reload); an operator's (eval, repl) survives reloads and restarts, and is absorbed when the files say the same.
--- What an operator did, a task can't undo: it gets `nil, message, "EPERM"`.
---
--- Calls wait where they have to; the work is done in a thread of its own.
---@class tg.List
local List = {}

---@class tg.ListOptions
---@field list? string  the list's name
---@field ttl? number|string  seconds from the commit, or from the call; a reload that declares the same does not begin them anew
---@field reason? string
---@field count? boolean  with packet and byte counters of their own, for single addresses

--- Adds a prefix. Whether it is new to the list.
---@param prefix string
---@param options? tg.ListOptions
---@return boolean? added, string? message, string? code
function List:add(prefix, options) end

--- Removes a prefix, this very one. Whether it was there. `ENOENT`: there is no such list.
---@param prefix string
---@param options? { list?: string }
---@return boolean? removed, string? message, string? code
function List:remove(prefix, options) end

---@class tg.ListFileOptions: tg.ListOptions
---@field on_error? "fail"|"skip"  what becomes of a text with broken lines: it is refused (the default), with each line's
--- number; or they are left out, and logged

--- Adds a file's prefixes: one a line, comments from `#` or `;` on, as FireHOL's netsets and Spamhaus' DROP. A path not from
--- the root is from the script's directory. How many prefixes the file has.
---@param path string
---@param options? tg.ListFileOptions
---@return integer? count, string? message, string? code
function List:load(path, options) end

---@class tg.ListReplaceOptions
---@field min? integer  refuse fewer prefixes than that (1): an empty download never empties a list; 0 allows it
---@field ttl? number|string  then what the files declare of the list counts again
---@field reason? string
---@field count? boolean
---@field on_error? "fail"|"skip"

--- Makes a list's content these prefixes: a text as of a file, or a list of strings. What was there before and is now
--- stays in force throughout. It takes the place of what the files declare of this list, also after a reload,
--- as long as the script that called is loaded and the files declare the same of it; what was added or removed one
--- by one remains so. How many prefixes are on the list now, how many came, how many went.
---@param list string
---@param value string|string[]
---@param options? tg.ListReplaceOptions
---@return integer? count, integer|string added, integer|string removed
function List:replace(list, value, options) end

---@class tg.ListEntry
---@field prefix string
---@field list string
---@field owner "file"|"source"|"task"|"operator"  "source": by replace
---@field reason? string
---@field who? string  the script's line, or the operator's user, where something more than the prefix is known
---@field since? number  seconds since 1970
---@field ttl? number  seconds that are left
---@field packets? integer  with `count`
---@field bytes? integer

--- Whether an address, or a whole prefix, is on one of the lists: the longest entry that covers it. What happens to a
--- packet, tg.trace tells.
---@param prefix string
---@param options? { list?: string }
---@return boolean? contains, tg.ListEntry? entry
function List:contains(prefix, options) end

--- How many prefixes are on a list; without a name, on all of them.
---@param list? string
---@return integer
function List:count(list) end

--- `for prefix, entry in tg.deny:pairs() do`: entries in order, list by list. Meanwhile others may change them.
---@param list? string
---@return fun(): string?, tg.ListEntry?
function List:pairs(list) end

---@class tg.Offender
---@field src string
---@field list? string
---@field packets integer  an estimate, from samples
---@field bytes integer
---@field rate? number  packets a second, with `seconds`

--- The sources whose packets were dropped most, the heaviest first: since they were last forgotten or, with
--- `seconds`, in that time. `reset` forgets them then.
---@param options? { n?: integer, seconds?: number|string, reset?: boolean }  n: 10
---@return tg.Offender[]? offenders, string? message, string? code
function List:top(options) end
