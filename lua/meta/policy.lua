---@meta tidegate.policy

--- Policies of ports: what becomes of the packets that come in (`"ingress"`) or leave (`"egress"`), by the first of
--- an ordered list of rules that matches; and sets of addresses that rules name.

--- What a packet has to be, of rules, mirrors and captures. Of a list one entry has to match; all fields that are given
--- have to. Prefixes of both families may be mixed; a rule with prefixes of one family alone matches no other packets.
---@class tg.Match
---@field src? string|string[]  prefixes, addresses, sets: `"10.0.0.0/8"`, `{ "192.0.2.7", "@staff" }`. An empty set
--- matches nothing
---@field dst? string|string[]
---@field proto? string|integer|(string|integer)[]  `"tcp"`, `"udp"`, `"icmp"`, `"icmp6"`, others by name or number
---@field sport? integer|string|(integer|string)[]  of TCP and UDP: 80, `"8000-8099"`, a list
---@field dport? integer|string|(integer|string)[]
---@field port? integer|string|(integer|string)[]  either of the two
---@field flags? string  of TCP, as tcpdump's letters: `"S"`: S is set, and of F, S, R, A no other; P, U, E, C count where
--- they are named. `"S/SA"`: of S and A only S is set
---@field icmp_type? string|integer|(string|integer)[]  `"echo-request"`, `"unreachable"`, `"too-big"`, …, of ICMP or
--- ICMPv6 as `proto` says, which may be both
---@field fragment? boolean  true: a fragment, of which all but the first show no ports; false: none

---@class tg.RuleOptions: tg.Match
---@field [1] "accept"|"drop"|"reject"  reject: a TCP RST or an ICMP error goes back
---@field name? string  one on the port. By it the rule is known over reloads, or else by its text
---@field log? boolean  events `policy.drop` (`policy.accept`), sampled
---@field event? string  an event of that name for each packet
---@field audit? boolean  is counted, and the packet passes
---@field enabled? boolean  false: as if it were not there

---@class tg.PolicyOptions
---@field [integer] tg.RuleOptions  in order, at most 1,024
---@field default? "accept"|"drop"|"reject"  of packets that no rule matches; accept
---@field stateful? boolean|"conntrack"  what belongs to a flow that was let through passes: by a flow table of our own, or
--- the kernel's
---@field audit? boolean  nothing is dropped: rules and default count alone
---@field log? boolean  of the default
---@field nd? boolean  false: ARP and neighbour discovery are judged too; else they pass
---@field fragments? "follow"|"rules"|"drop"  later fragments: follow their packet's first one (the default), are judged
--- by rules that ask no ports, flags or types, or are dropped
---@field existing? "keep"|"recheck"  flows that are there when the rules change: they stay (the default), or are judged
--- anew
---@field failsafe? false|string[]  what must not be cut off beside the SSH session that the daemon was started from:
--- addresses, `"tcp 10.0.0.1:22"`; false: nothing is kept, not the session either

---@class tg.Port
local Port = {}

--- Declares what becomes of the packets of a direction.
---@param direction "ingress"|"egress"
---@param policy tg.PolicyOptions
function Port:policy(direction, policy) end

--- The rule of that name, in either direction.
---@param name string
---@return tg.Rule
function Port:rule(name) end

--- The rules in force with what they counted, in order, ingress first; the failsafe's and the defaults are among them.
---@param direction? "ingress"|"egress"
---@return tg.RuleStatus[]
function Port:rules(direction) end

---@class tg.Rule
---@field port string
---@field name string
local Rule = {}

--- Switches the rule on or off: at a file's top level in its declaration; later in what is in force, by a task until its
--- generation ends, by an operator over reloads and restarts, until the file says otherwise. `EPERM`: a task, after
--- an operator.
---@param on boolean
---@param options? { reason?: string }
---@return true? ok, string? message, string? code
function Rule:enable(on, options) end

--- The rule in force.
---@return tg.RuleStatus? status, string? message, string? code
function Rule:status() end

---@class tg.RuleStatus
---@field port string
---@field direction "ingress"|"egress"
---@field number? integer  its place among the policy's own rules
---@field name? string
---@field text string  `"accept udp src 10.0.0.0/8 dport 53"`
---@field action "accept"|"drop"|"reject"
---@field enabled boolean
---@field by? string  who switched it, if not the file
---@field reason? string
---@field audit boolean
---@field log boolean
---@field event? string
---@field position string  file and line
---@field failsafe? boolean
---@field default? boolean
---@field packets integer
---@field bytes integer
---@field last? number  when it decided last: seconds since 1970

---@class tg
local tg = {}

--- A set of addresses and prefixes, for rules that say `src = "@NAME"`. At a file's top level this declares it.
---@param name string
---@return tg.Set
function tg.set(name) end

--- At a file's top level calls declare; several files may. Later they change what is in force, and return when it is: what
--- a task adds or removes holds until its generation ends, what an operator does survives reloads and restarts. At
--- most 8,192 prefixes.
---@class tg.Set
---@field name string
local Set = {}

---@class tg.SetOptions
---@field ttl? number|string  seconds from the commit, or from the call; a reload that declares the same does not begin
--- them anew
---@field reason? string

--- Adds an address, a prefix, or a list. Whether any is new. `EPERM`: a task, where an operator decided.
---@param value string|string[]
---@param options? tg.SetOptions
---@return boolean? added, string? message, string? code
function Set:add(value, options) end

--- Whether any was there.
---@param value string|string[]
---@return boolean? removed, string? message, string? code
function Set:remove(value) end

--- Makes the content these: a list, or a text with a prefix a line and comments from `#` or `;` on. By a task it takes the
--- place of what the files say, also after a reload, as long as the script is loaded and the files say the same.
--- How many it has, how many came, how many went. With fewer than `min` (1) it stays as it was.
---@param value string|string[]
---@param options? { min?: integer, ttl?: number|string, reason?: string }
---@return integer? count, integer|string came, integer|string went
function Set:replace(value, options) end

---@class tg.SetEntry
---@field prefix string
---@field owner "file"|"source"|"task"|"operator"
---@field reason? string
---@field who? string
---@field since? number  seconds since 1970
---@field ttl? number  seconds that are left

--- Whether an address, or a whole prefix, is in the set: the longest entry that covers it.
---@param value string
---@return boolean contains, tg.SetEntry? entry
function Set:contains(value) end

--- How many prefixes are in it.
---@return integer
function Set:count() end

--- `for prefix, entry in tg.set("staff"):pairs() do`, sorted.
---@return fun(): string?, tg.SetEntry?
function Set:pairs() end

return tg
